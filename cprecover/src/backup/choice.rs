//! Which snapshot is meant when none is named, and whose files it holds.

use super::fs::FileSystem;
use super::number::{newest_first, of_number};
use super::vault::Vault;
use super::{Group, Listed, RestoreOptions, Selection, Snapshot, SnapshotId, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::kubeadm::is_stacked;
use crate::model::Component;
use crate::sys::Deadline;

/// What [`Store::choose`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Choice {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// What is wanted and not in it, in words.
    pub lacks: Vec<String>,
    /// Snapshots that would have been better and are damaged, or could not be looked through.
    pub damaged: Vec<SnapshotId>,
}

impl Snapshot {
    /// Reports whether it shows what stood there before a change: what was wrong then is in it too.
    #[must_use]
    pub fn is_before_change(&self) -> bool {
        !self.health_verified && self.reason.starts_with("before-")
    }

    /// Returns the components whose manifest it does not hold.
    #[must_use]
    pub fn lacks(&self) -> Vec<Component> {
        Component::ALL.into_iter().filter(|component| self.manifest(*component).is_none()).collect()
    }

    /// Reports whether its API server uses an etcd that is no static pod of the node: on other hosts, or a service
    /// of its own on this one.
    #[must_use]
    pub fn has_external_etcd(&self) -> bool {
        let view = self.manifest(Component::KubeApiserver).and_then(|entry| entry.view.as_ref());
        let Some(view) = view.filter(|_| self.manifest(Component::Etcd).is_none()) else { return false };
        let flag = |name: &str| {
            view.flags.iter().rev().find(|(flag, _)| flag == name).map(|(_, value)| value.as_str())
        };
        flag("etcd-servers").is_some() && !is_stacked(flag)
    }

    /// Reports whether it is of `node`; `None` where one of the two is not known.
    fn is_of(&self, node: Option<&str>) -> Option<bool> {
        // Names of nodes are lower case (RFC 1123); a host's name may not be.
        Some(self.node.as_deref()?.eq_ignore_ascii_case(node?))
    }

    /// Reports whether it names another node than `node`; where one of the two is not known, it does not.
    pub(super) fn is_of_another_node(&self, node: Option<&str>) -> bool {
        self.is_of(node) == Some(false)
    }
}

impl Store {
    /// Reports whether a snapshot is of this store's node; `None` where one of the two is not known.
    #[cfg(feature = "probe")]
    pub(crate) fn is_of_this_node(&self, snapshot: &Snapshot) -> Option<bool> {
        snapshot.is_of(self.node_name())
    }

    /// Reports whether a snapshot names another node than this one; a restore of it is refused then.
    #[must_use]
    pub fn is_of_another_node(&self, snapshot: &Snapshot) -> bool {
        snapshot.is_of_another_node(self.node_name())
    }

