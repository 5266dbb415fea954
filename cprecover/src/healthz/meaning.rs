//! What a failed check means, and what it does not mean.

use serde::Serialize;

/// What it means that a named check fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CheckMeaning {
    /// The name, or the prefix of a name when it ends in `*`.
    pub check: &'static str,
    /// What a failure means, one sentence.
    pub meaning: &'static str,
    /// Where that is written.
    pub source: &'static str,
}

const fn row(check: &'static str, meaning: &'static str, source: &'static str) -> CheckMeaning {
    CheckMeaning { check, meaning, source }
}

const APISERVER: &str = "kubernetes staging/src/k8s.io/apiserver/pkg/server/healthz/healthz.go";
const HOOKS: &str = "kubernetes staging/src/k8s.io/apiserver/pkg/server/hooks.go";
const ETCD: &str = "etcd server/etcdserver/api/etcdhttp/health.go";

/// Exact names before prefixes.
static MEANINGS: &[CheckMeaning] = &[
    row("ping", "the server answers at all; it cannot fail", APISERVER),
    row(
        "log",
        "the log writer has been blocked for two minutes: a full log pipe, a stalled disk or a stuck container shim, not etcd",
        APISERVER,
    ),
    row(
        "etcd",
        "the API server got no timely answer from etcd; what is wrong with etcd has to be found there",
        "kubernetes staging/src/k8s.io/apiserver/pkg/storage/storagebackend/factory/etcd3.go",
    ),
    row(
        "etcd-readiness",
        "as etcd, with the shorter deadline of /readyz",
        "kubernetes staging/src/k8s.io/apiserver/pkg/server/options/etcd.go",
    ),
    row("etcd-override-*", "the etcd of one resource does not answer", "kubernetes --etcd-servers-overrides"),
    row(
        "informer-sync",
        "the server's own caches are not filled; it started a moment ago, or its storage does not answer",
        APISERVER,
    ),
    row("shutdown", "the server is shutting down", APISERVER),
    row(
        "loopback-serving-certificate",
        "the certificate of the server's own loopback client has expired; a restart renews it",
        "kubernetes staging/src/k8s.io/apiserver/pkg/server/healthz",
    ),
    row(
        "poststarthook/rbac/bootstrap-roles",
        "the built-in roles are not written; storage does not answer",
        HOOKS,
    ),
    row("poststarthook/*", "a step after start is not done; it waits for storage as a rule", HOOKS),
    row("autoregister-completion", "built-in API services are not registered yet", HOOKS),
    row(
        "kms-provider-*",
        "an encryption plugin (KMS) does not answer",
        "kubernetes --encryption-provider-config",
    ),
    row(
        "kms-providers",
        "an encryption plugin (KMS) does not answer",
        "kubernetes --encryption-provider-config",
    ),
    row(
        "leaderElection",
        "the process failed to renew its leader lease and is about to exit",
        "kubernetes component-base",
    ),
    row("syncloop", "kubelet's main loop has not turned for too long", "kubernetes pkg/kubelet/kubelet.go"),
    row(
        "sched-handlers-sync",
        "the scheduler's caches are not filled",
        "kubernetes cmd/kube-scheduler/app/server.go",
    ),
    row("serializable_read", "etcd cannot read its own database", ETCD),
    row(
        "linearizable_read",
        "etcd cannot confirm a read with a majority of its members: no quorum, or it is too slow",
        ETCD,
    ),
    row("data_corruption", "etcd's CORRUPT alarm is raised: its data differ from its peers'", ETCD),
    row("non_learner", "this etcd member is a learner and does not serve", ETCD),
    row("ALARM NOSPACE", "etcd's database reached its quota; it takes no more writes", ETCD),
    row("ALARM CORRUPT", "etcd's CORRUPT alarm is raised: its data differ from its peers'", ETCD),
    row("ALARM*", "an etcd alarm is raised", ETCD),
    row("RAFT NO LEADER", "the etcd cluster has no leader: no quorum, or an election is going on", ETCD),
    row("RANGE ERROR*", "etcd could not read a key in time", ETCD),
];

/// Returns what a failure of the check `name` means, for the names that this crate knows.
///
/// etcd's `reason` texts, as in `ALARM NOSPACE`, are names too.
#[must_use]
pub fn meaning(name: &str) -> Option<&'static CheckMeaning> {
    MEANINGS.iter().find(|row| match row.check.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == row.check,
    })
}
