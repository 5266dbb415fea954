//! How fast logs are scanned and health answers parsed, beside grep and ripgrep.
//!
//! `cargo bench -p cprecover --no-default-features --bench diagnose`

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cprecover::logs::{SIGNATURES, ScanOptions, scan_file};
use cprecover::sys::Deadline;

const LOG_BYTES: usize = 100 << 20;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["scan", path] => return println!("{}", scan(Path::new(path))),
        // For a profiler: the journal alone, and the parser alone.
        ["journal", path, one_in] => {
            return std::fs::write(path, journal(one_in.parse().expect("a number"))).expect("write");
        }
        ["healthz"] => return healthz(),
        _ => healthz(),
    }
    let rounds =
        std::env::var("CPRECOVER_BENCH_ROUNDS").ok().map_or(9, |text| text.parse().expect("a number"));
    let dir = tempfile::tempdir().expect("temp dir");
    let needles = dir.path().join("needles");
    let all: Vec<&str> = SIGNATURES.iter().flat_map(|row| row.needles).copied().collect();
    std::fs::write(&needles, all.join("\n")).expect("write");
    println!(
        "\n100 MB kubelet journal, {} signatures, {} needles; wall median, wall fastest and CPU mean of \
         {rounds} interleaved rounds, ms",
        SIGNATURES.len(),
        all.len()
    );
    for (name, one_in) in
        [("1 line in 1000 matches", 1000), ("1 line in 20 matches", 20), ("2 lines in 3 match", 0)]
    {
        let path = dir.path().join("journal.log");
        std::fs::write(&path, journal(one_in)).expect("write");
        println!("{name}");
        measure(rounds, &rows(&needles, &path));
    }
}

/// Something to time, by name.
type Row<'a> = (&'static str, Box<dyn Fn() + 'a>);

fn rows<'a>(needles: &'a Path, log: &'a Path) -> Vec<Row<'a>> {
    let own = std::env::current_exe().expect("own path");
    let mut rows: Vec<Row<'a>> = vec![
        ("cprecover, in process", Box::new(|| assert!(scan(log) > 0))),
        ("cprecover, whole process", Box::new(move || run(Command::new(&own).arg("scan").arg(log)))),
    ];
    for name in ["rg", "grep"] {
        if Command::new(name).arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("SKIPPED: {name} is not installed");
            continue;
        }
        let title = if name == "rg" { "rg -F -f" } else { "grep -F -f" };
        rows.push((title, Box::new(move || run(Command::new(name).args(["-F", "-f"]).args([needles, log])))));
    }
    rows
}

fn scan(path: &Path) -> usize {
    let scan = scan_file(path, &ScanOptions::default(), &Deadline::after(Duration::from_mins(5)));
    scan.expect("scans").matches.len()
}

/// Runs a tool as people do, its output read through a pipe: to /dev/null grep would stop at the first hit.
fn run(command: &mut Command) {
    let mut child = command.env("LC_ALL", "C").stdout(Stdio::piped()).spawn().expect("runs");
    let mut sink = vec![0_u8; 256 << 10];
    let mut out = child.stdout.take().expect("piped");
    while out.read(&mut sink).expect("read") > 0 {}
    assert!(child.wait().expect("ends").success());
}

