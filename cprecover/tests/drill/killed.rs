//! `cprecover recover` is killed at random moments; running it again finishes the job.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cprecover::model::{Component, Digest};
use cprecover::parse::manifest::StaticPod;

use super::node::{Node, busy, json};

/// Random moments in all; each half of them is a test of its own, so that they run side by side.
const MOMENTS: u64 = 50;
/// A recovery of the drill has all its effects in this time.
const SPAN_MS: u64 = 900;

/// A small generator (splitmix64), so that a failing moment can be tried again with its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }
}

fn digests(folder: &Path) -> BTreeMap<String, Digest> {
    let entries = folder.read_dir().expect("list").map(|entry| entry.expect("entry").path());
    let visible =
        entries.filter(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')));
    visible
        .map(|path| {
            let name = path.file_name().expect("name").to_string_lossy().into_owned();
            (name, Digest::of(&std::fs::read(&path).expect("read")))
        })
        .collect()
}

fn kill_at_random_moments(count: u64, seed: u64) {
    let mut random = Random(seed);
    let mut node = Node::broken();
    let rendered = digests(&node.root.join("opt/drill/rendered"));
    assert_eq!(rendered.len(), 4);
    for moment in 0..count {
        let _busy = busy();
        let delay = Duration::from_millis(random.below(SPAN_MS));
        let mut child = Command::new(env!("CARGO_BIN_EXE_cprecover"))
            .args(["--root", node.root(), "recover", "--yes"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        std::thread::sleep(delay);
        let _ = child.kill();
        child.wait().expect("ends");
        let what = format!("moment {moment} of seed {seed}, killed after {delay:?}");
        // Whatever kubelet could run now is whole and right.
        for (name, digest) in digests(&node.manifests()) {
            assert_eq!(Some(&digest), rendered.get(&name), "{what}: {name} is not what it was");
        }
        let output = node.run(&["recover", "--yes", "-o", "json"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{what}: {stderr}\n{}",
            String::from_utf8_lossy(&output.stdout)
        );
        assert_eq!(json(&output)["ending"]["state"], "healthy", "{what}");
        assert_eq!(digests(&node.manifests()), rendered, "{what}");
        for component in Component::ALL {
            let bytes = std::fs::read(node.manifests().join(component.manifest_file())).expect("manifest");
            assert_eq!(StaticPod::parse(&bytes).expect("parses").component(), Some(component), "{what}");
        }
        assert_eq!(node.run(&["audit", "verify"]).status.code(), Some(0), "{what}");
        if moment + 1 < count {
            node.break_again();
        }
    }
    eprintln!("{count} random moments, seed {seed}: no manifest lost, every recovery finished");
}

#[test]
fn killed_at_the_first_half_of_the_moments_a_recovery_is_finished_by_the_next_run() {
    kill_at_random_moments(MOMENTS / 2, 0x1DEA);
}

#[test]
fn killed_at_the_second_half_of_the_moments_a_recovery_is_finished_by_the_next_run() {
    kill_at_random_moments(MOMENTS - MOMENTS / 2, 0xC0DE);
}
