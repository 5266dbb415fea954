//! Folders of pods below kubelet's folder, and who knows them.

use std::time::Duration;

use crate::cri::RuntimeState;
use crate::error::{Error, ErrorKind, Result};
use crate::model::NodeName;
use crate::node::NodeOptions;
use crate::parse::manifest::{MAX_MANIFEST_BYTES, StaticPod};
use crate::pods::{KnownPods, Obstacle, PodFolder, Standing, survey};
use crate::policy::contract::{PodDir, Verdict};
use crate::sys::{Deadline, read_bounded};

/// How long a look at all folders may take; a recovery does not wait for it.
const SURVEY_TIMEOUT: Duration = Duration::from_millis(800);
/// How many files of the manifests folder are read.
const MAX_FILES: usize = 1024;

/// Puts together what the runtime and every file of the manifests folder know.
///
/// # Errors
/// When one of the files cannot be read or is no pod: then whose folder is whose is not known.
pub(in crate::recover) fn known(
    node: &NodeOptions,
    name: &NodeName,
    state: &RuntimeState,
) -> Result<KnownPods> {
    let folder = node.manifests();
    let entries = std::fs::read_dir(&folder).map_err(|source| Error::path("list", &folder, source))?;
    let mut pods = Vec::new();
    for (count, entry) in entries.enumerate() {
        if count >= MAX_FILES {
            let message = format!("{} has more than {MAX_FILES} files", folder.display());
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let entry = entry.map_err(|source| Error::path("list", &folder, source))?;
        // kubelet passes over names that start with a dot, and folders (`pkg/kubelet/config/file.go`).
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if hidden || entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let bytes = read_bounded(&entry.path(), MAX_MANIFEST_BYTES)?;
        let pod =
            StaticPod::parse_as_kubelet(&bytes).map_err(|error| error.context(entry.path().display()))?;
        pods.push(pod);
    }
    Ok(KnownPods::new(state, &pods, name))
}

/// Looks at the folders; says what policies get to see of each.
pub(super) fn look(
    node: &NodeOptions,
    name: &NodeName,
    state: &RuntimeState,
    deadline: &Deadline,
) -> Result<Vec<PodDir>> {
    let known = known(node, name, state)?;
    match survey(node, &known, &deadline.at_most(SURVEY_TIMEOUT)) {
        Ok(survey) => Ok(survey.pods.iter().map(pod_dir).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn pod_dir(folder: &PodFolder) -> PodDir {
    let (known_to_runtime, known_to_manifests, mounts) = match &folder.standing {
        Standing::Leftover => (Verdict::No, Verdict::No, Vec::new()),
        Standing::KnownToRuntime => (Verdict::Yes, Verdict::Unknown, Vec::new()),
        Standing::KnownToManifest { .. } => (Verdict::No, Verdict::Yes, Vec::new()),
        Standing::Blocked { obstacle: Obstacle::Mount { at } } => {
            (Verdict::No, Verdict::No, vec![at.display().to_string()])
        }
        // The contract has no word for the other obstacles; unknown is what no guard lets pass.
        Standing::Blocked { .. } => (Verdict::Unknown, Verdict::Unknown, Vec::new()),
    };
    PodDir { uid: folder.uid.to_string(), known_to_runtime, known_to_manifests, mounts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PodUid;

    #[test]
    fn only_a_leftover_is_one_for_the_guard() {
        let seen = |standing| pod_dir(&PodFolder { uid: PodUid::new("u"), standing });
        let passes = |dir: &PodDir| {
            dir.known_to_runtime == Verdict::No
                && dir.known_to_manifests == Verdict::No
                && dir.mounts.is_empty()
        };
        assert!(passes(&seen(Standing::Leftover)));
        let content = Obstacle::VolumeContent { path: "/x".into() };
        for standing in [
            Standing::KnownToRuntime,
            Standing::KnownToManifest { manifest: "kube-system/etcd".into() },
            Standing::Blocked { obstacle: Obstacle::Mount { at: "/x".into() } },
            Standing::Blocked { obstacle: content },
            Standing::Blocked { obstacle: Obstacle::NotAPod },
        ] {
            assert!(!passes(&seen(standing.clone())), "{standing}");
        }
    }

    #[test]
    fn a_manifest_that_cannot_be_parsed_makes_no_knowledge() {
        let dir = tempfile::tempdir().expect("temp dir");
        let node = NodeOptions::at(dir.path()).expect("absolute");
        std::fs::create_dir_all(node.manifests()).expect("mkdir");
        std::fs::write(node.manifests().join(".hidden"), "{").expect("write");
        let name = NodeName::new("cp1");
        known(&node, &name, &RuntimeState::default()).expect("nothing but a hidden file");
        std::fs::write(node.manifests().join("mine.yaml"), "{").expect("write");
        let error = known(&node, &name, &RuntimeState::default()).expect_err("no pod");
        assert!(error.to_string().contains("mine.yaml"), "{error}");
    }
}
