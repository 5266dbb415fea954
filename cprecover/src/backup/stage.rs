//! A new file under its dot-name: putting it there, swapping it with the target, taking it away.
//! How a manifest is put over another is in [`super::keep`].

use std::ffi::{OsStr, OsString};

use sha2::Digest as _;

use super::fs::place::{Place, absent_to_none, split};
use super::fs::{Attributes, FileSystem, Kind, Rename};
use super::journal::{Phase, Record, Standing, Step};
use super::keep::is_same_file;
use super::snapshot::NodePath;
use super::transaction::Folders;
use super::vault::{HELD_PREFIX, OURS, Vault};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;

/// Where a new file's content comes from.
pub(super) enum Fresh<'f, F: FileSystem> {
    /// From the caller.
    Bytes(Vec<u8>),
    /// From a snapshot's folder; checked against the digest while it is copied.
    Stored { folder: Place<'f, F>, name: OsString, sha256: Digest },
    /// A symbolic link.
    Symlink { target: NodePath },
}

impl<F: FileSystem> Fresh<'_, F> {
    pub(super) fn standing(&self) -> Standing {
        match self {
            Self::Bytes(bytes) => Standing::File { sha256: Digest::of(bytes) },
            Self::Stored { sha256, .. } => Standing::File { sha256: *sha256 },
            Self::Symlink { target } => Standing::Symlink { target: target.clone() },
        }
    }
}

/// A file to be put in place.
pub(super) struct Put<'f, F: FileSystem> {
    pub(super) fresh: Fresh<'f, F>,
    pub(super) attributes: Attributes,
}

/// Writes a new file under its dot-name; returns its handle, to be synced.
pub(super) fn stage<F: FileSystem>(
    place: &Place<'_, F>,
    staged: &str,
    put: &Put<'_, F>,
    buffer: &mut [u8],
) -> Result<Option<F::Handle>> {
    let file = match &put.fresh {
        Fresh::Symlink { target } => {
            let made = place.fs.make_symlink(&place.handle, staged.as_ref(), target, &put.attributes);
            place.told("make symbolic link", staged, made)?;
            return Ok(None);
        }
        Fresh::Bytes(bytes) => place.create(staged, bytes)?,
        Fresh::Stored { folder, name, sha256 } => {
            let file = place.create(staged, &[])?;
            let (from, _) = folder.open_file(name)?;
            let mut hash = sha2::Sha256::new();
            folder.stream(name, &from, u64::MAX, buffer, |chunk| {
                hash.update(chunk);
                place.told("write", staged, place.fs.write(&file, chunk))
            })?;
            if Digest::from_bytes(hash.finalize().into()) != *sha256 {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    format!("{} does not have its recorded digest", folder.path.join(name).display()),
                ));
            }
            file
        }
    };
    place.told("set attributes of", staged, place.fs.set_attributes(&file, &put.attributes))?;
    place.fs.start_writeback(&file);
    Ok(Some(file))
}

/// Gives the target its new content, and the staged name the old.
pub(super) fn swap<F: FileSystem>(place: &Place<'_, F>, step: &Step, name: &OsStr) -> Result<()> {
    if let (Some(_), Some(wanted)) = (&step.old_attributes, &step.attributes) {
        return place.set_in_place(name, wanted);
    }
    match (&step.old, &step.new) {
        (Standing::Absent, Standing::Absent) => Ok(()),
        (Standing::Absent, _) => place.rename(&step.staged, place, name, Rename::NoReplace),
        (_, Standing::Absent) => place.rename(name, place, &step.staged, Rename::NoReplace),
        _ => place.rename(&step.staged, place, name, Rename::Exchange),
    }
}

