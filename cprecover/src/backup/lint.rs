//! What in a manifests folder kubelet would read otherwise than its owner meant; reads only.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use serde::Serialize;
use serde::de::IgnoredAny;

use super::fs::linux::Linux;
use super::fs::place::Place;
use super::fs::{Content as _, Kind, Stat};
use super::lint_text::{has_anchor, is_copy};
use super::snapshot::NodePath;
use super::vault::{HELD_PREFIX, OURS};
use crate::error::{Error, Result};
use crate::node::NodeOptions;
use crate::parse::manifest::{HostPath, StaticPod};
use crate::parse::yaml::{self, MAX_DOCUMENT_BYTES};

/// kubernetes `pkg/kubelet/config/file.go` (`maxConfigLength`).
const KUBELET_MAX_BYTES: u64 = 10 << 20;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Will bite later.
    Warning,
    /// kubelet does not run what was meant.
    Error,
}

/// The rule that a finding comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LintRule {
    /// A copy (`.bak`, `~`, `.orig`, …) that kubelet runs too.
    BackupCopy,
    /// Two files with the same pod.
    DuplicatePod,
    /// An empty file.
    Empty,
    /// Not a pod that kubelet could parse.
    Unparsable,
    /// A symbolic link.
    Symlink,
    /// A folder; kubelet does not look into it.
    Subfolder,
    /// Neither file, folder nor link.
    Special,
    /// Larger than kubelet reads (10 MiB).
    TooLarge,
    /// A second YAML document, which kubelet ignores.
    SecondDocument,
    /// A key that is there twice.
    DuplicateKey,
    /// YAML anchors, aliases or merge keys.
    Anchor,
    /// A host path that does not exist.
    MissingHostPath,
    /// An owner other than root.
    Owner,
    /// Writable for group or others, or readable for others.
    Mode,
    /// A component's manifest under another file name: another pod UID.
    FileName,
    /// Left over by this program.
    Leftover,
    /// It could not be read.
    Unreadable,
}

/// One thing to know about a manifests folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LintFinding {
    /// How bad it is.
    pub severity: Severity,
    /// The rule.
    pub rule: LintRule,
    /// The file concerned.
    pub file: NodePath,
    /// One line for people.
    pub message: String,
}

/// Looks through the node's manifests folder; host paths are looked up below the node's root.
///
/// # Errors
/// The kinds of a failed read of the folder itself; [`crate::ErrorKind::NotFound`] when it is not there.
pub fn lint(node: &NodeOptions) -> Result<Vec<LintFinding>> {
    let fs = Linux::default();
    let root = top(&fs, &node.root)?;
    let dir = root.folder(&node.manifests_dir)?;
    run(&dir, &root)
}

/// Looks through any folder of manifests; host paths are looked up below `root`.
///
/// # Errors
/// As [`lint`].
pub fn lint_dir(dir: &Path, root: &Path) -> Result<Vec<LintFinding>> {
    let fs = Linux::default();
    run(&top(&fs, dir)?, &top(&fs, root)?)
}

fn top<'f>(fs: &'f Linux, path: &Path) -> Result<Place<'f, Linux>> {
    let handle = Linux::top(path).map_err(|source| Error::path("open folder", path, source))?;
    Ok(Place { fs, handle, path: path.to_owned() })
}

/// The findings so far, and the pods that have been seen.
struct Lint<'l, 'f> {
    dir: &'l Place<'f, Linux>,
    root: &'l Place<'f, Linux>,
    findings: Vec<LintFinding>,
    /// File names by `namespace/name` of the pod.
    pods: BTreeMap<String, Vec<OsString>>,
}

fn run(dir: &Place<'_, Linux>, root: &Place<'_, Linux>) -> Result<Vec<LintFinding>> {
    let mut lint = Lint { dir, root, findings: Vec::new(), pods: BTreeMap::new() };
    let stat = dir.told("stat", "", dir.fs.describe(&dir.handle))?;
    if stat.mode & 0o022 != 0 {
        let message = format!("the folder itself is writable for others (mode {:04o})", stat.mode);
        lint.add(Severity::Error, LintRule::Mode, ".".as_ref(), message);
    }
    for name in dir.list()? {
        lint.name(&name);
    }
    lint.duplicates();
    Ok(lint.findings)
}

impl Lint<'_, '_> {
    fn add(&mut self, severity: Severity, rule: LintRule, file: &OsStr, message: impl Into<String>) {
        self.findings.push(LintFinding {
            severity,
            rule,
            file: NodePath::new(file),
            message: message.into(),
        });
    }

    fn name(&mut self, name: &OsStr) {
        let bytes = name.as_encoded_bytes();
        if bytes.starts_with(HELD_PREFIX.as_bytes()) {
            let text = "a manifest that is held; release it to let kubelet run it again";
            return self.add(Severity::Info, LintRule::Leftover, name, text);
        }
        if bytes.starts_with(OURS.as_bytes()) {
            let text = "left over from an interrupted change; opening the store removes it";
            return self.add(Severity::Info, LintRule::Leftover, name, text);
        }
        // kubernetes pkg/kubelet/config/file.go: the glob is [^.]*
        if bytes.starts_with(b".") {
            return;
        }
        let stat = match self.dir.stat(name) {
            Ok(Some(stat)) => stat,
            Ok(None) => return,
            Err(error) => return self.add(Severity::Error, LintRule::Unreadable, name, error.to_string()),
        };
        match stat.kind {
            Kind::File => self.file(name, &stat),
            Kind::Symlink => {
                let text = "a symbolic link: kubelet follows it but does not see its target change";
                self.add(Severity::Warning, LintRule::Symlink, name, text);
            }
            Kind::Folder => {
                let text = "a folder: kubelet runs nothing in it";
                self.add(Severity::Info, LintRule::Subfolder, name, text);
            }
            Kind::Other => {
                let text = "neither a file nor a folder: kubelet passes it over";
                self.add(Severity::Warning, LintRule::Special, name, text);
            }
        }
    }

