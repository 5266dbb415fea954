//! Compiled policies on disk: loading one takes less than a millisecond, compiling it up to a minute.
//!
//! The folder belongs to one user and nobody else may look into it. Each entry is sealed under a key that
//! lies beside it; what does not carry the seal is machine code of somebody else and is never run.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cprecover_policy_artifact as artifact;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::engine::{engine_id, policy_error};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;
use crate::node::NodeOptions;

/// The file with the key of all seals.
const KEY_FILE: &str = "key";
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
        let key = match read_private(&folder, KEY_FILE, 32) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.context(path.display())),
        };
        let key: [u8; 32] = key.try_into().map_err(|_| {
            Error::new(ErrorKind::Corrupt, format!("{}: the key is not of 32 bytes", path.display()))
        })?;
        Ok(Some(Self {
            path: path.to_owned(),
            folder: Arc::new(folder),
            key: Arc::new(artifact::Key::from_bytes(key)),
        }))
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
        if let Some(cache) = Self::open(path)? {
            return Ok(cache);
        }
        let mut key = [0; 32];
        getrandom::fill(&mut key)
            .map_err(|source| Error::with_source(ErrorKind::Io, "make a random key", source))?;
        let folder = open_folder(path)?;
        match write_new(&folder, KEY_FILE, &key) {
            // Somebody else made it in between; theirs counts.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            other => other.map_err(|error| error.context(path.display()))?,
        }
        Self::open(path)?
            .ok_or_else(|| Error::new(ErrorKind::Changed, format!("{} vanished", path.display())))
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
        let name = format!("{digest}{}", own_suffix()?.unwrap_or_default());
        let temporary = format!(".{name}.{}", std::process::id());
        let failed = |what: &str, source| Error::path(what, self.path.join(&name), source);
        // Left over by a process of the same id that died.
        let _ = rustix::fs::unlinkat(&*self.folder, &temporary, AtFlags::empty());
        write_new(&self.folder, &temporary, sealed).map_err(|error| error.context(self.path.display()))?;
        rustix::fs::renameat(&*self.folder, &temporary, &*self.folder, &name)
            .map_err(|source| failed("rename into place", source))?;
        rustix::fs::fsync(&*self.folder).map_err(|source| failed("sync the folder of", source))?;
        Ok(name)
    }
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

fn write_new(folder: &OwnedFd, name: &str, bytes: &[u8]) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let failed = |source: std::io::Error| Error::path("write", Path::new(name), source);
    let file = rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|source| failed(source.into()))?;
    let mut file = File::from(file);
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}
