//! `cprecover backup push|pull|list --remote`: copies of snapshots elsewhere.

use cprecover::Result;
use cprecover::backup::{RemoteObjects, RemoteSnapshot, Store, list_remote};
use serde::Serialize;

use super::backup::{deadline, shown};
use crate::{Context, Exit};

/// Where the copies are.
#[derive(clap::Args)]
pub(crate) struct RemoteArgs {
    /// URL of the remote: `file:///folder`, `s3://bucket/path`, `gs://bucket/path`, `az://container/path`.
    ///
    /// Settings and credentials are taken from `AWS_*`, `GOOGLE_*` and `AZURE_*` in the environment, by the names
    /// of the `object_store` crate (`AWS_ENDPOINT`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, …).
    #[arg(long, value_name = "URL")]
    pub(crate) remote: String,
    /// File of certificates (PEM) to trust beside the machine's own.
    #[arg(long, value_name = "FILE")]
    pub(crate) remote_ca: Option<std::path::PathBuf>,
}

#[cfg(feature = "remote")]
impl RemoteArgs {
    /// Opens it; `make` a local folder that is missing, for a copy into it.
    fn open(&self, make: bool) -> Result<Box<dyn RemoteObjects>> {
        use cprecover::backup::{ObjectStoreRemote, RemoteOptions};
        let mut options = RemoteOptions::default();
        options.make_folder = make;
        let ours = |name: &str| ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|start| name.starts_with(start));
        options.environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| ours(name))
            .collect();
        if let Some(path) = &self.remote_ca {
            options.roots_pem =
                std::fs::read(path).map_err(|source| cprecover::Error::path("read", path, source))?;
        }
        Ok(Box::new(ObjectStoreRemote::open(&self.remote, &options)?))
    }
}

#[cfg(not(feature = "remote"))]
impl RemoteArgs {
    fn open(&self, _make: bool) -> Result<Box<dyn RemoteObjects>> {
        let text = format!("{}: this program was built without the feature remote", self.remote);
        Err(cprecover::Error::new(cprecover::ErrorKind::Unsupported, text))
    }
}

/// Runs `cprecover backup push`.
pub(crate) fn push(ctx: &Context, store: &Store, name: &str, remote: &RemoteArgs) -> Result<Exit> {
    let report = store.push(&store.resolve(name)?, remote.open(true)?.as_ref(), &deadline(ctx))?;
    ctx.emit("cprecover.dev/backup-push/v1", &report, || {
        format!(
            "snapshot {} of node {}\nindex    {}\nsent     {} objects, {} bytes; {} were there, {} mended\n",
            report.snapshot.id,
            report.snapshot.node,
            report.index_sha256,
            report.created + report.mended,
            report.sent_bytes,
            report.reused,
            report.mended,
        )
    })?;
    Ok(Exit::Done)
}

/// Runs `cprecover backup pull`.
pub(crate) fn pull(
    ctx: &Context,
    store: &Store,
    name: &str,
    node: Option<&str>,
    remote: &RemoteArgs,
) -> Result<Exit> {
    let (remote, deadline) = (remote.open(false)?, deadline(ctx));
    let found = store.resolve_remote(name, node, remote.as_ref(), &deadline)?;
    let snapshot = store.pull(&found, remote.as_ref(), &deadline)?;
    ctx.emit("cprecover.dev/snapshot/v1", &snapshot, || shown(&snapshot))?;
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct Listing {
    snapshots: Vec<RemoteSnapshot>,
}

/// Runs `cprecover backup list --remote`.
pub(crate) fn list(ctx: &Context, remote: &RemoteArgs) -> Result<Exit> {
    let listing = Listing { snapshots: list_remote(remote.open(false)?.as_ref(), &deadline(ctx))? };
    ctx.emit("cprecover.dev/backup-remote-list/v1", &listing, || {
        let line = |snapshot: &RemoteSnapshot| format!("{}  {}", snapshot.node, snapshot.id);
        listing.snapshots.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    Ok(Exit::Done)
}
