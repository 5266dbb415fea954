//! What is taken back when a run fails, in which order, and after a crash.
#![allow(clippy::indexing_slicing)]

use std::cell::RefCell;
use std::path::Path;

use super::*;
use crate::error::Error;
use crate::model::{Component, PodUid};
use crate::policy::Action;
use crate::recover::act::Performed;
use crate::recover::undo::{TakenBack, Undo, UndoOutcome};
use crate::sys::SystemClock;

/// Two pod folders are moved away, then a bounce fails with its manifest held.
struct Node {
    taken_back: Vec<String>,
    /// How many undos are done before the process is killed.
    killed_after: Option<usize>,
    clock: u64,
}

impl Node {
    fn new() -> Self {
        Self { taken_back: Vec::new(), killed_after: None, clock: 0 }
    }
}

impl World for Node {
    fn observe(&mut self, _: &Deadline) -> Observation {
        let mut seen = Observation::blank();
        self.clock += 1;
        seen.at_unix_ms = self.clock;
        seen
    }

    fn perform(&mut self, action: &Action, _: &Observation, _: &Deadline) -> Result<Performed> {
        match action {
            Action::BounceStaticPod { .. } => Err(Error::new(ErrorKind::Refused, "the release failed")),
            _ => Ok(Performed::new("done")),
        }
    }

    fn undo_of(&mut self, action: &Action, seen: &Observation) -> Option<Undo> {
        crate::recover::act::undo::undo_of(action, seen, |_| None)
    }

    fn undo(&mut self, undo: &Undo, _: u64, _: &Deadline) -> Result<TakenBack> {
        if self.killed_after == Some(self.taken_back.len()) {
            std::panic::resume_unwind(Box::new("killed"));
        }
        self.taken_back.push(undo.to_string());
        match undo {
            Undo::PutPodFolderBack { uid, .. } if uid.as_str() == "a" => {
                Ok(TakenBack::Kept("a new folder is there".into()))
            }
            _ => Ok(TakenBack::Done("as it was".into())),
        }
    }
}

fn pod(uid: &str) -> Action {
    Action::QuarantinePodDir { uid: PodUid::new(uid) }
}

/// Lets everything pass.
const ALLOW: Guard = |_, decisions| {
    let allowed = |decision: &Decision| Guarded {
        decision: decision.clone(),
        ruling: crate::policy::guard::Ruling::Allowed,
    };
    decisions.iter().map(allowed).collect()
};

fn run(store: &Path, world: &mut Node, actions: &[Action]) -> Report {
    let left = RefCell::new(actions.to_vec());
    let decide = |_: &contract::Observation| {
        let mut left = left.borrow_mut();
        let action = if left.is_empty() {
            Action::Escalate { summary: "no more ideas".into(), hints: Vec::new() }
        } else {
            left.remove(0)
        };
        let decisions = vec![Decision::new("r", action, "why")];
        Outcome::of_test(decisions)
    };
    let mut log = AuditLog::open(store, 1).expect("opens");
    let options = RecoverOptions { settle: Duration::ZERO, ..RecoverOptions::default() };
    let mut engine = Engine::new(world, &decide, &SystemClock, Some(&mut log), &options).with_guard(ALLOW);
    engine.run(&Deadline::after(Duration::from_secs(20)), &mut |_| {}).expect("runs")
}

fn failing() -> [Action; 3] {
    [pod("a"), pod("b"), Action::BounceStaticPod { component: Component::Etcd }]
}

const BACKWARDS: [&str; 3] = ["release etcd.yaml", "put pod folder b back", "put pod folder a back"];

