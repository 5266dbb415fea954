//! Lets kubeadm render into a folder of ours, and makes sure that it did nothing else.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::folder::Folder;
use super::program::{Program, one_line};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Component, Digest};
use crate::node::NodeOptions;
use crate::parse::manifest::StaticPod;
use crate::parse::yaml::MAX_DOCUMENT_BYTES;
use crate::sys::{CommandOutput, CommandSpec, Commands, Deadline, read_bounded};

/// How long one phase may take; the real one needs under a second when its version is pinned.
const PHASE_TIMEOUT: Duration = Duration::from_secs(20);

/// The most files that are looked at in a folder of manifests.
const MAX_FILES: usize = 4096;

/// A staging folder, removed when dropped.
pub(super) struct Staging {
    dir: Folder,
    config: PathBuf,
    /// Variables for kubeadm, all of them: proxies that v1beta3 cannot say in the config.
    env: Vec<(String, String)>,
}

/// Why a phase could not be rendered.
pub(super) enum PhaseError {
    /// This kubeadm has no `--dry-run` for the phase.
    NoDryRun,
    /// Anything else.
    Failed(Error),
}

impl From<Error> for PhaseError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Staging {
    /// Makes the folder below `parent`, readable by us only.
    pub(super) fn new(parent: &Path) -> Result<Self> {
        let dir = Folder::new(parent, ".regenerate-")?;
        let config = dir.path().join("config.yaml");
        let staging = Self { dir, config, env: Vec::new() };
        std::fs::create_dir(staging.manifests())
            .map_err(|source| Error::path("make", staging.manifests(), source))?;
        Ok(staging)
    }

    /// Writes the config, and keeps the variables for kubeadm.
    pub(super) fn configure(&mut self, config: &[u8], env: Vec<(String, String)>) -> Result<()> {
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.config)
            .and_then(|mut file| std::io::Write::write_all(&mut file, config))
            .map_err(|source| Error::path("write", &self.config, source))?;
        self.env = env;
        Ok(())
    }

    /// Copies the folder of patches, a path on the node, to where kubeadm finds it whatever the root is.
    ///
    /// kubeadm reads every file in it, and no folder (kubernetes `cmd/kubeadm/app/util/patches`).
    pub(super) fn take_patches(&self, node: &NodeOptions, on_node: &Path) -> Result<PathBuf> {
        let from = node.resolve(on_node);
        let missing = |source| {
            let what = format!("the config names patches in {}, and they cannot be read", on_node.display());
            Error::with_source(ErrorKind::Missing, what, Error::path("list", &from, source))
        };
        let entries = std::fs::read_dir(&from).map_err(missing)?;
        let to = self.dir.path().join("patches");
        std::fs::create_dir(&to).map_err(|source| Error::path("make", &to, source))?;
        for (count, entry) in entries.enumerate() {
            let entry = entry.map_err(|source| Error::path("list", &from, source))?;
            if count >= MAX_FILES {
                return Err(Error::new(ErrorKind::Limit, format!("{} has too many files", from.display())));
            }
            if entry.path().is_file() {
                let bytes = read_bounded(&entry.path(), MAX_DOCUMENT_BYTES)?;
                let target = to.join(entry.file_name());
                std::fs::write(&target, bytes).map_err(|source| Error::path("write", &target, source))?;
            }
        }
        Ok(to)
    }

    /// Returns the folder that kubeadm writes into.
    pub(super) fn manifests(&self) -> PathBuf {
        self.dir.path().join("manifests")
    }

    /// Returns kubeadm's call for one component.
    pub(super) fn command(&self, program: &Program, component: Component, dry_run: bool) -> CommandSpec {
        let phase: &[&str] = match component {
            Component::Etcd => &["init", "phase", "etcd", "local"],
            Component::KubeApiserver => &["init", "phase", "control-plane", "apiserver"],
            Component::KubeControllerManager => &["init", "phase", "control-plane", "controller-manager"],
            Component::KubeScheduler => &["init", "phase", "control-plane", "scheduler"],
        };
        let mut spec = CommandSpec::new(&program.path)
            .args(phase)
            .args(["--config".as_ref(), self.config.as_os_str()])
            .timeout(PHASE_TIMEOUT);
        if dry_run {
            spec = spec.args(["--dry-run"]).env("KUBEADM_INIT_DRYRUN_DIR", self.manifests());
        }
        self.env.iter().fold(spec, |spec, (name, value)| spec.env(name, value))
    }

    /// Renders one component by `--dry-run`.
    pub(super) fn render(
        &self,
        program: &Program,
        component: Component,
        commands: &dyn Commands,
        deadline: &Deadline,
    ) -> Result<Vec<u8>, PhaseError> {
        let output = commands.run(&self.command(program, component, true), deadline)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        if !output.is_success() && stderr.contains("unknown flag: --dry-run") {
            return Err(PhaseError::NoDryRun);
        }
        Self::judge(component, &output)?;
        Ok(self.collect(component)?)
    }

    /// Fails unless the phase ended well.
    pub(super) fn judge(component: Component, output: &CommandOutput) -> Result<()> {
        if output.truncated {
            return Err(Error::new(
                ErrorKind::Peer,
                format!("kubeadm printed more than 1 MiB for {component}"),
            ));
        }
        if output.is_success() {
            return Ok(());
        }
        let how = match (output.code, output.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, signal) => format!("signal {}", signal.unwrap_or_default()),
        };
        let said = one_line(&output.stderr_tail());
        Err(Error::new(ErrorKind::Peer, format!("kubeadm's phase for {component} failed ({how}): {said}")))
    }

    /// Reads the one file that the phase had to write.
    pub(super) fn collect(&self, component: Component) -> Result<Vec<u8>> {
        let path = self.rendered(component)?;
        let meta = std::fs::symlink_metadata(&path).map_err(|source| {
            Error::with_source(ErrorKind::Peer, format!("kubeadm wrote no manifest for {component}"), source)
        })?;
        // kubeadm writes plain files; a link could lead anywhere.
        if !meta.is_file() {
            return Err(Error::new(
                ErrorKind::Peer,
                format!("kubeadm's {} is not a plain file", path.display()),
            ));
        }
        let bytes = read_bounded(&path, MAX_DOCUMENT_BYTES)?;
        let nonsense = |error: Error| {
            Error::with_source(
                ErrorKind::Peer,
                format!("what kubeadm wrote for {component} is no manifest"),
                error,
            )
        };
        let pod = StaticPod::parse(&bytes).map_err(nonsense)?;
        if pod.component() != Some(component)
            || pod.name != component.as_str()
            || pod.namespace != "kube-system"
        {
            return Err(Error::new(
                ErrorKind::Peer,
                format!("kubeadm wrote pod {}/{} where {component} was asked for", pod.namespace, pod.name),
            ));
        }
        Ok(bytes)
    }

    /// Older versions make a folder of their own in `KUBEADM_INIT_DRYRUN_DIR` (kubeadm
    /// `app/constants`, `CreateTempDir`), newer ones write into it.
    fn rendered(&self, component: Component) -> Result<PathBuf> {
        let dir = self.manifests();
        let direct = dir.join(component.manifest_file());
        if direct.symlink_metadata().is_ok() {
            return Ok(direct);
        }
        let entries = std::fs::read_dir(&dir).map_err(|source| Error::path("list", &dir, source))?;
        for entry in entries.take(MAX_FILES) {
            let entry = entry.map_err(|source| Error::path("list", &dir, source))?;
            let own = entry.file_name().to_string_lossy().starts_with("kubeadm-init-dryrun");
            let path = entry.path().join(component.manifest_file());
            if own && entry.file_type().is_ok_and(|kind| kind.is_dir()) && path.symlink_metadata().is_ok() {
                return Ok(path);
            }
        }
        Ok(direct)
    }
}

