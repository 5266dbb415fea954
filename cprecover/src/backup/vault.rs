//! The store's folders and files, over any file system.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use super::fs::FileSystem;
use super::fs::place::{Place, is_plain};
use super::group::Layout;
use super::snapshot::{Snapshot, SnapshotId};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;

pub(super) const SNAPSHOTS: &str = "snapshots";
pub(super) const HELD: &str = "held";
pub(super) const JOURNAL: &str = "journal";
pub(super) const INDEX: &str = "index.json";
pub(super) const SUMS: &str = "SHA256SUMS";
/// Digests of the indexes of pruned snapshots that others still name.
pub(super) const PRUNED: &str = "pruned.json";
const FORMAT: &str = "format.json";
const FORMAT_SCHEMA: &str = "cprecover.dev/backup-store/v1";
pub(super) const SNAPSHOT_SCHEMA: &str = "cprecover.dev/snapshot/v1";

/// Prefix of every name that this crate makes in a folder that is not its own: kubelet ignores it.
pub(super) const OURS: &str = ".cprecover-";
/// Prefix of a held manifest's name in the manifests folder.
pub(super) const HELD_PREFIX: &str = ".cprecover-held.";
/// How much is read at once.
pub(super) const BUFFER: usize = 256 * 1024;
/// So many files are one thread's share of a task.
pub(super) const LOOKED_AT_ONCE: usize = 64;
/// Prefix of a snapshot that is being made.
pub(super) const NEW: &str = ".new-";
/// Prefix of a snapshot that is being removed.
pub(super) const GONE: &str = ".gone-";
/// How deep folders may be nested below what a group takes its files from.
pub(super) const MAX_DEPTH: usize = 32;
/// The largest file that is kept.
pub(super) const MAX_FILE_BYTES: u64 = 1 << 30;
/// How many names a path in a snapshot's folder may have: whatever is taken in can be removed again.
pub(super) const MAX_STORED_DEPTH: usize = 128;
/// The largest index that is read; an entry takes 400 bytes or so.
pub(super) const MAX_INDEX_BYTES: usize = 256 << 20;
/// More files than this are put on stable storage by one syncfs(2) instead of one fsync(2) each.
///
/// Few files are synced one by one, because syncfs also waits for what all other programs have
/// written to that file system, which on a loaded node may take minutes.
pub(super) const SYNC_EACH_UP_TO: usize = 64;

/// A store of snapshots, the node that it belongs to, and the time.
pub(super) struct Vault<'f, F: FileSystem> {
    pub(super) fs: &'f F,
    /// The store's folder.
    pub(super) store: Place<'f, F>,
    /// The node's root.
    pub(super) root: Place<'f, F>,
    pub(super) layout: Layout,
    pub(super) node_name: Option<String>,
    /// User and group that new files get.
    pub(super) owner: (u32, u32),
    /// The time of this call, since 1970.
    pub(super) now: Duration,
    /// [`SYNC_EACH_UP_TO`], but for tests.
    pub(super) sync_each_up_to: usize,
    pub(super) seen: Seen<'f, F>,
}

/// What one call has found of the store's own folders, so that it is not looked up again.
pub(super) struct Seen<'f, F: FileSystem> {
    /// Set when the format was read and is this version's.
    format: OnceLock<()>,
    snapshots: OnceLock<Place<'f, F>>,
    held: OnceLock<Place<'f, F>>,
    journal: OnceLock<Place<'f, F>>,
}

impl<F: FileSystem> Default for Seen<'_, F> {
    fn default() -> Self {
        Self {
            format: OnceLock::new(),
            snapshots: OnceLock::new(),
            held: OnceLock::new(),
            journal: OnceLock::new(),
        }
    }
}

/// A snapshot's index together with the digest of its bytes.
pub(super) struct Indexed {
    pub(super) snapshot: Snapshot,
    pub(super) sha256: Digest,
}

