//! The readers of etcd's files and answers, given any bytes.

use std::path::Path;
use std::time::Duration;

use super::bolt::{self, Depth};
use super::verdict::WalFile;
use super::{snap, wal};
use crate::sys::Deadline;

/// Names that etcd gives its first files.
const WAL: &str = "0000000000000000-0000000000000000.wal";
const SNAP: &str = "0000000000000002-000000000000000a.snap";

/// Reads bytes as a database, a write-ahead log and a snapshot.
pub(crate) fn read_files(bytes: &[u8]) {
    // The readers go to and fro in files; a failed write leaves nothing to read.
    let Ok(dir) = tempfile::tempdir() else { return };
    for name in ["db", WAL, SNAP] {
        if std::fs::write(dir.path().join(name), bytes).is_err() {
            return;
        }
    }
    let _ = read_all(dir.path(), bytes.len() as u64);
}

fn read_all(dir: &Path, size: u64) -> crate::Result<()> {
    let deadline = Deadline::after(Duration::from_secs(20));
    let _ = bolt::scan(&dir.join("db"), Depth::Everything, 1 << 30, &deadline)?;
    let file = WalFile {
        name: WAL.into(),
        sequence: 0,
        first_index: 0,
        size_bytes: size,
        used_bytes: 0,
        records: 0,
    };
    let scan = wal::scan(dir, &[file], 1 << 30, &deadline)?;
    assert!(scan.report.records <= size / 8, "a record without bytes");
    let _ = snap::read(&dir.join(SNAP), SNAP, &mut Vec::new())?;
    Ok(())
}

/// Reads bytes as each answer of the gateway.
#[cfg(feature = "probe")]
pub(crate) fn read_gateway(bytes: &[u8]) {
    use super::gateway::{Alarm, Health, MemberList, SnapshotPart, Status, Version};
    let _ = (MemberList::parse(bytes), Status::parse(bytes), Alarm::parse_list(bytes));
    let _ = (Health::parse(bytes), Version::parse(bytes), SnapshotPart::parse(bytes));
}
