//! The judgement of port holders, over the recorded incidents.

#![allow(clippy::indexing_slicing, reason = "a panic is how a test fails")]

use cprecover::cri::RuntimeState;
use cprecover::model::{Component, ContainerId, Observed, Pid};
use cprecover::node::PodIdentity;
use cprecover::parse::manifest::StaticPod;
use cprecover::ports::{
    Action, Class, Evidence, IdentityProof, NodeFacts, PodFacts, RuntimeFacts, Verdict, judge,
};
use serde_json::{Value, json};

const ETCD_POD: &str = "b861a3bef24128f124b376302f365ff0";
const ORPHAN: &str = "4280f16b89155464690954f3902c3119d8b0cd736da19095c597d000c730a2b4";
const ORPHANS_SANDBOX: &str = "e0b1c1e4a8f24e0f9d8c7b6a5948372615f4e3d2c1b0a9f8e7d6c5b4a3928170";
const STALE: &str = "495582fcc480";
const STALE_SANDBOX: &str = "104e3ec5b5f9afa78c46da67a1c8f43354e3ea76b2dda33d52dc52e4cdc18d3e";
const NEWEST_SANDBOX: &str = "7a76df4536112b4310e3857a55452fcaba8eb74bbc323c87444c0225a5077127";
const DATABASE: (u64, u64) = (2049, 131_072);

/// Reads a recorded `crictl pods` and `crictl ps -a`.
fn recorded(pods: &str, containers: &str) -> RuntimeFacts {
    let read = |text: &str| serde_json::from_str::<Value>(text).expect("recorded JSON");
    let state = |value: &Value, prefix: &str| {
        value
            .as_str()
            .expect("a state")
            .strip_prefix(prefix)
            .expect("its prefix")
            .to_lowercase()
            .replace("notready", "not-ready")
    };
    let sandboxes: Vec<Value> = read(pods)["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| {
            json!({
                "id": item["id"], "podName": item["metadata"]["name"], "namespace": item["metadata"]["namespace"],
                "uid": item["metadata"]["uid"], "attempt": item["metadata"]["attempt"],
                "state": state(&item["state"], "SANDBOX_"), "createdAt": item["createdAt"],
                "labels": item["labels"], "annotations": item["annotations"],
            })
        })
        .collect();
    let containers: Vec<Value> = read(containers)["containers"]
        .as_array()
        .expect("containers")
        .iter()
        .map(|item| {
            json!({
                "id": item["id"], "sandbox": item["podSandboxId"], "name": item["metadata"]["name"],
                "attempt": item["metadata"]["attempt"], "state": state(&item["state"], "CONTAINER_"),
                "createdAt": item["createdAt"], "image": item["image"]["userSpecifiedImage"],
            })
        })
        .collect();
    let state = json!({ "sandboxes": sandboxes, "containers": containers });
    let state: RuntimeState = serde_json::from_value(state).expect("the runtime's lists");
    RuntimeFacts { state, ..RuntimeFacts::default() }
}

fn orphan_incident() -> RuntimeFacts {
    recorded(
        include_str!("../testdata/incident-orphan/crictl-pods.json"),
        include_str!("../testdata/incident-orphan/crictl-ps.json"),
    )
}

fn deadlock_incident() -> RuntimeFacts {
    recorded(
        include_str!("../testdata/incident-deadlock/crictl-pods.json"),
        include_str!("../testdata/incident-deadlock/crictl-ps.json"),
    )
}

fn container(facts: &RuntimeFacts, prefix: &str) -> ContainerId {
    let mut ids = facts.state.containers.iter().map(|container| container.id.clone());
    ids.find(|id| id.as_str().starts_with(prefix)).expect("recorded")
}

fn ancestor(pid: i32, comm: &str, cgroup: &str, shim: &Value) -> Value {
    json!({
        "process": { "pid": pid, "start_ticks": 5 }, "comm": comm,
        "cgroup": { "state": "present", "value": { "path": cgroup, "v2": true } }, "shim": shim,
    })
}

