//! The semantic comparison of a staged manifest with the last known good one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::severity::{RENAMED, Severity, of_flag};
use crate::error::Result;
use crate::model::Component;
use crate::parse::manifest::StaticPod;
use crate::parse::yaml;

/// The most differences that are listed; one manifest has some 100 values.
const MAX_DIFFERENCES: usize = 1000;

/// One difference between the last known good manifest and the staged one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Difference {
    /// What differs: `--service-cluster-ip-range`, `image`, `volume k8s-certs`, `livenessProbe`.
    pub what: String,
    /// The last known good value; `None` when it was not there.
    pub before: Option<String>,
    /// The staged value; `None` when it is not there.
    pub after: Option<String>,
    /// How much it matters.
    pub severity: Severity,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value =
            |value: &Option<String>| value.as_ref().map_or_else(|| "(none)".into(), |v| format!("{v:?}"));
        write!(
            f,
            "{} {} → {} ({}: {})",
            self.what,
            value(&self.before),
            value(&self.after),
            self.severity.as_str(),
            self.reason
        )
    }
}

/// All differences of one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ComponentDiff {
    /// The component.
    pub component: Component,
    /// What it was compared with; `None` when no manifest of it is known.
    pub compared_with: Option<String>,
    /// The differences, worst first.
    pub differences: Vec<Difference>,
}

impl ComponentDiff {
    /// Returns the worst severity; `None` when nothing differs.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.differences.iter().map(|difference| difference.severity).max()
    }
}

/// Compares two manifests of one component by what they mean; the worst differences come first.
///
/// # Errors
/// [`crate::ErrorKind::Invalid`] when one of them is not a static pod.
pub fn compare(component: Component, before: &[u8], after: &[u8]) -> Result<Vec<Difference>> {
    let (old, new) = (Side::of(before)?, Side::of(after)?);
    let mut differences = Vec::new();
    flags(&mut differences, component, &old, &new);
    image(&mut differences, &old, &new);
    volumes(&mut differences, &old, &new);
    others(&mut differences, &old, &new);
    differences.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.what.cmp(&b.what)));
    differences.truncate(MAX_DIFFERENCES);
    Ok(differences)
}

/// One manifest, taken apart.
struct Side {
    flags: BTreeMap<String, Vec<String>>,
    program: String,
    image: String,
    /// etcd's data folder on the node.
    data_dir: Option<PathBuf>,
    /// Volume name to `host path (type) at mount path, read-only`.
    volumes: BTreeMap<String, String>,
    /// The name of the first container, the only one in kubeadm's pods.
    main: String,
    /// Everything else, by path.
    rest: BTreeMap<String, String>,
}

impl Side {
    fn of(bytes: &[u8]) -> Result<Self> {
        let pod = StaticPod::parse_as_kubelet(bytes)?;
        let mut flags: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in pod.main().map(|main| main.flags().collect::<Vec<_>>()).unwrap_or_default() {
            flags.entry(name.to_owned()).or_default().push(value.to_owned());
        }
        let argv = pod.main().map(|main| main.argv.as_slice()).unwrap_or_default();
        let mut raw: Value = yaml::from_slice_as_kubelet(bytes)?;
        let mounts = take(&mut raw, "/spec/containers/0", "volumeMounts");
        let hosts = take(&mut raw, "/spec", "volumes");
        take(&mut raw, "/spec/containers/0", "command");
        take(&mut raw, "/spec/containers/0", "args");
        take(&mut raw, "/spec/containers/0", "image");
        take(&mut raw, "", "status");
        take(&mut raw, "/metadata", "creationTimestamp");
        let mut rest = BTreeMap::new();
        leaves(&raw, "", &mut rest);
        Ok(Self {
            flags,
            program: argv.first().cloned().unwrap_or_default(),
            image: pod.main().map(|main| main.image.clone()).unwrap_or_default(),
            data_dir: pod.etcd_data_dir(),
            main: pod.main().map(|main| main.name.clone()).unwrap_or_default(),
            volumes: volume_texts(&hosts, &mounts),
            rest,
        })
    }
}

