//! Who listens on a port: this crate against lsof, fuser, ss, netstat, killport and the `listeners`
//! crate, on the machine as it is and with 3,000 processes, 222,000 descriptors and 51,000 connected
//! sockets more.
//!
//! Run as root: `cargo build --release -p cprecover --no-default-features --example port_who` and
//! `cargo bench -p cprecover --no-default-features --bench ports`. Everything happens in a network
//! namespace made for it; all that is started ends with the bench. `CPRECOVER_BENCH_ROUNDS`,
//! `CPRECOVER_BENCH_PROCESSES` and `CPRECOVER_KILLPORT` (a path) change the defaults. killport is built by
//! `cargo install` below the target folder the first time; tools that are missing are named and left out.

#![allow(clippy::print_stdout, reason = "the table is the result")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cprecover::model::{Pid, Port};
use cprecover::ports::{Query, find, listeners};
use cprecover::sys::Deadline;

/// Descriptors and sockets of each process that fills the machine: 74 * 3,000 and 17 * 3,000.
const DESCRIPTORS: usize = 74;
const SOCKETS: usize = 17;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let port = || -> u16 { args.get(1).expect("a port").parse().expect("a port") };
    match args.first().map(String::as_str) {
        Some("empty") => {}
        Some("fill") => fill(),
        Some("hold") => hold(port()),
        Some("floor") => println!("{}", listeners(&query(port())).expect("asks").len()),
        Some("crate") => println!("{:?}", by_crate(port())),
        Some("inside") => run(),
        _ => enter(),
    }
}

fn query(port: u16) -> Query {
    Query::new(Port::new(port).expect("not zero"))
}

fn own() -> PathBuf {
    std::env::current_exe().expect("own path")
}

/// Runs the bench again in a network namespace.
fn enter() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: not root, so no network namespace and no view of other processes");
        return;
    }
    // Before the namespace, which has no way out.
    killport();
    let status = Command::new("unshare")
        .args(["--net", "/bin/sh", "-c", "ip link set lo up && exec \"$0\" inside"])
        .arg(own())
        .status()
        .expect("unshare (util-linux)");
    assert!(status.success(), "the bench failed: {status}");
}

/// Waits until the bench has ended.
fn park() {
    // The pipe brings nothing but its end.
    let _ = std::io::stdin().read(&mut [0_u8; 1]);
}

/// Opens descriptors and connected sockets, then waits.
fn fill() {
    let server = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = server.local_addr().expect("bound");
    let mut sockets = Vec::new();
    while sockets.len() + 1 < SOCKETS {
        sockets.push(TcpStream::connect(address).expect("connects"));
        sockets.push(server.accept().expect("accepts").0);
    }
    sockets.push(TcpStream::connect(address).expect("connects"));
    drop(server);
    // stdin, stdout and stderr are there already.
    let files: Vec<File> =
        (0..DESCRIPTORS - SOCKETS - 3).map(|_| File::open("/dev/null").expect("opens")).collect();
    println!("ready");
    park();
    drop((sockets, files));
}

/// Listens, and does nothing else.
fn hold(port: u16) {
    let socket = TcpListener::bind(("127.0.0.1", port)).expect("binds");
    println!("ready");
    park();
    drop(socket);
}

