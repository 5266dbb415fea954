//! `cprecover regenerate`: save the kubeadm config, plan and apply regenerated manifests.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use cprecover::api::ApiServer;
use cprecover::backup::{Group, InstallOptions, NewFile, Store};
use cprecover::kubeadm::{
    self, Acceptance, EitherReader, Installer, Kubectl, ManifestOrigin, ManifestSource, Options,
    Reconstruction, RegenerationPlan, Severity, Sources, StagedFile,
};
use cprecover::model::{Component, Observed};
use cprecover::sys::{Deadline, SystemCommands, read_bounded};
use cprecover::{Error, ErrorKind, NodeOptions, Result};
use serde::Serialize;

use crate::{Context, Exit};

/// The first line of a captured config; a file without it is somebody else's and is not replaced.
const MARK: &str = "# captured by cprecover regenerate capture\n";

/// Where the captured config lies: with kubeadm's files, so that snapshots take it along.
const CAPTURED: &str = "kubeadm-config.yaml";

const MAX_CONFIG_BYTES: usize = 1 << 20;

/// Regenerates lost manifests with the node's own kubeadm.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Saves the kubeadm config while the cluster is healthy, for the day when it is not.
    Capture {
        /// The kubectl program, an absolute path.
        #[arg(long, value_name = "PATH")]
        kubectl: Option<PathBuf>,
    },
    /// Shows what kubeadm would write, where each value comes from, and what would be lost.
    Plan(PlanArgs),
    /// Renews expired certificates; nothing is replaced without `--consent`.
    Certs(super::certs::Args),
    /// Installs what `plan` shows, in one transaction, after a snapshot of what stands there.
    Apply {
        #[command(flatten)]
        plan: PlanArgs,
        /// Accept differences that a person should look at (see `plan`).
        #[arg(long)]
        accept_needs_review: bool,
        /// Accept differences by which the cluster loses data, addresses or protection (see `plan`).
        #[arg(long)]
        accept_dangerous: bool,
        /// Accept manifests that there is no known good one to compare with.
        #[arg(long)]
        accept_without_comparison: bool,
    },
}

#[derive(clap::Args)]
struct PlanArgs {
    /// The manifests to regenerate; those that are missing when not given.
    #[arg(value_name = "COMPONENT")]
    components: Vec<Component>,
    /// The kubeadm program, an absolute path.
    #[arg(long, value_name = "PATH")]
    kubeadm: Option<PathBuf>,
    /// A kubeadm config (`InitConfiguration`, `ClusterConfiguration`) to believe first.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Take kubeadm's default for this unknown value, knowingly; may be repeated.
    #[arg(long, value_name = "FIELD")]
    assume_default: Vec<String>,
    /// How long everything may take, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
}

/// Runs the subcommand.
pub(crate) fn run(ctx: &Context, args: Args) -> Result<Exit> {
    match args.verb {
        Verb::Certs(args) => super::certs::run(ctx, &args),
        Verb::Capture { kubectl } => capture(ctx, kubectl),
        Verb::Plan(args) => {
            let store = Store::open_read_only(&ctx.node)?;
            show(ctx, &make(ctx, &args, &store)?.0)
        }
        Verb::Apply { plan, accept_needs_review, accept_dangerous, accept_without_comparison } => {
            let severity = match (accept_dangerous, accept_needs_review) {
                (true, _) => Severity::Dangerous,
                (false, true) => Severity::NeedsReview,
                (false, false) => Severity::Harmless,
            };
            let mut acceptance = Acceptance::up_to(severity);
            if accept_without_comparison {
                acceptance = acceptance.without_comparison();
            }
            apply(ctx, &plan, acceptance)
        }
    }
}

fn deadline(ctx: &Context, seconds: u64) -> Deadline {
    Deadline::after(Duration::from_secs(seconds)).with_cancel(ctx.cancel.clone())
}

/// Gathers what lies on the node and in its store.
fn sources(ctx: &Context, config: Option<&PathBuf>, store: &Store) -> Result<Sources> {
    let mut sources = Sources::gather(&ctx.node)?;
    let known_good = match store.last_known_good()? {
        Some(snapshot) if !store.is_of_another_node(&snapshot) => Some(snapshot),
        // Another node's manifests name that node.
        _ => store.latest()?.filter(|snapshot| !store.is_of_another_node(snapshot)),
    };
    if let Some(snapshot) = &known_good {
        let origin =
            if snapshot.health_verified { ManifestOrigin::LastKnownGood } else { ManifestOrigin::Live };
        for component in Component::ALL {
            let Some(entry) = snapshot.manifest(component) else { continue };
            let bytes = store.read(&snapshot.id, entry.path.as_path())?;
            let name = format!("snapshot {} {}", snapshot.id, component.manifest_file());
            sources.manifests.push(ManifestSource::new(component, origin, name, bytes));
        }
    }
    sources.config = match config {
        Some(path) => Some((path.display().to_string(), read_bounded(path, MAX_CONFIG_BYTES)?)),
        None => backed_up_config(&ctx.node, store)?,
    };
    Ok(sources)
}

