//! What the program does to a broken and to a healthy node, and how it ends.

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::node::{Node, busy, cprecover, json, quiet};

fn kinds(report: &Value) -> Vec<String> {
    let steps = report["steps"].as_array().expect("steps");
    steps.iter().map(|step| step["action"]["kind"].as_str().expect("kind").to_owned()).collect()
}

fn check_drill(args: &[&str], etcd: &str) {
    let _quiet = quiet();
    check_report(&cprecover(args), etcd);
}

fn check_report(output: &Output, etcd: &str) {
    let drill = json(output);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(drill["schema"], "cprecover.dev/drill/v1");
    assert!(drill["etcd"].to_string().contains(etcd), "{}", drill["etcd"]);
    assert_eq!(drill["keysIntact"], drill["keysWritten"]);
    let recovery = &drill["recovery"];
    assert_eq!(recovery["ending"]["state"], "healthy");
    assert_eq!(recovery["verification"]["healthy"], true);
    let kinds = kinds(recovery);
    let count = |kind: &str| kinds.iter().filter(|known| *known == kind).count();
    assert_eq!(count("terminate-holder"), 1, "{kinds:?}");
    assert_eq!(count("restore-manifest"), 3, "{kinds:?}");
    assert_eq!(count("regenerate-component"), 1, "{kinds:?}");
    assert_eq!(count("restart-kubelet"), 1, "{kinds:?}");
    let findings = recovery["diagnosis"]["findings"].as_array().expect("findings");
    for wanted in ["orphan-process", "manifest-lost"] {
        assert!(findings.iter().any(|finding| finding["id"] == wanted), "{wanted} in {findings:?}");
    }
    assert!(
        drill["incident"]["bindError"].as_str().is_some_and(|e| e.ends_with("bind: address already in use"))
    );
    assert!(
        drill["incident"]["healthz"].as_str().is_some_and(|h| h.contains("[-]etcd failed: reason withheld"))
    );
    let recovery_ms = drill["recoveryMs"].as_u64().expect("recoveryMs");
    assert!(recovery_ms < 5_000, "the recovery took {recovery_ms} ms");
    let drill_ms = drill["drillMs"].as_u64().expect("drillMs");
    assert!(drill_ms < 30_000, "the drill took {drill_ms} ms");
    let root = drill["root"].as_str().expect("root");
    assert!(!Path::new(root).exists(), "{root} was left");
}

#[test]
fn the_drill_recovers_a_node_with_the_stand_in_etcd() {
    check_drill(&["drill", "--stand-in", "-o", "json"], "stand-in");
}

#[test]
fn the_drill_recovers_a_node_with_the_real_etcd_and_its_keys() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|folder| folder.join("etcd").is_file()) {
        eprintln!("SKIPPED: no etcd on PATH (Debian package etcd-server)");
        return;
    }
    check_drill(&["drill", "-o", "json"], "real");
}

/// An ordinary user can make no cgroups and read no other user's processes; the node is healed all the
/// same, because the runtime tells whose process is whose.
#[test]
fn the_drill_recovers_a_node_of_an_ordinary_user() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: every other test of the drill is run by an ordinary user already");
        return;
    }
    let _quiet = quiet();
    let nobody = 65_534;
    let home = tempfile::tempdir().expect("a folder");
    let program = home.path().join("cprecover");
    crate::executable::install(&program, &std::fs::read(env!("CARGO_BIN_EXE_cprecover")).expect("its bytes"));
    std::fs::set_permissions(home.path(), Permissions::from_mode(0o755)).expect("mode");
    let mut command = Command::new(&program);
    command.args(["drill", "--stand-in", "-o", "json"]).uid(nobody).gid(nobody);
    command.env("TMPDIR", "/tmp").current_dir("/");
    let output = command.output().expect("the program runs");
    check_report(&output, "stand-in");
}

#[test]
fn looking_planning_and_asking_change_nothing() {
    let _busy = busy();
    let node = Node::broken();
    let before = node.touched();
    for (args, code) in [
        (&["recover", "--dry-run"][..], 3),
        (&["plan"], 3),
        (&["observe"], 0),
        (&["recover"], 4),
        (&["lint"], 0),
    ] {
        let output = node.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert_eq!(node.touched(), before, "{args:?} changed something");
    }
    assert!(node.orphan_lives(), "the orphan was ended without consent");
}

#[test]
fn a_plan_is_applied_as_it_was_shown_and_a_changed_one_is_not() {
    let _busy = busy();
    let node = Node::broken();
    let output = node.run(&["plan", "-o", "json"]);
    let plan = node.root.join("plan.json");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    std::fs::write(&plan, text.replace("kube-apiserver.yaml is missing", "kube-apiserver.yaml is gone"))
        .expect("write");
    let changed = node.run(&["apply", plan.to_str().expect("UTF-8")]);
    assert_eq!(changed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&changed.stderr).contains("does not match its digest"));
    assert!(node.orphan_lives());
    std::fs::write(&plan, text).expect("write");
    // The restart of kubelet was not part of the plan: it is decided only once the port is free. So the
    // plan is done as far as it goes, and the run says that a new one is needed, or the node is healthy.
    let applied = node.run(&["apply", plan.to_str().expect("UTF-8"), "-o", "json"]);
    let report = json(&applied);
    let code = applied.status.code();
    assert!(code == Some(0) || code == Some(4), "{report:#}");
    assert!(kinds(&report).contains(&"terminate-holder".to_owned()));
    let again = node.run(&["recover", "--yes", "-o", "json"]);
    assert_eq!(again.status.code(), Some(0), "{}", String::from_utf8_lossy(&again.stderr));
}

