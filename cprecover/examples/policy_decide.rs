//! Asks the default policy about a recorded observation and prints what the guard rails let pass.
//!
//!     cprecover observe --policy-input -o json > seen.json
//!     cargo run -p cprecover --example policy_decide seen.json
//!
//! Without feature `wasm` the same rules answer, natively.

use std::path::Path;
use std::process::ExitCode;

use cprecover::policy::{Observation, Policy, guard};
use cprecover::{Error, ErrorKind, Result};

fn decide(path: &Path) -> Result<()> {
    let invalid = |source| Error::with_source(ErrorKind::Invalid, "not an observation", source);
    let bytes = cprecover::sys::read_bounded(path, 4 << 20)?;
    let mut fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&bytes).map_err(invalid)?;
    fields.remove("schema");
    let seen: Observation = serde_json::from_value(fields.into()).map_err(invalid)?;
    let policy = Policy::builtin()?;
    println!("{}", policy.identity());
    for guarded in guard::check(&seen, &policy.decide(&seen).decisions) {
        println!("{}: {:?}", guarded.decision.action, guarded.ruling);
    }
    Ok(())
}

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: policy_decide OBSERVATION.json");
        return ExitCode::from(2);
    };
    match decide(Path::new(&path)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
