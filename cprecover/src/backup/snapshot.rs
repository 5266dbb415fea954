//! What a snapshot is: the values behind `index.json`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::group::Group;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Component, Digest};

/// Names a snapshot: a running number and the UTC time, `000042-20261124T053706Z`.
///
/// The number tells two of one second apart, and names a snapshot in short. Their age is told by their times, since
/// numbers begin again where a store was lost.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotId {
    sequence: u32,
    text: String,
}

impl SnapshotId {
    /// Makes the id of the snapshot number `sequence`, made at `unix_s` seconds since 1970.
    pub(crate) fn new(sequence: u32, unix_s: u64) -> Self {
        let time = rfc3339(unix_s).replace([':', '-'], "");
        Self { sequence, text: format!("{sequence:06}-{time}") }
    }

    /// Returns the running number.
    #[must_use]
    pub const fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Returns the folder name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<SnapshotId> for String {
    fn from(id: SnapshotId) -> Self {
        id.text
    }
}

impl TryFrom<String> for SnapshotId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for SnapshotId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(
                ErrorKind::Invalid,
                format!("snapshot id {text:?} is not like 000042-20261124T053706Z"),
            )
        };
        let (number, time) = text.split_once('-').ok_or_else(wrong)?;
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let shape = time.len() == 16
            && time
                .strip_suffix('Z')
                .and_then(|t| t.split_once('T'))
                .is_some_and(|(d, t)| d.len() == 8 && t.len() == 6 && digits(d) && digits(t));
        if number.len() < 6 || number.len() > 10 || !digits(number) || !shape {
            return Err(wrong());
        }
        Ok(Self { sequence: number.parse().map_err(|_| wrong())?, text: text.to_owned() })
    }
}

/// A path or other bytes of the file system; in JSON, bytes that are not printable UTF-8 and `%`
/// itself are written `%XX`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodePath(Vec<u8>);

impl NodePath {
    /// Wraps the bytes of a path.
    pub fn new(path: impl AsRef<OsStr>) -> Self {
        Self(path.as_ref().as_bytes().to_vec())
    }

    /// Returns the path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Returns the raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Reports whether `name` can be the name of a file in a folder.
pub(crate) fn is_plain_name(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    !bytes.is_empty() && bytes != b"." && bytes != b".." && !bytes.contains(&b'/') && !bytes.contains(&0)
}

impl From<NodePath> for PathBuf {
    fn from(path: NodePath) -> Self {
        OsString::from_vec(path.0).into()
    }
}

/// What kind of thing an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, never followed.
    Symlink,
}

/// One file, folder or symbolic link of a snapshot, with everything that a restore sets again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Entry {
    /// The group it belongs to.
    pub group: Group,
    /// Where it stands on the node, absolute.
    pub path: NodePath,
    /// Where it stands in the snapshot's folder, relative; `SHA256SUMS` names it so.
    pub stored: NodePath,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, as `0600`.
    #[serde(with = "octal")]
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Modification time: whole seconds since 1970, may be negative.
    pub mtime_s: i64,
    /// Modification time: nanoseconds beyond the second.
    pub mtime_ns: u32,
    /// Extended attributes, with the label of `SELinux` (`security.selinux`) among them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<NodePath, NodePath>,
    /// Size in bytes; 0 for folders and links.
    pub size: u64,
    /// The content's SHA-256; none for folders and links.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// A symbolic link's target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<NodePath>,
    /// The earlier snapshot's file that shares its inode with this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// What kubelet would make of it; only for manifests that parse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<ComponentView>,
}

/// Names the file of an earlier snapshot that a file shares its content with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Link {
    /// The earlier snapshot.
    pub snapshot: SnapshotId,
    /// The file's path in that snapshot's folder.
    pub stored: NodePath,
}

/// A manifest as kubelet sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ComponentView {
    /// `namespace/name` of the pod.
    pub pod: String,
    /// The control-plane component, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<Component>,
    /// The first container's image.
    pub image: String,
    /// The first container's flags in their order, without dashes.
    pub flags: Vec<(String, String)>,
}

