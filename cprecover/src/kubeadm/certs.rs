//! Renewing expired certificates with kubeadm, on a copy of the pki folder.
//!
//! `kubeadm certs renew` writes into the live pki folder, without a backup, and asks the cluster for its
//! config when it gets none. Here it gets the reconstructed config, with `certificatesDir` in a staging
//! folder; kubeconfigs are made by `init phase kubeconfig … --kubeconfig-dir`, there too. What comes out is
//! compared with what is replaced: a renewal changes dates and keys, nothing else.

use std::collections::BTreeSet;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::folder::Folder;
use super::identity::{Identity, of_kubelet, same_cluster};
use super::plan::{Options, document, keep_variables};
use super::program::{Program, one_line};
use super::reconstruct::reconstruct;
use super::sources::Sources;
use super::version::KubeadmVersion;
use crate::error::{Error, ErrorKind, Result};
use crate::facts::CertificateFact;
use crate::model::{Digest, Observed};
use crate::node::NodeOptions;
use crate::sys::{Clock as _, CommandSpec, Commands, Deadline, SystemClock, read_bounded};

/// How long one call of kubeadm may take; it makes one key.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// A certificate that ends sooner is renewed when none is named.
const SOON: Duration = Duration::from_hours(30 * 24);
pub(super) const MAX_FILE_BYTES: usize = 1 << 20;
const MAX_FILES: usize = 256;

/// Certificates that kubeadm renews: file in the pki folder without its end, kubeadm's name, its authority
/// (kubernetes `cmd/kubeadm/app/phases/certs/certlist.go`).
const CERTIFICATES: [(&str, &str, &str); 7] = [
    ("apiserver", "apiserver", "ca"),
    ("apiserver-kubelet-client", "apiserver-kubelet-client", "ca"),
    ("apiserver-etcd-client", "apiserver-etcd-client", "etcd/ca"),
    ("front-proxy-client", "front-proxy-client", "front-proxy-ca"),
    ("etcd/server", "etcd-server", "etcd/ca"),
    ("etcd/peer", "etcd-peer", "etcd/ca"),
    ("etcd/healthcheck-client", "etcd-healthcheck-client", "etcd/ca"),
];
/// Kubeconfigs and the phases that make them (kubernetes `cmd/kubeadm/app/phases/kubeconfig`).
const KUBECONFIGS: [(&str, &str); 5] = [
    ("admin.conf", "admin"),
    ("super-admin.conf", "super-admin"),
    ("controller-manager.conf", "controller-manager"),
    ("scheduler.conf", "scheduler"),
    ("kubelet.conf", "kubelet"),
];

/// A file that the renewal replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RenewedFile {
    /// Where it goes, on the node.
    pub path: PathBuf,
    /// Its permission bits, as kubeadm gives them.
    pub mode: u32,
    /// Its content; keys are in it.
    #[serde(skip)]
    pub bytes: Vec<u8>,
    /// The digest of `bytes`.
    pub digest: Digest,
    /// The live file at planning time.
    pub replaces: Observed<Digest>,
}

/// One certificate that is renewed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Renewal {
    /// The certificate's file on the node, or the kubeconfig that holds it.
    pub path: PathBuf,
    /// Whose it is.
    pub subject: String,
    /// When the old one ends: seconds since 1970.
    pub ended_unix: Option<i64>,
    /// When the new one ends.
    pub ends_unix: i64,
    /// The files, certificate first.
    pub files: Vec<RenewedFile>,
}

/// What a renewal would change; nothing live was touched to make it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RenewalPlan {
    /// The program that made the certificates.
    pub kubeadm: PathBuf,
    /// Its version.
    pub kubeadm_version: KubeadmVersion,
    /// The certificates.
    pub renewals: Vec<Renewal>,
    /// What is left as it is, with the reason or what a person can do.
    pub left: Vec<(PathBuf, String)>,
}

