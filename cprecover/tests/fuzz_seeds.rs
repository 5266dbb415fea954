//! Every seed of every fuzz target through every parser, on the stable toolchain, each in linear time.

use std::path::Path;
use std::time::Duration;

use cprecover::backup::untrusted;
use cprecover::cri::parse;
use cprecover::diagnose::{diagnose, from_recording};
use cprecover::logs::{ScanOptions, scan_bytes};
use cprecover::parse::manifest::StaticPod;
use cprecover::ports::CgroupPath;
use cprecover::{fuzzing, healthz, parse::yaml};
use proptest::prelude::*;

fn every_parser(bytes: &[u8]) {
    let _ = healthz::parse(bytes).meanings();
    let _ = scan_bytes("seed", bytes, &ScanOptions::default());
    let _ = StaticPod::parse(bytes).map(|pod| (pod.listeners(), pod.etcd_data_dir()));
    let _ = yaml::from_slice::<std::collections::BTreeMap<String, String>>(bytes);
    let _ = (parse::pods(bytes), parse::containers(bytes), parse::container_detail(bytes));
    stored_things(bytes);
    let _ = CgroupPath::parse(&String::from_utf8_lossy(bytes)).map(|path| (path.pod(), path.unit()));
    if let Ok(facts) = from_recording([("etcd.txt", bytes)]) {
        let _ = diagnose(&facts);
    }
    for (_, parser) in fuzzing::PARSERS {
        parser(bytes);
    }
}

/// As `fuzz/fuzz_targets/store.rs`: what is read leads nowhere else.
fn stored_things(bytes: &[u8]) -> usize {
    let plain = |path: &Path| {
        let normal = |part| matches!(part, std::path::Component::Normal(_));
        path.is_absolute() && path.components().skip(1).all(normal)
    };
    let id = "000001-20261124T081357Z".parse().expect("an id");
    let mut read = 0;
    if let Ok(snapshot) = untrusted::snapshot_index(&id, bytes) {
        read += 1;
        for entry in &snapshot.entries {
            assert!(entry.stored.as_path().starts_with(entry.group.as_str()));
            assert!(plain(entry.path.as_path()) && plain(&Path::new("/").join(entry.stored.as_path())));
        }
    }
    if let Ok(paths) = untrusted::journal_record(bytes) {
        read += 1;
        assert!(paths.iter().all(|path| plain(path)));
    }
    if let Ok(names) = untrusted::held_record(bytes) {
        read += 1;
        assert!(names.iter().all(|name| !name.contains('/')));
    }
    read
}

#[test]
fn the_stores_seeds_are_read_whole() {
    let read = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/store").join(name);
        stored_things(&std::fs::read(path).expect("seed"))
    };
    for name in ["index.json", "index-odd-names.json", "journal.json", "held.json"] {
        assert_eq!(read(name), 1, "{name} is not read");
    }
    for name in ["index-escapes.json", "journal-escapes.json", "journal-takes-held.json"] {
        assert_eq!(read(name), 0, "{name} is not refused");
    }
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    let mut found = Vec::new();
    for folder in std::fs::read_dir(root).expect("seeds") {
        for file in std::fs::read_dir(folder.expect("entry").path()).expect("folder") {
            let path = file.expect("entry").path();
            found.push((path.display().to_string(), std::fs::read(&path).expect("read")));
        }
    }
    found
}

#[test]
fn every_seed_goes_through_every_parser_whole_and_damaged() {
    let seeds = seeds();
    assert!(seeds.len() >= 12, "only {} seeds", seeds.len());
    for (name, bytes) in &seeds {
        every_parser(bytes);
        for cut in [bytes.len() / 3, bytes.len() / 2, bytes.len().saturating_sub(1)] {
            every_parser(bytes.get(..cut).expect("a prefix"));
        }
        let flipped: Vec<u8> = bytes
            .iter()
            .enumerate()
            .map(|(at, byte)| if at % 97 == 13 { byte ^ 0x5a } else { *byte })
            .collect();
        every_parser(&flipped);
        assert!(!bytes.is_empty(), "{name}");
    }
}

