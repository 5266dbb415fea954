//! etcd releases, as far as ending one depends on them.

use serde::{Deserialize, Serialize};

/// An etcd release: major, minor, patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EtcdVersion(pub u32, pub u32, pub u32);

impl EtcdVersion {
    /// Reads the version from an image reference such as `registry.k8s.io/etcd:3.5.1-0`.
    #[must_use]
    pub fn of_image(image: &str) -> Option<Self> {
        let name = image.split_once('@').map_or(image, |(name, _)| name);
        let (_, tag) = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))?;
        let tag = tag.strip_prefix('v').unwrap_or(tag);
        let release = tag.split(['-', '+']).next()?;
        let mut parts = release.split('.').map(|part| part.parse().ok());
        let version = Self(parts.next()??, parts.next()??, parts.next()??);
        parts.next().is_none().then_some(version)
    }

    /// Reports whether SIGKILL under load corrupted data in this release (etcd issues 13766, 13894;
    /// 3.5.0 to 3.5.2, fixed in 3.5.3).
    #[must_use]
    pub fn corrupts_on_kill(self) -> bool {
        (Self(3, 5, 0)..=Self(3, 5, 2)).contains(&self)
    }
}

impl std::fmt::Display for EtcdVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_image_tags() {
        let read = EtcdVersion::of_image;
        assert_eq!(read("registry.k8s.io/etcd:3.5.1-0"), Some(EtcdVersion(3, 5, 1)));
        assert_eq!(read("localhost:5000/etcd:v3.6.8@sha256:00"), Some(EtcdVersion(3, 6, 8)));
        assert_eq!(read("registry:5000/etcd"), None);
        assert_eq!(read("etcd:latest"), None);
        assert_eq!(read("etcd:3.5"), None);
        assert_eq!(read("etcd:3.5.0.1"), None);
    }

    #[test]
    fn the_releases_that_a_kill_corrupts() {
        for (version, corrupts) in [
            (EtcdVersion(3, 4, 37), false),
            (EtcdVersion(3, 5, 0), true),
            (EtcdVersion(3, 5, 2), true),
            (EtcdVersion(3, 5, 3), false),
            (EtcdVersion(3, 6, 0), false),
        ] {
            assert_eq!(version.corrupts_on_kill(), corrupts, "{version}");
        }
    }
}
