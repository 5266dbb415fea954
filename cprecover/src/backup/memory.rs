//! A node's manifests and its real store on the file system in memory, for simulations of what stands
//! above the store.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::Group;
use super::fs::place::Place;
use super::fs::simulated::{Event, Simulated};
use super::group::Layout;
use super::restore::{InstallOptions, NewFile, RestoreOptions, Selection};
use super::snapshot::{CreateOptions, Snapshot, SnapshotId};
use super::vault::{SYNC_EACH_UP_TO, Seen, Vault};
use crate::error::Result;
use crate::model::Component;
use crate::node::NodeOptions;
use crate::sys::Deadline;

const MANIFESTS: &str = "/etc/kubernetes/manifests";
const SNAPSHOTS: &str = "/store/snapshots";

/// Files by name.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// The manifests folder and the store of one node, in memory.
pub(crate) struct MemoryNode {
    fs: Simulated,
    /// What was read since the last change.
    visible: RefCell<Option<Rc<Files>>>,
    snapshots: RefCell<Option<Rc<Snapshots>>>,
}

/// Snapshots, oldest first, with whether each verifies.
pub(crate) type Snapshots = Vec<(Snapshot, bool)>;

impl MemoryNode {
    /// Makes an empty manifests folder and an empty store.
    pub(crate) fn new() -> Result<Self> {
        let node =
            Self { fs: Simulated::new(true), visible: RefCell::default(), snapshots: RefCell::default() };
        let etc = node.top().make_folder("etc")?.make_folder("kubernetes")?;
        etc.make_folder("manifests")?;
        node.top().make_folder("store")?;
        node.fs.settle();
        Ok(node)
    }

