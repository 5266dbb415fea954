//! The simulated node: what is true, whatever anybody sees of it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use super::random::Random;
use crate::backup::memory::MemoryNode;
use crate::model::{Component, Digest, Pid, ProcessId};
use crate::node::NodeOptions;
use crate::parse::manifest::StaticPod;
use crate::sys::{Clock as _, ManualClock, millis};

pub(super) const NAME: &str = "m0";
/// How long a container takes from its start to its first healthy answer.
const WARM_UP_MS: u64 = 4_000;
/// kubelet's first pause after a crash, which doubles up to [`MAX_BACK_OFF_MS`] (kubelet `MaxContainerBackOff`).
const BACK_OFF_MS: u64 = 10_000;
const MAX_BACK_OFF_MS: u64 = 300_000;

/// What a process on a component's port really is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    /// Of a pod that the runtime forgot.
    Orphan,
    /// Somebody else's program.
    Foreign,
    /// A service of the node's service manager.
    Unit,
    /// Another member of the etcd cluster, by its index.
    OtherMember(usize),
}

#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) id: ProcessId,
    pub(super) port_of: Component,
    pub(super) truth: Truth,
    /// It answers on that port, as an etcd without its supervisor may.
    pub(super) serves: bool,
}

#[derive(Debug, Clone)]
pub(super) struct SimContainer {
    pub(super) id: String,
    pub(super) pid: i32,
    pub(super) created_ms: u64,
    pub(super) running: bool,
    pub(super) attempt: u32,
}

#[derive(Debug, Clone)]
pub(super) struct SimSandbox {
    pub(super) id: String,
    pub(super) hash: String,
    pub(super) created_ms: u64,
    pub(super) ready: bool,
    pub(super) container: Option<SimContainer>,
}

impl SimSandbox {
    pub(super) fn runs(&self) -> Option<&SimContainer> {
        self.container.as_ref().filter(|container| container.running)
    }
}

/// A component's pod as runtime and kubelet know it.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    /// Oldest first.
    pub(super) sandboxes: Vec<SimSandbox>,
    pub(super) crashes: u32,
    pub(super) back_off_until_ms: u64,
    /// A container in a sandbox that was replaced answers all the same.
    pub(super) stale_serves: bool,
    /// kubelet's pod worker waits for a sandbox that is gone; only a restart of kubelet helps.
    pub(super) stuck: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    Intact,
    Empty,
    Damaged,
    Missing,
}

#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) name: String,
    /// For the local member what it does is told by its container.
    pub(super) healthy: bool,
    pub(super) learner: bool,
}

/// What is wrong with the machine itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Machine {
    pub(super) disk_full: bool,
    pub(super) clock_wrong: bool,
    pub(super) certificate_expired: bool,
}

#[allow(clippy::struct_excessive_bools, reason = "each is something of its own")]
pub(super) struct SimNode {
    pub(super) options: NodeOptions,
    pub(super) clock: ManualClock,
    pub(super) random: Random,
    pub(super) files: MemoryNode,
    pub(super) kubelet_up: bool,
    pub(super) runtime_up: bool,
    pub(super) parts: BTreeMap<Component, Part>,
    pub(super) processes: Vec<Process>,
    /// The first one is this node's.
    pub(super) members: Vec<Member>,
    pub(super) data: Data,
    pub(super) machine: Machine,
    /// Whether kubeadm could make a lost manifest; none when that cannot be found out.
    pub(super) can_regenerate: Option<bool>,
    /// Snapshots that are another node's.
    pub(super) foreign_backups: bool,
    /// An etcd was started over lost data, on a node whose data was once intact.
    pub(super) founded_anew: bool,
    next: u32,
}

/// A manifest; its version makes its bytes differ.
pub(super) fn manifest(component: Component, version: u64) -> Vec<u8> {
    let name = component.as_str();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: kube-system\n  labels: {{component: {name}, \
         tier: control-plane}}\nspec:\n  hostNetwork: true\n  containers:\n  - name: {name}\n    image: r/{name}:v{version}\n    \
         command: [{name}, --v={version}]\n"
    )
    .into_bytes()
}

