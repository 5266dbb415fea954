//! What a change of manifests must not do: put a held one in place, or let kubelet run a pod twice.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::describe::view_of;
use super::fs::{FileSystem, Kind};
use super::hold::HeldState;
use super::plan::Plan;
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::parse::yaml::MAX_DOCUMENT_BYTES;

impl<'f, F: FileSystem> Vault<'f, F> {
    /// Fails when a manifest that is held would be put in place; returns the holds that then end.
    pub(super) fn check_held(&self, plan: &Plan<'f, F>, replace: bool) -> Result<Vec<(String, String)>> {
        let mut ended = Vec::new();
        for held in self.held()?.into_iter().filter(|held| held.state != HeldState::Released) {
            let path = self.layout.manifests.join(&held.file);
            if !plan.changes.iter().any(|(changed, _, put)| *changed == path && put.is_some()) {
                continue;
            }
            if !replace {
                return Err(Error::new(
                    ErrorKind::Refused,
                    format!("{} is held ({}); release it first", held.file, held.reason),
                ));
            }
            ended.push((held.held_as, held.file));
        }
        Ok(ended)
    }

    /// Fails when kubelet would find the same pod in two files (kubernetes `pkg/kubelet/config/file.go`
    /// runs every file whose name does not start with a dot; the one that sorts last wins).
    pub(super) fn check_pods(&self, plan: &Plan<'f, F>, pods: &BTreeMap<PathBuf, String>) -> Result<()> {
        let manifests = &self.layout.manifests;
        let here = |path: &Path| path.parent() == Some(manifests);
        let put = plan.changes.iter().filter(|(path, _, put)| put.is_some() && here(path));
        let mut run: BTreeMap<&str, &Path> = BTreeMap::new();
        let twice = |pod: &str, one: &Path, other: &Path| {
            let (one, other) = (one.display(), other.display());
            Error::new(ErrorKind::Refused, format!("kubelet would run pod {pod} twice: {one} and {other}"))
        };
        for (path, ..) in put {
            let Some(pod) = pods.get(path).filter(|_| !is_dot(path)) else { continue };
            if let Some(other) = run.insert(pod, path) {
                return Err(twice(pod, other, path));
            }
        }
        if run.is_empty() {
            return Ok(());
        }
        let Some(place) = self.root.folder_if_any(manifests)? else { return Ok(()) };
        let names: Vec<OsString> = place.list()?;
        for name in names {
            let path = manifests.join(&name);
            let stays = !plan.changes.iter().any(|(changed, ..)| *changed == path);
            let is_file = || Ok::<_, Error>(place.stat(&name)?.is_some_and(|stat| stat.kind == Kind::File));
            if is_dot(&path) || !stays || !is_file()? {
                continue;
            }
            let view = place.read(&name, MAX_DOCUMENT_BYTES).ok().and_then(|bytes| view_of(&bytes));
            if let Some(view) = view
                && let Some(other) = run.get(view.pod.as_str())
            {
                return Err(twice(&view.pod, other, &path));
            }
        }
        Ok(())
    }
}

fn is_dot(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}
