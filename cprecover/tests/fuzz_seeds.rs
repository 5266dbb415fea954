//! Every seed of every fuzz target through every parser, on the stable toolchain, each in linear time.

use std::path::Path;
use std::time::{Duration, Instant};

use cprecover::cri::parse;
use cprecover::diagnose::{diagnose, from_recording};
use cprecover::logs::{ScanOptions, scan_bytes};
use cprecover::parse::manifest::StaticPod;
use cprecover::{healthz, parse::yaml};

fn every_parser(bytes: &[u8]) {
    let _ = healthz::parse(bytes).meanings();
    let _ = scan_bytes("seed", bytes, &ScanOptions::default());
    let _ = StaticPod::parse(bytes).map(|pod| (pod.listeners(), pod.etcd_data_dir()));
    let _ = yaml::from_slice::<std::collections::BTreeMap<String, String>>(bytes);
    let _ = (parse::pods(bytes), parse::containers(bytes), parse::container_detail(bytes));
    if let Ok(facts) = from_recording([("etcd.txt", bytes)]) {
        let _ = diagnose(&facts);
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

/// Time for four times the input may grow by little more than four times; a square would be sixteen.
#[test]
fn no_parser_takes_more_than_linear_time() {
    let cases: [(&str, &[u8]); 7] = [
        ("marks", b"[+]a ok [-]b failed: c "),
        ("marks without names", b"[+] [-] [["),
        ("quotes", b"an error on the server (\"\\n"),
        ("needles", b"node \"a\" not found; "),
        ("one long line of needles", b"bind: address already in use CrashLoopBackOff "),
        ("lines", b"E0610 14:06:40.5 1 a.go:1] x no space left on device\n"),
        ("partial lines", b"2026-11-24T00:00:00.000000000Z stderr P bind: addr\n"),
    ];
    for (name, pattern) in cases {
        let time = |bytes: usize| {
            let input: Vec<u8> = pattern.iter().copied().cycle().take(bytes).collect();
            (0..3)
                .map(|_| {
                    let start = Instant::now();
                    let _ = healthz::parse(&input);
                    let _ = scan_bytes("x", &input, &ScanOptions::default());
                    start.elapsed()
                })
                .min()
                .unwrap_or_default()
        };
        let (small, large) = (time(128 << 10), time(512 << 10));
        // A busy machine may double any time; sixteen times and more is a square.
        assert!(large < small * 12 + Duration::from_millis(20), "{name}: {small:?} became {large:?}");
    }
}
