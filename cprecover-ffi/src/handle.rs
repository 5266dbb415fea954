//! Typed handles: shared and exclusive use, busy, poison.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::failure::Failure;
use crate::status::{CPR_E_ARGUMENT, CPR_E_BUSY, CPR_E_HANDLE, CPR_E_PANIC};
use crate::table::{self, Tag};

/// An opaque C type and what is behind it.
pub(crate) trait Opaque {
    /// What is behind it.
    type Inner: Send + Sync + 'static;
    /// How messages name it.
    const NAME: &'static str;
}

/// A handle as a function of the header takes it: `const` is used together with other calls, what is not
/// `const` is used alone.
pub(crate) trait Taken {
    /// What is behind it.
    type Inner: Send + Sync + 'static;

    /// Uses it.
    fn take(self) -> Result<Use<Self::Inner>, Failure>;
}

impl<R: Opaque> Taken for *const R {
    type Inner = R::Inner;

    fn take(self) -> Result<Use<R::Inner>, Failure> {
        share(self)
    }
}

impl<R: Opaque> Taken for *mut R {
    type Inner = R::Inner;

    fn take(self) -> Result<Use<R::Inner>, Failure> {
        exclude(self)
    }
}

/// The object behind a handle, with who uses it.
struct Slot<T> {
    value: T,
    /// Running calls; [`EXCLUSIVE`] while one runs that tolerates no other.
    users: AtomicUsize,
    poisoned: AtomicBool,
}

const EXCLUSIVE: usize = usize::MAX;

/// Makes a handle that C owns.
pub(crate) fn create<R: Opaque>(value: R::Inner) -> *mut R {
    let slot = Slot { value, users: AtomicUsize::new(0), poisoned: AtomicBool::new(false) };
    table::insert(Arc::new(slot)).cast()
}

/// Takes a handle back; nothing happens for NULL and for a dead handle.
pub(crate) fn destroy<R: Opaque>(handle: *mut R) {
    drop(table::remove::<Slot<R::Inner>>(handle.cast()));
}

/// Uses a handle together with other calls (a `const` handle in C).
pub(crate) fn share<R: Opaque>(handle: *const R) -> Result<Use<R::Inner>, Failure> {
    let slot = find::<R>(handle)?;
    check_poison::<R>(&slot)?;
    slot.users
        .fetch_update(Ordering::Acquire, Ordering::Relaxed, |users| {
            // One below EXCLUSIVE is never reached: each user is a running call.
            users.checked_add(1).filter(|&next| next != EXCLUSIVE)
        })
        .map_err(|_| busy::<R>("a call runs that tolerates no other"))?;
    Use::new(slot, 1).check_again().map_err(|()| panicked::<R>())
}

/// Uses a handle alone (a handle that is not `const` in C).
pub(crate) fn exclude<R: Opaque>(handle: *mut R) -> Result<Use<R::Inner>, Failure> {
    let slot = find::<R>(handle.cast_const())?;
    check_poison::<R>(&slot)?;
    slot.users
        .compare_exchange(0, EXCLUSIVE, Ordering::Acquire, Ordering::Relaxed)
        .map_err(|_| busy::<R>("another call runs"))?;
    Use::new(slot, EXCLUSIVE).check_again().map_err(|()| panicked::<R>())
}

/// Looks at a handle without using it: works while calls run and after a panic.
pub(crate) fn peek<R: Opaque, O>(handle: *const R, look: impl FnOnce(&R::Inner) -> O) -> Option<O> {
    table::find::<Slot<R::Inner>>(handle.cast()).map(|slot| look(&slot.value))
}

fn find<R: Opaque>(handle: *const R) -> Result<Arc<Slot<R::Inner>>, Failure> {
    if handle.is_null() {
        return Err(Failure::new(CPR_E_ARGUMENT, format!("{} is NULL", R::NAME)));
    }
    table::find(handle.cast::<Tag>()).ok_or_else(|| {
        Failure::new(CPR_E_HANDLE, format!("this is no live {}: freed already or of another type", R::NAME))
    })
}

fn check_poison<R: Opaque>(slot: &Slot<R::Inner>) -> Result<(), Failure> {
    if slot.poisoned.load(Ordering::Acquire) { Err(panicked::<R>()) } else { Ok(()) }
}

