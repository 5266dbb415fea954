//! Finding kubeadm, trusting it, and asking for its version.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::plan::Options;
use super::version::KubeadmVersion;
use crate::error::{Error, ErrorKind, Result};
use crate::node::NodeOptions;
use crate::sys::{CommandSpec, Commands, Deadline, find_program};

/// A kubeadm that may be run.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// Its canonical path, the one that was checked and that is run.
    pub(super) path: PathBuf,
    pub(super) version: KubeadmVersion,
}

impl Program {
    /// Finds kubeadm, checks who could have changed it, and asks for its version.
    pub(super) fn find(
        node: &NodeOptions,
        options: &Options,
        commands: &dyn Commands,
        deadline: &Deadline,
    ) -> Result<Self> {
        let given = options.kubeadm.clone().or_else(|| node.kubeadm.as_ref().map(|path| node.resolve(path)));
        let path = match given {
            Some(path) if path.is_absolute() => path,
            Some(path) => {
                let message = format!("kubeadm {} is not an absolute path", path.display());
                return Err(Error::new(ErrorKind::Invalid, message));
            }
            None => find_program(&node.root, "kubeadm")?,
        };
        let path = std::fs::canonicalize(&path).map_err(|source| Error::path("find", &path, source))?;
        check_owner(&path, options.trusted_uid)?;
        let version = ask_version(&path, commands, deadline)?;
        Ok(Self { path, version })
    }
}

/// Refuses a program that someone else than root (or ourselves) could have replaced.
pub(super) fn check_owner(path: &Path, trusted_uid: Option<u32>) -> Result<()> {
    let own = rustix::process::geteuid().as_raw();
    let trusted = |uid: u32| uid == 0 || uid == own || Some(uid) == trusted_uid;
    let refuse = |path: &Path, what: String| {
        Err(Error::new(
            ErrorKind::Refused,
            format!("{} {what}; a program that others can replace is not run as root", path.display()),
        ))
    };
    let meta = std::fs::metadata(path).map_err(|source| Error::path("stat", path, source))?;
    if !meta.is_file() || meta.mode() & 0o111 == 0 {
        return refuse(path, "is not an executable file".into());
    }
    if !trusted(meta.uid()) {
        return refuse(path, format!("belongs to uid {}", meta.uid()));
    }
    if meta.mode() & 0o022 != 0 {
        return refuse(path, format!("is writable by group or others (mode {:o})", meta.mode() & 0o7777));
    }
    for (depth, folder) in path.ancestors().skip(1).enumerate() {
        let meta = std::fs::metadata(folder).map_err(|source| Error::path("stat", folder, source))?;
        if !trusted(meta.uid()) {
            return refuse(folder, format!("belongs to uid {}", meta.uid()));
        }
        // In a sticky folder (/tmp) others cannot rename what is not theirs; they can put files
        // beside, which matters only for the program's own folder.
        let sticky = meta.mode() & 0o1000 != 0 && depth > 0;
        if meta.mode() & 0o022 != 0 && !sticky {
            return refuse(
                folder,
                format!("is writable by group or others (mode {:o})", meta.mode() & 0o7777),
            );
        }
    }
    Ok(())
}

fn ask_version(path: &Path, commands: &dyn Commands, deadline: &Deadline) -> Result<KubeadmVersion> {
    let spec = CommandSpec::new(path).args(["version", "-o", "short"]).timeout(Duration::from_secs(10));
    let output = commands.run(&spec, deadline).map_err(|error| error.context("ask for kubeadm's version"))?;
    let nonsense = |what: String| {
        Err(Error::new(ErrorKind::Peer, format!("{} version -o short {what}", path.display())))
    };
    if !output.is_success() {
        return nonsense(format!("failed: {}", one_line(&output.stderr_tail())));
    }
    if output.truncated || output.stdout.len() > 200 {
        return nonsense("printed more than a version".into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    match text.trim().parse() {
        Ok(version) => Ok(version),
        Err(error) => nonsense(format!("printed no version: {error}")),
    }
}

/// Makes printed text fit for a one-line message.
pub(super) fn one_line(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(600).collect();
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn program(dir: &Path) -> PathBuf {
        let path = dir.join("kubeadm");
        std::fs::write(&path, "#!/bin/sh\n").expect("write");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("chmod");
        path
    }

    #[test]
    fn a_program_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = program(dir.path());
        check_owner(&path, None).expect("ours");
        for (target, mode, word) in
            [(&path, 0o775, "writable"), (&path, 0o757, "writable"), (&path, 0o644, "not an executable")]
        {
            std::fs::set_permissions(target, PermissionsExt::from_mode(mode)).expect("chmod");
            let error = check_owner(&path, None).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert!(error.to_string().contains(word), "{error}");
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("chmod");
        for mode in [0o777, 0o1777] {
            std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode)).expect("chmod");
            assert_eq!(check_owner(&path, None).expect_err("folder").kind(), ErrorKind::Refused, "{mode:o}");
        }
    }

    #[test]
    fn a_program_of_another_user_is_refused() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: changing a file's owner needs root");
            return;
        }
        let dir = tempfile::tempdir().expect("temp dir");
        let path = program(dir.path());
        std::os::unix::fs::chown(&path, Some(65534), None).expect("chown");
        let error = check_owner(&path, None).expect_err("foreign");
        assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("65534"), "{error}");
        check_owner(&path, Some(65534)).expect("trusted by the caller");
    }

    #[test]
    fn one_line_has_no_control_characters() {
        assert_eq!(one_line("a\n\u{1b}[31mb\t c"), "a [31mb c");
    }
}
