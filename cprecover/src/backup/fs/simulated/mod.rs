//! A file system in memory that forgets what POSIX lets a crash forget.
//!
//! What was not synced may be lost or kept, each name change by itself: the pending changes of names
//! are kept as a list, and a crash keeps any subset of them that is closed under "same name, earlier
//! change". A file's content that was not synced is there after a crash wholly, in part, or not at
//! all. `fsync` of a folder makes its names durable, `fsync` of a file its content (POSIX.1-2024,
//! fsync; the order of anything else is not promised).

#![allow(clippy::indexing_slicing, reason = "a test's own arrays")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io::Errno;

mod durable;
mod state;

use self::state::{Body, Inode, Pending, State};
use super::{Attributes, Content, Kind, Look, Names, Rename, Stat, Xattrs};
use crate::backup::snapshot::NodePath;

const TOP: u64 = 1;
const MAX_PENDING: usize = 16;

/// What happens at a call of a certain number.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    /// Power is lost before the call takes effect.
    Crash(usize),
    /// The call fails, and later ones do not.
    Fail(usize, Errno),
    /// Someone else changes something right before the call.
    Meddle(usize, fn(&Simulated)),
}

/// The file system.
#[derive(Debug)]
pub(crate) struct Simulated {
    state: Mutex<State>,
    calls: AtomicUsize,
    event: Mutex<Option<Event>>,
    has_syncfs: bool,
    has_links: bool,
    /// Whether no file can be made until one is removed.
    is_full: AtomicBool,
    /// The calls that put a manifest over another, for which nothing but the look before speaks.
    replaced: Mutex<Vec<usize>>,
    /// Whether jobs that may run in any order run the last one first.
    backwards: bool,
}

/// An open file or folder.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    inode: u64,
    offset: Arc<AtomicUsize>,
}

impl Simulated {
    pub(crate) fn new(has_syncfs: bool) -> Self {
        let mut inodes = BTreeMap::new();
        inodes.insert(TOP, Inode::new(Body::Folder(BTreeMap::new()), 0o700, 1));
        let state = State { inodes, pending: Vec::new(), next: 2, time: 1 };
        Self::of(state, has_syncfs, true)
    }

    /// Returns one that gives no file a second name, as FAT.
    pub(crate) fn without_links(self) -> Self {
        Self { has_links: false, ..self }
    }

    /// Fills the disk: no file can be made until one is removed.
    pub(crate) fn fill(&self) {
        self.is_full.store(true, Ordering::Relaxed);
    }

    /// Returns the numbers of the calls that put a manifest over another.
    pub(crate) fn replaced(&self) -> Vec<usize> {
        self.replaced.lock().expect("no test panics with it").clone()
    }

    fn of(state: State, has_syncfs: bool, has_links: bool) -> Self {
        Self {
            state: Mutex::new(state),
            calls: AtomicUsize::new(0),
            event: Mutex::new(None),
            has_syncfs,
            has_links,
            is_full: AtomicBool::new(false),
            replaced: Mutex::default(),
            backwards: false,
        }
    }

    /// Does the last of several jobs first.
    pub(crate) fn backwards(self) -> Self {
        Self { backwards: true, ..self }
    }

    /// Returns the same file system, with nothing going to happen to it.
    pub(crate) fn copy(&self) -> Self {
        Self { backwards: self.backwards, ..Self::of(self.state().clone(), self.has_syncfs, self.has_links) }
    }

    pub(crate) fn top() -> Handle {
        Handle { inode: TOP, offset: Arc::default() }
    }

    pub(crate) fn expect(&self, event: Option<Event>) {
        self.calls.store(0, Ordering::Relaxed);
        self.replaced.lock().expect("no test panics with it").clear();
        *self.event() = event;
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Makes everything durable, as after a long time of rest.
    pub(crate) fn settle(&self) {
        let mut state = self.state();
        state.pending.clear();
        for inode in state.inodes.values_mut() {
            match &inode.body {
                Body::File(bytes) => inode.durable = Some(bytes.clone()),
                Body::Folder(names) => inode.disk = names.clone(),
                Body::Symlink(_) => {}
            }
        }
    }

    /// Lists every file below `path` with its content.
    pub(crate) fn files(&self, path: &str) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let mut files = BTreeMap::new();
        if let Some(inode) = state.find(path) {
            state.collect(inode, String::new(), &mut files);
        }
        files
    }

