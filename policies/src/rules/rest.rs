//! What is left when no other rule fired: waiting with an end, and calling a person.

use cprecover_policy_sdk::contract::{
    Action, ActionKind, Component, ContainerState, FindingKind, Severity, Verdict,
};

use super::{Case, Decision, Step, escalate, name};

/// How long a started control plane may take to settle: kubelet's startup probes allow 24 × 10 s
/// (kubeadm `util/staticpod/utils.go`), a small node needs a fraction.
const SETTLE_MS: u64 = 120_000;
const SETTLE_HURRIED_MS: u64 = 60_000;
/// How far a clock may step back before what was done counts as done under another clock.
pub const CLOCK_STEP_MS: u64 = 5_000;
const LOOK_AGAIN_MS: u64 = 2_000;
/// Waits in a row after which waiting is no plan any more, where nothing else was ever done.
const MAX_WAITS: usize = 30;

pub(super) fn hung_static_pod(case: &Case<'_>) -> Step {
    if !case.hurried() || settling(case) || etcd_fails(case) {
        return Step::go_on();
    }
    let hung = [Component::KubeApiserver, Component::KubeControllerManager, Component::KubeScheduler]
        .into_iter()
        .find(|component| {
            fails(case, *component)
                && case.containers_of(*component).any(|container| container.state == ContainerState::Running)
        });
    let Some(component) = hung else { return Step::go_on() };
    let reason = format!("{} runs but fails its health check, and etcd does not", name(component));
    Step::then_stop(vec![case.act(Action::BounceStaticPod(component), reason, Vec::new(), 0.7)])
}

fn fails(case: &Case<'_>, component: Component) -> bool {
    case.seen
        .health_checks
        .iter()
        .any(|check| check.component == Some(component) && check.healthy == Verdict::No)
}

fn etcd_fails(case: &Case<'_>) -> bool {
    !case
        .seen
        .health_checks
        .iter()
        .any(|check| check.component == Some(Component::Etcd) && check.healthy == Verdict::Yes)
}

pub(super) fn unresolved(case: &Case<'_>) -> Step {
    if settling(case) || waits_in_a_row(case) < MAX_WAITS && !has_cause(case) {
        return Step::then_stop(vec![wait(case)]);
    }
    let causes: Vec<_> = case
        .seen
        .findings
        .iter()
        .filter(|finding| finding.kind == FindingKind::Cause && finding.severity != Severity::Info)
        .collect();
    let decisions = if causes.is_empty() {
        let effects: Vec<&str> = case
            .seen
            .findings
            .iter()
            .filter(|finding| finding.kind == FindingKind::Effect)
            .map(|finding| finding.id.as_str())
            .collect();
        let seen = if effects.is_empty() { "nothing else".into() } else { effects.join(", ") };
        vec![escalate(
            format!("the node is not healthy and no cause is proven; seen: {seen}"),
            vec!["a support bundle holds all that was observed".into()],
            Vec::new(),
        )]
    } else {
        causes
            .into_iter()
            .map(|cause| {
                escalate(
                    format!("{} (no rule of this policy remedies {})", cause.summary, cause.id),
                    Vec::new(),
                    cause.evidence.clone(),
                )
            })
            .collect()
    };
    Step::then_stop(decisions)
}

/// A cause that this policy has no rule for is not waited out.
fn has_cause(case: &Case<'_>) -> bool {
    case.seen
        .findings
        .iter()
        .any(|finding| finding.kind == FindingKind::Cause && finding.severity == Severity::Critical)
}

/// Something was done not long ago, and it may need time to show.
fn settling(case: &Case<'_>) -> bool {
    let limit = if case.hurried() { SETTLE_HURRIED_MS } else { SETTLE_MS };
    case.seen
        .history
        .iter()
        .filter(|past| !matches!(past.kind, ActionKind::Wait | ActionKind::Escalate))
        .filter_map(|past| past.ended_ms)
        // One that ended later than now was done under another clock; that says nothing of when.
        .filter(|ended| *ended <= case.seen.now_ms.saturating_add(CLOCK_STEP_MS))
        .any(|ended| case.seen.now_ms.saturating_sub(ended) < limit)
}

fn waits_in_a_row(case: &Case<'_>) -> usize {
    case.seen.history.iter().rev().take_while(|past| past.kind == ActionKind::Wait).count()
}

fn wait(case: &Case<'_>) -> Decision {
    let reason = "nothing is left to do; the control plane may need time to come up".into();
    Decision {
        max_attempts: u32::try_from(MAX_WAITS).unwrap_or(u32::MAX).saturating_mul(4),
        cool_down_ms: 0,
        ..case.act(Action::Wait(LOOK_AGAIN_MS), reason, Vec::new(), 0.6)
    }
}
