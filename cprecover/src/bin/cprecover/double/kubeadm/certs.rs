//! `kubeadm certs renew NAME` and `kubeadm init phase kubeconfig NAME`: new keys, the old names.
//!
//! As the real ones (kubernetes `cmd/kubeadm/app/phases/certs/renewal`, `…/phases/kubeconfig`): subject and
//! alternative names of a renewed certificate are those of the old one, and no authority is renewed.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use cprecover::kubeadm::KubeadmVersion;
use cprecover::{Error, ErrorKind, Result};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::settings::Settings;
use super::{Args, below, command_line, wrong};
use crate::console::print_line;

/// kubeadm's name, file, authority, and what the log calls it (`certlist.go`, `renewal/manager.go`).
const RENEWABLE: [(&str, &str, &str, &str); 7] = [
    ("apiserver", "apiserver", "ca", "certificate for serving the Kubernetes API"),
    (
        "apiserver-kubelet-client",
        "apiserver-kubelet-client",
        "ca",
        "certificate for the API server to connect to kubelet",
    ),
    (
        "apiserver-etcd-client",
        "apiserver-etcd-client",
        "etcd/ca",
        "certificate the apiserver uses to access etcd",
    ),
    ("front-proxy-client", "front-proxy-client", "front-proxy-ca", "certificate for the front proxy client"),
    ("etcd-server", "etcd/server", "etcd/ca", "certificate for serving etcd"),
    ("etcd-peer", "etcd/peer", "etcd/ca", "certificate for etcd nodes to communicate with each other"),
    (
        "etcd-healthcheck-client",
        "etcd/healthcheck-client",
        "etcd/ca",
        "certificate for liveness probes to healthcheck etcd",
    ),
];
/// Kubeconfigs: phase, user, group.
const KUBECONFIGS: [(&str, &str, Option<&str>); 5] = [
    ("admin", "kubernetes-admin", Some("kubeadm:cluster-admins")),
    ("super-admin", "kubernetes-super-admin", Some("system:masters")),
    ("controller-manager", "system:kube-controller-manager", None),
    ("scheduler", "system:kube-scheduler", None),
    ("kubelet", "system:node:", Some("system:nodes")),
];

pub(super) fn renew(args: &Args, name: &str, rest: &[&str]) -> Result<()> {
    let flags = command_line::certs_flags(rest, &["config", "cert-dir", "kubeconfig", "v"])?;
    let Some((_, file, authority, long)) = RENEWABLE.into_iter().find(|(known, ..)| *known == name) else {
        return Err(wrong(&format!("unknown command \"{name}\" for \"kubeadm certs renew\"")));
    };
    let pki = pki_of(args, &flags)?;
    let old = read(&pki.join(format!("{file}.crt")))?;
    let (subject, names) = identity(&old)?;
    let made = sign(&pki, authority, &subject, &names, args)?;
    if args.fail_half_way {
        write(&pki.join(format!("{file}.key")), &made.key)?;
        return Err(wrong("failed to renew certificate: no space left"));
    }
    write(&pki.join(format!("{file}.crt")), &made.certificate)?;
    write(&pki.join(format!("{file}.key")), &made.key)?;
    print_line(format_args!("{long} renewed"));
    Ok(())
}

pub(super) fn kubeconfig(args: &Args, name: &str, rest: &[&str]) -> Result<()> {
    let flags = command_line::certs_flags(rest, &["config", "cert-dir", "kubeconfig-dir", "node-name", "v"])?;
    let Some((_, user, group)) = KUBECONFIGS.into_iter().find(|(known, ..)| *known == name) else {
        return Err(wrong(&format!("unknown command \"{name}\" for \"kubeadm init phase kubeconfig\"")));
    };
    let version: KubeadmVersion = args.report_version.parse()?;
    let settings = Settings::load(&flags, &version, args.allow_loopback, &args.host_root)?;
    let pki = pki_of(args, &flags)?;
    let user = match &settings.config.node_name {
        Some(node) if name == "kubelet" => format!("{user}{node}"),
        _ => user.to_owned(),
    };
    let mut subject = vec![(DnType::CommonName, user.clone())];
    subject.extend(group.map(|group| (DnType::OrganizationName, group.to_owned())));
    let made = sign(&pki, "ca", &subject, &[], args)?;
    // `controlPlaneEndpoint` for people and kubelet, the local address for the rest (`kubeconfig.go`).
    let port = settings.config.bind_port.map_or(6443, cprecover::model::Port::get);
    let local = settings.config.advertise_address.map(|ip| format!("{ip}:{port}"));
    let shared = settings.config.control_plane_endpoint.clone();
    let server = match name {
        "controller-manager" | "scheduler" => local,
        _ => shared.or(local),
    };
    let server = server.ok_or_else(|| wrong("no address for the API server"))?;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let cluster = settings.config.cluster_name.as_deref().unwrap_or("kubernetes");
    let text = format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {}\n    server: https://{server}\n  \
         name: {cluster}\ncontexts:\n- context:\n    cluster: {cluster}\n    user: {user}\n  name: {user}@{cluster}\n\
         current-context: {user}@{cluster}\nkind: Config\nusers:\n- name: {user}\n  user:\n    \
         client-certificate-data: {}\n    client-key-data: {}\n",
        encode(&read(&pki.join("ca.crt"))?),
        encode(made.certificate.as_bytes()),
        encode(made.key.as_bytes())
    );
    let folder = flags
        .get("kubeconfig-dir")
        .map_or_else(|| below(&args.host_root, Path::new("/etc/kubernetes")), PathBuf::from);
    let path = folder.join(format!("{name}.conf"));
    // The real one keeps a file that leads to this cluster, and refuses any other (`kubeconfig.go`,
    // `createKubeConfigFileIfNotExists`).
    if let Ok(there) = std::fs::read_to_string(&path) {
        let says = |key: &str, text: &str| {
            text.lines().map(str::trim).find(|line| line.starts_with(key)).map(str::to_owned)
        };
        if says("server:", &there) != says("server:", &text) {
            return Err(wrong(&format!(
                "a kubeconfig file {} exists already but has an unexpected API Server URL",
                path.display()
            )));
        }
        print_line(format_args!("[kubeconfig] Using existing kubeconfig file: {}", path.display()));
        return Ok(());
    }
    print_line(format_args!("[kubeconfig] Writing \"{name}.conf\" kubeconfig file"));
    write(&path, &text)
}

