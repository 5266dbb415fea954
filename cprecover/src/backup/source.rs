//! Finding what a group takes its files from; no link on the way is followed.

use std::path::Path;

use super::fs::place::{Place, split};
use super::fs::{FileSystem, Kind};
use super::group::Source;
use super::snapshot::Skipped;
use super::vault::{MAX_DEPTH, MAX_STORED_DEPTH};
use crate::backup::{Group, NodePath};
use crate::error::{Error, ErrorKind, Result};

/// Where a source is.
pub(super) struct Found<'f, F: FileSystem> {
    /// The folder that it is in.
    pub(super) parent: Place<'f, F>,
    pub(super) kind: Kind,
}

/// Finds a source; `None` when there is nothing.
///
/// A link in the place of a group's own folder would be kept as a link and no file with it: it is refused.
pub(super) fn find<'f, F: FileSystem>(root: &Place<'f, F>, source: &Source) -> Result<Option<Found<'f, F>>> {
    let (parent, name) = split(&source.path)?;
    let path = source.path.display();
    if source.stored.components().count() + MAX_DEPTH >= MAX_STORED_DEPTH {
        return Err(Error::new(ErrorKind::Limit, format!("{path} is nested too deep")));
    }
    let Some(parent) = root.folder_if_any(parent)? else { return Ok(None) };
    let Some(stat) = parent.stat(name)? else { return Ok(None) };
    let is_whole_group = source.stored == Path::new(source.group.as_str());
    if is_whole_group && stat.kind != Kind::Folder {
        let (group, what) =
            (source.group, if stat.kind == Kind::Symlink { "a symbolic link" } else { "no folder" });
        let why = format!("{path} is {what}, and a snapshot would hold no file of group {group}");
        return Err(Error::new(ErrorKind::Refused, why));
    }
    Ok(Some(Found { parent, kind: stat.kind }))
}

/// Says what a snapshot does without; none when the group must not be missing, or for another reason than a link.
pub(super) fn left_out(source: &Source, alone: bool, error: &Error) -> Option<Skipped> {
    let may = source.group != Group::Manifests && !alone && error.kind() == ErrorKind::Refused;
    may.then(|| Skipped { path: NodePath::new(&source.path), reason: error.to_string() })
}

/// Says that what a link leads to is not taken along with it; a link that is to be replaced needs no such word.
pub(super) fn bare_link(source: &Source, kind: Kind) -> Option<Skipped> {
    let reason = "a symbolic link; what it leads to is not in the snapshot".to_owned();
    let bare = kind == Kind::Symlink && source.group != Group::Other;
    bare.then(|| Skipped { path: NodePath::new(&source.path), reason })
}
