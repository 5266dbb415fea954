//! Regenerating manifests on demand: planned and applied apart, outside the loop.

use super::manifest::StoreInstaller;
use crate::backup::Store;
use crate::error::Result;
use crate::kubeadm::{self, Acceptance, Applied, Options, RegenerationPlan};
use crate::model::Component;
use crate::recover::host::Host;
use crate::recover::observe::good_backups;
use crate::recover::regeneration;
use crate::sys::Deadline;

/// Renders `components` with kubeadm from what the disk and verified backups tell; changes nothing live.
///
/// # Errors
/// As [`kubeadm::plan`], and the kinds of a failed read of the store.
pub fn plan_regeneration(
    host: &Host<'_>,
    components: &[Component],
    options: &Options,
    deadline: &Deadline,
) -> Result<RegenerationPlan> {
    let store = Store::open_read_only(host.node)?;
    let backups = good_backups(host, &store, deadline)?;
    let sources = regeneration::sources_of(host, &store, &backups, deadline)?;
    kubeadm::plan(host.node, components, &sources, options, host.commands, deadline)
}

/// Installs a plan's manifests in one transaction of the store.
///
/// # Errors
/// As [`kubeadm::apply`].
pub fn apply_regeneration(
    host: &Host<'_>,
    plan: &RegenerationPlan,
    acceptance: Acceptance,
    deadline: &Deadline,
) -> Result<Applied> {
    let store = Store::open(host.node)?;
    let installer = StoreInstaller { node: host.node, store: &store };
    kubeadm::apply(plan, acceptance, &installer, deadline)
}
