#![allow(clippy::indexing_slicing, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::*;
use crate::healthz::Verdict;
use crate::sys::{CancelToken, Deadline};

/// Serves one connection with `serve`.
fn server(serve: impl FnOnce(TcpStream) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("accept");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        serve(stream);
    });
    (address, thread)
}

fn request(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        read.push(byte[0]);
    }
    String::from_utf8(read).expect("text")
}

fn reply(answer: &'static [u8]) -> (SocketAddr, JoinHandle<()>) {
    server(move |mut stream| {
        let head = request(&mut stream);
        assert!(head.starts_with("GET /livez?verbose HTTP/1.1\r\n"), "{head}");
        stream.write_all(answer).expect("answer");
    })
}

fn ask(address: SocketAddr, trust: Trust, limits: &Limits) -> (Outcome, Duration) {
    let start = Instant::now();
    let target = Target::new(address, "/livez?verbose", trust);
    let outcome = probe(&target, limits, &Deadline::after(Duration::from_secs(20))).expect("probes");
    (outcome, start.elapsed())
}

fn plain(address: SocketAddr) -> Outcome {
    ask(address, Trust::PlainHttp, &Limits::default()).0
}

fn short() -> Limits {
    Limits {
        connect: Duration::from_millis(300),
        first_byte: Duration::from_millis(400),
        whole: Duration::from_millis(800),
        ..Limits::default()
    }
}

#[track_caller]
fn verdict(outcome: &Outcome) -> (Option<u16>, Verdict) {
    let Outcome::Answered { report } = outcome else { panic!("{outcome:?}") };
    (report.code, report.verdict)
}

#[test]
fn answers_with_length_in_chunks_and_to_the_end() {
    let answers: [(&[u8], u16, Verdict); 5] = [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, Verdict::Healthy),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", 200, Verdict::Healthy),
        (b"HTTP/1.0 200 OK\r\n\r\nok", 200, Verdict::Healthy),
        (b"HTTP/1.1 500 No\r\nContent-Length: 46\r\n\r\n[-]etcd failed: reason withheld\nhealthz check failed", 500, Verdict::Unhealthy),
        // No redirect is followed: it is an answer that says nothing.
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 302, Verdict::AliveUndetermined),
    ];
    for (answer, code, expected) in answers {
        let (address, thread) = reply(answer);
        assert_eq!(verdict(&plain(address)), (Some(code), expected));
        thread.join().expect("server");
    }
}

