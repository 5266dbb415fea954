//! The lint of a manifests folder, by the library and by the program: every rule, and no false alarm.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod backup_rig;

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use backup_rig::{MANIFESTS, Rig, program};
use cprecover::ErrorKind;
use cprecover::backup::Severity::{Error, Info, Warning};
use cprecover::backup::{LintRule, LintRule as R, Severity, lint, lint_dir};

/// The rules by file that a folder's findings come from.
fn found(rig: &Rig) -> BTreeMap<String, Vec<(LintRule, Severity)>> {
    let mut found: BTreeMap<String, Vec<(LintRule, Severity)>> = BTreeMap::new();
    for finding in lint(&rig.node).expect("lint") {
        assert!(!finding.message.is_empty() && !finding.message.contains('\n'), "{finding:?}");
        found.entry(finding.file.to_string()).or_default().push((finding.rule, finding.severity));
    }
    found
}

/// A node on which everything that the manifests name exists.
fn clean() -> Rig {
    let rig = Rig::new();
    for (name, bytes) in rig.manifests() {
        let text = String::from_utf8(bytes).unwrap();
        let paths = text.lines().filter_map(|line| line.trim().strip_prefix("path: /"));
        for path in paths.filter(|path| !path.starts_with("healthz") && !path.starts_with("livez")) {
            let path = rig.path(path);
            // A file where the manifest says so, a folder elsewhere.
            if path.extension().is_some_and(|end| end == "conf") {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, "x").unwrap();
            } else {
                std::fs::create_dir_all(&path).unwrap();
            }
        }
        assert!(Path::new(&name).extension().is_some_and(|end| end == "yaml"));
    }
    rig
}

fn pod(name: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: kube-system\nspec:\n  containers:\n  - name: c\n    image: i:1\n{more}"
    )
}

#[test]
fn manifests_as_kubeadm_writes_them_give_no_finding() {
    let rig = clean();
    assert_eq!(lint(&rig.node).expect("lint"), []);
}

#[test]
fn every_rule_finds_its_file_and_no_other() {
    let rig = clean();
    let etcd = String::from_utf8(std::fs::read(rig.manifest("etcd.yaml")).unwrap()).unwrap();
    let put = |name: &str, text: &str| rig.write(&format!("{MANIFESTS}/{name}"), text);
    for copy in ["kube-scheduler.yaml.bak", "kube-scheduler.yaml~", "kube-scheduler.yaml.orig"] {
        put(copy, &String::from_utf8(std::fs::read(rig.manifest("kube-scheduler.yaml")).unwrap()).unwrap());
    }
    put("etcd-old-name.yaml", &etcd.replace("  name: etcd\n", "  name: etcd-2\n"));
    put("a-twin.yaml", &pod("twin", ""));
    put("b-twin.yaml", &pod("twin", ""));
    put("empty.yaml", " \n\n");
    put("broken.yaml", "kind: Pod\n  apiVersion: [v1\n");
    put("service.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: x}\n");
    put("anchor.yaml", &pod("anchor", "  nodeSelector: &sel\n    a: b\n"));
    put("twice.yaml", &pod("twice", "  hostNetwork: true\n  hostNetwork: false\n"));
    put("two.yaml", &format!("{}---\n{}", pod("two", ""), pod("ignored", "")));
    put(
        "paths.yaml",
        &pod(
            "paths",
            "  volumes:\n  - name: must\n    hostPath: {path: /no/such/file, type: File}\n  - name: made\n    hostPath: {path: /no/such/folder, type: DirectoryOrCreate}\n  - name: any\n    hostPath: {path: /no/such/thing}\n",
        ),
    );
    put("open.yaml", &pod("open", ""));
    std::fs::set_permissions(rig.manifest("open.yaml"), PermissionsExt::from_mode(0o666)).unwrap();
    put("readable.yaml", &pod("readable", ""));
    std::fs::set_permissions(rig.manifest("readable.yaml"), PermissionsExt::from_mode(0o644)).unwrap();
    let large = std::fs::File::create(rig.manifest("large.yaml")).unwrap();
    large.set_len((10 << 20) + 1).unwrap();
    std::fs::set_permissions(rig.manifest("large.yaml"), PermissionsExt::from_mode(0o600)).unwrap();
    symlink("etcd.yaml", rig.manifest("link.yaml")).unwrap();
    std::fs::create_dir(rig.manifest("subfolder")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, rig.manifest("fifo.yaml"), rustix::fs::Mode::RUSR).unwrap();
    put(".hidden.yaml", "not even yaml: [");
    put(".cprecover-held.x.yaml", "held");
    put(".cprecover-0001-1", "staged");
    // A byte that is no UTF-8 in a name is no reason to stop.
    let odd = std::os::unix::ffi::OsStrExt::from_bytes(b"odd-\xff.yaml");
    std::fs::write(rig.path(MANIFESTS).join(<&std::ffi::OsStr>::clone(&odd)), pod("odd", "")).unwrap();
    std::fs::set_permissions(rig.path(MANIFESTS).join(odd), PermissionsExt::from_mode(0o600)).unwrap();
    let root = rustix::process::geteuid().is_root();
    if root {
        put("owned.yaml", &pod("owned", ""));
        std::os::unix::fs::chown(rig.manifest("owned.yaml"), Some(1000), Some(1000)).unwrap();
    } else {
        eprintln!("SKIPPED: the rule of owners needs root");
    }
    let mut found = found(&rig);
    if !root {
        for rules in found.values_mut() {
            rules.retain(|(rule, _)| *rule != LintRule::Owner);
        }
        found.retain(|_, rules| !rules.is_empty());
    }
    let mut expect = |file: &str, rules: &[(LintRule, Severity)]| {
        assert_eq!(found.remove(file).as_deref(), Some(rules), "{file}");
    };
    // Of the same pod in several files the one that sorts last wins: the others say so.
    expect("kube-scheduler.yaml", &[(R::DuplicatePod, Error)]);
    expect("kube-scheduler.yaml.bak", &[(R::BackupCopy, Error), (R::DuplicatePod, Error)]);
    expect("kube-scheduler.yaml.orig", &[(R::BackupCopy, Error), (R::DuplicatePod, Error)]);
    expect("kube-scheduler.yaml~", &[(R::BackupCopy, Error)]);
    expect("etcd-old-name.yaml", &[(R::FileName, Warning)]);
    expect("a-twin.yaml", &[(R::DuplicatePod, Error)]);
    expect("empty.yaml", &[(R::Empty, Error)]);
    expect("broken.yaml", &[(R::Unparsable, Error)]);
    expect("service.yaml", &[(R::Unparsable, Error)]);
    expect("anchor.yaml", &[(R::Anchor, Warning)]);
    expect("twice.yaml", &[(R::DuplicateKey, Error)]);
    expect("two.yaml", &[(R::SecondDocument, Error)]);
    expect("paths.yaml", &[(R::MissingHostPath, Error), (R::MissingHostPath, Warning)]);
    expect("open.yaml", &[(R::Mode, Error)]);
    expect("readable.yaml", &[(R::Mode, Info)]);
    expect("large.yaml", &[(R::TooLarge, Error)]);
    expect("link.yaml", &[(R::Symlink, Warning)]);
    expect("subfolder", &[(R::Subfolder, Info)]);
    expect("fifo.yaml", &[(R::Special, Warning)]);
    expect(".cprecover-held.x.yaml", &[(R::Leftover, Info)]);
    expect(".cprecover-0001-1", &[(R::Leftover, Info)]);
    if root {
        expect("owned.yaml", &[(R::Owner, Warning)]);
    }
    assert!(found.is_empty(), "findings that nothing explains: {found:?}");
}

