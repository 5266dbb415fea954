//! `cprecover restore`: files of a snapshot put back, all or nothing.

use std::fmt::Write as _;
use std::path::PathBuf;

use cprecover::backup::{Group, RestoreOptions, Selection, SnapshotId, Store};
use cprecover::model::Component;
use cprecover::sys::Deadline;
use cprecover::{Error, ErrorKind, Result};

use super::backup::{StoreArgs, deadline};
use super::group_arg::{GroupArg, groups_of};
use crate::console::say;
use crate::{Context, Exit};

/// Arguments of `cprecover restore`.
#[derive(clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// Id, number, `latest` or `last-known-good` [default: the last known good one, else the newest intact one
    /// that holds the manifests that are missing].
    ///
    /// Without an id none is taken that was made before a change (`before-…`): it shows what was wrong then.
    snapshot: Option<String>,
    /// Only the manifest of this component.
    #[arg(long, value_name = "COMPONENT", conflicts_with_all = ["group", "file"])]
    only: Vec<Component>,
    /// These groups: manifests, pki, kubeconfigs, kubeadm, kubelet, or all [default: manifests].
    #[arg(long, alias = "groups", value_name = "GROUP", value_delimiter = ',', conflicts_with = "file")]
    group: Vec<GroupArg>,
    /// Only this file, absolute on the node.
    #[arg(long, value_name = "PATH")]
    file: Vec<PathBuf>,
    /// Also remove files that the snapshot does not have.
    #[arg(long)]
    exact: bool,
    /// Also restore manifests that are held, and end their hold.
    #[arg(long)]
    replace_held: bool,
    /// Also restore what is of another node, with that node's name and addresses in it, or has another cluster CA
    /// than this node.
    #[arg(long)]
    other_node: bool,
    /// Restore below this folder of the node instead of in place.
    #[arg(long, value_name = "DIR")]
    below: Option<PathBuf>,
    /// Only say what would change.
    #[arg(long)]
    dry_run: bool,
}

/// Runs `cprecover restore`.
pub(crate) fn run(ctx: &Context, args: Args) -> Result<Exit> {
    let (store, deadline) = (args.store.open(ctx)?, deadline(ctx));
    let named = !args.only.is_empty() || !args.group.is_empty() || !args.file.is_empty();
    let selection = if !args.only.is_empty() {
        Selection::Components(args.only)
    } else if !args.file.is_empty() {
        Selection::Files(args.file)
    } else {
        groups_of(&args.group).map_or(Selection::All, Selection::Groups)
    };
    let id = match &args.snapshot {
        Some(name) => store.resolve(name)?,
        None => choose(&store, &selection, args.other_node, &deadline)?,
    };
    if !named && args.snapshot.is_some() {
        check_holds_manifests(&store, &id)?;
    }
    let mut options = RestoreOptions::default();
    options.exact = args.exact;
    options.dry_run = args.dry_run;
    options.below = args.below;
    options.replace_held = args.replace_held;
    options.other_node = args.other_node;
    let report = store.restore(&id, &selection, &options, &deadline)?;
    ctx.emit("cprecover.dev/restore/v1", &report, || {
        let mut text = format!("snapshot {id}{}\n", if args.dry_run { ", nothing was changed" } else { "" });
        let parts = [
            ("created", "would create", &report.created),
            ("replaced", "would replace", &report.replaced),
            ("removed", "would remove", &report.removed),
            ("unchanged", "unchanged", &report.unchanged),
        ];
        for (done, would, paths) in parts {
            for path in paths {
                let _ = if args.dry_run {
                    writeln!(text, "{would:<13} {path}")
                } else {
                    writeln!(text, "{done:<10} {path}")
                };
            }
        }
        if let Some(before) = &report.before {
            let _ = writeln!(text, "what stood there before is snapshot {before}");
        }
        text
    })?;
    Ok(Exit::Done)
}

/// Chooses the snapshot where none is named, and says what speaks against it.
fn choose(store: &Store, selection: &Selection, other_node: bool, deadline: &Deadline) -> Result<SnapshotId> {
    let choice = store.choose(selection, other_node, deadline)?;
    let id = choice.snapshot.id;
    for damaged in choice.damaged {
        say(format_args!(
            "cprecover: snapshot {damaged} is damaged and passed over (`backup verify {damaged}`)"
        ));
    }
    if !choice.lacks.is_empty() {
        say(format_args!(
            "cprecover: no intact snapshot holds more than {id}; not in it: {}",
            choice.lacks.join(", ")
        ));
    }
    Ok(id)
}

/// Says which groups to ask for where a snapshot was made without the manifests, as before a change of others.
fn check_holds_manifests(store: &Store, id: &SnapshotId) -> Result<()> {
    let groups = store.load(id)?.groups;
    if groups.contains(&Group::Manifests) {
        return Ok(());
    }
    let groups: Vec<&str> = groups.into_iter().map(Group::as_str).collect();
    let text =
        format!("snapshot {id} holds no manifests but {}: say --group all to restore it", groups.join(", "));
    Err(Error::new(ErrorKind::Missing, text))
}
