//! Whether what runs was started by the manifests in place: a kubelet that hangs leaves the earlier process
//! where it is, and that one goes on saying that it is healthy.

use super::observation::{ExpectedPod, JudgedHolder, Observation};
use crate::model::ContainerId;
use crate::parse::manifest::Container;
use crate::ports::Class;

/// Names the first component that does not run what its manifest says, with what is different; `None` as well
/// where it is not known what runs. `told` is what a container executes, as the runtime tells it.
pub(super) fn unlike(
    seen: &Observation,
    told: impl Fn(&ContainerId) -> Option<Vec<String>>,
) -> Option<String> {
    seen.pods.iter().find_map(|expected| {
        let main = expected.pod.as_ref()?.main()?;
        let by_runtime = running(seen, expected, main).and_then(&told);
        let different = match &by_runtime {
            Some(argv) => different(argv, &main.argv),
            None => different(of_holder(seen, expected, main)?, &main.argv),
        }?;
        let file = expected.component.manifest_file();
        Some(format!("{file}: the running container was not started by it: {different}"))
    })
}

/// The container that runs in the newest sandbox.
fn running<'a>(seen: &'a Observation, expected: &ExpectedPod, main: &Container) -> Option<&'a ContainerId> {
    let state = seen.facts.runtime.present()?;
    let newest = state.component_sandboxes(expected.component).into_iter().next()?;
    let mut all = state.containers_of(&newest.id).into_iter();
    all.find(|container| container.is_running() && container.name == main.name).map(|found| &found.id)
}

/// The arguments of the process on the component's port, where it is the program that the manifest names: one
/// that a shell of the container has started has others.
fn of_holder<'a>(seen: &'a Observation, expected: &ExpectedPod, main: &Container) -> Option<&'a [String]> {
    let is_its = |holder: &&JudgedHolder| {
        holder.wanted_by == expected.component && matches!(holder.verdict.class, Class::Live { .. })
    };
    let line = &seen.holders.iter().find(is_its)?.evidence.command_line.present()?.0;
    is_program(line.first()?, main.argv.first()?).then_some(line.as_slice())
}

/// Says what is different; what stands before the manifest's words is the image's entry point.
fn different(runs: &[String], wanted: &[String]) -> Option<String> {
    let own = runs.len().checked_sub(wanted.len()).and_then(|before| runs.get(before..)).unwrap_or(runs);
    let is_first = std::iter::once(true).chain(std::iter::repeat(false));
    let same = |((one, other), is_first): ((&String, &String), bool)| {
        one == other || is_replaced(other) || (is_first && is_program(one, other))
    };
    if own.len() == wanted.len() && own.iter().zip(wanted).zip(is_first).all(same) {
        return None;
    }
    // The value may be a secret.
    let name = |word: &String| word.split('=').next().unwrap_or_default().to_owned();
    let lacks = wanted.iter().skip(1).find(|word| !is_replaced(word) && !runs.contains(word));
    let extra = runs.iter().skip(1).find(|word| !wanted.contains(word));
    Some(match (lacks, extra) {
        (Some(word), _) => format!("it runs without {} as it stands there", name(word)),
        (None, Some(word)) => format!("it runs with {}", name(word)),
        (None, None) => "its command line is another".to_owned(),
    })
}

/// kubelet replaces `$(NAME)` and takes `$$` for `$` (kubernetes `third_party/forked/golang/expansion`).
fn is_replaced(word: &str) -> bool {
    word.contains('$')
}

