//! One run: a random node, an engine, faults, stops and new engines, until one comes to its end.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::Duration;

use cprecover_policies::Profile;

use super::damage::{self, Backups, Damage};
use super::judge::{Invariant, Judge, Violation};
use super::node::SimNode;
use super::random::Random;
use super::world::{SimWorld, Stopped};
use super::{Chosen, Sabotage, Setting, hostile};
use crate::policy::contract::Observation as Seen;
use crate::policy::guard::{Guarded, Ruling};
use crate::policy::{Decision, Policy};
use crate::recover::engine::UNDO_TIMEOUT;
use crate::recover::{
    AUDIT_END_FILE, AUDIT_FILE, AuditLog, Ending, Engine, Event, RecoverOptions, Report, UndoOutcome,
};
use crate::sys::Clock as _;

/// How often one run may be killed or lose its power.
const MAX_STOPS: u32 = 3;
/// A run may go over its time by the look that it is in.
const SLACK: Duration = Duration::from_secs(5);
/// More looks than this are no recovery but a loop.
const MAX_ROUNDS: usize = 1_500;

/// What came of one run.
pub(super) struct Told {
    pub(super) seed: u64,
    pub(super) setting: Setting,
    pub(super) damages: Vec<Damage>,
    pub(super) backups: Backups,
    pub(super) ending: &'static str,
    pub(super) violations: Vec<Violation>,
    pub(super) trace: Vec<String>,
    pub(super) effects: usize,
    pub(super) stops: u32,
    pub(super) undos: usize,
    pub(super) rounds: usize,
}

impl Told {
    pub(super) fn text(&self) -> String {
        let broken: Vec<String> =
            self.violations.iter().map(|broken| format!("{:?}: {}", broken.invariant, broken.text)).collect();
        format!(
            "seed {}: {:?}\n  damages {:?}, backups {:?}, ending {}\n  {}\nBROKEN\n  {}",
            self.seed,
            self.setting,
            self.damages,
            self.backups,
            self.ending,
            self.trace.join("\n  "),
            broken.join("\n  ")
        )
    }
}

/// Runs one seed; `store` is a folder for its journal.
pub(super) fn run(seed: u64, sabotage: Option<Sabotage>, store: &Path) -> Told {
    let mut random = Random::new(seed);
    let setting = Setting::random(&mut random, sabotage);
    let (node, damages, backups) = damage::random_node(Random::new(random.next()));
    run_node(seed, random, setting, (node, damages, backups), store)
}

/// Runs one fault without any others, under the default policy.
pub(super) fn run_one(damage: Damage, store: &Path) -> Told {
    let setting = Setting {
        policy: Chosen::Shipped(Profile::Default),
        faults: false,
        fault_percent: 0,
        blind: false,
        timeout_s: 600,
        poll_s: 2,
        sabotage: None,
    };
    let node = damage::node_with(damage);
    run_node(0, Random::new(0), setting, (node, vec![damage], Backups::Good), store)
}

fn run_node(
    seed: u64,
    mut random: Random,
    setting: Setting,
    (node, damages, backups): (SimNode, Vec<Damage>, Backups),
    store: &Path,
) -> Told {
    let judge = Judge::new(&node);
    let mut world = SimWorld {
        node,
        judge,
        setting,
        stops_left: MAX_STOPS,
        asked: 0,
        trace: Vec::new(),
        undos: 0,
        left: BTreeSet::new(),
    };
    for file in [AUDIT_FILE, AUDIT_END_FILE] {
        match std::fs::remove_file(store.join(file)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
    }
    let (mut last, mut rounds) = (None, 0);
    // Each engine but the last one is stopped, and stops are few.
    for _ in 0..=MAX_STOPS {
        match engine(&mut world, store, random.next()) {
            Ok(report) => {
                rounds += report.rounds.len();
                last = Some(report);
                break;
            }
            Err(Some(_)) => spoil_journal(&mut world, store, &mut random),
            Err(None) => break,
        }
    }
    world.judge.finish(&world.node);
    if let Some(report) = &last {
        check_undone(&mut world, report);
    }
    let ending = last.map(|report| report.ending);
    check_recovery(&mut world, &damages, backups, ending.as_ref());
    check_journal(&mut world, store, true);
    Told {
        seed,
        setting,
        damages,
        backups,
        ending: ending.as_ref().map_or("none", name),
        violations: world.judge.violations,
        trace: world.trace,
        effects: world.judge.effects,
        undos: world.undos,
        stops: MAX_STOPS - world.stops_left,
        rounds,
    }
}

fn name(ending: &Ending) -> &'static str {
    match ending {
        Ending::Healthy => "healthy",
        Ending::DryRun => "dry-run",
        Ending::Escalated { .. } => "escalated",
        Ending::Refused { .. } => "refused",
        Ending::TimedOut => "timed-out",
        Ending::Cancelled => "cancelled",
        Ending::Busy { .. } => "busy",
        Ending::Failed { .. } => "failed",
    }
}

fn allow_all(_: &Seen, decisions: &[Decision]) -> Vec<Guarded> {
    decisions.iter().map(|decision| Guarded { decision: decision.clone(), ruling: Ruling::Allowed }).collect()
}

