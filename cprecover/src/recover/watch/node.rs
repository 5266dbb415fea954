//! A real node, watched.

use std::time::Duration;

use super::{Look, WatchedNode};
use crate::backup::{CreateOptions, Group, LintFinding, LintRule, Severity, SnapshotId, Store, lint};
use crate::cri;
use crate::diagnose::diagnose;
use crate::error::{Error, ErrorKind, Result};
use crate::node::NodeOptions;
use crate::policy::{Outcome, contract};
use crate::recover::as_written;
use crate::recover::audit::AuditLog;
use crate::recover::cluster_lock::ClusterLock;
use crate::recover::engine::{Engine, Progress, RecoverOptions};
use crate::recover::host::Host;
use crate::recover::lock::NodeLock;
use crate::recover::observation::Observation;
use crate::recover::report::Report;
use crate::recover::verification::Verification;
use crate::recover::world::{NodeWorld, World as _};
use crate::sys::Deadline;

/// How long giving the cluster lock back may take.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the runtime may take to tell what its containers execute.
const RUNTIME_TIMEOUT: Duration = Duration::from_secs(4);

/// The node of this machine (or of a root), with the policy that decides about recoveries.
pub struct LiveNode<'a> {
    host: &'a Host<'a>,
    world: NodeWorld<'a>,
    decide: &'a dyn Fn(&contract::Observation) -> Outcome,
    options: RecoverOptions,
    groups: Vec<Group>,
    /// The last look.
    seen: Option<Observation>,
}

impl<'a> LiveNode<'a> {
    /// Watches `host`; `options` hold what the caller agreed to for recoveries.
    #[must_use]
    pub fn new(
        host: &'a Host<'a>,
        decide: &'a dyn Fn(&contract::Observation) -> Outcome,
        options: RecoverOptions,
    ) -> Self {
        let world = NodeWorld::new(*host, options.consents.clone())
            .accept_unsaved_member(options.accept_unsaved_member);
        Self { host, world, decide, options, groups: Group::ALL.to_vec(), seen: None }
    }

    /// Takes this lock before a step on a member of an etcd cluster of several.
    #[must_use]
    pub fn with_cluster_lock(mut self, lock: impl ClusterLock + 'a) -> Self {
        self.world = self.world.with_cluster_lock(lock);
        self
    }

    /// Takes these groups into backups; all of them by default.
    #[must_use]
    pub fn groups(mut self, groups: Vec<Group>) -> Self {
        self.groups = groups;
        self
    }

    /// Why what is in place is not to be called good, although the node is healthy.
    fn unproven(&self, deadline: &Deadline) -> Result<Option<String>> {
        if let Some(LintFinding { file, message, .. }) = misread(self.host.node)? {
            return Ok(Some(format!("{file}: {message}")));
        }
        let Some(seen) = &self.seen else { return Ok(None) };
        let deadline = deadline.at_most(RUNTIME_TIMEOUT);
        let runtime = cri::connect(self.host.node, self.host.commands, &deadline)
            .inspect_err(|error| tracing::debug!(%error, "the runtime does not tell what runs"))
            .ok();
        Ok(as_written::unlike(seen, |id| runtime.as_ref()?.container_detail(id, &deadline).ok()?.argv))
    }
}

/// The first file that kubelet reads otherwise than it was meant, or not at all: what runs now is not what a
/// restore of it would bring back. Who may read a file, and which host paths there are, changes nothing of that.
fn misread(node: &NodeOptions) -> Result<Option<LintFinding>> {
    let counts = |finding: &LintFinding| {
        let harmless = matches!(finding.rule, LintRule::Mode | LintRule::Owner | LintRule::MissingHostPath);
        finding.severity == Severity::Error && !harmless
    };
    Ok(lint(node)?.into_iter().find(counts))
}

