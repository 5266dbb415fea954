//! `cprecover backup`: snapshots of the node's recovery set.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use cprecover::backup::{Change, CreateOptions, Group, Listed, Retention, Snapshot, SnapshotDiff, Store};
use cprecover::model::Component;
use cprecover::sys::Deadline;
use cprecover::{Error, ErrorKind, Result};
use serde::Serialize;

use super::backup_file;
use super::backup_remote::{self, RemoteArgs};
use super::backup_verify;
use super::group_arg::{GroupArg, groups_of};
use crate::console::say;
use crate::{Context, Exit};

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_mins(10);
/// How many files one call waits for at once; a backup of four manifests has eight to wait for.
const WORKERS: usize = 8;

/// Arguments of `cprecover backup`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArgs,
    #[command(subcommand)]
    verb: Verb,
}

/// Where the snapshots are.
#[derive(clap::Args)]
pub(crate) struct StoreArgs {
    /// Folder of the snapshots [default: the node's storeDir].
    #[arg(long, global = true, value_name = "DIR")]
    store: Option<PathBuf>,
}

impl StoreArgs {
    /// Opens the store, and finishes what a crash left half done.
    pub(crate) fn open(&self, ctx: &Context) -> Result<Store> {
        Ok(Store::open_at(&ctx.node, self.folder(ctx)?)?.with_workers(WORKERS))
    }

    /// Opens the store to look at it; what a crash left half done stays so.
    pub(crate) fn open_read_only(&self, ctx: &Context) -> Result<Store> {
        Ok(Store::open_read_only_at(&ctx.node, self.folder(ctx)?)?.with_workers(WORKERS))
    }

    fn folder(&self, ctx: &Context) -> Result<PathBuf> {
        let Some(dir) = &self.store else { return Ok(ctx.node.store()) };
        std::path::absolute(dir).map_err(|source| Error::path("resolve", dir, source))
    }
}

