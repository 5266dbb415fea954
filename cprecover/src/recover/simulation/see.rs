//! What an engine sees of the simulated node: true, but not always everything.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::LazyLock;

use super::node::{Data, Process, SimNode, Truth, parse, port_of};
use crate::cri::{Container, ContainerState, RuntimeState, Sandbox, SandboxState, UnixNanos};
use crate::diagnose::{DataVerdict, Facts, HealthFact, HealthState, LintFact, ManifestFact, Subject};
use crate::facts::{CertificateFact, ClockFact, DiskFact, HostFacts, UnitFact, UnitRole};
use crate::healthz::{self, Report};
use crate::model::{Component, ContainerId, NodeName, Observed, Pid, PodUid, Port, ProcessId, SandboxId};
use crate::policy::contract::{self, EtcdMember, Unobserved, Verdict};
use crate::ports::{Action, Class, Evidence, Executable, IdentityProof, ProcessState, SystemdUnit};
use crate::probe::Outcome;
use crate::recover::observation::{
    BackOffFact, BackupFact, EtcdFacts, ExpectedPod, JudgedHolder, Observation, PodSource, RegenerationFact,
};
use crate::sys::Clock as _;
use crate::units::ServiceState;

/// What cannot be read this time.
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is something of its own")]
pub(super) struct Blind {
    pub(super) runtime: bool,
    pub(super) health: bool,
    pub(super) backups: bool,
    pub(super) data: bool,
    pub(super) members: bool,
    pub(super) services: bool,
    pub(super) holders: bool,
    pub(super) manifests: bool,
}

impl Blind {
    pub(super) fn to_anything(self) -> bool {
        let Self { runtime, health, backups, data, members, services, holders, manifests } = self;
        [runtime, health, backups, data, members, services, holders, manifests].contains(&true)
    }

    pub(super) const fn to_everything() -> Self {
        Self {
            runtime: true,
            health: true,
            backups: true,
            data: true,
            members: true,
            services: true,
            holders: true,
            manifests: true,
        }
    }
}

const WHY: &str = "did not answer within the deadline";

fn unknown<T>() -> Observed<T> {
    Observed::Unknown(WHY.into())
}

/// Looks at the node.
pub(super) fn observe(node: &SimNode, blind: Blind) -> Observation {
    let manifests: Vec<ManifestFact> =
        Component::ALL.into_iter().map(|component| manifest_fact(node, component, blind)).collect();
    let backups = if blind.backups { unknown() } else { Observed::Present(backups(node)) };
    let known = backups.present().map(Vec::as_slice).unwrap_or_default();
    let pods = Component::ALL.into_iter().map(|component| expected(&manifests, known, component)).collect();
    let holders = if blind.holders { Vec::new() } else { holders(node, blind) };
    let port_holders = if blind.holders {
        unknown()
    } else {
        Observed::Present(holders.iter().map(super::super::observe::holders::diagnosis_fact).collect())
    };
    let data = if blind.data { unknown() } else { data(node) };
    let mut unobserved = Vec::new();
    if blind.to_anything() {
        unobserved.push(Unobserved { what: "something".into(), reason: WHY.into() });
    }
    let lost: Vec<Component> = manifests
        .iter()
        .filter(|fact| fact.pod.is_absent() && !known.iter().any(|known| is_good(known, fact.component)))
        .map(|fact| fact.component)
        .collect();
    Observation {
        node: NodeName::new(super::node::NAME),
        at_unix_ms: node.now_ms(),
        etcd: etcd(node, blind, &manifests, known),
        etcd_facts: EtcdFacts::default(),
        facts: Facts {
            health: if blind.health { Vec::new() } else { health(node, &manifests) },
            log_matches: Vec::new(),
            logs_read: Vec::new(),
            runtime: if blind.runtime || !node.runtime_up {
                unknown()
            } else {
                Observed::Present(runtime(node))
            },
            port_holders,
            process_cgroups: Vec::new(),
            lint: lint(node),
            host: host(node, blind),
            etcd_data: data,
            backups: Component::ALL
                .into_iter()
                .filter(|component| known.iter().any(|known| is_good(known, *component)))
                .collect(),
            manifests,
        },
        pods,
        runtime_info: unknown(),
        holders,
        regenerations: lost.into_iter().map(|component| regeneration(node, component)).collect(),
        back_offs: if blind.runtime { Vec::new() } else { back_offs(node) },
        restart_ms: 5_000,
        backups,
        pod_dirs: Vec::new(),
        unobserved,
    }
}

