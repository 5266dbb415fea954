//! Durable backup, verify and restore against `cp -a` + `sha256sum` + `sync`, restic, borg, and the floor.
//!
//! The floor is what this protocol cannot do without: the same files written, the same fsyncs or one
//! syncfs, the same rename; no reading, hashing or index. Medians; every run starts from an empty store.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cprecover::NodeOptions;
use cprecover::backup::{CreateOptions, Group, RestoreOptions, Selection, Store};
use cprecover::sys::Deadline;

fn minute() -> Deadline {
    Deadline::after(Duration::from_mins(5))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn sync() {
    rustix::fs::sync();
}

fn timed(runs: usize, mut prepare: impl FnMut(), mut run: impl FnMut()) -> Duration {
    median(
        (0..runs)
            .map(|_| {
                prepare();
                sync();
                let start = Instant::now();
                run();
                start.elapsed()
            })
            .collect(),
    )
}

fn shell(script: &str, dir: &Path) -> bool {
    let status = Command::new("/bin/sh")
        .args(["-ec", script])
        .current_dir(dir)
        .env("RESTIC_PASSWORD", "x")
        .env("HOME", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// The files of one size class.
struct Case {
    name: &'static str,
    group: Group,
    folder: &'static str,
    files: Vec<(PathBuf, Vec<u8>)>,
    runs: usize,
}

fn cases() -> Vec<Case> {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/kubeadm-1.36/manifests");
    let manifests = recorded.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let small = manifests.map(|path| (path.file_name().unwrap().into(), std::fs::read(&path).unwrap()));
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |size: usize| {
        let mut bytes = Vec::with_capacity(size + 8);
        while bytes.len() < size {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes.truncate(size);
        bytes
    };
    let big = (0..2000).map(|n| (format!("d{}/f{n}", n % 64).into(), random(64 * 1024 * 1024 / 2000)));
    vec![
        Case {
            name: "4 manifests",
            group: Group::Manifests,
            folder: "etc/kubernetes/manifests",
            files: small.collect(),
            runs: 25,
        },
        Case {
            name: "2,000 files, 64 MiB",
            group: Group::Pki,
            folder: "etc/kubernetes/pki",
            files: big.collect(),
            runs: 5,
        },
    ]
}

fn write_tree(top: &Path, files: &[(PathBuf, Vec<u8>)]) {
    for (path, bytes) in files {
        let path = top.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// Writes what a snapshot consists of and syncs it in the fewest calls.
fn floor(top: &Path, number: usize, files: &[(PathBuf, Vec<u8>)], index: &[u8], sums: &[u8]) {
    let staged = top.join(format!(".new-{number}"));
    std::fs::create_dir(&staged).unwrap();
    let inner = staged.join("files");
    std::fs::create_dir(&inner).unwrap();
    let mut folders = std::collections::BTreeSet::new();
    let mut open = Vec::new();
    let all = files.iter().map(|(path, bytes)| (inner.join(path), bytes.as_slice()));
    for (path, bytes) in all.chain([(staged.join("index"), index), (staged.join("sums"), sums)]) {
        let parent = path.parent().unwrap().to_owned();
        if folders.insert(parent.clone()) && parent != staged && parent != inner {
            std::fs::create_dir(&parent).unwrap();
        }
        let mut file = std::fs::File::create_new(path).unwrap();
        file.write_all(bytes).unwrap();
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        if files.len() <= 64 {
            open.push(file);
        }
    }
    let handle = std::fs::File::open(top).unwrap();
    if files.len() <= 64 {
        for file in &open {
            file.sync_all().unwrap();
        }
        std::fs::File::open(&inner).unwrap().sync_all().unwrap();
        std::fs::File::open(&staged).unwrap().sync_all().unwrap();
    } else {
        rustix::fs::syncfs(&handle).unwrap();
    }
    std::fs::rename(staged, top.join(number.to_string())).unwrap();
    handle.sync_all().unwrap();
}

fn row(what: &str, ours: Duration, others: &[(&str, Option<Duration>)]) {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    print!("  {what:<8} {:>9.2} ms", ms(ours));
    for (name, time) in others {
        match time {
            Some(time) => {
                print!("   {name} {:.2} ms ({:.2}x)", ms(*time), time.as_secs_f64() / ours.as_secs_f64());
            }
            None => print!("   {name} not there"),
        }
    }
    println!();
}

fn main() {
    // `cargo test --benches` runs this with --test; it is no test.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    for case in cases() {
        bench(&case);
    }
}

fn bench(case: &Case) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let source = root.join(case.folder);
    std::fs::create_dir_all(&source).unwrap();
    write_tree(&source, &case.files);
    let node = NodeOptions::at(&root).unwrap();
    let mut options = CreateOptions::default();
    options.groups = vec![case.group];
    // The store exists, as on a node that has been backed up before, with other content in it.
    let fresh = |number: usize| {
        let store = Store::open_at(&node, dir.path().join(format!("store-{number}"))).unwrap();
        let mut empty = CreateOptions::default();
        empty.groups = vec![Group::Kubeadm];
        store.create(&empty, &minute()).unwrap();
        store
    };
    let number = std::cell::Cell::new(0);
    let next = || {
        number.set(number.get() + 1);
        number.get()
    };
    let store = std::cell::RefCell::new(fresh(next()));
    let backup = timed(
        case.runs,
        || drop(store.replace(fresh(next()))),
        || {
            store.borrow().create(&options, &minute()).unwrap();
        },
    );
    let store = store.into_inner();
    let snapshot = store.latest().unwrap().unwrap();
    let verify = timed(
        case.runs,
        || (),
        || {
            assert!(store.verify(&snapshot.id, &minute()).unwrap().is_intact());
        },
    );
    let wipe = || {
        std::fs::remove_dir_all(&source).unwrap();
        std::fs::create_dir(&source).unwrap();
    };
    let restore = timed(case.runs, wipe, || {
        store.restore(&snapshot.id, &Selection::All, &RestoreOptions::default(), &minute()).unwrap();
    });
    let again = timed(
        case.runs,
        || (),
        || {
            store.create(&options, &minute()).unwrap();
        },
    );
    let kept = store.path().join("snapshots").join(snapshot.id.as_str());
    let (index, sums) =
        (std::fs::read(kept.join("index.json")).unwrap(), std::fs::read(kept.join("SHA256SUMS")).unwrap());
    let bare = dir.path().join("floor");
    std::fs::create_dir(&bare).unwrap();
    let least = timed(case.runs, || (), || floor(&bare, next(), &case.files, &index, &sums));
    let others = |init: &str, run: &str| -> Option<Duration> {
        let ok = std::cell::Cell::new(true);
        let time = timed(
            3,
            || ok.set(shell(init, dir.path()) && ok.get()),
            || ok.set(shell(run, dir.path()) && ok.get()),
        );
        ok.get().then_some(time)
    };
    let from = format!("root/{}", case.folder);
    let cp = others(
        "rm -rf cp",
        &format!("cp -a {from} cp; cd cp; find . -type f -print0 | xargs -0 sha256sum > ../sums; sync"),
    );
    let restic_back = others("rm -rf r; restic -q init -r r", &format!("restic -q -r r backup {from}"));
    let restic_check = others("true", "restic -q -r r check --read-data");
    let restic_restore = others("rm -rf out", "restic -q -r r restore latest --target out; sync");
    let borg_back = others("rm -rf b; borg init -e none b", &format!("borg create b::a {from}"));
    let borg_check = others("true", "borg check --verify-data b");
    let borg_restore = others("rm -rf out; mkdir out", "cd out; borg extract ../b::a; sync");
    println!("{}", case.name);
    row(
        "backup",
        backup,
        &[("floor", Some(least)), ("cp+sha256sum+sync", cp), ("restic", restic_back), ("borg", borg_back)],
    );
    row("again", again, &[]);
    row("verify", verify, &[("restic", restic_check), ("borg", borg_check)]);
    row("restore", restore, &[("restic", restic_restore), ("borg", borg_restore)]);
    println!("  backup is {:.2} times its floor", backup.as_secs_f64() / least.as_secs_f64());
}
