//! Real files and a node of values.

use std::path::Path;

use super::*;
use crate::error::Error;
use crate::sys::{CancelToken, SystemClock};

/// Healthy as long as `etcd.yaml` says so, and no file `manifests.sick` lies beside the folder; a backup holds
/// that file and `manifests.pki`, which is not watched.
struct Fake<'a> {
    folder: &'a Path,
    backups: Vec<String>,
    looks: u32,
    fail_backup: bool,
    /// Something is written during each look.
    meddled: bool,
    /// What is written at the end of the second look at these.
    meddled_later: Option<(&'static str, &'static str)>,
    /// How a recovery ends that runs; it cannot run when there is none.
    ending: Option<Ending>,
}

impl<'a> Fake<'a> {
    fn new(folder: &'a Path) -> Self {
        Self {
            folder,
            backups: Vec::new(),
            looks: 0,
            fail_backup: false,
            meddled: false,
            meddled_later: None,
            ending: None,
        }
    }
}

impl WatchedNode for Fake<'_> {
    fn look(&mut self, _: &Deadline) -> Look {
        self.looks += 1;
        if self.meddled {
            std::fs::write(self.folder.join("other.yaml"), self.looks.to_string()).expect("write");
        }
        let text = std::fs::read_to_string(self.folder.join("etcd.yaml")).unwrap_or_default();
        let healthy = text.starts_with("good") && !self.folder.with_extension("sick").exists();
        if let Some((_, unseen)) = self.meddled_later.filter(|(seen, _)| *seen == text) {
            let again = self.folder.with_extension("again");
            if again.exists() {
                std::fs::write(self.folder.join("etcd.yaml"), unseen).expect("write");
            }
            std::fs::write(again, "").expect("write");
        }
        Look { healthy, not_proven: Vec::new(), root_causes: Vec::new() }
    }

    fn back_up(&mut self, _: &Deadline) -> Result<SnapshotId> {
        if std::mem::take(&mut self.fail_backup) {
            return Err(Error::new(ErrorKind::Busy, "in use"));
        }
        let mut text = std::fs::read_to_string(self.folder.join("etcd.yaml")).expect("read");
        text += &std::fs::read_to_string(self.folder.with_extension("pki")).unwrap_or_default();
        if self.backups.last() != Some(&text) {
            self.backups.push(text);
        }
        format!("{:06}-20260101T000000Z", self.backups.len()).parse()
    }

    fn recover(&mut self, _: &Deadline, _: &mut dyn FnMut(Progress<'_>)) -> Result<Report> {
        std::fs::write(self.folder.join("etcd.yaml"), "good again").expect("write");
        if let Some(ending) = self.ending.take() {
            let _ = std::fs::remove_file(self.folder.with_extension("sick"));
            return Ok(report(ending));
        }
        Err(Error::new(ErrorKind::Busy, "worked on by pid 7 since today"))
    }
}

fn report(ending: Ending) -> Report {
    let seen = crate::recover::observation::Observation::blank();
    Report {
        node: seen.node.clone(),
        ending,
        diagnosis: crate::diagnose::diagnose(&seen.facts),
        plan: None,
        resumed: Vec::new(),
        steps: Vec::new(),
        undone: Vec::new(),
        escalations: Vec::new(),
        verification: crate::recover::verification::Verification::of(&seen),
        rounds: Vec::new(),
        total_ms: 0,
    }
}

fn options() -> WatchOptions {
    WatchOptions {
        probe_every: Duration::from_millis(40),
        recheck_every: Duration::from_millis(10),
        settle: Duration::from_millis(20),
        ..WatchOptions::default()
    }
}

struct Site {
    _dir: tempfile::TempDir,
    node: NodeOptions,
    folder: std::path::PathBuf,
}

fn site(text: &str) -> Site {
    let dir = tempfile::tempdir().expect("temp dir");
    let node = NodeOptions::at(dir.path()).expect("absolute");
    let folder = node.manifests();
    std::fs::create_dir_all(&folder).expect("mkdir");
    std::fs::write(folder.join("etcd.yaml"), text).expect("write");
    Site { _dir: dir, node, folder }
}

fn next(watcher: &mut Watcher<'_>) -> WatchEvent {
    let deadline = Deadline::after(Duration::from_secs(20));
    watcher.next(&deadline, &mut |_| {}).expect("watches").expect("an event in time")
}

fn is_backup(event: &WatchEvent) -> bool {
    matches!(event, WatchEvent::BackedUp { .. })
}

