//! The nouns that the modules exchange; no input or output happens here.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// Names one of the four static pods that kubeadm makes.
///
/// Source: kubernetes `cmd/kubeadm/app/constants/constants.go` (`Etcd`, `KubeAPIServer`, …).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Component {
    /// The key-value store.
    Etcd,
    /// The API server.
    KubeApiserver,
    /// The controller manager.
    KubeControllerManager,
    /// The scheduler.
    KubeScheduler,
}

impl Component {
    /// All components in the order in which they have to come up.
    pub const ALL: [Self; 4] =
        [Self::Etcd, Self::KubeApiserver, Self::KubeControllerManager, Self::KubeScheduler];

    /// Returns the name that kubeadm gives to the pod, the container and the `component` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
        }
    }

    /// Returns the manifest's file name; another name would be another pod UID for kubelet.
    #[must_use]
    pub const fn manifest_file(self) -> &'static str {
        match self {
            Self::Etcd => "etcd.yaml",
            Self::KubeApiserver => "kube-apiserver.yaml",
            Self::KubeControllerManager => "kube-controller-manager.yaml",
            Self::KubeScheduler => "kube-scheduler.yaml",
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Component {
    type Err = Error;

    /// Accepts the full name and the short forms of kubeadm's phases (`apiserver`, …).
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "etcd" => Ok(Self::Etcd),
            "kube-apiserver" | "apiserver" => Ok(Self::KubeApiserver),
            "kube-controller-manager" | "controller-manager" => Ok(Self::KubeControllerManager),
            "kube-scheduler" | "scheduler" => Ok(Self::KubeScheduler),
            other => Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "unknown component {other:?} (want etcd, kube-apiserver, kube-controller-manager or kube-scheduler)"
                ),
            )),
        }
    }
}

/// A TCP port, 1 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Port(NonZeroU16);

impl Port {
    /// etcd's client port.
    pub const ETCD_CLIENT: Self = Self::constant(2379);
    /// etcd's peer port.
    pub const ETCD_PEER: Self = Self::constant(2380);
    /// The API server's secure port.
    pub const APISERVER: Self = Self::constant(6443);

    const fn constant(number: u16) -> Self {
        match NonZeroU16::new(number) {
            Some(number) => Self(number),
            None => panic!("a constant port is not zero"),
        }
    }

    /// Returns the port, or `None` for 0.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        match NonZeroU16::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Returns the port number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Port {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.parse::<NonZeroU16>().map(Self).map_err(|source| {
            Error::with_source(
                ErrorKind::Invalid,
                format!("port {text:?} is not a number from 1 to 65535"),
                source,
            )
        })
    }
}

/// A process id in our own pid namespace, greater than 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pid(i32);

impl Pid {
    /// Returns the pid, or `None` unless it is positive.
    #[must_use]
    pub const fn new(raw: i32) -> Option<Self> {
        if raw > 0 { Some(Self(raw)) } else { None }
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identifies a process beyond pid reuse: the pid together with its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The process id.
    pub pid: Pid,
    /// Field 22 of `/proc/PID/stat`, in clock ticks since boot (proc(5)).
    pub start_ticks: u64,
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} (started at tick {})", self.pid, self.start_ticks)
    }
}

/// A SHA-256 digest, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Computes the digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Wraps 32 raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In one piece: an index writes and reads thousands of them.
        let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or_default();
        let mut text = String::with_capacity(64);
        text.extend(self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]));
        f.write_str(&text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::new(ErrorKind::Invalid, format!("digest {text:?} is not 64 hex digits"));
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut bytes = [0_u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Declares a newtype over `String` for an identifier that this crate passes on but does not make.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps the identifier as its owner wrote it.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// Returns the identifier's text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// A container's id in the CRI runtime, 64 hex digits in containerd and CRI-O.
    ContainerId
}
text_id! {
    /// A pod sandbox's id in the CRI runtime.
    SandboxId
}
text_id! {
    /// A pod UID; for static pods 32 hex digits without dashes (kubelet's `config.hash`).
    PodUid
}
text_id! {
    /// The name of a Kubernetes node.
    NodeName
}

/// A fact that was looked for: it is there, it is proven absent, or it could not be read.
///
/// Unreadable is never "absent": a rule that needs absence has to match [`Observed::Absent`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", content = "value", rename_all = "kebab-case")]
pub enum Observed<T> {
    /// The fact was read.
    Present(T),
    /// Its absence was proven.
    Absent,
    /// It could not be read; the text says why.
    Unknown(String),
}

impl<T> Observed<T> {
    /// Turns a result into an observation: `NotFound` is absence, any other error is unknown.
    pub fn from_result(result: Result<T>) -> Self {
        match result {
            Ok(value) => Self::Present(value),
            Err(error) if error.kind() == ErrorKind::NotFound => Self::Absent,
            Err(error) => Self::Unknown(error.to_string()),
        }
    }

    /// Returns the value when it was read.
    pub const fn present(&self) -> Option<&T> {
        match self {
            Self::Present(value) => Some(value),
            Self::Absent | Self::Unknown(_) => None,
        }
    }

    /// Reports whether absence was proven.
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_round_trips_as_hex() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse::<Digest>().ok(), Some(digest));
        assert!("ba78".parse::<Digest>().is_err());
        assert!("é".repeat(32).parse::<Digest>().is_err());
    }

    #[test]
    fn unreadable_is_not_absent() {
        let denied: Result<()> = Err(Error::path("open", "/x", std::io::Error::from_raw_os_error(13)));
        assert!(matches!(Observed::from_result(denied), Observed::Unknown(_)));
        let missing: Result<()> = Err(Error::path("open", "/x", std::io::Error::from_raw_os_error(2)));
        assert!(Observed::from_result(missing).is_absent());
    }

    #[test]
    fn ports_and_components_parse() {
        assert!("0".parse::<Port>().is_err());
        assert_eq!("2380".parse::<Port>().ok(), Some(Port::ETCD_PEER));
        assert_eq!("scheduler".parse::<Component>().ok(), Some(Component::KubeScheduler));
        assert!("proxy".parse::<Component>().is_err());
    }
}
