#![allow(clippy::indexing_slicing)]

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::sys::{CommandOutput, CommandSpec, SystemCommands};

/// Answers in turn and keeps what was asked.
struct Scripted {
    answers: RefCell<Vec<CommandOutput>>,
    asked: RefCell<Vec<String>>,
}

impl Scripted {
    fn new(answers: &[(i32, &str, &str)]) -> Self {
        let outputs = answers.iter().rev().map(|(code, out, err)| CommandOutput::exited(*code, *out, *err));
        Self { answers: RefCell::new(outputs.collect()), asked: RefCell::default() }
    }
}

impl Commands for Scripted {
    fn run(&self, spec: &CommandSpec, _: &Deadline) -> Result<CommandOutput> {
        let args: Vec<_> = spec.args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
        self.asked.borrow_mut().push(args.join(" "));
        self.answers
            .borrow_mut()
            .pop()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "the script has no further answer"))
    }
}

fn unit(script: &Scripted) -> SystemdUnit<'_> {
    SystemdUnit::new(PathBuf::from("/usr/bin/systemctl"), "kubelet.service", script).expect("a unit")
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

#[test]
fn states_of_systemd_are_told_apart() {
    for (text, state) in [
        ("LoadState=loaded\nActiveState=active\n", ServiceState::Active),
        ("LoadState=loaded\nActiveState=activating\n", ServiceState::Activating),
        ("LoadState=loaded\nActiveState=inactive\n", ServiceState::Inactive),
        ("LoadState=loaded\nActiveState=failed\n", ServiceState::Failed),
        ("LoadState=not-found\nActiveState=inactive\n", ServiceState::Missing),
    ] {
        let script = Scripted::new(&[(0, text, "")]);
        assert_eq!(unit(&script).state(&soon()).expect("a state"), state, "{text}");
        assert_eq!(
            script.asked.borrow()[0],
            "--no-ask-password --no-pager show --property=LoadState,ActiveState -- kubelet.service"
        );
    }
}

#[test]
fn an_unanswered_state_is_an_error_not_inactive() {
    let silent = Scripted::new(&[(1, "", "Failed to connect to bus: No such file or directory")]);
    let error = unit(&silent).state(&soon()).expect_err("no bus");
    assert_eq!(error.kind(), ErrorKind::Peer);
    assert!(error.to_string().contains("Failed to connect to bus"), "{error}");
    let odd = Scripted::new(&[(0, "ActiveState=thawing\n", "")]);
    assert_eq!(unit(&odd).state(&soon()).expect_err("unknown word").kind(), ErrorKind::Peer);
}

/// Notes each call and ends it as its deadline says.
struct ByDeadline(RefCell<Vec<String>>);

impl Commands for ByDeadline {
    fn run(&self, spec: &CommandSpec, deadline: &Deadline) -> Result<CommandOutput> {
        let verb = spec.args[0].to_string_lossy().into_owned();
        self.0.borrow_mut().push(verb.clone());
        deadline.check(&verb).map(|()| CommandOutput::exited(0, "", ""))
    }
}

#[test]
fn a_restart_that_is_cancelled_in_its_stop_starts_all_the_same() {
    let command = |verb: &str| vec!["/sbin/rc-service".to_owned(), verb.to_owned()];
    let commands = ByDeadline(RefCell::default());
    let service = CommandService::new(&command("start"), &command("stop"), &command("status"), &commands)
        .expect("a service");
    let cancel = crate::sys::CancelToken::default();
    cancel.cancel();
    let error = service.restart(&soon().with_cancel(cancel)).expect_err("the stop was cut short");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(!error.to_string().contains("may be stopped"), "{error}");
    assert_eq!(*commands.0.borrow(), ["stop", "start"]);
}

#[test]
fn a_start_limit_is_reset_once() {
    // What systemctl 252 prints.
    let limit = "Job for kubelet.service failed because start of the service was attempted too often.\n\
                 See \"systemctl status kubelet.service\" and \"journalctl -xeu kubelet.service\" for details.\n\
                 To force a start use \"systemctl reset-failed kubelet.service\"\n\
                 followed by \"systemctl start kubelet.service\" again.\n";
    let script = Scripted::new(&[(1, "", limit), (0, "", ""), (0, "", "")]);
    unit(&script).start(&soon()).expect("starts at the second attempt");
    let asked = script.asked.borrow();
    assert!(asked[1].contains("reset-failed"), "{asked:?}");
    assert_eq!(asked.len(), 3);
    let stubborn = Scripted::new(&[(1, "", limit), (0, "", ""), (1, "", limit)]);
    assert_eq!(unit(&stubborn).restart(&soon()).expect_err("gives up").kind(), ErrorKind::Peer);
}