    /// Returns the newest snapshot whose index can be read and that was not made before a change; one of this
    /// node before any other.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub fn latest(&self) -> Result<Option<Snapshot>> {
        Ok(self.by_rank()?.into_iter().next())
    }

    /// Returns the newest snapshot that was made while the node's health was verified; one of this node before
    /// any other.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub fn last_known_good(&self) -> Result<Option<Snapshot>> {
        Ok(self.by_rank()?.into_iter().find(|snapshot| snapshot.health_verified))
    }

    /// Sorts the snapshots of a listing by age, the newest first; those without an index are left out.
    pub(crate) fn newest_first<'a>(&self, listed: &'a [Listed]) -> Vec<&'a Snapshot> {
        newest_first(listed.iter().filter_map(|listed| listed.snapshot.as_ref()), self.clock.unix().as_secs())
    }

    /// Returns the snapshots that were not made before a change, this node's first, newer ones first.
    fn by_rank(&self) -> Result<Vec<Snapshot>> {
        let listed = self.list()?;
        let newest_first = self.newest_first(&listed).into_iter();
        let mut snapshots: Vec<Snapshot> =
            newest_first.filter(|snapshot| !snapshot.is_before_change()).cloned().collect();
        snapshots.sort_by_key(|snapshot| self.is_of_another_node(snapshot));
        Ok(snapshots)
    }

    /// Finds a snapshot by its id, its number, `latest` or `last-known-good`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is none, [`crate::ErrorKind::Missing`] when several have that
    /// number, [`crate::ErrorKind::Invalid`] for other text.
    pub fn resolve(&self, name: &str) -> Result<SnapshotId> {
        let none = || {
            Error::new(ErrorKind::NotFound, format!("store {} has no snapshot {name:?}", self.path.display()))
        };
        let ids = || Ok::<_, Error>(self.list()?.into_iter().map(|listed| listed.id));
        let found = match (name, name.parse::<u32>()) {
            ("latest", _) => self.latest()?.map(|snapshot| snapshot.id),
            ("last-known-good", _) => self.last_known_good()?.map(|snapshot| snapshot.id),
            (_, Ok(number)) => of_number(ids()?, number)?,
            _ => {
                let id: SnapshotId = name.parse()?;
                ids()?.find(|known| *known == id)
            }
        };
        found.ok_or_else(none)
    }

    /// Chooses the snapshot that a restore of `selection` takes where none is named: of those of this node that
    /// are intact and were not made before a change, one that holds what is wanted, a last known good one
    /// before any other, the newest first.
    ///
    /// Wanted are the manifests that are not on the node now (all of them where none is missing), or what
    /// `selection` names. With `other_node` other nodes' snapshots are taken where this node has none.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is none to choose from, [`crate::ErrorKind::Corrupt`] when none
    /// of them is intact, and as [`Store::list`].
    pub fn choose(&self, selection: &Selection, other_node: bool, deadline: &Deadline) -> Result<Choice> {
        let mut snapshots = self.by_rank()?;
        if !other_node || snapshots.iter().any(|snapshot| !self.is_of_another_node(snapshot)) {
            snapshots.retain(|snapshot| !self.is_of_another_node(snapshot));
        }
        let missing = self.missing_manifests()?;
        let lacks = |snapshot: &Snapshot| lacking(snapshot, selection, &missing);
        // Those that are alike stay in their order.
        snapshots.sort_by_cached_key(|snapshot| (lacks(snapshot).len(), !snapshot.health_verified));
        if snapshots.is_empty() {
            return Err(self.nothing_to_choose_from()?);
        }
        let (mut damaged, mut cause) = (Vec::new(), None);
        for snapshot in snapshots {
            let intact = match self.verify(&snapshot.id, deadline) {
                Ok(report) => report.is_usable(),
                Err(error) => {
                    // Time that is up is no damage; whatever else is wrong with this one, an older may be whole.
                    deadline.check("choose a snapshot")?;
                    tracing::warn!(%error, "snapshot {} cannot be verified", snapshot.id);
                    cause.get_or_insert(error);
                    false
                }
            };
            if intact {
                let mut lacks = lacks(&snapshot);
                if snapshot.has_external_etcd() {
                    lacks.retain(|what| *what != manifest_of(Component::Etcd));
                }
                return Ok(Choice { snapshot, lacks, damaged });
            }
            damaged.push(snapshot.id);
        }
        let path = self.path.display();
        let text =
            format!("none of the {} snapshots that store {path} could restore is intact", damaged.len());
        Err(match cause {
            Some(cause) => Error::with_source(ErrorKind::Corrupt, text, cause),
            None => Error::new(ErrorKind::Corrupt, text),
        })
    }

    /// Says why there is no snapshot, although the store may hold some.
    fn nothing_to_choose_from(&self) -> Result<Error> {
        let snapshots: Vec<Snapshot> =
            self.list()?.into_iter().filter_map(|listed| listed.snapshot).collect();
        let (path, count) = (self.path.display(), snapshots.len());
        let others = snapshots.iter().find(|snapshot| self.is_of_another_node(snapshot));
        let text = match others.and_then(|snapshot| snapshot.node.as_deref()) {
            _ if snapshots.is_empty() => format!("store {path} has no snapshot"),
            Some(other) => {
                let own = self.node_name().unwrap_or_default();
                format!("store {path} has no snapshot of this node, {own}, but of {other}")
            }
            None => {
                format!("each of the {count} snapshots in store {path} was made before a change; name one")
            }
        };
        Ok(Error::new(ErrorKind::NotFound, text))
    }

    /// The components whose manifest is not there now; what cannot be read is not missing.
    fn missing_manifests(&self) -> Result<Vec<Component>> {
        let folder = &self.layout.manifests;
        let folder = self.root.join(folder.strip_prefix("/").unwrap_or(folder));
        let mut missing = Vec::new();
        for component in Component::ALL {
            let path = folder.join(component.manifest_file());
            match path.symlink_metadata() {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => missing.push(component),
                Err(error) => return Err(Error::path("look for", &path, error)),
                Ok(_) => {}
            }
        }
        Ok(if missing.is_empty() { Component::ALL.to_vec() } else { missing })
    }
}

impl<F: FileSystem> Vault<'_, F> {
    /// Refuses to put another node's files in place: they hold its name and its addresses.
    pub(super) fn check_node(&self, snapshot: &Snapshot, options: &RestoreOptions) -> Result<()> {
        let own = self.node_name.as_deref();
        if options.other_node || options.below.is_some() || !snapshot.is_of_another_node(own) {
            return Ok(());
        }
        let (id, own) = (&snapshot.id, own.unwrap_or_default());
        let other = snapshot.node.as_deref().unwrap_or_default();
        let text = format!("snapshot {id} is of node {other}, and this is {own}: its files name that node");
        Err(Error::new(ErrorKind::Refused, text))
    }

    /// The one node that every snapshot of the store is of, as far as they name one.
    pub(super) fn only_node(&self) -> Result<Option<String>> {
        let mut nodes: Vec<String> =
            self.ids()?.iter().filter_map(|id| self.load(id).ok()?.snapshot.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        Ok(nodes.pop().filter(|_| nodes.is_empty()))
    }
}

fn manifest_of(component: Component) -> String {
    format!("the manifest of {component}")
}

/// What of a selection a snapshot does not hold, in words.
fn lacking(snapshot: &Snapshot, selection: &Selection, missing: &[Component]) -> Vec<String> {
    let lacks = snapshot.lacks();
    let manifests =
        |of: &[Component]| of.iter().filter(|c| lacks.contains(c)).map(|c| manifest_of(*c)).collect();
    match selection {
        Selection::Components(components) => manifests(components),
        Selection::Groups(groups) => {
            let absent = groups.iter().filter(|group| !snapshot.groups.contains(group));
            let mut lacking: Vec<String> = absent.map(|group| format!("group {group}")).collect();
            if groups.contains(&Group::Manifests) {
                lacking.extend::<Vec<String>>(manifests(missing));
            }
            lacking
        }
        Selection::Files(files) => {
            let absent = |file: &&std::path::PathBuf| {
                !snapshot.entries.iter().any(|entry| entry.path.as_path() == file.as_path())
            };
            files.iter().filter(absent).map(|file| file.display().to_string()).collect()
        }
        Selection::All => manifests(missing),
    }
}
