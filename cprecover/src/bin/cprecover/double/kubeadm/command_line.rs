//! kubeadm's own command line: which phase, which flags, and what it refuses.

use std::collections::BTreeMap;

use cprecover::Result;
use cprecover::model::Component;

use super::wrong;

/// A phase of `kubeadm init`.
pub(super) enum Phase {
    /// `control-plane …`.
    ControlPlane(&'static [Component]),
    /// `etcd local`.
    EtcdLocal,
}

/// Flags by name; a bool flag that is on has the value `true`.
pub(super) type Flags = BTreeMap<String, String>;

const COMMON: [&str; 6] = ["config", "cert-dir", "image-repository", "patches", "dry-run", "v"];
const VERSION: [&str; 1] = ["kubernetes-version"];
const APISERVER: [&str; 6] = [
    "apiserver-advertise-address",
    "apiserver-bind-port",
    "control-plane-endpoint",
    "apiserver-extra-args",
    "service-cidr",
    "feature-gates",
];
const CONTROLLER_MANAGER: [&str; 2] = ["pod-network-cidr", "controller-manager-extra-args"];
const SCHEDULER: [&str; 1] = ["scheduler-extra-args"];

/// Flags that may stand beside `--config` (kubernetes `cmd/kubeadm/app/apis/kubeadm/validation`).
const BESIDE_CONFIG: [&str; 5] = ["config", "dry-run", "kubeconfig-dir", "node-name", "v"];

const ALL: &[Component] =
    &[Component::KubeApiserver, Component::KubeControllerManager, Component::KubeScheduler];

/// Reads the words behind `init phase`.
pub(super) fn parse(words: &[&str], no_dry_run_flag: bool) -> Result<(Phase, Flags)> {
    let (phase, allowed, rest): (Phase, Vec<&str>, &[&str]) = match words {
        ["etcd", "local", rest @ ..] => (Phase::EtcdLocal, COMMON.to_vec(), rest),
        ["control-plane", which, rest @ ..] => {
            let (components, own): (&'static [Component], Vec<&str>) = match *which {
                "all" => (ALL, [&APISERVER[..], &CONTROLLER_MANAGER, &SCHEDULER].concat()),
                "apiserver" => (&[Component::KubeApiserver], APISERVER.to_vec()),
                "controller-manager" => (&[Component::KubeControllerManager], CONTROLLER_MANAGER.to_vec()),
                "scheduler" => (&[Component::KubeScheduler], SCHEDULER.to_vec()),
                other => {
                    return Err(wrong(&format!(
                        "unknown command \"{other}\" for \"kubeadm init phase control-plane\""
                    )));
                }
            };
            (Phase::ControlPlane(components), [&COMMON[..], &VERSION, &own].concat(), rest)
        }
        _ => return Err(wrong("the double has the phases `control-plane` and `etcd local` only")),
    };
    let flags = flags(rest, &allowed, no_dry_run_flag)?;
    require_unmixed(&flags)?;
    Ok((phase, flags))
}

/// Reads the flags of a command about certificates.
pub(super) fn certs_flags(words: &[&str], allowed: &[&str]) -> Result<Flags> {
    let flags = flags(words, allowed, false)?;
    require_unmixed(&flags)?;
    Ok(flags)
}

fn require_unmixed(flags: &Flags) -> Result<()> {
    if flags.contains_key("config") {
        let mixed: Vec<&str> =
            flags.keys().map(String::as_str).filter(|name| !BESIDE_CONFIG.contains(name)).collect();
        if !mixed.is_empty() {
            return Err(wrong(&format!("can not mix '--config' with arguments [{}]", mixed.join(" "))));
        }
    }
    Ok(())
}

fn flags(words: &[&str], allowed: &[&str], no_dry_run_flag: bool) -> Result<Flags> {
    let mut flags = Flags::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(body) =
            word.strip_prefix("--").or_else(|| word.strip_prefix('-').filter(|w| w.starts_with('v')))
        else {
            return Err(wrong(&format!("unknown command \"{word}\"")));
        };
        let (name, value) = body.split_once('=').map_or((body, None), |(name, value)| (name, Some(value)));
        if !allowed.contains(&name) || (no_dry_run_flag && name == "dry-run") {
            return Err(wrong(&format!("unknown flag: --{name}")));
        }
        let value = match (name, value) {
            ("dry-run", None) => "true",
            (_, Some(value)) => value,
            (_, None) => {
                words.next().copied().ok_or_else(|| wrong(&format!("flag needs an argument: --{name}")))?
            }
        };
        if name == "dry-run" && value == "false" {
            flags.remove(name);
        } else {
            flags.insert(name.to_owned(), value.to_owned());
        }
    }
    Ok(flags)
}
