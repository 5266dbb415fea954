//! The etcd data folder, looked at from outside.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::DataDirFact;
use crate::error::{Error, Result};
use crate::model::{Component, Observed};
use crate::node::NodeOptions;
use crate::parse::manifest::StaticPod;
use crate::parse::yaml;
use crate::sys::read_bounded;

/// Returns where etcd's data are on the node: as its manifest says, else as the options do.
pub(super) fn place(node: &NodeOptions) -> PathBuf {
    let manifest = node.manifests().join(Component::Etcd.manifest_file());
    read_bounded(&manifest, yaml::MAX_DOCUMENT_BYTES)
        .and_then(|bytes| StaticPod::parse_as_kubelet(&bytes))
        .ok()
        .and_then(|pod| pod.etcd_data_dir())
        .unwrap_or_else(|| node.etcd_data_dir.clone())
}

/// Looks at the folder; [`crate::ErrorKind::NotFound`] when it is not there.
pub(super) fn read(node: &NodeOptions, place: &Path) -> Result<DataDirFact> {
    let folder = node.resolve(place);
    let metadata = std::fs::metadata(&folder).map_err(|source| Error::path("stat", &folder, source))?;
    let db = folder.join("member/snap/db");
    let db = std::fs::metadata(&db).map(|db| db.len()).map_err(|source| Error::path("stat", &db, source));
    Ok(DataDirFact {
        path: place.to_owned(),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        has_wal: has_wal(&folder.join("member/wal"))?,
        db: Observed::from_result(db),
    })
}

fn has_wal(folder: &Path) -> Result<bool> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(Error::path("open", folder, source)),
    };
    // etcd keeps five files of 64 MB; a bound all the same.
    for entry in entries.take(10_000) {
        let entry = entry.map_err(|source| Error::path("read", folder, source))?;
        if Path::new(&entry.file_name()).extension().is_some_and(|extension| extension == "wal") {
            return Ok(true);
        }
    }
    Ok(false)
}
