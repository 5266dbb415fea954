//! From the contract's decisions, which a policy wrote, to this crate's, which the engine relies on.

use super::action::{Action, Decision};
use super::contract;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Component, Pid, PodUid, Port, ProcessId, SandboxId};

/// The most decisions that one answer may have.
const MAX_DECISIONS: usize = 64;
/// The longest text in a decision, in bytes.
const MAX_TEXT_BYTES: usize = 2048;
/// The most pieces of evidence or hints that one decision may name.
const MAX_ITEMS: usize = 64;

/// The most rules that a policy may name.
#[cfg(feature = "wasm-runtime")]
const MAX_RULES: usize = 256;

fn nonsense(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Policy, why)
}

/// Checks and converts a whole answer.
pub(super) fn decisions(answer: Vec<contract::Decision>) -> Result<Vec<Decision>> {
    if answer.len() > MAX_DECISIONS {
        return Err(nonsense(format!("{} decisions are more than {MAX_DECISIONS}", answer.len())));
    }
    answer.into_iter().map(decision).collect()
}

/// Checks what a policy says about itself; it is printed in reports.
#[cfg(feature = "wasm-runtime")]
pub(super) fn metadata(raw: contract::Metadata) -> Result<contract::Metadata> {
    let token = |what: &str, text: &str| {
        let fits = !text.is_empty() && text.len() <= 64;
        if fits && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.+_/".contains(&b)) {
            return Ok(());
        }
        Err(nonsense(format!("{what} is not 1 to 64 letters, digits and -.+_/")))
    };
    token("the policy's name", &raw.name)?;
    token("the policy's version", &raw.version)?;
    if raw.rules.len() > MAX_RULES {
        return Err(nonsense(format!("{} rules are more than {MAX_RULES}", raw.rules.len())));
    }
    for rule in &raw.rules {
        token("a rule's id", &rule.id)?;
    }
    let texts = raw.rules.iter().map(|rule| &rule.summary).chain([&raw.description]);
    for text in texts {
        if text.len() > MAX_TEXT_BYTES || text.chars().any(char::is_control) {
            return Err(nonsense(format!(
                "a text of the policy is longer than {MAX_TEXT_BYTES} or not one line"
            )));
        }
    }
    Ok(raw)
}

fn decision(raw: contract::Decision) -> Result<Decision> {
    let text = |what: &str, text: String| {
        if text.len() > MAX_TEXT_BYTES {
            return Err(nonsense(format!("{what} of {} bytes is longer than {MAX_TEXT_BYTES}", text.len())));
        }
        Ok(text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>())
    };
    let confidence = raw.confidence;
    if !(0.0..=1.0).contains(&confidence) {
        return Err(nonsense(format!("confidence {confidence} is not from 0 to 1")));
    }
    if raw.evidence.len() > MAX_ITEMS {
        return Err(nonsense(format!("{} pieces of evidence are more than {MAX_ITEMS}", raw.evidence.len())));
    }
    Ok(Decision {
        rule_id: text("a rule id", raw.rule_id)?,
        action: action(raw.action, &text)?,
        reason: text("a reason", raw.reason)?,
        evidence: raw.evidence.into_iter().map(|id| text("an evidence id", id)).collect::<Result<_>>()?,
        confidence,
        max_attempts: raw.max_attempts,
        cool_down_ms: raw.cool_down_ms,
    })
}

fn action(raw: contract::Action, text: &dyn Fn(&str, String) -> Result<String>) -> Result<Action> {
    Ok(match raw {
        contract::Action::Wait(milliseconds) => Action::Wait { milliseconds },
        contract::Action::RestartKubelet => Action::RestartKubelet,
        contract::Action::RestartRuntime => Action::RestartRuntime,
        contract::Action::TerminateHolder(target) => {
            let pid = i32::try_from(target.pid).ok().and_then(Pid::new);
            let pid = pid.ok_or_else(|| nonsense(format!("{} is no pid", target.pid)))?;
            let port = Port::new(target.port).ok_or_else(|| nonsense("port 0"))?;
            Action::TerminateHolder { port, process: ProcessId { pid, start_ticks: target.start_ticks } }
        }
        contract::Action::RemoveSandbox(id) => {
            Action::RemoveSandbox { sandbox: SandboxId::new(text("a sandbox id", id)?) }
        }
        contract::Action::RestoreManifest(target) => Action::RestoreManifest {
            component: component(target.component),
            backup_id: text("a backup id", target.backup_id)?,
        },
        contract::Action::RegenerateComponent(name) => {
            Action::RegenerateComponent { component: component(name) }
        }
        contract::Action::BounceStaticPod(name) => Action::BounceStaticPod { component: component(name) },
        contract::Action::QuarantinePodDir(uid) => {
            Action::QuarantinePodDir { uid: PodUid::new(text("a pod uid", uid)?) }
        }
        contract::Action::RenewCertificate(path) => Action::RenewCertificate { path: text("a path", path)? },
        contract::Action::QuarantineManifest(file) => {
            if file.contains('/') || file.starts_with('.') || file.is_empty() {
                return Err(nonsense(format!("{file:?} is no file name of a manifest")));
            }
            Action::QuarantineManifest { file: text("a file name", file)? }
        }
        contract::Action::Escalate(escalate) => {
            if escalate.hints.len() > MAX_ITEMS {
                return Err(nonsense(format!("{} hints are more than {MAX_ITEMS}", escalate.hints.len())));
            }
            Action::Escalate {
                summary: text("a summary", escalate.summary)?,
                hints: escalate.hints.into_iter().map(|hint| text("a hint", hint)).collect::<Result<_>>()?,
            }
        }
    })
}

fn component(name: contract::Component) -> Component {
    match name {
        contract::Component::Etcd => Component::Etcd,
        contract::Component::KubeApiserver => Component::KubeApiserver,
        contract::Component::KubeControllerManager => Component::KubeControllerManager,
        contract::Component::KubeScheduler => Component::KubeScheduler,
    }
}

/// Turns this crate's component into the contract's.
pub(crate) fn contract_component(component: Component) -> contract::Component {
    match component {
        Component::Etcd => contract::Component::Etcd,
        Component::KubeApiserver => contract::Component::KubeApiserver,
        Component::KubeControllerManager => contract::Component::KubeControllerManager,
        Component::KubeScheduler => contract::Component::KubeScheduler,
    }
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
