//! The certificates of a drill's node, laid out as kubeadm does (`cmd/kubeadm/app/phases/certs`).

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use cprecover::{Error, ErrorKind, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// What a certificate is used for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Server,
    Client,
    Both,
}

/// Writes authorities, certificates, keys and kubeconfigs of a node named `node` below `root`.
pub(super) fn write(root: &Path, node: &str, api_server: &str) -> Result<()> {
    let folder = root.join("etc/kubernetes/pki");
    std::fs::create_dir_all(folder.join("etcd")).map_err(|source| Error::path("create", &folder, source))?;
    let pki = Pki { folder };
    let ca = pki.authority("ca", "kubernetes")?;
    let etcd = pki.authority("etcd/ca", "etcd-ca")?;
    let front_proxy = pki.authority("front-proxy-ca", "front-proxy-ca")?;
    let names = ["localhost", node, "127.0.0.1"].map(str::to_owned);
    let service = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let api_names: Vec<String> =
        service.into_iter().chain([node, "10.96.0.1", "127.0.0.1"]).map(str::to_owned).collect();
    pki.issue(&ca, "apiserver", "kube-apiserver", None, Use::Server, &api_names)?;
    pki.issue(
        &ca,
        "apiserver-kubelet-client",
        "kube-apiserver-kubelet-client",
        Some("kubeadm:cluster-admins"),
        Use::Client,
        &[],
    )?;
    pki.issue(&front_proxy, "front-proxy-client", "front-proxy-client", None, Use::Client, &[])?;
    pki.issue(&etcd, "apiserver-etcd-client", "kube-apiserver-etcd-client", None, Use::Client, &[])?;
    pki.issue(&etcd, "etcd/server", node, None, Use::Both, &names)?;
    pki.issue(&etcd, "etcd/peer", node, None, Use::Both, &names)?;
    pki.issue(&etcd, "etcd/healthcheck-client", "kube-etcd-healthcheck-client", None, Use::Client, &[])?;
    let service_account = generate()?;
    pki.write("sa.key", &service_account.serialize_pem(), true)?;
    pki.write("sa.pub", &service_account.public_key_pem(), false)?;
    let users = [
        ("admin.conf", "kubernetes-admin", Some("kubeadm:cluster-admins")),
        ("controller-manager.conf", "system:kube-controller-manager", None),
        ("scheduler.conf", "system:kube-scheduler", None),
        ("kubelet.conf", &format!("system:node:{node}"), Some("system:nodes")),
    ];
    for (file, user, group) in users {
        let (certificate, key) = sign(&ca, user, group, Use::Client, &[])?;
        let text = kubeconfig(&ca.pem(), api_server, user, &certificate, &key);
        write_file(&root.join("etc/kubernetes").join(file), &text, true)?;
    }
    Ok(())
}

fn kubeconfig(authority: &str, api_server: &str, user: &str, certificate: &str, key: &str) -> String {
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {}\n    server: https://{api_server}\n  \
         name: drill\ncontexts:\n- context:\n    cluster: drill\n    user: {user}\n  name: {user}@drill\n\
         current-context: {user}@drill\nkind: Config\nusers:\n- name: {user}\n  user:\n    \
         client-certificate-data: {}\n    client-key-data: {}\n",
        encode(authority),
        encode(certificate),
        encode(key)
    )
}

struct Pki {
    folder: PathBuf,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

impl Pki {
    fn authority(&self, file: &str, name: &str) -> Result<Authority> {
        let mut params = params(name, None, &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(params, generate()?).map_err(failed)?;
        self.write(&format!("{file}.crt"), &issuer.pem(), false)?;
        self.write(&format!("{file}.key"), &issuer.key().serialize_pem(), true)?;
        Ok(issuer)
    }

    fn issue(
        &self,
        authority: &Authority,
        file: &str,
        name: &str,
        group: Option<&str>,
        purpose: Use,
        alt_names: &[String],
    ) -> Result<()> {
        let (certificate, key) = sign(authority, name, group, purpose, alt_names)?;
        self.write(&format!("{file}.crt"), &certificate, false)?;
        self.write(&format!("{file}.key"), &key, true)
    }

    fn write(&self, file: &str, text: &str, secret: bool) -> Result<()> {
        write_file(&self.folder.join(file), text, secret)
    }
}

fn write_file(path: &Path, text: &str, secret: bool) -> Result<()> {
    use std::io::Write as _;
    let mode = if secret { 0o600 } else { 0o644 };
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| Error::path("write", path, source))
}

fn sign(
    authority: &Authority,
    name: &str,
    group: Option<&str>,
    purpose: Use,
    alt_names: &[String],
) -> Result<(String, String)> {
    let mut params = params(name, group, alt_names)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = match purpose {
        Use::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Use::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Use::Both => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
    };
    let key = generate()?;
    let certificate = params.signed_by(&key, authority).map_err(failed)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn params(name: &str, group: Option<&str>, alt_names: &[String]) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(alt_names.to_vec()).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    // kubeadm: one year for leaves; a drill lives for a minute, but the expiry finding must stay quiet.
    let now = jiff::Timestamp::now().as_second();
    let day = 24 * 60 * 60;
    let at = |seconds: i64| -> Result<_> {
        time::OffsetDateTime::from_unix_timestamp(seconds)
            .map_err(|source| Error::with_source(ErrorKind::Internal, "certificate dates", source))
    };
    params.not_before = at(now - day)?;
    params.not_after = at(now + 365 * day)?;
    Ok(params)
}

fn generate() -> Result<KeyPair> {
    KeyPair::generate().map_err(failed)
}

fn failed(source: rcgen::Error) -> Error {
    Error::with_source(ErrorKind::Internal, "make a certificate of the drill", source)
}
