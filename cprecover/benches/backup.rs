//! Durable backup, verify and restore against `cp -a` + `sha256sum` + `sync`, restic, borg, and the floor.
//!
//! The floor is what this protocol cannot do without: the same files written, the same fsyncs or one
//! syncfs, the same rename; no reading, hashing or index. Medians; every run starts from an empty store.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::cell::{Cell, RefCell};
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

/// One that is measured: what makes it ready, and what is timed; false when it is not there.
struct Contender<'c> {
    name: &'static str,
    prepare: Box<dyn FnMut() + 'c>,
    run: Box<dyn FnMut() -> bool + 'c>,
}

fn contender<'c>(
    name: &'static str,
    prepare: impl FnMut() + 'c,
    run: impl FnMut() -> bool + 'c,
) -> Contender<'c> {
    Contender { name, prepare: Box::new(prepare), run: Box::new(run) }
}

/// Times all in turn, round by round, so that other load on the machine hits all alike.
fn race(what: &str, rounds: usize, contenders: Vec<Contender<'_>>) {
    let mut lanes: Vec<_> = contenders.into_iter().map(|c| (c, Vec::new())).collect();
    for _ in 0..rounds {
        for (contender, times) in &mut lanes {
            (contender.prepare)();
            sync();
            let start = Instant::now();
            if (contender.run)() {
                times.push(start.elapsed());
            }
        }
    }
    print!("  {what:<8}");
    let mut ours = None;
    for (contender, times) in lanes {
        if times.len() < rounds {
            print!("   {} not there", contender.name);
            continue;
        }
        let time = median(times);
        let ours = *ours.get_or_insert(time);
        print!("   {} {:.2} ms", contender.name, time.as_secs_f64() * 1e3);
        if time != ours {
            print!(" ({:.2}x)", time.as_secs_f64() / ours.as_secs_f64());
        }
    }
    println!();
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
            runs: 15,
        },
        Case {
            name: "2,000 files, 64 MiB",
            group: Group::Pki,
            folder: "etc/kubernetes/pki",
            files: big.collect(),
            runs: 7,
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
    let number = Cell::new(0);
    let next = || {
        number.set(number.get() + 1);
        number.get()
    };
    // The store exists, as on a node that has been backed up before, with other content in it.
    let fresh = || {
        let store = Store::open_at(&node, dir.path().join(format!("store-{}", next()))).unwrap();
        let mut empty = CreateOptions::default();
        empty.groups = vec![Group::Kubeadm];
        store.create(&empty, &minute()).unwrap();
        store
    };
    let store = RefCell::new(fresh());
    store.borrow().create(&options, &minute()).unwrap();
    let kept = store.borrow().latest().unwrap().unwrap().id;
    let kept = store.borrow().path().join("snapshots").join(kept.as_str());
    let (index, sums) =
        (std::fs::read(kept.join("index.json")).unwrap(), std::fs::read(kept.join("SHA256SUMS")).unwrap());
    let bare = dir.path().join("floor");
    std::fs::create_dir(&bare).unwrap();
    let sh = |script: String| move || shell(&script, dir.path());
    let ready =
        |script: &'static str| move || assert!(shell(script, dir.path()) || !script.starts_with("rm"));
    let from = format!("root/{}", case.folder);
    println!("{}", case.name);
    race(
        "backup",
        case.runs,
        vec![
            contender(
                "ours",
                || drop(store.replace(fresh())),
                || store.borrow().create(&options, &minute()).is_ok(),
            ),
            contender(
                "floor",
                || (),
                || {
                    floor(&bare, next(), &case.files, &index, &sums);
                    true
                },
            ),
            contender(
                "cp+sha256sum+sync",
                ready("rm -rf cp"),
                sh(format!(
                    "cp -a {from} cp; cd cp; find . -type f -print0 | xargs -0 sha256sum > ../sums; sync"
                )),
            ),
            contender(
                "restic",
                || drop(shell("rm -rf r; restic -q init -r r", dir.path())),
                sh(format!("restic -q -r r backup {from}")),
            ),
            contender(
                "borg",
                || drop(shell("rm -rf b; borg init -e none b", dir.path())),
                sh(format!("borg create b::a {from}")),
            ),
        ],
    );
    let store = store.into_inner();
    race(
        "again",
        case.runs,
        vec![
            contender("ours", || (), || store.create(&options, &minute()).is_ok()),
            contender("restic", || (), sh(format!("restic -q -r r backup {from}"))),
            contender("borg", || (), sh(format!("borg create b::{{now:%s%f}} {from}"))),
        ],
    );
    let snapshot = store.latest().unwrap().unwrap();
    race(
        "verify",
        case.runs,
        vec![
            contender("ours", || (), || store.verify(&snapshot.id, &minute()).unwrap().is_intact()),
            contender("restic", || (), sh("restic -q -r r check --read-data".into())),
            contender("borg", || (), sh("borg check --verify-data b".into())),
        ],
    );
    race(
        "restore",
        case.runs,
        vec![
            contender(
                "ours",
                || {
                    std::fs::remove_dir_all(&source).unwrap();
                    std::fs::create_dir(&source).unwrap();
                },
                || {
                    store
                        .restore(&snapshot.id, &Selection::All, &RestoreOptions::default(), &minute())
                        .is_ok()
                },
            ),
            contender(
                "restic",
                ready("rm -rf out"),
                sh("restic -q -r r restore latest --target out; sync".into()),
            ),
            contender(
                "borg",
                ready("rm -rf out; mkdir out"),
                sh("cd out; borg extract ../b::a; sync".into()),
            ),
        ],
    );
}
