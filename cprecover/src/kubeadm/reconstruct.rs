//! The kubeadm config that this node must have had, each value with its origin.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::json;

use super::clues::Clues;
use super::config::{ComponentSettings, Config};
use super::evidence::{Candidates, Evidence};
use super::extras::{section, settle};
use super::facts::PodFacts;
use super::origin::Origin;
use super::reconstruction::Reconstruction;
use super::sources::Sources;
use crate::error::Result;
use crate::model::{Component, NodeName, Port};

/// Reconstructs the kubeadm config from `sources`; reads nothing itself.
///
/// The order of trust: the caller's own values and config, a backed-up config, manifests, runtime containers,
/// kubelet's files and kubeconfigs, certificates, the etcd data folder. Versions and etcd's data folder are
/// believed of a manifest before a backed-up config, which no upgrade of kubeadm changes. A value that none of them tells
/// is listed as unknown, unless a backed-up config was silent about it: then kubeadm's default held.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when the backed-up config is malformed. A malformed manifest is no error: it is
/// what is to be replaced; it is listed as unknown.
pub fn reconstruct(sources: &Sources) -> Result<Reconstruction> {
    let read = |(name, bytes): &(String, Vec<u8>)| Config::parse(bytes).map_err(|error| error.context(name));
    let stated = match (&sources.caller_config, &sources.config) {
        (Some(config), _) => Some((Origin::Caller, read(config)?)),
        (None, Some(config)) => Some((Origin::Config(config.0.clone()), read(config)?)),
        (None, None) => None,
    };
    let mut stated_all = vec![(Origin::Caller, &sources.overrides)];
    stated_all.extend(stated.as_ref().map(|(origin, config)| (origin.clone(), config)));
    let (facts, unreadable) = PodFacts::all(sources);
    let mut work = Work {
        evidence: Evidence::default(),
        stated: stated_all,
        backed_up: stated.is_some(),
        facts: &facts,
        clues: Clues::of(sources),
        sources,
    };
    for (manifest, error) in unreadable {
        // What it said beyond kubeadm's defaults is lost, unless another source tells it.
        let told = work.backed_up || work.of(manifest.component).any(PodFacts::has_command);
        let affects: &[Component] = if told { &[] } else { &[manifest.component] };
        work.evidence.unknown(&manifest.name, &format!("the manifest tells nothing: {error}"), affects);
    }
    work.identity();
    work.images();
    work.network();
    work.etcd();
    work.components();
    work.rest();
    let Evidence { config, fields, unknown, conflicts } = work.evidence;
    Ok(Reconstruction { config, fields, unknown, conflicts })
}

/// The components whose images carry the cluster's version.
const VERSIONED: [Component; 3] =
    [Component::KubeApiserver, Component::KubeControllerManager, Component::KubeScheduler];

/// The config while it is put together.
pub(super) struct Work<'a> {
    pub(super) evidence: Evidence,
    pub(super) stated: Vec<(Origin, &'a Config)>,
    /// Whether a saved config is there; what it does not say was kubeadm's default.
    pub(super) backed_up: bool,
    facts: &'a [PodFacts],
    clues: Clues,
    pub(super) sources: &'a Sources,
}

impl<'a> Work<'a> {
    /// What the caller and the saved config state.
    pub(super) fn said<T>(&self, field: impl Fn(&Config) -> Option<T>) -> Candidates<T> {
        self.stated.iter().filter_map(|(origin, config)| Some((field(config)?, origin.clone()))).collect()
    }

    /// A component's manifests and containers, live manifests first.
    pub(super) fn of(&self, component: Component) -> impl Iterator<Item = &'a PodFacts> + use<'a> {
        self.facts.iter().filter(move |facts| facts.component == component)
    }