/// Takes a swap back; a target that someone else has changed since stays as it is, and the answer is `false`.
pub(super) fn unswap<F: FileSystem>(
    place: &Place<'_, F>,
    step: &Step,
    name: &OsStr,
    buffer: &mut [u8],
) -> Result<bool> {
    if step.old == step.new && step.old == Standing::Absent {
        return Ok(true);
    }
    if !place.has(name, &step.new, buffer)? {
        return Ok(false);
    }
    if let Some(old) = &step.old_attributes {
        return place.set_in_place(name, old).map(|()| true);
    }
    let staged = OsStr::new(&step.staged);
    let moved = match (&step.old, &step.new, &step.kept) {
        (Standing::Absent, ..) => place.rename(name, place, staged, Rename::NoReplace),
        (_, Standing::Absent, _) => place.rename(staged, place, name, Rename::NoReplace),
        (.., Some(kept)) if place.has(staged, &step.new, buffer)? => {
            if !is_same_file(place, staged, name)? {
                return Ok(false);
            }
            place.rename(kept, place, name, Rename::Replace)
        }
        _ => place.rename(staged, place, name, Rename::Exchange),
    };
    match moved {
        // Someone has put a file where one was removed.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        other => other?,
    }
    if step.new == Standing::Absent || place.has(staged, &step.new, buffer)? {
        return Ok(true);
    }
    // What came out was written between the look and the rename: it goes back.
    swap(place, step, name)?;
    Ok(false)
}

/// Gives back a file that a swap took for the old one although someone else had put it there just before;
/// tells whether there was one.
pub(super) fn give_back<F: FileSystem>(
    place: &Place<'_, F>,
    step: &Step,
    name: &OsStr,
    buffer: &mut [u8],
) -> Result<bool> {
    for out in step.names().map(OsStr::new) {
        let kind = place.stat(out)?.map(|stat| stat.kind);
        let is_ours = step.old == Standing::Absent
            || !matches!(kind, Some(Kind::File | Kind::Symlink))
            || place.has(out, &step.old, buffer)?
            || place.has(out, &step.new, buffer)?;
        if !is_ours {
            let how = if step.new == Standing::Absent { Rename::NoReplace } else { Rename::Exchange };
            return place.rename(out, place, name, how).map(|()| true);
        }
    }
    Ok(false)
}

/// Removes staged files; one that is neither the old nor the new file is not ours and stays.
pub(super) fn remove_staged<F: FileSystem>(
    vault: &Vault<'_, F>,
    record: &Record,
    buffer: &mut [u8],
) -> Result<()> {
    let mut folders = Folders::new(vault);
    for step in &record.steps {
        let (parent, name) = split(step.path.as_path())?;
        // A folder that was not even made has nothing staged in it.
        let Some(place) = absent_to_none(folders.get(parent))? else { continue };
        for staged in step.names().map(OsStr::new) {
            let Some(stat) = place.stat(staged)? else { continue };
            // While staging, a file may be there in part; a second name of the target is nobody's loss.
            let ours = record.phase == Phase::Staging || is_same_file(&place, staged, name)? || {
                let standing = place.standing(staged, buffer)?;
                standing == step.old || standing == step.new
            };
            if ours && stat.kind != Kind::Folder {
                place.remove(staged, stat.kind)?;
            }
        }
    }
    Ok(())
}

/// Removes folders that were made for a change that did not come about; one in use stays.
pub(super) fn remove_made<F: FileSystem>(vault: &Vault<'_, F>, record: &Record) {
    for folder in record.folders.iter().rev().filter(|folder| folder.is_new) {
        let removed = split(folder.path.as_path())
            .and_then(|(parent, name)| vault.root.folder(parent)?.remove(name, Kind::Folder));
        if let Err(error) = removed {
            tracing::debug!(%error, "folder stays");
        }
    }
}

/// Reports whether a name beside manifests is one of a staged file; held manifests are not that.
pub(super) fn is_staged(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(OURS.as_bytes()) && !name.starts_with(HELD_PREFIX.as_bytes())
}

/// Removes what an interrupted change staged here; held manifests are not that.
pub(super) fn sweep<F: FileSystem>(place: &Place<'_, F>) -> Result<usize> {
    let mut swept = 0;
    for name in place.list()? {
        if !is_staged(&name) {
            continue;
        }
        if let Some(stat) = place.stat(&name)?.filter(|stat| stat.kind != Kind::Folder) {
            place.remove(&name, stat.kind)?;
            swept += 1;
        }
    }
    Ok(swept)
}
