//! Moves a left-over pod folder aside while kubelet, which makes folders there, is stopped.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Performed, service};
use crate::cri;
use crate::error::{Error, ErrorKind, Result};
use crate::facts::require_node_name;
use crate::model::PodUid;
use crate::pods::{self, Quarantine, Standing};
use crate::recover::host::Host;
use crate::recover::observe::pods::known;
use crate::sys::Deadline;
use crate::units::{self, ServiceState};

pub(super) fn quarantine(host: &Host<'_>, uid: &PodUid, deadline: &Deadline) -> Result<Performed> {
    let made = quarantine_pods(host, std::slice::from_ref(uid), deadline)?;
    let folder = made.folder.display();
    let done = Performed::new(format!("the folder of pod {uid} is in {folder}"));
    Ok(done.undo(host.node.by_hand(&format!("pods undo {folder}"))))
}

/// The pod folders of a node, in their place and moved aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PodsReport {
    /// Below kubelet's `pods` folder.
    #[serde(flatten)]
    pub survey: pods::Survey,
    /// What was moved aside, oldest first.
    pub quarantines: Vec<Quarantine>,
}

/// Says of every pod folder of the node who knows it, and lists the quarantines; changes nothing.
///
/// # Errors
/// As [`survey_pods`] and [`pods::quarantines`].
pub fn list_pods(host: &Host<'_>, deadline: &Deadline) -> Result<PodsReport> {
    Ok(PodsReport { survey: survey_pods(host, deadline)?, quarantines: pods::quarantines(host.node)? })
}

/// Says of every pod folder of the node who knows it; changes nothing.
///
/// # Errors
/// When the runtime does not answer or a manifest cannot be read: then nothing is known to be left over.
pub fn survey_pods(host: &Host<'_>, deadline: &Deadline) -> Result<pods::Survey> {
    let runtime = cri::connect(host.node, host.commands, deadline)?;
    let known = known(host.node, &require_node_name(host.node)?, &runtime.list(deadline)?)?;
    pods::survey(host.node, &known, deadline)
}

/// Moves the folders of these pods into a quarantine, with kubelet stopped meanwhile.
///
/// They are judged before kubelet is stopped and, since it may have made a pod in between, again after.
///
/// # Errors
/// As [`pods::quarantine`], and when the runtime does not answer: kubelet is not stopped for what is refused
/// before. It runs again in any case, also after a cancel, when it ran before and its service can be started.
pub fn quarantine_pods(host: &Host<'_>, uids: &[PodUid], deadline: &Deadline) -> Result<Quarantine> {
    let known_now = || {
        let state = cri::connect(host.node, host.commands, deadline)?.list(deadline)?;
        known(host.node, &require_node_name(host.node)?, &state)
    };
    // Kubelet is not stopped for a folder that stays where it is.
    pods::judge(host.node, &known_now()?, uids, deadline)?;
    let kubelet = units::kubelet(host.node, host.commands)?;
    let ran = matches!(kubelet.state(deadline)?, ServiceState::Active | ServiceState::Activating);
    let stopped = if ran { kubelet.stop(deadline) } else { Ok(()) };
    let result = stopped
        .and_then(|()| known_now())
        .and_then(|known| pods::quarantine(host.node, &known, uids, host.clock, deadline));
    if ran {
        // Whatever became of the stop, and whatever its state is now: a job that nobody waits for any more
        // still stops it.
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

/// Moves every folder that nobody knows into a quarantine; see [`quarantine_pods`].
///
/// # Errors
/// [`ErrorKind::NotFound`] when no folder is left over, otherwise as [`quarantine_pods`].
pub fn quarantine_leftover_pods(host: &Host<'_>, deadline: &Deadline) -> Result<Quarantine> {
    let found = survey_pods(host, deadline)?.pods.into_iter();
    let left: Vec<PodUid> =
        found.filter(|pod| pod.standing == Standing::Leftover).map(|pod| pod.uid).collect();
    if left.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "no folder is left over; nothing was changed"));
    }
    quarantine_pods(host, &left, deadline)
}

/// Moves the folders of a quarantine, the newest one when none is named, back to where they were.
///
/// # Errors
/// [`ErrorKind::NotFound`] when there is no such quarantine, otherwise as [`pods::undo`].
pub fn undo_quarantine(host: &Host<'_>, folder: Option<&Path>, deadline: &Deadline) -> Result<Quarantine> {
    let found = match folder {
        // Another one whose index is broken does not matter here.
        Some(folder) => pods::quarantine_in(host.node, folder)?,
        None => pods::quarantines(host.node)?
            .pop()
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no quarantine"))?,
    };
    pods::undo(&found, deadline)?;
    Ok(found)
}