fn panicked<R: Opaque>() -> Failure {
    Failure::new(CPR_E_PANIC, format!("an earlier call on this {} panicked; free it", R::NAME))
}

fn busy<R: Opaque>(why: &str) -> Failure {
    Failure::new(CPR_E_BUSY, format!("this {} is in use: {why}", R::NAME))
}

/// A handle in use; a panic while it is held poisons the handle.
pub(crate) struct Use<T> {
    slot: Arc<Slot<T>>,
    taken: usize,
    was_panicking: bool,
}

impl<T> Use<T> {
    fn new(slot: Arc<Slot<T>>, taken: usize) -> Self {
        Self { slot, taken, was_panicking: std::thread::panicking() }
    }

    /// A call that panicked between the first look and the start of this use poisoned the handle.
    fn check_again(self) -> Result<Self, ()> {
        if self.slot.poisoned.load(Ordering::Acquire) { Err(()) } else { Ok(self) }
    }
}

impl<T> Deref for Use<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.slot.value
    }
}

impl<T> Drop for Use<T> {
    fn drop(&mut self) {
        if !self.was_panicking && std::thread::panicking() {
            self.slot.poisoned.store(true, Ordering::Release);
        }
        if self.taken == EXCLUSIVE {
            self.slot.users.store(0, Ordering::Release);
        } else {
            self.slot.users.fetch_sub(self.taken, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing;

    impl Opaque for Thing {
        type Inner = u32;
        const NAME: &'static str = "thing";
    }

    fn status<T>(result: Result<T, Failure>) -> i32 {
        result.err().expect("fails").status()
    }

    #[test]
    fn shared_calls_run_together_and_an_exclusive_one_alone() {
        let handle = create::<Thing>(7);
        let first = share::<Thing>(handle).expect("free");
        let second = share::<Thing>(handle).expect("shared");
        assert_eq!((*first, *second), (7, 7));
        assert_eq!(status(exclude::<Thing>(handle)), CPR_E_BUSY);
        drop((first, second));
        let only = exclude::<Thing>(handle).expect("free");
        assert_eq!(status(exclude::<Thing>(handle)), CPR_E_BUSY);
        assert_eq!(status(share::<Thing>(handle)), CPR_E_BUSY);
        assert_eq!(peek::<Thing, _>(handle, |value| *value), Some(7));
        drop(only);
        drop(share::<Thing>(handle).expect("free again"));
        destroy::<Thing>(handle);
    }

    #[test]
    fn null_freed_and_twice_freed_handles_are_told() {
        assert_eq!(status(share::<Thing>(std::ptr::null())), CPR_E_ARGUMENT);
        let handle = create::<Thing>(1);
        destroy::<Thing>(handle);
        destroy::<Thing>(handle);
        destroy::<Thing>(std::ptr::null_mut());
        assert_eq!(status(share::<Thing>(handle)), CPR_E_HANDLE);
        assert_eq!(status(exclude::<Thing>(handle)), CPR_E_HANDLE);
    }

    #[test]
    fn a_panic_poisons_and_only_free_is_left() {
        let handle = create::<Thing>(1);
        let caught = std::panic::catch_unwind(|| {
            let _held = share::<Thing>(handle).expect("free");
            std::panic::resume_unwind(Box::new("x"));
        });
        assert!(caught.is_err());
        assert_eq!(status(share::<Thing>(handle)), CPR_E_PANIC);
        assert_eq!(status(exclude::<Thing>(handle)), CPR_E_PANIC);
        destroy::<Thing>(handle);
        assert_eq!(status(share::<Thing>(handle)), CPR_E_HANDLE);
    }

    #[test]
    fn freeing_lets_a_running_call_end() {
        let handle = create::<Thing>(9);
        let used = share::<Thing>(handle).expect("free");
        destroy::<Thing>(handle);
        assert_eq!(*used, 9);
    }

    #[test]
    fn threads_never_see_two_exclusive_uses() {
        let handle = create::<Thing>(0).expose_provenance();
        let inside = AtomicUsize::new(0);
        // Miri is some thousand times slower.
        let rounds = if cfg!(miri) { 20 } else { 2000 };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..rounds {
                        if let Ok(_use) = exclude::<Thing>(std::ptr::with_exposed_provenance_mut(handle)) {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            inside.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        destroy::<Thing>(std::ptr::with_exposed_provenance_mut(handle));
    }
}
