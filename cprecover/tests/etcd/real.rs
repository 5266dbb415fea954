//! Starts the real etcd on loopback ports of its own, and ends it with the test.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use cprecover::etcd::{Client, ClientOptions, ClientTls};
use cprecover::sys::Deadline;

const ETCD: &str = "/usr/bin/etcd";

pub fn etcd_or_skip() -> bool {
    let there = Path::new(ETCD).is_file();
    if !there {
        eprintln!("SKIPPED: {ETCD} is missing (Debian package etcd-server)");
    }
    there
}

pub fn root_or_skip() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: mounting a tmpfs needs root");
    }
    root
}

/// Certificates of one CA.
#[derive(Clone)]
pub struct Pki {
    dir: PathBuf,
}

impl Pki {
    pub fn ca_pem(&self) -> Vec<u8> {
        std::fs::read(self.dir.join("ca.crt")).unwrap()
    }

    fn tls(&self) -> ClientTls {
        let read = |name: &str| std::fs::read(self.dir.join(name)).unwrap();
        ClientTls::new(self.ca_pem()).identity(read("client.crt"), read("client.key"))
    }
}

/// Makes a CA, a server certificate for loopback and a client certificate, as kubeadm does.
pub fn pki(dir: &Path) -> Pki {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose as Use, IsCa, Issuer, KeyPair,
    };
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "etcd-ca");
    let ca = params.self_signed(&key).unwrap();
    std::fs::write(dir.join("ca.crt"), ca.pem()).unwrap();
    let issuer = Issuer::new(params, key);
    for name in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        // etcd's gateway dials etcd itself with the server certificate.
        params.extended_key_usages = vec![Use::ServerAuth, Use::ClientAuth];
        let certificate = params.signed_by(&key, &issuer).unwrap();
        std::fs::write(dir.join(format!("{name}.crt")), certificate.pem()).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
    Pki { dir: dir.to_owned() }
}

#[derive(Clone)]
pub struct Options {
    pub data: PathBuf,
    pub snapshot_count: Option<u32>,
    pub quota_bytes: Option<u64>,
    pub pki: Option<Pki>,
    pub name: String,
    pub client: SocketAddr,
    pub peer: SocketAddr,
    pub initial_cluster: Option<String>,
}

impl Options {
    pub fn new(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
            snapshot_count: None,
            quota_bytes: None,
            pki: None,
            name: "m0".into(),
            client: free_address(),
            peer: free_address(),
            initial_cluster: None,
        }
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Three members, or as many as asked for, that form one cluster.
pub fn cluster(dir: &Path, count: usize) -> Vec<Etcd> {
    let mut all: Vec<Options> = (0..count)
        .map(|place| Options { name: format!("m{place}"), ..Options::new(&dir.join(format!("m{place}"))) })
        .collect();
    let list: Vec<String> = all.iter().map(|o| format!("{}=http://{}", o.name, o.peer)).collect();
    for options in &mut all {
        options.initial_cluster = Some(list.join(","));
    }
    let mut members: Vec<Etcd> = all.iter().map(Etcd::spawn).collect();
    for member in &mut members {
        assert!(member.wait_ready(), "member did not start: {}", member.log());
    }
    // Every member has to have published its client URLs before it can be asked at them.
    wait_for(|| {
        let list = members[0].client().members(&Deadline::after(Duration::from_secs(5))).ok()?;
        list.members.iter().all(|member| !member.client_urls.is_empty()).then_some(())
    });
    members
}

pub struct Etcd {
    options: Options,
    child: Child,
    log: PathBuf,
}

impl Etcd {
    pub fn start(options: &Options) -> Self {
        let mut etcd = Self::spawn(options);
        assert!(etcd.wait_ready(), "etcd did not start: {}", etcd.log());
        etcd
    }

    /// Starts etcd on data that it may refuse; `None` when it ends or does not answer in time.
    ///
    /// A port may be somebody else's by the time etcd asks for it: then it is started with others.
    pub fn try_start(options: &Options) -> Option<Self> {
        let mut options = options.clone();
        for _ in 0..3 {
            let mut etcd = Self::spawn(&options);
            if etcd.wait_ready() {
                return Some(etcd);
            }
            if !etcd.log().contains("address already in use") {
                return None;
            }
            (options.client, options.peer) = (free_address(), free_address());
        }
        None
    }

