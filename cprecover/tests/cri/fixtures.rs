//! What a real node's runtime listed (`testdata/README.md`).

use cprecover::cri::{RuntimeState, parse};

pub(crate) struct Recorded {
    pub(crate) name: &'static str,
    pub(crate) pods: &'static [u8],
    pub(crate) ps: &'static [u8],
}

macro_rules! recorded {
    ($($name:literal),*) => {
        [$(Recorded {
            name: $name,
            pods: include_bytes!(concat!("../../testdata/", $name, "/crictl-pods.json")),
            ps: include_bytes!(concat!("../../testdata/", $name, "/crictl-ps.json")),
        }),*]
    };
}

pub(crate) const ALL: [Recorded; 3] = recorded!["health", "incident-orphan", "incident-deadlock"];

impl Recorded {
    pub(crate) fn state(&self) -> RuntimeState {
        RuntimeState {
            sandboxes: parse::pods(self.pods).expect(self.name),
            containers: parse::containers(self.ps).expect(self.name),
            ..RuntimeState::default()
        }
    }
}

pub(crate) fn named(name: &str) -> &'static Recorded {
    const RECORDED: &[Recorded] = &ALL;
    RECORDED.iter().find(|recorded| recorded.name == name).expect("such a fixture")
}
