//! `cprecover restore`: files of a snapshot put back, all or nothing.

use std::fmt::Write as _;
use std::path::PathBuf;

use cprecover::backup::{Group, RestoreOptions, Selection};
use cprecover::model::Component;
use cprecover::{Error, ErrorKind, Result};

use super::backup::{StoreArgs, deadline};
use crate::{Context, Exit};

/// Arguments of `cprecover restore`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// Id, number, `latest` or `last-known-good` [default: last-known-good, else latest].
    snapshot: Option<String>,
    /// Only the manifest of this component.
    #[arg(long, value_name = "COMPONENT", conflicts_with_all = ["group", "file"])]
    only: Vec<Component>,
    /// Only these groups.
    #[arg(long, value_name = "GROUP", value_delimiter = ',', conflicts_with = "file")]
    group: Vec<Group>,
    /// Only this file, absolute on the node.
    #[arg(long, value_name = "PATH")]
    file: Vec<PathBuf>,
    /// Also remove files that the snapshot does not have.
    #[arg(long)]
    exact: bool,
    /// Also restore manifests that are held, and end their hold.
    #[arg(long)]
    replace_held: bool,
    /// Restore below this folder of the node instead of in place.
    #[arg(long, value_name = "DIR")]
    below: Option<PathBuf>,
    /// Only say what would change.
    #[arg(long)]
    dry_run: bool,
}

/// Runs `cprecover restore`.
pub(crate) fn run(ctx: &Context, args: Args) -> Result<Exit> {
    let store = args.store.open(ctx)?;
    let id = if let Some(name) = &args.snapshot {
        store.resolve(name)?
    } else {
        let good = store.last_known_good()?;
        let chosen = if good.is_some() { good } else { store.latest()? };
        let none = || Error::new(ErrorKind::NotFound, "the store has no snapshot");
        chosen.ok_or_else(none)?.id
    };
    let selection = if !args.only.is_empty() {
        Selection::Components(args.only)
    } else if !args.group.is_empty() {
        Selection::Groups(args.group)
    } else if !args.file.is_empty() {
        Selection::Files(args.file)
    } else {
        Selection::All
    };
    let mut options = RestoreOptions::default();
    options.exact = args.exact;
    options.dry_run = args.dry_run;
    options.below = args.below;
    options.replace_held = args.replace_held;
    let report = store.restore(&id, &selection, &options, &deadline(ctx))?;
    ctx.emit("cprecover.dev/restore/v1", &report, || {
        let mut text = format!("snapshot {id}{}\n", if args.dry_run { ", nothing was changed" } else { "" });
        let parts = [
            ("created", &report.created),
            ("replaced", &report.replaced),
            ("removed", &report.removed),
            ("unchanged", &report.unchanged),
        ];
        for (what, paths) in parts {
            for path in paths {
                let _ = writeln!(text, "{what:<10} {path}");
            }
        }
        if let Some(before) = &report.before {
            let _ = writeln!(text, "what stood there before is snapshot {before}");
        }
        text
    })?;
    Ok(Exit::Done)
}