/// Runs one engine; it may be stopped (`Some`), or break an invariant at once (`None`).
fn engine(world: &mut SimWorld, store: &Path, seed: u64) -> Result<Report, Option<Stopped>> {
    let mut random = Random::new(seed);
    check_journal(world, store, false);
    let mut log = match AuditLog::open(store, world.node.now_ms()) {
        Ok(log) => log,
        Err(error) => {
            world.judge.break_off(Invariant::Journal, format!("does not open: {error}"));
            return Err(None);
        }
    };
    let setting = world.setting;
    let options = RecoverOptions {
        poll: Duration::from_secs(setting.poll_s),
        settle: Duration::from_mins(1),
        ..RecoverOptions::default()
    };
    let timeout = Duration::from_secs(setting.timeout_s);
    let clock = world.node.clock.clone();
    let deadline = clock.deadline(timeout);
    let dice = RefCell::new(Random::new(random.next()));
    let policy = Policy::native(match setting.policy {
        Chosen::Shipped(profile) => profile,
        Chosen::Hostile => Profile::Default,
    });
    let decide = |seen: &Seen| match setting.policy {
        Chosen::Shipped(_) => policy.decide(seen),
        Chosen::Hostile => hostile::decide(&mut dice.borrow_mut(), seen),
    };
    let started = clock.now();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut engine = Engine::new(world, &decide, &clock, Some(&mut log), &options);
        if setting.sabotage == Some(Sabotage::GuardSleeps) {
            engine = engine.with_guard(allow_all);
        }
        engine.run(&deadline, &mut |_| {})
    }));
    let took = clock.now().duration_since(started);
    match result {
        Ok(Ok(report)) => {
            let undo = if report.undone.is_empty() { Duration::ZERO } else { UNDO_TIMEOUT };
            if took > timeout + undo + SLACK || report.rounds.len() > MAX_ROUNDS {
                let text = format!("took {took:?} of {timeout:?} in {} rounds", report.rounds.len());
                world.judge.break_off(Invariant::Ends, text);
            }
            Ok(report)
        }
        Ok(Err(error)) => {
            world.judge.break_off(Invariant::Journal, format!("the engine could not go on: {error}"));
            Err(None)
        }
        Err(payload) => match payload.downcast::<Stopped>() {
            Ok(stopped) => Err(Some(*stopped)),
            Err(other) => resume_unwind(other),
        },
    }
}

/// A stop may leave a part of a line that was being written.
fn spoil_journal(world: &mut SimWorld, store: &Path, random: &mut Random) {
    let path = store.join(AUDIT_FILE);
    if world.setting.sabotage == Some(Sabotage::SpoilsJournal) {
        let bytes = std::fs::read(&path).unwrap_or_default();
        std::fs::write(&path, bytes.get(bytes.len() / 3..).unwrap_or_default()).expect("write");
    } else if random.percent(50) {
        let line =
            br#"{"sequence":7,"atUnixMs":1800000000000,"previous":null,"event":"begin","action":{"kind":"#;
        let torn = line.get(..1 + random.index(line.len() - 1)).unwrap_or_default();
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("open");
        file.write_all(torn).expect("append");
    }
}

/// Each effect that was asked for has its line, and at the end its outcome.
fn check_journal(world: &mut SimWorld, store: &Path, ended: bool) {
    let entries = match AuditLog::read(store) {
        Ok(entries) => entries,
        Err(error) if error.kind() == crate::ErrorKind::NotFound && world.asked == 0 => return,
        Err(error) => {
            world.judge.break_off(Invariant::Journal, format!("does not read: {error}"));
            return;
        }
    };
    let begun = entries.iter().filter(|entry| matches!(entry.event, Event::Begin { .. })).count();
    let outcomes = entries.iter().filter(|entry| matches!(entry.event, Event::End { .. })).count();
    let intended = entries.iter().map(|entry| match &entry.event {
        Event::Undoing { effects } => effects.len(),
        _ => 0,
    });
    let (intended, undone) = (
        intended.sum::<usize>(),
        entries.iter().filter(|entry| matches!(entry.event, Event::Undone { .. })).count(),
    );
    if ended && intended != undone {
        world
            .judge
            .break_off(Invariant::Journal, format!("{undone} of {intended} undos have come to an end"));
    }
    if begun != world.asked || (ended && outcomes != begun) {
        let text = format!("{} effects, {begun} beginnings, {outcomes} ends", world.asked);
        world.judge.break_off(Invariant::Journal, text);
    }
}

/// What a run left half done is taken back when it fails, or reported as kept or failed.
fn check_undone(world: &mut SimWorld, report: &Report) {
    world.forget_what_is_mended();
    let given_up = report.undone.iter().any(|undone| undone.outcome != UndoOutcome::Done);
    if !matches!(report.ending, Ending::Healthy) && !given_up && !world.left.is_empty() {
        let text = format!("{:?} are left; taken back {:?}", world.left, report.undone);
        world.judge.break_off(Invariant::Undone, text);
    }
}

/// Without faults, one thing that the default policy has a remedy for ends in a healthy node.
fn check_recovery(world: &mut SimWorld, damages: &[Damage], backups: Backups, ending: Option<&Ending>) {
    let setting = world.setting;
    let remedied = damages.len() <= 1 && damages.iter().all(|damage| damage.is_recoverable());
    // A peer's fate is its own.
    let peers_stay = world.node.members.len() == 1;
    let calm =
        !setting.faults && setting.policy == Chosen::Shipped(Profile::Default) && setting.timeout_s >= 300;
    if calm && remedied && peers_stay && backups == Backups::Good && ending != Some(&Ending::Healthy) {
        world.judge.break_off(Invariant::Recovers, format!("ended in {ending:?}"));
    }
}
