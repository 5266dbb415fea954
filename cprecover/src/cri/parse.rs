//! Reads what `crictl … -o json` prints; bytes in, values out.
//!
//! crictl prints the CRI messages as protojson: 64-bit numbers are strings, enums are their names
//! (kubernetes-sigs/cri-tools `cmd/crictl/util.go`).

use super::model::{Container, ContainerDetail, RuntimeInfo, Sandbox};
use crate::error::Result;

/// Reads `crictl pods -o json`.
///
/// # Errors
/// [`Invalid`](crate::ErrorKind::Invalid) when it is not such a list, [`Limit`](crate::ErrorKind::Limit)
/// when it is larger than 64 MiB.
pub fn pods(bytes: &[u8]) -> Result<Vec<Sandbox>> {
    let _ = bytes;
    todo!()
}

/// Reads `crictl ps -a -o json`.
///
/// # Errors
/// As [`pods`].
pub fn containers(bytes: &[u8]) -> Result<Vec<Container>> {
    let _ = bytes;
    todo!()
}

/// Reads `crictl inspect -o json ID`.
///
/// # Errors
/// As [`pods`].
pub fn container_detail(bytes: &[u8]) -> Result<ContainerDetail> {
    let _ = bytes;
    todo!()
}

/// Reads `crictl version -o json` and `crictl info -o json`.
///
/// # Errors
/// As [`pods`].
pub fn info(version: &[u8], info: &[u8], endpoint: &str) -> Result<RuntimeInfo> {
    let _ = (version, info, endpoint);
    todo!()
}