/// Something of the recovery set that a snapshot does not hold, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Skipped {
    /// Where it stands on the node.
    pub path: NodePath,
    /// Why it is not in the snapshot.
    pub reason: String,
}

/// A snapshot, as its `index.json` describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Snapshot {
    /// `cprecover.dev/snapshot/v1`.
    pub schema: String,
    /// Its name.
    pub id: SnapshotId,
    /// When it was made: RFC 3339, UTC.
    pub created: String,
    /// The same as whole seconds since 1970.
    pub created_unix_s: u64,
    /// The node's name, where it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The control plane's version, from the API server's image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    /// Whether the caller had verified the node's health when this was made.
    pub health_verified: bool,
    /// The caller's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Why it was made: `manual`, `before-restore`, `before-install`, `before-hold`, ….
    pub reason: String,
    /// The groups that it covers; a group without entries was empty or absent.
    pub groups: Vec<Group>,
    /// The snapshot made before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<SnapshotId>,
    /// The SHA-256 of the previous snapshot's `index.json`: the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_sha256: Option<Digest>,
    /// Its files, folders and links, folders before what they hold.
    pub entries: Vec<Entry>,
    /// What could not be taken along (sockets, devices).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
}

impl Snapshot {
    /// Returns the manifest that kubelet would run as `component`, if the snapshot holds one.
    #[must_use]
    pub fn manifest(&self, component: Component) -> Option<&Entry> {
        super::describe::manifest_of(&self.entries, component)
    }
}

/// Says what a new snapshot covers and how it is called.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CreateOptions {
    /// The groups to take; manifests by default.
    pub groups: Vec<Group>,
    /// Files and folders to take along with kubeadm's, absolute on the node.
    pub kubeadm_paths: Vec<PathBuf>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Set only when the caller verified the node's health just now; makes it a last known good.
    pub health_verified: bool,
    /// Why it is made; `manual` by default. With `before-…` it is one from before a change, which is never
    /// the `latest`.
    pub reason: String,
    /// Returns the newest snapshot instead of a new one when nothing has changed since.
    pub only_if_changed: bool,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            groups: vec![Group::Manifests],
            kubeadm_paths: Vec::new(),
            labels: BTreeMap::new(),
            health_verified: false,
            reason: "manual".into(),
            only_if_changed: false,
        }
    }
}

/// Permission bits as text: JSON has no octal numbers.
pub(crate) mod octal {
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's with passes a reference")]
    pub(crate) fn serialize<S: Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{mode:04o}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        u32::from_str_radix(&text, 8)
            .ok()
            .filter(|mode| *mode <= 0o7777)
            .ok_or_else(|| serde::de::Error::custom(format!("mode {text:?} is not octal up to 7777")))
    }
}

/// Writes a time as RFC 3339 in UTC, to the second.
pub(crate) fn rfc3339(unix_s: u64) -> String {
    // A clock beyond the year 9999 is written as that year's end; the number beside it is exact.
    let second = i64::try_from(unix_s).unwrap_or(i64::MAX).min(253_402_300_799);
    jiff::Timestamp::from_second(second).map(|time| time.to_string()).unwrap_or_default()
}

impl fmt::Display for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c == '%' || c.is_control() {
                    let mut bytes = [0_u8; 4];
                    c.encode_utf8(&mut bytes).bytes().try_for_each(|byte| write!(f, "%{byte:02X}"))?;
                } else {
                    fmt::Write::write_char(f, c)?;
                }
            }
            chunk.invalid().iter().try_for_each(|byte| write!(f, "%{byte:02X}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl From<NodePath> for String {
    fn from(path: NodePath) -> Self {
        path.to_string()
    }
}

impl TryFrom<String> for NodePath {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for NodePath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte != b'%' {
                bytes.push(byte);
                continue;
            }
            let pair = [rest.next(), rest.next()];
            let hex: Option<String> = pair.iter().map(|b| b.map(char::from)).collect();
            let value = hex
                .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
                .and_then(|hex| u8::from_str_radix(&hex, 16).ok());
            bytes.push(value.ok_or_else(|| {
                Error::new(ErrorKind::Invalid, format!("path {text:?} has a % without two hex digits"))
            })?);
        }
        Ok(Self(bytes))
    }
}
