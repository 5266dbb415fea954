//! The manifests folder, and what the pods of this node should be.

use cprecover_policies::HELD;

use super::backups;
use crate::backup::{self, Held, HeldState, Store, rfc3339};
use crate::diagnose::{LintFact, ManifestFact};
use crate::error::{ErrorKind, Result};
use crate::kubeadm::is_stacked;
use crate::model::{Component, Observed};
use crate::node::NodeOptions;
use crate::parse::manifest::{MAX_MANIFEST_BYTES, StaticPod};
use crate::recover::act::bounce::REASON;
use crate::recover::observation::{BackupFact, ExpectedPod, PodSource};
use crate::sys::read_bounded;

/// What the four manifests are.
pub(super) fn live(node: &NodeOptions) -> Vec<ManifestFact> {
    let fact = |component: Component| {
        let path = node.manifests().join(component.manifest_file());
        let mut parse_error = None;
        let pod = match read_bounded(&path, MAX_MANIFEST_BYTES) {
            Ok(bytes) => StaticPod::parse_as_kubelet(&bytes).map_or_else(
                |error| {
                    parse_error = Some(error.to_string());
                    Observed::Unknown(error.to_string())
                },
                Observed::Present,
            ),
            Err(error) if error.kind() == ErrorKind::NotFound => Observed::Absent,
            Err(error) => Observed::Unknown(error.to_string()),
        };
        let path = node.manifests_dir.join(component.manifest_file());
        ManifestFact { component, path, pod, parse_error }
    };
    Component::ALL.into_iter().map(fact).collect()
}

/// What in the folder kubelet would read otherwise than its owner meant.
pub(super) fn lint(node: &NodeOptions) -> Result<Vec<LintFact>> {
    let findings = backup::lint(node)?;
    let fact = |finding: backup::LintFinding| LintFact {
        code: serde_json::to_value(finding.rule)
            .ok()
            .and_then(|code| code.as_str().map(str::to_owned))
            .unwrap_or_default(),
        path: finding.file.as_path().to_owned(),
        message: finding.message,
    };
    Ok(findings.into_iter().map(fact).collect())
}

/// Components' manifests that a person holds. What cprecover's own bounce left held it releases by itself.
pub(super) fn held(node: &NodeOptions, store: &Store) -> Result<Vec<LintFact>> {
    let own = |file: &str| Component::ALL.iter().any(|component| component.manifest_file() == file);
    let is_out = |held: &Held| matches!(held.state, HeldState::Held | HeldState::OnlyInSnapshot);
    let all = store.held()?.into_iter();
    let fact = |held: Held| {
        let why = if held.reason.is_empty() { String::new() } else { format!(" ({})", held.reason) };
        let message = format!("{} {HELD} {}{why}", held.file, rfc3339(held.since_unix_s));
        LintFact { code: LintFact::HELD.to_owned(), path: node.manifests_dir.join(&held.file), message }
    };
    let known = all.filter(|held| own(&held.file) && is_out(held) && held.reason != REASON).map(fact);
    let unreadable = store.unreadable_holds()?.into_iter();
    let unreadable = unreadable.filter(|hold| own(&hold.file) && !hold.is_in_place).map(|hold| LintFact {
        code: LintFact::HELD.to_owned(),
        path: node.manifests_dir.join(&hold.file),
        message: format!("{} {HELD} a time that nobody knows: {}", hold.file, hold.message),
    });
    Ok(known.chain(unreadable).collect())
}

/// The pods that this node should run: its manifests, and what only a backup still knows.
///
/// An etcd that neither the folder nor a backup knows is external when a manifest of the API server is
/// known; any other component is expected on every control-plane node.
pub(super) fn expected(
    facts: &[ManifestFact],
    backups: &[BackupFact],
    store: Option<&Store>,
) -> Vec<ExpectedPod> {
    let mut pods = Vec::new();
    for component in Component::ALL {
        let live = facts.iter().find(|fact| fact.component == component).and_then(|fact| fact.pod.present());
        if let Some(pod) = live {
            let source = Some(PodSource::Live);
            pods.push(ExpectedPod { component, source, pod: Some(pod.clone()) });
            continue;
        }
        let usable = |backup: &&BackupFact| backup.same_node.present() != Some(&false);
        let backup = backups.iter().filter(usable).find(|backup| backup.component == component);
        let pod = backup.zip(store).and_then(|(backup, store)| {
            StaticPod::parse_as_kubelet(&backups::manifest(store, backup).ok()?).ok()
        });
        match (backup, pod) {
            (Some(backup), Some(pod)) => {
                let source = Some(PodSource::Backup(backup.snapshot.clone()));
                pods.push(ExpectedPod { component, source, pod: Some(pod) });
            }
            _ => pods.push(ExpectedPod { component, source: None, pod: None }),
        }
    }
    if etcd_is_external(&pods) {
        pods.retain(|pod| pod.component != Component::Etcd);
    }
    pods
}

