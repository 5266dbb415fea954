//! What a cgroup path says: pod, container, runtime, systemd unit.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::model::{ContainerId, PodUid};

/// How kubelet and the runtime name cgroups (kubelet's `cgroupDriver`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CgroupDriver {
    /// `kubepods.slice/kubepods-burstable.slice/…`.
    Systemd,
    /// `kubepods/burstable/…`.
    Cgroupfs,
}

/// The runtime that a container's scope names; cgroupfs paths name none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RuntimeName {
    /// `cri-containerd-<id>.scope`.
    Containerd,
    /// `crio-<id>.scope`.
    Crio,
    /// `docker-<id>.scope`.
    Docker,
}

/// A place below kubelet's `kubepods`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PodCgroup {
    /// The pod's UID, as kubelet writes it in its API (`-`, not `_`).
    pub uid: PodUid,
    /// The container; `None` for a process in the pod's own cgroup.
    pub container: Option<ContainerId>,
    /// Who names the cgroups.
    pub driver: CgroupDriver,
    /// The runtime, where the path names it.
    pub runtime: Option<RuntimeName>,
}

/// A systemd unit that owns a cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SystemdUnit(pub String);

/// The cgroup of a process: `/proc/PID/cgroup`, reduced to the hierarchy that tells most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CgroupPath {
    /// The path within its hierarchy, as `/kubepods/burstable/pod…/…`.
    pub path: String,
    /// Whether it is the path in the v2 hierarchy (`0::`).
    pub v2: bool,
}

impl CgroupPath {
    /// Reads `/proc/PID/cgroup` (cgroups(7)).
    ///
    /// A hierarchy with a pod wins over one without (a hybrid node has both), v2 over v1.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when no line has the form `id:controllers:path`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut lines = Vec::new();
        for line in text.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(id), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!("cgroup line {line:?} is not id:controllers:path"),
                ));
            };
            // A cgroup that was removed under its process keeps its path, with a mark (cgroups(7)).
            let path = path.strip_suffix(" (deleted)").unwrap_or(path);
            let v2 = id == "0" && controllers.is_empty();
            lines.push((v2, controllers, Self { path: path.to_owned(), v2 }));
        }
        // v2 first, then systemd's own hierarchy, which names units, then the controllers of v1.
        lines.sort_by_key(|(v2, controllers, _)| (!*v2, *controllers != "name=systemd"));
        let pod = lines.iter().position(|(_, _, path)| path.pod().is_some());
        let named = lines
            .iter()
            .position(|(v2, controllers, path)| (*v2 || *controllers == "name=systemd") && path.path != "/");
        let best = pod.or(named).unwrap_or(0);
        lines
            .into_iter()
            .nth(best)
            .map(|(_, _, path)| path)
            .ok_or_else(|| Error::new(ErrorKind::Invalid, "no cgroup is listed"))
    }

    /// Returns the pod and container; the `kubepods` folder may sit below any prefix (kubelet's
    /// `cgroupRoot`, nodes in containers). The innermost pod counts.
    ///
    /// Sources: kubernetes `pkg/kubelet/cm/cgroup_manager_linux.go` (`ToSystemd`, `ToCgroupfs`) and
    /// `pkg/kubelet/cm/pod_container_manager_linux.go` (`pod<uid>`); containerd and CRI-O name scopes
    /// `cri-containerd-<id>` and `crio-<id>`.
    #[must_use]
    pub fn pod(&self) -> Option<PodCgroup> {
        let segments: Vec<&str> = self.path.split('/').filter(|part| !part.is_empty()).collect();
        (0..segments.len()).rev().find_map(|index| {
            let below = segments.get(index + 1).copied();
            let segment = *segments.get(index)?;
            systemd_pod(segment, below)
                .or_else(|| cgroupfs_pod(segment, segments.get(..index)?, below))
                .or_else(|| unsliced_pod(segment))
        })
    }

    /// Returns the systemd unit, the last `.service` or `.scope` of the path; `None` in a pod.
    #[must_use]
    pub fn unit(&self) -> Option<SystemdUnit> {
        if self.pod().is_some() {
            return None;
        }
        let is_unit = |part: &&str| {
            std::path::Path::new(part).extension().is_some_and(|kind| kind == "service" || kind == "scope")
        };
        self.path.rsplit('/').find(is_unit).map(|unit| SystemdUnit(unit.to_owned()))
    }

    /// Reports whether it is the root of its hierarchy, which says nothing.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.path == "/"
    }
}

