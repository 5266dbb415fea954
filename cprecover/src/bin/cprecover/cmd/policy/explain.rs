//! `policy explain`: why each rule fired, and what the guard rails say.

use std::fmt::Write as _;
use std::path::PathBuf;

use cprecover::Result;
use cprecover::policy::contract::{Evidence, Rule};
use cprecover::policy::guard::{self, Guarded, Ruling};
use cprecover::policy::{Action, Failure, Identity, LogLine, Observation};
use serde::Serialize;

use super::check::loaded;
use super::table::{observation, rail_name};
use crate::cmd::policy_args::TrustArgs;
use crate::{Context, Exit};

/// Arguments of `policy explain`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A shipped policy's name, FILE.wasm or FILE.wasm@sha256:HEX.
    policy: String,
    /// What `cprecover observe --policy-input -o json` printed.
    observation: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Explained {
    identity: Identity,
    decisions: Vec<ExplainedDecision>,
    /// Rules that had nothing to say.
    silent: Vec<Rule>,
    failure: Option<Failure>,
    log: Vec<LogLine>,
    fuel_used: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExplainedDecision {
    /// The rule as the policy describes it; absent where it names none of its own.
    rule: Option<Rule>,
    /// The evidence that the decision names, in full.
    evidence: Vec<Evidence>,
    #[serde(flatten)]
    guarded: Guarded,
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Exit> {
    let policy = loaded(ctx, &args.policy, &args.trust)?;
    let seen = observation(&args.observation)?;
    let outcome = policy.decide(&seen);
    let rules = &policy.metadata().rules;
    let decisions: Vec<ExplainedDecision> = guard::check(&seen, &outcome.decisions)
        .into_iter()
        .map(|guarded| ExplainedDecision {
            rule: rules.iter().find(|rule| rule.id == guarded.decision.rule_id).cloned(),
            evidence: evidence(&seen, &guarded),
            guarded,
        })
        .collect();
    let fired = |rule: &Rule| decisions.iter().any(|known| known.guarded.decision.rule_id == rule.id);
    let explained = Explained {
        identity: outcome.policy,
        silent: rules.iter().filter(|rule| !fired(rule)).cloned().collect(),
        decisions,
        failure: outcome.failure,
        log: outcome.log,
        fuel_used: outcome.fuel_used,
    };
    ctx.emit("cprecover.dev/policy-explanation/v1", &explained, || table(&explained))?;
    Ok(if explained.failure.is_none() { Exit::Done } else { Exit::Error })
}

fn evidence(seen: &Observation, guarded: &Guarded) -> Vec<Evidence> {
    let ids = guarded.decision.evidence.iter();
    ids.filter_map(|id| seen.evidence.iter().find(|evidence| evidence.id == *id)).cloned().collect()
}

fn table(explained: &Explained) -> String {
    let mut text = format!("{}\n\n", explained.identity);
    if explained.decisions.is_empty() {
        text += "It decides nothing.\n";
    }
    for (index, explained) in explained.decisions.iter().enumerate() {
        one(&mut text, index + 1, explained);
    }
    if !explained.silent.is_empty() {
        text += "\nRULES THAT HAD NOTHING TO SAY, OR WERE NOT REACHED\n";
    }
    for rule in &explained.silent {
        let _ = writeln!(text, "  {:<20} {}", rule.id, rule.summary);
    }
    for line in &explained.log {
        let _ = writeln!(text, "log {:?}: {}", line.level, line.message);
    }
    if let Some(failure) = &explained.failure {
        let _ = writeln!(text, "\nIT FAILED: {}", failure.message);
    }
    let _ = writeln!(text, "\n{} units of fuel", explained.fuel_used);
    text
}

fn one(text: &mut String, number: usize, explained: &ExplainedDecision) {
    let decision = &explained.guarded.decision;
    let _ = writeln!(text, "{number}. {}", decision.action);
    let summary =
        explained.rule.as_ref().map_or("not among the rules that it describes", |rule| &rule.summary);
    let _ = writeln!(text, "   rule      {}: {summary}", decision.rule_id);
    let _ = writeln!(text, "   why       {}", decision.reason);
    for evidence in &explained.evidence {
        let _ = writeln!(text, "   seen      {}: {}", evidence.source, evidence.text);
    }
    if let Action::Escalate { hints, .. } = &decision.action {
        for hint in hints {
            let _ = writeln!(text, "   hint      {hint}");
        }
    } else {
        let _ = writeln!(
            text,
            "   sureness  {:.2}; at most {} tries an hour, {} ms apart",
            decision.confidence, decision.max_attempts, decision.cool_down_ms
        );
    }
    let ruling = match &explained.guarded.ruling {
        Ruling::Allowed => "allowed".into(),
        Ruling::Deferred { rail, reason } => format!("not now ({}): {reason}", rail_name(*rail)),
        Ruling::Refused { rail, reason } => format!("refused ({}): {reason}", rail_name(*rail)),
        other => format!("{other:?}"),
    };
    let _ = writeln!(text, "   guard     {ruling}");
}
