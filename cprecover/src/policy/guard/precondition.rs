//! What the target of an action must be like, as proven by the observation.

use super::super::action::{Action, Decision};
use super::super::contract::{
    Backup, CertificateState, Component as Name, Consent, EtcdData, HolderClass, ManifestState, Observation,
    SandboxRole, ServiceName, ServiceState, Verdict,
};
use super::super::convert::contract_component;
use super::{Passed, Rail, Ruling, refused};
use crate::model::{Component, Port, ProcessId, SandboxId};

/// How an observation names the runtime among what it could not read.
const RUNTIME: &str = "container runtime";

pub(super) fn precondition(seen: &Observation, decision: &Decision) -> Passed {
    match &decision.action {
        Action::TerminateHolder { port, process } => terminate(seen, *port, *process),
        Action::RemoveSandbox { sandbox } => remove(seen, sandbox),
        Action::RestoreManifest { component, backup_id } => restore(seen, *component, backup_id),
        Action::RegenerateComponent { component } => regenerate(seen, *component),
        Action::BounceStaticPod { component } => bounce(seen, *component),
        Action::QuarantineManifest { file } => quarantine(seen, file),
        Action::QuarantinePodDir { uid } => pod_dir(seen, uid.as_str()),
        Action::RenewCertificate { path } => certificate(seen, path),
        Action::RestartKubelet => service(seen, ServiceName::Kubelet),
        Action::RestartRuntime => service(seen, ServiceName::Runtime),
        Action::Wait { .. } | Action::Escalate { .. } => Ok(()),
    }
}

fn terminate(seen: &Observation, port: Port, process: ProcessId) -> Passed {
    let holder = seen.holders.iter().find(|holder| {
        holder.port == port.get()
            && i64::from(holder.pid) == i64::from(process.pid.get())
            && holder.start_ticks == process.start_ticks
    });
    let Some(holder) = holder else {
        return Err(refused(Rail::Precondition, format!("{process} was not seen on port {port}")));
    };
    if holder.class != HolderClass::Orphan {
        return Err(refused(Rail::UnprovenTarget, format!("{process} is not proven to be an orphan")));
    }
    replaceable(seen, holder.wanted_by)
}

fn remove(seen: &Observation, sandbox: &SandboxId) -> Passed {
    let found = seen.sandboxes.iter().find(|known| known.id == sandbox.as_str());
    let Some(found) = found else {
        let why = format!("the runtime does not list sandbox {sandbox}");
        return Err(refused(Rail::Precondition, why));
    };
    if found.role != SandboxRole::Stale {
        let why = format!("sandbox {sandbox} is not proven to be stale");
        return Err(refused(Rail::UnprovenTarget, why));
    }
    replaceable(seen, found.component)
}

fn bounce(seen: &Observation, component: Component) -> Passed {
    if state(seen, component) != Some(ManifestState::Present) {
        return Err(refused(Rail::Precondition, format!("{} is not in place", component.manifest_file())));
    }
    match good_backup(seen, contract_component(component)) {
        Some(_) => Ok(()),
        None => Err(no_backup(component)),
    }
}

fn pod_dir(seen: &Observation, uid: &str) -> Passed {
    let left_over = seen.pod_dirs.iter().any(|dir| {
        dir.uid == uid
            && dir.known_to_runtime == Verdict::No
            && dir.known_to_manifests == Verdict::No
            && dir.mounts.is_empty()
    });
    if left_over {
        return Ok(());
    }
    Err(refused(
        Rail::UnprovenTarget,
        format!("pod folder {uid} is not proven to be left over and unmounted"),
    ))
}

fn certificate(seen: &Observation, path: &str) -> Passed {
    let ends = |state| matches!(state, CertificateState::Expired | CertificateState::Expiring);
    if seen.certificates.iter().any(|known| known.path == *path && ends(known.state)) {
        return Ok(());
    }
    Err(refused(Rail::Precondition, format!("certificate {path} is not proven to have ended or to end soon")))
}

fn service(seen: &Observation, name: ServiceName) -> Passed {
    let Some(service) = seen.services.iter().find(|service| service.name == name) else {
        return Err(refused(Rail::Precondition, "the service was not seen"));
    };
    let is_silent = seen.unobserved.iter().any(|part| part.what == RUNTIME);
    if name == ServiceName::Runtime && service.state == ServiceState::Active && !is_silent {
        return Err(refused(Rail::Precondition, "the container runtime answers"));
    }
    Ok(())
}

