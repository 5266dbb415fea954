//! The disposable node: a root folder with everything that a kubeadm node has.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cprecover::model::Component;
use cprecover::sys::{CommandSpec, Commands as _, Deadline, SystemCommands, read_bounded};
use cprecover::{Error, ErrorKind, NodeOptions, Result};
use serde::{Deserialize, Serialize};

use super::pki;
use super::ports::Ports;
use crate::double::daemon::Daemon;
use crate::double::fetch::Peer;
use crate::double::serve::{TlsFiles, anonymous_client};

/// The node's name.
pub(super) const NODE: &str = "drill";
/// What was built, for a later run.
const SITE_FILE: &str = "opt/drill/site.json";
/// Folders of the node that must be there.
const FOLDERS: [&str; 11] = [
    "etc/kubernetes/manifests",
    "etc/cprecover",
    "opt/drill/bin",
    "opt/drill/programs",
    "opt/drill/daemons",
    "usr/bin",
    "run/containerd",
    "var/lib/etcd",
    "var/lib/kubelet/pods",
    "var/lib/cprecover",
    "var/log/pods",
];

/// A disposable node.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Site {
    root: PathBuf,
    ports: Ports,
    etcd: EtcdProgram,
    /// Manifests as kubeadm rendered them, not installed yet.
    rendered: PathBuf,
}

/// Which etcd the node runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum EtcdProgram {
    /// A real one.
    Real(PathBuf),
    /// This program's stand-in.
    StandIn,
}

impl Site {
    /// Builds a node below `root`, an empty folder; nothing runs yet.
    pub(super) fn build(root: PathBuf, etcd: EtcdProgram) -> Result<Self> {
        for folder in FOLDERS {
            let path = root.join(folder);
            std::fs::create_dir_all(&path).map_err(|source| Error::path("create", &path, source))?;
        }
        for private in ["var/lib/etcd", "var/lib/cprecover"] {
            set_mode(&root.join(private), 0o700)?;
        }
        let rendered = root.join("opt/drill/rendered");
        let site = Self { ports: Ports::pick()?, root, etcd, rendered };
        pki::write(&site.root, NODE, &format!("127.0.0.1:{}", site.ports.apiserver))?;
        site.write_programs()?;
        site.write_node_config()?;
        site.write_daemons()?;
        site.render_manifests()?;
        let path = site.root.join(SITE_FILE);
        let text = serde_json::to_vec(&site).map_err(|source| {
            Error::with_source(ErrorKind::Internal, "serialise the drill's node", source)
        })?;
        std::fs::write(&path, text).map_err(|source| Error::path("write", &path, source))?;
        Ok(site)
    }

    /// Opens a node that was built before.
    pub(super) fn open(root: &Path) -> Result<Self> {
        let path = root.join(SITE_FILE);
        serde_json::from_slice(&read_bounded(&path, 1 << 20)?).map_err(|source| {
            Error::with_source(ErrorKind::Invalid, format!("read {}", path.display()), source)
        })
    }

    /// Returns the node's root.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns which etcd runs.
    pub(super) fn etcd(&self) -> &EtcdProgram {
        &self.etcd
    }

    /// Returns the picked ports.
    pub(super) fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Returns the node's options as every subcommand reads them.
    pub(super) fn options(&self) -> Result<NodeOptions> {
        NodeOptions::load(&self.root)
    }

    /// Puts a component's manifest in place, as `kubeadm init` would have.
    pub(super) fn install(&self, component: Component) -> Result<()> {
        let file = component.manifest_file();
        let folder = self.root.join("etc/kubernetes/manifests");
        let (from, temporary, to) =
            (self.rendered.join(file), folder.join(format!(".{file}")), folder.join(file));
        std::fs::copy(&from, &temporary)
            .and_then(|_| std::fs::set_permissions(&temporary, Permissions::from_mode(0o600)))
            .and_then(|()| std::fs::rename(&temporary, &to))
            .map_err(|source| Error::path("install", &to, source))
    }

    /// Returns one of the node's daemons.
    pub(super) fn daemon(&self, name: &str) -> Daemon {
        Daemon::new(&self.root, name)
    }

    /// Returns the API server as a peer.
    pub(super) fn api_server(&self) -> Result<Peer> {
        let tls = anonymous_client(&self.pki("ca.crt"))?;
        Ok(Peer { address: ([127, 0, 0, 1], self.ports.apiserver.get()).into(), tls: Some(tls) })
    }