/// Reports whether no manifest of etcd is known, and the API server's says that it is not kubeadm's own.
pub(super) fn etcd_is_external(pods: &[ExpectedPod]) -> bool {
    let of = |component| pods.iter().find(|pod| pod.component == component).and_then(|pod| pod.pod.as_ref());
    let api_server = of(Component::KubeApiserver).filter(|pod| pod.flag("etcd-servers").is_some());
    of(Component::Etcd).is_none() && api_server.is_some_and(|pod| !is_stacked(|flag| pod.flag(flag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STACKED: [&str; 2] =
        ["/etc/kubernetes/pki/etcd/ca.crt", "/etc/kubernetes/pki/apiserver-etcd-client.crt"];

    fn is_external(servers: &str, advertised: &str, [ca, certificate]: [&str; 2]) -> bool {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: kube-apiserver, namespace: kube-system}}\nspec:\n  \
             containers:\n  - name: kube-apiserver\n    image: i:v1\n    command:\n    - kube-apiserver\n    \
             - --etcd-servers={servers}\n    - --advertise-address={advertised}\n    - --etcd-cafile={ca}\n    \
             - --etcd-certfile={certificate}\n"
        );
        let pod = StaticPod::parse(text.as_bytes()).expect("parses");
        etcd_is_external(&[ExpectedPod { component: Component::KubeApiserver, source: None, pod: Some(pod) }])
    }

    /// Kubespray's `etcd.service` on a control-plane node, and an etcd cluster of its own that kubeadm set up.
    #[test]
    fn an_etcd_that_is_not_kubeadms_own_is_external() {
        let service = ["/etc/ssl/etcd/ssl/ca.pem", "/etc/ssl/etcd/ssl/node-cp1.pem"];
        let servers = "https://10.0.0.2:2379,https://10.0.0.3:2379";
        assert!(is_external(servers, "10.0.0.2", service));
        assert!(is_external("https://127.0.0.1:2379", "10.0.0.2", service));
        assert!(is_external("https://10.0.0.7:2379", "10.0.0.2", STACKED));
        assert!(!is_external(servers, "10.0.0.2", STACKED));
        let elsewhere = ["/srv/pki/etcd/ca.crt", "/srv/pki/apiserver-etcd-client.crt"];
        assert!(!is_external("https://127.0.0.1:2379", "10.0.0.2", elsewhere));
    }

    #[test]
    fn an_address_that_begins_like_our_own_is_another_host() {
        for (servers, advertised) in [
            ("https://10.0.0.20:2379,https://10.0.0.21:2379", "10.0.0.2"),
            ("https://localhost.example:2379", "10.0.0.2"),
            ("https://[fd00::20]:2379", "fd00::2"),
        ] {
            assert!(is_external(servers, advertised, STACKED), "{servers}");
        }
        for (servers, advertised) in [
            ("https://127.0.0.1:2379", ""),
            ("https://10.0.0.20:2379,https://10.0.0.2:2379", "10.0.0.2"),
            ("http://localhost:2379/", "10.0.0.2"),
            ("https://[::1]:2379", "fd00::2"),
            ("https://[fd00::2]:2379", "fd00::2"),
        ] {
            assert!(!is_external(servers, advertised, STACKED), "{servers}");
        }
    }

    const ETCD: &str = include_str!("../../../testdata/kubeadm-1.36/manifests/etcd.yaml");

    #[test]
    fn what_lies_in_the_folder_besides_the_components_is_no_outage() {
        use crate::diagnose::{Facts, FindingId, Severity, diagnose};
        let dir = tempfile::tempdir().expect("temp dir");
        let node = NodeOptions::at(dir.path()).expect("absolute");
        std::fs::create_dir_all(node.manifests()).expect("mkdir");
        let write =
            |name: &str, text: &str| std::fs::write(node.manifests().join(name), text).expect("write");
        let severities = || {
            let lint = lint(&node).expect("lints");
            let diagnosis = diagnose(&Facts { manifests: live(&node), lint, ..Facts::default() });
            [FindingId::ManifestInvalid, FindingId::DuplicateManifest]
                .map(|id| diagnosis.finding(id).map(|finding| finding.severity))
        };
        let app = ETCD.replace("name: etcd\n", "name: app\n").replace("component: etcd", "component: app");
        let app = app.replace("kube-system", "default");
        for (name, text) in [("etcd.yaml", ETCD), ("app.yaml", &app), ("app.yaml.bak", &app), ("notes", "x")]
        {
            write(name, text);
        }
        assert_eq!(severities(), [Some(Severity::Warning), Some(Severity::Warning)]);
        // By its name, and by the pod that is in it.
        for copy in ["etcd.yaml.bak", "before.yaml"] {
            write(copy, ETCD);
            assert_eq!(severities(), [Some(Severity::Warning), Some(Severity::Error)], "{copy}");
            std::fs::remove_file(node.manifests().join(copy)).expect("remove");
        }
        write("etcd.yaml", "");
        assert_eq!(severities(), [Some(Severity::Critical), Some(Severity::Warning)]);
    }

    #[test]
    fn a_manifest_is_what_kubelet_makes_of_it() {
        let dir = tempfile::tempdir().expect("temp dir");
        let node = NodeOptions::at(dir.path()).expect("absolute");
        std::fs::create_dir_all(node.manifests()).expect("mkdir");
        let look = |text: &str| {
            std::fs::write(node.manifests().join("etcd.yaml"), text).expect("write");
            live(&node).into_iter().find(|fact| fact.component == Component::Etcd).expect("a fact")
        };
        // kubelet takes the last value of a key that is there twice, and the first document.
        let twice = ETCD.replacen("kind: Pod\n", "kind: Service\nkind: Pod\n", 1);
        for runs in [ETCD, &twice, &format!("{ETCD}---\nkind: Junk\n")] {
            let fact = look(runs);
            assert!(fact.pod.present().is_some() && fact.parse_error.is_none(), "{fact:?}");
        }
        // kubelet takes no boolean for text.
        let fact = look(&ETCD.replacen("  labels:\n", "  labels:\n    scrape: true\n", 1));
        assert!(fact.pod.present().is_none() && fact.parse_error.is_some(), "{fact:?}");
    }

    #[test]
    fn a_persons_hold_is_seen_and_our_own_is_not() {
        use crate::sys::Deadline;
        let dir = tempfile::tempdir().expect("temp dir");
        let node = NodeOptions::at(dir.path()).expect("absolute");
        std::fs::create_dir_all(node.manifests()).expect("mkdir");
        std::fs::write(node.manifests().join("etcd.yaml"), ETCD).expect("write");
        let store = Store::open(&node).expect("opens");
        let soon = || Deadline::after(std::time::Duration::from_secs(20));
        for (reason, seen) in [("disk is replaced", 1), (REASON, 0)] {
            store.hold("etcd.yaml", reason, &soon()).expect("holds");
            let found = held(&node, &store).expect("reads");
            assert_eq!(found.len(), seen, "{found:?}");
            if let [only] = found.as_slice() {
                assert_eq!(only.path, std::path::Path::new("/etc/kubernetes/manifests/etcd.yaml"));
                assert!(only.message.starts_with("etcd.yaml is held since 20"), "{only:?}");
                assert!(only.message.ends_with("Z (disk is replaced)"), "{only:?}");
            }
            store.release("etcd.yaml", &soon()).expect("releases");
            assert_eq!(held(&node, &store).expect("reads"), []);
        }
    }

    #[test]
    fn a_hold_whose_record_cannot_be_read_is_seen() {
        use crate::sys::Deadline;
        let dir = tempfile::tempdir().expect("temp dir");
        let node = NodeOptions::at(dir.path()).expect("absolute");
        std::fs::create_dir_all(node.manifests()).expect("mkdir");
        std::fs::write(node.manifests().join("etcd.yaml"), ETCD).expect("write");
        let store = Store::open(&node).expect("opens");
        store.hold("etcd.yaml", "", &Deadline::after(std::time::Duration::from_secs(20))).expect("holds");
        let record = node.store().join("held/etcd.yaml.json");
        std::fs::write(&record, "").expect("write");
        let found = held(&node, &store).expect("reads");
        let message = found.first().map(|fact| fact.message.as_str()).unwrap_or_default();
        assert!(message.starts_with("etcd.yaml is held since"), "{found:?}");
        assert!(message.contains(&record.display().to_string()), "{found:?}");
        std::fs::write(node.manifests().join("etcd.yaml"), ETCD).expect("write");
        assert_eq!(held(&node, &store).expect("reads"), [], "the component has its manifest");
    }
}
