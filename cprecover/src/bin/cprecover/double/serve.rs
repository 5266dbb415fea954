//! HTTP and HTTPS listeners of the stand-in components.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum_server::tls_rustls::RustlsConfig;
use cprecover::{Error, ErrorKind, Result};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Files of one side of a TLS connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TlsFiles<'a> {
    /// Certificate chain, PEM.
    pub(crate) certificate: &'a Path,
    /// Private key, PEM.
    pub(crate) key: &'a Path,
    /// Authority of the other side, PEM.
    pub(crate) authority: Option<&'a Path>,
}

fn invalid(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::with_source(ErrorKind::Invalid, format!("read {}", path.display()), source)
}

impl TlsFiles<'_> {
    fn chain(&self) -> Result<Vec<CertificateDer<'static>>> {
        CertificateDer::pem_file_iter(self.certificate)
            .and_then(Iterator::collect)
            .map_err(|source| invalid(self.certificate, source))
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_file(self.key).map_err(|source| invalid(self.key, source))
    }

    /// Makes a server's configuration; with an authority and `require`, clients need a certificate.
    pub(crate) fn server(&self, require: bool) -> Result<Arc<ServerConfig>> {
        let tls = |source| Error::with_source(ErrorKind::Invalid, "TLS server set-up", source);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(tls)?;
        let builder = match self.authority {
            Some(authority) => {
                let roots = Arc::new(roots(authority)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = if require { verifier } else { verifier.allow_unauthenticated() };
                let verifier = verifier.build().map_err(|source| invalid(authority, source))?;
                builder.with_client_cert_verifier(verifier)
            }
            None => builder.with_no_client_auth(),
        };
        let config = builder.with_single_cert(self.chain()?, self.private_key()?).map_err(tls)?;
        Ok(Arc::new(config))
    }

    /// Makes a client's configuration that presents this certificate.
    pub(crate) fn client(&self) -> Result<Arc<ClientConfig>> {
        let tls = |source| Error::with_source(ErrorKind::Invalid, "TLS client set-up", source);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authority = self.authority.unwrap_or(self.certificate);
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .with_root_certificates(roots(authority)?)
            .with_client_auth_cert(self.chain()?, self.private_key()?)
            .map_err(tls)?;
        Ok(Arc::new(config))
    }
}

/// Makes a client's configuration that presents no certificate.
pub(crate) fn anonymous_client(authority: &Path) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder =
        builder.map_err(|source| Error::with_source(ErrorKind::Invalid, "TLS client set-up", source))?;
    Ok(Arc::new(builder.with_root_certificates(roots(authority)?).with_no_client_auth()))
}

fn roots(authority: &Path) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(authority).map_err(|source| invalid(authority, source))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|source| invalid(authority, source))?;
        store.add(certificate).map_err(|source| invalid(authority, source))?;
    }
    Ok(store)
}

/// A listener that is bound but does not serve yet.
pub(crate) struct Bound {
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
}

/// Binds one address. The message of a failure is Go's: `listen tcp ADDR: bind: address already in use`.
pub(crate) fn bind(address: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Result<Bound, String> {
    let go = |error: &std::io::Error| {
        let reason = match error.kind() {
            std::io::ErrorKind::AddrInUse => "address already in use".to_owned(),
            std::io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
            _ => error.to_string(),
        };
        format!("listen tcp {address}: bind: {reason}")
    };
    let listener = TcpListener::bind(address).map_err(|error| go(&error))?;
    listener.set_nonblocking(true).map_err(|error| go(&error))?;
    Ok(Bound { listener, tls })
}

/// Serves `router` on every listener until the process ends.
pub(crate) fn serve_forever(bound: Vec<(Bound, Router)>) -> Result<()> {
    let failed = |source| Error::io("serve", source);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for (Bound { listener, tls }, router) in bound {
            let service = router.into_make_service();
            tasks.spawn(async move {
                match tls {
                    Some(config) => {
                        axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(config))?
                            .serve(service)
                            .await
                    }
                    None => axum_server::from_tcp(listener)?.serve(service).await,
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended
                .map_err(|source| Error::with_source(ErrorKind::Internal, "server task", source))?
                .map_err(failed)?;
        }
        Ok(())
    })
}
