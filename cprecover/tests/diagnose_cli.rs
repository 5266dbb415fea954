//! `cprecover healthz`, `logs scan` and `diagnose` as programs, on everything that was recorded.
#![cfg(feature = "cli")]
#![allow(clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

/// Runs the program on an empty node; returns exit code and standard output.
fn run(args: &[&str], input: &[u8]) -> (Option<i32>, String) {
    let root = tempfile::tempdir().expect("temp dir");
    let mut child = Command::new(env!("CARGO_BIN_EXE_cprecover"))
        .arg("--root")
        .arg(root.path())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    // A program that does not read its input may have closed it.
    let _ = child.stdin.take().expect("piped").write_all(input);
    let output = child.wait_with_output().expect("ends");
    (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"))
}

fn json(args: &[&str], input: &[u8]) -> (Option<i32>, Value) {
    let (code, text) = run(&[&["-o", "json"], args].concat(), input);
    (code, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}")))
}

/// The arguments that diagnose a recorded folder: its logs as logs, the rest as the dump.
fn recorded(folder: &Path) -> Vec<String> {
    let mut args = vec!["diagnose".to_owned(), "--cri-dump".to_owned(), folder.display().to_string()];
    let mut logs: Vec<String> = std::fs::read_dir(folder)
        .expect("folder")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "log"))
        .map(|path| path.display().to_string())
        .collect();
    logs.sort();
    if !logs.is_empty() {
        args.push("--logs".into());
        args.append(&mut logs);
    }
    args
}

fn diagnosed(folder: &Path) -> (Option<i32>, String, Value) {
    let args = recorded(folder);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (code, text) = run(&args, b"");
    let (same, value) = json(&args, b"");
    assert_eq!(code, same);
    assert_eq!(value["schema"], "cprecover.dev/diagnosis/v1");
    (code, text, value)
}

/// Checks that a person finds, in this order: the cause, why, and what to do; in plain words.
#[track_caller]
fn reads_well(text: &str) {
    let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("no {part:?} in\n{text}"));
    assert_eq!(at("ROOT CAUSE"), 0, "the cause comes first:\n{text}");
    assert!(at("WHY") < at("WHAT TO DO"), "{text}");
    for internal in ["Some(", "None", "Observed", "RootCause::", "{ "] {
        assert!(!text.lines().next().unwrap_or_default().contains(internal), "{internal:?} in\n{text}");
    }
}

#[test]
fn orphan_and_deadlock_are_told_apart_in_words_and_in_json() {
    let (code, text, value) = diagnosed(&testdata("incident-orphan"));
    assert_eq!(code, Some(3));
    assert_eq!(value["rootCause"]["id"], "orphan-process", "{value:#}");
    reads_well(&text);
    let first = text.lines().next().unwrap_or_default();
    assert!(first.starts_with("ROOT CAUSE (proven): a former etcd process lost its container"), "{text}");
    assert!(first.contains("2380"), "{text}");
    assert!(text.contains("orphan-proc-cgroup.txt") && text.contains("address already in use"), "{text}");

    let (code, text, value) = diagnosed(&testdata("incident-deadlock"));
    assert_eq!(code, Some(3));
    assert_eq!(value["rootCause"]["id"], "stale-sandbox", "{value:#}");
    reads_well(&text);
    let first = text.lines().next().unwrap_or_default();
    assert!(
        first.starts_with("ROOT CAUSE (proven): the manifest of etcd changed")
            && first.contains("old etcd still runs"),
        "{text}"
    );
    assert!(!text.contains("lost its container"), "{text}");
    assert!(text.contains("104e3ec5b5f9"), "the sandbox to remove is named:\n{text}");
}

