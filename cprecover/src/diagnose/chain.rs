//! From findings to a chain of causes, and to its end.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::facts::Facts;
use super::finding::{Candidate, Confidence, Diagnosis, Finding, FindingId, Link, RootCause, Severity};
use super::rules::{Answer, Rule, rule_of};
use crate::model::Component;

/// What is wrong with etcd itself, so that an etcd that is healthy now refutes an old log line of it.
const ABOUT_ETCD: [FindingId; 9] = [
    FindingId::SlowDisk,
    FindingId::DbLocked,
    FindingId::QuorumLost,
    FindingId::WalCorrupt,
    FindingId::DbCorrupt,
    FindingId::DbSnapMismatch,
    FindingId::EtcdNoSpace,
    FindingId::MemberRemoved,
    FindingId::ClusterIdMismatch,
];

/// Links what the rules answered and finds where the chain of causes ends.
pub(super) fn conclude(facts: &Facts, answers: Vec<(&'static Rule, Answer)>) -> Diagnosis {
    let mut findings: Vec<Finding> = Vec::new();
    let mut open: Vec<Candidate> = Vec::new();
    for (rule, answer) in answers {
        match answer {
            Answer::Found(finding) => findings.push(*finding),
            Answer::Open(missing) => open.push(Candidate { id: rule.id, missing: missing.to_owned() }),
            Answer::Excluded => {}
        }
    }
    let (is_serving, is_etcd_serving) = (facts.is_serving(), facts.is_etcd_serving());
    for finding in findings.iter_mut().filter(|finding| finding.is_from_logs_only()) {
        let healthy = match finding.id {
            _ if is_serving => "etcd and the API server are",
            id if is_etcd_serving && ABOUT_ETCD.contains(&id) => "etcd is",
            _ => continue,
        };
        if finding.severity > Severity::Info {
            finding.severity = Severity::Info;
            let _ = write!(finding.summary, " (in the past: {healthy} healthy now)");
        }
    }
    let links = link(&findings);
    let root_cause = root_cause(facts, &findings, &links, &open);
    sort(&mut findings, &links, &root_cause);
    let links = without_shortcuts(links);
    Diagnosis { findings, links, root_cause }
}

/// Returns the links between findings that are there; those of no weight link nothing.
fn link(findings: &[Finding]) -> Vec<Link> {
    let mut links = Vec::new();
    for cause in findings.iter().filter(|finding| is_problem(finding)) {
        for effect in findings.iter().filter(|finding| is_problem(finding)) {
            if cause.id != effect.id && explains(cause, effect) {
                links.push(Link { cause: cause.id, effect: effect.id });
            }
        }
    }
    links
}

/// Drops links from a cause to an effect that it also reaches step by step; the chain reads better so.
fn without_shortcuts(links: Vec<Link>) -> Vec<Link> {
    let mut kept = links;
    let mut at = 0;
    while let Some(link) = kept.get(at).copied() {
        kept.remove(at);
        if !consequences(link.cause, &kept).contains(&link.effect) {
            kept.insert(at, link);
            at += 1;
        }
    }
    kept
}

/// Reports whether one finding explains another.
fn explains(cause: &Finding, effect: &Finding) -> bool {
    if !rule_of(cause.id).effects.contains(&effect.id) {
        return false;
    }
    // A crash loop explains that its own component is down; a component that is down explains the loops of
    // those that need it, and no other.
    match (cause.id, effect.id) {
        (FindingId::CrashLoop, id) => looping(id).is_none_or(|any| cause.is_about_any(any)),
        (id, FindingId::CrashLoop) => in_need_of(id).is_none_or(|all| effect.is_about_none_but(all)),
        _ => true,
    }
}

/// Of which components one has to be in a crash loop to bring this effect about.
fn looping(effect: FindingId) -> Option<&'static [Component]> {
    use Component as C;
    match effect {
        FindingId::EtcdDown | FindingId::EtcdUnreachable => Some(&[C::Etcd]),
        FindingId::ApiserverDown => Some(&[C::KubeApiserver]),
        FindingId::ControllersDown => Some(&[C::KubeControllerManager, C::KubeScheduler]),
        FindingId::KubeletDisconnected => Some(&[C::Etcd, C::KubeApiserver]),
        _ => None,
    }
}

/// Which components end again and again where this one does not work.
fn in_need_of(down: FindingId) -> Option<&'static [Component]> {
    use Component as C;
    match down {
        FindingId::EtcdDown | FindingId::EtcdUnreachable => {
            Some(&[C::KubeApiserver, C::KubeControllerManager, C::KubeScheduler])
        }
        FindingId::ApiserverDown => Some(&[C::KubeControllerManager, C::KubeScheduler]),
        FindingId::ControllersDown => Some(&[]),
        _ => None,
    }
}

impl Finding {
    fn is_about_any(&self, components: &[Component]) -> bool {
        self.targets.components.iter().any(|component| components.contains(component))
    }