#[test]
fn each_change_that_health_followed_is_backed_up_and_no_other() {
    let site = site("good 1");
    let mut node = Fake { fail_backup: true, ..Fake::new(&site.folder) };
    let mut watcher = Watcher::new(&site.node, &mut node, &SystemClock, options());
    assert_eq!(next(&mut watcher), WatchEvent::Healthy);
    assert_eq!(next(&mut watcher), WatchEvent::BackupFailed { reason: "in use".into() });
    assert!(is_backup(&next(&mut watcher)), "tried again");

    std::fs::write(site.folder.join(".etcd.yaml.swp"), "editor").expect("write");
    std::fs::write(site.folder.join("etcd.yaml"), "bad").expect("write");
    assert_eq!(next(&mut watcher), WatchEvent::Changed { files: vec!["etcd.yaml".into()] });
    assert!(matches!(next(&mut watcher), WatchEvent::Unhealthy { .. }));
    std::fs::write(site.folder.join(".new"), "good 2").expect("write");
    std::fs::rename(site.folder.join(".new"), site.folder.join("etcd.yaml")).expect("rename");
    assert_eq!(next(&mut watcher), WatchEvent::Changed { files: vec!["etcd.yaml".into()] });
    assert_eq!(next(&mut watcher), WatchEvent::Healthy);
    assert!(is_backup(&next(&mut watcher)));
    drop(watcher);
    assert_eq!(node.backups, ["good 1", "good 2"]);
}

#[test]
fn what_is_not_watched_is_backed_up_from_time_to_time_without_a_word_when_nothing_changed() {
    let site = site("good");
    let mut node = Fake::new(&site.folder);
    let clock = crate::sys::ManualClock::new(Duration::ZERO);
    let mut watcher = Watcher::new(&site.node, &mut node, &clock, options());
    let mut pass = |minutes: u32| {
        let mut events = Vec::new();
        for _ in 0..minutes {
            clock.advance(Duration::from_mins(1));
            let deadline = Deadline::after(Duration::from_millis(5));
            while let Some(event) = watcher.next(&deadline, &mut |_| {}).expect("watches") {
                events.push(event);
            }
        }
        events
    };
    let events = pass(3);
    assert!(matches!(events.as_slice(), [WatchEvent::Healthy, WatchEvent::BackedUp { .. }]), "{events:?}");
    assert_eq!(pass(30), [], "nothing changed");
    std::fs::write(site.folder.with_extension("pki"), ", renewed").expect("write");
    let events = pass(11);
    assert!(matches!(events.as_slice(), [WatchEvent::BackedUp { .. }]), "{events:?}");
    assert_eq!(pass(11), []);
    drop(watcher);
    assert_eq!(node.backups, ["good", "good, renewed"]);
}

#[test]
fn a_folder_that_was_replaced_is_still_watched() {
    let site = site("good 1");
    let mut node = Fake::new(&site.folder);
    let mut watcher = Watcher::new(&site.node, &mut node, &SystemClock, options());
    assert_eq!(next(&mut watcher), WatchEvent::Healthy);
    assert!(is_backup(&next(&mut watcher)));
    let aside = site.folder.with_extension("aside");
    std::fs::rename(&site.folder, &aside).expect("rename");
    std::fs::create_dir(&site.folder).expect("mkdir");
    std::fs::write(site.folder.join("etcd.yaml"), "good 2, elsewhere").expect("write");
    let mut events = Vec::new();
    while !events.iter().any(is_backup) {
        events.push(next(&mut watcher));
    }
    assert!(events.iter().any(|event| matches!(event, WatchEvent::Changed { .. })), "{events:?}");
    std::fs::write(site.folder.join("etcd.yaml"), "good 3").expect("write");
    let mut events = Vec::new();
    while !events.iter().any(is_backup) {
        events.push(next(&mut watcher));
    }
    drop(watcher);
    assert_eq!(node.backups.last().map(String::as_str), Some("good 3"));
}

#[test]
fn what_no_look_was_at_is_not_backed_up_in_a_folder_that_the_kernel_does_not_watch() {
    let site = site("good 1");
    let mut node = Fake { meddled_later: Some(("good 2", "unseen")), ..Fake::new(&site.folder) };
    let mut watcher = Watcher::new(&site.node, &mut node, &SystemClock, options());
    assert_eq!(next(&mut watcher), WatchEvent::Healthy);
    assert!(is_backup(&next(&mut watcher)));
    // The folder itself is not renamed, so that its watch goes on, and tells of nothing.
    let above = site.folder.parent().expect("a folder");
    std::fs::rename(above, above.with_extension("aside")).expect("rename");
    std::fs::create_dir_all(&site.folder).expect("mkdir");
    std::fs::write(site.folder.join("etcd.yaml"), "good 2").expect("write");
    while !matches!(next(&mut watcher), WatchEvent::Unhealthy { .. }) {}
    drop(watcher);
    assert_eq!(node.backups, ["good 1"]);
}

