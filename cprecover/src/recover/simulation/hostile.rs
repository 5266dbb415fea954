//! A policy that decides anything about anything that it sees: the guard rails have to hold against it.

use super::random::Random;
use crate::model::{Component, Pid, Port, ProcessId, SandboxId};
use crate::policy::contract::Observation;
use crate::policy::{Action, Decision, Identity, Outcome};

fn identity(name: &str) -> Identity {
    Identity {
        name: name.into(),
        version: "0.0.0".into(),
        digest: None,
        signed_by: None,
        agreed_with: Vec::new(),
    }
}

fn action(random: &mut Random, seen: &Observation) -> Option<Action> {
    let component = random.pick(&Component::ALL);
    Some(match random.below(10) {
        0 | 1 => {
            let holder = seen.holders.get(random.index(seen.holders.len()))?;
            let pid = Pid::new(i32::try_from(holder.pid).ok()?)?;
            let process = ProcessId { pid, start_ticks: holder.start_ticks };
            Action::TerminateHolder { port: Port::new(holder.port)?, process }
        }
        2 | 3 => {
            let sandbox = seen.sandboxes.get(random.index(seen.sandboxes.len()))?;
            Action::RemoveSandbox { sandbox: SandboxId::new(&sandbox.id) }
        }
        4 => {
            let backup = seen.backups.get(random.index(seen.backups.len()))?;
            Action::RestoreManifest { component, backup_id: backup.id.clone() }
        }
        5 => Action::RegenerateComponent { component },
        6 => Action::BounceStaticPod { component },
        7 => {
            let file = &seen.manifests.get(random.index(seen.manifests.len()))?.file;
            Action::QuarantineManifest { file: file.clone() }
        }
        8 => Action::RestartKubelet,
        _ => Action::Wait { milliseconds: random.below(20_000) },
    })
}

/// Decides at random.
pub(super) fn decide(random: &mut Random, seen: &Observation) -> Outcome {
    let wanted = 1 + random.index(4);
    let mut decisions: Vec<Decision> = (0..wanted)
        .filter_map(|_| action(random, seen))
        .map(|action| Decision { max_attempts: 100, ..Decision::new("hostile", action, "because") })
        .collect();
    // Else the run ends at once where the guard refuses everything.
    decisions.push(Decision::new("hostile", Action::Wait { milliseconds: 1000 }, "go on"));
    let (failure, log) = (None, Vec::new());
    Outcome { policy: identity("hostile"), decisions, failure, log, log_dropped: 0, fuel_used: 0 }
}
