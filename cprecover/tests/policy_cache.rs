//! Compiled policies on disk: what carries the seal is loaded, everything else is refused and never run.
#![cfg(feature = "wasm")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod policy_support;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};

use cprecover::model::Digest;
use cprecover::policy::{
    CompileJob, CompileLimits, Compiler, LoadOptions, Observation, Policy, PolicyCache, RunLimits,
};
use cprecover::{Error, ErrorKind, Result};
use policy_support::{answer, component, quiet};

/// A compiler for tests in which nothing may be compiled.
#[derive(Debug)]
struct Never;

impl Compiler for Never {
    fn compile(&self, _job: &CompileJob<'_>) -> Result<Vec<u8>> {
        Err(Error::new(ErrorKind::Internal, "the compiler was asked"))
    }
}

struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("temp dir") }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn options(&self) -> LoadOptions {
        let mut options = LoadOptions::default();
        options.cache = Some(PolicyCache::create(&self.path()).expect("made"));
        options
    }

    /// As `options`, and compiling is an error.
    fn cached_only(&self) -> LoadOptions {
        let mut options = self.options();
        options.compiler = Some(Arc::new(Never));
        options
    }

    fn install(&self, bytes: &[u8]) -> PathBuf {
        self.path().join(Policy::install_bytes(bytes, &self.options()).expect("installs").file)
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn what_was_installed_is_loaded_without_a_compiler() {
    let site = Site::new();
    let bytes = quiet();
    let error = Policy::from_bytes(&bytes, &site.cached_only()).expect_err("not there yet");
    assert!(error.to_string().contains("the compiler was asked"), "{error}");
    let file = site.install(&bytes);
    let policy = Policy::from_bytes(&bytes, &site.cached_only()).expect("is there");
    assert!(policy.decide(&Observation::default()).failure.is_none());
    assert_eq!((mode(&site.path()), mode(&file), mode(&site.path().join("key"))), (0o700, 0o600, 0o600));
    let cache = site.options().cache.unwrap();
    let digest = Digest::of(&bytes);
    let entries = cache.entries().expect("lists");
    assert_eq!(entries.len(), 1);
    assert!(entries[0].usable && entries[0].digest == digest, "{entries:?}");
    let by_digest = Policy::installed(&cache, &digest, RunLimits::default()).expect("loads").expect("there");
    assert_eq!(by_digest.identity().digest, Some(digest));
    assert!(cache.remove(&digest).expect("removes"));
    assert!(!cache.remove(&digest).expect("is gone"));
    assert!(Policy::from_bytes(&bytes, &site.cached_only()).is_err());
}

#[test]
fn shipped_policies_come_from_the_cache_and_answer_the_same() {
    let site = Site::new();
    let bytes = cprecover_policies::shipped::component(cprecover_policies::Profile::Default);
    site.install(bytes);
    let cached = Policy::from_bytes(bytes, &site.cached_only()).expect("is there");
    let compiled = Policy::builtin().expect("compiles");
    assert_eq!(cached.identity(), compiled.identity());
    let seen = Observation::default();
    assert_eq!(cached.decide(&seen), compiled.decide(&seen));
}

#[test]
fn a_tampered_entry_is_refused_and_compiled_anew() {
    let site = Site::new();
    let bytes = quiet();
    let file = site.install(&bytes);
    let good = std::fs::read(&file).unwrap();
    let size = good.len();
    for at in [0, 8, 9, 41, 73, 74, size / 2, size - 33, size - 1] {
        let mut changed = good.clone();
        changed[at] ^= 1;
        std::fs::write(&file, &changed).unwrap();
        let error = Policy::from_bytes(&bytes, &site.cached_only()).expect_err("refused");
        assert!(error.to_string().contains("is not run"), "byte {at}: {error}");
        let anew = Policy::from_bytes(&bytes, &site.options()).expect("compiled anew");
        assert!(anew.decide(&Observation::default()).failure.is_none());
    }
    for cut in [0, 1, 80, size - 1] {
        std::fs::write(&file, &good[..cut]).unwrap();
        let error = Policy::from_bytes(&bytes, &site.cached_only()).expect_err("refused");
        assert!(error.to_string().contains("is not run"), "cut at {cut}: {error}");
    }
    std::fs::write(&file, &good).unwrap();
    Policy::from_bytes(&bytes, &site.cached_only()).expect("the good one still loads");
}

#[test]
fn code_of_another_policy_or_another_machine_is_refused() {
    let (site, elsewhere) = (Site::new(), Site::new());
    let (one, other) = (quiet(), component(&answer(0, 0), "(func)"));
    let (one_file, other_file) = (site.install(&one), site.install(&other));
    std::fs::copy(&other_file, &one_file).unwrap();
    let error = Policy::from_bytes(&one, &site.cached_only()).expect_err("another policy's code");
    assert!(error.to_string().contains("another component"), "{error}");
    std::fs::copy(elsewhere.install(&one), &one_file).unwrap();
    let error = Policy::from_bytes(&one, &site.cached_only()).expect_err("another machine's code");
    assert!(error.to_string().contains("its seal does not fit"), "{error}");
}

#[test]
fn a_folder_that_others_can_reach_is_not_used() {
    let site = Site::new();
    site.install(&quiet());
    for open in [0o755, 0o770, 0o701] {
        set_mode(&site.path(), open);
        let error = PolicyCache::open(&site.path()).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    }
    set_mode(&site.path(), 0o700);
    set_mode(&site.path().join("key"), 0o640);
    assert_eq!(PolicyCache::open(&site.path()).expect_err("refused").kind(), ErrorKind::Refused);
    set_mode(&site.path().join("key"), 0o600);
    PolicyCache::open(&site.path()).expect("is ours").expect("is there");
    let link = site.folder.path().join("link");
    std::os::unix::fs::symlink(site.path(), &link).unwrap();
    PolicyCache::open(&link).expect_err("a link is not followed");
    assert!(PolicyCache::open(&site.folder.path().join("none")).expect("no error").is_none());
}

#[test]
fn a_folder_of_another_user_is_not_used() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: changing a folder's owner needs root");
        return;
    }
    let site = Site::new();
    site.install(&quiet());
    std::os::unix::fs::chown(site.path(), Some(65534), None).unwrap();
    let error = PolicyCache::open(&site.path()).expect_err("refused");
    assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("65534"), "{error}");
}

