//! `cprecover pods`: the safe form of `rm -rf /var/lib/kubelet/pods/*`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use cprecover::Result;
use cprecover::model::PodUid;
use cprecover::pods::Quarantine;
use cprecover::recover::{
    Host, NodeLock, list_pods, quarantine_leftover_pods, quarantine_pods, undo_quarantine,
};
use cprecover::sys::Deadline;

use crate::{Context, Exit};

/// Looks at the folders of pods, and moves left-over ones aside and back.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
    /// Give up after this many seconds.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Says of every folder who knows its pod, and lists the quarantines; changes nothing.
    List,
    /// Moves folders that nobody knows into a quarantine on the same file system, with kubelet stopped.
    Quarantine {
        /// The pods' UIDs, which are the folders' names.
        uids: Vec<String>,
        /// Every folder that nobody knows.
        #[arg(long, conflicts_with = "uids", required_unless_present = "uids")]
        all_leftover: bool,
    },
    /// Moves the folders of a quarantine back to where they were.
    Undo {
        /// The quarantine's folder, as `list` prints it; the newest when not given.
        folder: Option<PathBuf>,
    },
}

/// Runs `cprecover pods`.
pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit> {
    let deadline = Deadline::after(Duration::from_secs(args.timeout)).with_cancel(ctx.cancel.clone());
    match &args.verb {
        Verb::List => list(ctx, &deadline),
        Verb::Quarantine { uids, .. } => quarantine(ctx, uids, &deadline),
        Verb::Undo { folder } => put_back(ctx, folder.as_ref(), &deadline),
    }
}

fn list(ctx: &Context, deadline: &Deadline) -> Result<Exit> {
    let listed = list_pods(&Host::new(&ctx.node), deadline)?;
    ctx.emit("cprecover.dev/pods/v1", &listed, || {
        let mut text = String::new();
        for pod in &listed.survey.pods {
            let _ = writeln!(text, "{}  {}", pod.uid, pod.standing);
        }
        for quarantine in &listed.quarantines {
            let _ = writeln!(text, "quarantine {}: {}", quarantine.folder.display(), moved(quarantine));
        }
        if text.is_empty() { "no pod folders\n".to_owned() } else { text }
    })?;
    Ok(Exit::Done)
}

fn moved(quarantine: &Quarantine) -> String {
    let uids: Vec<String> = quarantine.moved.iter().map(|moved| moved.uid.to_string()).collect();
    uids.join(", ")
}

fn quarantine(ctx: &Context, uids: &[String], deadline: &Deadline) -> Result<Exit> {
    let _lock = NodeLock::acquire(&ctx.node.store())?;
    let host = Host::new(&ctx.node);
    let made = if uids.is_empty() {
        quarantine_leftover_pods(&host, deadline)?
    } else {
        let uids: Vec<PodUid> = uids.iter().map(PodUid::new).collect();
        quarantine_pods(&host, &uids, deadline)?
    };
    ctx.emit("cprecover.dev/pods-quarantine/v1", &made, || {
        let folder = made.folder.display();
        let undo = ctx.node.by_hand(&format!("pods undo {folder}"));
        format!("moved to {folder}: {}\nundo: {undo}\n", moved(&made))
    })?;
    Ok(Exit::Done)
}

fn put_back(ctx: &Context, folder: Option<&PathBuf>, deadline: &Deadline) -> Result<Exit> {
    let _lock = NodeLock::acquire(&ctx.node.store())?;
    let found = undo_quarantine(&Host::new(&ctx.node), folder.map(PathBuf::as_path), deadline)?;
    ctx.emit("cprecover.dev/pods-undo/v1", &found, || {
        format!("moved back to {}: {}\n", found.origin.display(), moved(&found))
    })?;
    Ok(Exit::Done)
}
