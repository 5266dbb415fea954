//! Facts from a recorded folder: file names and bytes in, values out.

use std::path::PathBuf;

use serde_json::Value;

use super::facts::{Facts, HealthFact, HealthState, ManifestFact, ProcessCgroup, Subject};
use crate::cri::{RuntimeState, parse};
use crate::error::{Error, ErrorKind, Result};
use crate::healthz::{self, Verdict};
use crate::logs::{self, ScanOptions};
use crate::model::{Component, Observed};
use crate::parse::manifest::StaticPod;
use crate::ports::{CgroupPath, PodCgroup};

/// Makes facts of recorded files, told apart by what they contain:
///
/// - what `crictl pods -o json` and `crictl ps -a -o json` print,
/// - [`Facts`] as JSON (an object with any of its fields), which is taken first,
/// - static-pod manifests,
/// - answers of health endpoints; a component's name in the file's name tells whose,
/// - `/proc/PID/cgroup` of a process that holds a port,
/// - anything else is scanned as a log.
///
/// # Errors
/// [`ErrorKind::Invalid`] for JSON that looks like one of these and is malformed; the file is named.
pub fn from_recording<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Facts> {
    let mut facts = Facts::default();
    let mut rest = Vec::new();
    for (name, bytes) in files {
        match facts_json(bytes) {
            Some(parsed) => facts = parsed.map_err(|error| error.context(name))?,
            None => rest.push((name, bytes)),
        }
    }
    for (name, bytes) in rest {
        add(&mut facts, name, bytes).map_err(|error| error.context(name))?;
    }
    Ok(facts)
}

/// Reads an object of facts; `None` when it is something else.
fn facts_json(bytes: &[u8]) -> Option<Result<Facts>> {
    const FIELDS: [&str; 10] = [
        "health",
        "logMatches",
        "logsRead",
        "runtime",
        "portHolders",
        "processCgroups",
        "manifests",
        "lint",
        "host",
        "etcdData",
    ];
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let object = value.as_object()?;
    // etcd's own answer has a field `health` too, which is a string.
    let is_facts = FIELDS
        .iter()
        .any(|field| object.get(*field).is_some_and(|value| !value.is_string() && !value.is_boolean()));
    is_facts.then(|| {
        serde_json::from_value(value)
            .map_err(|source| Error::with_source(ErrorKind::Invalid, "no valid facts", source))
    })
}

fn add(facts: &mut Facts, name: &str, bytes: &[u8]) -> Result<()> {
    let start = bytes.trim_ascii_start();
    if start.starts_with(b"{")
        && let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(bytes)
    {
        let is_list = |key: &str| object.get(key).is_some_and(Value::is_array);
        if is_list("items") {
            runtime(facts).sandboxes = parse::pods(bytes)?;
            return Ok(());
        }
        if is_list("containers") {
            runtime(facts).containers = parse::containers(bytes)?;
            return Ok(());
        }
    }
    if looks_like_manifest(bytes)
        && let Ok(pod) = StaticPod::parse(bytes)
        && let Some(component) = pod.component()
    {
        facts.manifests.push(ManifestFact {
            component,
            path: PathBuf::from(name),
            pod: Observed::Present(pod),
            parse_error: None,
        });
        return Ok(());
    }
    if let Some(pod) = pod_of_cgroup(bytes) {
        facts.process_cgroups.push(ProcessCgroup { source: name.to_owned(), pod });
        return Ok(());
    }
    // A health answer is short; a log that quotes one is still a log.
    if bytes.len() <= 64 << 10 {
        let report = healthz::parse(bytes);
        let is_answer = report.verdict != Verdict::Unknown && report.unknown_lines.len() <= 2;
        if is_answer {
            let state = HealthState::Recorded(report);
            facts.health.push(HealthFact { subject: subject_of(name), source: name.to_owned(), state });
            return Ok(());
        }
    }
    let scan = logs::scan_bytes(name, bytes, &ScanOptions::default());
    facts.logs_read.push(name.to_owned());
    facts.log_matches.extend(scan.matches);
    Ok(())
}

fn runtime(facts: &mut Facts) -> &mut RuntimeState {
    if facts.runtime.present().is_none() {
        facts.runtime = Observed::Present(RuntimeState::default());
    }
    match &mut facts.runtime {
        Observed::Present(state) => state,
        Observed::Absent | Observed::Unknown(_) => unreachable!("it was just set"),
    }
}

/// Reads `/proc/PID/cgroup` (cgroups(7)) of a process in a pod; `None` when it is something else.
fn pod_of_cgroup(bytes: &[u8]) -> Option<PodCgroup> {
    const MAX_BYTES: usize = 64 << 10;
    let text = std::str::from_utf8(bytes.get(..MAX_BYTES).is_none().then_some(bytes)?).ok()?;
    // Each line is `id:controllers:/path`, so that no line of a log passes for one.
    let is_line = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
        let is_name = controllers.is_empty() || controllers.starts_with(|c: char| c.is_ascii_lowercase());
        (is_id && is_name && path.starts_with('/')).then_some(())
    };
    let mut lines = text.lines().filter(|line| !line.trim().is_empty()).peekable();
    lines.peek()?;
    lines.all(|line| is_line(line).is_some()).then_some(())?;
    CgroupPath::parse(text.trim()).ok()?.pod()
}

fn looks_like_manifest(bytes: &[u8]) -> bool {
    let head = bytes.get(..4096).unwrap_or(bytes);
    memchr::memmem::find(head, b"kind: Pod").is_some()
        || memchr::memmem::find(head, b"\"kind\": \"Pod\"").is_some()
}

/// Tells from a file's name whose answer it holds; `kcm` and `apiserver` are short for the full names.
fn subject_of(name: &str) -> Option<Subject> {
    let name = name.rsplit('/').next().unwrap_or(name);
    let component = [
        ("apiserver", Component::KubeApiserver),
        ("controller-manager", Component::KubeControllerManager),
        ("kcm", Component::KubeControllerManager),
        ("scheduler", Component::KubeScheduler),
        ("etcd", Component::Etcd),
    ];
    if name.contains("kubelet") {
        return Some(Subject::Kubelet);
    }
    component
        .iter()
        .find(|(text, _)| name.contains(text))
        .map(|(_, component)| Subject::Component(*component))
}
