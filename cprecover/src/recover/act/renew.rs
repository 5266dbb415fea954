//! Installs certificates that kubeadm renewed on a copy, after a backup of everything secret.

use std::path::PathBuf;

use serde::Serialize;

use super::Performed;
use crate::backup::{CreateOptions, Group, InstallOptions, NewFile, SnapshotId, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::kubeadm::{self, Options, RenewalPlan};
use crate::model::{Digest, Observed};
use crate::policy::contract::Consent;
use crate::recover::host::Host;
use crate::recover::observation::Observation;
use crate::recover::observe::good_backups;
use crate::recover::regeneration;
use crate::sys::{Deadline, read_bounded};

const MAX_FILE_BYTES: usize = 1 << 20;

/// What a renewal installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Renewed {
    /// The snapshot of pki and kubeconfigs as they were.
    pub before: SnapshotId,
    /// Each certificate and when it ends now, seconds since 1970.
    pub certificates: Vec<(PathBuf, i64)>,
}

pub(super) fn renew(
    host: &Host<'_>,
    path: &str,
    seen: &Observation,
    consents: &[Consent],
    deadline: &Deadline,
) -> Result<Performed> {
    if !consents.contains(&Consent::RenewCertificates) {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("{path}: nobody agreed to renewing certificates"),
        ));
    }
    let path = PathBuf::from(path);
    let facts = &seen.facts.host;
    if facts.certificates.iter().filter(|fact| fact.path == path).all(|f| f.not_after_unix > facts.now_unix) {
        let message = format!("{} was not seen to have ended", path.display());
        return Err(Error::new(ErrorKind::Changed, message));
    }
    let plan = plan_renewal(host, std::slice::from_ref(&path), &Options::default(), deadline)?;
    let done = apply_renewal(host, &plan, deadline)?;
    let what: Vec<String> = done
        .certificates
        .iter()
        .map(|(path, ends)| format!("{} until {}", path.display(), date(*ends)))
        .collect();
    let detail = format!("renewed by kubeadm {}: {}", plan.kubeadm_version, what.join(", "));
    Ok(Performed::new(detail).undo(host.node.by_hand(&format!("restore {} --group all", done.before))))
}

fn date(unix: i64) -> String {
    jiff::Timestamp::from_second(unix).map_or_else(|_| unix.to_string(), |at| at.to_string())
}

/// Renews certificates on a copy of the pki folder; changes nothing live.
///
/// # Errors
/// As [`kubeadm::plan_renewal`], and the kinds of a failed read of the store.
pub fn plan_renewal(
    host: &Host<'_>,
    paths: &[PathBuf],
    options: &Options,
    deadline: &Deadline,
) -> Result<RenewalPlan> {
    let store = Store::open_read_only(host.node)?;
    let backups = good_backups(host, &store, deadline)?;
    let sources = regeneration::sources_of(host, &store, &backups, deadline)?;
    kubeadm::plan_renewal(host.node, paths, &sources, options, host.commands, deadline)
}

/// Installs renewed certificates in one transaction, after a snapshot of pki and kubeconfigs.
///
/// Calling this is the caller's consent. etcd and the API server read their certificates again by
/// themselves; other clients need a restart of their pod.
///
/// # Errors
/// [`ErrorKind::Changed`] when a file is not as it was when the plan was made, or not what was installed;
/// otherwise as [`Store::install`].
pub fn apply_renewal(host: &Host<'_>, plan: &RenewalPlan, deadline: &Deadline) -> Result<Renewed> {
    if plan.renewals.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "the plan renews nothing"));
    }
    let store = Store::open(host.node)?;
    let options = CreateOptions {
        groups: vec![Group::Pki, Group::Kubeconfigs],
        reason: "before renewing certificates".into(),
        ..CreateOptions::default()
    };
    let before = store.create(&options, deadline)?.id;
    let mut new = Vec::new();
    for file in plan.renewals.iter().flat_map(|renewal| &renewal.files) {
        let mut put = NewFile::new(file.path.clone(), file.bytes.clone());
        put.mode = file.mode;
        put.expects = match &file.replaces {
            Observed::Present(digest) => Some(Some(*digest)),
            Observed::Absent => Some(None),
            Observed::Unknown(why) => {
                let message = format!("{} cannot be read: {why}", file.path.display());
                return Err(Error::new(ErrorKind::Refused, message));
            }
        };
        new.push(put);
    }
    let install = InstallOptions { reason: "renew certificates".into(), ..InstallOptions::default() };
    store.install(&new, &install, deadline)?;
    for file in plan.renewals.iter().flat_map(|renewal| &renewal.files) {
        let found = Digest::of(&read_bounded(&host.node.resolve(&file.path), MAX_FILE_BYTES)?);
        if found != file.digest {
            let message = format!(
                "{} is not what was installed; snapshot {before} holds what was there",
                file.path.display()
            );
            return Err(Error::new(ErrorKind::Changed, message));
        }
    }
    let certificates =
        plan.renewals.iter().map(|renewal| (renewal.path.clone(), renewal.ends_unix)).collect();
    Ok(Renewed { before, certificates })
}
