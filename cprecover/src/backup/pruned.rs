//! The note of pruned snapshots, which serves the proof of the chain and nothing else.

use super::fs::{FileSystem, Rename};
use super::vault::{PRUNED, Vault};
use crate::error::{ErrorKind, Result};

impl<F: FileSystem> Vault<'_, F> {
    /// Moves a malformed note away, so that a new one is begun; the store must be locked.
    pub(super) fn set_malformed_note_aside(&self) -> Result<()> {
        match self.pruned() {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::warn!(%error, "which snapshots were pruned is noted anew");
                self.store.rename(PRUNED, &self.store, format!("{PRUNED}.malformed"), Rename::Replace)
            }
            other => other.map(|_| ()),
        }
    }
}
