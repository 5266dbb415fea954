//! A network namespace with a loopback interface of its own.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A namespace; without root there is none, and the machine's own loopback is used.
pub(crate) struct Namespace(Option<String>);

fn ip(args: &[&str]) -> bool {
    Command::new("ip").args(args).output().is_ok_and(|output| output.status.success())
}

impl Namespace {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("cpr-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        if !ip(&["netns", "add", &name]) {
            eprintln!(
                "SKIPPED in part: no network namespace (not root, or no iproute2); the machine's loopback is used"
            );
            return Self(None);
        }
        let namespace = Self(Some(name.clone()));
        assert!(ip(&["-n", &name, "link", "set", "lo", "up"]));
        namespace
    }

    /// A command in this namespace. Not `ip netns exec`: that hides the cgroups with a /sys of its own.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        match &self.0 {
            Some(name) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{name}")).arg("--").arg(program);
                command
            }
            None => Command::new(program),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Some(name) = &self.0 {
            ip(&["netns", "del", name]);
        }
    }
}