/// Parses a manifest; the same few come again and again.
pub(super) fn parse(bytes: &[u8]) -> Option<StaticPod> {
    static KNOWN: Mutex<BTreeMap<Vec<u8>, Option<StaticPod>>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().expect("no panic while it is held");
    if let Some(pod) = known.get(bytes) {
        return pod.clone();
    }
    let pod = StaticPod::parse(bytes).ok();
    known.insert(bytes.to_vec(), pod.clone());
    pod
}

pub(super) const fn port_of(component: Component) -> u16 {
    match component {
        Component::Etcd => 2380,
        Component::KubeApiserver => 6443,
        Component::KubeControllerManager => 10257,
        Component::KubeScheduler => 10259,
    }
}

impl SimNode {
    /// A node on which everything runs, with `members` etcd members and no backup yet.
    pub(super) fn healthy(mut random: Random, members: usize) -> Self {
        let options = NodeOptions { node_name: Some(NAME.into()), ..NodeOptions::default() };
        let member = |index: usize| Member { name: format!("m{index}"), healthy: true, learner: false };
        let start = Duration::from_secs(1_800_000_000 + random.below(1_000_000));
        let mut node = Self {
            options,
            clock: ManualClock::new(start),
            random,
            files: MemoryNode::new().expect("an empty node"),
            kubelet_up: true,
            runtime_up: true,
            parts: BTreeMap::new(),
            processes: Vec::new(),
            members: (0..members).map(member).collect(),
            data: Data::Intact,
            machine: Machine::default(),
            can_regenerate: Some(true),
            foreign_backups: false,
            founded_anew: false,
            next: 1000,
        };
        for component in Component::ALL {
            node.files.write(component.manifest_file(), &manifest(component, 1)).expect("write");
            node.parts.insert(component, Part::default());
        }
        for _ in 0..4 {
            node.tick();
            node.clock.advance(Duration::from_secs(10));
        }
        node
    }

    pub(super) fn now_ms(&self) -> u64 {
        millis(self.clock.unix())
    }

    pub(super) fn fresh_pid(&mut self) -> i32 {
        self.next += 1;
        i32::try_from(self.next).unwrap_or(i32::MAX)
    }

    pub(super) fn add_process(&mut self, port_of: Component, truth: Truth, serves: bool) {
        let pid = Pid::new(self.fresh_pid()).expect("positive");
        let id = ProcessId { pid, start_ticks: self.now_ms() / 10 };
        self.processes.push(Process { id, port_of, truth, serves });
    }

    pub(super) fn part(&mut self, component: Component) -> &mut Part {
        self.parts.entry(component).or_default()
    }

    pub(super) fn sandbox(&mut self, hash: &str) -> SimSandbox {
        let number = self.fresh_pid();
        SimSandbox {
            id: format!("{number:064x}"),
            hash: hash.into(),
            created_ms: self.now_ms(),
            ready: true,
            container: None,
        }
    }

    /// The manifest that kubelet runs for a component: `None` when it is missing, or no pod.
    pub(super) fn wanted(&self, component: Component) -> Option<Vec<u8>> {
        let bytes = self.files.visible().get(component.manifest_file())?.clone();
        parse(&bytes).map(|_| bytes)
    }

    pub(super) fn has_duplicate(&self, component: Component) -> bool {
        let bak = format!("{}.bak", component.manifest_file());
        self.files.visible().contains_key(&bak)
    }

    /// A peer may fail or come back.
    pub(super) fn let_peers_live(&mut self) {
        if self.members.len() > 1 && self.random.percent(1) {
            let index = 1 + self.random.index(self.members.len() - 1);
            let other = self.processes.iter().any(|process| process.truth == Truth::OtherMember(index));
            self.members[index].healthy ^= !other;
        }
    }

    /// Lets kubelet and the processes do what they do until now.
    pub(super) fn tick(&mut self) {
        if !self.runtime_up || !self.kubelet_up {
            return;
        }
        for component in Component::ALL {
            match self.wanted(component) {
                Some(bytes) => self.keep_running(component, &Digest::of(&bytes).to_string()[..32]),
                None => self.stop(component),
            }
        }
    }

    pub(super) fn stop(&mut self, component: Component) {
        for sandbox in &mut self.part(component).sandboxes {
            sandbox.ready = false;
            if let Some(container) = &mut sandbox.container {
                container.running = false;
            }
        }
    }

