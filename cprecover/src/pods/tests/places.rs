//! Where a quarantine can be, on mounts of one file system.

use super::*;

#[test]
#[ignore = "not a test: what the next one runs where folders are mounts of one file system"]
fn quarantines_between_mounts() {
    let Ok(root) = std::env::var("CPRECOVER_TEST_ROOT") else { return };
    let node = Node::below(Path::new(&root));
    let pod = node.pod(OLD, "etcd");
    let before = tree(&pod);
    let nobody = known(Vec::new(), &[]);
    // An old kernel tells no ids of mounts; the lists of them must give the same.
    let place = survey::Place::open(&node.options).expect("opens").without_mount_ids();
    let listed = quarantine::base_for(&node.options, &place).expect("one of them");
    let made = node.quarantine(&nobody, &[OLD]).expect("moves");
    let base = node.options.resolve("/var/lib/kubelet");
    assert!(made.folder.starts_with(base.join("pods-quarantine")), "{}", made.folder.display());
    assert_eq!(listed, base);
    assert_eq!(tree(&made.folder.join(OLD)), before);
    undo(&quarantine_in(&node.options, &made.folder).expect("is listed"), &soon()).expect("moves back");
    assert_eq!(tree(&pod), before);
}

/// rename(2) does not cross a mount of the same file system either.
#[test]
fn a_quarantine_is_on_the_mount_of_the_pods_not_only_on_their_file_system() {
    for folder in ["kubelet", "cprecover", "cprecover/pods-quarantine"] {
        let at = format!("\"$1/var/lib/{folder}\"");
        run_where(&format!("mkdir -p {at} && mount --bind {at} {at}"), "places::quarantines_between_mounts");
    }
}

#[test]
#[ignore = "not a test: what the next one runs where no place for a quarantine is left"]
fn judges_where_pods_is_a_mount() {
    let Ok(root) = std::env::var("CPRECOVER_TEST_ROOT") else { return };
    let node = Node::below(Path::new(&root));
    let pod = node.pod(OLD, "etcd");
    let nobody = known(Vec::new(), &[]);
    let place = survey::Place::open(&node.options).expect("opens").without_mount_ids();
    let pods = [PodUid::new(OLD)];
    for error in [
        judge(&node.options, &nobody, &pods, &soon()).expect_err("no place"),
        node.quarantine(&nobody, &[OLD]).map(drop).expect_err("no place"),
        quarantine::base_for(&node.options, &place).map(drop).expect_err("no place"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(error.to_string().contains("is on the mount of"), "{error}");
    }
    assert!(pod.exists());
    for base in ["/var/lib/cprecover", "/var/lib/kubelet"] {
        assert!(!node.options.resolve(base).join("pods-quarantine").exists(), "nothing was made in {base}");
    }
}

#[test]
fn without_a_place_for_a_quarantine_a_pod_folder_is_not_judged_movable() {
    let at = "\"$1/var/lib/kubelet/pods\"";
    run_where(&format!("mkdir -p {at} && mount --bind {at} {at}"), "places::judges_where_pods_is_a_mount");
}
