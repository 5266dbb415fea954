//! Reads kubeadm's config documents, v1beta3 and v1beta4.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::config::{Arg, ComponentSettings, Config, EnvVar, Etcd, ExternalEtcd, HostPathMount, LocalEtcd};
use super::render::{KUBELET_ARGS, args_list};
use super::version::ApiVersion;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{NodeName, Port};
use crate::parse::yaml;

/// The most documents in one config file; kubeadm writes at most four.
const MAX_DOCUMENTS: usize = 64;

const GROUP: &str = "kubeadm.k8s.io/";

impl Config {
    /// Reads a kubeadm config: `InitConfiguration` and `ClusterConfiguration`, v1beta3 or v1beta4.
    ///
    /// Documents of other kinds (`KubeletConfiguration`, `KubeProxyConfiguration`) are passed over, as
    /// they do not shape a control-plane manifest.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for malformed text, [`ErrorKind::Unsupported`] for another API version of
    /// kubeadm's, [`ErrorKind::NotFound`] when no document is kubeadm's.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut config = Self::default();
        let mut found = false;
        for document in documents(bytes)? {
            let value: Value = yaml::from_slice(document.as_bytes())?;
            let Value::Object(mut map) = value else {
                if value.is_null() {
                    continue;
                }
                return Err(invalid("a document is not a mapping"));
            };
            let api = text(&mut map, "apiVersion")?.unwrap_or_default();
            let kind = text(&mut map, "kind")?.unwrap_or_default();
            let Some(version) = api.strip_prefix(GROUP) else { continue };
            let version: ApiVersion = version.parse()?;
            match kind.as_str() {
                "InitConfiguration" => read_init(&mut config, map, version)?,
                "ClusterConfiguration" => read_cluster(&mut config, map, version)?,
                _ => continue,
            }
            found = true;
        }
        if found {
            Ok(config)
        } else {
            Err(Error::new(
                ErrorKind::NotFound,
                "no InitConfiguration or ClusterConfiguration of kubeadm.k8s.io",
            ))
        }
    }
}

