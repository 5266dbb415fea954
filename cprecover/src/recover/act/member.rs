//! What comes before a step on this node's etcd member: the quorum, asked again, and a saved copy.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::etcd::{
    CheckOptions, Client, ClusterView, DataReport, MemberHealth, ViewSource, copy_member, remove_unfinished,
    snapshot,
};
use crate::model::{Component, Observed};
use crate::parse::manifest::StaticPod;
use crate::policy::Action;
use crate::policy::contract::Consent;
use crate::ports::DATABASE;
use crate::recover::cache::member_stamps;
use crate::recover::host::Host;
use crate::recover::observation::Observation;
use crate::recover::observe::etcd::{local_health, members_now, projection};
use crate::recover::world::Prepared;
use crate::sys::Deadline;

/// Folder of saved members below the store.
pub(crate) const SAVED: &str = "etcd";
/// How long saving may take; a database has 8 GB at most (etcd's advice), and a disk writes 100 MB/s.
const SAVE_TIMEOUT: Duration = Duration::from_mins(2);
/// How long the members are asked before the step.
const SURVEY_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a member that has just answered may take for a connection.
const CONNECT: Duration = Duration::from_secs(1);
/// How long it may be silent while it gives its snapshot: a slow disk first has to commit what is pending (etcd
/// `server/storage/backend/backend.go`, `Snapshot`).
const SILENCE: Duration = Duration::from_secs(15);
/// How many saved members are kept.
const KEPT: usize = 4;
const SNAPSHOT_END: &str = "-snapshot.db";
const COPY_END: &str = "-member";

/// What a step does to the member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Touch {
    /// Its process ends and comes back.
    Ends,
    /// Its process ends if it still runs: kubelet ends what has no manifest.
    MayEnd,
    /// It starts from another manifest; its process is gone already.
    Starts,
    /// It gets its own manifest back, which changes nothing that a saved copy would bring back.
    Returns,
}

/// Makes sure that the step leaves a quorum and that the member's data are saved where they can be.
///
/// Returns what was saved, or why nothing could be; `None` when the step does not touch etcd.
///
/// # Errors
/// [`ErrorKind::Changed`] when the step would or may leave etcd without a quorum; [`ErrorKind::Refused`] when the
/// data could be saved and saving failed, unless `unsaved_is_fine`, and always when what the member gave is
/// broken: it may not start again.
pub(in crate::recover) fn prepare(
    host: &Host<'_>,
    action: &Action,
    seen: &Observation,
    unsaved_is_fine: bool,
    consents: &[Consent],
    deadline: &Deadline,
) -> Result<Option<Prepared>> {
    let Some(touch) = touches(action, seen).filter(|touch| *touch != Touch::Returns) else { return Ok(None) };
    let expected = seen.pods.iter().find(|pod| pod.component == Component::Etcd);
    let manifest = expected.and_then(|pod| pod.pod.as_ref());
    let ends = manifest.filter(|_| touch != Touch::Starts);
    let ask = |manifest: &StaticPod| require_quorum(host, action, seen, manifest, consents, deadline);
    let asked = ends.map(ask).transpose()?;
    let answers = asked.as_ref().is_some_and(|asked| asked.local_answers);
    let said = asked.map(|asked| asked.said);
    if touch == Touch::MayEnd && !answers {
        return Ok(said.map(Prepared::NotSaved));
    }
    let (saved, took_time) = match save(host, manifest.filter(|_| answers), manifest, deadline) {
        // Found out at once: nobody answers, and the files are in use or not there.
        Ok(saved @ Prepared::NotSaved(_)) if !answers => (saved, false),
        Ok(saved) => (saved, true),
        Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
        Err(error) if unsaved_is_fine && error.kind() != ErrorKind::Corrupt => {
            (Prepared::NotSaved(format!("the member is not saved, as agreed: {error}")), true)
        }
        Err(error) => {
            let what = format!("{action}: etcd's data could be saved first, and saving failed: {error}");
            return Err(Error::new(ErrorKind::Refused, what));
        }
    };
    // To save a large database takes minutes, in which another member may have gone.
    ends.filter(|_| took_time).map(ask).transpose()?;
    Ok(Some(saved.behind(said)))
}