#[test]
fn the_other_recorded_incidents() {
    let (code, text, value) = diagnosed(&testdata("incident-lost"));
    assert_eq!((code, &value["rootCause"]["id"]), (Some(3), &Value::from("manifest-defaults")), "{value:#}");
    reads_well(&text);
    // The write-up of the outage has neither lists nor holders: it names what would decide.
    let (code, text, _) = diagnosed(&testdata("seed-incident"));
    assert_eq!(code, Some(3));
    assert!(text.contains("bind: address already in use") || text.contains("2380"), "{text}");
    for entry in std::fs::read_dir(testdata("modes")).expect("modes") {
        let folder = entry.expect("entry").path();
        if !folder.is_dir() || folder.ends_with("39-past-incident-healthy-now") {
            continue;
        }
        // `expected` is no recording.
        let copy = tempfile::tempdir().expect("temp dir");
        copy_but(&folder, copy.path(), &["expected"]);
        let expected = std::fs::read_to_string(folder.join("expected")).expect("expected");
        let (code, text, value) = diagnosed(copy.path());
        assert_eq!(code, Some(3), "{}", folder.display());
        if expected.trim() == "undetermined" {
            assert!(text.starts_with("UNDETERMINED: "), "{}: {text}", folder.display());
            assert!(text.contains("what would decide"), "{}: {text}", folder.display());
        } else {
            assert_eq!(value["rootCause"]["id"], expected.trim(), "{}", folder.display());
            reads_well(&text);
        }
    }
}

fn copy_but(from: &Path, to: &Path, skip: &[&str]) {
    for entry in std::fs::read_dir(from).expect("folder") {
        let path = entry.expect("entry").path();
        let name = path.file_name().expect("name").to_string_lossy().into_owned();
        if path.is_file() && !skip.contains(&name.as_str()) {
            std::fs::copy(&path, to.join(name)).expect("copies");
        }
    }
}

#[test]
fn nothing_is_found_on_a_healthy_node() {
    let copy = tempfile::tempdir().expect("temp dir");
    copy_but(&testdata("health"), copy.path(), &["apiserver-healthz-etcd-hung.txt", "api-403.json"]);
    let (code, text, value) = diagnosed(copy.path());
    assert_eq!((code, &value["rootCause"]["kind"]), (Some(0), &value["rootCause"]["kind"]));
    assert!(text.starts_with("HEALTHY: "), "{text}");
    assert_eq!(value["findings"], Value::Array(Vec::new()), "{value:#}");
}

#[test]
fn healthz_parse_explains_every_recorded_answer() {
    for entry in std::fs::read_dir(testdata("health")).expect("health") {
        let path = entry.expect("entry").path();
        let name = path.file_name().expect("name").to_string_lossy().into_owned();
        if name.starts_with("crictl") || name.contains("version") {
            continue;
        }
        let (code, value) = json(&["healthz", "parse", path.to_str().expect("UTF-8")], b"");
        let answer = &value["answers"][0];
        assert_eq!(value["schema"], "cprecover.dev/healthz/v1");
        let expected = match name.as_str() {
            "apiserver-healthz-etcd-hung.txt" => (Some(3), "unhealthy"),
            "api-403.json" => (Some(3), "alive-undetermined"),
            _ => (Some(0), "healthy"),
        };
        assert_eq!(
            (code, answer["report"]["verdict"].as_str()),
            (expected.0, Some(expected.1)),
            "{name}: {value:#}"
        );
    }
    // Pasted, on one line, as in the outage's write-up.
    let pasted =
        b"[+]ping ok [-]log failed: reason withheld [-]etcd failed: reason withheld healthz check failed";
    let (code, text) = run(&["healthz", "parse"], pasted);
    assert_eq!(code, Some(3));
    assert!(text.starts_with("-: unhealthy, 1 of 3 checks ok"), "{text}");
    let of = |name: &str| {
        let (_, rest) =
            text.split_once(&format!("failed  {name}: ")).unwrap_or_else(|| panic!("{name}: {text}"));
        rest.lines().nth(1).unwrap_or_default().to_lowercase()
    };
    assert!(of("etcd").contains("etcd"), "{text}");
    assert!(of("log").contains("pipe") || of("log").contains("disk"), "a blocked log: {text}");
    assert_ne!(of("log"), of("etcd"));
    assert_eq!(run(&["healthz", "parse", "/no/such/file"], b"").0, Some(1));
}

/// Answers one request with `answer`, then stays silent until the peer leaves.
fn server(answer: &'static [u8]) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("bound");
    let thread = std::thread::spawn(move || {
        let (mut stream, _): (TcpStream, _) = listener.accept().expect("accepts");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("timeout");
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(answer);
        let _ = stream.read(&mut [0; 64]);
    });
    (address.to_string(), thread)
}

