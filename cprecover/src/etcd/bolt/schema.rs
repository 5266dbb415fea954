//! What etcd keeps in its buckets.
//!
//! Source: etcd `server/storage/schema/{bucket,cindex,membership,alarm,schema}.go`.

use serde::Deserialize;

use super::super::ids::MemberId;
use super::super::verdict::{AlarmKind, DbReport, MemberRecord};
use super::super::wire;

/// How many members, removed members and alarms are kept each.
const MAX_LISTED: usize = 64;
/// How long a text or JSON value may be.
const MAX_VALUE_BYTES: usize = 64 << 10;

/// The buckets that are looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bucket {
    /// The root bucket, which holds the others.
    Root,
    /// Consistent index, term, storage version.
    Meta,
    /// The key space, by revision.
    Key,
    /// The members, by id in hex.
    Members,
    /// The ids of removed members.
    Removed,
    /// The cluster's version.
    Cluster,
    /// Alarms; a key is an `etcdserverpb.AlarmMember`.
    Alarm,
    /// Any other.
    Other,
}

impl Bucket {
    pub(super) fn named(name: &[u8]) -> Self {
        match name {
            b"meta" => Self::Meta,
            b"key" => Self::Key,
            b"members" => Self::Members,
            b"members_removed" => Self::Removed,
            b"cluster" => Self::Cluster,
            b"alarm" => Self::Alarm,
            _ => Self::Other,
        }
    }
}

/// Takes one key and value into the report.
pub(super) fn note(report: &mut DbReport, bucket: Bucket, key: &[u8], value: &[u8]) {
    match bucket {
        Bucket::Key => {
            report.key_revisions += 1;
            // A key is main revision, '_', sub revision and, for a tombstone, 't'.
            if let Some(main) = number(key) {
                report.revision = report.revision.max(Some(main));
            }
        }
        Bucket::Meta => match key {
            b"consistent_index" => report.consistent_index = number(value),
            b"term" => report.term = number(value),
            b"storageVersion" => report.storage_version = text(value),
            _ => {}
        },
        Bucket::Cluster if key == b"clusterVersion" => report.cluster_version = text(value),
        Bucket::Members => {
            if let Some(member) = member(key, value)
                && report.members.len() < MAX_LISTED
            {
                report.members.push(member);
            }
        }
        Bucket::Removed => {
            if let Some(id) = id(key)
                && report.removed.len() < MAX_LISTED
            {
                report.removed.push(id);
            }
        }
        Bucket::Alarm => {
            // etcdserverpb.AlarmMember: memberID = 1, alarm = 2; 0 is no alarm.
            if let Ok([member, kind]) = wire::varints(key, [1, 2])
                && report.alarms.len() < MAX_LISTED
                && kind != 0
            {
                report.alarms.push((MemberId::new(member), AlarmKind::of_number(kind)));
            }
        }
        Bucket::Root | Bucket::Cluster | Bucket::Other => {}
    }
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

fn text(bytes: &[u8]) -> Option<String> {
    if bytes.len() > MAX_VALUE_BYTES {
        return None;
    }
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

fn id(key: &[u8]) -> Option<MemberId> {
    std::str::from_utf8(key).ok()?.parse().ok()
}

fn member(key: &[u8], value: &[u8]) -> Option<MemberRecord> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Raw {
        #[serde(rename = "peerURLs")]
        peer_urls: Option<Vec<String>>,
        #[serde(rename = "clientURLs")]
        client_urls: Option<Vec<String>>,
        name: Option<String>,
        is_learner: bool,
    }
    let id = id(key)?;
    let value = value.get(..value.len().min(MAX_VALUE_BYTES))?;
    let raw: Raw = serde_json::from_slice(value).unwrap_or_default();
    Some(MemberRecord {
        id,
        name: raw.name.unwrap_or_default(),
        peer_urls: raw.peer_urls.unwrap_or_default(),
        client_urls: raw.client_urls.unwrap_or_default(),
        learner: raw.is_learner,
    })
}
