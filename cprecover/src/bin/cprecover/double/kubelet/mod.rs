//! A stand-in for kubelet: it runs what the manifest folder says, with the real one's habits.
//!
//! Habits that matter to a recovery, with their sources in kubernetes v1.36: crash-loop back-off in
//! memory (`pkg/kubelet/kuberuntime`), one pod per name, no deletion before the API has been seen
//! (`pkg/kubelet/kubelet.go`, `deletePod`: "skipping delete because sources aren't ready yet"), running
//! containers with an unchanged UID are adopted after a restart.

mod backoff;
pub(crate) mod runtime;
mod source;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cprecover::cri::{Container, RuntimeState, Sandbox, SandboxState};
use cprecover::model::{ContainerId, PodUid, SandboxId};
use cprecover::parse::manifest::Container as ContainerManifest;
use cprecover::{NodeOptions, Result};

use self::backoff::BackOff;
use self::runtime::{ContainerSpec, PodRuntime, SandboxSpec};
use self::source::Desired;
use super::fetch::Peer;
use super::runtime_client::CriPodRuntime;

/// How long a stopped sandbox is kept (`--minimum-container-ttl-duration` and kubelet's period of a minute).
const GARBAGE_AGE: Duration = Duration::from_mins(1);

/// How the stand-in runs.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct KubeletArgs {
    /// The node's name.
    #[arg(long)]
    pub(crate) node_name: String,
    /// The runtime's unix socket.
    #[arg(long)]
    pub(crate) socket: PathBuf,
    /// The API server's address; pods are deleted only after it was ready once.
    #[arg(long)]
    pub(crate) api_server: std::net::SocketAddr,
    /// Authority of the API server, below the root.
    #[arg(long, default_value = "/etc/kubernetes/pki/ca.crt")]
    pub(crate) authority: PathBuf,
    /// How often the manifest folder is read, in milliseconds (kubelet: inotify, and every 20 s; what the order of
    /// its events does to a pod is seen by `tests/backup_notify.rs`, not here).
    #[arg(long, default_value_t = 100)]
    pub(crate) poll_ms: u64,
    /// The first crash-loop pause, in seconds (kubelet: 10).
    #[arg(long, default_value_t = 10)]
    pub(crate) back_off_s: u64,
}

/// One run of the stand-in; everything in it is lost at a restart, as in the real one.
pub(crate) struct Kubelet<'a> {
    node: String,
    manifests: PathBuf,
    runtime: &'a dyn PodRuntime,
    api: Peer,
    back_off: BackOff,
    sources_ready: bool,
    ended: HashMap<ContainerId, Instant>,
    stopped: HashMap<SandboxId, Instant>,
    known: HashSet<PodUid>,
    said: HashSet<String>,
}

impl<'a> Kubelet<'a> {
    /// Starts with an empty memory.
    pub(crate) fn new(
        args: &KubeletArgs,
        manifests: PathBuf,
        runtime: &'a dyn PodRuntime,
        api: Peer,
    ) -> Self {
        Self {
            node: args.node_name.clone(),
            manifests,
            runtime,
            api,
            back_off: BackOff::new(Duration::from_secs(args.back_off_s)),
            sources_ready: false,
            ended: HashMap::new(),
            stopped: HashMap::new(),
            known: HashSet::new(),
            said: HashSet::new(),
        }
    }

    /// Runs until the process is ended.
    pub(crate) fn run(&mut self, poll: Duration) -> ! {
        loop {
            if let Err(error) = self.sync() {
                self.say_once('E', format!("\"Skipping pod synchronization\" err=\"{error}\""));
            }
            std::thread::sleep(poll);
        }
    }

    /// Brings the runtime one step nearer to what the manifest folder asks for.
    fn sync(&mut self) -> Result<()> {
        self.see_api();
        let mut complaints = Vec::new();
        let desired = source::read(&self.manifests, &self.node, &mut |line| complaints.push(line));
        for line in complaints {
            self.say_once('E', line);
        }
        let state = self.runtime.list()?;
        let wanted: HashSet<&PodUid> = desired.iter().map(|pod| &pod.uid).collect();
        self.stop_unwanted(&state, &wanted);
        self.collect_garbage(&state, &wanted)?;
        for pod in &desired {
            if let Err(error) = self.sync_pod(pod, &state) {
                self.say_once(
                    'E',
                    format!(
                        "\"Error syncing pod, skipping\" err=\"{error}\" pod=\"{}/{}\" podUID=\"{}\"",
                        pod.pod.namespace, pod.full_name, pod.uid
                    ),
                );
            }
        }
        Ok(())
    }

