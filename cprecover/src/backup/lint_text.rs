//! What names and lines of text look like a copy, or like YAML that tools read differently.

use std::ffi::OsStr;

/// Reports whether a file name is one that editors, package managers and people give to copies.
pub(super) fn is_copy(name: &OsStr) -> bool {
    const ENDS: [&str; 16] = [
        "~",
        ".bak",
        ".backup",
        ".orig",
        ".old",
        ".save",
        ".sav",
        ".swp",
        ".tmp",
        ".temp",
        ".rej",
        ".copy",
        ".dpkg-old",
        ".dpkg-dist",
        ".rpmsave",
        ".rpmnew",
    ];
    let name = name.to_string_lossy().to_lowercase();
    let plain = [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end));
    let inner = [".bak", ".orig", ".old", ".backup", "-backup.", "-copy.", "_bak."];
    ENDS.iter().any(|end| name.ends_with(end))
        || (name.starts_with('#') && name.ends_with('#'))
        || inner.iter().any(|part| name.contains(part))
        // `etcd.yaml.2024-01-01`, `etcd.yaml_old`, `etcd.yaml-1`
        || (!plain && [".yaml", ".yml"].iter().any(|part| name.contains(part)))
}

/// Reports whether a line of YAML has an anchor, an alias or a merge key outside of quotes.
pub(super) fn has_anchor(line: &str) -> bool {
    let line = line.trim_start();
    if line.starts_with('#') {
        return false;
    }
    if line.starts_with("<<:") {
        return true;
    }
    let mut quote = None;
    let mut before = ' ';
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match quote {
            Some(open) if c == open => quote = None,
            None if (c == '"' || c == '\'') && matches!(before, ' ' | '[' | '{' | ',') => quote = Some(c),
            None if c == '#' && before == ' ' => return false,
            None if (c == '&' || c == '*') && matches!(before, ' ' | '[' | '{' | ',') => {
                let named = chars.peek().is_some_and(|next| next.is_alphanumeric() || *next == '_');
                // A plain scalar such as `a & b` has text before it; a node's property has not.
                let property = line.split(c).next().is_some_and(|head| {
                    let head = head.trim_end();
                    head.is_empty() || head.ends_with([':', '-', '[', '{', ',', '?'])
                });
                if named && property {
                    return true;
                }
            }
            _ => {}
        }
        before = c;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_told_from_manifests() {
        for copy in ["etcd.yaml.bak", "etcd.yaml~", "#etcd.yaml#", "etcd.yaml.2024-01-01", "etcd.old.yaml"] {
            assert!(is_copy(copy.as_ref()), "{copy}");
        }
        for plain in ["etcd.yaml", "kube-apiserver.yml", "pod.json", "static-web"] {
            assert!(!is_copy(plain.as_ref()), "{plain}");
        }
    }

    #[test]
    fn anchors_are_told_from_text() {
        for line in ["a: &x 1", "- *x", "<<: *base", "a: [*x]", "  &y b: 1"] {
            assert!(has_anchor(line), "{line}");
        }
        for line in
            ["a: b & c", "# &x", "a: '&x'", "- --flag=*", "a: \"*x\"", "a: b # *x", "url: http://a?b&c"]
        {
            assert!(!has_anchor(line), "{line}");
        }
    }
}
