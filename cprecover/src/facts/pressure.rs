//! Memory, load and pressure, from procfs.

use std::path::Path;

use super::{LoadFact, MemoryFact, PressureFact};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::read_bounded;

const MAX_BYTES: usize = 64 << 10;

fn text(path: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&read_bounded(path, MAX_BYTES)?).into_owned())
}

fn invalid(path: &Path) -> Error {
    Error::new(ErrorKind::Invalid, format!("{} is not as proc(5) describes it", path.display()))
}

/// Reads `/proc/meminfo`.
pub(super) fn memory(proc: &Path) -> Result<MemoryFact> {
    let path = proc.join("meminfo");
    memory_of(&text(&path)?).ok_or_else(|| invalid(&path))
}

fn memory_of(text: &str) -> Option<MemoryFact> {
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib: u64 = line?.split_whitespace().next()?.parse().ok()?;
        Some(kib.saturating_mul(1024))
    };
    Some(MemoryFact {
        total_bytes: field("MemTotal")?,
        available_bytes: field("MemAvailable")?,
        swap_total_bytes: field("SwapTotal")?,
    })
}

/// Reads `/proc/loadavg`, and counts processors in `/proc/stat`.
pub(super) fn load(proc: &Path) -> Result<LoadFact> {
    let path = proc.join("loadavg");
    let (one_minute, five_minutes) = averages_of(&text(&path)?).ok_or_else(|| invalid(&path))?;
    // Big machines have long interrupt lists in here.
    let processors = processors_of(&read_bounded(&proc.join("stat"), 4 << 20)?);
    Ok(LoadFact { one_minute, five_minutes, processors })
}

fn averages_of(text: &str) -> Option<(f64, f64)> {
    let mut numbers = text.split_whitespace().map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

fn processors_of(stat: &[u8]) -> u32 {
    let is_processor =
        |line: &[u8]| line.strip_prefix(b"cpu").and_then(<[u8]>::first).is_some_and(u8::is_ascii_digit);
    let count = stat.split(|byte| *byte == b'\n').filter(|line| is_processor(line)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Reads `/proc/pressure/{cpu,io,memory}`; [`ErrorKind::NotFound`] on kernels without PSI.
pub(super) fn pressure(proc: &Path) -> Result<PressureFact> {
    let read = |name: &str| -> Result<(f64, f64)> {
        let path = proc.join("pressure").join(name);
        let text = match text(&path) {
            // PSI that is compiled in but switched off (psi=0) fails on read.
            Err(error) if error.os_error() == Some(95) => {
                return Err(Error::with_source(ErrorKind::NotFound, "psi is switched off", error));
            }
            other => other?,
        };
        stalls_of(&text).ok_or_else(|| invalid(&path))
    };
    let (cpu, io, memory) = (read("cpu")?, read("io")?, read("memory")?);
    Ok(PressureFact {
        cpu_some_percent: cpu.0,
        io_some_percent: io.0,
        io_full_percent: io.1,
        memory_full_percent: memory.1,
    })
}

/// Returns the averages of a minute of `some` and `full`, which is missing for the processor on older
/// kernels.
fn stalls_of(text: &str) -> Option<(f64, f64)> {
    let average = |kind: &str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        line.split_whitespace().find_map(|field| field.strip_prefix("avg60="))?.parse().ok()
    };
    Some((average("some")?, average("full").unwrap_or(0.0)))
}

/// Reads a text as each of the files here, for fuzzing.
pub(super) fn read_texts(text: &str) {
    let _ = (memory_of(text), averages_of(text), processors_of(text.as_bytes()), stalls_of(text));
}
