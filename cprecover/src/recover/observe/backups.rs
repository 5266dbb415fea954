//! The best backup of each component's manifest, verified now.

use std::time::Instant;

use crate::backup::{Damage, Listed, Snapshot, Store};
use crate::error::Result;
use crate::model::{Component, NodeName, Observed};
use crate::recover::cache::Cache;
use crate::recover::observation::BackupFact;
use crate::sys::Deadline;

/// Looks through the store for the newest snapshot of each manifest: one that was taken while the
/// node was healthy before any other, since the others may hold what broke it.
///
/// Each snapshot is verified once in a while only; whatever was said here, a restore checks again that the
/// index and every file that it puts in place are the recorded ones.
pub(super) fn best(
    store: &Store,
    node: &NodeName,
    now: Instant,
    cache: &mut Cache,
    deadline: &Deadline,
) -> Result<Vec<BackupFact>> {
    let listed = store.list()?;
    let mut facts = Vec::new();
    for component in Component::ALL {
        for snapshot in candidates(&listed, component) {
            let id = snapshot.id.to_string();
            let state = cache.snapshot(&id, now, || {
                let report = store.verify(&snapshot.id, deadline);
                Observed::from_result(report.map(|report| report.damage.iter().all(Damage::is_harmless)))
            });
            let good = state.present() == Some(&true);
            facts.push(BackupFact {
                snapshot: id,
                component,
                taken_unix_ms: snapshot.created_unix_s.saturating_mul(1000),
                verified: state,
                last_known_good: snapshot.health_verified,
                same_node: match &snapshot.node {
                    Some(name) => Observed::Present(name == node.as_str()),
                    None => Observed::Unknown("the snapshot names no node".into()),
                },
            });
            // A damaged one is reported too, and the next older one is looked at.
            if good {
                break;
            }
        }
    }
    // Good ones first, so that whoever takes the first of a component takes the best.
    facts.sort_by_key(|fact| fact.verified.present() != Some(&true));
    Ok(facts)
}

/// Snapshots with a manifest of the component, healthy ones first, newer ones first; at most eight.
fn candidates(listed: &[Listed], component: Component) -> Vec<&Snapshot> {
    let mut found: Vec<&Snapshot> = listed
        .iter()
        .filter_map(|listed| listed.snapshot.as_ref())
        .filter(|snapshot| snapshot.manifest(component).is_some())
        .collect();
    found.sort_by_key(|snapshot| std::cmp::Reverse((snapshot.health_verified, snapshot.id.sequence())));
    found.truncate(8);
    found
}
