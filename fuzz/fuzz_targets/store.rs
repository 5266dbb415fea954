//! What a disk or a stranger may have changed in the store or a remote: it is read or refused, and no path
//! in it leads out of where it belongs.
#![no_main]

use std::path::{Component, Path};

use cprecover::backup::untrusted;
use libfuzzer_sys::fuzz_target;

fn is_plain(path: &Path) -> bool {
    path.is_absolute() && path.components().skip(1).all(|part| matches!(part, Component::Normal(_)))
}

fuzz_target!(|data: &[u8]| {
    let id = "000001-20261124T081357Z".parse().expect("an id");
    if let Ok(snapshot) = untrusted::snapshot_index(&id, data) {
        for entry in &snapshot.entries {
            let stored = entry.stored.as_path();
            assert!(stored.components().all(|part| matches!(part, Component::Normal(_))));
            assert!(stored.starts_with(entry.group.as_str()));
            assert!(is_plain(entry.path.as_path()));
        }
    }
    if let Ok(paths) = untrusted::journal_record(data) {
        assert!(paths.iter().all(|path| is_plain(path)));
    }
    if let Ok(names) = untrusted::held_record(data) {
        assert!(names.iter().all(|name| !name.contains('/')));
    }
});
