//! What one component's manifest or container says, in one form for both.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::config::{EnvVar, HostPathMount};
use super::origin::Origin;
use super::sources::{ManifestOrigin, ManifestSource, RuntimeContainer, Sources};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Component;
use crate::parse::manifest::StaticPod;
use crate::parse::yaml;

/// The configuration of one component as it ran.
#[derive(Debug, Clone)]
pub(super) struct PodFacts {
    pub(super) component: Component,
    /// Where it was found, for people.
    pub(super) name: String,
    from_runtime: bool,
    /// Whether it is a manifest of the live folder.
    pub(super) live: bool,
    /// Flags in their order.
    pub(super) flags: Vec<(String, String)>,
    pub(super) image: String,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) envs: Vec<EnvVar>,
    pub(super) volumes: Vec<HostPathMount>,
    /// Whether `volumes` carry the volumes' names; the runtime does not know them.
    pub(super) volumes_named: bool,
}

impl PodFacts {
    /// Reads every manifest and container of `sources`, manifests first; second, the manifests that
    /// cannot be read.
    pub(super) fn all(sources: &Sources) -> (Vec<Self>, Vec<(&ManifestSource, Error)>) {
        let mut all = Vec::new();
        let mut unreadable = Vec::new();
        for manifest in &sources.manifests {
            match Self::of_manifest(manifest) {
                Ok(facts) => all.push(facts),
                Err(error) => unreadable.push((manifest, error)),
            }
        }
        // A container without a command tells its image only, which is still a pin.
        all.extend(sources.containers.iter().map(Self::of_container));
        (all, unreadable)
    }

    /// Reads one manifest as kubelet does: what ran is what kubelet made of it.
    pub(super) fn of_manifest(manifest: &ManifestSource) -> Result<Self> {
        let pod = StaticPod::parse_as_kubelet(&manifest.bytes)?;
        if pod.component() != Some(manifest.component) {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("pod {:?} is not the component {}", pod.name, manifest.component),
            ));
        }
        let raw: Value = yaml::from_slice_as_kubelet(&manifest.bytes)?;
        let container = raw.pointer("/spec/containers/0").cloned().unwrap_or_default();
        let Some(main) = pod.main() else {
            return Err(Error::new(ErrorKind::Invalid, format!("pod {:?} has no container", pod.name)));
        };
        let facts = Self {
            component: manifest.component,
            name: manifest.name.clone(),
            from_runtime: false,
            live: manifest.origin == ManifestOrigin::Live,
            flags: main.flags().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            image: main.image.clone(),
            annotations: pod.annotations.clone(),
            envs: envs(&container),
            volumes: volumes(&pod, &container),
            volumes_named: true,
        };
        Ok(facts.with_data_dir_of_node())
    }

    /// Says etcd's data folder as the path on the node: kubeadm knows one path only, and mounts it there
    /// (kubernetes `cmd/kubeadm/app/phases/etcd/local.go`, `GetEtcdPodSpec`).
    fn with_data_dir_of_node(mut self) -> Self {
        if self.component != Component::Etcd {
            return self;
        }
        let Some(in_pod) = self.flag("data-dir").map(PathBuf::from) else { return self };
        let behind = self
            .volumes
            .iter_mut()
            .filter(|volume| in_pod.starts_with(&volume.mount_path))
            .max_by_key(|volume| volume.mount_path.components().count());
        let Some(volume) = behind else { return self };
        let on_node = match in_pod.strip_prefix(&volume.mount_path) {
            Ok(below) if below.as_os_str().is_empty() => {
                volume.mount_path.clone_from(&volume.host_path);
                volume.host_path.clone()
            }
            Ok(below) => volume.host_path.join(below),
            Err(_) => return self,
        };
        for (_, value) in self.flags.iter_mut().filter(|(name, _)| name == "data-dir") {
            *value = on_node.display().to_string();
        }
        self
    }

    fn of_container(container: &RuntimeContainer) -> Self {
        let flags = container.argv.iter().filter_map(|arg| {
            let body = arg.strip_prefix("--")?;
            Some(body.split_once('=').map_or((body.to_owned(), "true".to_owned()), |(name, value)| {
                (name.to_owned(), value.to_owned())
            }))
        });
        let facts = Self {
            component: container.component,
            name: format!("container of {}", container.component),
            from_runtime: true,
            live: false,
            flags: flags.collect(),
            image: container.image.clone(),
            annotations: container.sandbox_annotations.clone(),
            envs: container
                .envs
                .iter()
                .map(|(name, value)| EnvVar { name: name.clone(), value: value.clone(), other: Map::new() })
                .collect(),
            volumes: container
                .mounts
                .iter()
                .map(|mount| HostPathMount {
                    name: String::new(),
                    host_path: mount.host_path.clone(),
                    mount_path: mount.container_path.clone(),
                    read_only: mount.read_only,
                    path_type: String::new(),
                })
                .collect(),
            volumes_named: false,
        };
        facts.with_data_dir_of_node()
    }

    /// Returns the origin of something that these facts tell.
    pub(super) fn origin(&self, what: &str) -> Origin {
        let text = format!("{} {what}", self.name);
        if self.from_runtime { Origin::Runtime(text) } else { Origin::Manifest(text) }
    }

    /// Reports whether `origin` is something that these facts tell.
    pub(super) fn is_of(&self, origin: &Origin) -> bool {
        let (Origin::Manifest(text) | Origin::Runtime(text)) = origin else { return false };
        text.strip_prefix(&self.name).is_some_and(|rest| rest.starts_with(' '))
    }

    /// Returns a flag's value; the last one wins.
    pub(super) fn flag(&self, name: &str) -> Option<&str> {
        self.flags.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Reports whether the command is known, and with it what is *not* set.
    pub(super) fn has_command(&self) -> bool {
        !self.flags.is_empty()
    }

    /// Splits the image into repository and tag: `registry.k8s.io`, `v1.36.2`.
    pub(super) fn image_parts(&self) -> Option<(&str, &str)> {
        let without_digest = self.image.split('@').next()?;
        let (path, tag) = without_digest.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))?;
        let (repository, name) = path.rsplit_once('/')?;
        (name == self.component.as_str() && !tag.is_empty()).then_some((repository, tag))
    }
}

fn envs(container: &Value) -> Vec<EnvVar> {
    let list = container.get("env").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|env| serde_json::from_value(env.clone()).ok()).collect()
}

/// Joins the hostPath volumes with their first mount.
fn volumes(pod: &StaticPod, container: &Value) -> Vec<HostPathMount> {
    let mounts =
        container.get("volumeMounts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    pod.host_paths
        .iter()
        .filter_map(|volume| {
            let mount =
                mounts.iter().find(|m| m.get("name").and_then(Value::as_str) == Some(&volume.name))?;
            // kubeadm knows no subPath; the folder below is one as well, and its type is not that of the whole.
            let below = mount.get("subPath").and_then(Value::as_str).filter(|below| !below.is_empty());
            Some(HostPathMount {
                name: volume.name.clone(),
                host_path: below.map_or_else(|| volume.path.clone(), |below| volume.path.join(below)),
                mount_path: PathBuf::from(mount.get("mountPath")?.as_str()?),
                read_only: mount.get("readOnly").and_then(Value::as_bool).unwrap_or(false),
                path_type: if below.is_some() { String::new() } else { volume.kind.clone() },
            })
        })
        .collect()
}