fn pki_of(args: &Args, flags: &command_line::Flags) -> Result<PathBuf> {
    let version: KubeadmVersion = args.report_version.parse()?;
    let settings = Settings::load(flags, &version, args.allow_loopback, &args.host_root)?;
    let folder = settings.config.certificates_dir.unwrap_or_else(|| "/etc/kubernetes/pki".into());
    // A staging folder is below the double's root already.
    Ok(if folder.starts_with(&args.host_root) { folder } else { below(&args.host_root, &folder) })
}

type Subject = Vec<(DnType, String)>;

fn identity(pem: &[u8]) -> Result<(Subject, Vec<String>)> {
    let certificate = der(pem)?;
    let (_, certificate) =
        X509Certificate::from_der(&certificate).map_err(|error| wrong(&error.to_string()))?;
    let mut subject = Vec::new();
    for attribute in certificate.subject().iter_common_name() {
        subject.push((DnType::CommonName, attribute.as_str().unwrap_or_default().to_owned()));
    }
    for attribute in certificate.subject().iter_organization() {
        subject.push((DnType::OrganizationName, attribute.as_str().unwrap_or_default().to_owned()));
    }
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.iter().filter_map(text).collect());
    Ok((subject, names.unwrap_or_default()))
}

fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(|ip| std::net::IpAddr::from(ip).to_string());
            let sixteen = || <[u8; 16]>::try_from(*bytes).map(|ip| std::net::IpAddr::from(ip).to_string());
            four.or_else(|_| sixteen()).ok()
        }
        _ => None,
    }
}

fn der(pem: &[u8]) -> Result<Vec<u8>> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).map_err(|error| wrong(&error.to_string()))?;
    Ok(pem.contents)
}

struct Made {
    certificate: String,
    key: String,
}

fn sign(pki: &Path, authority: &str, subject: &Subject, names: &[String], args: &Args) -> Result<Made> {
    let failed = |source: rcgen::Error| Error::with_source(ErrorKind::Internal, "sign a certificate", source);
    let (authority_subject, _) = identity(&read(&pki.join(format!("{authority}.crt")))?)?;
    let key = String::from_utf8(read(&pki.join(format!("{authority}.key")))?)
        .map_err(|error| wrong(&error.to_string()))?;
    let mut issuer = CertificateParams::new(Vec::<String>::new()).map_err(failed)?;
    issuer.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, value) in authority_subject {
        issuer.distinguished_name.push(kind, value);
    }
    let issuer = Issuer::new(issuer, KeyPair::from_pem(&key).map_err(failed)?);
    let mut params = CertificateParams::new(names.to_vec()).map_err(failed)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, value) in subject {
        // Under the flag for it a certificate comes out that is somebody else's.
        let value = if args.wrong_component { "somebody-else".to_owned() } else { value.clone() };
        params.distinguished_name.push(kind.clone(), value);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let now = jiff::Timestamp::now().as_second();
    let at = |seconds: i64| {
        time::OffsetDateTime::from_unix_timestamp(seconds)
            .map_err(|source| Error::with_source(ErrorKind::Internal, "certificate dates", source))
    };
    params.not_before = at(now - 300)?;
    params.not_after = at(now + 365 * 24 * 60 * 60)?;
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
    Ok(Made { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::path("read", path, source))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|source| Error::path("write", path, source))
}