#[test]
fn a_run_that_fails_is_taken_back_in_reverse_order_and_each_says_what_came_of_it() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut world = Node::new();
    let report = run(dir.path(), &mut world, &failing());
    assert!(matches!(report.ending, Ending::Failed { .. }), "{:?}", report.ending);
    assert_eq!(world.taken_back, BACKWARDS);
    let outcomes: Vec<UndoOutcome> = report.undone.iter().map(|undone| undone.outcome).collect();
    assert_eq!(outcomes, [UndoOutcome::Done, UndoOutcome::Done, UndoOutcome::Kept]);
    let entries = AuditLog::read(dir.path()).expect("reads");
    let events: Vec<&Event> = entries.iter().map(|entry| &entry.event).collect();
    let undoing = events.iter().position(|event| matches!(event, Event::Undoing { .. })).expect("is told");
    assert!(matches!(events[undoing], Event::Undoing { effects } if *effects == [5, 3, 1]), "{events:?}");
    assert!(matches!(events[undoing + 1], Event::Undone { begun: 5, outcome: UndoOutcome::Done, .. }));
    // Another run does not take it back again.
    let mut world = Node::new();
    run(dir.path(), &mut world, &[]);
    assert_eq!(world.taken_back, [""; 0]);
}

#[test]
fn what_a_crash_interrupted_in_the_undo_is_taken_back_by_the_next_run() {
    for killed_after in 0..3 {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut world = Node { killed_after: Some(killed_after), ..Node::new() };
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run(dir.path(), &mut world, &failing())
        }));
        assert!(killed.is_err());
        world.killed_after = None;
        let report = run(dir.path(), &mut world, &[]);
        assert_eq!(world.taken_back, BACKWARDS, "killed after {killed_after}");
        assert_eq!(report.undone.len(), 3 - killed_after);
    }
}

#[test]
fn what_is_proven_stays_when_only_the_time_is_up() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut world = Node::new();
    // Cancelled right after the first effect.
    let cancel = crate::sys::CancelToken::default();
    let decide = |_: &contract::Observation| {
        let decisions = vec![Decision::new("r", pod("b"), "why")];
        Outcome::of_test(decisions)
    };
    let mut log = AuditLog::open(dir.path(), 1).expect("opens");
    let options = RecoverOptions::default();
    let mut engine =
        Engine::new(&mut world, &decide, &SystemClock, Some(&mut log), &options).with_guard(ALLOW);
    let deadline = Deadline::after(Duration::from_secs(20)).with_cancel(cancel.clone());
    let report = engine
        .run(&deadline, &mut |progress| {
            if matches!(progress, Progress::Ended(_)) {
                cancel.cancel();
            }
        })
        .expect("runs");
    assert_eq!(report.ending, Ending::Cancelled);
    assert_eq!((report.steps.len(), report.undone.len()), (1, 0));
    assert_eq!(world.taken_back, [""; 0]);
}

#[test]
fn a_plan_counts_what_was_done_before() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut world = Node::new();
    run(dir.path(), &mut world, &failing());
    let past = AuditLog::read(dir.path()).expect("reads");
    let seen = std::cell::Cell::new(0);
    let decide = |observation: &contract::Observation| {
        seen.set(observation.history.len());
        Outcome::of_test(Vec::new())
    };
    let options = RecoverOptions { dry_run: true, ..RecoverOptions::default() };
    let deadline = Deadline::after(Duration::from_secs(20));
    let mut engine = Engine::new(&mut world, &decide, &SystemClock, None, &options).with_past(&past);
    engine.run(&deadline, &mut |_| {}).expect("plans");
    assert_eq!(seen.get(), 3);
    assert_eq!(AuditLog::read_if_any(&dir.path().join("nothing")).expect("none").len(), 0);
}

#[test]
fn what_a_run_left_that_was_killed_before_its_undo_is_taken_back_when_the_next_one_fails_too() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut log = AuditLog::open(dir.path(), 1).expect("opens");
    let undo = Some(Undo::ReleaseManifest { component: Component::Etcd });
    let begin = Event::Begin {
        action: Action::BounceStaticPod { component: Component::Etcd },
        rule: "r".into(),
        reason: "why".into(),
        policy: "test".into(),
        undo,
    };
    let begun = log.append(1, begin).expect("append");
    let end = Event::End { begun, outcome: contract::Outcome::Failed, detail: "half done".into() };
    log.append(2, end).expect("append");
    drop(log);
    let mut world = Node::new();
    run(dir.path(), &mut world, &[]);
    assert_eq!(world.taken_back, ["release etcd.yaml"]);
    let mut world = Node::new();
    run(dir.path(), &mut world, &[]);
    assert_eq!(world.taken_back, [""; 0]);
}
