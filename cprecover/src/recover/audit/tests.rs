//! What a crash leaves, and what is found of what someone changed.

use super::*;

fn log(dir: &Path) -> AuditLog {
    AuditLog::open(dir, 5).expect("opens")
}

fn begin() -> Event {
    Event::Begin {
        action: Action::RestartKubelet,
        rule: "r".into(),
        reason: "because".into(),
        policy: "default 1.0.0".into(),
        undo: None,
    }
}

#[test]
fn an_interrupted_effect_is_remembered_as_running() {
    let dir = tempfile::tempdir().expect("temp dir");
    let begun = log(dir.path()).append(1, begin()).expect("append");
    let history = log(dir.path()).history(9);
    assert_eq!(history.first().map(|past| past.outcome), Some(contract::Outcome::Running));
    let end = Event::End { begun, outcome: contract::Outcome::Done, detail: String::new() };
    log(dir.path()).append(9, end).expect("append");
    let history = log(dir.path()).history(9);
    assert_eq!(
        history.first().map(|past| (past.outcome, past.ended_ms)),
        Some((contract::Outcome::Done, Some(9)))
    );
}

#[test]
fn a_long_history_is_read_from_its_end() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut log = log(dir.path());
    let entries = 4000_u64;
    for at in 0..entries {
        // Without the file: only the reading is looked at here.
        let event = if at % 2 == 0 {
            begin()
        } else {
            Event::End { begun: at, outcome: contract::Outcome::Done, detail: String::new() }
        };
        log.entries.push(Entry { sequence: at + 1, at_unix_ms: at, previous: None, event });
    }
    assert_eq!(log.history(usize::MAX).len(), 2000);
    let last = log.history(3);
    assert_eq!(last.iter().map(|past| past.started_ms).collect::<Vec<_>>(), [3994, 3996, 3998]);
    assert!(last.iter().all(|past| past.outcome == contract::Outcome::Done));
    assert_eq!(log.history(0), []);
}

#[test]
fn a_torn_line_is_cut_off_and_said_so() {
    let dir = tempfile::tempdir().expect("temp dir");
    log(dir.path()).append(1, begin()).expect("append");
    let path = dir.path().join(AUDIT_FILE);
    let end = dir.path().join(AUDIT_END_FILE);
    let (whole, noted) = (std::fs::read(&path).expect("read"), std::fs::read(&end).expect("read"));
    for cut in 1..whole.len() - 1 {
        let mut torn = whole.clone();
        torn.extend(whole.iter().take(cut));
        std::fs::write(&path, torn).expect("write");
        std::fs::write(&end, &noted).expect("write");
        let log = log(dir.path());
        assert_eq!(log.entries().len(), 2);
        assert!(matches!(log.entries().last().map(|e| &e.event), Some(Event::TornTail { .. })));
    }
}

#[test]
fn a_changed_or_removed_line_is_found() {
    let dir = tempfile::tempdir().expect("temp dir");
    for _ in 0..3 {
        log(dir.path()).append(1, begin()).expect("append");
    }
    assert_eq!(AuditLog::read(dir.path()).expect("intact").len(), 3);
    let path = dir.path().join(AUDIT_FILE);
    let text = std::fs::read_to_string(&path).expect("read");
    std::fs::write(&path, text.replacen("because", "becausE", 1)).expect("write");
    let error = AuditLog::read(dir.path()).expect_err("changed");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("line 2"), "{error}");
    let without_second: Vec<&str> =
        text.lines().enumerate().filter(|(i, _)| *i != 1).map(|(_, l)| l).collect();
    std::fs::write(&path, without_second.join("\n") + "\n").expect("write");
    assert!(AuditLog::open(dir.path(), 1).is_err());
}

fn three(dir: &Path) -> (PathBuf, String) {
    let mut log = log(dir);
    for at in 1..=3 {
        log.append(at, begin()).expect("append");
    }
    let path = dir.join(AUDIT_FILE);
    let text = std::fs::read_to_string(&path).expect("read");
    (path, text)
}

#[test]
fn an_end_that_was_cut_off_or_changed_is_found() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (path, text) = three(dir.path());
    assert_eq!(AuditLog::check(dir.path()).expect("intact").end, LogEnd::Matches);
    let lines: Vec<&str> = text.lines().collect();
    let upto = |count: usize| text.split_inclusive('\n').take(count).collect::<String>();
    let torn = upto(2) + lines.last().and_then(|line| line.get(..9)).expect("long");
    let cut = (0..3).map(upto).chain([torn]);
    let changed = upto(2) + &lines.last().expect("three").replace("because", "becausE") + "\n";
    for spoilt in cut.chain([changed]) {
        std::fs::write(&path, &spoilt).expect("write");
        for error in [
            AuditLog::check(dir.path()).expect_err("does not end there"),
            AuditLog::open(dir.path(), 9).expect_err("does not end there"),
        ] {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(error.to_string().contains("does not end where it did"), "{error}");
        }
        assert_eq!(std::fs::read_to_string(&path).expect("read"), spoilt, "nothing is written");
    }
    std::fs::remove_file(&path).expect("rm");
    assert_eq!(AuditLog::check(dir.path()).expect_err("is gone").kind(), ErrorKind::Corrupt);
    std::fs::write(&path, &text).expect("write");
    assert_eq!(AuditLog::check(dir.path()).expect("as it was").end, LogEnd::Matches);
}

