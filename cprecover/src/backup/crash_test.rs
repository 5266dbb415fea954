//! Every crash point of every change, in every state that POSIX lets it leave, and every failing call.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::similar_names)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;

use super::fs::place::Place;
use super::fs::simulated::{Event, Simulated};
use super::fs::{Attributes, Content as _, Look as _, Names as _, Xattrs};
use super::group::Layout;
use super::restore::{InstallOptions, NewFile, RestoreOptions, Selection};
use super::snapshot::{CreateOptions, NodePath, Snapshot, SnapshotId};
use super::vault::{HELD_PREFIX, SYNC_EACH_UP_TO, Seen, Vault};
use super::{HeldState, Retention};
use crate::error::Result;
use crate::node::NodeOptions;
use crate::sys::Deadline;

pub(super) const MANIFESTS: &str = "/etc/kubernetes/manifests";

pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// What is run, on which file system.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) fs: Simulated,
    pub(super) run: fn(&Vault<'_, Simulated>) -> Result<()>,
    /// Whether the snapshots from before may be gone afterwards.
    pub(super) prunes: bool,
    /// How many files are synced one by one.
    pub(super) sync_each_up_to: usize,
}

pub(super) fn pod(name: &str, version: u32) -> Vec<u8> {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: 'i:{version}'}}]}}\n")
        .into_bytes()
}

pub(super) fn minute() -> Deadline {
    Deadline::after(Duration::from_mins(10))
}

fn node() -> NodeOptions {
    NodeOptions::at("/").unwrap()
}

pub(super) fn top(fs: &Simulated) -> Place<'_, Simulated> {
    Place { fs, handle: Simulated::top(), path: "/".into() }
}

/// Opens the store at `/store`; the time is that of the node's last change, so that ids differ.
pub(super) fn vault(fs: &Simulated, now_s: u64, sync_each_up_to: usize) -> Result<Vault<'_, Simulated>> {
    Ok(Vault {
        fs,
        store: top(fs).folder("/store")?,
        root: top(fs),
        layout: Layout::of(&node()),
        node_name: None,
        owner: (0, 0),
        now: Duration::from_secs(now_s),
        sync_each_up_to,
        seen: Seen::default(),
    })
}

fn write(fs: &Simulated, name: &str, bytes: &[u8]) {
    let manifests = top(fs).folder(MANIFESTS).unwrap();
    manifests.remove_if_any(name).unwrap();
    manifests.create(name, bytes).unwrap();
    fs.settle();
}

/// Gives a manifest other attributes, an extended one among them.
pub(super) fn set_attributes(fs: &Simulated, name: &str, mode: u32) {
    let label = (NodePath::new("user.label"), NodePath::new("x"));
    let attributes = Attributes { mode, uid: 0, gid: 0, modified: (1, 0), xattrs: Xattrs::from([label]) };
    let manifests = top(fs).folder(MANIFESTS).unwrap();
    fs.set_attributes(&fs.open(&manifests.handle, name.as_ref()).unwrap(), &attributes).unwrap();
    fs.settle();
}

fn remove(fs: &Simulated, name: &str) {
    top(fs).folder(MANIFESTS).unwrap().remove_if_any(name).unwrap();
    fs.settle();
}

/// A node with two manifests of version 1 and an empty store.
pub(super) fn bare(has_syncfs: bool) -> Simulated {
    let fs = Simulated::new(has_syncfs);
    let etc = top(&fs).make_folder("etc").unwrap().make_folder("kubernetes").unwrap();
    etc.make_folder("manifests").unwrap();
    fs.make_folder(&Simulated::top(), "store".as_ref()).unwrap();
    write(&fs, "a.yaml", &pod("a", 1));
    write(&fs, "b.yaml", &pod("b", 1));
    fs
}

/// The same with one snapshot of version 1, and version 2 in place.
fn with_snapshot(has_syncfs: bool) -> Simulated {
    let fs = bare(has_syncfs);
    vault(&fs, 100, 64).unwrap().create(&CreateOptions::default(), &[], &minute()).unwrap();
    write(&fs, "a.yaml", &pod("a", 2));
    write(&fs, "b.yaml", &pod("b", 2));
    fs
}