#[test]
fn a_start_limit_that_systemctl_does_not_spell_out_is_told_by_the_result() {
    let failed = "Job for kubelet.service failed.\n";
    let script =
        Scripted::new(&[(1, "", failed), (0, "Result=start-limit-hit\n", ""), (0, "", ""), (0, "", "")]);
    unit(&script).start(&soon()).expect("starts at the second attempt");
    let asked = script.asked.borrow();
    assert!(asked[1].contains("show --property=Result --"), "{asked:?}");
    assert!(asked[2].contains("reset-failed"), "{asked:?}");
    let broken = Scripted::new(&[(1, "", failed), (0, "Result=exit-code\n", "")]);
    assert_eq!(unit(&broken).start(&soon()).expect_err("fails").kind(), ErrorKind::Peer);
    assert_eq!(broken.asked.borrow().len(), 2, "nothing is reset");
    let stopped = Scripted::new(&[(1, "", failed)]);
    assert_eq!(unit(&stopped).stop(&soon()).expect_err("fails").kind(), ErrorKind::Peer);
}

#[test]
fn unit_names_that_are_options_or_paths_are_refused() {
    for name in ["", "-H evil", "--root=/x", "a b.service", "../x.service"] {
        assert!(SystemdUnit::new("/bin/systemctl".into(), name, &SystemCommands).is_err(), "{name:?}");
    }
}

#[test]
fn a_node_mounted_elsewhere_never_reaches_this_machines_systemd() {
    let node = NodeOptions::at("/srv/node").expect("absolute");
    let error = service(&node, &node.kubelet, &SystemCommands).err().expect("refused");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn own_commands_start_stop_and_tell_the_state() {
    let dir = tempfile::tempdir().expect("temp dir");
    let flag = dir.path().join("up");
    let sh = |script: String| vec!["/bin/sh".to_owned(), "-c".to_owned(), script];
    let control = ServiceControl::Commands {
        start: sh(format!("/usr/bin/touch {0} || /bin/touch {0}", flag.display())),
        stop: sh(format!("/bin/rm -f {}", flag.display())),
        state: sh(format!("test -e {} || exit 3", flag.display())),
    };
    let node = NodeOptions::at(dir.path()).expect("absolute");
    let service = service(&node, &control, &SystemCommands).expect("a service");
    assert_eq!(service.state(&soon()).expect("a state"), ServiceState::Inactive);
    service.restart(&soon()).expect("restarts");
    assert_eq!(service.state(&soon()).expect("a state"), ServiceState::Active);
    service.stop(&soon()).expect("stops");
    assert_eq!(service.state(&soon()).expect("a state"), ServiceState::Inactive);
}

#[test]
fn a_start_command_that_leaves_the_service_running_is_done_when_it_ends() {
    let dir = tempfile::tempdir().expect("temp dir");
    let pid = dir.path().join("pid");
    let sh = |script: String| vec!["/bin/sh".to_owned(), "-c".to_owned(), script];
    let control = ServiceControl::Commands {
        start: sh(format!("sleep 60 & echo $! >{}", pid.display())),
        stop: sh(format!("kill $(cat {})", pid.display())),
        state: sh(format!("kill -0 $(cat {}) || exit 3", pid.display())),
    };
    let node = NodeOptions::at(dir.path()).expect("absolute");
    let service = service(&node, &control, &SystemCommands).expect("a service");
    let start = std::time::Instant::now();
    service.start(&Deadline::after(Duration::from_secs(10))).expect("has started");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(
        service.state(&soon()).expect("a state"),
        ServiceState::Active,
        "it was not ended with its script"
    );
    service.stop(&soon()).expect("stops");
}

#[test]
fn own_commands_that_fail_or_hang_say_so() {
    let sh = |script: &str| vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()];
    let control = ServiceControl::Commands {
        start: sh("echo no cgroup >&2; exit 9"),
        stop: sh("sleep 30"),
        state: sh("exit 4"),
    };
    let node = NodeOptions::at("/srv/node").expect("absolute");
    let broken = service(&node, &control, &SystemCommands).expect("a service");
    let error = broken.start(&soon()).expect_err("fails");
    assert!(error.to_string().contains("exit code 9: no cgroup"), "{error}");
    assert_eq!(broken.state(&soon()).expect_err("unknown").kind(), ErrorKind::Peer);
    let brief = Deadline::after(Duration::from_millis(200));
    assert_eq!(broken.stop(&brief).expect_err("hangs").kind(), ErrorKind::Timeout);
    let empty = ServiceControl::Commands { start: Vec::new(), stop: sh(""), state: sh("") };
    assert_eq!(service(&node, &empty, &SystemCommands).err().expect("empty").kind(), ErrorKind::Invalid);
}
