//! Compiled policies on disk: loading one takes less than a millisecond, compiling it up to a minute.
//!
//! The folder belongs to one user and nobody else may look into it. Each entry is sealed under a key that
//! lies beside it; what does not carry the seal is machine code of somebody else and is never run.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(feature = "wasm")]
use std::sync::atomic::{AtomicU64, Ordering};

use cprecover_policy_artifact as artifact;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, flock};
use rustix::process::{Pid, test_kill_process};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::engine::{engine_id, policy_error};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;
use crate::node::NodeOptions;

/// The file with the key of all seals.
const KEY_FILE: &str = "key";
/// The key while it is written.
const NEW_KEY_FILE: &str = ".key.new";
/// How an entry's name ends.
const SUFFIX: &str = ".policy";
/// The largest entry that is read, in bytes; a compiled Python policy has 34 MB.
const MAX_ENTRY_BYTES: u64 = 256 << 20;
/// The most entries that are listed.
const MAX_ENTRIES: usize = 1_000;

/// A folder of compiled policies that only this user can read.
#[derive(Debug, Clone)]
pub struct PolicyCache {
    path: PathBuf,
    folder: Arc<OwnedFd>,
    key: Arc<artifact::Key>,
}

/// A compiled policy in a [`PolicyCache`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CachedPolicy {
    /// SHA-256 of the component.
    pub digest: Digest,
    /// Size of the compiled file, in bytes.
    pub bytes: u64,
    /// Whether this program's engine compiled it; another's is not run.
    pub usable: bool,
    /// The file's name in the folder.
    pub file: String,
}

impl PolicyCache {
    /// Returns where a node's compiled policies lie; `cprecover policy install` puts them there.
    #[must_use]
    pub fn folder(node: &NodeOptions) -> PathBuf {
        node.store().join("policy-cache")
    }