    /// Returns etcd's client listener as a peer.
    pub(super) fn etcd_client(&self) -> Result<Peer> {
        let (certificate, key) =
            (self.pki("apiserver-etcd-client.crt"), self.pki("apiserver-etcd-client.key"));
        let authority = self.pki("etcd/ca.crt");
        let files = TlsFiles { certificate: &certificate, key: &key, authority: Some(&authority) };
        let address = ([127, 0, 0, 1], self.ports.etcd_client.get()).into();
        Ok(Peer { address, tls: Some(files.client()?) })
    }

    fn pki(&self, file: &str) -> PathBuf {
        self.root.join("etc/kubernetes/pki").join(file)
    }

    fn program(&self, name: &str) -> PathBuf {
        self.root.join("opt/drill/bin").join(name)
    }

    /// Puts this program under the names of the programs it stands in for, so that `/proc/PID/exe` and
    /// `comm` say what an operator would expect, and wrappers where kubelet and cprecover look.
    fn write_programs(&self) -> Result<()> {
        let own = std::env::current_exe().map_err(|source| Error::io("find this program", source))?;
        let first = self.program("cprecover");
        if std::fs::hard_link(&own, &first).is_err() {
            std::fs::copy(&own, &first)
                .map_err(|source| Error::path("copy this program to", &first, source))?;
        }
        for component in Component::ALL {
            let name = component.as_str();
            let link = self.program(name);
            std::fs::hard_link(&first, &link).map_err(|source| Error::path("link", &link, source))?;
            let script = match (&self.etcd, component) {
                (EtcdProgram::Real(path), Component::Etcd) => real_etcd_wrapper(path),
                _ => format!("#!/bin/sh\nexec '{}' double {name} \"$@\"\n", link.display()),
            };
            write_script(&self.root.join("opt/drill/programs").join(name), &script)?;
        }
        let kubeadm = format!(
            "#!/bin/sh\nexec '{}' double kubeadm --allow-loopback --host-root '{}' -- \"$@\"\n",
            first.display(),
            self.root.display()
        );
        write_script(&self.root.join("usr/bin/kubeadm"), &kubeadm)
    }

    fn write_node_config(&self) -> Result<()> {
        let own = self.program("cprecover");
        let root = self.root.display();
        let service = |name: &str| {
            let verbs = ["start", "stop", "state"].map(|verb| {
                format!(
                    "      {verb}: ['{}', --root, '{root}', double, daemon, {verb}, {name}]\n",
                    own.display()
                )
            });
            format!("  commands:\n{}", verbs.concat())
        };
        // The drill's kubeadm and runtime make pod cgroups only where they may; the manifest is the
        // second proof of who a port holder is.
        let text = format!(
            "nodeName: {NODE}\nruntimeEndpoint: unix:///run/containerd/containerd.sock\n\
             kubeletLog: /var/log/kubelet.log\npodIdentity: cgroup-or-manifest\ngraceSeconds: 1\nrestartMs: 500\n\
             kubelet:\n{}runtime:\n{}",
            service("kubelet"),
            service("containerd")
        );
        let path = self.root.join("etc/cprecover/config.yaml");
        std::fs::write(&path, text).map_err(|source| Error::path("write", &path, source))
    }

    fn write_daemons(&self) -> Result<()> {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let own = text(self.program("cprecover"));
        let root = text(self.root.clone());
        let socket = text(self.root.join("run/containerd/containerd.sock"));
        let argv = |args: &[&str]| -> Vec<String> { args.iter().map(|&arg| arg.to_owned()).collect() };
        let programs = text(self.root.join("opt/drill/programs"));
        // Ports are unique only within a network namespace; the root's name is unique on the machine.
        let name = self.root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let prefix = format!(
            "cprecover-drill-{}-{}",
            self.ports.etcd_peer,
            name.trim_start_matches("cprecover-drill-")
        );
        self.daemon("containerd").install(&argv(&[
            &own,
            "--root",
            &root,
            "double",
            "runtime",
            "--socket",
            &socket,
            "--programs",
            &programs,
            "--cgroup-prefix",
            &prefix,
        ]))?;
        let api = format!("127.0.0.1:{}", self.ports.apiserver);
        self.daemon("kubelet").install(&argv(&[
            &own,
            "--root",
            &root,
            "double",
            "kubelet",
            "--node-name",
            NODE,
            "--socket",
            &socket,
            "--api-server",
            &api,
        ]))
    }

