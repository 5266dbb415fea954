//! A reconstructed config: what is known, what is not, and what speaks against making manifests of it.

use serde::Serialize;

use super::config::Config;
use super::origin::{Conflict, OriginatedField, Unknown};
use super::version::ApiVersion;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Component;

/// A config put together from what is left, with the origin of each value and what is not known.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Reconstruction {
    /// The config.
    pub config: Config,
    /// Every value that is set, with its origin.
    pub fields: Vec<OriginatedField>,
    /// What no source tells.
    pub unknown: Vec<Unknown>,
    /// Where sources disagree.
    pub conflicts: Vec<Conflict>,
}

impl Reconstruction {
    /// Returns the config as YAML of `api_version`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when a value cannot be said in that API version.
    pub fn render(&self, api_version: ApiVersion) -> Result<Vec<u8>> {
        self.config.render(api_version)
    }

    /// Returns the unknown values that shape the manifests of `components`.
    #[must_use]
    pub fn missing(&self, components: &[Component]) -> Vec<&Unknown> {
        self.unknown.iter().filter(|unknown| unknown.affects.iter().any(|c| components.contains(c))).collect()
    }

    /// Fails when a value is unknown that shapes one of `components`; `accepted` paths are passed over.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] that lists the values and why each is needed.
    pub fn require_complete(&self, components: &[Component], accepted: &[String]) -> Result<()> {
        let missing: Vec<String> = self
            .missing(components)
            .into_iter()
            .filter(|unknown| !accepted.contains(&unknown.path))
            .map(|unknown| format!("{} ({})", unknown.path, unknown.reason))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Missing,
            format!("cannot be known here and must be given: {}", missing.join("; ")),
        ))
    }

    /// Returns why kubeadm cannot make a component's manifest from this; empty when it can.
    #[must_use]
    pub fn obstacles(&self, component: Component) -> Vec<String> {
        let missing = self.missing(&[component]).into_iter();
        let mut all: Vec<String> =
            missing.map(|unknown| format!("{}: {}", unknown.path, unknown.reason)).collect();
        if component == Component::Etcd && self.config.external_etcd().is_some() {
            all.push("etcd is external; kubeadm makes no manifest for it".to_owned());
        }
        all.extend(self.left_out_by_dry_run());
        all
    }

    /// Returns a feature of kubeadm that its dry run leaves out of the manifests.
    ///
    /// Source: kubernetes `cmd/kubeadm/app/phases/{controlplane/manifests.go,etcd/local.go}`: users and groups
    /// of `RootlessControlPlane` are made and written only when it is no dry run.
    pub(super) fn left_out_by_dry_run(&self) -> Option<String> {
        const GATE: &str = "RootlessControlPlane";
        let on = self.config.feature_gates.get(GATE) == Some(&true);
        on.then(|| {
            format!(
                "featureGates.{GATE} is on, and a dry run of kubeadm leaves the users that it gives the pods out of \
                 their manifests; run the phase of kubeadm itself, or restore the manifests from a backup"
            )
        })
    }

    /// Returns where sources disagree on a value that shapes a component's manifest.
    #[must_use]
    pub fn doubts(&self, component: Component) -> Vec<String> {
        let shaping = self.conflicts.iter().filter(|conflict| shaped_by(&conflict.path).contains(&component));
        shaping
            .map(|conflict| {
                let ((taken, by), (other, by_other)) = (&conflict.taken, &conflict.other);
                format!("{} is {taken} ({by}), and {other} by another source ({by_other})", conflict.path)
            })
            .collect()
    }
}

/// The components whose manifests a field of the config shapes.
///
/// Source: kubernetes `cmd/kubeadm/app/phases/{controlplane,etcd}`; `defaults` has the flags.
fn shaped_by(path: &str) -> &'static [Component] {
    use Component::{Etcd, KubeApiserver, KubeControllerManager, KubeScheduler};
    let section = path.split(['.', '[']).next().unwrap_or_default();
    match (path, section) {
        ("imageRepository" | "kubernetesVersion", _) => &Component::ALL,
        ("certificatesDir", _) => &[Etcd, KubeApiserver, KubeControllerManager],
        ("nodeRegistration.name", _) => &[Etcd],
        ("localAPIEndpoint.advertiseAddress" | "etcd" | "etcd.external", _) => &[Etcd, KubeApiserver],
        ("localAPIEndpoint.bindPort" | "networking.dnsDomain", _) | (_, "apiServer") => &[KubeApiserver],
        ("networking.podSubnet" | "clusterName", _) | (_, "controllerManager") => &[KubeControllerManager],
        ("networking.serviceSubnet", _) => &[KubeApiserver, KubeControllerManager],
        (_, "scheduler") => &[KubeScheduler],
        (_, "etcd") => &[Etcd],
        _ => &[],
    }
}