pub(super) fn touches(action: &Action, seen: &Observation) -> Option<Touch> {
    if seen.etcd.external {
        return None;
    }
    let ends = match action {
        Action::TerminateHolder { port, .. } => {
            seen.holders.iter().any(|holder| holder.port == *port && holder.wanted_by == Component::Etcd)
        }
        Action::RemoveSandbox { sandbox } => match &seen.facts.runtime {
            Observed::Present(state) => {
                state.component_sandboxes(Component::Etcd).iter().any(|known| known.id == *sandbox)
            }
            // Whose sandbox it is cannot be told, so it may be etcd's.
            _ => true,
        },
        Action::BounceStaticPod { component } => *component == Component::Etcd,
        Action::RegenerateComponent { component } => {
            return (*component == Component::Etcd).then_some(Touch::Starts);
        }
        Action::RestoreManifest { component, .. } => {
            return (*component == Component::Etcd).then_some(Touch::Returns);
        }
        // As the guard sees it: kubelet may be running the duplicate, or ends what has no manifest.
        Action::QuarantineManifest { file } => {
            return file.starts_with(Component::Etcd.manifest_file()).then_some(Touch::MayEnd);
        }
        // Pod folders are moved while kubelet is stopped.
        Action::RestartKubelet | Action::RestartRuntime | Action::QuarantinePodDir { .. } => {
            let mut manifests = seen.facts.manifests.iter();
            let managed =
                manifests.any(|fact| fact.component == Component::Etcd && fact.pod.present().is_some());
            return (!managed).then_some(Touch::MayEnd);
        }
        _ => false,
    };
    ends.then_some(Touch::Ends)
}

/// What the members said right before a step.
struct Asked {
    said: String,
    /// Whether this node's own member gave the list; one that is silent is not asked for its data.
    local_answers: bool,
}

/// Asks the members again, right before the step. Where nobody answers, what is known of them has to be enough:
/// those who answered the last look may be gone.
fn require_quorum(
    host: &Host<'_>,
    action: &Action,
    seen: &Observation,
    manifest: &StaticPod,
    consents: &[Consent],
    deadline: &Deadline,
) -> Result<Asked> {
    let report = seen.etcd_facts.data.present().map(|verdict| &verdict.report);
    let health = local_health(&seen.facts.health);
    let limit = deadline.at_most(SURVEY_TIMEOUT);
    let members = members_now(host.node, manifest, report, health, &limit)?;
    let local_answers = match &members.client {
        Ok(client) => Client::of_node(host.node, manifest)?.address() == client.address(),
        Err(_) => false,
    };
    let changed = |why: &dyn fmt::Display| Error::new(ErrorKind::Changed, format!("{action}: {why}"));
    let view = match members.view {
        Ok(view) => view,
        Err(said) if consents.contains(&Consent::UnknownQuorum) => return Ok(Asked { said, local_answers }),
        Err(why) => return Err(changed(&format!("the members of the etcd cluster are not known: {why}"))),
    };
    let said = match &members.local {
        None => without_local(&view, manifest, report).map_err(|why| changed(&why))?,
        Some(local) => {
            let projection = projection(&view, local);
            if !projection.is_allowed() {
                return Err(changed(&projection));
            }
            projection.to_string()
        }
    };
    let said = members.client.err().map_or_else(|| said.clone(), |unasked| format!("{unasked}; {said}"));
    Ok(Asked { said, local_answers })
}

/// Judges a step where none of the members is known to be this node's: it may be any of them, unless its id is
/// known and those who serve do not list it.
fn without_local(
    view: &ClusterView,
    manifest: &StaticPod,
    report: Option<&DataReport>,
) -> std::result::Result<String, String> {
    let name = manifest.flag("name").unwrap_or_default();
    let has_namesake = view.members.iter().any(|member| !name.is_empty() && member.name == name);
    let id = report.and_then(|report| report.member_id);
    if let (ViewSource::Cluster, false, Some(id)) = (view.source, has_namesake, id) {
        return Ok(format!("this node's member {id} is not among the cluster's"));
    }
    let (voters, healthy, quorum) = view.count();
    let mut voting = view.members.iter().filter(|member| !member.learner);
    let said = format!(
        "which of the members is this node's cannot be told, {healthy} of {voters} voting members are healthy, \
         quorum {quorum}"
    );
    if healthy > quorum || voting.all(|member| member.health == MemberHealth::Unhealthy) {
        return Ok(said);
    }
    Err(said)
}

