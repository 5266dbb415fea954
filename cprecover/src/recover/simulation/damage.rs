//! What is wrong with the node when the engine is called.

use super::node::{Data, NAME, SimNode, Truth, manifest};
use super::random::Random;
use crate::model::Component;
use crate::recover::act::bounce::REASON;

/// One thing that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Damage {
    Orphan(Component),
    ServingOrphan,
    Deadlock(Component),
    ServingDeadlock,
    LostAll,
    Lost(Component),
    Corrupt(Component),
    Duplicate(Component),
    Foreign(Component),
    Unit(Component),
    OtherMember,
    DataDamaged,
    DataEmpty,
    DataMissing,
    KubeletDown,
    RuntimeDown,
    DiskFull,
    ClockWrong,
    CertificateExpired,
    PeersDown(usize),
    BackOff(Component),
    LeftHeld(Component),
    LeftBounced(Component),
}

/// What the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backups {
    None,
    Good,
    /// Of an older version of the manifests.
    Older,
    Rotten,
    OtherNodes,
    /// The control plane but not this component.
    Without(Component),
}

impl Damage {
    /// Each fault that [`Damage::is_recoverable`], once for each component.
    pub(super) const RECOVERABLE: [[Self; 10]; 4] = [
        Self::recoverable(Component::Etcd),
        Self::recoverable(Component::KubeApiserver),
        Self::recoverable(Component::KubeControllerManager),
        Self::recoverable(Component::KubeScheduler),
    ];

    const fn recoverable(of: Component) -> [Self; 10] {
        [
            Self::Orphan(of),
            Self::Deadlock(of),
            Self::LostAll,
            Self::Lost(of),
            Self::Corrupt(of),
            Self::Duplicate(of),
            Self::KubeletDown,
            Self::RuntimeDown,
            Self::BackOff(of),
            Self::LeftBounced(of),
        ]
    }

    fn random(random: &mut Random) -> Self {
        let component = random.pick(&Component::ALL);
        match random.below(25) {
            0 | 1 => Self::Orphan(component),
            2 => Self::ServingOrphan,
            3 | 4 => Self::Deadlock(component),
            5 => Self::LostAll,
            6 => Self::Lost(component),
            7 => Self::Corrupt(component),
            8 => Self::Duplicate(component),
            9 => Self::Foreign(component),
            10 => Self::Unit(component),
            11 => Self::OtherMember,
            12 => Self::DataDamaged,
            13 => Self::DataEmpty,
            14 => Self::DataMissing,
            15 => Self::KubeletDown,
            16 => Self::RuntimeDown,
            17 => Self::DiskFull,
            18 => Self::ClockWrong,
            19 => Self::CertificateExpired,
            20 => Self::PeersDown(random.index(4)),
            21 => Self::BackOff(component),
            23 => Self::LeftBounced(component),
            22 => Self::ServingDeadlock,
            _ => Self::LeftHeld(component),
        }
    }

    /// Whether the default policy brings a node with only this wrong back by itself.
    pub(super) fn is_recoverable(self) -> bool {
        match self {
            Self::Orphan(_)
            | Self::Deadlock(_)
            | Self::LostAll
            | Self::Lost(_)
            | Self::Corrupt(_)
            | Self::Duplicate(_)
            | Self::KubeletDown
            | Self::RuntimeDown
            | Self::BackOff(_)
            | Self::LeftBounced(_) => true,
            Self::PeersDown(count) => count == 0,
            _ => false,
        }
    }

    pub(super) fn apply(self, node: &mut SimNode) {
        match self {
            Self::Orphan(component) => orphan(node, component, false),
            Self::ServingOrphan => orphan(node, Component::Etcd, true),
            Self::Deadlock(component) => deadlock(node, component),
            Self::ServingDeadlock => {
                deadlock(node, Component::Etcd);
                node.part(Component::Etcd).stale_serves = true;
            }
            Self::LostAll => Component::ALL.into_iter().for_each(|component| lose(node, component)),
            Self::Lost(component) => lose(node, component),
            Self::Corrupt(component) => {
                write(node, component.manifest_file(), format!("kind: Pod\n  torn: [{component}").as_bytes());
            }
            Self::Duplicate(component) => {
                let bak = format!("{}.bak", component.manifest_file());
                write(node, &bak, &manifest(component, 7));
            }
            Self::Foreign(component) => take_port(node, component, Truth::Foreign),
            Self::Unit(component) => take_port(node, component, Truth::Unit),
            Self::OtherMember if node.members.len() > 1 => {
                node.members[1].healthy = true;
                take_port(node, Component::Etcd, Truth::OtherMember(1));
            }
            Self::OtherMember => take_port(node, Component::Etcd, Truth::Foreign),
            Self::DataDamaged => lose_data(node, Data::Damaged),
            Self::DataEmpty => lose_data(node, Data::Empty),
            Self::DataMissing => lose_data(node, Data::Missing),
            Self::KubeletDown => node.kubelet_up = false,
            Self::RuntimeDown => node.runtime_up = false,
            Self::DiskFull => node.machine.disk_full = true,
            Self::ClockWrong => node.machine.clock_wrong = true,
            Self::CertificateExpired => node.machine.certificate_expired = true,
            Self::PeersDown(count) => {
                for member in node.members.iter_mut().skip(1).take(count) {
                    member.healthy = false;
                }
            }
            Self::BackOff(component) => back_off(node, component),
            Self::LeftHeld(component) => {
                let (options, now) = (node.options.clone(), crate::sys::Clock::unix(&node.clock));
                // It may be missing already by another damage.
                let _ = node.files.hold(&options, now, component.manifest_file(), "by a person");
            }
            Self::LeftBounced(component) => {
                let (options, now) = (node.options.clone(), crate::sys::Clock::unix(&node.clock));
                let _ = node.files.hold(&options, now, component.manifest_file(), REASON);
            }
        }
    }
}