    fn see_api(&mut self) {
        if self.sources_ready {
            return;
        }
        match self.api.send_blocking("/readyz", None, Duration::from_millis(500)) {
            Ok((200, _)) => {
                self.sources_ready = true;
                say('I', "\"SyncLoop ADD\" source=\"api\" pods=[]");
            }
            _ => self.say_once('E', format!("\"Failed to ensure lease exists, will retry\" err=\"Get \\\"https://{}/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{}\\\": connect: connection refused\" interval=\"7s\"", self.api.address, self.node)),
        }
    }

    /// Stops sandboxes of static pods that no manifest asks for any more.
    fn stop_unwanted(&mut self, state: &RuntimeState, wanted: &HashSet<&PodUid>) {
        let unwanted = |sandbox: &&Sandbox| {
            sandbox.is_static() && sandbox.state == SandboxState::Ready && !wanted.contains(&sandbox.uid)
        };
        for sandbox in state.sandboxes.iter().filter(unwanted) {
            let pod = format!("{}/{}", sandbox.namespace, sandbox.pod_name);
            if !self.sources_ready {
                self.say_once('I', format!("\"Failed to delete pod\" err=\"skipping delete because sources aren't ready yet\" pod=\"{pod}\" podUID=\"{}\"", sandbox.uid));
                continue;
            }
            match self.runtime.stop_sandbox(&sandbox.id) {
                Ok(()) => say('I', &format!("\"SyncLoop REMOVE\" source=\"file\" pods=[\"{pod}\"]")),
                Err(error) => self.say_once(
                    'E',
                    format!("\"Failed to stop sandbox\" podSandboxID=\"{}\" err=\"{error}\"", sandbox.id),
                ),
            }
            self.known.remove(&sandbox.uid);
        }
    }

    /// Removes what has been stopped for a minute (`pkg/kubelet/kuberuntime/kuberuntime_gc.go`), but keeps the
    /// newest sandbox of a pod that should run: its dead containers tell how long to back off.
    fn collect_garbage(&mut self, state: &RuntimeState, wanted: &HashSet<&PodUid>) -> Result<()> {
        let now = Instant::now();
        for sandbox in state.sandboxes.iter().filter(|sandbox| sandbox.state == SandboxState::NotReady) {
            let newest = state
                .sandboxes
                .iter()
                .filter(|other| other.uid == sandbox.uid)
                .map(|other| other.attempt)
                .max();
            let stopped = *self.stopped.entry(sandbox.id.clone()).or_insert(now);
            let needed = wanted.contains(&sandbox.uid) && Some(sandbox.attempt) == newest;
            if !needed && now.duration_since(stopped) > GARBAGE_AGE {
                self.runtime.remove_sandbox(&sandbox.id)?;
                self.stopped.remove(&sandbox.id);
            }
        }
        Ok(())
    }

    fn sync_pod(&mut self, pod: &Desired, state: &RuntimeState) -> Result<()> {
        // A pod of the same name that this run of kubelet started must end first: one worker per name.
        let busy = state.sandboxes.iter().any(|sandbox| {
            sandbox.pod_name == pod.full_name
                && sandbox.uid != pod.uid
                && sandbox.state == SandboxState::Ready
                && self.known.contains(&sandbox.uid)
        });
        if busy {
            self.say_once(
                'I',
                format!(
                    "\"Pod cannot start yet\" pod=\"{}/{}\" podUID=\"{}\"",
                    pod.pod.namespace, pod.full_name, pod.uid
                ),
            );
            return Ok(());
        }
        if self.known.insert(pod.uid.clone()) {
            say(
                'I',
                &format!(
                    "\"SyncLoop ADD\" source=\"file\" pods=[\"{}/{}\"]",
                    pod.pod.namespace, pod.full_name
                ),
            );
        }
        let own: Vec<_> = state.sandboxes.iter().filter(|sandbox| sandbox.uid == pod.uid).collect();
        let attempt = own.iter().map(|sandbox| sandbox.attempt + 1).max().unwrap_or(0);
        let ready = own.iter().find(|sandbox| sandbox.state == SandboxState::Ready);
        let mut spec = sandbox_spec(pod, ready.map_or(attempt, |sandbox| sandbox.attempt));
        for manifest in &pod.pod.containers {
            let mut runs: Vec<&Container> = state
                .containers
                .iter()
                .filter(|container| {
                    container.name == manifest.name && own.iter().any(|s| s.id == container.sandbox)
                })
                .collect();
            runs.sort_by_key(|container| (container.attempt, container.created_at));
            if let Some(last) = runs.last() {
                let running_here =
                    last.is_running() && ready.is_some_and(|sandbox| sandbox.id == last.sandbox);
                if running_here || self.must_wait(pod, last) {
                    continue;
                }
            }
            let sandbox = if let Some(sandbox) = ready {
                sandbox.id.clone()
            } else {
                spec.attempt = attempt;
                self.runtime.run_sandbox(&spec)?
            };
            let restarts = runs.last().map_or(0, |last| last.attempt + 1);
            let id =
                self.runtime.start_container(&sandbox, &spec, &container_spec(pod, manifest, restarts))?;
            say(
                'I',
                &format!(
                    "\"SyncLoop (PLEG): event for pod\" pod=\"{}/{}\" event={{\"ID\":\"{}\",\"Type\":\"ContainerStarted\",\"Data\":\"{id}\"}}",
                    pod.pod.namespace, pod.full_name, pod.uid
                ),
            );
            // kubelet keeps one dead container per pod (`--maximum-dead-containers-per-container`).
            for old in runs.iter().rev().skip(1).filter(|old| !old.is_running()) {
                self.runtime.remove_container(&old.id)?;
            }
        }
        Ok(())
    }

