//! What a container's verbose CRI status tells of its configuration.

use std::collections::BTreeMap;

use serde_json::Value;

use super::sources::RuntimeContainer;
use crate::cri::Mount;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Component;

impl RuntimeContainer {
    /// Reads `info["info"]` of a verbose `ContainerStatus`, as containerd gives it.
    ///
    /// Source: containerd `internal/cri/server/container_status.go`: a JSON object whose `config` is
    /// the CRI `ContainerConfig` (command, args, envs, mounts) that kubelet sent. CRI-O has no `config`;
    /// there command and environment are in `runtimeSpec.process`, with the image's and its own, and the mounts
    /// are told by CRI alone ([`ContainerDetail::mounts`](crate::cri::ContainerDetail::mounts)).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when it is not a JSON object.
    pub fn from_verbose_info(component: Component, image: impl Into<String>, info: &[u8]) -> Result<Self> {
        let info: Value = serde_json::from_slice(info)
            .map_err(|source| Error::with_source(ErrorKind::Invalid, "container info is not JSON", source))?;
        if !info.is_object() {
            return Err(Error::new(ErrorKind::Invalid, "container info is not a JSON object"));
        }
        let texts = |pointer: &str| -> Vec<String> {
            let list = info.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            list.iter().filter_map(|item| item.as_str().map(ToOwned::to_owned)).collect()
        };
        let mut container = Self::new(component, image);
        container.argv = texts("/config/command");
        container.argv.extend(texts("/config/args"));
        if container.argv.is_empty() {
            container.argv = texts("/runtimeSpec/process/args");
        }
        container.envs = pairs(&info);
        if info.get("config").is_none() {
            let env = texts("/runtimeSpec/process/env").into_iter();
            container.envs = env
                .filter_map(|text| text.split_once('=').map(|(name, value)| (name.into(), value.into())))
                .collect();
        }
        container.mounts = mounts(&info);
        Ok(container)
    }
}

fn list<'a>(info: &'a Value, pointer: &str) -> &'a [Value] {
    info.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn pairs(info: &Value) -> BTreeMap<String, String> {
    let text = |env: &Value, key: &str| env.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
    let envs = list(info, "/config/envs").iter();
    envs.filter_map(|env| Some((text(env, "key")?, text(env, "value").unwrap_or_default()))).collect()
}

fn mounts(info: &Value) -> Vec<Mount> {
    let path = |mount: &Value, key: &str| mount.get(key).and_then(Value::as_str).map(Into::into);
    let mounts = list(info, "/config/mounts").iter();
    mounts
        .filter_map(|mount| {
            Some(Mount {
                host_path: path(mount, "host_path")?,
                container_path: path(mount, "container_path")?,
                read_only: mount.get("readonly").and_then(Value::as_bool).unwrap_or(false),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubeadm::{Sources, reconstruct};

    #[test]
    fn containerds_and_crios_forms() {
        let containerd = br#"{"pid":7,"config":{"command":["etcd","--name=cp1","--data-dir=/srv/etcd"],
            "envs":[{"key":"A","value":"b"},{"key":"KUBERNETES_PORT","value":"x"}],
            "mounts":[{"container_path":"/etc/hosts","host_path":"/var/lib/kubelet/pods/x/etc-hosts"},
                      {"container_path":"/srv/etcd","host_path":"/srv/etcd"}]}}"#;
        let container =
            RuntimeContainer::from_verbose_info(Component::Etcd, "registry.k8s.io/etcd:3.6.8-0", containerd)
                .expect("containerd");
        let mut sources = Sources::default();
        sources.containers.push(container);
        let found = reconstruct(&sources).expect("reconstructs");
        let etcd = found.config.local_etcd().expect("local");
        assert_eq!(etcd.data_dir.as_deref(), Some("/srv/etcd".as_ref()));
        assert_eq!(etcd.image_tag.as_deref(), Some("3.6.8-0"));
        assert_eq!(etcd.settings.extra_envs.len(), 1);
        let crio = br#"{"runtimeSpec":{"process":{"args":["kube-scheduler","--v=4"],"env":["A=b=c","TERM=xterm"]}}}"#;
        let container =
            RuntimeContainer::from_verbose_info(Component::KubeScheduler, "x", crio).expect("CRI-O");
        assert_eq!(container.argv, ["kube-scheduler", "--v=4"]);
        assert_eq!(container.envs.get("A").map(String::as_str), Some("b=c"));
        for bad in [&b"["[..], b"[]", b""] {
            let error = RuntimeContainer::from_verbose_info(Component::Etcd, "x", bad).expect_err("bad");
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
    }
}
