//! Snapshot files: `<term>-<index>.snap`, a `snappb.Snapshot` around a `raftpb.Snapshot`.
//!
//! Source: etcd `server/etcdserver/api/snap/snapshotter.go` and `snappb/snap.proto`.

use std::path::Path;

use super::verdict::{DataState, Finding, FindingKind, SnapFile};
use super::wire::{self, Field, Fields};
use crate::error::{ErrorKind, Result};
use crate::sys::read_bounded;

/// How large a snapshot file is read; in clusters that hold Kubernetes it is some tens of KiB, since
/// the v3 data is in the database.
const MAX_SNAP_BYTES: usize = 64 << 20;

/// The two numbers in `<term>-<index>.snap`; `None` for another name.
pub(super) fn parse_name(name: &str) -> Option<(u64, u64)> {
    let (term, index) = name.strip_suffix(".snap")?.split_once('-')?;
    let hex = |text: &str| (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten();
    Some((hex(term)?, hex(index)?))
}

/// Reads one snapshot file.
///
/// A broken one is a remark by itself: etcd renames it and takes the next older one.
pub(super) fn read(path: &Path, name: &str, findings: &mut Vec<Finding>) -> Result<Option<SnapFile>> {
    let Some((term, index)) = parse_name(name) else { return Ok(None) };
    let bytes = match read_bounded(path, MAX_SNAP_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::Limit => {
            findings.push(finding(path, FindingKind::Limit, DataState::Unfinished, error.to_string()));
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let size_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let problem = match parse(&bytes) {
        Ok(content) if content == (term, index) => None,
        Ok((t, i)) => Some(format!("snapshot holds term {t}, index {i}, not what its name says")),
        Err(problem) => Some(problem),
    };
    let sound = problem.is_none();
    if let Some(problem) = problem {
        let message = format!("{problem}; etcd renames it to .broken and takes an older one");
        findings.push(finding(path, FindingKind::SnapBroken, DataState::Intact, message));
    }
    Ok(Some(SnapFile { name: name.to_owned(), term, index, size_bytes, sound, in_wal: false }))
}

fn finding(path: &Path, kind: FindingKind, state: DataState, message: String) -> Finding {
    Finding { kind, state, file: path.to_owned(), offset: None, record: None, message }
}

/// Returns term and index of a sound snapshot.
fn parse(bytes: &[u8]) -> Result<(u64, u64), String> {
    let malformed = |_| "snapshot is malformed".to_owned();
    let (mut crc, mut data) = (0, &[][..]);
    for field in Fields::new(bytes) {
        match field.map_err(malformed)? {
            (1, Field::Varint(value)) => crc = value,
            (2, Field::Bytes(value)) => data = value,
            _ => {}
        }
    }
    if data.is_empty() || crc == 0 {
        return Err("snapshot is empty".to_owned());
    }
    let computed = crc32c::crc32c(data);
    if u64::from(computed) != crc {
        return Err(format!("snapshot CRC is {crc:08x}, but its data give {computed:08x}"));
    }
    // raftpb.Snapshot: metadata = 2, in which index = 2 and term = 3.
    for field in Fields::new(data) {
        if let (2, Field::Bytes(metadata)) = field.map_err(malformed)? {
            let [index, term] = wire::varints(metadata, [2, 3]).map_err(malformed)?;
            return Ok((term, index));
        }
    }
    Err("snapshot has no metadata".to_owned())
}

/// Writes a snapshot file for tests.
#[cfg(test)]
pub(super) fn build(term: u64, index: u64) -> Vec<u8> {
    use super::wire::build;
    let mut metadata = Vec::new();
    build::number(&mut metadata, 2, index);
    build::number(&mut metadata, 3, term);
    let mut data = Vec::new();
    build::bytes(&mut data, 1, b"{}");
    build::bytes(&mut data, 2, &metadata);
    let mut file = Vec::new();
    build::number(&mut file, 1, u64::from(crc32c::crc32c(&data)));
    build::bytes(&mut file, 2, &data);
    file
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_bytes(bytes: &[u8]) -> (Option<SnapFile>, Vec<Finding>) {
        let dir = tempfile::tempdir().expect("temp dir");
        let name = "0000000000000002-000000000000000a.snap";
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("write");
        let mut findings = Vec::new();
        let file = read(&path, name, &mut findings).expect("readable");
        (file, findings)
    }

    #[test]
    fn a_sound_snapshot_and_one_with_a_flipped_bit() {
        let bytes = build(2, 10);
        let (file, findings) = read_bytes(&bytes);
        assert!(file.is_some_and(|file| file.sound && file.index == 10 && file.term == 2));
        assert!(findings.is_empty());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            if let Some(byte) = bad.get_mut(at) {
                *byte ^= 0x10;
            }
            let (file, findings) = read_bytes(&bad);
            assert!(file.is_some_and(|file| !file.sound), "byte {at}");
            assert_eq!(findings.first().map(|finding| finding.kind), Some(FindingKind::SnapBroken));
        }
    }

    #[test]
    fn content_and_name_have_to_agree() {
        let (file, findings) = read_bytes(&build(3, 10));
        assert!(file.is_some_and(|file| !file.sound));
        assert_eq!(findings.len(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let (file, _) = read_bytes(&bytes);
            prop_assert!(file.is_some_and(|file| !file.sound));
        }
    }
}
