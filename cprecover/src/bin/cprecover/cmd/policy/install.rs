//! `policy install` and `policy remove`.

use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cprecover::model::Digest;
use cprecover::policy::{
    CompileLimits, Identity, Installed, Policy, PolicyCache, WorkerCompiler, WorkerLimits,
};
use cprecover::{Error, ErrorKind, Result};
use cprecover_policies::{Profile, shipped};
use serde::Serialize;

use crate::cmd::policy_args::{Named, TrustArgs};
use crate::{Context, Exit};

/// Arguments of `policy install`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A shipped policy's name, FILE.wasm or FILE.wasm@sha256:HEX.
    policy: String,
    /// End the compiler after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
    /// Give the compiler so much memory.
    #[arg(long, value_name = "MIB", default_value_t = 4096)]
    memory: u64,
    #[command(flatten)]
    trust: TrustArgs,
}

/// Arguments of `policy remove`.
#[derive(Debug, clap::Args)]
pub(super) struct RemoveArgs {
    /// SHA-256 of the component, as `policy list` prints it.
    digest: Digest,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    identity: Identity,
    size: CompileLimits,
    file: String,
    compiled_bytes: usize,
    took_ms: u64,
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Exit> {
    let store = ctx.node.store();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&store)
        .map_err(|source| Error::path("make folder", &store, source))?;
    // Before the options, which report a cache that this makes good.
    let cache = PolicyCache::create(&PolicyCache::folder(&ctx.node))?;
    let mut options = args.trust.options(&ctx.node, &[&args.policy])?;
    options.cache = Some(cache);
    options.compile = CompileLimits::raised();
    let mut worker = WorkerCompiler::new("/proc/self/exe");
    worker.limits = WorkerLimits::raised();
    worker.limits.time = Duration::from_secs(args.timeout);
    worker.limits.memory_bytes = args.memory.saturating_mul(1 << 20);
    options.compiler = Some(Arc::new(worker));
    let begun = Instant::now();
    let installed = match Named::parse(&args.policy)? {
        Named::Shipped(name) => {
            let profile = Profile::from_name(name).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, format!("no shipped policy is called {name:?}"))
            })?;
            Policy::install_bytes(shipped::component(profile), &options)?
        }
        Named::File { path, digest } => {
            options.expected = digest;
            Policy::install(path, &options)?
        }
    };
    let report = report(installed, begun);
    ctx.emit("cprecover.dev/policy-installed/v1", &report, || {
        format!(
            "{}\ncompiled in {} ms to {} bytes: {}",
            report.identity, report.took_ms, report.compiled_bytes, report.file
        )
    })?;
    Ok(Exit::Done)
}

fn report(installed: Installed, begun: Instant) -> Report {
    Report {
        identity: installed.policy.identity().clone(),
        size: installed.size,
        file: installed.file,
        compiled_bytes: installed.compiled_bytes,
        took_ms: cprecover::sys::millis(begun.elapsed()),
    }
}

pub(super) fn remove(ctx: &Context, args: &RemoveArgs) -> Result<Exit> {
    let removed = match PolicyCache::open(&PolicyCache::folder(&ctx.node))? {
        Some(cache) => cache.remove(&args.digest)?,
        None => false,
    };
    if removed {
        ctx.emit("cprecover.dev/policy-removed/v1", &args.digest, || format!("removed {}", args.digest))?;
        return Ok(Exit::Done);
    }
    Err(Error::new(ErrorKind::NotFound, format!("policy {} is not installed", args.digest)))
}
