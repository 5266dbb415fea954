//! Whether a snapshot is of the node's cluster: nodes of two clusters may have the same name, and share a remote.

use std::path::Path;

use x509_parser::pem::Pem;

use super::fs::FileSystem;
use super::fs::place::split;
use super::restore::RestoreOptions;
use super::snapshot::{EntryKind, Snapshot};
use super::vault::Vault;
use super::{Group, NodePath};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;

/// The cluster CA's name among kubeadm's certificates.
const CA: &str = "ca.crt";
/// The largest one that is read.
const MAX_CA_BYTES: usize = 1 << 20;

impl<F: FileSystem> Vault<'_, F> {
    /// Fails when a snapshot has the CA of another cluster than the node, as far as both have one.
    ///
    /// A node whose own CA is lost or no certificate any more is one to be restored. While a CA is replaced, its
    /// file holds the old and the new one.
    pub(super) fn check_cluster(&self, snapshot: &Snapshot, options: &RestoreOptions) -> Result<()> {
        if options.other_node || options.below.is_some() {
            return Ok(());
        }
        let stored = Path::new(Group::Pki.as_str()).join(CA);
        let is_ca = |kind, path: &NodePath| kind == EntryKind::File && path.as_path() == stored;
        let found = snapshot.entries.iter().find(|entry| is_ca(entry.kind, &entry.stored));
        let Some((entry, kept)) = found.and_then(|entry| Some((entry, entry.sha256?))) else { return Ok(()) };
        let path = self.layout.pki().join(CA);
        let Some(bytes) = self.live_ca(&path) else { return Ok(()) };
        let (here, live) = (Digest::of(&bytes), certificates(&bytes));
        if here == kept || live.is_empty() {
            return Ok(());
        }
        if entry.size <= MAX_CA_BYTES as u64
            && let Ok(bytes) = self.folder_of(&snapshot.id).and_then(|top| self.stored_bytes(&top, entry))
            && certificates(&bytes).iter().any(|certificate| live.contains(certificate))
        {
            return Ok(());
        }
        let (id, in_it, path) = (&snapshot.id, &entry.path, path.display());
        Err(Error::new(
            ErrorKind::Refused,
            format!(
                "snapshot {id} is of another cluster, or from before the CA was replaced: it has {in_it} of sha256 \
                 {kept}, and {path} on this node is of sha256 {here}; `--other-node` restores it all the same"
            ),
        ))
    }

    fn live_ca(&self, path: &Path) -> Option<Vec<u8>> {
        let read = || {
            let Some(end) = self.follow(path, |_| false)? else { return Ok(None) };
            let (parent, name) = split(&end)?;
            let Some(place) = self.root.folder_if_any(parent)? else { return Ok(None) };
            place.read_if_any(name, MAX_CA_BYTES)
        };
        read().unwrap_or_else(|error: Error| {
            tracing::warn!(%error, "the node's CA cannot be read, so that no snapshot is known to be another's");
            None
        })
    }
}

/// Returns the digests of the certificates in a file.
fn certificates(pem: &[u8]) -> Vec<Digest> {
    let blocks = Pem::iter_from_buffer(pem).filter_map(std::result::Result::ok);
    blocks.filter(|block| block.label == "CERTIFICATE").map(|block| Digest::of(&block.contents)).collect()
}