#[test]
fn the_folder_itself_is_looked_at_and_its_absence_is_told() {
    let rig = clean();
    std::fs::set_permissions(rig.path(MANIFESTS), PermissionsExt::from_mode(0o777)).unwrap();
    assert_eq!(found(&rig)["."], [(LintRule::Mode, Severity::Error)]);
    std::fs::remove_dir_all(rig.path(MANIFESTS)).unwrap();
    assert_eq!(lint(&rig.node).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(lint_dir(&rig.path("none"), rig.dir.path()).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn linting_writes_nothing() {
    let rig = clean();
    rig.write(&format!("{MANIFESTS}/.cprecover-0001-1"), "staged");
    let times = |path: &Path| {
        let meta = std::fs::metadata(path).unwrap();
        (meta.modified().unwrap(), std::os::unix::fs::MetadataExt::ctime_nsec(&meta))
    };
    let before = (rig.manifests(), times(&rig.path(MANIFESTS)));
    lint(&rig.node).expect("lint");
    assert_eq!((rig.manifests(), times(&rig.path(MANIFESTS))), before);
    assert!(!rig.node.store().exists());
}

#[test]
fn the_program_lints() {
    let Some(program) = program() else { return };
    let rig = clean();
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(program);
        command.arg("--root").arg(rig.dir.path()).args(args).output().expect("run")
    };
    let out = run(&["lint"]);
    assert_eq!((out.status.code(), out.stdout.as_slice()), (Some(0), b"no findings\n".as_slice()));
    std::fs::copy(rig.manifest("etcd.yaml"), rig.manifest("etcd.yaml.bak")).unwrap();
    let out = run(&["-o", "json", "lint"]);
    assert_eq!(out.status.code(), Some(3), "an error is unhealthy");
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(json["schema"], "cprecover.dev/lint/v1");
    let rules: Vec<&str> =
        json["findings"].as_array().unwrap().iter().map(|f| f["rule"].as_str().unwrap()).collect();
    assert_eq!(rules, ["backup-copy", "duplicate-pod"]);
    let text = String::from_utf8(run(&["lint"]).stdout).unwrap();
    assert!(text.contains("error    etcd.yaml.bak: looks like a copy"), "{text}");
    let elsewhere = rig.path(MANIFESTS);
    assert_eq!(run(&["lint", &elsewhere.display().to_string()]).status.code(), Some(3));
}