fn is_good(backup: &BackupFact, component: Component) -> bool {
    backup.component == component && backup.is_good()
}

fn manifest_fact(node: &SimNode, component: Component, blind: Blind) -> ManifestFact {
    let path = node.options.manifests_dir.join(component.manifest_file());
    let (pod, parse_error) = match node.files.visible().get(component.manifest_file()).cloned() {
        _ if blind.manifests => (unknown(), None),
        None => (Observed::Absent, None),
        Some(bytes) => match parse(&bytes) {
            Some(pod) => (Observed::Present(pod), None),
            None => (Observed::Unknown("not a pod".into()), Some("not a pod".into())),
        },
    };
    ManifestFact { component, path, pod, parse_error }
}

fn expected(manifests: &[ManifestFact], backups: &[BackupFact], component: Component) -> ExpectedPod {
    let live = manifests.iter().find(|fact| fact.component == component).and_then(|fact| fact.pod.present());
    if let Some(pod) = live {
        return ExpectedPod { component, source: Some(PodSource::Live), pod: Some(pod.clone()) };
    }
    let usable = |backup: &&BackupFact| backup.same_node.present() != Some(&false);
    let backup = backups.iter().filter(usable).find(|backup| backup.component == component);
    let source = backup.map(|backup| PodSource::Backup(backup.snapshot.clone()));
    let pod = backup.and_then(|_| parse(&super::node::manifest(component, 1)));
    ExpectedPod { component, source, pod }
}

/// As the engine's own look at the store: for each component its candidates down to the first good one.
fn backups(node: &SimNode) -> Vec<BackupFact> {
    let read = node.files.snapshots(&node.options, node.clock.unix()).expect("the store reads");
    let mut snapshots: Vec<_> = read.iter().collect();
    snapshots.sort_by_key(|(snapshot, _)| {
        let is_own = snapshot.node.as_deref() == Some(super::node::NAME);
        std::cmp::Reverse((is_own, snapshot.health_verified, snapshot.id.sequence()))
    });
    let mut facts = Vec::new();
    for component in Component::ALL {
        for (snapshot, good) in snapshots.iter().filter(|(one, _)| one.manifest(component).is_some()) {
            let fact = BackupFact {
                snapshot: snapshot.id.to_string(),
                component,
                taken_unix_ms: snapshot.created_unix_s.saturating_mul(1000),
                verified: Observed::Present(*good),
                last_known_good: snapshot.health_verified,
                same_node: match &snapshot.node {
                    Some(name) => Observed::Present(name == super::node::NAME),
                    None => unknown(),
                },
            };
            let is_good = fact.is_good();
            facts.push(fact);
            if is_good {
                break;
            }
        }
    }
    facts.sort_by_key(|fact| !fact.is_good());
    facts
}

fn regeneration(node: &SimNode, component: Component) -> RegenerationFact {
    let possible = node.can_regenerate.map_or_else(unknown, Observed::Present);
    let missing = if node.can_regenerate == Some(false) { vec!["kubeadm".into()] } else { Vec::new() };
    RegenerationFact { component, possible, missing }
}

fn health(node: &SimNode, manifests: &[ManifestFact]) -> Vec<HealthFact> {
    static WELL: LazyLock<Report> = LazyLock::new(|| healthz::parse_response(Some(200), b"ok"));
    static ILL: LazyLock<Report> = LazyLock::new(|| {
        healthz::parse_response(
            Some(500),
            b"[+]ping ok\n[-]etcd failed: reason withheld\nhealthz check failed\n",
        )
    });
    let asked = manifests.iter().filter(|fact| fact.pod.present().is_some());
    asked
        .map(|fact| {
            let component = fact.component;
            let runs = node
                .parts
                .get(&component)
                .is_some_and(|part| part.sandboxes.iter().any(|sandbox| sandbox.runs().is_some()));
            let held = node.processes.iter().find(|process| process.port_of == component);
            let outcome = if node.serves(component) {
                Outcome::Answered { report: WELL.clone() }
            } else if runs {
                Outcome::Answered { report: ILL.clone() }
            } else if held.is_some() {
                Outcome::Timeout
            } else {
                Outcome::Refused
            };
            let source = format!("https://127.0.0.1:{}/healthz", port_of(component));
            HealthFact::new(Some(Subject::Component(component)), source, HealthState::Probed(outcome))
        })
        .collect()
}

fn nanos(ms: u64) -> UnixNanos {
    UnixNanos(i64::try_from(ms).unwrap_or_default().saturating_mul(1_000_000))
}

