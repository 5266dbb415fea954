//! Brings a kubeadm-style Kubernetes control-plane node back when `kubectl` no longer answers.
//!
//! Data flows one way: observe → diagnose → decide → act → verify. Pure modules take values and
//! return values; effects sit behind small traits; only the act stage writes.

#![forbid(unsafe_code)]

pub mod backup;
pub mod error;
pub mod model;
pub mod node;
pub mod parse;
pub mod sys;

pub use error::{Error, ErrorKind, Result};
pub use node::NodeOptions;