/// The recorded orphan: etcd on 10.10.17.210:2380, its parent PID 1.
fn etcd_in(cgroup: &str) -> Value {
    json!({
        "process": { "pid": 4180, "start_ticks": 12345 }, "gone": false, "comm": "etcd",
        "exe": { "state": "present", "value": { "path": "/usr/local/bin/etcd", "deleted": false } },
        "commandLine": { "state": "present", "value": ["etcd", "--data-dir=/var/lib/etcd"] },
        "uid": { "state": "present", "value": 0 }, "state": "alive",
        "cgroup": { "state": "present", "value": { "path": cgroup, "v2": true } },
        "ancestors": [ancestor(1, "systemd", "/init.scope", &Value::Null)],
        "namespacePids": [4180, 1],
        "listeners": [{ "address": "10.10.17.210:2380", "v6Only": false, "inode": 777, "uid": 0,
                        "cgroupId": 9, "interface": 0 }],
        "dataDir": "/var/lib/etcd",
        "dataDirLock": { "state": "present", "value": {
            "db": "/var/lib/etcd/member/snap/db", "file": [DATABASE.0, DATABASE.1], "held": true } },
        "healthy": { "state": "unknown", "value": "it was not asked" },
    })
}

fn pod_path(id: &str) -> String {
    format!("/kubepods/burstable/pod{ETCD_POD}/{id}")
}

fn shim(sandbox: &str) -> Value {
    ancestor(4100, "containerd-shim", "/system.slice/containerd.service", &json!({ "serves": sandbox }))
}

fn evidence(value: Value) -> Evidence {
    serde_json::from_value(value).expect("evidence")
}

/// What the recorded etcd manifest says.
fn node() -> NodeFacts {
    let manifest = include_bytes!("../testdata/kubeadm-1.36/manifests/etcd.yaml");
    let pod = StaticPod::parse(manifest).expect("the recorded manifest");
    let facts = PodFacts::of_manifest(&pod, Observed::Present(DATABASE)).expect("a component's");
    NodeFacts { pods: vec![facts], pod_identity: PodIdentity::Cgroup, expected: Some(Component::Etcd) }
}

fn judged(value: Value, runtime: &RuntimeFacts) -> Verdict {
    judge(&evidence(value), Ok(runtime), &node())
}

