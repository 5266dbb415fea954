//! The conventions that every subcommand of the program keeps.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::path::Path;
use std::process::{Command, Output};

use cprecover::recover::{AUDIT_FILE, AuditLog, Event};

fn cprecover(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cprecover")).args(args).output().expect("the program runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// The visible subcommands, as `--help` lists them.
fn subcommands() -> Vec<String> {
    let help = stdout(&cprecover(&["-h"]));
    let names =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A description that is wrapped goes on further to the right.
    let names = names
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help");
    let names: Vec<_> = names.map(str::to_owned).collect();
    assert!(names.len() > 15, "{help}");
    names
}

#[test]
fn every_subcommand_takes_a_root_and_a_format() {
    for name in subcommands() {
        let output = cprecover(&[&name, "--root", "/nonexistent", "-o", "json", "--help"]);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let output = cprecover(&[&name, "--format", "xml"]);
        assert_eq!(output.status.code(), Some(2), "{name}");
    }
}

#[test]
fn the_readme_says_what_every_subcommand_may_touch() {
    let readme = include_str!("../../README.md");
    let (_, table) = readme.split_once("## What each command may touch").expect("the section");
    let (table, _) = table.split_once("\n## ").expect("a next section");
    let first_cells: String =
        table.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next()).collect();
    for name in subcommands() {
        let named = |rest: char| first_cells.contains(&format!("`{name}{rest}"));
        assert!(named('`') || named(' '), "README's table lacks `{name}`");
    }
}

#[test]
fn no_time_limit_is_too_long() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().to_str().expect("UTF-8");
    let most = u64::MAX.to_string();
    for args in [
        &["observe", "--timeout", &most][..],
        &["recover", "--dry-run", "--timeout", &most],
        &["watch", "--timeout", "1", "--every", &most],
        &["pods", "list", "--timeout", &most],
    ] {
        let output = cprecover(&[&["--root", path], args].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code().is_some_and(|code| code < 6), "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    }
}

/// What only looks gives JSON that names its schema, or an error on stderr and nothing on stdout; a
/// root with nothing in it stays so.
#[test]
fn what_only_looks_leaves_an_empty_root_empty_and_answers_in_json() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().to_str().expect("UTF-8");
    for args in [
        &["observe"][..],
        &["diagnose"],
        &["plan"],
        &["recover", "--dry-run"],
        &["lint"],
        &["config"],
        &["audit", "show"],
        &["audit", "verify"],
        &["backup", "list"],
        &["etcd", "status"],
        &["etcd", "check"],
        &["port", "who", "1"],
        &["healthz", "probe"],
        &["logs", "scan"],
        &["logs", "scan", "/nonexistent/log"],
        &["regenerate", "plan"],
    ] {
        let mut all = vec!["--root", path, "-o", "json"];
        all.extend(args);
        let output = cprecover(&all);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code().expect("ends by itself");
        assert!((0..=5).contains(&code), "{args:?}: {code} {stderr}");
        if args.first() == Some(&"healthz") {
            let asked: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
            assert_eq!((code, asked["answers"].as_array().map(Vec::len)), (3, Some(0)), "nobody was asked");
            assert_eq!(asked["notAsked"][0]["component"], "etcd", "{asked}");
            assert!(asked["notAsked"][0]["reason"].is_string(), "{asked}");
        }
        if args == ["audit", "show"] {
            assert_eq!((code, stderr.as_ref()), (0, ""), "nothing was done yet");
        }
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
        if output.stdout.is_empty() {
            assert!(code != 0 && !stderr.is_empty(), "{args:?}: {code} and no word");
        } else {
            let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
            let schema = value["schema"].as_str().expect("a schema");
            assert!(schema.starts_with("cprecover.dev/"), "{args:?}: {schema}");
        }
        let left: Vec<_> = walk(root.path());
        assert!(left.is_empty(), "{args:?} left {left:?}");
    }
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    folder.read_dir().expect("list").map(|entry| entry.expect("entry").path()).collect()
}

/// As when a terminal hangs up, or whoever reads has seen enough.
#[test]
fn nobody_who_listens_changes_no_exit_code() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().to_str().expect("UTF-8");
    for args in [
        &["diagnose"][..],
        &["recover"],
        &["recover", "--dry-run"],
        &["healthz", "probe"],
        &["audit", "show"],
    ] {
        let mut all = vec!["--root", path, "-vvv"];
        all.extend(args);
        let heard = cprecover(&all).status.code();
        let closed = || std::io::pipe().expect("a pipe").1;
        let mut command = Command::new(env!("CARGO_BIN_EXE_cprecover"));
        let unheard =
            command.args(&all).stdout(closed()).stderr(closed()).status().expect("the program runs");
        assert_eq!(unheard.code(), heard, "{args:?}");
    }
}

#[test]
fn a_log_that_was_meddled_with_is_told_in_json_and_with_3() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().to_str().expect("UTF-8");
    let store = root.path().join("var/lib/cprecover");
    std::fs::create_dir_all(&store).expect("a store");
    let mut log = AuditLog::open(&store, 1).expect("a log");
    for at in [1, 2, 3] {
        log.append(at, Event::Healthy).expect("written");
    }
    drop(log);
    let verify = |format: &str| cprecover(&["--root", path, "-o", format, "audit", "verify"]);
    let answer = |output: &Output| -> serde_json::Value {
        serde_json::from_slice(&output.stdout).expect("JSON on stdout")
    };
    let whole = verify("json");
    assert_eq!((whole.status.code(), &answer(&whole)["intact"]), (Some(0), &true.into()));
    assert_eq!(answer(&whole)["entries"], 3);
    assert_eq!(answer(&whole)["end"], "matches");
    let file = store.join(AUDIT_FILE);
    // A crash in the middle of a line is no meddling; a line that is gone from the end is.
    let text = std::fs::read_to_string(&file).expect("read");
    std::fs::write(&file, format!("{text}{{\"seq")).expect("written");
    let torn = verify("json");
    assert_eq!((torn.status.code(), &answer(&torn)["tornBytes"]), (Some(0), &5.into()));
    let (first, last) = text.trim_end().rsplit_once('\n').expect("lines");
    std::fs::write(&file, format!("{first}\n")).expect("written");
    let cut = verify("json");
    assert_eq!((cut.status.code(), &answer(&cut)["intact"]), (Some(3), &false.into()), "{last} is gone");
    std::fs::write(&file, &text).expect("written");
    let mut bytes = std::fs::read(&file).expect("read");
    let at = bytes.windows(11).position(|part| part == b"atUnixMs\":2").expect("the second entry");
    bytes[at + 10] = b'9';
    std::fs::write(&file, bytes).expect("written");
    let broken = verify("json");
    assert_eq!(broken.status.code(), Some(3), "{}", String::from_utf8_lossy(&broken.stderr));
    let told = answer(&broken);
    assert_eq!(
        (&told["intact"], &told["schema"]),
        (&false.into(), &"cprecover.dev/audit-verification/v1".into())
    );
    assert!(told["problem"].as_str().is_some_and(|problem| problem.contains(AUDIT_FILE)), "{told}");
    let table = verify("table");
    assert_eq!(table.status.code(), Some(3));
    assert!(stdout(&table).starts_with("NOT INTACT: "), "{}", stdout(&table));
    // A log that cannot be read is no tampered one.
    std::fs::remove_file(&file).expect("removed");
    std::fs::create_dir(&file).expect("a folder in its place");
    assert_eq!(verify("json").status.code(), Some(1));
}