/// Splits at lines that start with `---`, as kubeadm's YAML reader does.
fn documents(bytes: &[u8]) -> Result<Vec<String>> {
    if bytes.len() > yaml::MAX_DOCUMENT_BYTES {
        return Err(Error::new(ErrorKind::Limit, format!("config of {} bytes is too large", bytes.len())));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|source| Error::with_source(ErrorKind::Invalid, "config is not UTF-8", source))?;
    let mut documents = vec![String::new()];
    for line in text.lines() {
        let separator = line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
        if separator {
            if documents.len() >= MAX_DOCUMENTS {
                return Err(Error::new(
                    ErrorKind::Limit,
                    format!("config has more than {MAX_DOCUMENTS} documents"),
                ));
            }
            documents.push(String::new());
        } else if let Some(document) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    documents
        .retain(|document| document.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#')));
    Ok(documents)
}

fn read_init(config: &mut Config, mut map: Map<String, Value>, version: ApiVersion) -> Result<()> {
    if let Some(mut endpoint) = object(&mut map, "localAPIEndpoint")? {
        config.advertise_address = text(&mut endpoint, "advertiseAddress")?
            .map(|address| {
                address.parse().map_err(|source| {
                    Error::with_source(
                        ErrorKind::Invalid,
                        format!("localAPIEndpoint.advertiseAddress {address:?} is not an IP address"),
                        source,
                    )
                })
            })
            .transpose()?;
        config.bind_port = text(&mut endpoint, "bindPort")?.map(|port| port.parse::<Port>()).transpose()?;
        keep(&mut map, "localAPIEndpoint", endpoint);
    }
    if let Some(mut registration) = object(&mut map, "nodeRegistration")? {
        config.node_name = text(&mut registration, "name")?.map(NodeName::new);
        config.cri_socket = text(&mut registration, "criSocket")?;
        let args = read_args(registration.shift_remove(KUBELET_ARGS), KUBELET_ARGS, version)?;
        if !args.is_empty() {
            registration.insert(KUBELET_ARGS.into(), args_list(&args));
        }
        keep(&mut map, "nodeRegistration", registration);
    }
    if let Some(mut patches) = object(&mut map, "patches")? {
        config.patches_dir = text(&mut patches, "directory")?.map(PathBuf::from);
        keep(&mut map, "patches", patches);
    }
    // Secrets that shape no manifest: joining nodes need them, nobody else should see them.
    map.retain(|key, _| !matches!(key.as_str(), "certificateKey" | "bootstrapTokens"));
    config.other_init = map;
    Ok(())
}

fn read_cluster(config: &mut Config, mut map: Map<String, Value>, version: ApiVersion) -> Result<()> {
    config.kubernetes_version = text(&mut map, "kubernetesVersion")?;
    config.cluster_name = text(&mut map, "clusterName")?;
    config.control_plane_endpoint = text(&mut map, "controlPlaneEndpoint")?;
    config.image_repository = text(&mut map, "imageRepository")?;
    config.certificates_dir = text(&mut map, "certificatesDir")?.map(PathBuf::from);
    if let Some(mut networking) = object(&mut map, "networking")? {
        config.pod_subnet = text(&mut networking, "podSubnet")?;
        config.service_subnet = text(&mut networking, "serviceSubnet")?;
        config.dns_domain = text(&mut networking, "dnsDomain")?;
        keep(&mut map, "networking", networking);
    }
    if let Some(gates) = object(&mut map, "featureGates")? {
        for (name, value) in gates {
            let on = value.as_bool().ok_or_else(|| invalid(&format!("featureGates.{name} is not a bool")))?;
            config.feature_gates.insert(name, on);
        }
    }
    for (key, settings) in [
        ("apiServer", &mut config.api_server),
        ("controllerManager", &mut config.controller_manager),
        ("scheduler", &mut config.scheduler),
    ] {
        if let Some(component) = object(&mut map, key)? {
            *settings = read_settings(component, version).map_err(|error| error.context(key))?;
        }
    }
    if let Some(mut etcd) = object(&mut map, "etcd")? {
        config.etcd = read_etcd(&mut etcd, version).map_err(|error| error.context("etcd"))?;
        keep(&mut map, "etcd", etcd);
    }
    config.other_cluster = map;
    Ok(())
}

fn read_etcd(etcd: &mut Map<String, Value>, version: ApiVersion) -> Result<Option<Etcd>> {
    if let Some(mut external) = object(etcd, "external")? {
        let mut path = |key| Ok::<_, Error>(text(&mut external, key)?.map(PathBuf::from).unwrap_or_default());
        let (ca_file, cert_file, key_file) = (path("caFile")?, path("certFile")?, path("keyFile")?);
        let endpoints = match external.shift_remove("endpoints") {
            Some(Value::Array(items)) => {
                items.iter().map(|item| plain(item, "endpoints")).collect::<Result<Vec<_>>>()?
            }
            _ => Vec::new(),
        };
        return Ok(Some(Etcd::External(ExternalEtcd { endpoints, ca_file, cert_file, key_file })));
    }
    let Some(mut local) = object(etcd, "local")? else { return Ok(None) };
    Ok(Some(Etcd::Local(LocalEtcd {
        data_dir: text(&mut local, "dataDir")?.map(PathBuf::from),
        image_repository: text(&mut local, "imageRepository")?,
        image_tag: text(&mut local, "imageTag")?,
        settings: read_settings(local, version)?,
    })))
}

fn read_settings(mut map: Map<String, Value>, version: ApiVersion) -> Result<ComponentSettings> {
    Ok(ComponentSettings {
        extra_args: read_args(map.shift_remove("extraArgs"), "extraArgs", version)?,
        extra_volumes: list::<HostPathMount>(&mut map, "extraVolumes")?,
        extra_envs: list::<EnvVar>(&mut map, "extraEnvs")?,
        other: map,
    })
}

/// Reads arguments: a map in v1beta3, a list of names and values in v1beta4 (kubernetes
/// `cmd/kubeadm/app/apis/kubeadm/{v1beta3,v1beta4}/types.go`).
pub(super) fn read_args(args: Option<Value>, key: &str, version: ApiVersion) -> Result<Vec<Arg>> {
    match (args, version) {
        (None | Some(Value::Null), _) => Ok(Vec::new()),
        (Some(Value::Object(args)), ApiVersion::V1Beta3) => {
            args.iter().map(|(name, value)| Ok(Arg::new(name, plain(value, name)?))).collect()
        }
        (Some(Value::Array(args)), ApiVersion::V1Beta4) => {
            args.iter().map(|arg| read_arg(arg, key)).collect()
        }
        (Some(_), ApiVersion::V1Beta3) => {
            Err(invalid(&format!("{key} is not a mapping, as v1beta3 wants it")))
        }
        (Some(_), _) => Err(invalid(&format!("{key} is not a list, as v1beta4 wants it"))),
    }
}

fn read_arg(value: &Value, list: &str) -> Result<Arg> {
    let field = |key: &str| value.get(key).map_or(Ok(String::new()), |field| plain(field, key));
    let arg = Arg::new(field("name")?, field("value")?);
    if arg.name.is_empty() { Err(invalid(&format!("an item of {list} has no name"))) } else { Ok(arg) }
}

fn list<T: serde::de::DeserializeOwned>(map: &mut Map<String, Value>, key: &str) -> Result<Vec<T>> {
    match map.shift_remove(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(value) => serde_json::from_value(value)
            .map_err(|source| Error::with_source(ErrorKind::Invalid, format!("{key} is malformed"), source)),
    }
}

/// Takes a scalar out of `map`; empty is "not said", as in Go's `omitempty`.
fn text(map: &mut Map<String, Value>, key: &str) -> Result<Option<String>> {
    match map.shift_remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => plain(&value, key).map(|text| Some(text).filter(|text| !text.is_empty())),
    }
}

fn object(map: &mut Map<String, Value>, key: &str) -> Result<Option<Map<String, Value>>> {
    match map.shift_remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(inner)) => Ok(Some(inner)),
        Some(_) => Err(invalid(&format!("{key} is not a mapping"))),
    }
}

/// Puts fields that this crate does not know back, so that they are written out again.
fn keep(map: &mut Map<String, Value>, key: &str, rest: Map<String, Value>) {
    if !rest.is_empty() {
        map.insert(key.to_owned(), Value::Object(rest));
    }
}

fn plain(value: &Value, key: &str) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(on) => Ok(on.to_string()),
        _ => Err(invalid(&format!("{key} is not a scalar"))),
    }
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::Invalid, message)
}
