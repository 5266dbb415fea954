//! The manifest's own shape; every optional part may be null, as Go writes it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// Text by key; Go reads null as empty text.
type Texts = Option<BTreeMap<String, Option<String>>>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pod {
    pub(super) api_version: Option<String>,
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) metadata: Metadata,
    #[serde(default)]
    pub(super) spec: Spec,
}

#[derive(Deserialize, Default)]
pub(super) struct Metadata {
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) uid: Option<String>,
    pub(super) labels: Texts,
    pub(super) annotations: Texts,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    pub(super) host_network: Option<bool>,
    #[serde(default)]
    pub(super) containers: Vec<Container>,
    pub(super) volumes: Option<Vec<Volume>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Container {
    name: String,
    image: Option<String>,
    command: Option<Vec<Option<String>>>,
    args: Option<Vec<Option<String>>>,
    volume_mounts: Option<Vec<Mount>>,
    ports: Option<Vec<ContainerPort>>,
    liveness_probe: Option<serde_json::Value>,
    readiness_probe: Option<serde_json::Value>,
    startup_probe: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mount {
    name: String,
    #[serde(rename = "mountPath")]
    path: PathBuf,
    sub_path: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerPort {
    name: Option<String>,
    container_port: std::num::NonZeroU16,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Volume {
    name: String,
    host_path: Option<HostPath>,
}

#[derive(Deserialize)]
struct HostPath {
    path: PathBuf,
    r#type: Option<String>,
}

pub(super) fn texts(raw: Texts) -> BTreeMap<String, String> {
    raw.unwrap_or_default().into_iter().map(|(key, text)| (key, text.unwrap_or_default())).collect()
}

impl Volume {
    pub(super) fn host_path(self) -> Option<super::HostPath> {
        let host = self.host_path?;
        Some(super::HostPath { name: self.name, path: host.path, kind: host.r#type.unwrap_or_default() })
    }
}

impl From<Container> for super::Container {
    fn from(raw: Container) -> Self {
        let said = [raw.command, raw.args].into_iter().flatten().flatten();
        let probes = [
            ("livenessProbe", raw.liveness_probe),
            ("readinessProbe", raw.readiness_probe),
            ("startupProbe", raw.startup_probe),
        ];
        let all = raw.volume_mounts.unwrap_or_default();
        let below = |mount: &Mount| {
            let below = mount.sub_path.clone().filter(|below| !below.as_os_str().is_empty())?;
            Some((mount.path.clone(), below))
        };
        let sub_paths = all.iter().filter_map(below).collect();
        Self {
            name: raw.name,
            image: raw.image.unwrap_or_default(),
            argv: said.map(Option::unwrap_or_default).collect(),
            mounts: all.into_iter().map(|m| (m.name, m.path)).collect(),
            sub_paths,
            probes: probes.into_iter().filter_map(|(kind, probe)| Some((kind.to_owned(), probe?))).collect(),
            ports: raw
                .ports
                .unwrap_or_default()
                .into_iter()
                .filter_map(|p| Some((p.name?, crate::model::Port::new(p.container_port.get())?)))
                .collect(),
        }
    }
}
