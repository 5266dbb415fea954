//! Reads the descriptors of many processes, on several threads, until the wanted sockets were seen.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

use rustix::io::Errno;

use super::procdir::ProcDir;
use super::query::Query;
use crate::error::Result;
use crate::model::Pid;
use crate::sys::Deadline;

/// Fewer candidates than this are read by the caller's thread alone.
const PARALLEL_FROM: usize = 32;
/// A name is read ten times faster than descriptors are, so that a thread pays later.
const PARALLEL_NAMES_FROM: usize = 256;
/// Candidates between two looks at the deadline.
pub(super) const CHECK_EVERY: usize = 16;

/// A place where descriptors are listed: a process, or a thread with a table of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) pid: Pid,
    thread: Option<Pid>,
}

impl Candidate {
    pub(super) fn process(pid: Pid) -> Self {
        Self { pid, thread: None }
    }

    pub(super) fn thread(pid: Pid, thread: Pid) -> Self {
        Self { pid, thread: Some(thread) }
    }

    /// Returns its folder below procfs.
    pub(super) fn path(self) -> String {
        match self.thread {
            None => self.pid.to_string(),
            Some(thread) => format!("{}/task/{thread}", self.pid),
        }
    }
}

/// Which candidates of a sweep have their descriptors read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    All,
    /// Those that run a program with a likely name.
    Program,
    /// Those with a likely command name.
    Command,
}

/// A socket that was seen among the descriptors of a candidate.
#[derive(Debug)]
pub(super) struct Sighting {
    pub(super) candidate: Candidate,
    pub(super) fd: String,
    pub(super) inode: u64,
}

/// What a sweep found.
#[derive(Debug, Default)]
pub(super) struct Swept {
    pub(super) sightings: Vec<Sighting>,
    /// Whose descriptors were read; kept where not all are.
    pub(super) read: Vec<Pid>,
    /// Candidates whose descriptors could not be read for lack of permission.
    pub(super) denied: usize,
    /// Sockets that were not seen yet, where the first sighting of each is enough.
    missing: BTreeSet<u64>,
}

/// One pass over candidates, shared by the threads that make it.
pub(super) struct Sweep<'a> {
    proc: &'a ProcDir,
    query: &'a Query,
    deadline: &'a Deadline,
    choice: Choice,
    wanted: &'a BTreeSet<u64>,
    first: bool,
    feed: Feed,
    done: AtomicBool,
    state: Mutex<Swept>,
}

impl<'a> Sweep<'a> {
    /// Makes a sweep that reads all candidates until each wanted socket was seen once.
    pub(super) fn new(
        proc: &'a ProcDir,
        query: &'a Query,
        deadline: &'a Deadline,
        wanted: &'a BTreeSet<u64>,
    ) -> Self {
        Self {
            proc,
            query,
            deadline,
            choice: Choice::All,
            wanted,
            first: true,
            feed: Feed::default(),
            done: AtomicBool::new(false),
            state: Mutex::new(Swept { missing: wanted.clone(), ..Swept::default() }),
        }
    }

    /// Reads the descriptors of fewer candidates.
    pub(super) fn only(self, choice: Choice) -> Self {
        Self { choice, ..self }
    }

    /// Goes on until all candidates were read.
    pub(super) fn exhaustive(self) -> Self {
        Self { first: false, ..self }
    }

    /// Sweeps over `candidates`.
    pub(super) fn over(self, candidates: impl IntoIterator<Item = Candidate>) -> Result<Swept> {
        let parallel_from = if self.choice == Choice::All { PARALLEL_FROM } else { PARALLEL_NAMES_FROM };
        let count = self.feed.put(candidates);
        self.feed.close();
        std::thread::scope(|scope| {
            let helpers = if count < parallel_from { Vec::new() } else { self.start_helpers(scope) };
            join(self.work(), helpers)
        })?;
        Ok(self.into_swept())
    }

    /// Sweeps over all processes but those in `except` while they are being listed, since to list thousands
    /// takes milliseconds. Returns the listed ones as well, `None` when the sweep was done before all were.
    pub(super) fn over_listing(self, except: &BTreeSet<Pid>) -> Result<(Swept, Option<Vec<Pid>>)> {
        let mut listed = Vec::new();
        let complete = std::thread::scope(|scope| {
            let mut helpers = Vec::new();
            let closing = Closing(&self.feed);
            let outcome = self.proc.pids_in_parts(|part| {
                listed.extend_from_slice(part);
                let candidates = part.iter().copied().filter(|pid| !except.contains(pid));
                self.feed.put(candidates.map(Candidate::process));
                if helpers.is_empty() && listed.len() >= PARALLEL_NAMES_FROM {
                    helpers = self.start_helpers(scope);
                }
                !self.is_done()
            });
            drop(closing);
            if outcome.is_err() {
                self.done.store(true, Ordering::Relaxed);
            }
            join(self.work(), helpers).and(outcome)
        })?;
        Ok((self.into_swept(), complete.then_some(listed)))
    }

