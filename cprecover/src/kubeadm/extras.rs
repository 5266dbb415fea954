//! Extra arguments, volumes and variables: what a component had beyond kubeadm's defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::config::{Arg, ComponentSettings, Config, EnvVar, Etcd};
use super::defaults::{default_arguments, pki};
use super::evidence::Evidence;
use super::facts::PodFacts;
use super::origin::{Conflict, Origin};
use crate::model::Component;

/// Flags that an older kubeadm wrote by itself and a newer one does not, with the value it gave them.
///
/// Sources: kubernetes `cmd/kubeadm/app/phases/{controlplane,etcd}` of 1.22 to 1.36.
const OLD_DEFAULTS: [(Component, &str, &str); 8] = [
    (Component::Etcd, "experimental-initial-corrupt-check", "true"),
    (Component::Etcd, "experimental-watch-progress-notify-interval", "5s"),
    (Component::Etcd, "feature-gates", "InitialCorruptCheck=true"),
    (Component::Etcd, "watch-progress-notify-interval", "5s"),
    (Component::KubeApiserver, "insecure-port", "0"),
    (Component::KubeControllerManager, "port", "0"),
    (Component::KubeControllerManager, "cluster-signing-cert-file", ""),
    (Component::KubeControllerManager, "cluster-signing-key-file", ""),
];

/// Returns the name under which a component's settings stand in the config.
pub(super) const fn section(component: Component) -> &'static str {
    match component {
        Component::Etcd => "etcd.local",
        Component::KubeApiserver => "apiServer",
        Component::KubeControllerManager => "controllerManager",
        Component::KubeScheduler => "scheduler",
    }
}

/// Puts the component's settings together from the stated ones and what ran.
pub(super) fn settle(
    evidence: &mut Evidence,
    component: Component,
    stated: &[(Origin, &ComponentSettings)],
    facts: Option<&PodFacts>,
) {
    let mut settings = ComponentSettings::default();
    let path = section(component);
    for (origin, other) in stated {
        for arg in &other.extra_args {
            // A repeated flag is repeated within one source; a second source does not add to it.
            let elsewhere = settings.extra_args.iter().any(|known| known.name == arg.name)
                && other.extra_args.iter().filter(|same| same.name == arg.name).nth(1).is_none();
            if !elsewhere {
                note_arg(evidence, path, arg, origin);
                settings.extra_args.push(arg.clone());
            }
        }
        for volume in &other.extra_volumes {
            if !settings.extra_volumes.iter().any(|known| known.name == volume.name) {
                evidence.field(
                    &format!("{path}.extraVolumes[{}]", volume.name),
                    json!(volume),
                    origin.clone(),
                );
                settings.extra_volumes.push(volume.clone());
            }
        }
        for env in &other.extra_envs {
            if !settings.extra_envs.iter().any(|known| known.name == env.name) {
                evidence.field(&format!("{path}.extraEnvs[{}]", env.name), json!(env), origin.clone());
                settings.extra_envs.push(env.clone());
            }
        }
        for (key, value) in &other.other {
            settings.other.entry(key).or_insert_with(|| value.clone());
        }
    }
    if let Some(facts) = facts {
        add_args(evidence, &mut settings, facts);
        add_volumes(evidence, &mut settings, facts);
        add_envs(evidence, &mut settings, facts);
    }
    if settings != ComponentSettings::default()
        && let Some(slot) = evidence.config.settings_mut(component)
    {
        *slot = settings;
    }
}

fn note_arg(evidence: &mut Evidence, path: &str, arg: &Arg, origin: &Origin) {
    evidence.field(&format!("{path}.extraArgs[{}]", arg.name), arg.value.clone().into(), origin.clone());
}

/// The config with the values that manifests say where the caller or a saved config says others.
fn overruled(evidence: &Evidence) -> Option<Config> {
    let mut config = evidence.config.clone();
    let mut any = false;
    for conflict in &evidence.conflicts {
        let by_config = matches!(conflict.taken.1, Origin::Caller | Origin::Config(_));
        if by_config {
            any |= put_base(&mut config, &conflict.path, &conflict.other.0).is_some();
        }
    }
    any.then_some(config)
}

