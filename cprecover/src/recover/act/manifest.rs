//! Restores, regenerates and quarantines manifests; all through the store's one transaction.

use std::ffi::OsStr;
use std::path::Path;

use super::Performed;
use super::bounce;
use crate::backup::{InstallOptions, NewFile, RestoreOptions, Selection, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::etcd::CheckOptions;
use crate::kubeadm::{self, Acceptance, Installer, StagedFile};
use crate::model::{Component, Digest, Observed};
use crate::node::NodeOptions;
use crate::parse::manifest::{MAX_MANIFEST_BYTES, StaticPod};
use crate::policy::contract::Consent;
use crate::ports::DATABASE;
use crate::recover::host::Host;
use crate::recover::observation::Observation;
use crate::recover::regeneration;
use crate::sys::{Deadline, read_bounded};

/// Names of the log's folder that are looked at; etcd keeps five logs and one that it made ahead.
const MAX_LOGS: usize = 4096;
/// Why a duplicate is held; a person's hold has another reason and is left alone.
pub(super) const DUPLICATE: &str = "kubelet would run it beside the component's own manifest";

/// Fails when a valid manifest of the component stands in the folder: nobody asked to replace that.
fn require_missing_or_invalid(node: &NodeOptions, component: Component) -> Result<()> {
    let path = node.manifests().join(component.manifest_file());
    match read_bounded(&path, MAX_MANIFEST_BYTES) {
        Ok(bytes) if StaticPod::parse_as_kubelet(&bytes).is_ok() => {
            Err(Error::new(ErrorKind::Changed, format!("{} is there and valid now", path.display())))
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Fails when etcd would begin an empty cluster. The guard knows only what the look could read in its time;
/// whether there is a database at all is asked here, right before the effect.
pub(super) fn require_data(node: &NodeOptions, component: Component, seen: &Observation) -> Result<()> {
    if component != Component::Etcd || seen.etcd.external {
        return Ok(());
    }
    let pod = seen.pods.iter().find(|pod| pod.component == component).and_then(|pod| pod.pod.as_ref());
    require_database(node, pod)
}

/// Fails when there is no etcd database, or no write-ahead log, where `pod`, else the node's options, say that
/// it is: without a log etcd founds a new cluster, over whatever database it finds (etcd
/// `server/storage/wal/util.go`, `Exist`).
pub(super) fn require_database(node: &NodeOptions, pod: Option<&StaticPod>) -> Result<()> {
    let (folder, options) = CheckOptions::of_node(node, pod);
    let lost = |what: String| {
        Err(Error::new(ErrorKind::Refused, format!("there is no {what}; etcd would begin an empty cluster")))
    };
    let database = folder.join(DATABASE);
    match std::fs::metadata(&database) {
        Ok(found) if found.len() == 0 => return lost(format!("content in {}", database.display())),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return lost(database.display().to_string());
        }
        Err(error) => return Err(Error::path("look for", &database, error)),
    }
    let logs = options.wal_dir.unwrap_or_else(|| folder.join("member/wal"));
    let entries = match std::fs::read_dir(&logs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return lost(logs.display().to_string());
        }
        Err(error) => return Err(Error::path("list", &logs, error)),
    };
    for entry in entries.take(MAX_LOGS) {
        let entry = entry.map_err(|error| Error::path("list", &logs, error))?;
        if Path::new(&entry.file_name()).extension() == Some(OsStr::new("wal")) {
            return Ok(());
        }
    }
    lost(format!("write-ahead log in {}", logs.display()))
}

pub(super) fn restore(
    host: &Host<'_>,
    component: Component,
    backup_id: &str,
    seen: &Observation,
    deadline: &Deadline,
) -> Result<Performed> {
    require_missing_or_invalid(host.node, component)?;
    require_data(host.node, component, seen)?;
    // What a bounce could not put back is better than any backup; what a person holds stays held.
    if let Some(released) = bounce::resume(host, component, deadline)? {
        return Ok(Performed::new(released));
    }
    let store = Store::open(host.node)?;
    let id = backup_id.parse()?;
    let selection = Selection::Components(vec![component]);
    let report = store.restore(&id, &selection, &RestoreOptions::default(), deadline)?;
    let snapshot = store.load(&id)?;
    let entry = snapshot.manifest(component).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("snapshot {id} has no manifest of {component}"))
    })?;
    let digest = entry.sha256.map(|digest| digest.to_string()).unwrap_or_default();
    require_installed(host.node, entry.path.as_path(), entry.sha256)?;
    let file = entry.path.as_path().file_name().unwrap_or_default().display();
    let done = Performed::new(format!("{file} from snapshot {backup_id}, sha256 {digest}"));
    let by_hand = |words: String| host.node.by_hand(&words);
    Ok(match report.before {
        Some(id) => {
            done.undo(format!("what stood there is in snapshot {id}: {}", by_hand(format!("restore {id}"))))
        }
        None => done.undo(by_hand(format!("hold {file}"))),
    })
}

