//! Secrets are seeded everywhere they can lie; the bundle holds none of them.

use std::io::Read as _;

use super::*;
use crate::node::{NodeOptions, ServiceControl};
use crate::policy::{Action, Decision};
use crate::recover::audit::Event;

const KEY_LINE: &str = "MIIEowIBAAKCAQEAseededseededseededseededseededseededseededseeded";
const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzZWVkZWQifQ.c2VlZGVkLXNlZWRlZC1zZWVkZWQ";

fn node(dir: &std::path::Path) -> NodeOptions {
    let mut node = NodeOptions::at(dir).expect("absolute");
    node.kubelet_log = Some("/var/log/kubelet.log".into());
    let none = vec!["/bin/false".to_owned()];
    let control = ServiceControl::Commands { start: none.clone(), stop: none.clone(), state: none };
    node.kubelet = control.clone();
    node.runtime = Some(control);
    node.runtime_endpoint = Some("unix:///run/none.sock".into());
    node
}

fn write(node: &NodeOptions, path: &str, text: &str) {
    let path = node.resolve(path);
    std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
    std::fs::write(path, text).expect("write");
}

/// Returns every seeded secret.
fn seed(node: &NodeOptions) -> Vec<&'static str> {
    let pem = format!("-----BEGIN RSA PRIVATE KEY-----\n{KEY_LINE}\n-----END RSA PRIVATE KEY-----\n");
    write(node, "/etc/kubernetes/pki/sa.key", &pem);
    write(node, "/etc/kubernetes/pki/etcd/server.key", &pem.replace("MIIEow", "MIIEpQ"));
    write(
        node,
        "/etc/kubernetes/admin.conf",
        "apiVersion: v1\nkind: Config\nusers:\n- name: a\n  user:\n    client-key-data: U0VFREVELUtFWS1EQVRBLTEyMzQ=\n    token: seeded-token-of-admin\n- name: b\n  user:\n    password: seeded-password\n",
    );
    write(
        node,
        "/etc/kubernetes/kubeadm-config.yaml",
        "kind: InitConfiguration\ncertificateKey: 5eeded5eeded5eeded5eeded5eeded5e\nbootstrapTokens:\n- token: 5eeded.5eeded5eeded5eed\n---\nkind: ClusterConfiguration\n",
    );
    write(
        node,
        "/etc/kubernetes/encryption.yaml",
        "resources:\n- providers:\n  - aescbc:\n      keys:\n      - name: key1\n        secret: c2VlZGVkLWVuY3J5cHRpb24ta2V5LTEyMw==\n",
    );
    write(
        node,
        "/etc/kubernetes/manifests/kube-apiserver.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: kube-apiserver\n  namespace: kube-system\nspec:\n  containers:\n  - name: kube-apiserver\n    image: x\n    env:\n    - name: HARMLESS_NAME\n      value: seeded-env-value\n    - name: ALSO_HARMLESS\n      value: |-\n        seeded-line-one\n        \"seeded\"-line-two\n    livenessProbe:\n      httpGet:\n        httpHeaders:\n        - name: X-Hdr\n          value: seeded-hdr\n        - value: seeded-2nd-hdr\n          name: X-Other\n        path: /livez\n        port: 6443\n    command:\n    - kube-apiserver\n    - --encryption-provider-config=/etc/kubernetes/encryption.yaml\n    - --etcd-password=seeded-flag\n    - --x-auth-pass=seeded-f1\n    - --db-pw=seeded-f2\n    - --db-pwd\n    - seeded-f3\n    - --credential=seeded-f4\n    - --x-key=seeded-f5\n    - --authorization-mode=Node,RBAC\n    - --authentication-kubeconfig=/etc/kubernetes/scheduler.conf\n    - --image-credential-provider-config=/etc/kubernetes/provider.yaml\n",
    );
    write(
        node,
        "/var/log/kubelet.log",
        &format!(
            "I0610 says that all is well, a line to keep\nE0610 env seeded-env-value and seeded-token-of-admin\n\
             E0610 Authorization: Bearer {JWT}\nE0610 join with 5eeded.5eeded5eeded5eed\n{KEY_LINE}\n\
             E0610 c2VlZGVkLWVuY3J5cHRpb24ta2V5LTEyMw== and U0VFREVELUtFWS1EQVRBLTEyMzQ=\n\
             E0610 env seeded-line-one\nE0610 \"seeded\"-line-two\n\
             E0610 as JSON \"seeded-line-one\\n\\\"seeded\\\"-line-two\"\n\
             E0610 pass=seeded-l1 pwd=seeded-l2 auth=seeded-l3\nE0610 credential: seeded-l4\n\
             E0610 cookie: session=seeded-l5; user=seeded-l6\n\
             I0610 bypass=on key=\"kube-system/etcd-cp1\" at 10.10.17.210:6443 of v1.36.2 in /etc/kubernetes/pki\n"
        ),
    );
    std::fs::create_dir_all(node.store()).expect("mkdir");
    let mut log = AuditLog::open(&node.store(), 1).expect("opens");
    let summary = "kubeadm said: password=seeded-password 5eeded5eeded5eeded5eeded5eeded5e".to_owned();
    log.append(1, Event::Escalated { summary }).expect("append");
    vec![
        KEY_LINE,
        JWT,
        "U0VFREVELUtFWS1EQVRBLTEyMzQ=",
        "seeded-token-of-admin",
        "seeded-password",
        "5eeded5eeded5eeded5eeded5eeded5e",
        "5eeded5eeded5eed",
        "c2VlZGVkLWVuY3J5cHRpb24ta2V5LTEyMw==",
        "seeded-env-value",
        "seeded-flag",
        "seeded-line-one",
        "-line-two",
        "seeded-hdr",
        "seeded-2nd-hdr",
        "seeded-f",
        "seeded-l",
    ]
}

