//! Builds without the compiler: shipped rules run natively, and a policy only as a full build compiled it.
//!
//!     cargo test -p cprecover --no-default-features --test policy_runtime
//!     cargo test -p cprecover --no-default-features --features wasm-runtime --test policy_runtime
//!
//! The second wants a full build of the program, `cprecover` in the folder above the tests' own (as a rule
//! `target/debug`) or what `CPRECOVER` names.
#![cfg(not(feature = "wasm"))]

use std::path::{Path, PathBuf};

use cprecover::ErrorKind;
use cprecover::policy::{LoadOptions, Observation, Policy};
use cprecover_policies::Profile;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn example() -> PathBuf {
    repository().join("examples/policies/rust/only-kubelet.wasm")
}

fn recorded(name: &str) -> Observation {
    let path = repository().join("policies/testdata").join(name).with_extension("json");
    let text = std::fs::read(&path).expect("recorded");
    let mut value: serde_json::Map<_, _> = serde_json::from_slice(&text).expect("JSON");
    value.remove("schema");
    serde_json::from_value(value.into()).expect("an observation")
}

#[test]
fn every_shipped_policy_answers_as_the_table_says() {
    let text = std::fs::read(repository().join("policies/testdata/expected.json")).expect("the table");
    let table: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let cases = table.get("cases").and_then(|cases| cases.as_object()).expect("cases");
    let mut compared = 0;
    for (case, columns) in cases {
        let seen = recorded(case);
        for name in Policy::SHIPPED {
            let policy = Policy::shipped(name).expect("native");
            assert_eq!(policy.identity().digest, None, "no component is run");
            let outcome = policy.decide(&seen);
            assert_eq!(outcome.failure, None, "{case} {name}");
            let Some(expected) = columns.get(name).and_then(|lines| lines.as_array()) else {
                panic!("{case} has no column {name}")
            };
            assert_eq!(outcome.decisions.len(), expected.len(), "{case} {name}");
            for (decision, line) in outcome.decisions.iter().zip(expected) {
                let begins = format!("{}: {}", decision.rule_id, decision.action);
                assert!(line.as_str().is_some_and(|line| line.starts_with(&begins)), "{case} {name}: {line}");
                compared += 1;
            }
        }
    }
    assert!(compared > 100, "{compared}");
    assert_eq!(Policy::builtin().expect("native").identity(), Policy::native(Profile::Default).identity());
}

#[test]
fn a_component_in_source_form_is_refused() {
    let error = Policy::load(&example(), &LoadOptions::default()).expect_err("cannot be compiled");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let says = if cfg!(feature = "wasm-runtime") {
        "is not in the cache, and this build cannot compile"
    } else {
        "this build runs no WebAssembly"
    };
    assert!(error.to_string().contains(says), "{error}");
    assert!(error.to_string().contains("only-kubelet.wasm"), "names the file: {error}");
}

#[cfg(feature = "wasm-runtime")]
mod runtime {
    use std::process::Command;

    use cprecover::NodeOptions;
    use cprecover::policy::{Action, PolicyCache, RunLimits};

    use super::*;

    /// Wherever the caller's target folder is.
    fn beside_the_tests() -> PathBuf {
        let test = std::env::current_exe().expect("this program");
        test.ancestors().nth(2).expect("a target folder").join("cprecover")
    }

    /// A node on which a full build has installed the example, and its options of loading.
    fn installed() -> Option<(tempfile::TempDir, LoadOptions)> {
        let program = std::env::var_os("CPRECOVER").map_or_else(beside_the_tests, PathBuf::from);
        if !program.exists() {
            eprintln!("SKIPPED: precompiled policies: no full build at {}", program.display());
            return None;
        }
        let root = tempfile::tempdir().expect("temp dir");
        let output = Command::new(&program)
            .arg("--root")
            .arg(root.path())
            .args(["policy", "install"])
            .arg(example())
            .output()
            .expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let node = NodeOptions::at(root.path()).expect("absolute");
        let mut options = LoadOptions::default();
        options.cache = PolicyCache::open(&PolicyCache::folder(&node)).expect("opens");
        assert!(options.cache.is_some(), "the cache is where the program put it");
        Some((root, options))
    }

    #[test]
    fn a_policy_that_a_full_build_compiled_decides() {
        let Some((_root, options)) = installed() else { return };
        let policy = Policy::load(&example(), &options).expect("is in the cache");
        let digest = policy.identity().digest.expect("a component");
        let outcome = policy.decide(&recorded("kubelet-down"));
        assert_eq!(outcome.failure, None);
        assert!(outcome.fuel_used > 0, "it ran in the sandbox");
        let actions: Vec<_> = outcome.decisions.iter().map(|decision| &decision.action).collect();
        assert_eq!(actions, [&Action::RestartKubelet]);
        let cache = options.cache.as_ref().expect("a cache");
        let by_digest = Policy::installed(cache, &digest, RunLimits::default()).expect("loads");
        let by_digest = by_digest.expect("is in the cache");
        assert_eq!(by_digest.decide(&recorded("kubelet-down")), outcome);
    }

    #[test]
    fn the_same_limits_hold_as_in_a_full_build() {
        let Some((_root, mut options)) = installed() else { return };
        options.run.fuel = 100;
        let error = Policy::load(&example(), &options).expect_err("cannot even say who it is");
        assert!(error.to_string().contains("all fuel consumed"), "{error}");
    }

    #[test]
    fn a_changed_entry_is_refused_and_not_run() {
        let Some((_root, options)) = installed() else { return };
        let cache = options.cache.as_ref().expect("a cache");
        let entries = cache.entries().expect("lists");
        let [entry] = entries.as_slice() else { panic!("one entry: {entries:?}") };
        let path = cache.path().join(&entry.file);
        let good = std::fs::read(&path).expect("reads");
        for at in [0, 9, 50, good.len() / 2, good.len() - 1] {
            let mut changed = good.clone();
            *changed.get_mut(at).expect("in the file") ^= 1;
            std::fs::write(&path, &changed).expect("writes");
            let error = Policy::installed(cache, &entry.digest, RunLimits::default()).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}");
            assert!(error.to_string().contains("is not run"), "byte {at}: {error}");
        }
    }
}
