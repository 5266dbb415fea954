//! Whether a snapshot's index is the one that was written: nothing else says which bytes its files have.

use super::fs::FileSystem;
use super::fs::place::absent_to_none;
use super::snapshot::SnapshotId;
use super::vault::{INDEX, Indexed, MAX_INDEX_BYTES, SUMS, Vault};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;

impl<F: FileSystem> Vault<'_, F> {
    /// Fails when a snapshot's index is not the one that was written, as far as that can be told: by its line
    /// in `SHA256SUMS`, and where that is lost by the snapshot that was made next.
    pub(super) fn check_index(&self, indexed: &Indexed) -> Result<()> {
        let id = &indexed.snapshot.id;
        let sums = absent_to_none(self.folder_of(id)?.read(SUMS, MAX_INDEX_BYTES));
        let line = sums.unwrap_or_else(|error| {
            tracing::warn!(%error, "{SUMS} of snapshot {id} cannot be read");
            None
        });
        let (recorded, by) = match line.as_deref().and_then(index_line) {
            Some(recorded) => (Some(recorded), SUMS.to_owned()),
            None => match self.next_of(id)? {
                Some((next, digest)) => (digest, format!("snapshot {next}, which was made next,")),
                None => return Ok(()),
            },
        };
        if recorded.is_none_or(|recorded| recorded == indexed.sha256) {
            return Ok(());
        }
        let what = format!("its {INDEX} does not have the digest that {by} records");
        Err(Error::new(ErrorKind::Corrupt, format!("snapshot {id} is damaged: {what}")))
    }

    /// Returns the digests that are recorded for a snapshot's index, by itself and by the one that was made next.
    pub(super) fn recorded_digests(&self, id: &SnapshotId) -> Result<Vec<Digest>> {
        let sums = self.folder_of(id)?.read(SUMS, MAX_INDEX_BYTES).ok();
        let own = sums.as_deref().and_then(index_line);
        let next = self.next_of(id)?.and_then(|(_, digest)| digest);
        Ok(own.into_iter().chain(next).collect())
    }

    /// Finds the snapshot that names this one as the one before it, and the digest that it records.
    fn next_of(&self, id: &SnapshotId) -> Result<Option<(SnapshotId, Option<Digest>)>> {
        let later = self.ids()?.into_iter().filter(|later| later > id);
        let mut named = later.filter_map(|later| {
            let next = self.load(&later).ok()?.snapshot;
            (next.previous.as_ref() == Some(id)).then_some((later, next.previous_sha256))
        });
        Ok(named.next())
    }
}

/// Returns the digest that a text of `SHA256SUMS` records for the index; `None` where that line is lost.
pub(super) fn index_line(sums: &[u8]) -> Option<Digest> {
    let end = format!("  {INDEX}");
    let mut lines = sums.split(|byte| *byte == b'\n');
    let digest = lines.find_map(|line| line.strip_suffix(end.as_bytes()))?;
    std::str::from_utf8(digest).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_index_is_found_or_lost() {
        let digest = Digest::of(b"index");
        let line = format!("{digest}  {INDEX}\n");
        assert_eq!(index_line(line.as_bytes()), Some(digest));
        let other = format!("{}  manifests/{INDEX}\n{line}", Digest::of(b"other"));
        assert_eq!(index_line(other.as_bytes()), Some(digest), "another file's line is not the index's");
        for lost in [&b""[..], b"\n", b"  index.json", b"xyz  index.json\n", b"\xff  index.json\n"] {
            assert_eq!(index_line(lost), None);
        }
    }
}