#[test]
fn a_log_that_was_moved_away_is_begun_anew() {
    let dir = tempfile::tempdir().expect("temp dir");
    log(dir.path()).append(1, begin()).expect("append");
    std::fs::remove_file(dir.path().join(AUDIT_FILE)).expect("rm");
    assert_eq!(AuditLog::read_if_any(dir.path()).expect("none"), []);
    log(dir.path()).append(2, begin()).expect("no recovery waits for it");
    let checked = AuditLog::check(dir.path()).expect("a new one");
    assert_eq!((checked.entries.len(), checked.end), (1, LogEnd::Matches));
}

#[test]
fn a_log_that_was_moved_away_is_forgotten_also_when_the_next_run_writes_nothing() {
    let dir = tempfile::tempdir().expect("temp dir");
    log(dir.path()).append(1, begin()).expect("append");
    std::fs::remove_file(dir.path().join(AUDIT_FILE)).expect("rm");
    drop(log(dir.path()));
    assert_eq!(log(dir.path()).entries(), []);
    assert_eq!(AuditLog::check(dir.path()).expect("an empty one").end, LogEnd::Matches);
    // One that is there and empty was emptied.
    log(dir.path()).append(2, begin()).expect("append");
    std::fs::write(dir.path().join(AUDIT_FILE), b"").expect("write");
    assert_eq!(AuditLog::open(dir.path(), 9).expect_err("emptied").kind(), ErrorKind::Corrupt);
}

#[test]
fn a_crash_before_the_end_was_noted_is_passed_over_once() {
    let dir = tempfile::tempdir().expect("temp dir");
    let end = dir.path().join(AUDIT_END_FILE);
    let mut log = log(dir.path());
    log.append(1, begin()).expect("append");
    let first = std::fs::read(&end).expect("noted");
    log.append(2, begin()).expect("append");
    let second = std::fs::read(&end).expect("noted");
    std::fs::write(&end, &first).expect("write");
    assert_eq!(AuditLog::check(dir.path()).expect("a crash").end, LogEnd::OneMore);
    drop(self::log(dir.path()));
    assert_eq!(std::fs::read(&end).expect("noted"), second, "is noted now");
    log.append(3, begin()).expect("append");
    std::fs::write(&end, &first).expect("write");
    assert_eq!(AuditLog::check(dir.path()).expect_err("two lines more").kind(), ErrorKind::Corrupt);
    std::fs::write(&end, b"{").expect("write");
    assert_eq!(AuditLog::open(dir.path(), 9).expect_err("no end").kind(), ErrorKind::Corrupt);
}

#[test]
fn a_line_whose_end_cannot_be_noted_is_the_last_one() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut log = log(dir.path());
    log.append(1, begin()).expect("append");
    // No file can be renamed over a folder that is not empty.
    let end = dir.path().join(AUDIT_END_FILE);
    std::fs::remove_file(&end).expect("rm");
    std::fs::create_dir_all(end.join("in-the-way")).expect("mkdir");
    log.append(2, begin()).expect_err("not noted");
    log.append(3, begin()).expect_err("not noted");
    let text = std::fs::read_to_string(dir.path().join(AUDIT_FILE)).expect("read");
    assert_eq!(text.lines().count(), 2);
    std::fs::remove_dir_all(&end).expect("rm");
    log.append(4, begin()).expect("append");
    assert_eq!(AuditLog::check(dir.path()).expect("intact").end, LogEnd::Matches);
}

#[test]
fn the_log_of_an_older_version_is_taken_on_and_said_so() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (path, text) = three(dir.path());
    std::fs::remove_file(dir.path().join(AUDIT_END_FILE)).expect("rm");
    std::fs::write(&path, text + "torn").expect("write");
    let checked = AuditLog::check(dir.path()).expect("older");
    assert_eq!((checked.entries.len(), checked.torn_bytes, checked.end), (3, 4, LogEnd::NotKept));
    assert_eq!(log(dir.path()).entries().len(), 4);
    let checked = AuditLog::check(dir.path()).expect("newer");
    assert_eq!((checked.entries.len(), checked.torn_bytes, checked.end), (4, 0, LogEnd::Matches));
}