/// Sets one of the values that kubeadm makes flags from.
fn put_base(config: &mut Config, path: &str, value: &serde_json::Value) -> Option<()> {
    fn put<T: serde::de::DeserializeOwned>(field: &mut Option<T>, value: &serde_json::Value) -> Option<()> {
        *field = Some(serde_json::from_value(value.clone()).ok()?);
        Some(())
    }
    match path {
        "networking.serviceSubnet" => put(&mut config.service_subnet, value),
        "networking.podSubnet" => put(&mut config.pod_subnet, value),
        "networking.dnsDomain" => put(&mut config.dns_domain, value),
        "clusterName" => put(&mut config.cluster_name, value),
        "nodeRegistration.name" => put(&mut config.node_name, value),
        "localAPIEndpoint.bindPort" => put(&mut config.bind_port, value),
        "localAPIEndpoint.advertiseAddress" => put(&mut config.advertise_address, value),
        "certificatesDir" => put(&mut config.certificates_dir, value),
        "etcd.local.dataDir" => match &mut config.etcd {
            Some(Etcd::Local(local)) => put(&mut local.data_dir, value),
            _ => None,
        },
        _ => None,
    }
}

fn arguments(component: Component, config: &Config) -> BTreeMap<String, String> {
    default_arguments(component, config, false).into_iter().map(|arg| (arg.name, arg.value)).collect()
}

fn add_args(evidence: &mut Evidence, settings: &mut ComponentSettings, facts: &PodFacts) {
    let defaults = arguments(facts.component, &evidence.config);
    let old = overruled(evidence).map(|config| arguments(facts.component, &config)).unwrap_or_default();
    let path = section(facts.component);
    let stated = settings.extra_args.clone();
    for (name, value) in &facts.flags {
        if let Some(known) = stated.iter().find(|arg| arg.name == *name) {
            let repeated = stated.iter().any(|arg| arg.name == *name && arg.value == *value);
            if !repeated {
                evidence.conflicts.push(Conflict {
                    path: format!("{path}.extraArgs[{name}]"),
                    taken: (known.value.clone().into(), Origin::Config("extraArgs".into())),
                    other: (value.clone().into(), facts.origin(&format!("--{name}"))),
                });
            }
            continue;
        }
        let once = facts.flags.iter().filter(|(other, _)| other == name).count() == 1;
        let by_kubeadm = defaults.get(name) == Some(value)
            || OLD_DEFAULTS.contains(&(facts.component, name.as_str(), value.as_str()));
        // What kubeadm made of a value that a more trusted source overrules must not bring the old one back.
        let by_old_value = old.get(name) == Some(value);
        if once && (by_kubeadm || by_old_value) {
            continue;
        }
        let arg = Arg::new(name, value);
        note_arg(evidence, path, &arg, &facts.origin(&format!("--{name}")));
        settings.extra_args.push(arg);
    }
}

/// The volumes that kubeadm makes by itself: name, path on the node.
fn default_volumes(component: Component, config: &Config) -> Vec<(&'static str, PathBuf)> {
    let pki = pki(config);
    let data_dir = config.local_etcd().and_then(|local| local.data_dir.clone());
    match component {
        Component::Etcd => vec![
            ("etcd-certs", pki.join("etcd")),
            ("etcd-data", data_dir.unwrap_or_else(|| super::defaults::value::ETCD_DATA_DIR.into())),
        ],
        Component::KubeScheduler => vec![("kubeconfig", "/etc/kubernetes/scheduler.conf".into())],
        _ => vec![
            ("k8s-certs", pki),
            ("kubeconfig", "/etc/kubernetes/controller-manager.conf".into()),
            ("ca-certs", "/etc/ssl/certs".into()),
            ("etc-pki", "/etc/pki".into()),
            ("etc-pki-ca-trust", "/etc/pki/ca-trust".into()),
            ("etc-pki-tls-certs", "/etc/pki/tls/certs".into()),
            ("etc-ca-certificates", "/etc/ca-certificates".into()),
            ("usr-share-ca-certificates", "/usr/share/ca-certificates".into()),
            ("usr-local-share-ca-certificates", "/usr/local/share/ca-certificates".into()),
            ("flexvolume-dir", "/usr/libexec/kubernetes/kubelet-plugins/volume/exec".into()),
        ],
    }
}

