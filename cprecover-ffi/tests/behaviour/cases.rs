//! What must be true of any way into the library.

use std::net::TcpListener;

use cprecover::policy::{LoadOptions, Policy, PolicyCache};
use serde_json::{Value, json};

use crate::node::{Broken, ETCD, Member, Site};
pub(crate) use crate::regeneration::{
    a_config_or_assumed_defaults_make_up_for_unknown_values, regeneration_needs_a_kubeadm,
    the_callers_word_lets_an_added_etcd_member_start,
};
use crate::surface::{Answer, Bounds, Cprecover, Failed, Process, Regenerate, Restore, Trust};

pub(crate) fn open<S: Cprecover>(site: &Site) -> S {
    S::open(site.root(), "").expect("a node")
}

pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T, Failed>) -> String {
    let failed = result.expect_err("this must fail");
    assert!(!failed.message.is_empty() && !failed.message.contains('\n'), "one line: {}", failed.message);
    failed.kind
}

/// A port that this process listens on.
fn listening() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    (listener, port)
}

pub(crate) fn a_root_must_be_absolute_and_a_config_whole<S: Cprecover>() {
    assert_eq!(kind(S::open("relative".as_ref(), "").map(drop)), "invalid");
    let site = Site::new();
    assert_eq!(kind(S::open(site.root(), "graceSeconds: soon").map(drop)), "invalid");
    assert_eq!(kind(S::open(site.root(), "noSuchOption: 1").map(drop)), "invalid");
    assert!(S::open("/nonexistent".as_ref(), "").is_ok(), "opening reads nothing but the configuration");
}

pub(crate) fn the_options_in_force_are_those_of_the_config<S: Cprecover>() {
    let site = Site::new();
    let options = S::open(site.root(), "graceSeconds: 77\nnodeName: cp-1\n").expect("a node");
    let options = options.node_options().expect("options");
    assert_eq!((&options["graceSeconds"], &options["nodeName"]), (&json!(77), &json!("cp-1")));
    // The file below the root is read when no configuration is given.
    std::fs::create_dir_all(site.root().join("etc/cprecover")).expect("a folder");
    std::fs::write(site.root().join("etc/cprecover/config.yaml"), "graceSeconds: 78\n").expect("a file");
    assert_eq!(open::<S>(&site).node_options().expect("options")["graceSeconds"], 78);
}

