//! Policies that mean harm: each is stopped by a named limit, soon, and the host lives on.
#![cfg(feature = "wasm")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod policy_support;

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cprecover::ErrorKind;
use cprecover::policy::{Action, LoadOptions, Observation, Outcome, Policy, RunLimits};
use policy_support::{DECISION, WIT, answer, component, component_of, module, rss_kb};

/// Generous: the tests run unoptimised. The limits themselves are fuel and bytes.
const SOON: Duration = Duration::from_secs(8);
/// What all of a test's hostile policies together may add to this process.
const RSS_KB: u64 = 200 << 10;

/// Keeps the tests of this file apart: what one adds to the process is no other's.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One decision whose bytes at `offset` are `bytes`, in WAT's escapes.
fn decided(offset: u32, bytes: &str) -> Vec<u8> {
    component(&answer(DECISION, 1), &format!("(data (i32.const {}) \"{bytes}\")", DECISION + offset))
}

/// Processor time of this thread: how busy the machine is does not matter.
fn thread_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let nanos = u32::try_from(now.tv_nsec).expect("less than a second");
    Duration::new(u64::try_from(now.tv_sec).expect("positive"), nanos)
}

#[track_caller]
fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = thread_time();
    let result = work();
    let took = thread_time().saturating_sub(begun);
    println!("{what}: {took:?} of processor time, peak {} kB", rss_kb());
    assert!(took < SOON, "{what} took {took:?}");
    result
}

/// Loads and asks; the failure is one call to a person.
#[track_caller]
fn stopped(what: &str, bytes: &[u8]) -> Outcome {
    let outcome = timed(what, || {
        let policy = Policy::from_bytes(bytes, &LoadOptions::default()).expect("loads");
        policy.decide(&Observation::default())
    });
    let failure = outcome.failure.as_ref().unwrap_or_else(|| panic!("{what} was not stopped: {outcome:?}"));
    assert!(!failure.message.contains('\n'), "{failure:?}");
    assert_eq!(outcome.decisions.len(), 1, "{what}: {outcome:?}");
    assert!(matches!(outcome.decisions[0].action, Action::Escalate { .. }), "{what}: {outcome:?}");
    outcome
}

#[track_caller]
fn stopped_by(limit: &str, what: &str, bytes: &[u8]) {
    let failure = stopped(what, bytes).failure.unwrap();
    assert_eq!(failure.limit.as_deref(), Some(limit), "{what}: {failure:?}");
}

#[track_caller]
fn refused(what: &str, bytes: &[u8], says: &str) {
    let error = timed(what, || Policy::from_bytes(bytes, &LoadOptions::default())).expect_err(what);
    assert!(matches!(error.kind(), ErrorKind::Policy | ErrorKind::Limit), "{what}: {error}");
    assert!(error.to_string().contains(says), "{what}: {error}");
}

fn alive() {
    let harmless = Policy::from_bytes(&component(&answer(0, 0), ""), &LoadOptions::default()).expect("loads");
    let outcome = harmless.decide(&Observation::default());
    assert!(outcome.failure.is_none() && outcome.decisions.is_empty(), "{outcome:?}");
}

#[test]
fn hostile_answers_are_stopped_while_they_run() {
    let _alone = alone();
    let before = rss_kb();
    let forever = |body: &str| format!("(loop $l {body} (br $l)) (unreachable)");
    stopped_by("fuel", "endless loop", &component(&forever(""), ""));
    stopped_by("memory", "memory.grow bomb", &component(&forever("(drop (memory.grow (i32.const 64)))"), ""));
    stopped_by(
        "fuel",
        "memory.fill loop",
        &component(&forever("(memory.fill (i32.const 0) (i32.const 1) (i32.const 4000000))"), ""),
    );
    stopped_by(
        "fuel",
        "memory.copy loop",
        &component(&forever("(memory.copy (i32.const 0) (i32.const 8) (i32.const 4000000))"), ""),
    );
    stopped_by("stack", "deep recursion", &component("(call $decide (local.get 0))", ""));
    stopped_by(
        "table-elements",
        "table.grow bomb",
        &component(
            &forever("(drop (table.grow $t (ref.null func) (i32.const 4000)))"),
            "(table $t 0 funcref)",
        ),
    );
    stopped("trap", &component("(unreachable)", ""));
    stopped("out of bounds", &component("(i32.load (i32.const -4))", ""));
    stopped("answer out of bounds", &component("(i32.const -8)", ""));
    stopped("1 GB list", &component(&answer(DECISION, 16_000_000), ""));
    stopped("4 G list", &component(&answer(DECISION, u32::MAX), ""));
    stopped("1 GB string", &decided(32, "\\00\\00\\00\\00\\00\\00\\00\\40"));
    stopped_by("decisions", "1,000 decisions", &component(&answer(DECISION, 1_000), ""));
    stopped("60,000 decisions", &component(&answer(DECISION, 60_000), ""));
    stopped_by("text-bytes", "1 MB reason", &decided(32, "\\00\\00\\01\\00\\00\\00\\10\\00"));
    stopped("400,000 evidence ids", &decided(40, "\\00\\00\\01\\00\\80\\1a\\06\\00"));
    let bad = "(data (i32.const 1056) \"\\00\\05\\00\\00\\01\") (data (i32.const 1280) \"\\ff\")";
    let utf8 = stopped("invalid UTF-8", &component(&answer(DECISION, 1), bad));
    assert!(utf8.failure.unwrap().message.contains("utf-8"));
    let nan = stopped("NaN confidence", &decided(48, "\\00\\00\\c0\\7f"));
    assert!(nan.failure.unwrap().message.contains("confidence NaN"));
    stopped("unknown action", &decided(8, "\\63"));
    stopped("process 0", &decided(8, "\\03"));
    alive();
    let grown = rss_kb().saturating_sub(before);
    assert!(grown < RSS_KB, "{grown} kB");
}

