//! The conventions that every subcommand of the program keeps.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::path::Path;
use std::process::{Command, Output};

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
