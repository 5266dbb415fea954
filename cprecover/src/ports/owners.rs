//! Looks for the processes that own sockets: likely ones first, and no further than needed.

use std::collections::{BTreeMap, BTreeSet};

use rustix::io::Errno;

use super::cgroupfs;
use super::holder::Holder;
use super::listener::Listener;
use super::procdir::ProcDir;
use super::query::Query;
use super::sweep::{CHECK_EVERY, Candidate, Choice, Sighting, Sweep, Swept};
use crate::error::Result;
use crate::model::Pid;
use crate::sys::Deadline;
use crate::terminate::ProcessHandle;

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
    let mut search = Search::new(proc, query, listeners, deadline);
    search.run()?;
    Ok(Owners { holders: search.owners.into_values().collect(), unreadable: search.denied })
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
    denied: usize,
    owners: BTreeMap<Pid, Holder>,
}

impl<'a> Search<'a> {
    fn new(proc: &'a ProcDir, query: &'a Query, listeners: &'a [Listener], deadline: &'a Deadline) -> Self {
        Self {
            proc,
            query,
            deadline,
            listeners,
            own_namespace: proc.is_own_namespace(),
            seen: BTreeSet::new(),
            denied: 0,
            owners: BTreeMap::new(),
        }
    }

    fn run(&mut self) -> Result<()> {
        let hints = self.query.likely_pids.clone();
        self.look_at(&hints)?;
        self.by_cgroup()?;
        if !self.missing().is_empty() {
            let pids = self.by_name()?;
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
            let candidates = self.unseen(&pids);
            let found = self.sweep(&all).exhaustive().over(candidates)?;
            self.take(found);
            if !self.missing().is_empty() {
                self.threads_of(&pids)?;
            }
        }
        Ok(())
    }

    /// Reads the processes with a likely name, each as soon as its name is known: that of the program
    /// first, which takes one system call where the command name takes three, but cannot be had without
    /// permission to trace the process (`proc_pid_exe(5)`). Returns all processes, or fewer when no
    /// socket is missing any more.
    fn by_name(&mut self) -> Result<Vec<Pid>> {
        let missing = self.missing();
        let (found, listed) = self.sweep(&missing).only(Choice::Program).over_listing(&self.seen)?;
        let mut named = found.read.clone();
        self.take(found);
        let missing = self.missing();
        if missing.is_empty() {
            return Ok(listed.unwrap_or_default());
        }
        // What was seen before all processes were listed has ended since.
        let listed = listed.map_or_else(|| self.proc.pids(), Ok)?;
        let others = listed.iter().copied().filter(|pid| !self.seen.contains(pid)).map(Candidate::process);
        let found = self.sweep(&missing).only(Choice::Command).over(others)?;
        named.extend(&found.read);
        self.take(found);
        if !self.missing().is_empty() {
            self.threads_of(&named)?;
        }
        Ok(listed)
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
                let candidate = Candidate::thread(pid, thread);
                let differs = self.proc.descriptor_count(&candidate.path()) != count;
                if differs { other.push(candidate) } else { maybe.push(candidate) }
            }
        }
        for candidates in [other, maybe] {
            let missing = self.missing();
            if !missing.is_empty() {
                let found = self.sweep(&missing).over(candidates)?;
                self.take(found);
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
        let found = self.sweep(&all).exhaustive().over(candidates)?;
        self.take(found);
        Ok(())
    }

    /// Reads processes that were not read yet until no socket is missing.
    fn look_at(&mut self, pids: &[Pid]) -> Result<()> {
        let missing = self.missing();
        if missing.is_empty() {
            return Ok(());
        }
        let candidates = self.unseen(pids);
        let found = self.sweep(&missing).over(candidates)?;
        self.take(found);
        Ok(())
    }

    fn unseen(&mut self, pids: &[Pid]) -> Vec<Candidate> {
        pids.iter().copied().filter(|pid| self.seen.insert(*pid)).map(Candidate::process).collect()
    }

    fn sweep<'b>(&self, wanted: &'b BTreeSet<u64>) -> Sweep<'b>
    where
        'a: 'b,
    {
        Sweep::new(self.proc, self.query, self.deadline, wanted)
    }

    fn take(&mut self, found: Swept) {
        self.seen.extend(&found.read);
        self.denied += found.denied;
        self.confirm(found.sightings);
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::num::NonZeroUsize;
    use std::time::Duration;

    use super::*;
    use crate::model::Port;

    /// Searches for our own listener, on a procfs that shows only some of our own process' files.
    fn search_with(files: &[&str], likely: &str, filler: usize) -> Vec<Pid> {
        let own = Pid::new(i32::try_from(std::process::id()).expect("small")).expect("positive");
        let dir = tempfile::tempdir().expect("temp dir");
        let folder = dir.path().join(own.to_string());
        std::fs::create_dir(&folder).expect("makes");
        for file in files.iter().chain(&["fd", "stat"]) {
            std::os::unix::fs::symlink(format!("/proc/{own}/{file}"), folder.join(file)).expect("links");
        }
        if files.contains(&"exe") {
            std::fs::remove_file(folder.join("exe")).expect("removes");
            std::os::unix::fs::symlink("/usr/local/bin/etcd (deleted)", folder.join("exe")).expect("links");
        }
        for number in 0..filler {
            std::fs::create_dir(dir.path().join((900_000_000 + number).to_string())).expect("makes");
        }
        let proc = ProcDir::open(dir.path()).expect("opens");
        let socket = TcpListener::bind("127.0.0.1:0").expect("binds");
        let port = Port::new(socket.local_addr().expect("bound").port()).expect("not zero");
        let mut query = Query::new(port).threads(NonZeroUsize::new(2).expect("two"));
        query.cgroup_dirs.clear();
        query.likely_names = vec!["kube-apiserver".to_owned(), likely.to_owned()];
        let listeners = super::super::listeners(&query).expect("asks");
        let deadline = Deadline::after(Duration::from_mins(1));
        let mut search = Search::new(&proc, &query, &listeners, &deadline);
        search.by_name().expect("searches");
        search.owners.into_keys().collect()
    }

    #[test]
    fn a_likely_program_or_command_is_found_by_its_name() {
        let own = std::process::id();
        let comm = std::fs::read_to_string("/proc/self/comm").expect("readable");
        for filler in [0, 600] {
            for (files, likely) in [
                (&["exe", "comm"][..], "etcd"),
                (&["exe"], "etcd"),
                (&["exe", "comm"], comm.trim_end()),
                // As for one that we may not trace.
                (&["comm"], comm.trim_end()),
            ] {
                let found = search_with(files, likely, filler);
                assert_eq!(
                    found.iter().map(|pid| pid.get()).collect::<Vec<_>>(),
                    [own.cast_signed()],
                    "{files:?}"
                );
            }
            assert!(search_with(&["exe", "comm"], "tcd", filler).is_empty());
        }
    }
}