    fn is_about_none_but(&self, components: &[Component]) -> bool {
        self.targets.components.iter().all(|component| components.contains(component))
    }
}

fn is_problem(finding: &Finding) -> bool {
    finding.severity >= Severity::Error
}

/// Returns everything that follows from `id`, directly or not.
fn consequences(id: FindingId, links: &[Link]) -> BTreeSet<FindingId> {
    let mut reached = BTreeSet::new();
    let mut next = vec![id];
    while let Some(cause) = next.pop() {
        for link in links.iter().filter(|link| link.cause == cause) {
            if link.effect != id && reached.insert(link.effect) {
                next.push(link.effect);
            }
        }
    }
    reached
}

fn root_cause(facts: &Facts, findings: &[Finding], links: &[Link], open: &[Candidate]) -> RootCause {
    let problems: Vec<&Finding> = findings.iter().filter(|finding| is_problem(finding)).collect();
    if problems.is_empty() {
        if facts.is_serving() {
            return RootCause::Healthy;
        }
        // Nothing was found, but nobody said that all is well either.
        return RootCause::Undetermined { left: Vec::new() };
    }
    let mut roots: Vec<&Finding> = problems
        .iter()
        .copied()
        .filter(|finding| !finding.is_effect && finding.confidence > Confidence::Possible)
        .filter(|finding| !is_explained(finding, &problems, links))
        .collect();
    if let Some(best) = roots.iter().map(|finding| finding.confidence).max() {
        roots.retain(|finding| finding.confidence == best);
    }
    let best = roots.iter().copied().find(|one| {
        let explained = consequences(one.id, links);
        roots.iter().all(|other| {
            let theirs = consequences(other.id, links);
            one.id == other.id || (explained.is_superset(&theirs) && explained.len() > theirs.len())
        })
    });
    match best {
        Some(finding) => RootCause::Found { id: finding.id },
        // What is observed directly is no conjecture: two faults at once are two causes.
        None if roots.len() > 1 && roots.iter().all(|root| root.confidence == Confidence::Proven) => {
            RootCause::Several { ids: roots.iter().map(|root| root.id).collect() }
        }
        None => RootCause::Undetermined { left: left_over(&roots, &problems, links, open) },
    }
}

/// Reports whether a cause that is itself no mere effect explains this finding.
fn is_explained(finding: &Finding, problems: &[&Finding], links: &[Link]) -> bool {
    problems.iter().any(|cause| {
        cause.id != finding.id
            && !cause.is_effect
            && cause.confidence > Confidence::Possible
            && consequences(cause.id, links).contains(&finding.id)
            // Two that explain each other explain nothing.
            && !consequences(finding.id, links).contains(&cause.id)
    })
}

/// Returns the causes between which nothing decides.
fn left_over(
    roots: &[&Finding],
    problems: &[&Finding],
    links: &[Link],
    open: &[Candidate],
) -> Vec<Candidate> {
    let candidate =
        |finding: &Finding, missing: &str| Candidate { id: finding.id, missing: missing.to_owned() };
    if !roots.is_empty() {
        return roots
            .iter()
            .map(|finding| candidate(finding, "it was found, as others were; none of them explains the rest"))
            .collect();
    }
    let mut left: Vec<Candidate> = problems
        .iter()
        .filter(|finding| !finding.is_effect)
        .map(|finding| candidate(finding, "there is one indirect sign of it; it has to be confirmed"))
        .collect();
    // Effects that nothing explains: whatever could bring them about and is not excluded.
    let first: BTreeSet<FindingId> = problems
        .iter()
        .filter(|finding| finding.is_effect)
        .filter(|finding| !links.iter().any(|link| link.effect == finding.id))
        .map(|finding| finding.id)
        .collect();
    let effects: BTreeSet<FindingId> =
        if first.is_empty() { problems.iter().map(|finding| finding.id).collect() } else { first };
    left.extend(
        open.iter()
            .filter(|candidate| {
                let rule = rule_of(candidate.id);
                !rule.is_effect && rule.effects.iter().any(|effect| effects.contains(effect))
            })
            .cloned(),
    );
    left
}

/// Puts the root cause first, then along the chain, then by severity.
fn sort(findings: &mut [Finding], links: &[Link], root_cause: &RootCause) {
    let roots = root_cause.ids();
    let chain: BTreeSet<FindingId> = roots.iter().flat_map(|id| consequences(*id, links)).collect();
    findings.sort_by_key(|finding| {
        let place = if roots.contains(&finding.id) {
            0
        } else if chain.contains(&finding.id) {
            1
        } else {
            2
        };
        // Within the chain: who explains more comes first.
        let follows = consequences(finding.id, links).len();
        (place, std::cmp::Reverse(finding.severity), std::cmp::Reverse(follows), finding.id)
    });
}
