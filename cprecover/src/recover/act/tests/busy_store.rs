//! A store that another process uses for a moment stops no effect.

use super::*;

/// Keeps the store for a second once `begin` says so, as another process does.
fn keep(store: PathBuf, begin: impl FnOnce() + Send + 'static) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let folder = std::fs::File::open(store).expect("open");
        folder.lock().expect("free soon");
        begin();
        std::thread::sleep(Duration::from_secs(1));
    })
}

#[test]
fn a_manifest_is_restored_when_the_store_is_free_again() {
    let node = Node::new();
    node.put("kube-scheduler.yaml", SCHEDULER);
    let backup_id = node.snapshot();
    std::fs::remove_file(node.manifest("kube-scheduler.yaml")).expect("rm");
    let (kept, is_kept) = std::sync::mpsc::channel();
    let other = keep(node.options.store(), move || kept.send(()).expect("waits"));
    is_kept.recv().expect("is kept");
    node.perform(&Action::RestoreManifest { component: Component::KubeScheduler, backup_id })
        .expect("restores");
    assert_eq!(node.stands("kube-scheduler.yaml").as_deref(), Some(SCHEDULER));
    other.join().expect("ends");
}

#[test]
fn a_bounce_releases_its_manifest_when_the_store_is_free_again() {
    let node = Node::new();
    node.put("kube-scheduler.yaml", SCHEDULER);
    node.snapshot();
    let (manifest, lists) = (node.manifest("kube-scheduler.yaml"), node.path("ps.json"));
    let old = std::fs::read_to_string(&lists).expect("read");
    let store = node.options.store();
    let kubelet = std::thread::spawn(move || {
        while manifest.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        // The bounce goes on once the old container is gone, and the store is in use by then.
        let gone = lists.clone();
        let empty = move || std::fs::write(gone, r#"{"containers": []}"#).expect("write");
        keep(store, empty).join().expect("ends");
        while !manifest.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::fs::write(&lists, old.replace(r#""id":  ""#, r#""id":  "0"#)).expect("write");
    });
    let done = node.perform(&Action::BounceStaticPod { component: Component::KubeScheduler }).expect("ends");
    kubelet.join().expect("ends");
    assert!(done.detail.contains("is gone"), "{done:?}");
    assert_eq!(node.stands("kube-scheduler.yaml").as_deref(), Some(SCHEDULER));
}
