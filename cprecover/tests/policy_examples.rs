//! The same rule in four languages gives the same answers.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cprecover::policy::contract::{ServiceName, ServiceState};
use cprecover::policy::{
    Action, CompileLimits, LoadOptions, Observation, Policy, PolicyCache, WorkerCompiler, WorkerLimits,
};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn corpus() -> Vec<(String, Observation)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(repository().join("policies/testdata")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.extension().is_none_or(|extension| extension != "json") || name == "expected" {
            continue;
        }
        let mut value: serde_json::Map<_, _> =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        value.remove("schema");
        found.push((name, serde_json::from_value(value.into()).unwrap()));
    }
    assert!(found.len() >= 30, "{}", found.len());
    found
}

/// What every example must answer, as this test understands its one rule.
fn expected(seen: &Observation) -> Vec<String> {
    seen.services
        .iter()
        .filter(|service| service.name == ServiceName::Kubelet)
        .filter(|service| matches!(service.state, ServiceState::Inactive | ServiceState::Failed))
        .map(|service| format!("kubelet does not run ({})", service.detail))
        .collect()
}

fn holds(language: &str, policy: &Policy) {
    let identity = policy.identity();
    assert_eq!((identity.name.as_str(), identity.version.as_str()), ("only-kubelet", "1.0.0"), "{language}");
    assert_eq!(policy.metadata().rules.len(), 1, "{language}");
    let mut restarts = 0;
    for (name, seen) in corpus() {
        let outcome = policy.decide(&seen);
        assert_eq!(outcome.failure, None, "{language} {name}");
        let reasons: Vec<_> = outcome.decisions.iter().map(|decision| decision.reason.clone()).collect();
        assert_eq!(reasons, expected(&seen), "{language} {name}");
        for decision in &outcome.decisions {
            restarts += 1;
            assert_eq!(decision.rule_id, "kubelet-down", "{language}");
            assert_eq!(decision.action, Action::RestartKubelet, "{language}");
            assert_eq!(decision.confidence.to_bits(), 0.75_f32.to_bits(), "{language}");
            assert_eq!((decision.max_attempts, decision.cool_down_ms), (3, 15_000), "{language}");
        }
        // And the same bytes once more: no clock, no randomness, no memory of the first.
        let again = policy.decide(&seen);
        let bytes = |outcome| serde_json::to_vec(outcome).unwrap();
        assert_eq!(bytes(&outcome), bytes(&again), "{language} {name}");
    }
    assert!(restarts > 0, "{language}: the corpus has a node whose kubelet is down");
}

#[test]
fn the_committed_components_of_rust_and_c_hold() {
    for (language, file) in [("rust", "rust/only-kubelet.wasm"), ("c", "c/only-kubelet.wasm")] {
        let path = repository().join("examples/policies").join(file);
        holds(language, &Policy::load(&path, &LoadOptions::default()).expect("loads"));
    }
}

/// Builds with the tools at hand, installs under raised limits, and asks.
fn built(language: &str) {
    let folder = tempfile::tempdir().expect("temp dir");
    let out = folder.path().join("policy.wasm");
    let build = Command::new(repository().join("examples/policies/build"))
        .arg(language)
        .arg(&out)
        .output()
        .expect("the script runs");
    let said =
        format!("{}{}", String::from_utf8_lossy(&build.stdout), String::from_utf8_lossy(&build.stderr));
    if build.status.code() == Some(77) {
        eprintln!("SKIPPED: example policy in {language}: {}", said.lines().last().unwrap_or_default());
        return;
    }
    assert!(build.status.success(), "{language}: {said}");
    let mut options = LoadOptions::default();
    options.cache = Some(PolicyCache::create(&folder.path().join("cache")).expect("made"));
    options.compile = CompileLimits::raised();
    let mut worker = WorkerCompiler::new(env!("CARGO_BIN_EXE_cprecover"));
    worker.limits = WorkerLimits::raised();
    // Python has 18 MB, and a test is compiled without optimisation.
    worker.limits.time = Duration::from_mins(20);
    options.compiler = Some(Arc::new(worker));
    let installed = Policy::install(&out, &options).expect("installs");
    println!("{language}: {:?}, {} bytes compiled", installed.size, installed.compiled_bytes);
    // As in an outage: strict limits, and what was installed before.
    let mut strict = LoadOptions::default();
    strict.cache = options.cache;
    holds(language, &Policy::load(&out, &strict).expect("loads"));
}

#[test]
fn the_c_example_builds() {
    built("c");
}

#[test]
fn the_javascript_example_builds() {
    built("js");
}

#[test]
fn the_python_example_builds() {
    built("python");
}