/// Takes a key out of the object at `pointer`.
fn take(raw: &mut Value, pointer: &str, key: &str) -> Value {
    raw.pointer_mut(pointer)
        .and_then(Value::as_object_mut)
        .and_then(|map| map.shift_remove(key))
        .unwrap_or_default()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn name_of(value: &Value) -> &str {
    value.get("name").and_then(Value::as_str).unwrap_or_default()
}

fn volume_texts(hosts: &Value, mounts: &Value) -> BTreeMap<String, String> {
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for volume in items(hosts) {
        let source: Map<String, Value> = volume
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| *key != "name")
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let text = match source.get("hostPath") {
            Some(host) => {
                let part = |key| host.get(key).and_then(Value::as_str).unwrap_or_default();
                format!("{} ({})", part("path"), part("type"))
            }
            None => Value::Object(source).to_string(),
        };
        texts.insert(name_of(volume).to_owned(), text);
    }
    for mount in items(mounts) {
        let part = |key| mount.get(key).and_then(Value::as_str).filter(|value| !value.is_empty());
        let text = texts.entry(name_of(mount).to_owned()).or_default();
        text.extend([" at ", part("mountPath").unwrap_or_default()]);
        // Each of them changes what the process finds there (kubernetes `core/v1`, VolumeMount).
        for key in ["subPath", "subPathExpr", "mountPropagation", "recursiveReadOnly"] {
            if let Some(value) = part(key) {
                text.extend([", ", key, " ", value]);
            }
        }
        if mount.get("readOnly").and_then(Value::as_bool).unwrap_or(false) {
            text.push_str(", read-only");
        }
    }
    texts
}

/// Flattens to paths; the depth is bounded by the YAML reader.
fn leaves(value: &Value, path: &str, out: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(key, inner)| leaves(inner, &format!("{path}/{key}"), out));
        }
        Value::Array(list) if !list.is_empty() => list.iter().enumerate().for_each(|(index, inner)| {
            // Named items (env, ports, containers) are told apart by name, not by place.
            let label = match name_of(inner) {
                "" => index.to_string(),
                name => name.to_owned(),
            };
            leaves(inner, &format!("{path}/{label}"), out);
        }),
        Value::Null => {}
        Value::String(text) => {
            out.insert(path.to_owned(), text.clone());
        }
        other => {
            out.insert(path.to_owned(), other.to_string());
        }
    }
}

fn flags(out: &mut Vec<Difference>, component: Component, old: &Side, new: &Side) {
    if old.program != new.program {
        out.push(difference(
            "program",
            Some(&old.program),
            Some(&new.program),
            Severity::Dangerous,
            "another program would run",
        ));
    }
    let names: BTreeSet<&String> = old.flags.keys().chain(new.flags.keys()).collect();
    for name in names {
        let (before, after) = (old.flags.get(name), new.flags.get(name));
        if before == after {
            continue;
        }
        let join = |values: Option<&Vec<String>>| values.map(|values| values.join(" and "));
        let (before, after) = (join(before), join(after));
        let (severity, reason) = if is_renamed(name, old, new) {
            (Severity::Harmless, "kubeadm spells it differently for another version, with the same meaning")
        } else if component == Component::Etcd && name == "data-dir" && has_same_data(old, new) {
            (Severity::Harmless, SAME_DATA)
        } else {
            of_flag(component, name)
        };
        out.push(difference(&format!("--{name}"), before.as_ref(), after.as_ref(), severity, reason));
    }
}

const SAME_DATA: &str = "it is the same folder of the node, mounted at another path";

/// Reports whether etcd has the same data folder of the node on both sides.
fn has_same_data(old: &Side, new: &Side) -> bool {
    old.data_dir.is_some() && old.data_dir == new.data_dir
}

/// Reports whether both spellings of a flag with one meaning stand on one side each.
fn is_renamed(name: &str, old: &Side, new: &Side) -> bool {
    let has = |side: &Side, pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        side.flags.get(name).is_some_and(|values| values.as_slice() == [value])
    };
    RENAMED.iter().any(|(a, b)| {
        let named = [a, b].iter().any(|pair| pair.split('=').next() == Some(name));
        named
            && ((has(old, a) && has(new, b) && !has(old, b)) || (has(old, b) && has(new, a) && !has(old, a)))
    })
}

fn image(out: &mut Vec<Difference>, old: &Side, new: &Side) {
    if old.image == new.image {
        return;
    }
    let split = |image: &str| {
        let (path, tag) = image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).unwrap_or((image, ""));
        (path.to_owned(), tag.to_owned())
    };
    let ((old_path, old_tag), (new_path, new_tag)) = (split(&old.image), split(&new.image));
    let (severity, reason) =
        if old_tag == new_tag && old_path.rsplit('/').next() == new_path.rsplit('/').next() {
            (Severity::NeedsReview, "the same version would be pulled from another registry")
        } else if minor(&old_tag).is_some() && minor(&old_tag) == minor(&new_tag) {
            (Severity::NeedsReview, "another patch version would run")
        } else {
            (
                Severity::Dangerous,
                "another version would run; etcd cannot go back, components must not skip versions",
            )
        };
    out.push(difference("image", Some(&old.image), Some(&new.image), severity, reason));
}