/// Times every row once a round, so that a noisy minute hits all of them.
fn measure(rounds: u32, rows: &[Row<'_>]) {
    let mut times: Vec<(Vec<Duration>, Duration)> = vec![Default::default(); rows.len()];
    for _ in 0..rounds {
        for ((_, run), (walls, cpu)) in rows.iter().zip(&mut times) {
            let (start, before) = (Instant::now(), cpu_time());
            run();
            walls.push(start.elapsed());
            *cpu += cpu_time().saturating_sub(before);
        }
    }
    for ((name, _), (walls, cpu)) in rows.iter().zip(&mut times) {
        walls.sort_unstable();
        let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
        let median = ms(walls.get(walls.len() / 2));
        println!("  {name:<26}{median:9.0}{:9.0}{:9.0}", ms(walls.first()), ms(Some(&(*cpu / rounds))));
    }
}

/// Returns the processor time of this process and of its children that have ended (proc(5)).
fn cpu_time() -> Duration {
    let stat = procfs::process::Process::myself().and_then(|own| own.stat()).expect("procfs");
    let children = u64::try_from(stat.cutime + stat.cstime).expect("not negative");
    Duration::from_millis((stat.utime + stat.stime + children) * 1000 / procfs::ticks_per_second())
}

/// Makes a journal (`-o short`) of lines that a kubelet writes, with ids, times and numbers that vary.
///
/// `one_in` lines one is of an incident; 0 for the mixture that the recorded incidents have.
fn journal(one_in: u64) -> Vec<u8> {
    let mut random = Random(7);
    let mut out = String::with_capacity(LOG_BYTES + 4096);
    let mut count = 0_u64;
    while out.len() < LOG_BYTES {
        count += 1;
        let (minute, second) = (count / 3000 % 60, count / 50 % 60);
        let micros = random.next() % 1_000_000;
        let _ =
            write!(out, "Nov 24 {:02}:{minute:02}:{second:02} cp1 kubelet[31130]: ", count / 180_000 % 24);
        let head = format!("1124 {:02}:{minute:02}:{second:02}.{micros:06}   31130", count / 180_000 % 24);
        let is_incident =
            if one_in == 0 { !random.next().is_multiple_of(3) } else { random.next().is_multiple_of(one_in) };
        if is_incident {
            incident(&mut out, &head, &mut random);
        } else {
            normal(&mut out, &head, &mut random);
        }
        out.push('\n');
    }
    out.into_bytes()
}

fn normal(out: &mut String, head: &str, random: &mut Random) {
    let (a, b, c) = (random.next(), random.next(), random.next());
    let _ = match a % 7 {
        0 => write!(
            out,
            "I{head} kubelet.go:2752] \"SyncLoop (PLEG): event for pod\" pod=\"shop/web-{b:016x}\" event={{\"ID\":\"{b:016x}-{c:012x}\",\"Type\":\"ContainerStarted\",\"Data\":\"{b:016x}{c:016x}{a:016x}\"}}"
        ),
        1 => write!(
            out,
            "I{head} reconciler_common.go:251] \"operationExecutor.VerifyControllerAttachedVolume started for volume \\\"kube-api-access-{:05x}\\\" (UniqueName: \\\"kubernetes.io/projected/{b:016x}\\\") pod \\\"web-{c:08x}\\\" (UID: \\\"{b:016x}\\\") \" pod=\"shop/web-{c:08x}\"",
            b % 99_999
        ),
        2 => write!(
            out,
            "I{head} prober.go:122] \"Probe failed\" probeType=\"Readiness\" pod=\"shop/api-{b:08x}\" podUID=\"{c:016x}\" containerName=\"api\" probeResult=\"failure\" output=\"HTTP probe failed with statuscode: 503\""
        ),
        3 => write!(
            out,
            "I{head} operation_generator.go:617] \"MountVolume.SetUp succeeded for volume \\\"config\\\" (UniqueName: \\\"kubernetes.io/configmap/{b:016x}-config\\\") pod \\\"web-{c:08x}\\\" (UID: \\\"{b:016x}\\\") \" pod=\"shop/web-{c:08x}\""
        ),
        4 => write!(
            out,
            "I{head} scope.go:122] \"RemoveContainer\" containerID=\"{b:016x}{c:016x}{a:016x}{b:016x}\""
        ),
        5 => write!(
            out,
            "E{head} remote_runtime.go:569] \"ContainerStatus from runtime service failed\" err=\"rpc error: code = NotFound desc = an error occurred when try to find container \\\"{b:016x}{c:016x}\\\": does not exist\" containerID=\"{b:016x}{c:016x}\""
        ),
        _ => write!(
            out,
            "I{head} pod_startup_latency_tracker.go:104] \"Observed pod startup duration\" pod=\"shop/web-{b:08x}\" podStartSLOduration={}.{} firstStartedPulling=\"0001-01-01 00:00:00 +0000 UTC\"",
            b % 60,
            c % 1_000_000
        ),
    };
}

fn incident(out: &mut String, head: &str, random: &mut Random) {
    let (a, b) = (random.next(), random.next());
    let _ = match a % 6 {
        0..=2 => write!(
            out,
            "E{head} kubelet_node_status.go:446] \"Error getting the current node from lister\" err=\"node \\\"cp1\\\" not found\""
        ),
        3 => write!(
            out,
            "E{head} pod_workers.go:1324] \"Error syncing pod, skipping\" err=\"failed to \\\"StartContainer\\\" for \\\"etcd\\\" with CrashLoopBackOff: \\\"back-off 5m0s restarting failed container=etcd pod=etcd-cp1_kube-system(b861a3bef24128f124b376302f365ff0)\\\"\" pod=\"kube-system/etcd-cp1\" podUID=\"b861a3bef24128f124b376302f365ff0\""
        ),
        4 => write!(
            out,
            "E{head} controller.go:201] \"Failed to ensure lease exists, will retry\" err=\"Get \\\"https://10.10.17.210:6443/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/cp1?timeout=10s\\\": dial tcp 10.10.17.210:6443: connect: connection refused\" interval=\"{}s\"",
            b % 8
        ),
        _ => write!(
            out,
            "E{head} event.go:359] \"Server rejected event (will not retry!)\" err=\"Post \\\"https://10.10.17.210:6443/api/v1/namespaces/kube-system/events\\\": dial tcp 10.10.17.210:6443: connect: connection refused\" event=\"&Event{{ObjectMeta:{{etcd-cp1.{b:016x}  kube-system    0}}}}\""
        ),
    };
}

/// Numbers that are the same in each run (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn healthz() {
    let mut body = String::new();
    for check in 0..39 {
        let _ = writeln!(body, "[+]poststarthook/start-some-controller-{check} ok");
    }
    body.push_str("[-]etcd failed: reason withheld\nhealthz check failed\n");
    let rounds = 20_000_u32;
    let measured = (0..9).map(|_| {
        let (start, before) = (Instant::now(), cpu_time());
        for _ in 0..rounds {
            std::hint::black_box(cprecover::healthz::parse(std::hint::black_box(body.as_bytes())));
        }
        (start.elapsed() / rounds, cpu_time().saturating_sub(before) / rounds)
    });
    let (mut walls, cpus): (Vec<Duration>, Vec<Duration>) = measured.unzip();
    walls.sort_unstable();
    let (wall, cpu) =
        (walls.get(walls.len() / 2).copied().unwrap_or_default(), cpus.iter().sum::<Duration>() / 9);
    println!("healthz answer of 40 checks: wall {wall:?}, CPU {cpu:?} (must be below 5 µs)");
    let _ = std::io::stdout().flush();
}
