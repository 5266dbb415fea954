//! The node's own API server, asked over HTTPS with the certificate of `admin.conf`.
//!
//! One request, one connection, on the caller's thread; no name is looked up: the server is asked at the
//! address that its manifest says, under the name that kubeadm puts into every serving certificate. What
//! logs in otherwise than by a certificate is left to `kubectl`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::etcd::http::{self, Limits, Request, Tls};
use crate::etcd::{ClientTls, tls_of};
use crate::kubeadm::ClusterReader;
use crate::model::{Component, Port};
use crate::node::NodeOptions;
use crate::parse::manifest::{MAX_MANIFEST_BYTES, StaticPod};
use crate::parse::yaml;
use crate::sys::{Deadline, read_bounded};

/// Kubeconfigs of an administrator, in this order; the second one is a member of `system:masters`
/// (kubernetes `cmd/kubeadm/app/constants/constants.go`, 1.29 and newer).
const KUBECONFIGS: [&str; 2] = ["admin.conf", "super-admin.conf"];
const LIMITS: Limits = Limits { connect: Duration::from_secs(1), silence: Duration::from_secs(4) };
const CALL_TIMEOUT: Duration = Duration::from_secs(8);
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// Asks the API server of this node.
#[derive(Debug, Clone)]
pub struct ApiServer {
    address: SocketAddr,
    tls: Option<Tls>,
}

impl ApiServer {
    /// Finds address, authority and client certificate on the node.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] without a kubeconfig of an administrator, [`ErrorKind::Unsupported`] for one
    /// that logs in otherwise than by a certificate, and the kinds of failed reads.
    pub fn of_node(node: &NodeOptions) -> Result<Self> {
        let mut last = None;
        for name in KUBECONFIGS {
            let path = node.resolve(node.kubernetes_dir.join(name));
            match read_bounded(&path, yaml::MAX_DOCUMENT_BYTES) {
                Ok(bytes) => {
                    let address = address_of(node)?;
                    let tls = tls(node, &bytes).map_err(|error| error.context(path.display()))?;
                    return Ok(Self { address, tls: Some(tls_of(&tls, address)?) });
                }
                Err(error) if error.kind() == ErrorKind::NotFound => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::new(ErrorKind::NotFound, "no kubeconfig of an administrator")))
    }

    /// Returns the same way to ask another node's API server of this cluster: kubeadm gives all of them one
    /// port, one authority and one name.
    #[must_use]
    pub(crate) fn at(&self, ip: IpAddr) -> Self {
        Self { address: SocketAddr::new(ip, self.address.port()), tls: self.tls.clone() }
    }

    /// Returns where it is asked.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    #[cfg(test)]
    pub(crate) const fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }

    /// Sends one request; returns status and body.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`], [`ErrorKind::Cancelled`] and [`ErrorKind::Peer`]; a status is none.
    pub fn call(
        &self,
        method: &'static str,
        path: &str,
        body: Option<&Value>,
        deadline: &Deadline,
    ) -> Result<(u16, Vec<u8>)> {
        let text = body.map(ToString::to_string);
        let request = Request { path, json: text.as_deref(), method };
        let deadline = deadline.at_most(CALL_TIMEOUT);
        let reply = http::send(self.address, self.tls.as_ref(), request, LIMITS, &deadline)
            .map_err(|error| error.context("API server"))?;
        Ok((reply.status, reply.read_all(MAX_ANSWER_BYTES, &deadline)?))
    }
}

impl ClusterReader for ApiServer {
    fn config_map(&self, namespace: &str, name: &str, deadline: &Deadline) -> Result<Vec<u8>> {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/{name}");
        match self.call("GET", &path, None, deadline)? {
            (200, body) => Ok(body),
            (status, body) => Err(refused(&path, status, &body)),
        }
    }
}

/// Says what the API server answered instead of what was asked for.
pub(crate) fn refused(path: &str, status: u16, body: &[u8]) -> Error {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = value.get("message").and_then(Value::as_str).map(str::to_owned);
    let text = text.unwrap_or_else(|| String::from_utf8_lossy(body).chars().take(200).collect());
    let kind = if status == 404 { ErrorKind::NotFound } else { ErrorKind::Peer };
    Error::new(kind, format!("API server answered {status} for {path}: {}", text.trim().replace('\n', " ")))
}

