//! What the manifest folder asks for, read as kubelet reads it.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use cprecover::model::{Digest, PodUid};
use cprecover::parse::manifest::{MAX_MANIFEST_BYTES, StaticPod};
use cprecover::sys::read_bounded;

/// A pod that should run.
#[derive(Debug, Clone)]
pub(super) struct Desired {
    /// The UID that stands for file and content.
    pub(super) uid: PodUid,
    /// `<name>-<node>`.
    pub(super) full_name: String,
    /// What the manifest says.
    pub(super) pod: StaticPod,
}

/// Reads every file whose name does not start with a dot; of two with the same pod the later one wins.
///
/// A missing folder means no pods at all, as in kubelet; that is what made the outage total.
pub(super) fn read(folder: &Path, node: &str, complain: &mut dyn FnMut(String)) -> Vec<Desired> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            complain(format!(
                "\"Unable to read config path\" err=\"path does not exist, ignoring\" path=\"{}\" cause=\"{error}\"",
                folder.display()
            ));
            return Vec::new();
        }
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| {
        path.file_name().is_some_and(|name| !name.as_bytes().starts_with(b".")) && path.is_file()
    });
    paths.sort();
    let mut by_name = BTreeMap::new();
    for path in paths {
        let parsed = read_bounded(&path, MAX_MANIFEST_BYTES)
            .and_then(|bytes| Ok((StaticPod::parse_as_kubelet(&bytes)?, bytes)));
        match parsed {
            Ok((pod, bytes)) => {
                let desired = desired(node, &path, pod, &bytes);
                by_name.insert((desired.pod.namespace.clone(), desired.full_name.clone()), desired);
            }
            Err(error) => complain(format!(
                "\"Could not process manifest file\" err=\"{}: couldn't parse as pod({error}), please check config file\" path=\"{}\"",
                path.display(),
                path.display()
            )),
        }
    }
    by_name.into_values().collect()
}

fn desired(node: &str, path: &Path, pod: StaticPod, bytes: &[u8]) -> Desired {
    // kubelet hashes the decoded pod, the host and the file path with FNV-128a; any hash of the same
    // inputs behaves alike: another name or another content is another UID.
    let mut seed = format!("host:{node}file:{}", path.display()).into_bytes();
    seed.extend_from_slice(bytes);
    let uid = Digest::of(&seed).to_string().chars().take(32).collect::<String>();
    Desired { uid: PodUid::new(uid), full_name: format!("{}-{node}", pod.name), pod }
}
