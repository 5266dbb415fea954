//! etcd's data and membership: what only a person may decide.

use cprecover_policy_sdk::contract::{EtcdData, Verdict};

use super::{Case, Step, escalate};

pub(super) fn data(case: &Case<'_>) -> Step {
    let etcd = &case.seen.etcd;
    if etcd.external {
        return Step::go_on();
    }
    let mut decisions = Vec::new();
    let several = etcd.members.len() > 1;
    let verdict = match etcd.data {
        // Locked is a matter of who holds the lock: the holder rules. Unknown forbids nothing here, but
        // the guard demands proof for each step that touches etcd.
        EtcdData::Unknown | EtcdData::Intact | EtcdData::Locked => None,
        EtcdData::Damaged if several => Some((
            "etcd's data is damaged",
            "save the folder, remove the member and add it again as a learner",
        )),
        EtcdData::Damaged => {
            Some(("etcd's data is damaged", "save the folder, then restore an etcd snapshot into a new one"))
        }
        EtcdData::Empty | EtcdData::Missing if several => Some((
            "etcd's data is lost and it would boot as a new cluster",
            "remove the member on a healthy node and add it again as a learner",
        )),
        EtcdData::Empty | EtcdData::Missing => Some((
            "etcd's data is lost",
            "restore an etcd snapshot; starting etcd now would begin an empty cluster",
        )),
        EtcdData::Foreign => {
            Some(("etcd's data belongs to another cluster or member", "put the right folder back"))
        }
        EtcdData::NoSpace => {
            Some(("etcd has no space left", "free space, then compact, defragment and disarm the alarm"))
        }
    };
    if let Some((what, hint)) = verdict {
        decisions.push(escalate(what.into(), vec![hint.into()], Vec::new()));
    }
    if !etcd.alarms.is_empty() {
        decisions.push(escalate(
            format!("etcd raised {}", etcd.alarms.join(", ")),
            vec!["NOSPACE: compact, defragment, disarm; CORRUPT: replace the minority member".into()],
            Vec::new(),
        ));
    }
    decisions.extend(quorum_beyond_reach(case));
    Step::then_stop(decisions)
}

/// Even with this node's member back there would be no quorum: peers have to come first.
fn quorum_beyond_reach(case: &Case<'_>) -> Option<super::Decision> {
    let etcd = &case.seen.etcd;
    if etcd.members.len() < 2 || etcd.quorum == 0 {
        return None;
    }
    let reachable = etcd
        .members
        .iter()
        .filter(|member| !member.learner && (member.local || member.healthy != Verdict::No))
        .count();
    let quorum = usize::try_from(etcd.quorum).unwrap_or(usize::MAX);
    (reachable < quorum).then(|| {
        escalate(
            format!("with this node's etcd member back, {reachable} of {quorum} needed would vote"),
            vec!["bring the other members back first; forcing a new cluster is the last resort".into()],
            Vec::new(),
        )
    })
}
