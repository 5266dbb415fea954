//! A stand-in for containerd: real CRI over gRPC, containers that are processes of this machine.
//!
//! What it does as the real one: a shim per sandbox that outlives the runtime (`KillMode=process`), logs
//! in kubelet's format, cgroups where the machine allows them, exit codes, reserved names, and a container
//! that goes on running and is called exited when its shim is killed. What it does not have: images,
//! namespaces, mounts (paths in arguments are rewritten instead) and a pause process.

mod answers;
mod cgroup;
mod cleanup;
mod ending;
mod engine;
mod launch;
mod log;
mod protocol;
mod record;
mod rewrite;
mod service;
mod shim;
mod socket;
mod starting;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cprecover::{Error, ErrorKind, Result};

use self::cgroup::Cgroups;
use self::engine::Engine;
use self::record::{Folder, Role, identify, read_json, write_json};
use crate::console::say;

pub(crate) use cleanup::cleanup;
pub(crate) use shim::{ExecArgs, ShimArgs, exec, run as run_shim};

/// How the runtime runs. It serves the node at `--root`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RuntimeArgs {
    /// The unix socket to serve on.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Folder of programs that come before those of the machine.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Put containers into cgroups below this one; without it, or where the machine allows none, they
    /// have no cgroups.
    #[arg(long, value_name = "NAME")]
    cgroup_prefix: Option<String>,
    /// Let every stop and removal of a running container hang, as one in D state does.
    #[arg(long)]
    hung_containers: bool,
}

/// Serves until SIGTERM or SIGINT; containers and shims stay.
pub(crate) fn run(root: &Path, args: RuntimeArgs) -> Result<()> {
    let folder = Folder::of(root);
    std::fs::create_dir_all(&folder.0).map_err(|source| Error::path("create", &folder.0, source))?;
    let cgroups = args.cgroup_prefix.as_deref().and_then(|prefix| match Cgroups::claim(prefix) {
        Ok(cgroups) => Some(cgroups),
        Err(reason) => {
            say(format_args!("cprecover double runtime: containers have no cgroups: {reason}"));
            None
        }
    });
    if let Some(cgroups) = &cgroups {
        // For the clean-up, which is told nothing but the root.
        write_json(&folder.cgroups(), cgroups)?;
    }
    let own = identify(std::process::id())
        .ok_or_else(|| Error::new(ErrorKind::Internal, "this process is not in /proc"))?;
    folder.note(own, Role::Runtime)?;
    let memory = read_json(&folder.memory())?.unwrap_or_default();
    let engine = Engine {
        root: root.to_path_buf(),
        socket: args.socket.clone(),
        folder: folder.clone(),
        programs: args.programs,
        cgroups,
        hung: args.hung_containers,
        memory: Mutex::new(memory),
    };
    if let Some(parent) = args.socket.parent() {
        std::fs::create_dir_all(parent).map_err(|source| Error::path("create", parent, source))?;
    }
    let executor = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|source| Error::io("start an executor", source))?;
    let served = executor.block_on(async {
        let listener = socket::listen(&args.socket)
            .and_then(|listener| {
                listener.set_nonblocking(true)?;
                tokio::net::UnixListener::from_std(listener)
            })
            .map_err(|source| Error::path("listen on", &args.socket, source))?;
        tokio::select! {
            // Dropped at the signal, not drained: a stop that hangs must not hold up the end.
            served = service::serve(listener, Arc::new(engine), std::future::pending()) => served
                .map_err(|source| Error::with_source(ErrorKind::Io, "serve CRI", source)),
            stopped = stop(&folder) => stopped,
        }
    });
    executor.shutdown_background();
    served
}

/// Ends at SIGTERM or SIGINT, or when the node's folder is gone.
async fn stop(folder: &Folder) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |source| Error::io("listen for signals", source);
    let mut term = signal(SignalKind::terminate()).map_err(failed)?;
    let mut int = signal(SignalKind::interrupt()).map_err(failed)?;
    loop {
        tokio::select! {
            _ = term.recv() => return Ok(()),
            _ = int.recv() => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(1)) => {
                if !folder.0.exists() {
                    return Ok(());
                }
            }
        }
    }
}
