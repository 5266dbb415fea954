//! The shipped policy `default` natively, by this project, in wasmi and in Extism, on one observation.
//!
//!     policies/rivals/run
//!
//! Each case begins with the typed observation and ends with typed decisions, so that the guests that speak
//! JSON are charged for it; "native, through JSON" is what that alone costs. All limits are on.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

mod by_extism;
mod by_wasmi;
#[path = "../../../cprecover/benches/policy_support/mod.rs"]
mod policy_support;

use std::path::{Path, PathBuf};

use cprecover::model::Digest;
use cprecover::policy::contract::{Decision, Observation};
use cprecover::policy::{LoadOptions, Policy, PolicyCache, RunLimits};
use cprecover_policies::{Profile, shipped};
use policy_support::{measure, memory_of_each, observation, times_head};

const ROUNDS: usize = 5_000;
const LOADS: usize = 200;
const CASES: [&str; 5] =
    ["memory-native", "memory-ours", "memory-wasmi", "memory-extism-cached", "memory-extism"];

/// What every case needs, as the arguments of this program name it.
struct Given {
    plain: Vec<u8>,
    extism: Vec<u8>,
    /// Describes wasmtime's own cache, for Extism.
    extism_cache: PathBuf,
    cache: PathBuf,
}

impl Given {
    fn read(plain: &Path, extism: &Path, folder: &Path) -> Self {
        Self {
            plain: std::fs::read(plain).unwrap(),
            extism: std::fs::read(extism).unwrap(),
            extism_cache: folder.join("extism.toml"),
            cache: folder.join("ours"),
        }
    }

    fn options(&self) -> LoadOptions {
        let mut options = LoadOptions::default();
        options.cache = Some(PolicyCache::create(&self.cache).unwrap());
        options
    }
}

fn main() {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    match args.as_slice() {
        [plain, extism] => {
            let folder = tempfile::tempdir().unwrap();
            let given = Given::read(plain, extism, folder.path());
            let place = folder.path().join("extism").display().to_string();
            std::fs::write(&given.extism_cache, format!("[cache]\ndirectory = {place:?}\n")).unwrap();
            times(&given);
            memory_of_each(&CASES, &[plain, extism, folder.path()]);
        }
        [case, plain, extism, folder] => {
            memory(&case.to_string_lossy(), &Given::read(plain, extism, folder));
        }
        _ => {
            eprintln!("usage: cprecover-policy-rivals PLAIN.wasm EXTISM.wasm");
            std::process::exit(2);
        }
    }
}

/// From types to types, over whatever takes JSON and answers with JSON.
fn by_json(seen: &Observation, ask: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<Decision> {
    let answer = ask(&serde_json::to_vec(seen).unwrap());
    serde_json::from_slice(&answer).unwrap()
}

fn native(json: &[u8]) -> Vec<u8> {
    let seen = serde_json::from_slice(json).unwrap();
    serde_json::to_vec(&cprecover_policies::decide(Profile::Default, &seen)).unwrap()
}

fn times(given: &Given) {
    let seen = observation();
    let component = shipped::component(Profile::Default);
    let options = given.options();
    let ours = Policy::install_bytes(component, &options).unwrap().policy;
    let wasmi = by_wasmi::Loaded::new(&given.plain);
    let extism = by_extism::load(&given.extism, Some(&given.extism_cache));
    let (mut in_wasmi, mut in_extism) = (wasmi.instance(), by_extism::plugin(&extism));

    let expected = cprecover_policies::decide(Profile::Default, &seen);
    assert_eq!(expected.len(), 3);
    assert_eq!(by_json(&seen, |json| in_wasmi.decide(json)), expected);
    assert_eq!(by_json(&seen, |json| by_extism::decide(&mut in_extism, json)), expected);
    println!(
        "bytes: component {}, module {}, module for Extism {}; fuel: ours {}, wasmi {}\n",
        component.len(),
        given.plain.len(),
        given.extism.len(),
        ours.decide(&seen).fuel_used,
        in_wasmi.fuel_used()
    );

    times_head();
    let plainly = Policy::native(Profile::Default);
    measure("native rules", ROUNDS, || plainly.decide(&seen));
    measure("native, through JSON", ROUNDS, || by_json(&seen, native));
    measure("ours: fresh instance + decide", ROUNDS, || ours.decide(&seen));
    measure("wasmi: fresh instance + decide", ROUNDS, || {
        by_json(&seen, |json| wasmi.instance().decide(json))
    });
    measure("Extism: fresh instance + decide", ROUNDS, || {
        by_json(&seen, |json| by_extism::decide(&mut by_extism::plugin(&extism), json))
    });
    let mut warm = ours.warm().unwrap().unwrap();
    measure("ours: warm instance, decide", ROUNDS, || warm.decide(&seen).unwrap());
    measure("wasmi: warm instance, decide", ROUNDS, || by_json(&seen, |json| in_wasmi.decide(json)));
    measure("Extism: warm instance, decide", ROUNDS, || {
        by_json(&seen, |json| by_extism::decide(&mut in_extism, json))
    });
    loads(given, &options);
}

/// From bytes to what can be asked.
fn loads(given: &Given, options: &LoadOptions) {
    let component = shipped::component(Profile::Default);
    let cache = options.cache.clone().unwrap();
    let digest = Digest::of(component);
    measure("ours: load from cache", LOADS, || {
        Policy::installed(&cache, &digest, RunLimits::default()).unwrap().unwrap()
    });
    measure("ours: count and compile", 10, || {
        Policy::from_bytes(component, &LoadOptions::default()).unwrap()
    });
    measure("wasmi: load", LOADS, || by_wasmi::Loaded::new(&given.plain));
    measure("Extism: load from wasmtime's cache", LOADS, || {
        by_extism::load(&given.extism, Some(&given.extism_cache))
    });
    measure("Extism: compile", 10, || by_extism::load(&given.extism, None));
}

/// Loads and asks a hundred times, each time afresh, and prints what that added to this process.
fn memory(case: &str, given: &Given) {
    let seen = observation();
    let hundred = |ask: &mut dyn FnMut() -> usize| {
        assert_eq!((0..100).map(|_| ask()).sum::<usize>(), 300);
    };
    let by_extism = |cache: Option<&Path>| {
        let loaded = by_extism::load(&given.extism, cache);
        hundred(&mut || {
            by_json(&seen, |json| by_extism::decide(&mut by_extism::plugin(&loaded), json)).len()
        });
    };
    match case {
        "memory-native" => policy_support::memory("native, through JSON", || {
            hundred(&mut || by_json(&seen, native).len());
        }),
        "memory-ours" => policy_support::memory("ours, from the cache", || {
            let policy =
                Policy::from_bytes(shipped::component(Profile::Default), &given.options()).unwrap();
            hundred(&mut || policy.decide(&seen).decisions.len());
        }),
        "memory-wasmi" => policy_support::memory("wasmi", || {
            let loaded = by_wasmi::Loaded::new(&given.plain);
            hundred(&mut || by_json(&seen, |json| loaded.instance().decide(json)).len());
        }),
        "memory-extism-cached" => policy_support::memory("Extism, from wasmtime's cache", || {
            by_extism(Some(&given.extism_cache));
        }),
        _ => policy_support::memory("Extism, compiled in this process", || by_extism(None)),
    }
}