    fn start_helpers<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> Helpers<'scope> {
        let builder = || std::thread::Builder::new().name("cprecover-sweep".into());
        // No more threads to be had: those that run do the work.
        (1..self.query.threads.get())
            .map_while(|_| builder().spawn_scoped(scope, || self.work()).ok())
            .collect()
    }

    fn work(&self) -> Result<()> {
        let mut count = 0_usize;
        while !self.is_done()
            && let Some(candidate) = self.feed.next()
        {
            if count.is_multiple_of(CHECK_EVERY)
                && let Err(error) = self.deadline.check("look for the owner of a port")
            {
                self.done.store(true, Ordering::Relaxed);
                return Err(error);
            }
            count += 1;
            if self.fits(candidate.pid) {
                self.read(candidate);
            }
        }
        Ok(())
    }

    fn fits(&self, pid: Pid) -> bool {
        let names = &self.query.likely_names;
        match self.choice {
            Choice::All => true,
            Choice::Program => self.proc.program_is_one_of(pid, names),
            Choice::Command => self.proc.comm_is_one_of(pid, names),
        }
    }

    fn read(&self, candidate: Candidate) {
        if self.choice != Choice::All {
            lock(&self.state).read.push(candidate.pid);
        }
        let outcome = self.proc.sockets(&candidate.path(), |fd, inode| {
            if self.wanted.contains(&inode) {
                let mut state = lock(&self.state);
                state.sightings.push(Sighting {
                    candidate,
                    fd: String::from_utf8_lossy(fd).into_owned(),
                    inode,
                });
                if self.first {
                    state.missing.remove(&inode);
                    self.done.store(state.missing.is_empty(), Ordering::Relaxed);
                }
            }
            !self.is_done()
        });
        if matches!(outcome, Err(Errno::ACCESS | Errno::PERM)) {
            lock(&self.state).denied += 1;
        }
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    fn into_swept(self) -> Swept {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

type Helpers<'scope> = Vec<ScopedJoinHandle<'scope, Result<()>>>;

fn join(own: Result<()>, helpers: Helpers<'_>) -> Result<()> {
    let others = helpers.into_iter().map(|helper| helper.join().unwrap_or(Ok(())));
    others.fold(own, Result::and)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic of another thread leaves the lists as they were; they stay true.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Candidates on their way from who lists them to those who read them.
#[derive(Debug, Default)]
struct Feed {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Candidate>,
    /// No more will come.
    closed: bool,
    from_end: bool,
}

impl Feed {
    /// Adds candidates and returns how many.
    fn put(&self, candidates: impl IntoIterator<Item = Candidate>) -> usize {
        let mut queue = lock(&self.queue);
        let before = queue.waiting.len();
        queue.waiting.extend(candidates);
        self.changed.notify_all();
        queue.waiting.len() - before
    }

    fn close(&self) {
        lock(&self.queue).closed = true;
        self.changed.notify_all();
    }

    /// Takes the oldest and, once all are listed, also the youngest in turn: a control plane starts with
    /// its node, and what was restarted since is young. Waits for more; `None` when all were taken.
    fn next(&self) -> Option<Candidate> {
        let mut queue = lock(&self.queue);
        while queue.waiting.is_empty() && !queue.closed {
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.from_end = queue.closed && !queue.from_end;
        if queue.from_end { queue.waiting.pop_back() } else { queue.waiting.pop_front() }
    }
}

/// Closes a feed when it is dropped, so that nobody waits for a lister that failed.
struct Closing<'a>(&'a Feed);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(pids: std::ops::RangeInclusive<i32>) -> impl Iterator<Item = Candidate> {
        pids.filter_map(Pid::new).map(Candidate::process)
    }

    #[test]
    fn the_oldest_come_first_and_once_all_are_listed_the_youngest_too() {
        let feed = Feed::default();
        assert_eq!(feed.put(candidates(1..=3)), 3);
        let take = || feed.next().map(|candidate| candidate.pid.get());
        assert_eq!([take(), take()], [Some(1), Some(2)]);
        feed.put(candidates(4..=7));
        drop(Closing(&feed));
        assert_eq!([take(), take(), take(), take()], [Some(7), Some(3), Some(6), Some(4)]);
        assert_eq!([take(), take(), take()], [Some(5), None, None]);
    }

    #[test]
    fn a_reader_waits_for_the_list() {
        let feed = Feed::default();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| std::iter::from_fn(|| feed.next()).count());
            for pid in 1..=100 {
                feed.put(candidates(pid..=pid));
            }
            feed.close();
            assert_eq!(reader.join().expect("no panic"), 100);
        });
    }
}
