//! Checking a snapshot against its index, and the index against the chain.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::Digest as _;

use super::describe::stored_attributes;
use super::fs::place::Place;
use super::fs::{FileSystem, Kind, Parallel as _, Work};
use super::journal::Standing;
use super::snapshot::{Entry, EntryKind, NodePath, Snapshot, SnapshotId};
use super::vault::{BUFFER, INDEX, LOOKED_AT_ONCE, MAX_INDEX_BYTES, MAX_STORED_DEPTH, SUMS, Vault, sums_of};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;
use crate::sys::Deadline;

/// One thing that is wrong with a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
#[non_exhaustive]
pub enum Damage {
    /// The file's bytes do not have the recorded digest: bit rot or an edit.
    Content {
        /// The file, relative to the snapshot's folder.
        stored: NodePath,
    },
    /// A recorded file is not there.
    Missing {
        /// The file, relative to the snapshot's folder.
        stored: NodePath,
    },
    /// There is a file that the index does not record.
    Extra {
        /// The file, relative to the snapshot's folder.
        stored: NodePath,
    },
    /// Owner, mode, time, extended attributes or link target differ from the index.
    Attributes {
        /// The file, relative to the snapshot's folder.
        stored: NodePath,
        /// What differs.
        what: String,
    },
    /// A file no longer shares its inode with the earlier snapshot's; its content is right.
    Link {
        /// The file, relative to the snapshot's folder.
        stored: NodePath,
        /// The earlier snapshot.
        snapshot: SnapshotId,
    },
    /// `index.json` is not the one that was written: its digest is another one than `SHA256SUMS` records,
    /// or than the next snapshot does where that line is lost.
    Index {
        /// What differs.
        what: String,
    },
    /// `SHA256SUMS` does not say what the index says.
    Sums {
        /// What differs.
        what: String,
    },
    /// The previous snapshot is not the one that this one names.
    Chain {
        /// What does not fit.
        what: String,
    },
    /// Something could not be read; that is not "missing".
    Unreadable {
        /// The file, relative to the snapshot's folder.
        stored: NodePath,
        /// Why.
        what: String,
    },
}

impl Damage {
    /// Reports whether a restore from the snapshot would still give the right files.
    #[must_use]
    pub const fn is_harmless(&self) -> bool {
        matches!(
            self,
            Self::Link { .. }
                | Self::Extra { .. }
                | Self::Attributes { .. }
                | Self::Sums { .. }
                | Self::Chain { .. }
        )
    }
}

/// The result of checking one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct VerifyReport {
    /// The snapshot.
    pub id: SnapshotId,
    /// Files whose bytes were read.
    pub files: usize,
    /// Bytes that were read.
    pub size_bytes: u64,
    /// What is wrong; empty when nothing is.
    pub damage: Vec<Damage>,
}

impl VerifyReport {
    /// Reports whether nothing is wrong.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.damage.is_empty()
    }
}

/// One check of one snapshot.
struct Check<'v, 'f, F: FileSystem> {
    vault: &'v Vault<'f, F>,
    snapshot: Snapshot,
    top: Place<'f, F>,
    report: VerifyReport,
}

/// What looking at some of the files gave.
#[derive(Default)]
struct Part {
    files: usize,
    size_bytes: u64,
    damage: Vec<Damage>,
}

impl<F: FileSystem> Vault<'_, F> {
    /// Checks one snapshot.
    pub(super) fn verify(&self, id: &SnapshotId, deadline: &Deadline) -> Result<VerifyReport> {
        let indexed = self.load(id)?;
        let proof = self.check_index(&indexed);
        let mut check = Check {
            vault: self,
            snapshot: indexed.snapshot,
            top: self.folder_of(id)?,
            report: VerifyReport { id: id.clone(), files: 0, size_bytes: 0, damage: Vec::new() },
        };
        match proof {
            Ok(()) => check.sums(&indexed.sha256),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                check.report.damage.push(Damage::Index { what: error.to_string() });
            }
            Err(error) => return Err(error),
        }
        check.entries(deadline)?;
        check.extra();
        check.chain();
        Ok(check.report)
    }
}

