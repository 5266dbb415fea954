//! What can be known of a kubeadm config when the cluster does not answer.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod kubeadm_support;

use cprecover::ErrorKind;
use cprecover::kubeadm::{
    ApiVersion, CertificateSource, Config, EtcdDataState, ManifestOrigin, ManifestSource, Origin,
    RuntimeContainer, RuntimeMount, Severity, Sources, command_line, compare, reconstruct,
};
use cprecover::model::{Component, NodeName, Observed, Port};
use cprecover::parse::manifest::StaticPod;
use kubeadm_support::{CONFIG, manifests_only, recorded};
use serde_json::{Value, json};

/// Flattens a config to `path: value`, so that it can be compared field by field.
fn flat(config: &Config) -> std::collections::BTreeMap<String, Value> {
    fn walk(value: &Value, path: &str, out: &mut std::collections::BTreeMap<String, Value>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, v)| walk(v, &format!("{path}/{key}"), out)),
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(i, v)| walk(v, &format!("{path}/{i}"), out));
            }
            Value::Null => {}
            other => {
                out.insert(path.to_owned(), other.clone());
            }
        }
    }
    let mut out = std::collections::BTreeMap::new();
    walk(&serde_json::to_value(config).unwrap(), "", &mut out);
    out
}

/// The first "must hold".
#[test]
fn four_manifests_give_the_recorded_config_back() {
    let found = reconstruct(&manifests_only()).unwrap();
    let want = flat(&Config::parse(CONFIG).unwrap());
    let got = flat(&found.config);
    let unknown: Vec<&str> = found.unknown.iter().map(|unknown| unknown.path.as_str()).collect();
    // The CRI socket is the only field of the recorded config that no manifest carries.
    for (path, value) in want.iter().filter(|(path, _)| *path != "/criSocket") {
        assert_eq!(got.get(path), Some(value), "{path}");
    }
    assert!(!got.contains_key("/criSocket"));
    assert_eq!(
        unknown,
        ["nodeRegistration.criSocket", "controlPlaneEndpoint", "patches.directory", "apiServer.certSANs"]
    );
    assert!(found.conflicts.is_empty(), "{:?}", found.conflicts);
    // What is there beyond the recorded config are kubeadm's defaults, and the pin of etcd's image.
    let extra: Vec<(&str, &Value)> =
        got.iter().filter(|(path, _)| !want.contains_key(*path)).map(|(p, v)| (p.as_str(), v)).collect();
    assert_eq!(
        extra,
        [
            ("/certificatesDir", &json!("/etc/kubernetes/pki")),
            ("/dnsDomain", &json!("cluster.local")),
            ("/etcd/local/imageTag", &json!("3.6.8-0")),
            ("/imageRepository", &json!("registry.k8s.io")),
        ]
    );
    // And nothing is missing for a manifest: every command comes out as it was.
    found.require_complete(&Component::ALL, &[]).unwrap();
    for component in Component::ALL {
        let argv = StaticPod::parse(recorded(component)).unwrap().main().unwrap().argv.clone();
        assert_eq!(command_line(component, &found.config, false), argv, "{component}");
    }
}

#[test]
fn every_field_has_an_origin() {
    let found = reconstruct(&manifests_only()).unwrap();
    let origin =
        |path: &str| found.fields.iter().find(|field| field.path == path).map(|f| f.origin.to_string());
    assert_eq!(
        origin("networking.podSubnet").as_deref(),
        Some("manifest snapshot kube-controller-manager.yaml --cluster-cidr")
    );
    assert_eq!(
        origin("apiServer.extraArgs[audit-log-maxage]").as_deref(),
        Some("manifest snapshot kube-apiserver.yaml --audit-log-maxage")
    );
    assert_eq!(
        origin("kubernetesVersion").as_deref(),
        Some("manifest snapshot kube-apiserver.yaml image tag")
    );
    assert_eq!(origin("etcd.local.dataDir").as_deref(), Some("manifest snapshot etcd.yaml --data-dir"));
}

