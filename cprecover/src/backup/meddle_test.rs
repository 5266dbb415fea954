//! Someone else changes the files right before each call of each change: an editor, a person, an attacker.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::HeldState;
use super::crash_test::{MANIFESTS, Scenario, pod, scenarios, top, vault, visible};
use super::fs::simulated::{Event, Simulated};
use super::fs::{Attributes, Content as _, Kind, Look as _, Names as _, Rename, Xattrs};
use super::snapshot::NodePath;
use super::vault::HELD_PREFIX;
use crate::error::ErrorKind;

/// What the other one does.
struct Meddler {
    name: &'static str,
    does: fn(&Simulated),
    /// What it has written, which must not get lost.
    writes: Option<Vec<u8>>,
}

fn symlink(fs: &Simulated, folder: &str, name: &str, target: &str) {
    let attributes = Attributes { mode: 0o777, uid: 0, gid: 0, modified: (1, 0), xattrs: Xattrs::new() };
    let at = top(fs).folder(folder).unwrap();
    fs.make_symlink(&at.handle, name.as_ref(), &NodePath::new(target), &attributes).unwrap();
}

fn meddlers() -> Vec<Meddler> {
    vec![
        Meddler {
            name: "replaces a manifest",
            does: |fs| {
                let Ok(manifests) = top(fs).folder(MANIFESTS) else { return };
                manifests.create(".new", &pod("a", 9)).unwrap();
                manifests.rename(".new", &manifests, "a.yaml", Rename::Replace).unwrap();
            },
            writes: Some(pod("a", 9)),
        },
        Meddler {
            name: "writes into a manifest",
            does: |fs| {
                let Ok(manifests) = top(fs).folder(MANIFESTS) else { return };
                if let Ok(file) = fs.open(&manifests.handle, "a.yaml".as_ref()) {
                    fs.write(&file, b"# more\n").unwrap();
                }
            },
            writes: None,
        },
        Meddler {
            name: "adds a manifest",
            does: |fs| {
                if let Ok(manifests) = top(fs).folder(MANIFESTS) {
                    manifests.create("z.yaml", &pod("z", 9)).unwrap();
                }
            },
            writes: Some(pod("z", 9)),
        },
        Meddler {
            name: "removes a manifest",
            does: |fs| {
                if let Ok(manifests) = top(fs).folder(MANIFESTS) {
                    manifests.remove_if_any("a.yaml").unwrap();
                }
            },
            writes: None,
        },
        Meddler {
            name: "puts a link in a manifest's place",
            does: |fs| {
                let Ok(manifests) = top(fs).folder(MANIFESTS) else { return };
                manifests.remove_if_any("a.yaml").unwrap();
                symlink(fs, MANIFESTS, "a.yaml", "/etc/shadow");
            },
            writes: None,
        },
        Meddler {
            name: "removes the folder",
            does: |fs| {
                let Ok(manifests) = top(fs).folder(MANIFESTS) else { return };
                for name in manifests.list().unwrap() {
                    manifests.remove(&name, Kind::File).unwrap();
                }
                top(fs).folder("/etc/kubernetes").unwrap().remove("manifests", Kind::Folder).unwrap();
            },
            writes: None,
        },
        Meddler {
            name: "puts a link in the folder's place",
            does: |fs| {
                let etc = top(fs).folder("/etc/kubernetes").unwrap();
                if etc.rename("manifests", &etc, "elsewhere", Rename::NoReplace).is_ok() {
                    symlink(fs, "/etc/kubernetes", "manifests", "/etc/kubernetes/elsewhere");
                }
            },
            writes: None,
        },
    ]
}

/// Every content in the manifests folder, wherever it is now, and in the snapshots.
fn kept(fs: &Simulated) -> BTreeSet<Vec<u8>> {
    let mut kept: BTreeSet<Vec<u8>> = BTreeSet::new();
    for path in [MANIFESTS, "/etc/kubernetes/elsewhere", "/store/snapshots"] {
        kept.extend(fs.files(path).into_values());
    }
    kept
}

