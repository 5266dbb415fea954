//! What containers ran of components that no manifest tells of any more.

use std::time::Duration;

use super::host::Host;
use crate::cri::{self, Container, RuntimeState, RuntimeView};
use crate::error::{Error, ErrorKind, Result};
use crate::kubeadm::RuntimeContainer;
use crate::model::Component;
use crate::sys::Deadline;

/// How long the runtime may take to tell; the rest of a regeneration needs the time.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Asks the node's runtime; one that does not answer tells nothing.
///
/// kubelet removes the containers of a pod whose manifest went away, so that they are there only where it does
/// not run or has not come to it yet, as in the outage.
pub(crate) fn ask(host: &Host<'_>, components: &[Component], deadline: &Deadline) -> Vec<RuntimeContainer> {
    if components.is_empty() {
        return Vec::new();
    }
    let deadline = deadline.at_most(TIMEOUT);
    let told = cri::connect(host.node, host.commands, &deadline).and_then(|runtime| {
        let state = runtime.list(&deadline)?;
        Ok(of(runtime.as_ref(), &state, components, &deadline))
    });
    told.unwrap_or_else(|error| {
        tracing::warn!(%error, "the container runtime does not tell what ran");
        Vec::new()
    })
}

/// Asks for the running container of each component, else for the newest.
pub(crate) fn of(
    view: &dyn RuntimeView,
    state: &RuntimeState,
    components: &[Component],
    deadline: &Deadline,
) -> Vec<RuntimeContainer> {
    let told = components.iter().filter_map(|component| {
        let containers = state.component_containers(*component);
        let container =
            containers.iter().find(|container| container.is_running()).or_else(|| containers.first())?;
        let told = one(view, state, *component, container, deadline);
        told.inspect_err(|error| tracing::warn!(%error, "what {component} ran is not known")).ok()
    });
    told.collect()
}

fn one(
    view: &dyn RuntimeView,
    state: &RuntimeState,
    component: Component,
    container: &Container,
    deadline: &Deadline,
) -> Result<RuntimeContainer> {
    let detail = view.container_detail(&container.id, deadline)?;
    let silent =
        || Error::new(ErrorKind::Peer, format!("container {}: the runtime tells no more", container.id));
    let verbose = detail.verbose.ok_or_else(silent)?;
    let mut ran = RuntimeContainer::from_verbose_info(component, &container.image, verbose.as_bytes())?;
    if !detail.mounts.is_empty() {
        // What CRI itself tells; CRI-O has them nowhere else.
        ran.mounts = detail.mounts;
    }
    if let Some(sandbox) = state.sandbox_of(container) {
        ran.sandbox_annotations.clone_from(&sandbox.annotations);
    }
    Ok(ran)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::{ContainerDetail, ContainerState, RuntimeInfo, UnixNanos, parse};
    use crate::model::ContainerId;

    /// Tells of each container what its id says, and nothing of one.
    struct Talkative {
        mute: ContainerId,
    }

    impl RuntimeView for Talkative {
        fn name(&self) -> &'static str {
            "talkative"
        }
        fn info(&self, _: &Deadline) -> Result<RuntimeInfo> {
            panic!("asked")
        }
        fn list(&self, _: &Deadline) -> Result<RuntimeState> {
            panic!("asked")
        }
        fn container_detail(&self, id: &ContainerId, _: &Deadline) -> Result<ContainerDetail> {
            if *id == self.mute {
                return Err(Error::new(ErrorKind::NotFound, "gone"));
            }
            let inspected = format!(
                r#"{{"status":{{"id":"{id}"}},"info":{{"config":{{"command":["x","--id={id}"],
                    "envs":[{{"key":"A","value":"b"}}]}}}}}}"#
            );
            parse::container_detail(inspected.as_bytes())
        }
    }

    #[test]
    fn the_running_container_tells_before_a_newer_one_and_one_that_is_mute_hides_no_other() {
        let mut state = RuntimeState {
            sandboxes: parse::pods(include_bytes!("../../testdata/health/crictl-pods.json")).expect("pods"),
            containers: parse::containers(include_bytes!("../../testdata/health/crictl-ps.json"))
                .expect("containers"),
            ..RuntimeState::default()
        };
        let first = |state: &RuntimeState, component| {
            (*state.component_containers(component).first().expect("recorded")).clone()
        };
        let running = first(&state, Component::Etcd);
        let newer = Container {
            id: ContainerId::new("newer"),
            state: ContainerState::Exited,
            created_at: UnixNanos(running.created_at.0 + 1),
            ..running.clone()
        };
        state.containers.push(newer);
        let mute = first(&state, Component::KubeScheduler).id;
        let deadline = Deadline::after(Duration::from_secs(5));
        let wanted = [Component::KubeScheduler, Component::Etcd];
        let told = of(&Talkative { mute }, &state, &wanted, &deadline);
        let [etcd] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((etcd.component, &etcd.image), (Component::Etcd, &running.image));
        assert_eq!(etcd.argv, ["x".to_owned(), format!("--id={}", running.id)]);
        assert_eq!(etcd.envs.get("A").map(String::as_str), Some("b"));
        let urls = "kubeadm.kubernetes.io/etcd.advertise-client-urls";
        assert!(etcd.sandbox_annotations.contains_key(urls), "{:?}", etcd.sandbox_annotations);
    }
}
