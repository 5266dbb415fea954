//! Certificates of the node, read from files: every `.crt` and `.pem` of the pki folder and of
//! kubelet, and what is embedded in the kubeconfigs.

use std::path::{Path, PathBuf};

use cprecover_policies::{KUBELET_CLIENT, NEEDED_CERTIFICATES};
use x509_parser::certificate::X509Certificate;
use x509_parser::error::PEMError;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;

use super::{CertificateFact, HostFacts, NO_CERTIFICATE};
use crate::error::{Error, ErrorKind, Result};
use crate::node::NodeOptions;
use crate::sys::read_bounded;

const MAX_FILE: usize = 1 << 20;
const MAX_FILES: usize = 256;
const MAX_IN_FILE: usize = 64;
/// Files of kubeadm (`constants.go`); kubelet's certificate is named by the last one.
const KUBECONFIGS: [&str; 5] =
    ["admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf", "kubelet.conf"];

impl CertificateFact {
    /// Reports whether it is valid at this time.
    pub(crate) const fn is_in_force(&self, now_unix: i64) -> bool {
        self.not_before_unix <= now_unix && now_unix <= self.not_after_unix
    }
}

impl HostFacts {
    /// Certificates that are not in force; of a bundle of CAs only where none of it is, since whoever verifies by
    /// it needs one (RFC 5280, 6.1: any trust anchor).
    pub(crate) fn certificates_out_of_force(&self) -> impl Iterator<Item = &CertificateFact> {
        self.certificates.iter().filter(|fact| !fact.is_in_force(self.now_unix) && !self.has_stand_in(fact))
    }

    fn has_stand_in(&self, fact: &CertificateFact) -> bool {
        let of_bundle = |other: &&CertificateFact| other.is_ca && other.path == fact.path;
        fact.is_ca && self.certificates.iter().filter(of_bundle).any(|ca| ca.is_in_force(self.now_unix))
    }

    /// Reports whether kubelet or a component of a kubeadm node works with the certificates of this file.
    pub(crate) fn is_needed(&self, path: &Path) -> bool {
        let Some(name) = path.file_name().and_then(std::ffi::OsStr::to_str) else { return false };
        let is_rotated = || self.certificates.iter().any(|fact| fact.path.ends_with(KUBELET_CLIENT));
        NEEDED_CERTIFICATES.contains(&name) || (name == "kubelet.conf" && !is_rotated())
    }
}

/// Reads all certificates; files that cannot be read are listed with the reason.
pub(super) fn read(node: &NodeOptions) -> (Vec<CertificateFact>, Vec<(PathBuf, String)>) {
    let mut found = Vec::new();
    let mut failed = Vec::new();
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in [node.pki_dir.clone(), node.pki_dir.join("etcd")] {
        match names(&node.resolve(&folder)) {
            Ok(names) => files.extend(
                names.into_iter().filter(|name| has_extension(name, "crt")).map(|name| folder.join(name)),
            ),
            // External etcd has its files elsewhere; a node without any has them in another folder.
            Err(error) if error.kind() == ErrorKind::NotFound && folder != node.pki_dir => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let reason = format!("{error}; where kubeadm's certificatesDir is another, set pkiDir");
                failed.push((folder, reason));
            }
            Err(error) => failed.push((folder, error.to_string())),
        }
    }
    files.push(node.kubelet_certificate());
    for path in files.into_iter().take(MAX_FILES) {
        keep(&path, read_pem(node, &path), &mut found, &mut failed);
    }
    for name in KUBECONFIGS {
        let path = node.kubernetes_dir.join(name);
        keep(&path, read_kubeconfig(node, &path), &mut found, &mut failed);
    }
    (found, failed)
}

fn keep(
    path: &Path,
    read: Result<Vec<CertificateFact>>,
    found: &mut Vec<CertificateFact>,
    failed: &mut Vec<(PathBuf, String)>,
) {
    match read {
        Ok(certificates) => found.extend(certificates),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => failed.push((path.to_owned(), error.to_string())),
    }
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|source| Error::path("open", folder, source))? {
        let entry = entry.map_err(|source| Error::path("read", folder, source))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
        if names.len() >= MAX_FILES {
            break;
        }
    }
    names.sort();
    Ok(names)
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

/// Reads bytes as PEM, as DER and as a kubeconfig, for fuzzing.
pub(crate) fn read_any(path: &Path, bytes: &[u8]) {
    let _ = parse_pem(path, bytes);
    let _ = parse_kubeconfig(path, bytes);
    if let Ok((_, certificate)) = X509Certificate::from_der(bytes) {
        let _ = fact(path, &certificate);
    }
}

