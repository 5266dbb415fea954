//! From a container's record to a process: program, paths, log, cgroup.

use std::path::{Path, PathBuf};

use tonic::Status;

use super::cgroup::Cgroups;
use super::protocol::Launch;
use super::record::{ContainerRecord, Folder, SandboxRecord};
use super::rewrite::{PathMap, below};

/// Folders of a container's default PATH; programs of the drill come before them.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is the same for all containers of one runtime.
pub(super) struct Host<'a> {
    pub(super) root: &'a Path,
    pub(super) folder: &'a Folder,
    pub(super) programs: Option<&'a Path>,
    pub(super) cgroups: Option<&'a Cgroups>,
}

impl Host<'_> {
    /// Says how a container is started.
    pub(super) fn launch(
        &self,
        id: &str,
        container: &ContainerRecord,
        sandbox: &SandboxRecord,
    ) -> Result<Launch, Status> {
        let mounts = container.mounts.iter().map(|(inside, host)| (inside.as_str(), host.as_str()));
        let paths = PathMap::new(self.root, mounts);
        let mut mapped = container.argv.iter().map(|arg| paths.apply(arg));
        let arg0 = mapped.next().ok_or_else(|| Status::invalid_argument("the container has no command"))?;
        let program = self.find(&arg0).ok_or_else(|| {
            Status::unknown(format!(
                "failed to create containerd task: failed to create shim task: OCI runtime create failed: \
                 runc create failed: unable to start container process: exec: {arg0:?}: \
                 executable file not found in $PATH: unknown"
            ))
        })?;
        for (_, host) in &container.mounts {
            // containerd makes a missing mount source as a folder (`internal/cri/server/container_create.go`).
            let source = below(self.root, host);
            if !source.exists() {
                std::fs::create_dir_all(&source)
                    .map_err(|error| Status::unknown(format!("mkdir {}: {error}", source.display())))?;
            }
        }
        let mut env = vec![("PATH".to_owned(), PATH.to_owned())];
        env.extend(container.env.iter().map(|(key, value)| (key.clone(), paths.apply(value))));
        let working_dir = Path::new(&container.working_dir);
        Ok(Launch {
            container: id.to_owned(),
            program,
            arg0,
            args: mapped.collect(),
            env,
            working_dir: if working_dir.is_dir() { working_dir.to_path_buf() } else { "/".into() },
            log: log_path(container, sandbox)
                .map_or_else(|| "/dev/null".into(), |on_node| below(self.root, &on_node)),
            cgroup: self.cgroup(id, sandbox)?,
            exit_file: self.folder.exit_file(&container.sandbox, id),
        })
    }

    fn cgroup(&self, id: &str, sandbox: &SandboxRecord) -> Result<Option<PathBuf>, Status> {
        let Some(cgroups) = self.cgroups else { return Ok(None) };
        let path = format!("{}/{id}", sandbox.cgroup);
        let folder = cgroups.create(&path);
        folder.map(Some).map_err(|error| Status::unknown(format!("create cgroup {path}: {error}")))
    }

    fn find(&self, arg0: &str) -> Option<PathBuf> {
        let name = Path::new(arg0).file_name()?;
        let given = arg0.contains('/').then(|| PathBuf::from(arg0));
        let searched = std::env::split_paths(PATH).map(|folder| folder.join(name));
        let programs = self.programs.map(|folder| folder.join(name));
        programs.into_iter().chain(given).chain(searched).find(|path| path.is_file())
    }
}

/// Returns the log of a container, a path on the node; `None` when the caller wants none.
pub(super) fn log_path(container: &ContainerRecord, sandbox: &SandboxRecord) -> Option<String> {
    if container.log_path.is_empty() || sandbox.log_directory.is_empty() {
        return None;
    }
    Some(format!("{}/{}", sandbox.log_directory.trim_end_matches('/'), container.log_path))
}
