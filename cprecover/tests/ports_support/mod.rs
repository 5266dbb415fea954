//! What the tests of port lookup and termination share: helper processes and namespaces.
//!
//! A helper is the test binary itself, told by `CPT_ROLE` what to be. It ends when its stdin does, so
//! that no test leaves one behind, however it ends.

#![allow(clippy::indexing_slicing, reason = "a panic is how a test fails")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use cprecover::model::{Pid, Port};
use cprecover::ports::{Evidence, Holder, Lookup, Query, collect, find};
use cprecover::sys::Deadline;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt};

/// Name of the test that plays helper roles in every test binary.
const ROLE_TEST: &str = "helper_role";

pub(crate) fn deadline() -> Deadline {
    Deadline::after(Duration::from_mins(1))
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Reports, loudly, that a test did not run.
pub(crate) fn skip(test: &str, reason: &str) {
    eprintln!("SKIPPED: {test}: {reason}");
}

pub(crate) fn own_pid() -> Pid {
    pid_of(std::process::id())
}

pub(crate) fn pid_of(raw: u32) -> Pid {
    Pid::new(i32::try_from(raw).expect("pids are small")).expect("pids are positive")
}

/// Returns a port that was free a moment ago, outside of the range of clients.
pub(crate) fn free_port() -> Port {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + u16::try_from(std::process::id() % 9000).expect("below 9000");
    for _ in 0..1000 {
        let port = Port::new(base + NEXT.fetch_add(1, Ordering::Relaxed)).expect("not zero");
        let lookup = find(&Query::new(port), &deadline()).expect("looks up");
        if matches!(lookup, Lookup::Free) && std::net::TcpListener::bind(("0.0.0.0", port.get())).is_ok() {
            return port;
        }
    }
    panic!("no free port from {base}");
}

pub(crate) fn holders(query: &Query) -> Vec<Holder> {
    match find(query, &deadline()).expect("looks up") {
        Lookup::Found { holders } => holders,
        other => panic!("found nobody: {other:?}"),
    }
}

pub(crate) fn only_holder(query: &Query) -> Holder {
    let mut holders = holders(query);
    assert_eq!(holders.len(), 1, "{holders:?}");
    holders.remove(0)
}

pub(crate) fn evidence(holder: &Holder, query: &Query) -> Evidence {
    collect(holder, query, &deadline()).expect("collects")
}

/// Opens a listening TCP socket.
pub(crate) fn listener(address: SocketAddr, v6_only: bool, reuse_port: bool) -> OwnedFd {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd =
        socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::TCP)).expect("socket");
    sockopt::set_socket_reuseaddr(&fd, true).expect("SO_REUSEADDR");
    if reuse_port {
        sockopt::set_socket_reuseport(&fd, true).expect("SO_REUSEPORT");
    }
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, v6_only).expect("IPV6_V6ONLY");
    }
    bind(&fd, &address).unwrap_or_else(|errno| panic!("bind {address}: {errno}"));
    listen(&fd, 16).expect("listen");
    fd
}

/// Starts helpers.
pub(crate) struct Spawn {
    program: PathBuf,
    before: Vec<String>,
    role: String,
    env: Vec<(String, String)>,
}

impl Spawn {
    /// Describes a helper with a role, see [`play_role`].
    pub(crate) fn role(role: &str) -> Self {
        let program = std::env::current_exe().expect("own path");
        Self { program, before: Vec::new(), role: role.into(), env: Vec::new() }
    }

    /// Gives the helper another program name, by a link to the test binary in `dir`.
    pub(crate) fn named(mut self, dir: &Path, name: &str) -> Self {
        let link = dir.join(name);
        if std::fs::hard_link(&self.program, &link).is_err() {
            std::fs::copy(&self.program, &link).expect("copy the test binary");
        }
        self.program = link;
        self
    }

