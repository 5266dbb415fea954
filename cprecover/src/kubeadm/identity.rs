//! Whose a certificate is, and whether another one is the same with a new date.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use x509_parser::pem::Pem;

use super::certs::{MAX_FILE_BYTES, seconds};
use crate::error::{Error, ErrorKind, Result};
use crate::facts::{CertificateFact, kubeconfig_data};
use crate::node::NodeOptions;
use crate::parse::yaml;
use crate::sys::read_bounded;

/// What a renewed certificate must last at least; kubeadm gives a year.
const LEAST: Duration = Duration::from_hours(30 * 24);

/// A certificate and what the API server knows its holder by.
///
/// Source: kubernetes.io, "Authenticating", X509 client certificates: the common name is the user, the
/// organizations are the groups.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) fact: CertificateFact,
    /// Sorted: the order means nothing.
    organizations: Vec<String>,
}

impl Identity {
    /// Reads the first certificate of a PEM text.
    pub(super) fn of_pem(path: &Path, pem: &[u8]) -> Result<Self> {
        let none = || Error::new(ErrorKind::Invalid, format!("{} holds no certificate", path.display()));
        let fact = crate::facts::pem_certificates(path, pem)?.into_iter().next().ok_or_else(none)?;
        let block = Pem::iter_from_buffer(pem)
            .take(8)
            .filter_map(std::result::Result::ok)
            .find(|block| block.label == "CERTIFICATE")
            .ok_or_else(none)?;
        let parsed = block.parse_x509().map_err(|_| none())?;
        let mut organizations = Vec::new();
        for organization in parsed.subject().iter_organization() {
            // One that is no text is none that the API server would find.
            organizations.push(organization.as_str().map_err(|_| none())?.to_owned());
        }
        organizations.sort();
        Ok(Self { fact, organizations })
    }

    /// Reads the client certificate that a kubeconfig holds.
    pub(super) fn of_kubeconfig(path: &Path, bytes: &[u8]) -> Result<Self> {
        let invalid = |what: &str| Error::new(ErrorKind::Invalid, format!("{} {what}", path.display()));
        let value: Value = yaml::from_slice(bytes).map_err(|error| error.context(path.display()))?;
        let users = value.get("users").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let text = users
            .iter()
            .find_map(|user| user.pointer("/user/client-certificate-data").and_then(Value::as_str))
            .ok_or_else(|| invalid("holds no client certificate"))?;
        let pem =
            kubeconfig_data(text).map_err(|_| invalid("holds a client certificate that is no base64"))?;
        Self::of_pem(path, &pem)
    }

    /// Reads a certificate and makes sure that the authority in the file `authority` issued it.
    pub(super) fn signed_by(path: &Path, pem: &[u8], authority: &Path) -> Result<Self> {
        let new = Self::of_pem(path, pem)?;
        let authority = Self::of_pem(authority, &read_bounded(authority, MAX_FILE_BYTES)?)?.fact;
        if new.fact.issuer == authority.subject {
            return Ok(new);
        }
        let (issuer, subject) = (&new.fact.issuer, &authority.subject);
        let message = format!("the renewed {} is signed by {issuer}, not by {subject}", path.display());
        Err(Error::new(ErrorKind::Peer, message))
    }

    /// Fails unless this is `old` with a new date: of the same user and groups, for the same names, and valid
    /// from now on.
    pub(super) fn require_renewal_of(&self, old: Option<&Self>, path: &Path, now: Duration) -> Result<()> {
        let wrong =
            |what: String| Err(Error::new(ErrorKind::Peer, format!("the renewed {} {what}", path.display())));
        let mut least = seconds(LEAST);
        if let Some(Self { fact: old, organizations }) = old {
            if self.fact.subject != old.subject {
                return wrong(format!("is of {}, the old one of {}", self.fact.subject, old.subject));
            }
            if self.organizations != *organizations {
                let of = |groups: &[String]| {
                    if groups.is_empty() {
                        "no group".to_owned()
                    } else {
                        format!("group {}", groups.join(", "))
                    }
                };
                return wrong(format!(
                    "is of {}, the old one of {}",
                    of(&self.organizations),
                    of(organizations)
                ));
            }
            let sorted = |names: &[String]| {
                let mut names = names.to_vec();
                names.sort();
                names
            };
            if sorted(&self.fact.names) != sorted(&old.names) {
                let (new, old) = (self.fact.names.join(", "), old.names.join(", "));
                return wrong(format!("names {new}, the old one {old}"));
            }
            // Where certificates are short-lived on purpose (`certificateValidityPeriod`) so is the new one; it
            // has begun some minutes ago by then.
            least = least.min(old.not_after_unix.saturating_sub(old.not_before_unix) / 2);
        }
        if self.fact.not_before_unix > seconds(now) {
            return wrong("is not valid yet: compare the clock".to_owned());
        }
        if self.fact.not_after_unix < seconds(now).saturating_add(least) {
            return wrong(format!("ends within {} hours", least / 3600));
        }
        Ok(())
    }
}

/// Returns who kubelet is: by the certificate in `kubelet.conf`, else by the one that it rotates.
pub(super) fn of_kubelet(node: &NodeOptions, in_kubeconfig: Option<Identity>) -> Result<Identity> {
    if let Some(known) = in_kubeconfig {
        return Ok(known);
    }
    let path = node.kubelet_certificate();
    let rotated = read_bounded(&node.resolve(&path), MAX_FILE_BYTES);
    rotated.and_then(|pem| Identity::of_pem(&path, &pem)).map_err(|error| {
        let message = format!(
            "neither kubelet.conf nor {} tells whose certificate kubelet has, so that a new one may be of another \
             node",
            path.display()
        );
        Error::with_source(ErrorKind::Refused, message, error)
    })
}

/// Fails unless a new kubeconfig leads to the same server and trusts the same authority.
pub(super) fn same_cluster(path: &Path, old: &[u8], new: &[u8]) -> Result<()> {
    let cluster = |bytes: &[u8]| -> Result<Vec<Option<String>>> {
        let value: Value = yaml::from_slice(bytes).map_err(|error| error.context(path.display()))?;
        let text = |key: &str| {
            value.pointer(&format!("/clusters/0/cluster/{key}")).and_then(|v| v.as_str()).map(str::to_owned)
        };
        Ok(vec![text("server"), text("certificate-authority-data")])
    };
    // One that does not parse is no reason to keep it.
    let Ok(old) = cluster(old) else { return Ok(()) };
    let new = cluster(new)?;
    // What the old one does not say (a stub, an authority in a file) it cannot contradict.
    if old.iter().zip(&new).all(|(old, new)| old.is_none() || old == new) {
        return Ok(());
    }
    let message = format!(
        "kubeadm's {} leads to {:?} where the old one led to {:?}, or trusts another authority",
        path.display(),
        new.first().cloned().flatten(),
        old.first().cloned().flatten()
    );
    Err(Error::new(ErrorKind::Peer, message))
}
