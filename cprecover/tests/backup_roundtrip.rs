//! What is restored is what was backed up, whatever its names, modes and attributes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod backup_rig;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use backup_rig::{MANIFESTS, Rig, minute};
use cprecover::backup::{Group, RestoreOptions, Selection};
use proptest::prelude::*;

/// Path, then what restores have to bring back: content, mode, owner, time, attributes.
type Tree = BTreeMap<PathBuf, (Option<Vec<u8>>, u32, (u32, u32), (i64, i64), BTreeMap<OsString, Vec<u8>>)>;

fn tree(top: &Path, inner: &Path, into: &mut Tree) {
    let path = top.join(inner);
    let meta = path.symlink_metadata().unwrap();
    let content = if meta.is_file() { Some(std::fs::read(&path).unwrap()) } else { None };
    let content = if meta.is_symlink() {
        Some(std::fs::read_link(&path).unwrap().into_os_string().into_vec())
    } else {
        content
    };
    let names = if meta.is_symlink() { Vec::new() } else { xattr::list(&path).unwrap().collect() };
    let xattrs =
        names.into_iter().map(|name| (name.clone(), xattr::get(&path, name).unwrap().unwrap())).collect();
    let time = (meta.mtime(), meta.mtime_nsec());
    into.insert(inner.to_owned(), (content, meta.mode(), (meta.uid(), meta.gid()), time, xattrs));
    if meta.is_dir() {
        for entry in path.read_dir().unwrap() {
            tree(top, &inner.join(entry.unwrap().file_name()), into);
        }
    }
}

#[derive(Debug, Clone)]
struct File {
    folder: Option<Vec<u8>>,
    name: Vec<u8>,
    content: Vec<u8>,
    mode: u32,
    label: Option<Vec<u8>>,
    link: bool,
    selinux: bool,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("no slash or zero", |byte| *byte != b'/' && *byte != 0);
    let odd = prop::collection::vec(byte, 1..=255);
    let long = prop::collection::vec(97_u8..=122, 255..=255);
    let hard = prop::sample::select(vec![
        b"a\nb".to_vec(),
        b"back\\slash".to_vec(),
        b"cr\r".to_vec(),
        b"%41".to_vec(),
        b" lead".to_vec(),
        vec![0xff, 0xfe],
        b".hidden".to_vec(),
        b"..a".to_vec(),
    ]);
    prop_oneof![odd, long, hard]
        .prop_filter("a name", |name| name != b"." && name != b".." && !name.starts_with(b".cprecover-"))
}

fn file() -> impl Strategy<Value = File> {
    let content = prop::collection::vec(any::<u8>(), 0..2000);
    let label = prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
    let flags = (prop::bool::weighted(0.1), any::<bool>());
    (prop::option::of(name()), name(), content, 0_u32..=0o7777, label, flags).prop_map(
        |(folder, name, content, mode, label, (link, selinux))| File {
            folder,
            name,
            content,
            mode,
            label,
            link,
            selinux,
        },
    )
}

fn put(top: &Path, file: &File) {
    let os = |bytes: &[u8]| std::ffi::OsStr::from_bytes(bytes).to_owned();
    let folder = file.folder.as_ref().map_or(top.to_owned(), |folder| top.join(os(folder)));
    let path = folder.join(os(&file.name));
    // Two of the random names may be the same or in each other's way.
    if std::fs::create_dir_all(&folder).is_err() || path.symlink_metadata().is_ok() {
        return;
    }
    if file.link {
        std::os::unix::fs::symlink("/nowhere/in particular", &path).unwrap();
        return;
    }
    std::fs::write(&path, &file.content).unwrap();
    if let Some(label) = &file.label {
        xattr::set(&path, "user.label", label).unwrap();
    }
    if file.selinux && rustix::process::geteuid().is_root() {
        // As SELinux writes it, with a zero at the end; a kernel that forbids it leaves it away on both sides.
        let _ = xattr::set(&path, "security.selinux", b"system_u:object_r:etc_t:s0\0");
    }
    // Unreadable for its owner would need root; that case is the mode 0 one when root runs this.
    let least = if rustix::process::geteuid().is_root() { 0 } else { 0o400 };
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(file.mode | least)).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn restore_of_a_backup_is_the_same(files in prop::collection::vec(file(), 0..12), lost in any::<bool>()) {
        let rig = Rig::new();
        let top = rig.path(MANIFESTS);
        for file in &files {
            put(&top, file);
        }
        let mut before = Tree::new();
        tree(&top, Path::new(""), &mut before);
        let snapshot = rig.create(&[Group::Manifests]);
        let sums = std::process::Command::new("sha256sum")
            .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
            .current_dir(rig.snapshot_dir(&snapshot))
            .output();
        if let Ok(sums) = sums {
            prop_assert!(sums.status.success(), "{}", String::from_utf8_lossy(&sums.stderr));
        }
        prop_assert!(rig.store().verify(&snapshot.id, &minute()).unwrap().is_intact());
        if lost {
            std::fs::remove_dir_all(&top).unwrap();
        } else {
            for (path, _) in before.iter().filter(|(_, entry)| entry.0.is_some()) {
                std::fs::remove_file(top.join(path)).unwrap();
                std::fs::write(top.join(path), "ruined").unwrap();
            }
            std::fs::write(top.join("not-in-the-snapshot"), "x").ok();
        }
        let mut options = RestoreOptions::default();
        options.exact = true;
        rig.store().restore(&snapshot.id, &Selection::All, &options, &minute()).unwrap();
        let mut after = Tree::new();
        tree(&top, Path::new(""), &mut after);
        let differs: Vec<_> = before.keys().chain(after.keys()).filter(|p| before.get(*p) != after.get(*p)).collect();
        let show = |tree: &Tree| {
            differs.iter().map(|p| tree.get(*p).map(|e| (e.0.as_ref().map(Vec::len), e.1, e.2, e.3, e.4.clone()))).collect::<Vec<_>>()
        };
        prop_assert!(differs.is_empty(), "{differs:?}\nbefore {:?}\nafter  {:?}", show(&before), show(&after));
    }
}
