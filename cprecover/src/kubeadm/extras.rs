//! Extra arguments, volumes and variables: what a component had beyond kubeadm's defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::config::{Arg, ComponentSettings, Config, EnvVar};
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

/// Reports whether the caller or the backed-up config said something else than the manifests.
fn is_overruled(evidence: &Evidence, field: &str) -> bool {
    let mut conflicts = evidence.conflicts.iter().filter(|conflict| conflict.path == field);
    conflicts.any(|conflict| matches!(conflict.taken.1, Origin::Caller | Origin::Config(_)))
}

/// Returns the field of the config that kubeadm makes a flag from.
fn base_field(flag: &str) -> Option<&'static str> {
    Some(match flag {
        "service-cluster-ip-range" => "networking.serviceSubnet",
        "cluster-cidr" | "allocate-node-cidrs" => "networking.podSubnet",
        "cluster-name" => "clusterName",
        "name" => "nodeRegistration.name",
        "data-dir" => "etcd.local.dataDir",
        "service-account-issuer" => "networking.dnsDomain",
        "secure-port" => "localAPIEndpoint.bindPort",
        "advertise-address"
        | "advertise-client-urls"
        | "listen-client-urls"
        | "listen-peer-urls"
        | "initial-advertise-peer-urls" => "localAPIEndpoint.advertiseAddress",
        _ if flag.ends_with("file") => "certificatesDir",
        _ => return None,
    })
}

fn add_args(evidence: &mut Evidence, settings: &mut ComponentSettings, facts: &PodFacts) {
    let defaults: BTreeMap<String, String> = default_arguments(facts.component, &evidence.config, false)
        .into_iter()
        .map(|arg| (arg.name, arg.value))
        .collect();
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
        // A more trusted source said another base value; the flag must not bring the old one back.
        if base_field(name).is_some_and(|field| is_overruled(evidence, field)) {
            continue;
        }
        let once = facts.flags.iter().filter(|(other, _)| other == name).count() == 1;
        let by_kubeadm = defaults.get(name) == Some(value)
            || OLD_DEFAULTS.contains(&(facts.component, name.as_str(), value.as_str()));
        if once && by_kubeadm {
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
        let mut volume = volume.clone();
        if !facts.volumes_named {
            // The runtime does not know the volume's name; any name that is free will do.
            volume.name = format!("recovered-{}", settings.extra_volumes.len());
        }
        if facts.component == Component::Etcd {
            evidence.unknown(
                &format!("{path} volume {}", volume.name),
                "the manifest had a volume that kubeadm cannot give etcd but by a patch",
                &[],
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

/// Variables that the runtime shows but no manifest set: the image's own and kubelet's.
fn is_runtimes_own(env: &EnvVar) -> bool {
    matches!(env.name.as_str(), "PATH" | "HOSTNAME" | "SSL_CERT_FILE" | "HOME" | "TERM")
        || env.name.starts_with("KUBERNETES_")
}

fn add_envs(evidence: &mut Evidence, settings: &mut ComponentSettings, facts: &PodFacts) {
    let path = section(facts.component);
    for env in &facts.envs {
        let known = settings.extra_envs.iter().any(|other| other.name == env.name);
        if known || (!facts.volumes_named && is_runtimes_own(env)) {
            continue;
        }
        let origin = facts.origin(&format!("env {}", env.name));
        evidence.field(&format!("{path}.extraEnvs[{}]", env.name), json!(env), origin);
        settings.extra_envs.push(env.clone());
    }
}
