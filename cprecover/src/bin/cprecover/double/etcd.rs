//! A small stand-in for etcd: the same listeners, lock, health endpoints and bind error as the real one.
//!
//! It stores keys durably through the same HTTP gateway paths (`/v3/kv/put`, `/v3/kv/range`), so that a
//! drill without the real etcd still proves that data outlives the recovery. Its `member` folder holds a
//! real database and log of a member without keys, made once by the tests of `cprecover::etcd`: the only one of
//! its cluster, unless `--initial-cluster` names others. What is stored lies beside them.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use cprecover::{Error, ErrorKind, Result};
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use super::flags::{Flags, ProgramArgs};
use super::serve::{self, TlsFiles};
use crate::console::say;

/// Serves until it is killed; returns only on a failed start.
pub(crate) fn run(args: &ProgramArgs) -> Result<()> {
    let flags = args.parse();
    log("info", "etcdmain/etcd.go", "Running: ", &json!({ "args": std::env::args().collect::<Vec<_>>() }));
    match start(&flags) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            // etcd wraps every start error in "discovery failed" (etcd server/etcdmain/etcd.go).
            log("fatal", "etcdmain/etcd.go", "discovery failed", &json!({ "error": error.to_string() }));
            Err(error)
        }
        other => other,
    }
}

fn start(flags: &Flags) -> Result<()> {
    let tls = |prefix: &str, require: bool| -> Result<_> {
        let file = |name: &str| flags.value(&format!("{prefix}{name}")).map(Path::new);
        match (file("cert-file"), file("key-file")) {
            (Some(certificate), Some(key)) => {
                let files = TlsFiles { certificate, key, authority: file("trusted-ca-file") };
                Ok(Some(files.server(require)?))
            }
            _ => Ok(None),
        }
    };
    let peer_tls = tls("peer-", true)?;
    let client_tls = tls("", flags.value("client-cert-auth") == Some("true"))?;
    let mut bound = Vec::new();
    // The order is etcd's (server/embed/etcd.go, StartEtcd): peers first, so 2380 masks a conflict on 2379.
    for (flag, config) in
        [("listen-peer-urls", peer_tls), ("listen-client-urls", client_tls), ("listen-metrics-urls", None)]
    {
        for (address, is_tls) in flags.urls(flag)? {
            let listener = serve::bind(address, config.clone().filter(|_| is_tls))
                .map_err(|message| Error::new(ErrorKind::AlreadyExists, message))?;
            bound.push((flag, listener));
        }
    }
    let alone = flags.value("initial-cluster").is_none_or(|names| !names.contains(','));
    let golden = if alone { GOLDEN_ALONE } else { GOLDEN_DB };
    let store = Store::open(Path::new(flags.required("data-dir")?), golden)?;
    let name = flags.value("name").unwrap_or("default").to_owned();
    let urls = |flag: &str| -> Vec<String> {
        flags.value(flag).map(|urls| urls.split(',').map(str::to_owned).collect()).unwrap_or_default()
    };
    let own = json!({
        "ID": MEMBER_ID,
        "name": name,
        "peerURLs": urls("initial-advertise-peer-urls"),
        "clientURLs": urls("advertise-client-urls"),
    });
    log("info", "embed/serve.go", "ready to serve client requests", &json!({ "name": name }));
    let store = Arc::new(Mutex::new(store));
    let routed = bound.into_iter().map(|(flag, listener)| {
        let router = if flag == "listen-peer-urls" {
            peer_router()
        } else {
            client_router(Arc::clone(&store), &own, golden)
        };
        (listener, router)
    });
    serve::serve_forever(routed.collect())
}

