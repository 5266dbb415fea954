//! Reads `/proc/locks` (`proc_locks(5)`): one file that names who holds a file lock.
//!
//! A line is `1: FLOCK  ADVISORY  WRITE 1234 fd:00:567 0 EOF`: device in hex, inode in decimal. The pid is
//! the one of the procfs' pid namespace; -1 for a lock of an open file description, 0 for a holder in
//! another pid namespace (`lock_get_status` in `fs/locks.c`). It may be of a process that is gone and
//! whose lock a child inherited: a hint, never a proof.

use crate::model::Pid;

/// Returns pid, device and inode of a lock that is held for writing; `None` for any other line, as one
/// that waits (`1: -> FLOCK`).
pub(crate) fn lock_of_line(line: &str) -> Option<(Pid, u64, u64)> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (_kind, _mode, access) = (words.next()?, words.next()?, words.next()?);
    if access != "WRITE" {
        return None;
    }
    let pid = words.next()?.parse().ok().and_then(Pid::new)?;
    let mut place = words.next()?.split(':');
    let major = u32::from_str_radix(place.next()?, 16).ok()?;
    let minor = u32::from_str_radix(place.next()?, 16).ok()?;
    let inode = place.next()?.parse().ok()?;
    Some((pid, rustix::fs::makedev(major, minor), inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_locks() {
        let line = "7: FLOCK  ADVISORY  WRITE 4242 fd:01:131142 0 EOF";
        let (pid, device, inode) = lock_of_line(line).expect("parses");
        assert_eq!((pid.get(), device, inode), (4242, rustix::fs::makedev(0xfd, 1), 131_142));
        for other in
            ["7: -> FLOCK  ADVISORY  WRITE 1 fd:01:1 0 EOF", "7: OFDLCK ADVISORY  WRITE -1 fd:01:1 0 EOF", ""]
        {
            assert_eq!(lock_of_line(other), None, "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics(soup in ".{0,200}", at in 0_usize..50) {
            let _ = lock_of_line(&soup);
            let mut line = "7: FLOCK  ADVISORY  WRITE 4242 fd:00:131142 0 EOF".to_owned();
            let at = at.min(line.len());
            line.insert_str(at, &soup);
            proptest::prop_assert!(lock_of_line(&line).is_none_or(|(pid, ..)| pid.get() > 0));
        }
    }
}