    /// What a component's flag says, in every manifest and container.
    pub(super) fn flag<T>(
        &self,
        component: Component,
        flag: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Candidates<T> {
        self.of(component)
            .filter_map(|facts| Some((read(facts.flag(flag)?)?, facts.origin(&format!("--{flag}")))))
            .collect()
    }

    fn text(&self, component: Component, flag: &str) -> Candidates<String> {
        self.flag(component, flag, |value| Some(value.to_owned()).filter(|value| !value.is_empty()))
    }

    /// Node name, address, port, certificates' folder.
    fn identity(&mut self) {
        let mut names = self.said(|config| config.node_name.as_ref().map(|name| name.as_str().to_owned()));
        names.extend(self.text(Component::Etcd, "name"));
        names.append(&mut self.clues.node_name);
        let name = self.evidence.choose("nodeRegistration.name", names);
        if name.is_none() {
            self.evidence.unknown(
                "nodeRegistration.name",
                "kubeadm would take the host name, and etcd would have another member name",
                &[Component::Etcd],
            );
        }
        self.evidence.config.node_name = name.map(NodeName::new);
        self.address();
        let mut dirs = self.said(|config| config.certificates_dir.clone());
        for (component, flag, file) in [
            (Component::KubeApiserver, "client-ca-file", "ca.crt"),
            (Component::KubeControllerManager, "root-ca-file", "ca.crt"),
            (Component::Etcd, "trusted-ca-file", "etcd/ca.crt"),
        ] {
            dirs.extend(self.flag(component, flag, |value| {
                let dir = value.strip_suffix(file)?.strip_suffix('/')?;
                (!dir.is_empty()).then(|| PathBuf::from(dir))
            }));
        }
        let affects = [Component::Etcd, Component::KubeApiserver, Component::KubeControllerManager];
        self.evidence.config.certificates_dir =
            self.take("certificatesDir", dirs, "kubeadm's default is /etc/kubernetes/pki", &affects);
    }

    fn address(&mut self) {
        const ENDPOINT: &str = "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint";
        const CLIENT_URLS: &str = "kubeadm.kubernetes.io/etcd.advertise-client-urls";
        let annotated = |component, key: &'static str| {
            self.of(component)
                .filter_map(move |facts| Some((host_port(facts.annotations.get(key)?)?, facts.origin(key))))
                .collect::<Candidates<(IpAddr, Port)>>()
        };
        let endpoints = annotated(Component::KubeApiserver, ENDPOINT);
        let mut addresses = self.said(|config| config.advertise_address);
        let mut ports = self.said(|config| config.bind_port);
        addresses.extend(endpoints.iter().map(|((address, _), origin)| (*address, origin.clone())));
        ports.extend(endpoints.into_iter().map(|((_, port), origin)| (port, origin)));
        addresses
            .extend(annotated(Component::Etcd, CLIENT_URLS).into_iter().map(|((a, _), origin)| (a, origin)));
        addresses
            .extend(self.flag(Component::KubeApiserver, "advertise-address", |value| value.parse().ok()));
        for flag in ["initial-advertise-peer-urls", "listen-peer-urls"] {
            addresses.extend(self.flag(Component::Etcd, flag, |value| {
                // "Every address" names none.
                Some(host_port(value.split(',').next()?)?.0).filter(|address| !address.is_unspecified())
            }));
        }
        addresses.append(&mut self.clues.advertise_address);
        ports.extend(self.flag(Component::KubeApiserver, "secure-port", |value| value.parse().ok()));
        let affects = [Component::Etcd, Component::KubeApiserver];
        let address = self.evidence.choose("localAPIEndpoint.advertiseAddress", addresses);
        if address.is_none() {
            let reason = "kubeadm would take the address of the default route";
            self.evidence.unknown("localAPIEndpoint.advertiseAddress", reason, &affects);
        }
        self.evidence.config.advertise_address = address;
        let port = self.evidence.choose("localAPIEndpoint.bindPort", ports);
        // A config without this node's part (the ConfigMap) is not silent about the port: it cannot say it.
        let init_said = self.stated.iter().any(|(_, config)| config.advertise_address.is_some());
        if port.is_none() && !(self.backed_up && init_said) {
            let reason = "kubeadm's default is 6443";
            self.evidence.unknown("localAPIEndpoint.bindPort", reason, &[Component::KubeApiserver]);
        }
        self.evidence.config.bind_port = port;
    }