    fn keep_running(&mut self, component: Component, hash: &str) {
        let now = self.now_ms();
        let current =
            self.part(component).sandboxes.last().is_some_and(|last| last.ready && last.hash == hash);
        if !current {
            // A changed manifest: kubelet ends the old pod first.
            self.stop(component);
            let new = self.sandbox(hash);
            self.part(component).sandboxes.push(new);
        }
        let blocked = self.processes.iter().any(|process| process.port_of == component)
            || (component == Component::Etcd && self.data == Data::Damaged);
        let attempt_pid = self.fresh_pid();
        let part = self.part(component);
        let (last, older) = part.sandboxes.split_last_mut().expect("pushed above");
        if last.runs().is_some() || part.back_off_until_ms > now {
            return;
        }
        if part.stuck || older.iter().any(|old| old.runs().is_some() && old.hash != last.hash) {
            part.stuck = true;
            return;
        }
        let attempt = last.container.as_ref().map_or(0, |container| container.attempt + 1);
        let id = format!("{attempt_pid:064x}");
        last.container =
            Some(SimContainer { id, pid: attempt_pid, created_ms: now, running: !blocked, attempt });
        if blocked {
            part.crashes += 1;
            let pause = BACK_OFF_MS.saturating_mul(1 << part.crashes.min(6)).min(MAX_BACK_OFF_MS);
            part.back_off_until_ms = now + pause;
        } else if component == Component::Etcd && matches!(self.data, Data::Empty | Data::Missing) {
            self.founded_anew = true;
        }
    }

    /// Whether a component's own container, or whatever else serves on its port, answers that it is well.
    pub(super) fn serves(&self, component: Component) -> bool {
        if component == Component::Etcd {
            return self.local_member_healthy() && self.healthy_voters() >= self.quorum();
        }
        let up = self.runs_warm(component) && !self.has_duplicate(component);
        match component {
            Component::KubeApiserver => {
                up && !self.machine.certificate_expired && self.serves(Component::Etcd)
            }
            _ => up && self.serves(Component::KubeApiserver),
        }
    }

    fn runs_warm(&self, component: Component) -> bool {
        let newest = self.parts.get(&component).and_then(|part| part.sandboxes.last());
        let since = newest.and_then(SimSandbox::runs).map(|container| container.created_ms);
        since.is_some_and(|since| self.now_ms() >= since + WARM_UP_MS)
    }

    pub(super) fn local_member_healthy(&self) -> bool {
        let orphan = self.processes.iter().any(|process| {
            process.port_of == Component::Etcd && process.truth == Truth::Orphan && process.serves
        });
        let stale =
            self.parts.get(&Component::Etcd).is_some_and(|part| part.stale_serves && part.stale_runs());
        let own = self.runs_warm(Component::Etcd) && !self.has_duplicate(Component::Etcd);
        (orphan || stale || own) && !matches!(self.data, Data::Damaged | Data::Missing)
    }

    pub(super) fn healthy_voters(&self) -> usize {
        let local = usize::from(self.local_member_healthy());
        local + self.members.iter().skip(1).filter(|member| member.healthy && !member.learner).count()
    }

    pub(super) fn quorum(&self) -> usize {
        self.members.iter().filter(|member| !member.learner).count() / 2 + 1
    }

    /// Everything that a person would call a healthy node.
    pub(super) fn is_healthy(&self) -> bool {
        let complete = Component::ALL.into_iter().all(|component| {
            self.wanted(component).is_some()
                && self.runs_warm(component)
                && self.serves(component)
                && !self.parts.get(&component).is_some_and(Part::stale_runs)
        });
        complete && self.kubelet_up && self.runtime_up && self.processes.is_empty()
    }

    /// The power comes back: no process of before runs, the services start.
    pub(super) fn reboot(&mut self) {
        self.processes.retain(|process| matches!(process.truth, Truth::Foreign | Truth::Unit));
        for component in Component::ALL {
            self.stop(component);
            let part = self.part(component);
            part.stuck = false;
            part.crashes = 0;
            part.back_off_until_ms = 0;
        }
        self.kubelet_up = true;
        self.runtime_up = true;
        self.clock.advance(Duration::from_mins(1));
    }
}

impl Part {
    /// Whether a sandbox that a newer one from another manifest replaced still has a running container.
    pub(super) fn stale_runs(&self) -> bool {
        let Some((last, older)) = self.sandboxes.split_last() else { return false };
        older.iter().any(|old| old.hash != last.hash && old.runs().is_some())
    }
}