impl<'f, F: FileSystem> Check<'_, 'f, F> {
    fn sums(&mut self, index: &Digest) {
        let what = match self.top.read(SUMS, MAX_INDEX_BYTES) {
            Ok(text) if text == sums_of(&self.snapshot, index) => return,
            Ok(_) => "it does not match the index".to_owned(),
            Err(error) => error.to_string(),
        };
        self.report.damage.push(Damage::Sums { what });
    }

    fn entries(&mut self, deadline: &Deadline) -> Result<()> {
        let parts: Vec<&[Entry]> = self.snapshot.entries.chunks(LOOKED_AT_ONCE).collect();
        let looked = self.vault.fs.each_of(Work::Compute, &parts, |part| self.part(part, deadline));
        for part in looked.map_err(|(_, error)| error)? {
            self.report.files += part.files;
            self.report.size_bytes += part.size_bytes;
            self.report.damage.extend(part.damage);
        }
        Ok(())
    }

    fn part(&self, entries: &[Entry], deadline: &Deadline) -> Result<Part> {
        let mut part = Part::default();
        let mut buffer = vec![0; BUFFER];
        let mut last: Option<(PathBuf, Place<'f, F>)> = None;
        for entry in entries {
            deadline.check("verify")?;
            let stored = entry.stored.as_path();
            let (Some(parent), Some(name)) = (stored.parent(), stored.file_name()) else { continue };
            let opened = match last.take() {
                Some((path, place)) if path == parent => Ok(place),
                _ => self.top.folder(parent),
            };
            let checked = opened.and_then(|place| {
                last = Some((parent.to_owned(), place.clone()));
                self.entry(&place, name, entry, &mut part, &mut buffer)
            });
            if let Err(error) = checked {
                let stored = entry.stored.clone();
                part.damage.push(match error.kind() {
                    ErrorKind::NotFound => Damage::Missing { stored },
                    _ => Damage::Unreadable { stored, what: error.to_string() },
                });
            }
        }
        Ok(part)
    }

    fn entry(
        &self,
        place: &Place<'f, F>,
        name: &std::ffi::OsStr,
        entry: &Entry,
        part: &mut Part,
        buffer: &mut [u8],
    ) -> Result<()> {
        let stored = entry.stored.clone();
        match entry.kind {
            EntryKind::File => return self.file(place, name, entry, part, buffer),
            EntryKind::Folder => {
                place.folder(name)?;
            }
            EntryKind::Symlink => match (place.standing(name, buffer)?, &entry.target) {
                (Standing::Symlink { target }, Some(wanted)) if target == *wanted => {}
                (Standing::Absent, _) => part.damage.push(Damage::Missing { stored }),
                _ => part.damage.push(Damage::Content { stored }),
            },
        }
        Ok(())
    }

    fn file(
        &self,
        place: &Place<'f, F>,
        name: &std::ffi::OsStr,
        entry: &Entry,
        part: &mut Part,
        buffer: &mut [u8],
    ) -> Result<()> {
        let stored = entry.stored.clone();
        let (file, stat) = place.open_file(name)?;
        let mut hash = sha2::Sha256::new();
        let size = place.stream(name, &file, u64::MAX, buffer, |chunk| {
            hash.update(chunk);
            Ok(())
        })?;
        part.files += 1;
        part.size_bytes += size;
        if Some(Digest::from_bytes(hash.finalize().into())) != entry.sha256 {
            part.damage.push(Damage::Content { stored });
            return Ok(());
        }
        let kept = stored_attributes(entry.group, entry.attributes(), 0o600);
        let mut what = Vec::new();
        if stat.mode != kept.mode {
            what.push(format!("mode {:04o} instead of {:04o}", stat.mode, kept.mode));
        }
        if (stat.uid, stat.gid) != (kept.uid, kept.gid) {
            what.push(format!("owner {}:{} instead of {}:{}", stat.uid, stat.gid, kept.uid, kept.gid));
        }
        if stat.modified != kept.modified {
            what.push("modification time".into());
        }
        if place.told("read extended attributes of", name, place.fs.xattrs(&file))? != kept.xattrs {
            what.push("extended attributes".into());
        }
        if !what.is_empty() {
            let what = what.join(", ");
            part.damage.push(Damage::Attributes { stored: stored.clone(), what });
        }
        if let Some(link) = &entry.link {
            let path = link.stored.as_path();
            let earlier = self.vault.folder_of(&link.snapshot);
            // A pruned snapshot shares nothing any more; the content is here all the same.
            if let (Ok(earlier), Some(parent), Some(name)) = (earlier, path.parent(), path.file_name()) {
                let other = earlier.folder(parent).and_then(|folder| folder.stat(name)).ok().flatten();
                if other.is_none_or(|other| (other.device, other.inode) != (stat.device, stat.inode)) {
                    part.damage.push(Damage::Link { stored, snapshot: link.snapshot.clone() });
                }
            }
        }
        Ok(())
    }

    /// Looks for files that the index does not record.
    fn extra(&mut self) {
        let mut known: BTreeSet<PathBuf> = [INDEX, SUMS].iter().map(PathBuf::from).collect();
        for entry in &self.snapshot.entries {
            known.extend(entry.stored.as_path().ancestors().map(Path::to_owned));
        }
        let top = self.top.clone();
        self.extra_in(&top, Path::new(""), &known, MAX_STORED_DEPTH);
    }

    fn extra_in(&mut self, place: &Place<'f, F>, path: &Path, known: &BTreeSet<PathBuf>, depth: usize) {
        let names = match place.list() {
            Ok(names) => names,
            Err(error) => return self.unreadable(path, &error),
        };
        for name in names {
            let inner = path.join(&name);
            if !known.contains(&inner) {
                self.report.damage.push(Damage::Extra { stored: NodePath::new(&inner) });
                continue;
            }
            let folder = match place.stat(&name) {
                Ok(Some(stat)) if depth > 0 && stat.kind == Kind::Folder => place.folder(&name),
                Ok(_) => continue,
                Err(error) => Err(error),
            };
            match folder {
                Ok(folder) => self.extra_in(&folder, &inner, known, depth - 1),
                Err(error) => self.unreadable(&inner, &error),
            }
        }
    }

    /// What cannot be looked through is damage of this snapshot and keeps no other from being looked at.
    fn unreadable(&mut self, path: &Path, error: &Error) {
        self.report.damage.push(Damage::Unreadable { stored: NodePath::new(path), what: error.to_string() });
    }

    fn chain(&mut self) {
        let (Some(previous), expected) = (&self.snapshot.previous, self.snapshot.previous_sha256) else {
            return;
        };
        let what = match self.vault.index_digest(previous) {
            Ok(Some(digest)) if expected.is_none_or(|expected| expected == digest) => return,
            Ok(Some(_)) => format!("the index of {previous} was changed since"),
            Ok(None)
                if self
                    .vault
                    .pruned()
                    .is_ok_and(|p| expected.is_some() && p.get(previous) == expected.as_ref()) =>
            {
                return;
            }
            Ok(None) => format!("{previous} is neither in the store nor was it pruned"),
            Err(error) => error.to_string(),
        };
        self.report.damage.push(Damage::Chain { what });
    }
}

impl<F: FileSystem> Vault<'_, F> {
    /// Returns the digest of a snapshot's index; none when there is no such snapshot.
    fn index_digest(&self, id: &SnapshotId) -> Result<Option<Digest>> {
        let folder = super::fs::place::absent_to_none(self.folder_of(id))?;
        let Some(folder) = folder else { return Ok(None) };
        Ok(Some(Digest::of(&folder.read(INDEX, MAX_INDEX_BYTES)?)))
    }

    /// Reads which snapshots were pruned that others still name.
    pub(super) fn pruned(&self) -> Result<BTreeMap<SnapshotId, Digest>> {
        let Some(bytes) = self.store.read_if_any(super::vault::PRUNED, 64 << 20)? else {
            return Ok(BTreeMap::new());
        };
        serde_json::from_slice(&bytes).map_err(|source| {
            let path = self.store.path.join(super::vault::PRUNED);
            Error::with_source(ErrorKind::Corrupt, format!("{} is malformed", path.display()), source)
        })
    }
}