    /// Opens a cache; `None` where there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] when the folder or its key is not this user's alone.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let folder = match open_folder(path) {
            Ok(folder) => folder,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let key = key_in(&folder).map_err(|error| error.context(path.display()))?;
        Ok(key.map(|key| Self::with(path, folder, key)))
    }

    /// Opens a cache; makes the folder and its key where there is none.
    ///
    /// # Errors
    /// As [`PolicyCache::open`], and the kinds of a failed write.
    pub fn create(path: &Path) -> Result<Self> {
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(source) => return Err(Error::path("make folder", path, source)),
        }
        let folder = open_folder(path)?;
        let key = key_in(&folder).ok().flatten().map_or_else(|| locked(&folder, || make_key(&folder)), Ok);
        let key = key.map_err(|error| error.context(path.display()))?;
        Ok(Self::with(path, folder, key))
    }

    fn with(path: &Path, folder: OwnedFd, key: [u8; 32]) -> Self {
        Self {
            path: path.to_owned(),
            folder: Arc::new(folder),
            key: Arc::new(artifact::Key::from_bytes(key)),
        }
    }

    /// Returns the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lists what is in the cache, at most 1,000 entries.
    ///
    /// # Errors
    /// The kinds of a failed read.
    pub fn entries(&self) -> Result<Vec<CachedPolicy>> {
        let mut found = Vec::new();
        let suffix = own_suffix()?;
        for name in self.names()? {
            let Some(digest) = name.get(..64).and_then(|hex| hex.parse::<Digest>().ok()) else { continue };
            let stat = rustix::fs::statat(&*self.folder, &name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|source| Error::path("stat", self.path.join(&name), source))?;
            found.push(CachedPolicy {
                digest,
                bytes: u64::try_from(stat.st_size).unwrap_or_default(),
                usable: suffix.as_ref().is_none_or(|suffix| name.ends_with(suffix.as_str())),
                file: name,
            });
        }
        found.sort_by(|one, other| one.file.cmp(&other.file));
        Ok(found)
    }

    fn names(&self) -> Result<Vec<String>> {
        let failed = |source| Error::path("list", &self.path, source);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&*self.folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            if name.ends_with(SUFFIX) && !name.starts_with('.') {
                names.push(name);
            }
            if names.len() >= MAX_ENTRIES {
                break;
            }
        }
        Ok(names)
    }

    /// Removes an entry; `false` where there is none.
    ///
    /// # Errors
    /// The kinds of a failed removal.
    pub fn remove(&self, digest: &Digest) -> Result<bool> {
        self.sweep();
        let mut removed = false;
        for name in self.names()?.iter().filter(|name| name.starts_with(&digest.to_string())) {
            rustix::fs::unlinkat(&*self.folder, name, AtFlags::empty())
                .map_err(|source| Error::path("remove", self.path.join(name), source))?;
            removed = true;
        }
        Ok(removed)
    }

    #[cfg(feature = "wasm")]
    pub(super) fn key(&self) -> &artifact::Key {
        &self.key
    }

    /// Loads a compiled policy; `None` where there is none of this engine.
    ///
    /// [`ErrorKind::Corrupt`] for an entry that does not carry the seal: nothing of it was run.
    pub(super) fn load(
        &self,
        engine: &Engine,
        digest: &Digest,
    ) -> Result<Option<(Component, artifact::Admission)>> {
        for name in self.candidates(digest)? {
            let path = self.path.join(&name);
            let sealed = match read_private(&self.folder, &name, MAX_ENTRY_BYTES) {
                Ok(sealed) => sealed,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error.context(path.display())),
            };
            match artifact::open(engine, engine_id()?, digest.as_bytes(), &self.key, &sealed) {
                Ok(opened) => {
                    let component = opened
                        .load()
                        .map_err(|source| policy_error(&format!("load {}", path.display()), &source))?;
                    return Ok(Some((component, opened.admission())));
                }
                Err(artifact::Refusal::OtherEngine) => {}
                Err(refusal) => {
                    let text = format!("compiled policy {} is not run: {refusal}", path.display());
                    return Err(Error::new(ErrorKind::Corrupt, text));
                }
            }
        }
        Ok(None)
    }

    /// Names of the entries that may hold the policy compiled for this engine.
    fn candidates(&self, digest: &Digest) -> Result<Vec<String>> {
        if let Some(suffix) = own_suffix()? {
            return Ok(vec![format!("{digest}{suffix}")]);
        }
        let prefix = digest.to_string();
        Ok(self.names()?.into_iter().filter(|name| name.starts_with(&prefix)).collect())
    }

    /// Keeps a compiled policy, durably and all or nothing.
    #[cfg(feature = "wasm")]
    pub(super) fn store(&self, digest: &Digest, sealed: &[u8]) -> Result<String> {
        static STORED: AtomicU64 = AtomicU64::new(0);
        let name = format!("{digest}{}", own_suffix()?.unwrap_or_default());
        let count = STORED.fetch_add(1, Ordering::Relaxed);
        let temporary = format!(".{name}.{}-{count}", std::process::id());
        self.sweep();
        write_as(&self.folder, &temporary, sealed, || {
            rustix::fs::renameat(&*self.folder, &temporary, &*self.folder, &name)
        })
        .map_err(|error| error.context(self.path.join(&name).display()))?;
        Ok(name)
    }

    /// Removes what processes left that died while they stored; an entry can have 256 MB.
    fn sweep(&self) {
        let Ok(folder) = rustix::fs::Dir::read_from(&*self.folder) else { return };
        for entry in folder.filter_map(std::result::Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !is_left_over(&name) {
                continue;
            }
            if let Err(error) = rustix::fs::unlinkat(&*self.folder, &name, AtFlags::empty()) {
                tracing::warn!(%error, name, "a compiled policy that was left unfinished stays");
            }
        }
    }
}

/// Whether `name` is of an entry whose writer is gone.
fn is_left_over(name: &str) -> bool {
    let Some((_, writer)) = name.strip_prefix('.').and_then(|name| name.rsplit_once(".policy.")) else {
        return false;
    };
    let id = writer.split_once('-').map_or(writer, |(id, _)| id).parse().ok().filter(|id| *id > 0);
    let Some(pid) = id.and_then(Pid::from_raw) else { return false };
    test_kill_process(pid) == Err(rustix::io::Errno::SRCH)
}

/// Reads the key of all seals; `None` where there is none.
fn key_in(folder: &OwnedFd) -> Result<Option<[u8; 32]>> {
    let bytes = match read_private(folder, KEY_FILE, 32) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == ErrorKind::Limit => Vec::new(),
        Err(error) => return Err(error),
    };
    bytes.try_into().map(Some).map_err(|_| {
        let text = "the key is not of 32 bytes; `cprecover policy install` makes a new one";
        Error::new(ErrorKind::Corrupt, text)
    })
}