fn runtime(node: &SimNode) -> RuntimeState {
    let mut state = RuntimeState::default();
    for (component, part) in &node.parts {
        let labels = [("component".to_owned(), component.to_string())];
        for sandbox in &part.sandboxes {
            state.sandboxes.push(Sandbox {
                id: SandboxId::new(&sandbox.id),
                pod_name: format!("{component}-{}", super::node::NAME),
                namespace: "kube-system".into(),
                uid: PodUid::new(&sandbox.hash),
                attempt: 0,
                state: if sandbox.ready { SandboxState::Ready } else { SandboxState::NotReady },
                created_at: nanos(sandbox.created_ms),
                labels: labels.clone().into(),
                annotations: [
                    ("kubernetes.io/config.hash".to_owned(), sandbox.hash.clone()),
                    ("kubernetes.io/config.source".to_owned(), "file".to_owned()),
                ]
                .into(),
            });
            state.containers.extend(sandbox.container.as_ref().map(|container| Container {
                id: ContainerId::new(&container.id),
                sandbox: SandboxId::new(&sandbox.id),
                name: component.to_string(),
                attempt: container.attempt,
                state: if container.running { ContainerState::Running } else { ContainerState::Exited },
                created_at: nanos(container.created_ms),
                image: format!("r/{component}:v1"),
                labels: labels.clone().into(),
                annotations: std::collections::BTreeMap::new(),
            }));
        }
    }
    state
}

fn holders(node: &SimNode, blind: Blind) -> Vec<JudgedHolder> {
    let mut all = Vec::new();
    for (component, part) in &node.parts {
        let Some(newest) = part.sandboxes.last() else { continue };
        for sandbox in &part.sandboxes {
            let Some(container) = sandbox.runs() else { continue };
            let (id, of) = (ContainerId::new(&container.id), SandboxId::new(&sandbox.id));
            let class = if sandbox.id == newest.id {
                Class::Live { container: id, sandbox: of }
            } else {
                let newest = SandboxId::new(&newest.id);
                Class::Stale { container: id, sandbox: of, newest, same_config: false }
            };
            let pid = Pid::new(container.pid).expect("positive");
            let process = ProcessId { pid, start_ticks: container.created_ms / 10 };
            all.push(holder(*component, process, component.as_str(), class, blind));
        }
    }
    all.extend(node.processes.iter().map(|process| of_process(process, blind)));
    all
}

fn of_process(process: &Process, blind: Blind) -> JudgedHolder {
    let component = process.port_of;
    let (class, program) = match process.truth {
        Truth::Orphan => (Class::Orphan { component: Some(component), container: None }, component.as_str()),
        Truth::Foreign => (Class::Foreign { program: "nginx".into() }, "nginx"),
        Truth::Unit => {
            let unit = Some(SystemdUnit("foo.service".into()));
            (Class::Unit { unit, cgroup: "/system.slice/foo.service".into() }, "foo")
        }
        Truth::OtherMember(_) => (Class::Foreign { program: "etcd".into() }, "etcd"),
    };
    holder(component, process.id, program, class, blind)
}

fn holder(
    wanted_by: Component,
    process: ProcessId,
    program: &str,
    class: Class,
    blind: Blind,
) -> JudgedHolder {
    let port = Port::new(port_of(wanted_by)).expect("not 0");
    // Without the runtime nothing is proven, as the judge of ports says.
    let class = if blind.runtime && !matches!(class, Class::Foreign { .. } | Class::Unit { .. }) {
        Class::Unproven { missing: "the runtime".into() }
    } else {
        class
    };
    let action = if matches!(class, Class::Orphan { .. }) { Action::Terminate } else { Action::Refuse };
    let verdict = crate::ports::Verdict {
        process,
        class,
        action,
        proof: IdentityProof::Cgroup,
        evidence: vec!["simulated".into()],
    };
    JudgedHolder {
        wanted_by,
        port,
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, port.get())),
        evidence: evidence(process, program),
        verdict,
    }
}

fn evidence(process: ProcessId, program: &str) -> Evidence {
    Evidence {
        process,
        gone: false,
        comm: program.into(),
        exe: Observed::Present(Executable {
            path: PathBuf::from("/usr/local/bin").join(program),
            deleted: false,
        }),
        command_line: unknown(),
        uid: Observed::Present(0),
        state: ProcessState::Alive,
        cgroup: unknown(),
        ancestors: Vec::new(),
        namespace_pids: vec![process.pid],
        listeners: Vec::new(),
        data_dir: None,
        data_dir_lock: unknown(),
        healthy: unknown(),
    }
}