/// Returns whether the other one came in between the last look at a file and the rename over it, which nothing
/// can tell: what was just written there under another file's name is lost, as with any editor's own rename.
fn meddle(scenario: &Scenario, meddler: &Meddler, point: usize) -> bool {
    let at = format!("{}, {} at call {point}", scenario.name, meddler.name);
    let fs = scenario.fs.copy();
    let old = visible(&fs);
    fs.expect(Some(Event::Meddle(point, meddler.does)));
    let result = vault(&fs, 1000, scenario.sync_each_up_to).and_then(|vault| (scenario.run)(&vault));
    let in_between = fs.replaced().contains(&point);
    fs.expect(None);
    if let Err(error) = &result {
        let fair = [ErrorKind::Changed, ErrorKind::NotFound, ErrorKind::Refused, ErrorKind::AlreadyExists];
        assert!(fair.contains(&error.kind()), "{at}: {:?}: {error}", error.kind());
    }
    let etc = top(&fs).folder("/etc/kubernetes").unwrap();
    let linked = etc.stat("manifests").unwrap().is_some_and(|stat| stat.kind == Kind::Symlink);
    let after = vault(&fs, 2000, 64).unwrap();
    if linked {
        // Nothing is done through the link; what is half done waits until it is gone.
        if let Err(error) = after.recover() {
            assert_eq!(error.kind(), ErrorKind::Refused, "{at}: {error}");
        }
        etc.remove("manifests", Kind::Symlink).unwrap();
        etc.rename("elsewhere", &etc, "manifests", Rename::NoReplace).unwrap();
    }
    after.recover().unwrap_or_else(|error| panic!("{at}: recovery: {error}"));
    for id in after.ids().unwrap() {
        let report = after.verify(&id, &super::crash_test::minute()).unwrap();
        assert!(report.is_intact(), "{at}: {report:?}");
    }
    let kept = kept(&fs);
    // A link is bytes of nobody; its target was never read.
    assert!(!kept.iter().any(Vec::is_empty), "{at}: an empty file");
    if let Some(written) = meddler.writes.as_ref().filter(|_| !in_between)
        // Without the folder the other one could not write.
        && scenario.name != "a restore of a lost folder"
    {
        assert!(kept.contains(written), "{at}: what the other one wrote is lost");
    }
    let destroys = meddler.name.starts_with("removes") || meddler.name.contains("manifest");
    for (name, bytes) in old.iter().filter(|(name, _)| !destroys || *name != "a.yaml") {
        let gone = meddler.name == "removes the folder";
        assert!(gone || kept.contains(bytes), "{at}: {name} is lost");
    }
    check_names(&fs, &at);
    in_between
}

/// Nothing is left that nobody knows.
fn check_names(fs: &Simulated, at: &str) {
    let held = vault(fs, 2000, 64).unwrap().held().unwrap();
    for name in fs.files(MANIFESTS).keys().filter(|name| name.starts_with('.')) {
        let file = name.strip_prefix(HELD_PREFIX).unwrap_or_else(|| panic!("{at}: left over: {name}"));
        let known = |state| matches!(state, HeldState::Held | HeldState::InPlaceToo);
        assert!(
            held.iter().any(|h| h.file == file && known(h.state)),
            "{at}: {name} is held and nobody knows"
        );
    }
}

#[test]
fn whoever_meddles_gets_a_clear_error_and_nothing_is_lost() {
    let (mut runs, mut failed, mut in_between) = (0, 0, 0);
    for scenario in scenarios().iter().filter(|scenario| !scenario.prunes) {
        let calls = {
            let fs = scenario.fs.copy();
            fs.expect(None);
            (scenario.run)(&vault(&fs, 1000, scenario.sync_each_up_to).unwrap()).unwrap();
            fs.calls()
        };
        for meddler in meddlers() {
            for point in 0..calls {
                let one = std::panic::AssertUnwindSafe(|| meddle(scenario, &meddler, point));
                match std::panic::catch_unwind(one) {
                    Ok(last) => in_between += usize::from(last),
                    Err(_) => failed += 1,
                }
                runs += 1;
            }
        }
    }
    assert_eq!(failed, 0, "of {runs}; each is told above");
    println!(
        "{runs} changes by someone else: 0 lost, 0 left over, {in_between} in the one call that nothing guards"
    );
    assert!(in_between * 100 < runs, "{in_between} of {runs} come after the last look");
    assert!(runs > 5_000);
}

/// Writes version 9 of `a.yaml` as an editor does.
fn write_a(fs: &Simulated) {
    (meddlers()[0].does)(fs);
}

#[test]
fn what_someone_else_put_in_place_meanwhile_is_not_taken_back() {
    let scenario = scenarios().into_iter().find(|s| s.name == "a restore over other files").unwrap();
    let (mut told, mut failed) = (0, 0);
    for point in 0.. {
        let fs = scenario.fs.copy();
        fs.expect(Some(Event::Meddle(point, write_a)));
        let result = vault(&fs, 1000, 64).and_then(|vault| (scenario.run)(&vault));
        if fs.calls() < point {
            break;
        }
        fs.expect(None);
        let Err(error) = result else { continue };
        failed += 1;
        told += usize::from(error.to_string().contains("stays as someone else left it"));
        vault(&fs, 2000, 64).unwrap().recover().unwrap();
        let now = visible(&fs);
        assert!(now["a.yaml"] == pod("a", 9), "call {point}: {error}");
        assert!(now["b.yaml"] == pod("b", 2), "call {point}: the other file is not taken back");
    }
    assert!(failed > 10 && told > 0, "{failed} failed, {told} told");
}