/// `kubepods-burstable-pod<uid>.slice`, with `-` in the UID written as `_`.
fn systemd_pod(segment: &str, below: Option<&str>) -> Option<PodCgroup> {
    let uid = sliced_uid(segment)?;
    let (runtime, container) = below.map_or((None, None), scope);
    Some(PodCgroup { uid, container, driver: CgroupDriver::Systemd, runtime })
}

fn sliced_uid(slice: &str) -> Option<PodUid> {
    let name = slice.strip_suffix(".slice")?;
    // A cgroupRoot puts its own name in front: `kubelet-kubepods-…` in kind.
    let (_, rest) = name.split_once("kubepods")?;
    let rest = rest.strip_prefix("-burstable").or_else(|| rest.strip_prefix("-besteffort")).unwrap_or(rest);
    Some(PodUid::new(valid_uid(rest.strip_prefix("-pod")?)?.replace('_', "-")))
}

/// `kubepods/[burstable|besteffort/]pod<uid>`.
fn cgroupfs_pod(segment: &str, above: &[&str], below: Option<&str>) -> Option<PodCgroup> {
    let uid = valid_uid(segment.strip_prefix("pod")?)?;
    let above = match above {
        [rest @ .., "burstable" | "besteffort"] => rest,
        all => all,
    };
    if above.last() != Some(&"kubepods") {
        return None;
    }
    let (runtime, container) = below.map_or((None, None), scope);
    Some(PodCgroup { uid: PodUid::new(uid), container, driver: CgroupDriver::Cgroupfs, runtime })
}

/// `kubepods-pod<uid>.slice:cri-containerd:<id>`: a systemd path that a runtime with the cgroupfs driver
/// took literally (runc's `cgroupsPath`), as after a change of one driver only.
fn unsliced_pod(segment: &str) -> Option<PodCgroup> {
    let mut parts = segment.splitn(3, ':');
    let uid = sliced_uid(parts.next()?)?;
    let (prefix, id) = (parts.next()?, parts.next()?);
    let (runtime, _) = scope(&format!("{prefix}-{id}"));
    Some(PodCgroup { uid, container: valid_id(id), driver: CgroupDriver::Systemd, runtime })
}

fn valid_uid(uid: &str) -> Option<&str> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (!uid.is_empty() && uid.len() <= 64 && uid.bytes().all(good)).then_some(uid)
}

fn valid_id(id: &str) -> Option<ContainerId> {
    valid_uid(id).map(ContainerId::new)
}

