//! Kubelet runs again however its stop ends.

use super::*;
use crate::sys::{CancelToken, CommandOutput, CommandSpec, Commands, SystemCommands};

/// Runs programs; while kubelet's stop does its work, the caller cancels.
struct CancelledInStop {
    stop: String,
    cancel: CancelToken,
}

impl Commands for CancelledInStop {
    fn run(&self, spec: &CommandSpec, deadline: &Deadline) -> Result<CommandOutput> {
        let output = SystemCommands.run(spec, deadline)?;
        if spec.args.iter().any(|arg| *arg == *self.stop) {
            self.cancel.cancel();
            deadline.check("stop kubelet")?;
        }
        Ok(output)
    }
}

#[test]
fn kubelet_runs_again_after_a_stop_that_was_cut_short() {
    let node = Node::new();
    let uid = PodUid::new("333ccb66-3eee-2c0b-4b9a-e7a6b3cc6b72");
    let folder = node.path("var/lib/kubelet/pods").join(uid.as_str());
    std::fs::create_dir_all(&folder).expect("mkdir");
    let ServiceControl::Commands { stop, .. } = &node.options.kubelet else { panic!("commands") };
    let cancel = CancelToken::default();
    let commands = CancelledInStop { stop: stop.last().expect("a script").clone(), cancel: cancel.clone() };
    let host = Host { commands: &commands, ..Host::new(&node.options) };
    let deadline = soon().with_cancel(cancel);
    let error = pod_folder::quarantine_pods(&host, &[uid], &deadline).expect_err("cancelled");
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    assert!(node.is_up("kubelet") && folder.exists());
}
