//! What a policy costs: asking it, loading it, memory and address space; against the same rules native.
//!
//!     cargo bench -p cprecover --bench policy
//!
//! The observation is a recorded one with 7 kB of JSON and three decisions; all limits are on. Memory is
//! measured in a process of its own for each case, which this program starts with the case's name.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

mod policy_support;

use std::path::Path;
use std::sync::Arc;

use cprecover::model::Digest;
use cprecover::policy::{LoadOptions, Policy, PolicyCache, RunLimits, WorkerCompiler, serve_compile};
use cprecover_policies::{Profile, shipped};
use policy_support::{measure, memory_of_each, observation, times_head};

const ROUNDS: usize = 20_000;

fn main() {
    let component = shipped::component(Profile::Default);
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|arg| arg == "policy-compile") {
        serve_compile(&mut std::io::stdin(), &mut std::io::stdout()).unwrap();
        return;
    }
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

    times_head();
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

    measure("count and compile in a worker process", 10, || {
        Policy::from_bytes(component, &by_worker()).unwrap()
    });

    memory_of_each(&["memory-native", "memory-cached", "memory-worker", "memory-compiled"], &[&cache]);
}

/// The worker is this program, which its first argument makes one.
fn by_worker() -> LoadOptions {
    let mut options = LoadOptions::default();
    options.compiler = Some(Arc::new(WorkerCompiler::new(std::env::current_exe().unwrap())));
    options
}

/// Loads and asks, and prints what that added to this process.
fn memory(case: &str, cache: &Path) {
    let seen = observation();
    let component = shipped::component(Profile::Default);
    let name = match case {
        "memory-native" => "native rules",
        "memory-cached" => "component from the cache",
        "memory-worker" => "component compiled in a worker process",
        _ => "component compiled in this process",
    };
    policy_support::memory(name, || {
        let policy = match case {
            "memory-native" => Policy::native(Profile::Default),
            "memory-cached" => {
                let mut options = LoadOptions::default();
                options.cache = PolicyCache::open(cache).unwrap();
                Policy::from_bytes(component, &options).unwrap()
            }
            "memory-worker" => Policy::from_bytes(component, &by_worker()).unwrap(),
            _ => Policy::from_bytes(component, &LoadOptions::default()).unwrap(),
        };
        let decided = (0..100).map(|_| policy.decide(&seen).decisions.len()).sum::<usize>();
        assert_eq!(decided, 300);
    });
}
