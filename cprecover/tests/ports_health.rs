//! Asking a port holder for its health: the process itself, at an endpoint that is its own, within bounds.
#![cfg(feature = "probe")]

mod executable;
mod ports_support;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cprecover::NodeOptions;
use cprecover::model::{Observed, Port};
use cprecover::ports::{AskHealth as _, Query};
use cprecover::probe::{Limits, Prober};
use ports_support::{self as support, deadline, evidence, only_holder};

#[test]
#[ignore = "not a test: what helper processes run"]
fn helper_role() {
    support::play_role(|role| panic!("unknown role {role:?}"));
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.first_byte = Duration::from_millis(500);
    limits.whole = Duration::from_secs(1);
    limits
}

/// A process that runs a program of this name, holds `socket` as its stdin, and stays stopped.
struct Holder(Child);

impl Holder {
    fn start(dir: &Path, name: &str, socket: TcpListener, flag: &str) -> Self {
        let program = dir.join(name);
        executable::install(&program, &std::fs::read("/bin/sh").expect("a shell"));
        let child = Command::new(program)
            .args(["-c", "kill -STOP $$", "sh", flag])
            .stdin(Stdio::from(OwnedFd::from(socket)))
            .stdout(Stdio::null())
            .spawn()
            .expect("starts");
        // Its command line is empty for a moment while it becomes the program.
        let stat = format!("/proc/{}/stat", child.id());
        let until = Instant::now() + Duration::from_secs(20);
        while !std::fs::read_to_string(&stat).expect("lives").contains(") T ") {
            assert!(Instant::now() < until, "it does not stop itself");
            std::thread::sleep(Duration::from_millis(2));
        }
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn listen(port: Port) -> TcpListener {
    TcpListener::bind(("127.0.0.1", port.get())).expect("free")
}

fn ask(query: &Query) -> (Observed<bool>, Duration) {
    let node = NodeOptions::default();
    let prober = Prober::new(&node, |_| limits());
    let evidence = evidence(&only_holder(query), query);
    let start = Instant::now();
    (prober.ask(&evidence, query, &deadline()), start.elapsed())
}

#[test]
fn one_that_is_stopped_does_not_answer_and_costs_no_more_than_the_limit() {
    let dir = tempfile::tempdir().expect("temp dir");
    let port = support::free_port();
    let flag = format!("--listen-metrics-urls=http://127.0.0.1:{port}");
    let holder = Holder::start(dir.path(), "etcd", listen(port), &flag);
    let (said, took) = ask(&Query::new(port));
    assert_eq!(said, Observed::Absent);
    assert!(took < Duration::from_secs(5), "{took:?}");
    drop(holder);
}

#[test]
fn another_process_at_its_health_address_does_not_speak_for_it() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (port, metrics) = (support::free_port(), support::free_port());
    // Another etcd is healthy there.
    let other = listen(metrics);
    let server = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().expect("accepts");
        let mut head = [0; 512];
        let asked = stream.read(&mut head).unwrap_or(0) > 0;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{\"health\":\"true\"}");
        asked
    });
    let flag = format!("--listen-metrics-urls=http://127.0.0.1:{metrics}");
    let holder = Holder::start(dir.path(), "etcd", listen(port), &flag);
    let (said, _) = ask(&Query::new(port));
    assert!(matches!(&said, Observed::Unknown(why) if why.contains("is not its own")), "{said:?}");
    drop(holder);
    // The server itself, asked as what it is not: it ends, and nobody had asked it before.
    drop(std::net::TcpStream::connect(("127.0.0.1", metrics.get())).expect("connects"));
    assert!(!server.join().expect("ends"), "it was asked for somebody else's health");
}

#[test]
fn a_foreign_program_is_not_asked() {
    let dir = tempfile::tempdir().expect("temp dir");
    let port = support::free_port();
    let flag = format!("--listen-metrics-urls=http://127.0.0.1:{port}");
    let holder = Holder::start(dir.path(), "minio", listen(port), &flag);
    let (said, took) = ask(&Query::new(port));
    assert!(
        matches!(&said, Observed::Unknown(why) if why.contains("no control-plane component")),
        "{said:?}"
    );
    assert!(took < Duration::from_millis(400), "{took:?}");
    drop(holder);
}
