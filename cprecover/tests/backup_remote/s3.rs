//! A small S3: objects in memory behind HTTP or HTTPS, with conditional puts and lists.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Default)]
pub struct State {
    pub objects: Mutex<BTreeMap<String, Vec<u8>>>,
    pub puts: AtomicUsize,
    /// Names in the order in which they were put.
    pub order: Mutex<Vec<String>>,
    /// How many requests from now on are answered with 503.
    pub failing: AtomicUsize,
    /// Accepts and never answers.
    pub silent: AtomicBool,
    stop: AtomicBool,
}

pub struct S3 {
    pub state: Arc<State>,
    pub port: u16,
    server: Option<std::thread::JoinHandle<()>>,
}

impl S3 {
    pub fn start(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let server = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::SeqCst) {
                    return;
                }
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                std::thread::spawn(move || serve(stream.expect("accept"), &state, tls));
            }
        });
        Self { state, port, server: Some(server) }
    }

    pub fn settings(&self, scheme: &str) -> Vec<(String, String)> {
        [
            ("aws_endpoint", format!("{scheme}://localhost:{}", self.port)),
            ("aws_access_key_id", "AKIATEST".into()),
            ("aws_secret_access_key", "the-secret-key".into()),
            ("aws_region", "us-east-1".into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(server) = self.server.take() {
            server.join().expect("server");
        }
    }
}

fn serve(stream: TcpStream, state: &State, tls: Option<Arc<rustls::ServerConfig>>) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
    match tls {
        None => answer_all(stream, state),
        Some(config) => {
            let connection = rustls::ServerConnection::new(config).expect("TLS");
            answer_all(rustls::StreamOwned::new(connection, stream), state);
        }
    }
}

fn answer_all(mut stream: impl Read + Write, state: &State) {
    while let Some((method, target, headers, body)) = request(&mut stream) {
        if state.silent.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_secs(20));
            return;
        }
        let (status, more, answer) = respond(state, &method, &target, &headers, body);
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\netag: \"e\"\r\nlast-modified: Tue, 24 Nov 2026 00:00:00 GMT\r\n{more}\r\n",
            answer.len()
        );
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&answer)).is_err() {
            return;
        }
        let _ = stream.flush();
    }
}

type Request = (String, String, BTreeMap<String, String>, Vec<u8>);

fn request(stream: &mut impl Read) -> Option<Request> {
    // One byte at a time: what follows the head belongs to the body.
    let mut reader = BufReader::with_capacity(1, stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.to_owned()),
            None => break,
        };
    }
    let length = headers.get("content-length").map_or(0, |text| text.parse().expect("length"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((method, target, headers, body))
}

fn respond(
    state: &State,
    method: &str,
    target: &str,
    headers: &BTreeMap<String, String>,
    body: Vec<u8>,
) -> (&'static str, String, Vec<u8>) {
    let plain = |status, text: &str| (status, String::new(), text.as_bytes().to_vec());
    if state.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
        return plain("503 Slow Down", "<Error>\n<Code>SlowDown</Code>\n</Error>");
    }
    if !headers.get("authorization").is_some_and(|text| text.contains("AKIATEST")) {
        return plain("403 Forbidden", "<Error>\n<Code>AccessDenied</Code>\n</Error>");
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let Some(path) = path.strip_prefix("/bucket") else { return plain("404 Not Found", "NoSuchBucket") };
    let name = path.trim_start_matches('/').to_owned();
    let mut objects = state.objects.lock().expect("lock");
    match method {
        "PUT" if headers.get("if-none-match").is_some_and(|v| v == "*") && objects.contains_key(&name) => {
            plain("412 Precondition Failed", "")
        }
        "PUT" => {
            state.puts.fetch_add(1, Ordering::SeqCst);
            state.order.lock().expect("lock").push(name.clone());
            objects.insert(name, body);
            plain("200 OK", "")
        }
        "GET" if name.is_empty() => {
            let prefix = query
                .split('&')
                .find_map(|pair| pair.strip_prefix("prefix="))
                .unwrap_or_default()
                .replace("%2F", "/");
            let keys = objects.iter().filter(|(name, _)| name.starts_with(&prefix));
            let contents: String = keys
                .map(|(name, bytes)| {
                    format!(
                        "<Contents><Key>{name}</Key><LastModified>2026-11-24T00:00:00.000Z</LastModified><ETag>\"e\"</ETag><Size>{}</Size></Contents>",
                        bytes.len()
                    )
                })
                .collect::<Vec<_>>()
                .concat();
            plain(
                "200 OK",
                &format!("<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"),
            )
        }
        "GET" => match objects.get(&name) {
            Some(bytes) => ("200 OK", String::new(), bytes.clone()),
            None => plain("404 Not Found", "<Error><Code>NoSuchKey</Code></Error>"),
        },
        _ => plain("405 Method Not Allowed", ""),
    }
}