fn address_of(node: &NodeOptions) -> Result<SocketAddr> {
    let path = node.manifests().join(Component::KubeApiserver.manifest_file());
    let pod = match read_bounded(&path, MAX_MANIFEST_BYTES) {
        Ok(bytes) => StaticPod::parse_as_kubelet(&bytes).ok(),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let flag = |name: &str| pod.as_ref().and_then(|pod| pod.flag(name));
    let port = match flag("secure-port") {
        Some(text) => text.parse::<Port>()?.get(),
        None => 6443,
    };
    let ip = flag("bind-address").and_then(|text| text.parse::<IpAddr>().ok());
    let ip = ip.filter(|ip| !ip.is_unspecified()).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    Ok(SocketAddr::new(ip, port))
}

fn tls(node: &NodeOptions, kubeconfig: &[u8]) -> Result<ClientTls> {
    let value: Value = yaml::from_slice(kubeconfig)?;
    let part = |path: &str, data: &str, file: &str| -> Result<Option<Vec<u8>>> {
        let Some(part) = value.pointer(path) else { return Ok(None) };
        if let Some(text) = part.get(data).and_then(Value::as_str) {
            let decoded = base64::engine::general_purpose::STANDARD.decode(text.trim());
            let failed = |source| Error::with_source(ErrorKind::Invalid, data.to_owned(), source);
            return decoded.map(Some).map_err(failed);
        }
        let Some(file) = part.get(file).and_then(Value::as_str) else { return Ok(None) };
        read_bounded(&node.resolve(file), yaml::MAX_DOCUMENT_BYTES).map(Some)
    };
    let authority = part("/clusters/0/cluster", "certificate-authority-data", "certificate-authority")?;
    let chain = part("/users/0/user", "client-certificate-data", "client-certificate")?;
    let key = part("/users/0/user", "client-key-data", "client-key")?;
    let (Some(authority), Some(chain), Some(key)) = (authority, chain, key) else {
        let message = "no certificate to log in with, or no authority to trust";
        return Err(Error::new(ErrorKind::Unsupported, message));
    };
    let mut tls = ClientTls::new(authority).identity(chain, key);
    // The one name that kubeadm puts into every API server's certificate (kubeadm `util/pkiutil`).
    tls.server_name = Some("kubernetes.default.svc".to_owned());
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// Answers one request and returns it.
    fn answer(status: u16, body: String) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut request = Vec::new();
            let mut piece = [0; 1024];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                let count = stream.read(&mut piece).expect("read");
                assert!(count > 0, "the request has an end");
                request.extend(piece.iter().take(count));
            }
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).expect("write");
            String::from_utf8(request).expect("UTF-8")
        });
        (address, thread)
    }

    #[test]
    fn a_config_map_is_read_and_a_refusal_says_why() {
        let deadline = Deadline::after(Duration::from_secs(20));
        let object = r#"{"kind":"ConfigMap","data":{"ClusterConfiguration":"kind: ClusterConfiguration\n"}}"#;
        let (address, server) = answer(200, object.to_owned());
        let read = ApiServer::plain(address).config_map("kube-system", "kubeadm-config", &deadline);
        assert_eq!(read.expect("read"), object.as_bytes());
        let request = server.join().expect("server");
        let path = "GET /api/v1/namespaces/kube-system/configmaps/kubeadm-config HTTP/1.1\r\n";
        assert!(request.starts_with(path), "{request}");

        let forbidden = r#"{"kind":"Status","message":"configmaps is forbidden"}"#;
        let (address, server) = answer(403, forbidden.to_owned());
        let read = ApiServer::plain(address).config_map("kube-system", "kubeadm-config", &deadline);
        let error = read.expect_err("forbidden");
        assert_eq!(error.kind(), ErrorKind::Peer);
        assert!(error.to_string().contains("403") && error.to_string().contains("is forbidden"), "{error}");
        server.join().expect("server");
    }

    #[test]
    fn a_kubeconfig_without_a_certificate_is_left_to_kubectl() {
        let dir = tempfile::tempdir().expect("temp dir");
        let node = NodeOptions::at(dir.path()).expect("absolute");
        assert_eq!(ApiServer::of_node(&node).expect_err("none").kind(), ErrorKind::NotFound);
        std::fs::create_dir_all(node.resolve("/etc/kubernetes")).expect("mkdir");
        let path = node.resolve("/etc/kubernetes/admin.conf");
        std::fs::write(&path, "kind: Config\nusers:\n- name: a\n  user:\n    token: t\n").expect("write");
        let error = ApiServer::of_node(&node).expect_err("a token");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("admin.conf"), "{error}");
    }
}
