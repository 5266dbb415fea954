//! Real control groups for the containers, where the machine allows them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where version 2 of the hierarchy may be mounted: alone, or beside version 1 (systemd's hybrid mode).
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// The part of the hierarchy that belongs to one stand-in node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Cgroups {
    mount: PathBuf,
    prefix: String,
}

impl Cgroups {
    /// Takes `prefix` below the root of the hierarchy; `Err` says why there are no cgroups.
    pub(super) fn claim(prefix: &str) -> Result<Self, String> {
        if prefix.is_empty() || prefix.starts_with('.') || prefix.contains('/') {
            return Err(format!("{prefix:?} is not the name of a cgroup"));
        }
        let mount = MOUNTS
            .iter()
            .map(Path::new)
            .find(|mount| mount.join("cgroup.procs").exists() && mount.join("cgroup.controllers").exists())
            .ok_or("no version 2 hierarchy is mounted")?;
        let own = mount.join(prefix);
        std::fs::create_dir_all(&own).map_err(|error| format!("create {}: {error}", own.display()))?;
        Ok(Self { mount: mount.to_path_buf(), prefix: prefix.to_owned() })
    }

    /// Returns the path within the hierarchy, as `/proc/PID/cgroup` shows it.
    pub(super) fn path(&self, below: &str) -> String {
        format!("/{}{below}", self.prefix)
    }

    /// Makes a cgroup and returns its folder.
    pub(super) fn create(&self, path: &str) -> std::io::Result<PathBuf> {
        let folder = self.mount.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Removes a cgroup unless something still lives in it.
    pub(super) fn remove(&self, path: &str) {
        let folder = self.mount.join(path.trim_start_matches('/'));
        if let Err(error) = std::fs::remove_dir(&folder) {
            tracing::debug!(folder = %folder.display(), %error, "the cgroup stays");
        }
    }

    /// Kills everything below the prefix and removes it; `Err` when something stays after a second.
    pub(super) fn destroy(&self) -> Result<(), String> {
        let own = self.mount.join(&self.prefix);
        for _ in 0..50 {
            if !own.exists() {
                return Ok(());
            }
            // cgroup.kill (Linux 5.14) ends the whole subtree, forks included.
            let _ = std::fs::write(own.join("cgroup.kill"), "1");
            remove_tree(&own, 8);
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("{} is still in use", own.display()))
    }
}

/// Removes the folders of a cgroup from the leaves up; the files in them are the kernel's.
fn remove_tree(folder: &Path, depth: usize) {
    if depth > 0
        && let Ok(entries) = std::fs::read_dir(folder)
    {
        for entry in entries.filter_map(Result::ok).take(10_000) {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_tree(&entry.path(), depth - 1);
            }
        }
    }
    let _ = std::fs::remove_dir(folder);
}
