//! The JSON of etcd's HTTP gateway: 64-bit numbers are strings, zero fields are left out.

use serde::{Deserialize, Serialize};

use super::ids::{ClusterId, MemberId};
use super::verdict::AlarmKind;
use crate::error::{Error, ErrorKind, Result};

/// A member as a running member lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Its name; empty until it has started once.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started once.
    pub client_urls: Vec<String>,
    /// Whether it is a learner, which does not vote.
    pub learner: bool,
}

/// The members, as one of them sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct MemberList {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The member that answered.
    pub member_id: MemberId,
    /// All members.
    pub members: Vec<Member>,
}

/// How one member is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Status {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The member that answered.
    pub member_id: MemberId,
    /// Its version, as `3.4.23`.
    pub version: String,
    /// Size of its database file.
    pub db_size_bytes: u64,
    /// What of it is in use (etcd 3.4 and newer).
    pub db_size_in_use_bytes: Option<u64>,
    /// The leader it follows; `None` when it knows none.
    pub leader: Option<MemberId>,
    /// The raft term.
    pub raft_term: u64,
    /// The last committed raft entry.
    pub raft_index: u64,
    /// The last applied raft entry (etcd 3.4 and newer).
    pub raft_applied_index: Option<u64>,
    /// The newest revision of the key space.
    pub revision: u64,
    /// Whether it is a learner.
    pub learner: bool,
    /// What it complains about (`etcdserver: no leader`, alarms).
    pub errors: Vec<String>,
}

/// An alarm that is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Alarm {
    /// The member it is about.
    pub member_id: MemberId,
    /// What it says.
    pub kind: AlarmKind,
}

/// The answer of `/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Health {
    /// Whether it says that it is healthy.
    pub healthy: bool,
    /// Why not (etcd 3.5 and newer): `ALARM NOSPACE`, `RAFT NO LEADER`, ….
    pub reason: String,
}

/// The answer of `/version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Version {
    /// The server's version.
    pub server: String,
    /// The cluster's version.
    pub cluster: String,
}

/// Reads an answer; `what` names the call.
fn parse<'a, T: Deserialize<'a>>(what: &str, body: &'a [u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|source| {
        Error::with_source(ErrorKind::Peer, format!("{what} answered with JSON of another shape"), source)
    })
}

impl MemberList {
    pub(super) fn parse(body: &[u8]) -> Result<Self> {
        let raw: raw::MemberList = parse("member list", body)?;
        let members = raw.members.into_iter().map(|member| Member {
            id: MemberId::new(member.id.0),
            name: member.name,
            peer_urls: member.peer_urls,
            client_urls: member.client_urls,
            learner: member.is_learner,
        });
        Ok(Self {
            cluster_id: ClusterId::new(raw.header.cluster_id.0),
            member_id: MemberId::new(raw.header.member_id.0),
            members: members.collect(),
        })
    }
}

impl Status {
    pub(super) fn parse(body: &[u8]) -> Result<Self> {
        let raw: raw::Status = parse("status", body)?;
        Ok(Self {
            cluster_id: ClusterId::new(raw.header.cluster_id.0),
            member_id: MemberId::new(raw.header.member_id.0),
            version: raw.version,
            db_size_bytes: raw.db_size.0,
            db_size_in_use_bytes: raw.db_size_in_use.map(|number| number.0),
            // Raft's "None" is 0.
            leader: (raw.leader.0 != 0).then(|| MemberId::new(raw.leader.0)),
            raft_term: raw.raft_term.0,
            raft_index: raw.raft_index.0,
            raft_applied_index: raw.raft_applied_index.map(|number| number.0),
            revision: raw.header.revision.0,
            learner: raw.is_learner,
            errors: raw.errors,
        })
    }
}

impl Alarm {
    pub(super) fn parse_list(body: &[u8]) -> Result<Vec<Self>> {
        let raw: raw::Alarms = parse("alarm list", body)?;
        let kind = |name: &str| match name {
            "NOSPACE" => AlarmKind::NoSpace,
            "CORRUPT" => AlarmKind::Corrupt,
            _ => AlarmKind::Other,
        };
        let alarms = raw.alarms.iter().filter(|alarm| alarm.alarm != "NONE");
        Ok(alarms
            .map(|alarm| Self { member_id: MemberId::new(alarm.member_id.0), kind: kind(&alarm.alarm) })
            .collect())
    }
}

impl Health {
    pub(super) fn parse(body: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Raw {
            health: serde_json::Value,
            #[serde(default)]
            reason: String,
        }
        let raw: Raw = parse("/health", body)?;
        // etcd writes the string "true"; a proxy may have made it a boolean.
        let healthy = raw.health == "true" || raw.health == true;
        Ok(Self { healthy, reason: raw.reason })
    }
}

impl Version {
    pub(super) fn parse(body: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Raw {
            etcdserver: String,
            #[serde(default)]
            etcdcluster: String,
        }
        let raw: Raw = parse("/version", body)?;
        Ok(Self { server: raw.etcdserver, cluster: raw.etcdcluster })
    }
}

/// One message of a snapshot's stream.
pub(super) struct SnapshotPart {
    pub(super) remaining_bytes: u64,
    /// Base64.
    pub(super) blob: String,
}

