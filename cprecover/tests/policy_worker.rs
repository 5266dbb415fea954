//! Compiling in a process that can be killed: what no count foresees ends by a named limit.
#![allow(clippy::unwrap_used)]

mod executable;
mod policy_support;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cprecover::policy::{CompileLimits, LoadOptions, Observation, Policy, WorkerCompiler};
use cprecover::{Error, ErrorKind};
use policy_support::{bombs, quiet, rss_kb};

/// The program hands its stdin and stdout to the library.
fn worker(time: Duration, memory_bytes: u64) -> WorkerCompiler {
    let mut worker = WorkerCompiler::new(env!("CARGO_BIN_EXE_cprecover"));
    worker.limits.time = time;
    worker.limits.memory_bytes = memory_bytes;
    worker
}

/// Every count raised out of the way: only the worker's limits are left.
fn uncounted(worker: WorkerCompiler) -> LoadOptions {
    let mut options = LoadOptions::default();
    let all = usize::MAX;
    options.compile = CompileLimits::raised();
    options.compile.bytes = all;
    options.compile.body_bytes = all;
    let counts = &mut options.compile;
    for count in [
        &mut counts.functions,
        &mut counts.locals,
        &mut counts.all_locals,
        &mut counts.nesting,
        &mut counts.types,
        &mut counts.imports,
        &mut counts.modules,
    ] {
        *count = u32::MAX;
    }
    options.compiler = Some(Arc::new(worker));
    options
}

/// One test at a time, so that the children of this process are the test's own.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Processes that any thread of this one has started and that are not gone.
fn children() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("procfs");
    tasks
        .filter_map(Result::ok)
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .map(|children| children.split_whitespace().count())
        .sum()
}

#[test]
fn a_child_that_is_left_is_counted() {
    let _alone = alone();
    let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep runs");
    assert_eq!(children(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(children(), 0);
}

#[test]
fn a_worker_compiles_what_this_process_compiles() {
    let _alone = alone();
    let options = uncounted(worker(Duration::from_mins(1), 2 << 30));
    for name in Policy::SHIPPED {
        let profile = cprecover_policies::Profile::from_name(name).unwrap();
        let bytes = cprecover_policies::shipped::component(profile);
        let policy = Policy::from_bytes(bytes, &options).expect("compiles");
        let seen = Observation::default();
        let here = Policy::shipped(name).expect("loads").decide(&seen);
        assert_eq!(policy.decide(&seen), here);
        let by_name = Policy::shipped_with(name, &options).expect("compiles");
        assert_eq!(by_name.decide(&seen), here);
    }
}

#[test]
fn a_shipped_policy_is_compiled_by_the_worker_that_is_given() {
    let _alone = alone();
    let options = uncounted(WorkerCompiler::new("/no/such/program"));
    let error = Policy::shipped_with("default", &options).expect_err("nobody else compiles it");
    assert!(error.to_string().contains("/no/such/program"), "{error}");
}

#[test]
fn compile_bombs_end_by_a_named_limit_and_leave_nothing() {
    let _alone = alone();
    let all = bombs();
    let before = rss_kb();
    for (name, bomb, _) in &all {
        // The quickest of them takes more than a second on a quiet machine, the slowest above ten.
        let limit = Duration::from_millis(250);
        let options = uncounted(worker(limit, 1 << 30));
        let begun = Instant::now();
        let error = Policy::from_bytes(bomb, &options).expect_err(name);
        let took = begun.elapsed();
        println!("{name}: {took:?}, peak {} kB: {error}", rss_kb());
        assert_eq!(error.kind(), ErrorKind::Limit, "{name}: {error}");
        assert!(error.to_string().contains("policy limit `compile-"), "{name}: {error}");
        // The machine may be busy.
        assert!(took < limit + Duration::from_secs(6), "{name} took {took:?}");
        assert_eq!(children(), 0, "{name} left a process");
    }
    let grown = rss_kb().saturating_sub(before);
    assert!(grown < 30 << 10, "{grown} kB");
}

#[test]
fn memory_of_the_worker_is_bounded() {
    let _alone = alone();
    let (_, giant, _) = bombs().into_iter().nth(2).unwrap();
    // The program itself takes a part of it; compiling takes 800 MB and more.
    let options = uncounted(worker(Duration::from_mins(2), 256 << 20));
    let error = Policy::from_bytes(&giant, &options).expect_err("too little memory");
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    assert!(error.to_string().contains("`compile-memory`"), "{error}");
}

fn script(folder: &Path, text: &str) -> WorkerCompiler {
    let path = folder.join("worker");
    executable::install(&path, format!("#!/bin/sh\n{text}\n").as_bytes());
    WorkerCompiler::new(path)
}

fn answered_by(text: &str, limits: impl Fn(&mut WorkerCompiler)) -> Error {
    let folder = tempfile::tempdir().expect("temp dir");
    let mut worker = script(folder.path(), text);
    limits(&mut worker);
    Policy::from_bytes(&quiet(), &uncounted(worker)).expect_err(text)
}

#[test]
fn a_worker_that_hangs_floods_dies_or_lies_is_no_danger() {
    let _alone = alone();
    let error = answered_by("exec sleep 60", |worker| worker.limits.time = Duration::from_millis(200));
    assert!(error.to_string().contains("`compile-time`: not compiled within 200 ms"), "{error}");
    let error = answered_by("exec cat /dev/zero", |worker| worker.limits.output_bytes = 1 << 20);
    assert!(error.to_string().contains("`compile-output`"), "{error}");
    let error = answered_by("kill -KILL $$", |_| {});
    assert!(error.kind() == ErrorKind::Policy && error.to_string().contains("was killed after"), "{error}");
    let error = answered_by("kill -ABRT $$", |_| {});
    assert!(error.kind() == ErrorKind::Policy && error.to_string().contains("signal 6"), "{error}");
    let error = answered_by("echo it went wrong >&2; exit 1", |_| {});
    assert_eq!(error.to_string(), "it went wrong");
    let error = answered_by("exit 0", |_| {});
    assert!(error.to_string().contains("not a whole artifact"), "{error}");
    // What went in comes out: it does not carry the seal.
    let error = answered_by("exec cat", |_| {});
    assert!(error.to_string().contains("is not used"), "{error}");
    let options = uncounted(WorkerCompiler::new("/nonexistent/worker"));
    let error = Policy::from_bytes(&quiet(), &options).expect_err("no program");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(children(), 0);
}

/// The worker gets no environment: nothing of the caller's reaches it but the job.
#[test]
fn a_worker_has_an_empty_environment() {
    let _alone = alone();
    let error = answered_by("env | grep -v -e '^PWD=' -e '^SHLVL=' -e '^_=' >&2; exit 1", |_| {});
    assert!(error.to_string().contains("ended with"), "{error}");
}
