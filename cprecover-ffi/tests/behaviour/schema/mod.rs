//! The JSON Schemas of `include/schema`, made of the library's types, and the documents that they are held to.

mod attributes;
mod shape;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use cprecover::diagnose::{FindingId, diagnose, from_recording};
use cprecover::logs::SignatureId;
use serde_json::{Value, json};

use self::shape::Schemas;
use self::sources::Sources;
use crate::c::C;
use crate::node::Site;
use crate::surface::{Bounds, Cprecover as _};

/// What the C ABI returns: the schema's name, the type, and whether the document is a list of it.
const DOCUMENTS: [(&str, &str, bool); 24] = [
    ("audit", "cprecover::recover::Entry", true),
    ("backup-list", "cprecover_ffi::backup::Listing", false),
    ("backup-report", "cprecover::backup::VerifyReport", false),
    ("diagnosis", "cprecover::diagnose::Diagnosis", false),
    ("etcd-check", "cprecover::etcd::DataVerdict", false),
    ("etcd-snapshot", "cprecover::etcd::SnapshotReceipt", false),
    ("etcd-status", "cprecover::etcd::ClusterStatus", false),
    ("event", "cprecover::recover::WatchEvent", false),
    ("health", "cprecover::healthz::Report", false),
    ("held", "cprecover_ffi::backup::Holds", false),
    ("node-options", "cprecover::node::NodeOptions", false),
    ("observation", "cprecover::recover::Observation", false),
    ("plan", "cprecover::recover::Plan", false),
    ("pods", "cprecover::recover::PodsReport", false),
    ("pods-quarantine", "cprecover::pods::Quarantine", false),
    ("policy", "cprecover::policy::Identity", false),
    ("port", "cprecover::recover::PortReport", false),
    ("recovery", "cprecover::recover::Report", false),
    ("regeneration", "cprecover::kubeadm::Applied", false),
    ("regeneration-plan", "cprecover_ffi::regenerate::Shown", false),
    ("restore", "cprecover::backup::RestoreReport", false),
    ("snapshot", "cprecover::backup::Snapshot", false),
    ("support-bundle", "cprecover::recover::BundleReport", false),
    ("termination", "cprecover::terminate::Outcome", false),
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

fn file_of(thing: &str) -> PathBuf {
    workspace().join("include/schema").join(format!("{thing}.json"))
}

/// Types that write themselves, or that a macro declares.
fn special() -> BTreeMap<&'static str, Value> {
    let text =
        |pattern: &str, about: &str| json!({"description": about, "type": "string", "pattern": pattern});
    let id = |about: &str| json!({"description": about, "type": "string"});
    let findings: Vec<Value> = FindingId::ALL.iter().map(|id| json!(id)).collect();
    let signatures: Vec<Value> = SignatureId::ALL.iter().map(|id| json!(id)).collect();
    BTreeMap::from([
        ("Digest", text("^[0-9a-f]{64}$", "A SHA-256 digest.")),
        (
            "SnapshotId",
            text("^[0-9]{6,}-[0-9]{8}T[0-9]{6}Z$", "Names a snapshot: a running number and the UTC time."),
        ),
        ("MemberId", text("^[0-9a-f]{1,16}$", "The id of an etcd member, in hex.")),
        ("ClusterId", text("^[0-9a-f]{1,16}$", "The id of an etcd cluster, in hex.")),
        ("UnixNanos", text("^-?[0-9]+$", "Nanoseconds since 1970.")),
        ("octal", text("^[0-7]{4}$", "Permission bits, octal.")),
        ("ContainerId", id("A container's id in the runtime.")),
        ("SandboxId", id("A pod sandbox's id in the runtime.")),
        ("PodUid", id("A pod UID.")),
        ("NodeName", id("The name of a Kubernetes node.")),
        ("FindingId", json!({"description": "Names a kind of finding.", "type": "string", "enum": findings})),
        (
            "SignatureId",
            json!({"description": "Names a log signature.", "type": "string", "enum": signatures}),
        ),
    ])
}

fn generated() -> BTreeMap<&'static str, Value> {
    let mut sources = Sources::default();
    sources.read("cprecover", &workspace().join("cprecover/src/lib.rs"));
    sources.read("cprecover_policy_sdk", &workspace().join("policies/sdk/src/lib.rs"));
    sources.read("cprecover_policies", &workspace().join("policies/src/lib.rs"));
    sources.read("cprecover_ffi", &workspace().join("cprecover-ffi/src/lib.rs"));
    let special = special();
    let document =
        |(thing, path, is_list)| (thing, Schemas::new(&sources, &special).document(thing, path, is_list));
    DOCUMENTS.into_iter().map(document).collect()
}

