//! A file system in memory that forgets what POSIX lets a crash forget.
//!
//! What was not synced may be lost or kept, each name change by itself: the pending changes of names
//! are kept as a list, and a crash keeps any subset of them that is closed under "same name, earlier
//! change". A file's content that was not synced is there after a crash wholly, in part, or not at
//! all. `fsync` of a folder makes its names durable, `fsync` of a file its content (POSIX.1-2024,
//! fsync; the order of anything else is not promised).

#![allow(clippy::indexing_slicing, reason = "a test's own arrays")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path};
use std::rc::Rc;

use rustix::io::Errno;

use super::{Attributes, Content, Durable, Kind, Look, Names, Rename, Stat, Xattrs};
use crate::backup::snapshot::NodePath;

const TOP: u64 = 1;
const MAX_PENDING: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Body {
    File(Vec<u8>),
    Folder(BTreeMap<OsString, u64>),
    Symlink(NodePath),
}

#[derive(Debug, Clone)]
struct Inode {
    body: Body,
    mode: u32,
    modified: (i64, u32),
    changed: i64,
    xattrs: Xattrs,
    /// A file's content on stable storage; none when it was never synced.
    durable: Option<Vec<u8>>,
    /// A folder's names on stable storage.
    disk: BTreeMap<OsString, u64>,
}

/// A change of names that is not on stable storage: what each name is afterwards.
#[derive(Debug, Clone)]
struct Pending(Vec<((u64, OsString), Option<u64>)>);

impl Pending {
    fn shares_a_name(&self, other: &Self) -> bool {
        self.0.iter().any(|(slot, _)| other.0.iter().any(|(known, _)| known == slot))
    }
}

#[derive(Debug, Clone)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    pending: Vec<Pending>,
    next: u64,
    time: i64,
}

/// What happens at a call of a certain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// Power is lost before the call takes effect.
    Crash(usize),
    /// The call fails, and later ones do not.
    Fail(usize, Errno),
}

/// The file system.
#[derive(Debug)]
pub(crate) struct Simulated {
    state: RefCell<State>,
    calls: Cell<usize>,
    event: Cell<Option<Event>>,
    has_syncfs: bool,
}

/// An open file or folder.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    inode: u64,
    offset: Rc<Cell<usize>>,
}

impl Simulated {
    pub(crate) fn new(has_syncfs: bool) -> Self {
        let mut inodes = BTreeMap::new();
        inodes.insert(TOP, Inode::new(Body::Folder(BTreeMap::new()), 0o700, 1));
        let state = State { inodes, pending: Vec::new(), next: 2, time: 1 };
        Self::of(state, has_syncfs)
    }

    fn of(state: State, has_syncfs: bool) -> Self {
        Self { state: RefCell::new(state), calls: Cell::new(0), event: Cell::new(None), has_syncfs }
    }

    /// Returns the same file system, with nothing going to happen to it.
    pub(crate) fn copy(&self) -> Self {
        Self::of(self.state.borrow().clone(), self.has_syncfs)
    }

    pub(crate) fn top() -> Handle {
        Handle { inode: TOP, offset: Rc::new(Cell::new(0)) }
    }

    pub(crate) fn expect(&self, event: Option<Event>) {
        self.calls.set(0);
        self.event.set(event);
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.get()
    }

    /// Makes everything durable, as after a long time of rest.
    pub(crate) fn settle(&self) {
        let mut state = self.state.borrow_mut();
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
        let state = self.state.borrow();
        let mut files = BTreeMap::new();
        if let Some(inode) = state.find(path) {
            state.collect(inode, String::new(), &mut files);
        }
        files
    }

    /// Calls `each` with every state that a crash now may leave; returns how many there were.
    pub(crate) fn crashes(&self, mut each: impl FnMut(&Self)) -> usize {
        let state = self.state.borrow();
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
                each(&Self::of(crashed, self.has_syncfs));
            }
        }
        states
    }

    /// Returns one state that a crash now may leave; `below(n)` picks a number under n.
    pub(crate) fn crash(&self, mut below: impl FnMut(usize) -> usize) -> Self {
        let state = self.state.borrow();
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
        Self::of(crashed, self.has_syncfs)
    }

    /// Counts a call and makes happen what shall happen at it.
    fn step(&self) -> io::Result<std::cell::RefMut<'_, State>> {
        let number = self.calls.get();
        self.calls.set(number + 1);
        match self.event.get() {
            Some(Event::Crash(at)) if number >= at => Err(io::Error::other("power is lost")),
            Some(Event::Fail(at, errno)) if number == at => Err(errno.into()),
            _ => Ok(self.state.borrow_mut()),
        }
    }
}