/// Makes the key unless somebody else made it in between; the folder is locked.
fn make_key(folder: &OwnedFd) -> Result<[u8; 32]> {
    match key_in(folder) {
        Ok(Some(key)) => return Ok(key),
        Ok(None) => {}
        // Nothing can be sealed under a part of a key.
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            rustix::fs::unlinkat(folder, KEY_FILE, AtFlags::empty())
                .map_err(|source| Error::path("remove", Path::new(KEY_FILE), source))?;
        }
        Err(error) => return Err(error),
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key)
        .map_err(|source| Error::with_source(ErrorKind::Io, "make a random key", source))?;
    write_as(folder, NEW_KEY_FILE, &key, || {
        match rustix::fs::renameat_with(folder, NEW_KEY_FILE, folder, KEY_FILE, RenameFlags::NOREPLACE) {
            // A file system without it (NFS, FAT); the lock keeps our own away.
            Err(rustix::io::Errno::INVAL) => rustix::fs::renameat(folder, NEW_KEY_FILE, folder, KEY_FILE),
            other => other,
        }
    })?;
    Ok(key)
}

/// Does `work` while no other process and no other thread does any on this folder.
fn locked<T>(folder: &OwnedFd, work: impl FnOnce() -> Result<T>) -> Result<T> {
    rustix::io::retry_on_intr(|| flock(folder, FlockOperation::LockExclusive))
        .map_err(|source| Error::io("lock the folder", source))?;
    let done = work();
    // Closing is not enough while a child that another thread starts has the folder open too.
    if let Err(error) = flock(folder, FlockOperation::Unlock) {
        tracing::warn!(%error, "the cache's lock is freed when the folder is closed");
    }
    done
}

/// How names of this engine's entries end; `None` where the engine cannot be named (no compiler).
fn own_suffix() -> Result<Option<String>> {
    Ok(engine_id()?.map(|id| format!("-{id}{SUFFIX}")))
}

fn open_folder(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|source| Error::path("open", path, source))?;
    private(&folder, FileType::Directory).map_err(|error| error.context(path.display()))?;
    Ok(folder)
}

/// Refuses what is not of this user alone: others could put machine code there.
fn private(file: &OwnedFd, wanted: FileType) -> Result<rustix::fs::Stat> {
    let stat = rustix::fs::fstat(file).map_err(|source| Error::io("stat", source))?;
    let refuse = |why: String| Err(Error::new(ErrorKind::Refused, format!("{why}; it is not used")));
    if FileType::from_raw_mode(stat.st_mode) != wanted {
        return refuse(format!("is not a {}", if wanted == FileType::Directory { "folder" } else { "file" }));
    }
    let own = rustix::process::geteuid().as_raw();
    if stat.st_uid != own {
        return refuse(format!("belongs to uid {}, not {own}", stat.st_uid));
    }
    if stat.st_mode & 0o077 != 0 {
        return refuse(format!("is open to group or others (mode {:o})", stat.st_mode & 0o7777));
    }
    Ok(stat)
}

fn read_private(folder: &OwnedFd, name: &str, limit: u64) -> Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty())
        .map_err(|source| Error::path("open", Path::new(name), source))?;
    let stat = private(&file, FileType::RegularFile).map_err(|error| error.context(name))?;
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    if size > limit {
        return Err(Error::new(ErrorKind::Limit, format!("{name} has {size} bytes, more than {limit}")));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    File::from(file)
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|source| Error::path("read", Path::new(name), source))?;
    Ok(bytes)
}

/// Writes durably and all or nothing: under `temporary`, from which `place` moves it. Nothing stays of what failed,
/// as on a full disk.
fn write_as(
    folder: &OwnedFd,
    temporary: &str,
    bytes: &[u8],
    place: impl FnOnce() -> rustix::io::Result<()>,
) -> Result<()> {
    // Left over by one that died.
    let _ = rustix::fs::unlinkat(folder, temporary, AtFlags::empty());
    let placed = write_new(folder, temporary, bytes)
        .and_then(|()| place().map_err(|source| Error::io("rename into place", source)));
    if placed.is_err() {
        let _ = rustix::fs::unlinkat(folder, temporary, AtFlags::empty());
    }
    placed?;
    rustix::fs::fsync(folder).map_err(|source| Error::io("sync the folder", source))
}

fn write_new(folder: &OwnedFd, name: &str, bytes: &[u8]) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let failed = |source: std::io::Error| Error::path("write", Path::new(name), source);
    let file = rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|source| failed(source.into()))?;
    let mut file = File::from(file);
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}
