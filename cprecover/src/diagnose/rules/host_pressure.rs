//! Load, memory or pressure is high.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, Evidence, EvidenceKind, FindingId, Severity};
use crate::diagnose::query::note;

pub(super) const RULE: Rule =
    Rule { id: FindingId::HostPressure, is_effect: false, effects: &[], check };

/// Below so much of its memory a node begins to evict (kubelet's default is 100 MiB).
const LOW_MEMORY_PERCENT: u64 = 5;
const HIGH_PERCENT: f64 = 20.0;
/// Tasks that run or wait, for each processor.
const HIGH_LOAD: f64 = 4.0;

fn check(facts: &Facts) -> Answer {
    let host = &facts.host;
    let mut evidence: Vec<Evidence> = Vec::new();
    if let Some(memory) = host.memory.present()
        && memory.available_bytes < memory.total_bytes / 100 * LOW_MEMORY_PERCENT
    {
        let text = format!("{} of {} MiB available", memory.available_bytes >> 20, memory.total_bytes >> 20);
        evidence.push(note(EvidenceKind::Host, "/proc/meminfo", text));
    }
    if let Some(pressure) = host.pressure.present() {
        for (what, percent) in [
            ("some task waited for the disk", pressure.io_some_percent),
            ("all tasks waited for memory", pressure.memory_full_percent),
        ] {
            if percent >= HIGH_PERCENT {
                let text = format!("{what} {percent:.0} % of the last minute");
                evidence.push(note(EvidenceKind::Host, "/proc/pressure", text));
            }
        }
    }
    if let Some(load) = host.load.present()
        && load.one_minute > HIGH_LOAD * f64::from(load.processors.max(1))
    {
        let text = format!("{:.1} over one minute on {} processors", load.one_minute, load.processors);
        evidence.push(note(EvidenceKind::Host, "/proc/loadavg", text));
    }
    if evidence.is_empty() {
        return Answer::unless(host.memory.present().is_some(), "memory, load and pressure of the host");
    }
    draft(FindingId::HostPressure, Severity::Warning, Confidence::Proven, "the host is short of memory, disk or processor time")
        .evidence(evidence)
        .remedy("Take load from the node before recovering; a control plane that starts needs all three.")
}
