//! The outage, step by step, on a drill's node.

use std::path::Path;
use std::time::Duration;

use cprecover::cri::{self, Container};
use cprecover::model::Component;
use cprecover::sys::{Deadline, SystemCommands, read_bounded};
use cprecover::{Error, ErrorKind, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::site::Site;

/// How long each step of the incident may take to show its effect.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);

/// What was done to the node, and what it said.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Incident {
    /// The orphan that hangs and keeps the peer port.
    pub(crate) orphan_pid: i32,
    /// What the new etcd died of.
    pub(crate) bind_error: String,
    /// What `/healthz` said then.
    pub(crate) healthz: String,
    /// The manifests that were lost.
    pub(crate) lost: Vec<String>,
}

/// Waits for something to become true, at most [`STEP_TIMEOUT`].
pub(super) fn wait<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Deadline::after(STEP_TIMEOUT);
    let mut last = None;
    loop {
        match look() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => {}
            Err(error) => last = Some(error),
        }
        if let Err(timeout) = deadline.check(what) {
            return Err(last.map_or(timeout, |error| error.context(format!("{what}: deadline passed"))));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Breaks a healthy node as in the outage.
pub(super) fn cause(site: &Site, tell: &mut dyn FnMut(&str)) -> Result<Incident> {
    wait_for_synced_kubelet(site)?;
    let orphan_pid = orphan_etcd(site)?;
    tell(&format!("etcd's supervisor dies; etcd (pid {orphan_pid}) hangs and keeps its peer port"));
    let bind_error = wait_for_bind_error(site)?;
    tell(&format!("kubelet's new etcd dies: {bind_error}"));
    let healthz = wait_for_failed_health(site)?;
    tell("/healthz says [-]etcd failed: reason withheld");
    let lost = lose_manifests(site)?;
    tell("the manifests are lost: the control plane is down");
    Ok(Incident { orphan_pid, bind_error, healthz, lost })
}

/// A kubelet that has not seen the API since its start would not stop pods whose manifests are lost.
fn wait_for_synced_kubelet(site: &Site) -> Result<()> {
    wait("wait for kubelet to see the API", || {
        let log = read_bounded(&site.root().join("var/log/kubelet.log"), 64 << 20)?;
        let started = memchr::memmem::rfind(&log, b"Started kubelet").unwrap_or_default();
        let since = log.get(started..).unwrap_or_default();
        Ok(memchr::memmem::find(since, b"source=\"api\"").map(|_| ()))
    })
}

fn containers(site: &Site, component: Component) -> Result<Vec<Container>> {
    let node = site.options()?;
    let deadline = Deadline::after(Duration::from_secs(5));
    let runtime = cri::connect(&node, &SystemCommands, &deadline)?;
    let state = runtime.list(&deadline)?;
    Ok(state.component_containers(component).into_iter().cloned().collect())
}

/// Kills the shim of etcd's sandbox and stops etcd itself.
fn orphan_etcd(site: &Site) -> Result<i32> {
    let node = site.options()?;
    let deadline = Deadline::after(Duration::from_secs(5));
    let runtime = cri::connect(&node, &SystemCommands, &deadline)?;
    let running = containers(site, Component::Etcd)?.into_iter().find(Container::is_running);
    let running = running.ok_or_else(|| Error::new(ErrorKind::NotFound, "no running etcd container"))?;
    let pid = runtime.container_detail(&running.id, &deadline)?.pid;
    let pid = pid.ok_or_else(|| Error::new(ErrorKind::NotFound, "the runtime tells no pid of etcd"))?.get();
    let stat = procfs::process::Process::new(pid).and_then(|process| process.stat());
    let stat = stat.map_err(|source| Error::with_source(ErrorKind::Io, format!("read pid {pid}"), source))?;
    // Stopped first: an etcd that still answers for a moment would hide the incident.
    signal(pid, Signal::STOP)?;
    signal(stat.ppid, Signal::KILL)?;
    Ok(pid)
}

fn signal(pid: i32, signal: Signal) -> Result<()> {
    let target = Pid::from_raw(pid).ok_or_else(|| Error::new(ErrorKind::Internal, format!("pid {pid}")))?;
    kill_process(target, signal).map_err(|source| Error::io(format!("signal pid {pid}"), source))
}

fn wait_for_bind_error(site: &Site) -> Result<String> {
    wait("wait for the new etcd to die of its bind error", || {
        let logs = site.root().join("var/log/pods");
        let Some(line) = find_line(&logs, "address already in use")? else { return Ok(None) };
        let start = line.find("listen tcp").unwrap_or_default();
        let text = line.get(start..).unwrap_or_default();
        let end = text.find("in use").map_or(text.len(), |at| at + "in use".len());
        let log = read_bounded(&site.root().join("var/log/kubelet.log"), 64 << 20)?;
        let started = memchr::memmem::rfind(&log, b"Started kubelet").unwrap_or_default();
        let since = log.get(started..).unwrap_or_default();
        let backing_off = memchr::memmem::find(since, b"CrashLoopBackOff").is_some();
        Ok(backing_off.then(|| text.get(..end).unwrap_or(text).to_owned()))
    })
}

/// Finds a line in any log below a folder, three levels deep as kubelet lays them out.
fn find_line(folder: &Path, needle: &str) -> Result<Option<String>> {
    let mut folders = vec![(folder.to_path_buf(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|source| Error::path("list", &folder, source))?;
        for entry in entries.filter_map(std::result::Result::ok) {
            let path = entry.path();
            if path.is_dir() && depth < 2 {
                folders.push((path, depth + 1));
            } else if path.is_file() {
                let text = read_bounded(&path, 16 << 20)?;
                let text = String::from_utf8_lossy(&text);
                if let Some(line) = text.lines().find(|line| line.contains(needle)) {
                    return Ok(Some(line.to_owned()));
                }
            }
        }
    }
    Ok(None)
}

fn wait_for_failed_health(site: &Site) -> Result<String> {
    let api = site.api_server()?;
    wait("wait for /healthz to fail", || {
        let (status, body) = api.send_blocking("/healthz", None, Duration::from_secs(5))?;
        let text = String::from_utf8_lossy(&body).into_owned();
        Ok((status == 500 && text.contains("[-]etcd failed: reason withheld")).then_some(text))
    })
}

fn lose_manifests(site: &Site) -> Result<Vec<String>> {
    let folder = site.root().join("etc/kubernetes/manifests");
    let mut lost = Vec::new();
    for component in Component::ALL {
        let path = folder.join(component.manifest_file());
        std::fs::remove_file(&path).map_err(|source| Error::path("remove", &path, source))?;
        lost.push(component.manifest_file().to_owned());
    }
    wait("wait for kubelet to stop the control plane", || {
        for component in Component::ALL {
            if containers(site, component)?.iter().any(Container::is_running) {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })?;
    Ok(lost)
}
