//! Runs a policy component: no WASI, no clock, no randomness, bounded in time, memory, stack and output.
//!
//! Time is bounded by fuel, not by an epoch: nobody has to tick, and the same input uses the same fuel.
//! `signals_based_traps(false)` keeps signal handlers out of an embedding Go or C program, and the small
//! memory reservation works under `ulimit -v`.

use cprecover_policy_sdk::contract;
use wasmtime::component::{Component, ComponentType, InstancePre, Lift, Linker, Lower, WasmStr};
use wasmtime::{Config, Engine, OptLevel, Store, StoreLimits, StoreLimitsBuilder};

use super::limits::CompileLimits;
use super::outcome::{LogLevel, LogLine};
use crate::error::{Error, ErrorKind, Result};

/// Fuel for one line of log: what a call into the host costs, so that a flood of lines runs dry soon.
const LOG_FUEL: u64 = 1_000;
/// Begins an error that the policy itself answered.
const POLICY_SAYS: &str = "the policy says: ";
/// Interface that a policy exports.
const POLICY: &str = "cprecover:policy/policy@0.1.0";
/// The only interface that a policy may import functions from.
const LOG: &str = "cprecover:policy/log@0.1.0";

/// Bounds of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunLimits {
    /// Fuel, roughly one per instruction; the default policy uses under 200,000.
    pub fuel: u64,
    /// The linear memory of the policy, in bytes; it has one.
    pub memory_bytes: usize,
    /// Elements of a table; a policy has at most four.
    pub table_elements: usize,
    /// Bytes that may be copied between policy and host.
    pub copied_bytes: usize,
    /// Log lines that are kept; more are counted and dropped.
    pub log_lines: usize,
    /// Bytes of one log line that are kept.
    pub log_line_bytes: usize,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self {
            fuel: 50_000_000,
            memory_bytes: 16 << 20,
            table_elements: 10_000,
            copied_bytes: 4 << 20,
            log_lines: 64,
            log_line_bytes: 512,
        }
    }
}

/// What one instance of a policy may use and has logged.
struct State {
    limits: StoreLimits,
    run: RunLimits,
    log: Vec<LogLine>,
    dropped: u64,
    /// After a line far over its limit no more are looked at.
    log_closed: bool,
}

/// The contract's log level.
#[derive(Debug, Clone, Copy, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
// Lift makes the variants from their discriminant.
#[allow(dead_code)]
enum Level {
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
}

/// A compiled policy; each answer comes from a fresh instance.
pub(super) struct Compiled {
    engine: Engine,
    pre: InstancePre<State>,
    run: RunLimits,
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiled").field("run", &self.run).finish_non_exhaustive()
    }
}

/// What a policy answered.
pub(super) struct Answer {
    pub(super) decisions: Vec<contract::Decision>,
    pub(super) log: Vec<LogLine>,
    pub(super) dropped: u64,
    pub(super) fuel_used: u64,
}

fn engine() -> Result<Engine> {
    let mut config = Config::new();
    config
        .signals_based_traps(false)
        .consume_fuel(true)
        .max_wasm_stack(256 << 10)
        .memory_reservation(0)
        .memory_reservation_for_growth(1 << 20)
        .memory_guard_size(0)
        .memory_init_cow(false)
        .wasm_multi_memory(false)
        .wasm_component_model(true)
        // The same bits on every machine, so that the same observation gets the same answer.
        .cranelift_nan_canonicalization(true)
        // A policy runs for microseconds; compiling it is what takes time.
        .cranelift_opt_level(OptLevel::None);
    Engine::new(&config).map_err(|source| policy_error("start the policy engine", &source))
}

