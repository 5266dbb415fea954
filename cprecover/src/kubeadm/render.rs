//! Writes a kubeadm config as YAML of a chosen API version.

use serde_json::{Map, Value, json};

use super::config::{Arg, ComponentSettings, Config, Etcd};
use super::read::read_args;
use super::text::yaml_text;
use super::version::ApiVersion;
use crate::error::{Error, ErrorKind, Result};

impl Config {
    /// Returns the config as two YAML documents of `api_version`.
    ///
    /// Fields that moved between the versions are moved: `apiServer.timeoutForControlPlane` (v1beta3)
    /// and `timeouts.controlPlaneComponentHealthCheck` (v1beta4). Arguments are a map in v1beta3 and a list in
    /// v1beta4, kubelet's (`nodeRegistration.kubeletExtraArgs`) too; kubernetes
    /// `cmd/kubeadm/app/apis/kubeadm/v1beta4/doc.go`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when a value cannot be said in that API version: repeated extra
    /// arguments and `extraEnvs` in v1beta3.
    pub fn render(&self, api_version: ApiVersion) -> Result<Vec<u8>> {
        let mut api_server = self.api_server.clone();
        let mut other_init = self.other_init.clone();
        let mut other_cluster = self.other_cluster.clone();
        match api_version {
            ApiVersion::V1Beta3 => to_v1beta3(&mut api_server, &mut other_init, &mut other_cluster)?,
            _ => to_v1beta4(&mut api_server, &mut other_init, &mut other_cluster),
        }
        let init = self.init_document(api_version, other_init);
        let cluster = self.cluster_document(api_version, &api_server, other_cluster)?;
        let text = format!("{}---\n{}", yaml_text(&Value::Object(init)), yaml_text(&Value::Object(cluster)));
        Ok(text.into_bytes())
    }

    fn init_document(&self, api_version: ApiVersion, mut other: Map<String, Value>) -> Map<String, Value> {
        let mut init = header(api_version, "InitConfiguration");
        let endpoint = fields([
            ("advertiseAddress", self.advertise_address.map(|address| address.to_string().into())),
            ("bindPort", self.bind_port.map(|port| port.get().into())),
        ]);
        put(&mut init, "localAPIEndpoint", endpoint, &mut other);
        let registration = fields([
            ("name", self.node_name.as_ref().map(|name| name.as_str().into())),
            ("criSocket", self.cri_socket.clone().map(Value::from)),
        ]);
        put(&mut init, "nodeRegistration", registration, &mut other);
        let patches =
            fields([("directory", self.patches_dir.as_ref().map(|dir| dir.display().to_string().into()))]);
        put(&mut init, "patches", patches, &mut other);
        init.extend(other);
        init
    }

    fn cluster_document(
        &self,
        api_version: ApiVersion,
        api_server: &ComponentSettings,
        mut other: Map<String, Value>,
    ) -> Result<Map<String, Value>> {
        let mut cluster = header(api_version, "ClusterConfiguration");
        let text = |value: &Option<String>| value.clone().map(Value::from);
        cluster.extend(fields([
            ("kubernetesVersion", text(&self.kubernetes_version)),
            ("clusterName", text(&self.cluster_name)),
            ("controlPlaneEndpoint", text(&self.control_plane_endpoint)),
            ("imageRepository", text(&self.image_repository)),
            ("certificatesDir", self.certificates_dir.as_ref().map(|dir| dir.display().to_string().into())),
        ]));
        let networking = fields([
            ("podSubnet", text(&self.pod_subnet)),
            ("serviceSubnet", text(&self.service_subnet)),
            ("dnsDomain", text(&self.dns_domain)),
        ]);
        put(&mut cluster, "networking", networking, &mut other);
        if !self.feature_gates.is_empty() {
            cluster.insert("featureGates".into(), json!(self.feature_gates));
        }
        for (key, settings) in [
            ("apiServer", api_server),
            ("controllerManager", &self.controller_manager),
            ("scheduler", &self.scheduler),
        ] {
            let value = settings_value(settings, api_version).map_err(|error| error.context(key))?;
            put(&mut cluster, key, value, &mut other);
        }
        let etcd = self.etcd_value(api_version).map_err(|error| error.context("etcd"))?;
        put(&mut cluster, "etcd", etcd, &mut other);
        cluster.extend(other);
        Ok(cluster)
    }

    fn etcd_value(&self, api_version: ApiVersion) -> Result<Map<String, Value>> {
        let mut etcd = Map::new();
        match &self.etcd {
            None => {}
            Some(Etcd::External(external)) => {
                let path = |path: &std::path::Path| Value::from(path.display().to_string());
                etcd.insert(
                    "external".into(),
                    json!({
                        "endpoints": external.endpoints,
                        "caFile": path(&external.ca_file),
                        "certFile": path(&external.cert_file),
                        "keyFile": path(&external.key_file),
                    }),
                );
            }
            Some(Etcd::Local(local)) => {
                let mut value = fields([
                    ("dataDir", local.data_dir.as_ref().map(|dir| dir.display().to_string().into())),
                    ("imageRepository", local.image_repository.clone().map(Value::from)),
                    ("imageTag", local.image_tag.clone().map(Value::from)),
                ]);
                value.extend(settings_value(&local.settings, api_version)?);
                etcd.insert("local".into(), Value::Object(value));
            }
        }
        Ok(etcd)
    }
}

