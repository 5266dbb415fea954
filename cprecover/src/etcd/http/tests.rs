use std::net::TcpListener;

use proptest::prelude::*;

use super::*;

/// Serves one connection with `parts`, written one after the other.
fn serve(parts: Vec<Vec<u8>>, hold: Duration) -> (SocketAddr, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let thread = std::thread::spawn(move || {
        let Ok((mut socket, _)) = listener.accept() else { return };
        let mut request = [0_u8; 4096];
        let _ = socket.read(&mut request);
        for part in parts {
            let _ = socket.write_all(&part);
            let _ = socket.flush();
            std::thread::sleep(Duration::from_millis(3));
        }
        std::thread::sleep(hold);
    });
    (address, thread)
}

fn get(parts: Vec<Vec<u8>>, hold: Duration, silence: Duration) -> Result<(u16, Vec<u8>)> {
    let (address, thread) = serve(parts, hold);
    let limits = Limits { connect: Duration::from_secs(1), silence };
    let deadline = Deadline::after(Duration::from_secs(5));
    let request = Request::new("/x", None);
    let result = send(address, None, request, limits, &deadline)
        .and_then(|reply| Ok((reply.status, reply.read_all(1 << 20, &deadline)?)));
    thread.join().expect("server ends");
    result
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn length_chunks_and_end_of_connection() {
    let split = |text: &str| text.as_bytes().chunks(7).map(<[u8]>::to_vec).collect::<Vec<_>>();
    for answer in [
        "HTTP/1.1 503 x\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 503 x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=1\r\nlo\r\n0\r\n\r\n",
        "HTTP/1.0 503 x\r\n\r\nhello",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 x\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let got = get(split(answer), Duration::ZERO, SECOND).expect("answers");
        assert_eq!(got, (503, b"hello".to_vec()), "{answer}");
    }
}

#[test]
fn a_silent_peer_and_a_cut_answer_end() {
    let start = Instant::now();
    let error = get(Vec::new(), 2 * SECOND, SECOND / 4).expect_err("silent");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhel".to_vec();
    assert_eq!(get(vec![cut], Duration::ZERO, SECOND).expect_err("cut").kind(), ErrorKind::Peer);
    let wrong = b"SSH-2.0-OpenSSH_9.2\r\n".to_vec();
    assert!(get(vec![wrong], Duration::ZERO, SECOND).expect_err("ssh").to_string().contains("HTTP/1"));
    assert!(start.elapsed() < 4 * SECOND);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_answer_ends(mut answer in proptest::collection::vec(any::<u8>(), 0..600), http in any::<bool>()) {
        if http {
            answer.splice(..0, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".iter().copied());
        }
        let _ = get(vec![answer], Duration::ZERO, SECOND / 2);
    }
}
