//! Mount points, from `mountinfo` of proc(5).

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::sys::read_bounded;

/// A node with thousands of pods has some 100 bytes for each of a few tens of thousands of mounts.
const MAX_BYTES: usize = 64 << 20;

/// Reads all mount points that we or the node's first process see; `root` is where the node's root is for
/// us, without links.
///
/// The node's own points count with the root in front and as they are: its first process may share our
/// view instead.
///
/// # Errors
/// The kinds of a failed read; [`ErrorKind::Invalid`] for a line that is none.
pub(super) fn read(proc_dir: &Path, root: &Path) -> Result<Vec<PathBuf>> {
    let mut points = Vec::new();
    // A mount that only the node sees (we may be in a container) counts as much as our own.
    for process in ["self", "1"] {
        let path = proc_dir.join(process).join("mountinfo");
        let seen = parse(&read_bounded(&path, MAX_BYTES)?).map_err(|error| error.context(path.display()))?;
        if process == "1" {
            points.extend(seen.iter().filter_map(|point| Some(root.join(point.strip_prefix("/").ok()?))));
        }
        points.extend(seen);
    }
    points.sort();
    points.dedup();
    Ok(points)
}

/// Returns the first mount point at or below `folder`; the folder and the points are free of links.
pub(super) fn at_or_below<'a>(points: &'a [PathBuf], folder: &Path) -> Option<&'a PathBuf> {
    points.iter().find(|point| point.starts_with(folder))
}

/// Returns the mount point that a path without links lies on.
pub(super) fn above<'a>(points: &'a [PathBuf], path: &Path) -> Option<&'a PathBuf> {
    points.iter().filter(|point| path.starts_with(point)).max_by_key(|point| point.components().count())
}

/// Reads bytes as `mountinfo`, for fuzzing.
pub(crate) fn read_any(bytes: &[u8]) {
    let _ = parse(bytes);
}

fn parse(bytes: &[u8]) -> Result<Vec<PathBuf>> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            let field = line.split(|byte| *byte == b' ').nth(4).filter(|field| field.starts_with(b"/"));
            field.map(unescape).ok_or_else(|| {
                let line = String::from_utf8_lossy(line);
                Error::new(ErrorKind::Invalid, format!("{line:?} is not a line of mountinfo"))
            })
        })
        .collect()
}

/// proc(5): blank, tab, newline and backslash are written as `\040`, `\011`, `\012` and `\134`.
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail
            .first_chunk::<3>()
            .filter(|digits| *first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        if let Some([high, middle, low]) = octal {
            let value = u32::from(high - b'0') * 64 + u32::from(middle - b'0') * 8 + u32::from(low - b'0');
            out.push(u8::try_from(value).unwrap_or(b'\\'));
            rest = tail.get(3..).unwrap_or_default();
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

/// Reports whether a name can be a pod's UID: what kubelet and the API server make (RFC 4122, or 32 hex
/// digits), and nothing that is a path.
pub(super) fn is_uid(name: &std::ffi::OsStr) -> bool {
    let bytes = name.as_bytes();
    (1..=64).contains(&bytes.len()) && bytes.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_blanks_are_read_and_broken_lines_are_errors() {
        let text =
            b"36 35 98:0 /x /mnt/a\\040b\\134 rw - ext3 /dev/root rw\n37 35 0:1 / /mnt rw - tmpfs t rw\n";
        let points = parse(text).expect("reads");
        assert_eq!(points, [PathBuf::from("/mnt/a b\\"), PathBuf::from("/mnt")]);
        assert_eq!(at_or_below(&points, Path::new("/mnt/a")), None, "whole components only");
        assert_eq!(at_or_below(&points, Path::new("/mnt/a b\\")), points.first());
        assert_eq!(at_or_below(&points, Path::new("/")), points.first());
        assert_eq!(above(&points, Path::new("/mnt/a/c")), points.get(1), "whole components only");
        assert_eq!(above(&points, Path::new("/mnt/a b\\/c")), points.first(), "the longest");
        assert_eq!(above(&points, Path::new("/mnt")), points.get(1), "the point itself");
        assert_eq!(above(&points, Path::new("/var")), None);
        assert_eq!(parse(b"36 35 98:0\n").expect_err("short").kind(), ErrorKind::Invalid);
    }
}