#[test]
fn an_entry_that_is_a_link_is_not_followed() {
    let site = Site::new();
    let bytes = quiet();
    let file = site.install(&bytes);
    let moved = site.folder.path().join("moved");
    std::fs::rename(&file, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &file).unwrap();
    assert!(Policy::from_bytes(&bytes, &site.cached_only()).is_err());
}

/// What a crash or a full disk leaves of a key that is written in place.
#[test]
fn a_part_of_a_key_is_no_key() {
    let site = Site::new();
    let bytes = quiet();
    for part in [&b""[..], b"half of a key", &[7; 33]] {
        site.install(&bytes);
        std::fs::write(site.path().join("key"), part).unwrap();
        let error = PolicyCache::open(&site.path()).expect_err("no key");
        assert!(
            error.kind() == ErrorKind::Corrupt && error.to_string().contains("policy install"),
            "{error}"
        );
        let file = site.install(&bytes);
        Policy::from_bytes(&bytes, &site.cached_only()).expect("is sealed under the new key");
        assert_eq!((mode(&file), mode(&site.path().join("key"))), (0o600, 0o600));
    }
    assert_eq!(std::fs::read_dir(site.path()).unwrap().count(), 2, "the policy and the key");
}

#[test]
fn all_who_make_the_cache_at_once_get_one_key() {
    for part in [None, Some("")] {
        let site = Site::new();
        if let Some(part) = part {
            PolicyCache::create(&site.path()).expect("made");
            std::fs::write(site.path().join("key"), part).unwrap();
        }
        let (start, bytes) = (Barrier::new(8), quiet());
        std::thread::scope(|scope| {
            let make = || {
                start.wait();
                site.options()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
            let made: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("made")).collect();
            Policy::install_bytes(&bytes, &made[0]).expect("installs");
            for mut options in made {
                options.compiler = Some(Arc::new(Never));
                Policy::from_bytes(&bytes, &options).expect("has the key of the first");
            }
        });
    }
}

