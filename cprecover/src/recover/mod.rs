//! The recovery engine: observe → diagnose → decide → act → verify, one step at a time.
//!
//! [`observe`](fn@observe) looks at a node; [`crate::diagnose`] explains it; a [policy](crate::policy)
//! decides; [`recover`](fn@recover) runs the [`Engine`] under the node's lock; it does what the guard rails let pass, re-observing after every effect, and stops at
//! the first step that cannot be proven. Everything that is done is in the [audit log](AuditLog), which
//! is also the engine's memory: after a crash, running it again finishes the job.

mod act;
mod as_written;
mod audit;
mod bundle;
mod cache;
mod cluster_lock;
mod engine;
mod hand;
mod host;
mod lock;
mod observation;
mod observe;
mod plan;
mod ran;
mod regeneration;
mod report;
mod run;
#[cfg(test)]
mod simulation;
mod undo;
mod verification;
mod view;
mod watch;
mod world;

pub use act::Performed;
pub use act::pod_folder::{
    PodsReport, list_pods, quarantine_leftover_pods, quarantine_pods, survey_pods, undo_quarantine,
};
pub use act::regenerate::{apply_regeneration, plan_regeneration};
pub use act::renew::{Renewed, apply_renewal, plan_renewal};
pub(crate) use audit::read_any as read_audit_log;
pub use audit::{AUDIT_END_FILE, AUDIT_FILE, AuditLog, CheckedLog, Entry, Event, LogEnd, history};
pub use bundle::{BundleReport, support_bundle, support_bundle_file};
pub use cluster_lock::{ClusterLock, LeaseLock};
pub use engine::{Engine, Progress, RecoverOptions};
pub use hand::{ByHand, end_holder};
pub use host::Host;
pub use lock::NodeLock;
pub use observation::{
    BackOffFact, BackupFact, EtcdFacts, ExpectedPod, JudgedHolder, Observation, PodSource, RegenerationFact,
};
pub use observe::observe;
pub use observe::port::{PortQuestion, PortReport, PortState, PortVerdict, port_facts, port_report};
pub use plan::{PLAN_SCHEMA, Plan, Refusal, Step};
pub use report::{DoneStep, Ending, Escalation, Report, RoundTimes};
pub use run::recover;
pub use undo::{TakenBack, Undo, UndoOutcome, Undone};
pub use verification::{Check, Verification};
pub use view::policy_view;
pub use watch::{LiveNode, Look, WatchEvent, WatchOptions, WatchedNode, Watcher};
pub use world::{NodeWorld, Prepared, World};