/// Returns the deadline of one call.
pub(crate) fn deadline(ctx: &Context) -> Deadline {
    Deadline::after(TIMEOUT).with_cancel(ctx.cancel.clone())
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Makes a snapshot.
    Create {
        /// Groups to take: manifests, pki, kubeconfigs, kubeadm, kubelet, or all.
        #[arg(long, alias = "group", value_name = "GROUP", value_delimiter = ',', default_value = "all")]
        groups: Vec<GroupArg>,
        /// Label as KEY=VALUE.
        #[arg(long, value_name = "KEY=VALUE")]
        label: Vec<String>,
        /// Another file or folder of kubeadm's configuration, absolute on the node.
        #[arg(long, value_name = "PATH")]
        kubeadm_path: Vec<PathBuf>,
        /// Make none when nothing has changed since the newest one.
        #[arg(long)]
        if_changed: bool,
    },
    /// Lists the snapshots by number.
    List {
        /// List those of this remote instead; see `backup push`.
        #[arg(long, value_name = "URL")]
        remote: Option<String>,
        /// File of certificates (PEM) to trust beside the machine's own.
        #[arg(long, value_name = "FILE", requires = "remote")]
        remote_ca: Option<PathBuf>,
    },
    /// Copies a snapshot to a remote, where it outlives this machine.
    Push {
        /// Id, number, `latest` or `last-known-good`.
        #[arg(default_value = "latest")]
        snapshot: String,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Takes a snapshot in from a remote; every digest is checked.
    Pull {
        /// Id, number, `latest` or `last-known-good`.
        #[arg(default_value = "latest")]
        snapshot: String,
        /// Whose snapshot [default: this node's, or those of the only node that the remote has].
        #[arg(long)]
        node: Option<String>,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Shows what is in a snapshot.
    Show {
        /// Id, number, `latest` or `last-known-good`.
        #[arg(default_value = "latest")]
        snapshot: String,
    },
    /// Shows what changed from one snapshot to another, or to what stands on the node now.
    Diff {
        /// The older one.
        old: String,
        /// The newer one; without it, the node as it is.
        new: Option<String>,
    },
    /// Checks every digest of one snapshot, or of all.
    Verify {
        /// Id, number, `latest` or `last-known-good`; without it, all.
        snapshot: Option<String>,
    },
    /// Removes old snapshots; the newest, the last known good and those in use stay.
    Prune {
        /// Keep the newest so many.
        #[arg(long, default_value_t = 10)]
        keep_last: usize,
        /// Keep the last one of each of so many days.
        #[arg(long, default_value_t = 14)]
        keep_daily: usize,
        /// Only say what would be removed.
        #[arg(long)]
        dry_run: bool,
    },
    /// Writes a snapshot as one tar file.
    Export {
        /// Id, number, `latest` or `last-known-good`.
        snapshot: String,
        /// The file, which must not exist; `-` is stdout.
        file: PathBuf,
    },
    /// Takes a snapshot in from a tar file.
    Import {
        /// The file; `-` is stdin.
        file: PathBuf,
    },
}

impl Verb {
    /// Reports whether it leaves the store and the node as they are.
    const fn only_reads(&self) -> bool {
        matches!(
            self,
            Self::List { .. }
                | Self::Show { .. }
                | Self::Diff { .. }
                | Self::Verify { .. }
                | Self::Export { .. }
        )
    }
}

/// Runs `cprecover backup`.
pub(crate) fn run(ctx: &Context, args: Args) -> Result<Exit> {
    let store =
        if args.verb.only_reads() { args.store.open_read_only(ctx)? } else { args.store.open(ctx)? };
    match args.verb {
        Verb::Create { groups, label, kubeadm_path, if_changed } => {
            create(ctx, &store, &groups, &label, kubeadm_path, if_changed)
        }
        Verb::List { remote: Some(remote), remote_ca } => {
            backup_remote::list(ctx, &RemoteArgs { remote, remote_ca })
        }
        Verb::List { remote: None, .. } => list(ctx, &store),
        Verb::Push { snapshot, remote } => backup_remote::push(ctx, &store, &snapshot, &remote),
        Verb::Pull { snapshot, node, remote } => {
            backup_remote::pull(ctx, &store, &snapshot, node.as_deref(), &remote)
        }
        Verb::Show { snapshot } => show(ctx, &store, &snapshot),
        Verb::Diff { old, new } => diff(ctx, &store, &old, new.as_deref()),
        Verb::Verify { snapshot } => backup_verify::verify(ctx, &store, snapshot.as_deref()),
        Verb::Prune { keep_last, keep_daily, dry_run } => {
            let report = store.prune(&Retention::new(keep_last, keep_daily), dry_run)?;
            ctx.emit("cprecover.dev/backup-prune/v1", &report, || {
                let verb = if dry_run { "would remove" } else { "removed" };
                let removed = report.removed.iter().map(|id| format!("{verb}  {id}\n"));
                let kept = report.kept.iter().map(|kept| format!("kept     {}  {}\n", kept.id, kept.reason));
                removed.chain(kept).collect()
            })?;
            Ok(Exit::Done)
        }
        Verb::Export { snapshot, file } => backup_file::export(ctx, &store, &snapshot, &file),
        Verb::Import { file } => backup_file::import(ctx, &store, &file),
    }
}

fn create(
    ctx: &Context,
    store: &Store,
    groups: &[GroupArg],
    labels: &[String],
    kubeadm_paths: Vec<PathBuf>,
    only_if_changed: bool,
) -> Result<Exit> {
    let mut options = CreateOptions::default();
    options.groups = groups_of(groups).unwrap_or_else(|| Group::ALL.to_vec());
    if !kubeadm_paths.is_empty() && !options.groups.contains(&Group::Kubeadm) {
        say(format_args!(
            "cprecover: --kubeadm-path names a file of group kubeadm, which --groups leaves out"
        ));
        return Ok(Exit::Usage);
    }
    options.labels = labels
        .iter()
        .map(|label| {
            let pair = label.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
            pair.ok_or_else(|| Error::new(ErrorKind::Invalid, format!("label {label:?} is not KEY=VALUE")))
        })
        .collect::<Result<BTreeMap<_, _>>>()?;
    options.kubeadm_paths = kubeadm_paths;
    options.only_if_changed = only_if_changed;
    let snapshot = store.create(&options, &deadline(ctx))?;
    for path in &options.kubeadm_paths {
        if let Some(skipped) = snapshot.skipped.iter().find(|skipped| skipped.path.as_path() == path) {
            say(format_args!("cprecover: {} is not in the snapshot: {}", skipped.path, skipped.reason));
        }
    }
    warn_of_missing_manifests(&snapshot);
    ctx.emit("cprecover.dev/snapshot/v1", &snapshot, || shown(&snapshot))?;
    Ok(Exit::Done)
}

/// A backup that is made in an outage cannot bring back what is lost already.
fn warn_of_missing_manifests(snapshot: &Snapshot) {
    if !snapshot.groups.contains(&Group::Manifests) {
        return;
    }
    let external = snapshot.has_external_etcd();
    for component in snapshot.lacks() {
        if component != Component::Etcd || !external {
            say(format_args!(
                "cprecover: {component} has no manifest on this node now: snapshot {} cannot bring it back",
                snapshot.id
            ));
        }
    }
}

#[derive(Serialize)]
struct Listing {
    snapshots: Vec<Listed>,
}

fn list(ctx: &Context, store: &Store) -> Result<Exit> {
    let listing = Listing { snapshots: store.list()? };
    let damaged = listing.snapshots.iter().any(|listed| listed.error.is_some());
    ctx.emit("cprecover.dev/backup-list/v1", &listing, || {
        let mut text = String::from("SNAPSHOT                 FILES  GOOD  VERSION   REASON\n");
        for listed in &listing.snapshots {
            let _ = match (&listed.snapshot, &listed.error) {
                (Some(s), _) => writeln!(
                    text,
                    "{}  {:>5}  {:<4}  {:<8}  {}",
                    s.id,
                    s.entries.iter().filter(|entry| entry.sha256.is_some()).count(),
                    if s.health_verified { "yes" } else { "-" },
                    s.kubernetes_version.as_deref().unwrap_or("-"),
                    s.reason
                ),
                (None, error) => writeln!(text, "{}  {}", listed.id, error.as_deref().unwrap_or("damaged")),
            };
        }
        text
    })?;
    Ok(if damaged { Exit::Unhealthy } else { Exit::Done })
}

fn show(ctx: &Context, store: &Store, name: &str) -> Result<Exit> {
    let snapshot = store.load(&store.resolve(name)?)?;
    ctx.emit("cprecover.dev/snapshot/v1", &snapshot, || shown(&snapshot))?;
    Ok(Exit::Done)
}

pub(crate) fn shown(snapshot: &Snapshot) -> String {
    let mut text = format!(
        "snapshot {}\ncreated  {}\nnode     {}\nversion  {}\nreason   {}\nhealth   {}\n",
        snapshot.id,
        snapshot.created,
        snapshot.node.as_deref().unwrap_or("-"),
        snapshot.kubernetes_version.as_deref().unwrap_or("-"),
        snapshot.reason,
        if snapshot.health_verified { "verified" } else { "not verified" },
    );
    for (key, value) in &snapshot.labels {
        let _ = writeln!(text, "label    {key}={value}");
    }
    for entry in &snapshot.entries {
        let digest = entry.sha256.map(|digest| digest.to_string()).unwrap_or_default();
        let digest = digest.get(..12).unwrap_or("-");
        let _ = writeln!(text, "{:04o} {:>9}  {digest:<12}  {}", entry.mode, entry.size, entry.path);
    }
    for skipped in &snapshot.skipped {
        let _ = writeln!(text, "skipped  {}: {}", skipped.path, skipped.reason);
    }
    text
}

fn diff(ctx: &Context, store: &Store, old: &str, new: Option<&str>) -> Result<Exit> {
    let old = store.resolve(old)?;
    let diff = match new {
        Some(new) => store.diff(&old, &store.resolve(new)?)?,
        None => store.diff_live(&old, &deadline(ctx))?,
    };
    ctx.emit("cprecover.dev/backup-diff/v1", &diff, || diff_text(&diff))?;
    Ok(Exit::Done)
}

fn diff_text(diff: &SnapshotDiff) -> String {
    let mut text = String::new();
    for change in &diff.changes {
        let _ = match change {
            Change::Added { path, .. } => writeln!(text, "added    {path}"),
            Change::Removed { path, .. } => writeln!(text, "removed  {path}"),
            Change::Attributes { path, what, .. } => writeln!(text, "changed  {path}: {}", what.join(", ")),
            Change::Content { path, image, flags, lines, .. } => {
                let _ = writeln!(text, "changed  {path}");
                if let Some((old, new)) = image {
                    let _ = writeln!(text, "  image {old} -> {new}");
                }
                for flag in flags {
                    let value =
                        |value: &Option<String>| value.clone().unwrap_or_else(|| "(not given)".into());
                    let _ = writeln!(text, "  --{}: {} -> {}", flag.flag, value(&flag.old), value(&flag.new));
                }
                lines.iter().try_for_each(|line| writeln!(text, "    {line}"))
            }
            _ => Ok(()),
        };
    }
    if text.is_empty() { "no difference".into() } else { text }
}