/// The captured config on the node, or the newest one in a snapshot.
fn backed_up_config(node: &NodeOptions, store: &Store) -> Result<Option<(String, Vec<u8>)>> {
    let on_node = node.kubernetes_dir.join(CAPTURED);
    match read_bounded(&node.resolve(&on_node), MAX_CONFIG_BYTES) {
        Ok(bytes) => return Ok(Some((on_node.display().to_string(), bytes))),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    for snapshot in store.list()?.into_iter().rev().filter_map(|listed| listed.snapshot) {
        let has = snapshot
            .entries
            .iter()
            .any(|entry| entry.group == Group::Kubeadm && entry.path.as_path() == on_node);
        if has && !store.is_of_another_node(&snapshot) {
            return Ok(Some((format!("snapshot {}", snapshot.id), store.read(&snapshot.id, &on_node)?)));
        }
    }
    Ok(None)
}

fn make(ctx: &Context, args: &PlanArgs, store: &Store) -> Result<(RegenerationPlan, Deadline)> {
    let deadline = deadline(ctx, args.timeout);
    let mut components = args.components.clone();
    if components.is_empty() {
        let missing = |c: &Component| !ctx.node.manifests().join(c.manifest_file()).exists();
        components = Component::ALL.into_iter().filter(missing).collect();
    }
    if components.is_empty() {
        let message = "every manifest is there; name the components to regenerate";
        return Err(Error::new(ErrorKind::Refused, message));
    }
    let mut options = Options::default();
    options.kubeadm.clone_from(&args.kubeadm);
    options.assume_defaults.clone_from(&args.assume_default);
    let sources = sources(ctx, args.config.as_ref(), store)?;
    let plan = kubeadm::plan(&ctx.node, &components, &sources, &options, &SystemCommands, &deadline)?;
    Ok((plan, deadline))
}

fn show(ctx: &Context, plan: &RegenerationPlan) -> Result<Exit> {
    let objections = plan.objections(Acceptance::default());
    let shown = Shown { plan, objections: &objections };
    ctx.emit("cprecover.dev/regeneration-plan/v1", &shown, || table(plan, &objections))?;
    Ok(Exit::Done)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    #[serde(flatten)]
    plan: &'a RegenerationPlan,
    /// What has to be accepted or mended before it may be applied.
    objections: &'a [String],
}

fn table(plan: &RegenerationPlan, objections: &[String]) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "kubeadm {} {}, config {}\n",
        plan.kubeadm.display(),
        plan.kubeadm_version,
        plan.api_version
    );
    reconstruction(&mut text, &plan.reconstruction);
    for diff in &plan.diffs {
        let with = diff.compared_with.as_deref().unwrap_or("nothing: no known good manifest");
        let _ = writeln!(text, "{} compared with {with}", diff.component);
        if diff.differences.is_empty() && diff.compared_with.is_some() {
            let _ = writeln!(text, "  no difference");
        }
        for difference in &diff.differences {
            let _ = writeln!(text, "  {difference}");
        }
    }
    let _ = writeln!(text, "\nchecks");
    for check in &plan.checks {
        let component = check.component.map(|component| format!(" {component}")).unwrap_or_default();
        let outcome = format!("{:?}", check.outcome).to_lowercase();
        let _ = writeln!(text, "  {outcome:6} {}{component}: {}", check.name, check.message);
    }
    let _ = match objections {
        [] => writeln!(text, "\nnothing objects to applying this"),
        some => writeln!(text, "\nbefore it may be applied\n  {}", some.join("\n  ")),
    };
    text
}

fn reconstruction(text: &mut String, found: &Reconstruction) {
    for field in &found.fields {
        let _ = writeln!(text, "{} = {}  ({})", field.path, field.value, field.origin);
    }
    for conflict in &found.conflicts {
        let ((taken, _), (other, origin)) = (&conflict.taken, &conflict.other);
        let _ = writeln!(text, "conflict: {} is {taken} here and {other} by {origin}", conflict.path);
    }
    for unknown in &found.unknown {
        let _ = writeln!(text, "unknown: {} ({})", unknown.path, unknown.reason);
    }
    text.push('\n');
}