#[test]
fn nothing_stays_of_an_entry_that_was_not_stored() {
    let site = Site::new();
    let bytes = quiet();
    let file = site.install(&bytes);
    let name = file.file_name().unwrap().to_str().unwrap();
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    Policy::install_bytes(&bytes, &site.options()).expect_err("a folder is in its place");
    std::fs::remove_dir(&file).unwrap();
    let names = || {
        let found = std::fs::read_dir(site.path()).unwrap();
        let mut names: Vec<_> =
            found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["key"]);
    // Of processes that are gone, as both versions name it, and of one that is at work.
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let (gone, alive) = (gone.id(), std::process::id());
    let working = format!(".{name}.{alive}-77");
    let leave = || {
        for left in [format!(".{name}.{gone}"), format!(".{name}.{gone}-3"), working.clone()] {
            std::fs::write(site.path().join(left), "half").unwrap();
        }
    };
    leave();
    site.install(&bytes);
    assert_eq!(names(), [working.as_str(), name, "key"]);
    leave();
    assert!(site.options().cache.unwrap().remove(&Digest::of(&bytes)).expect("removes"));
    assert_eq!(names(), [working.as_str(), "key"]);
}

/// A large component is first compiled ahead of need, never during an outage.
#[test]
fn what_is_too_large_to_compile_runs_once_it_is_installed() {
    let site = Site::new();
    let large = component(&answer(0, 0), &"(func)".repeat(6_000));
    let error = Policy::from_bytes(&large, &site.options()).expect_err("too many functions");
    assert_eq!(error.kind(), ErrorKind::Limit);
    let text = error.to_string();
    assert!(text.contains("`functions`") && text.contains("policy install"), "{text}");
    assert_eq!(Policy::install_bytes(&large, &site.options()).expect_err("strict").kind(), ErrorKind::Limit);
    let mut raised = site.options();
    raised.compile = CompileLimits::raised();
    let installed = Policy::install_bytes(&large, &raised).expect("installs");
    assert!(installed.size.functions > 6_000, "{:?}", installed.size);
    let policy = Policy::from_bytes(&large, &site.cached_only()).expect("from the cache");
    assert!(policy.decide(&Observation::default()).failure.is_none());
}

/// A policy cannot remember: its second answer is its first.
#[test]
fn every_answer_comes_from_a_fresh_instance() {
    // Answers with as many decisions as it was asked before.
    let counting = component(
        "(global.set $asked (i32.add (global.get $asked) (i32.const 1)))
         (i32.store (i32.const 516) (i32.const 1024))
         (i32.store (i32.const 520) (i32.sub (global.get $asked) (i32.const 1)))
         (i32.const 512)",
        "(global $asked (mut i32) (i32.const 0))",
    );
    let policy = Policy::from_bytes(&counting, &LoadOptions::default()).expect("loads");
    for _ in 0..3 {
        let outcome = policy.decide(&Observation::default());
        assert!(outcome.failure.is_none() && outcome.decisions.is_empty(), "{outcome:?}");
    }
}

#[test]
fn one_policy_answers_many_threads_at_once() {
    let policy = Policy::builtin().expect("loads");
    let seen = Observation::default();
    let first = policy.decide(&seen);
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| (0..20).all(|_| policy.decide(&seen) == first))).collect();
        assert!(threads.into_iter().all(|thread| thread.join().expect("no panic")));
    });
}

#[test]
fn nonsense_is_not_kept() {
    let site = Site::new();
    let silent = wat::parse_str("(component)").unwrap();
    assert!(Policy::install_bytes(&silent, &site.options()).is_err());
    assert!(site.options().cache.unwrap().entries().expect("lists").is_empty());
    let error = Policy::install_bytes(&quiet(), &LoadOptions::default()).expect_err("no cache");
    assert_eq!(error.kind(), ErrorKind::Missing);
}
