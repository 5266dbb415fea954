//! The drill: a disposable node is built, broken as in the outage, and recovered.

mod incident;
mod keys;
mod pki;
mod ports;
mod site;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cprecover::backup::{CreateOptions, Group, Store};
use cprecover::cri;
use cprecover::model::Component;
use cprecover::recover::{Ending, Report};
use cprecover::sys::{CancelToken, Deadline, SystemCommands, millis};
use cprecover::{Error, ErrorKind, Result};
use serde::Serialize;

use self::incident::{Incident, wait};
use self::ports::Ports;
use self::site::{EtcdProgram, Site, find_etcd};
use crate::cmd::PolicyArgs;
use crate::cmd::recover::{Consented, recover_node};
use crate::console::say;
use crate::{Context, Exit, present};

/// Builds a disposable node, breaks it as in the outage, and recovers it.
#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Args {
    /// Print the recovery's plan and change nothing after the incident.
    #[arg(long)]
    dry_run: bool,
    /// Leave the node's root and its processes for a look.
    #[arg(long)]
    keep: bool,
    /// Stop with a broken node, print its root, and leave it (for tests and examples).
    #[arg(long, conflicts_with_all = ["dry_run", "again", "clean"])]
    break_only: bool,
    /// Stop with a healthy node, print its root and ports, and leave it (for tests).
    #[arg(long, conflicts_with_all = ["dry_run", "again", "clean", "break_only"])]
    build_only: bool,
    /// Break the kept node at this root once more and leave it broken.
    #[arg(long, value_name = "ROOT", conflicts_with = "clean")]
    again: Option<PathBuf>,
    /// End all processes of the kept node at this root and remove it.
    #[arg(long, value_name = "ROOT")]
    clean: Option<PathBuf>,
    /// Use the program's own stand-in for etcd even where a real etcd is on PATH.
    #[arg(long)]
    stand_in: bool,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// What the drill shows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DrillReport {
    /// The node's root; gone unless it was kept.
    root: PathBuf,
    /// `real` with its path, or `stand-in`.
    etcd: EtcdProgram,
    /// What was done to the node.
    incident: Incident,
    /// Keys written before the fault, and how many had their value after the recovery.
    keys_written: usize,
    keys_intact: Option<usize>,
    /// From the fault in place to the verified node, in milliseconds.
    recovery_ms: u64,
    /// From the first file to the end, in milliseconds.
    drill_ms: u64,
    /// The recovery's own report.
    recovery: Report,
}

/// What a broken node is, for tests and examples.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BrokenNode {
    root: PathBuf,
    etcd: EtcdProgram,
    incident: Incident,
}

/// What a healthy node is, for tests.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BuiltNode {
    root: PathBuf,
    etcd: EtcdProgram,
    ports: Ports,
}

/// Runs a drill.
pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit> {
    if let Some(root) = &args.clean {
        clean(root)?;
        return Ok(Exit::Done);
    }
    if let Some(root) = &args.again {
        let site = Site::open(root)?;
        let incident = incident::cause(&site, &mut |_| {})?;
        return show_broken(ctx, &site, incident);
    }
    let started = Instant::now();
    let root = make_root()?;
    let etcd = if args.stand_in { EtcdProgram::StandIn } else { find_etcd() };
    let result = drill(ctx, args, &root, etcd, started);
    let leave = args.keep || ((args.break_only || args.build_only) && result.is_ok());
    if leave {
        say(format_args!(
            "drill: the node is left at {}; `cprecover drill --clean {}` removes it",
            root.display(),
            root.display()
        ));
    } else {
        clean(&root)?;
    }
    result
}

fn make_root() -> Result<PathBuf> {
    let folder = tempfile::Builder::new().prefix("cprecover-drill-").tempdir();
    Ok(folder.map_err(|source| Error::io("make a temporary root", source))?.keep())
}