    fn file(&mut self, name: &OsStr, stat: &Stat) {
        self.owner_and_mode(name, stat);
        if stat.size > KUBELET_MAX_BYTES {
            let text = format!("{} bytes: kubelet reads at most 10 MiB", stat.size);
            return self.add(Severity::Error, LintRule::TooLarge, name, text);
        }
        let bytes = match self.dir.read(name, MAX_DOCUMENT_BYTES) {
            Ok(bytes) => bytes,
            Err(error) => return self.add(Severity::Error, LintRule::Unreadable, name, error.to_string()),
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            let text = "empty: kubelet cannot parse it, and its pod is not run";
            return self.add(Severity::Error, LintRule::Empty, name, text);
        }
        self.text(name, &bytes);
        let copy = is_copy(name);
        match StaticPod::parse_as_kubelet(&bytes) {
            Ok(pod) => self.pod(name, &pod, copy),
            Err(error) => {
                let severity = if copy { Severity::Warning } else { Severity::Error };
                self.add(severity, LintRule::Unparsable, name, format!("kubelet cannot run it: {error}"));
            }
        }
    }

    fn owner_and_mode(&mut self, name: &OsStr, stat: &Stat) {
        if stat.uid != 0 {
            let text = format!("owned by user {}: whoever owns it is root on this node", stat.uid);
            self.add(Severity::Warning, LintRule::Owner, name, text);
        }
        // CIS Kubernetes Benchmark 1.1.1, 1.1.3, 1.1.5, 1.1.7: 600 or stricter.
        if stat.mode & 0o022 != 0 {
            let text = format!("mode {:04o}: whoever may write it is root on this node", stat.mode);
            self.add(Severity::Error, LintRule::Mode, name, text);
        } else if stat.mode & 0o044 != 0 {
            let text = format!("mode {:04o} instead of 0600", stat.mode);
            self.add(Severity::Info, LintRule::Mode, name, text);
        }
    }

    /// Looks for YAML that kubelet reads otherwise than it looks.
    fn text(&mut self, name: &OsStr, bytes: &[u8]) {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let first = yaml::first_document(text);
        let rest = text.get(first.len()..).unwrap_or_default();
        let rest_has_content =
            rest.lines().any(|line| !matches!(line.trim_end(), "" | "---" | "...") && !line.starts_with('#'));
        if rest_has_content {
            let text = "a second YAML document: kubelet ignores it";
            self.add(Severity::Error, LintRule::SecondDocument, name, text);
        }
        if let Err(error) = yaml::from_slice::<IgnoredAny>(first.as_bytes())
            && error.to_string().contains("duplicate")
        {
            self.add(
                Severity::Error,
                LintRule::DuplicateKey,
                name,
                format!("kubelet takes the last: {error}"),
            );
        }
        if let Some(line) = first.lines().position(has_anchor) {
            let text =
                format!("line {} has an anchor, alias or merge key: tools read them differently", line + 1);
            self.add(Severity::Warning, LintRule::Anchor, name, text);
        }
    }

    fn pod(&mut self, name: &OsStr, pod: &StaticPod, copy: bool) {
        let id = format!("{}/{}", pod.namespace, pod.name);
        if copy {
            let text = format!("looks like a copy, and kubelet runs it as pod {id}; keep copies elsewhere");
            self.add(Severity::Error, LintRule::BackupCopy, name, text);
        } else if let Some(component) = pod.component()
            && name != component.manifest_file()
        {
            let text = format!(
                "{component} under another name than {}: for kubelet that is another pod UID",
                component.manifest_file()
            );
            self.add(Severity::Warning, LintRule::FileName, name, text);
        }
        self.pods.entry(id).or_default().push(name.to_owned());
        for host in &pod.host_paths {
            self.host_path(name, host);
        }
    }

    fn host_path(&mut self, name: &OsStr, host: &HostPath) {
        // kubernetes pkg/volume/hostpath/host_path.go: only these types are checked and not made.
        let must_exist = match host.kind.as_str() {
            "Directory" | "File" | "Socket" | "CharDevice" | "BlockDevice" => true,
            "DirectoryOrCreate" | "FileOrCreate" => return,
            _ => false,
        };
        let (path, volume) = (host.path.display(), &host.name);
        match self.root.fs.exists_in_root(&self.root.handle, &host.path) {
            Ok(true) => {}
            Ok(false) if must_exist => {
                let text =
                    format!("host path {path} of volume {volume} does not exist: the pod does not start");
                self.add(Severity::Error, LintRule::MissingHostPath, name, text);
            }
            Ok(false) => {
                let text =
                    format!("host path {path} of volume {volume} does not exist: an empty folder is made");
                self.add(Severity::Warning, LintRule::MissingHostPath, name, text);
            }
            Err(error) => {
                let text = format!("host path {path} of volume {volume}: {error}");
                self.add(Severity::Warning, LintRule::Unreadable, name, text);
            }
        }
    }

    fn duplicates(&mut self) {
        for (pod, files) in std::mem::take(&mut self.pods) {
            let Some((last, others)) = files.split_last().filter(|(_, others)| !others.is_empty()) else {
                continue;
            };
            // kubernetes pkg/kubelet/config/file.go reads in the order of names; the last one wins.
            let last = NodePath::new(last);
            for file in others {
                let text = format!("pod {pod} is also in {last}, which sorts later and wins");
                self.add(Severity::Error, LintRule::DuplicatePod, file, text);
            }
        }
    }
}