    /// Reports whether the back-off of a container that ended still runs.
    fn must_wait(&mut self, pod: &Desired, last: &Container) -> bool {
        let now = Instant::now();
        let ended = *self.ended.entry(last.id.clone()).or_insert(now);
        let key = format!("{}/{}/{}", pod.uid, pod.full_name, last.name);
        let Some(pause) = self.back_off.pause(&key, ended, now) else { return false };
        let line = format!(
            "\"Error syncing pod, skipping\" err=\"failed to \\\"StartContainer\\\" for \\\"{name}\\\" with CrashLoopBackOff: \\\"back-off {}s restarting failed container={name} pod={}_{}({})\\\"\" pod=\"{}/{}\" podUID=\"{}\"",
            pause.as_secs(),
            pod.full_name,
            pod.pod.namespace,
            pod.uid,
            pod.pod.namespace,
            pod.full_name,
            pod.uid,
            name = last.name,
        );
        self.say_once('E', format!("{line} attempt={}", last.attempt));
        true
    }

    /// Says a line the first time only; the real one repeats itself several times a second.
    fn say_once(&mut self, level: char, line: String) {
        if self.said.len() > 10_000 {
            self.said.clear();
        }
        if !self.said.contains(&line) {
            say(level, &line);
            self.said.insert(line);
        }
    }
}

/// Writes one line as klog does.
fn say(level: char, line: &str) {
    crate::console::say(format_args!(
        "{level}{} {:7} kubelet.go:1] {line}",
        super::klog_now(),
        std::process::id()
    ));
}

fn sandbox_spec(pod: &Desired, attempt: u32) -> SandboxSpec {
    let mut labels = pod.pod.labels.clone();
    labels.extend(pod_labels(pod));
    let mut annotations = pod.pod.annotations.clone();
    let own = [
        ("kubernetes.io/config.hash", pod.uid.to_string()),
        ("kubernetes.io/config.seen", jiff::Timestamp::now().to_string()),
        ("kubernetes.io/config.source", "file".to_owned()),
    ];
    annotations.extend(own.map(|(key, value)| (key.to_owned(), value)));
    let (name, namespace) = (pod.full_name.clone(), pod.pod.namespace.clone());
    SandboxSpec { name, namespace, uid: pod.uid.clone(), attempt, labels, annotations }
}

fn pod_labels(pod: &Desired) -> BTreeMap<String, String> {
    let labels = [
        ("io.kubernetes.pod.name", pod.full_name.clone()),
        ("io.kubernetes.pod.namespace", pod.pod.namespace.clone()),
        ("io.kubernetes.pod.uid", pod.uid.to_string()),
    ];
    labels.map(|(key, value)| (key.to_owned(), value)).into()
}

fn container_spec(pod: &Desired, manifest: &ContainerManifest, attempt: u32) -> ContainerSpec {
    let mut labels = pod_labels(pod);
    labels.insert("io.kubernetes.container.name".into(), manifest.name.clone());
    let annotations = [
        ("io.kubernetes.container.restartCount", attempt.to_string()),
        ("io.kubernetes.pod.terminationGracePeriod", "30".to_owned()),
    ];
    let mounts = manifest.mounts.iter().filter_map(|(volume, inside)| {
        let host = pod.pod.host_paths.iter().find(|host| host.name == *volume)?;
        Some((inside.clone(), host.path.clone()))
    });
    ContainerSpec {
        name: manifest.name.clone(),
        attempt,
        image: manifest.image.clone(),
        argv: manifest.argv.clone(),
        mounts: mounts.collect(),
        labels,
        annotations: annotations.map(|(key, value)| (key.to_owned(), value)).into(),
    }
}

/// Runs what the manifests folder of the node at `root` says, until the process is ended.
pub(super) fn run(root: &Path, args: &KubeletArgs) -> Result<()> {
    let node = NodeOptions::load(root)?;
    let tls = super::serve::anonymous_client(&node.resolve(&args.authority))?;
    let api = Peer { address: args.api_server, tls: Some(tls) };
    let runtime = CriPodRuntime::new(&args.socket);
    say('I', "\"Started kubelet\"");
    Kubelet::new(args, node.manifests(), &runtime, api).run(Duration::from_millis(args.poll_ms))
}