    /// Calls `each` with every state that a crash now may leave; returns how many there were.
    pub(crate) fn crashes(&self, mut each: impl FnMut(&Self)) -> usize {
        let state = self.state();
        let count = state.pending.len();
        assert!(count <= MAX_PENDING, "{count} pending changes of names are too many to try all subsets");
        let mut trees = BTreeSet::new();
        let mut states = 0;
        for kept in 0..1_u32 << count {
            let kept: Vec<bool> = (0..count).map(|bit| kept & (1 << bit) != 0).collect();
            if !state.is_legal(&kept) {
                continue;
            }
            let after = state.after(&kept);
            if !trees.insert(after.tree()) {
                continue;
            }
            let unsynced: Vec<u64> = after.unsynced();
            for choice in 0..3_usize.pow(u32::try_from(unsynced.len()).expect("few files")) {
                let crashed = after.with_content(&unsynced, choice);
                states += 1;
                each(&Self::of(crashed, self.has_syncfs, self.has_links));
            }
        }
        states
    }

    /// Returns one state that a crash now may leave; `below(n)` picks a number under n.
    #[cfg(feature = "probe")]
    pub(crate) fn crash(&self, mut below: impl FnMut(usize) -> usize) -> Self {
        let state = self.state();
        let mut kept: Vec<bool> = Vec::new();
        for (later, change) in state.pending.iter().enumerate() {
            let possible =
                (0..later).all(|earlier| kept[earlier] || !change.shares_a_name(&state.pending[earlier]));
            kept.push(possible && below(2) == 0);
        }
        let after = state.after(&kept);
        let unsynced = after.unsynced();
        let choices = 3_usize.saturating_pow(u32::try_from(unsynced.len()).unwrap_or(u32::MAX));
        let crashed = after.with_content(&unsynced, below(choices));
        Self::of(crashed, self.has_syncfs, self.has_links)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with it")
    }

    fn event(&self) -> MutexGuard<'_, Option<Event>> {
        self.event.lock().expect("no test panics with it")
    }

    /// Counts a call and makes happen what shall happen at it.
    fn step(&self) -> io::Result<MutexGuard<'_, State>> {
        let number = self.calls.load(Ordering::Relaxed);
        self.calls.store(number + 1, Ordering::Relaxed);
        let event = *self.event();
        match event {
            Some(Event::Meddle(at, change)) if number == at => {
                *self.event() = None;
                change(self);
                self.settle();
                self.calls.store(number + 1, Ordering::Relaxed);
                Ok(self.state())
            }
            Some(Event::Crash(at)) if number >= at => Err(io::Error::other("power is lost")),
            Some(Event::Fail(at, errno)) if number == at => Err(errno.into()),
            _ => Ok(self.state()),
        }
    }
}

fn handle(inode: u64) -> Handle {
    Handle { inode, offset: Arc::default() }
}

fn stat_of(number: u64, inode: &Inode) -> Stat {
    let size = match &inode.body {
        Body::File(bytes) => bytes.len() as u64,
        _ => 0,
    };
    Stat {
        kind: inode.kind(),
        mode: inode.mode,
        uid: 0,
        gid: 0,
        size,
        modified: inode.modified,
        changed: (inode.changed, 0),
        device: 1,
        inode: number,
    }
}

impl Look for Simulated {
    type Handle = Handle;

    fn folder(&self, at: &Handle, path: &Path) -> io::Result<Handle> {
        let state = self.step()?;
        let mut inode = at.inode;
        for part in path.components() {
            let Component::Normal(name) = part else { return Err(Errno::XDEV.into()) };
            inode = state.lookup(inode, name)?;
            state.names(inode)?;
        }
        Ok(handle(inode))
    }

    fn open(&self, at: &Handle, name: &OsStr) -> io::Result<Handle> {
        let state = self.step()?;
        let inode = state.lookup(at.inode, name)?;
        if state.inode(inode)?.kind() == Kind::Symlink {
            return Err(Errno::LOOP.into());
        }
        Ok(handle(inode))
    }

    fn list(&self, at: &Handle, _limit: usize) -> io::Result<Vec<OsString>> {
        Ok(self.step()?.names(at.inode)?.keys().cloned().collect())
    }

    fn stat(&self, at: &Handle, name: &OsStr) -> io::Result<Stat> {
        let state = self.step()?;
        let inode = state.lookup(at.inode, name)?;
        Ok(stat_of(inode, state.inode(inode)?))
    }

    fn read_link(&self, at: &Handle, name: &OsStr) -> io::Result<NodePath> {
        let state = self.step()?;
        let inode = state.lookup(at.inode, name)?;
        match &state.inode(inode)?.body {
            Body::Symlink(target) => Ok(target.clone()),
            _ => Err(Errno::INVAL.into()),
        }
    }
}

impl Content for Simulated {
    fn describe(&self, of: &Handle) -> io::Result<Stat> {
        Ok(stat_of(of.inode, self.step()?.inode(of.inode)?))
    }

