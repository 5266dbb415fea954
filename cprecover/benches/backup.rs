//! Durable backup, verify and restore against `cp -a` + `sha256sum` + `sync`, restic, borg, and the floor.
//!
//! The floor is what this protocol cannot do without: the same files written, the same fsyncs or one
//! syncfs, the same renames; no reading, hashing or index. Medians; every run starts from an empty store.
//! What an earlier run made is moved away, not removed: ext4 without a journal passes over every inode that was
//! freed within the last minutes, one by one (`recently_deleted`, fs/ext4/ialloc.c), and what a round costs would
//! depend on what the one before had removed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cprecover::NodeOptions;
use cprecover::backup::{CreateOptions, Group, RestoreOptions, Selection, Snapshot, Store};
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

/// Puts files in place as a restore must: staged and synced, the intent recorded and synced, renamed, the
/// folders synced.
fn restore_floor(top: &Path, journal: &Path, files: &[(PathBuf, Vec<u8>)]) {
    let few = files.len() <= 64;
    let mut folders = std::collections::BTreeSet::from([top.to_owned()]);
    let mut staged = Vec::new();
    for (path, bytes) in files {
        let path = top.join(path);
        let parent = path.parent().unwrap().to_owned();
        if folders.insert(parent.clone()) {
            std::fs::create_dir(&parent).unwrap();
        }
        let dotted = parent.join(format!(".{}", path.file_name().unwrap().to_str().unwrap()));
        let mut file = std::fs::File::create_new(&dotted).unwrap();
        file.write_all(bytes).unwrap();
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        staged.push((dotted, path, few.then_some(file)));
    }
    let sync_folders = || {
        let all = std::fs::File::open(top).unwrap();
        if few { all.sync_all().unwrap() } else { rustix::fs::syncfs(&all).unwrap() }
    };
    staged.iter().filter_map(|(_, _, file)| file.as_ref()).for_each(|file| file.sync_all().unwrap());
    sync_folders();
    let record = std::fs::File::create(journal.join("intent")).unwrap();
    record.sync_all().unwrap();
    std::fs::File::open(journal).unwrap().sync_all().unwrap();
    for (dotted, path, _) in &staged {
        std::fs::rename(dotted, path).unwrap();
    }
    sync_folders();
    std::fs::remove_file(journal.join("intent")).unwrap();
}

fn main() {
    // `cargo test --benches` runs this with --test; it is no test.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    // `-- 4` runs the case whose name begins with 4 only.
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    for case in
        cases().iter().filter(|case| only.as_ref().is_none_or(|only| case.name.starts_with(only.as_str())))
    {
        bench(case);
    }
}

/// One size class in the making: a node, and a folder for everybody's repositories.
struct Bench<'b> {
    case: &'b Case,
    at: &'b Path,
    node: NodeOptions,
    options: CreateOptions,
    /// The files, relative to `at`.
    from: String,
    number: Cell<usize>,
}

