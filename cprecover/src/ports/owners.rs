//! Looks for the processes that own sockets: likely ones first, and no further than needed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::io::Errno;

use super::cgroupfs;
use super::holder::Holder;
use super::listener::Listener;
use super::procdir::ProcDir;
use super::query::Query;
use crate::error::Result;
use crate::model::Pid;
use crate::sys::Deadline;
use crate::terminate::ProcessHandle;

/// Fewer candidates than this are read by the caller's thread alone.
const PARALLEL_FROM: usize = 32;
/// On machines with fewer tasks than this it takes less time to read all names than to open
/// `/proc/locks`, which keeps out who takes a lock and so waits for an RCU grace period, some 10 ms
/// (`locks_start` in `fs/locks.c`).
const LOCKS_FROM: usize = 2048;
/// Candidates between two looks at the deadline.
const CHECK_EVERY: usize = 16;

/// A place where descriptors are listed: a process, or a thread with a table of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Candidate {
    pid: Pid,
    thread: Option<Pid>,
}

impl Candidate {
    fn process(pid: Pid) -> Self {
        Self { pid, thread: None }
    }

    fn path(self) -> String {
        match self.thread {
            None => self.pid.to_string(),
            Some(thread) => format!("{}/task/{thread}", self.pid),
        }
    }
}

/// A socket that was seen among the descriptors of a candidate.
#[derive(Debug)]
struct Sighting {
    candidate: Candidate,
    fd: String,
    inode: u64,
}

/// What a search found.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// Owners by pid.
    pub(super) holders: Vec<Holder>,
    /// Processes whose descriptors could not be read for lack of permission.
    pub(super) unreadable: usize,
}

impl Owners {
    /// Reports whether a listener has an owner.
    pub(super) fn own(&self, listener: &Listener) -> bool {
        self.holders.iter().any(|holder| holder.listeners.contains(listener))
    }
}

/// Searches for the owners of `listeners`.
pub(super) fn search(
    proc: &ProcDir,
    query: &Query,
    listeners: &[Listener],
    deadline: &Deadline,
) -> Result<Owners> {
    let mut search = Search {
        proc,
        query,
        deadline,
        listeners,
        own_namespace: proc.is_own_namespace(),
        seen: BTreeSet::new(),
        denied: AtomicUsize::new(0),
        owners: BTreeMap::new(),
    };
    search.run()?;
    let unreadable = search.denied.load(Ordering::Relaxed);
    Ok(Owners { holders: search.owners.into_values().collect(), unreadable })
}

/// Reports whether a process, or a thread of its with a descriptor table of its own, has one of these
/// sockets open.
pub(crate) fn owns(proc: &ProcDir, pid: Pid, inodes: &[u64]) -> Result<bool> {
    let mut tasks = vec![pid.to_string()];
    tasks.extend(
        proc.other_threads(pid).unwrap_or_default().iter().map(|thread| format!("{pid}/task/{thread}")),
    );
    for task in tasks {
        let mut owned = false;
        let read = proc.sockets(&task, |_, inode| {
            owned = inodes.contains(&inode);
            !owned
        });
        match read {
            _ if owned => return Ok(true),
            Ok(()) | Err(Errno::NOENT | Errno::SRCH) => {}
            Err(errno) => return Err(proc.process_error(pid, "fd", errno)),
        }
    }
    Ok(false)
}

struct Search<'a> {
    proc: &'a ProcDir,
    query: &'a Query,
    deadline: &'a Deadline,
    listeners: &'a [Listener],
    own_namespace: bool,
    /// Processes whose descriptors were read.
    seen: BTreeSet<Pid>,
    denied: AtomicUsize,
    owners: BTreeMap<Pid, Holder>,
}

