//! Asks a policy about a recorded observation and prints what the guard rails let pass.
//!
//!     cprecover observe --policy-input -o json > seen.json
//!     cargo run -p cprecover --example policy_decide seen.json
//!     cargo run -p cprecover --example policy_decide seen.json own.wasm /var/lib/cprecover/policy-cache
//!
//! Without a policy the shipped default is asked; in a build without feature `wasm` its rules answer natively.
//! With `wasm-runtime` alone a policy is loaded only from a cache into which `cprecover policy install` put it.
//! `policies/sizes` tells by this program what the features weigh.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

#[cfg(feature = "wasm-runtime")]
use cprecover::policy::PolicyCache;
use cprecover::policy::{LoadOptions, Observation, Policy, guard};
use cprecover::{Error, ErrorKind, Result};

fn observation(path: &Path) -> Result<Observation> {
    let invalid = |source| Error::with_source(ErrorKind::Invalid, "not an observation", source);
    let bytes = cprecover::sys::read_bounded(path, 4 << 20)?;
    let mut fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&bytes).map_err(invalid)?;
    fields.remove("schema");
    serde_json::from_value(fields.into()).map_err(invalid)
}

#[cfg(feature = "wasm-runtime")]
fn options(cache: &Path) -> Result<LoadOptions> {
    let mut options = LoadOptions::default();
    options.cache = PolicyCache::open(cache)?;
    Ok(options)
}

#[cfg(not(feature = "wasm-runtime"))]
fn options(cache: &Path) -> Result<LoadOptions> {
    let text = format!("{}: this build has no use for a cache", cache.display());
    Err(Error::new(ErrorKind::Unsupported, text))
}

fn decide(seen: &Path, policy: &[OsString]) -> Result<()> {
    let seen = observation(seen)?;
    let policy = match policy {
        [file, cache] => Policy::load(Path::new(file), &options(Path::new(cache))?)?,
        [file] => Policy::load(Path::new(file), &LoadOptions::default())?,
        _ => Policy::builtin()?,
    };
    println!("{}", policy.identity());
    for guarded in guard::check(&seen, &policy.decide(&seen).decisions) {
        println!("{}: {:?}", guarded.decision.action, guarded.ruling);
    }
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let Some((seen, policy)) = args.split_first().filter(|(_, policy)| policy.len() <= 2) else {
        eprintln!("usage: policy_decide OBSERVATION.json [POLICY.wasm [CACHE-FOLDER]]");
        return ExitCode::from(2);
    };
    match decide(Path::new(seen), policy) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