/// Installs through the store: a snapshot first, then all files or none.
struct StoreInstaller<'a> {
    node: &'a NodeOptions,
    store: Store,
}

impl Installer for StoreInstaller<'_> {
    fn install(&self, files: &[StagedFile], deadline: &Deadline) -> Result<()> {
        let mut new = Vec::new();
        for file in files {
            let path = self.node.manifests_dir.join(file.component.manifest_file());
            let mut put = NewFile::new(path, file.bytes.clone());
            put.expects = match &file.replaces {
                Observed::Present(digest) => Some(Some(*digest)),
                Observed::Absent => Some(None),
                Observed::Unknown(reason) => {
                    let message = format!("the live manifest of {} cannot be read: {reason}", file.component);
                    return Err(Error::new(ErrorKind::Refused, message));
                }
            };
            new.push(put);
        }
        let mut options = InstallOptions::default();
        options.reason = "regenerate".into();
        self.store.install(&new, &options, deadline).map(drop)
    }
}

fn apply(ctx: &Context, args: &PlanArgs, acceptance: Acceptance) -> Result<Exit> {
    // First of all: what a crash left half done is finished before the manifests are compared.
    let store = Store::open(&ctx.node)?;
    let (plan, deadline) = make(ctx, args, &store)?;
    let installer = StoreInstaller { node: &ctx.node, store };
    let applied = kubeadm::apply(&plan, acceptance, &installer, &deadline)?;
    ctx.emit("cprecover.dev/regeneration/v1", &applied, || {
        let line = |(component, digest): &(Component, _)| format!("installed {component} sha256 {digest}");
        applied.components.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    // What was installed is read back; whether the pods come up is `recover`'s to see.
    for (component, digest) in &applied.components {
        let path = ctx.node.manifests().join(component.manifest_file());
        if cprecover::model::Digest::of(&read_bounded(&path, MAX_CONFIG_BYTES)?) != *digest {
            return Err(Error::new(
                ErrorKind::Changed,
                format!("{} is not what was installed", path.display()),
            ));
        }
    }
    Ok(Exit::Done)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CapturedView<'a> {
    path: PathBuf,
    cluster_unread: Option<&'a str>,
    reconstruction: &'a Reconstruction,
}

fn capture(ctx: &Context, kubectl: Option<PathBuf>) -> Result<Exit> {
    let deadline = deadline(ctx, 60);
    let on_node = ctx.node.kubernetes_dir.join(CAPTURED);
    let path = ctx.node.resolve(&on_node);
    match read_bounded(&path, MAX_CONFIG_BYTES) {
        Ok(bytes) if !bytes.starts_with(MARK.as_bytes()) => {
            let message = format!("{} was not made by capture and is not replaced", path.display());
            return Err(Error::new(ErrorKind::Refused, message));
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let sources = Sources::gather(&ctx.node)?;
    let asked = kubectl.is_some();
    let mut reader = Kubectl::new(&ctx.node, &SystemCommands);
    if let Some(program) = kubectl {
        reader = reader.with_program(program);
    }
    // A program that was named is what shall be asked.
    let api = if asked { None } else { ApiServer::of_node(&ctx.node).ok() };
    let captured = match &api {
        Some(api) => kubeadm::capture(&sources, &EitherReader(api, &reader), &deadline)?,
        None => kubeadm::capture(&sources, &reader, &deadline)?,
    };
    let bytes = [MARK.as_bytes(), &captured.config].concat();
    let mut options = InstallOptions::default();
    options.reason = "regenerate capture".into();
    Store::open(&ctx.node)?.install(&[NewFile::new(&on_node, bytes)], &options, &deadline)?;
    let view = CapturedView {
        path: on_node,
        cluster_unread: captured.cluster_unread.as_deref(),
        reconstruction: &captured.reconstruction,
    };
    ctx.emit("cprecover.dev/kubeadm-config/v1", &view, || {
        let mut text = format!("captured {}\n", view.path.display());
        if let Some(reason) = view.cluster_unread {
            let _ = writeln!(text, "without the cluster's own kubeadm-config: {reason}");
        }
        reconstruction(&mut text, view.reconstruction);
        text
    })?;
    Ok(Exit::Done)
}
