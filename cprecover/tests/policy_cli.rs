//! `cprecover policy …`, `--policy` and signatures, as a person uses them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod policy_support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cprecover::model::Digest;
use ed25519_dalek::pkcs8::EncodePublicKey as _;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::{Signer as _, SigningKey};
use policy_support::{bombs, quiet};
use serde_json::Value;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/testdata");

struct Node {
    root: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        Self { root: tempfile::tempdir().expect("temp dir") }
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        // Whatever the tests' umask: keys that others can write are refused.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        path
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_cprecover"))
            .arg("--root")
            .arg(self.root.path())
            .args(args)
            .output()
            .expect("the program runs")
    }

    #[track_caller]
    fn good(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    #[track_caller]
    fn bad(&self, args: &[&str], code: i32) -> String {
        let output = self.run(args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        text
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn shipped(name: &str) -> &'static [u8] {
    cprecover_policies::shipped::component(cprecover_policies::Profile::from_name(name).unwrap())
}

#[test]
fn the_table_of_expected_decisions_holds_for_every_shipped_policy() {
    let node = Node::new();
    for name in ["default", "observe-only", "conservative", "aggressive-single-node"] {
        let report = node.good(&["policy", "test", name, "--corpus", CORPUS]);
        assert!(report.contains(" as expected, 0 not"), "{report}");
        assert!(report.matches("ok      ").count() >= 30, "{report}");
    }
    // A policy that is not what the table says is told apart.
    let output = node.run(&["policy", "test", "observe-only", "--column", "default", "--corpus", CORPUS]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("DIFFERS  outage"));
}

#[test]
fn two_policies_are_compared_over_the_corpus() {
    let node = Node::new();
    let diff = node.good(&["policy", "diff", "default", "conservative", "--corpus", CORPUS]);
    assert!(diff.contains("stale-sandbox\n         - stale-sandbox: remove stale sandbox"), "{diff}");
    assert!(diff.contains("         + stale-sandbox: call a person: conservative does not remove"), "{diff}");
    assert!(!diff.contains("\ndisk-full\n"), "the same in both: {diff}");
    let same = node.good(&["policy", "diff", "default", "default", "--corpus", CORPUS]);
    assert!(same.contains(", 0 different"), "{same}");
}

#[test]
fn an_explanation_names_rule_reason_evidence_and_guard_rail() {
    let node = Node::new();
    let outage = format!("{CORPUS}/outage.json");
    let why = node.good(&["policy", "explain", "default", &outage]);
    for part in [
        "1. end pid ",
        "rule      orphan-holder: a process of a pod that the runtime no longer knows holds the port",
        "   why       pid ",
        "   seen      port ",
        "   guard     allowed",
        "RULES THAT HAD NOTHING TO SAY",
        "kubelet-down",
    ] {
        assert!(why.contains(part), "{part}: {why}");
    }
    let refused =
        node.good(&["policy", "explain", "default", &format!("{CORPUS}/orphan-that-still-votes.json")]);
    assert!(refused.contains("guard     refused (quorum): after this step 1 of 3 members"), "{refused}");
    let json: Value =
        serde_json::from_str(&node.good(&["policy", "explain", "default", &outage, "-o", "json"])).unwrap();
    assert_eq!(json["schema"], "cprecover.dev/policy-explanation/v1");
    assert!(json["decisions"][0]["evidence"][0]["text"].is_string(), "{json}");
    let garbage = node.file("garbage.json", "{\"schema\": 3}");
    assert!(node.bad(&["policy", "explain", "default", text(&garbage)], 1).contains("garbage.json"));
}

#[test]
fn a_check_says_who_a_policy_is_and_how_near_its_limits() {
    let node = Node::new();
    let file = node.file("p.wasm", shipped("conservative"));
    let checked = node.good(&["policy", "check", text(&file)]);
    let digest = Digest::of(shipped("conservative"));
    for part in [&format!("conservative 0.1.0 sha256:{digest}"), "functions", "(5000)", "stale-sandbox"] {
        assert!(checked.contains(part), "{part}: {checked}");
    }
    let given = format!("{}@sha256:{digest}", text(&file));
    node.good(&["policy", "check", &given]);
    let wrong = format!("{}@sha256:{}", text(&file), Digest::of(b"another"));
    assert!(node.bad(&["policy", "check", &wrong], 1).contains(&format!("sha256 is {digest}, expected")));
    assert!(node.bad(&["policy", "check", "nosuch"], 1).contains("no shipped policy is called \"nosuch\""));
    let (_, bomb, limit) = &bombs()[0];
    let bomb = node.file("bomb.wasm", bomb);
    let error = node.bad(&["policy", "check", text(&bomb)], 1);
    assert!(error.contains(limit) && error.contains("bomb.wasm"), "{error}");
}

#[test]
fn policies_are_installed_listed_and_removed() {
    let node = Node::new();
    let list = node.good(&["policy", "list"]);
    for name in ["default 0.1.0 sha256:", "observe-only", "conservative", "INSTALLED\n  none"] {
        assert!(list.contains(name), "{name}: {list}");
    }
    let file = node.file("p.wasm", quiet());
    let digest = Digest::of(&quiet());
    node.good(&["policy", "install", text(&file)]);
    node.good(&["policy", "install", "default"]);
    let list = node.good(&["policy", "list"]);
    assert!(list.contains(&format!("hostile 1.0.0 sha256:{digest}")), "{list}");
    let cache = node.root.path().join("var/lib/cprecover/policy-cache");
    assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 3, "two policies and the key");
    node.good(&["policy", "remove", &digest.to_string()]);
    let absent = node.bad(&["policy", "remove", &digest.to_string()], 1);
    assert!(absent.contains("is not installed"), "{absent}");
    // What cannot be removed is there: the entry of the shipped policy becomes a folder.
    let entry = std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path());
    let entry = entry.filter(|path| path.extension().is_some()).max().unwrap();
    let name = entry.file_name().unwrap().to_str().unwrap().to_owned();
    std::fs::remove_file(&entry).unwrap();
    std::fs::create_dir(&entry).unwrap();
    let failed = node.bad(&["policy", "remove", &name[..64]], 1);
    assert!(failed.contains("remove") && !failed.contains("is not installed"), "{failed}");
    std::fs::remove_dir(&entry).unwrap();
    // A cache that others could write is told and not used.
    std::fs::set_permissions(&cache, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let output = node.run(&["policy", "check", "default"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("compiled policies are not used"));
}

#[test]
fn only_signed_policies_are_trusted_once_there_is_a_key() {
    let node = Node::new();
    let (ours, theirs) = (SigningKey::from_bytes(&[7; 32]), SigningKey::from_bytes(&[8; 32]));
    let pem = |key: &SigningKey| key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
    let key = node.file("ops.pem", pem(&ours));
    let file = node.file("p.wasm", quiet());
    let check = ["policy", "check", text(&file), "--policy-key", text(&key)];
    assert!(node.bad(&check, 4).contains("is not signed"));
    node.file("p.wasm.sig", theirs.sign(&quiet()).to_bytes());
    assert!(node.bad(&check, 4).contains("of none of the trusted keys"));
    node.file("p.wasm.sig", b"short");
    assert!(node.bad(&check, 4).contains("has 5 bytes"));
    node.file("p.wasm.sig", ours.sign(&quiet()).to_bytes());
    assert!(node.good(&check).contains("signed by ops (ed25519 "));
    // Also as the node's configuration says, for every subcommand that takes a policy.
    node.file("etc/cprecover/ops.pem", pem(&ours));
    node.file("etc/cprecover/config.yaml", "policyKeys: [/etc/cprecover/ops.pem]\n");
    let output = node.run(&["diagnose", "--policy", text(&file), "-o", "json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let identity = &json["policy"]["identity"];
    assert_eq!(identity["name"], "hostile");
    assert_eq!(identity["digest"], Digest::of(&quiet()).to_string());
    assert!(identity["signedBy"].as_str().unwrap().starts_with("ops (ed25519 "), "{identity}");
    // A changed file does not have the signature any more.
    node.file("p.wasm", shipped("default"));
    for args in [vec!["diagnose"], vec!["plan"], vec!["recover", "--yes"]] {
        let mut args = args;
        args.extend(["--policy", text(&file)]);
        assert!(node.bad(&args, 4).contains("or the file was changed"), "{args:?}");
    }
    // Shipped ones are part of the program.
    node.good(&["policy", "check", "default"]);
    let garbage = node.file("garbage.pem", "no key");
    let error = node.bad(&["policy", "check", text(&file), "--policy-key", text(&garbage)], 1);
    assert!(error.contains("garbage.pem"), "{error}");
    node.good(&["policy", "check", "default", "--policy-key", text(&garbage)]);
}

/// A key is a file of the node that is broken; what is shipped is asked without any.
#[test]
fn a_lost_key_stops_policy_files_alone() {
    let node = Node::new();
    let file = node.file("p.wasm", quiet());
    node.file("etc/cprecover/config.yaml", "policyKeys: [/etc/cprecover/ops.pem]\n");
    for (args, schema) in [
        (vec!["plan"], "cprecover.dev/plan/v1"),
        (vec!["plan", "--policy", "conservative"], "cprecover.dev/plan/v1"),
        (vec!["recover", "--dry-run"], "cprecover.dev/recovery/v1"),
    ] {
        let json = [args.clone(), vec!["-o", "json"]].concat();
        let output = node.run(&json);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!error.contains("ops.pem"), "{args:?}: {error}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{error}"));
        assert_eq!(report["schema"], schema, "{args:?}");
        let refused = node.bad(&[args, vec!["--policy", text(&file)]].concat(), 1);
        assert!(refused.contains("a policy key from policyKeys: "), "{refused}");
        assert!(refused.contains("etc/cprecover/ops.pem"), "{refused}");
    }
    node.good(&["policy", "install", "default"]);
    node.bad(&["policy", "install", text(&file)], 1);
}

#[test]
fn a_key_that_others_can_write_is_not_trusted() {
    let node = Node::new();
    let ours = SigningKey::from_bytes(&[7; 32]);
    let key = node.file("ops.pem", ours.verifying_key().to_public_key_pem(LineEnding::LF).unwrap());
    let file = node.file("p.wasm", quiet());
    node.file("p.wasm.sig", ours.sign(&quiet()).to_bytes());
    let check = ["policy", "check", text(&file), "--policy-key", text(&key)];
    for mode in [0o664, 0o646, 0o620] {
        std::fs::set_permissions(&key, PermissionsExt::from_mode(mode)).unwrap();
        let refused = node.bad(&check, 4);
        assert!(refused.contains("ops.pem can be written by group or others"), "{mode:o}: {refused}");
    }
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o444)).unwrap();
    node.good(&check);
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: changing a file's owner needs root");
        return;
    }
    std::os::unix::fs::chown(&key, Some(65534), None).unwrap();
    let refused = node.bad(&check, 4);
    assert!(refused.contains("ops.pem belongs to uid 65534"), "{refused}");
}

