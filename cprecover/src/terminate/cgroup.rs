//! Kills a whole cgroup of an orphaned container (`cgroup.kill`, cgroups v2).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::guard;
use super::plan::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Pid, ProcessId};
use crate::ports::procdir::ProcDir;
use crate::ports::{self, cgroupfs};

/// Cgroups below a container's that are looked at.
const MAX_FOLDERS: usize = 1000;

/// A cgroup whose processes have all been checked.
#[derive(Debug)]
pub(super) struct Checked {
    folder: PathBuf,
    /// The cgroup as `/proc/PID/cgroup` names it.
    pub(super) path: String,
    /// The processes that were in it.
    pub(super) processes: Vec<ProcessId>,
}

/// Checks that the cgroup of a target holds no process that is protected or of another container.
///
/// The target itself may have ended already and left others behind.
pub(super) fn check(proc: &ProcDir, target: &Target, mounts: &[PathBuf]) -> Result<Checked> {
    let refused = |why: String| Error::new(ErrorKind::Refused, format!("kill a whole cgroup: {why}"));
    let path = target.cgroup.clone().ok_or_else(|| refused("the target's cgroup is not known".into()))?;
    if !target.own_cgroup {
        return Err(refused(format!("{path} is not known to hold one orphaned container only")));
    }
    let mount = cgroupfs::mount(mounts).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "kill a whole cgroup: no cgroup v2 hierarchy is mounted")
    })?;
    let folder = mount.join(path.trim_start_matches('/'));
    if folder == mount || path.split('/').any(|part| part == "..") {
        return Err(refused(format!("{path} is not below the root")));
    }
    if !folder.join("cgroup.kill").exists() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "kill a whole cgroup: {} has no cgroup.kill (before Linux 5.14, or no v2)",
                folder.display()
            ),
        ));
    }
    let own = ports::CgroupPath { path: path.clone(), v2: true }.pod();
    if own.is_none() {
        return Err(refused(format!("{path} is no pod's")));
    }
    let mut processes = Vec::new();
    for pid in all_processes(&folder)? {
        let theirs = ports::cgroup(proc, pid).present().and_then(ports::CgroupPath::pod);
        if theirs != own {
            if proc.stat(pid).is_err() {
                continue;
            }
            return Err(refused(format!("pid {pid} in {path} is not of the same container")));
        }
        // The first process of the container's own pid namespace ends with all others anyway.
        let lifted: BTreeSet<_> =
            target.lifted.iter().copied().chain([guard::Protection::NamespaceInit]).collect();
        guard::check(proc, pid, &lifted)?;
        processes.push(proc.process_id(pid)?);
    }
    Ok(Checked { folder, path, processes })
}

impl Checked {
    /// Kills every process of the cgroup and of those below it.
    pub(super) fn kill(&self) -> Result<()> {
        let path = self.folder.join("cgroup.kill");
        std::fs::write(&path, "1").map_err(|source| Error::path("write", path, source))
    }
}

fn all_processes(folder: &Path) -> Result<Vec<Pid>> {
    let mut folders = vec![folder.to_owned()];
    let mut processes = Vec::new();
    for _ in 0..MAX_FOLDERS {
        let Some(folder) = folders.pop() else { return Ok(processes) };
        processes.extend(cgroupfs::processes(&folder)?);
        let entries = std::fs::read_dir(&folder).map_err(|source| Error::path("list", &folder, source))?;
        for entry in entries {
            let entry = entry.map_err(|source| Error::path("list", &folder, source))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    Err(Error::new(ErrorKind::Limit, format!("{} has over {MAX_FOLDERS} cgroups below it", folder.display())))
}