    fn spawn(options: &Options) -> Self {
        let log = options.data.with_extension("log");
        let output = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let scheme = if options.pki.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://{}", options.client);
        let peer = format!("http://{}", options.peer);
        let initial = options.initial_cluster.clone();
        let mut command = Command::new(ETCD);
        // Each change is in the database when it is answered, not up to 100 ms later.
        command.arg("--backend-batch-limit=1");
        command.env_clear().arg("--name").arg(&options.name).arg("--data-dir").arg(&options.data);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &initial.unwrap_or_else(|| format!("{}={peer}", options.name))]);
        if let Some(count) = options.snapshot_count {
            command.args(["--snapshot-count", &count.to_string()]);
        }
        if let Some(bytes) = options.quota_bytes {
            command.args(["--quota-backend-bytes", &bytes.to_string()]);
        }
        if let Some(pki) = &options.pki {
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(pki.dir.join("ca.crt"));
            command.arg("--cert-file").arg(pki.dir.join("server.crt"));
            command.arg("--key-file").arg(pki.dir.join("server.key"));
        }
        let error = output.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(output).stderr(error).spawn().unwrap();
        Self { options: options.clone(), child, log }
    }

    /// Waits until it answers as healthy; `false` when it ends before or stays silent for 15 s.
    fn wait_ready(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(15) {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            let health = self.client().health(&Deadline::after(Duration::from_secs(2)));
            if health.is_ok_and(|health| health.healthy) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }

    pub fn client(&self) -> Client {
        let tls = self.options.pki.as_ref().map(Pki::tls);
        Client::new(ClientOptions::new(self.options.client, tls)).unwrap()
    }

    pub fn data(&self) -> &Path {
        &self.options.data
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops every thread; a thread on another core runs on for a moment after the signal.
    pub fn pause(&mut self) {
        use procfs::process::Process;
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        let process = Process::new(pid.as_raw_nonzero().get()).unwrap();
        let is_stopped = || {
            let mut tasks = process.tasks().unwrap().flatten();
            tasks.all(|task| task.stat().is_ok_and(|stat| stat.state == 'T'))
        };
        let end = Instant::now() + Duration::from_secs(10);
        while !is_stopped() {
            assert!(Instant::now() < end, "etcd does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn restart(&mut self) {
        self.kill();
        *self = Self::start(&self.options.clone());
    }

    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().rev().take(8).collect::<Vec<_>>().join("\n")
    }

    fn post(&self, path: &str, json: &str) -> Option<String> {
        use std::io::{Read as _, Write as _};
        let mut socket = std::net::TcpStream::connect(self.options.client).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(15))).ok()?;
        let head = format!("POST {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{json}", json.len());
        socket.write_all(head.as_bytes()).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.contains(" 200 ").then(|| body.to_owned())
    }

    pub fn try_put(&self, key: &str, value: &str) -> bool {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let json = format!("{{\"key\":\"{}\",\"value\":\"{}\"}}", encode(key), encode(value));
        self.post("/v3/kv/put", &json).is_some()
    }

    pub fn put(&self, key: &str, value: &str) {
        assert!(self.try_put(key, value), "put {key}: {}", self.log());
    }

    pub fn get(&self, key: &str) -> Option<String> {
        let engine = base64::engine::general_purpose::STANDARD;
        let body = self.post("/v3/kv/range", &format!("{{\"key\":\"{}\"}}", engine.encode(key)))?;
        let json: serde_json::Value = serde_json::from_str(&body).ok()?;
        String::from_utf8(engine.decode(json["kvs"][0]["value"].as_str()?).ok()?).ok()
    }

    /// Adds a learner that never starts; returns its id in hex.
    pub fn add_learner(&self, peer_url: &str) -> String {
        let json = format!("{{\"peerURLs\":[\"{peer_url}\"],\"isLearner\":true}}");
        // etcd refuses until all members have been connected for 5 s (`--strict-reconfig-check`).
        let body = wait_for(|| self.post("/v3/cluster/member/add", &json));
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        format!("{:x}", json["member"]["ID"].as_str().unwrap().parse::<u64>().unwrap())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Repeats `attempt` for at most 20 s.
pub fn wait_for<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "gave up waiting");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Inode, size and times of everything below a folder.
pub fn stamps(dir: &Path) -> Vec<(PathBuf, u64, u64, i64, i64, i64)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let m = std::fs::symlink_metadata(&path).unwrap();
            if m.is_dir() {
                folders.push(path.clone());
            }
            found.push((path, m.ino(), m.len(), m.mtime(), m.mtime_nsec(), m.ctime_nsec()));
        }
    }
    found.sort();
    found
}

/// A small file system that is unmounted with the test.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    pub fn mount(at: &Path, size: &str) -> Self {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at)
            .status()
            .unwrap();
        assert!(status.success());
        Self(at.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