/// Returns runtime and container of the cgroup right below a pod's.
fn scope(segment: &str) -> (Option<RuntimeName>, Option<ContainerId>) {
    let name = segment.strip_suffix(".scope").unwrap_or(segment);
    // conmon, CRI-O's shim, sits beside its container.
    if name.starts_with("crio-conmon-") {
        return (Some(RuntimeName::Crio), None);
    }
    let runtimes = [
        ("cri-containerd-", RuntimeName::Containerd),
        ("crio-", RuntimeName::Crio),
        ("docker-", RuntimeName::Docker),
    ];
    for (prefix, runtime) in runtimes {
        if let Some(id) = name.strip_prefix(prefix) {
            return (Some(runtime), valid_id(id));
        }
    }
    (None, valid_id(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "b861a3bef24128f124b376302f365ff0";
    const ID: &str = "4280f16b89155464690954f3902c3119d8b0cd736da19095c597d000c730a2b4";

    fn path(text: &str) -> CgroupPath {
        CgroupPath { path: text.to_owned(), v2: true }
    }

    #[test]
    fn pods_of_both_drivers_below_any_prefix() {
        let dashed = "0a1b2c3d-0001-0002-0003-000000000004";
        let cases = [
            (format!("/kubepods/burstable/pod{UID}/{ID}"), UID, Some(ID), None),
            (format!("/kubepods/pod{UID}/{ID}/nested"), UID, Some(ID), None),
            (
                format!("/kubepods/besteffort/pod{dashed}/crio-{ID}"),
                dashed,
                Some(ID),
                Some(RuntimeName::Crio),
            ),
            (format!("/docker/abc/kubelet/kubepods/burstable/pod{UID}/{ID}"), UID, Some(ID), None),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-{ID}.scope",
                    dashed.replace('-', "_")
                ),
                dashed,
                Some(ID),
                Some(RuntimeName::Containerd),
            ),
            (
                format!(
                    "/system.slice/docker-0123.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID}.slice/cri-containerd-{ID}.scope"
                ),
                UID,
                Some(ID),
                Some(RuntimeName::Containerd),
            ),
            (
                format!("/kubepods.slice/kubepods-pod{UID}.slice/docker-{ID}.scope"),
                UID,
                Some(ID),
                Some(RuntimeName::Docker),
            ),
            (
                format!("/kubepods.slice/kubepods-pod{UID}.slice/crio-{ID}.scope/container"),
                UID,
                Some(ID),
                Some(RuntimeName::Crio),
            ),
            (
                format!("/kubepods.slice/kubepods-pod{UID}.slice/crio-conmon-{ID}.scope"),
                UID,
                None,
                Some(RuntimeName::Crio),
            ),
            (format!("/kubepods.slice/kubepods-pod{UID}.slice"), UID, None, None),
            (
                format!(
                    "/system.slice/containerd.service/kubepods-burstable-pod{UID}.slice:cri-containerd:{ID}"
                ),
                UID,
                Some(ID),
                Some(RuntimeName::Containerd),
            ),
        ];
        for (text, uid, id, runtime) in cases {
            let pod = path(&text).pod().unwrap_or_else(|| panic!("{text} is a pod's"));
            assert_eq!(pod.uid.as_str(), uid, "{text}");
            assert_eq!(pod.container.as_ref().map(ContainerId::as_str), id, "{text}");
            assert_eq!(pod.runtime, runtime, "{text}");
            assert_eq!(path(&text).unit(), None, "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_pod_is_none() {
        let others = [
            "/".to_owned(),
            "/system.slice/etcd.service".to_owned(),
            format!("/pod{UID}/{ID}"),
            format!("/burstable/pod{UID}/{ID}"),
            format!("/machine/podman/pod{UID}"),
            "/kubepods/burstable".to_owned(),
            "/kubepods.slice/kubepods-burstable.slice".to_owned(),
            "/kubepods.slice/kubepods-pod.slice".to_owned(),
            format!("/kubepods-evil/pod{UID}/{ID}"),
        ];
        for text in others {
            assert_eq!(path(&text).pod(), None, "{text}");
        }
        assert_eq!(path("/system.slice/etcd.service").unit(), Some(SystemdUnit("etcd.service".into())));
        let docker = path("/system.slice/docker-0123.scope");
        assert_eq!(docker.unit(), Some(SystemdUnit("docker-0123.scope".into())));
        assert_eq!(path("/docker/0123").unit(), None);
    }

    #[test]
    fn the_recorded_orphan_is_a_pod() {
        let text = include_str!("../../testdata/incident-orphan/orphan-proc-cgroup.txt");
        let path = CgroupPath::parse(text).expect("parses");
        assert!(path.v2);
        let pod = path.pod().expect("a pod");
        assert_eq!((pod.uid.as_str(), pod.container.expect("a container").as_str()), (UID, ID));
        assert_eq!(pod.driver, CgroupDriver::Cgroupfs);
    }

    #[test]
    fn a_hybrid_node_tells_the_pod_or_the_unit_from_v1() {
        let text =
            format!("4:memory:/kubepods/pod{UID}/{ID}\n1:name=systemd:/system.slice/x.service\n0::/\n");
        assert!(CgroupPath::parse(&text).expect("parses").pod().is_some());
        let text = "4:memory:/a\n1:name=systemd:/system.slice/x.service\n0::/\n";
        assert_eq!(CgroupPath::parse(text).expect("parses").path, "/system.slice/x.service");
        assert_eq!(CgroupPath::parse("0::/a (deleted)").expect("parses").path, "/a");
        assert_eq!(CgroupPath::parse("nonsense").expect_err("no colons").kind(), ErrorKind::Invalid);
        assert_eq!(CgroupPath::parse("").expect_err("empty").kind(), ErrorKind::Invalid);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "([0-9]{0,3}:[a-z=]{0,9}:(/(kubepods|pod|burstable|[a-z.:_-]{0,20}|\\PC{0,6})){0,6}\n?){0,4}|\\PC{0,200}") {
            if let Ok(path) = CgroupPath::parse(&text) {
                let (pod, unit) = (path.pod(), path.unit());
                proptest::prop_assert!(pod.is_none() || unit.is_none(), "both a pod's and a unit's: {}", path.path);
            }
        }
    }
}
