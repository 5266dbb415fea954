//! Learns which values are secret on a node.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::looks::{is_path, is_secret_name};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;
use crate::node::NodeOptions;
use crate::parse::yaml;
use crate::sys::read_bounded;

/// Shorter values are not looked for as such: they would hide half of every text.
const LEAST: usize = 6;
/// Shorter lines of a key are no secret by themselves.
const LEAST_OF_KEY: usize = 16;
const MAX_FILE_BYTES: usize = 1 << 20;
const MAX_FILES: usize = 512;
const MAX_SNAPSHOTS: usize = 10_000;
/// With more of them it would not be known what to take out.
pub(super) const MAX_SECRETS: usize = 100_000;

/// Whatever a file is named.
const ANY: &[&str] = &[];

/// Files that the API server reads secrets from.
const SECRET_FILES: [&str; 3] = ["--encryption-provider-config", "--token-auth-file", "--basic-auth-file"];

/// Returns what is secret on the node: keys, kubeconfigs, tokens, what manifests put into environments, and the
/// encryption of the API server's objects.
///
/// A manifest that is lost or broken says nothing any more of what is in the logs, so those of all snapshots
/// are asked too.
pub(super) fn secrets_of(node: &NodeOptions) -> Result<Vec<String>> {
    let mut secrets = Vec::new();
    for folder in [node.pki_dir.clone(), node.pki_dir.join("etcd"), node.kubelet_dir.join("pki")] {
        each_file(&node.resolve(&folder), &["key", "pem"], &mut |bytes| {
            key_lines(&String::from_utf8_lossy(bytes), &mut secrets);
            Ok(())
        })?;
    }
    each_file(&node.resolve(&node.kubernetes_dir), &["conf", "yaml"], &mut |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if !documents(&text, &mut |value| named_values(value, &mut secrets)) {
            any_values(&text, &mut secrets);
        }
        Ok(())
    })?;
    let mut seen = BTreeSet::new();
    let mut learn = |bytes: &[u8]| {
        if seen.insert(Digest::of(bytes)) { manifest(node, bytes, &mut secrets) } else { Ok(()) }
    };
    each_file(&node.manifests(), ANY, &mut learn)?;
    // As files, not through their index: what a damaged snapshot holds can be in a log all the same.
    for snapshot in entries(&node.store().join("snapshots"), ANY, MAX_SNAPSHOTS)? {
        each_file(&snapshot.join("manifests"), ANY, &mut learn)?;
    }
    Ok(secrets)
}

/// Lists what of a folder ends so; one that is missing holds nothing, one with too much is an error.
fn entries(folder: &Path, ends: &[&str], limit: usize) -> Result<Vec<std::path::PathBuf>> {
    let list = match std::fs::read_dir(folder) {
        Ok(list) => list,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::path("list", folder, source)),
    };
    let mut found = Vec::new();
    for entry in list {
        let path = entry.map_err(|source| Error::path("list", folder, source))?.path();
        let is_wanted = || path.extension().is_some_and(|end| ends.iter().any(|known| end == *known));
        if !ends.is_empty() && !is_wanted() {
            continue;
        }
        if found.len() >= limit {
            let message = format!("{} has more than {limit} entries to learn from", folder.display());
            return Err(Error::new(ErrorKind::Limit, message));
        }
        found.push(path);
    }
    Ok(found)
}