#[test]
fn refused_reset_and_nonsense_are_told_apart() {
    let free = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address");
    assert_eq!(plain(free), Outcome::Refused);
    let (address, thread) = server(|mut stream| drop(request(&mut stream)));
    assert_eq!(plain(address), Outcome::Reset { phase: Phase::FirstByte });
    thread.join().expect("server");
    let (address, thread) = reply(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nok");
    assert_eq!(plain(address), Outcome::Reset { phase: Phase::Body });
    thread.join().expect("server");
    let (address, thread) = reply(b"SSH-2.0-OpenSSH_9.2\r\n");
    assert!(matches!(plain(address), Outcome::NotHttp { .. }));
    thread.join().expect("server");
}

#[test]
fn a_hung_server_costs_no_more_than_the_deadline() {
    // Accepts (the kernel does) and never says a word, as a stopped etcd.
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let (outcome, took) = ask(address, Trust::PlainHttp, &short());
    assert_eq!(outcome, Outcome::Hung { phase: Phase::FirstByte });
    assert!(took >= Duration::from_millis(350) && took < Duration::from_millis(700), "{took:?}");
    let (outcome, took) = ask(address, Trust::Insecure, &short());
    assert_eq!(outcome, Outcome::Hung { phase: Phase::Handshake });
    assert!(took < Duration::from_millis(700), "{took:?}");
    // One byte after the other keeps nobody waiting for ever.
    let (address, thread) = server(|mut stream| {
        request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let (outcome, took) = ask(address, Trust::PlainHttp, &short());
    assert_eq!(outcome, Outcome::Hung { phase: Phase::Body });
    assert!(took < Duration::from_millis(1200), "{took:?}");
    thread.join().expect("server");
}

#[test]
fn a_full_queue_is_a_timeout_and_a_broadcast_address_is_unreachable() {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).expect("socket");
    bind(&fd, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("bind");
    listen(&fd, 0).expect("listen");
    let address = SocketAddr::try_from(getsockname(&fd).expect("name")).expect("an address");
    // Nobody accepts: once the queue is full, the kernel drops what asks to connect.
    let filled: Vec<_> =
        (0..4).map_while(|_| TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok()).collect();
    assert!(filled.len() < 4, "the queue takes no more than its length");
    let (outcome, took) = ask(address, Trust::PlainHttp, &short());
    assert_eq!(outcome, Outcome::Timeout);
    assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(5), "{took:?}");
    // TCP to a broadcast address fails in the kernel, without a packet.
    let (outcome, _) = ask("255.255.255.255:6443".parse().expect("address"), Trust::PlainHttp, &short());
    assert!(matches!(outcome, Outcome::Unreachable { .. }), "{outcome:?}");
}

#[test]
fn a_reset_is_told_in_each_phase() {
    // SO_LINGER of zero makes close(2) a reset.
    fn reset(stream: &TcpStream) {
        rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).expect("linger");
    }
    let (address, thread) = server(|stream| reset(&stream));
    assert!(matches!(plain(address), Outcome::Reset { .. }));
    thread.join().expect("server");
    let (address, thread) = server(|mut stream| {
        request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok").expect("writes");
        std::thread::sleep(Duration::from_millis(100));
        reset(&stream);
    });
    assert_eq!(plain(address), Outcome::Reset { phase: Phase::Body });
    thread.join().expect("server");
    let (address, thread) = server(|stream| reset(&stream));
    let (outcome, _) = ask(address, Trust::Insecure, &Limits::default());
    assert_eq!(outcome, Outcome::Reset { phase: Phase::Handshake });
    thread.join().expect("server");
}

#[test]
fn a_peer_that_never_pauses_is_cut_at_the_deadline_too() {
    // Chunks of one byte without end: data is always there, so that poll(2) never waits.
    let (address, thread) = server(|mut stream| {
        request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunks = b"1\r\nx\r\n".repeat(2000);
        while stream.write_all(&chunks).is_ok() {}
    });
    let limits = Limits { body_bytes: 64 << 20, ..short() };
    let (outcome, took) = ask(address, Trust::PlainHttp, &limits);
    assert_eq!(outcome, Outcome::Hung { phase: Phase::Body });
    assert!(took < Duration::from_secs(10), "{took:?}");
    thread.join().expect("server");
}

#[test]
fn the_default_cap_is_one_mebibyte() {
    assert_eq!(Limits::default().body_bytes, 1 << 20);
    let (address, thread) = server(|mut stream| {
        request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n[+]ping ok\n");
        let more = vec![b'x'; 65536];
        while stream.write_all(&more).is_ok() {}
    });
    let Outcome::Answered { report } = plain(address) else { panic!("an answer") };
    assert!(report.checks.iter().any(|check| check.name == "ping"), "{report:?}");
    thread.join().expect("server");
}

#[test]
fn a_cancel_is_seen_soon() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let cancel = CancelToken::default();
    let deadline = Deadline::after(Duration::from_secs(20)).with_cancel(cancel.clone());
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(150));
        cancel.cancel();
    });
    let start = Instant::now();
    let target = Target::new(address, "/", Trust::PlainHttp);
    let error = probe(&target, &Limits::default(), &deadline).expect_err("cancelled");
    assert_eq!(error.kind(), crate::ErrorKind::Cancelled);
    assert!(start.elapsed() < Duration::from_secs(2));
    canceller.join().expect("thread");
}

#[test]
fn a_body_is_cut_at_its_limit() {
    let (address, thread) = server(|mut stream| {
        request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 16_000]).is_ok() {}
    });
    let limits = Limits { body_bytes: 10_000, ..Limits::default() };
    let (outcome, took) = ask(address, Trust::PlainHttp, &limits);
    assert_eq!(verdict(&outcome).1, Verdict::AliveUndetermined);
    assert!(took < Duration::from_secs(5));
    thread.join().expect("server");
}