    fn top(&self) -> Place<'_, Simulated> {
        Place { fs: &self.fs, handle: Simulated::top(), path: "/".into() }
    }

    fn vault(&self, node: &NodeOptions, now: Duration) -> Result<Vault<'_, Simulated>> {
        Ok(Vault {
            fs: &self.fs,
            store: self.top().folder("/store")?,
            root: self.top(),
            layout: Layout::of(node),
            node_name: node.node_name.clone(),
            owner: (0, 0),
            now,
            sync_each_up_to: SYNC_EACH_UP_TO,
            seen: Seen::default(),
        })
    }

    /// Opens the store for a change, ending first what a crash left half done, as the store itself does.
    fn change(&self, node: &NodeOptions, now: Duration) -> Result<Vault<'_, Simulated>> {
        self.forget();
        let vault = self.vault(node, now)?;
        vault.recover()?;
        Ok(vault)
    }

    fn forget(&self) {
        self.visible.take();
        self.snapshots.take();
    }

    /// Writes a file of the manifests folder as an editor would, durably.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.forget();
        let manifests = self.top().folder(MANIFESTS)?;
        manifests.remove_if_any(name)?;
        manifests.create(name, bytes)?;
        self.fs.settle();
        Ok(())
    }

    /// Removes a file of the manifests folder, durably.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        self.forget();
        self.top().folder(MANIFESTS)?.remove_if_any(name)?;
        self.fs.settle();
        Ok(())
    }

    /// Flips a bit of a component's manifest in every snapshot.
    pub(crate) fn rot(&self, component: Component) -> Result<()> {
        self.forget();
        for path in self.fs.files(SNAPSHOTS).keys().filter(|path| path.ends_with(component.manifest_file())) {
            let (folder, name) = path.rsplit_once('/').unwrap_or_default();
            let folder = self.top().folder(format!("{SNAPSHOTS}/{folder}"))?;
            let mut bytes = folder.read(name, 1 << 20)?;
            if let Some(byte) = bytes.last_mut() {
                *byte ^= 1;
            }
            folder.remove_if_any(name)?;
            folder.create(name, &bytes)?;
        }
        self.fs.settle();
        Ok(())
    }

    /// What kubelet sees.
    pub(crate) fn visible(&self) -> Rc<Files> {
        let read = || {
            let files = self.fs.files(MANIFESTS).into_iter();
            Rc::new(files.filter(|(name, _)| !name.starts_with('.')).collect())
        };
        self.visible.borrow_mut().get_or_insert_with(read).clone()
    }

    /// The content of every file in the manifests folder, hidden ones too, and in the store's snapshots.
    pub(crate) fn everything(&self) -> Vec<Vec<u8>> {
        let live = self.fs.files(MANIFESTS).into_values();
        live.chain(self.fs.files(SNAPSHOTS).into_values()).collect()
    }

    /// Takes a snapshot of the manifests.
    pub(crate) fn create(&self, node: &NodeOptions, now: Duration, healthy: bool) -> Result<Snapshot> {
        let options = CreateOptions {
            groups: vec![Group::Manifests],
            health_verified: healthy,
            ..CreateOptions::default()
        };
        let snapshot = self.change(node, now)?.create(&options, &[], &minute())?;
        self.fs.settle();
        Ok(snapshot)
    }

    /// Lists and verifies the snapshots.
    pub(crate) fn snapshots(&self, node: &NodeOptions, now: Duration) -> Result<Rc<Snapshots>> {
        if let Some(known) = &*self.snapshots.borrow() {
            return Ok(known.clone());
        }
        let vault = self.vault(node, now)?;
        let ids = vault.ids()?;
        let read = |id: &SnapshotId| {
            let good = vault.verify(id, &minute())?.is_usable();
            Ok((vault.load(id)?.snapshot, good))
        };
        let all: Rc<Snapshots> = Rc::new(ids.iter().map(read).collect::<Result<_>>()?);
        self.snapshots.replace(Some(all.clone()));
        Ok(all)
    }

    /// Puts one component's manifest back.
    pub(crate) fn restore(
        &self,
        node: &NodeOptions,
        now: Duration,
        id: &str,
        component: Component,
    ) -> Result<()> {
        let selection = Selection::Components(vec![component]);
        let vault = self.change(node, now)?;
        vault.restore(&id.parse()?, &selection, &RestoreOptions::default(), &minute()).map(|_| ())
    }

    /// Puts back the file of this digest that some snapshot holds; `false` when none does.
    pub(crate) fn put_back(
        &self,
        node: &NodeOptions,
        now: Duration,
        file: &str,
        digest: crate::model::Digest,
    ) -> Result<bool> {
        let path = node.manifests_dir.join(file);
        let snapshots = self.snapshots(node, now)?;
        let found = snapshots.iter().find(|(snapshot, _)| {
            snapshot.entries.iter().any(|entry| entry.path.as_path() == path && entry.sha256 == Some(digest))
        });
        let Some((snapshot, _)) = found else { return Ok(false) };
        let selection = Selection::Files(vec![path]);
        let vault = self.change(node, now)?;
        vault.restore(&snapshot.id, &selection, &RestoreOptions::default(), &minute())?;
        Ok(true)
    }

    /// Puts a new manifest in place.
    pub(crate) fn install(&self, node: &NodeOptions, now: Duration, file: &str, bytes: &[u8]) -> Result<()> {
        let file = NewFile::new(node.manifests_dir.join(file), bytes);
        self.change(node, now)?.install(&[file], &InstallOptions::default(), &minute()).map(|_| ())
    }

    /// Takes a manifest out of kubelet's sight.
    pub(crate) fn hold(&self, node: &NodeOptions, now: Duration, file: &str, reason: &str) -> Result<()> {
        self.change(node, now)?.hold(file, reason, &minute()).map(|_| ())
    }

    /// Takes a second manifest of a pod out of kubelet's sight.
    pub(crate) fn set_aside(&self, node: &NodeOptions, now: Duration, file: &str) -> Result<()> {
        self.change(node, now)?.set_aside(file, "simulated", &minute()).map(|_| ())
    }

    /// Why a manifest is held; `None` when it is not.
    pub(crate) fn held(&self, node: &NodeOptions, now: Duration, file: &str) -> Result<Option<String>> {
        let held = self.vault(node, now)?.held()?;
        Ok(held.into_iter().find(|held| held.file == file).map(|held| held.reason))
    }

    /// Puts a held manifest back.
    pub(crate) fn release(&self, node: &NodeOptions, now: Duration, file: &str) -> Result<()> {
        self.change(node, now)?.release(file, &minute()).map(|_| ())
    }

    /// Lets the call number `at` from now, and all after it, fail as when the power is lost or the process
    /// killed; [`MemoryNode::killed`] or [`MemoryNode::crashed`] says which of them it was.
    pub(crate) fn stop_at(&self, at: usize) {
        self.fs.expect(Some(Event::Crash(at)));
    }

    /// The process was killed: what it did is there.
    pub(crate) fn killed(&mut self) {
        self.forget();
        self.fs.expect(None);
    }

    /// The power was lost: what was not synced may be there or not.
    pub(crate) fn crashed(&mut self, below: impl FnMut(usize) -> usize) {
        self.forget();
        self.fs = self.fs.crash(below);
    }
}

/// The deadline of one change; the file system in memory needs none.
fn minute() -> Deadline {
    Deadline::after(Duration::from_mins(10))
}