#[test]
fn a_healthy_node_is_left_alone() {
    let _busy = busy();
    let node = Node::broken();
    assert_eq!(node.run(&["recover", "--yes"]).status.code(), Some(0));
    let before = node.touched();
    let output = node.run(&["recover", "--yes", "-o", "json"]);
    let report = json(&output);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(kinds(&report), Vec::<String>::new());
    assert_eq!(report["plan"]["steps"], serde_json::json!([]));
    let after: Vec<_> =
        node.touched().into_iter().filter(|(path, _)| !path.ends_with("engine.lock")).collect();
    let before: Vec<_> = before.into_iter().filter(|(path, _)| !path.ends_with("engine.lock")).collect();
    assert_eq!(after, before);
    assert_eq!(node.run(&["recover", "--dry-run"]).status.code(), Some(0));
    let audit = node.run(&["audit", "verify"]);
    assert_eq!(audit.status.code(), Some(0), "{}", String::from_utf8_lossy(&audit.stderr));
}

#[test]
fn a_recovery_goes_on_to_its_end_when_nobody_reads_what_it_says() {
    let _busy = busy();
    let node = Node::broken();
    let closed = || std::io::pipe().expect("a pipe").1;
    let mut command = Command::new(env!("CARGO_BIN_EXE_cprecover"));
    command.args(["--root", node.root(), "-vv", "recover", "--yes"]).stdout(closed()).stderr(closed());
    assert_eq!(command.status().expect("the program runs").code(), Some(0));
    assert_eq!(node.run(&["recover", "--dry-run"]).status.code(), Some(0), "it is healthy");
}

#[test]
fn a_recovery_goes_on_to_its_end_when_its_terminal_goes_away() {
    let _busy = busy();
    let node = Node::broken();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cprecover"));
    command.args(["--root", node.root(), "recover", "--yes"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    let pid = rustix::process::Pid::from_child(&child);
    let mut told = String::new();
    for line in BufReader::new(child.stderr.take().expect("piped")).lines() {
        let line = line.expect("UTF-8");
        // An effect begins; the second time, the signal comes after another one.
        if line.ends_with(" …") {
            rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("it runs");
        }
        told.push_str(&line);
    }
    assert!(told.matches(" …").count() > 1, "{told}");
    assert_eq!(child.wait().expect("ends").code(), Some(0), "{told}");
    assert_eq!(node.run(&["recover", "--dry-run"]).status.code(), Some(0), "it is healthy");
}

#[test]
fn a_second_engine_is_told_that_the_node_is_busy() {
    let _busy = busy();
    let node = Node::broken();
    let _lock = cprecover::recover::NodeLock::acquire(&node.root.join("var/lib/cprecover")).expect("free");
    let output = node.run(&["recover", "--yes"]);
    assert_eq!(output.status.code(), Some(5));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains(&format!("worked on by pid {}", std::process::id())), "{stderr}");
}

#[test]
fn a_support_bundle_tells_everything_but_secrets_and_changes_nothing() {
    let _busy = busy();
    let node = Node::broken();
    let before = node.touched();
    let to = node.root.join("bundle.tar");
    let output = node.run(&["support-bundle", to.to_str().expect("UTF-8"), "-o", "json"]);
    let report = json(&output);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(node.touched(), before);
    let bytes = std::fs::read(&to).expect("read");
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("terminate-holder") && text.contains("address already in use"), "{report:#}");
    let key = std::fs::read_to_string(node.root.join("etc/kubernetes/pki/ca.key")).expect("key");
    let line = key.lines().find(|line| !line.starts_with('-')).expect("a line");
    assert!(!text.contains(line) && !text.contains("PRIVATE KEY"));
    assert_eq!(
        node.run(&["support-bundle", to.to_str().expect("UTF-8")]).status.code(),
        Some(1),
        "never over a file"
    );
}

#[test]
fn a_policy_that_only_watches_calls_a_person() {
    let _busy = busy();
    let node = Node::broken();
    let before = node.touched();
    let output = node.run(&["recover", "--yes", "--policy", "observe-only", "-o", "json"]);
    assert_eq!(output.status.code(), Some(3));
    let report = json(&output);
    assert_eq!(report["ending"]["state"], "escalated");
    assert_eq!(report["plan"]["policy"]["name"], "observe-only");
    assert!(node.orphan_lives());
    let manifests = |seen: &super::node::Touched| {
        seen.iter()
            .filter(|(path, _)| path.starts_with(node.manifests()))
            .map(|(p, t)| (p.clone(), *t))
            .collect::<Vec<_>>()
    };
    assert_eq!(manifests(&node.touched()), manifests(&before));
}

#[test]
fn wrong_arguments_end_with_2_and_errors_with_1() {
    assert_eq!(cprecover(&["recover", "--no-such-flag"]).status.code(), Some(2));
    assert_eq!(cprecover(&["recover", "--policy", "no-such-policy", "--dry-run"]).status.code(), Some(1));
    assert_eq!(cprecover(&["drill", "--clean", "/nonexistent/x"]).status.code(), Some(1));
}
