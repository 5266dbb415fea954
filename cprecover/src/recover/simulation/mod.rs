//! The engine on a simulated node with seeded random faults.
//!
//! Real are the engine, its journal, diagnosis, guard rails, the rules of the shipped policies, and the
//! store with its transactions, over a file system in memory that forgets what a crash may forget.
//! Simulated are the node, what is seen of it, and time. A run picks a node, what is wrong with it, a
//! policy (a shipped one, or one that decides at random), and for each effect what becomes of it: it fails,
//! hangs until its deadline, lies, is left half done, or the engine is killed or loses its power before, in or after it, and a
//! new one goes on from the journal.
//!
//! `CPRECOVER_SIMULATION_RUNS=N` sets the number of runs, `CPRECOVER_SIMULATION_SEED=S` runs one and prints it.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

mod damage;
mod hostile;
mod judge;
mod node;
mod random;
mod run;
mod see;
mod world;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use cprecover_policies::Profile;

use self::damage::Damage;
use self::judge::Invariant;
use self::random::Random;
use self::run::{Told, run, run_one};

/// How many runs the short form has.
const SHORT: u64 = 3_000;
/// How many runs a broken invariant may hide from, at most.
const SABOTAGED: u64 = 3_000;

/// Which policy decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chosen {
    Shipped(Profile),
    Hostile,
}

/// A part that is broken on purpose, to show that the judge sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sabotage {
    /// The guard lets everything pass, and effects do not check their preconditions.
    GuardSleeps,
    /// A restore writes over what stands there.
    OverwritesWithoutBackup,
    /// An effect that hangs does not end at its deadline.
    HangsForEver,
    /// A stop takes more of the journal than its last line.
    SpoilsJournal,
    /// A healthy node is called unhealthy, and the guard believes it.
    MisreadsHealth,
    /// Every effect says done and does nothing.
    NothingHelps,
    /// Every undo says done and does nothing.
    UndoesNothing,
}

/// How one run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setting {
    policy: Chosen,
    faults: bool,
    fault_percent: u64,
    /// Parts of a look may be unreadable.
    blind: bool,
    timeout_s: u64,
    poll_s: u64,
    sabotage: Option<Sabotage>,
}

impl Setting {
    fn random(random: &mut Random, sabotage: Option<Sabotage>) -> Self {
        let policy = match random.below(20) {
            0 => Chosen::Shipped(Profile::Conservative),
            1 => Chosen::Shipped(Profile::ObserveOnly),
            2..=5 => Chosen::Shipped(Profile::AggressiveSingleNode),
            6..=10 => Chosen::Hostile,
            _ => Chosen::Shipped(Profile::Default),
        };
        Self {
            policy: match sabotage {
                Some(Sabotage::GuardSleeps | Sabotage::MisreadsHealth) => Chosen::Hostile,
                _ => policy,
            },
            faults: random.percent(80),
            fault_percent: random.pick(&[10, 30, 60]),
            blind: random.percent(50),
            timeout_s: random.pick(&[60, 300, 300, 600]),
            poll_s: random.pick(&[2, 15, 15, 15, 15]),
            sabotage,
        }
    }
}

/// A folder for journals in memory where there is one, so that their syncs cost nothing.
fn journals() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).expect("temp dir")
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Runs seeds from 0 up, on as many threads as the machine has, and hands each result to `each`.
fn run_all(count: u64, sabotage: Option<Sabotage>, each: &(impl Fn(&Told) + Sync)) {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let store = journals();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        break;
                    }
                    each(&run(seed, sabotage, store.path()));
                }
            });
        }
    });
}

#[derive(Default)]
struct Sums {
    endings: BTreeMap<&'static str, u64>,
    effects: usize,
    stops: u32,
    undos: usize,
    rounds: usize,
    broken: Vec<String>,
}

#[test]
fn no_invariant_is_broken_whatever_fails() {
    if let Some(seed) = number("CPRECOVER_SIMULATION_SEED") {
        let told = run(seed, None, journals().path());
        println!("{}", told.text());
        assert!(told.violations.is_empty());
        return;
    }
    let count = number("CPRECOVER_SIMULATION_RUNS").unwrap_or(SHORT);
    let sums = Mutex::new(Sums::default());
    run_all(count, None, &|told| {
        let mut sums = sums.lock().unwrap();
        *sums.endings.entry(told.ending).or_default() += 1;
        sums.effects += told.effects;
        sums.stops += told.stops;
        sums.undos += told.undos;
        sums.rounds += told.rounds;
        if !told.violations.is_empty() && sums.broken.len() < 50 {
            let text = told.text();
            sums.broken.push(text);
        }
    });
    let sums = sums.into_inner().unwrap();
    println!(
        "simulation: {count} runs, {} rounds, {} effects, {} undos, {} kills and power losses; endings {:?}; {} broken",
        sums.rounds,
        sums.effects,
        sums.undos,
        sums.stops,
        sums.endings,
        sums.broken.len()
    );
    assert!(sums.broken.is_empty(), "CPRECOVER_SIMULATION_SEED runs one again\n{}", sums.broken.join("\n\n"));
    // A simulation in which nothing happens would prove nothing.
    if count >= 1_000 {
        for ending in ["healthy", "escalated", "timed-out"] {
            let share = sums.endings.get(ending).copied().unwrap_or_default();
            assert!(share * 50 >= count, "only {share} of {count} runs end {ending}");
        }
        assert!(u64::from(sums.stops) * 10 > count && sums.effects as u64 > count);
        assert!(sums.undos as u64 * 50 > count, "only {} undos", sums.undos);
    }
}

#[test]
fn each_invariant_is_seen_when_it_is_broken() {
    let table = [
        (Sabotage::GuardSleeps, Invariant::Quorum),
        (Sabotage::GuardSleeps, Invariant::Backed),
        (Sabotage::GuardSleeps, Invariant::OneMember),
        (Sabotage::GuardSleeps, Invariant::OnlyLeftOvers),
        (Sabotage::OverwritesWithoutBackup, Invariant::NothingLost),
        (Sabotage::HangsForEver, Invariant::Ends),
        (Sabotage::SpoilsJournal, Invariant::Journal),
        (Sabotage::MisreadsHealth, Invariant::HealthyUntouched),
        (Sabotage::NothingHelps, Invariant::Recovers),
        (Sabotage::UndoesNothing, Invariant::Undone),
    ];
    let store = journals();
    for (sabotage, invariant) in table {
        let seen = (0..SABOTAGED).find(|seed| {
            let told = run(*seed, Some(sabotage), store.path());
            told.violations.iter().any(|broken| broken.invariant == invariant)
        });
        let seed = seen.unwrap_or_else(|| panic!("{sabotage:?} does not break {invariant:?}"));
        println!("{sabotage:?} breaks {invariant:?} at seed {seed}");
    }
}

#[test]
fn what_the_default_policy_has_a_remedy_for_is_remedied() {
    let store = journals();
    let mut tried = 0;
    for damage in Damage::RECOVERABLE.into_iter().flatten() {
        let told = run_one(damage, store.path());
        assert!(told.violations.is_empty() && told.ending == "healthy", "{}", told.text());
        tried += 1;
    }
    println!("{tried} faults that the default policy has a remedy for: all remedied");
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    let store = journals();
    for seed in 0..20 {
        let [first, second] = [0, 1].map(|_| run(seed, None, store.path()).text());
        assert_eq!(first, second);
    }
}