#[test]
fn a_folder_above_that_was_replaced_is_watched_again() {
    let site = site("1");
    let mut folder = Folder::new(site.folder.clone());
    let above = site.folder.parent().expect("a folder");
    let aside = above.with_extension("aside");
    std::fs::rename(above, &aside).expect("rename");
    std::fs::create_dir_all(&site.folder).expect("mkdir");
    std::fs::write(site.folder.join("etcd.yaml"), "number 2").expect("write");
    assert_eq!(folder.told(), Vec::<String>::new());
    assert_eq!(folder.compared().expect("lists"), ["etcd.yaml"]);
    let old = aside.join(site.folder.file_name().expect("named"));
    std::fs::write(old.join("etcd.yaml"), "of no account").expect("write");
    assert_eq!(folder.told(), Vec::<String>::new(), "the old folder is nobody's");
    std::fs::write(site.folder.join("etcd.yaml"), "number 3").expect("write");
    assert_eq!(folder.told(), ["etcd.yaml"]);
}

#[test]
fn a_recovery_that_cannot_run_is_said_and_held() {
    let site = site("bad");
    let mut node = Fake::new(&site.folder);
    let options = WatchOptions { recover: true, ..options() };
    let mut watcher = Watcher::new(&site.node, &mut node, &SystemClock, options);
    assert!(matches!(next(&mut watcher), WatchEvent::Unhealthy { .. }));
    let WatchEvent::RecoveryFailed { reason } = next(&mut watcher) else { panic!("it could not run") };
    assert!(reason.contains("pid 7 since"), "{reason}");
}

#[test]
fn an_outage_is_told_before_the_recovery_that_follows_it() {
    let site = site("bad");
    let mut node = Fake::new(&site.folder);
    let options = WatchOptions { recover: true, ..options() };
    let mut watcher = Watcher::new(&site.node, &mut node, &SystemClock, options);
    assert!(matches!(next(&mut watcher), WatchEvent::Unhealthy { .. }));
    let manifest = || std::fs::read_to_string(site.folder.join("etcd.yaml")).expect("read");
    assert_eq!(manifest(), "bad", "no recovery has run yet");
    assert!(matches!(next(&mut watcher), WatchEvent::RecoveryFailed { .. }));
    assert_eq!(manifest(), "good again");
}

#[test]
fn what_a_recovery_wrote_that_timed_out_is_backed_up_once_it_works() {
    let site = site("good 1");
    let mut node = Fake { ending: Some(Ending::TimedOut), ..Fake::new(&site.folder) };
    let options = WatchOptions { recover: true, ..options() };
    let mut watcher = Watcher::new(&site.node, &mut node, &SystemClock, options);
    assert_eq!(next(&mut watcher), WatchEvent::Healthy);
    assert!(is_backup(&next(&mut watcher)));
    // Not by a change of the manifests, which would be backed up anyway.
    std::fs::write(site.folder.with_extension("sick"), "").expect("write");
    let mut events = Vec::new();
    while !events.iter().any(is_backup) {
        events.push(next(&mut watcher));
    }
    let recovered = |event: &WatchEvent| matches!(event, WatchEvent::Recovered { .. });
    assert!(events.iter().any(recovered), "{events:?}");
    drop(watcher);
    assert_eq!(node.backups, ["good 1", "good again"]);
}

#[test]
fn changes_without_end_hide_no_outage() {
    let site = site("bad");
    let mut node = Fake { meddled: true, ..Fake::new(&site.folder) };
    let end = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !end.load(std::sync::atomic::Ordering::Relaxed) {
                std::fs::write(site.folder.join("looping.yaml"), "again").expect("write");
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let started = std::time::Instant::now();
        let mut watcher = Watcher::new(&site.node, &mut node, &SystemClock, options());
        let announced = loop {
            let event = next(&mut watcher);
            if !matches!(event, WatchEvent::Changed { .. }) || started.elapsed() > Duration::from_secs(10) {
                break event;
            }
        };
        end.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(matches!(announced, WatchEvent::Unhealthy { .. }), "{announced:?}");
    });
    assert!(node.backups.is_empty());
}

#[test]
fn a_watch_ends_in_time_and_by_a_cancel() {
    let site = site("good");
    let mut node = Fake::new(&site.folder);
    let mut watcher = Watcher::new(&site.node, &mut node, &SystemClock, WatchOptions::default());
    assert_eq!(next(&mut watcher), WatchEvent::Healthy);
    let short = Deadline::after(Duration::from_millis(50));
    assert_eq!(watcher.next(&short, &mut |_| {}).expect("ends"), None);
    let cancel = CancelToken::default();
    cancel.cancel();
    let cancelled = Deadline::after(Duration::from_mins(1)).with_cancel(cancel);
    let started = std::time::Instant::now();
    assert_eq!(watcher.next(&cancelled, &mut |_| {}).expect("ends"), None);
    assert!(started.elapsed() < Duration::from_secs(30));
}
