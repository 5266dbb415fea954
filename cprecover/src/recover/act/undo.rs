//! Takes effects back, each only while that makes nothing worse.

use super::{bounce, manifest, service};
use crate::backup::{RestoreOptions, Selection, Snapshot, Store};
use crate::cri;
use crate::error::{Error, ErrorKind, Result};
use crate::facts::UnitRole;
use crate::model::{Component, Digest, Observed, PodUid};
use crate::node::NodeOptions;
use crate::parse::manifest::{MAX_MANIFEST_BYTES, StaticPod};
use crate::pods;
use crate::policy::Action;
use crate::ports;
use crate::recover::host::Host;
use crate::recover::observation::Observation;
use crate::recover::undo::{TakenBack, Undo};
use crate::sys::{Deadline, read_bounded};
use crate::units::{self, Service, ServiceState};

/// How an action, about to be done, would be taken back; `None` where it cannot or need not be.
/// `standing` is the digest of a component's manifest as it stands there.
pub(in crate::recover) fn undo_of(
    action: &Action,
    seen: &Observation,
    standing: impl FnOnce(Component) -> Option<Digest>,
) -> Option<Undo> {
    match action {
        Action::BounceStaticPod { component } => Some(Undo::ReleaseManifest { component: *component }),
        Action::RestoreManifest { component, .. } | Action::RegenerateComponent { component } => {
            // Of a missing manifest nothing stood there that could be put back.
            standing(*component).map(|before| Undo::PutManifestBack { component: *component, before })
        }
        Action::QuarantineManifest { file } => {
            let component =
                Component::ALL.into_iter().find(|component| file.starts_with(component.manifest_file()))?;
            Some(Undo::ReleaseDuplicate { component, file: file.clone() })
        }
        Action::QuarantinePodDir { uid } => {
            Some(Undo::PutPodFolderBack { uid: uid.clone(), start_kubelet: ran(seen, UnitRole::Kubelet) })
        }
        Action::RestartKubelet => ran(seen, UnitRole::Kubelet).then_some(Undo::StartKubelet),
        Action::RestartRuntime => ran(seen, UnitRole::Runtime).then_some(Undo::StartRuntime),
        Action::TerminateHolder { .. }
        | Action::RemoveSandbox { .. }
        | Action::RenewCertificate { .. }
        | Action::Wait { .. }
        | Action::Escalate { .. } => None,
    }
}

/// The digest of a component's manifest as it stands there.
pub(in crate::recover) fn digest_of(node: &NodeOptions, component: Component) -> Option<Digest> {
    standing(node, component).ok()?.present().map(|(digest, _)| *digest)
}

/// Whether a service ran, or may have: only one that was seen not to run is not started again.
fn ran(seen: &Observation, role: UnitRole) -> bool {
    let unit = seen.facts.host.units.iter().find(|unit| unit.role == role);
    match unit.map(|unit| &unit.state) {
        Some(Observed::Present(state)) => state.is_up(),
        Some(Observed::Unknown(_)) => true,
        Some(Observed::Absent) | None => false,
    }
}

/// Takes one effect back; its precondition is asked here, right before.
///
/// # Errors
/// Then it is not taken back, or not wholly.
pub(in crate::recover) fn undo(
    host: &Host<'_>,
    undo: &Undo,
    since_unix_ms: u64,
    deadline: &Deadline,
) -> Result<TakenBack> {
    match undo {
        Undo::ReleaseManifest { component } => Ok(match bounce::resume(host, *component, deadline)? {
            Some(released) => TakenBack::Done(released),
            None => TakenBack::Kept("the manifest is not held for a bounce".into()),
        }),
        Undo::PutManifestBack { component, before } => put_back(host, *component, *before, deadline),
        Undo::ReleaseDuplicate { component, file } => release_duplicate(host, *component, file, deadline),
        Undo::PutPodFolderBack { uid, start_kubelet } => {
            let folder = put_folder_back(host, uid, since_unix_ms, deadline);
            if !start_kubelet {
                return folder;
            }
            // kubelet may be stopped whatever became of the folder.
            match (folder, start_kubelet_again(host, deadline)?) {
                (Ok(TakenBack::Done(folder)), TakenBack::Done(kubelet) | TakenBack::Kept(kubelet)) => {
                    Ok(TakenBack::Done(format!("{folder}; {kubelet}")))
                }
                (Ok(TakenBack::Kept(folder)), TakenBack::Done(kubelet)) => {
                    Ok(TakenBack::Done(format!("{kubelet}; {folder}")))
                }
                (folder, _) => folder,
            }
        }
        Undo::StartKubelet => start_kubelet_again(host, deadline),
        Undo::StartRuntime => start_runtime_again(host, deadline),
    }
}

