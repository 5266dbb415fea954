//! Members that answer the gateway's calls on a loopback address, for tests.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use sha2::Digest as _;

pub(in crate::recover) const DB: &[u8] = include_bytes!("../../../bin/cprecover/double/etcd/db");
const WAL: &[u8] = include_bytes!("../../../bin/cprecover/double/etcd/wal");

/// A member's files as etcd 3.6 writes them; the member's id is a1.
pub(in crate::recover) fn write_member(data_dir: &Path) {
    for folder in ["member/snap", "member/wal"] {
        std::fs::create_dir_all(data_dir.join(folder)).expect("mkdir");
    }
    std::fs::write(data_dir.join("member/snap/db"), DB).expect("write");
    std::fs::write(data_dir.join("member/wal/0000000000000000-0000000000000000.wal"), WAL).expect("write");
}

/// As [`write_member`], with a database that lists members: the id of each and what is kept about it, as JSON.
pub(in crate::recover) fn write_member_of(data_dir: &Path, members: &[(&str, &str)]) {
    write_member(data_dir);
    std::fs::write(data_dir.join("member/snap/db"), crate::etcd::database_listing(members)).expect("write");
}

/// What a cluster of fakes consists of: id, name, address, whether it is a learner.
#[derive(Clone)]
pub(in crate::recover) struct Listed(
    pub(in crate::recover) u64,
    pub(in crate::recover) &'static str,
    pub(in crate::recover) SocketAddr,
    pub(in crate::recover) bool,
);

/// What a member does and says that is out of the ordinary.
pub(in crate::recover) struct Manner {
    /// Called before it gives a snapshot.
    pub(in crate::recover) at_snapshot: Box<dyn Fn() + Send>,
    /// The alarm that is set for it.
    pub(in crate::recover) alarm: Option<&'static str>,
    /// The database that it gives as its snapshot; it gives none where that is empty.
    pub(in crate::recover) database: Vec<u8>,
}

impl Default for Manner {
    fn default() -> Self {
        Self { at_snapshot: Box::new(|| ()), alarm: None, database: DB.to_vec() }
    }
}

/// A member; its thread ends with it.
pub(in crate::recover) struct FakeMember {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl FakeMember {
    /// Serves as the member `id` of `cluster`, which the first of them leads.
    pub(in crate::recover) fn start(listener: TcpListener, id: u64, cluster: Vec<Listed>) -> Self {
        Self::start_as(listener, id, cluster, Manner::default())
    }

    /// As [`start`](Self::start), in a manner of its own.
    pub(in crate::recover) fn start_as(
        listener: TcpListener,
        id: u64,
        cluster: Vec<Listed>,
        manner: Manner,
    ) -> Self {
        let address = listener.local_addr().expect("address");
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Acquire) {
                    return;
                }
                if let Ok(stream) = stream {
                    serve(&stream, id, &cluster, &manner);
                }
            }
        });
        Self { address, stop }
    }
}

impl Drop for FakeMember {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: &TcpStream, id: u64, cluster: &[Listed], manner: &Manner) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    let mut length = 0_usize;
    if reader.read_line(&mut first).is_err() {
        return;
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).is_err() || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let _ = reader.read_exact(&mut vec![0; length]);
    let path = first.split_whitespace().nth(1).unwrap_or_default();
    if path == "/v3/maintenance/snapshot" {
        (manner.at_snapshot)();
    }
    let answer = answer(path, id, cluster, manner);
    let status = if answer.is_some() { "200 OK" } else { "404 Not Found" };
    let body = answer.map(|value| format!("{value}\n")).unwrap_or_default();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let mut writer = stream;
    let _ = writer.write_all(format!("{head}{body}").as_bytes());
}

fn answer(path: &str, id: u64, cluster: &[Listed], manner: &Manner) -> Option<Value> {
    let header = json!({ "cluster_id": "193", "member_id": id.to_string() });
    Some(match path {
        "/v3/cluster/member/list" => {
            let members: Vec<Value> = cluster
                .iter()
                .map(|Listed(id, name, address, learner)| {
                    json!({ "ID": id.to_string(), "name": name, "isLearner": learner,
                            "peerURLs": [format!("http://{}:2380", address.ip())],
                            "clientURLs": [format!("http://{address}")] })
                })
                .collect();
            json!({ "header": header, "members": members })
        }
        "/v3/maintenance/status" => {
            let leader = cluster.first().map_or(0, |listed| listed.0);
            json!({ "header": header, "version": "3.6.8", "dbSize": "20480", "leader": leader.to_string() })
        }
        "/v3/maintenance/alarm" => {
            let alarm = |kind: &str| json!({ "memberID": id.to_string(), "alarm": kind });
            let alarms: Vec<Value> = manner.alarm.map(alarm).into_iter().collect();
            json!({ "header": header, "alarms": alarms })
        }
        "/health" => json!({ "health": "true" }),
        "/v3/maintenance/snapshot" if !manner.database.is_empty() => {
            let database = manner.database.as_slice();
            let bytes = [database, sha2::Sha256::digest(database).as_slice()].concat();
            let blob = base64::engine::general_purpose::STANDARD.encode(bytes);
            json!({ "result": { "remaining_bytes": "0", "blob": blob } })
        }
        _ => return None,
    })
}

/// Three listeners on one port of three loopback addresses, as three nodes have them.
pub(in crate::recover) fn three_listeners() -> Vec<TcpListener> {
    for _ in 0..50 {
        let first = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = first.local_addr().expect("address").port();
        let others: Result<Vec<_>, _> =
            ["127.0.0.2", "127.0.0.3"].into_iter().map(|ip| TcpListener::bind((ip, port))).collect();
        if let Ok(others) = others {
            return std::iter::once(first).chain(others).collect();
        }
    }
    panic!("no port is free on three loopback addresses");
}

/// etcd's manifest for the member `name` whose clients are served at `client`, over plain HTTP.
pub(in crate::recover) fn manifest(name: &str, client: SocketAddr, initial_cluster: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: etcd\n  namespace: kube-system\n  labels:\n    component: etcd\n\
         spec:\n  containers:\n  - name: etcd\n    image: registry.k8s.io/etcd:3.6.8-0\n    command:\n    - etcd\n\
         \x20   - --name={name}\n    - --data-dir=/var/lib/etcd\n    - --listen-client-urls=http://{client}\n\
         \x20   - --initial-advertise-peer-urls=http://{}:2380\n    - --initial-cluster={initial_cluster}\n\
         \x20   volumeMounts:\n    - mountPath: /var/lib/etcd\n      name: etcd-data\n  hostNetwork: true\n\
         \x20 volumes:\n  - hostPath:\n      path: /var/lib/etcd\n    name: etcd-data\n",
        client.ip()
    )
}
