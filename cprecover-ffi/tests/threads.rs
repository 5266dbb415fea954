//! Eight threads, ten thousand calls each: shared handles, exclusive ones, cancels, errors that another
//! thread reads, and handles that one thread frees while others use them.
//!
//! `tests/nightly.sh` runs this under `ThreadSanitizer`.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

use std::ptr::{null, null_mut};
use std::sync::Barrier;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use cprecover_ffi::*;

const THREADS: usize = 8;
const CALLS: usize = 10_000;

fn node(root: &std::path::Path) -> *mut cpr_node {
    let root = root.to_str().unwrap();
    let options = cpr_node_options {
        root: root.as_ptr().cast(),
        root_len: root.len(),
        config: null(),
        config_len: 0,
        flags: 0,
    };
    let mut node = null_mut();
    // SAFETY: all arguments are live, the output is a variable; so below.
    let status =
        unsafe { cpr_node_open(&raw const options, size_of_val(&options), &raw mut node, null_mut()) };
    assert_eq!(status, CPR_OK);
    node
}

fn json(node: *const cpr_node) -> cpr_status {
    let mut buf = cpr_buf { ptr: null_mut(), len: 0, reserved: null_mut() };
    // SAFETY: as above.
    unsafe {
        let status = cpr_node_json(node, &raw mut buf, null_mut());
        cpr_buf_free(&raw mut buf);
        status
    }
}

/// A pointer that threads may hand each other: that is what the contract says of handles.
struct Handle<T>(*mut T);

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

// SAFETY: handles are looked up under a lock and may be used on any thread.
unsafe impl<T> Send for Handle<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Handle<T> {}

impl<T> Handle<T> {
    const fn get(self) -> *mut T {
        self.0
    }
}

#[test]
fn eight_threads_call_what_may_be_shared() {
    let root = tempfile::tempdir().unwrap();
    let shared = Handle(node(root.path()));
    let body = b"[+]ping ok\n[-]etcd failed\n";
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(move || {
                for call in 0..CALLS {
                    let mut health = cpr_health { verdict: 0, checks: 0, failed: 0, etcd_failed: 0 };
                    let mut cancel = null_mut();
                    // SAFETY: as above.
                    unsafe {
                        let (text, len) = (body.as_ptr().cast(), body.len());
                        let status = cpr_healthz_brief(0, text, len, &raw mut health, null_mut());
                        assert_eq!((status, health.failed), (CPR_OK, 1));
                        assert_eq!(cpr_cancel_new(&raw mut cancel, null_mut()), CPR_OK);
                    }
                    cpr_cancel_trigger(cancel);
                    cpr_cancel_free(cancel);
                    cpr_node_cancel(shared.get());
                    if call % 16 == 0 {
                        assert_eq!(json(shared.get()), CPR_OK);
                    }
                }
            });
        }
    });
    cpr_node_free(shared.get());
}

#[test]
fn an_exclusive_call_keeps_the_others_out() {
    let root = tempfile::tempdir().unwrap();
    let shared = Handle(node(root.path()));
    let (done, busy) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (done, busy) = (&done, &busy);
            scope.spawn(move || {
                for _ in 0..CALLS / 100 {
                    let mut buf = cpr_buf { ptr: null_mut(), len: 0, reserved: null_mut() };
                    // SAFETY: as above.
                    let status = unsafe {
                        let (name, len) = (c"etcd".as_ptr(), 4);
                        let status = if thread % 2 == 0 {
                            cpr_release(shared.get(), name, len, null(), 0, &raw mut buf, null_mut())
                        } else {
                            cpr_node_json(shared.get(), &raw mut buf, null_mut())
                        };
                        cpr_buf_free(&raw mut buf);
                        status
                    };
                    match status {
                        CPR_E_BUSY => busy.fetch_add(1, Ordering::Relaxed),
                        CPR_OK | CPR_E_NOT_FOUND => done.fetch_add(1, Ordering::Relaxed),
                        other => panic!("status {other}"),
                    };
                }
            });
        }
    });
    assert_eq!(done.load(Ordering::Relaxed) + busy.load(Ordering::Relaxed), THREADS * (CALLS / 100));
    assert!(done.load(Ordering::Relaxed) > 0);
    assert_eq!(json(shared.get()), CPR_OK, "nobody uses it any more");
    cpr_node_free(shared.get());
}

#[test]
fn one_thread_frees_what_others_use() {
    let root = tempfile::tempdir().unwrap();
    for _ in 0..CALLS / 100 {
        let current = AtomicPtr::new(node(root.path()));
        let start = Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (current, start) = (&current, &start);
                scope.spawn(move || {
                    start.wait();
                    let node = current.load(Ordering::Acquire);
                    if thread == 0 {
                        cpr_node_free(node);
                    }
                    let status = json(node);
                    assert!(status == CPR_OK || status == CPR_E_HANDLE, "status {status}");
                    cpr_node_free(node);
                });
            }
        });
        assert_eq!(json(current.load(Ordering::Acquire)), CPR_E_HANDLE);
    }
}

#[test]
fn an_error_is_read_where_it_was_not_made() {
    let (send, receive) = channel::<Handle<cpr_error>>();
    let reader = std::thread::spawn(move || {
        for error in receive {
            assert_eq!(cpr_error_code(error.get()), CPR_E_ARGUMENT);
            // SAFETY: the message is a C string that lives as long as the error.
            let text = unsafe { std::ffi::CStr::from_ptr(cpr_error_message(error.get())) };
            assert_eq!(text.to_str().unwrap(), "node is NULL");
            cpr_error_free(error.get());
        }
    });
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let send = send.clone();
            scope.spawn(move || {
                for _ in 0..CALLS / 10 {
                    let (mut error, mut buf) =
                        (null_mut(), cpr_buf { ptr: null_mut(), len: 0, reserved: null_mut() });
                    // SAFETY: as above.
                    let status = unsafe { cpr_node_json(null(), &raw mut buf, &raw mut error) };
                    assert_eq!(status, CPR_E_ARGUMENT);
                    send.send(Handle(error)).unwrap();
                }
            });
        }
    });
    drop(send);
    reader.join().unwrap();
}
