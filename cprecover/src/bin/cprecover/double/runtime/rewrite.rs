//! Paths in a container's arguments, seen from the host: there is no mount namespace.

use std::path::{Path, PathBuf};

/// Where the node's folders are seen by the container: path in the container, path for us.
#[derive(Debug, Clone, Default)]
pub(super) struct PathMap(Vec<(String, String)>);

impl PathMap {
    /// Makes the map of a container's mounts; `(path in the container, path on the node)`.
    pub(super) fn new<'a>(root: &Path, mounts: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut map: Vec<(String, String)> = mounts
            .filter(|(inside, _)| inside.starts_with('/') && inside.len() > 1)
            .map(|(inside, host)| {
                (
                    inside.trim_end_matches('/').to_owned(),
                    below(root, host).to_string_lossy().trim_end_matches('/').to_owned(),
                )
            })
            .collect();
        // The longest mount wins, as in a mount table.
        map.sort_by_key(|(inside, _)| std::cmp::Reverse(inside.len()));
        Self(map)
    }

    /// Returns the argument with every path below a mount replaced.
    pub(super) fn apply(&self, arg: &str) -> String {
        let mut out = String::with_capacity(arg.len());
        let mut rest = arg;
        while let Some(at) = rest.find('/') {
            let (before, here) = rest.split_at(at);
            out.push_str(before);
            let found = starts_a_path(&out).then(|| self.mount_of(here)).flatten();
            if let Some((inside, outside)) = found {
                out.push_str(outside);
                rest = here.get(inside.len()..).unwrap_or_default();
            } else {
                out.push('/');
                rest = here.get(1..).unwrap_or_default();
            }
        }
        out.push_str(rest);
        out
    }

    fn mount_of(&self, path: &str) -> Option<(&str, &str)> {
        let found = self.0.iter().find(|(inside, _)| {
            path.strip_prefix(inside.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ',', ':', ';', ' ', '\'', '"']))
        });
        found.map(|(inside, outside)| (inside.as_str(), outside.as_str()))
    }
}

/// Reports whether a path may begin after this text: `--flag=`, `a,`, `unix://`, at the start.
fn starts_a_path(before: &str) -> bool {
    before.is_empty()
        || before.ends_with(['=', ',', ':', ';', ' ', '>', '<', '\'', '"'])
        || before.ends_with("://")
}

/// Returns where a path of the node is for us.
pub(super) fn below(root: &Path, on_node: &str) -> PathBuf {
    let mut path = root.to_path_buf();
    path.extend(
        Path::new(on_node).components().filter(|part| matches!(part, std::path::Component::Normal(_))),
    );
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_lists_and_scripts_are_mapped_and_nothing_else() {
        let mounts = [
            ("/var/lib/etcd", "/var/lib/etcd"),
            ("/etc/kubernetes/pki", "/etc/kubernetes/pki"),
            ("/etc/kubernetes/pki/etcd", "/srv/etcd-pki"),
        ];
        let map = PathMap::new(Path::new("/r"), mounts.into_iter());
        for (arg, want) in [
            ("--data-dir=/var/lib/etcd", "--data-dir=/r/var/lib/etcd"),
            ("/var/lib/etcd/member", "/r/var/lib/etcd/member"),
            ("--x=/etc/kubernetes/pki/ca.crt", "--x=/r/etc/kubernetes/pki/ca.crt"),
            ("--x=/etc/kubernetes/pki/etcd/ca.crt", "--x=/r/srv/etcd-pki/ca.crt"),
            ("--x=/var/lib/etcd2", "--x=/var/lib/etcd2"),
            ("--x=/a,/var/lib/etcd,/b", "--x=/a,/r/var/lib/etcd,/b"),
            ("--u=https://127.0.0.1:2379/var/lib/etcd", "--u=https://127.0.0.1:2379/var/lib/etcd"),
            ("--u=unix:///var/lib/etcd/s", "--u=unix:///r/var/lib/etcd/s"),
            ("cat '/var/lib/etcd/x' >/dev/null", "cat '/r/var/lib/etcd/x' >/dev/null"),
            ("", ""),
        ] {
            assert_eq!(map.apply(arg), want);
        }
    }
}