    /// Puts a program in front, such as `unshare -n`.
    pub(crate) fn under(mut self, words: &[&str]) -> Self {
        self.before.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    /// Runs the helper by a shell that does something first; `"$@"` starts the helper.
    pub(crate) fn shell(self, script: &str) -> Self {
        self.under(&["/bin/sh", "-c", script, "sh"])
    }

    pub(crate) fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.env.push((key.into(), value.to_string()));
        self
    }

    /// Starts the helper and waits until it says that it is ready.
    pub(crate) fn start(self) -> Helper {
        self.start_noting("\0").0
    }

    /// As [`Spawn::start`]; returns also the words of the line with `prefix` that comes before.
    pub(crate) fn start_noting(self, prefix: &str) -> (Helper, Vec<String>) {
        let mut words = self.before;
        words.push(self.program.to_str().expect("UTF-8").into());
        words
            .extend(["--exact", ROLE_TEST, "--ignored", "--nocapture", "--test-threads=1"].map(String::from));
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .env("CPT_ROLE", self.role)
            .envs(self.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("run {words:?}: {error}"));
        let mut helper = Helper {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().expect("piped")),
            child,
            pid: own_pid(),
        };
        let noted = if prefix == "\0" { String::new() } else { helper.line(prefix) };
        let ready = helper.line("ready ");
        helper.pid = pid_of(ready.trim().parse().expect("a pid"));
        (helper, noted.split_whitespace().map(str::to_owned).collect())
    }
}

/// A running helper; dropping it ends it.
pub(crate) struct Helper {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    /// The helper's own pid, where a shell or unshare in front of it has another.
    pub(crate) pid: Pid,
}

impl Helper {
    /// Returns the rest of the next line that starts with `prefix`.
    pub(crate) fn line(&mut self, prefix: &str) -> String {
        let mut line = String::new();
        for _ in 0..200 {
            line.clear();
            if self.stdout.read_line(&mut line).expect("reads") == 0 {
                break;
            }
            // The test harness of the helper may have written on the same line before.
            if let Some((_, rest)) = line.split_once(prefix) {
                return rest.trim_end().to_owned();
            }
        }
        panic!("the helper said no {prefix:?} but {line:?}");
    }

    /// Writes a line to the helper.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().expect("open"), "{line}").expect("writes");
    }

    /// The direct child's pid (a shell's or unshare's, where there is one in front).
    pub(crate) fn child_pid(&self) -> Pid {
        pid_of(self.child.id())
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("waits").is_none()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kills");
        self.child.wait().expect("waits");
    }

    /// Waits until the child has ended, and reaps it.
    pub(crate) fn reap(&mut self) -> std::process::ExitStatus {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().expect("waits") {
                return status;
            }
            assert!(Instant::now() < end, "the helper does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says that the helper is ready, and waits until its stdin ends or a line says `exec`.
fn serve() {
    println!("ready {}", std::process::id());
    let mut line = String::new();
    if std::io::stdin().read_line(&mut line).unwrap_or(0) == 0 {
        std::process::exit(0);
    }
    // Becomes another program with the same pid; its listening sockets close.
    assert_eq!(line.trim(), "exec", "the only command");
    println!("done");
    let error = std::os::unix::process::CommandExt::exec(Command::new("/bin/sleep").arg("60"));
    panic!("exec: {error}");
}

fn variable(key: &str) -> String {
    std::env::var(key).unwrap_or_default()
}

/// Plays the role that `CPT_ROLE` names; to be called from an ignored test `helper_role`.
///
/// `CPT_ADDRESS` is a comma-separated list of addresses to listen on.
pub(crate) fn play_role(extra: impl FnOnce(&str)) {
    let flag = |name| !variable(name).is_empty();
    let open = || -> Vec<OwnedFd> {
        variable("CPT_ADDRESS")
            .split(',')
            .filter(|text| !text.is_empty())
            .map(|text| {
                listener(text.parse().expect("an address"), flag("CPT_V6ONLY"), flag("CPT_REUSEPORT"))
            })
            .collect()
    };
    match variable("CPT_ROLE").as_str() {
        "" => {}
        "listen" => {
            let _sockets = open();
            serve();
        }
        // A child that inherits the listening sockets.
        "share" => {
            let sockets = open();
            for socket in &sockets {
                rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty()).expect("clears CLOEXEC");
            }
            let mut child =
                Command::new("/bin/sleep").arg("60").stdout(Stdio::null()).spawn().expect("sleep");
            println!("child {}", child.id());
            std::thread::spawn(move || child.wait());
            serve();
        }
        // Fifty threads with descriptor tables of their own; one of them listens.
        "threads" => {
            let ready = std::sync::Arc::new(std::sync::Barrier::new(51));
            for number in 0..50 {
                let ready = ready.clone();
                std::thread::spawn(move || {
                    nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES).expect("unshare");
                    let socket = (number == 37)
                        .then(|| listener(variable("CPT_ADDRESS").parse().expect("one"), false, false));
                    ready.wait();
                    std::thread::sleep(Duration::from_mins(10));
                    drop(socket);
                });
            }
            ready.wait();
            serve();
        }
        // Children that do nothing.
        "family" => {
            let _sockets = open();
            let children: Vec<Child> = (0..3)
                .map(|_| Command::new("/bin/sleep").arg("60").stdout(Stdio::null()).spawn().expect("sleep"))
                .collect();
            let pids: Vec<String> = children.iter().map(|child| child.id().to_string()).collect();
            println!("children {}", pids.join(" "));
            serve();
        }
        other => extra(other),
    }
}

