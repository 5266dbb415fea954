//! The double behaves as the recorded kubeadm; with `KUBEADM=/path` the same is asked of the real one.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod kubeadm_support;

use cprecover::model::Component;
use kubeadm_support::{CONFIG, Node, kubeadm, recorded};

const RECORDED: &str = include_str!("../testdata/kubeadm-1.36/phase-control-plane-dry-run-dir.txt");
const LOOPBACK: &str =
    include_str!("../testdata/kubeadm-1.36/phase-control-plane-loopback-address-error.txt");
const NO_CONFIG: &str = include_str!("../testdata/kubeadm-1.36/phase-apiserver-no-config.txt");

fn setup() -> (Node, String, std::path::PathBuf) {
    let node = Node::new(&[]);
    node.write("config.yaml", CONFIG);
    let staging = node.path("staging");
    std::fs::create_dir(&staging).unwrap();
    let config = node.path("config.yaml").display().to_string();
    (node, config, staging)
}

#[test]
fn the_recorded_lines_and_manifests() {
    let (node, config, staging) = setup();
    let root = node.dir.path();
    let args = ["init", "phase", "control-plane", "all", "--config", &config, "--dry-run"];
    let (code, stdout, stderr) = kubeadm(root, &[], &args, &staging);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(stdout, RECORDED.replace("/tmp/staging", &staging.display().to_string()));
    let args = ["init", "phase", "etcd", "local", "--config", &config, "--dry-run"];
    let (code, stdout, _) = kubeadm(root, &[], &args, &staging);
    assert_eq!(code, 0);
    assert!(stdout.contains("[etcd] Creating static Pod manifest for local etcd in \""), "{stdout}");
    for component in Component::ALL {
        let written = std::fs::read(staging.join(component.manifest_file())).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&written),
            String::from_utf8_lossy(recorded(component)),
            "{component}"
        );
    }
}

/// testdata/incident-lost: what the outage's commands wrote, but for host name and address.
#[test]
fn without_a_config_it_succeeds_with_defaults() {
    if !std::fs::read_to_string("/proc/net/route")
        .is_ok_and(|text| text.lines().skip(1).any(|line| line.split_whitespace().nth(1) == Some("00000000")))
    {
        eprintln!("SKIPPED: this host has no default route, from which kubeadm takes the address");
        return;
    }
    let (node, _, staging) = setup();
    let args = ["init", "phase", "control-plane", "controller-manager", "--dry-run"];
    let (code, stdout, stderr) = kubeadm(node.dir.path(), &[], &args, &staging);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(stdout, "[control-plane] Creating static Pod manifest for \"kube-controller-manager\"\n");
    for (said, recorded) in stderr.lines().zip(NO_CONFIG.lines()) {
        let text = |line: &str| {
            line.split_once("] ").map(|(_, text)| text.split(": dial").next().unwrap().to_owned())
        };
        assert_eq!(text(said), text(recorded));
        assert!(said.starts_with('W') && said.contains(" version.go:10"), "{said}");
    }
    let written = std::fs::read(staging.join("kube-controller-manager.yaml")).unwrap();
    let want = include_bytes!("../testdata/incident-lost/manifests-no-config/kube-controller-manager.yaml");
    assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(want));
}