/// Ending something of a component needs a manifest, or a verified backup of one, to come back from.
fn replaceable(seen: &Observation, component: Option<Name>) -> Passed {
    let Some(component) = component else {
        return Err(refused(Rail::UnprovenTarget, "it is not known whose it is"));
    };
    let present = seen
        .manifests
        .iter()
        .any(|manifest| manifest.component == Some(component) && manifest.state == ManifestState::Present);
    if present || good_backup(seen, component).is_some() {
        return Ok(());
    }
    Err(refused(
        Rail::NoVerifiedBackup,
        "neither its manifest nor a verified backup of it is there to come back from",
    ))
}

fn restore(seen: &Observation, component: Component, backup_id: &str) -> Passed {
    if !matches!(state(seen, component), Some(ManifestState::Missing | ManifestState::Invalid)) {
        let why = format!("{} is not proven missing or invalid", component.manifest_file());
        return Err(refused(Rail::Precondition, why));
    }
    if component == Component::Etcd
        && matches!(
            seen.etcd.data,
            EtcdData::Empty | EtcdData::Missing | EtcdData::Foreign | EtcdData::Damaged
        )
    {
        return Err(refused(
            Rail::Quorum,
            "etcd's data are proven lost, damaged or another's; etcd would begin an empty cluster or diverge",
        ));
    }
    let good = seen.backups.iter().any(|backup| {
        backup.id == backup_id && backup.component == contract_component(component) && is_good(backup)
    });
    if good { Ok(()) } else { Err(no_backup(component)) }
}

fn regenerate(seen: &Observation, component: Component) -> Passed {
    if !matches!(state(seen, component), Some(ManifestState::Missing | ManifestState::Invalid)) {
        let why = format!("{} is not proven missing or invalid", component.manifest_file());
        return Err(refused(Rail::Precondition, why));
    }
    let fact = seen.regenerations.iter().find(|fact| fact.component == contract_component(component));
    let Some(fact) = fact.filter(|fact| fact.possible == Verdict::Yes) else {
        return Err(refused(
            Rail::Precondition,
            format!("it is not proven that kubeadm can make {component}"),
        ));
    };
    if !fact.dangerous.is_empty() && !seen.consents.contains(&Consent::AcceptRegeneratedChanges) {
        return Err(refused(
            Rail::Consent,
            format!("it would change behaviour: {}", fact.dangerous.join(", ")),
        ));
    }
    // An etcd with lost data would begin a new cluster.
    let data_is_there = matches!(seen.etcd.data, EtcdData::Intact | EtcdData::Locked);
    if component == Component::Etcd && !data_is_there {
        return Err(refused(
            Rail::Quorum,
            "etcd's data folder is not proven intact; a new etcd could begin an empty cluster",
        ));
    }
    Ok(())
}

fn quarantine(seen: &Observation, file: &str) -> Passed {
    let duplicate = seen.manifests.iter().find(|manifest| manifest.file == file);
    let duplicate = duplicate.filter(|manifest| manifest.state == ManifestState::Duplicate);
    let Some(component) = duplicate.and_then(|manifest| manifest.component) else {
        return Err(refused(Rail::UnprovenTarget, format!("{file} is not proven to be a duplicate")));
    };
    let own = seen.manifests.iter().any(|manifest| {
        manifest.component == Some(component)
            && manifest.file != file
            && manifest.state == ManifestState::Present
    });
    if own {
        return Ok(());
    }
    Err(refused(Rail::Precondition, format!("{file} is the only manifest of its pod")))
}

fn state(seen: &Observation, component: Component) -> Option<ManifestState> {
    let manifest = seen.manifests.iter().find(|manifest| manifest.file == component.manifest_file())?;
    Some(manifest.state)
}

/// A backup that names no node may be another node's: its addresses and names would be wrong here.
fn is_good(backup: &Backup) -> bool {
    backup.verified == Verdict::Yes && backup.same_node == Verdict::Yes
}

fn good_backup(seen: &Observation, component: Name) -> Option<&Backup> {
    seen.backups.iter().find(|backup| backup.component == component && is_good(backup))
}

fn no_backup(component: Component) -> Ruling {
    let file = component.manifest_file();
    refused(Rail::NoVerifiedBackup, format!("there is no verified backup of {file} from this node"))
}
