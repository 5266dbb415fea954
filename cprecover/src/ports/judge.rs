//! Judges a port holder: evidence in, verdict out; nothing is read here.

use super::cgroup::PodCgroup;
use super::database;
use super::evidence::{Ancestor, Evidence, ProcessState};
use super::runtime_match::mismatch;
use super::verdict::{Action, Class, IdentityProof, NodeFacts, PodFacts, RuntimeFacts, Verdict};
use super::words;
use crate::cri::{Container, ContainerState, InPlace, Sandbox};
use crate::model::{Component, Observed};
use crate::node::PodIdentity;

/// Judges a holder.
///
/// `runtime` is `Err(why)` when the container runtime cannot be asked: classes (a) to (c) are then
/// [`Class::Unproven`].
#[must_use]
pub fn judge(evidence: &Evidence, runtime: Result<&RuntimeFacts, &str>, node: &NodeFacts) -> Verdict {
    let mut case = Case { evidence, node, proof: IdentityProof::None, words: words::describe(evidence) };
    let class = case.classify(runtime);
    let action = match &class {
        Class::Live { .. } => Action::Leave,
        Class::Stale { sandbox, .. } => Action::RemoveSandbox { sandbox: sandbox.clone() },
        Class::Orphan { .. } => Action::Terminate,
        Class::Gone => Action::Retry,
        Class::Unit { .. } | Class::Foreign { .. } | Class::Unproven { .. } => Action::Refuse,
    };
    Verdict { process: evidence.process, class, action, proof: case.proof, evidence: case.words }
}

struct Case<'a> {
    evidence: &'a Evidence,
    node: &'a NodeFacts,
    proof: IdentityProof,
    words: Vec<String>,
}