/// `v1.36.2` and `3.6.8-0` to (1, 36) and (3, 6).
fn minor(tag: &str) -> Option<(u32, u32)> {
    let mut parts = tag.trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Names of volumes that kubeadm mounts only when the host has the folder.
const OPTIONAL_FOLDERS: [&str; 6] = [
    "etc-pki",
    "etc-pki-ca-trust",
    "etc-pki-tls-certs",
    "etc-ca-certificates",
    "usr-share-ca-certificates",
    "usr-local-share-ca-certificates",
];

fn volumes(out: &mut Vec<Difference>, old: &Side, new: &Side) {
    // A folder that is nothing but etcd's data, wherever it is mounted.
    let is_data = |text: Option<&String>, side: &Side| {
        side.data_dir.as_ref().zip(text).is_some_and(|(dir, text)| {
            let host = text.split_once(" (").map(|(host, _)| std::path::Path::new(host));
            host == Some(dir) && !text.ends_with("read-only")
        })
    };
    let names: BTreeSet<&String> = old.volumes.keys().chain(new.volumes.keys()).collect();
    for name in names {
        let (before, after) = (old.volumes.get(name), new.volumes.get(name));
        if before == after {
            continue;
        }
        let (severity, reason) = if OPTIONAL_FOLDERS.contains(&name.as_str()) {
            (Severity::NeedsReview, "kubeadm mounts this folder of certificates when the host has it")
        } else if is_data(before, old) && is_data(after, new) && has_same_data(old, new) {
            (Severity::Harmless, SAME_DATA)
        } else if before.is_none() {
            (Severity::NeedsReview, "a new folder of the host would be mounted")
        } else {
            (Severity::Dangerous, "data, keys or logs would be missing or elsewhere")
        };
        out.push(difference(&format!("volume {name}"), before, after, severity, reason));
    }
}

fn others(out: &mut Vec<Difference>, old: &Side, new: &Side) {
    let paths: BTreeSet<&String> = old.rest.keys().chain(new.rest.keys()).collect();
    for path in paths {
        let (before, after) = (old.rest.get(path), new.rest.get(path));
        if before == after {
            continue;
        }
        let container = path.strip_prefix("/spec/containers/").and_then(|rest| rest.split('/').next());
        let beside = container.is_some_and(|name| name != old.main);
        let (severity, reason) = if beside && after.is_none() {
            (Severity::Dangerous, "a container of the pod, or a part of it, would be missing")
        } else {
            of_path(path)
        };
        let what = path.trim_start_matches("/spec/containers/").trim_start_matches('/');
        out.push(difference(what, before, after, severity, reason));
    }
}

/// Classes a difference outside of command, image and volumes.
fn of_path(path: &str) -> (Severity, &'static str) {
    let has = |part: &str| path.contains(part);
    if has("Probe/") {
        let where_to = ["/host", "/port", "/scheme", "/path"].iter().any(|end| path.ends_with(end));
        return if where_to {
            (Severity::NeedsReview, "the probe would ask elsewhere")
        } else {
            (Severity::Harmless, "the probe would be more or less patient")
        };
    }
    if has("/hostNetwork") || path.starts_with("/metadata/name") || path.starts_with("/metadata/labels") {
        return (Severity::Dangerous, "the pod would be another one, or in another network");
    }
    if has("/initContainers") || has("/volumeDevices") {
        return (Severity::Dangerous, "a part of the pod would be missing");
    }
    if has("/resources/") || has("/priority") {
        return (Severity::NeedsReview, "the pod may be starved or evicted");
    }
    if has("/env/") {
        return (Severity::NeedsReview, "a variable of the process would change");
    }
    if has("/securityContext") {
        return (Severity::NeedsReview, "the pod would run with other rights");
    }
    (Severity::NeedsReview, "it was set on purpose or by another version of kubeadm")
}

fn difference(
    what: &str,
    before: Option<&String>,
    after: Option<&String>,
    severity: Severity,
    reason: &str,
) -> Difference {
    Difference {
        what: what.into(),
        before: before.cloned(),
        after: after.cloned(),
        severity,
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! pair {
        ($file:literal) => {
            (
                &include_bytes!(concat!("../../testdata/kubeadm-1.36/manifests/", $file))[..],
                &include_bytes!(concat!("../../testdata/incident-lost/manifests-no-config/", $file))[..],
            )
        };
    }

    fn classes(component: Component, (before, after): (&[u8], &[u8])) -> Vec<(String, &'static str)> {
        let differences = compare(component, before, after).expect("both parse");
        differences.into_iter().map(|d| (d.what, d.severity.as_str())).collect()
    }

    #[test]
    fn what_kubeadm_cannot_make_is_dangerous_to_lose() {
        let after = pair!("kube-apiserver.yaml").0;
        let text = std::str::from_utf8(after).expect("text");
        let lost = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            classes(Component::KubeApiserver, (text.replacen(from, to, 1).as_bytes(), after))
        };
        let sidecar = "  hostNetwork: true\n";
        let with =
            lost("    volumeMounts:\n", "    volumeMounts:\n    - {mountPath: /a, name: a, subPath: b}\n");
        assert_eq!(with, [("volume a".to_owned(), "dangerous")]);
        for field in ["subPath: sub", "mountPropagation: Bidirectional"] {
            let from = "    - mountPath: /etc/kubernetes/pki\n";
            let with = lost(from, &format!("{from}      {field}\n"));
            assert_eq!(with, [("volume k8s-certs".to_owned(), "dangerous")], "{field}");
        }
        let with = lost(sidecar, &format!("  - {{name: kms, image: i, command: [kms]}}\n{sidecar}"));
        assert!(!with.is_empty() && with.iter().all(|(_, severity)| *severity == "dangerous"), "{with:?}");
    }

    /// The whole of testdata/incident-lost/diff-noconfig-vs-original.txt, classed.
    #[test]
    fn the_incident_is_dangerous() {
        let etcd = classes(Component::Etcd, pair!("etcd.yaml"));
        assert_eq!(
            etcd,
            [
                ("--initial-cluster", "dangerous"),
                ("--name", "dangerous"),
                ("--quota-backend-bytes", "dangerous")
            ]
            .map(|(what, severity)| (what.to_owned(), severity))
        );
        let apiserver = classes(Component::KubeApiserver, pair!("kube-apiserver.yaml"));
        assert_eq!(
            apiserver,
            [("--audit-log-maxage", "dangerous"), ("--max-requests-inflight", "needs-review")]
                .map(|(what, severity)| (what.to_owned(), severity))
        );
        let kcm = classes(Component::KubeControllerManager, pair!("kube-controller-manager.yaml"));
        assert_eq!(
            kcm,
            [
                ("--allocate-node-cidrs", "dangerous"),
                ("--cluster-cidr", "dangerous"),
                ("--node-cidr-mask-size", "dangerous"),
                ("--service-cluster-ip-range", "dangerous"),
                ("--cluster-name", "needs-review"),
            ]
            .map(|(what, severity)| (what.to_owned(), severity))
        );
        assert_eq!(classes(Component::KubeScheduler, pair!("kube-scheduler.yaml")), []);
    }

    #[test]
    fn images_volumes_probes_and_the_rest() {
        let before = pair!("kube-apiserver.yaml").0;
        let text = std::str::from_utf8(before).expect("text");
        let change = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            classes(Component::KubeApiserver, (before, text.replace(from, to).as_bytes()))
        };
        let one = |what: &str, severity| vec![(what.to_owned(), severity)];
        assert_eq!(change(":v1.36.2", ":v1.36.3"), one("image", "needs-review"));
        assert_eq!(change(":v1.36.2", ":v1.35.2"), one("image", "dangerous"));
        assert_eq!(change("registry.k8s.io/", "mirror.example/k8s/"), one("image", "needs-review"));
        assert_eq!(
            change("      path: /etc/kubernetes/pki\n", "      path: /etc/kubernetes/pki2\n"),
            one("volume k8s-certs", "dangerous")
        );
        assert_eq!(
            change("cpu: 250m", "cpu: 1m"),
            one("kube-apiserver/resources/requests/cpu", "needs-review")
        );
        assert_eq!(change("hostNetwork: true", "hostNetwork: false"), one("spec/hostNetwork", "dangerous"));
        assert_eq!(
            change("failureThreshold: 3\n", "failureThreshold: 4\n"),
            one("kube-apiserver/readinessProbe/failureThreshold", "harmless")
        );
        assert_eq!(
            change("type: RuntimeDefault", "type: Unconfined"),
            one("spec/securityContext/seccompProfile/type", "needs-review")
        );
    }

    #[test]
    fn a_renamed_flag_is_harmless_and_a_repeated_one_keeps_its_order() {
        let new = std::str::from_utf8(pair!("etcd.yaml").0).expect("text");
        let old = new
            .replace("--feature-gates=InitialCorruptCheck=true", "--experimental-initial-corrupt-check=true")
            .replace("--watch-progress-notify", "--experimental-watch-progress-notify");
        let found = compare(Component::Etcd, old.as_bytes(), new.as_bytes()).expect("both parse");
        assert_eq!(found.len(), 4);
        assert!(found.iter().all(|d| d.severity == Severity::Harmless), "{found:?}");
        let api = std::str::from_utf8(pair!("kube-apiserver.yaml").0).expect("text");
        let issuer = "    - --service-account-issuer=https://kubernetes.default.svc.cluster.local\n";
        let two = api.replace(issuer, &format!("    - --service-account-issuer=https://b\n{issuer}"));
        let swapped = api.replace(issuer, &format!("{issuer}    - --service-account-issuer=https://b\n"));
        let found =
            compare(Component::KubeApiserver, two.as_bytes(), swapped.as_bytes()).expect("both parse");
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
