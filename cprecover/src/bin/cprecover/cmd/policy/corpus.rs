//! `policy test` and `policy diff`: policies over recorded observations.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use cprecover::policy::Identity;
use cprecover::{Error, ErrorKind, Result};
use serde::Serialize;

use super::check::loaded;
use super::table::{Expectations, decided, observations};
use crate::cmd::policy_args::TrustArgs;
use crate::{Context, Exit};

/// Arguments of `policy test`.
#[derive(Debug, clap::Args)]
pub(super) struct TestArgs {
    /// A shipped policy's name, FILE.wasm or FILE.wasm@sha256:HEX.
    policy: String,
    /// Folder of recorded observations and `expected.json`.
    #[arg(long, value_name = "DIR", default_value = "policies/testdata")]
    corpus: PathBuf,
    /// Name in `expected.json`, where the policy's own is not the one.
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    /// Print what the policy decides in the form of `expected.json`, to begin or extend one.
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    trust: TrustArgs,
}

/// Arguments of `policy diff`.
#[derive(Debug, clap::Args)]
pub(super) struct DiffArgs {
    /// One policy.
    one: String,
    /// The other policy.
    other: String,
    /// Folder of recorded observations.
    #[arg(long, value_name = "DIR", default_value = "policies/testdata")]
    corpus: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tested {
    identity: Identity,
    passed: usize,
    failed: usize,
    cases: Vec<Case>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    name: String,
    as_expected: bool,
    expected: Option<Vec<String>>,
    decided: Vec<String>,
}

pub(super) fn test(ctx: &Context, args: &TestArgs) -> Result<Exit> {
    let policy = loaded(ctx, &args.policy, &args.trust)?;
    let column = args.column.as_deref().unwrap_or(&policy.metadata().name);
    let corpus = observations(&args.corpus)?;
    if args.print {
        let mut table = Expectations::new();
        for (name, seen) in &corpus {
            let decided = BTreeMap::from([(column.to_owned(), decided(&policy, seen))]);
            table.cases.insert(name.clone(), decided);
        }
        ctx.emit(&table.schema.clone(), &table, || serde_json::to_string_pretty(&table).unwrap_or_default())?;
        return Ok(Exit::Done);
    }
    let expected = Expectations::read(&args.corpus)?;
    if let Some(stray) = expected.cases.keys().find(|name| !corpus.iter().any(|(case, _)| case == *name)) {
        let text = format!("{}: {stray} is expected and not recorded", args.corpus.display());
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    let cases: Vec<Case> = corpus
        .into_iter()
        .map(|(name, seen)| {
            let expected = expected.cases.get(&name).and_then(|case| case.get(column)).cloned();
            let decided = decided(&policy, &seen);
            Case { as_expected: expected.as_ref() == Some(&decided), name, expected, decided }
        })
        .collect();
    let failed = cases.iter().filter(|case| !case.as_expected).count();
    let passed = cases.len() - failed;
    let tested = Tested { identity: policy.identity().clone(), passed, failed, cases };
    ctx.emit("cprecover.dev/policy-test/v1", &tested, || test_table(&tested))?;
    Ok(if failed == 0 && passed > 0 { Exit::Done } else { Exit::Error })
}

fn test_table(tested: &Tested) -> String {
    let mut text = format!("{}\n\n", tested.identity);
    for case in &tested.cases {
        let _ = writeln!(text, "{}  {}", if case.as_expected { "ok     " } else { "DIFFERS" }, case.name);
        match &case.expected {
            _ if case.as_expected => lines(&mut text, " ", &case.decided),
            Some(expected) => {
                lines(&mut text, "-", expected);
                lines(&mut text, "+", &case.decided);
            }
            None => {
                text += "           nothing is expected of this policy here\n";
                lines(&mut text, "+", &case.decided);
            }
        }
    }
    let _ = writeln!(text, "\n{} as expected, {} not", tested.passed, tested.failed);
    text
}

fn lines(text: &mut String, mark: &str, decided: &[String]) {
    if decided.is_empty() {
        let _ = writeln!(text, "         {mark} nothing");
    }
    for line in decided {
        let _ = writeln!(text, "         {mark} {line}");
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Compared {
    one: Identity,
    other: Identity,
    same: usize,
    different: Vec<Difference>,
}

#[derive(Serialize)]
struct Difference {
    name: String,
    one: Vec<String>,
    other: Vec<String>,
}

pub(super) fn diff(ctx: &Context, args: &DiffArgs) -> Result<Exit> {
    let one = loaded(ctx, &args.one, &args.trust)?;
    let other = loaded(ctx, &args.other, &args.trust)?;
    let corpus = observations(&args.corpus)?;
    let total = corpus.len();
    let different: Vec<Difference> = corpus
        .into_iter()
        .map(|(name, seen)| Difference { name, one: decided(&one, &seen), other: decided(&other, &seen) })
        .filter(|difference| difference.one != difference.other)
        .collect();
    let compared = Compared {
        one: one.identity().clone(),
        other: other.identity().clone(),
        same: total - different.len(),
        different,
    };
    ctx.emit("cprecover.dev/policy-diff/v1", &compared, || {
        let mut text = format!("- {}\n+ {}\n\n", compared.one, compared.other);
        for difference in &compared.different {
            let _ = writeln!(text, "{}", difference.name);
            lines(&mut text, "-", &difference.one);
            lines(&mut text, "+", &difference.other);
        }
        let _ = writeln!(text, "\n{} the same, {} different", compared.same, compared.different.len());
        text
    })?;
    Ok(Exit::Done)
}
