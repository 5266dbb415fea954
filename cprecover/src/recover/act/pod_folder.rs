//! Moves a left-over pod folder aside while kubelet, which makes folders there, is stopped.

use super::{Performed, service};
use crate::cri;
use crate::error::Result;
use crate::model::PodUid;
use crate::pods::{self, Quarantine};
use crate::recover::host::Host;
use crate::recover::observe::{node_name, pods::known};
use crate::sys::Deadline;
use crate::units::{self, ServiceState};

pub(super) fn quarantine(host: &Host<'_>, uid: &PodUid, deadline: &Deadline) -> Result<Performed> {
    let made = quarantine_pods(host, std::slice::from_ref(uid), deadline)?;
    let folder = made.folder.display();
    let done = Performed::new(format!("the folder of pod {uid} is in {folder}"));
    Ok(done.undo(format!("cprecover pods undo {folder}")))
}

/// Says of every pod folder of the node who knows it; changes nothing.
///
/// # Errors
/// When the runtime does not answer or a manifest cannot be read: then nothing is known to be left over.
pub fn survey_pods(host: &Host<'_>, deadline: &Deadline) -> Result<pods::Survey> {
    let runtime = cri::connect(host.node, host.commands, deadline)?;
    let known = known(host.node, &node_name(host), &runtime.list(deadline)?)?;
    pods::survey(host.node, &known, deadline)
}

/// Moves the folders of these pods into a quarantine, with kubelet stopped meanwhile.
///
/// # Errors
/// As [`pods::quarantine`], and when the runtime does not answer; kubelet runs again in any case, when it
/// ran before and its service can be started.
pub fn quarantine_pods(host: &Host<'_>, uids: &[PodUid], deadline: &Deadline) -> Result<Quarantine> {
    let kubelet = units::service(host.node, &host.node.kubelet, host.commands)?;
    let ran = matches!(kubelet.state(deadline)?, ServiceState::Active | ServiceState::Activating);
    if ran {
        kubelet.stop(deadline)?;
    }
    let result = cri::connect(host.node, host.commands, deadline)
        .and_then(|runtime| runtime.list(deadline))
        .and_then(|state| known(host.node, &node_name(host), &state))
        .and_then(|known| pods::quarantine(host.node, &known, uids, host.clock, deadline));
    if ran {
        let started = service::start(host, "kubelet", kubelet.as_ref(), &service::own_deadline());
        if let Err(error) = started {
            // What was moved must be known even so.
            return Err(match &result {
                Ok(made) => error.context(format!("pod folders are in {}", made.folder.display())),
                Err(first) => error.context(first.to_string()),
            });
        }
    }
    result
}
