//! Reads the sources that lie on the node's disk.

use std::path::Path;

use super::facts::PodFacts;
use super::sources::{CertificateSource, EtcdDataState, ManifestOrigin, ManifestSource, Sources};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Component, Observed};
use crate::node::NodeOptions;
use crate::parse::manifest::StaticPod;
use crate::parse::yaml::MAX_DOCUMENT_BYTES;
use crate::sys::read_bounded;

/// Certificates that tell something about the node (kubernetes.io/docs/setup/best-practices/certificates).
const CERTIFICATES: [&str; 3] = ["apiserver.crt", "etcd/server.crt", "etcd/peer.crt"];

/// kubeconfigs, the most telling first: `admin.conf` names the control plane's endpoint, the others
/// may name this node's own API server.
const KUBECONFIGS: [&str; 5] =
    ["admin.conf", "super-admin.conf", "kubelet.conf", "controller-manager.conf", "scheduler.conf"];

/// The most log files of etcd that are counted; it keeps five (`--max-wals`).
const MAX_WAL_FILES: usize = 10_000;

impl Sources {
    /// Reads what lies on the node's disk: live manifests, certificates, kubeconfigs, kubelet's files
    /// and the etcd data folder.
    ///
    /// A backed-up config, last-known-good manifests and the runtime's containers are added by the
    /// caller; a file that is missing or cannot be read tells nothing.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] and other kinds of a failed read of the manifests folder.
    pub fn gather(node: &NodeOptions) -> Result<Self> {
        let file = |path: &Path| read_bounded(path, MAX_DOCUMENT_BYTES).ok();
        let mut sources = Self::default();
        for component in Component::ALL {
            let path = node.manifests().join(component.manifest_file());
            match read_bounded(&path, MAX_DOCUMENT_BYTES) {
                Ok(bytes) => {
                    let name = path.display().to_string();
                    sources.manifests.push(ManifestSource::new(component, ManifestOrigin::Live, name, bytes));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        for name in CERTIFICATES {
            let pem = Observed::from_result(read_bounded(
                &node.resolve(node.pki_dir.join(name)),
                MAX_DOCUMENT_BYTES,
            ));
            sources.certificates.push(CertificateSource::new(name, pem));
        }
        let client = "pki/kubelet-client-current.pem";
        let pem = Observed::from_result(read_bounded(
            &node.resolve(node.kubelet_dir.join(client)),
            MAX_DOCUMENT_BYTES,
        ));
        sources.certificates.push(CertificateSource::new(client, pem));
        for name in KUBECONFIGS {
            if let Some(bytes) = file(&node.resolve(node.kubernetes_dir.join(name))) {
                sources.kubeconfigs.push((name.to_owned(), bytes));
            }
        }
        sources.kubeadm_flags = file(&node.resolve(node.kubelet_dir.join("kubeadm-flags.env")));
        sources.instance_config = file(&node.resolve(node.kubelet_dir.join("instance-config.yaml")));
        sources.kubelet_config = file(&node.resolve(node.kubelet_dir.join("config.yaml")));
        let data_dir = sources
            .manifests
            .iter()
            .find(|manifest| manifest.component == Component::Etcd)
            .and_then(|manifest| StaticPod::parse_as_kubelet(&manifest.bytes).ok()?.etcd_data_dir())
            .unwrap_or_else(|| node.etcd_data_dir.clone());
        sources.etcd_data = Some(EtcdDataState::look(node, &data_dir));
        Ok(sources)
    }

    /// Returns the components of which no manifest tells anything: none is there, or none can be read.
    #[must_use]
    pub fn silent(&self) -> Vec<Component> {
        let told = |component: &Component| {
            let mut manifests = self.manifests.iter().filter(|manifest| manifest.component == *component);
            manifests.any(|manifest| PodFacts::of_manifest(manifest).is_ok())
        };
        Component::ALL.into_iter().filter(|component| !told(component)).collect()
    }
}

impl EtcdDataState {
    /// Looks at the sizes of database and log below `data_dir`, a path on the node; reads neither.
    #[must_use]
    pub fn look(node: &NodeOptions, data_dir: &Path) -> Self {
        let member = node.resolve(data_dir).join("member");
        let database = size(&member.join("snap/db"));
        let wal = Observed::from_result(wal_bytes(&member.join("wal")));
        Self::new(data_dir, database, wal)
    }
}

fn size(path: &Path) -> Observed<u64> {
    let meta = std::fs::symlink_metadata(path).map_err(|source| Error::path("stat", path, source));
    Observed::from_result(meta.map(|meta| if meta.is_file() { meta.len() } else { 0 }))
}

/// Sums the log files; an empty folder counts 0.
fn wal_bytes(dir: &Path) -> Result<u64> {
    let entries = std::fs::read_dir(dir).map_err(|source| Error::path("list", dir, source))?;
    let mut bytes = 0_u64;
    for entry in entries.take(MAX_WAL_FILES) {
        let entry = entry.map_err(|source| Error::path("list", dir, source))?;
        if entry.path().extension().is_some_and(|extension| extension == "wal") {
            let meta = entry.metadata().map_err(|source| Error::path("stat", entry.path(), source))?;
            bytes = bytes.saturating_add(meta.len());
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_silent_when_no_manifest_of_it_can_be_read() {
        let etcd = include_bytes!("../../testdata/kubeadm-1.36/manifests/etcd.yaml");
        let source = |component, origin, bytes: &[u8]| ManifestSource::new(component, origin, "x", bytes);
        let mut sources = Sources::default();
        assert_eq!(sources.silent(), Component::ALL);
        sources.manifests = vec![
            source(Component::Etcd, ManifestOrigin::Live, b"{"),
            source(Component::Etcd, ManifestOrigin::LastKnownGood, etcd),
            source(Component::KubeScheduler, ManifestOrigin::Live, b"{"),
            source(Component::KubeApiserver, ManifestOrigin::LastKnownGood, etcd),
        ];
        let others: Vec<Component> =
            Component::ALL.into_iter().filter(|component| *component != Component::Etcd).collect();
        assert_eq!(sources.silent(), others);
    }
}