impl SnapshotPart {
    pub(super) fn parse(line: &[u8]) -> Result<Self> {
        let raw: raw::SnapshotLine = parse("snapshot", line)?;
        if let Some(error) = raw.error {
            return Err(Error::new(ErrorKind::Peer, format!("etcd broke the snapshot off: {error}")));
        }
        let part = raw.result.unwrap_or_default();
        Ok(Self { remaining_bytes: part.remaining_bytes.0, blob: part.blob })
    }
}

/// The gateway's own shape (etcd `api/etcdserverpb/rpc.proto` through grpc-gateway's `JSONPb`).
mod raw {
    use serde::{Deserialize, Deserializer};

    /// A number, or a string of digits.
    #[derive(Debug, Clone, Copy, Default)]
    pub(super) struct Number(pub(super) u64);

    impl<'de> Deserialize<'de> for Number {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            #[derive(Deserialize)]
            #[serde(untagged)]
            enum Either<'a> {
                Number(u64),
                #[serde(borrow)]
                Text(std::borrow::Cow<'a, str>),
            }
            match Either::deserialize(deserializer)? {
                Either::Number(number) => Ok(Self(number)),
                Either::Text(text) => text.parse().map(Self).map_err(serde::de::Error::custom),
            }
        }
    }

    #[derive(Deserialize, Default)]
    #[serde(default)]
    pub(super) struct Header {
        pub(super) cluster_id: Number,
        pub(super) member_id: Number,
        pub(super) revision: Number,
    }

    #[derive(Deserialize)]
    pub(super) struct MemberList {
        pub(super) header: Header,
        #[serde(default)]
        pub(super) members: Vec<Member>,
    }

    #[derive(Deserialize, Default)]
    #[serde(default)]
    pub(super) struct Member {
        #[serde(rename = "ID")]
        pub(super) id: Number,
        pub(super) name: String,
        #[serde(rename = "peerURLs")]
        pub(super) peer_urls: Vec<String>,
        #[serde(rename = "clientURLs")]
        pub(super) client_urls: Vec<String>,
        #[serde(rename = "isLearner")]
        pub(super) is_learner: bool,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Status {
        pub(super) header: Header,
        pub(super) version: String,
        #[serde(default)]
        pub(super) db_size: Number,
        pub(super) db_size_in_use: Option<Number>,
        #[serde(default)]
        pub(super) leader: Number,
        #[serde(default)]
        pub(super) raft_term: Number,
        #[serde(default)]
        pub(super) raft_index: Number,
        pub(super) raft_applied_index: Option<Number>,
        #[serde(default)]
        pub(super) is_learner: bool,
        #[serde(default)]
        pub(super) errors: Vec<String>,
    }

    #[derive(Deserialize)]
    pub(super) struct Alarms {
        /// etcd 3.4 answers `{}` when there is none, without even a header.
        #[serde(default)]
        pub(super) alarms: Vec<Alarm>,
    }

    #[derive(Deserialize, Default)]
    #[serde(default)]
    pub(super) struct Alarm {
        #[serde(rename = "memberID")]
        pub(super) member_id: Number,
        pub(super) alarm: String,
    }

    #[derive(Deserialize)]
    pub(super) struct SnapshotLine {
        pub(super) result: Option<SnapshotPart>,
        pub(super) error: Option<serde_json::Value>,
    }

    #[derive(Deserialize, Default)]
    #[serde(default)]
    pub(super) struct SnapshotPart {
        pub(super) remaining_bytes: Number,
        pub(super) blob: String,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_strings_and_zero_fields_are_missing() {
        let list = br#"{"header":{"cluster_id":"14841639068965178418","member_id":"10276657743932975437","raft_term":"2"},
            "members":[{"ID":"10276657743932975437","name":"a","peerURLs":["http://127.0.0.1:2380"],
            "clientURLs":["http://127.0.0.1:2379"]},{"ID":"7","peerURLs":["http://127.0.0.1:3380"],"isLearner":true}]}"#;
        let list = MemberList::parse(list).expect("parses");
        assert_eq!(list.member_id.to_string(), "8e9e05c52164694d");
        assert_eq!(list.members.len(), 2);
        assert!(list.members.get(1).is_some_and(|member| member.learner && member.name.is_empty()));
        let status = Status::parse(br#"{"header":{"member_id":5},"version":"3.3.1","dbSize":"20480"}"#);
        let status = status.expect("parses");
        assert_eq!((status.member_id.get(), status.leader, status.db_size_in_use_bytes), (5, None, None));
        assert!(Status::parse(b"{}").is_err());
        assert!(Status::parse(br#"{"header":{"member_id":"x"},"version":""}"#).is_err());
    }

    #[test]
    fn health_alarms_and_snapshot_errors() {
        assert!(Health::parse(br#"{"health":"true"}"#).expect("parses").healthy);
        let sick = Health::parse(br#"{"health":"false","reason":"RAFT NO LEADER"}"#).expect("parses");
        assert_eq!((sick.healthy, sick.reason.as_str()), (false, "RAFT NO LEADER"));
        let alarms = Alarm::parse_list(br#"{"header":{},"alarms":[{"memberID":"9","alarm":"NOSPACE"}]}"#);
        assert_eq!(
            alarms.expect("parses"),
            [Alarm { member_id: MemberId::new(9), kind: AlarmKind::NoSpace }]
        );
        let error = SnapshotPart::parse(br#"{"error":{"message":"boom"}}"#).err().expect("error");
        assert!(error.to_string().contains("boom"), "{error}");
    }
}