/// Saves the member: a snapshot when it answers, by the manifest `asked`; else a copy when nobody uses the
/// files.
fn save(
    host: &Host<'_>,
    asked: Option<&StaticPod>,
    manifest: Option<&StaticPod>,
    deadline: &Deadline,
) -> Result<Prepared> {
    let deadline = deadline.at_most(SAVE_TIMEOUT);
    let folder = make_folder(&host.node.store().join(SAVED))?;
    // First, so that there is room for this one.
    remove_unfinished(&folder)?;
    let mut failed = None;
    if let Some(manifest) = asked {
        let client = Client::of_node(host.node, manifest).map(|client| client.within(CONNECT, SILENCE));
        let to = folder.join(format!("{}{SNAPSHOT_END}", host.unix_ms()));
        match client.and_then(|client| snapshot(&client, &to, &deadline)) {
            Ok(receipt) => {
                prune(&folder)?;
                let path = receipt.path.display().to_string();
                return Ok(Prepared::Saved(format!(
                    "snapshot {path}, {} bytes, sha256 {}",
                    receipt.size_bytes, receipt.sha256
                )));
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::NoSpace | ErrorKind::Corrupt) =>
            {
                return Err(error);
            }
            Err(error) => failed = Some(format!("no snapshot: {error}")),
        }
    }
    match (copy(host, manifest, &folder, &deadline), failed) {
        (Ok(copied), failed) => Ok(Prepared::Saved(copied).behind(failed)),
        // The data stay where they are; an etcd that is ended replays them at its next start.
        (Err(error), None) if error.kind() == ErrorKind::Busy => {
            Ok(Prepared::NotSaved(format!("no copy: {error}")))
        }
        (Err(error), None) if error.kind() == ErrorKind::NotFound => {
            Ok(Prepared::NotSaved(format!("nothing to save: {error}")))
        }
        (Err(error), Some(failed)) => Err(error.context(failed)),
        (Err(error), None) => Err(error),
    }
}

fn copy(host: &Host<'_>, manifest: Option<&StaticPod>, folder: &Path, deadline: &Deadline) -> Result<String> {
    let (data_dir, options) = CheckOptions::of_node(host.node, manifest);
    if let Some(wal) = options.wal_dir.filter(|wal| !wal.starts_with(data_dir.join("member"))) {
        let why = format!("the WAL is apart from the member, in {}; copy both by hand", wal.display());
        return Err(Error::new(ErrorKind::Unsupported, why));
    }
    if let Some(known) = still_saved(folder, &data_dir) {
        return Ok(format!("the member is as it was saved in {}", known.display()));
    }
    let to = folder.join(format!("{}{}", host.unix_ms(), copy_end(&data_dir)));
    match copy_member(&data_dir, &to, deadline) {
        Ok(receipt) => {
            prune(folder)?;
            let how = if receipt.reflinked { "shared blocks" } else { "bytes" };
            Ok(format!("copy of the member in {}, {} {how}", receipt.path.display(), receipt.bytes))
        }
        Err(error) => Err(error),
    }
}

/// How the name of a copy ends: with whose it is, so that another member's is never taken for it.
fn copy_end(data_dir: &Path) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let database = std::fs::metadata(data_dir.join(DATABASE));
    let which = database.map(|found| format!("-{:x}-{:x}", found.dev(), found.ino())).unwrap_or_default();
    format!("{which}{COPY_END}")
}

/// The newest copy of this member, when none of its files changed since.
fn still_saved(folder: &Path, data_dir: &Path) -> Option<PathBuf> {
    let (saved_ms, path) = saved(folder, &copy_end(data_dir)).into_iter().next_back()?;
    let written = member_stamps(data_dir, None)?.into_iter().map(|(_, _, [seconds, nanos])| {
        let millis = i128::from(seconds) * 1000 + i128::from(nanos) / 1_000_000;
        u64::try_from(millis).unwrap_or_default()
    });
    // Written in the same millisecond may be written afterwards.
    (written.max()? < saved_ms).then_some(path)
}

/// Saved members of one kind with their times in milliseconds since 1970, oldest first.
fn saved(folder: &Path, end: &str) -> Vec<(u64, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<(u64, PathBuf)> = entries
        .take(4096)
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let (at, _) = name.strip_suffix(end).map(|rest| rest.split_once('-').unwrap_or((rest, "")))?;
            Some((at.parse().ok()?, entry.path()))
        })
        .collect();
    found.sort();
    found
}

/// Removes the oldest of what this module saved, of each kind.
fn prune(folder: &Path) -> Result<()> {
    for end in [SNAPSHOT_END, COPY_END] {
        let found = saved(folder, end);
        let old = found.len().saturating_sub(KEPT);
        for (_, path) in found.into_iter().take(old) {
            let removed =
                if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.map_err(|source| Error::path("remove", &path, source))?;
            tracing::info!(path = %path.display(), "old saved member removed");
        }
    }
    Ok(())
}

fn make_folder(path: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| Error::path("create", path, source))?;
    Ok(path.to_owned())
}

#[cfg(test)]
#[path = "member_tests.rs"]
mod tests;