fn peer_router() -> Router {
    Router::new().route("/version", get(|| async { r#"{"etcdserver":"3.6.8","etcdcluster":"3.6.0"}"# }))
}

type Shared = Arc<Mutex<Store>>;

/// The ids in the log of the golden member, in decimal as the gateway writes them.
const MEMBER_ID: &str = "161";
const CLUSTER_ID: &str = "193";
/// A database and a log as etcd 3.6 writes them (`etcd::check::tests::stand_in`).
const GOLDEN_DB: &[u8] = include_bytes!("etcd/db");
/// As [`GOLDEN_DB`], with the member itself as the only one in its list.
const GOLDEN_ALONE: &[u8] = include_bytes!("etcd/db-alone");
const GOLDEN_WAL: &[u8] = include_bytes!("etcd/wal");

fn header() -> Value {
    json!({ "cluster_id": CLUSTER_ID, "member_id": MEMBER_ID, "revision": "2", "raft_term": "2" })
}

/// The gateway's calls about the member itself, of which it is the only one (etcd
/// `api/etcdserverpb/rpc.proto`).
fn member_router(own: &Value, database: &'static [u8]) -> Router<Shared> {
    let list = json!({ "header": header(), "members": [own] });
    let status = json!({
        "header": header(), "version": "3.6.8", "dbSize": database.len().to_string(),
        "leader": MEMBER_ID, "raftIndex": "3", "raftTerm": "2", "raftAppliedIndex": "3",
    });
    let answer = |value: Value| post(move || async move { Json(value) });
    Router::new()
        .route("/v3/cluster/member/list", answer(list))
        .route("/v3/maintenance/status", answer(status))
        .route("/v3/maintenance/alarm", answer(json!({ "header": header() })))
        .route("/v3/maintenance/snapshot", post(move || async move { snapshot(database) }))
}

/// The database and behind it its SHA-256, in one message.
fn snapshot(database: &[u8]) -> String {
    use sha2::Digest as _;
    let mut bytes = database.to_vec();
    bytes.extend(sha2::Sha256::digest(database));
    let blob = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    let message = json!({ "result": { "header": header(), "remaining_bytes": "0", "blob": blob } });
    format!("{message}\n")
}

fn client_router(store: Shared, own: &Value, database: &'static [u8]) -> Router {
    member_router(own, database)
        .route("/health", get(|| async { Json(json!({ "health": "true", "reason": "" })) }))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }))
        .route("/version", get(|| async { r#"{"etcdserver":"3.6.8","etcdcluster":"3.6.0"}"# }))
        .route("/v3/kv/put", post(put))
        .route("/v3/kv/range", post(range))
        .with_state(store)
}

fn field<'a>(body: &'a Value, name: &str) -> &'a str {
    body.get(name).and_then(Value::as_str).unwrap_or_default()
}

async fn put(State(store): State<Shared>, Json(body): Json<Value>) -> Result<Json<Value>, StatusCode> {
    let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
    store.put(field(&body, "key"), field(&body, "value")).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(Json(json!({ "header": { "revision": store.revision.to_string() } })))
}

async fn range(State(store): State<Shared>, Json(body): Json<Value>) -> Json<Value> {
    let store = store.lock().unwrap_or_else(PoisonError::into_inner);
    let key = field(&body, "key");
    let kvs: Vec<Value> =
        store.keys.get(key).map(|value| json!({ "key": key, "value": value })).into_iter().collect();
    Json(
        json!({ "header": { "revision": store.revision.to_string() }, "count": kvs.len().to_string(), "kvs": kvs }),
    )
}

/// Keys and values in base64, as the gateway passes them; one JSON line per write, fsynced.
struct Store {
    /// Kept open for its lock.
    _database: File,
    file: File,
    keys: BTreeMap<String, String>,
    revision: u64,
}

impl Store {
    /// Opens `member/snap/db` and takes etcd's lock on it (etcd server/mvcc/backend, bbolt `flock`).
    fn open(data_dir: &Path, golden: &[u8]) -> Result<Self> {
        for folder in ["member/snap", "member/wal"] {
            let folder = data_dir.join(folder);
            std::fs::create_dir_all(&folder).map_err(|source| Error::path("create", &folder, source))?;
        }
        let path: PathBuf = data_dir.join("member/snap/db");
        write_new(&data_dir.join("member/wal/0000000000000000-0000000000000000.wal"), GOLDEN_WAL)?;
        write_new(&path, golden)?;
        let database = File::open(&path).map_err(|source| Error::path("open", &path, source))?;
        let mut waited_ms = 0_u32;
        while flock(&database, FlockOperation::NonBlockingLockExclusive).is_err() {
            if waited_ms == 10_000 {
                log(
                    "info",
                    "embed/etcd.go",
                    "db file is flocked by another process, or taking too long",
                    &json!({}),
                );
            }
            std::thread::sleep(Duration::from_millis(50));
            waited_ms = waited_ms.saturating_add(50);
        }
        let path = data_dir.join("member/stand-in-keys.jsonl");
        let file = OpenOptions::new().create(true).read(true).append(true).open(&path);
        let file = file.map_err(|source| Error::path("open", &path, source))?;
        let mut store = Self { keys: BTreeMap::new(), revision: 1, file, _database: database };
        for line in
            BufReader::new(File::open(&path).map_err(|source| Error::path("open", &path, source))?).lines()
        {
            let line = line.map_err(|source| Error::path("read", &path, source))?;
            let record: Value = serde_json::from_str(&line)
                .map_err(|source| Error::with_source(ErrorKind::Corrupt, "walpb: crc mismatch", source))?;
            store.keys.insert(field(&record, "key").to_owned(), field(&record, "value").to_owned());
            store.revision += 1;
        }
        Ok(store)
    }

    fn put(&mut self, key: &str, value: &str) -> std::io::Result<()> {
        writeln!(self.file, "{}", json!({ "key": key, "value": value }))?;
        self.file.sync_data()?;
        self.keys.insert(key.to_owned(), value.to_owned());
        self.revision += 1;
        Ok(())
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(|source| Error::path("write", path, source)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(Error::path("create", path, source)),
    }
}

/// Writes one line as etcd's zap logger does.
fn log(level: &str, caller: &str, message: &str, fields: &Value) {
    let mut line = json!({ "level": level, "ts": super::rfc3339_now(), "caller": caller, "msg": message });
    if let (Some(line), Some(fields)) = (line.as_object_mut(), fields.as_object()) {
        line.extend(fields.clone());
    }
    say(format_args!("{line}"));
}
