//! Builders of observations, for testing a policy's rules without a node.
//!
//! ```
//! use cprecover_policy_sdk::contract::{Component, HolderClass, ManifestState, ServiceName, ServiceState};
//! use cprecover_policy_sdk::observed;
//!
//! let seen = observed::broken_node("cp1")
//!     .manifest(Component::Etcd, ManifestState::Missing)
//!     .backup("b1", Component::Etcd)
//!     .holder(2380, Component::Etcd, HolderClass::Orphan)
//!     .service(ServiceName::Kubelet, ServiceState::Failed)
//!     .build();
//! assert_eq!(seen.holders.len(), 1);
//! assert_eq!(seen.services.len(), 2);
//! ```

use crate::contract::{
    ActionKind, Backup, Component, Consent, Container, ContainerState, Etcd, EtcdData, EtcdMember, Evidence,
    Finding, FindingKind, HolderClass, Manifest, ManifestState, Observation, Outcome, PastAction, PortHolder,
    Sandbox, SandboxRole, Service, ServiceName, ServiceState, Severity, Verdict,
};

/// When a built observation was made: 2025-06-15T15:06:40Z, in milliseconds.
pub const NOW_MS: u64 = 1_750_000_000_000;

/// Begins an observation of a single-node control plane that is down, with all else as it should be: all
/// four manifests in place, kubelet and runtime running, etcd's data intact, its one member dead.
pub fn broken_node(node: &str) -> Builder {
    let builder = Builder(Observation {
        node: node.into(),
        now_ms: NOW_MS,
        healthy: Verdict::No,
        clock_sane: Verdict::Yes,
        etcd: Etcd { data: EtcdData::Intact, quorum: 1, ..Etcd::default() },
        ..Observation::default()
    });
    let builder = COMPONENTS
        .into_iter()
        .fold(builder, |builder, component| builder.manifest(component, ManifestState::Present));
    builder
        .member(node, Verdict::No, true)
        .service(ServiceName::Kubelet, ServiceState::Active)
        .service(ServiceName::Runtime, ServiceState::Active)
}

/// Begins an observation of a node that is verified healthy.
pub fn healthy_node(node: &str) -> Builder {
    let mut builder = broken_node(node);
    builder.0.healthy = Verdict::Yes;
    for member in &mut builder.0.etcd.members {
        member.healthy = Verdict::Yes;
    }
    builder
}

const COMPONENTS: [Component; 4] =
    [Component::Etcd, Component::KubeApiserver, Component::KubeControllerManager, Component::KubeScheduler];

/// Returns the file name of a component's manifest, as kubeadm gives it.
#[must_use]
pub const fn manifest_file(component: Component) -> &'static str {
    match component {
        Component::Etcd => "etcd.yaml",
        Component::KubeApiserver => "kube-apiserver.yaml",
        Component::KubeControllerManager => "kube-controller-manager.yaml",
        Component::KubeScheduler => "kube-scheduler.yaml",
    }
}

/// An observation in the making; each method adds one thing or replaces the one of the same name.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Builder(Observation);

impl Builder {
    /// Ends the making.
    #[must_use]
    pub fn build(self) -> Observation {
        self.0
    }

    /// Changes what the other methods do not reach.
    pub fn with(mut self, change: impl FnOnce(&mut Observation)) -> Self {
        change(&mut self.0);
        self
    }

    /// Says what is at a manifest's place.
    pub fn manifest(mut self, component: Component, state: ManifestState) -> Self {
        let file = manifest_file(component);
        self.0.manifests.retain(|known| known.file != file);
        let component = Some(component);
        self.0.manifests.push(Manifest { file: file.into(), component, state, detail: String::new() });
        self
    }

    /// Adds a verified backup of this node's manifest, taken a second ago.
    pub fn backup(mut self, id: &str, component: Component) -> Self {
        self.0.backups.push(Backup {
            id: id.into(),
            component,
            taken_ms: self.0.now_ms.saturating_sub(1_000),
            verified: Verdict::Yes,
            last_known_good: true,
            same_node: Verdict::Yes,
        });
        self
    }

