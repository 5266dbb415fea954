//! What a change of manifests must not do: put a held one in place, or let kubelet run a pod twice.
//!
//! kubernetes `pkg/kubelet/config/file.go` runs every file of the folder whose name does not start with a dot,
//! and follows links. What cannot be read or followed here may be a pod there, and nothing is changed; what
//! kubelet could not parse either runs nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::describe::{is_dot, pod_of};
use super::fs::place::{absent_to_none, split};
use super::fs::{FileSystem, Kind};
use super::hold::HeldState;
use super::journal::Standing;
use super::plan::Plan;
use super::stage::{Fresh, Put};
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::parse::manifest::MAX_MANIFEST_BYTES;

/// Links that are followed on the way to one file, as Linux does (`MAXSYMLINKS`, include/linux/namei.h).
const MAX_LINKS: usize = 40;

impl<'f, F: FileSystem> Vault<'f, F> {
    /// Fails when a manifest that is held would be put in place; returns the holds that then end.
    pub(super) fn check_held(&self, plan: &Plan<'f, F>, replace: bool) -> Result<Vec<(String, String)>> {
        let records = self.holds()?;
        for hold in records.unreadable {
            let path = self.layout.manifests.join(&hold.file);
            // The hold cannot be ended: nobody knows which snapshot has what was held.
            if plan.changes.iter().any(|(changed, ..)| *changed == path) {
                return Err(hold.refusal());
            }
        }
        let mut ended = Vec::new();
        let known = self.with_states(records.known)?.into_iter();
        for held in known.filter(|held| held.state != HeldState::Released) {
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

    /// Fails when kubelet would find the same pod in two files once the plan is carried out.
    pub(super) fn check_pods(&self, plan: &Plan<'f, F>, pods: &BTreeMap<PathBuf, String>) -> Result<()> {
        let manifests = &self.layout.manifests;
        let here = |path: &Path| path.parent() == Some(manifests) && !is_dot(path);
        let after = After { plan, pods };
        let mut run: BTreeMap<String, &Path> = BTreeMap::new();
        for (path, ..) in plan.changes.iter().filter(|(path, ..)| here(path)) {
            let pod = self.pod_after(path, &after).map_err(|error| unsure(path, error))?;
            let Some(pod) = pod else { continue };
            if let Some(other) = run.insert(pod.clone(), path) {
                return Err(twice(&pod, other, path));
            }
        }
        if run.is_empty() {
            return Ok(());
        }
        let Some(place) = self.root.folder_if_any(manifests)? else { return Ok(()) };
        for name in place.list()? {
            let path = manifests.join(&name);
            if is_dot(&path) || after.change(&path).is_some() {
                continue;
            }
            let pod = self.pod_after(&path, &after).map_err(|error| unsure(&path, error))?;
            if let Some((pod, other)) = pod.and_then(|pod| run.get_key_value(&pod)) {
                return Err(twice(pod, other, &path));
            }
        }
        Ok(())
    }

    /// Returns the file other than `file` from which kubelet runs `pod`; a link to `file` is no other one.
    pub(super) fn other_manifest(&self, file: &str, pod: &str) -> Result<Option<PathBuf>> {
        let manifests = &self.layout.manifests;
        let own = manifests.join(file);
        for name in self.root.folder(manifests)?.list()? {
            let path = manifests.join(&name);
            if is_dot(&path) || path == own {
                continue;
            }
            let found = self.follow(&path, |_| false).and_then(|end| match end.filter(|end| *end != own) {
                Some(end) => self.pod_at(&end),
                None => Ok(None),
            });
            if found.map_err(|error| unsure(&path, error))?.as_deref() == Some(pod) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Returns the pod that kubelet would run from a name of the node after a change.
    fn pod_after(&self, path: &Path, after: &After<'_, 'f, F>) -> Result<Option<String>> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            if after.change(&path).is_none() {
                let Some(end) = self.follow(&path, |link| after.change(link).is_some())? else {
                    return Ok(None);
                };
                path = end;
            }
            path = match after.change(&path) {
                None => return self.pod_at(&path),
                Some((_, _, None)) => return Ok(None),
                Some((_, _, Some(Put { fresh: Fresh::Symlink { target }, .. }))) => {
                    path.parent().unwrap_or(Path::new("/")).join(target.as_path())
                }
                Some(_) => return Ok(after.pods.get(&path).cloned()),
            };
        }
        Ok(None)
    }

    /// Returns the pod in the file at a path without links.
    pub(super) fn pod_at(&self, path: &Path) -> Result<Option<String>> {
        let Ok((parent, name)) = split(path) else { return Ok(None) };
        let Some(place) = self.root.folder_if_any(parent)? else { return Ok(None) };
        let stat = place.stat(name)?;
        if stat.is_none_or(|stat| stat.kind != Kind::File || stat.size > MAX_MANIFEST_BYTES as u64) {
            return Ok(None);
        }
        match absent_to_none(place.read(name, MAX_MANIFEST_BYTES))? {
            Some(bytes) => pod_of(&bytes),
            None => Ok(None),
        }
    }

    /// Returns where a path leads, with links followed as if the node's root were `/`, up to one that `stops`:
    /// there may be nothing at its end, and `None` means that nothing can be.
    pub(super) fn follow(&self, path: &Path, stops: impl Fn(&Path) -> bool) -> Result<Option<PathBuf>> {
        let parts = |path: &Path| path.iter().rev().map(PathBuf::from).collect::<Vec<_>>();
        let mut at = PathBuf::from("/");
        let mut rest = parts(path);
        let mut links = 0;
        while let Some(part) = rest.pop() {
            match part.as_os_str().as_encoded_bytes() {
                b"." => continue,
                b".." => {
                    at.pop();
                    continue;
                }
                b"/" => {
                    at = part;
                    continue;
                }
                _ => {}
            }
            let is_top = at.parent().is_none();
            let place = if is_top { Some(self.root.clone()) } else { self.root.folder_if_any(&at)? };
            let Some(place) = place else { return Ok(None) };
            let inner = at.join(&part);
            match place.stat(&part)?.map(|stat| stat.kind) {
                Some(Kind::Symlink) if rest.is_empty() && stops(&inner) => return Ok(Some(inner)),
                Some(Kind::Symlink) if links == MAX_LINKS => return Ok(None),
                Some(Kind::Symlink) => {
                    links += 1;
                    rest.extend(parts(place.read_link(&part)?.as_path()));
                }
                Some(Kind::Folder) => at = inner,
                _ if rest.is_empty() => return Ok(Some(inner)),
                _ => return Ok(None),
            }
        }
        Ok(Some(at))
    }
}

/// The node as it is after a change.
struct After<'p, 'f, F: FileSystem> {
    plan: &'p Plan<'f, F>,
    /// The pods of files that are put.
    pods: &'p BTreeMap<PathBuf, String>,
}

impl<'p, 'f, F: FileSystem> After<'p, 'f, F> {
    /// Returns the change of a path; none where what stands there stays.
    fn change(&self, path: &Path) -> Option<&'p (PathBuf, Standing, Option<Put<'f, F>>)> {
        self.plan.changes.iter().find(|(changed, ..)| changed == path)
    }
}

fn twice(pod: &str, one: &Path, other: &Path) -> Error {
    let (one, other) = (one.display(), other.display());
    Error::new(ErrorKind::Refused, format!("kubelet would run pod {pod} twice: {one} and {other}"))
}

fn unsure(path: &Path, error: Error) -> Error {
    let message = format!("cannot tell which pod kubelet runs from {}", path.display());
    match error.kind() {
        ErrorKind::Limit => {
            Error::with_source(ErrorKind::Refused, format!("{message}; move it away first"), error)
        }
        _ => error.context(message),
    }
}
