//! `cprecover port who` and `port free` as programs.
#![cfg(feature = "cli")]
#![allow(clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod ports_support;

use std::process::{Command, Output, Stdio};

use ports_support::{self as support, Spawn, free_port};
use serde_json::Value;

#[test]
#[ignore = "not a test: what helper processes run"]
fn helper_role() {
    support::play_role(|role| panic!("unknown role {role:?}"));
}

/// Runs `cprecover port` on a node without manifests and without a runtime.
fn port(args: &[&str]) -> (Output, Value) {
    let root = tempfile::tempdir().expect("temp dir");
    let output = Command::new(env!("CARGO_BIN_EXE_cprecover"))
        .arg("--root")
        .arg(root.path())
        .args(["-o", "json", "port"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("runs");
    let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output, value)
}

#[test]
fn who_tells_found_free_and_not_here_apart() {
    let number = free_port().to_string();
    let (output, answer) = port(&["who", &number]);
    assert_eq!((output.status.code(), &answer["state"]), (Some(0), &Value::from("free")), "{output:?}");
    assert_eq!(answer["schema"], "cprecover.dev/port-holders/v1");

    let helper = Spawn::role("listen").set("CPT_ADDRESS", format!("127.0.0.1:{number}")).start();
    let (output, answer) = port(&["who", &number, "--addr", "127.0.0.1"]);
    assert_eq!((output.status.code(), &answer["state"]), (Some(0), &Value::from("found")), "{output:?}");
    let holder = &answer["holders"][0];
    assert_eq!(holder["pid"], helper.pid.get());
    assert!(matches!(holder["class"]["kind"].as_str(), Some("foreign" | "unit")), "{holder}");
    assert!(holder["evidence"].as_array().is_some_and(|facts| facts.len() > 3), "{holder}");

    let (output, answer) = port(&["who", &number, "--addr", "203.0.113.7"]);
    assert_eq!((output.status.code(), &answer["state"]), (Some(0), &Value::from("address-not-on-host")));
    assert_eq!(port(&["who", "0"]).0.status.code(), Some(2));
    assert_eq!(port(&["who", &number, "--netns", "/run/netns/none-such"]).0.status.code(), Some(1));
}

#[test]
fn free_refuses_what_is_no_orphan_and_does_nothing_without_yes() {
    let number = free_port().to_string();
    let (output, answer) = port(&["free", &number, "--yes"]);
    assert_eq!((output.status.code(), &answer["free"]), (Some(0), &Value::from(true)), "{output:?}");
    let mut helper = Spawn::role("listen").set("CPT_ADDRESS", format!("127.0.0.1:{number}")).start();
    for args in [&["--yes"][..], &["--dry-run"], &["--yes", "--expect", "etcd", "--grace", "1s"]] {
        let (output, answer) = port(&[&["free", &number], args].concat());
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        assert!(answer["summary"].as_str().is_some_and(|text| text.starts_with("refused")), "{answer}");
        assert!(helper.is_running());
    }
    for grace in ["soon", "-1s", "2h", "9223372036854775807", "18446744073709551615"] {
        assert_eq!(port(&["free", &number, "--grace", grace]).0.status.code(), Some(2), "{grace}");
    }
}
