//! `policy list`.

use std::fmt::Write as _;

use cprecover::Result;
use cprecover::policy::{CachedPolicy, Identity, Policy, PolicyCache, RunLimits};
use serde::Serialize;

use crate::{Context, Exit};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    shipped: Vec<Shipped>,
    installed: Vec<InstalledPolicy>,
}

#[derive(Serialize)]
struct Shipped {
    #[serde(flatten)]
    identity: Identity,
    description: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InstalledPolicy {
    #[serde(flatten)]
    entry: CachedPolicy,
    /// Absent where the entry is not used.
    name: Option<String>,
    version: Option<String>,
    problem: Option<String>,
}

pub(super) fn run(ctx: &Context) -> Result<Exit> {
    let shipped = Policy::SHIPPED
        .into_iter()
        .map(|name| {
            let policy = Policy::shipped(name)?;
            Ok(Shipped {
                identity: policy.identity().clone(),
                description: policy.metadata().description.clone(),
            })
        })
        .collect::<Result<_>>()?;
    let listed = Listed { shipped, installed: installed(ctx)? };
    ctx.emit("cprecover.dev/policies/v1", &listed, || table(&listed))?;
    Ok(Exit::Done)
}

fn installed(ctx: &Context) -> Result<Vec<InstalledPolicy>> {
    let Some(cache) = PolicyCache::open(&PolicyCache::folder(&ctx.node))? else { return Ok(Vec::new()) };
    let entries = cache.entries()?;
    Ok(entries.into_iter().map(|entry| describe(&cache, entry)).collect())
}

fn describe(cache: &PolicyCache, entry: CachedPolicy) -> InstalledPolicy {
    let problem = |problem: String| (None, None, Some(problem));
    let (name, version, problem) = if entry.usable {
        match Policy::installed(cache, &entry.digest, RunLimits::default()) {
            Ok(Some(policy)) => {
                let identity = policy.identity();
                (Some(identity.name.clone()), Some(identity.version.clone()), None)
            }
            Ok(None) => problem("it is gone".into()),
            Err(error) => problem(error.to_string()),
        }
    } else {
        problem("another engine compiled it; install it again".into())
    };
    InstalledPolicy { entry, name, version, problem }
}

fn table(listed: &Listed) -> String {
    let mut text = String::from("SHIPPED\n");
    for Shipped { identity, description } in &listed.shipped {
        let _ = writeln!(text, "  {identity}\n      {description}");
    }
    text += "\nINSTALLED\n";
    if listed.installed.is_empty() {
        text += "  none\n";
    }
    for InstalledPolicy { entry, name, version, problem } in &listed.installed {
        let (name, version) = (name.as_deref().unwrap_or("?"), version.as_deref().unwrap_or("?"));
        let _ = writeln!(text, "  {name} {version} sha256:{}, {} bytes", entry.digest, entry.bytes);
        if let Some(problem) = problem {
            let _ = writeln!(text, "      not used: {problem}");
        }
    }
    text
}
