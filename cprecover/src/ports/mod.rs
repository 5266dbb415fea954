//! Who listens on a TCP port, and what kind of holder that is.
//!
//! [`find`] asks the kernel (`NETLINK_SOCK_DIAG`, `sock_diag(7)`) for the listeners of one port and looks
//! for the processes that own them; [`collect`] gathers evidence about such a process; [`judge`] turns
//! the evidence, the runtime's lists and the node's manifests into a [`Verdict`]. Only `judge` decides,
//! and it reads nothing; nothing here writes or signals ([`crate::terminate`] does).

mod cgroup;
pub(crate) mod cgroupfs;
mod collect;
mod database;
mod evidence;
mod find;
mod health;
mod holder;
mod judge;
mod listener;
mod lock;
mod netns;
mod nettable;
mod owners;
pub(crate) mod procdir;
mod proclocks;
mod query;
mod runtime_match;
mod sockdiag;
mod sweep;
mod verdict;
mod words;

pub use cgroup::{CgroupDriver, CgroupPath, PodCgroup, RuntimeName, SystemdUnit};
pub use collect::collect;
pub(crate) use collect::{cgroup, executable, shim};
pub use evidence::{Ancestor, CommandLine, DataDirLock, Evidence, Executable, ProcessState, Shim};
pub use find::{find, is_bindable, listeners};
pub use health::AskHealth;
pub use holder::{Holder, Lookup, Unowned};
pub use judge::judge;
pub use listener::Listener;
pub use lock::{DATABASE, database_file, lock_is_free};
#[cfg(feature = "probe")]
pub(crate) use netns::within;
pub(crate) use nettable::listeners as read_net_table;
pub(crate) use owners::owns;
pub(crate) use proclocks::lock_of_line;
pub use query::{NetNamespace, Query};
pub(crate) use sockdiag::decode as decode_sock_diag;
pub use verdict::{Action, Class, IdentityProof, NodeFacts, PodFacts, RuntimeFacts, Verdict};