    /// Takes a value, or notes that it is unknown; a silent backed-up config means kubeadm's default.
    pub(super) fn take<T: PartialEq + Serialize>(
        &mut self,
        path: &str,
        candidates: Candidates<T>,
        reason: &str,
        affects: &[Component],
    ) -> Option<T> {
        let value = self.evidence.choose(path, candidates);
        if value.is_none() && !self.backed_up {
            self.evidence.unknown(path, reason, affects);
        }
        value
    }

    /// Image repository and versions, which are what keeps kubeadm from asking the internet.
    fn images(&mut self) {
        let mut repositories = self.said(|config| config.image_repository.clone());
        let mut versions = Candidates::new();
        let mut versioned: Vec<&PodFacts> =
            VERSIONED.iter().flat_map(|component| self.of(*component)).collect();
        // What runs tells more of the version than a backup of another component does.
        versioned.sort_by_key(|facts| !facts.live);
        for facts in versioned {
            if let Some((repository, tag)) = facts.image_parts() {
                repositories.push((repository.to_owned(), facts.origin("image")));
                // kubeadm writes `+` as `_` in a tag (`app/util/version.go`, KubernetesVersionToImageTag).
                versions.push((tag.replacen('_', "+", 1), facts.origin("image tag")));
            }
        }
        if repositories.is_empty() {
            repositories.extend(
                self.of(Component::Etcd)
                    .filter_map(|facts| Some((facts.image_parts()?.0.to_owned(), facts.origin("image")))),
            );
        }
        self.evidence.config.image_repository = self.take(
            "imageRepository",
            repositories,
            "kubeadm's default is registry.k8s.io",
            &Component::ALL,
        );
        let versions = self.ran_before_said(|config| config.kubernetes_version.clone(), versions);
        let version = self.evidence.choose("kubernetesVersion", versions);
        if version.is_none() {
            let reason = "kubeadm would ask the internet, then take its own version";
            self.evidence.unknown("kubernetesVersion", reason, &VERSIONED);
        }
        self.evidence.config.kubernetes_version = version;
    }

    /// Candidates for what `kubeadm upgrade` changes in manifests and in no saved file: the caller's word, then
    /// what ran, then the saved config. A live manifest leaves no doubt, so that a saved value that it outdates
    /// is no conflict.
    pub(super) fn ran_before_said<T>(
        &self,
        field: impl Fn(&Config) -> Option<T>,
        ran: Candidates<T>,
    ) -> Candidates<T> {
        let (mut all, saved): (Candidates<T>, Candidates<T>) =
            self.said(field).into_iter().partition(|(_, origin)| *origin == Origin::Caller);
        let is_live = |origin: &Origin| self.facts.iter().any(|facts| facts.live && facts.is_of(origin));
        let certain = ran.first().is_some_and(|(_, origin)| is_live(origin));
        all.extend(ran);
        if !certain {
            all.extend(saved);
        }
        all
    }

    /// Subnets, domain, cluster name.
    fn network(&mut self) {
        let kcm = Component::KubeControllerManager;
        let mut pods = self.said(|config| config.pod_subnet.clone());
        pods.extend(self.text(kcm, "cluster-cidr"));
        // A known command without the flag proves that there is no pod subnet.
        let proven_unset = self.of(kcm).any(PodFacts::has_command);
        if proven_unset {
            self.evidence.config.pod_subnet = self.evidence.choose("networking.podSubnet", pods);
        } else {
            let reason = "without it the controller manager gives nodes no pod addresses";
            self.evidence.config.pod_subnet = self.take("networking.podSubnet", pods, reason, &[kcm]);
        }
        let mut services = self.said(|config| config.service_subnet.clone());
        services.extend(self.text(Component::KubeApiserver, "service-cluster-ip-range"));
        services.extend(self.text(kcm, "service-cluster-ip-range"));
        self.evidence.config.service_subnet = self.take(
            "networking.serviceSubnet",
            services,
            "kubeadm's default is 10.96.0.0/12; another range breaks every existing service",
            &[Component::KubeApiserver, kcm],
        );
        let mut domains = self.said(|config| config.dns_domain.clone());
        domains.extend(self.flag(Component::KubeApiserver, "service-account-issuer", |issuer| {
            issuer.strip_prefix("https://kubernetes.default.svc.").map(ToOwned::to_owned)
        }));
        domains.append(&mut self.clues.dns_domain);
        self.evidence.config.dns_domain = self.take(
            "networking.dnsDomain",
            domains,
            "kubeadm's default is cluster.local; tokens carry it as their issuer",
            &[Component::KubeApiserver],
        );
        let mut clusters = self.said(|config| config.cluster_name.clone());
        clusters.extend(self.text(kcm, "cluster-name"));
        clusters.append(&mut self.clues.cluster_name);
        self.evidence.config.cluster_name =
            self.take("clusterName", clusters, "kubeadm's default is kubernetes", &[kcm]);
    }