#[test]
fn a_flood_of_log_lines_is_counted_and_runs_dry() {
    let _alone = alone();
    let flood = |length: u32| {
        format!(
            "(loop $l (call $log (i32.const 1) (i32.const 65536) (i32.const {length})) (br $l)) (unreachable)"
        )
    };
    stopped_by("fuel", "empty log lines for ever", &component(&flood(0), ""));
    stopped_by("fuel", "2 MB log lines for ever", &component(&flood(1_900_000), ""));
    let some = format!(
        "(local $i i32) (loop $l (call $log (i32.const 2) (i32.const 384) (i32.const 7))
           (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000)))) {}",
        answer(0, 0)
    );
    let policy = Policy::from_bytes(&component(&some, ""), &LoadOptions::default()).expect("loads");
    let outcome = policy.decide(&Observation::default());
    assert!(outcome.failure.is_none(), "{outcome:?}");
    assert_eq!((outcome.log.len(), outcome.log_dropped), (64, 936));
    assert!(outcome.log.iter().all(|line| line.message == "hostile"));
    let long = format!(
        "(call $log (i32.const 0) (i32.const 65536) (i32.const 1900000)) (call $log (i32.const 0) (i32.const 65536) (i32.const 1)) {}",
        answer(0, 0)
    );
    let policy = Policy::from_bytes(&component(&long, ""), &LoadOptions::default()).expect("loads");
    let outcome = policy.decide(&Observation::default());
    assert_eq!((outcome.log.len(), outcome.log_dropped), (1, 1), "{:?}", outcome.failure);
    assert!(outcome.log[0].message.len() <= 512);
    alive();
}

#[test]
fn hostile_components_do_not_even_load() {
    let _alone = alone();
    let before = rss_kb();
    let quiet = answer(0, 0);
    let with = |more: &str| component(&quiet, more);
    refused("start loop", &with("(func $s (loop $l (br $l))) (start $s)"), "all fuel consumed");
    refused("huge table", &with("(table 10000000 funcref)"), "table");
    let huge = module(&quiet, "").replace("\"memory\") 64)", "\"memory\") 65536)");
    refused("4 GB memory", &component_of(&huge, WIT), "memory");
    let nest = |deep: usize| format!("(func {} {})", "block ".repeat(deep), "end ".repeat(deep));
    refused("nested blocks", &with(&nest(10_000)), "`nesting`");
    refused(
        "giant function",
        &with(&format!("(func {})", "i32.const 1 drop ".repeat(40_000))),
        "`body-bytes`",
    );
    refused("10,000 functions", &with(&"(func)".repeat(10_000)), "`functions`");
    let locals = |count: usize| format!("(func (local {}))", "i64 ".repeat(count));
    refused("50,000 locals", &with(&locals(50_000)), "`locals`");
    refused("100 times 1,900 locals", &with(&locals(1_900).repeat(100)), "`all-locals`");
    // The four that wasmtime compiles for seconds, gigabytes or both: counted, never compiled.
    for (name, bomb, limit) in policy_support::bombs() {
        refused(name, &bomb, limit);
    }
    let mut imports = String::from("(component (core module ");
    for at in 0..10_000 {
        write!(imports, "(import \"a\" \"f{at}\" (func))").unwrap();
    }
    refused("10,000 imports", &wat::parse_str(imports + "))").unwrap(), "`imports`");
    let nested = format!("{}{}", "(component ".repeat(60), ")".repeat(60));
    refused("nested components", &wat::parse_str(nested).unwrap(), "`modules`");
    let mut types = String::from("(component (type $t0 (tuple u8 u8))");
    for at in 1..60 {
        write!(types, "(type $t{at} (tuple $t{} $t{}))", at - 1, at - 1).unwrap();
    }
    refused("type bomb", &wat::parse_str(types + ")").unwrap(), "type size");
    // Two components that pass strings to each other: the adapter between them has two memories.
    let pair = r#"(component
      (component $a
        (core module $m (memory (export "mem") 1) (func (export "f") (param i32 i32))
          (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func (export "f") (param "s" string)
          (canon lift (core func $i "f") (memory (core memory $i "mem")) (realloc (core func $i "realloc")))))
      (component $b
        (import "f" (func $f (param "s" string)))
        (core module $libc (memory (export "mem") 1))
        (core instance $libc (instantiate $libc))
        (core func $lowered (canon lower (func $f) (memory (core memory $libc "mem"))))
        (core module $m (import "" "f" (func (param i32 i32))))
        (core instance (instantiate $m (with "" (instance (export "f" (func $lowered)))))))
      (instance $a (instantiate $a))
      (instance (instantiate $b (with "f" (func $a "f")))))"#;
    refused("components in a component", &wat::parse_str(pair).unwrap(), "exports no");
    refused("two memories", &with("(memory 1)"), "memory count too high");
    let v128 = "(v128.const f32x4 1 1 1 1) ".repeat(3);
    let madd = format!("(func (result v128) {v128} f32x4.relaxed_madd)");
    refused("what each processor answers otherwise", &with(&madd), "relaxed SIMD");
    refused("no exports", &wat::parse_str("(component)").unwrap(), "exports no");
    refused("core module", &wat::parse_str("(module)").unwrap(), "a core module");
    refused("text", b"(component)", "no WebAssembly");
    refused("nothing", b"", "no WebAssembly");
    refused("too large", &vec![0; 2 << 20], "`bytes`");
    let wit = WIT.replace("cprecover:policy@0.1.0", "cprecover:policy@0.2.0");
    let newer = module(&quiet, "").replace("@0.1.0", "@0.2.0");
    refused("wrong WIT version", &component_of(&newer, &wit), "the policy imports more than the log");
    let wit = WIT.replace("import log;", "import log; import clock: func() -> u64;");
    let clock = module(&quiet, "").replace(
        "(memory (export",
        "(import \"$root\" \"clock\" (func $clock (result i64))) (memory (export",
    );
    refused("reads a clock", &component_of(&clock, &wit), "the policy imports more than the log");
    let good = with("");
    for part in 1..8 {
        let cut = &good[..good.len() * part / 8];
        assert!(Policy::from_bytes(cut, &LoadOptions::default()).is_err(), "{part}/8 of a policy loads");
    }
    alive();
    let grown = rss_kb().saturating_sub(before);
    assert!(grown < RSS_KB, "{grown} kB");
}

