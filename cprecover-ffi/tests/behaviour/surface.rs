//! What a way into the library can do, in the words of the tests.

use std::path::Path;

use serde_json::Value;

/// How a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    /// The kind by its name (`not-found`).
    pub(crate) kind: String,
    /// The message.
    pub(crate) message: String,
}

/// A result as JSON, without its `schema`.
pub(crate) type Answer = Result<Value, Failed>;

/// How a call is bounded.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bounds {
    /// 0 for the usual time.
    pub(crate) timeout_ms: u64,
    /// The caller has cancelled already.
    pub(crate) cancelled: bool,
}

impl Bounds {
    pub(crate) const fn usual() -> Self {
        Self { timeout_ms: 0, cancelled: false }
    }
}

/// What a restore is told.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Restore<'a> {
    pub(crate) dry_run: bool,
    /// Only this component's manifest; all when empty.
    pub(crate) component: &'a str,
    /// Below this folder of the node; in place when empty.
    pub(crate) below: &'a str,
    /// Also what is of another node.
    pub(crate) other_node: bool,
}

/// A process, as a port's holder is reported.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) start_ticks: u64,
}

/// How a policy is trusted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Trust<'a> {
    pub(crate) sha256: &'a str,
    /// A public key, PEM.
    pub(crate) key: &'a str,
    /// A folder of compiled policies.
    pub(crate) cache: &'a str,
}

/// What the caller of a regeneration knows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Regenerate<'a> {
    /// A kubeadm config; none when empty.
    pub(crate) config: &'a str,
    /// Unknown values for which kubeadm's defaults are taken.
    pub(crate) assume_defaults: &'a [&'a str],
    pub(crate) etcd_member_just_added: bool,
}

/// A way into the library, opened on one node. Components are named as kubeadm does.
pub(crate) trait Cprecover: Sized {
    /// The way's name, for messages.
    const NAME: &'static str;

    fn open(root: &Path, config: &str) -> Result<Self, Failed>;
    fn node_options(&self) -> Answer;

    fn health(status: u16, body: &[u8]) -> Answer;
    /// Loads a policy, by its digest alone for an empty name.
    fn policy(name: &str, trust: Trust<'_>) -> Answer;

    fn port(&self, port: u16, address: &str, wanted_by: &str, bounds: Bounds) -> Answer;
    fn terminate(&self, port: u16, process: Process, dry_run: bool) -> Answer;

    fn backup(&self, reason: &str, only_if_changed: bool, bounds: Bounds) -> Answer;
    fn backups(&self) -> Answer;
    fn verify(&self, id: &str, bounds: Bounds) -> Answer;
    fn restore(&self, id: &str, options: Restore<'_>) -> Answer;
    fn hold(&self, name: &str, reason: &str) -> Answer;
    fn release(&self, name: &str) -> Answer;
    fn held(&self) -> Answer;

    /// Returns what is seen and what it means.
    fn look(&self, bounds: Bounds) -> Result<(Value, Value), Failed>;
    /// Looks and lets a policy decide (the default one for an empty name).
    fn plan(&self, policy: &str) -> Answer;
    /// Reads a plan and returns it.
    fn read_plan(text: &[u8]) -> Answer;
    /// Applies a plan that was read.
    fn apply(&self, plan: &[u8]) -> Answer;
    fn recover(&self, policy: &str, dry_run: bool, bounds: Bounds) -> Answer;

    /// Watches, with looks every second and one bad look an outage, until so many events were told.
    fn watch(&self, events: usize, bounds: Bounds) -> Result<Vec<Value>, Failed>;

    fn plan_regeneration(&self, component: &str, given: Regenerate<'_>) -> Answer;
    /// Plans and installs, with every acceptance that there is.
    fn regenerate(&self, component: &str) -> Answer;

    fn audit(&self) -> Answer;

    fn pods(&self) -> Answer;
    /// Moves these aside, all that nobody knows for none.
    fn quarantine(&self, uids: &[&str]) -> Answer;
    /// The newest for an empty one.
    fn undo_quarantine(&self, folder: &str) -> Answer;

    fn etcd_status(&self) -> Answer;
    /// The node's own directory for an empty one.
    fn check_etcd(&self, data_dir: &str) -> Answer;
    fn save_etcd(&self, to: &Path) -> Answer;
    fn support_bundle(&self, to: &Path, bounds: Bounds) -> Answer;
}