impl<'f, F: FileSystem> Vault<'f, F> {
    /// Fails for a store of another version; tells whether there is a store at all.
    pub(super) fn check_format(&self) -> Result<bool> {
        #[derive(serde::Deserialize)]
        struct Format {
            schema: String,
        }
        if self.seen.format.get().is_some() {
            return Ok(true);
        }
        let Some(bytes) = self.store.read_if_any(FORMAT, 4096)? else { return Ok(false) };
        let path = self.store.path.join(FORMAT);
        let format: Format = serde_json::from_slice(&bytes).map_err(|source| {
            Error::with_source(ErrorKind::Corrupt, format!("store {} is damaged", path.display()), source)
        })?;
        if format.schema == FORMAT_SCHEMA {
            self.seen.format.get_or_init(|| ());
            return Ok(true);
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "store {} has format {:?}, this version reads {FORMAT_SCHEMA:?}",
                self.store.path.display(),
                format.schema
            ),
        ))
    }

    /// Makes the store's folders unless they are there; what stands in the store stays.
    pub(super) fn ensure_format(&self) -> Result<()> {
        if self.check_format()? {
            return Ok(());
        }
        for name in [SNAPSHOTS, HELD, JOURNAL] {
            self.store.ensure_folder(name)?;
        }
        // Last, so that a store with a format is whole.
        self.store.replace(FORMAT, format!("{{\"schema\": \"{FORMAT_SCHEMA}\"}}\n").as_bytes())
    }

    /// Opens one of the store's folders; `None` before the first write.
    pub(super) fn part(&self, name: &str) -> Result<Option<Place<'f, F>>> {
        let seen = match name {
            SNAPSHOTS => &self.seen.snapshots,
            HELD => &self.seen.held,
            JOURNAL => &self.seen.journal,
            _ => return self.store.folder_if_any(name),
        };
        if let Some(place) = seen.get() {
            return Ok(Some(place.clone()));
        }
        let found = self.store.folder_if_any(name)?;
        Ok(found.map(|place| seen.get_or_init(|| place).clone()))
    }

    /// Opens one of the store's folders, which must be there.
    pub(super) fn own(&self, name: &str) -> Result<Place<'f, F>> {
        self.part(name)?.map_or_else(|| self.store.folder(name), Ok)
    }

    /// Lists the ids of the snapshots by number.
    pub(super) fn ids(&self) -> Result<Vec<SnapshotId>> {
        let Some(snapshots) = self.part(SNAPSHOTS)? else { return Ok(Vec::new()) };
        let mut ids: Vec<SnapshotId> = snapshots
            .list()?
            .iter()
            .filter_map(|name| name.to_str().and_then(|name| name.parse().ok()))
            .collect();
        ids.sort();
        Ok(ids)
    }

    /// Opens a snapshot's folder.
    pub(super) fn folder_of(&self, id: &SnapshotId) -> Result<Place<'f, F>> {
        let folder = match self.part(SNAPSHOTS)? {
            Some(snapshots) => snapshots.folder_if_any(id.as_str())?,
            None => None,
        };
        folder.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("snapshot {id} is not in store {}", self.store.path.display()),
            )
        })
    }

    /// Reads a snapshot's index.
    pub(super) fn load(&self, id: &SnapshotId) -> Result<Indexed> {
        let folder = self.folder_of(id)?;
        let bytes = folder.read_if_any(INDEX, MAX_INDEX_BYTES)?.ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, format!("snapshot {id} is damaged: it has no {INDEX}"))
        })?;
        let snapshot = parse_index(id, &bytes)?;
        let sha256 = Digest::of(&bytes);
        Ok(Indexed { snapshot, sha256 })
    }
}