fn header(api_version: ApiVersion, kind: &str) -> Map<String, Value> {
    fields([
        ("apiVersion", Some(format!("kubeadm.k8s.io/{api_version}").into())),
        ("kind", Some(kind.into())),
    ])
}

/// Keeps the fields that have a value.
fn fields<const N: usize>(pairs: [(&str, Option<Value>); N]) -> Map<String, Value> {
    pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// Inserts an object together with what was kept of it, unless both are empty.
fn put(
    map: &mut Map<String, Value>,
    key: &str,
    mut value: Map<String, Value>,
    other: &mut Map<String, Value>,
) {
    if let Some(Value::Object(rest)) = other.shift_remove(key) {
        value.extend(rest);
    }
    if !value.is_empty() {
        map.insert(key.to_owned(), Value::Object(value));
    }
}

fn settings_value(settings: &ComponentSettings, api_version: ApiVersion) -> Result<Map<String, Value>> {
    let mut map = Map::new();
    if !settings.extra_args.is_empty() {
        let args = &settings.extra_args;
        let value = if api_version == ApiVersion::V1Beta3 { args_map(args)? } else { args_list(args) };
        map.insert("extraArgs".into(), value);
    }
    let malformed =
        |source| Error::with_source(ErrorKind::Internal, "extra volumes or envs do not serialise", source);
    if !settings.extra_volumes.is_empty() {
        map.insert("extraVolumes".into(), serde_json::to_value(&settings.extra_volumes).map_err(malformed)?);
    }
    if !settings.extra_envs.is_empty() {
        if api_version == ApiVersion::V1Beta3 {
            let names: Vec<&str> = settings.extra_envs.iter().map(|env| env.name.as_str()).collect();
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "v1beta3 has no extraEnvs (for {}); assume kubeadm's default for extraEnvs to leave them out",
                    names.join(", ")
                ),
            ));
        }
        map.insert("extraEnvs".into(), serde_json::to_value(&settings.extra_envs).map_err(malformed)?);
    }
    map.extend(settings.other.clone());
    Ok(map)
}

/// Writes arguments as v1beta4 does; they are kept so where this crate has no field for them.
pub(super) fn args_list(args: &[Arg]) -> Value {
    args.iter().map(|arg| json!({"name": arg.name, "value": arg.value})).collect()
}

fn args_map(args: &[Arg]) -> Result<Value> {
    let mut map = Map::new();
    for arg in args {
        if map.insert(arg.name.clone(), arg.value.clone().into()).is_some() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("v1beta3 cannot say --{} twice, as the manifest or config does", arg.name),
            ));
        }
    }
    Ok(Value::Object(map))
}

/// The field of `nodeRegistration` with kubelet's arguments.
pub(super) const KUBELET_ARGS: &str = "kubeletExtraArgs";

const HEALTH_CHECK: &str = "controlPlaneComponentHealthCheck";
const OLD_TIMEOUT: &str = "timeoutForControlPlane";

fn to_v1beta3(
    api_server: &mut ComponentSettings,
    init: &mut Map<String, Value>,
    cluster: &mut Map<String, Value>,
) -> Result<()> {
    if let Some(Value::Object(registration)) = init.get_mut("nodeRegistration") {
        if let Some(args) = registration.get_mut(KUBELET_ARGS) {
            let list = read_args(Some(args.take()), KUBELET_ARGS, ApiVersion::V1Beta4)?;
            *args = args_map(&list).map_err(|error| error.context(KUBELET_ARGS))?;
        }
        registration.shift_remove("imagePullSerial");
    }
    if let Some(Value::Object(timeouts)) = init.shift_remove("timeouts")
        && let Some(timeout) = timeouts.get(HEALTH_CHECK)
    {
        api_server.other.insert(OLD_TIMEOUT.into(), timeout.clone());
    }
    // New in v1beta4; none of them shapes a manifest.
    for key in ["proxy", "encryptionAlgorithm", "certificateValidityPeriod", "caCertificateValidityPeriod"] {
        cluster.shift_remove(key);
    }
    init.shift_remove("dryRun");
    Ok(())
}

