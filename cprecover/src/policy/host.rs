//! Runs a policy component: no WASI, no clock, no randomness, bounded in time, memory, stack and output.

use cprecover_policy_sdk::contract;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentType, Instance, InstancePre, Lift, Linker, Lower, WasmStr,
};
use wasmtime::{Store, StoreLimitsBuilder};

use super::engine::{engine, policy_error};
use super::memory::AllMemories;
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
    /// All linear memories of the policy together, in bytes.
    pub memory_bytes: usize,
    /// Linear memories; a policy without a language's runtime has one.
    pub memories: usize,
    /// Elements of a table; a policy has at most four.
    pub table_elements: usize,
    /// Bytes that may be copied between policy and host.
    pub copied_bytes: usize,
    /// Log lines that are kept; more are counted and dropped.
    pub log_lines: usize,
    /// Bytes of one log line that are kept.
    pub log_line_bytes: usize,
}

impl RunLimits {
    /// Room for components that carry a language's runtime: 256 MiB and ten times the fuel.
    #[must_use]
    pub fn raised() -> Self {
        Self {
            fuel: 500_000_000,
            memory_bytes: 256 << 20,
            memories: 8,
            table_elements: 100_000,
            ..Self::default()
        }
    }

    /// Returns the wider of both for each limit.
    pub(super) fn at_least(self, other: Self) -> Self {
        Self {
            fuel: self.fuel.max(other.fuel),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            memories: self.memories.max(other.memories),
            table_elements: self.table_elements.max(other.table_elements),
            copied_bytes: self.copied_bytes.max(other.copied_bytes),
            log_lines: self.log_lines.max(other.log_lines),
            log_line_bytes: self.log_line_bytes.max(other.log_line_bytes),
        }
    }
}

impl Default for RunLimits {
    fn default() -> Self {
        Self {
            fuel: 50_000_000,
            memory_bytes: 16 << 20,
            memories: 1,
            table_elements: 10_000,
            copied_bytes: 4 << 20,
            log_lines: 64,
            log_line_bytes: 512,
        }
    }
}

/// What one instance of a policy may use and has logged.
struct State {
    limits: AllMemories,
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

/// A linked policy; each answer comes from a fresh instance.
pub(super) struct Linked {
    pre: InstancePre<State>,
    describe: ComponentExportIndex,
    decide: ComponentExportIndex,
    run: RunLimits,
}

impl std::fmt::Debug for Linked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Linked").field("run", &self.run).finish_non_exhaustive()
    }
}

/// What `decide` of the contract returns.
type Decided = (Result<Vec<contract::Decision>, String>,);

/// What a policy answered.
pub(super) struct Answer {
    pub(super) decisions: Vec<contract::Decision>,
    pub(super) log: Vec<LogLine>,
    pub(super) dropped: u64,
    pub(super) fuel_used: u64,
}

impl Linked {
    /// Links a component to the log and asks it who it is.
    pub(super) fn new(component: &Component, run: RunLimits) -> Result<(Self, contract::Metadata)> {
        let mut linker = Linker::new(engine()?);
        linker
            .instance(LOG)
            .and_then(|mut log| log.func_wrap("write", write_log))
            .map_err(|source| policy_error("define the log", &source))?;
        let pre = linker
            .instantiate_pre(component)
            .map_err(|source| policy_error("the policy imports more than the log", &source))?;
        let export = |name: &str| {
            let missing = || Error::new(ErrorKind::Policy, format!("the policy exports no {POLICY} {name}"));
            let interface = component.get_export_index(None, POLICY).ok_or_else(missing)?;
            component.get_export_index(Some(&interface), name).ok_or_else(missing)
        };
        let linked = Self { pre, describe: export("describe")?, decide: export("decide")?, run };
        let metadata = linked.describe()?;
        Ok((linked, super::convert::metadata(metadata)?))
    }

    /// Asks the policy who it is.
    fn describe(&self) -> Result<contract::Metadata> {
        let mut store = self.store()?;
        let (metadata,): (contract::Metadata,) = self.call(&mut store, "describe", &self.describe, ())?;
        Ok(metadata)
    }

    /// Asks a fresh instance what should be done.
    pub(super) fn decide(&self, observation: &contract::Observation) -> Result<Answer> {
        let mut store = self.store()?;
        let (answer,): Decided = self.call(&mut store, "decide", &self.decide, (observation,))?;
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
            .memories(self.run.memories)
            .tables(self.run.memories.saturating_mul(4))
            .instances(self.run.memories.saturating_mul(16))
            .trap_on_grow_failure(true)
            .build();
        let limits = AllMemories::new(limits, self.run.memory_bytes);
        let state = State { limits, run: self.run, log: Vec::new(), dropped: 0, log_closed: false };
        let mut store = Store::new(engine()?, state);
        store.limiter(|state| &mut state.limits);
        self.refill(&mut store)?;
        Ok(store)
    }

    fn refill(&self, store: &mut Store<State>) -> Result<()> {
        store.set_fuel(self.run.fuel).map_err(|source| policy_error("fuel", &source))?;
        store.set_hostcall_fuel(self.run.copied_bytes);
        Ok(())
    }

    fn call<P, R>(
        &self,
        store: &mut Store<State>,
        name: &str,
        export: &ComponentExportIndex,
        params: P,
    ) -> Result<R>
    where
        P: wasmtime::component::ComponentNamedList + Lower,
        R: wasmtime::component::ComponentNamedList + Lift + 'static,
    {
        let instance = self.pre.instantiate(&mut *store).map_err(|source| failed(name, &source))?;
        ask(store, &instance, name, export, params)
    }

    /// Keeps one instance.
    pub(super) fn warm(&self) -> Result<Warm<'_>> {
        let mut store = self.store()?;
        let instance = self.pre.instantiate(&mut store).map_err(|source| failed("decide", &source))?;
        Ok(Warm { linked: self, store, instance })
    }
}

fn failed(name: &str, source: &wasmtime::Error) -> Error {
    policy_error(&format!("{name} of the policy"), source)
}

fn ask<P, R>(
    store: &mut Store<State>,
    instance: &Instance,
    name: &str,
    export: &ComponentExportIndex,
    params: P,
) -> Result<R>
where
    P: wasmtime::component::ComponentNamedList + Lower,
    R: wasmtime::component::ComponentNamedList + Lift + 'static,
{
    let function = instance.get_typed_func::<P, R>(&mut *store, export);
    let function = function.map_err(|source| failed(name, &source))?;
    function.call(store, params).map_err(|source| failed(name, &source))
}

/// One instance that is asked again and again; `benches/policy.rs` tells by it what a fresh one costs.
#[doc(hidden)]
pub struct Warm<'a> {
    linked: &'a Linked,
    store: Store<State>,
    instance: Instance,
}

impl std::fmt::Debug for Warm<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Warm").field("linked", &self.linked).finish_non_exhaustive()
    }
}

impl Warm<'_> {
    /// Asks and returns how many decisions there are.
    #[doc(hidden)]
    pub fn decide(&mut self, observation: &contract::Observation) -> Result<usize> {
        self.linked.refill(&mut self.store)?;
        let (answer,): Decided =
            ask(&mut self.store, &self.instance, "decide", &self.linked.decide, (observation,))?;
        answer.map(|decisions| decisions.len()).map_err(|why| Error::new(ErrorKind::Policy, why))
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