#[test]
fn nothing_at_all_is_asked_for_not_guessed() {
    let found = reconstruct(&Sources::default()).unwrap();
    assert_eq!(found.config, Config::default());
    let error = found.require_complete(&Component::ALL, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Missing);
    for path in [
        "nodeRegistration.name",
        "localAPIEndpoint.advertiseAddress",
        "localAPIEndpoint.bindPort",
        "kubernetesVersion",
        "imageRepository",
        "certificatesDir",
        "networking.podSubnet",
        "networking.serviceSubnet",
        "networking.dnsDomain",
        "clusterName",
        "apiServer.extraArgs",
        "controllerManager.extraArgs",
        "scheduler.extraArgs",
    ] {
        assert!(error.to_string().contains(path), "{path}: {error}");
    }
    // The scheduler needs little.
    let scheduler = found.require_complete(&[Component::KubeScheduler], &[]).unwrap_err().to_string();
    assert!(!scheduler.contains("podSubnet") && scheduler.contains("kubernetesVersion"), "{scheduler}");
    let accepted = ["kubernetesVersion", "imageRepository", "scheduler.extraArgs"].map(String::from);
    found.require_complete(&[Component::KubeScheduler], &accepted).unwrap();
}

#[test]
fn one_lost_manifest_is_known_by_the_others_but_for_its_extra_arguments() {
    let mut sources = manifests_only();
    sources.manifests.retain(|manifest| manifest.component != Component::KubeControllerManager);
    let found = reconstruct(&sources).unwrap();
    let missing: Vec<&str> = found
        .missing(&[Component::KubeControllerManager])
        .iter()
        .map(|unknown| unknown.path.as_str())
        .collect();
    assert_eq!(missing, ["networking.podSubnet", "clusterName", "controllerManager.extraArgs"]);
    // A container that the runtime still knows tells all of it.
    let pod = StaticPod::parse(recorded(Component::KubeControllerManager)).unwrap();
    let mut container = RuntimeContainer::new(Component::KubeControllerManager, &pod.main().unwrap().image);
    container.argv.clone_from(&pod.main().unwrap().argv);
    sources.containers.push(container);
    let found = reconstruct(&sources).unwrap();
    assert_eq!(found.missing(&Component::ALL), Vec::<&cprecover::kubeadm::Unknown>::new());
    assert_eq!(found.config.pod_subnet.as_deref(), Some("10.244.0.0/16"));
    assert_eq!(found.config.controller_manager.arg("node-cidr-mask-size"), Some("24"));
    let field = found.fields.iter().find(|field| field.path == "clusterName").unwrap();
    assert!(matches!(field.origin, Origin::Runtime(_)), "{:?}", field.origin);
}