impl Case<'_> {
    fn say(&mut self, text: impl Into<String>) {
        self.words.push(text.into());
    }

    fn classify(&mut self, runtime: Result<&RuntimeFacts, &str>) -> Class {
        if self.evidence.gone {
            self.say("it was gone, or its pid belonged to another process, when it was looked at");
            return Class::Gone;
        }
        if self.evidence.state == ProcessState::Zombie {
            return unproven(
                "it is a zombie whose other threads still run: its program and files are unreadable",
            );
        }
        let cgroup = match &self.evidence.cgroup {
            Observed::Present(cgroup) => cgroup,
            Observed::Absent => return unproven("its cgroup is unreadable"),
            Observed::Unknown(why) => return unproven(format!("its cgroup is unreadable: {why}")),
        };
        let pod = cgroup.pod();
        if pod.is_some() {
            self.proof = IdentityProof::Cgroup;
        } else if let Some(container) = runtime.ok().and_then(|runtime| self.told_by_pid(runtime)) {
            self.proof = IdentityProof::Runtime;
            self.say(format!(
                "no kubepods cgroup; the runtime says that it runs in container {}",
                container.id
            ));
        } else if self.node.pod_identity == PodIdentity::CgroupOrManifest {
            match self.manifest_match() {
                Ok(component) => {
                    self.proof = IdentityProof::Manifest;
                    self.say(format!(
                        "no kubepods cgroup; program, address and data-directory lock match the manifest of {component}"
                    ));
                }
                Err(why) => self.say(format!("the manifests do not prove it either: {why}")),
            }
        }
        if self.proof == IdentityProof::None {
            return self.outside_of_pods();
        }
        let component = match self.component() {
            Ok(component) => component,
            Err(class) => return class,
        };
        match runtime {
            Ok(runtime) => self.against_runtime(pod.as_ref(), component, runtime),
            Err(why) => {
                self.say("without the container runtime nobody can tell a live container from an orphan");
                unproven(format!("the container runtime cannot be asked: {why}"))
            }
        }
    }

    /// (d) and (e): no pod of kubelet's.
    fn outside_of_pods(&mut self) -> Class {
        let cgroup = self.evidence.cgroup.present();
        if let Some(cgroup) = cgroup.filter(|cgroup| !cgroup.is_root()) {
            let unit = cgroup.unit();
            match &unit {
                Some(unit) => self.say(format!("it belongs to the systemd unit {}, not to a pod", unit.0)),
                None => self.say(format!("it belongs to cgroup {}, which is no pod's", cgroup.path)),
            }
            return Class::Unit { unit, cgroup: cgroup.path.clone() };
        }
        self.say("it is in the root cgroup, so no pod's and no unit's");
        Class::Foreign { program: words::program(self.evidence) }
    }

    /// Returns the component that the program is, `None` when its name says nothing; (e) for another
    /// program than the expected one's.
    fn component(&mut self) -> Result<Option<Component>, Class> {
        let Some(name) = self.evidence.exe.present().and_then(|exe| exe.name()) else {
            return Err(unproven(match &self.evidence.exe {
                Observed::Unknown(why) => format!("its program is unreadable: {why}"),
                _ => "it has no program".to_owned(),
            }));
        };
        let told = self.node.pods.iter().find(|pod| pod.program == name).map(|pod| pod.component);
        let named = Component::ALL.into_iter().find(|component| component.as_str() == name);
        let found = told.or(named);
        match (self.node.expected, found) {
            (Some(expected), Some(found)) if expected == found => Ok(found.into()),
            (Some(expected), _) => {
                self.say(format!("its program {name} is not that of {expected}"));
                Err(Class::Foreign { program: words::program(self.evidence) })
            }
            (None, Some(found)) => Ok(found.into()),
            (None, None) => {
                self.say(format!("its program {name} is no control-plane component's"));
                Err(Class::Foreign { program: words::program(self.evidence) })
            }
        }
    }

    /// (a), (b), (c): a pod's process, compared with what the runtime lists.
    fn against_runtime(
        &mut self,
        pod: Option<&PodCgroup>,
        component: Option<Component>,
        runtime: &RuntimeFacts,
    ) -> Class {
        let known = match self.known_container(pod, component, runtime) {
            Ok(known) => known,
            Err(class) => return class,
        };
        let Some(container) = known else {
            self.say("the runtime lists no container that it belongs to");
            return self.without_container(pod, component, runtime);
        };
        match container.state {
            ContainerState::Running => self.running(container, component, runtime),
            ContainerState::Created => unproven(format!(
                "the runtime calls container {} created, not started: it may be about to say running",
                container.id
            )),
            ContainerState::Exited => {
                self.say(format!("the runtime calls its container {} exited", container.id));
                self.without_container(pod, component, runtime)
            }
            ContainerState::Unknown => {
                self.say(format!("the runtime does not know the state of its container {}", container.id));
                self.without_container(pod, component, runtime)
            }
        }
    }

    /// Finds the runtime's entry for the holder: by the container id of its cgroup, else by the pids
    /// that the runtime tells.
    fn known_container<'r>(
        &self,
        pod: Option<&PodCgroup>,
        component: Option<Component>,
        runtime: &'r RuntimeFacts,
    ) -> Result<Option<&'r Container>, Class> {
        if let Some(pod) = pod {
            let Some(id) = &pod.container else {
                return Err(unproven(format!(
                    "it is in the cgroup of pod {} but in no container's",
                    pod.uid
                )));
            };
            if runtime.state.sandboxes.iter().any(|sandbox| sandbox.id.as_str() == id.as_str()) {
                return Err(unproven(format!("it belongs to the sandbox {id} itself, not to a container")));
            }
            return Ok(runtime.state.container(id));
        }
        if let Some(container) = self.told_by_pid(runtime) {
            return Ok(Some(container));
        }
        let mut running = runtime.state.containers.iter().filter(|container| container.is_running());
        // No cgroup names the container: one that runs without a known pid might be the holder's.
        let name = component.map(Component::as_str);
        match running.find(|c| Some(c.name.as_str()) == name && !runtime.pids.contains_key(&c.id)) {
            Some(maybe) => Err(unproven(format!(
                "the runtime calls container {} of {} running and does not tell its pid",
                maybe.id, maybe.name
            ))),
            None => Ok(None),
        }
    }

    /// Returns the running container whose first process, as the runtime tells, is the holder or one of
    /// its ancestors.
    fn told_by_pid<'r>(&self, runtime: &'r RuntimeFacts) -> Option<&'r Container> {
        let mut chain: Vec<_> = self.evidence.ancestors.iter().map(|ancestor| ancestor.process.pid).collect();
        chain.push(self.evidence.process.pid);
        runtime
            .state
            .containers
            .iter()
            .filter(|container| container.is_running())
            .find(|container| runtime.pids.get(&container.id).is_some_and(|pid| chain.contains(pid)))
    }

    /// (a) or (b): a container that the runtime calls running.
    fn running(
        &mut self,
        container: &Container,
        component: Option<Component>,
        runtime: &RuntimeFacts,
    ) -> Class {
        let Some(sandbox) = runtime.state.sandbox_of(container) else {
            return unproven(format!(
                "the runtime calls container {} running and does not list its sandbox {}",
                container.id, container.sandbox
            ));
        };
        let pod = format!("{}/{}", sandbox.namespace, sandbox.pod_name);
        self.say(format!("the runtime calls it container {} of pod {pod}, running", container.id));
        let Some(newest) = runtime.state.newest_sandbox(&sandbox.namespace, &sandbox.pod_name) else {
            return unproven(format!("the runtime lists no sandbox of pod {pod}"));
        };
        if newest.id == sandbox.id {
            self.say(format!("sandbox {} is the newest of its pod", sandbox.id));
            return Class::Live { container: container.id.clone(), sandbox: sandbox.id.clone() };
        }
        if newest.uid == sandbox.uid && newest.attempt <= sandbox.attempt {
            return unproven(format!(
                "sandboxes {} and {} disagree in time and attempt about which is newer (has the clock been set?)",
                newest.id, sandbox.id
            ));
        }
        if let Some(why) = self.not_replaced(sandbox, newest, component, runtime) {
            return unproven(why);
        }
        let same_config = made_from(newest) == made_from(sandbox);
        self.say(format!(
            "its sandbox {} of {} was replaced by {} of {}, made from {}",
            sandbox.id,
            sandbox.created_at,
            newest.id,
            newest.created_at,
            if same_config { "the same manifest" } else { "another manifest" }
        ));
        self.say("kubelet removes no pod while its API source has not synced, so the runtime has to");
        Class::Stale {
            container: container.id.clone(),
            sandbox: sandbox.id.clone(),
            newest: newest.id.clone(),
            same_config,
        }
    }

    /// Says why the holder's sandbox may be that of the manifest in place, though there is a newer one.
    fn not_replaced(
        &self,
        sandbox: &Sandbox,
        newest: &Sandbox,
        component: Option<Component>,
        runtime: &RuntimeFacts,
    ) -> Option<String> {
        let facts = self.node.pods.iter().find(|pod| Some(pod.component) == component);
        let in_place = facts.and_then(|facts| {
            Some(InPlace { name: &facts.container, argv: &facts.argv, image: facts.image.as_deref()? })
        });
        let line = self.evidence.command_line.present().map(|line| line.0.as_slice());
        // A program that a shell of the container has started has other arguments than the container.
        let is_main = facts.is_some_and(|facts| {
            self.evidence.exe.present().and_then(|exe| exe.name()) == Some(&*facts.program)
        });
        runtime.state.not_replaced(sandbox, newest, line.filter(|_| is_main), in_place)
    }

    /// (c), when nobody of the runtime's looks after the process any more.
    fn without_container(
        &mut self,
        pod: Option<&PodCgroup>,
        component: Option<Component>,
        runtime: &RuntimeFacts,
    ) -> Class {
        if let Err(class) = self.keeper(pod, runtime) {
            return class;
        }
        if let Err(class) = self.same_database(component) {
            return class;
        }
        Class::Orphan { component, container: pod.and_then(|pod| pod.container.clone()) }
    }

    /// Looks at the first ancestor outside of the container: PID 1, or a shim that the runtime does not
    /// know, keeps nothing alive that the runtime could stop.
    fn keeper(&mut self, pod: Option<&PodCgroup>, runtime: &RuntimeFacts) -> Result<(), Class> {
        let Some(keeper) = self.evidence.ancestors.iter().find(|ancestor| !shares(ancestor, pod)) else {
            return Err(unproven("its parent is not visible in this pid namespace"));
        };
        if let Some(why) = mismatch(runtime.name.as_deref(), pod, keeper) {
            return Err(unproven(why));
        }
        let named = format!("pid {} ({})", keeper.process.pid, keeper.comm);
        if let Some(shim) = &keeper.shim {
            let Some(served) = &shim.serves else {
                return Err(unproven(format!("the arguments of its shim {named} do not say whom it serves")));
            };
            if knows(runtime, served) {
                return Err(unproven(format!(
                    "its shim {named} serves {served}, which the runtime knows: let the runtime stop it"
                )));
            }
            self.say(format!("its shim {named} serves {served}, which the runtime does not know"));
            return Ok(());
        }
        if keeper.process.pid.get() == 1 {
            self.say(format!("its parent is {named}: no shim looks after it"));
            return Ok(());
        }
        if self.proof == IdentityProof::Manifest {
            // Where no cgroups are made, an orphan's parent is whoever adopts orphans there.
            self.say(format!("its parent is {named}, which is no shim"));
            return Ok(());
        }
        Err(unproven(format!("its parent {named} is neither PID 1 nor a shim")))
    }

    /// Refuses an etcd whose database is not proven to be the manifest's.
    fn same_database(&mut self, component: Option<Component>) -> Result<(), Class> {
        if component != Some(Component::Etcd) {
            return Ok(());
        }
        let facts = self.node.pods.iter().find(|pod| pod.component == Component::Etcd);
        let wanted = facts.map(|facts| &facts.database);
        let said = database::compare(&self.evidence.data_dir_lock, wanted).map_err(unproven)?;
        self.words.extend(said.map(str::to_owned));
        Ok(())
    }

    /// Compares a holder outside of kubepods with the manifests: program, address and lock.
    fn manifest_match(&self) -> Result<Component, String> {
        let evidence = self.evidence;
        let name = evidence.exe.present().and_then(|exe| exe.name()).ok_or("its program is unreadable")?;
        let wanted = |pod: &&PodFacts| self.node.expected.is_none_or(|expected| expected == pod.component);
        let pod = self
            .node
            .pods
            .iter()
            .filter(wanted)
            .find(|pod| pod.program == name)
            .ok_or_else(|| format!("no manifest runs a program {name}"))?;
        let told = |own: &std::net::SocketAddr| {
            pod.listeners.iter().any(|told| {
                told.port() == own.port()
                    && (told.ip().to_canonical() == own.ip().to_canonical()
                        || (told.ip().is_unspecified() && own.ip().is_unspecified()))
            })
        };
        if !evidence.listeners.iter().any(|listener| told(&listener.address)) {
            return Err(format!("the manifest of {} names no such address", pod.component));
        }
        let Observed::Present(file) = &pod.database else {
            return Err(format!("the data directory of {} is not known or not readable", pod.component));
        };
        match evidence.data_dir_lock.present() {
            Some(lock) if lock.held && lock.file == *file => Ok(pod.component),
            _ => Err(format!("it does not hold the lock on the data directory of {}", pod.component)),
        }
    }
}

/// Reports whether an ancestor is inside the holder's own container.
fn shares(ancestor: &Ancestor, pod: Option<&PodCgroup>) -> bool {
    let theirs = ancestor.cgroup.present().and_then(super::cgroup::CgroupPath::pod);
    match (pod, theirs) {
        (Some(own), Some(theirs)) => own.uid == theirs.uid && own.container == theirs.container,
        _ => false,
    }
}

/// Reports whether the runtime lists a sandbox or a container with this id.
fn knows(runtime: &RuntimeFacts, id: &str) -> bool {
    runtime.state.sandboxes.iter().any(|sandbox| sandbox.id.as_str() == id)
        || runtime.state.containers.iter().any(|container| container.id.as_str() == id)
}

/// Returns what tells two manifests apart: kubelet's hash, or the UID where a sandbox has none.
fn made_from(sandbox: &Sandbox) -> &str {
    sandbox.config_hash().unwrap_or_else(|| sandbox.uid.as_str())
}

fn unproven(missing: impl Into<String>) -> Class {
    Class::Unproven { missing: missing.into() }
}