    fn xattrs(&self, of: &Handle) -> io::Result<Xattrs> {
        Ok(self.step()?.inode(of.inode)?.xattrs.clone())
    }

    fn read(&self, from: &Handle, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.step()?;
        let Body::File(bytes) = &state.inode(from.inode)?.body else { return Err(Errno::ISDIR.into()) };
        let rest = bytes.get(from.offset.load(Ordering::Relaxed)..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        from.offset.fetch_add(count, Ordering::Relaxed);
        Ok(count)
    }

    fn create(&self, at: &Handle, name: &OsStr) -> io::Result<Handle> {
        let mut state = self.step()?;
        if self.is_full.load(Ordering::Relaxed) {
            return Err(Errno::NOSPC.into());
        }
        let inode = Inode::new(Body::File(Vec::new()), 0o600, state.time);
        state.add(at.inode, name, inode).map(handle)
    }

    fn write(&self, to: &Handle, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.step()?;
        state.time += 1;
        let time = state.time;
        let inode = state.inode_mut(to.inode)?;
        let Body::File(content) = &mut inode.body else { return Err(Errno::ISDIR.into()) };
        content.extend_from_slice(bytes);
        inode.modified = (time, 0);
        inode.changed = time;
        Ok(())
    }

    fn set_attributes(&self, of: &Handle, attributes: &Attributes) -> io::Result<()> {
        let mut state = self.step()?;
        state.time += 1;
        let time = state.time;
        let inode = state.inode_mut(of.inode)?;
        inode.mode = attributes.mode;
        inode.modified = attributes.modified;
        inode.xattrs.extend(attributes.xattrs.clone());
        inode.changed = time;
        Ok(())
    }

    fn remove_xattr(&self, of: &Handle, name: &NodePath) -> io::Result<()> {
        self.step()?.inode_mut(of.inode)?.xattrs.remove(name);
        Ok(())
    }
}

impl Names for Simulated {
    fn make_folder(&self, at: &Handle, name: &OsStr) -> io::Result<()> {
        let mut state = self.step()?;
        let inode = Inode::new(Body::Folder(BTreeMap::new()), 0o700, state.time);
        state.add(at.inode, name, inode).map(|_| ())
    }

    fn make_symlink(&self, at: &Handle, name: &OsStr, target: &NodePath, a: &Attributes) -> io::Result<()> {
        let mut state = self.step()?;
        let mut inode = Inode::new(Body::Symlink(target.clone()), 0o777, state.time);
        inode.modified = a.modified;
        state.add(at.inode, name, inode).map(|_| ())
    }

    fn link(&self, at: &Handle, name: &OsStr, to: &Handle, new: &OsStr) -> io::Result<()> {
        let mut state = self.step()?;
        if !self.has_links {
            return Err(Errno::PERM.into());
        }
        let inode = state.lookup(at.inode, name)?;
        if state.lookup(to.inode, new).is_ok() {
            return Err(Errno::EXIST.into());
        }
        state.change(Pending(vec![((to.inode, new.to_owned()), Some(inode))]))
    }

    fn rename(&self, at: &Handle, name: &OsStr, to: &Handle, new: &OsStr, how: Rename) -> io::Result<()> {
        let mut state = self.step()?;
        let inode = state.lookup(at.inode, name)?;
        let other = state.lookup(to.inode, new).ok();
        if how == Rename::Replace && new.as_encoded_bytes().ends_with(b".yaml") {
            self.replaced.lock().expect("no test panics with it").push(self.calls() - 1);
        }
        let left = match how {
            // rename(2): two names of one file stay as they are.
            Rename::Replace if other == Some(inode) => return Ok(()),
            Rename::NoReplace if other.is_some() => return Err(Errno::EXIST.into()),
            Rename::Exchange if other.is_none() => return Err(Errno::NOENT.into()),
            Rename::Exchange => other,
            _ => None,
        };
        let (from, to) = ((at.inode, name.to_owned()), (to.inode, new.to_owned()));
        state.change(Pending(vec![(from, left), (to, Some(inode))]))
    }

    fn remove(&self, at: &Handle, name: &OsStr, kind: Kind) -> io::Result<()> {
        let mut state = self.step()?;
        let inode = state.lookup(at.inode, name)?;
        match &state.inode(inode)?.body {
            Body::Folder(names) if !names.is_empty() => return Err(Errno::NOTEMPTY.into()),
            Body::Folder(_) if kind != Kind::Folder => return Err(Errno::ISDIR.into()),
            Body::Folder(_) => {}
            _ if kind == Kind::Folder => return Err(Errno::NOTDIR.into()),
            _ => self.is_full.store(false, Ordering::Relaxed),
        }
        state.change(Pending(vec![((at.inode, name.to_owned()), None)]))
    }
}
