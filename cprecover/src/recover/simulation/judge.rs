//! The invariants: what must be true of every run, whatever fails.

use std::collections::BTreeSet;

use super::node::{SimNode, Truth, parse};
use crate::model::Component;
use crate::policy::Action;
use crate::recover::Undo;

/// What must never be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Invariant {
    /// No effect takes a quorum away, and no new etcd cluster is founded over lost data.
    Quorum,
    /// Nothing is ended or taken out that cannot come back: a manifest or a good backup is there.
    Backed,
    /// Only this node's own etcd member is acted on.
    OneMember,
    /// Only what is proven left over is ended.
    OnlyLeftOvers,
    /// Every manifest that the node had stands in its folder or in the store, and kubelet never sees
    /// anything but whole ones that somebody wrote.
    NothingLost,
    /// A run ends within its time and its rounds.
    Ends,
    /// The journal opens after every crash, names each effect, and the next run goes on from it.
    Journal,
    /// A run that fails leaves nothing half done, unless taking it back failed too or would end something.
    Undone,
    /// A node that was seen healthy is left alone.
    HealthyUntouched,
    /// A node is called healthy exactly when it is, where everything could be read.
    Verified,
    /// Without faults, what the default policy has a remedy for is remedied.
    Recovers,
}

#[derive(Debug, Clone)]
pub(super) struct Violation {
    pub(super) invariant: Invariant,
    pub(super) text: String,
}

/// Watches one run.
pub(super) struct Judge {
    pub(super) violations: Vec<Violation>,
    had: Vec<Vec<u8>>,
    /// What kubelet may see besides what was there: content that an effect may rightly make.
    may_see: BTreeSet<Vec<u8>>,
    members: BTreeSet<usize>,
    /// The node was healthy when it was looked at last, and nothing more may be done to it.
    hands_off: bool,
    pub(super) effects: usize,
}

/// What is true right before an effect.
pub(super) struct Before {
    healthy_voters: usize,
}

impl Judge {
    pub(super) fn new(node: &SimNode) -> Self {
        let mut judge = Self {
            violations: Vec::new(),
            had: node.files.visible().values().cloned().collect(),
            may_see: node.files.everything().into_iter().collect(),
            members: BTreeSet::new(),
            hands_off: false,
            effects: 0,
        };
        for component in Component::ALL {
            judge.may_see.insert(super::world::SPOILT.to_vec());
            judge.may_see.insert(super::world::regenerated(component));
            // What another person may put back meanwhile.
            judge.may_see.insert(super::node::manifest(component, 1));
        }
        judge
    }

    pub(super) fn break_off(&mut self, invariant: Invariant, text: impl Into<String>) {
        self.violations.push(Violation { invariant, text: text.into() });
    }

    /// An effect is about to happen, all its preconditions checked.
    pub(super) fn before(&mut self, node: &SimNode, action: &Action) -> Before {
        if self.hands_off {
            self.break_off(Invariant::HealthyUntouched, format!("{action} on a healthy node"));
        }
        if let Some(component) = destroyed(node, action)
            && !can_come_back(node, component)
        {
            self.break_off(Invariant::Backed, format!("{action}: {component} cannot come back"));
        }
        self.target(node, action);
        self.effects += 1;
        Before { healthy_voters: node.healthy_voters() }
    }

    fn target(&mut self, node: &SimNode, action: &Action) {
        let touched = match action {
            Action::TerminateHolder { process, .. } => {
                match node.processes.iter().find(|known| known.id == *process) {
                    Some(known) if known.truth == Truth::Orphan => {
                        (known.port_of == Component::Etcd).then_some(0)
                    }
                    Some(known) => {
                        let text = format!("{action}: it is no orphan but {:?}", known.truth);
                        self.break_off(Invariant::OnlyLeftOvers, text);
                        if let Truth::OtherMember(index) = known.truth { Some(index) } else { None }
                    }
                    None => {
                        self.break_off(Invariant::OnlyLeftOvers, format!("{action}: it is a live container"));
                        Some(0)
                    }
                }
            }
            Action::RemoveSandbox { sandbox } => {
                let of = node.parts.iter().find_map(|(component, part)| {
                    let last = part.sandboxes.last()?;
                    let found = part.sandboxes.iter().find(|known| known.id == sandbox.as_str())?;
                    Some((*component, found.hash != last.hash))
                });
                if let Some((_, false)) = of {
                    self.break_off(Invariant::OnlyLeftOvers, format!("{action}: it is the pod's own"));
                }
                of.and_then(|(component, _)| (component == Component::Etcd).then_some(0))
            }
            Action::BounceStaticPod { component: Component::Etcd } => Some(0),
            _ => None,
        };
        self.members.extend(touched);
        let wrong: Vec<usize> = self.members.iter().copied().filter(|index| *index != 0).collect();
        if let Some(index) = wrong.first() {
            self.break_off(Invariant::OneMember, format!("{action}: member m{index} is another node's"));
        }
    }