pub(crate) fn health_answers_are_judged<S: Cprecover>() {
    let failed = b"[+]ping ok\n[-]etcd failed: reason withheld\nhealthz check failed\n";
    for (status, body, verdict) in [
        (200, &b"ok"[..], "healthy"),
        (500, failed, "unhealthy"),
        (0, failed, "unhealthy"),
        (403, br#"{"kind":"Status","code":403}"#, "alive-undetermined"),
        (0, b"", "unknown"),
        (0, &[0xff; 4096], "unknown"),
    ] {
        let report = S::health(status, body).expect("any bytes are fine");
        assert_eq!(report["verdict"], verdict, "{status} {}", String::from_utf8_lossy(body));
    }
    let checks = S::health(500, failed).expect("a report")["checks"].take();
    assert_eq!((&checks[0]["name"], &checks[1]["name"]), (&json!("ping"), &json!("etcd")));
}

pub(crate) fn a_free_port_and_a_held_one<S: Cprecover>() {
    let (site, (listener, port)) = (Site::new(), listening());
    let node = open::<S>(&site);
    let report = node.port(port, "127.0.0.1", "etcd", Bounds::usual()).expect("a report");
    assert_eq!((&report["state"], &report["wantedBy"]), (&json!("held"), &json!("etcd")), "{report}");
    assert_eq!(report["holders"][0]["evidence"]["process"]["pid"], std::process::id(), "{report}");
    drop(listener);
    let report = node.port(port, "", "", Bounds::usual()).expect("a report");
    assert_eq!((&report["state"], &report["holders"]), (&json!("free"), &json!([])), "{report}");
    let report = node.port(port, "203.0.113.7", "", Bounds::usual()).expect("a report");
    assert_eq!(report["state"], "address-not-on-host", "{report}");
}

pub(crate) fn only_a_proven_orphan_is_ended<S: Cprecover>() {
    let (site, (_listener, port)) = (Site::new(), listening());
    let node = open::<S>(&site);
    let report = node.port(port, "", "", Bounds::usual()).expect("a report");
    let own = &report["holders"][0]["evidence"]["process"];
    let pid = i32::try_from(own["pid"].as_i64().expect("a pid")).expect("a pid");
    let own = Process { pid, start_ticks: own["start_ticks"].as_u64().expect("ticks") };
    for dry_run in [true, false] {
        assert_eq!(kind(node.terminate(port, own, dry_run)), "refused", "this test is no orphan");
        let earlier = Process { start_ticks: own.start_ticks - 1, ..own };
        assert_eq!(kind(node.terminate(port, earlier, dry_run)), "changed", "another process with that pid");
        let init = Process { pid: 1, start_ticks: 1 };
        assert_eq!(kind(node.terminate(port, init, dry_run)), "changed", "pid 1 does not hold the port");
    }
}

pub(crate) fn a_snapshot_is_made_listed_and_verified<S: Cprecover>() {
    let site = Site::new();
    let node = open::<S>(&site);
    assert_eq!(kind(node.verify("latest", Bounds::usual())), "not-found");
    let made = node.backup("test", false, Bounds::usual()).expect("a snapshot");
    assert_eq!((&made["reason"], &made["healthVerified"]), (&json!("test"), &json!(false)), "{made}");
    let again = node.backup("test", true, Bounds::usual()).expect("the same snapshot");
    assert_eq!(again["id"], made["id"], "nothing has changed");
    std::fs::write(site.manifest(), format!("{ETCD}# changed\n")).expect("a change");
    let changed = node.backup("test", true, Bounds::usual()).expect("another snapshot");
    assert_ne!(changed["id"], made["id"]);
    let listed = node.backups().expect("a list");
    let ids: Vec<&Value> =
        listed["snapshots"].as_array().expect("a list").iter().map(|listed| &listed["id"]).collect();
    assert_eq!(ids, [&made["id"], &changed["id"]], "oldest first");
    for id in ["latest", changed["id"].as_str().expect("an id"), "2"] {
        let report = node.verify(id, Bounds::usual()).expect("a report");
        assert_eq!((&report["id"], &report["damage"]), (&changed["id"], &json!([])), "{report}");
    }
    assert_eq!(kind(node.verify("last-known-good", Bounds::usual())), "not-found");
    assert_eq!(
        kind(node.verify("no such id", Bounds::usual())),
        kind(node.restore("no such id", Restore::default()))
    );
}

pub(crate) fn damage_is_found_and_never_restored<S: Cprecover>() {
    let site = Site::new();
    let node = open::<S>(&site);
    let made = node.backup("test", false, Bounds::usual()).expect("a snapshot");
    let stored = made["entries"].as_array().expect("entries").iter();
    let stored = stored.filter_map(|entry| entry["stored"].as_str()).find(|path| path.ends_with("etcd.yaml"));
    let folder = site.store().join("snapshots").join(made["id"].as_str().expect("an id"));
    let file = folder.join(stored.expect("the manifest's copy"));
    let mut bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    bytes[10] ^= 1;
    std::fs::write(&file, &bytes).expect("one bit flipped");
    let report = node.verify("latest", Bounds::usual()).expect("damage is no error");
    assert!(!report["damage"].as_array().expect("damage").is_empty(), "{report}");
    std::fs::remove_file(site.manifest()).expect("lost");
    assert_eq!(kind(node.restore("latest", Restore::default())), "corrupt");
    assert!(!site.manifest().exists(), "nothing of a damaged snapshot is restored");
}

pub(crate) fn a_restore_is_all_or_nothing<S: Cprecover>() {
    let site = Site::new();
    let node = open::<S>(&site);
    node.backup("test", false, Bounds::usual()).expect("a snapshot");
    std::fs::remove_file(site.manifest()).expect("lost");
    let dry = node.restore("latest", Restore { dry_run: true, ..Restore::default() }).expect("a dry run");
    assert!(!site.manifest().exists(), "a dry run writes nothing");
    let done = node.restore("latest", Restore { component: "etcd", ..Restore::default() }).expect("restored");
    assert_eq!(dry["created"], done["created"]);
    assert_eq!(std::fs::read_to_string(site.manifest()).expect("back"), ETCD, "byte for byte");
    assert_eq!(
        kind(node.restore("latest", Restore { component: "kube-scheduler", ..Restore::default() })),
        "not-found"
    );
    node.restore("latest", Restore { below: "/tmp/elsewhere", ..Restore::default() }).expect("elsewhere");
    let elsewhere = site.root().join("tmp/elsewhere/etc/kubernetes/manifests/etcd.yaml");
    assert_eq!(std::fs::read_to_string(elsewhere).expect("a copy"), ETCD);
}

pub(crate) fn another_nodes_files_are_restored_only_on_purpose<S: Cprecover>() {
    let site = Site::new();
    let host = |name: &str| {
        std::fs::create_dir_all(site.root().join("etc")).expect("a folder");
        std::fs::write(site.root().join("etc/hostname"), name).expect("a name");
    };
    host("cp2");
    open::<S>(&site).backup("test", false, Bounds::usual()).expect("a snapshot of cp2");
    host("cp1");
    std::fs::remove_file(site.manifest()).expect("lost");
    let node = open::<S>(&site);
    assert_eq!(kind(node.restore("1", Restore::default())), "refused");
    assert!(!site.manifest().exists());
    node.restore("1", Restore { other_node: true, ..Restore::default() }).expect("on purpose");
    assert!(site.manifest().exists());
}

pub(crate) fn what_is_held_can_be_released<S: Cprecover>() {
    let site = Site::new();
    let node = open::<S>(&site);
    assert_eq!(node.held().expect("a list"), json!({"held": []}));
    for name in ["etcd", "etcd.yaml"] {
        let held = node.hold(name, "test").expect("held");
        assert_eq!(
            (&held["held"][0]["file"], &held["held"][0]["reason"]),
            (&json!("etcd.yaml"), &json!("test"))
        );
        assert!(!site.manifest().exists(), "out of kubelet's sight");
        assert_eq!(node.held().expect("a list")["held"].as_array().map(Vec::len), Some(1));
        node.release(name).expect("released");
        assert_eq!(std::fs::read_to_string(site.manifest()).expect("back"), ETCD, "byte for byte");
        assert_eq!(kind(node.release(name)), "not-found");
    }
    assert_eq!(kind(node.hold("kube-scheduler", "x")), "not-found");
    assert_eq!(kind(node.hold("../escape.yaml", "x")), "invalid");
}

pub(crate) fn policies_are_shipped_or_files_with_their_digest<S: Cprecover>() {
    let identity = S::policy("default", Trust::default()).expect("the default policy");
    assert_eq!(identity["name"], "default", "{identity}");
    assert_eq!(S::policy("observe-only", Trust::default()).expect("a policy")["name"], "observe-only");
    assert_eq!(kind(S::policy("no-such-policy", Trust::default())), "not-found");
    assert_eq!(kind(S::policy("/nonexistent/policy.wasm", Trust::default())), "not-found");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("policy.wasm");
    std::fs::write(&file, b"\0asm nonsense").expect("a file");
    let file = file.to_str().expect("utf-8");
    assert_eq!(kind(S::policy(file, Trust { sha256: &"0".repeat(64), ..Trust::default() })), "corrupt");
    assert_eq!(kind(S::policy(file, Trust { sha256: "no digest", ..Trust::default() })), "invalid");
    assert_eq!(kind(S::policy(file, Trust::default())), "policy");
}

/// Of an ed25519 key that signed nothing here (RFC 8410, 10.1).
const A_KEY: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
";

pub(crate) fn a_policy_is_trusted_by_key_and_taken_from_the_cache<S: Cprecover>() {
    let example =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/policies/rust/only-kubelet.wasm");
    let file = example.to_str().expect("utf-8");
    assert_eq!(kind(S::policy(file, Trust { key: A_KEY, ..Trust::default() })), "refused", "no signature");
    assert_eq!(kind(S::policy(file, Trust { key: "no key", ..Trust::default() })), "invalid");
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("cache");
    let mut options = LoadOptions::default();
    options.cache = Some(PolicyCache::create(&cache).expect("a cache"));
    let installed = Policy::install(&example, &options).expect("installed");
    let digest = installed.policy.identity().digest.expect("a file has one").to_string();
    let cache = cache.to_str().expect("utf-8");
    let trust = Trust { sha256: &digest, cache, ..Trust::default() };
    let by_digest = S::policy("", trust).expect("the installed policy");
    assert_eq!(by_digest, S::policy(file, trust).expect("the same by its file"));
    assert_eq!(by_digest["name"], "only-kubelet", "{by_digest}");
    let other = Trust { sha256: &"0".repeat(64), ..trust };
    assert_eq!(kind(S::policy("", other)), "not-found", "another digest");
    let entry = folder.path().join("cache").join(&installed.file);
    let mut bytes = std::fs::read(&entry).expect("an entry");
    *bytes.last_mut().expect("bytes") ^= 1;
    std::fs::write(&entry, bytes).expect("changed");
    assert_eq!(kind(S::policy("", trust)), "corrupt", "machine code of somebody else is not run");
}

pub(crate) fn pod_folders_are_judged_by_the_runtime_alone<S: Cprecover>() {
    let site = Site::new();
    let folder = site.root().join("var/lib/kubelet/pods/333ccb66-3eee-2c0b-4b9a-e7a6b3cc6b72");
    std::fs::create_dir_all(&folder).expect("a pod's folder");
    let node = open::<S>(&site);
    let failed = node.pods().expect_err("no runtime answers");
    assert_eq!(kind(node.quarantine(&[])), failed.kind, "nothing is known to be left over");
    assert!(folder.is_dir(), "it stands where it was");
    assert_eq!(kind(node.undo_quarantine("")), "not-found");
    assert_eq!(kind(node.undo_quarantine("/var/lib/kubelet")), "not-found");
}

pub(crate) fn data_of_etcd_are_judged_at_rest<S: Cprecover>() {
    let site = Site::new();
    let node = open::<S>(&site);
    let own = node.check_etcd("").expect("a verdict");
    assert_eq!(own["report"]["dataDir"], json!(site.root().join("var/lib/etcd")), "{own}");
    let empty = tempfile::tempdir().expect("a folder");
    let other = node.check_etcd(empty.path().to_str().expect("utf-8")).expect("a verdict");
    assert_eq!((&other["state"], &other["startup"]), (&json!("empty"), &json!("bootstraps")), "{other}");
    let none = node.check_etcd("/no/such/folder").expect("a verdict");
    assert_eq!(none["state"], json!("missing"), "{none}");
}

pub(crate) fn a_running_member_is_saved<S: Cprecover>() {
    let site = Site::new();
    let Some(_member) = Member::start(&site) else { return };
    let node = open::<S>(&site);
    let status = node.etcd_status().expect("it answers");
    assert_eq!(
        (&status["healthy"], &status["voters"], &status["quorum"]),
        (&json!(true), &json!(1), &json!(1))
    );
    let data = site.root().join("data");
    let verdict = node.check_etcd(data.to_str().expect("utf-8")).expect("a verdict");
    assert_eq!(verdict["state"], json!("locked"), "{verdict}");
    assert_eq!(verdict["report"]["db"]["value"]["members"][0]["name"], json!("default"), "{verdict}");
    let to = site.root().join("saved.db");
    let saved = node.save_etcd(&to).expect("a snapshot");
    let size = std::fs::metadata(&to).expect("the file").len();
    assert_eq!((&saved["path"], &saved["sizeBytes"]), (&json!(to), &json!(size)), "{saved}");
    assert_eq!(kind(node.save_etcd(&to)), "already-exists");
    assert_eq!(std::fs::metadata(&to).expect("the file").len(), size, "it was not touched");
    std::fs::remove_file(site.manifest()).expect("lost");
    assert_eq!(kind(node.save_etcd(&site.root().join("other.db"))), "not-found", "whom to ask is not known");
    assert_eq!(kind(node.etcd_status()), "not-found", "whom to ask is not known");
}

pub(crate) fn a_support_bundle_is_a_new_file<S: Cprecover>() {
    let site = Site::new();
    let node = open::<S>(&site);
    let to = site.root().join("bundle.tar");
    let report = node.support_bundle(&to, Bounds::usual()).expect("a bundle");
    let names: Vec<&Value> = report["files"].as_array().expect("files").iter().map(|file| &file[0]).collect();
    assert!(names.contains(&&json!("observation.json")), "{report}");
    let mode = std::fs::metadata(&to).expect("the file").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600, "for its owner alone");
    assert_eq!(kind(node.support_bundle(&to, Bounds::usual())), "already-exists");
    assert_eq!(kind(node.support_bundle(&site.root().join("no/folder"), Bounds::usual())), "not-found");
}

