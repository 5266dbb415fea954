//! Two nodes and one lease, over a server that keeps one object.
#![allow(clippy::indexing_slicing, reason = "tests")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use super::*;
use crate::node::NodeOptions;

/// Keeps one lease with its version; answers as many requests as it is asked.
fn server(lease: Arc<Mutex<Option<Value>>>) -> SocketAddr {
    serve("127.0.0.1:0", lease, None)
}

/// As [`server`]; with a status it only ever answers this.
fn serve(address: &str, lease: Arc<Mutex<Option<Value>>>, always: Option<u16>) -> SocketAddr {
    let listener = TcpListener::bind(address).expect("bind");
    let address = listener.local_addr().expect("address");
    // It ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(&stream);
            let mut first = String::new();
            let mut length = 0;
            let _ = reader.read_line(&mut first);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).is_err() || line.trim().is_empty() {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                }
            }
            let mut body = vec![0; length];
            let _ = reader.read_exact(&mut body);
            let mut kept = lease.lock().expect("not poisoned");
            let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
            let version = |value: &Value| value.pointer("/metadata/resourceVersion").cloned();
            let (status, answer) = match (first.split(' ').next().unwrap_or_default(), &*kept) {
                ("GET", None) => (404, json!({ "message": "not found" })),
                ("GET", Some(value)) => (200, value.clone()),
                ("POST", Some(_)) => (409, json!({ "message": "exists" })),
                ("PUT", Some(value)) if version(value) != version(&sent) => (409, json!({})),
                _ => {
                    let next = kept.as_ref().and_then(version).and_then(|v| v.as_str()?.parse::<u32>().ok());
                    let mut sent = sent;
                    sent["metadata"]["resourceVersion"] = json!((next.unwrap_or(0) + 1).to_string());
                    *kept = Some(sent.clone());
                    (200, sent)
                }
            };
            let (status, answer) =
                always.map_or((status, answer), |status| (status, json!({"message": "no"})));
            let text = answer.to_string();
            let head =
                format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
            let mut writer = &stream;
            let _ = writer.write_all(format!("{head}{text}").as_bytes());
        }
    });
    address
}

fn node(name: &str) -> NodeOptions {
    NodeOptions { node_name: Some(name.to_owned()), ..NodeOptions::at("/none").expect("absolute") }
}

fn lock<'a>(host: &'a Host<'a>, address: SocketAddr) -> LeaseLock<'a> {
    LeaseLock { host, server: Some(ApiServer::plain(address)), held: None }
}

fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

#[test]
fn one_node_at_a_time_and_a_dead_one_not_for_ever() {
    let nodes = [node("cp1"), node("cp2")];
    let hosts = [Host::new(&nodes[0]), Host::new(&nodes[1])];
    let kept = Arc::new(Mutex::new(None));
    let address = server(Arc::clone(&kept));
    let mut first = lock(&hosts[0], address);
    let mut second = lock(&hosts[1], address);
    assert!(first.hold(&[], &deadline()).expect("free"));
    let error = second.hold(&[], &deadline()).expect_err("held");
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.to_string().contains("node cp1 since 2"), "{error}");
    assert!(first.hold(&[], &deadline()).expect("renewed by its holder"));
    first.release(&deadline());
    assert!(second.hold(&[], &deadline()).expect("free again"));
    // cp2 dies and never renews.
    if let Some(lease) = kept.lock().expect("not poisoned").as_mut() {
        lease["spec"]["renewTime"] = json!("2020-01-01T00:00:00.000000Z");
    }
    assert!(first.hold(&[], &deadline()).expect("it has run out"));
    drop(first);
    let holder =
        kept.lock().expect("not poisoned").as_ref().map(|lease| lease["spec"]["holderIdentity"].clone());
    assert_eq!(holder, Some(json!("")), "given back by dropping it");
}

#[test]
fn a_cluster_that_does_not_answer_gives_no_lock_and_no_error() {
    let node = node("cp1");
    let host = Host::new(&node);
    let closed = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address");
    assert!(!lock(&host, closed).hold(&[], &deadline()).expect("no error"));
    // An API server whose etcd is down knows nobody's rights and keeps nothing.
    for status in [403, 500, 504] {
        let broken = serve("127.0.0.1:0", Arc::default(), Some(status));
        assert!(!lock(&host, broken).hold(&[], &deadline()).expect("no error"), "{status}");
    }
}

#[test]
fn the_lease_is_taken_through_another_node_when_the_own_api_server_is_down() {
    let kept = Arc::new(Mutex::new(None));
    let own = serve("127.0.0.1:0", Arc::default(), Some(500));
    let peer = serve(&format!("127.0.0.2:{}", own.port()), Arc::clone(&kept), None);
    assert_eq!(peer.port(), own.port());
    let node = node("cp1");
    let host = Host::new(&node);
    let mut lease = lock(&host, own);
    assert!(lease.hold(&[Ipv4Addr::new(127, 0, 0, 2).into()], &deadline()).expect("by the peer"));
    let holder =
        || kept.lock().expect("not poisoned").as_ref().map(|lease| lease["spec"]["holderIdentity"].clone());
    assert_eq!(holder(), Some(json!("cp1")));
    drop(lease);
    assert_eq!(holder(), Some(json!("")));
}

#[test]
fn a_server_that_works_and_does_not_know_us_or_a_node_without_a_name_is_no_go() {
    let strict = serve("127.0.0.1:0", Arc::default(), Some(401));
    let named = node("cp1");
    let host = Host::new(&named);
    let error = lock(&host, strict).hold(&[], &deadline()).expect_err("401");
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("renew admin.conf"), "{error}");
    // Two of them would each take the other's lease for free.
    let nameless = NodeOptions::at("/none").expect("absolute");
    let host = Host::new(&nameless);
    let kept = Arc::new(Mutex::new(None));
    let error = lock(&host, server(Arc::clone(&kept))).hold(&[], &deadline()).expect_err("no name");
    assert_eq!(error.kind(), ErrorKind::Missing);
    assert!(kept.lock().expect("not poisoned").is_none());
}

#[test]
fn a_clock_that_is_a_little_ahead_takes_nothing_over() {
    let nodes = [node("cp1"), node("cp2")];
    let hosts = [Host::new(&nodes[0]), Host::new(&nodes[1])];
    let kept = Arc::new(Mutex::new(None));
    let address = server(Arc::clone(&kept));
    let mut first = lock(&hosts[0], address);
    assert!(first.hold(&[], &deadline()).expect("free"));
    let renewed =
        jiff::Timestamp::now() - jiff::SignedDuration::from_secs(DURATION.as_secs().cast_signed() + 60);
    if let Some(lease) = kept.lock().expect("not poisoned").as_mut() {
        lease["spec"]["renewTime"] = json!(format!("{renewed:.6}"));
    }
    let error = lock(&hosts[1], address).hold(&[], &deadline()).expect_err("within the clocks' tolerance");
    assert_eq!(error.kind(), ErrorKind::Busy);
}
