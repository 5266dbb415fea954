//! What the simulated file system holds, and what of it a crash may keep.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;

use rustix::io::Errno;

use super::{Kind, NodePath, TOP, Xattrs};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Body {
    File(Vec<u8>),
    Folder(BTreeMap<OsString, u64>),
    Symlink(NodePath),
}

#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub(super) body: Body,
    pub(super) mode: u32,
    pub(super) modified: (i64, u32),
    pub(super) changed: i64,
    pub(super) xattrs: Xattrs,
    /// A file's content on stable storage; none when it was never synced.
    pub(super) durable: Option<Vec<u8>>,
    /// A folder's names on stable storage.
    pub(super) disk: BTreeMap<OsString, u64>,
}

/// A change of names that is not on stable storage: what each name is afterwards.
#[derive(Debug, Clone)]
pub(super) struct Pending(pub(super) Vec<((u64, OsString), Option<u64>)>);

impl Pending {
    pub(super) fn shares_a_name(&self, other: &Self) -> bool {
        self.0.iter().any(|(slot, _)| other.0.iter().any(|(known, _)| known == slot))
    }
}

#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) pending: Vec<Pending>,
    pub(super) next: u64,
    pub(super) time: i64,
}

impl Inode {
    pub(super) fn new(body: Body, mode: u32, time: i64) -> Self {
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

    pub(super) fn kind(&self) -> Kind {
        match self.body {
            Body::File(_) => Kind::File,
            Body::Folder(_) => Kind::Folder,
            Body::Symlink(_) => Kind::Symlink,
        }
    }
}

impl State {
    pub(super) fn inode(&self, number: u64) -> io::Result<&Inode> {
        self.inodes.get(&number).ok_or_else(|| Errno::NOENT.into())
    }

    pub(super) fn inode_mut(&mut self, number: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&number).ok_or_else(|| Errno::NOENT.into())
    }

    pub(super) fn names(&self, folder: u64) -> io::Result<&BTreeMap<OsString, u64>> {
        match &self.inode(folder)?.body {
            Body::Folder(names) => Ok(names),
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    pub(super) fn lookup(&self, folder: u64, name: &OsStr) -> io::Result<u64> {
        self.names(folder)?.get(name).copied().ok_or_else(|| Errno::NOENT.into())
    }

    pub(super) fn find(&self, path: &str) -> Option<u64> {
        let names = path.split('/').filter(|name| !name.is_empty());
        names.into_iter().try_fold(TOP, |folder, name| self.lookup(folder, name.as_ref()).ok())
    }

    pub(super) fn collect(&self, inode: u64, path: String, into: &mut BTreeMap<String, Vec<u8>>) {
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
    pub(super) fn change(&mut self, change: Pending) -> io::Result<()> {
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

    pub(super) fn add(&mut self, folder: u64, name: &OsStr, inode: Inode) -> io::Result<u64> {
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
    pub(super) fn is_legal(&self, kept: &[bool]) -> bool {
        self.pending.iter().enumerate().all(|(later, change)| {
            !kept[later]
                || (0..later).all(|earlier| kept[earlier] || !change.shares_a_name(&self.pending[earlier]))
        })
    }

    /// Returns what stable storage holds when a crash keeps these changes.
    pub(super) fn after(&self, kept: &[bool]) -> Self {
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
    pub(super) fn tree(&self) -> Vec<(u64, BTreeMap<OsString, u64>)> {
        self.inodes.iter().map(|(number, inode)| (*number, inode.disk.clone())).collect()
    }

    pub(super) fn unsynced(&self) -> Vec<u64> {
        let differs = |inode: &Inode| matches!(&inode.body, Body::File(now) if inode.durable.as_ref() != Some(now) && !now.is_empty());
        self.inodes.iter().filter(|(_, inode)| differs(inode)).map(|(number, _)| *number).collect()
    }

    /// Decides for each unsynced file what is left of it: nothing, a part, all.
    pub(super) fn with_content(&self, unsynced: &[u64], mut choice: usize) -> Self {
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
    pub(super) fn sync_names(&mut self, folder: u64) {
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