    /// Renders the four manifests with the node's own kubeadm.
    fn render_manifests(&self) -> Result<()> {
        // Where `cprecover regenerate capture` puts it while a cluster is healthy.
        let config = self.root.join("etc/kubernetes/kubeadm-config.yaml");
        std::fs::write(&config, self.kubeadm_config())
            .map_err(|source| Error::path("write", &config, source))?;
        std::fs::create_dir_all(&self.rendered)
            .map_err(|source| Error::path("create", &self.rendered, source))?;
        for phase in [["control-plane", "all"], ["etcd", "local"]] {
            let spec = CommandSpec::new(self.root.join("usr/bin/kubeadm"))
                .args(["init", "phase"])
                .args(phase)
                .args(["--dry-run".as_ref(), "--config".as_ref(), config.as_os_str()])
                .env("KUBEADM_INIT_DRYRUN_DIR", &self.rendered)
                .timeout(Duration::from_secs(10));
            let output = SystemCommands.run(&spec, &Deadline::after(Duration::from_secs(10)))?;
            if !output.is_success() {
                return Err(Error::new(
                    ErrorKind::Peer,
                    format!("kubeadm {phase:?}: {}", output.stderr_tail()),
                ));
            }
        }
        Ok(())
    }

    fn kubeadm_config(&self) -> String {
        let Ports { etcd_client, etcd_peer, etcd_metrics, apiserver, controller_manager, scheduler } =
            self.ports;
        format!(
            "apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint:
  advertiseAddress: 127.0.0.1
  bindPort: {apiserver}
nodeRegistration:
  name: {NODE}
  criSocket: unix:///run/containerd/containerd.sock
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v1.36.2
clusterName: drill
networking:
  podSubnet: 10.244.0.0/16
  serviceSubnet: 10.96.0.0/12
apiServer:
  extraArgs:
  - name: bind-address
    value: 127.0.0.1
  - name: etcd-servers
    value: https://127.0.0.1:{etcd_client}
  - name: max-requests-inflight
    value: \"800\"
controllerManager:
  extraArgs:
  - name: secure-port
    value: \"{controller_manager}\"
scheduler:
  extraArgs:
  - name: secure-port
    value: \"{scheduler}\"
etcd:
  local:
    dataDir: /var/lib/etcd
    extraArgs:
    - name: advertise-client-urls
      value: https://127.0.0.1:{etcd_client}
    - name: initial-advertise-peer-urls
      value: https://127.0.0.1:{etcd_peer}
    - name: initial-cluster
      value: {NODE}=https://127.0.0.1:{etcd_peer}
    - name: listen-client-urls
      value: https://127.0.0.1:{etcd_client}
    - name: listen-metrics-urls
      value: http://127.0.0.1:{etcd_metrics}
    - name: listen-peer-urls
      value: https://127.0.0.1:{etcd_peer}
"
        )
    }
}

/// Returns the `etcd` on the caller's PATH, or the stand-in.
pub(super) fn find_etcd() -> EtcdProgram {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("etcd"))
        .find(|program| program.is_absolute() && program.is_file())
        .filter(|program| {
            Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
        })
        .map_or(EtcdProgram::StandIn, EtcdProgram::Real)
}

/// Drops the flags of kubeadm 1.36's manifest that etcd before 3.6 does not know.
fn real_etcd_wrapper(etcd: &Path) -> String {
    format!(
        "#!/bin/sh\nleft=$#\nnew=$('{etcd}' --version | grep -cE 'etcd Version: (3\\.([6-9]|[1-9][0-9])|[4-9])')\n\
         while [ \"$left\" -gt 0 ]; do\n  flag=$1; shift; left=$((left - 1))\n  case $new$flag in\n    \
         0--feature-gates=*|0--watch-progress-notify-interval=*) ;;\n    *) set -- \"$@\" \"$flag\" ;;\n  esac\ndone\n\
         exec '{etcd}' \"$@\"\n",
        etcd = etcd.display()
    )
}

fn write_script(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|source| Error::path("write", path, source))?;
    set_mode(path, 0o755)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|source| Error::path("set the mode of", path, source))
}
