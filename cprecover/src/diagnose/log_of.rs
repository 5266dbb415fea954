//! Whose log it is, by the log's name: what one program did not log excludes nothing about another.

use crate::model::Component;

/// The program that wrote a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogOf {
    /// kubelet.
    Kubelet,
    /// The kernel.
    Kernel,
    /// kubeadm, whose output somebody kept.
    Kubeadm,
    /// A static pod.
    Pod(Component),
}

impl LogOf {
    /// Reports whether a log of this name holds what this program logged.
    ///
    /// Sources: kubernetes `pkg/kubelet/kuberuntime/helpers.go` (`<pod>/<container>/<attempt>.log`);
    /// Debian and Red Hat's rsyslog, which write the journal to `syslog` and `messages`.
    pub(super) fn is_named(self, log: &str) -> bool {
        let mut parts = log.rsplit('/');
        let file = parts.next().unwrap_or_default();
        let attempt = file.split('.').next().unwrap_or_default();
        let is_attempt = !attempt.is_empty() && attempt.bytes().all(|byte| byte.is_ascii_digit());
        let name = if is_attempt { parts.next().unwrap_or_default() } else { file };
        let names: &[&str] = match self {
            Self::Kubelet => &["kubelet", "syslog", "messages"],
            Self::Kernel => &["kern", "dmesg", "syslog", "messages"],
            Self::Kubeadm => &["kubeadm"],
            Self::Pod(Component::Etcd) => &["etcd"],
            Self::Pod(Component::KubeApiserver) => &["apiserver"],
            Self::Pod(Component::KubeControllerManager) => &["controller-manager", "kcm"],
            Self::Pod(Component::KubeScheduler) => &["scheduler"],
        };
        names.iter().any(|part| name.contains(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_of_the_program_that_its_name_names() {
        let etcd = LogOf::Pod(Component::Etcd);
        let of_etcd = "/var/log/pods/kube-system_etcd-cp1_b861/etcd/3.log";
        assert!(etcd.is_named(of_etcd) && etcd.is_named("incident/etcd-container.log"));
        assert!(etcd.is_named("/var/log/pods/kube-system_etcd-cp1_b861/etcd/3.log.20260610-140640.gz"));
        // A node that is named after etcd makes no log etcd's.
        let of_apiserver = "/var/log/pods/kube-system_kube-apiserver-etcd1_b861/kube-apiserver/0.log";
        assert!(!etcd.is_named(of_apiserver) && LogOf::Pod(Component::KubeApiserver).is_named(of_apiserver));
        assert!(LogOf::Kubelet.is_named("kubelet") && !LogOf::Kernel.is_named("kubelet"));
        assert!(LogOf::Kernel.is_named("/var/log/kern.log") && LogOf::Kernel.is_named("/var/log/messages"));
        assert!(!LogOf::Kubelet.is_named(of_etcd) && !etcd.is_named("0.log") && !etcd.is_named(""));
    }
}