    /// The effect has happened, wholly or in part.
    pub(super) fn after(&mut self, node: &SimNode, action: &Action, before: &Before) {
        let (now, quorum) = (node.healthy_voters(), node.quorum());
        if before.healthy_voters >= quorum && now < quorum {
            let text = format!("{action}: {now} healthy voters are left, {quorum} are needed");
            self.break_off(Invariant::Quorum, text);
        }
        self.check_files(node);
    }

    /// An undo is about to happen.
    pub(super) fn before_undo(&mut self, node: &SimNode) -> Before {
        if self.hands_off {
            self.break_off(Invariant::HealthyUntouched, "an undo on a healthy node");
        }
        Before { healthy_voters: node.healthy_voters() }
    }

    /// The undo has happened.
    pub(super) fn after_undo(&mut self, node: &SimNode, undo: &Undo, before: &Before) {
        let (now, quorum) = (node.healthy_voters(), node.quorum());
        if before.healthy_voters >= quorum && now < quorum {
            let text = format!("undo, {undo}: {now} healthy voters are left, {quorum} are needed");
            self.break_off(Invariant::Quorum, text);
        }
        self.check_files(node);
    }

    /// Checks what is in the folder and in the store.
    pub(super) fn check_files(&mut self, node: &SimNode) {
        let everything = node.files.everything();
        if let Some(lost) = self.had.iter().find(|bytes| !everything.contains(bytes)) {
            let text = String::from_utf8_lossy(lost).lines().take(4).collect::<Vec<_>>().join(" ");
            self.break_off(Invariant::NothingLost, format!("lost: {text}"));
        }
        for (name, bytes) in &*node.files.visible() {
            if !self.may_see.contains(bytes) {
                self.break_off(Invariant::NothingLost, format!("kubelet sees {name} torn or unknown"));
            }
        }
        // What stands there now must not get lost later on.
        for bytes in node.files.visible().values() {
            if !self.had.contains(bytes) {
                self.had.push(bytes.clone());
            }
        }
    }

    /// A look at the node; `complete` says whether all could be read. A policy that is ours leaves a healthy
    /// node alone also when it cannot read everything.
    pub(super) fn saw(&mut self, healthy: bool, complete: bool, ours: bool) {
        self.hands_off = healthy && (complete || (ours && self.effects == 0));
    }

    /// The run is over.
    pub(super) fn finish(&mut self, node: &SimNode) {
        self.check_files(node);
        if node.founded_anew {
            self.break_off(Invariant::Quorum, "a new cluster began over lost data");
        }
    }
}

/// The component that an action ends, stops or takes out.
fn destroyed(node: &SimNode, action: &Action) -> Option<Component> {
    match action {
        Action::TerminateHolder { process, .. } => {
            node.processes.iter().find(|known| known.id == *process).map(|known| known.port_of)
        }
        Action::RemoveSandbox { sandbox } => node.parts.iter().find_map(|(component, part)| {
            part.sandboxes.iter().any(|known| known.id == sandbox.as_str()).then_some(*component)
        }),
        Action::BounceStaticPod { component } => Some(*component),
        Action::QuarantineManifest { file } => {
            Component::ALL.into_iter().find(|component| file.starts_with(component.manifest_file()))
        }
        _ => None,
    }
}

/// A whole manifest stands there, or a good snapshot that is not known to be another node's has one.
fn can_come_back(node: &SimNode, component: Component) -> bool {
    let live = node.files.visible().get(component.manifest_file()).cloned();
    if live.is_some_and(|bytes| parse(&bytes).is_some()) {
        return true;
    }
    let now = crate::sys::Clock::unix(&node.clock);
    let snapshots = node.files.snapshots(&node.options, now).unwrap_or_default();
    snapshots.iter().any(|(snapshot, good)| {
        let own = snapshot.node.as_deref().is_none_or(|name| name == super::node::NAME);
        *good && own && snapshot.manifest(component).is_some()
    })
}
