//! Processes that are not the node's: this test program once more, in another part.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

const PART: &str = "CPRECOVER_SCENARIO_PART";
/// A part ends by itself when its test is gone, or after this time.
const LIFE: Duration = Duration::from_mins(5);

/// Plays the part that the environment names; a plain test run finds none.
#[test]
#[ignore = "is a part in other tests, not a test"]
fn part() {
    let Ok(part) = std::env::var(PART) else { return };
    let (kind, what) = part.split_once(' ').expect("kind and target");
    let _kept: Box<dyn std::any::Any> = match kind {
        "listen" => Box::new(TcpListener::bind(what).expect("free")),
        "lock" => {
            let file = std::fs::File::options().read(true).write(true).open(what).expect("database");
            flock(&file, FlockOperation::LockExclusive).expect("lock");
            Box::new(file)
        }
        "ask" => {
            println!("ANSWER {}", get(what));
            return;
        }
        other => panic!("no part {other}"),
    };
    println!("PLAYS");
    std::thread::spawn(|| {
        // The test holds the other end: when it is gone, whatever way, this ends.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    std::thread::sleep(LIFE);
}

/// Reads `/health` of a plain HTTP server; empty when it does not answer.
fn get(address: &str) -> String {
    let read = || {
        let mut stream = TcpStream::connect_timeout(&address.parse().ok()?, Duration::from_secs(2)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.take(1 << 16).read_to_string(&mut text).ok()?;
        Some(text.replace(['\r', '\n'], " "))
    };
    read().unwrap_or_default()
}

/// Asks a server for its health, by `command`, which has to run what its arguments say.
pub(crate) fn ask(mut command: Command, address: &str) -> String {
    let output = command
        .args(["--ignored", "--exact", "helper::part", "--nocapture"])
        .env(PART, format!("ask {address}"))
        .stdin(Stdio::null())
        .output()
        .expect("starts");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A running part, ended with its test.
pub(crate) struct Part(Child);

impl Part {
    /// Starts a part by `command`, which has to run what its arguments say.
    pub(crate) fn start(mut command: Command, part: &str) -> Self {
        let mut child = command
            .args(["--ignored", "--exact", "helper::part", "--nocapture"])
            .env(PART, part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let plays = lines.map_while(Result::ok).any(|line| line.contains("PLAYS"));
        assert!(plays, "the part {part:?} did not begin");
        Self(child)
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.0.try_wait().expect("waits").is_none()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// This test program.
pub(crate) fn own_program() -> std::path::PathBuf {
    std::env::current_exe().expect("a program has a path")
}

/// A folder of the version 2 cgroup hierarchy, `None` where none can be made.
pub(crate) struct Cgroup(pub(crate) std::path::PathBuf);

impl Cgroup {
    pub(crate) fn make(below: &str) -> Option<Self> {
        let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .into_iter()
            .find(|root| Path::new(root).join("cgroup.controllers").exists())?;
        let folder = Path::new(root).join(below);
        std::fs::create_dir_all(&folder).ok()?;
        Some(Self(folder))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
