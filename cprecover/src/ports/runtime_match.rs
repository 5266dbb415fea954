//! Whether the runtime that was asked can know a process: the list of another runtime proves nothing.

use super::cgroup::{PodCgroup, RuntimeName};
use super::evidence::Ancestor;

impl RuntimeName {
    /// Reads the name that a runtime gives in its answer to `Version`.
    ///
    /// Sources: containerd `internal/cri/server/version.go`, CRI-O `server/version.go`, cri-dockerd
    /// `core/docker_service.go`.
    #[must_use]
    pub fn of_cri(name: &str) -> Option<Self> {
        match name {
            "containerd" => Some(Self::Containerd),
            "cri-o" => Some(Self::Crio),
            "docker" => Some(Self::Docker),
            _ => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Crio => "CRI-O",
            Self::Docker => "Docker",
        }
    }
}

/// Returns why a process that the runtime does not list may be another runtime's; `None` when nothing
/// speaks against the one that was asked.
///
/// `keeper` is the process' first ancestor outside of its container.
pub(super) fn mismatch(asked: Option<&str>, pod: Option<&PodCgroup>, keeper: &Ancestor) -> Option<String> {
    let runtime = asked.and_then(RuntimeName::of_cri);
    let told = of_cgroup(runtime, pod).or_else(|| of_shim(runtime, keeper))?;
    let asked = asked.filter(|name| !name.is_empty()).unwrap_or("nothing");
    Some(format!("{told}, but the runtime that was asked calls itself {asked}: its lists need not have it"))
}

fn of_cgroup(asked: Option<RuntimeName>, pod: Option<&PodCgroup>) -> Option<String> {
    match pod?.runtime {
        Some(maker) if asked == Some(maker) => None,
        Some(maker) => Some(format!("its cgroup is named by {}", maker.as_str())),
        // With either cgroup driver CRI-O names `crio-<id>` (its `internal/config/cgmgr`), while the
        // others use the bare id with cgroupfs.
        None if asked == Some(RuntimeName::Crio) => Some("its cgroup is not named by CRI-O".to_owned()),
        None => None,
    }
}

fn of_shim(asked: Option<RuntimeName>, keeper: &Ancestor) -> Option<String> {
    let shim = keeper.shim.as_ref()?;
    let maker = match shim.namespace.as_deref() {
        _ if keeper.comm.starts_with("conmon") => RuntimeName::Crio,
        _ if keeper.comm.starts_with("docker") => RuntimeName::Docker,
        // containerd's CRI part keeps everything in this namespace (`internal/cri/constants`).
        Some("k8s.io") => RuntimeName::Containerd,
        // dockerd's default (moby `daemon/config`, `containerd-namespace`).
        Some("moby") => RuntimeName::Docker,
        Some(other) => return Some(format!("its shim serves containerd's namespace {other}")),
        None => return None,
    };
    // A runtime of another name may be built on containerd.
    let fits = asked == Some(maker) || (asked.is_none() && maker == RuntimeName::Containerd);
    (!fits).then(|| format!("its shim is one of {}", maker.as_str()))
}
