//! How much a changed flag, volume or field matters.

use serde::{Deserialize, Serialize};

use crate::model::Component;

/// How much a difference matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Severity {
    /// It changes nothing that the cluster depends on.
    Harmless,
    /// A person should look at it.
    NeedsReview,
    /// The cluster would lose data, addresses or protection.
    Dangerous,
}

impl Severity {
    /// Returns the name used in JSON output and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Harmless => "harmless",
            Self::NeedsReview => "needs-review",
            Self::Dangerous => "dangerous",
        }
    }
}

/// A flag or a family of flags (a trailing `*`) and what its change does.
type Rule = (&'static str, &'static str);

/// Sources: etcd's configuration flags, kube-apiserver, kube-controller-manager and kube-scheduler
/// reference pages (kubernetes.io/docs/reference/command-line-tools-reference).
const ETCD: &[Rule] = &[
    ("data-dir", "etcd would start on another folder, empty or not"),
    ("wal-dir", "etcd would start on another log folder"),
    ("name", "etcd would be another member"),
    ("initial-cluster*", "with an empty data folder, etcd would found another cluster"),
    ("force-new-cluster", "etcd would drop its peers"),
    ("quota-backend-bytes", "with the smaller default quota of 2 GiB, writes stop with NOSPACE"),
    ("max-*", "requests that fit before would be refused"),
    ("listen-*", "clients and peers would not find etcd"),
    ("advertise-client-urls", "clients would not find etcd"),
    ("initial-advertise-peer-urls", "peers would not find etcd"),
    ("*cert*", "clients or peers would not be trusted, or all would be"),
    ("*key-file", "clients or peers would not be trusted"),
    ("*trusted-ca-file", "clients or peers would not be trusted, or all would be"),
    ("*auto-tls", "certificates would be made up"),
    ("cipher-suites", "weaker encryption may be allowed"),
    ("tls-min-version", "weaker encryption may be allowed"),
    ("auto-compaction-*", "history would grow until NOSPACE"),
];

const APISERVER: &[Rule] = &[
    ("service-cluster-ip-range", "existing services would keep addresses outside of the range"),
    ("service-node-port-range", "existing node ports would be outside of the range"),
    ("etcd-*", "the API server would use another etcd, key prefix or trust"),
    ("storage-*", "stored objects may not be read"),
    ("encryption-provider-config*", "encrypted secrets could not be read, or new ones would lie in clear"),
    ("audit-*", "audit settings would be lost"),
    ("enable-admission-plugins", "admission control would be lost"),
    ("disable-admission-plugins", "admission control would change"),
    ("admission-control-config-file", "admission control would be lost"),
    ("authorization-*", "authorization would change"),
    ("authentication-*", "logins would be lost"),
    ("oidc-*", "logins would be lost"),
    ("token-auth-file", "logins would be lost"),
    ("anonymous-auth", "anonymous requests may be allowed"),
    ("client-ca-file", "clients would not be trusted"),
    ("tls-*", "the serving certificate or its protection would change"),
    ("service-account-*", "existing service account tokens would not be valid"),
    ("api-audiences", "existing service account tokens would not be valid"),
    ("requestheader-*", "aggregated APIs would not be trusted"),
    ("proxy-client-*", "aggregated APIs would not be trusted"),
    ("kubelet-*", "logs and exec may fail"),
    ("advertise-address", "the cluster would look for the API server elsewhere"),
    ("secure-port", "clients would not find the API server"),
    ("bind-address", "clients would not find the API server"),
    ("runtime-config", "APIs in use may be switched off"),
    ("feature-gates", "features in use may be switched off"),
    ("allow-privileged", "privileged pods would not start"),
    ("endpoint-reconciler-type", "the kubernetes service may lose its endpoints"),
    ("cloud-*", "cloud integration would be lost"),
];

const CONTROLLER_MANAGER: &[Rule] = &[
    ("cluster-cidr", "nodes would get no or other pod addresses"),
    ("allocate-node-cidrs", "nodes would get no pod addresses"),
    ("node-cidr-mask-size*", "nodes would get pod ranges of another size"),
    ("service-cluster-ip-range", "pod ranges may overlap with service addresses"),
    ("cluster-signing-*", "certificates would be signed by another authority or not at all"),
    ("root-ca-file", "service accounts would get another root certificate"),
    ("service-account-*", "new service account tokens would not be valid"),
    ("client-ca-file", "clients would not be trusted"),
    ("controllers", "controllers in use may be switched off"),
    ("feature-gates", "features in use may be switched off"),
    ("use-service-account-credentials", "controllers would run with other rights"),
    ("leader-elect*", "two controller managers could act at once"),
    ("cloud-*", "cloud integration would be lost"),
    ("*kubeconfig", "the controller manager would use another identity"),
];

const SCHEDULER: &[Rule] = &[
    ("config", "the scheduler's profiles would be lost"),
    ("feature-gates", "features in use may be switched off"),
    ("leader-elect*", "two schedulers could act at once"),
    ("*kubeconfig", "the scheduler would use another identity"),
];

/// Flags that only change what is logged.
const LOGGING: &[&str] =
    &["v", "vmodule", "logging-format", "log-*", "alsologtostderr", "logtostderr", "stderrthreshold"];

/// Returns how much a change of the flag matters, and why.
pub(super) fn of_flag(component: Component, name: &str) -> (Severity, &'static str) {
    if LOGGING.iter().any(|pattern| matches(pattern, name)) {
        return (Severity::Harmless, "it changes only what is logged");
    }
    let rules = match component {
        Component::Etcd => ETCD,
        Component::KubeApiserver => APISERVER,
        Component::KubeControllerManager => CONTROLLER_MANAGER,
        Component::KubeScheduler => SCHEDULER,
    };
    rules
        .iter()
        .find(|(pattern, _)| matches(pattern, name))
        .map_or((Severity::NeedsReview, "it was set on purpose or has another default"), |(_, reason)| {
            (Severity::Dangerous, *reason)
        })
}

/// Matches `name` with a pattern that may begin or end with `*`.
fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(rest), Some(_)) => name.contains(rest.trim_end_matches('*')),
        (Some(rest), None) => name.ends_with(rest),
        (None, Some(rest)) => name.starts_with(rest),
        (None, None) => name == pattern,
    }
}

/// Pairs of a flag's older and newer spelling with the same meaning.
///
/// Source: etcd 3.6 moved `experimental-` flags (etcd CHANGELOG-3.6).
pub(super) const RENAMED: &[(&str, &str)] = &[
    ("experimental-initial-corrupt-check=true", "feature-gates=InitialCorruptCheck=true"),
    ("experimental-watch-progress-notify-interval=5s", "watch-progress-notify-interval=5s"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_of_flags() {
        let severity = |component, name| of_flag(component, name).0;
        assert_eq!(severity(Component::Etcd, "peer-client-cert-auth"), Severity::Dangerous);
        assert_eq!(severity(Component::Etcd, "snapshot-count"), Severity::NeedsReview);
        assert_eq!(severity(Component::KubeApiserver, "audit-log-maxage"), Severity::Dangerous);
        assert_eq!(severity(Component::KubeApiserver, "max-requests-inflight"), Severity::NeedsReview);
        assert_eq!(severity(Component::KubeApiserver, "v"), Severity::Harmless);
        assert_eq!(severity(Component::KubeScheduler, "authentication-kubeconfig"), Severity::Dangerous);
        assert!(Severity::Harmless < Severity::NeedsReview && Severity::NeedsReview < Severity::Dangerous);
    }
}
