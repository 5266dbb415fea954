//! Two nodes and one lease, over a server that keeps one object.
#![allow(clippy::indexing_slicing, reason = "tests")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use super::*;
use crate::node::NodeOptions;

/// Keeps one lease with its version; answers as many requests as it is asked.
fn server(lease: Arc<Mutex<Option<Value>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
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
            let text = answer.to_string();
            let head =
                format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
            let mut writer = &stream;
            let _ = writer.write_all(format!("{head}{text}").as_bytes());
        }
    });
    address
}

fn lock<'a>(host: &'a Host<'a>, address: SocketAddr, name: &str) -> LeaseLock<'a> {
    LeaseLock { host, api: Some(ApiServer::plain(address)), holder: NodeName::new(name), held: false }
}

fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

#[test]
fn one_node_at_a_time_and_a_dead_one_not_for_ever() {
    let node = NodeOptions::at("/").expect("absolute");
    let host = Host::new(&node);
    let kept = Arc::new(Mutex::new(None));
    let address = server(Arc::clone(&kept));
    let mut first = lock(&host, address, "cp1");
    let mut second = lock(&host, address, "cp2");
    assert!(first.hold(&deadline()).expect("free"));
    let error = second.hold(&deadline()).expect_err("held");
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.to_string().contains("node cp1 since 2"), "{error}");
    assert!(first.hold(&deadline()).expect("renewed by its holder"));
    first.release(&deadline());
    assert!(second.hold(&deadline()).expect("free again"));
    // cp2 dies and never renews.
    if let Some(lease) = kept.lock().expect("not poisoned").as_mut() {
        lease["spec"]["renewTime"] = json!("2020-01-01T00:00:00.000000Z");
    }
    assert!(first.hold(&deadline()).expect("it has run out"));
    drop(first);
    let holder =
        kept.lock().expect("not poisoned").as_ref().map(|lease| lease["spec"]["holderIdentity"].clone());
    assert_eq!(holder, Some(json!("")), "given back by dropping it");
}

#[test]
fn a_cluster_that_does_not_answer_gives_no_lock_and_no_error() {
    let node = NodeOptions::at("/").expect("absolute");
    let host = Host::new(&node);
    let closed = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address");
    assert!(!lock(&host, closed, "cp1").hold(&deadline()).expect("no error"));
}