#[test]
fn malformed_targets_are_errors() {
    let address: SocketAddr = "127.0.0.1:1".parse().expect("address");
    let deadline = Deadline::after(Duration::from_secs(5));
    let bad_path = Target::new(address, "/a b\r\nX: y", Trust::PlainHttp);
    let bad_ca =
        Target::new(address, "/", Trust::Ca { roots_pem: b"no pem".to_vec(), server_name: "a".to_owned() });
    for target in [bad_path, bad_ca] {
        let error = probe(&target, &Limits::default(), &deadline).expect_err("malformed");
        assert_eq!(error.kind(), crate::ErrorKind::Invalid);
    }
}

/// TLS against a server with a certificate of a CA of its own.
#[cfg(feature = "cli")]
mod tls {
    use std::sync::Arc;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::server::WebPkiClientVerifier;
    use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

    use super::*;

    struct Pki {
        ca: CertifiedIssuer<'static, KeyPair>,
    }

    impl Pki {
        fn new() -> Self {
            let mut params = CertificateParams::new(Vec::new()).expect("params");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("sign");
            Self { ca }
        }

        fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
            let key = KeyPair::generate().expect("key");
            let params = CertificateParams::new(vec![name.to_owned()]).expect("params");
            (params.signed_by(&key, &self.ca).expect("sign"), key)
        }

        /// Serves one TLS connection that asks for a client certificate of this CA.
        fn serve(&self, name: &str, wants_client: bool) -> (SocketAddr, JoinHandle<()>) {
            let (certificate, key) = self.issue(name);
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .expect("versions");
            let builder = if wants_client {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from(self.ca.der().to_vec())).expect("root");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().expect("verifier"))
            } else {
                builder.with_no_client_auth()
            };
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
            let config = builder.with_single_cert(vec![certificate.der().clone()], key).expect("config");
            server(move |stream| {
                let connection = ServerConnection::new(Arc::new(config)).expect("server");
                let mut stream = StreamOwned::new(connection, stream);
                let mut head = [0; 1024];
                if stream.read(&mut head).is_ok_and(|count| count > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                }
            })
        }

        fn trust(&self, name: &str) -> Trust {
            Trust::Ca { roots_pem: self.ca.pem().into_bytes(), server_name: name.to_owned() }
        }
    }

    #[test]
    fn the_nodes_own_ca_and_client_certificate() {
        let pki = Pki::new();
        let (address, thread) = pki.serve("kubernetes.default.svc", true);
        let (certificate, key) = pki.issue("client");
        let mut target = Target::new(address, "/livez", pki.trust("kubernetes.default.svc"));
        target.identity = Some(ClientIdentity {
            chain_pem: certificate.pem().into_bytes(),
            key_pem: key.serialize_pem().into_bytes(),
        });
        assert!(!format!("{target:?}").contains("PRIVATE"), "a key never reaches a log");
        let outcome =
            probe(&target, &Limits::default(), &Deadline::after(Duration::from_secs(20))).expect("probes");
        assert_eq!(verdict(&outcome), (Some(200), Verdict::Healthy));
        thread.join().expect("server");
    }

    #[test]
    fn a_foreign_ca_a_wrong_name_and_a_missing_client_certificate_fail_in_tls() {
        let (pki, foreign) = (Pki::new(), Pki::new());
        let cases = [
            (foreign.trust("a.example"), false),
            (pki.trust("b.example"), false),
            (pki.trust("a.example"), true),
        ];
        for (trust, wants_client) in cases {
            let (address, thread) = pki.serve("a.example", wants_client);
            let (outcome, _) = ask(address, trust, &Limits::default());
            assert!(matches!(outcome, Outcome::Tls { .. }), "{outcome:?}");
            thread.join().expect("server");
        }
    }

    #[test]
    fn insecure_takes_any_certificate_and_plain_servers_are_no_tls() {
        let (address, thread) = Pki::new().serve("a.example", false);
        assert_eq!(verdict(&ask(address, Trust::Insecure, &Limits::default()).0).1, Verdict::Healthy);
        thread.join().expect("server");
        let (address, thread) = server(|mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        });
        let (outcome, _) = ask(address, Trust::Insecure, &Limits::default());
        assert!(matches!(outcome, Outcome::Tls { .. }), "{outcome:?}");
        thread.join().expect("server");
    }
}
