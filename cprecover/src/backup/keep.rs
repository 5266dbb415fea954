//! Putting a new manifest over the old one so that kubelet sees one event: the new file.
//!
//! kubelet (kubernetes `pkg/kubelet/config/file_linux.go`) adds a pod at fsnotify's Create and deletes it at its
//! Rename, in the order of the events. For `RENAME_EXCHANGE` the kernel tells of two moves (fs/namei.c,
//! `vfs_rename`), so that a swap is a pod that comes and goes, or one that goes and comes. Where kubelet looks, the
//! old file is therefore kept by a second name, a hard link, and a plain rename puts the new one over the first.
//! What a plain rename takes the name from is gone, where a swap would keep it: nothing but one look lies between
//! the proof that it is the file that is kept and the rename. Without hard links the two are swapped, in the order
//! in which the pod is there at the end.

use std::ffi::OsStr;

use rustix::io::Errno;

use super::describe::attributes_of;
use super::fs::place::{Place, split};
use super::fs::{Attributes, FileSystem, Rename};
use super::journal::{Standing, Step};
use super::stage::swap;
use super::transaction::Folders;
use super::vault::Vault;
use crate::error::Result;

impl Step {
    /// Reports whether only attributes change, and are set on the file itself.
    pub(super) const fn is_in_place(&self) -> bool {
        self.old_attributes.is_some()
    }

    /// Returns the dot-names that this step may have made, that of the new file first.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.staged.as_str()).chain(self.kept.as_deref())
    }

    /// Reports whether one file takes the place of another.
    pub(super) fn replaces(&self) -> bool {
        self.old != Standing::Absent && self.new != Standing::Absent && !self.is_in_place()
    }
}

impl<F: FileSystem> Vault<'_, F> {
    /// Notes the attributes of manifests whose bytes are right: these files stay.
    pub(super) fn note_attributes(&self, steps: &mut [Step]) -> Result<()> {
        let mut folders = Folders::new(self);
        for step in steps.iter_mut().filter(|step| step.attributes.is_some()) {
            let (parent, name) = split(step.path.as_path())?;
            if parent == self.layout.manifests && matches!(step.new, Standing::File { .. }) {
                step.old_attributes = Some(folders.get(parent)?.attributes(name)?);
            }
        }
        Ok(())
    }

    /// Gives manifests that are about to be replaced a second name, not durably yet.
    pub(super) fn keep_old(&self, steps: &mut [Step]) -> Result<()> {
        let mut folders = Folders::new(self);
        for step in steps.iter_mut().filter(|step| step.replaces()) {
            let (parent, name) = split(step.path.as_path())?;
            let kept = format!("{}.old", step.staged);
            if parent == self.layout.manifests && keep(&folders.get(parent)?, &kept, name)? {
                step.kept = Some(kept);
            }
        }
        Ok(())
    }
}

/// Gives the old file its second name; `false` where that is not possible and the two have to be swapped.
fn keep<F: FileSystem>(place: &Place<'_, F>, kept: &str, name: &OsStr) -> Result<bool> {
    let linked = place.fs.link(&place.handle, name, &place.handle, kept.as_ref());
    // link(2): no hard links on this file system or for this file, too many of them, another mount.
    let impossible = [Errno::PERM, Errno::MLINK, Errno::XDEV, Errno::NOTSUP, Errno::NOSYS];
    match &linked {
        Err(error) if impossible.iter().any(|no| error.raw_os_error() == Some(no.raw_os_error())) => {
            tracing::debug!(%error, "no second name; the files are swapped");
            Ok(false)
        }
        _ => place.told("link", name, linked).map(|()| true),
    }
}

/// Gives the target its new content; the old file is under its second name then, else under the staged one.
pub(super) fn put_over<F: FileSystem>(place: &Place<'_, F>, step: &Step, name: &OsStr) -> Result<()> {
    match &step.kept {
        // The last look before the rename. A file that someone has put there since is swapped out, and seen.
        Some(kept) if is_same_file(place, kept.as_ref(), name)? => {
            place.rename(&step.staged, place, name, Rename::Replace)
        }
        _ => swap(place, step, name),
    }
}

/// Gives a new file in place its staged name again, so that the way back loses nothing; tells whether it did.
pub(super) fn keep_new<F: FileSystem>(
    place: &Place<'_, F>,
    step: &Step,
    name: &OsStr,
    buffer: &mut [u8],
) -> Result<bool> {
    let new =
        step.kept.is_some() && place.stat(&step.staged)?.is_none() && place.has(name, &step.new, buffer)?;
    if new {
        let linked = place.fs.link(&place.handle, name, &place.handle, step.staged.as_ref());
        place.told("link", name, linked)?;
    }
    Ok(new)
}

/// Reports whether two names are of one file.
pub(super) fn is_same_file<F: FileSystem>(place: &Place<'_, F>, one: &OsStr, other: &OsStr) -> Result<bool> {
    let (one, other) = (place.stat(one)?, place.stat(other)?);
    Ok(one.zip(other).is_some_and(|(one, other)| (one.device, one.inode) == (other.device, other.inode)))
}

impl<F: FileSystem> Place<'_, F> {
    /// Returns the attributes of a file.
    pub(super) fn attributes(&self, name: &OsStr) -> Result<Attributes> {
        let (file, stat) = self.open_file(name)?;
        attributes_of(self, &file, name, &stat)
    }

    /// Gives the file under `name` these attributes and no others, durably; kubelet reads it again, unchanged.
    pub(super) fn set_in_place(&self, name: &OsStr, wanted: &Attributes) -> Result<()> {
        let (file, _) = self.open_file(name)?;
        let now = self.told("read extended attributes of", name, self.fs.xattrs(&file))?;
        for extra in now.keys().filter(|extra| !wanted.xattrs.contains_key(extra)) {
            self.told("remove extended attribute of", name, self.fs.remove_xattr(&file, extra))?;
        }
        self.told("set attributes of", name, self.fs.set_attributes(&file, wanted))?;
        self.told("sync", name, self.fs.sync(&file))
    }
}
