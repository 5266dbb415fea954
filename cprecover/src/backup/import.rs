//! Taking in a snapshot that was written as one tar stream.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use super::fs::FileSystem;
use super::proof::index_line;
use super::snapshot::{EntryKind, Snapshot, SnapshotId};
use super::spool::Spool;
use super::vault::{BUFFER, INDEX, MAX_INDEX_BYTES, SUMS, Vault, parse_index};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;
use crate::sys::Deadline;

/// The longest header that is no file's: of a long name or of extended attributes.
const MAX_HEADER_BYTES: u64 = 1 << 20;
/// The longest name that is repeated in a message.
const MAX_SHOWN: usize = 200;

impl<F: FileSystem> Vault<'_, F> {
    /// Takes a snapshot in; the store must be locked. Every digest is checked before it gets its name.
    pub(super) fn import(&self, from: &Spool, deadline: &Deadline) -> Result<Snapshot> {
        self.ensure_format()?;
        check_headers(from, deadline)?;
        let mut archive = tar::Archive::new(from.read_from(0)?);
        let mut entries = archive.entries_with_seek().map_err(broken)?;
        let first = entries.next().ok_or_else(|| Error::new(ErrorKind::Invalid, "the archive is empty"))?;
        let mut first = first.map_err(broken)?;
        // Until it is known that this is an archive of a snapshot, nothing of it is told: it may be any file.
        let (id, _) = split_path(&first.path().map_err(broken)?)
            .ok()
            .filter(|(_, name)| name == Path::new(INDEX))
            .ok_or_else(no_archive)?;
        let index = read_entry(&mut first, MAX_INDEX_BYTES as u64)?;
        let snapshot = parse_index(&id, &index)?;
        let mut files = BTreeMap::new();
        for entry in &snapshot.entries {
            files.insert(entry.stored.as_path().to_owned(), entry);
        }
        self.take_in(&snapshot, &index, |unpack| {
            for entry in entries {
                deadline.check("import")?;
                let mut entry = entry.map_err(broken)?;
                let (inner, path) = split_path(&entry.path().map_err(broken)?)?;
                if inner != id {
                    return Err(Error::new(
                        ErrorKind::Invalid,
                        format!("the archive holds {inner} beside {id}"),
                    ));
                }
                match files.get(&path) {
                    Some(known) if known.kind == EntryKind::File => unpack(known, &mut entry)?,
                    Some(_) => {}
                    None if path == Path::new(SUMS) => {
                        let sums = read_entry(&mut entry, MAX_INDEX_BYTES as u64)?;
                        if index_line(&sums).is_some_and(|recorded| recorded != Digest::of(&index)) {
                            let what = format!("{INDEX} does not have the digest that {SUMS} records");
                            return Err(Error::new(ErrorKind::Corrupt, what));
                        }
                    }
                    None => {
                        let path = shown(&path);
                        return Err(Error::new(ErrorKind::Invalid, format!("{path} is not in the index")));
                    }
                }
            }
            Ok(())
        })
    }
}

/// Refuses what would make the reading of the archive take more memory or disk than the archive has: files with
/// holes, and names without end.
fn check_headers(from: &Spool, deadline: &Deadline) -> Result<()> {
    let mut archive = tar::Archive::new(from.read_from(0)?);
    let mut is_first = true;
    for entry in archive.entries_with_seek().map_err(broken)?.raw(true) {
        deadline.check("import")?;
        let entry = entry.map_err(|error| if is_first { no_archive() } else { broken(error) })?;
        is_first = false;
        match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Directory | tar::EntryType::Symlink => {}
            tar::EntryType::GNULongName
            | tar::EntryType::GNULongLink
            | tar::EntryType::XHeader
            | tar::EntryType::XGlobalHeader
                if entry.header().size().is_ok_and(|size| size <= MAX_HEADER_BYTES) => {}
            _ => {
                let text = "the archive holds what is no plain file, folder or symbolic link";
                return Err(Error::new(ErrorKind::Invalid, text));
            }
        }
    }
    Ok(())
}

fn no_archive() -> Error {
    Error::new(
        ErrorKind::Invalid,
        format!("no tar archive of a snapshot: it does not begin with an ID/{INDEX}"),
    )
}

/// The reader's own words quote what it read.
fn broken(error: std::io::Error) -> Error {
    if error.raw_os_error().is_some() {
        return Error::io("read archive", error);
    }
    Error::new(ErrorKind::Invalid, "the archive is damaged or cut short")
}

/// Writes a path of the archive for people.
fn shown(path: &Path) -> String {
    path.display().to_string().chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect()
}

/// Splits an archive's path into the snapshot's id and the path in it.
fn split_path(path: &Path) -> Result<(SnapshotId, PathBuf)> {
    let wrong = || Error::new(ErrorKind::Invalid, format!("the archive holds {}", shown(path)));
    let mut parts = path.components().filter(|part| !matches!(part, Component::CurDir));
    let Some(Component::Normal(id)) = parts.next() else { return Err(wrong()) };
    let id = id.to_str().and_then(|id| id.parse().ok()).ok_or_else(wrong)?;
    let rest: PathBuf = parts.clone().collect();
    if parts.all(|part| matches!(part, Component::Normal(_))) { Ok((id, rest)) } else { Err(wrong()) }
}

fn read_entry(entry: &mut impl Read, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(limit.min(BUFFER as u64)).unwrap_or(BUFFER));
    entry.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(broken)?;
    if bytes.len() as u64 > limit {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("a file of the archive is larger than {limit} bytes"),
        ));
    }
    Ok(bytes)
}