#[test]
fn healthz_probe_says_how_it_ended() {
    let (address, thread) = server(b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{\"health\":\"true\"}");
    let (code, value) = json(&["healthz", "probe", &format!("http://{address}/health")], b"");
    assert_eq!((code, &value["answers"][0]["report"]["verdict"]), (Some(0), &"healthy".into()), "{value:#}");
    thread.join().expect("server");

    let (address, thread) =
        server(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
    let (code, value) = json(&["healthz", "probe", &format!("http://{address}/livez")], b"");
    assert_eq!(
        (code, &value["answers"][0]["report"]["code"]),
        (Some(3), &302.into()),
        "no redirect: {value:#}"
    );
    thread.join().expect("server");

    // Silent: never longer than the deadline.
    let (address, thread) = server(b"");
    let start = Instant::now();
    let (code, text) = run(&["healthz", "probe", &format!("http://{address}/livez"), "--timeout", "1"], b"");
    assert_eq!(code, Some(3));
    assert!(text.contains("hangs, it takes the connection and stays silent"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    thread.join().expect("server");

    let free = TcpListener::bind("127.0.0.1:0").expect("binds").local_addr().expect("bound");
    let (code, text) = run(&["healthz", "probe", &format!("http://{free}/livez")], b"");
    assert_eq!(code, Some(3));
    assert!(text.contains("down, nobody listens there"), "{text}");
    // TLS that proves nothing is only taken when asked for.
    let (address, thread) = server(b"plain text, no TLS\r\n");
    let (code, text) = run(&["healthz", "probe", &format!("https://{address}/livez"), "--insecure"], b"");
    assert_eq!(code, Some(3));
    assert!(text.contains("TLS failed"), "{text}");
    thread.join().expect("server");
    let (code, text) = run(&["healthz", "probe", "https://127.0.0.1:1/livez"], b"");
    assert_eq!((code, text.as_str()), (Some(1), ""), "there is no CA on this node");
}

#[test]
fn logs_scan_tells_causes_before_effects() {
    // kubelet's own log tells effects only; etcd's tells the cause.
    let kubelet = testdata("incident-orphan").join("kubelet.log");
    let (code, text) = run(&["logs", "scan", kubelet.to_str().expect("UTF-8")], b"");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("EFFECTS (heal what causes them)"), "{text}");
    let log = testdata("incident-orphan").join("etcd-container.log");
    let path = log.to_str().expect("UTF-8");
    let (code, text) = run(&["logs", "scan", kubelet.to_str().expect("UTF-8"), path], b"");
    assert_eq!(code, Some(3), "{text}");
    let effects = text.find("EFFECTS (heal what causes them)").expect("effects");
    assert!(text.find("CAUSES").is_some_and(|causes| causes < effects), "{text}");
    assert!(text.contains("lines read"), "{text}");
    let (same, value) = json(&["logs", "scan", path], b"");
    assert_eq!((same, &value["schema"]), (code, &"cprecover.dev/log-scan/v1".into()));
    let matches = value["matches"].as_array().expect("matches");
    assert!(!matches.is_empty());
    for found in matches {
        for key in ["signature", "source", "firstLine", "count", "meaning", "nature", "remedy", "reference"] {
            assert!(!found[key].is_null(), "{key}: {found:#}");
        }
    }
    // The same through a pipe and gzipped.
    let bytes = std::fs::read(&log).expect("read");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&bytes).expect("packs");
    for input in [bytes.clone(), gzip.finish().expect("packs")] {
        let (_, piped) = json(&["logs", "scan", "-"], &input);
        assert_eq!(piped["matches"].as_array().map(Vec::len), Some(matches.len()));
    }
    let (code, text) = run(&["logs", "scan", "-"], b"I1124 00:31:10.014506 1 a.go:1] all is well\n");
    assert_eq!(code, Some(0));
    assert!(text.starts_with("no known failure\n1 lines read"), "{text}");
    assert_eq!(run(&["logs", "scan", "/no/such/log"], b"").0, Some(1));
}
