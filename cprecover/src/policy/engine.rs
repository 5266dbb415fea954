//! The engine that all policies of this process share, and its one configuration.

use std::sync::OnceLock;

use cprecover_policy_artifact as artifact;
#[cfg(feature = "wasm")]
use wasmtime::OptLevel;
use wasmtime::{Config, Engine};

use crate::error::{Error, ErrorKind, Result};

/// Returns the engine; it holds no policy and no state of one.
///
/// Time is bounded by fuel, not by an epoch: nobody has to tick, and the same input uses the same fuel.
/// `signals_based_traps(false)` keeps signal handlers out of an embedding Go or C program, and the small
/// memory reservation works under `ulimit -v`.
pub(super) fn engine() -> Result<&'static Engine> {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    if let Some(engine) = ENGINE.get() {
        return Ok(engine);
    }
    let engine =
        Engine::new(&configuration()).map_err(|source| policy_error("start the policy engine", &source))?;
    Ok(ENGINE.get_or_init(|| engine))
}

/// Names the engine, in each entry of a cache; `None` where it cannot be named (no compiler).
#[cfg(feature = "wasm")]
pub(super) fn engine_id() -> Result<Option<artifact::EngineId>> {
    static ID: OnceLock<artifact::EngineId> = OnceLock::new();
    let engine = engine()?;
    Ok(Some(*ID.get_or_init(|| artifact::EngineId::of(engine))))
}

#[cfg(not(feature = "wasm"))]
#[allow(clippy::unnecessary_wraps)] // With a compiler it can fail.
pub(super) fn engine_id() -> Result<Option<artifact::EngineId>> {
    Ok(None)
}

fn configuration() -> Config {
    let mut config = Config::new();
    config
        .signals_based_traps(false)
        .consume_fuel(true)
        .max_wasm_stack(256 << 10)
        .memory_reservation(0)
        .memory_reservation_for_growth(1 << 20)
        .memory_guard_size(0)
        .memory_init_cow(false)
        // The adapters between the components of a component have two; how many there may be is limited
        // where they are made.
        .wasm_multi_memory(true)
        .wasm_component_model(true)
        // What these answer is the processor's choice.
        .wasm_relaxed_simd(false)
        // No policy is asked twice at once in one instance.
        .concurrency_support(false)
        // Nobody debugs a policy on a node; without these a compiled policy is half the size.
        .generate_address_map(false)
        .native_unwind_info(false)
        .wasm_backtrace_max_frames(None);
    #[cfg(feature = "wasm")]
    config
        // The same bits on every machine, so that the same observation gets the same answer.
        .cranelift_nan_canonicalization(true)
        // Smaller code is loaded from the cache sooner; compiling takes longer, but does so ahead of need.
        .cranelift_opt_level(OptLevel::Speed);
    config
}

/// One line without wasmtime's backtrace, whose names the component chose.
pub(super) fn policy_error(what: &str, source: &wasmtime::Error) -> Error {
    let mut text = what.to_owned();
    for cause in source.chain().map(ToString::to_string) {
        let line = cause.lines().next().unwrap_or_default();
        if !line.starts_with("error while executing at wasm backtrace") {
            text.push_str(": ");
            text.extend(line.chars().filter(|c| !c.is_control()).take(256));
        }
    }
    Error::new(ErrorKind::Policy, text)
}