/// The program may be named by its path.
fn is_program(one: &str, other: &str) -> bool {
    let name = |path: &str| path.rsplit('/').next().map(str::to_owned);
    name(one) == name(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::{ContainerState, RuntimeState, parse};
    use crate::model::{Component, Observed};
    use crate::parse::manifest::StaticPod;
    use crate::ports::CommandLine;

    const ETCD: &str = include_str!("../../testdata/kubeadm-1.36/manifests/etcd.yaml");

    fn pod(text: &str) -> StaticPod {
        StaticPod::parse(text.as_bytes()).expect("parses")
    }

    fn argv(pod: &StaticPod) -> Vec<String> {
        pod.main().expect("a container").argv.clone()
    }

    /// A node on which the process that `runs` holds etcd's port, and `text` is the manifest.
    fn seen(text: &str, runs: Vec<String>) -> Observation {
        let mut seen = Observation::blank();
        seen.pods = vec![ExpectedPod { component: Component::Etcd, source: None, pod: Some(pod(text)) }];
        let mut holder = JudgedHolder::live(Component::Etcd);
        holder.evidence.command_line = Observed::Present(CommandLine(runs));
        seen.holders = vec![holder];
        seen
    }

    fn by_process(text: &str, runs: Vec<String>) -> Option<String> {
        unlike(&seen(text, runs), |_| panic!("no container is known"))
    }

    #[test]
    fn a_manifest_that_nobody_ran_is_told_by_the_process() {
        let runs = argv(&pod(ETCD));
        assert_eq!(by_process(ETCD, runs.clone()), None);
        assert_eq!(by_process(&format!("{ETCD}# looked at\n"), runs.clone()), None, "a comment");
        let misspelt = ETCD.replace("--quota-backend-bytes=", "--quota-backend-byte=");
        let why = by_process(&misspelt, runs.clone()).expect("another");
        assert!(why.contains("etcd.yaml") && why.contains("without --quota-backend-byte as"), "{why}");
        assert!(!why.contains("4294967296"), "no value is told: {why}");
        let removed = ETCD.replace("    - --quota-backend-bytes=4294967296\n", "");
        assert_ne!(removed, ETCD);
        let why = by_process(&removed, runs.clone()).expect("another");
        assert!(why.contains("with --quota-backend-bytes"), "{why}");
        let replaced = ETCD.replace("4294967296", "$(QUOTA)");
        assert_eq!(by_process(&replaced, runs.clone()), None, "kubelet has replaced it");
        let mut by_path = runs;
        *by_path.first_mut().expect("a program") = "/usr/local/bin/etcd".into();
        assert_eq!(by_process(ETCD, by_path), None);
    }

    #[test]
    fn another_program_and_one_that_is_not_known_prove_nothing() {
        let shell = vec!["sh".to_owned(), "-c".into(), "etcd".into()];
        assert_eq!(by_process(ETCD, shell), None);
        let mut unread = seen(ETCD, Vec::new());
        for holder in &mut unread.holders {
            holder.evidence.command_line = Observed::Unknown("denied".into());
        }
        assert_eq!(unlike(&unread, |_| None), None);
    }

    #[test]
    fn what_the_runtime_tells_counts_before_the_process() {
        let state = RuntimeState {
            sandboxes: parse::pods(include_bytes!("../../testdata/health/crictl-pods.json")).expect("pods"),
            containers: parse::containers(include_bytes!("../../testdata/health/crictl-ps.json"))
                .expect("containers"),
            ..RuntimeState::default()
        };
        let running = state.component_containers(Component::Etcd);
        assert_eq!(running.first().expect("recorded").state, ContainerState::Running);
        let mut node = seen(ETCD, vec!["etcd".into(), "--other".into()]);
        node.facts.runtime = Observed::Present(state.clone());
        let runs = argv(&pod(ETCD));
        assert_eq!(unlike(&node, |_| Some(runs.clone())), None);
        let behind_an_entry_point = [vec!["/tini".to_owned(), "--".into()], runs.clone()].concat();
        assert_eq!(unlike(&node, |_| Some(behind_an_entry_point.clone())), None);
        // Nothing of a process named so runs, but the runtime knows what does.
        let misspelt = ETCD.replace("    - etcd\n", "    - etdc\n");
        assert_ne!(misspelt, ETCD);
        node.pods = seen(&misspelt, Vec::new()).pods;
        assert!(unlike(&node, |_| Some(runs.clone())).is_some());
    }
}