/// Puts a `crictl` there that lists the recorded sandboxes and containers, one with a pod's spec in its annotations.
fn seed_runtime(node: &mut NodeOptions) -> [&'static str; 2] {
    node.crictl = Some("/usr/bin/crictl".into());
    let spec = r#"{"spec":{"containers":[{"env": [{"name": "DB_PASSWORD", "value": "Tr0ub4dor-la"}]}]}}"#;
    let list = |text: &str, key: &str| {
        let mut list: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let annotations = list.pointer_mut(&format!("/{key}/0/annotations")).expect("are there");
        annotations["kubectl.kubernetes.io/last-applied-configuration"] = spec.into();
        annotations["example.org/note"] = "Tr0ub-note".into();
        list.to_string()
    };
    write(node, "/pods.json", &list(include_str!("../../../testdata/health/crictl-pods.json"), "items"));
    write(node, "/ps.json", &list(include_str!("../../../testdata/health/crictl-ps.json"), "containers"));
    let root = node.root.display();
    let script = format!(
        "#!/bin/sh\nshift 4\ncase $1 in\n\
         version) printf 'Version: 0.1.0\\nRuntimeName: containerd\\nRuntimeVersion: v2\\nRuntimeApiVersion: v1\\n' ;;\n\
         info) echo '{{\"status\": {{\"conditions\": []}}}}' ;;\nps) cat '{root}/ps.json' ;;\n\
         pods) cat '{root}/pods.json' ;;\nesac\n"
    );
    std::fs::create_dir_all(node.resolve("/usr/bin")).expect("mkdir");
    crate::executable::install(&node.resolve("/usr/bin/crictl"), script.as_bytes());
    ["Tr0ub4dor-la", "Tr0ub-note"]
}

fn silent(_: &contract::Observation) -> Outcome {
    let action = Action::Escalate { summary: "look".into(), hints: Vec::new() };
    let decisions = vec![Decision::new("r", action, "why")];
    Outcome::of_test(decisions)
}