fn by_crate(port: u16) -> Vec<u32> {
    let all = listeners_crate::get_all().expect("lists");
    let mut pids: Vec<u32> = all.iter().filter(|l| l.socket.port() == port).map(|l| l.process.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// What is running for the bench: ended, and its folders removed, when it is dropped.
struct Stage {
    dir: tempfile::TempDir,
    children: Vec<Child>,
    /// The real etcd, which knows nothing of the pipe.
    etcd: Option<Child>,
    cgroup: Option<PathBuf>,
    /// All helpers wait for the end of this pipe.
    life: (OwnedFd, Option<OwnedFd>),
}

impl Stage {
    fn new() -> Self {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe");
        let dir = tempfile::tempdir().expect("temp dir");
        Self { dir, children: Vec::new(), etcd: None, cgroup: None, life: (read, Some(write)) }
    }

    fn start(&self, command: &mut Command) -> Child {
        let life = self.life.0.try_clone().expect("duplicates");
        command.stdin(Stdio::from(life)).stdout(Stdio::piped()).spawn().expect("starts")
    }

    /// Starts a listener by the name of `name`, in a cgroup of its own if asked.
    fn holder(&mut self, name: &str, port: u16, in_cgroup: bool) -> u32 {
        let folder = self.dir.path().join(port.to_string());
        std::fs::create_dir(&folder).expect("makes a folder");
        let program = folder.join(name);
        std::fs::copy(own(), &program).expect("copies");
        let enter = if in_cgroup { self.make_cgroup() } else { String::new() };
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("{enter} exec \"$0\" hold {port}")]).arg(program);
        let mut child = self.start(&mut command);
        wait_ready(&mut child);
        let pid = child.id();
        self.children.push(child);
        pid
    }

    /// Starts the real etcd with its peer port at `port`, where one is installed.
    fn real_etcd(&mut self, port: u16) -> Option<u32> {
        let (peers, clients) = (format!("http://127.0.0.1:{port}"), "http://127.0.0.1:2379");
        if !Path::new("/usr/bin/etcd").exists() {
            eprintln!("SKIPPED: the real etcd: no /usr/bin/etcd");
            return None;
        }
        // It ends with this process, whatever ends that.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "/usr/bin/etcd"]);
        command.arg("--data-dir").arg(self.dir.path().join("real"));
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("default={peers}")]);
        command.args(["--listen-client-urls", clients, "--advertise-client-urls", clients]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.expect("setpriv (util-linux)");
        let pid = child.id();
        self.etcd = Some(child);
        let end = Instant::now() + Duration::from_mins(1);
        // It locks its database before it listens for clients.
        while listeners(&query(2379)).expect("asks").is_empty() {
            assert!(Instant::now() < end, "etcd does not listen");
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(pid)
    }

    fn make_cgroup(&mut self) -> String {
        let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .into_iter()
            .find(|root| Path::new(root).join("cgroup.controllers").exists());
        let Some(root) = root else {
            eprintln!("SKIPPED: no cgroup v2 hierarchy; the row `cgroup id` searches everywhere");
            return String::new();
        };
        let folder = Path::new(root).join("cprecover-bench");
        // Left behind by a bench that was killed, it serves as well.
        let _ = std::fs::create_dir(&folder);
        let script = format!("echo $$ > {}/cgroup.procs;", folder.display());
        self.cgroup = Some(folder);
        script
    }

    fn fill(&mut self, processes: usize) {
        let start = Instant::now();
        for batch in 0..processes.div_ceil(100) {
            let count = (processes - batch * 100).min(100);
            let mut started: Vec<Child> =
                (0..count).map(|_| self.start(Command::new(own()).arg("fill"))).collect();
            started.iter_mut().for_each(wait_ready);
            self.children.append(&mut started);
        }
        eprintln!("{processes} processes in {:.1} s", start.elapsed().as_secs_f64());
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.life.1 = None;
        if let Some(etcd) = &mut self.etcd {
            let _ = etcd.kill();
            let _ = etcd.wait();
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
        if let Some(cgroup) = &self.cgroup {
            let _ = std::fs::remove_dir(cgroup);
        }
    }
}

fn wait_ready(child: &mut Child) {
    let mut line = String::new();
    let stdout = child.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("reads");
    assert_eq!(line.trim(), "ready");
}

/// A row of the table: a name, and something to time, which returns what it found.
struct Row {
    name: String,
    wanted: String,
    run: Box<dyn Fn() -> String>,
}

fn process(name: &str, program: impl AsRef<Path>, args: &[&str], wanted: &str) -> Option<Row> {
    let program = program.as_ref().to_owned();
    let folders = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];
    // Joining an absolute path gives that path.
    if !folders.iter().any(|folder| Path::new(folder).join(&program).exists()) {
        eprintln!("SKIPPED: {name}: no {}", program.display());
        return None;
    }
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let run = move || {
        let output = Command::new(&program).args(&args).stdin(Stdio::null()).output().expect("runs");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    Some(Row { name: name.into(), wanted: wanted.into(), run: Box::new(run) })
}

fn call(name: &str, query: Query, wanted: &str) -> Row {
    let run = move || {
        let found = find(&query, &Deadline::after(Duration::from_mins(1))).expect("looks up");
        found.holders().iter().map(|holder| holder.process.pid.to_string()).collect::<Vec<_>>().join(" ")
    };
    Row { name: format!("in process: {name}"), wanted: wanted.into(), run: Box::new(run) }
}

/// Pids of the holders on 2380 (named etcd), 2381 (odd name), 2382 (odd name, own cgroup), 2384 (the real
/// etcd), and of more that were started earlier, by what tells them.
struct Holders {
    etcd: u32,
    earlier: Vec<(&'static str, u16, u32)>,
    real: Option<u32>,
    odd: u32,
    grouped: u32,
}

fn rows(pids: &Holders) -> Vec<Row> {
    let etcd = pids.etcd.to_string();
    let (odd, grouped) = (pids.odd.to_string(), pids.grouped.to_string());
    let who = own().parent().and_then(Path::parent).expect("a target folder").join("examples/port_who");
    let killport = killport();
    let processes = [
        process("lsof", "lsof", &["-nP", "-iTCP:2380", "-sTCP:LISTEN"], &etcd),
        process("netstat", "netstat", &["-tlnp"], &etcd),
        process("killport", killport, &["--dry-run", "2380"], ""),
        process("ss", "ss", &["-ltnp", "sport = :2380"], &etcd),
        process("fuser", "fuser", &["2380/tcp"], &etcd),
        process("listeners crate", own(), &["crate", "2380"], &etcd),
        process("cprecover, likely name", &who, &["2380"], &etcd),
        pids.real.and_then(|pid| process("cprecover, the real etcd", &who, &["2384"], &pid.to_string())),
        process("cprecover, cgroup id", &who, &["2382"], &grouped),
        process("cprecover, pid known to CRI", &who, &["2381", &odd], &odd),
        process("cprecover, nothing narrows", &who, &["2381"], &odd),
        process("floor: netlink alone", own(), &["floor", "2380"], "1"),
        process("an empty process", own(), &["empty"], ""),
    ];
    let mut rows: Vec<Row> = processes.into_iter().flatten().collect();
    rows.extend(pids.earlier.iter().filter_map(|(name, port, pid)| {
        process(&format!("cprecover, {name}"), &who, &[&port.to_string()], &pid.to_string())
    }));
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let hint = Pid::new(i32::try_from(pids.odd).expect("small"));
    rows.extend([
        call("likely name", query(2380).threads(threads), &etcd),
        call("cgroup id", query(2382).threads(threads), &grouped),
        call("pid known to CRI", query(2381).threads(threads).likely_pids(hint), &odd),
        call("nothing narrows", query(2381).threads(threads), &odd),
        call("nothing narrows, 1 thread", query(2381), &odd),
    ]);
    rows.push(Row {
        name: "in process: listeners crate".into(),
        wanted: etcd,
        run: Box::new(|| format!("{:?}", by_crate(2380))),
    });
    rows.push(Row {
        name: "in process: netlink alone".into(),
        wanted: "1".into(),
        run: Box::new(|| listeners(&query(2380)).expect("asks").len().to_string()),
    });
    rows
}

/// Returns where killport is: as told, else below the target folder, where cargo builds it once.
fn killport() -> PathBuf {
    if let Some(path) = std::env::var_os("CPRECOVER_KILLPORT") {
        return path.into();
    }
    let folder = own().ancestors().nth(3).expect("a target folder").join("rivals");
    let program = folder.join("bin/killport");
    if !program.exists() {
        eprintln!("building killport, once");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["install", "--quiet", "--locked", "killport", "--root"])
            .arg(&folder)
            .stdin(Stdio::null())
            .status();
        if !built.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: killport cannot be built (no network?)");
        }
    }
    program
}