fn add_volumes(evidence: &mut Evidence, settings: &mut ComponentSettings, facts: &PodFacts) {
    let defaults = default_volumes(facts.component, &evidence.config);
    let path = section(facts.component);
    for volume in &facts.volumes {
        let by_kubeadm = volume.host_path == volume.mount_path
            && defaults.iter().any(|(name, host)| {
                *host == volume.host_path && (!facts.volumes_named || *name == volume.name)
            });
        // kubeadm mounts the folders of external etcd's certificates by itself.
        let external = volume.name.strip_prefix("etcd-certs-").is_some_and(|n| n.parse::<u8>().is_ok());
        let known = settings.extra_volumes.iter().any(|other| other.mount_path == volume.mount_path);
        if by_kubeadm || external || known || is_kubelets_own(&volume.mount_path) {
            continue;
        }
        if !facts.volumes_named && is_in_pod_folder(&volume.host_path) {
            evidence.unknown(
                &format!("{path} volume at {}", volume.mount_path.display()),
                "its container had a volume there that is no folder of the node, and the runtime does not tell which",
                &[facts.component],
            );
            continue;
        }
        let mut volume = volume.clone();
        if !facts.volumes_named {
            // The runtime does not know the volume's name; any name that is free will do.
            volume.name = format!("recovered-{}", settings.extra_volumes.len());
        }
        if facts.component == Component::Etcd {
            evidence.unknown(
                &format!("{path} volume {}", volume.name),
                "the manifest has a volume that kubeadm cannot give etcd but by a patch",
                &[Component::Etcd],
            );
            continue;
        }
        evidence.field(
            &format!("{path}.extraVolumes[{}]", volume.name),
            json!(volume),
            facts.origin(&format!("volume {}", volume.name)),
        );
        settings.extra_volumes.push(volume);
    }
}

/// Mounts that kubelet adds to every container; only the runtime shows them.
fn is_kubelets_own(mount: &Path) -> bool {
    ["/etc/hosts", "/dev/termination-log", "/var/run/secrets"].iter().any(|own| mount.starts_with(own))
}

/// Reports whether kubelet made it for one pod: an emptyDir, a Secret, part of a volume (`subPath`).
///
/// Source: kubernetes `pkg/kubelet/config/defaults.go`, `DefaultKubeletPodsDirName` and what is below it.
fn is_in_pod_folder(on_node: &Path) -> bool {
    let parts: Vec<_> = on_node.iter().collect();
    parts.windows(3).any(|part| {
        matches!(part, [pods, _, what] if *pods == "pods" && ["volumes", "volume-subpaths"].iter().any(|w| what == w))
    })
}

/// Variables that the runtime shows but no manifest set: the image's own, the runtime's and kubelet's.
///
/// kubelet gives a pod those of every Service of its namespace (kubernetes `pkg/kubelet/envvars/envvars.go`):
/// addresses of a moment, which a manifest must not get.
fn is_runtimes_own(env: &EnvVar, all: &[EnvVar]) -> bool {
    let has = |name: &str| all.iter().any(|other| other.name == name);
    let services = all.iter().filter_map(|other| other.name.strip_suffix("_SERVICE_HOST"));
    let is_of = |service: &str| {
        let rest = env.name.strip_prefix(service).and_then(|rest| rest.strip_prefix('_'));
        rest.is_some_and(|rest| {
            ["SERVICE_HOST", "SERVICE_PORT", "PORT"].contains(&rest)
                || ["SERVICE_PORT_", "PORT_"].iter().any(|start| rest.starts_with(start))
        })
    };
    matches!(
        env.name.as_str(),
        "PATH" | "HOSTNAME" | "SSL_CERT_FILE" | "HOME" | "TERM" | "container" | "NSS_SDB_USE_CACHE"
    ) || env.name.starts_with("KUBERNETES_")
        || services.filter(|service| has(&format!("{service}_SERVICE_PORT"))).any(is_of)
}

fn add_envs(evidence: &mut Evidence, settings: &mut ComponentSettings, facts: &PodFacts) {
    let path = section(facts.component);
    for env in &facts.envs {
        let known = settings.extra_envs.iter().any(|other| other.name == env.name);
        if known || (!facts.volumes_named && is_runtimes_own(env, &facts.envs)) {
            continue;
        }
        let origin = facts.origin(&format!("env {}", env.name));
        evidence.field(&format!("{path}.extraEnvs[{}]", env.name), json!(env), origin);
        settings.extra_envs.push(env.clone());
    }
}