/// Reads the installed manifest back: what kubelet reads must be what the snapshot holds.
fn require_installed(node: &NodeOptions, on_node: &Path, expected: Option<Digest>) -> Result<()> {
    let path = node.resolve(on_node);
    let found = Digest::of(&read_bounded(&path, MAX_MANIFEST_BYTES)?);
    match expected {
        Some(expected) if expected != found => Err(Error::new(
            ErrorKind::Changed,
            format!("{} has sha256 {found} right after it was restored, not {expected}", path.display()),
        )),
        _ => Ok(()),
    }
}

/// The store as kubeadm's installer.
pub(super) struct StoreInstaller<'a> {
    pub(super) node: &'a NodeOptions,
    pub(super) store: &'a Store,
}

impl Installer for StoreInstaller<'_> {
    fn install(&self, files: &[StagedFile], deadline: &Deadline) -> Result<()> {
        let new = files.iter().map(|file| {
            let path = self.node.manifests_dir.join(file.component.manifest_file());
            let mut new = NewFile::new(path, file.bytes.clone());
            new.expects = match &file.replaces {
                Observed::Present(digest) => Some(Some(*digest)),
                Observed::Absent => Some(None),
                Observed::Unknown(why) => {
                    let why = format!("{} cannot be read: {why}", file.component.manifest_file());
                    return Err(Error::new(ErrorKind::Refused, why));
                }
            };
            Ok(new)
        });
        let new = new.collect::<Result<Vec<_>>>()?;
        let options = InstallOptions { reason: "regenerated by kubeadm".into(), ..InstallOptions::default() };
        self.store.install(&new, &options, deadline).map(|_| ())
    }
}

pub(super) fn regenerate(
    host: &Host<'_>,
    component: Component,
    seen: &Observation,
    consents: &[Consent],
    deadline: &Deadline,
) -> Result<Performed> {
    require_missing_or_invalid(host.node, component)?;
    require_data(host.node, component, seen)?;
    // What a bounce could not put back is better than any backup; what a person holds stays held.
    if let Some(released) = bounce::resume(host, component, deadline)? {
        return Ok(Performed::new(released));
    }
    let store = Store::open(host.node)?;
    let backups = seen.backups.present().map(Vec::as_slice).unwrap_or_default();
    let sources = regeneration::sources_of(host, &store, backups, deadline)?;
    let options = kubeadm::Options::default();
    let plan = kubeadm::plan(host.node, &[component], &sources, &options, host.commands, deadline)?;
    let acceptance = Acceptance {
        // There is no manifest and no good backup of it, so there is nothing to lose by a new one.
        without_comparison: true,
        severity: if consents.contains(&Consent::AcceptRegeneratedChanges) {
            kubeadm::Severity::NeedsReview
        } else {
            kubeadm::Severity::Harmless
        },
    };
    let installer = StoreInstaller { node: host.node, store: &store };
    let applied = kubeadm::apply(&plan, acceptance, &installer, deadline)?;
    let digests = applied.components.iter().map(|(component, digest)| format!("{component} sha256 {digest}"));
    Ok(Performed::new(format!(
        "rendered by kubeadm {} in a staging folder, installed: {}",
        plan.kubeadm_version,
        digests.collect::<Vec<_>>().join(", ")
    )))
}

/// Holds a file that kubelet runs beside a component's own manifest.
pub(super) fn quarantine(host: &Host<'_>, file: &str, deadline: &Deadline) -> Result<Performed> {
    if Component::ALL.iter().any(|component| component.manifest_file() == file) {
        return Err(Error::new(ErrorKind::Refused, format!("{file} is a component's own manifest")));
    }
    let store = Store::open(host.node)?;
    let held = store.set_aside(file, DUPLICATE, deadline)?;
    let done = Performed::new(format!("{file} is held as {}, sha256 {}", held.held_as, held.sha256));
    Ok(done.undo(host.node.by_hand(&format!("release {file}"))))
}