#[test]
fn what_a_change_swapped_out_by_mistake_is_given_back_after_a_crash() {
    let mut given_back = 0;
    for (scenario, name, old) in
        [("a restore over other files", "a.yaml", pod("a", 2)), ("an exact restore", "c.yaml", pod("c", 2))]
    {
        let scenario = scenarios().into_iter().find(|s| s.name == scenario).unwrap();
        for point in 0.. {
            let fs = scenario.fs.copy();
            fs.expect(Some(Event::Crash(point)));
            let done = vault(&fs, 1000, 64).and_then(|vault| (scenario.run)(&vault)).is_ok();
            fs.expect(None);
            if done {
                break;
            }
            // The other one wrote between the look at the target and the rename.
            let staged = fs.files(MANIFESTS).into_iter().find(|(staged, bytes)| {
                staged.starts_with('.') && *bytes == old && visible(&fs).get(name) != Some(&old)
            });
            let Some((staged, _)) = staged else { continue };
            let manifests = top(&fs).folder(MANIFESTS).unwrap();
            manifests.remove_if_any(&staged).unwrap();
            manifests.create(&staged, b"by someone else").unwrap();
            vault(&fs, 2000, 64).unwrap().recover().unwrap();
            assert_eq!(visible(&fs)[name], b"by someone else", "{}: call {point}", scenario.name);
            assert!(vault(&fs, 2000, 64).unwrap().recover().unwrap().is_empty());
            check_names(&fs, scenario.name);
            given_back += 1;
        }
    }
    assert!(given_back > 4, "{given_back}");
}

#[test]
fn what_is_written_while_a_crash_is_mended_is_not_lost() {
    let scenario = scenarios().into_iter().find(|s| s.name == "a restore over other files").unwrap();
    let mut runs = 0;
    for point in 0.. {
        let crashed = scenario.fs.copy();
        crashed.expect(Some(Event::Crash(point)));
        let done = vault(&crashed, 1000, 64).and_then(|vault| (scenario.run)(&vault)).is_ok();
        crashed.expect(None);
        if done {
            break;
        }
        if vault(&crashed, 2000, 64).unwrap().records().unwrap().is_empty() {
            continue;
        }
        for call in 0.. {
            let fs = crashed.copy();
            fs.expect(Some(Event::Meddle(call, write_a)));
            let result = vault(&fs, 2000, 64).and_then(|vault| vault.recover());
            let calls = fs.calls();
            fs.expect(None);
            if calls <= call {
                break;
            }
            let again = vault(&fs, 3000, 64).unwrap().recover();
            assert!(again.is_ok(), "crash {point}, call {call}: {result:?}, then {again:?}");
            assert!(kept(&fs).contains(&pod("a", 9)), "crash {point}, call {call}: {result:?}: lost");
            check_names(&fs, "a crash that is mended");
            runs += 1;
        }
    }
    assert!(runs > 100, "{runs}");
}

#[test]
fn a_file_that_changes_while_it_is_read_is_read_again_or_refused() {
    let append: fn(&Simulated) = |fs| {
        let manifests = top(fs).folder(MANIFESTS).unwrap();
        let file = fs.open(&manifests.handle, "a.yaml".as_ref()).unwrap();
        fs.write(&file, b"# more\n").unwrap();
    };
    let scenario = &scenarios()[1];
    let mut read_again = 0;
    for point in 0.. {
        let fs = scenario.fs.copy();
        fs.expect(Some(Event::Meddle(point, append)));
        let store = vault(&fs, 1000, 64).unwrap();
        (scenario.run)(&store).unwrap_or_else(|error| panic!("call {point}: {error}"));
        if fs.calls() < point {
            break;
        }
        let id = store.ids().unwrap().pop().unwrap();
        let stored = fs.files(&format!("/store/snapshots/{id}/manifests")).remove("a.yaml").unwrap();
        let now = visible(&fs).remove("a.yaml").unwrap();
        let before = now.strip_suffix(b"# more\n").unwrap().to_vec();
        assert!(stored == now || stored == before, "call {point}: a mix");
        read_again += usize::from(stored == now);
    }
    assert!(read_again > 10, "{read_again}");
}