    /// Adds a process with a pid of its own on a port that a component wants.
    pub fn holder(mut self, port: u16, wanted_by: Component, class: HolderClass) -> Self {
        let number = u32::try_from(self.0.holders.len()).unwrap_or_default();
        let sandbox = matches!(class, HolderClass::StaleSandbox | HolderClass::Current);
        self.0.holders.push(PortHolder {
            port,
            address: "127.0.0.1".into(),
            pid: 7_000 + number,
            start_ticks: 99,
            executable: "/usr/local/bin/etcd".into(),
            class,
            wanted_by: Some(wanted_by),
            sandbox_id: sandbox.then(|| format!("sandbox-{number}")),
            unit: (class == HolderClass::SystemdUnit).then(|| "etcd.service".into()),
            evidence: Vec::new(),
        });
        self
    }

    /// Adds a sandbox.
    pub fn sandbox(mut self, id: &str, component: Component, role: SandboxRole) -> Self {
        self.0.sandboxes.push(Sandbox {
            id: id.into(),
            component: Some(component),
            role,
            ..Sandbox::default()
        });
        self
    }

    /// Adds a component's newest container; a crash-loop pause for one that has ended.
    pub fn container(
        mut self,
        component: Component,
        state: ContainerState,
        back_off_ms: Option<u64>,
    ) -> Self {
        self.0.containers.push(Container {
            id: format!("container-{}", self.0.containers.len()),
            component: Some(component),
            state,
            back_off_ms,
            ..Container::default()
        });
        self
    }

    /// Says how a service is.
    pub fn service(mut self, name: ServiceName, state: ServiceState) -> Self {
        self.0.services.retain(|known| known.name != name);
        self.0.services.push(Service { name, state, restart_ms: 2_000, detail: String::new() });
        self
    }

    /// Says how etcd's data are.
    pub fn etcd_data(mut self, data: EtcdData) -> Self {
        self.0.etcd.data = data;
        self
    }

    /// Adds or replaces an etcd member; the quorum follows from the number of voters.
    pub fn member(mut self, name: &str, healthy: Verdict, local: bool) -> Self {
        let etcd = &mut self.0.etcd;
        etcd.members.retain(|known| known.name != name);
        let member =
            EtcdMember { id: name.into(), name: name.into(), healthy, local, ..EtcdMember::default() };
        etcd.members.push(member);
        let voters = etcd.members.iter().filter(|member| !member.learner).count();
        etcd.quorum = u32::try_from(voters / 2 + 1).unwrap_or(u32::MAX);
        self
    }

    /// Adds a finding of the diagnosis.
    pub fn finding(mut self, id: &str, kind: FindingKind) -> Self {
        self.0.findings.push(Finding {
            id: id.into(),
            kind,
            severity: Severity::Critical,
            confidence: 1.0,
            summary: format!("{id} was seen"),
            ..Finding::default()
        });
        self
    }

    /// Adds a piece of evidence.
    pub fn evidence(mut self, id: &str, source: &str, text: &str) -> Self {
        self.0.evidence.push(Evidence { id: id.into(), source: source.into(), text: text.into() });
        self
    }

    /// Adds something that was done so long ago, in milliseconds.
    pub fn past(mut self, kind: ActionKind, target: &str, ago_ms: u64, outcome: Outcome) -> Self {
        let at = self.0.now_ms.saturating_sub(ago_ms);
        self.0.history.push(PastAction {
            kind,
            target: target.into(),
            rule_id: "earlier".into(),
            started_ms: at,
            ended_ms: Some(at),
            outcome,
        });
        self
    }

    /// Adds something that the caller agreed to.
    pub fn consent(mut self, consent: Consent) -> Self {
        self.0.consents.push(consent);
        self
    }
}
