//! The types of `cprecover:policy@0.1.0` on the host's side, field by field as in `policies/wit/policy.wit`.
//!
//! The enums are exhaustive on purpose: the contract is closed, and a further case is a further version
//! of the package (`policies/README.md`). That both sides agree is checked when a component is loaded.

mod decision;
mod finding;
mod machine;
mod observation;
mod workload;

pub use decision::*;
pub use finding::*;
pub use machine::*;
pub use observation::*;
pub use workload::*;