pub(crate) fn a_node_is_looked_at_and_diagnosed<S: Cprecover>() {
    let site = Site::new();
    let (observation, diagnosis) = open::<S>(&site).look(Bounds::usual()).expect("a look");
    let etcd = observation["pods"].as_array().expect("pods").iter().find(|pod| pod["component"] == "etcd");
    let etcd = etcd.unwrap_or_else(|| panic!("etcd's manifest is there: {}", observation["pods"]));
    assert_eq!(etcd["source"], "live");
    let lost = diagnosis["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .find(|found| found["id"] == "manifest-lost");
    let lost = lost.unwrap_or_else(|| panic!("three manifests are not: {}", diagnosis["findings"]));
    assert!(lost["summary"].as_str().is_some_and(|text| text.contains("kube-scheduler")), "{lost}");
}

pub(crate) fn a_plan_is_bound_by_its_digest<S: Cprecover>() {
    let site = Site::new();
    let node = open::<S>(&site);
    let plan = node.plan("observe-only").expect("a plan");
    assert_eq!((&plan["policy"]["name"], &plan["steps"]), (&json!("observe-only"), &json!([])), "{plan}");
    let text = serde_json::to_vec(&plan).expect("serialises");
    assert_eq!(S::read_plan(&text).expect("the same plan"), plan);
    let mut changed = plan.clone();
    changed["node"] = json!("another");
    assert_eq!(kind(S::read_plan(&serde_json::to_vec(&changed).expect("serialises"))), "corrupt");
    let mut newer = plan;
    newer["schema"] = json!("cprecover.dev/plan/v2");
    assert_eq!(kind(S::read_plan(&serde_json::to_vec(&newer).expect("serialises"))), "unsupported");
    assert_eq!(kind(S::read_plan(b"{}")), "invalid");
    assert_eq!(kind(S::read_plan(b"")), "invalid");
}

pub(crate) fn a_dry_run_changes_nothing<S: Cprecover>() {
    let site = Site::new();
    let report = open::<S>(&site).recover("", true, Bounds::usual()).expect("a report");
    assert_ne!(report["ending"]["state"], "healthy", "{report}");
    assert_eq!(report["steps"], json!([]));
    assert!(!site.store().exists(), "no store, no lock, no audit log");
    assert_eq!(std::fs::read_to_string(site.manifest()).expect("as it was"), ETCD);
}

pub(crate) fn a_watch_tells_each_turn<S: Cprecover>() {
    let site = Site::new();
    let node = open::<S>(&site);
    let told = node.watch(1, Bounds::usual()).expect("an event");
    assert_eq!(told[0]["event"], "unhealthy", "{told:?}");
    assert!(told[0]["look"]["notProven"].as_array().is_some_and(|list| !list.is_empty()), "{told:?}");
    assert!(!site.store().exists(), "what does not work is not backed up");
    assert_eq!(
        node.watch(1, Bounds { timeout_ms: 1, ..Bounds::usual() }).map(|told| told.len() <= 1),
        Ok(true)
    );
    assert_eq!(kind(node.watch(1, Bounds { cancelled: true, ..Bounds::usual() })), "cancelled");
}

pub(crate) fn without_effects_there_is_no_audit_log<S: Cprecover>() {
    let site = Site::new();
    assert_eq!(kind(open::<S>(&site).audit()), "not-found");
}

pub(crate) fn a_broken_audit_log_stops_everything<S: Cprecover>() {
    let site = Site::new();
    std::fs::create_dir_all(site.store()).expect("a store");
    let previous = "0".repeat(64);
    let entry = json!({"sequence": 2, "atUnixMs": 1, "previous": previous, "event": "torn-tail", "bytes": 1});
    std::fs::write(site.store().join(cprecover::recover::AUDIT_FILE), format!("{entry}\n")).expect("a log");
    let node = open::<S>(&site);
    assert_eq!(kind(node.audit()), "corrupt");
    assert_eq!(kind(node.recover("", false, Bounds::usual())), "corrupt");
}

pub(crate) fn a_cancelled_call_ends<S: Cprecover>() {
    let (site, (_listener, port)) = (Site::new(), listening());
    let node = open::<S>(&site);
    let cancelled = Bounds { cancelled: true, ..Bounds::usual() };
    assert_eq!(kind(node.look(cancelled)), "cancelled");
    assert_eq!(kind(node.port(port, "", "", cancelled)), "cancelled");
    assert_eq!(kind(node.backup("test", false, cancelled)), "cancelled");
    // A recovery that was cancelled has a report all the same.
    let report = node.recover("", true, cancelled).expect("a report");
    assert_eq!(report["ending"]["state"], "cancelled", "{report}");
}

pub(crate) fn time_can_be_up<S: Cprecover>() {
    let site = Site::new();
    // More than can be read in a millisecond.
    for number in 0..64 {
        let file = site.manifests().join(format!("large-{number}.txt"));
        std::fs::write(file, vec![b'x'; 1 << 20]).expect("a file");
    }
    let node = open::<S>(&site);
    assert_eq!(kind(node.backup("test", false, Bounds { timeout_ms: 1, ..Bounds::usual() })), "timeout");
    assert_eq!(
        node.backups().map_or_else(|failed| json!(failed.kind), |list| list["snapshots"].clone()),
        json!([]),
        "as before"
    );
}

pub(crate) fn a_store_in_use_is_busy<S: Cprecover>() {
    let site = Site::new();
    std::fs::create_dir_all(site.store()).expect("a store");
    let node = open::<S>(&site);
    let lock = cprecover::recover::NodeLock::acquire(&site.store()).expect("the node's lock");
    assert_eq!(kind(node.recover("", false, Bounds::usual())), "busy");
    drop(lock);
}

/// The control plane of the drill, seen broken and healthy.
pub(crate) fn the_drills_node_is_recovered<S: Cprecover>() {
    let Some(broken) = Broken::new() else { return };
    let node = S::open(broken.root(), "").expect("a node");
    let (_, diagnosis) = node.look(Bounds::usual()).expect("a look");
    assert_eq!(diagnosis["rootCause"], json!({"state": "found", "id": "orphan-process"}), "{diagnosis}");
    let plan = node.plan("").expect("a plan");
    let step = plan["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .find(|step| step["action"]["kind"] == "terminate-holder");
    let action = &step.unwrap_or_else(|| panic!("the orphan is ended: {plan}"))["action"];
    let port = u16::try_from(action["port"].as_u64().expect("a port")).expect("a port");
    let ports = node.port(port, "", "etcd", Bounds::usual()).expect("a report");
    let process = &ports["holders"][0]["evidence"]["process"];
    assert_eq!(process, &action["process"], "the plan ends the process that holds the port");
    let pid = i32::try_from(process["pid"].as_i64().expect("a pid")).expect("a pid");
    let orphan = Process { pid, start_ticks: process["start_ticks"].as_u64().expect("ticks") };
    let would = node.terminate(port, orphan, true).expect("a dry run");
    assert_eq!(would["outcome"], "would-end", "{would}");

    let report = node.recover("", false, Bounds::usual()).expect("a report");
    assert_eq!(report["ending"], json!({"state": "healthy"}), "{report}");
    let (healthy, nothing) = node.look(Bounds::usual()).expect("a look");
    assert_eq!(nothing["rootCause"]["state"], "healthy", "{nothing}");
    assert!(healthy["holders"].as_array().is_some_and(|holders| !holders.is_empty()), "{healthy}");
    let audit = node.audit().expect("an audit log");
    assert!(audit["items"].as_array().is_some_and(|items| items.len() >= 2), "{audit}");
    node.backup("after", false, Bounds::usual()).expect("a snapshot");
    node.verify("latest", Bounds::usual()).expect("a report");
    node.restore("latest", Restore::default()).expect("nothing differs");
    let regeneration =
        node.plan_regeneration("kube-scheduler", Regenerate::default()).expect("the drill has a kubeadm");
    assert!(regeneration["objections"].is_array(), "{regeneration}");
    node.regenerate("kube-scheduler").expect("installed");
    pods_are_moved_aside_and_back(&node, broken.root());
    // The regenerated scheduler comes up, and what works is backed up.
    let told = node.watch(100, Bounds { timeout_ms: 20_000, ..Bounds::usual() }).expect("events");
    let events: Vec<&str> = told.iter().filter_map(|event| event["event"].as_str()).collect();
    assert!(events.contains(&"healthy") && events.contains(&"backed-up"), "{told:?}");
}

/// On a node whose runtime answers.
fn pods_are_moved_aside_and_back<S: Cprecover>(node: &S, root: &std::path::Path) {
    let left = "333ccb66-3eee-2c0b-4b9a-e7a6b3cc6b72";
    let folder = root.join("var/lib/kubelet/pods").join(left);
    std::fs::create_dir_all(folder.join("containers/of-no-manifest")).expect("a pod's folder");
    let listed = node.pods().expect("the runtime answers");
    let pods = listed["pods"].as_array().expect("pods");
    let found = pods.iter().find(|pod| pod["uid"] == left).unwrap_or_else(|| panic!("{listed}"));
    assert_eq!(found["standing"], json!({"standing": "leftover"}), "{listed}");
    let made = node.quarantine(&[]).expect("moved aside");
    assert!(!folder.exists(), "{made}");
    let aside = made["folder"].as_str().expect("a folder");
    assert_eq!(node.undo_quarantine(aside).expect("moved back")["moved"], made["moved"]);
    assert!(folder.is_dir(), "where it was");
    assert_eq!(node.quarantine(&[left]).expect("moved aside")["moved"], made["moved"]);
    assert_eq!(kind(node.quarantine(&[])), "not-found", "nothing is left over");
}

pub(crate) fn the_drills_node_is_recovered_by_an_approved_plan<S: Cprecover>() {
    let Some(broken) = Broken::new() else { return };
    let node = S::open(broken.root(), "").expect("a node");
    let plan = serde_json::to_vec(&node.plan("").expect("a plan")).expect("serialises");
    let report = node.apply(&plan).expect("a report");
    let done: Vec<&Value> =
        report["steps"].as_array().expect("steps").iter().map(|step| &step["action"]).collect();
    let planned: Value = serde_json::from_slice(&plan).expect("JSON");
    let planned: Vec<&Value> =
        planned["steps"].as_array().expect("steps").iter().map(|step| &step["action"]).collect();
    assert!(done.iter().all(|action| planned.contains(action)), "nothing outside the plan: {report}");
    // The plan was made before its first effect: a further step may be needed, never allowed by it.
    let report = node.recover("", false, Bounds::usual()).expect("a report");
    assert_eq!(report["ending"], json!({"state": "healthy"}), "{report}");
    // The same plan again, on a healthy node: nothing is left to do.
    let again = node.apply(&plan).expect("a report");
    assert_eq!((&again["ending"]["state"], &again["steps"]), (&json!("healthy"), &json!([])), "{again}");
}

/// Health answers, options, policies and failures are the same whoever asks.
pub(crate) fn same<A: Cprecover, B: Cprecover>() {
    let equal = |what: &str, a: Answer, b: Answer| assert_eq!(a, b, "{what}: {} and {}", A::NAME, B::NAME);
    let recordings = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../cprecover/testdata/health");
    for entry in std::fs::read_dir(recordings).expect("recordings") {
        let file = entry.expect("entry").path();
        let body = std::fs::read(&file).expect("read");
        for status in [0, 200, 403, 500] {
            equal(&file.display().to_string(), A::health(status, &body), B::health(status, &body));
        }
    }
    let site = Site::new();
    let (a, b) = (open::<A>(&site), open::<B>(&site));
    equal("options", a.node_options(), b.node_options());
    for name in ["default", "observe-only", "no-such-policy", "/nonexistent"] {
        equal(name, A::policy(name, Trust::default()), B::policy(name, Trust::default()));
    }
    equal("no audit log", a.audit(), b.audit());
    equal("no snapshot", a.verify("latest", Bounds::usual()), b.verify("latest", Bounds::usual()));
    equal("a list", a.backups(), b.backups());
    equal("not held", a.release("etcd"), b.release("etcd"));
    equal("nothing held", a.held(), b.held());
    a.backup("test", false, Bounds::usual()).expect("a snapshot");
    equal("a list", a.backups(), b.backups());
    equal("a report", a.verify("latest", Bounds::usual()), b.verify("latest", Bounds::usual()));
    std::fs::remove_file(site.manifest()).expect("lost");
    let dry = Restore { dry_run: true, ..Restore::default() };
    equal("a dry run", a.restore("latest", dry), b.restore("latest", dry));
}