pub(super) fn restore(vault: &Vault<'_, Simulated>, exact: bool) -> Result<()> {
    let options = RestoreOptions { exact, ..RestoreOptions::default() };
    let id = vault.ids()?.swap_remove(0);
    vault.restore(&id, &Selection::All, &options, &minute()).map(|_| ())
}

fn create(vault: &Vault<'_, Simulated>) -> Result<()> {
    vault.create(&CreateOptions::default(), &[], &minute()).map(|_| ())
}

fn prepared(change: impl FnOnce(&Simulated)) -> Simulated {
    let fs = with_snapshot(true);
    change(&fs);
    fs.settle();
    fs
}

/// The same with other attributes on one of the files, and version 2 of the other.
fn with_attributes() -> Simulated {
    let fs = with_snapshot(true);
    write(&fs, "a.yaml", &pod("a", 1));
    set_attributes(&fs, "a.yaml", 0o644);
    fs
}

pub(super) fn scenarios() -> Vec<Scenario> {
    let install: fn(&Vault<'_, Simulated>) -> Result<()> = |vault| {
        let path = |name: &str| PathBuf::from(MANIFESTS).join(name);
        let files = [NewFile::new(path("a.yaml"), pod("a", 3)), NewFile::new(path("c.yaml"), pod("c", 3))];
        vault.install(&files, &InstallOptions::default(), &minute()).map(|_| ())
    };
    let hold: fn(&Vault<'_, Simulated>) -> Result<()> =
        |vault| vault.hold("a.yaml", "", &minute()).map(|_| ());
    let release: fn(&Vault<'_, Simulated>) -> Result<()> =
        |vault| vault.release("a.yaml", &minute()).map(|_| ());
    let prune: fn(&Vault<'_, Simulated>) -> Result<()> =
        |vault| vault.prune(&Retention::new(1, 0), false).map(|_| ());
    let with = |name, fs, run| Scenario { name, fs, run, prunes: false, sync_each_up_to: SYNC_EACH_UP_TO };
    let held = || prepared(|fs| drop(vault(fs, 200, 64).unwrap().hold("a.yaml", "", &minute()).unwrap()));
    vec![
        with("the first backup", bare(true), create),
        with("a backup of changed files", prepared(|fs| write(fs, "a.yaml", &pod("a", 1))), create),
        Scenario { sync_each_up_to: 0, ..with("a backup by syncfs", with_snapshot(true), create) },
        Scenario { sync_each_up_to: 0, ..with("a big backup without syncfs", with_snapshot(false), create) },
        with("a restore over other files", with_snapshot(true), |vault| restore(vault, false)),
        with("a restore of a lost file", prepared(|fs| remove(fs, "b.yaml")), |vault| restore(vault, false)),
        with("an exact restore", prepared(|fs| write(fs, "c.yaml", &pod("c", 2))), |vault| {
            restore(vault, true)
        }),
        with(
            "a restore of a lost folder",
            prepared(|fs| {
                remove(fs, "a.yaml");
                remove(fs, "b.yaml");
                top(fs)
                    .folder("/etc/kubernetes")
                    .unwrap()
                    .remove("manifests", super::fs::Kind::Folder)
                    .unwrap();
            }),
            |vault| restore(vault, false),
        ),
        Scenario {
            sync_each_up_to: 0,
            ..with("a restore by syncfs", with_snapshot(true), |vault| restore(vault, false))
        },
        Scenario {
            sync_each_up_to: 0,
            ..with("a big restore without syncfs", with_snapshot(false), |vault| restore(vault, false))
        },
        with("a restore without hard links", with_snapshot(true).without_links(), |vault| {
            restore(vault, false)
        }),
        with("a restore of attributes", with_attributes(), |vault| restore(vault, false)),
        with("an install", with_snapshot(true), install),
        with("a hold", with_snapshot(true), hold),
        with("a release", held(), release),
        with(
            "a release of a deleted manifest",
            prepared(|fs| {
                let held = vault(fs, 200, 64).unwrap().hold("a.yaml", "", &minute()).unwrap();
                remove(fs, &held.held_as);
            }),
            release,
        ),
        Scenario {
            prunes: true,
            ..with(
                "a prune",
                prepared(|fs| {
                    for now in [200, 300] {
                        vault(fs, now, 64)
                            .unwrap()
                            .create(&CreateOptions::default(), &[], &minute())
                            .unwrap();
                    }
                }),
                prune,
            )
        },
        with("a mend of a rotted file", rotted("manifests/a.yaml", b"rot"), mend),
        with("a mend of a lost index", rotted("index.json", b"{"), mend),
    ]
}

/// A store whose only snapshot has another content in one of its files.
fn rotted(name: &str, bytes: &[u8]) -> Simulated {
    prepared(|fs| {
        let path = PathBuf::from("/store/snapshots").join(snapshot_of_v1().id.as_str()).join(name);
        let folder = top(fs).folder(path.parent().unwrap()).unwrap();
        folder.remove_if_any(path.file_name().unwrap()).unwrap();
        folder.create(path.file_name().unwrap(), bytes).unwrap();
    })
}

/// The snapshot that [`with_snapshot`] makes.
fn snapshot_of_v1() -> Snapshot {
    let fs = with_snapshot(true);
    let vault = vault(&fs, 100, 64).unwrap();
    vault.load(&vault.ids().unwrap()[0]).unwrap().snapshot
}

/// Takes the snapshot of version 1 in again.
fn mend(vault: &Vault<'_, Simulated>) -> Result<()> {
    let snapshot = snapshot_of_v1();
    let mut index = serde_json::to_vec_pretty(&snapshot).unwrap();
    index.push(b'\n');
    let taken = vault.take_in(&snapshot, &index, |unpack| {
        for entry in snapshot.entries.iter().filter(|entry| entry.sha256.is_some()) {
            let name = if entry.path.as_path().ends_with("a.yaml") { "a" } else { "b" };
            unpack(entry, &mut pod(name, 1).as_slice())?;
        }
        Ok(())
    });
    taken.map(|_| ())
}

/// The files that kubelet would run.
pub(super) fn visible(fs: &Simulated) -> Files {
    fs.files(MANIFESTS).into_iter().filter(|(name, _)| !name.starts_with('.')).collect()
}

/// What must be true of a scenario whatever happens.
struct Expected {
    old: Files,
    new: Files,
    /// The snapshots from before, with what was wrong with them.
    snapshots: BTreeMap<SnapshotId, String>,
    prunes: bool,
}

/// What is wrong with a snapshot; nothing where it is intact.
fn damage(vault: &Vault<'_, Simulated>, id: &SnapshotId) -> String {
    match vault.verify(id, &minute()) {
        Ok(report) if report.is_intact() => String::new(),
        Ok(report) => format!("{report:?}"),
        Err(error) => error.to_string(),
    }
}

impl Expected {
    fn of(scenario: &Scenario) -> (Self, usize) {
        let before = vault(&scenario.fs, 1000, 64).unwrap();
        let fs = scenario.fs.copy();
        fs.expect(None);
        (scenario.run)(&vault(&fs, 1000, scenario.sync_each_up_to).unwrap()).unwrap();
        let expected = Self {
            old: visible(&scenario.fs),
            new: visible(&fs),
            snapshots: before
                .ids()
                .unwrap()
                .into_iter()
                .map(|id| (id.clone(), damage(&before, &id)))
                .collect(),
            prunes: scenario.prunes,
        };
        (expected, fs.calls())
    }

    /// Checks a file system as kubelet finds it, and again after recovery.
    fn check(&self, fs: &Simulated, done: bool, at: &str) {
        // kubelet may start before us: what it sees is never torn, nor under a wrong name.
        for (name, bytes) in visible(fs) {
            let known = [&self.old, &self.new].iter().any(|files| files.get(&name) == Some(&bytes));
            assert!(known, "{at}: kubelet would see {name} with {:?}", String::from_utf8_lossy(&bytes));
        }
        let vault = vault(fs, 2000, 64).unwrap();
        vault.recover().unwrap_or_else(|error| panic!("{at}: recovery: {error}"));
        self.check_recovered(fs, done, at);
        assert_eq!(vault.recover().unwrap(), [], "{at}: a second recovery finds something");
    }

    fn check_recovered(&self, fs: &Simulated, done: bool, at: &str) {
        let now = visible(fs);
        assert!(now == self.new || (!done && now == self.old), "{at}: neither old nor new: {now:?}");
        let vault = vault(fs, 2000, 64).unwrap();
        let held = vault.held().unwrap();
        for name in fs.files(MANIFESTS).keys().filter(|name| name.starts_with('.')) {
            let file = name.strip_prefix(HELD_PREFIX).unwrap_or_else(|| panic!("{at}: left over: {name}"));
            let known = held.iter().any(|held| held.file == file && held.state == HeldState::Held);
            assert!(known, "{at}: {name} is held and nobody knows");
        }
        let ids = vault.ids().unwrap();
        for id in &ids {
            let damage = damage(&vault, id);
            let as_before = !done && self.snapshots.get(id) == Some(&damage);
            assert!(damage.is_empty() || as_before, "{at}: {damage}");
        }
        let lost: Vec<_> = self.snapshots.keys().filter(|id| !ids.contains(id)).collect();
        assert!(lost.is_empty() || (self.prunes && !ids.is_empty()), "{at}: lost {lost:?}");
        self.check_nothing_lost(fs, &vault, at);
    }

    /// Every manifest that stood there before stands there, is held, or is in a snapshot.
    fn check_nothing_lost(&self, fs: &Simulated, vault: &Vault<'_, Simulated>, at: &str) {
        let mut kept: Vec<Vec<u8>> = fs.files(MANIFESTS).into_values().collect();
        for id in vault.ids().unwrap() {
            kept.extend(fs.files(&format!("/store/snapshots/{id}/manifests")).into_values());
        }
        for (name, bytes) in &self.old {
            assert!(kept.contains(bytes), "{at}: {name} is lost");
        }
    }
}

#[test]
fn a_crash_anywhere_ends_in_all_old_or_all_new() {
    let (mut points, mut total, mut nested) = (0, 0, 0);
    for scenario in scenarios() {
        let (expected, calls) = Expected::of(&scenario);
        let mut states = 0;
        for point in 0..=calls {
            let fs = scenario.fs.copy();
            fs.expect(Some(Event::Crash(point)));
            let result = vault(&fs, 1000, scenario.sync_each_up_to).and_then(|vault| (scenario.run)(&vault));
            let at = format!("{}, crash at call {point}", scenario.name);
            points += 1;
            let done = result.is_ok();
            states += fs.crashes(|state| {
                expected.check(&state.copy(), done, &at);
                // Recovery itself may crash; every 16th state shows that too, at each of its calls.
                if point % 16 == 0 && states == 0 {
                    nested += crash_recovery(&expected, state, done, &at);
                }
            });
        }
        println!("{:<34} {calls:>4} crash points, {states:>7} states", scenario.name);
        total += states;
    }
    println!("{points} crash points, {total} states, {nested} of crashed recoveries: 0 lost, 0 mixed");
    assert!(total > 1_000);
}

/// Crashes recovery at each of its calls; returns the number of states tried.
fn crash_recovery(expected: &Expected, state: &Simulated, done: bool, at: &str) -> usize {
    let whole = state.copy();
    whole.expect(None);
    vault(&whole, 2000, 64).unwrap().recover().unwrap();
    let mut states = 0;
    for point in 0..whole.calls() {
        let fs = state.copy();
        fs.expect(Some(Event::Crash(point)));
        let _ = vault(&fs, 2000, 64).and_then(|vault| vault.recover());
        let at = format!("{at}, recovery crashed at call {point}");
        states += fs.crashes(|state| expected.check(&state.copy(), done, &at));
    }
    states
}

#[test]
fn a_failing_call_changes_nothing_or_everything() {
    let mut runs = 0;
    for scenario in scenarios() {
        let (expected, calls) = Expected::of(&scenario);
        for errno in
            [Errno::NOSPC, Errno::IO, Errno::ROFS, Errno::DQUOT, Errno::MFILE, Errno::ACCESS, Errno::PERM]
        {
            for point in 0..calls {
                let fs = scenario.fs.copy();
                fs.expect(Some(Event::Fail(point, errno)));
                let result = vault(&fs, 1000, scenario.sync_each_up_to).and_then(|v| (scenario.run)(&v));
                let at = format!("{}, {errno} at call {point}", scenario.name);
                runs += 1;
                fs.expect(None);
                let now = visible(&fs);
                match &result {
                    Ok(()) => assert_eq!(now, expected.new, "{at}: said done"),
                    Err(error) => {
                        assert_eq!(now, expected.old, "{at}: said {error}");
                        assert!(
                            error.to_string().contains('/') || error.to_string().contains("snapshot"),
                            "{at}: {error}"
                        );
                    }
                }
                expected.check(&fs.copy(), result.is_ok(), &at);
                // And a crash right after: an un-synced record must not finish what was called failed.
                if errno == Errno::IO {
                    fs.crashes(|state| expected.check(&state.copy(), result.is_ok(), &at));
                }
            }
        }
    }
    println!("{runs} failing calls: 0 lost, 0 mixed");
}

/// Several parts of a big change are in hand at once, and the later may be done before the earlier.
#[test]
fn a_big_change_that_fails_in_another_order_is_taken_back() {
    let names: Vec<String> = (0..130).map(|n| format!("m{n:03}.yaml")).collect();
    let fs = bare(true).backwards();
    let write_all = |version| names.iter().for_each(|name| write(&fs, name, &pod(&name[..4], version)));
    write_all(1);
    vault(&fs, 100, 64).unwrap().create(&CreateOptions::default(), &[], &minute()).unwrap();
    write_all(2);
    let old = visible(&fs);
    let renames = std::cell::Cell::new(0);
    let fails_at = |point| {
        let fs = fs.copy();
        fs.expect(Some(Event::Fail(point, Errno::IO)));
        let result = vault(&fs, 1000, 64).and_then(|vault| restore(&vault, false));
        renames.set(
            renames.get() + usize::from(result.as_ref().is_err_and(|e| e.to_string().contains("rename"))),
        );
        fs.expect(None);
        let now = visible(&fs);
        assert!(if result.is_ok() { now != old } else { now == old }, "call {point}: {result:?}");
        vault(&fs, 2000, 64).unwrap().recover().unwrap();
        assert_eq!(visible(&fs) == old, result.is_err(), "call {point}, after recovery");
    };
    let calls = {
        let fs = fs.copy();
        fs.expect(None);
        restore(&vault(&fs, 1000, 64).unwrap(), false).unwrap();
        fs.calls()
    };
    (0..calls).step_by(23).for_each(fails_at);
    assert!(renames.get() > 2, "{} of the swaps failed", renames.get());
}

#[test]
fn the_simulation_forgets_what_was_not_synced() {
    let fs = Simulated::new(true);
    let folder = top(&fs).make_folder("d").unwrap();
    fs.settle();
    let file = folder.create("f", b"12345678").unwrap();
    let mut seen = BTreeSet::new();
    fs.crashes(|state| {
        seen.insert(state.files("/d").get("f").cloned());
    });
    let torn = b"1234\0\0\0\0".to_vec();
    assert_eq!(seen, BTreeSet::from([None, Some(vec![]), Some(torn), Some(b"12345678".to_vec())]));
    folder.told("sync", "f", super::fs::Durable::sync(&fs, &file)).unwrap();
    folder.sync().unwrap();
    assert_eq!(fs.crashes(|state| assert_eq!(state.files("/d")["f"], b"12345678")), 1);
    // A naive write-and-rename without fsync is what this must be able to catch.
    folder.create("g", b"new").unwrap();
    folder.rename("g", &folder, "f", super::fs::Rename::Replace).unwrap();
    let mut torn = false;
    fs.crashes(|state| torn |= state.files("/d")["f"].is_empty());
    assert!(torn, "a rename without fsync can leave an empty file");
}
