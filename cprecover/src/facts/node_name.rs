//! The name under which the cluster knows this node.

use std::path::Path;

use super::certificates::{client_certificate, parse_pem};
#[cfg(feature = "probe")]
use crate::error::{Error, ErrorKind, Result};
use crate::model::NodeName;
use crate::node::NodeOptions;
use crate::parse::{kubelet, yaml};
use crate::sys::read_bounded;

/// How the API server knows a node (kubernetes `plugin/pkg/auth/nodeidentifier/default.go`).
const USER: &str = "system:node:";
const MAX_HOSTNAME_BYTES: usize = 4096;

/// Returns the node's name: configured, else the user of kubelet's own certificate, else
/// `--hostname-override`, else the host's name; `None` where nothing tells it.
///
/// kubelet lowers and trims whichever it takes (kubernetes `pkg/util/node/node.go`, `GetHostname`).
/// The kernel's own name says nothing of a node that is mounted elsewhere; `/etc/hostname` does.
#[must_use]
pub fn node_name(node: &NodeOptions) -> Option<NodeName> {
    node.node_name
        .clone()
        .or_else(|| of_certificates(node))
        .or_else(|| of_arguments(node))
        .or_else(|| of_host(node))
        .map(|name| name.trim().to_lowercase())
        .filter(|name| !name.is_empty())
        .map(NodeName::new)
}

/// As [`node_name`], for what cannot be done without it.
///
/// # Errors
/// [`ErrorKind::Missing`] where nothing tells it.
#[cfg(feature = "probe")]
pub(crate) fn require_node_name(node: &NodeOptions) -> Result<NodeName> {
    let unknown = "neither kubelet's files nor the host tell this node's name; set nodeName";
    node_name(node).ok_or_else(|| Error::new(ErrorKind::Missing, unknown))
}

/// kubelet's certificate, where it lies after a rotation, then in the kubeconfig that began it.
fn of_certificates(node: &NodeOptions) -> Option<String> {
    let rotated = node.kubelet_certificate();
    let kubeconfig = node.kubernetes_dir.join("kubelet.conf");
    let user = |subject: &str| subject.strip_prefix(USER).map(str::to_owned);
    let of_pem = || {
        let facts = parse_pem(&rotated, &read(node, &rotated)?).ok()?;
        facts.iter().find_map(|fact| user(&fact.subject))
    };
    let of_kubeconfig = || user(&client_certificate(&kubeconfig, &read(node, &kubeconfig)?).ok()?.subject);
    of_pem().or_else(of_kubeconfig)
}

fn of_arguments(node: &NodeOptions) -> Option<String> {
    node.kubelet_argument_files().iter().find_map(|path| {
        let bytes = read_bounded(path, yaml::MAX_DOCUMENT_BYTES).ok()?;
        kubelet::flag(&String::from_utf8_lossy(&bytes), "hostname-override").map(str::to_owned)
    })
}

fn of_host(node: &NodeOptions) -> Option<String> {
    if node.root == Path::new("/") {
        return rustix::system::uname().nodename().to_str().ok().map(str::to_owned);
    }
    let bytes = read_bounded(&node.resolve("/etc/hostname"), MAX_HOSTNAME_BYTES).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    // As systemd reads it (hostname(5)): the first line that is no comment.
    text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned)
}

fn read(node: &NodeOptions, path: &Path) -> Option<Vec<u8>> {
    read_bounded(&node.resolve(path), yaml::MAX_DOCUMENT_BYTES).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(name: &str) -> String {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("{USER}{name}"));
        let key = rcgen::KeyPair::generate().expect("key");
        params.self_signed(&key).expect("signed").pem()
    }

    #[test]
    fn kubelets_certificate_says_more_than_the_host_and_nothing_is_no_name() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut node = NodeOptions::at(dir.path()).expect("absolute");
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            std::fs::write(path, text).expect("write");
        };
        let name = |node: &NodeOptions| node_name(node).map(|name| name.as_str().to_owned());
        assert_eq!(name(&node), None);
        write("etc/hostname", "\n# transient\n");
        assert_eq!(name(&node), None, "an empty name is none");
        write("etc/hostname", "# static\nIP-10-0-0-1\n");
        assert_eq!(name(&node).as_deref(), Some("ip-10-0-0-1"));
        write("var/lib/kubelet/kubeadm-flags.env", "KUBELET_KUBEADM_ARGS=\"--hostname-override=cp2\"\n");
        assert_eq!(name(&node).as_deref(), Some("cp2"));
        write("etc/kubernetes/kubelet.conf", "kind: Config\nusers:\n- user: {client-certificate: /x.pem}\n");
        assert_eq!(name(&node).as_deref(), Some("cp2"), "it only names a file");
        write("var/lib/kubelet/pki/kubelet-client-current.pem", &certificate("cp1.example.com"));
        assert_eq!(name(&node).as_deref(), Some("cp1.example.com"));
        node.node_name = Some("cp9".into());
        assert_eq!(name(&node).as_deref(), Some("cp9"));
    }
}
