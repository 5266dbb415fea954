//! Components and groups as bits.

use cprecover::backup::Group;
use cprecover::model::Component;

use crate::args::known_flags;
use crate::failure::Failure;

/// etcd.
pub const CPR_ETCD: u64 = 1;
/// kube-apiserver.
pub const CPR_KUBE_APISERVER: u64 = 2;
/// kube-controller-manager.
pub const CPR_KUBE_CONTROLLER_MANAGER: u64 = 4;
/// kube-scheduler.
pub const CPR_KUBE_SCHEDULER: u64 = 8;

/// kubelet's static-pod manifests.
pub const CPR_GROUP_MANIFESTS: u64 = 1;
/// Certificates and keys.
pub const CPR_GROUP_PKI: u64 = 2;
/// `admin.conf`, `kubelet.conf`, ...
pub const CPR_GROUP_KUBECONFIGS: u64 = 4;
/// kubeadm's configuration and patches.
pub const CPR_GROUP_KUBEADM: u64 = 8;
/// kubelet's configuration.
pub const CPR_GROUP_KUBELET: u64 = 16;

const COMPONENTS: [(u64, Component); 4] = [
    (CPR_ETCD, Component::Etcd),
    (CPR_KUBE_APISERVER, Component::KubeApiserver),
    (CPR_KUBE_CONTROLLER_MANAGER, Component::KubeControllerManager),
    (CPR_KUBE_SCHEDULER, Component::KubeScheduler),
];

const GROUPS: [(u64, Group); 5] = [
    (CPR_GROUP_MANIFESTS, Group::Manifests),
    (CPR_GROUP_PKI, Group::Pki),
    (CPR_GROUP_KUBECONFIGS, Group::Kubeconfigs),
    (CPR_GROUP_KUBEADM, Group::Kubeadm),
    (CPR_GROUP_KUBELET, Group::Kubelet),
];

/// Returns the components of a set of bits.
pub(crate) fn components(bits: u64, name: &str) -> Result<Vec<Component>, Failure> {
    of_bits(bits, &COMPONENTS, name)
}

/// Returns the groups of a set of bits.
pub(crate) fn groups(bits: u64, name: &str) -> Result<Vec<Group>, Failure> {
    of_bits(bits, &GROUPS, name)
}

fn of_bits<T: Copy>(bits: u64, all: &[(u64, T)], name: &str) -> Result<Vec<T>, Failure> {
    known_flags(bits, all.iter().fold(0, |known, (bit, _)| known | bit), name)?;
    Ok(all.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, value)| *value).collect())
}