fn drill(ctx: &Context, args: &Args, root: &Path, etcd: EtcdProgram, started: Instant) -> Result<Exit> {
    let mut tell = |text: &str| say(format_args!("drill: {text}"));
    tell(&match &etcd {
        EtcdProgram::Real(path) => {
            format!("building a node at {} with the real {}", root.display(), path.display())
        }
        EtcdProgram::StandIn => format!("building a node at {} with a stand-in for etcd", root.display()),
    });
    let site = Site::build(root.to_path_buf(), etcd.clone())?;
    start_healthy(&site)?;
    keys::write(&site)?;
    tell(
        "the control plane is healthy; keys are written, etcd, apiserver and controller manager are backed up",
    );
    check_cancel(&ctx.cancel)?;
    if args.build_only {
        let built = BuiltNode { root: root.to_path_buf(), etcd, ports: *site.ports() };
        ctx.emit("cprecover.dev/built-node/v1", &built, || root.display().to_string())?;
        return Ok(Exit::Done);
    }
    let incident = incident::cause(&site, &mut tell)?;
    if args.break_only {
        return show_broken(ctx, &site, incident);
    }
    check_cancel(&ctx.cancel)?;
    let node = site.options()?;
    let policy = args.policy.load(&node)?;
    let fault = Instant::now();
    let report = recover_node(&node, &policy, &Consented::drill(args.dry_run), &ctx.cancel)?;
    let recovery_ms = millis(fault.elapsed());
    let healthy = report.ending == Ending::Healthy;
    let keys_intact = if healthy { Some(keys::count_intact(&site)?) } else { None };
    let drill = DrillReport {
        root: root.to_path_buf(),
        etcd,
        incident,
        keys_written: keys::COUNT,
        keys_intact,
        recovery_ms,
        drill_ms: millis(started.elapsed()),
        recovery: report,
    };
    ctx.emit("cprecover.dev/drill/v1", &drill, || table(&drill))?;
    let intact = keys_intact == Some(keys::COUNT);
    Ok(if args.dry_run || (healthy && intact) { Exit::Done } else { Exit::Unhealthy })
}

fn check_cancel(cancel: &CancelToken) -> Result<()> {
    if cancel.is_cancelled() {
        return Err(Error::new(ErrorKind::Cancelled, "drill cancelled"));
    }
    Ok(())
}

/// Starts the node, backs up what is there while it is healthy, and adds the scheduler afterwards, so
/// that one manifest has no backup.
fn start_healthy(site: &Site) -> Result<()> {
    for component in [Component::Etcd, Component::KubeApiserver, Component::KubeControllerManager] {
        site.install(component)?;
    }
    site.daemon("containerd").start()?;
    wait("wait for the runtime", || connect(site).map(Some))?;
    site.daemon("kubelet").start()?;
    let api = site.api_server()?;
    wait("wait for a healthy control plane", || {
        let (status, _) = api.send_blocking("/readyz", None, Duration::from_secs(3))?;
        Ok((status == 200).then_some(()))
    })?;
    let node = site.options()?;
    let mut options = CreateOptions::default();
    options.health_verified = true;
    options.groups = vec![Group::Manifests, Group::Kubeadm];
    options.reason = "drill: healthy".into();
    Store::open(&node)?.create(&options, &Deadline::after(Duration::from_secs(10)))?;
    site.install(Component::KubeScheduler)?;
    wait("wait for the scheduler", || {
        let deadline = Deadline::after(Duration::from_secs(3));
        let node = site.options()?;
        let state = cri::connect(&node, &SystemCommands, &deadline)?.list(&deadline)?;
        let running = state.component_containers(Component::KubeScheduler).iter().any(|c| c.is_running());
        Ok(running.then_some(()))
    })
}

fn connect(site: &Site) -> Result<()> {
    cri::connect(&site.options()?, &SystemCommands, &Deadline::after(Duration::from_secs(2))).map(|_| ())
}

fn show_broken(ctx: &Context, site: &Site, incident: Incident) -> Result<Exit> {
    let broken = BrokenNode { root: site.root().to_path_buf(), etcd: site.etcd().clone(), incident };
    ctx.emit("cprecover.dev/broken-node/v1", &broken, || broken.root.display().to_string())?;
    Ok(Exit::Done)
}

/// Ends everything that a drill's node started and removes its root.
fn clean(root: &Path) -> Result<()> {
    // Only what a drill built is removed, whatever path was given.
    let site = match Site::open(root) {
        Ok(site) => site,
        Err(error) if error.kind() == ErrorKind::NotFound && is_unfinished(root) => {
            return std::fs::remove_dir_all(root).map_err(|source| Error::path("remove", root, source));
        }
        Err(error) => return Err(error.context("not a drill's node")),
    };
    site.daemon("kubelet").stop()?;
    site.daemon("containerd").stop()?;
    crate::double::runtime::cleanup(root)?;
    std::fs::remove_dir_all(root).map_err(|source| Error::path("remove", root, source))
}

/// Reports whether a root is a drill's that failed before its node was complete: nothing runs there yet.
fn is_unfinished(root: &Path) -> bool {
    root.file_name().is_some_and(|name| name.to_string_lossy().starts_with("cprecover-drill-"))
}

fn table(drill: &DrillReport) -> String {
    let keys = match drill.keys_intact {
        Some(intact) => format!("{intact} of {} keys from before the fault are intact", drill.keys_written),
        None => "not read back: the node is not healthy".to_owned(),
    };
    format!(
        "{}\nDATA\n  {keys}\n\nTIME\n  recovery {:.1} s, whole drill {:.1} s",
        present::report(&drill.recovery),
        seconds(drill.recovery_ms),
        seconds(drill.drill_ms)
    )
}

fn seconds(milliseconds: u64) -> f64 {
    Duration::from_millis(milliseconds).as_secs_f64()
}