/// Reads each file of a folder that ends so; what is beside them is not read, whatever its size and number.
fn each_file(folder: &Path, ends: &[&str], take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    for path in entries(folder, ends, MAX_FILES)? {
        match path.metadata() {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => continue,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(Error::path("look at", &path, source)),
        }
        match read_bounded(&path, MAX_FILE_BYTES) {
            Ok(bytes) => take(&bytes)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Learns what a manifest tells; of one that is none, whatever in it may be a value.
fn manifest(node: &NodeOptions, bytes: &[u8], secrets: &mut Vec<String>) -> Result<()> {
    let text = String::from_utf8_lossy(bytes);
    let (mut is_pod, mut files) = (true, Vec::new());
    let is_yaml = documents(&text, &mut |pod| {
        is_pod &= pod.pointer("/spec/containers").is_some_and(Value::is_array);
        environment(pod, secrets);
        files.extend(secret_files(pod));
    });
    if !is_yaml || !is_pod {
        any_values(&text, secrets);
        files.extend(mentioned_files(&text));
    }
    for path in files.iter().filter(|path| !path.is_empty()) {
        match read_bounded(&node.resolve(Path::new(path)), MAX_FILE_BYTES) {
            Ok(bytes) => words(&String::from_utf8_lossy(&bytes), secrets),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads every document of a YAML text; reports whether all of them could be read.
fn documents(text: &str, take: &mut dyn FnMut(&Value)) -> bool {
    let mut all = true;
    let is_empty = |document: &str| {
        let mut lines = document.lines().map(str::trim);
        lines.all(|line| line.is_empty() || line.starts_with('#') || line.starts_with("---"))
    };
    for document in text.split("\n---").filter(|document| !is_empty(document)) {
        match yaml::from_slice::<Value>(document.as_bytes()) {
            Ok(value) => take(&value),
            Err(_) => all = false,
        }
    }
    all
}

fn keep(secret: &str, least: usize, secrets: &mut Vec<String>) {
    let secret = secret.trim();
    // Logs have the lines of a text one by one, and none of them with what is before and behind it.
    let lines = secret.lines().map(str::trim).filter(|line| *line != secret);
    for known in std::iter::once(secret).chain(lines) {
        // One more than is allowed says that there were too many.
        if known.len() >= least && secrets.len() <= MAX_SECRETS {
            secrets.push(known.to_owned());
        }
    }
}

/// Lines of private keys; certificates are public.
fn key_lines(pem: &str, secrets: &mut Vec<String>) {
    let mut is_private = false;
    for text in pem.lines() {
        if text.starts_with("-----BEGIN") {
            is_private = text.contains("PRIVATE KEY");
        } else if is_private && !text.starts_with("-----") {
            keep(text, LEAST_OF_KEY, secrets);
        }
    }
}

/// Values under names that say so (`client-key-data`, `token`, `password`, `certificateKey`).
fn named_values(value: &Value, secrets: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if is_secret_name(name) => keep(text, LEAST, secrets),
                    other => named_values(other, secrets),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| named_values(item, secrets)),
        _ => {}
    }
}

/// Every value that a manifest puts into an environment: what it is for is not known.
fn environment(pod: &Value, secrets: &mut Vec<String>) {
    for list in ["containers", "initContainers"] {
        let containers = pod.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
        for container in containers.into_iter().flatten() {
            let env = container.get("env").and_then(Value::as_array);
            let values = env.into_iter().flatten().filter_map(|variable| variable.get("value")?.as_str());
            values.for_each(|value| keep(value, LEAST, secrets));
        }
    }
}

fn secret_files(pod: &Value) -> Vec<String> {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let argv = containers.into_iter().flatten().flat_map(|container| {
        ["command", "args"].into_iter().filter_map(|key| container.get(key)?.as_array()).flatten()
    });
    let mut files = Vec::new();
    let mut is_named = false;
    for arg in argv.filter_map(Value::as_str) {
        if is_named {
            files.push(arg.to_owned());
        }
        is_named = SECRET_FILES.contains(&arg);
        files.extend(
            SECRET_FILES.iter().find_map(|flag| Some(arg.strip_prefix(flag)?.strip_prefix('=')?.into())),
        );
    }
    files
}

/// The same out of a text that is no manifest.
fn mentioned_files(text: &str) -> Vec<String> {
    let after = |flag: &str| {
        let found =
            text.match_indices(flag).filter_map(|(at, _)| text.get(at + flag.len()..)?.strip_prefix('='));
        let ends = |c: char| c.is_whitespace() || "\"',]".contains(c);
        found.filter_map(|rest| Some(rest.split(ends).next()?.to_owned())).collect::<Vec<_>>()
    };
    SECRET_FILES.iter().flat_map(|flag| after(flag)).collect()
}

/// What may be a secret in a text of no known form: values by their line, and words that are no names.
fn any_values(text: &str, secrets: &mut Vec<String>) {
    for line in text.lines() {
        if let Some((name, value)) = line.trim_start_matches([' ', '-', '"']).split_once(':')
            && (name == "value" || is_secret_name(name))
        {
            keep(value.trim().trim_matches(['"', '\'']), LEAST, secrets);
        }
    }
    let is_name = |word: &str| {
        let plain = word.chars().all(|c| c.is_ascii_lowercase() || "-_./".contains(c));
        plain || is_path(word) || word.starts_with("--") || word.contains(".io/")
    };
    let words = long_words(text).filter(|word| !is_name(word));
    words.for_each(|word| keep(word, LEAST_OF_KEY, secrets));
}

fn words(text: &str, secrets: &mut Vec<String>) {
    long_words(text).for_each(|word| keep(word, LEAST_OF_KEY, secrets));
}

fn long_words(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "+/=_-.".contains(c);
    text.split(move |c| !is_part(c)).filter(|word| word.len() >= LEAST_OF_KEY)
}
