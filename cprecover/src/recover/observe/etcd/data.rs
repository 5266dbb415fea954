//! The offline verdict on the data folder, bounded in time and kept while the files stay as they are.

use std::time::Duration;

use crate::diagnose::DataVerdict as Short;
use crate::etcd::{CheckOptions, DataLock, DataState, DataVerdict, FindingKind, check_with};
use crate::model::Observed;
use crate::node::NodeOptions;
use crate::parse::manifest::StaticPod;
use crate::ports;
use crate::recover::cache::{Cache, member_stamps};
use crate::sys::Deadline;

/// How long data in use are read: the verdict is "locked" whatever they hold.
const IN_USE_TIMEOUT: Duration = Duration::from_millis(150);
/// How long data at rest are read: about 10 GB of a fast disk, 2 GB of a slow one.
const AT_REST_TIMEOUT: Duration = Duration::from_secs(15);

/// Judges the data folder without starting etcd.
///
/// Data that are not where kubeadm puts them by default are not lost where no manifest says that they were
/// there: it is then not known where they are.
pub(super) fn verdict(
    node: &NodeOptions,
    etcd: Option<&StaticPod>,
    cache: &mut Cache,
    deadline: &Deadline,
) -> Observed<DataVerdict> {
    let verdict = judge(node, etcd, cache, deadline);
    let is_guess = etcd.is_none() && node.etcd_data_dir == NodeOptions::default().etcd_data_dir;
    let is_nothing = |verdict: &DataVerdict| matches!(verdict.state, DataState::Missing | DataState::Empty);
    if is_guess && verdict.present().is_some_and(is_nothing) {
        return Observed::Unknown(format!(
            "there are none in {}, and neither a manifest nor a backup of one tells where they are; set etcdDataDir",
            node.etcd_data_dir.display()
        ));
    }
    verdict
}

/// Data at rest are read once; the verdict counts until a file of the member changes.
fn judge(
    node: &NodeOptions,
    etcd: Option<&StaticPod>,
    cache: &mut Cache,
    deadline: &Deadline,
) -> Observed<DataVerdict> {
    let (folder, options) = CheckOptions::of_node(node, etcd);
    let stamps = member_stamps(&folder, options.wal_dir.as_deref());
    if let Some(known) = cache.etcd_data(&options, stamps.as_deref(), &folder) {
        return Observed::Present(known);
    }
    let in_use = matches!(ports::lock_is_free(&folder.join(ports::DATABASE)), Ok(false));
    let limit = if in_use {
        deadline.at_most(IN_USE_TIMEOUT)
    } else {
        // Never so long that nothing is left for what the verdict is for.
        deadline.at_most(AT_REST_TIMEOUT.min(deadline.remaining() / 4))
    };
    let verdict = check_with(&folder, &options, &limit);
    cache.keep_etcd_data(options, stamps, &verdict);
    Observed::Present(verdict)
}

/// Says it in diagnosis' terms; what was not read to its end is unknown, however sound it looks so far.
pub(super) fn in_short(verdict: &Observed<DataVerdict>) -> Observed<Short> {
    let verdict = match verdict {
        Observed::Present(verdict) => verdict,
        Observed::Absent => return Observed::Absent,
        Observed::Unknown(why) => return Observed::Unknown(why.clone()),
    };
    let why = || {
        let cause = verdict.cause().map(|finding| finding.message.clone());
        cause.unwrap_or_else(|| verdict.state.to_string())
    };
    Observed::Present(match verdict.state {
        // etcd itself cuts a torn record off, and bbolt goes back to its other meta page.
        DataState::Intact | DataState::WalTorn | DataState::DbMetaDegraded => Short::Intact,
        DataState::Locked => Short::Locked(match &verdict.report.lock {
            DataLock::Held { holders } => holders.first().map(|holder| holder.pid),
            _ => None,
        }),
        DataState::Empty => Short::Empty,
        DataState::Foreign => Short::Foreign(why()),
        // Nothing that is deleted there gives room.
        DataState::NoSpace if verdict.cause().is_some_and(|cause| cause.kind == FindingKind::ReadOnly) => {
            Short::ReadOnly(why())
        }
        DataState::NoSpace => Short::NoSpace(why()),
        DataState::Mismatch => Short::Mismatch(why()),
        DataState::WalBroken => Short::WalCorrupt(why()),
        DataState::DbBroken => Short::DbCorrupt(why()),
        DataState::Missing => return Observed::Absent,
        DataState::Unreadable | DataState::Changed | DataState::Unfinished => {
            return Observed::Unknown(why());
        }
    })
}
