//! A step on an etcd member of several waits for the lease of the cluster, which its API server gives over TLS.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cprecover::model::Component;
use cprecover::policy::{Action, contract};
use cprecover::recover::{Host, LeaseLock, NodeWorld, Prepared, World as _, observe};
use cprecover::sys::Deadline;
use cprecover::{ErrorKind, NodeOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const KUBECONFIG: &str = "kind: Config
clusters:
- cluster: {certificate-authority: /etc/kubernetes/pki/ca.crt}
users:
- user: {client-certificate: /etc/kubernetes/pki/client.crt, client-key: /etc/kubernetes/pki/client.key}
";

fn pod(component: &str, command: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {component}, namespace: kube-system}}\n\
         spec: {{containers: [{{name: {component}, image: i, command: [{component}, {command}]}}]}}\n"
    )
}

/// Writes authority and client certificate below `root`, and returns what the server shows.
fn certificates(root: &Path) -> (String, String) {
    let pki = root.join("etc/kubernetes/pki");
    std::fs::create_dir_all(&pki).expect("a folder");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
    let issue = |name: &str| {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        (params.signed_by(&key, &authority).expect("signed").pem(), key.serialize_pem())
    };
    let (certificate, key) = issue("kubernetes-admin");
    for (file, text) in [("ca.crt", authority.pem()), ("client.crt", certificate), ("client.key", key)] {
        std::fs::write(pki.join(file), text).expect("a file");
    }
    issue("kubernetes.default.svc")
}

/// An API server that answers everything with a lease of `holder`, which does not run out.
fn api_server(holder: &str, (certificate, key): (String, String)) -> SocketAddr {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<_, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .expect("a server");
    let config = Arc::new(config);
    let body = format!(
        r#"{{"metadata":{{"name":"cprecover"}},"spec":{{"holderIdentity":"{holder}","leaseDurationSeconds":300,"acquireTime":"2999-01-01T00:00:00.000000Z","renewTime":"2999-01-01T00:00:00.000000Z"}}}}"#
    );
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    // It ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).expect("a connection");
            let mut stream = rustls::StreamOwned::new(connection, stream);
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                head.extend(byte);
            }
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    address
}

/// A step on this node's etcd, in a cluster of two, while `holder` has the lease.
fn prepared(holder: &str) -> cprecover::Result<Option<Prepared>> {
    let root = tempfile::tempdir().expect("a folder");
    let address = api_server(holder, certificates(root.path()));
    let manifests = root.path().join("etc/kubernetes/manifests");
    std::fs::create_dir_all(&manifests).expect("a folder");
    std::fs::write(root.path().join("etc/kubernetes/admin.conf"), KUBECONFIG).expect("a file");
    std::fs::write(manifests.join("etcd.yaml"), pod("etcd", "--name=cp1")).expect("a manifest");
    let flags = format!("--bind-address=127.0.0.1, --secure-port={}", address.port());
    std::fs::write(manifests.join("kube-apiserver.yaml"), pod("kube-apiserver", &flags)).expect("a manifest");
    let mut node = NodeOptions::at(root.path()).expect("absolute");
    node.node_name = Some("cp1".into());
    let host = Host::new(&node);
    let deadline = Deadline::after(Duration::from_mins(1));
    let mut seen = observe(&host, &deadline);
    let member = |name: &str| contract::EtcdMember { name: name.to_owned(), ..Default::default() };
    seen.etcd.members = vec![member("cp1"), member("cp2")];
    let bounce = Action::BounceStaticPod { component: Component::Etcd };
    let world = NodeWorld::new(Host::new(&node), Vec::new());
    world.with_cluster_lock(LeaseLock::new(&host)).prepare(&bounce, &seen, &deadline)
}

#[test]
fn a_member_is_left_alone_while_another_node_of_the_cluster_is_worked_on() {
    let error = prepared("cp2").expect_err("cp2 has the lease");
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!(error.to_string().contains("worked on by node cp2"), "{error}");
    // Nobody has it: whatever else is wrong with this node, it is not the lease.
    if let Err(error) = prepared("") {
        assert_ne!(error.kind(), ErrorKind::Busy, "{error}");
    }
}