/// One line without wasmtime's backtrace, whose names the component chose.
fn policy_error(what: &str, source: &wasmtime::Error) -> Error {
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

impl Compiled {
    /// Counts, compiles and links a component, and asks it who it is.
    pub(super) fn new(
        bytes: &[u8],
        limits: &CompileLimits,
        run: RunLimits,
    ) -> Result<(Self, contract::Metadata)> {
        limits.check(bytes)?;
        let engine = engine()?;
        let component =
            Component::new(&engine, bytes).map_err(|source| policy_error("compile the policy", &source))?;
        let mut linker = Linker::new(&engine);
        linker
            .instance(LOG)
            .and_then(|mut log| log.func_wrap("write", write_log))
            .map_err(|source| policy_error("define the log", &source))?;
        let pre = linker
            .instantiate_pre(&component)
            .map_err(|source| policy_error("the policy imports more than the log", &source))?;
        let compiled = Self { engine, pre, run };
        let metadata = compiled.describe()?;
        Ok((compiled, super::convert::metadata(metadata)?))
    }

    /// Asks the policy who it is.
    fn describe(&self) -> Result<contract::Metadata> {
        let mut store = self.store()?;
        let (metadata,): (contract::Metadata,) = self.call(&mut store, "describe", ())?;
        Ok(metadata)
    }

    /// Asks a fresh instance what should be done.
    pub(super) fn decide(&self, observation: &contract::Observation) -> Result<Answer> {
        type Decided = (Result<Vec<contract::Decision>, String>,);
        let mut store = self.store()?;
        let (answer,): Decided = self.call(&mut store, "decide", (observation,))?;
        let decisions = answer.map_err(|why| {
            let why: String = why.chars().filter(|c| !c.is_control()).take(512).collect();
            Error::new(ErrorKind::Policy, format!("{POLICY_SAYS}{why}"))
        })?;
        let left = store.get_fuel().unwrap_or_default();
        let state = store.into_data();
        Ok(Answer {
            decisions,
            log: state.log,
            dropped: state.dropped,
            fuel_used: self.run.fuel.saturating_sub(left),
        })
    }

    fn store(&self) -> Result<Store<State>> {
        let limits = StoreLimitsBuilder::new()
            .memory_size(self.run.memory_bytes)
            .table_elements(self.run.table_elements)
            .memories(1)
            .tables(4)
            .instances(16)
            .trap_on_grow_failure(true)
            .build();
        let state = State { limits, run: self.run, log: Vec::new(), dropped: 0, log_closed: false };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.limits);
        store.set_fuel(self.run.fuel).map_err(|source| policy_error("fuel", &source))?;
        store.set_hostcall_fuel(self.run.copied_bytes);
        Ok(store)
    }

    fn call<P, R>(&self, store: &mut Store<State>, name: &str, params: P) -> Result<R>
    where
        P: wasmtime::component::ComponentNamedList + Lower,
        R: wasmtime::component::ComponentNamedList + Lift + 'static,
    {
        let failed = |source| policy_error(&format!("{name} of the policy"), &source);
        let instance = self.pre.instantiate(&mut *store).map_err(failed)?;
        let missing = || Error::new(ErrorKind::Policy, format!("the policy exports no {POLICY} {name}"));
        let interface = instance.get_export_index(&mut *store, None, POLICY).ok_or_else(missing)?;
        let index = instance.get_export_index(&mut *store, Some(&interface), name).ok_or_else(missing)?;
        let function = instance.get_typed_func::<P, R>(&mut *store, &index).map_err(failed)?;
        function.call(&mut *store, params).map_err(failed)
    }
}

/// Keeps a line, or counts it; a line that is not kept is never copied out of the policy.
fn write_log(
    mut store: wasmtime::StoreContextMut<'_, State>,
    (level, message): (Level, WasmStr),
) -> wasmtime::Result<()> {
    let left = store.get_fuel()?;
    let Some(left) = left.checked_sub(LOG_FUEL) else {
        return Err(wasmtime::Trap::OutOfFuel.into());
    };
    store.set_fuel(left)?;
    let run = store.data().run;
    if store.data().log_closed || store.data().log.len() >= run.log_lines {
        let state = store.data_mut();
        state.dropped = state.dropped.saturating_add(1);
        return Ok(());
    }
    let (line, huge) = {
        let text = message.to_str(&store)?;
        (clipped(&text, run.log_line_bytes), text.len() > run.log_line_bytes.saturating_mul(64))
    };
    let level = match level {
        Level::Debug => LogLevel::Debug,
        Level::Info => LogLevel::Info,
        Level::Warn => LogLevel::Warn,
    };
    let state = store.data_mut();
    state.log_closed = huge;
    state.log.push(LogLine { level, message: line });
    Ok(())
}

/// At most `bytes` of `text`, without control characters.
fn clipped(text: &str, bytes: usize) -> String {
    let mut line = String::new();
    for c in text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }) {
        if line.len() + c.len_utf8() > bytes {
            break;
        }
        line.push(c);
    }
    line
}

/// Names the limit that a failure is about, where it is one.
pub(super) fn limit_of(error: &Error) -> Option<&'static str> {
    let text = error.to_string();
    if text.starts_with(POLICY_SAYS) {
        return None;
    }
    [
        ("all fuel consumed", "fuel"),
        ("fuel allocated for hostcalls", "copied-bytes"),
        ("forcing trap when growing memory", "memory"),
        ("exceeds memory limits", "memory"),
        ("forcing a memory growth failure", "memory"),
        ("table", "table-elements"),
        ("call stack exhausted", "stack"),
        ("decisions are more than", "decisions"),
        ("longer than", "text-bytes"),
        ("resource limit exceeded", "instances"),
    ]
    .into_iter()
    .find(|(needle, _)| text.contains(needle))
    .map(|(_, name)| name)
}