/// The live folder as it was: name to inode, time of change and digest.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LiveFolder(BTreeMap<PathBuf, (u64, i64, i64, Option<Digest>)>);

impl LiveFolder {
    /// Looks at every file of the manifests folder; a missing folder is an empty one.
    pub(super) fn look(node: &NodeOptions) -> Result<Self> {
        let dir = node.manifests();
        let mut files = BTreeMap::new();
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self(files)),
            Err(source) => return Err(Error::path("list", &dir, source)),
        };
        for entry in entries.take(MAX_FILES) {
            let path = entry.map_err(|source| Error::path("list", &dir, source))?.path();
            let meta = path.symlink_metadata().map_err(|source| Error::path("stat", &path, source))?;
            let digest = if meta.is_file() && meta.len() <= 10 << 20 {
                Some(Digest::of(&read_bounded(&path, 10 << 20)?))
            } else {
                None
            };
            files.insert(path, (meta.ino(), meta.mtime(), meta.mtime_nsec(), digest));
        }
        Ok(Self(files))
    }

    /// Fails when the folder is not as it was before kubeadm ran.
    pub(super) fn check_untouched(&self, node: &NodeOptions) -> Result<()> {
        let now = Self::look(node)?;
        if now == *self {
            return Ok(());
        }
        let changed: Vec<String> = self
            .0
            .keys()
            .chain(now.0.keys())
            .filter(|path| self.0.get(*path) != now.0.get(*path))
            .map(|path| path.display().to_string())
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        Err(Error::new(
            ErrorKind::Peer,
            format!(
                "the live folder changed while kubeadm rendered a dry run: {}; restore these from a backup",
                changed.join(", ")
            ),
        ))
    }
}
