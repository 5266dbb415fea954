//! Stand-ins for the programs of a control-plane node; only the drill and the tests start them.

mod component;
pub(crate) mod daemon;
mod etcd;
pub(crate) mod fetch;
mod flags;
pub(crate) mod kubelet;
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
}

impl DoubleCommand {
    /// Runs the stand-in to its end.
    pub(crate) fn run(self) -> Result<Exit> {
        match self {
            Self::Etcd(args) => etcd::run(&args)?,
            Self::KubeApiserver(args) => component::run(Component::KubeApiserver, &args)?,
            Self::KubeControllerManager(args) => component::run(Component::KubeControllerManager, &args)?,
            Self::KubeScheduler(args) => component::run(Component::KubeScheduler, &args)?,
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
