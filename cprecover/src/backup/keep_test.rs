//! Attributes that are set on the files that are there.
#![allow(clippy::unwrap_used)]

use rustix::io::Errno;

use super::crash_test::{MANIFESTS, bare, minute, restore, set_attributes, top, vault};
use super::fs::Attributes;
use super::fs::simulated::{Event, Simulated};
use super::snapshot::CreateOptions;

fn attributes(fs: &Simulated) -> Vec<Attributes> {
    let manifests = top(fs).folder(MANIFESTS).unwrap();
    ["a.yaml", "b.yaml"].map(|name| manifests.attributes(name.as_ref()).unwrap()).to_vec()
}

#[test]
fn attributes_are_all_old_or_all_new_on_the_same_files() {
    let fs = bare(true);
    let new = attributes(&fs);
    let inodes = |fs: &Simulated| {
        let manifests = top(fs).folder(MANIFESTS).unwrap();
        ["a.yaml", "b.yaml"].map(|name| manifests.stat(name).unwrap().unwrap().inode)
    };
    vault(&fs, 100, 64).unwrap().create(&CreateOptions::default(), &[], &minute()).unwrap();
    set_attributes(&fs, "a.yaml", 0o640);
    set_attributes(&fs, "b.yaml", 0o604);
    let old = attributes(&fs);
    let files = inodes(&fs);
    for event in [Event::Crash, |point| Event::Fail(point, Errno::IO)] {
        for point in 0.. {
            let fs = fs.copy();
            fs.expect(Some(event(point)));
            let result = vault(&fs, 1000, 64).and_then(|vault| restore(&vault, false));
            let calls = fs.calls();
            fs.expect(None);
            assert!(
                result.is_ok() || matches!(event(point), Event::Crash(_)) || attributes(&fs) == old,
                "{point}"
            );
            fs.crashes(|state| {
                let state = state.copy();
                vault(&state, 2000, 64).unwrap().recover().unwrap();
                let now = attributes(&state);
                assert!(now == new || (now == old && result.is_err()), "call {point}: {now:?}");
                assert_eq!(inodes(&state), files, "call {point}: another file");
            });
            if calls <= point {
                break;
            }
        }
    }
}