fn to_v1beta4(
    api_server: &mut ComponentSettings,
    init: &mut Map<String, Value>,
    _cluster: &mut Map<String, Value>,
) {
    if let Some(timeout) = api_server.other.shift_remove(OLD_TIMEOUT) {
        let timeouts = init.entry("timeouts").or_insert_with(|| json!({}));
        if let Value::Object(timeouts) = timeouts {
            timeouts.entry(HEALTH_CHECK).or_insert(timeout);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::yaml;

    const RECORDED: &[u8] = include_bytes!("../../testdata/kubeadm-1.36/kubeadm-config.yaml");

    #[test]
    fn the_recorded_config_survives_both_versions() {
        let config = Config::parse(RECORDED).expect("recorded");
        assert_eq!(config.pod_subnet.as_deref(), Some("10.244.0.0/16"));
        assert_eq!(config.api_server.arg("audit-log-maxage"), Some("7"));
        for version in [ApiVersion::V1Beta3, ApiVersion::V1Beta4] {
            let text = config.render(version).expect("renders");
            assert_eq!(Config::parse(&text).expect("parses"), config, "{version}");
        }
    }

    #[test]
    fn moved_and_unknown_fields_are_kept() {
        let old =
            b"apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\nkubernetesVersion: v1.30.1\n\
            apiServer: {certSANs: [a.example], timeoutForControlPlane: 4m0s, extraArgs: {v: '2'}}\ndns: {}\n";
        let config = Config::parse(old).expect("v1beta3");
        let new = config.render(ApiVersion::V1Beta4).expect("renders");
        let text = String::from_utf8(new.clone()).expect("text");
        assert!(text.contains("controlPlaneComponentHealthCheck: 4m0s"), "{text}");
        assert!(text.contains("certSANs:\n  - a.example"), "{text}");
        let back = Config::parse(&new).expect("v1beta4").render(ApiVersion::V1Beta3).expect("renders");
        assert_eq!(Config::parse(&back).expect("again"), config);
    }

    #[test]
    fn kubelets_arguments_are_a_map_in_v1beta3_and_a_list_in_v1beta4() {
        let head = |version: &str| {
            format!("apiVersion: kubeadm.k8s.io/{version}\nkind: InitConfiguration\nnodeRegistration:\n")
        };
        let map = "  name: cp1\n  kubeletExtraArgs: {node-ip: 10.0.0.1, v: 2}\n";
        let list =
            "  name: cp1\n  kubeletExtraArgs: [{name: node-ip, value: 10.0.0.1}, {name: v, value: '2'}]\n";
        let old = Config::parse((head("v1beta3") + map).as_bytes()).expect("v1beta3");
        let new = Config::parse((head("v1beta4") + list).as_bytes()).expect("v1beta4");
        assert_eq!(old, new);
        for (version, wanted) in [
            (ApiVersion::V1Beta3, json!({"node-ip": "10.0.0.1", "v": "2"})),
            (
                ApiVersion::V1Beta4,
                json!([{"name": "node-ip", "value": "10.0.0.1"}, {"name": "v", "value": "2"}]),
            ),
        ] {
            let text = String::from_utf8(old.render(version).expect("renders")).expect("text");
            let init: Value = yaml::from_slice(yaml::first_document(&text).as_bytes()).expect("YAML");
            assert_eq!(init.pointer("/nodeRegistration/kubeletExtraArgs"), Some(&wanted), "{version}");
            assert_eq!(Config::parse(text.as_bytes()).expect("again"), old, "{version}");
        }
        let twice = list.replace("name: v,", "name: node-ip,");
        let twice = Config::parse((head("v1beta4") + &twice).as_bytes()).expect("a list can");
        let error = twice.render(ApiVersion::V1Beta3).expect_err("twice");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        for (version, wrong) in [("v1beta3", list), ("v1beta4", map)] {
            let error = Config::parse((head(version) + wrong).as_bytes()).expect_err(version);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        }
    }

    #[test]
    fn what_v1beta3_cannot_say_is_an_error() {
        let mut config = Config::default();
        config.api_server.extra_args = vec![
            super::super::Arg::new("service-account-issuer", "a"),
            super::super::Arg::new("service-account-issuer", "b"),
        ];
        let error = config.render(ApiVersion::V1Beta3).expect_err("twice");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(
            error.to_string().contains("apiServer") && error.to_string().contains("service-account-issuer")
        );
        config.render(ApiVersion::V1Beta4).expect("a list can");
    }

    #[test]
    fn bad_configs_are_refused() {
        for (bad, kind) in [
            (&b"kind: Pod\napiVersion: v1\n"[..], ErrorKind::NotFound),
            (b"- 1\n", ErrorKind::Invalid),
            (b"apiVersion: kubeadm.k8s.io/v1beta2\nkind: ClusterConfiguration\n", ErrorKind::Unsupported),
            (b"apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\napiServer: {extraArgs: {a: b}}\n", ErrorKind::Invalid),
            (b"apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nlocalAPIEndpoint: {advertiseAddress: x}\n", ErrorKind::Invalid),
        ] {
            assert_eq!(Config::parse(bad).expect_err("bad").kind(), kind, "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(Config::parse(&vec![b' '; (1 << 20) + 1]).expect_err("long").kind(), ErrorKind::Limit);
        assert_eq!(Config::parse("---\n".repeat(100).as_bytes()).expect_err("many").kind(), ErrorKind::Limit);
    }
}
