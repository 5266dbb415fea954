//! What kubeadm's configuration can be put together from, for the observation and for the act.

use crate::backup::{Entry, Group, Store};
use crate::error::{ErrorKind, Result};
use crate::kubeadm::{
    self, Config, ManifestOrigin, ManifestSource, Reconstruction, RuntimeContainer, Sources,
};
use crate::model::{Component, Observed};
use crate::node::NodeOptions;
use crate::parse::yaml::MAX_DOCUMENT_BYTES;
use crate::recover::host::Host;
use crate::recover::observation::{BackupFact, RegenerationFact};
use crate::recover::observe::backups::manifest;
use crate::recover::ran;
use crate::sys::{Deadline, find_program, read_bounded};

/// The config that `cprecover regenerate capture` saves, among kubeadm's files.
const CAPTURED: &str = "kubeadm-config.yaml";
/// Files in which people keep the config that they gave kubeadm, below kubeadm's folder.
const GIVEN: [&str; 2] = ["kubeadm.yaml", "kubeadm-init.yaml"];

/// As [`sources`], with what the node's runtime tells.
pub(crate) fn sources_of(
    host: &Host<'_>,
    store: &Store,
    backups: &[BackupFact],
    deadline: &Deadline,
) -> Result<Sources> {
    sources(host.node, Some(store), backups, |components| ran::ask(host, components, deadline))
}

/// Gathers what lies on disk and in this node's own verified backups, and what `ran` of components of which
/// neither has a manifest.
///
/// What cannot be read of a backup tells nothing and hinders nothing: it may be of another component.
fn sources(
    node: &NodeOptions,
    store: Option<&Store>,
    backups: &[BackupFact],
    ran: impl FnOnce(&[Component]) -> Vec<RuntimeContainer>,
) -> Result<Sources> {
    let mut sources = Sources::gather(node)?;
    for backup in backups.iter().filter(|backup| backup.is_good()) {
        let Some(store) = store else { break };
        match manifest(store, backup) {
            Ok(bytes) => {
                let component = backup.component;
                let name = format!("snapshot {} {}", backup.snapshot, component.manifest_file());
                let origin = ManifestOrigin::LastKnownGood;
                sources.manifests.push(ManifestSource::new(component, origin, name, bytes));
            }
            Err(error) => tracing::warn!(snapshot = backup.snapshot, %error, "a backup cannot be read"),
        }
    }
    sources.config = saved_config(node, store)?;
    sources.containers = ran(&sources.silent());
    Ok(sources)
}

/// The kubeadm config that was saved: of the files on the node, else the newest in a snapshot of this node.
///
/// Among kubeadm's files are patches and configs of joining nodes as well; what is no config is passed over.
fn saved_config(node: &NodeOptions, store: Option<&Store>) -> Result<Option<(String, Vec<u8>)>> {
    let is_config = |bytes: &[u8]| Config::parse(bytes).is_ok();
    for file in [CAPTURED].iter().chain(&GIVEN) {
        let on_node = node.kubernetes_dir.join(file);
        match read_bounded(&node.resolve(&on_node), MAX_DOCUMENT_BYTES) {
            Ok(bytes) if is_config(&bytes) => return Ok(Some((on_node.display().to_string(), bytes))),
            Ok(_) => tracing::warn!(path = %on_node.display(), "no kubeadm config that can be read"),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let Some(store) = store else { return Ok(None) };
    for snapshot in store.list()?.into_iter().rev().filter_map(|listed| listed.snapshot) {
        if store.is_of_this_node(&snapshot) != Some(true) {
            continue;
        }
        let mut entries: Vec<_> =
            snapshot.entries.iter().filter(|entry| entry.group == Group::Kubeadm && is_yaml(entry)).collect();
        // The captured one says all; the others say what somebody wrote once.
        entries.sort_by_key(|entry| entry.path.as_path() != node.kubernetes_dir.join(CAPTURED));
        for entry in entries {
            match store.read(&snapshot.id, entry.path.as_path()) {
                Ok(bytes) if is_config(&bytes) => {
                    let name = format!("snapshot {} {}", snapshot.id, entry.path.as_path().display());
                    return Ok(Some((name, bytes)));
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(snapshot = %snapshot.id, %error, "a backup cannot be read"),
            }
        }
    }
    Ok(None)
}

fn is_yaml(entry: &Entry) -> bool {
    let end = entry.path.as_path().extension();
    entry.sha256.is_some() && end.is_some_and(|end| end == "yaml" || end == "yml" || end == "conf")
}

/// Says for each lost manifest without a good backup whether kubeadm could make it.
pub(crate) fn facts(
    node: &NodeOptions,
    lost: &[Component],
    store: Option<&Store>,
    backups: &[BackupFact],
    ran: impl FnOnce(&[Component]) -> Vec<RuntimeContainer>,
) -> Vec<RegenerationFact> {
    if lost.is_empty() {
        return Vec::new();
    }
    let program = match &node.kubeadm {
        Some(path) => Ok(node.resolve(path)),
        None => find_program(&node.root, "kubeadm"),
    };
    let result = program
        .and_then(|_| sources(node, store, backups, ran))
        .and_then(|sources| kubeadm::reconstruct(&sources));
    lost.iter()
        .map(|component| match &result {
            Ok(reconstruction) => fact(*component, reconstruction),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let missing = vec![error.to_string()];
                RegenerationFact {
                    component: *component,
                    possible: Observed::Present(false),
                    missing,
                    dangerous: Vec::new(),
                }
            }
            Err(error) => {
                let possible = Observed::Unknown(error.to_string());
                RegenerationFact {
                    component: *component,
                    possible,
                    missing: Vec::new(),
                    dangerous: Vec::new(),
                }
            }
        })
        .collect()
}

fn fact(component: Component, reconstruction: &Reconstruction) -> RegenerationFact {
    let missing = reconstruction.obstacles(component);
    let dangerous = reconstruction.doubts(component);
    RegenerationFact { component, possible: Observed::Present(missing.is_empty()), missing, dangerous }
}
