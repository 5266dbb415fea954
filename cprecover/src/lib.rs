//! Brings a kubeadm-style Kubernetes control-plane node back when `kubectl` no longer answers.
//!
//! Data flows one way: observe → diagnose → decide → act → verify. Pure modules take values and
//! return values; effects sit behind small traits; only the act stage writes.
//!
//! Where to begin: [`NodeOptions::load`] says where the node is, `recover` (feature `probe`) observes it and
//! brings it back, [`backup::Store`] keeps what it would need, and [`policy`] decides when something is done.
//! Each part stands alone as well: [`ports`] says who holds a port, [`etcd`] judges a data directory,
//! [`diagnose`] finds causes in logs and facts, [`kubeadm`] makes lost manifests anew.

#![forbid(unsafe_code)]

#[cfg(feature = "probe")]
pub mod api;
pub mod backup;
pub mod cri;
pub mod diagnose;
pub mod error;
pub mod etcd;
pub mod facts;
#[doc(hidden)]
pub mod fuzzing;
pub mod healthz;
pub mod kubeadm;
pub mod logs;
pub mod model;
pub mod node;
pub mod parse;
pub mod pods;
pub mod policy;
pub mod ports;
pub mod probe;
#[cfg(feature = "probe")]
pub mod recover;
pub mod sys;
pub mod terminate;
pub mod units;

#[cfg(all(test, feature = "probe"))]
#[path = "../tests/executable/mod.rs"]
mod executable;

pub use error::{Error, ErrorKind, Result};
pub use node::NodeOptions;

/// The README's Rust examples compile.
#[cfg(all(doctest, feature = "probe"))]
#[doc = include_str!("../../README.md")]
mod readme {}