/// The file in the manifests folder, and whether it is a pod: missing is not unreadable.
fn standing(node: &NodeOptions, component: Component) -> Result<Observed<(Digest, bool)>> {
    let path = node.manifests().join(component.manifest_file());
    match read_bounded(&path, MAX_MANIFEST_BYTES) {
        Ok(bytes) => Ok(Observed::Present((Digest::of(&bytes), StaticPod::parse_as_kubelet(&bytes).is_ok()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Observed::Absent),
        Err(error) => Err(error),
    }
}

fn put_back(host: &Host<'_>, component: Component, before: Digest, deadline: &Deadline) -> Result<TakenBack> {
    let file = component.manifest_file();
    match standing(host.node, component)? {
        Observed::Present((_, true)) => return Ok(TakenBack::Kept(format!("{file} is valid and stays"))),
        Observed::Present((digest, _)) if digest == before => {
            return Ok(TakenBack::Kept(format!("{file} is as it was")));
        }
        _ => {}
    }
    let store = Store::open(host.node)?;
    let path = host.node.manifests_dir.join(file);
    let holds = |snapshot: &Snapshot| {
        snapshot.entries.iter().any(|entry| entry.path.as_path() == path && entry.sha256 == Some(before))
    };
    let ids = store.list()?;
    let mut snapshots = ids.iter().rev().filter_map(|listed| store.load(&listed.id).ok());
    let Some(snapshot) = snapshots.find(holds) else {
        return Err(Error::new(ErrorKind::NotFound, format!("no snapshot holds {file} of sha256 {before}")));
    };
    let selection = Selection::Files(vec![path]);
    store.restore(&snapshot.id, &selection, &RestoreOptions::default(), deadline)?;
    match standing(host.node, component)? {
        Observed::Present((digest, _)) if digest == before => {
            Ok(TakenBack::Done(format!("{file} is as it was, from snapshot {}", snapshot.id)))
        }
        _ => {
            Err(Error::new(ErrorKind::Changed, format!("{file} is not what snapshot {} holds", snapshot.id)))
        }
    }
}

fn release_duplicate(
    host: &Host<'_>,
    component: Component,
    file: &str,
    deadline: &Deadline,
) -> Result<TakenBack> {
    // Beside its pod's own manifest it is what was wrong.
    if matches!(standing(host.node, component)?, Observed::Present((_, true))) {
        return Ok(TakenBack::Kept(format!("{} stands, so {file} stays held", component.manifest_file())));
    }
    let store = Store::open(host.node)?;
    let held = store.held()?.into_iter().find(|held| held.file == file && held.reason == manifest::DUPLICATE);
    let Some(held) = held else {
        return Ok(TakenBack::Kept(format!("{file} is not held as a duplicate")));
    };
    if component == Component::Etcd {
        let bytes = read_bounded(&host.node.manifests().join(&held.held_as), MAX_MANIFEST_BYTES)?;
        manifest::require_database(host.node, StaticPod::parse_as_kubelet(&bytes).ok().as_ref())?;
    }
    store.release(file, deadline)?;
    Ok(TakenBack::Done(format!("{file} is released: {} is gone", component.manifest_file())))
}

fn put_folder_back(
    host: &Host<'_>,
    uid: &PodUid,
    since_unix_ms: u64,
    deadline: &Deadline,
) -> Result<TakenBack> {
    let since = i128::from(since_unix_ms).saturating_mul(1_000_000);
    let all = pods::quarantines(host.node)?;
    let made = all.iter().rev().find(|quarantine| {
        i128::from(quarantine.made_at.0) >= since && quarantine.moved.iter().any(|moved| moved.uid == *uid)
    });
    let Some(made) = made else {
        return Ok(TakenBack::Kept(format!("the folder of pod {uid} is in no quarantine of this run")));
    };
    match pods::undo(made, deadline) {
        Ok(()) => Ok(TakenBack::Done(format!("the folder of pod {uid} is where it was"))),
        // kubelet made a new one since: the old one would not help it.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(TakenBack::Kept(error.to_string())),
        Err(error) => Err(error),
    }
}

/// kubelet ends what runs without a manifest as soon as it starts.
fn start_kubelet_again(host: &Host<'_>, deadline: &Deadline) -> Result<TakenBack> {
    let service = units::kubelet(host.node, host.commands)?;
    if service.state(deadline)?.is_up() {
        return Ok(TakenBack::Kept("kubelet runs".into()));
    }
    let state = cri::connect(host.node, host.commands, deadline)?.list(deadline)?;
    for component in Component::ALL {
        let runs = state.component_containers(component).iter().any(|container| container.is_running());
        if runs && !matches!(standing(host.node, component)?, Observed::Present((_, true))) {
            return Ok(TakenBack::Kept(format!(
                "kubelet would end {component}, which runs while {} is gone",
                component.manifest_file()
            )));
        }
    }
    start(host, "kubelet", units::kubelet(host.node, host.commands)?.as_ref(), deadline)
}

/// Without the runtime nothing tells what runs, but etcd's lock does: kubelet would end an etcd without a
/// manifest as soon as the runtime answers again.
fn start_runtime_again(host: &Host<'_>, deadline: &Deadline) -> Result<TakenBack> {
    let has_manifest = matches!(standing(host.node, Component::Etcd)?, Observed::Present((_, true)));
    if !has_manifest {
        let database = host.node.resolve(&host.node.etcd_data_dir).join(ports::DATABASE);
        match ports::lock_is_free(&database) {
            Ok(true) => {}
            Ok(false) => return Ok(TakenBack::Kept("etcd runs while etcd.yaml is gone".into())),
            Err(error) => return Err(error),
        }
    }
    start(host, "the container runtime", units::runtime(host.node, host.commands)?.as_ref(), deadline)
}

fn start(host: &Host<'_>, role: &str, service: &dyn Service, deadline: &Deadline) -> Result<TakenBack> {
    match service.state(deadline)? {
        ServiceState::Active | ServiceState::Activating => Ok(TakenBack::Kept(format!("{role} runs"))),
        ServiceState::Missing => Ok(TakenBack::Kept(format!("there is no service {}", service.name()))),
        _ => {
            service::start(host, role, service, deadline)?;
            Ok(TakenBack::Done(format!("{role} is started again")))
        }
    }
}
