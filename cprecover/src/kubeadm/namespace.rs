//! The fallback for a kubeadm whose phases have no `--dry-run`: the live folder is hidden from it.

use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};

use super::program::Program;
use super::staging::Staging;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Component;
use crate::node::NodeOptions;
use crate::sys::{CommandOutput, Commands as _, Deadline, SystemCommands};

/// kubeadm's folder for manifests; it is not configurable (kubernetes
/// `cmd/kubeadm/app/constants/constants.go`, `ManifestsSubDirName`).
const LIVE: &str = "/etc/kubernetes/manifests";

/// Renders one component with the staging folder mounted over the live one, in a mount namespace that
/// only kubeadm sees.
///
/// The namespace belongs to one thread that lives for this call: unshare(2) with `CLONE_NEWNS` moves the
/// calling thread alone, and kubeadm, started by it, inherits it. So neither a shell nor unshare(1) is
/// needed, and nothing is left behind when this process dies.
pub(super) fn render(
    node: &NodeOptions,
    staging: &Staging,
    program: &Program,
    component: Component,
    deadline: &Deadline,
) -> Result<Vec<u8>> {
    let live = Path::new(LIVE);
    if !live.is_dir() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "kubeadm {} has no --dry-run for this phase, and there is no folder {LIVE} to hide from it",
                program.version
            ),
        ));
    }
    if component == Component::Etcd && !node.etcd_data_dir.is_dir() {
        // Without --dry-run the phase makes this folder.
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "kubeadm {} has no --dry-run for etcd and would make {}",
                program.version,
                node.etcd_data_dir.display()
            ),
        ));
    }
    let spec = staging.command(program, component, false);
    let manifests = staging.manifests();
    let output = std::thread::scope(|scope| {
        let worker = scope.spawn(|| -> Result<CommandOutput> {
            hide(&manifests, live)?;
            SystemCommands.run(&spec, deadline)
        });
        worker
            .join()
            .map_err(|_| Error::new(ErrorKind::Internal, "the rendering thread ended unexpectedly"))?
    })?;
    Staging::judge(component, &output)?;
    staging.collect(component)
}

/// Moves this thread into a mount namespace of its own and mounts `manifests` over `live` in it.
fn hide(manifests: &Path, live: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|errno| Error::io("make a mount namespace (needs root)", std::io::Error::from(errno)))?;
    // First of all: nothing mounted here may appear outside.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|source| Error::io("make mounts private", source))?;
    mount_bind(manifests, live).map_err(|source| Error::path("mount the staging folder over", live, source))
}