    /// Extra arguments, volumes and variables of each component; etcd first, as its arguments shape
    /// the API server's.
    fn components(&mut self) {
        for component in Component::ALL {
            if component == Component::Etcd && self.evidence.config.external_etcd().is_some() {
                continue;
            }
            let stated: Vec<(Origin, &ComponentSettings)> = self
                .stated
                .iter()
                .filter_map(|(origin, config)| Some((origin.clone(), config.settings(component)?)))
                .collect();
            // A command is needed to know what was extra; the first one is believed.
            let facts = self.of(component).find(|facts| facts.has_command());
            settle(&mut self.evidence, component, &stated, facts);
            if facts.is_none() && !self.backed_up {
                let path = format!("{}.extraArgs", section(component));
                let reason = format!(
                    "no manifest, container or config tells what {component} had beyond kubeadm's defaults"
                );
                self.evidence.unknown(&path, &reason, &[component]);
            }
        }
    }

    /// What shapes no manifest, or only by a config that says it.
    fn rest(&mut self) {
        let mut sockets = self.said(|config| config.cri_socket.clone());
        sockets.append(&mut self.clues.cri_socket);
        self.evidence.config.cri_socket = self.take(
            "nodeRegistration.criSocket",
            sockets,
            "manifests do not tell it; kubeadm looks for the runtime itself and fails when it finds several",
            &[],
        );
        let mut endpoints = self.said(|config| config.control_plane_endpoint.clone());
        let own = self.evidence.config.advertise_address.map(|address| {
            let port = self.evidence.config.bind_port.unwrap_or(Port::APISERVER);
            std::net::SocketAddr::new(address, port.get()).to_string()
        });
        let servers = std::mem::take(&mut self.clues.servers);
        endpoints.extend(servers.into_iter().filter(|(server, _)| Some(server) != own.as_ref()));
        self.evidence.config.control_plane_endpoint = self.take(
            "controlPlaneEndpoint",
            endpoints,
            "manifests do not carry it; only certificates and kubeconfigs depend on it",
            &[],
        );
        let patches = self.said(|config| config.patches_dir.clone());
        let reason =
            "manifests do not tell whether patches made them; the comparison shows what they would add";
        self.evidence.config.patches_dir = self.take("patches.directory", patches, reason, &[]);
        for (origin, config) in &self.stated {
            for (gate, on) in &config.feature_gates {
                if self.evidence.config.feature_gates.insert(gate.clone(), *on).is_none() {
                    self.evidence.field(&format!("featureGates.{gate}"), json!(on), origin.clone());
                }
            }
            for (key, value) in &config.other_init {
                self.evidence.config.other_init.entry(key).or_insert_with(|| value.clone());
            }
            for (key, value) in &config.other_cluster {
                self.evidence.config.other_cluster.entry(key).or_insert_with(|| value.clone());
            }
        }
        if !self.backed_up {
            self.evidence.unknown("apiServer.certSANs", "only certificates depend on it", &[]);
        }
    }
}

/// Reads `10.0.0.1:6443`, `https://10.0.0.1:2379` or the IPv6 forms.
fn host_port(text: &str) -> Option<(IpAddr, Port)> {
    let text = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let address: std::net::SocketAddr = text.trim_end_matches('/').parse().ok()?;
    Some((address.ip(), Port::new(address.port())?))
}