fn setting(key: &str, default: usize) -> usize {
    std::env::var(key).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// Times every row once a round, so that a noisy minute hits all of them.
fn measure(title: &str, rows: &[Row]) {
    let rounds = setting("CPRECOVER_BENCH_ROUNDS", 5);
    let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for _ in 0..rounds {
        for row in rows {
            let start = Instant::now();
            let found = (row.run)();
            times.entry(&row.name).or_default().push(start.elapsed());
            assert!(found.contains(&row.wanted), "{} found {found:?}, not {}", row.name, row.wanted);
        }
    }
    println!("\n{title}\nmedian, fastest and slowest of {rounds} interleaved rounds, ms");
    for row in rows {
        let Some(times) = times.get_mut(row.name.as_str()) else { continue };
        times.sort_unstable();
        let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1000.0);
        let (median, low, high) = (times.get(times.len() / 2), times.first(), times.last());
        println!("{:38} {:9.3} {:9.3} {:9.3}", row.name, ms(median), ms(low), ms(high));
    }
}

fn holders(stage: &mut Stage, earlier: Vec<(&'static str, u16, u32)>) -> Vec<Row> {
    let etcd = stage.holder("etcd", 2380, false);
    let odd = stage.holder("odd-name", 2381, false);
    let grouped = stage.holder("odd-in-cgroup", 2382, true);
    let real = stage.real_etcd(2384);
    rows(&Holders { etcd, earlier, real, odd, grouped })
}

/// Starts pids anew where they would wrap around during the bench, so that their order is that of age.
fn leave_room_for_pids(processes: usize) {
    const LAST: &str = "/proc/sys/kernel/ns_last_pid";
    let number = |path| std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<usize>().ok());
    let room =
        number("/proc/sys/kernel/pid_max").zip(number(LAST)).map(|(max, last)| max.saturating_sub(last));
    if room.is_some_and(|room| room < 2 * processes) && std::fs::write(LAST, "2000").is_err() {
        eprintln!("SKIPPED: pids may wrap around: {LAST} is not ours to write");
    }
}

fn run() {
    let mut stage = Stage::new();
    let rows = holders(&mut stage, Vec::new());
    measure("small machine", &rows);
    drop((rows, stage));

    let mut stage = Stage::new();
    let processes = setting("CPRECOVER_BENCH_PROCESSES", 3000);
    leave_room_for_pids(processes);
    // The others come last; one in the midst is found last of all.
    let first = stage.holder("etcd", 2385, false);
    stage.fill(processes / 2);
    let midst = stage.holder("etcd", 2386, false);
    let odd_midst = stage.holder("odd-name", 2387, false);
    stage.fill(processes - processes / 2);
    let earlier = vec![
        ("likely name, the oldest", 2385, first),
        ("likely name, in the midst", 2386, midst),
        ("nothing narrows, in the midst", 2387, odd_midst),
    ];
    let rows = holders(&mut stage, earlier);
    let (fds, sockets) = (processes * DESCRIPTORS, processes * SOCKETS);
    let title = format!("large machine: {processes} processes, {fds} descriptors, {sockets} sockets more");
    measure(&title, &rows);
}
