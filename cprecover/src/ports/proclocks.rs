//! Reads `/proc/locks` (`proc_locks(5)`): one file that names who holds a file lock.
//!
//! A line is `1: FLOCK  ADVISORY  WRITE 1234 fd:00:567 0 EOF`: device in hex, inode in decimal. The pid is
//! the one of the procfs' pid namespace; -1 for a lock of an open file description, 0 for a holder in
//! another pid namespace (`lock_get_status` in `fs/locks.c`). It may be of a process that is gone and
//! whose lock a child inherited: a hint, never a proof.

use crate::model::Pid;

/// Holders that are told at most.
const MAX_HOLDERS: usize = 256;

/// Returns the processes that hold a lock for writing, each once, in the order of the file.
pub(crate) fn holders(text: &[u8]) -> Vec<Pid> {
    let mut pids = std::collections::BTreeSet::new();
    let lines = text.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    lines
        .filter_map(lock_of_line)
        .map(|(pid, ..)| pid)
        .filter(|pid| pids.insert(*pid))
        .take(MAX_HOLDERS)
        .collect()
}

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

    const LOCKS: &str = "1: FLOCK  ADVISORY  WRITE 4242 fd:01:131142 0 EOF
2: FLOCK  ADVISORY  READ 7 fd:01:131143 0 EOF
3: POSIX  ADVISORY  WRITE 4243 fd:01:131144 0 0
3: -> POSIX  ADVISORY  WRITE 9 fd:01:131144 0 0
4: OFDLCK ADVISORY  WRITE -1 fd:01:1 0 EOF
5: FLOCK  ADVISORY  WRITE 0 fd:01:131145 0 EOF
6: FLOCK  ADVISORY  WRITE 4242 fd:01:131146 0 EOF
";

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

    #[test]
    fn who_writes_under_a_lock_is_told_once_and_nobody_else() {
        let pids: Vec<i32> = holders(LOCKS.as_bytes()).iter().map(|pid| pid.get()).collect();
        assert_eq!(pids, [4242, 4243]);
    }

    #[test]
    fn a_long_list_of_holders_is_cut() {
        let lines = (1..5000).map(|pid| format!("{pid}: FLOCK  ADVISORY  WRITE {pid} fd:01:{pid} 0 EOF\n"));
        assert_eq!(holders(lines.collect::<Vec<_>>().concat().as_bytes()).len(), MAX_HOLDERS);
    }

    proptest::proptest! {
        #[test]
        fn no_byte_soup_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2000), cut in 0_usize..400) {
            let _ = holders(&bytes);
            let mut damaged = LOCKS.as_bytes().to_vec();
            let at = cut % damaged.len();
            damaged.splice(at..at, bytes.into_iter().take(8));
            proptest::prop_assert!(holders(&damaged).len() <= 5);
        }
    }
}