#[test]
fn no_seeded_secret_is_in_the_tar_and_what_helps_is() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut node = node(dir.path());
    let mut secrets = seed(&node);
    secrets.extend(seed_runtime(&mut node));
    let mut bytes = Vec::new();
    let deadline = Deadline::after(Duration::from_mins(1));
    let report = support_bundle(&Host::new(&node), &silent, &mut bytes, &deadline).expect("bundle");
    let mut texts = String::new();
    for entry in tar::Archive::new(bytes.as_slice()).entries().expect("tar") {
        let mut entry = entry.expect("entry");
        assert_eq!(entry.header().mode().expect("mode"), 0o600);
        entry.read_to_string(&mut texts).expect("text");
    }
    let whole = String::from_utf8_lossy(&bytes);
    let left: Vec<_> = secrets.into_iter().filter(|secret| whole.contains(secret)).collect();
    assert!(left.is_empty(), "in the bundle: {left:?}");
    assert!(texts.contains("says that all is well, a line to keep"));
    assert!(texts.contains("--encryption-provider-config=/etc/kubernetes/encryption.yaml"));
    assert!(texts.contains("kubeadm said: "));
    for stays in [
        "--authorization-mode=Node,RBAC",
        "--authentication-kubeconfig=/etc/kubernetes/scheduler.conf",
        "--image-credential-provider-config=/etc/kubernetes/provider.yaml",
        "bypass=on key=\"kube-system/etcd-cp1\" at 10.10.17.210:6443 of v1.36.2 in /etc/kubernetes/pki",
        "\"X-Hdr\"",
        "\"path\": \"/livez\"",
        "\"kubernetes.io/config.source\": \"file\"",
        "kubeadm.kubernetes.io/etcd.advertise-client-urls",
        "io.kubernetes.container.restartCount",
        "kube-controller-manager-cp1",
    ] {
        assert!(texts.contains(stays), "{stays} is not in the bundle");
    }
    let names: Vec<&str> = report.files.iter().map(|(name, _)| name.as_str()).collect();
    for name in [
        "observation.json",
        "diagnosis.json",
        "verification.json",
        "plan.json",
        "audit.json",
        "logs/kubelet",
        "contents.json",
    ] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    let seen = whole.find("cprecover-support/observation.json").expect("there");
    assert!(seen < bytes.len());
}

#[test]
fn a_key_that_cannot_be_read_makes_no_bundle() {
    let dir = tempfile::tempdir().expect("temp dir");
    let node = node(dir.path());
    // A file over the limit stands for one that cannot be read: root may read all others.
    write(&node, "/etc/kubernetes/pki/big.key", &"x".repeat(2 << 20));
    let mut bytes = Vec::new();
    let deadline = Deadline::after(Duration::from_mins(1));
    let error = support_bundle(&Host::new(&node), &silent, &mut bytes, &deadline).expect_err("not known");
    assert!(error.to_string().contains("big.key"), "{error}");
    assert!(bytes.is_empty(), "nothing was written");
}