fn data(node: &SimNode) -> Observed<DataVerdict> {
    let locked = node.local_member_healthy()
        || node
            .processes
            .iter()
            .any(|process| process.port_of == Component::Etcd && process.truth == Truth::Orphan);
    match node.data {
        Data::Missing => Observed::Absent,
        Data::Empty => Observed::Present(DataVerdict::Empty),
        Data::Damaged => Observed::Present(DataVerdict::WalCorrupt("simulated".into())),
        Data::Intact if locked => Observed::Present(DataVerdict::Locked(None)),
        Data::Intact => Observed::Present(DataVerdict::Intact),
    }
}

fn etcd(node: &SimNode, blind: Blind, manifests: &[ManifestFact], backups: &[BackupFact]) -> contract::Etcd {
    let etcd_manifest =
        manifests.iter().any(|fact| fact.component == Component::Etcd && fact.pod.present().is_some());
    let known = etcd_manifest || backups.iter().any(|backup| backup.component == Component::Etcd);
    let verdict = |healthy: bool| match healthy {
        _ if blind.members => Verdict::Unknown,
        true => Verdict::Yes,
        false => Verdict::No,
    };
    let member = |(index, member): (usize, &super::node::Member)| EtcdMember {
        name: member.name.clone(),
        learner: member.learner,
        local: index == 0,
        healthy: verdict(if index == 0 { node.local_member_healthy() } else { member.healthy }),
        ..EtcdMember::default()
    };
    let members: Vec<EtcdMember> =
        if known { node.members.iter().enumerate().map(member).collect() } else { Vec::new() };
    let voters = members.iter().filter(|member| !member.learner).count();
    contract::Etcd {
        external: false,
        data: super::super::view::contract_data(&if blind.data { unknown() } else { data(node) }),
        quorum: u32::try_from(if members.is_empty() { 0 } else { voters / 2 + 1 }).unwrap_or(u32::MAX),
        members,
        alarms: Vec::new(),
    }
}

fn lint(node: &SimNode) -> Vec<LintFact> {
    let duplicate = |component: &Component| node.has_duplicate(*component);
    let fact = |component: Component| LintFact {
        code: "duplicate-pod".into(),
        path: node.options.manifests_dir.join(format!("{}.bak", component.manifest_file())),
        message: format!("is a second manifest of {component}"),
    };
    Component::ALL.into_iter().filter(duplicate).map(fact).collect()
}

fn back_offs(node: &SimNode) -> Vec<BackOffFact> {
    let left = |part: &super::node::Part| part.back_off_until_ms.saturating_sub(node.now_ms());
    node.parts
        .iter()
        .map(|(component, part)| BackOffFact { component: *component, remaining_ms: left(part) })
        .filter(|fact| fact.remaining_ms > 0)
        .collect()
}

fn host(node: &SimNode, blind: Blind) -> HostFacts {
    let now_unix = i64::try_from(node.clock.unix().as_secs()).unwrap_or(i64::MAX);
    let unit = |role, name: &str, up: bool| UnitFact {
        role,
        name: name.into(),
        state: match up {
            _ if blind.services => unknown(),
            true => Observed::Present(ServiceState::Active),
            false => Observed::Present(ServiceState::Inactive),
        },
    };
    let end = if node.machine.certificate_expired { now_unix - 3600 } else { now_unix + 300 * 86_400 };
    HostFacts {
        now_unix,
        certificates: vec![CertificateFact {
            path: "/etc/kubernetes/pki/apiserver.crt".into(),
            subject: "kube-apiserver".into(),
            issuer: "kubernetes".into(),
            not_before_unix: now_unix - 100 * 86_400,
            not_after_unix: end,
            is_ca: false,
            names: Vec::new(),
        }],
        disks: vec![DiskFact {
            path: "/var/lib/etcd".into(),
            total_bytes: 1 << 34,
            available_bytes: if node.machine.disk_full { 4096 } else { 1 << 33 },
            total_inodes: 1 << 20,
            available_inodes: 1 << 19,
            read_only: false,
        }],
        clock: Observed::Present(ClockFact {
            now_unix,
            not_before_unix: if node.machine.clock_wrong { now_unix + 86_400 } else { now_unix - 86_400 },
            witness: "simulated".into(),
        }),
        units: vec![
            unit(UnitRole::Kubelet, "kubelet.service", node.kubelet_up),
            unit(UnitRole::Runtime, "containerd.service", node.runtime_up),
        ],
        ..HostFacts::default()
    }
}
