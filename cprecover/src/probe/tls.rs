//! The TLS side of a probe.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};

use super::{ClientIdentity, Target, Trust};
use crate::error::{Error, ErrorKind, Result};

/// Most certificates that are read of one PEM text.
const MAX_CERTIFICATES: usize = 256;

/// Begins a TLS connection as `target` wants it; `None` for plain HTTP.
pub(super) fn connection(target: &Target) -> Result<Option<ClientConnection>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|source| Error::with_source(ErrorKind::Internal, "choose TLS versions", source))?;
    let (config, name) = match &target.trust {
        Trust::PlainHttp => return Ok(None),
        Trust::Ca { roots_pem, server_name } => {
            let verified = builder.with_root_certificates(roots(roots_pem)?);
            let config = match &target.identity {
                Some(identity) => {
                    let (chain, key) = identity_of(identity)?;
                    verified.with_client_auth_cert(chain, key).map_err(|source| {
                        Error::with_source(ErrorKind::Invalid, "client certificate and key", source)
                    })?
                }
                None => verified.with_no_client_auth(),
            };
            let name = ServerName::try_from(server_name.clone()).map_err(|source| {
                Error::with_source(ErrorKind::Invalid, format!("server name {server_name:?}"), source)
            })?;
            (config, name)
        }
        // No client certificate: it would be shown to whoever listens there.
        Trust::Insecure => {
            let config = builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
                .with_no_client_auth();
            (config, ServerName::from(target.address.ip()))
        }
    };
    ClientConnection::new(Arc::new(config), name)
        .map(Some)
        .map_err(|source| Error::with_source(ErrorKind::Invalid, "begin TLS", source))
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>> {
    let read: std::result::Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(pem).take(MAX_CERTIFICATES).collect();
    let read =
        read.map_err(|source| Error::with_source(ErrorKind::Invalid, format!("PEM of {what}"), source))?;
    if read.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, format!("PEM of {what} holds no certificate")));
    }
    Ok(read)
}

fn roots(pem: &[u8]) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem, "the CA")? {
        store
            .add(certificate)
            .map_err(|source| Error::with_source(ErrorKind::Invalid, "the CA certificate", source))?;
    }
    Ok(store)
}

fn identity_of(identity: &ClientIdentity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = certificates(&identity.chain_pem, "the client certificate")?;
    let key = PrivateKeyDer::from_pem_slice(&identity.key_pem)
        .map_err(|source| Error::with_source(ErrorKind::Invalid, "PEM of the client key", source))?;
    Ok((chain, key))
}

/// Takes any certificate, but still proves that the peer holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