impl Search<'_> {
    fn run(&mut self) -> Result<()> {
        let hints = self.query.likely_pids.clone();
        self.look_at(&hints)?;
        self.by_cgroup()?;
        self.by_lock()?;
        if !self.missing().is_empty() {
            let pids = self.proc.pids()?;
            self.by_name(&pids)?;
            self.by_user(&pids)?;
            self.everywhere(&pids)?;
        }
        self.kin()
    }

    /// Returns the sockets that have no owner yet.
    fn missing(&self) -> BTreeSet<u64> {
        let owned =
            |inode| self.owners.values().any(|holder| holder.listeners.iter().any(|own| own.inode == inode));
        // A kernel socket without inode is nobody's.
        self.listeners.iter().map(|own| own.inode).filter(|inode| *inode != 0 && !owned(*inode)).collect()
    }

    /// Reads the processes of the cgroups in which the sockets were made, all of them: a socket that
    /// was inherited is mostly shared within one cgroup.
    fn by_cgroup(&mut self) -> Result<()> {
        let missing = self.missing();
        let ids: BTreeSet<u64> = self
            .listeners
            .iter()
            .filter(|listener| missing.contains(&listener.inode))
            .filter_map(|listener| listener.cgroup_id)
            .collect();
        let Some(mount) = cgroupfs::mount(&self.query.cgroup_dirs).filter(|_| !ids.is_empty()) else {
            return Ok(());
        };
        for folder in ids.into_iter().filter_map(|id| cgroupfs::folder_of(mount, id)) {
            // Gone or of threads only: the search goes on without it.
            let pids = cgroupfs::processes(&folder).unwrap_or_default();
            let all = self.listeners.iter().map(|listener| listener.inode).collect();
            let candidates: Vec<Candidate> = self.unseen(&pids);
            let sightings = self.sweep(&candidates, &all, false)?;
            self.confirm(sightings);
            if !self.missing().is_empty() {
                self.threads_of(&pids)?;
            }
        }
        Ok(())
    }

    /// Reads the processes with a likely command name that hold a file lock, as etcd does as long as its
    /// database is open (bbolt `bolt_unix.go`). Whoever is not among them is found by the others.
    fn by_lock(&mut self) -> Result<()> {
        if self.missing().is_empty() || self.proc.task_count().is_none_or(|count| count < LOCKS_FROM) {
            return Ok(());
        }
        let pids = self.proc.lock_holders();
        self.by_name(&pids)
    }

    /// Reads the processes with a likely command name, each as soon as its name is known.
    fn by_name(&mut self, pids: &[Pid]) -> Result<()> {
        let mut named = Vec::new();
        for (index, pid) in pids.iter().enumerate() {
            if index.is_multiple_of(CHECK_EVERY * 8) {
                self.deadline.check("look for the owner of a port")?;
            }
            if !self.seen.contains(pid) && self.proc.comm_is_one_of(*pid, &self.query.likely_names) {
                self.look_at(&[*pid])?;
                if self.missing().is_empty() {
                    return Ok(());
                }
                named.push(*pid);
            }
        }
        self.threads_of(&named)
    }

    /// Reads the processes of the users that made the sockets. Root owns nearly everything, so that
    /// its processes are no narrower a choice than all.
    fn by_user(&mut self, pids: &[Pid]) -> Result<()> {
        let missing = self.missing();
        let users: BTreeSet<u32> = self
            .listeners
            .iter()
            .filter(|listener| missing.contains(&listener.inode) && listener.uid != 0)
            .map(|listener| listener.uid)
            .collect();
        if users.is_empty() {
            return Ok(());
        }
        let theirs: Vec<Pid> = pids
            .iter()
            .copied()
            .filter(|pid| self.proc.owner(*pid).is_ok_and(|owner| users.contains(&owner)))
            .collect();
        self.look_at(&theirs)
    }

    /// Reads every process, then every thread with a descriptor table of its own.
    fn everywhere(&mut self, pids: &[Pid]) -> Result<()> {
        self.look_at(pids)?;
        if self.missing().is_empty() { Ok(()) } else { self.threads_of(pids) }
    }

    /// Reads the threads of processes: a thread may have unshared its descriptors (unshare(2)).
    ///
    /// A table with another number of descriptors than the process' is another table for certain
    /// (where the kernel tells the number), so these come first.
    fn threads_of(&mut self, pids: &[Pid]) -> Result<()> {
        let (mut other, mut maybe) = (Vec::new(), Vec::new());
        for (index, pid) in pids.iter().copied().enumerate() {
            if index.is_multiple_of(CHECK_EVERY) {
                self.deadline.check("look for the owner of a port among threads")?;
            }
            let threads = self.proc.other_threads(pid).unwrap_or_default();
            let count = if threads.is_empty() { 0 } else { self.proc.descriptor_count(&pid.to_string()) };
            for thread in threads {
                let candidate = Candidate { pid, thread: Some(thread) };
                let differs = self.proc.descriptor_count(&candidate.path()) != count;
                if differs { other.push(candidate) } else { maybe.push(candidate) }
            }
        }
        for candidates in [other, maybe] {
            let missing = self.missing();
            if !missing.is_empty() {
                let sightings = self.sweep(&candidates, &missing, true)?;
                self.confirm(sightings);
            }
        }
        Ok(())
    }

    /// Reads the parents and children of the owners: they may share an inherited socket.
    fn kin(&mut self) -> Result<()> {
        let mut kin = Vec::new();
        for pid in self.owners.keys() {
            kin.extend(self.proc.stat(*pid).ok().and_then(|stat| Pid::new(stat.ppid)));
            kin.extend(self.proc.children(*pid));
        }
        let candidates = self.unseen(&kin);
        let all = self.listeners.iter().map(|listener| listener.inode).collect();
        let sightings = self.sweep(&candidates, &all, false)?;
        self.confirm(sightings);
        Ok(())
    }

    /// Reads processes that were not read yet until no socket is missing.
    fn look_at(&mut self, pids: &[Pid]) -> Result<()> {
        let missing = self.missing();
        if missing.is_empty() {
            return Ok(());
        }
        let candidates = self.unseen(pids);
        let sightings = self.sweep(&candidates, &missing, true)?;
        self.confirm(sightings);
        Ok(())
    }

    fn unseen(&mut self, pids: &[Pid]) -> Vec<Candidate> {
        pids.iter().copied().filter(|pid| self.seen.insert(*pid)).map(Candidate::process).collect()
    }

    /// Reads the descriptors of candidates; with `first`, until each socket was seen once.
    fn sweep(&self, candidates: &[Candidate], wanted: &BTreeSet<u64>, first: bool) -> Result<Vec<Sighting>> {
        let sweep = Sweep {
            search: self,
            candidates,
            first,
            next: AtomicUsize::new(0),
            done: AtomicBool::new(false),
            state: Mutex::new((wanted.clone(), Vec::new())),
        };
        let helpers = match candidates.len() {
            0 => return Ok(Vec::new()),
            few if few < PARALLEL_FROM => 0,
            _ => self.query.threads.get() - 1,
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..helpers)
                .map_while(|_| {
                    let builder = std::thread::Builder::new().name("cprecover-sweep".into());
                    // No more threads to be had: those that run do the work.
                    builder.spawn_scoped(scope, || sweep.work()).ok()
                })
                .collect();
            let own = sweep.work();
            let others = threads.into_iter().map(|thread| thread.join().unwrap_or(Ok(())));
            others.fold(own, Result::and)
        })?;
        Ok(sweep.state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).1)
    }

    /// Makes owners of sightings that still hold: the pidfd is opened first, so that what is read
    /// afterwards, with the process still alive, is of that process.
    fn confirm(&mut self, sightings: Vec<Sighting>) {
        for Sighting { candidate, fd, inode } in sightings {
            let handle =
                if self.own_namespace { ProcessHandle::open(self.proc, candidate.pid).ok() } else { None };
            let link = self.proc.link(&format!("{}/fd/{fd}", candidate.path()));
            let process = self.proc.process_id(candidate.pid);
            let (Ok(link), Ok(process)) = (link, process) else { continue };
            let replaced = handle.as_ref().is_some_and(|handle| handle.has_ended() || handle.id() != process);
            if replaced || link != format!("socket:[{inode}]") {
                continue;
            }
            let owned = self.listeners.iter().filter(|listener| listener.inode == inode).cloned();
            let holder = self.owners.entry(candidate.pid).or_insert_with(|| Holder {
                process,
                comm: self.proc.comm(candidate.pid).unwrap_or_default(),
                listeners: Vec::new(),
                handle,
            });
            for listener in owned {
                if !holder.listeners.contains(&listener) {
                    holder.listeners.push(listener);
                }
            }
        }
    }
}