impl WatchedNode for LiveNode<'_> {
    fn look(&mut self, deadline: &Deadline) -> Look {
        let seen = self.world.observe(deadline);
        let verification = Verification::of(&seen);
        let findings = if verification.healthy {
            Vec::new()
        } else {
            let diagnosis = diagnose(&seen.facts);
            let roots = diagnosis.root_cause.ids();
            let found = diagnosis.findings.iter().filter(|finding| roots.contains(&finding.id));
            found.map(|finding| finding.summary.clone()).collect()
        };
        let not_proven = verification.failed().map(|check| format!("{}: {}", check.what, check.seen));
        let not_proven = not_proven.collect();
        self.seen = Some(seen);
        Look { healthy: verification.healthy, not_proven, root_causes: findings }
    }

    fn back_up(&mut self, deadline: &Deadline) -> Result<SnapshotId> {
        let unproven = self.unproven(deadline)?;
        let options = CreateOptions {
            groups: self.groups.clone(),
            reason: "watch: healthy after a change".into(),
            health_verified: unproven.is_none(),
            only_if_changed: true,
            ..CreateOptions::default()
        };
        let id = Store::open(self.host.node)?.create(&options, deadline)?.id;
        match unproven {
            None => Ok(id),
            Some(why) => {
                let message = format!("snapshot {id} is not kept as the last known good: {why}");
                Err(Error::new(ErrorKind::Refused, message))
            }
        }
    }

    fn recover(&mut self, deadline: &Deadline, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Report> {
        let store = self.host.node.store();
        let _lock = NodeLock::acquire(&store)?;
        let mut log = AuditLog::open(&store, self.host.unix_ms())?;
        let clock = self.host.clock;
        let mut engine = Engine::new(&mut self.world, self.decide, clock, Some(&mut log), &self.options);
        let report = engine.run(deadline, progress);
        // The watch goes on; the other nodes need not wait until the lease runs out.
        self.world.release_cluster_lock(&deadline.renewed(RELEASE_TIMEOUT));
        report
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Counted<'a>(&'a Cell<u32>);

    impl ClusterLock for Counted<'_> {
        fn hold(&mut self, _: &[std::net::IpAddr], _: &Deadline) -> Result<bool> {
            Ok(true)
        }

        fn release(&mut self, _: &Deadline) {
            self.0.set(self.0.get() + 1);
        }
    }

    const ETCD: &str = include_str!("../../../testdata/kubeadm-1.36/manifests/etcd.yaml");

    #[test]
    fn two_files_of_one_pod_are_no_last_known_good() {
        let dir = tempfile::tempdir().expect("temp dir");
        let options = NodeOptions::at(dir.path()).expect("absolute");
        std::fs::create_dir_all(options.manifests()).expect("mkdir");
        let host = Host::new(&options);
        let decide = |_: &contract::Observation| Outcome::of_test(Vec::new());
        let mut node = LiveNode::new(&host, &decide, RecoverOptions::default());
        let mut back_up = |names: &[&str]| {
            for name in names {
                std::fs::write(options.manifests().join(name), ETCD).expect("write");
            }
            let result = node.back_up(&Deadline::after(Duration::from_secs(20)));
            let snapshots = Store::open(&options).expect("opens").list().expect("lists");
            (result.map_err(|error| error.to_string()), snapshots.len())
        };
        let (result, snapshots) = back_up(&["etcd.yaml", "etcd.yaml.bak"]);
        let why = result.expect_err("not the last known good");
        assert!(why.contains("not kept as the last known good: etcd.yaml"), "{why}");
        assert_eq!(snapshots, 1, "it is kept all the same");
        std::fs::remove_file(options.manifests().join("etcd.yaml.bak")).expect("remove");
        let (result, snapshots) = back_up(&[]);
        let id = result.expect("backed up");
        assert_eq!(snapshots, 2);
        let store = Store::open(&options).expect("opens");
        assert!(store.load(&id).expect("loads").health_verified);
    }

    #[test]
    fn each_recovery_gives_the_cluster_lock_back() {
        let dir = tempfile::tempdir().expect("temp dir");
        let options = NodeOptions::at(dir.path()).expect("absolute");
        let host = Host::new(&options);
        let policy = crate::policy::Policy::builtin().expect("embedded");
        let decide = |seen: &contract::Observation| policy.decide(seen);
        let released = Cell::new(0);
        let mut node = LiveNode::new(&host, &decide, RecoverOptions::default());
        node = node.with_cluster_lock(Counted(&released));
        for runs in 1..=2 {
            let _ = node.recover(&Deadline::after(Duration::from_secs(2)), &mut |_| {}).expect("runs");
            assert_eq!(released.get(), runs);
        }
    }
}