/// What a runtime shows of a container is also what kubelet and the runtime itself gave it.
#[test]
fn a_container_tells_what_its_manifest_said_and_no_more() {
    let mut sources = manifests_only();
    sources.manifests.retain(|manifest| manifest.component != Component::KubeScheduler);
    let pod = StaticPod::parse(recorded(Component::KubeScheduler)).unwrap();
    let mut container = RuntimeContainer::new(Component::KubeScheduler, &pod.main().unwrap().image);
    container.argv.clone_from(&pod.main().unwrap().argv);
    let own = ["HTTPS_PROXY", "GOGC", "MY_SERVICE_HOST", "DEBUG_PORT", "KUBE_DNS_EXTRA"];
    let kubelets = [
        "KUBERNETES_PORT",
        "KUBE_DNS_SERVICE_HOST",
        "KUBE_DNS_SERVICE_PORT",
        "KUBE_DNS_SERVICE_PORT_DNS_TCP",
        "KUBE_DNS_PORT",
        "KUBE_DNS_PORT_53_UDP_ADDR",
    ];
    let all = own.iter().chain(&kubelets).chain(&["PATH", "TERM"]);
    container.envs = all.map(|name| ((*name).to_owned(), "x".to_owned())).collect();
    let mount = |host: &str, inside: &str| RuntimeMount {
        host_path: host.into(),
        container_path: inside.into(),
        read_only: false,
    };
    let of_pod = "/var/lib/kubelet/pods/u";
    container.mounts = vec![
        mount("/etc/kubernetes/scheduler.conf", "/etc/kubernetes/scheduler.conf"),
        mount("/etc/kubernetes/sched", "/etc/kubernetes/sched"),
        mount(&format!("{of_pod}/etc-hosts"), "/etc/hosts"),
        mount(&format!("{of_pod}/containers/kube-scheduler/0"), "/dev/termination-log"),
        mount(&format!("{of_pod}/volumes/kubernetes.io~empty-dir/cache"), "/cache"),
    ];
    sources.containers.push(container);
    let found = reconstruct(&sources).unwrap();
    let mut names: Vec<&str> =
        found.config.scheduler.extra_envs.iter().map(|env| env.name.as_str()).collect();
    names.sort_unstable();
    let mut wanted = own;
    wanted.sort_unstable();
    assert_eq!(names, wanted);
    let volumes: Vec<_> =
        found.config.scheduler.extra_volumes.iter().map(|volume| volume.host_path.as_path()).collect();
    assert_eq!(volumes, [std::path::Path::new("/etc/kubernetes/sched")]);
    // An emptyDir is no folder of the node; what it was is asked for.
    let missing = found.missing(&[Component::KubeScheduler]);
    let missing: Vec<&str> = missing.iter().map(|unknown| unknown.path.as_str()).collect();
    assert_eq!(missing, ["scheduler volume at /cache"]);
}

#[test]
fn a_backed_up_config_wins_and_disagreement_is_shown() {
    let mut sources = manifests_only();
    let config = String::from_utf8(CONFIG.to_vec()).unwrap().replace("10.244.0.0/16", "10.9.0.0/16");
    sources.config = Some(("backup".into(), config.into_bytes()));
    let found = reconstruct(&sources).unwrap();
    assert_eq!(found.config.pod_subnet.as_deref(), Some("10.9.0.0/16"));
    let conflict = found.conflicts.iter().find(|conflict| conflict.path == "networking.podSubnet").unwrap();
    assert_eq!(conflict.other.0, json!("10.244.0.0/16"));
    // The caller wins over both.
    sources.overrides.pod_subnet = Some("10.8.0.0/16".into());
    assert_eq!(reconstruct(&sources).unwrap().config.pod_subnet.as_deref(), Some("10.8.0.0/16"));
    // A config alone, without any manifest, leaves nothing to ask but etcd's image.
    let mut alone = Sources::default();
    alone.config = Some(("backup".into(), CONFIG.to_vec()));
    let found = reconstruct(&alone).unwrap();
    found.require_complete(&Component::ALL, &[]).unwrap();
    assert_eq!(found.config.cri_socket.as_deref(), Some("unix:///run/containerd/containerd.sock"));
}

#[test]
fn flags_that_were_added_by_hand_are_kept_beside_a_config() {
    let text = String::from_utf8(recorded(Component::KubeApiserver).to_vec()).unwrap();
    let text = text.replace(
        "    - --audit-log-maxage=7\n",
        "    - --audit-log-maxage=7\n    - --encryption-provider-config=/etc/kubernetes/enc.yaml\n",
    );
    let mut sources = manifests_only();
    sources.config = Some(("backup".into(), CONFIG.to_vec()));
    sources.manifests.retain(|manifest| manifest.component != Component::KubeApiserver);
    sources.manifests.push(ManifestSource::new(
        Component::KubeApiserver,
        ManifestOrigin::LastKnownGood,
        "edited",
        text.as_bytes(),
    ));
    let found = reconstruct(&sources).unwrap();
    assert_eq!(found.config.api_server.arg("encryption-provider-config"), Some("/etc/kubernetes/enc.yaml"));
    assert_eq!(found.config.api_server.arg("audit-log-maxage"), Some("7"));
    assert_eq!(found.config.api_server.extra_args.len(), 3);
}

