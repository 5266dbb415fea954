//! The outage, with a real etcd: its shim dies, it keeps its ports and its data, the next one cannot
//! start; it is found, judged an orphan, ended, and the next one starts.

mod ports_support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cprecover::NodeOptions;
use cprecover::model::{Component, Observed, Port};
use cprecover::node::PodIdentity;
use cprecover::ports::{
    self, Action, Class, IdentityProof, Lookup, NodeFacts, PodFacts, Query, RuntimeFacts, judge,
};
use cprecover::terminate::{EndOptions, Freed, Outcome, Step, Target, end};
use ports_support::{self as support, Cgroup, deadline, evidence, only_holder, skip};

const UID: &str = "b861a3bef24128f124b376302f365ff0";
const CONTAINER: &str = "4280f16b89155464690954f3902c3119d8b0cd736da19095c597d000c730a2b4";

#[test]
#[ignore = "not a test: what helper processes run"]
fn helper_role() {
    support::play_role(|role| panic!("unknown role {role:?}"));
}

struct Etcd {
    dir: tempfile::TempDir,
    client: Port,
    peer: Port,
}

impl Etcd {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        Self { dir, client: support::free_port(), peer: support::free_port() }
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn command_line(&self) -> String {
        let (client, peer) = (self.client, self.peer);
        format!(
            "/usr/bin/etcd --name=cp1 --data-dir={} --listen-client-urls=http://127.0.0.1:{client} \
             --advertise-client-urls=http://127.0.0.1:{client} --listen-peer-urls=http://127.0.0.1:{peer} \
             --initial-advertise-peer-urls=http://127.0.0.1:{peer} --initial-cluster=cp1=http://127.0.0.1:{peer}",
            self.data_dir().display()
        )
    }

