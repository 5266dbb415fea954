//! What kubeadm's configuration can be put together from, for the observation and for the act.

use crate::backup::{Group, Store};
use crate::error::{ErrorKind, Result};
use crate::kubeadm::{self, ManifestOrigin, ManifestSource, Reconstruction, Sources};
use crate::model::{Component, Observed};
use crate::node::NodeOptions;
use crate::recover::observation::{BackupFact, RegenerationFact};
use crate::sys::find_program;

/// Gathers what lies on disk and in verified backups.
pub(crate) fn sources(node: &NodeOptions, store: Option<&Store>, backups: &[BackupFact]) -> Result<Sources> {
    let mut sources = Sources::gather(node)?;
    let Some(store) = store else { return Ok(sources) };
    for backup in backups.iter().filter(|backup| backup.verified.present() == Some(&true)) {
        let path = node.manifests_dir.join(backup.component.manifest_file());
        let bytes = store.read(&backup.snapshot.parse()?, &path)?;
        let name = format!("snapshot {}", backup.snapshot);
        sources.manifests.push(ManifestSource::new(
            backup.component,
            ManifestOrigin::LastKnownGood,
            name,
            bytes,
        ));
    }
    if sources.config.is_none() {
        sources.config = backed_up_config(store)?;
    }
    Ok(sources)
}

/// The newest kubeadm config that a snapshot holds.
fn backed_up_config(store: &Store) -> Result<Option<(String, Vec<u8>)>> {
    for listed in store.list()?.into_iter().rev() {
        let Some(snapshot) = listed.snapshot else { continue };
        let entry = snapshot.entries.iter().find(|entry| {
            let path = entry.path.as_path();
            entry.group == Group::Kubeadm
                && path.extension().is_some_and(|end| end == "yaml" || end == "conf")
        });
        if let Some(entry) = entry {
            let bytes = store.read(&snapshot.id, entry.path.as_path())?;
            return Ok(Some((format!("snapshot {}", snapshot.id), bytes)));
        }
    }
    Ok(None)
}

/// Says for each lost manifest without a good backup whether kubeadm could make it.
pub(crate) fn facts(
    node: &NodeOptions,
    lost: &[Component],
    store: Option<&Store>,
    backups: &[BackupFact],
) -> Vec<RegenerationFact> {
    if lost.is_empty() {
        return Vec::new();
    }
    let program = match &node.kubeadm {
        Some(path) => Ok(node.resolve(path)),
        None => find_program(&node.root, "kubeadm"),
    };
    let result = program
        .and_then(|_| sources(node, store, backups))
        .and_then(|sources| kubeadm::reconstruct(&sources));
    lost.iter()
        .map(|component| match &result {
            Ok(reconstruction) => fact(*component, reconstruction),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let missing = vec![error.to_string()];
                RegenerationFact { component: *component, possible: Observed::Present(false), missing }
            }
            Err(error) => {
                let possible = Observed::Unknown(error.to_string());
                RegenerationFact { component: *component, possible, missing: Vec::new() }
            }
        })
        .collect()
}

fn fact(component: Component, reconstruction: &Reconstruction) -> RegenerationFact {
    let missing = reconstruction.missing(&[component]).into_iter();
    let missing: Vec<String> =
        missing.map(|unknown| format!("{}: {}", unknown.path, unknown.reason)).collect();
    RegenerationFact { component, possible: Observed::Present(missing.is_empty()), missing }
}
