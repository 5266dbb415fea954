//! The main job, end to end, by the program itself: a node is built, broken as in the outage, recovered.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

#[path = "../executable/mod.rs"]
mod executable;
mod killed;
mod node;
mod outcomes;
mod watch;