impl Bench<'_> {
    fn next(&self) -> usize {
        self.number.set(self.number.get() + 1);
        self.number.get()
    }

    /// The store exists, as on a node that has been backed up before, with other content in it.
    fn store(&self, workers: usize) -> Store {
        let store = Store::open_at(&self.node, self.at.join(format!("store-{}", self.next()))).unwrap();
        let store = store.with_workers(workers);
        let mut empty = CreateOptions::default();
        empty.groups = vec![Group::Kubeadm];
        store.create(&empty, &minute()).unwrap();
        store
    }

    fn create(&self, store: &Store) -> Snapshot {
        store.create(&self.options, &minute()).unwrap()
    }

    fn sh(&self, script: impl Into<String>) -> impl FnMut() -> bool {
        let (script, at) = (script.into(), self.at);
        move || shell(&script, at)
    }

    /// Makes a rival ready, without `old`; whether it is there shows when it runs.
    fn ready(&self, old: &'static str, script: &'static str) -> impl FnMut() {
        move || {
            self.move_away(&self.at.join(old));
            let _ = shell(script, self.at);
        }
    }

    fn move_away(&self, old: &Path) {
        let _ = std::fs::rename(old, self.at.join(format!("old-{}", self.next())));
    }

    fn backup(&self) -> Store {
        let store = RefCell::new(self.store(8));
        let kept = store.borrow().path().join("snapshots").join(self.create(&store.borrow()).id.as_str());
        let read = |name: &str| std::fs::read(kept.join(name)).unwrap();
        let (index, sums) = (read("index.json"), read("SHA256SUMS"));
        let (bare, from) = (self.at.join("floor"), &self.from);
        std::fs::create_dir(&bare).unwrap();
        let ours = || {
            self.create(&store.borrow());
            true
        };
        let least = || {
            floor(&bare, self.next(), &self.case.files, &index, &sums);
            true
        };
        let by_hand =
            format!("cp -a {from} cp; cd cp; find . -type f -print0 | xargs -0 sha256sum > ../sums; sync");
        let restic = self.sh(format!("restic -q -r r backup {from}"));
        let borg = self.sh(format!("borg create b::a {from}"));
        race(
            "backup",
            self.case.runs,
            vec![
                contender("ours", || drop(store.replace(self.store(1))), &ours),
                contender("8 workers", || drop(store.replace(self.store(8))), &ours),
                contender("floor", || (), least),
                contender("cp+sha256sum+sync", self.ready("cp", "true"), self.sh(by_hand)),
                contender("restic", self.ready("r", "restic -q init -r r"), restic),
                contender("borg", self.ready("b", "borg init -e none b"), borg),
            ],
        );
        store.into_inner()
    }

    fn rest(&self, store: &Store, snapshot: &Snapshot) {
        let runs = self.case.runs;
        let again = || {
            self.create(store);
            true
        };
        let borg = self.sh(format!("borg create b::{{now:%s%f}} {}", self.from));
        race(
            "again",
            runs,
            vec![
                contender("ours", || (), again),
                contender("restic", || (), self.sh(format!("restic -q -r r backup {}", self.from))),
                contender("borg", || (), borg),
            ],
        );
        let verify = || store.verify(&snapshot.id, &minute()).unwrap().is_intact();
        race(
            "verify",
            runs,
            vec![
                contender("ours", || (), verify),
                contender("restic", || (), self.sh("restic -q -r r check --read-data")),
                contender("borg", || (), self.sh("borg check --verify-data b")),
            ],
        );
        let source = self.at.join(&self.from);
        let wipe = || {
            self.move_away(&source);
            std::fs::create_dir(&source).unwrap();
        };
        let restore = || {
            store.restore(&snapshot.id, &Selection::All, &RestoreOptions::default(), &minute()).unwrap();
            true
        };
        let (bare, journal) = (self.at.join("bare"), self.at.join("journal"));
        std::fs::create_dir(&journal).unwrap();
        let clear = || {
            self.move_away(&bare);
            std::fs::create_dir(&bare).unwrap();
        };
        let least = || {
            restore_floor(&bare, &journal, &self.case.files);
            true
        };
        let restic = self.sh("restic -q -r r restore latest --target out; sync");
        let borg = self.sh("cd out; borg extract ../b::a; sync");
        race(
            "restore",
            runs,
            vec![
                contender("ours", wipe, restore),
                contender("floor", clear, least),
                contender("restic", self.ready("out", "true"), restic),
                contender("borg", self.ready("out", "mkdir out"), borg),
            ],
        );
    }
}

fn bench(case: &Case) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let source = root.join(case.folder);
    std::fs::create_dir_all(&source).unwrap();
    write_tree(&source, &case.files);
    let mut options = CreateOptions::default();
    options.groups = vec![case.group];
    let bench = Bench {
        case,
        at: dir.path(),
        node: NodeOptions::at(&root).unwrap(),
        options,
        from: format!("root/{}", case.folder),
        number: Cell::new(0),
    };
    println!("{}", case.name);
    let store = bench.backup();
    let snapshot = store.latest().unwrap().unwrap();
    bench.rest(&store, &snapshot);
}