/// Runs `test` of this test binary again as PID 2 of a pid namespace with a procfs of its own, so that
/// orphans there become children of that namespace's PID 1, and in a network namespace, so that no
/// other test takes its ports; returns `true` inside.
///
/// Outside it panics when the run inside fails.
pub(crate) fn in_pid_namespace(test: &str) -> bool {
    if !variable("CPT_INSIDE").is_empty() {
        return true;
    }
    let own = std::env::current_exe().expect("own path");
    // The shell stays PID 1 and reaps orphans while it waits.
    let status = Command::new("unshare")
        .args([
            "--net",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child=KILL",
            "/bin/sh",
            "-c",
            "ip link set lo up; \"$@\"; exit $?",
            "sh",
        ])
        .arg(own)
        .args(["--exact", test, "--nocapture", "--include-ignored", "--test-threads=1"])
        .env("CPT_INSIDE", "1")
        .stdin(Stdio::null())
        .status()
        .expect("unshare (util-linux)");
    assert!(status.success(), "{test} failed in its pid namespace: {status}");
    false
}

/// A cgroup v2 folder, removed at the end with those above it that were made for it.
pub(crate) struct Cgroup {
    pub(crate) folder: PathBuf,
    /// The path as `/proc/PID/cgroup` has it.
    pub(crate) path: String,
    made: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes a cgroup below the v2 root; `None` where that is not possible.
    pub(crate) fn make(path: &str) -> Option<Self> {
        let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .into_iter()
            .find(|root| Path::new(root).join("cgroup.controllers").exists())?;
        let mut folder = PathBuf::from(root);
        let mut made = Vec::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            folder.push(part);
            match std::fs::create_dir(&folder) {
                Ok(()) => made.push(folder.clone()),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(_) => return None,
            }
        }
        Some(Self { folder, path: path.to_owned(), made })
    }

    /// Returns a script for [`Spawn::shell`] that enters the cgroup and starts the helper.
    pub(crate) fn enter(&self) -> String {
        format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.folder.display())
    }

    pub(crate) fn is_empty(&self) -> bool {
        std::fs::read_to_string(self.folder.join("cgroup.procs")).is_ok_and(|text| text.trim().is_empty())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in self.made.iter().rev() {
            // A killed process leaves its cgroup only when it has been reaped.
            for _ in 0..200 {
                match std::fs::remove_dir(folder) {
                    Ok(()) => break,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
                    // Used by another test at the same time.
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        }
    }
}

/// Reads a child's whole stdout.
pub(crate) fn output(command: &mut Command) -> String {
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().expect("runs");
    let mut text = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut text).expect("reads");
    child.wait().expect("waits");
    text
}
