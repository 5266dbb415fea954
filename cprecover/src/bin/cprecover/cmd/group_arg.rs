//! Groups of files as they are named in an argument.

use cprecover::backup::Group;
use cprecover::{Error, Result};

/// A group, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupArg {
    All,
    One(Group),
}

impl std::str::FromStr for GroupArg {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "all" { Ok(Self::All) } else { text.parse().map(Self::One) }
    }
}

/// Returns the groups that are named, the manifests where none is; `None` is all of them.
pub(crate) fn groups_of(named: &[GroupArg]) -> Option<Vec<Group>> {
    let one = |named: &GroupArg| match named {
        GroupArg::All => None,
        GroupArg::One(group) => Some(*group),
    };
    if named.is_empty() { Some(vec![Group::Manifests]) } else { named.iter().map(one).collect() }
}
