//! `cprecover watch`: backs up what works, says when it does not, recovers when told to.

use std::io::Write as _;
use std::time::Duration;

use cprecover::Result;
use cprecover::recover::{Host, LeaseLock, LiveNode, WatchEvent, WatchOptions, Watcher};
use cprecover::sys::{Deadline, SystemClock};

use super::recover::Shown;
use super::{ConsentArgs, PolicyArgs};
use crate::console::say;
use crate::{Context, Exit, Format, present};

/// Watches the node until Ctrl-C: a backup after each change that health followed and every 10 minutes of what else
/// changed, a line at each turn.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Recover from an outage as far as the policy goes. Maintenance is taken for one: a manifest that was moved away
    /// comes back, and a stopped kubelet is started. Stop the watch before it, or `hold` the components (not for work
    /// on kubelet itself).
    #[arg(long)]
    recover: bool,
    /// Look at the node every so many seconds while nothing changes.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    every: u64,
    /// How many bad looks in a row make an outage.
    #[arg(long, value_name = "LOOKS", default_value_t = 3)]
    sick_after: u32,
    /// How many recoveries an hour may have.
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    recoveries_per_hour: u32,
    /// End after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    #[command(flatten)]
    consent: ConsentArgs,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// A watch without an end ends with the machine.
const FOR_EVER: Duration = Duration::from_hours(24 * 365 * 10);

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit> {
    let policy = args.policy.load(&ctx.node)?;
    let decide = |observation: &cprecover::policy::Observation| policy.decide(observation);
    let recovery = args.consent.options();
    let host = Host::new(&ctx.node);
    let mut node = LiveNode::new(&host, &decide, recovery).with_cluster_lock(LeaseLock::new(&host));
    let mut options = WatchOptions::default();
    options.probe_every = Duration::from_secs(args.every.max(1));
    options.recheck_every = options.recheck_every.min(options.probe_every);
    options.sick_after = args.sick_after.max(1);
    options.recover = args.recover;
    options.recoveries_per_hour = args.recoveries_per_hour;
    let mut watcher = Watcher::new(&ctx.node, &mut node, &SystemClock, options);
    let deadline = Deadline::after(args.timeout.map_or(FOR_EVER, Duration::from_secs));
    let deadline = deadline.with_cancel(ctx.cancel.clone());
    let recovery = if args.recover { "with recoveries" } else { "without recoveries (--recover)" };
    say(format_args!("watch: {}, a look every {} s, {recovery}", ctx.root.display(), args.every.max(1)));
    let mut shown = Shown::new();
    let (mut healthy, mut warned) = (None, false);
    while let Some(event) = watcher.next(&deadline, &mut |progress| shown.show(&progress))? {
        match &event {
            WatchEvent::Healthy => healthy = Some(true),
            WatchEvent::Unhealthy { .. } => healthy = Some(false),
            _ => {}
        }
        match print(ctx, &event) {
            // A reader that has seen enough (`| head`) ends a watch; what a watch keeps alive, it goes on keeping.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe && args.recover => {}
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
            // A full disk or a terminal that is gone: nobody has said that the watch is to end.
            Err(error) if !std::mem::replace(&mut warned, true) => {
                tracing::warn!(%error, "what the watch says cannot be printed; it goes on");
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(if healthy == Some(false) { Exit::Unhealthy } else { Exit::Done })
}

/// One line an event, so that another program can follow.
fn print(ctx: &Context, event: &WatchEvent) -> std::io::Result<()> {
    let now = jiff::Timestamp::now();
    let line = match ctx.format {
        Format::Table => format!("{now} {}", text(event)),
        Format::Json => {
            let mut object = serde_json::Map::new();
            object.insert("schema".into(), "cprecover.dev/watch-event/v1".into());
            object.insert("at".into(), now.to_string().into());
            if let serde_json::Value::Object(fields) = serde_json::to_value(event)? {
                object.extend(fields);
            }
            serde_json::to_string(&object)?
        }
    };
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

fn text(event: &WatchEvent) -> String {
    match event {
        WatchEvent::Changed { files } => format!("changed: {}", files.join(", ")),
        WatchEvent::Healthy => "healthy".into(),
        WatchEvent::Unhealthy { look } => {
            let causes = if look.root_causes.is_empty() { &look.not_proven } else { &look.root_causes };
            format!("NOT HEALTHY: {}", causes.join("; "))
        }
        WatchEvent::BackedUp { snapshot } => format!("backed up as last known good: {snapshot}"),
        WatchEvent::BackupFailed { reason } => format!("not backed up: {reason}"),
        WatchEvent::Recovered { report } => format!("recovery\n{}", present::report(report)),
        WatchEvent::RecoveryFailed { reason } => format!("no recovery: {reason}"),
        WatchEvent::RecoveryHeld { for_ms } => format!("next recovery in {} s at the soonest", for_ms / 1000),
        other => format!("{other:?}"),
    }
}
