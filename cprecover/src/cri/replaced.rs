//! Whether a newer sandbox of a pod is what its manifest in place asks for, so that the older one is left over.
//!
//! The newest sandbox need not be it: a kubelet that starts while its manifest is back to an earlier state takes
//! up the sandbox of that state again (kubernetes `pkg/kubelet/kuberuntime`, `getSandboxIDByPodUID`), and what is
//! left over is the newer one. A wall clock that was set back turns the order around as well.

use super::model::{Container, RuntimeState, Sandbox, SandboxState};
use super::query::made_from;
#[cfg(feature = "probe")]
use super::runtime::RuntimeView;
#[cfg(feature = "probe")]
use crate::model::Component;
use crate::model::SandboxId;
use crate::parse::manifest::StaticPod;
#[cfg(feature = "probe")]
use crate::sys::Deadline;

/// How many containers are asked for their arguments; a component has two sandboxes in the outage.
#[cfg(feature = "probe")]
const MAX_ASKED: usize = 16;

/// What the manifest in place says of a pod's first container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InPlace<'a> {
    /// The container's name.
    pub(crate) name: &'a str,
    /// What it executes; empty where the image says that.
    pub(crate) argv: &'a [String],
    /// Its image.
    pub(crate) image: &'a str,
}

impl<'a> InPlace<'a> {
    /// Takes what a manifest says.
    pub(crate) fn of(pod: &'a StaticPod) -> Option<Self> {
        let main = pod.main()?;
        Some(Self { name: &main.name, argv: &main.argv, image: &main.image })
    }
}

impl RuntimeState {
    /// Returns why `old` is not proven to be left over now that there is `newest`; `None` when it is.
    ///
    /// `argv` are the arguments of the old sandbox's container where the runtime did not tell them.
    pub(crate) fn not_replaced(
        &self,
        old: &Sandbox,
        newest: &Sandbox,
        argv: Option<&[String]>,
        in_place: Option<InPlace<'_>>,
    ) -> Option<String> {
        // A sandbox that is not ready is never taken up again: whatever it is, nothing runs in it.
        if old.state == SandboxState::NotReady {
            return None;
        }
        if newest.state != SandboxState::Ready {
            return Some(format!("the newer sandbox {} is not ready, so it replaced nothing", newest.id));
        }
        let wanted = in_place.filter(|_| made_from(old) != made_from(newest))?;
        let own = self.main(&old.id, wanted.name);
        if own.is_some_and(|own| self.is_in_place(own, argv, wanted) == Some(false)) {
            return None;
        }
        let next = self.main(&newest.id, wanted.name);
        let is_next = next.and_then(|next| {
            let argv = self.is_argv(next, None, wanted);
            let image = match own {
                // Where the runtime tells ids only.
                Some(own) if own.image == next.image => Some(true),
                _ => is_image(&next.image, wanted.image),
            };
            both(argv, image)
        });
        let why = match (next, is_next) {
            (_, Some(true)) => return None,
            (_, Some(false)) => "those of the newer sandbox's container are not",
            (Some(_), None) => "whether those of the newer sandbox's container are is not known",
            (None, None) => "the newer sandbox has no container yet",
        };
        Some(format!(
            "arguments and image may be those of the manifest in place, and {why}: sandbox {} may be left over \
             instead of {} (was the manifest changed and changed back, or the clock set?)",
            newest.id, old.id
        ))
    }

    /// Returns the sandboxes of a pod that are proven to be left over now that there is `newest`.
    #[cfg(feature = "probe")]
    pub(crate) fn left_over(&self, newest: &Sandbox, in_place: Option<InPlace<'_>>) -> Vec<&Sandbox> {
        let mut found = self.stale_sandboxes(&newest.namespace, &newest.pod_name);
        found.retain(|old| self.not_replaced(old, newest, None, in_place).is_none());
        found
    }

    /// Reports whether `old` is proven to be what the manifest in place asks for, and `newest` not to be.
    pub(crate) fn is_taken_up_again(&self, old: &Sandbox, newest: &Sandbox, in_place: InPlace<'_>) -> bool {
        let is = |sandbox: &Sandbox| self.is_in_place(self.main(&sandbox.id, in_place.name)?, None, in_place);
        is(old) == Some(true) && is(newest) == Some(false)
    }

    /// Asks for the arguments of the control plane's containers where a component has several sandboxes; what the
    /// runtime does not tell stays unknown.
    #[cfg(feature = "probe")]
    pub(crate) fn learn_arguments(&mut self, view: &dyn RuntimeView, deadline: &Deadline) {
        let mut ids = Vec::new();
        for component in Component::ALL {
            let sandboxes = self.component_sandboxes(component);
            if sandboxes.len() > 1 {
                let main = sandboxes.iter().filter_map(|sandbox| self.main(&sandbox.id, component.as_str()));
                ids.extend(main.map(|container| container.id.clone()));
            }
        }
        for id in ids.into_iter().take(MAX_ASKED) {
            if let Some(argv) = view.container_detail(&id, deadline).ok().and_then(|detail| detail.argv) {
                self.arguments.insert(id, argv);
            }
        }
    }

    /// The running container of a name in a sandbox, else the newest.
    fn main(&self, sandbox: &SandboxId, name: &str) -> Option<&Container> {
        let mut all = self.containers_of(sandbox);
        all.retain(|container| container.name == name);
        all.iter().find(|container| container.is_running()).or(all.first()).copied()
    }

    fn is_in_place(
        &self,
        container: &Container,
        argv: Option<&[String]>,
        wanted: InPlace<'_>,
    ) -> Option<bool> {
        both(self.is_argv(container, argv, wanted), is_image(&container.image, wanted.image))
    }

    fn is_argv(&self, container: &Container, argv: Option<&[String]>, wanted: InPlace<'_>) -> Option<bool> {
        let argv = self.arguments.get(&container.id).map(Vec::as_slice).or(argv)?;
        // kubelet replaces `$(NAME)` (kubernetes `third_party/forked/golang/expansion`).
        if wanted.argv.is_empty() || wanted.argv.iter().any(|word| word.contains("$(")) {
            return None;
        }
        // The program may be named by its path.
        Some(argv.get(1..) == wanted.argv.get(1..))
    }
}

/// Whether two parts are known to fit; one that does not is enough to know.
fn both(one: Option<bool>, other: Option<bool>) -> Option<bool> {
    match (one, other) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

/// Compares an image as the runtime names it with a manifest's; by an id nothing is told.
fn is_image(told: &str, wanted: &str) -> Option<bool> {
    if told.is_empty() || told.starts_with("sha256:") || told.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let within = |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.ends_with('/'));
    // A runtime may write the registry out.
    Some(told == wanted || within(told, wanted))
}
