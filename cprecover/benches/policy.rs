//! What a policy costs: asking it, loading it, memory and address space; against the same rules native.
//!
//!     cargo bench -p cprecover --bench policy
//!
//! The observation is a recorded one with 7 kB of JSON and three decisions; all limits are on. Memory is
//! measured in a process of its own for each case, which this program starts with the case's name.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use cprecover::model::Digest;
use cprecover::policy::contract::{Component, ManifestState};
use cprecover::policy::{LoadOptions, Observation, Policy, PolicyCache, RunLimits};
use cprecover_policies::{Profile, shipped};

const ROUNDS: usize = 20_000;

fn main() {
    let component = shipped::component(Profile::Default);
    let args: Vec<String> = std::env::args().collect();
    if let [_, case, cache] = args.as_slice()
        && case.starts_with("memory-")
    {
        memory(case, Path::new(cache));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let mut options = LoadOptions::default();
    options.cache = Some(PolicyCache::create(&cache).unwrap());
    let installed = Policy::install_bytes(component, &options).unwrap();
    let seen = observation();
    let json = serde_json::to_vec(&seen).unwrap().len();
    let decided = installed.policy.decide(&seen);
    println!(
        "observation {json} bytes of JSON, {} decisions, {} fuel; component {} bytes, compiled {}\n",
        decided.decisions.len(),
        decided.fuel_used,
        component.len(),
        installed.compiled_bytes
    );
    assert_eq!(decided.decisions.len(), 3);

    println!("{:<44} {:>10} {:>10} {:>10}", "", "p50", "p99", "min");
    let policy = &installed.policy;
    let native = Policy::native(Profile::Default);
    measure("fresh instance + decide", ROUNDS, || policy.decide(&seen));
    measure("native rules", ROUNDS, || native.decide(&seen));
    // The library itself never reuses an instance.
    let mut warm = policy.warm().unwrap().unwrap();
    measure("warm instance, decide", ROUNDS, || warm.decide(&seen).unwrap());
    let digest = Digest::of(component);
    let cache_handle = options.cache.clone().unwrap();
    measure("load from cache, by digest", 500, || {
        Policy::installed(&cache_handle, &digest, RunLimits::default()).unwrap().unwrap()
    });
    measure("load from cache, with SHA-256 of the file", 500, || {
        Policy::from_bytes(component, &options).unwrap()
    });
    measure("count and compile in this process", 10, || {
        Policy::from_bytes(component, &LoadOptions::default()).unwrap()
    });

    println!("\n{:<44} {:>12} {:>14}", "added to a process", "RSS kB", "address kB");
    for case in ["memory-native", "memory-cached", "memory-compiled"] {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .arg(case)
            .arg(&cache)
            .output()
            .unwrap();
        print!("{}", String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A recorded node whose manifests are lost, with three of them in the backup.
fn observation() -> Observation {
    let text = include_str!("../../policies/testdata/manifests-lost.json");
    let mut value: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).unwrap();
    value.remove("schema");
    let mut seen: Observation = serde_json::from_value(value.into()).unwrap();
    for manifest in &mut seen.manifests {
        if manifest.component == Some(Component::KubeScheduler) {
            manifest.state = ManifestState::Present;
        }
    }
    seen
}

fn measure<T>(name: &str, rounds: usize, mut work: impl FnMut() -> T) {
    for _ in 0..rounds / 10 {
        black_box(work());
    }
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let begun = Instant::now();
            let result = black_box(work());
            let took = begun.elapsed();
            drop(result);
            took
        })
        .collect();
    times.sort_unstable();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
    println!("{name:<44} {:>10.1?} {:>10.1?} {:>10.1?}", at(50), at(99), times[0]);
}

fn status_kb(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Loads and asks, and prints what that added to this process.
fn memory(case: &str, cache: &Path) {
    let seen = observation();
    let (rss, address) = (status_kb("VmRSS:"), status_kb("VmSize:"));
    let component = shipped::component(Profile::Default);
    let policy = match case {
        "memory-native" => Policy::native(Profile::Default),
        "memory-cached" => {
            let mut options = LoadOptions::default();
            options.cache = PolicyCache::open(cache).unwrap();
            Policy::from_bytes(component, &options).unwrap()
        }
        _ => Policy::from_bytes(component, &LoadOptions::default()).unwrap(),
    };
    let decided = (0..100).map(|_| policy.decide(&seen).decisions.len()).sum::<usize>();
    assert_eq!(decided, 300);
    let name = match case {
        "memory-native" => "native rules",
        "memory-cached" => "component from the cache",
        _ => "component compiled in this process",
    };
    // The high-water marks: also what was given back in between.
    let (rss, address) = (status_kb("VmHWM:") - rss, status_kb("VmPeak:") - address);
    println!("{name:<44} {rss:>12} {address:>14}");
}