/// The program under limits that a shell sets first.
fn limited(node: &Node, limit: &str, args: &[&str]) -> Output {
    Command::new("sh")
        .args(["-c", &format!("{limit}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_cprecover"), "--root"])
        .arg(node.root.path())
        .args(args)
        .output()
        .expect("a shell runs")
}

#[test]
fn what_is_not_written_whole_does_not_stay() {
    let node = Node::new();
    let store = node.root.path().join("var/lib/cprecover");
    let file = node.file("p.wasm", quiet());
    // As on a full disk: more than the component, which is handed to the compiler, and less than its code.
    let blocks = quiet().len().div_ceil(512) + 1;
    let limit = format!("umask 022; trap '' XFSZ; ulimit -S -f {blocks}");
    let output = limited(&node, &limit, &["policy", "install", text(&file)]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("write"), "{error}");
    let left = std::fs::read_dir(store.join("policy-cache")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["key"]);
    // The store is this user's alone, whoever made it first.
    let mode = std::fs::metadata(&store).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
}

/// A container, or `LimitAS=` of a unit: what this process may not raise its children may not either.
#[test]
fn a_policy_is_compiled_under_lower_hard_limits() {
    let node = Node::new();
    let file = node.file("p.wasm", quiet());
    // Root may raise them while it has this capability; who is started by a thread without it has not either.
    let output = std::thread::scope(|scope| {
        let lowered = scope.spawn(|| {
            if rustix::process::geteuid().is_root() {
                let capability = rustix::thread::CapabilitySet::SYS_RESOURCE;
                rustix::thread::remove_capability_from_bounding_set(capability).unwrap();
            }
            limited(
                &node,
                "ulimit -v 900000; ulimit -f 60000; ulimit -t 9",
                &["policy", "check", text(&file)],
            )
        });
        lowered.join().expect("no panic")
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_openssl_signs_is_accepted() {
    let node = Node::new();
    let run = |args: &[&str]| Command::new("openssl").args(args).current_dir(node.root.path()).output();
    let Ok(made) = run(&["genpkey", "-algorithm", "ed25519", "-out", "key.pem"]) else {
        eprintln!("SKIPPED: no openssl on PATH");
        return;
    };
    assert!(made.status.success());
    let file = node.file("p.wasm", quiet());
    let public = run(&["pkey", "-in", "key.pem", "-pubout", "-out", "pub.pem"]).unwrap();
    let signed =
        run(&["pkeyutl", "-sign", "-rawin", "-inkey", "key.pem", "-in", "p.wasm", "-out", "p.wasm.sig"])
            .unwrap();
    if !public.status.success() || !signed.status.success() {
        eprintln!("SKIPPED: this openssl signs no ed25519: {}", String::from_utf8_lossy(&signed.stderr));
        return;
    }
    let key = node.root.path().join("pub.pem");
    let checked = node.good(&["policy", "check", text(&file), "--policy-key", text(&key)]);
    assert!(checked.contains("signed by pub"), "{checked}");
}

#[test]
fn a_chain_on_the_command_line_is_named_in_the_plan() {
    let node = Node::new();
    let output = node.run(&["plan", "--policy", "default", "--policy", "observe-only", "-o", "json"]);
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(plan["policy"]["name"], "default", "{plan}");
    assert_eq!(plan["policy"]["agreedWith"][0]["name"], "observe-only", "{plan}");
    assert!(plan["steps"].as_array().unwrap().is_empty(), "{plan}");
}
