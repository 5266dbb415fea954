//! The live objects that C holds, by the address that it holds them by.
//!
//! A handle in C is the address of a tag of two words that nothing ever reads; the object itself lives
//! here. So a handle that was freed, made up or of another type is an error and no undefined behaviour,
//! and freeing a handle while another thread's call uses it lets that call end first.
//!
//! This table is the library's only static. It configures nothing and no call's result depends on what
//! other handles it holds.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many freed addresses are kept from being given out again, so that a handle that is freed twice
/// is not taken for a newer one.
const QUARANTINE: usize = 256;

/// What a handle points to: never read; its allocation keeps the address from being used twice, and
/// lets a leak checker see a handle that was never freed.
#[derive(Default)]
pub(crate) struct Tag {
    _words: [usize; 2],
}

type Object = Arc<dyn Any + Send + Sync>;

struct Table {
    /// Keyed by the complement of the address: a leak checker must not find the tag through this table.
    live: BTreeMap<usize, Object>,
    freed: VecDeque<Box<Tag>>,
}

static TABLE: Mutex<Table> = Mutex::new(Table { live: BTreeMap::new(), freed: VecDeque::new() });

fn table() -> MutexGuard<'static, Table> {
    // Nothing that can panic runs under the lock but an allocation.
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes an object in and returns the address by which C holds it.
pub(crate) fn insert(object: Object) -> *mut Tag {
    let tag = Box::into_raw(Box::new(Tag::default()));
    table().live.insert(!tag.addr(), object);
    tag
}

/// Returns the live object of type `T` at an address, if there is one.
pub(crate) fn find<T: Any + Send + Sync>(tag: *const Tag) -> Option<Arc<T>> {
    let object = table().live.get(&!tag.addr()).cloned()?;
    object.downcast().ok()
}

/// Takes an object of type `T` out; its address becomes dead.
pub(crate) fn remove<T: Any + Send + Sync>(tag: *mut Tag) -> Option<Arc<T>> {
    let mut table = table();
    let key = !tag.addr();
    if !table.live.get(&key)?.is::<T>() {
        return None;
    }
    let object = table.live.remove(&key)?;
    // SAFETY: the table knew the address, so `insert` made it by `Box::into_raw` and nobody has taken
    // it back since: that happens only here, under the lock, together with the removal.
    let tag = unsafe { Box::from_raw(tag) };
    table.freed.push_back(tag);
    let reusable = if table.freed.len() > QUARANTINE { table.freed.pop_front() } else { None };
    // The object's destructor may run the caller's code; never under the lock.
    drop(table);
    drop(reusable);
    object.downcast().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_foreign_and_mistyped_addresses_are_not_found() {
        let tag = insert(Arc::new(7_u32));
        assert_eq!(find::<u32>(tag).as_deref(), Some(&7));
        assert!(find::<u64>(tag).is_none());
        assert!(remove::<u64>(tag).is_none());
        assert_eq!(remove::<u32>(tag).as_deref(), Some(&7));
        assert!(find::<u32>(tag).is_none());
        assert!(remove::<u32>(tag).is_none());
        assert!(find::<u32>(std::ptr::null()).is_none());
        assert!(remove::<u32>(std::ptr::without_provenance_mut(0xdead_beef)).is_none());
    }

    #[test]
    fn an_address_is_not_given_out_again_soon() {
        let tag = insert(Arc::new(1_u8));
        remove::<u8>(tag);
        let others: Vec<_> = (0..QUARANTINE / 2).map(|_| insert(Arc::new(2_u8))).collect();
        assert!(others.iter().all(|other| *other != tag));
        for other in others {
            remove::<u8>(other);
        }
    }

    #[test]
    fn an_object_outlives_its_handle_while_it_is_used() {
        let tag = insert(Arc::new(String::from("x")));
        let used = find::<String>(tag).expect("live");
        drop(remove::<String>(tag));
        assert_eq!(*used, "x");
    }
}