/// The most that the limits admit must still compile soon.
#[test]
fn what_the_limits_admit_compiles_soon() {
    let _alone = alone();
    let quiet = answer(0, 0);
    let load = |what: &str, more: &str| {
        let bytes = component(&quiet, more);
        timed(what, || Policy::from_bytes(&bytes, &LoadOptions::default())).expect(what)
    };
    let nest = format!("(func {} {})", "block ".repeat(198), "end ".repeat(198));
    load("1,000 functions of 198 blocks", &nest.repeat(1_000));
    load("20 functions of 1,990 locals", &format!("(func (local {}))", "i64 ".repeat(1_990)).repeat(20));
    load("15 functions of 60 kB", &format!("(func {})", "i32.const 1 drop ".repeat(20_000)).repeat(15));
    load("4,900 functions", &"(func (result i32) i32.const 1)".repeat(4_900));
}

#[test]
fn memory_of_an_answer_can_be_lowered_and_the_default_policy_has_room() {
    let _alone = alone();
    for name in Policy::SHIPPED {
        let policy = Policy::shipped(name).expect("loads");
        let outcome = policy.decide(&Observation::default());
        assert!(outcome.failure.is_none(), "{name}: {outcome:?}");
        assert!(outcome.fuel_used > 0 && outcome.fuel_used < 5_000_000, "{name}: {}", outcome.fuel_used);
    }
    let mut options = LoadOptions::default();
    options.run.memory_bytes = 1 << 20;
    let error = Policy::from_bytes(&component(&answer(0, 0), ""), &options).expect_err("4 MB in 1 MB");
    assert!(error.to_string().contains("memory"), "{error}");
}

/// Raised limits are of all memories together: a component may have several.
#[test]
fn many_memories_have_no_more_than_one_may() {
    let _alone = alone();
    let mut raised = LoadOptions::default();
    raised.run = RunLimits::raised();
    let load = |pages: u32| {
        let two = format!("(memory {pages}) (memory {pages})");
        Policy::from_bytes(&component(&answer(0, 0), &two), &raised)
    };
    let outcome = load(1_900).expect("less than 256 MiB in all").decide(&Observation::default());
    assert_eq!(outcome.failure, None);
    let error = load(2_100).expect_err("each is less than 256 MiB, both are more");
    assert!(error.to_string().contains("growing memory"), "{error}");
    let grow = "(drop (memory.grow $other (i32.const 2100))) (drop (memory.grow $other (i32.const 2100))) (unreachable)";
    let grows = component(grow, "(memory $other 0)");
    let outcome = Policy::from_bytes(&grows, &raised).expect("loads").decide(&Observation::default());
    assert_eq!(outcome.failure.expect("stopped").limit.as_deref(), Some("memory"));
}