/// What kubeadm calls a certificate, and who signs it.
#[derive(Debug, Clone, Copy)]
enum Target {
    Pki { file: &'static str, name: &'static str, authority: &'static str },
    Kubeconfig { file: &'static str, phase: &'static str },
}

/// Renews the certificates at `paths` (on the node) in a staging folder; those that have ended or end within
/// 30 days when `paths` is empty; the plan is empty when there is none.
///
/// A certificate that kubeadm cannot renew, or not as the same certificate with a new date, is left as it is
/// and listed with the reason; the others are renewed.
///
/// # Errors
/// [`ErrorKind::NotFound`] when kubeadm renews none of them; when none of them could be renewed,
/// [`ErrorKind::Peer`] for what kubeadm did and [`ErrorKind::Refused`] when it is not known whose the
/// certificate must be; otherwise as [`plan`](super::plan::plan).
pub fn plan_renewal(
    node: &NodeOptions,
    paths: &[PathBuf],
    sources: &Sources,
    options: &Options,
    commands: &dyn Commands,
    deadline: &Deadline,
) -> Result<RenewalPlan> {
    let now = options.now.unwrap_or_else(|| SystemClock.unix());
    let (known, unreadable) = crate::facts::node_certificates(node);
    let wanted: Vec<PathBuf> = if paths.is_empty() { ending(&known, now) } else { paths.to_vec() };
    let mut targets = Vec::new();
    let mut left = Vec::new();
    for path in wanted {
        if let Some((_, why)) = unreadable.iter().find(|(unread, _)| *unread == path) {
            tracing::debug!(path = %path.display(), why, "the old certificate cannot be read");
        }
        match target_of(node, &path) {
            Ok(target) => targets.push((path, target)),
            Err(hint) => left.push((path, hint.to_owned())),
        }
    }
    if targets.is_empty() && !left.is_empty() {
        let hints: Vec<String> =
            left.iter().map(|(path, hint)| format!("{}: {hint}", path.display())).collect();
        return Err(Error::new(ErrorKind::NotFound, format!("nothing to renew: {}", hints.join("; "))));
    }
    let program = Program::find(node, options, commands, deadline)?;
    if targets.is_empty() {
        return Ok(RenewalPlan {
            kubeadm: program.path,
            kubeadm_version: program.version,
            renewals: Vec::new(),
            left,
        });
    }
    let staging = Staging::new(node, sources, options, &program)?;
    let mut renewals = Vec::new();
    let mut failed: Vec<Error> = Vec::new();
    let mut made = BTreeSet::new();
    for (path, target) in targets {
        deadline.check("renew certificates")?;
        // kubelet's certificate and kubelet.conf are one file to kubeadm.
        if !made.insert(target.file()) {
            continue;
        }
        let renewed = staging.renew(&program, target, commands, deadline);
        match renewed.and_then(|()| staging.judge(node, &path, target, now)) {
            Ok(renewal) => renewals.push(renewal),
            Err(error) => {
                left.push((path, error.to_string()));
                failed.push(error);
            }
        }
    }
    deadline.check("renew certificates")?;
    if renewals.is_empty() {
        return Err(joined(failed));
    }
    Ok(RenewalPlan { kubeadm: program.path, kubeadm_version: program.version, renewals, left })
}

/// What made none of the certificates renewable.
fn joined(failed: Vec<Error>) -> Error {
    let texts: Vec<String> = failed.iter().map(ToString::to_string).collect();
    let Some(first) = failed.into_iter().next() else {
        return Error::new(ErrorKind::Internal, "nothing was renewed and nothing failed");
    };
    if texts.len() == 1 { first } else { Error::with_source(first.kind(), texts.join("; "), first) }
}

fn ending(known: &[CertificateFact], now: Duration) -> Vec<PathBuf> {
    let limit = seconds(now.saturating_add(SOON));
    let mut paths: Vec<PathBuf> =
        known.iter().filter(|fact| fact.not_after_unix < limit).map(|fact| fact.path.clone()).collect();
    paths.dedup();
    paths
}

pub(super) fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

fn target_of(node: &NodeOptions, path: &Path) -> std::result::Result<Target, &'static str> {
    if let Ok(below) = path.strip_prefix(&node.pki_dir) {
        let stem = below.with_extension("");
        let found = CERTIFICATES.into_iter().find(|(file, ..)| stem == Path::new(file));
        return match found {
            Some((file, name, authority)) => Ok(Target::Pki { file, name, authority }),
            None if stem.ends_with("ca") || stem.ends_with("front-proxy-ca") => {
                Err("kubeadm does not renew an authority; rotating it touches every node and every client")
            }
            None => Err("kubeadm does not know this certificate"),
        };
    }
    if path.starts_with(&node.kubelet_dir) {
        // kubelet's own certificate is made anew by a kubeconfig that holds one (kubernetes documentation,
        // "Kubelet client certificate rotation fails").
        return Ok(Target::Kubeconfig { file: "kubelet.conf", phase: "kubelet" });
    }
    let name = path.strip_prefix(&node.kubernetes_dir).ok().and_then(Path::to_str);
    let found = KUBECONFIGS.into_iter().find(|(file, _)| name == Some(file));
    found
        .map(|(file, phase)| Target::Kubeconfig { file, phase })
        .ok_or("kubeadm does not know this certificate")
}

impl Target {
    /// The file that is written, which tells two targets apart.
    const fn file(self) -> &'static str {
        match self {
            Self::Pki { file, .. } | Self::Kubeconfig { file, .. } => file,
        }
    }
}

/// A copy of the pki folder, the config, and the kubeconfigs that kubeadm makes.
struct Staging {
    dir: Folder,
    env: Vec<(String, String)>,
}

