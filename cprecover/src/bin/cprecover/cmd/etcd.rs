//! `cprecover etcd`: how the member and its cluster are doing, whether its data are sound, a snapshot.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cprecover::etcd::{
    self, CheckOptions, Client, ClientOptions, ClientTls, ClusterStatus, DataReport, DataState, DataVerdict,
    MemberHealth, Startup, check_with, snapshot,
};
use cprecover::model::Observed;
use cprecover::sys::{Deadline, read_bounded};
use cprecover::{Error, Result};

use crate::{Context, Exit};

/// How large a certificate is read.
const MAX_FILE_BYTES: usize = 1 << 20;

/// Arguments of `cprecover etcd`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
    /// Give up after this many seconds.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Asks the member and its peers how they are doing.
    Status(Endpoint),
    /// Judges the data directory without starting etcd and without changing anything.
    Check {
        /// The data directory; the manifest's, or /var/lib/etcd, when not given.
        data_dir: Option<PathBuf>,
        /// Where the WAL is, if etcd runs with --wal-dir.
        #[arg(long, value_name = "DIR")]
        wal_dir: Option<PathBuf>,
    },
    /// Saves a snapshot of the running member to a new file, and verifies it.
    Snapshot {
        /// The file to write.
        to: PathBuf,
        #[command(flatten)]
        endpoint: Endpoint,
    },
}