/// One pass over candidates, shared by the threads that make it.
struct Sweep<'a, 'b> {
    search: &'a Search<'b>,
    candidates: &'a [Candidate],
    first: bool,
    next: AtomicUsize,
    done: AtomicBool,
    state: Mutex<(BTreeSet<u64>, Vec<Sighting>)>,
}

impl Sweep<'_, '_> {
    fn work(&self) -> Result<()> {
        let wanted = self.lock().0.clone();
        while !self.done.load(Ordering::Relaxed) {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(candidate) = self.candidates.get(index) else { break };
            if index.is_multiple_of(CHECK_EVERY)
                && let Err(error) = self.search.deadline.check("look for the owner of a port")
            {
                self.done.store(true, Ordering::Relaxed);
                return Err(error);
            }
            self.read(*candidate, &wanted);
        }
        Ok(())
    }

    fn read(&self, candidate: Candidate, wanted: &BTreeSet<u64>) {
        let outcome = self.search.proc.sockets(&candidate.path(), |fd, inode| {
            if wanted.contains(&inode) {
                let mut state = self.lock();
                state.1.push(Sighting { candidate, fd: String::from_utf8_lossy(fd).into_owned(), inode });
                if self.first {
                    state.0.remove(&inode);
                    self.done.store(state.0.is_empty(), Ordering::Relaxed);
                }
            }
            !self.done.load(Ordering::Relaxed)
        });
        if matches!(outcome, Err(Errno::ACCESS | Errno::PERM)) {
            self.search.denied.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (BTreeSet<u64>, Vec<Sighting>)> {
        // A panic of another thread leaves the lists as they were; both stay true.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use super::*;
    use crate::model::Port;

    fn own_pid() -> Pid {
        Pid::new(i32::try_from(std::process::id()).expect("small")).expect("positive")
    }

    /// Listens in this process, whose name is likely, as is `flock`; no cgroup narrows the search.
    fn listen(proc: &ProcDir) -> (TcpListener, Query, Vec<Listener>) {
        let socket = TcpListener::bind("127.0.0.1:0").expect("binds");
        let port = Port::new(socket.local_addr().expect("bound").port()).expect("not zero");
        let mut query = Query::new(port);
        query.cgroup_dirs.clear();
        query.likely_names = vec![proc.comm(own_pid()).expect("readable"), "flock".to_owned()];
        let listeners = super::super::listeners(&query).expect("asks");
        (socket, query, listeners)
    }

    fn search_in(proc: &ProcDir, query: &Query, listeners: &[Listener]) -> (Vec<Pid>, usize) {
        let deadline = Deadline::after(Duration::from_mins(1));
        let owners = search(proc, query, listeners, &deadline).expect("searches");
        let pids = owners.holders.iter().map(|holder| holder.process.pid).collect();
        (pids, proc.listings.load(Ordering::Relaxed))
    }

    #[test]
    fn a_likely_process_that_holds_a_lock_is_found_without_a_list_of_all_processes() {
        let file = tempfile::tempfile().expect("temp file");
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).expect("locks");
        let dir = tempfile::tempdir().expect("temp dir");
        let proc = procfs(dir.path(), &[own_pid()], 5000);
        std::os::unix::fs::symlink("/proc/locks", dir.path().join("locks")).expect("links");
        let (_socket, query, listeners) = listen(&proc);
        assert_eq!(search_in(&proc, &query, &listeners), (vec![own_pid()], 0));
        // With few processes a list of them costs less.
        let dir = tempfile::tempdir().expect("temp dir");
        let proc = procfs(dir.path(), &[own_pid()], 200);
        std::os::unix::fs::symlink("/proc/locks", dir.path().join("locks")).expect("links");
        assert_eq!(search_in(&proc, &query, &listeners), (vec![own_pid()], 1));
    }

    /// Makes a procfs of a machine with `tasks` tasks that shows some real processes.
    fn procfs(folder: &Path, pids: &[Pid], tasks: usize) -> ProcDir {
        for pid in pids {
            std::os::unix::fs::symlink(format!("/proc/{pid}"), folder.join(pid.to_string())).expect("links");
        }
        std::fs::write(folder.join("loadavg"), format!("0.1 0.2 0.3 2/{tasks} 77\n")).expect("writes");
        ProcDir::open(folder).expect("opens")
    }

    /// A child named `flock` that holds a lock and listens nowhere.
    struct Flock(Child);

    impl Flock {
        fn start(file: &Path) -> Self {
            let mut command = Command::new("flock");
            command.arg("--exclusive").arg(file).args(["sh", "-c", "echo held; cat"]);
            let child =
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("flock (util-linux)");
            let mut this = Self(child);
            let mut line = [0; 5];
            let stdout = this.0.stdout.as_mut().expect("piped");
            std::io::Read::read_exact(stdout, &mut line).expect("says that it holds the lock");
            this
        }

        fn pid(&self) -> Pid {
            Pid::new(i32::try_from(self.0.id()).expect("small")).expect("positive")
        }
    }

    impl Drop for Flock {
        fn drop(&mut self) {
            // `cat` ends with its input, and the others with it.
            drop(self.0.stdin.take());
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_lock_holder_that_does_not_listen_does_not_mislead() {
        let dir = tempfile::tempdir().expect("temp dir");
        let child = Flock::start(&dir.path().join("db"));
        let real = ProcDir::open(Path::new("/proc")).expect("procfs");
        assert!(real.lock_holders().contains(&child.pid()), "the kernel tells the lock");
        // Locks of this child, of a process that is gone, and of what the kernel hides; not of ours,
        // which other tests may have taken.
        let locks = [child.pid().get(), i32::MAX, 0, -1]
            .map(|pid| format!("1: FLOCK  ADVISORY  WRITE {pid} fd:01:7 0 EOF\n"))
            .concat();
        let folder = dir.path().join("proc");
        std::fs::create_dir(&folder).expect("makes");
        std::fs::write(folder.join("locks"), locks).expect("writes");
        let proc = procfs(&folder, &[child.pid(), own_pid()], 5000);
        let (_socket, query, listeners) = listen(&proc);
        assert_eq!(search_in(&proc, &query, &listeners), (vec![own_pid()], 1));
        // Without the file, too.
        std::fs::remove_file(folder.join("locks")).expect("removes");
        assert_eq!(search_in(&proc, &query, &listeners), (vec![own_pid()], 2));
    }
}
