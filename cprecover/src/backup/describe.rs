//! Describing a node's file as an entry of an index.

use std::path::Path;

use super::fs::place::Place;
use super::fs::{Attributes, FileSystem, Stat, Xattrs};
use super::group::Group;
use super::snapshot::{ComponentView, Entry, EntryKind, NodePath};
use crate::error::Result;
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
    let pod = StaticPod::parse(bytes).ok()?;
    let main = pod.main()?;
    Some(ComponentView {
        pod: format!("{}/{}", pod.namespace, pod.name),
        component: pod.component(),
        image: main.image.clone(),
        flags: main.flags().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    })
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