fn orphan(node: &mut SimNode, component: Component, serves: bool) {
    node.stop(component);
    node.add_process(component, Truth::Orphan, serves);
    node.part(component).crashes = 2;
}

fn take_port(node: &mut SimNode, component: Component, truth: Truth) {
    node.stop(component);
    node.add_process(component, truth, false);
}

/// Two sandboxes from two manifests; the older one's container still runs, kubelet waits for it.
fn deadlock(node: &mut SimNode, component: Component) {
    let newer = node.sandbox("ffffffffffffffffffffffffffffffff");
    let part = node.part(component);
    let older = part.sandboxes.last().is_some_and(|old| old.runs().is_some());
    let Some(bytes) = node.wanted(component).filter(|_| older) else { return };
    let hash = crate::model::Digest::of(&bytes).to_string()[..32].to_owned();
    let part = node.part(component);
    for old in &mut part.sandboxes {
        old.hash = "00000000000000000000000000000000".into();
    }
    part.sandboxes.push(super::node::SimSandbox { hash, ..newer });
    part.stuck = true;
}

fn lose(node: &mut SimNode, component: Component) {
    node.files.remove(component.manifest_file()).expect("remove");
}

fn write(node: &mut SimNode, name: &str, bytes: &[u8]) {
    node.files.write(name, bytes).expect("write");
}

fn lose_data(node: &mut SimNode, data: Data) {
    node.stop(Component::Etcd);
    node.data = data;
    // What the kubelet of before would do is not the engine's: the manifest is away while it is called.
    lose(node, Component::Etcd);
}

fn back_off(node: &mut SimNode, component: Component) {
    node.stop(component);
    let until = node.now_ms() + 160_000;
    let part = node.part(component);
    part.crashes = 5;
    part.back_off_until_ms = until;
    if let Some(last) = part.sandboxes.last_mut() {
        last.ready = true;
    }
}

fn fill_store(node: &mut SimNode, backups: Backups) {
    let (options, now) = (node.options.clone(), crate::sys::Clock::unix(&node.clock));
    let create = |node: &SimNode| node.files.create(&options, now, true).map(|_| ()).expect("backup");
    match backups {
        Backups::None => {}
        Backups::Good => create(node),
        Backups::Older => {
            create(node);
            for component in Component::ALL {
                write(node, component.manifest_file(), &manifest(component, 2));
            }
            for _ in 0..3 {
                node.tick();
                node.clock.advance(std::time::Duration::from_secs(10));
            }
        }
        Backups::Rotten => {
            create(node);
            for component in Component::ALL {
                node.files.rot(component).expect("rot");
            }
        }
        Backups::OtherNodes => {
            node.options.node_name = Some("elsewhere".into());
            let other = node.options.clone();
            node.files.create(&other, now, true).expect("backup");
            node.options.node_name = Some(NAME.into());
            node.foreign_backups = true;
        }
        Backups::Without(component) => {
            let bytes = node.wanted(component).expect("healthy");
            node.files.remove(component.manifest_file()).expect("remove");
            create(node);
            write(node, component.manifest_file(), &bytes);
        }
    }
}

/// A node of one member with good backups and one thing wrong.
pub(super) fn node_with(damage: Damage) -> SimNode {
    let mut node = SimNode::healthy(Random::new(1), 1);
    fill_store(&mut node, Backups::Good);
    damage.apply(&mut node);
    node
}

/// A node with random damage; what was done to it is returned.
pub(super) fn random_node(mut random: Random) -> (SimNode, Vec<Damage>, Backups) {
    let members = [1, 1, 1, 2, 3, 3, 3, 5][random.index(8)];
    let backups = match random.below(10) {
        0 => Backups::None,
        1 => Backups::Older,
        2 => Backups::Rotten,
        3 => Backups::OtherNodes,
        4 => Backups::Without(random.pick(&Component::ALL)),
        _ => Backups::Good,
    };
    let damages: Vec<Damage> = match random.below(10) {
        0 => Vec::new(),
        1..=5 => vec![Damage::random(&mut random)],
        count => (5..count).map(|_| Damage::random(&mut random)).collect(),
    };
    let mut node = SimNode::healthy(Random::new(random.next()), members);
    if members == 5 && random.percent(30) {
        node.members[4].learner = true;
    }
    fill_store(&mut node, backups);
    node.can_regenerate = random.pick(&[Some(true), Some(true), Some(false), None]);
    for damage in &damages {
        damage.apply(&mut node);
    }
    (node, damages, backups)
}
