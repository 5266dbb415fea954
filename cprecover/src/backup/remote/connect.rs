//! HTTPS as this crate does it: rustls with ring, the machine's roots, no proxy out of the environment.

use std::sync::Arc;
use std::time::Duration;

use object_store::ClientOptions;
use object_store::client::{ClientConfigKey, HttpClient, HttpConnector};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_platform_verifier::Verifier;

use crate::error::{Error, ErrorKind, Result};

/// How long one connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may be silent; the caller's deadline bounds the whole.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// Most certificates that are read of one PEM text.
const MAX_CERTIFICATES: usize = 256;

/// Makes the HTTP clients of a remote.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    tls: ClientConfig,
}

impl Connector {
    /// Trusts the machine's roots and those in `roots_pem`.
    pub(super) fn new(roots_pem: &[u8]) -> Result<Self> {
        let invalid = |source: rustls::Error| Error::with_source(ErrorKind::Invalid, "prepare TLS", source);
        let mut roots = Vec::new();
        for root in CertificateDer::pem_slice_iter(roots_pem).take(MAX_CERTIFICATES) {
            roots.push(root.map_err(|source| {
                Error::with_source(ErrorKind::Invalid, "certificates of the remote's roots", source)
            })?);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier::new_with_extra_roots(roots, Arc::clone(&provider)).map_err(invalid)?;
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(invalid)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Self { tls })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let failed = |source: reqwest::Error| object_store::Error::Generic {
            store: "HTTP client",
            source: Box::new(source),
        };
        let allow_http = options.get_config_value(&ClientConfigKey::AllowHttp);
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_TIMEOUT)
            .https_only(allow_http.as_deref() != Some("true"))
            // reqwest would otherwise read HTTPS_PROXY and the like.
            .no_proxy();
        if let Some(url) = options.get_config_value(&ClientConfigKey::ProxyUrl) {
            builder = builder.proxy(reqwest::Proxy::all(url).map_err(failed)?);
        }
        Ok(HttpClient::new(builder.build().map_err(failed)?))
    }
}
