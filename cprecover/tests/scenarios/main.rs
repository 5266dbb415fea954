//! One fault at a time on a node of real processes, in a root and a network namespace of its own: what a
//! recovery does about it, and what it does not touch.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod calls_a_person;
mod e2e;
mod helper;
mod high_availability;
mod left_alone;
mod namespace;
mod node;
mod recovers;