#[test]
fn every_parser_has_a_target_and_every_target_a_seed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let declared = std::fs::read_to_string(root.join("Cargo.toml")).expect("manifest");
    for (name, _) in fuzzing::PARSERS {
        assert!(root.join("fuzz_targets").join(name).with_extension("rs").exists(), "{name} has no target");
    }
    for target in std::fs::read_dir(root.join("fuzz_targets")).expect("targets") {
        let path = target.expect("entry").path();
        let name = path.file_stem().expect("a name").to_str().expect("UTF-8");
        assert!(declared.contains(&format!("name = \"{name}\"")), "{name} is not declared");
        assert!(
            std::fs::read_dir(root.join("seeds").join(name)).is_ok_and(|mut seeds| seeds.next().is_some()),
            "{name} has no seed"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Bytes of any kind, alone and in the middle of a seed, through every parser.
    #[test]
    fn no_byte_soup_panics(
        soup in proptest::collection::vec(any::<u8>(), 0..1500),
        place in any::<proptest::sample::Index>(),
        at in any::<proptest::sample::Index>(),
    ) {
        every_parser(&soup);
        let seeds = seeds();
        let (_, seed) = place.get(&seeds);
        let at = at.index(seed.len());
        let mut damaged = seed.clone();
        damaged.splice(at..(at + soup.len() % 9).min(seed.len()), soup.iter().take(32).copied());
        every_parser(&damaged);
    }
}

/// Returns what this thread has used of a processor, which no other load makes more.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("not negative")
}

/// Repeats of a part of each parser's seeds, which is what the loops inside go over.
#[test]
fn no_private_parser_takes_more_than_linear_time() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    for (name, parser) in fuzzing::PARSERS {
        for file in std::fs::read_dir(root.join(name)).expect("seeds") {
            let path = file.expect("entry").path();
            let seed = std::fs::read(&path).expect("read");
            let time = |bytes: usize| {
                let input: Vec<u8> = seed.iter().copied().cycle().take(bytes).collect();
                let run = || {
                    let start = processor_time();
                    parser(&input);
                    processor_time().saturating_sub(start)
                };
                (0..3).map(|_| run()).min().unwrap_or_default()
            };
            let (small, large) = (time(64 << 10), time(256 << 10));
            // As below: sixteen times and more is a square.
            assert!(
                large < small * 12 + Duration::from_millis(20),
                "{}: {small:?} became {large:?}",
                path.display()
            );
        }
    }
}

/// Time for four times the input may grow by little more than four times; a square would be sixteen.
#[test]
fn no_parser_takes_more_than_linear_time() {
    let cases: [(&str, &[u8]); 11] = [
        ("marks", b"[+]a ok [-]b failed: c "),
        ("marks without names", b"[+] [-] [["),
        ("quotes", b"an error on the server (\"\\n"),
        ("needles", b"node \"a\" not found; "),
        ("one long line of needles", b"bind: address already in use CrashLoopBackOff "),
        ("lines", b"E0610 14:06:40.5 1 a.go:1] x no space left on device\n"),
        ("overlapping needles", b"bind: bind: address bind: address already "),
        ("backslashes", b"no space left on device \\\\n\\\"\\\\\n"),
        ("cgroups", b"1:cpu:/kubepods/burstable/pod1/2\n"),
        ("slashes", b"0::/kubepods/pod/pod/kubepods-pod.slice/"),
        ("partial lines", b"2026-11-24T00:00:00.000000000Z stderr P bind: addr\n"),
    ];
    for (name, pattern) in cases {
        let time = |bytes: usize| {
            let input: Vec<u8> = pattern.iter().copied().cycle().take(bytes).collect();
            (0..3)
                .map(|_| {
                    let start = processor_time();
                    let _ = healthz::parse(&input);
                    let _ = scan_bytes("x", &input, &ScanOptions::default());
                    let _ = CgroupPath::parse(&String::from_utf8_lossy(&input)).map(|path| path.pod());
                    processor_time().saturating_sub(start)
                })
                .min()
                .unwrap_or_default()
        };
        let (small, large) = (time(128 << 10), time(512 << 10));
        // Caches may double any time; sixteen times and more is a square.
        assert!(large < small * 12 + Duration::from_millis(20), "{name}: {small:?} became {large:?}");
    }
}