/// Reads the bytes of an index that must be the one of `id`, and checks what later code relies on.
pub(super) fn parse_index(id: &SnapshotId, bytes: &[u8]) -> Result<Snapshot> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        schema: String,
    }
    let damaged = |source: serde_json::Error| {
        Error::with_source(
            ErrorKind::Corrupt,
            format!("snapshot {id} is damaged: {INDEX} is malformed"),
            source,
        )
    };
    let snapshot: Snapshot = match serde_json::from_slice(bytes) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            // A newer version's index may have any shape; its schema still tells.
            let version: Versioned = serde_json::from_slice(bytes).map_err(damaged)?;
            return Err(if version.schema == SNAPSHOT_SCHEMA {
                damaged(error)
            } else {
                unsupported(id, &version.schema)
            });
        }
    };
    if snapshot.schema != SNAPSHOT_SCHEMA {
        return Err(unsupported(id, &snapshot.schema));
    }
    let wrong = |what: String| Error::new(ErrorKind::Corrupt, format!("snapshot {id} is damaged: {what}"));
    if snapshot.id != *id {
        return Err(wrong(format!("its index is that of {}", snapshot.id)));
    }
    for entry in &snapshot.entries {
        if !is_below(entry.stored.as_path(), entry.group.as_str()) {
            return Err(wrong(format!("entry {} is not in its group's folder", entry.stored)));
        }
        if entry.stored.as_path().components().count() > MAX_STORED_DEPTH {
            return Err(wrong(format!("entry {} is nested too deep", entry.stored)));
        }
        if !is_plain(entry.path.as_path()) {
            return Err(wrong(format!("entry path {} is not absolute and plain", entry.path)));
        }
        let whole = match entry.kind {
            super::EntryKind::File => entry.sha256.is_some(),
            super::EntryKind::Folder => true,
            super::EntryKind::Symlink => entry.target.is_some(),
        };
        if entry.size > MAX_FILE_BYTES {
            return Err(wrong(format!("entry {} is larger than any file that is kept", entry.stored)));
        }
        if !whole {
            return Err(wrong(format!("entry {} has no digest or target", entry.stored)));
        }
    }
    Ok(snapshot)
}

fn unsupported(id: &SnapshotId, schema: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("snapshot {id} has schema {schema:?}, this version reads {SNAPSHOT_SCHEMA:?}"),
    )
}

/// Reports whether a relative path is `folder` or plainly below it.
fn is_below(path: &Path, folder: &str) -> bool {
    let mut parts = path.components();
    parts.next() == Some(std::path::Component::Normal(OsStr::new(folder)))
        && parts.all(|part| matches!(part, std::path::Component::Normal(_)))
        // `a//b` and `a/./b` have the same components as `a/b` but are other bytes.
        && !path.as_os_str().as_bytes().windows(2).any(|pair| pair == b"//")
}

/// Writes the line of `SHA256SUMS` for one file, as coreutils' sha256sum does.
///
/// A name with a backslash, newline or carriage return is escaped, and the line then starts with a
/// backslash (coreutils manual, "cksum output modes").
pub(super) fn sums_line(digest: &Digest, name: &[u8], into: &mut Vec<u8>) {
    let escaped = name.iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r'));
    if escaped {
        into.push(b'\\');
    }
    into.extend_from_slice(digest.to_string().as_bytes());
    into.extend_from_slice(b"  ");
    for byte in name {
        match byte {
            b'\\' => into.extend_from_slice(b"\\\\"),
            b'\n' => into.extend_from_slice(b"\\n"),
            b'\r' => into.extend_from_slice(b"\\r"),
            other => into.push(*other),
        }
    }
    into.push(b'\n');
}

/// Makes the text of `SHA256SUMS` for a snapshot whose index has the digest `index`.
pub(super) fn sums_of(snapshot: &Snapshot, index: &Digest) -> Vec<u8> {
    let mut text = Vec::new();
    for entry in &snapshot.entries {
        if let Some(digest) = &entry.sha256 {
            sums_line(digest, entry.stored.as_bytes(), &mut text);
        }
    }
    sums_line(index, INDEX.as_bytes(), &mut text);
    text
}
