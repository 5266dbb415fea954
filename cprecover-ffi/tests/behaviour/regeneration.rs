//! Regenerating manifests, with what the caller knows.

use serde_json::{Value, json};

use crate::c::C;
use crate::cases::{kind, open};
use crate::executable;
use crate::native::Native;
use crate::node::{ETCD, Site};
use crate::surface::{Cprecover, Regenerate};

/// A config of kubeadm 1.36.
const CONFIG: &str = include_str!("../../../cprecover/testdata/kubeadm-1.36/kubeadm-config.yaml");

/// What it makes of that config for the scheduler.
const SCHEDULER: &str =
    include_str!("../../../cprecover/testdata/kubeadm-1.36/manifests/kube-scheduler.yaml");

/// What a node that has only etcd's manifest cannot know of its scheduler.
const UNKNOWN: [&str; 2] = ["kubernetesVersion", "scheduler.extraArgs"];

/// A site whose kubeadm writes the scheduler's manifest, and that of an etcd which joins a cluster.
fn site() -> Site {
    let site = Site::new();
    let joining = ETCD.replace("[etcd, ", "[etcd, --initial-cluster-state=existing, ");
    for (file, text) in [("etcd.yaml", joining.as_str()), ("kube-scheduler.yaml", SCHEDULER)] {
        std::fs::write(site.root().join(file), text).expect("a manifest");
    }
    let root = site.root().display();
    let script = format!(
        "#!/bin/sh\ncase $3 in\nshort) echo v1.36.2 ;;\n\
         etcd) exec /bin/cp '{root}/etcd.yaml' \"$KUBEADM_INIT_DRYRUN_DIR\" ;;\n\
         *) exec /bin/cp '{root}/kube-scheduler.yaml' \"$KUBEADM_INIT_DRYRUN_DIR\" ;;\nesac\n"
    );
    std::fs::create_dir_all(site.root().join("usr/bin")).expect("a folder");
    executable::install(&site.root().join("usr/bin/kubeadm"), script.as_bytes());
    site
}

pub(crate) fn regeneration_needs_a_kubeadm<S: Cprecover>() {
    let site = Site::new();
    let node = open::<S>(&site);
    let failed = node
        .plan_regeneration("kube-scheduler", Regenerate::default())
        .expect_err("no kubeadm below the root");
    assert!(
        ["not-found", "missing", "unsupported", "peer", "refused"].contains(&failed.kind.as_str()),
        "{failed:?}"
    );
    assert_eq!(kind(node.regenerate("kube-scheduler")), failed.kind);
}

pub(crate) fn a_config_or_assumed_defaults_make_up_for_unknown_values<S: Cprecover>() {
    let site = site();
    let node = open::<S>(&site);
    let plan = |given| node.plan_regeneration("kube-scheduler", given);
    let failed = plan(Regenerate::default()).expect_err("nothing tells of the scheduler");
    assert_eq!(failed.kind, "missing");
    for name in UNKNOWN {
        assert!(failed.message.contains(name), "{name}: {}", failed.message);
    }
    let failed = plan(Regenerate { assume_defaults: &UNKNOWN[..1], ..Regenerate::default() });
    let failed = failed.expect_err("one is left");
    assert!(failed.kind == "missing" && failed.message.contains(UNKNOWN[1]), "{failed:?}");
    assert!(!failed.message.contains(UNKNOWN[0]), "{failed:?}");
    plan(Regenerate { assume_defaults: &UNKNOWN, ..Regenerate::default() }).expect("all are assumed");

    let planned = plan(Regenerate { config: CONFIG, ..Regenerate::default() }).expect("the config tells");
    let fields = planned["reconstruction"]["fields"].as_array().expect("fields");
    let version = fields.iter().find(|field| field["path"] == "kubernetesVersion").expect("a version");
    assert_eq!(
        (&version["value"], &version["origin"]),
        (&json!("v1.36.2"), &json!({"source": "caller"})),
        "{planned}"
    );
    let failed = plan(Regenerate { config: "kind: [", ..Regenerate::default() }).expect_err("no config");
    assert!(failed.kind == "invalid" && failed.message.contains("the caller's config"), "{failed:?}");
    assert!(!site.manifests().join("kube-scheduler.yaml").exists(), "a plan writes nothing");
}

pub(crate) fn the_callers_word_lets_an_added_etcd_member_start<S: Cprecover>() {
    let site = site();
    let node = open::<S>(&site);
    for (etcd_member_just_added, outcome) in [(false, "refuse"), (true, "warn")] {
        let given = Regenerate { config: CONFIG, etcd_member_just_added, ..Regenerate::default() };
        let planned = node.plan_regeneration("etcd", given).expect("a plan");
        let checks = planned["checks"].as_array().expect("checks");
        let data = checks.iter().find(|check| check["name"] == "etcd-data").expect("the check");
        assert_eq!(data["outcome"], outcome, "{planned}");
        let objections = planned["objections"].as_array().expect("objections").iter();
        let of_data = objections.filter_map(Value::as_str).any(|text| text.contains("etcd-data"));
        assert_eq!(of_data, !etcd_member_just_added, "{planned}");
    }
}

/// Nobody who asks is told something else.
#[test]
fn both_plan_the_same() {
    let site = site();
    let (native, c) = (open::<Native>(&site), open::<C>(&site));
    for (component, given) in [
        ("kube-scheduler", Regenerate::default()),
        ("kube-scheduler", Regenerate { config: CONFIG, ..Regenerate::default() }),
        ("kube-scheduler", Regenerate { config: "kind: [", ..Regenerate::default() }),
        ("kube-scheduler", Regenerate { assume_defaults: &UNKNOWN, ..Regenerate::default() }),
        ("etcd", Regenerate { config: CONFIG, etcd_member_just_added: true, ..Regenerate::default() }),
    ] {
        let (a, b) = (native.plan_regeneration(component, given), c.plan_regeneration(component, given));
        assert_eq!(a, b, "{component} {given:?}");
    }
}

/// Flags and sizes that Rust cannot say, or bounds by its memory.
#[test]
fn c_is_refused_what_is_unknown_or_too_large() {
    let site = site();
    let node = open::<C>(&site);
    let config = Regenerate { config: CONFIG, ..Regenerate::default() };
    for flags in [cprecover_ffi::CPR_DRY_RUN, cprecover_ffi::CPR_ACCEPT_REGENERATED_CHANGES, 1 << 63] {
        let made = node.regeneration_with("kube-scheduler", config, flags).map(drop);
        assert_eq!(kind(made), "unsupported", "{flags:#x}");
    }
    let large = "#".repeat((1 << 20) + 1);
    let large = Regenerate { config: &large, ..Regenerate::default() };
    assert_eq!(kind(node.plan_regeneration("kube-scheduler", large)), "limit");
    let names = vec!["scheduler.extraArgs"; 1000];
    let names = Regenerate { assume_defaults: &names, ..Regenerate::default() };
    assert_eq!(kind(node.plan_regeneration("kube-scheduler", names)), "limit");
}