fn read_pem(node: &NodeOptions, path: &Path) -> Result<Vec<CertificateFact>> {
    parse_pem(path, &read_bounded(&node.resolve(path), MAX_FILE)?)
}

/// Reads the certificates of a PEM text; keys and other blocks are passed over.
pub(super) fn parse_pem(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateFact>> {
    let invalid = |what: String| Error::new(ErrorKind::Invalid, format!("{}: {what}", path.display()));
    let mut found = Vec::new();
    for block in Pem::iter_from_buffer(bytes).take(MAX_IN_FILE) {
        let block = match block {
            Ok(block) => block,
            // A file that was cut off within its first block.
            Err(PEMError::IncompletePEM) if found.is_empty() => break,
            Err(error) => return Err(invalid(error.to_string())),
        };
        if block.label == "CERTIFICATE" {
            let certificate = block.parse_x509().map_err(|error| invalid(error.to_string()))?;
            found.push(fact(path, &certificate));
        }
    }
    if found.is_empty() { Err(invalid(NO_CERTIFICATE.to_owned())) } else { Ok(found) }
}

fn fact(path: &Path, certificate: &X509Certificate<'_>) -> CertificateFact {
    let name = |name: &x509_parser::x509::X509Name<'_>| {
        let common = name.iter_common_name().next().and_then(|attribute| attribute.as_str().ok());
        common.map_or_else(|| name.to_string(), str::to_owned)
    };
    let names = certificate
        .subject_alternative_name()
        .ok()
        .flatten()
        .map(|extension| extension.value.general_names.iter().take(128).filter_map(alternative).collect())
        .unwrap_or_default();
    CertificateFact {
        path: path.to_owned(),
        subject: name(certificate.subject()),
        issuer: name(certificate.issuer()),
        not_before_unix: certificate.validity().not_before.timestamp(),
        not_after_unix: certificate.validity().not_after.timestamp(),
        is_ca: certificate.is_ca(),
        names,
    }
}

fn alternative(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|ip| std::net::Ipv4Addr::from(ip).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|ip| std::net::Ipv6Addr::from(ip).to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// Decodes a `…-data` value of a kubeconfig.
///
/// It is base64 on one line (client-go `tools/clientcmd/api/v1`); PEM is base64 as well, so that the PEM reader
/// does the work once it stands between its markers.
pub(crate) fn decoded(text: &str) -> std::result::Result<Vec<u8>, PEMError> {
    let wrapped = format!("-----BEGIN X-----\n{}\n-----END X-----\n", text.trim());
    Pem::read(std::io::Cursor::new(wrapped.as_bytes())).map(|(block, _)| block.contents)
}

/// Reads what `client-certificate-data` and `certificate-authority-data` hold.
fn read_kubeconfig(node: &NodeOptions, path: &Path) -> Result<Vec<CertificateFact>> {
    parse_kubeconfig(path, &read_bounded(&node.resolve(path), MAX_FILE)?)
}

/// Reads the first client certificate of a kubeconfig's bytes.
pub(super) fn client_certificate(path: &Path, bytes: &[u8]) -> Result<CertificateFact> {
    let none = || Error::new(ErrorKind::Invalid, format!("{} holds no client certificate", path.display()));
    parse_kubeconfig(path, bytes)?.into_iter().find(|fact| !fact.is_ca).ok_or_else(none)
}

fn parse_kubeconfig(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateFact>> {
    let value: serde_json::Value =
        crate::parse::yaml::from_slice(bytes).map_err(|error| error.context(path.display()))?;
    let mut found = Vec::new();
    let lists =
        [("users", "user", "client-certificate-data"), ("clusters", "cluster", "certificate-authority-data")];
    for (list, inner, key) in lists {
        for entry in
            value.get(list).and_then(serde_json::Value::as_array).into_iter().flatten().take(MAX_IN_FILE)
        {
            let Some(text) =
                entry.get(inner).and_then(|inner| inner.get(key)).and_then(serde_json::Value::as_str)
            else {
                continue;
            };
            let pem = decoded(text).map_err(|error| {
                Error::new(ErrorKind::Invalid, format!("{}: {key}: {error}", path.display()))
            })?;
            found.extend(parse_pem(path, &pem)?);
        }
    }
    Ok(found)
}