#[test]
fn what_it_refuses() {
    let (node, config, staging) = setup();
    let root = node.dir.path();
    let fails = |args: &[&str]| {
        let (code, stdout, stderr) = kubeadm(root, &[], args, &staging);
        assert_eq!((code, stdout.as_str()), (1, ""), "{args:?}");
        let (error, trace) = stderr.trim_end().rsplit_once('\n').unwrap();
        assert_eq!(trace, "To see the stack trace of this error execute with --v=5 or higher");
        error.to_owned()
    };
    let apiserver = ["init", "phase", "control-plane", "apiserver", "--dry-run"];
    let with = |more: &[&str]| fails(&[&apiserver[..], more].concat());
    assert_eq!(
        with(&["--config", &config, "--service-cidr", "10.0.0.0/8", "--cert-dir=/x"]),
        "error: can not mix '--config' with arguments [cert-dir service-cidr]"
    );
    assert_eq!(with(&["--bogus"]), "error: unknown flag: --bogus");
    assert_eq!(
        with(&["--config", "/nonexistent/c.yaml"]),
        "error: unable to read config from \"/nonexistent/c.yaml\" : open /nonexistent/c.yaml: no such file or directory"
    );
    assert_eq!(
        fails(&["init", "phase", "etcd", "local", "--kubernetes-version=v1.36.2"]),
        "error: unknown flag: --kubernetes-version"
    );
    let text = String::from_utf8(CONFIG.to_vec()).unwrap();
    node.write("loopback.yaml", text.replace("10.10.17.210", "127.0.0.1").as_bytes());
    let loopback = node.path("loopback.yaml").display().to_string();
    assert_eq!(with(&["--config", &loopback]), LOOPBACK.lines().next().unwrap());
    node.write("old.yaml", text.replace("v1beta4", "v1beta2").as_bytes());
    let error = with(&["--config", &node.path("old.yaml").display().to_string()]);
    assert!(
        error.contains("old API spec: \"kubeadm.k8s.io/v1beta2\"") && error.contains("kubeadm v1.22"),
        "{error}"
    );
    node.write("skew.yaml", text.replace("v1.36.2", "v1.34.0").as_bytes());
    let error = with(&["--config", &node.path("skew.yaml").display().to_string()]);
    assert!(
        error.contains("only supports deploying clusters with the control plane version >= 1.35.0"),
        "{error}"
    );
}

/// kubernetes/kubernetes#135400: an overriding argument leaves its sorted place and goes to the end.
#[test]
fn extra_arguments_follow_the_defaults_in_their_order() {
    let (node, _, staging) = setup();
    let text = String::from_utf8(CONFIG.to_vec()).unwrap().replace(
        "    - name: quota-backend-bytes\n",
        "    - name: listen-metrics-urls\n      value: http://0.0.0.0:22381\n    - name: quota-backend-bytes\n",
    );
    node.write("config.yaml", text.as_bytes());
    let config = node.path("config.yaml").display().to_string();
    let args = ["init", "phase", "etcd", "local", "--config", &config, "--dry-run"];
    assert_eq!(kubeadm(node.dir.path(), &[], &args, &staging).0, 0);
    let written = std::fs::read_to_string(staging.join("etcd.yaml")).unwrap();
    assert!(
        written.contains(
            "    - --watch-progress-notify-interval=5s\n    - --listen-metrics-urls=http://0.0.0.0:22381\n    - --quota"
        ),
        "{written}"
    );
    assert_eq!(written.matches("listen-metrics-urls").count(), 1);
    // The probes follow: every interface is asked at the pod's own address.
    assert!(written.contains("containerPort: 22381") && !written.contains("host: 127.0.0.1"), "{written}");
}

#[test]
fn its_own_flags() {
    if std::env::var_os("KUBEADM").is_some() {
        eprintln!("SKIPPED: these are the double's flags, not kubeadm's");
        return;
    }
    let (node, _, staging) = setup();
    let root = node.dir.path();
    let text = String::from_utf8(CONFIG.to_vec()).unwrap();
    node.write("loopback.yaml", text.replace("10.10.17.210", "127.0.0.1").as_bytes());
    let loopback = node.path("loopback.yaml").display().to_string();
    let args = ["init", "phase", "etcd", "local", "--config", &loopback, "--dry-run"];
    assert_eq!(kubeadm(root, &["--allow-loopback"], &args, &staging).0, 0);
    let version = |flags: &[&str]| kubeadm(root, flags, &["version", "-o", "short"], &staging).1;
    assert_eq!(version(&[]), "v1.36.2\n");
    assert_eq!(version(&["--report-version", "v1.30.4"]), "v1.30.4\n");
    // Without --dry-run it overwrites the live folder at once, as the real one does.
    node.write("etc/kubernetes/manifests/kube-scheduler.yaml", b"precious");
    let args = ["init", "phase", "control-plane", "scheduler", "--config", &loopback];
    assert_eq!(kubeadm(root, &["--allow-loopback"], &args, &staging).0, 0);
    assert_ne!(
        std::fs::read(node.path("etc/kubernetes/manifests/kube-scheduler.yaml")).unwrap(),
        b"precious"
    );
}