fn missing(verdict: &Verdict) -> &str {
    assert_eq!(verdict.action, Action::Refuse, "{verdict:?}");
    match &verdict.class {
        Class::Unproven { missing } => missing,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_recorded_orphan_is_terminated() {
    let verdict = judged(etcd_in(&pod_path(ORPHAN)), &orphan_incident());
    let wanted =
        Class::Orphan { component: Some(Component::Etcd), container: Some(ContainerId::new(ORPHAN)) };
    assert_eq!((&verdict.class, &verdict.action), (&wanted, &Action::Terminate));
    assert_eq!(verdict.proof, IdentityProof::Cgroup);
    let words = verdict.evidence.join("\n");
    for word in [
        "pid 4180",
        "/usr/local/bin/etcd",
        "10.10.17.210:2380 (socket 777)",
        ETCD_POD,
        ORPHAN,
        "lists no container",
        "parent is pid 1 (systemd)",
        "holds the lock on /var/lib/etcd/member/snap/db",
        "below the manifest's data directory",
    ] {
        assert!(words.contains(word), "{word:?} is not in\n{words}");
    }
}

#[test]
fn an_orphan_under_a_shim_that_the_runtime_forgot_is_terminated() {
    let mut value = etcd_in(&pod_path(ORPHAN));
    value["ancestors"] = json!([shim(ORPHANS_SANDBOX), ancestor(1, "systemd", "/init.scope", &Value::Null)]);
    assert_eq!(judged(value, &orphan_incident()).action, Action::Terminate);
}

/// The recorded lists, as told by a runtime of this name.
fn asked(name: &str) -> RuntimeFacts {
    RuntimeFacts { name: Some(name.to_owned()), ..orphan_incident() }
}

fn sliced(scope: &str) -> String {
    format!(
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{ETCD_POD}.slice/{scope}-{ORPHAN}.scope"
    )
}

#[test]
fn the_lists_of_another_runtime_make_no_orphan() {
    for (scope, own) in [("cri-containerd", "containerd"), ("crio", "cri-o"), ("docker", "docker")] {
        for name in ["containerd", "cri-o", "docker", "another", ""] {
            let verdict = judged(etcd_in(&sliced(scope)), &asked(name));
            if name == own {
                assert_eq!(verdict.action, Action::Terminate, "{scope} {name}");
            } else {
                assert!(missing(&verdict).contains("calls itself"), "{scope} {name}");
            }
        }
        assert!(
            missing(&judged(etcd_in(&sliced(scope)), &orphan_incident())).contains("calls itself nothing")
        );
    }
    // CRI-O names its cgroups with the cgroupfs driver too.
    assert!(missing(&judged(etcd_in(&pod_path(ORPHAN)), &asked("cri-o"))).contains("not named by CRI-O"));
    for name in ["containerd", "docker"] {
        assert_eq!(judged(etcd_in(&pod_path(ORPHAN)), &asked(name)).action, Action::Terminate);
    }
}

#[test]
fn the_shim_of_another_runtime_makes_no_orphan() {
    let under = |comm: &str, namespace: Value, name: &str| {
        let shim = json!({ "serves": ORPHANS_SANDBOX, "namespace": namespace });
        let mut value = etcd_in(&pod_path(ORPHAN));
        value["ancestors"] = json!([ancestor(4100, comm, "/system.slice/x.service", &shim)]);
        judged(value, &asked(name))
    };
    for (comm, namespace, own) in [
        ("containerd-shim", json!("k8s.io"), "containerd"),
        ("containerd-shim", json!("moby"), "docker"),
        ("docker-containe", json!(null), "docker"),
    ] {
        for name in ["containerd", "docker"] {
            let verdict = under(comm, namespace.clone(), name);
            if name == own {
                assert_eq!(verdict.action, Action::Terminate, "{comm} {namespace} {name}");
            } else {
                assert!(missing(&verdict).contains("calls itself"), "{comm} {namespace} {name}");
            }
        }
    }
    assert!(missing(&under("conmon", json!(null), "containerd")).contains("its shim is one of CRI-O"));
    assert!(
        missing(&under("containerd-shim", json!("buildkit"), "containerd")).contains("namespace buildkit")
    );
    // A runtime that is built on containerd, as the stand-in of the drill is.
    assert_eq!(under("containerd-shim", json!("k8s.io"), "another").action, Action::Terminate);
    let mut value = etcd_in(&sliced("crio"));
    value["ancestors"] = json!([ancestor(4100, "conmon", "/", &json!({ "serves": ORPHAN }))]);
    assert_eq!(judged(value, &asked("cri-o")).action, Action::Terminate);
}

#[test]
fn a_wrapper_inside_the_container_is_not_taken_for_its_parent() {
    let mut value = etcd_in(&pod_path(ORPHAN));
    value["ancestors"] = json!([
        ancestor(4170, "sh", &pod_path(ORPHAN), &Value::Null),
        ancestor(1, "systemd", "/init.scope", &Value::Null)
    ]);
    assert_eq!(judged(value, &orphan_incident()).action, Action::Terminate);
}

#[test]
fn an_exited_container_whose_process_lives_is_an_orphan() {
    let facts = orphan_incident();
    let exited = container(&facts, "4514687479b8");
    let verdict = judged(etcd_in(&pod_path(exited.as_str())), &facts);
    assert_eq!(verdict.action, Action::Terminate, "{verdict:?}");
    assert!(verdict.evidence.iter().any(|words| words.contains("exited")));
}

#[test]
fn a_shim_that_the_runtime_knows_is_the_runtimes_to_stop() {
    let mut value = etcd_in(&pod_path(ORPHAN));
    value["ancestors"] = json!([shim("32275f73372cd4e256f0932a24d6a4e405f718cf912eee2720ed61c37ad91b54")]);
    assert!(missing(&judged(value.clone(), &orphan_incident())).contains("let the runtime stop it"));
    value["ancestors"] = json!([ancestor(4100, "containerd-shim", "/", &json!({ "serves": null }))]);
    assert!(missing(&judged(value.clone(), &orphan_incident())).contains("do not say whom it serves"));
    value["ancestors"] = json!([ancestor(4100, "bash", "/", &Value::Null)]);
    assert!(missing(&judged(value.clone(), &orphan_incident())).contains("neither PID 1 nor a shim"));
    value["ancestors"] = json!([]);
    assert!(missing(&judged(value, &orphan_incident())).contains("not visible"));
}

#[test]
fn the_recorded_deadlock_is_a_sandbox_to_remove_and_no_process_to_signal() {
    let facts = deadlock_incident();
    let stale = container(&facts, STALE);
    let mut value = etcd_in(&pod_path(stale.as_str()));
    value["ancestors"] = json!([shim(STALE_SANDBOX), ancestor(1, "systemd", "/init.scope", &Value::Null)]);
    let verdict = judged(value, &facts);
    match &verdict.class {
        Class::Stale { container, sandbox, newest, same_config } => {
            assert_eq!(*container, stale);
            assert_eq!((sandbox.as_str(), newest.as_str()), (STALE_SANDBOX, NEWEST_SANDBOX));
            assert!(!same_config);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        verdict.action,
        Action::RemoveSandbox { sandbox: cprecover::model::SandboxId::new(STALE_SANDBOX) }
    );
    assert!(verdict.evidence.iter().any(|words| words.contains("another manifest")), "{verdict:?}");
}

/// The recorded deadlock, where the runtime tells that the stale container runs what the manifest in place says,
/// and the newest one `newest`.
fn changed_and_changed_back(newest: Option<&[&str]>) -> (RuntimeFacts, Value) {
    let mut facts = deadlock_incident();
    let (stale, next) = (container(&facts, STALE), container(&facts, "621239f14a67"));
    facts.state.arguments.insert(stale.clone(), node().pods[0].argv.clone());
    if let Some(words) = newest {
        facts.state.arguments.insert(next, words.iter().map(|&word| word.to_owned()).collect());
    }
    (facts, etcd_in(&pod_path(stale.as_str())))
}

#[test]
fn what_the_manifest_in_place_asks_for_is_not_stale_because_something_is_newer() {
    let manifest = node().pods[0].argv.clone();
    let manifest: Vec<&str> = manifest.iter().map(String::as_str).collect();
    // The manifest was changed and changed back: kubelet took up the older sandbox again.
    let (facts, value) = changed_and_changed_back(Some(&["etcd", "--data-dir=/wrong"]));
    assert!(missing(&judged(value, &facts)).contains("changed back"));
    // What is not known is not taken for different.
    let (facts, value) = changed_and_changed_back(None);
    assert!(missing(&judged(value, &facts)).contains("is not known"));
    let (mut facts, value) = changed_and_changed_back(Some(&manifest));
    facts.state.containers.retain(|known| known.sandbox.as_str() != NEWEST_SANDBOX);
    assert!(missing(&judged(value, &facts)).contains("no container yet"));
    // Another part of the manifest was changed.
    let (facts, value) = changed_and_changed_back(Some(&manifest));
    assert!(matches!(judged(value, &facts).action, Action::RemoveSandbox { .. }));
    // The same arguments of another image.
    let (mut facts, value) = changed_and_changed_back(Some(&manifest));
    for known in facts.state.containers.iter_mut().filter(|known| known.sandbox.as_str() == NEWEST_SANDBOX) {
        known.image = "registry.k8s.io/etcd:3.5.21-0".into();
    }
    assert!(missing(&judged(value, &facts)).contains("newer sandbox's container are not"));
    // Without what the runtime tells, the holder's own command line tells.
    let (mut facts, mut value) = changed_and_changed_back(None);
    facts.state.arguments.clear();
    value["commandLine"]["value"] = json!(manifest);
    assert!(missing(&judged(value.clone(), &facts)).contains("is not known"));
    value["commandLine"] = json!({ "state": "unknown", "value": "permission denied" });
    assert!(missing(&judged(value, &facts)).contains("is not known"));
}

#[test]
fn a_newer_sandbox_that_is_not_ready_replaces_nothing() {
    let mut facts = deadlock_incident();
    let stale = container(&facts, STALE);
    for sandbox in &mut facts.state.sandboxes {
        if sandbox.id.as_str() == NEWEST_SANDBOX {
            sandbox.state = cprecover::cri::SandboxState::NotReady;
        }
    }
    assert!(missing(&judged(etcd_in(&pod_path(stale.as_str())), &facts)).contains("is not ready"));
}

#[test]
fn the_live_container_of_the_newest_sandbox_is_left_alone() {
    let mut facts = deadlock_incident();
    // Without the newer sandbox, the same container is the one that should run.
    facts.state.sandboxes.retain(|sandbox| sandbox.id.as_str() != NEWEST_SANDBOX);
    let live = container(&facts, STALE);
    let verdict = judged(etcd_in(&pod_path(live.as_str())), &facts);
    assert_eq!(verdict.action, Action::Leave);
    assert!(matches!(&verdict.class, Class::Live { sandbox, .. } if sandbox.as_str() == STALE_SANDBOX));
}

#[test]
fn a_clock_that_was_set_back_proves_no_order() {
    let mut facts = deadlock_incident();
    for sandbox in &mut facts.state.sandboxes {
        // Attempt 1 of the same pod seems younger than attempt 2.
        if sandbox.id.as_str().starts_with("32275f73372c") {
            sandbox.created_at = cprecover::cri::UnixNanos(i64::MAX);
        }
    }
    let stale = container(&facts, STALE);
    assert!(missing(&judged(etcd_in(&pod_path(stale.as_str())), &facts)).contains("clock"));
}

#[test]
fn without_the_runtime_nothing_is_proven() {
    let value = etcd_in(&pod_path(ORPHAN));
    let verdict = judge(&evidence(value), Err("connect: no such socket"), &node());
    assert!(missing(&verdict).contains("no such socket"));
    assert_eq!(verdict.proof, IdentityProof::Cgroup);
}

#[test]
fn unreadable_facts_are_never_absent_ones() {
    let denied = json!({ "state": "unknown", "value": "permission denied" });
    for field in ["cgroup", "exe", "dataDirLock"] {
        let mut value = etcd_in(&pod_path(ORPHAN));
        value[field] = denied.clone();
        let verdict = judged(value, &orphan_incident());
        assert!(missing(&verdict).contains("permission denied"), "{field}: {verdict:?}");
    }
}

#[test]
fn units_and_other_cgroups_are_refused_by_name() {
    for (path, unit) in [("/system.slice/etcd.service", Some("etcd.service")), ("/docker/0123", None)] {
        let verdict = judged(etcd_in(path), &orphan_incident());
        assert_eq!(verdict.action, Action::Refuse);
        match &verdict.class {
            Class::Unit { unit: told, cgroup } => {
                assert_eq!(told.as_ref().map(|unit| unit.0.as_str()), unit);
                assert_eq!(cgroup, path);
            }
            other => panic!("{other:?}"),
        }
        assert!(verdict.evidence.iter().any(|words| words.contains(unit.unwrap_or(path))));
    }
}

#[test]
fn foreign_programs_are_refused_by_name() {
    let mut value = etcd_in(&pod_path(ORPHAN));
    value["comm"] = json!("nginx");
    value["exe"]["value"]["path"] = json!("/usr/sbin/nginx");
    let mut facts = node();
    for expected in [Some(Component::Etcd), None] {
        facts.expected = expected;
        let verdict = judge(&evidence(value.clone()), Ok(&orphan_incident()), &facts);
        assert_eq!(verdict.action, Action::Refuse);
        assert!(
            matches!(&verdict.class, Class::Foreign { program } if program.contains("nginx")),
            "{verdict:?}"
        );
    }
    // A component, but not the expected one.
    facts.expected = Some(Component::KubeApiserver);
    let verdict = judge(&evidence(etcd_in(&pod_path(ORPHAN))), Ok(&orphan_incident()), &facts);
    assert!(matches!(verdict.class, Class::Foreign { .. }), "{verdict:?}");
    // In no pod and no unit: even an etcd.
    let verdict = judged(etcd_in("/"), &orphan_incident());
    assert!(matches!(verdict.class, Class::Foreign { .. }), "{verdict:?}");
}

#[test]
fn one_that_is_gone_is_looked_for_again() {
    let mut value = etcd_in(&pod_path(ORPHAN));
    value["gone"] = json!(true);
    let verdict = judged(value, &orphan_incident());
    assert_eq!((verdict.class, verdict.action), (Class::Gone, Action::Retry));
}

#[test]
fn an_etcd_with_another_database_than_the_manifests_is_not_the_manifests() {
    let mut value = etcd_in(&pod_path(ORPHAN));
    value["dataDirLock"]["value"]["file"] = json!([2049, 1]);
    assert!(missing(&judged(value, &orphan_incident())).contains("not the one below"));
}

#[test]
fn an_etcd_whose_open_database_may_be_the_last_copy_is_not_ended() {
    let mut facts = node();
    for (database, why) in [
        (Observed::Absent, "is no database"),
        (Observed::Unknown("input/output error".to_owned()), "input/output error"),
    ] {
        facts.pods[0].database = database;
        let verdict = judge(&evidence(etcd_in(&pod_path(ORPHAN))), Ok(&orphan_incident()), &facts);
        assert!(missing(&verdict).contains(why), "{verdict:?}");
    }
    // Deleted while it runs: whatever the manifest says or whether there is one.
    let mut value = etcd_in(&pod_path(ORPHAN));
    value["dataDirLock"]["value"]["lastCopy"] = json!("/proc/4180/fd/9");
    for pods in [node().pods, Vec::new()] {
        facts.pods = pods;
        let verdict = judge(&evidence(value.clone()), Ok(&orphan_incident()), &facts);
        assert!(missing(&verdict).contains("cp /proc/4180/fd/9"), "{verdict:?}");
        assert!(verdict.evidence.iter().any(|words| words.contains("was deleted")), "{verdict:?}");
    }
}

#[test]
fn the_manifest_proves_a_holder_only_where_it_may_and_only_with_all_three() {
    let mut facts = node();
    facts.pods[0].listeners = vec!["10.10.17.210:2380".parse().expect("an address")];
    let runtime = orphan_incident();
    let look = |value: &Value, facts: &NodeFacts| judge(&evidence(value.clone()), Ok(&runtime), facts);
    let value = etcd_in("/user.slice/user-1000.slice/session-1.scope");
    assert!(matches!(look(&value, &facts).class, Class::Unit { .. }));
    facts.pod_identity = PodIdentity::CgroupOrManifest;
    let verdict = look(&value, &facts);
    assert_eq!(
        (&verdict.action, verdict.proof),
        (&Action::Terminate, IdentityProof::Manifest),
        "{verdict:?}"
    );
    assert!(verdict.evidence.iter().any(|words| words.contains("match the manifest of etcd")));

    let mut other = value.clone();
    other["exe"]["value"]["path"] = json!("/usr/bin/other");
    assert_eq!(look(&other, &facts).action, Action::Refuse);
    let mut other = value.clone();
    other["listeners"][0]["address"] = json!("127.0.0.1:2380");
    assert_eq!(look(&other, &facts).action, Action::Refuse);
    for lock in [json!({ "state": "absent" }), json!({ "state": "unknown", "value": "denied" })] {
        let mut other = value.clone();
        other["dataDirLock"] = lock;
        assert_eq!(look(&other, &facts).action, Action::Refuse);
    }
    let mut other = value.clone();
    other["dataDirLock"]["value"]["held"] = json!(false);
    assert_eq!(look(&other, &facts).action, Action::Refuse);
    let mut unread = facts.clone();
    unread.pods[0].database = Observed::Unknown("denied".into());
    assert_eq!(look(&value, &unread).action, Action::Refuse);
}

#[test]
fn without_a_cgroup_the_runtimes_pids_tell_a_live_container_from_an_orphan() {
    let mut facts = node();
    facts.pods[0].listeners = vec!["10.10.17.210:2380".parse().expect("an address")];
    facts.pod_identity = PodIdentity::CgroupOrManifest;
    let mut runtime = deadlock_incident();
    let value = etcd_in("/");
    // A running etcd container whose pid is not told might be this one.
    let verdict = judge(&evidence(value.clone()), Ok(&runtime), &facts);
    assert!(missing(&verdict).contains("does not tell its pid"));
    let running = container(&runtime, STALE);
    runtime.pids.insert(running.clone(), Pid::new(4180).expect("positive"));
    let verdict = judge(&evidence(value.clone()), Ok(&runtime), &facts);
    assert!(matches!(verdict.class, Class::Stale { .. }), "{verdict:?}");
    // Its child counts as well.
    let mut child = value.clone();
    child["process"]["pid"] = json!(5000);
    child["ancestors"] =
        json!([ancestor(4180, "sh", "/", &Value::Null), ancestor(1, "init", "/", &Value::Null)]);
    let verdict = judge(&evidence(child), Ok(&runtime), &facts);
    assert!(matches!(verdict.class, Class::Stale { .. }), "{verdict:?}");
    // The container that runs is another process.
    runtime.pids.insert(running, Pid::new(6000).expect("positive"));
    let verdict = judge(&evidence(value), Ok(&runtime), &facts);
    assert_eq!(verdict.action, Action::Terminate, "{verdict:?}");
}

#[test]
fn a_container_that_the_runtime_runs_without_a_pod_cgroup_is_known_by_its_pid() {
    let facts = node();
    let mut runtime = deadlock_incident();
    let value = etcd_in("/user.slice/user-1000.slice/session-1.scope");
    let verdict = judge(&evidence(value.clone()), Ok(&runtime), &facts);
    assert!(matches!(verdict.class, Class::Unit { .. }), "{verdict:?}");
    let mut running = container(&runtime, STALE);
    let own = runtime.state.container(&running).and_then(|stale| runtime.state.sandbox_of(stale));
    let pod = own.expect("listed").pod_name.clone();
    let newest = runtime.state.newest_sandbox("kube-system", &pod).expect("a sandbox").id.clone();
    for (class, sandbox) in [("stale", None), ("live", Some(newest))] {
        if let Some(sandbox) = sandbox {
            let entry =
                runtime.state.containers.iter_mut().find(|entry| entry.id == running).expect("listed");
            entry.sandbox = sandbox;
            running = entry.id.clone();
        }
        runtime.pids.insert(running.clone(), Pid::new(4180).expect("positive"));
        let verdict = judge(&evidence(value.clone()), Ok(&runtime), &facts);
        assert_eq!(verdict.proof, IdentityProof::Runtime, "{verdict:?}");
        let found = serde_json::to_value(&verdict.class).expect("serialises");
        assert_eq!(found["kind"], class, "{verdict:?}");
        assert_ne!(verdict.action, Action::Terminate);
    }
}

#[test]
fn what_is_in_the_pod_but_in_no_container_is_not_ended() {
    let facts = orphan_incident();
    let pod = format!("/kubepods/burstable/pod{ETCD_POD}");
    assert!(missing(&judged(etcd_in(&pod), &facts)).contains("in no container"));
    let sandbox = facts.state.sandboxes[0].id.clone();
    assert!(missing(&judged(etcd_in(&pod_path(sandbox.as_str())), &facts)).contains("the sandbox"));
}

#[test]
fn a_created_container_and_one_without_a_listed_sandbox_are_not_judged() {
    let mut facts = deadlock_incident();
    let stale = container(&facts, STALE);
    facts.state.sandboxes.retain(|sandbox| sandbox.id.as_str() != STALE_SANDBOX);
    assert!(
        missing(&judged(etcd_in(&pod_path(stale.as_str())), &facts)).contains("does not list its sandbox")
    );
    for container in &mut facts.state.containers {
        if container.id == stale {
            container.state = cprecover::cri::ContainerState::Created;
        }
    }
    assert!(missing(&judged(etcd_in(&pod_path(stale.as_str())), &facts)).contains("created"));
}

#[test]
fn a_verdict_survives_json() {
    let verdict = judged(etcd_in(&pod_path(ORPHAN)), &orphan_incident());
    let text = serde_json::to_string(&verdict).expect("serialises");
    assert!(
        text.contains(r#""class":{"kind":"orphan""#) && text.contains(r#""action":{"kind":"terminate"}"#),
        "{text}"
    );
    assert_eq!(serde_json::from_str::<Verdict>(&text).expect("reads back"), verdict);
}
