//! From a question to an answer: listeners from the kernel, owners from procfs.

use std::collections::BTreeSet;
use std::io::BufReader;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::holder::{Lookup, Unowned};
use super::listener::Listener;
use super::owners::{self, Owners};
use super::procdir::ProcDir;
use super::query::Query;
use super::{netns, nettable, sockdiag};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::Deadline;

/// Times that the search starts again because listeners came or went meanwhile.
const MAX_ROUNDS: usize = 4;

/// Finds the listeners of a port and the processes that own them.
///
/// The search ends as soon as every listener has an owner, so an owner that shares an inherited
/// socket may be missing; the owner's parent and children are always looked at. Another network
/// namespace is entered on a thread of its own that ends before this call goes on, because
/// setns(2) moves a thread for good.
///
/// # Errors
/// [`NotFound`](crate::ErrorKind::NotFound) when the network namespace does not exist,
/// [`PermissionDenied`](crate::ErrorKind::PermissionDenied) when neither netlink nor procfs may be
/// read, [`Timeout`](crate::ErrorKind::Timeout) and [`Cancelled`](crate::ErrorKind::Cancelled) by the
/// deadline. A listener whose owner cannot be read is no error: [`Lookup::OwnerUnknown`].
pub fn find(query: &Query, deadline: &Deadline) -> Result<Lookup> {
    let doing = format!("look up port {}", query.port);
    deadline.check(&doing)?;
    let Some(kernel) = Kernel::open(query).map_err(|error| error.context(&doing))? else {
        return Ok(query.address.map_or(Lookup::Free, |address| Lookup::AddressNotOnHost { address }));
    };
    let proc = ProcDir::open(&query.proc_dir)?;
    let mut listeners = kernel.listeners(query).map_err(|error| error.context(&doing))?;
    for _ in 0..MAX_ROUNDS {
        if listeners.is_empty() {
            return Ok(Lookup::Free);
        }
        let owners = owners::search(&proc, query, &listeners, deadline)?;
        let unowned: Vec<Listener> =
            listeners.iter().filter(|listener| !owners.own(listener)).cloned().collect();
        tracing::debug!(
            port = query.port.get(),
            holders = owners.holders.len(),
            unowned = unowned.len(),
            "port looked up"
        );
        if unowned.is_empty() {
            return Ok(Lookup::Found { holders: owners.holders });
        }
        // Its owner may have ended while the search went on.
        let again = kernel.listeners(query).map_err(|error| error.context(&doing))?;
        let inodes: BTreeSet<u64> = again.iter().map(|listener| listener.inode).collect();
        if unowned.iter().all(|listener| inodes.contains(&listener.inode)) {
            return Ok(owner_unknown(owners, unowned));
        }
        listeners = again;
    }
    Err(Error::new(ErrorKind::Changed, format!("{doing}: its listeners change faster than they can be read")))
}

/// Returns the listeners of a port that would keep the asked address from being bound, without their
/// owners: one question to the kernel.
///
/// # Errors
/// As [`find`].
pub fn listeners(query: &Query) -> Result<Vec<Listener>> {
    match Kernel::open(query)? {
        Some(kernel) => kernel.listeners(query),
        None => Ok(Vec::new()),
    }
}

/// Reports whether addresses can be bound in the query's namespace, as Go programs bind them
/// (`SO_REUSEADDR`), or are not on the host, so that nobody holds them: connections in `TIME_WAIT` do not
/// count.
///
/// # Errors
/// [`Io`](ErrorKind::Io) when the kernel refuses for another reason than the address being in use, and
/// those of entering the namespace.
pub fn is_bindable(query: &Query, wanted: &[Listener]) -> Result<bool> {
    netns::within(&query.namespace, &query.proc_dir, || {
        for listener in wanted {
            if !netns::is_bindable(listener.address, listener.v6_only)? {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// A way to ask the kernel for listeners of one network namespace.
struct Kernel {
    /// `None` where netlink is not to be had.
    diag: Option<OwnedFd>,
}

impl Kernel {
    /// Opens it; `None` when the asked address is on no interface of the namespace.
    fn open(query: &Query) -> Result<Option<Self>> {
        netns::within(&query.namespace, &query.proc_dir, || {
            if let Some(address) = query.address.filter(|address| !address.is_unspecified())
                && !netns::is_on_host(address)?
            {
                return Ok(None);
            }
            let diag = sockdiag::open()
                .inspect_err(|errno| tracing::info!(%errno, "no sock_diag, reading /proc/net"))
                .ok();
            Ok(Some(Self { diag }))
        })
    }

    fn listeners(&self, query: &Query) -> Result<Vec<Listener>> {
        let mut all = match self.diag.as_ref().map(|diag| sockdiag::listeners(diag, query.port)) {
            Some(Ok(all)) => all,
            Some(Err(errno)) => {
                tracing::info!(%errno, "sock_diag does not answer, reading /proc/net");
                tables(query)?
            }
            None => tables(query)?,
        };
        if let Some(address) = query.address {
            all.retain(|listener| listener.blocks(address));
        }
        Ok(all)
    }
}

/// Reads the tables in procfs of the query's namespace.
fn tables(query: &Query) -> Result<Vec<Listener>> {
    netns::within(&query.namespace, &query.proc_dir, || {
        // The calling thread's own, which may have entered another namespace than its process.
        let folder = query.proc_dir.join("thread-self/net");
        let mut found = Vec::new();
        for name in ["tcp", "tcp6"] {
            let path = folder.join(name);
            let file = match std::fs::File::open(&path) {
                Ok(file) => file,
                // A kernel without IPv6 has no such table; without IPv4 there is none.
                Err(error) if name == "tcp6" && Errno::from_io_error(&error) == Some(Errno::NOENT) => {
                    continue;
                }
                Err(source) => return Err(Error::path("open", &path, source)),
            };
            let listeners = nettable::listeners(BufReader::with_capacity(64 * 1024, file), query.port);
            found.extend(listeners.map_err(|source| Error::path("read", &path, source))?);
        }
        Ok(found)
    })
}

fn owner_unknown(owners: Owners, unowned: Vec<Listener>) -> Lookup {
    let reason = match owners.unreadable {
        0 => "no process of this pid namespace has it open: its owner lives in another pid namespace, \
              is hidden (hidepid), or is the kernel"
            .to_owned(),
        count => format!("the descriptors of {count} processes cannot be read (permission denied)"),
    };
    let unowned = unowned.into_iter().map(|listener| Unowned { listener, reason: reason.clone() }).collect();
    Lookup::OwnerUnknown { holders: owners.holders, unowned }
}