/// Keeps a document for `schema-check`, which holds it to its schema: the validator is no dependency of
/// this workspace.
pub(crate) fn keep(thing: &str, document: &Value) {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    assert_eq!(document["schema"], format!("cprecover.dev/{thing}/v1"), "{document}");
    let folder = FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("documents");
        // Those of an earlier run may be of an earlier version.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    });
    let name = format!("{thing}-{}.json", NUMBER.fetch_add(1, Ordering::Relaxed));
    std::fs::write(folder.join(name), document.to_string()).expect("write a document");
}

#[test]
fn the_schemas_are_what_the_types_give() {
    for (thing, schema) in generated() {
        let fresh = serde_json::to_string_pretty(&schema).expect("serialises") + "\n";
        let file = file_of(thing);
        if std::env::var_os("CPRECOVER_BLESS").is_some() {
            std::fs::write(&file, &fresh).expect("write the schema");
        }
        let old = std::fs::read_to_string(&file).unwrap_or_default();
        for (number, (old, new)) in old.lines().zip(fresh.lines()).enumerate() {
            let line = number + 1;
            assert_eq!(
                old, new,
                "include/schema/{thing}.json line {line}: a type changed; when that is meant (fields may be added, nothing else), run again with CPRECOVER_BLESS=1"
            );
        }
        assert_eq!(old, fresh, "include/schema/{thing}.json: run again with CPRECOVER_BLESS=1");
    }
}

#[test]
fn each_document_has_a_schema_and_each_schema_a_document() {
    let mut named = BTreeSet::new();
    let folder = workspace().join("cprecover-ffi/src");
    for entry in std::fs::read_dir(folder).expect("sources") {
        let text = std::fs::read_to_string(entry.expect("entry").path()).expect("source");
        let quoted = text
            .split("(\"cprecover.dev/")
            .skip(1)
            .filter_map(|rest| rest.split_once("/v1\""))
            .map(|(name, _)| name.to_owned());
        named.extend(quoted);
    }
    let described: BTreeSet<String> = DOCUMENTS.iter().map(|(thing, ..)| (*thing).to_owned()).collect();
    assert_eq!(named, described);
    let files: BTreeSet<String> = std::fs::read_dir(workspace().join("include/schema"))
        .expect("include/schema")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("utf-8"))
        .collect();
    assert_eq!(files, described.iter().map(|thing| format!("{thing}.json")).collect());
}

fn recorded(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("entry").path());
    let mut files: Vec<_> = files
        .filter(|file| {
            file.is_file()
                && file.file_name().is_some_and(|name| name != "expected" && name != "orphan-proc-cgroup.txt")
        })
        .map(|file| {
            (file.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&file).expect("read"))
        })
        .collect();
    files.sort();
    files
}

/// What is diagnosed of every recorded incident, with the facts.
fn incidents() -> Vec<(Value, Value)> {
    let testdata = workspace().join("cprecover/testdata");
    let modes =
        std::fs::read_dir(testdata.join("modes")).expect("modes").map(|entry| entry.expect("entry").path());
    let mut folders: Vec<PathBuf> = modes.filter(|path| path.is_dir()).collect();
    folders.extend(["incident-orphan", "incident-deadlock"].map(|name| testdata.join(name)));
    assert!(folders.len() > 30, "the recordings are not where this test looks");
    let diagnosed = |folder: PathBuf| {
        let files = recorded(&folder);
        let facts = from_recording(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
        let facts = facts.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut diagnosis = json!({"schema": "cprecover.dev/diagnosis/v1"});
        let own = serde_json::to_value(diagnose(&facts)).expect("serialises");
        diagnosis.as_object_mut().unwrap().extend(own.as_object().expect("an object").clone());
        (serde_json::to_value(&facts).expect("serialises"), diagnosis)
    };
    folders.into_iter().map(diagnosed).collect()
}

#[test]
fn recorded_incidents_are_documents_too() {
    let site = Site::new();
    let (mut observation, _) =
        C::open(site.root(), "").expect("a node").look(Bounds::usual()).expect("a look");
    observation["schema"] = json!("cprecover.dev/observation/v1");
    for (facts, diagnosis) in incidents() {
        keep("diagnosis", &diagnosis);
        observation["facts"] = facts;
        keep("observation", &observation);
    }
}
