//! Stand-ins for the programs of a control-plane node; only the drill and the tests start them.

mod component;
pub(crate) mod daemon;
mod etcd;
pub(crate) mod fetch;
mod flags;
mod kubeadm;
pub(crate) mod kubelet;
pub(crate) mod runtime;
pub(crate) mod runtime_client;
pub(crate) mod serve;

use cprecover::Result;
use cprecover::model::Component;

use crate::Exit;

/// The program to stand in for.
#[derive(clap::Subcommand)]
pub(crate) enum DoubleCommand {
    /// etcd: listeners, lock, health, keys.
    Etcd(flags::ProgramArgs),
    /// kube-apiserver: /healthz, /livez, /readyz with etcd's true state.
    KubeApiserver(flags::ProgramArgs),
    /// kube-controller-manager: its health endpoints.
    KubeControllerManager(flags::ProgramArgs),
    /// kube-scheduler: its health endpoints.
    KubeScheduler(flags::ProgramArgs),
    /// kubeadm: `init phase control-plane …`, `init phase etcd local`, `version`.
    Kubeadm(kubeadm::Args),
    /// containerd: CRI on a unix socket.
    Runtime(runtime::RuntimeArgs),
    /// Ends everything that the runtime of this root ever started.
    RuntimeCleanup,
    /// containerd-shim-runc-v2: the parent of a sandbox's containers.
    Shim(runtime::ShimArgs),
    /// kubelet: runs what the manifests folder says.
    Kubelet(kubelet::KubeletArgs),
    /// systemd: starts, stops and asks for kubelet and containerd.
    Daemon(daemon::DaemonArgs),
    /// runc init: enters the cgroup and becomes the container's program.
    Exec(runtime::ExecArgs),
}

impl DoubleCommand {
    /// Runs the stand-in to its end.
    pub(crate) fn run(self, root: &std::path::Path) -> Result<Exit> {
        match self {
            Self::Etcd(args) => etcd::run(&args)?,
            Self::KubeApiserver(args) => component::run(Component::KubeApiserver, &args)?,
            Self::KubeControllerManager(args) => component::run(Component::KubeControllerManager, &args)?,
            Self::KubeScheduler(args) => component::run(Component::KubeScheduler, &args)?,
            Self::Kubeadm(args) => return Ok(kubeadm::run(&args)),
            Self::Runtime(args) => runtime::run(root, args)?,
            Self::RuntimeCleanup => runtime::cleanup(root)?,
            Self::Shim(args) => runtime::run_shim(&args)?,
            Self::Kubelet(args) => kubelet::run(root, &args)?,
            Self::Daemon(args) => return daemon::run(root, &args),
            Self::Exec(args) => runtime::exec(&args)?,
        }
        Ok(Exit::Done)
    }
}

/// Returns the wall clock as etcd's logger writes it.
fn rfc3339_now() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

/// Returns the wall clock as klog's header writes it: `MMDD hh:mm:ss.uuuuuu`.
pub(crate) fn klog_now() -> String {
    jiff::Timestamp::now().strftime("%m%d %H:%M:%S.%6f").to_string()
}
