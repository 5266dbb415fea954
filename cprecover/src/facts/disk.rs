//! Space and inodes of the file systems that matter.

use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::DiskFact;
use crate::error::{Error, Result};
use crate::node::NodeOptions;

/// Asks for the file system below `path`; a folder that is missing is asked for by its parent's.
///
/// statvfs(3) can hang on a dead NFS mount; the folders of a control plane are local ones.
pub(super) fn read(node: &NodeOptions, path: &Path) -> Result<DiskFact> {
    let place = path.ancestors().map(|part| node.resolve(part)).find(|part| part.exists());
    let place = place.unwrap_or_else(|| node.root.clone());
    let stat = statvfs(&place).map_err(|source| Error::path("statvfs", &place, source))?;
    Ok(DiskFact {
        path: path.to_owned(),
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        available_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        total_inodes: stat.f_files,
        available_inodes: stat.f_favail,
        read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}