impl Inode {
    fn new(body: Body, mode: u32, time: i64) -> Self {
        Self {
            body,
            mode,
            modified: (time, 0),
            changed: time,
            xattrs: Xattrs::new(),
            durable: None,
            disk: BTreeMap::new(),
        }
    }

    fn kind(&self) -> Kind {
        match self.body {
            Body::File(_) => Kind::File,
            Body::Folder(_) => Kind::Folder,
            Body::Symlink(_) => Kind::Symlink,
        }
    }
}

impl State {
    fn inode(&self, number: u64) -> io::Result<&Inode> {
        self.inodes.get(&number).ok_or_else(|| Errno::NOENT.into())
    }

    fn inode_mut(&mut self, number: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&number).ok_or_else(|| Errno::NOENT.into())
    }

    fn names(&self, folder: u64) -> io::Result<&BTreeMap<OsString, u64>> {
        match &self.inode(folder)?.body {
            Body::Folder(names) => Ok(names),
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    fn lookup(&self, folder: u64, name: &OsStr) -> io::Result<u64> {
        self.names(folder)?.get(name).copied().ok_or_else(|| Errno::NOENT.into())
    }

    fn find(&self, path: &str) -> Option<u64> {
        let names = path.split('/').filter(|name| !name.is_empty());
        names.into_iter().try_fold(TOP, |folder, name| self.lookup(folder, name.as_ref()).ok())
    }

    fn collect(&self, inode: u64, path: String, into: &mut BTreeMap<String, Vec<u8>>) {
        match self.inodes.get(&inode).map(|inode| &inode.body) {
            Some(Body::File(bytes)) => {
                into.insert(path, bytes.clone());
            }
            Some(Body::Folder(names)) => {
                for (name, inner) in names {
                    let slash = if path.is_empty() { "" } else { "/" };
                    self.collect(*inner, format!("{path}{slash}{}", name.display()), into);
                }
            }
            _ => {}
        }
    }

    /// Changes names now, and remembers that stable storage does not know yet.
    fn change(&mut self, change: Pending) -> io::Result<()> {
        self.time += 1;
        let time = self.time;
        for ((folder, name), inode) in &change.0 {
            let folder = self.inode_mut(*folder)?;
            folder.modified = (time, 0);
            folder.changed = time;
            let Body::Folder(names) = &mut folder.body else { return Err(Errno::NOTDIR.into()) };
            match inode {
                Some(inode) => names.insert(name.clone(), *inode),
                None => names.remove(name),
            };
        }
        self.pending.push(change);
        Ok(())
    }

    fn add(&mut self, folder: u64, name: &OsStr, inode: Inode) -> io::Result<u64> {
        if self.lookup(folder, name).is_ok() {
            return Err(Errno::EXIST.into());
        }
        self.names(folder)?;
        let number = self.next;
        self.next += 1;
        self.inodes.insert(number, inode);
        self.change(Pending(vec![((folder, name.to_owned()), Some(number))]))?;
        Ok(number)
    }

    /// Reports whether a crash may keep just these changes.
    fn is_legal(&self, kept: &[bool]) -> bool {
        self.pending.iter().enumerate().all(|(later, change)| {
            !kept[later]
                || (0..later).all(|earlier| kept[earlier] || !change.shares_a_name(&self.pending[earlier]))
        })
    }

    /// Returns what stable storage holds when a crash keeps these changes.
    fn after(&self, kept: &[bool]) -> Self {
        let mut after = self.clone();
        let kept = self.pending.iter().zip(kept).filter(|(_, kept)| **kept);
        for ((folder, name), inode) in kept.flat_map(|(change, _)| &change.0) {
            let disk = &mut after.inodes.get_mut(folder).expect("folder").disk;
            match inode {
                Some(inode) => disk.insert(name.clone(), *inode),
                None => disk.remove(name),
            };
        }
        after.pending.clear();
        for inode in after.inodes.values_mut() {
            if let Body::Folder(names) = &mut inode.body {
                *names = inode.disk.clone();
            }
        }
        let mut seen = BTreeSet::new();
        let mut todo = vec![TOP];
        while let Some(number) = todo.pop() {
            if seen.insert(number)
                && let Some(Body::Folder(names)) = after.inodes.get(&number).map(|inode| &inode.body)
            {
                todo.extend(names.values());
            }
        }
        after.inodes.retain(|number, _| seen.contains(number));
        after
    }

    /// Returns what tells two trees apart, without the content of files.
    fn tree(&self) -> Vec<(u64, BTreeMap<OsString, u64>)> {
        self.inodes.iter().map(|(number, inode)| (*number, inode.disk.clone())).collect()
    }

    fn unsynced(&self) -> Vec<u64> {
        let differs = |inode: &Inode| matches!(&inode.body, Body::File(now) if inode.durable.as_ref() != Some(now) && !now.is_empty());
        self.inodes.iter().filter(|(_, inode)| differs(inode)).map(|(number, _)| *number).collect()
    }

    /// Decides for each unsynced file what is left of it: nothing, a part, all.
    fn with_content(&self, unsynced: &[u64], mut choice: usize) -> Self {
        let mut state = self.clone();
        for number in unsynced {
            let inode = state.inodes.get_mut(number).expect("reachable");
            let Body::File(now) = &mut inode.body else { continue };
            match choice % 3 {
                0 => *now = inode.durable.clone().unwrap_or_default(),
                1 => {
                    // The length may be on disk before the blocks are: zeros.
                    let half = now.len() / 2;
                    now[half..].fill(0);
                }
                _ => {}
            }
            choice /= 3;
        }
        for inode in state.inodes.values_mut() {
            if let Body::File(bytes) = &inode.body {
                inode.durable = Some(bytes.clone());
            }
        }
        state
    }

    /// Makes a folder's names durable, with the earlier changes that they build upon.
    fn sync_names(&mut self, folder: u64) {
        let mut wanted: Vec<bool> =
            self.pending.iter().map(|change| change.0.iter().any(|((at, _), _)| *at == folder)).collect();
        for later in (0..self.pending.len()).rev() {
            for earlier in 0..later {
                if wanted[later] && self.pending[later].shares_a_name(&self.pending[earlier]) {
                    wanted[earlier] = true;
                }
            }
        }
        let changes = std::mem::take(&mut self.pending);
        for (change, wanted) in changes.into_iter().zip(wanted) {
            if !wanted {
                self.pending.push(change);
                continue;
            }
            for ((folder, name), inode) in change.0 {
                let Some(folder) = self.inodes.get_mut(&folder) else { continue };
                match inode {
                    Some(inode) => folder.disk.insert(name, inode),
                    None => folder.disk.remove(&name),
                };
            }
        }
    }
}

fn handle(inode: u64) -> Handle {
    Handle { inode, offset: Rc::new(Cell::new(0)) }
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
        let rest = bytes.get(from.offset.get()..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        from.offset.set(from.offset.get() + count);
        Ok(count)
    }

    fn create(&self, at: &Handle, name: &OsStr) -> io::Result<Handle> {
        let mut state = self.step()?;
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
        let left = match how {
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
            _ => {}
        }
        state.change(Pending(vec![((at.inode, name.to_owned()), None)]))
    }
}

impl Durable for Simulated {
    fn start_writeback(&self, _of: &Handle) {}

    fn sync(&self, of: &Handle) -> io::Result<()> {
        let mut state = self.step()?;
        let inode = state.inode_mut(of.inode)?;
        match &inode.body {
            Body::File(bytes) => inode.durable = Some(bytes.clone()),
            _ => state.sync_names(of.inode),
        }
        Ok(())
    }

    fn sync_everything(&self, _of: &Handle) -> io::Result<bool> {
        drop(self.step()?);
        if self.has_syncfs {
            self.settle();
        }
        Ok(self.has_syncfs)
    }
}