#[test]
fn volumes_variables_overrides_and_repeated_flags_come_back() {
    let text = String::from_utf8(recorded(Component::KubeApiserver).to_vec()).unwrap();
    let text = text
        .replace(
            "    - --service-account-issuer=https://kubernetes.default.svc.cluster.local\n",
            "    - --service-account-issuer=https://new.example\n    - --service-account-issuer=https://kubernetes.default.svc.cluster.local\n",
        )
        .replace("    - --secure-port=6443\n", "    - --secure-port=16443\n")
        .replace("    image: ", "    env:\n    - name: HTTPS_PROXY\n      value: http://proxy:3128\n    image: ")
        .replace(
            "    volumeMounts:\n",
            "    volumeMounts:\n    - mountPath: /var/log/audit\n      name: audit\n",
        )
        .replace("  volumes:\n", "  volumes:\n  - hostPath:\n      path: /srv/audit\n      type: Directory\n    name: audit\n");
    let mut sources = Sources::default();
    sources.manifests.push(ManifestSource::new(Component::KubeApiserver, ManifestOrigin::Live, "live", text));
    let found = reconstruct(&sources).unwrap();
    let api = &found.config.api_server;
    let issuers: Vec<&str> = api
        .extra_args
        .iter()
        .filter(|a| a.name == "service-account-issuer")
        .map(|a| a.value.as_str())
        .collect();
    assert_eq!(issuers, ["https://new.example", "https://kubernetes.default.svc.cluster.local"]);
    // The annotation, not the flag, is what the config said.
    assert_eq!(found.config.bind_port.map(Port::get), Some(6443));
    assert_eq!(api.arg("secure-port"), Some("16443"));
    assert_eq!(api.extra_envs[0].name, "HTTPS_PROXY");
    let volume = &api.extra_volumes[0];
    assert_eq!(
        (volume.name.as_str(), volume.path_type.as_str(), volume.read_only),
        ("audit", "Directory", false)
    );
    assert_eq!(api.extra_volumes.len(), 1, "{:?}", api.extra_volumes);
    assert!(found.render(ApiVersion::V1Beta4).is_ok());
    assert_eq!(found.render(ApiVersion::V1Beta3).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn external_etcd_is_told_from_a_local_one() {
    let text = String::from_utf8(recorded(Component::KubeApiserver).to_vec()).unwrap();
    let text = text
        .replace("--etcd-servers=https://127.0.0.1:2379", "--etcd-servers=https://e1:2379,https://e2:2379")
        .replace("--etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt", "--etcd-cafile=/etc/etcd/ca.crt")
        .replace("apiserver-etcd-client", "external-client");
    let mut sources = Sources::default();
    sources.manifests.push(ManifestSource::new(Component::KubeApiserver, ManifestOrigin::Live, "live", text));
    let found = reconstruct(&sources).unwrap();
    let external = found.config.external_etcd().expect("external");
    assert_eq!(external.endpoints, ["https://e1:2379", "https://e2:2379"]);
    assert_eq!(external.ca_file.to_str(), Some("/etc/etcd/ca.crt"));
    assert!(found.config.api_server.extra_args.iter().all(|arg| !arg.name.starts_with("etcd-")));
}

#[test]
fn files_of_the_node_fill_the_gaps() {
    let node = kubeadm_support::Node::new(&[]);
    let read = |path: &str| Observed::Present(std::fs::read(node.path(path)).unwrap());
    let mut sources = Sources::default();
    sources
        .certificates
        .push(CertificateSource::new("etcd/server.crt", read("etc/kubernetes/pki/etcd/server.crt")));
    sources
        .certificates
        .push(CertificateSource::new("apiserver.crt", read("etc/kubernetes/pki/apiserver.crt")));
    sources
        .certificates
        .push(CertificateSource::new("etcd/peer.crt", Observed::Unknown("no permission".into())));
    let kubeconfig = b"clusters: [{name: lab, cluster: {server: 'https://api.example:6443'}}]\nusers: [{name: kubernetes-admin}]\n";
    sources.kubeconfigs.push(("admin.conf".into(), kubeconfig.to_vec()));
    sources.kubeadm_flags =
        Some(b"KUBELET_KUBEADM_ARGS=\"--container-runtime-endpoint=unix:///run/crio/crio.sock --node-ip=1.2.3.4\"\n".to_vec());
    sources.etcd_data =
        Some(EtcdDataState::new("/data/etcd", Observed::Present(4096), Observed::Present(4096)));
    let found = reconstruct(&sources).unwrap();
    let config = &found.config;
    assert_eq!(config.node_name.as_ref().map(NodeName::as_str), Some("cp1"));
    assert_eq!(config.advertise_address.map(|a| a.to_string()).as_deref(), Some(kubeadm_support::ADDRESS));
    assert_eq!(config.dns_domain.as_deref(), Some("cluster.local"));
    assert_eq!(config.cluster_name.as_deref(), Some("lab"));
    assert_eq!(config.control_plane_endpoint.as_deref(), Some("api.example:6443"));
    assert_eq!(config.cri_socket.as_deref(), Some("unix:///run/crio/crio.sock"));
    assert_eq!(config.local_etcd().unwrap().data_dir.as_deref(), Some("/data/etcd".as_ref()));
    let origin =
        &found.fields.iter().find(|field| field.path == "nodeRegistration.criSocket").unwrap().origin;
    assert!(matches!(origin, Origin::KubeletFile(_)), "{origin:?}");
    let error = found.require_complete(&Component::ALL, &[]).unwrap_err();
    assert!(
        error.to_string().contains("kubernetesVersion") && !error.to_string().contains("dataDir"),
        "{error}"
    );
}

#[test]
fn a_half_written_manifest_tells_nothing_and_is_listed() {
    let mut sources = manifests_only();
    let half = recorded(Component::Etcd).split_at(300).0;
    sources
        .manifests
        .insert(0, ManifestSource::new(Component::Etcd, ManifestOrigin::Live, "/live/etcd.yaml", half));
    let found = reconstruct(&sources).unwrap();
    assert_eq!(found.config.node_name.as_ref().map(NodeName::as_str), Some("cp1"));
    assert!(found.unknown.iter().any(|unknown| unknown.path == "/live/etcd.yaml"));
    sources.config = Some(("broken".into(), b"kind: [".to_vec()));
    let error = reconstruct(&sources).unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("broken"), "{error}");
}

/// Replaces the manifest of one component.
fn put(sources: &mut Sources, component: Component, origin: ManifestOrigin, text: &str) {
    sources.manifests.retain(|manifest| manifest.component != component);
    let name = format!("{origin:?} {}", component.manifest_file());
    sources.manifests.insert(0, ManifestSource::new(component, origin, name, text));
}

fn text_of(component: Component) -> String {
    String::from_utf8(recorded(component).to_vec()).unwrap()
}

#[test]
fn etcds_data_folder_is_the_one_on_the_node() {
    let moved = text_of(Component::Etcd).replace("path: /var/lib/etcd\n", "path: /var/lib/etcd-restored\n");
    let mut sources = manifests_only();
    put(&mut sources, Component::Etcd, ManifestOrigin::Live, &moved);
    let found = reconstruct(&sources).unwrap();
    let local = found.config.local_etcd().unwrap();
    assert_eq!(local.data_dir.as_deref(), Some("/var/lib/etcd-restored".as_ref()));
    assert_eq!(local.settings.arg("data-dir"), None);
    found.require_complete(&Component::ALL, &[]).unwrap();
    // What kubeadm makes of it is the same folder at another path.
    let made = text_of(Component::Etcd).replace("/var/lib/etcd\n", "/var/lib/etcd-restored\n");
    let differences = compare(Component::Etcd, moved.as_bytes(), made.as_bytes()).unwrap();
    assert_eq!(differences.len(), 2, "{differences:?}");
    assert!(differences.iter().all(|found| found.severity == Severity::Harmless), "{differences:?}");
    let back = text_of(Component::Etcd);
    let differences = compare(Component::Etcd, moved.as_bytes(), back.as_bytes()).unwrap();
    assert_eq!(differences[0].severity, Severity::Dangerous, "{differences:?}");
}

#[test]
fn a_volume_that_kubeadm_cannot_give_etcd_is_asked_for() {
    let text = text_of(Component::Etcd)
        .replace(
            "    volumeMounts:\n",
            "    volumeMounts:\n    - {mountPath: /var/lib/etcd-wal, name: wal}\n",
        )
        .replace("  volumes:\n", "  volumes:\n  - {hostPath: {path: /fast/wal}, name: wal}\n")
        .replace("    - --name=cp1\n", "    - --name=cp1\n    - --wal-dir=/var/lib/etcd-wal\n");
    let mut sources = manifests_only();
    put(&mut sources, Component::Etcd, ManifestOrigin::Live, &text);
    let found = reconstruct(&sources).unwrap();
    let error = found.require_complete(&[Component::Etcd], &[]).unwrap_err();
    assert!(error.kind() == ErrorKind::Missing && error.to_string().contains("volume wal"), "{error}");
    found.require_complete(&[Component::KubeScheduler], &[]).unwrap();
}

#[test]
fn a_saved_config_does_not_turn_an_upgrade_back() {
    let old = String::from_utf8(CONFIG.to_vec()).unwrap().replace("v1.36.2", "v1.35.4");
    let old = old.replace("dataDir: /var/lib/etcd\n", "imageTag: 3.5.9-0\n    dataDir: /var/lib/old\n");
    let mut sources = manifests_only();
    sources.config = Some(("saved".into(), old.clone().into_bytes()));
    let said = |sources: &Sources| {
        let found = reconstruct(sources).unwrap();
        let local = found.config.local_etcd().unwrap();
        let data_dir = local.data_dir.as_ref().map(|dir| dir.display().to_string());
        (found.config.kubernetes_version.clone(), local.image_tag.clone(), data_dir)
    };
    let ran = (Some("v1.36.2".into()), Some("3.6.8-0".into()), Some("/var/lib/etcd".into()));
    assert_eq!(said(&sources), ran);
    for manifest in &mut sources.manifests {
        manifest.origin = ManifestOrigin::Live;
    }
    assert_eq!(said(&sources), ran);
    assert_eq!(reconstruct(&sources).unwrap().conflicts, []);
    // The API server and etcd are lost; a backup of the API server is older than what runs.
    let lost =
        |manifest: &ManifestSource| !matches!(manifest.component, Component::Etcd | Component::KubeApiserver);
    sources.manifests.retain(lost);
    let before = text_of(Component::KubeApiserver).replace("v1.36.2", "v1.35.4");
    put(&mut sources, Component::KubeApiserver, ManifestOrigin::LastKnownGood, &before);
    let found = reconstruct(&sources).unwrap();
    assert_eq!(found.config.kubernetes_version.as_deref(), Some("v1.36.2"));
    assert_eq!(found.config.local_etcd().unwrap().image_tag, None);
    let error = found.require_complete(&[Component::Etcd], &[]).unwrap_err();
    assert!(error.to_string().contains("etcd.local.imageTag"), "{error}");
    // The caller's word goes before all.
    sources.overrides = Config::parse(old.as_bytes()).unwrap();
    assert_eq!(said(&sources), (Some("v1.35.4".into()), Some("3.5.9-0".into()), Some("/var/lib/old".into())));
}

#[test]
fn a_manifest_says_what_kubelet_reads_in_it() {
    let plain = text_of(Component::Etcd);
    let twice = plain.replacen("kind: Pod\n", "kind: Service\nkind: Pod\n", 1);
    let stream = format!("{plain}---\nkind: Junk\n");
    let of = |text: &str| {
        let mut sources = manifests_only();
        put(&mut sources, Component::Etcd, ManifestOrigin::Live, text);
        let found = reconstruct(&sources).unwrap();
        let differences = compare(Component::Etcd, text.as_bytes(), plain.as_bytes()).unwrap();
        (found.config, found.unknown, differences)
    };
    assert_eq!(of(&twice), of(&plain));
    assert_eq!(of(&stream), of(&plain));
}

#[test]
fn an_unreadable_manifest_leaves_its_component_unknown() {
    let mut sources = manifests_only();
    put(&mut sources, Component::KubeScheduler, ManifestOrigin::Live, "kind: [");
    let found = reconstruct(&sources).unwrap();
    let error = found.require_complete(&[Component::KubeScheduler], &[]).unwrap_err();
    assert!(error.to_string().contains("Live kube-scheduler.yaml"), "{error}");
    found.require_complete(&[Component::KubeApiserver], &[]).unwrap();
}

/// Without a tag kubeadm takes etcd's version by the cluster's, and without that by its own.
#[test]
fn the_version_is_asked_for_when_etcds_depends_on_it() {
    let mut sources = Sources::default();
    let config = String::from_utf8(CONFIG.to_vec()).unwrap().replace("kubernetesVersion: v1.36.2\n", "");
    sources.config = Some(("saved".into(), config.clone().into_bytes()));
    let error = reconstruct(&sources).unwrap().require_complete(&[Component::Etcd], &[]).unwrap_err();
    assert!(error.to_string().contains("kubernetesVersion"), "{error}");
    let tagged = config.replace("  local:\n", "  local:\n    imageTag: 3.6.8-0\n");
    sources.config = Some(("saved".into(), tagged.into_bytes()));
    reconstruct(&sources).unwrap().require_complete(&[Component::Etcd], &[]).unwrap();
}

#[test]
fn another_folder_of_certificates_drops_no_flag_of_the_operator() {
    let flags = [
        ("audit-policy-file", "/etc/kubernetes/audit.yaml"),
        ("oidc-ca-file", "/etc/kubernetes/oidc.crt"),
        ("client-ca-file", "/etc/kubernetes/all-clients.crt"),
    ];
    let mut text =
        text_of(Component::KubeApiserver).replace("    - --client-ca-file=/etc/kubernetes/pki/ca.crt\n", "");
    for (flag, value) in flags {
        text = text.replacen("    - --allow", &format!("    - --{flag}={value}\n    - --allow"), 1);
    }
    let config = String::from_utf8(CONFIG.to_vec()).unwrap();
    let config = config
        .replace("kind: ClusterConfiguration\n", "kind: ClusterConfiguration\ncertificatesDir: /srv/pki\n");
    let mut sources = manifests_only();
    sources.config = Some(("saved".into(), config.into_bytes()));
    put(&mut sources, Component::KubeApiserver, ManifestOrigin::Live, &text);
    let api = reconstruct(&sources).unwrap().config.api_server;
    for (flag, value) in flags {
        assert_eq!(api.arg(flag), Some(value), "{flag}");
    }
    // What kubeadm made of the old folder does not come back.
    for flag in ["tls-cert-file", "service-account-key-file", "etcd-cafile", "proxy-client-key-file"] {
        assert_eq!(api.arg(flag), None, "{flag}");
    }
}

#[test]
fn an_etcd_is_local_only_with_an_own_address_and_kubeadms_files() {
    let of = |servers: &str, files: bool| {
        let mut text = text_of(Component::KubeApiserver).replace("https://127.0.0.1:2379", servers);
        if !files {
            text = text
                .replace(
                    "--etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt",
                    "--etcd-cafile=/etc/ssl/etcd/ca.pem",
                )
                .replace("pki/apiserver-etcd-client", "ssl/node-cp1");
        }
        let mut sources = Sources::default();
        put(&mut sources, Component::KubeApiserver, ManifestOrigin::Live, &text);
        sources.etcd_data =
            Some(EtcdDataState::new("/var/lib/etcd", Observed::Present(4096), Observed::Present(4096)));
        let config = reconstruct(&sources).unwrap().config;
        config.external_etcd().is_some()
    };
    let own = format!("https://{}:2379", kubeadm_support::ADDRESS);
    assert!(!of("https://127.0.0.1:2379", true));
    assert!(!of(&own, true));
    // A service of its own on this host, and kubeadm's files for other hosts.
    assert!(of(&own, false));
    assert!(of("https://10.9.9.9:2379,https://10.9.9.8:2379", true));
}
