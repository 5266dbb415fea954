//! Detached ed25519 signatures of policy files.
//!
//! `openssl` makes all of it: `openssl genpkey -algorithm ed25519`, `openssl pkey -pubout`, and
//! `openssl pkeyutl -sign -rawin -inkey key.pem -in p.wasm -out p.wasm.sig`.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::DecodePublicKey as _;
use ed25519_dalek::{SIGNATURE_LENGTH, Signature, VerifyingKey};

use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;

/// The largest key file that is read, in bytes.
const MAX_KEY_BYTES: usize = 16 << 10;

/// A key whose signatures are trusted.
#[derive(Clone, PartialEq, Eq)]
pub struct TrustedKey {
    name: String,
    key: VerifyingKey,
}

impl fmt::Debug for TrustedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustedKey({self})")
    }
}

impl fmt::Display for TrustedKey {
    /// Writes the name and the first 16 hex digits of SHA-256 over the raw key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fingerprint = Digest::of(self.key.as_bytes()).to_string();
        write!(f, "{} (ed25519 {})", self.name, fingerprint.get(..16).unwrap_or_default())
    }
}

impl TrustedKey {
    /// Reads a public key in PEM form (`BEGIN PUBLIC KEY`, RFC 8410); `name` is for reports.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for what is no ed25519 public key.
    pub fn from_pem(name: impl Into<String>, pem: &str) -> Result<Self> {
        let name = name.into();
        let key = VerifyingKey::from_public_key_pem(pem).map_err(|source| {
            let text = format!("{name} is no ed25519 public key in PEM form");
            Error::with_source(ErrorKind::Invalid, text, source)
        })?;
        if key.is_weak() {
            return Err(Error::new(ErrorKind::Invalid, format!("{name} is a weak key")));
        }
        Ok(Self { name, key })
    }

    /// Reads a public key file; its name without extension names the key.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] for a file that others than root and this user can write, else as
    /// [`TrustedKey::from_pem`], and the kinds of a failed read.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = read_key(path)?;
        let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
        let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        Self::from_pem(name, &String::from_utf8_lossy(&bytes)).map_err(|error| error.context(path.display()))
    }
}

/// Reads a key file, which nobody but root and this user may have written.
fn read_key(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|source| Error::path("open", path, source))?;
    let stat = rustix::fs::fstat(&file).map_err(|source| Error::path("stat", path, source))?;
    let refuse = |why: String| {
        Err(Error::new(ErrorKind::Refused, format!("{} {why}; the key is not trusted", path.display())))
    };
    let own = rustix::process::geteuid().as_raw();
    if stat.st_uid != 0 && stat.st_uid != own {
        return refuse(format!("belongs to uid {}", stat.st_uid));
    }
    if stat.st_mode & 0o022 != 0 {
        return refuse(format!("can be written by group or others (mode {:o})", stat.st_mode & 0o7777));
    }
    crate::sys::read_at_most(file, path, MAX_KEY_BYTES)
}

/// Returns where the detached signature of a policy file lies: beside it, with `.sig` appended.
pub(super) fn signature_path(policy: &Path) -> PathBuf {
    let mut path = policy.as_os_str().to_owned();
    path.push(".sig");
    path.into()
}

/// Reads the detached signature of a policy file; `None` where there is none.
pub(super) fn signature_of(policy: &Path) -> Result<Option<Vec<u8>>> {
    match crate::sys::read_bounded(&signature_path(policy), 4 << 10) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Checks a signature against the keys and says whose it is.
pub(super) fn verify(keys: &[TrustedKey], component: &[u8], signature: Option<&[u8]>) -> Result<String> {
    let refuse = |why: String| Err(Error::new(ErrorKind::Refused, why));
    let Some(signature) = signature else {
        return refuse("the policy is not signed, and only signed ones are trusted here".into());
    };
    let Ok(raw) = <[u8; SIGNATURE_LENGTH]>::try_from(signature) else {
        return refuse(format!(
            "the signature has {} bytes, one by ed25519 has {SIGNATURE_LENGTH}",
            signature.len()
        ));
    };
    let signature = Signature::from_bytes(&raw);
    let signer = keys.iter().find(|trusted| trusted.key.verify_strict(component, &signature).is_ok());
    match signer {
        Some(signer) => Ok(signer.to_string()),
        None => refuse("the signature is of none of the trusted keys, or the file was changed".into()),
    }
}