/// Whom to ask, where the node's manifest does not tell.
#[derive(clap::Args)]
struct Endpoint {
    /// Address of the member; from the node's manifest when not given.
    #[arg(long = "endpoint", id = "endpoint", value_name = "IP:PORT")]
    address: Option<SocketAddr>,
    /// CA of the member's certificate; plain HTTP without one.
    #[arg(long, value_name = "FILE", requires = "endpoint")]
    cacert: Option<PathBuf>,
    /// Client certificate.
    #[arg(long, value_name = "FILE", requires = "cacert", requires = "key")]
    cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

/// Runs `cprecover etcd`.
pub(crate) fn run(ctx: &Context, args: Args) -> Result<Exit> {
    let deadline = Deadline::after(Duration::from_secs(args.timeout)).with_cancel(ctx.cancel.clone());
    match args.verb {
        Verb::Status(endpoint) => status(ctx, &client(ctx, &endpoint)?, &deadline),
        Verb::Check { data_dir, wal_dir } => check(ctx, data_dir, wal_dir, &deadline),
        Verb::Snapshot { to, endpoint } => {
            let receipt = snapshot(&client(ctx, &endpoint)?, &to, &deadline)?;
            ctx.emit("cprecover.dev/etcd-snapshot/v1", &receipt, || {
                let mut text = format!("snapshot   {}\n", receipt.path.display());
                let _ = writeln!(text, "size       {}", mebibytes(receipt.size_bytes));
                let _ = writeln!(text, "sha256     {} (as etcd sent it)", receipt.sha256);
                let revision = receipt.revision.map_or("none".to_owned(), |revision| revision.to_string());
                let _ = writeln!(text, "revision   {revision}, {} key revisions", receipt.key_revisions);
                text + "checked    digest and every page"
            })?;
            Ok(Exit::Done)
        }
    }
}

fn client(ctx: &Context, endpoint: &Endpoint) -> Result<Client> {
    let Some(address) = endpoint.address else {
        return Client::of_manifest(&ctx.node)
            .map_err(|error| error.context("no --endpoint, and none from a manifest"));
    };
    let read = |path: &PathBuf| read_bounded(path, MAX_FILE_BYTES);
    let tls = match (&endpoint.cacert, &endpoint.cert, &endpoint.key) {
        (None, ..) => None,
        (Some(ca), Some(cert), Some(key)) => {
            Some(ClientTls::new(read(ca)?).identity(read(cert)?, read(key)?))
        }
        (Some(ca), ..) => Some(ClientTls::new(read(ca)?)),
    };
    Client::new(ClientOptions::new(address, tls))
}

fn status(ctx: &Context, client: &Client, deadline: &Deadline) -> Result<Exit> {
    let report = etcd::status(client, deadline)?;
    ctx.emit("cprecover.dev/etcd-status/v1", &report, || status_table(&report))?;
    Ok(if report.healthy { Exit::Done } else { Exit::Unhealthy })
}

fn status_table(report: &ClusterStatus) -> String {
    let status = &report.status;
    let mut text =
        format!("member     {} at {}, etcd {}\n", status.member_id, report.address, status.version);
    let leader = status.leader.map_or("NONE".to_owned(), |leader| leader.to_string());
    let _ = writeln!(text, "cluster    {}, leader {leader}, term {}", status.cluster_id, status.raft_term);
    let margin = if report.healthy_voters >= report.quorum {
        format!("{} more may fail", report.healthy_voters - report.quorum)
    } else {
        "QUORUM LOST".to_owned()
    };
    let _ = writeln!(
        text,
        "quorum     {} of {} voting members are healthy, {} needed: {margin}",
        report.healthy_voters, report.voters, report.quorum
    );
    let used =
        status.db_size_in_use_bytes.map_or(String::new(), |bytes| format!(", {} in use", mebibytes(bytes)));
    let _ =
        writeln!(text, "database   {}{used}, revision {}", mebibytes(status.db_size_bytes), status.revision);
    match &report.alarms {
        Observed::Present(alarms) if alarms.is_empty() => text.push_str("alarms     none\n"),
        Observed::Present(alarms) => {
            for alarm in alarms {
                let _ = writeln!(text, "alarms     {} on member {}", alarm.kind, alarm.member_id);
            }
        }
        Observed::Absent => {}
        Observed::Unknown(reason) => {
            let _ = writeln!(text, "alarms     unknown: {reason}");
        }
    }
    for error in &status.errors {
        let _ = writeln!(text, "complaint  {error}");
    }
    text.push_str("\nMEMBER            NAME          HEALTH     ROLE      PEER URLS\n");
    for member in &report.cluster.members {
        let health = match member.health {
            MemberHealth::Healthy => "healthy",
            MemberHealth::Unhealthy => "DOWN",
            _ => "unknown",
        };
        let role = match (member.learner, member.leader) {
            (true, _) => "learner",
            (_, true) => "leader",
            _ => "follower",
        };
        let id = member.id.map(|id| id.to_string()).unwrap_or_default();
        let name = if member.name.is_empty() { "(not started)" } else { &member.name };
        let _ = writeln!(text, "{id:<16}  {name:<13} {health:<10} {role:<9} {}", member.peer_urls.join(","));
    }
    text
}

fn check(
    ctx: &Context,
    data_dir: Option<PathBuf>,
    wal_dir: Option<PathBuf>,
    deadline: &Deadline,
) -> Result<Exit> {
    let (data_dir, mut options) = match data_dir {
        None => CheckOptions::by_manifest(&ctx.node),
        Some(data_dir) => {
            let data_dir =
                std::path::absolute(&data_dir).map_err(|source| Error::path("resolve", &data_dir, source))?;
            // A directory that was named need not be the manifest's.
            let mut options = CheckOptions::default();
            options.proc_dir.clone_from(&ctx.node.proc_dir);
            (data_dir, options)
        }
    };
    if wal_dir.is_some() {
        options.wal_dir = wal_dir;
    }
    let verdict = check_with(&data_dir, &options, deadline);
    ctx.emit("cprecover.dev/etcd-check/v1", &verdict, || check_table(&data_dir, &verdict))?;
    Ok(match verdict.state {
        DataState::Intact => Exit::Done,
        DataState::Locked => Exit::Busy,
        _ => Exit::Unhealthy,
    })
}

fn check_table(data_dir: &Path, verdict: &DataVerdict) -> String {
    let startup = match verdict.startup {
        Startup::Starts => "etcd will start with these data",
        Startup::RepairsItself => "etcd will start and repair the damaged end by itself",
        Startup::Waits => {
            "in use, so not judged; a second etcd would wait for the lock for ever (`etcd status` asks the one that runs)"
        }
        Startup::Diverges => "etcd will start, but WITHOUT writes that it has acknowledged",
        Startup::Bootstraps => "etcd will start as a new, empty member",
        Startup::Fails => "etcd will NOT start with these data",
        _ => "what etcd will do is not known",
    };
    let mut text = format!("data       {}\n", data_dir.display());
    let _ = writeln!(text, "verdict    {} - {startup}", verdict.state.as_str().to_uppercase());
    report_table(&verdict.report, &mut text);
    for finding in &verdict.findings {
        let label = if finding.state == DataState::Intact { "remark" } else { finding.state.as_str() };
        let _ = write!(text, "\n{label}: {}\n    {}", finding.message, finding.file.display());
        if let Some(offset) = finding.offset {
            let _ = write!(text, ", byte {offset}");
        }
        if let Some(record) = finding.record {
            let _ = write!(text, ", record or page {record}");
        }
    }
    text
}

fn report_table(report: &DataReport, text: &mut String) {
    let _ = writeln!(text, "lock       {}", report.lock);
    if let (Some(member), Some(cluster)) = (report.member_id, report.cluster_id) {
        let _ = writeln!(text, "member     {member} of cluster {cluster}");
    }
    if let Observed::Present(wal) = &report.wal {
        let _ = writeln!(
            text,
            "wal        {} files, {} records, entries {} to {}, committed {}, term {}",
            wal.files.len(),
            wal.records,
            wal.first_index,
            wal.last_index,
            wal.commit,
            wal.term
        );
    }
    let sound = report.snapshots.iter().filter(|file| file.sound).count();
    let newest = report.snapshots.iter().find(|file| file.sound).map(|file| file.index);
    let newest = newest.map_or(String::new(), |index| format!(", newest at entry {index}"));
    let _ = writeln!(text, "snapshots  {sound} sound of {}{newest}", report.snapshots.len());
    if let Observed::Present(db) = &report.db {
        let index = db.consistent_index.map_or("none".to_owned(), |index| index.to_string());
        let revision = db.revision.map_or("none".to_owned(), |revision| revision.to_string());
        let _ = writeln!(
            text,
            "database   {}, applied entry {index}, revision {revision}, {} of {} pages free",
            mebibytes(db.size_bytes),
            db.free_pages,
            db.free_pages + db.used_pages
        );
        for member in &db.members {
            let learner = if member.learner { ", learner" } else { "" };
            let urls = member.peer_urls.join(",");
            let _ = writeln!(text, "knows      member {} {:?} at {urls}{learner}", member.id, member.name);
        }
    }
    if let Some(space) = &report.space {
        let _ = writeln!(text, "space      {} free", mebibytes(space.free_bytes));
    }
}

fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}
