//! Describing a node's file as an entry of an index.

use std::path::Path;

use super::fs::place::Place;
use super::fs::{Attributes, FileSystem, Stat, Xattrs};
use super::group::Group;
use super::snapshot::{ComponentView, Entry, EntryKind, NodePath};
use crate::error::{ErrorKind, Result};
use crate::model::Component;
use crate::parse::manifest::StaticPod;

pub(super) fn attributes_of<F: FileSystem>(
    place: &Place<'_, F>,
    handle: &F::Handle,
    name: impl AsRef<Path>,
    stat: &Stat,
) -> Result<Attributes> {
    let xattrs = place.told("read extended attributes of", name, place.fs.xattrs(handle))?;
    Ok(Attributes { xattrs, ..plain_attributes(stat) })
}

pub(super) fn plain_attributes(stat: &Stat) -> Attributes {
    Attributes {
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        modified: stat.modified,
        xattrs: Xattrs::new(),
    }
}

/// Returns what the copy in the store gets: nobody but the owner reads a secret there.
pub(super) fn stored_attributes(group: Group, mut attributes: Attributes, owner: u32) -> Attributes {
    if group.is_secret() {
        attributes.mode = owner;
        // An access ACL would give back what the mode takes away.
        attributes.xattrs.retain(|name, _| !name.as_bytes().starts_with(b"system.posix_acl_"));
    }
    attributes
}

pub(super) fn entry(
    group: Group,
    path: &Path,
    stored: &Path,
    kind: EntryKind,
    attributes: &Attributes,
) -> Entry {
    Entry {
        group,
        path: NodePath::new(path),
        stored: NodePath::new(stored),
        kind,
        mode: attributes.mode,
        uid: attributes.uid,
        gid: attributes.gid,
        mtime_s: attributes.modified.0,
        mtime_ns: attributes.modified.1,
        xattrs: attributes.xattrs.clone(),
        size: 0,
        sha256: None,
        target: None,
        link: None,
        view: None,
    }
}

/// Returns how kubelet sees a manifest; `None` for a file that it could not run.
pub(super) fn view_of(bytes: &[u8]) -> Option<ComponentView> {
    let pod = StaticPod::parse_as_kubelet(bytes).ok()?;
    let main = pod.main()?;
    Some(ComponentView {
        pod: name_of(&pod),
        component: pod.component(),
        image: main.image.clone(),
        flags: main.flags().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    })
}

/// Returns the pod that kubelet would run from a file; `None` when it could not read one there.
pub(super) fn pod_of(bytes: &[u8]) -> Result<Option<String>> {
    match StaticPod::parse_as_kubelet(bytes) {
        Ok(pod) => Ok(Some(name_of(&pod))),
        Err(error) if error.kind() == ErrorKind::Invalid => Ok(None),
        // What is too large for us is not yet too large for kubelet.
        Err(error) => Err(error),
    }
}

fn name_of(pod: &StaticPod) -> String {
    format!("{}/{}", pod.namespace, pod.name)
}

/// Returns the manifest that kubelet runs as `component`.
///
/// kubernetes `pkg/kubelet/config/file.go` reads the files of the folder itself whose names do not start with
/// a dot, in the order of their names, and of one pod the last. kubeadm's own name goes before that order.
pub(super) fn manifest_of(entries: &[Entry], component: Component) -> Option<&Entry> {
    let manifests = || entries.iter().filter(|entry| entry.group == Group::Manifests);
    // Folders come before what they hold.
    let folder = manifests().find(|entry| entry.kind == EntryKind::Folder)?.path.as_path();
    let runs = |entry: &&Entry| {
        let path = entry.path.as_path();
        entry.kind == EntryKind::File
            && path.parent() == Some(folder)
            && !is_dot(path)
            && entry.view.as_ref().is_some_and(|view| view.component == Some(component))
    };
    let own = |entry: &Entry| entry.path.as_path().ends_with(component.manifest_file());
    manifests().filter(runs).max_by_key(|entry| (own(entry), &entry.path))
}

/// Reports whether kubelet passes a file over for its name.
pub(super) fn is_dot(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Describes a file of the node without a copy of it.
pub(super) fn entry_of<F: FileSystem>(
    place: &Place<'_, F>,
    group: Group,
    path: &Path,
    kind: EntryKind,
    stat: &Stat,
    handle: Option<&F::Handle>,
) -> Result<Entry> {
    let attributes = match handle {
        Some(handle) => attributes_of(place, handle, path.file_name().unwrap_or_default(), stat)?,
        None => plain_attributes(stat),
    };
    Ok(entry(group, path, Path::new(""), kind, &attributes))
}
