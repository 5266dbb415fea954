//! What kubelet is told of a change: it adds a pod at each file that comes and deletes it at each that goes, in
//! the order of the kernel's events (kubernetes `pkg/kubelet/config/file_linux.go`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod backup_rig;

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::{Duration, SystemTime};

use backup_rig::{MANIFESTS, Rig, minute};
use cprecover::backup::{Group, InstallOptions, NewFile, RestoreOptions, Selection};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// A watch of the manifests folder.
struct Watch(OwnedFd);

impl Watch {
    fn of(rig: &Rig) -> Self {
        let notify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&notify, rig.path(MANIFESTS), WatchFlags::ALL_EVENTS).unwrap();
        Self(notify)
    }

    /// Names that came (`true`) and went, without those that kubelet ignores.
    fn moves(&self) -> Vec<(bool, String)> {
        let comes = ReadFlags::CREATE | ReadFlags::MOVED_TO;
        let goes = ReadFlags::DELETE | ReadFlags::MOVED_FROM;
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = Reader::new(&self.0, &mut buffer);
        let mut moves = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
                    let name = name.filter(|name| !name.starts_with('.'));
                    if let Some(name) = name.filter(|_| event.events().intersects(comes | goes)) {
                        moves.push((event.events().intersects(comes), name));
                    }
                }
                Err(Errno::AGAIN) => return moves,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn came(names: &[&str]) -> Vec<(bool, String)> {
    names.iter().map(|name| (true, (*name).to_owned())).collect()
}

#[test]
fn a_manifest_that_is_replaced_comes_and_does_not_go() {
    let rig = Rig::new();
    let snapshot = rig.create(&[Group::Manifests]);
    let old = rig.manifests();
    for name in ["etcd.yaml", "kube-apiserver.yaml"] {
        let text = std::fs::read_to_string(rig.manifest(name)).unwrap();
        rig.write(&format!("{MANIFESTS}/{name}"), text + "# more\n");
    }
    let watch = Watch::of(&rig);
    let report =
        rig.store().restore(&snapshot.id, &Selection::All, &RestoreOptions::default(), &minute()).unwrap();
    assert_eq!(report.replaced.len(), 2);
    assert_eq!(watch.moves(), came(&["etcd.yaml", "kube-apiserver.yaml"]));
    assert_eq!(rig.manifests(), old, "and nothing is left over");

    let file = NewFile::new("/etc/kubernetes/manifests/etcd.yaml", "# no pod\n");
    rig.store().install(&[file], &InstallOptions::default(), &minute()).unwrap();
    assert_eq!(watch.moves(), came(&["etcd.yaml"]));
    rig.store().hold("kube-apiserver.yaml", "", &minute()).unwrap();
    assert_eq!(watch.moves(), [(false, "kube-apiserver.yaml".to_owned())]);
    rig.store().release("kube-apiserver.yaml", &minute()).unwrap();
    assert_eq!(watch.moves(), came(&["kube-apiserver.yaml"]));
}

#[test]
fn other_attributes_are_set_on_the_file_that_is_there() {
    let rig = Rig::new();
    let etcd = rig.manifest("etcd.yaml");
    let snapshot = rig.create(&[Group::Manifests]);
    let before = etcd.metadata().unwrap();
    let file = std::fs::File::options().write(true).open(&etcd).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    let watch = Watch::of(&rig);
    let restore = || {
        let options = RestoreOptions::default();
        rig.store().restore(&snapshot.id, &Selection::All, &options, &minute()).unwrap()
    };
    assert_eq!(restore().replaced.len(), 1);
    std::fs::set_permissions(&etcd, std::fs::Permissions::from_mode(0o644)).unwrap();
    // Where there are such attributes.
    let _ = xattr::set(&etcd, "user.label", b"x");
    assert_eq!(restore().replaced.len(), 1);
    assert_eq!(watch.moves(), []);
    let after = etcd.metadata().unwrap();
    let of = |meta: &std::fs::Metadata| (meta.ino(), meta.mode(), meta.mtime(), meta.mtime_nsec());
    assert_eq!(of(&after), of(&before));
    assert!(xattr::get(&etcd, "user.label").unwrap_or_default().is_none());
    assert!(restore().replaced.is_empty(), "a second restore finds nothing to do");
}
