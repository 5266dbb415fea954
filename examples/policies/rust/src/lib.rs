//! Example policy: restarts a kubelet that does not run, and nothing else.

use cprecover_policy_sdk::contract::*;

fn describe() -> Metadata {
    Metadata {
        name: "only-kubelet".into(),
        version: "1.0.0".into(),
        description: "restarts a kubelet that does not run".into(),
        rules: vec![Rule { id: "kubelet-down".into(), summary: "kubelet does not run: restart it".into() }],
    }
}

fn decide(seen: Observation) -> Result<Vec<Decision>, String> {
    let down = |service: &&Service| {
        service.name == ServiceName::Kubelet
            && matches!(service.state, ServiceState::Inactive | ServiceState::Failed)
    };
    let restart = |service: &Service| Decision {
        rule_id: "kubelet-down".into(),
        action: Action::RestartKubelet,
        reason: format!("kubelet does not run ({})", service.detail),
        evidence: Vec::new(),
        confidence: 0.75,
        max_attempts: 3,
        cool_down_ms: 15_000,
    };
    Ok(seen.services.iter().filter(down).map(restart).collect())
}

cprecover_policy_sdk::export_policy!(describe, decide);