impl Staging {
    fn new(node: &NodeOptions, sources: &Sources, options: &Options, program: &Program) -> Result<Self> {
        let parent = options.staging_parent.clone().unwrap_or_else(|| node.store().join("staging"));
        let dir = Folder::new(&parent, ".renew-")?;
        let mut staging = Self { dir, env: Vec::new() };
        for folder in ["pki/etcd", "kubeconfig"] {
            let path = staging.path(folder);
            std::fs::create_dir_all(&path).map_err(|source| Error::path("make", &path, source))?;
        }
        for folder in ["", "etcd"] {
            copy(&node.resolve(node.pki_dir.join(folder)), &staging.path("pki").join(folder))?;
        }
        let mut reconstruction = reconstruct(&options.sources(sources))?;
        reconstruction.config.certificates_dir = Some(staging.path("pki"));
        reconstruction.config.patches_dir = None;
        // No certificate depends on them.
        keep_variables(&mut reconstruction.config, |_| false);
        let (config, env) = document(&reconstruction, program, program.version.api_version()?)?;
        write_secret(&staging.path("config.yaml"), &config)?;
        staging.env = env;
        Ok(staging)
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn renew(
        &self,
        program: &Program,
        target: Target,
        commands: &dyn Commands,
        deadline: &Deadline,
    ) -> Result<()> {
        let spec = CommandSpec::new(&program.path).timeout(CALL_TIMEOUT);
        let (name, spec) = match target {
            Target::Pki { name, .. } => (name, spec.args(["certs", "renew", name])),
            Target::Kubeconfig { file, phase } => {
                let spec = spec.args(["init", "phase", "kubeconfig", phase]);
                let folder = self.path("kubeconfig");
                (file, spec.args(["--kubeconfig-dir".as_ref(), folder.as_os_str()]))
            }
        };
        let config = self.path("config.yaml");
        let spec = spec.args(["--config".as_ref(), config.as_os_str()]);
        let spec = self.env.iter().fold(spec, |spec, (name, value)| spec.env(name, value));
        let output = commands.run(&spec, deadline)?;
        if output.is_success() && !output.truncated {
            return Ok(());
        }
        let said = one_line(&output.stderr_tail());
        Err(Error::new(ErrorKind::Peer, format!("kubeadm could not renew {name}: {said}")))
    }

    /// Reads what kubeadm made, and makes sure that it is the same certificate with a new date.
    fn judge(&self, node: &NodeOptions, path: &Path, target: Target, now: Duration) -> Result<Renewal> {
        let (on_node, staged, modes): (Vec<PathBuf>, Vec<PathBuf>, &[u32]) = match target {
            Target::Pki { file, .. } => {
                let both =
                    |base: &Path| ["crt", "key"].map(|end| base.join(format!("{file}.{end}"))).to_vec();
                (both(&node.pki_dir), both(&self.path("pki")), &[0o644, 0o600])
            }
            Target::Kubeconfig { file, .. } => {
                (vec![node.kubernetes_dir.join(file)], vec![self.path("kubeconfig").join(file)], &[0o600])
            }
        };
        let mut files = Vec::new();
        for ((path, staged), mode) in on_node.into_iter().zip(&staged).zip(modes) {
            let bytes = read_bounded(staged, MAX_FILE_BYTES).map_err(|error| made_nothing(staged, &error))?;
            let live = read_bounded(&node.resolve(&path), MAX_FILE_BYTES);
            let replaces = Observed::from_result(live.map(|bytes| Digest::of(&bytes)));
            files.push(RenewedFile { path, mode: *mode, digest: Digest::of(&bytes), bytes, replaces });
        }
        let Some(first) = files.first() else {
            return Err(Error::new(ErrorKind::Internal, "a renewal without files"));
        };
        let old = read_bounded(&node.resolve(&first.path), MAX_FILE_BYTES).ok();
        let (old, new) = match target {
            Target::Pki { authority, .. } => {
                let authority = self.path("pki").join(format!("{authority}.crt"));
                let old = old.and_then(|old| Identity::of_pem(path, &old).ok());
                (old, Identity::signed_by(path, &first.bytes, &authority)?)
            }
            Target::Kubeconfig { phase, .. } => {
                if let Some(old) = &old {
                    same_cluster(path, old, &first.bytes)?;
                }
                let old = old.and_then(|old| Identity::of_kubeconfig(path, &old).ok());
                let old = if phase == "kubelet" { Some(of_kubelet(node, old)?) } else { old };
                (old, Identity::of_kubeconfig(path, &first.bytes)?)
            }
        };
        new.require_renewal_of(old.as_ref(), path, now)?;
        let (old, new) = (old.map(|old| old.fact), new.fact);
        Ok(Renewal {
            path: path.to_owned(),
            subject: new.subject,
            ended_unix: old.map(|old| old.not_after_unix),
            ends_unix: new.not_after_unix,
            files,
        })
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let entries = std::fs::read_dir(from).map_err(|source| Error::path("list", from, source))?;
    for (count, entry) in entries.enumerate() {
        let entry = entry.map_err(|source| Error::path("list", from, source))?;
        if count >= MAX_FILES {
            return Err(Error::new(ErrorKind::Limit, format!("{} has too many files", from.display())));
        }
        // Links are followed: some keep their keys elsewhere.
        if entry.path().is_file() {
            write_secret(&to.join(entry.file_name()), &read_bounded(&entry.path(), MAX_FILE_BYTES)?)?;
        }
    }
    Ok(())
}

fn made_nothing(path: &Path, error: &Error) -> Error {
    Error::new(ErrorKind::Peer, format!("kubeadm made no {}: {error}", path.display()))
}

fn write_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| std::io::Write::write_all(&mut file, bytes))
        .map_err(|source| Error::path("write", path, source))
}
