//! Stand-ins for kube-apiserver, kube-controller-manager and kube-scheduler: their health endpoints.
//!
//! The formats are those of kubernetes `staging/src/k8s.io/apiserver/pkg/server/healthz/healthz.go`;
//! the check names are the ones recorded in `testdata/health`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cprecover::model::Component;
use cprecover::{Error, ErrorKind, Result};

use super::fetch::Peer;
use super::flags::{Flags, ProgramArgs};
use super::serve::{self, TlsFiles};
use crate::console::say;

/// How long the apiserver's etcd check may take (`--etcd-healthcheck-timeout`, default 2 s).
const ETCD_CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Post-start hooks of a real 1.36 apiserver, in the order of its answer.
const HOOKS: &str = include_str!("../../../../testdata/health/apiserver-livez-verbose.txt");

struct Server {
    component: Component,
    etcd: Vec<Peer>,
}

/// Serves a component's health endpoints until it is killed.
pub(crate) fn run(component: Component, args: &ProgramArgs) -> Result<()> {
    let flags = args.parse();
    let default_port = match component {
        Component::KubeControllerManager => "10257",
        Component::KubeScheduler => "10259",
        _ => "6443",
    };
    let address = format!(
        "{}:{}",
        flags.value("bind-address").unwrap_or("0.0.0.0"),
        flags.value("secure-port").unwrap_or(default_port)
    );
    let address: SocketAddr = address
        .parse()
        .map_err(|source| Error::with_source(ErrorKind::Invalid, format!("address {address}"), source))?;
    let bound = serve::bind(address, Some(server_tls(component, &flags)?)).map_err(|message| {
        say(format_args!(
            "E{} server.go:1] \"failed to create listener\" err=\"{message}\"",
            super::klog_now()
        ));
        Error::new(ErrorKind::AlreadyExists, message)
    })?;
    let server = Arc::new(Server { component, etcd: etcd_peers(component, &flags)? });
    let router = Router::new()
        .route("/healthz", get(health))
        .route("/livez", get(health))
        .route("/readyz", get(health))
        .route("/version", get(version))
        .fallback(forbidden)
        .with_state(server);
    serve::serve_forever(vec![(bound, router)])
}

fn server_tls(component: Component, flags: &Flags) -> Result<Arc<rustls::ServerConfig>> {
    if let (Some(certificate), Some(key)) =
        (flags.value("tls-cert-file"), flags.value("tls-private-key-file"))
    {
        let authority = flags.value("client-ca-file").map(Path::new);
        return TlsFiles { certificate: Path::new(certificate), key: Path::new(key), authority }
            .server(false);
    }
    // Controller manager and scheduler make a self-signed certificate in memory, as the real ones do.
    let failed =
        |source| Error::with_source(ErrorKind::Internal, format!("certificate of {component}"), source);
    let made =
        rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()]).map_err(failed)?;
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key)
        })
        .map(Arc::new)
        .map_err(|source| Error::with_source(ErrorKind::Internal, format!("TLS of {component}"), source))
}

fn etcd_peers(component: Component, flags: &Flags) -> Result<Vec<Peer>> {
    if component != Component::KubeApiserver {
        return Ok(Vec::new());
    }
    let tls = match (flags.value("etcd-certfile"), flags.value("etcd-keyfile"), flags.value("etcd-cafile")) {
        (Some(certificate), Some(key), Some(authority)) => {
            let files = TlsFiles {
                certificate: Path::new(certificate),
                key: Path::new(key),
                authority: Some(Path::new(authority)),
            };
            Some(files.client()?)
        }
        _ => None,
    };
    let servers = flags.urls("etcd-servers")?;
    Ok(servers
        .into_iter()
        .map(|(address, is_tls)| Peer { address, tls: tls.clone().filter(|_| is_tls) })
        .collect())
}

impl Server {
    /// Asks every etcd for its health, as the apiserver's check reads a key from one of them.
    async fn etcd_is_healthy(&self) -> bool {
        for peer in &self.etcd {
            if let Ok((200, body)) = peer.send("/health", None, ETCD_CHECK_TIMEOUT).await
                && String::from_utf8_lossy(&body).contains("\"true\"")
            {
                return true;
            }
        }
        false
    }

    /// Returns the checks of an endpoint with their results.
    async fn checks(&self, path: &str) -> Vec<(String, bool)> {
        if self.component == Component::KubeControllerManager {
            return [("leaderElection", true), ("ping", true)].map(|(name, ok)| (name.to_owned(), ok)).into();
        }
        if self.component == Component::KubeScheduler {
            return vec![("ping".to_owned(), true)];
        }
        let etcd = self.etcd_is_healthy().await;
        let mut checks: Vec<(String, bool)> = HOOKS
            .lines()
            .filter_map(|line| line.strip_prefix("[+]")?.strip_suffix(" ok"))
            .map(|name| (name.to_owned(), name != "etcd" || etcd))
            .collect();
        if path == "/readyz" {
            // Upstream's readyz has these three on top of livez.
            let extra = [("etcd-readiness", etcd), ("informer-sync", true), ("shutdown", true)];
            checks.extend(extra.map(|(name, ok)| (name.to_owned(), ok)));
        }
        checks
    }
}

async fn health(State(server): State<Arc<Server>>, uri: Uri, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let excluded: Vec<&str> = query.split('&').filter_map(|pair| pair.strip_prefix("exclude=")).collect();
    let path = uri.path();
    let endpoint = path.trim_start_matches('/');
    let mut text = String::new();
    let mut failed = false;
    for (name, ok) in server.checks(path).await {
        let line = if excluded.contains(&name.as_str()) {
            format!("[+]{name} excluded: ok\n")
        } else if ok {
            format!("[+]{name} ok\n")
        } else {
            failed = true;
            format!("[-]{name} failed: reason withheld\n")
        };
        text.push_str(&line);
    }
    if failed {
        text = text + endpoint + " check failed\n";
        return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
    }
    if query.split('&').any(|pair| pair == "verbose" || pair.starts_with("verbose=")) {
        text = text + endpoint + " check passed\n";
        return text.into_response();
    }
    "ok".into_response()
}

async fn version() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        include_str!("../../../../testdata/health/apiserver-version.json"),
    )
}

async fn forbidden(uri: Uri) -> impl IntoResponse {
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("forbidden: User \"system:anonymous\" cannot get path \"{}\"", uri.path()),
        "reason": "Forbidden", "details": {}, "code": 403,
    });
    (StatusCode::FORBIDDEN, axum::Json(status))
}