    /// Starts etcd as a child of a shell that waits for it, as a shim does, in a cgroup if one is given.
    fn start_under_shim(&self, cgroup: Option<&Cgroup>) -> Child {
        let enter = cgroup
            .map_or(String::new(), |cgroup| format!("echo $$ > {}/cgroup.procs; ", cgroup.folder.display()));
        let script = format!("sh -c '{enter}exec {}' & wait", self.command_line());
        Command::new("/bin/sh")
            .args(["-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh")
    }

    fn is_healthy(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.client.get()))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        ask().is_ok_and(|text| text.contains(r#""health":"true""#))
    }

    fn wait_healthy(&self) {
        let end = Instant::now() + Duration::from_mins(1);
        while !self.is_healthy() {
            assert!(Instant::now() < end, "etcd does not become healthy");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs a second etcd to its end and returns what it printed.
    fn run_to_failure(&self) -> String {
        let line = format!("timeout 20 {} 2>&1", self.command_line());
        support::output(Command::new("/bin/sh").args(["-c", &line]))
    }

    fn facts(&self, pod_identity: PodIdentity) -> NodeFacts {
        let address = |port: Port| format!("127.0.0.1:{port}").parse().expect("an address");
        let pod = PodFacts {
            component: Component::Etcd,
            program: "etcd".into(),
            listeners: vec![address(self.client), address(self.peer)],
            data_dir: Some(self.data_dir()),
            database: ports::database_file(&self.data_dir()),
            image: None,
            container: "etcd".into(),
            argv: Vec::new(),
        };
        assert!(matches!(pod.database, Observed::Present(_)), "{:?}", pod.database);
        NodeFacts { pods: vec![pod], pod_identity, expected: Some(Component::Etcd) }
    }
}

/// Kills the shell that stands for the shim and waits until PID 1 has adopted etcd.
fn orphan(shim: &mut Child, port: Port) {
    shim.kill().expect("kills the shim");
    shim.wait().expect("reaps it");
    let pid = only_holder(&Query::new(port)).process.pid;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("lives");
    assert!(stat.contains("(etcd) S 1 ") || stat.contains("(etcd) R 1 "), "{stat}");
}

fn outage(etcd: &Etcd, cgroup: Option<&Cgroup>, identity: PodIdentity, proof: IdentityProof) {
    let mut shim = etcd.start_under_shim(cgroup);
    etcd.wait_healthy();
    let query = Query::new(etcd.peer);
    // While its shim lives, nobody takes it for an orphan.
    let facts = etcd.facts(identity);
    let holder = only_holder(&query);
    let alive = judge(&evidence(&holder, &query), Ok(&RuntimeFacts::default()), &facts);
    if proof == IdentityProof::Cgroup {
        assert!(matches!(alive.class, Class::Unproven { .. }), "{alive:?}");
    }

    orphan(&mut shim, etcd.peer);
    let printed = etcd.run_to_failure();
    assert!(printed.contains("address already in use"), "{printed}");

    let holder = only_holder(&query.clone().address([127, 0, 0, 1].into()));
    assert_eq!(holder.comm, "etcd");
    let evidence = evidence(&holder, &query);
    assert_eq!(evidence.data_dir.as_deref(), Some(&*etcd.data_dir()));
    assert!(evidence.data_dir_lock.present().is_some_and(|lock| lock.held), "{evidence:?}");
    assert!(!ports::lock_is_free(&etcd.data_dir().join(ports::DATABASE)).expect("reads the lock"));
    let verdict = judge(&evidence, Ok(&RuntimeFacts::default()), &facts);
    assert_eq!((&verdict.action, verdict.proof), (&Action::Terminate, proof), "{verdict:?}");

    let mut options = EndOptions::on_node(&NodeOptions::default());
    options.port = Some(query.clone());
    options.database = Some(etcd.data_dir().join(ports::DATABASE));
    let target = Target::judged(&holder, &evidence, &verdict);
    match end(&target, &options, &deadline()).expect("ends it") {
        Outcome::Ended { steps, release, .. } => {
            assert!(!steps.contains(&Step::Kill), "etcd obeys SIGTERM: {steps:?}");
            assert_eq!((release.port, release.lock), (Some(Freed::Free), Some(Freed::Free)));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(ports::find(&query, &deadline()).expect("looks up"), Lookup::Free));

    // The next etcd starts with the same data.
    let mut next = etcd.start_under_shim(cgroup);
    etcd.wait_healthy();
    let pid = only_holder(&query).process.pid;
    assert_ne!(pid, holder.process.pid);
    next.kill().expect("kills the shim");
    next.wait().expect("reaps it");
    let raw = rustix::process::Pid::from_raw(pid.get()).expect("positive");
    rustix::process::kill_process(raw, rustix::process::Signal::KILL).expect("ends etcd");
    let end = Instant::now() + Duration::from_secs(10);
    while Path::new(&format!("/proc/{pid}")).exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reports why a test cannot run, if it cannot.
fn obstacle() -> Option<&'static str> {
    if !support::is_root() {
        return Some("not root: no pid namespace");
    }
    (!Path::new("/usr/bin/etcd").exists()).then_some("no /usr/bin/etcd (Debian etcd-server)")
}

#[test]
fn a_real_etcd_orphaned_in_a_kubepods_cgroup_is_ended_and_the_next_one_starts() {
    const NAME: &str = "a_real_etcd_orphaned_in_a_kubepods_cgroup_is_ended_and_the_next_one_starts";
    if let Some(why) = obstacle() {
        return skip(NAME, why);
    }
    if !support::in_pid_namespace(NAME) {
        return;
    }
    let Some(cgroup) = Cgroup::make(&format!("/kubepods/burstable/pod{UID}/{CONTAINER}")) else {
        return skip(NAME, "no writable cgroup v2 hierarchy");
    };
    outage(&Etcd::new(), Some(&cgroup), PodIdentity::Cgroup, IdentityProof::Cgroup);
}

#[test]
fn a_real_etcd_orphaned_without_cgroups_is_proven_by_its_manifest() {
    const NAME: &str = "a_real_etcd_orphaned_without_cgroups_is_proven_by_its_manifest";
    if let Some(why) = obstacle() {
        return skip(NAME, why);
    }
    if !support::in_pid_namespace(NAME) {
        return;
    }
    outage(&Etcd::new(), None, PodIdentity::CgroupOrManifest, IdentityProof::Manifest);
}