fn bundle(node: &NodeOptions) -> Result<String> {
    let mut bytes = Vec::new();
    let deadline = Deadline::after(Duration::from_mins(1));
    support_bundle(&Host::new(node), &silent, &mut bytes, &deadline)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn snapshot(node: &NodeOptions) {
    use crate::backup::{CreateOptions, Group};
    let options = CreateOptions { groups: vec![Group::Manifests], ..CreateOptions::default() };
    let deadline = Deadline::after(Duration::from_mins(1));
    Store::open(node).expect("store").create(&options, &deadline).expect("snapshot");
}

#[test]
fn the_secrets_of_a_lost_or_torn_manifest_are_known_all_the_same() {
    let manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml";
    let (env, key) = ("seeded-env-value", "c2VlZGVkLWVuY3J5cHRpb24ta2V5LTEyMw==");
    for (torn, is_saved) in [
        (None, true),
        (Some("kind: Pod\n"), true),
        (Some("\"torn"), true),
        // What is left of it tells enough.
        (
            Some(
                "spec:\n  containers:\n  - env:\n    - value: seeded-env-value\n    command: [\n    - --encryption-provider-config=/etc/kubernetes/encryption.yaml\n",
            ),
            false,
        ),
        (Some("{\"value\":\"seeded-env-value-1\",\"c2VlZGVkLWVuY3J5cHRpb24ta2V5LTEyMw==\":["), false),
    ] {
        let dir = tempfile::tempdir().expect("temp dir");
        let node = node(dir.path());
        seed(&node);
        write(
            &node,
            "/var/log/kubelet.log",
            &format!("says {env}-1 and {key}, kube-controller-manager too\n"),
        );
        if is_saved {
            snapshot(&node);
        }
        let path = node.resolve(manifest);
        match torn {
            Some(torn) => std::fs::write(&path, torn).expect("write"),
            None => std::fs::remove_file(&path).expect("rm"),
        }
        if !is_saved {
            std::fs::remove_dir_all(node.store()).expect("rm");
        }
        let whole = bundle(&node).expect("a bundle");
        assert!(!whole.contains(env) && !whole.contains(key), "{torn:?}");
        assert!(whole.contains("kube-controller-manager too"), "{torn:?}");
    }
}

#[test]
fn what_cannot_be_learnt_makes_no_bundle() {
    let dir = tempfile::tempdir().expect("temp dir");
    let node = node(dir.path());
    seed(&node);
    bundle(&node).expect("all can be read");
    // A folder stands for a file that cannot be read: root may read all others.
    let encryption = node.resolve("/etc/kubernetes/encryption.yaml");
    std::fs::remove_file(&encryption).expect("rm");
    bundle(&node).expect("what is gone tells nothing");
    std::fs::create_dir(&encryption).expect("mkdir");
    let error = bundle(&node).expect_err("not known");
    assert!(error.to_string().contains("encryption.yaml"), "{error}");
    std::fs::remove_dir(&encryption).expect("rmdir");
    for count in 0..512 {
        write(&node, &format!("/etc/kubernetes/pki/{count}.key"), "x");
    }
    let error = bundle(&node).expect_err("there are more");
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
}

#[test]
fn what_holds_no_secrets_keeps_no_bundle_from_being_made() {
    let dir = tempfile::tempdir().expect("temp dir");
    let node = node(dir.path());
    let secrets = seed(&node);
    write(&node, "/etc/kubernetes/audit.log", &"x".repeat(2 << 20));
    for count in 0..600 {
        write(&node, &format!("/etc/kubernetes/pki/{count}.crt"), "x");
    }
    let whole = bundle(&node).expect("a bundle");
    assert!(secrets.iter().all(|secret| !whole.contains(secret)));
}

/// kubelet logs the whole container, of whatever pod, when it does not start.
#[test]
fn the_environment_of_a_pod_that_is_not_of_the_control_plane_is_not_in_the_logs() {
    let dir = tempfile::tempdir().expect("temp dir");
    let node = node(dir.path());
    seed(&node);
    let line = "E0610 kuberuntime_manager.go:1341] \"Unhandled Error\" err=\"container &Container{Name:db,Env:\
                []EnvVar{EnvVar{Name:DB_PASSWORD,Value:Tr0ub4dor-pg,ValueFrom:nil,},},} start failed in pod \
                db_default: CrashLoopBackOff\"\n";
    write(&node, "/var/log/kubelet.log", line);
    let whole = bundle(&node).expect("a bundle");
    assert!(!whole.contains("Tr0ub4dor"));
    assert!(whole.contains("DB_PASSWORD") && whole.contains("start failed in pod"));
}

/// What named the values of a line is gone with its beginning.
#[test]
fn of_a_log_that_is_cut_only_whole_lines_are_kept() {
    for (log, limit, kept) in [
        (&b"one\ntwo\n"[..], 8, &b"one\ntwo\n"[..]),
        (b"one\ntwo\n", 7, b"two\n"),
        (b"one\ntwo\n", 4, b"two\n"),
        (b"one\ntwo\n", 3, b""),
        (b"onetwo", 3, b""),
        (b"", 3, b""),
    ] {
        assert_eq!(end_of(log, limit), kept, "{limit}");
    }
}
