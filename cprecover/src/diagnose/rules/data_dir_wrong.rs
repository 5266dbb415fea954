//! The etcd data folder is missing, empty or open to others.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::{DataVerdict, Facts};
use crate::diagnose::finding::{Confidence, EvidenceKind, FindingId, Severity, Targets};
use crate::diagnose::query::note;
use crate::facts::DataDirFact;
use crate::model::{Component, Observed};

pub(super) const RULE: Rule = Rule {
    id: FindingId::DataDirWrong,
    is_effect: false,
    effects: super::ETCD_STOPS,
    check,
};

fn check(facts: &Facts) -> Answer {
    let has_etcd = facts
        .manifests
        .iter()
        .any(|fact| fact.component == Component::Etcd && fact.pod.present().is_some());
    let empty = "it holds no member: etcd would begin a new, empty cluster";
    let (severity, text, data_dir): (_, _, Option<&DataDirFact>) =
        match (&facts.host.data_dir, &facts.etcd_data) {
            (_, Observed::Present(DataVerdict::Empty)) => (Severity::Critical, empty, facts.host.data_dir.present()),
            (_, Observed::Present(DataVerdict::Foreign(why))) => {
                (Severity::Critical, why.as_str(), facts.host.data_dir.present())
            }
            (Observed::Absent, _) if has_etcd => (Severity::Critical, "it does not exist", None),
            (Observed::Present(dir), _) if !dir.has_wal && !matches!(dir.db, Observed::Present(_)) && has_etcd => {
                (Severity::Critical, empty, Some(dir))
            }
            // etcd only warns (server/etcdmain, CheckDirPermission), so it is no cause.
            (Observed::Present(dir), _) if dir.mode & 0o077 != 0 => {
                (Severity::Warning, "others than its owner may read it", Some(dir))
            }
            (Observed::Unknown(_), Observed::Unknown(_)) => return Answer::Open("the etcd data folder"),
            _ => return Answer::Excluded,
        };
    let mut targets = Targets::default();
    targets.components.push(Component::Etcd);
    targets.paths.extend(data_dir.map(|dir| dir.path.clone()));
    let place = data_dir.map_or_else(|| "etcd data folder".to_owned(), |dir| dir.path.display().to_string());
    let remedy = if severity == Severity::Critical {
        "Do not let etcd start on it. Look for the data on another disk or mount, else restore a snapshot; with other members join anew."
    } else {
        "chmod 0700 the folder."
    };
    draft(FindingId::DataDirWrong, severity, Confidence::Proven, "the etcd data folder is not as it should be")
        .evidence([note(EvidenceKind::Data, place, text)])
        .targets(targets)
        .remedy(remedy)
}
