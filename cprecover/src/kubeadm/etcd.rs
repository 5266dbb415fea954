//! Where the cluster's etcd is, and if it is a static pod of this node, its data and version.

use std::net::IpAddr;
use std::path::PathBuf;

use super::config::{Config, Etcd, ExternalEtcd, LocalEtcd};
use super::evidence::Candidates;
use super::facts::PodFacts;
use super::origin::Origin;
use super::reconstruct::Work;
use crate::model::Component;

impl Work<'_> {
    /// Where etcd is, and if it is here, its data and image.
    pub(super) fn etcd(&mut self) {
        const LOCAL: &str = "local";
        const EXTERNAL: &str = "external";
        let mut places = self.said(|config| {
            config.etcd.as_ref().map(|etcd| if matches!(etcd, Etcd::External(_)) { EXTERNAL } else { LOCAL })
        });
        places.extend(self.of(Component::Etcd).map(|facts| (LOCAL, facts.origin("manifest"))));
        for facts in self.of(Component::KubeApiserver).filter(|facts| facts.has_command()) {
            let place = if is_stacked(|flag| facts.flag(flag)) { LOCAL } else { EXTERNAL };
            places.push((place, facts.origin("--etcd-servers")));
        }
        // A folder with data may be that of an etcd which is a service of its own on this host.
        if places.is_empty()
            && let Some(data) = self.sources.etcd_data.as_ref().filter(|data| data.has_database())
        {
            places.push((LOCAL, Origin::EtcdData(data.data_dir.display().to_string())));
        }
        let affects = [Component::Etcd, Component::KubeApiserver];
        match self.take("etcd", places, "nothing tells whether etcd runs on this node", &affects) {
            Some(EXTERNAL) => {
                let mut external = self.said(|config| config.external_etcd().cloned());
                external.extend(
                    self.of(Component::KubeApiserver)
                        .filter_map(|facts| Some((external_etcd(facts)?, facts.origin("--etcd-servers")))),
                );
                let external = self.take("etcd.external", external, "the endpoints are not known", &affects);
                self.evidence.config.etcd = external.map(Etcd::External);
            }
            Some(_) => self.local_etcd(),
            // A silent backed-up config means kubeadm's default: local.
            None if self.backed_up => self.local_etcd(),
            None => {}
        }
    }

    fn local_etcd(&mut self) {
        let mut local = LocalEtcd::default();
        let dirs = self.flag(Component::Etcd, "data-dir", |value| Some(PathBuf::from(value)));
        let mut dirs = self.ran_before_said(|config| config.local_etcd()?.data_dir.clone(), dirs);
        if let Some(data) = self.sources.etcd_data.as_ref().filter(|data| data.has_database()) {
            dirs.push((data.data_dir.clone(), Origin::EtcdData("folder with a database".into())));
        }
        local.data_dir = self.take(
            "etcd.local.dataDir",
            dirs,
            "kubeadm's default is /var/lib/etcd; a wrong folder starts an empty cluster",
            &[Component::Etcd],
        );
        let mut repositories = self.said(|config| config.local_etcd()?.image_repository.clone());
        let mut tags = Candidates::new();
        for facts in self.of(Component::Etcd) {
            if let Some((repository, tag)) = facts.image_parts() {
                if self.evidence.config.image_repository.as_deref() != Some(repository) {
                    repositories.push((repository.to_owned(), facts.origin("image")));
                }
                tags.push((tag.to_owned(), facts.origin("image tag")));
            }
        }
        local.image_repository = self.evidence.choose("etcd.local.imageRepository", repositories);
        local.image_tag = self.image_tag(tags);
        self.evidence.config.etcd = Some(Etcd::Local(local));
    }

    /// etcd's version; `ran` is what manifests and containers tell of it.
    fn image_tag(&mut self, ran: Candidates<String>) -> Option<String> {
        const PATH: &str = "etcd.local.imageTag";
        let version = self.evidence.config.kubernetes_version.clone();
        // An upgrade of the cluster is one of etcd: the tag in a config that was saved before it is outdated.
        let current =
            |config: &Config| config.kubernetes_version.is_none() || config.kubernetes_version == version;
        let outdated = self.stated.iter().any(|(origin, config)| {
            *origin != Origin::Caller
                && !current(config)
                && config.local_etcd().is_some_and(|local| local.image_tag.is_some())
        });
        let said = |config: &Config| config.local_etcd()?.image_tag.clone().filter(|_| current(config));
        let tags = self.ran_before_said(said, ran);
        let tag = self.evidence.choose(PATH, tags);
        if tag.is_some() {
            return tag;
        }
        if outdated {
            let reason = "the saved config is of another Kubernetes version than runs, and so is its etcd";
            self.evidence.unknown(PATH, reason, &[Component::Etcd]);
        } else if !self.backed_up {
            let reason =
                "kubeadm would take the etcd version of its own release, which may be another one than ran";
            self.evidence.unknown(PATH, reason, &[Component::Etcd]);
        }
        if version.is_none()
            && let Some(unknown) =
                self.evidence.unknown.iter_mut().find(|unknown| unknown.path == "kubernetesVersion")
        {
            // Without a tag kubeadm takes etcd's version by the cluster's (kubernetes
            // `cmd/kubeadm/app/images/images.go`, `GetEtcdImage`).
            unknown.affects.push(Component::Etcd);
        }
        None
    }
}

/// Reports whether the API server uses a stacked etcd, a static pod of the same node: `flag` gives the API
/// server's flags.
///
/// Only an etcd of kubeadm's own on this node has both an address of this node and the client certificate that
/// kubeadm makes for it (kubernetes `cmd/kubeadm/app/phases/controlplane/manifests.go`,
/// `getAPIServerCommand`). Either alone is an external one: other hosts with kubeadm's names of the files
/// (kubernetes.io, "Set up a High Availability etcd Cluster with kubeadm"), or a service of its own on this
/// host with other files (Kubespray's `etcd.service`).
pub(crate) fn is_stacked<'a>(flag: impl Fn(&str) -> Option<&'a str>) -> bool {
    let advertised: Option<IpAddr> = flag("advertise-address").and_then(|ip| ip.parse().ok());
    let is_own = |server: &str| match host_of(server).parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback() || advertised == Some(ip),
        Err(_) => host_of(server) == "localhost",
    };
    let folder = |name: &str, file: &str| flag(name).and_then(|value| value.strip_suffix(file));
    let authority = folder("etcd-cafile", "/etcd/ca.crt");
    flag("etcd-servers").unwrap_or_default().split(',').any(is_own)
        && authority.is_some()
        && authority == folder("etcd-certfile", "/apiserver-etcd-client.crt")
}

/// Returns the host of `https://host:port`, an IPv6 address without its brackets.
fn host_of(url: &str) -> &str {
    let url = url.trim();
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split('/').next().unwrap_or_default();
    match rest.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => rest.rsplit_once(':').map_or(rest, |(host, _)| host),
    }
}

fn external_etcd(facts: &PodFacts) -> Option<ExternalEtcd> {
    let path = |flag: &str| facts.flag(flag).map(PathBuf::from).unwrap_or_default();
    Some(ExternalEtcd {
        endpoints: facts.flag("etcd-servers")?.split(',').map(ToOwned::to_owned).collect(),
        ca_file: path("etcd-cafile"),
        cert_file: path("etcd-certfile"),
        key_file: path("etcd-keyfile"),
    })
}
