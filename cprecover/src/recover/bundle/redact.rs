//! Takes secrets out of text: values that are known to be secret on this node, and what looks like one.

use std::path::Path;

use aho_corasick::AhoCorasick;
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::node::NodeOptions;
use crate::parse::yaml;
use crate::sys::read_bounded;

/// What stands in place of a secret.
pub(super) const MARK: &str = "[redacted]";
/// Shorter values are not looked for as such: they would hide half of every text.
const LEAST: usize = 6;
/// Shorter lines of a key are no secret by themselves.
const LEAST_OF_KEY: usize = 16;
const MAX_FILE_BYTES: usize = 1 << 20;
const MAX_FILES: usize = 512;
const MAX_SECRETS: usize = 100_000;

/// Words whose value is a secret, whatever it is.
const NAMES: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "api-key",
    "api_key",
    "key-data",
    "certificatekey",
    "certificate-key",
    "authorization",
];

/// Takes secrets out.
#[derive(Debug)]
pub(super) struct Redactor {
    known: Option<AhoCorasick>,
}

impl Redactor {
    /// Learns this node's secrets: keys, kubeconfigs, tokens, what manifests put into environments, and the
    /// encryption of the API server's objects.
    ///
    /// # Errors
    /// When a file that holds secrets cannot be read: then it is not known what to take out.
    pub(super) fn of_node(node: &NodeOptions) -> Result<Self> {
        let mut secrets = Vec::new();
        for folder in [node.pki_dir.clone(), node.pki_dir.join("etcd"), node.kubelet_dir.join("pki")] {
            each_file(&node.resolve(&folder), &mut |path, bytes| {
                if path.extension().is_some_and(|end| end == "key" || end == "pem") {
                    key_lines(&String::from_utf8_lossy(bytes), &mut secrets);
                }
            })?;
        }
        each_file(&node.resolve(&node.kubernetes_dir), &mut |path, bytes| {
            if path.extension().is_some_and(|end| end == "conf" || end == "yaml") {
                documents(bytes, &mut |value| named_values(value, &mut secrets));
            }
        })?;
        each_file(&node.manifests(), &mut |_, bytes| {
            documents(bytes, &mut |pod| {
                environment(pod, &mut secrets);
                for path in secret_files(pod) {
                    if let Ok(bytes) = read_bounded(&node.resolve(Path::new(&path)), MAX_FILE_BYTES) {
                        words(&String::from_utf8_lossy(&bytes), &mut secrets);
                    }
                }
            });
        })?;
        Self::of(secrets)
    }

    fn of(mut secrets: Vec<String>) -> Result<Self> {
        // In JSON a quote or a backslash of a secret has another form.
        let escaped = secrets.iter().filter(|secret| secret.contains(['"', '\\']));
        let escaped: Vec<String> = escaped
            .filter_map(|secret| Some(serde_json::to_string(secret).ok()?.trim_matches('"').to_owned()))
            .collect();
        secrets.extend(escaped);
        secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        secrets.truncate(MAX_SECRETS);
        if secrets.is_empty() {
            return Ok(Self { known: None });
        }
        // The longest of overlapping ones, so that no end of it is left.
        let known =
            AhoCorasick::builder().match_kind(aho_corasick::MatchKind::LeftmostLongest).build(secrets);
        let failed = |source| Error::with_source(ErrorKind::Internal, "prepare the redaction", source);
        Ok(Self { known: Some(known.map_err(failed)?) })
    }

    /// Takes everything secret out of a text.
    pub(super) fn redact(&self, text: &str) -> String {
        let mut text = private_keys(text);
        if let Some(known) = &self.known {
            text = known.replace_all_with_marks(&text);
        }
        lines(&text)
    }
}

/// Takes out what looks like a secret, on whatever node.
pub(in crate::recover) fn by_looks(text: &str) -> String {
    lines(&private_keys(text))
}

fn lines(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(line).collect();
    lines.join("\n")
}

/// The one call on the automaton.
trait Marks {
    fn replace_all_with_marks(&self, text: &str) -> String;
}

impl Marks for AhoCorasick {
    fn replace_all_with_marks(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        self.replace_all_with(text, &mut out, |_, _, out| {
            out.push_str(MARK);
            true
        });
        out
    }
}

fn each_file(folder: &Path, take: &mut dyn FnMut(&Path, &[u8])) -> Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Error::path("list", folder, source)),
    };
    for entry in entries.take(MAX_FILES) {
        let path = entry.map_err(|source| Error::path("list", folder, source))?.path();
        if !path.is_file() {
            continue;
        }
        match read_bounded(&path, MAX_FILE_BYTES) {
            Ok(bytes) => take(&path, &bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads every document of a YAML text; one that is none holds no named values.
fn documents(bytes: &[u8], take: &mut dyn FnMut(&Value)) {
    let text = String::from_utf8_lossy(bytes);
    for document in text.split("\n---") {
        if let Ok(value) = yaml::from_slice::<Value>(document.as_bytes()) {
            take(&value);
        }
    }
}

fn keep(secret: &str, least: usize, secrets: &mut Vec<String>) {
    let secret = secret.trim();
    if secret.len() >= least && secrets.len() < MAX_SECRETS {
        secrets.push(secret.to_owned());
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

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NAMES.iter().any(|known| name.contains(known))
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

/// Files that the API server reads secrets from.
fn secret_files(pod: &Value) -> Vec<String> {
    const FLAGS: [&str; 3] = ["--encryption-provider-config=", "--token-auth-file=", "--basic-auth-file="];
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let argv = containers.into_iter().flatten().flat_map(|container| {
        ["command", "args"].into_iter().filter_map(|key| container.get(key)?.as_array()).flatten()
    });
    argv.filter_map(Value::as_str)
        .filter_map(|arg| FLAGS.iter().find_map(|flag| arg.strip_prefix(flag)))
        .map(str::to_owned)
        .collect()
}

fn words(text: &str, secrets: &mut Vec<String>) {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "+/=_-.".contains(c);
    for word in text.split(|c| !is_part(c)).filter(|word| word.len() >= LEAST_OF_KEY) {
        keep(word, LEAST_OF_KEY, secrets);
    }
}

/// Takes whole private keys out, with line feeds or with the two characters that JSON has for them.
fn private_keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find("PRIVATE KEY-----") {
        let (before, after) = rest.split_at(begin);
        let start = before.rfind("-----BEGIN").unwrap_or(begin);
        out.push_str(before.get(..start).unwrap_or_default());
        out.push_str(MARK);
        let after = after.strip_prefix("PRIVATE KEY-----").unwrap_or_default();
        rest = match after.find("PRIVATE KEY-----") {
            Some(end) => {
                after.get(end..).and_then(|t| t.strip_prefix("PRIVATE KEY-----")).unwrap_or_default()
            }
            // It does not end in this text, so nothing of the rest is safe.
            None => "",
        };
    }
    out + rest
}

/// Takes out of a line what looks like a secret.
fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // What the word before says of this one.
    let mut expected = false;
    while !rest.is_empty() {
        let length = rest.find(is_delimiter).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        let gap = after.find(|c| !is_delimiter(c)).unwrap_or(after.len());
        let (between, after) = after.split_at(gap);
        let is_path = word.starts_with('/') || word.starts_with("./");
        if word.is_empty() {
        } else if (expected && !is_path && !is_harmless(word)) || looks_secret(word) {
            out.push_str(MARK);
        } else {
            out.push_str(&userinfo(word));
        }
        // A name counts only when its value follows: `token: x`, `"token":"x"`, `--token=x`, `Bearer x`.
        let lower = word.to_ascii_lowercase();
        let assigns = between.contains([':', '=']);
        expected =
            (is_secret_name(&lower) && assigns && !names_a_file(&lower) && !lower.ends_with("v1.secret"))
                || lower == "bearer"
                || lower == "basic";
        out.push_str(between);
        rest = after;
    }
    out
}

const fn is_delimiter(c: char) -> bool {
    matches!(
        c,
        ' ' | '\t'
            | '"'
            | '\''
            | ','
            | ';'
            | '='
            | ':'
            | '{'
            | '}'
            | '['
            | ']'
            | '('
            | ')'
            | '&'
            | '<'
            | '>'
            | '\\'
    )
}

fn names_a_file(name: &str) -> bool {
    ["-file", "-path", "-dir", "file", "-ttl"].iter().any(|end| name.ends_with(end))
}

fn is_harmless(word: &str) -> bool {
    word == MARK.trim_matches(['[', ']']) || word.parse::<f64>().is_ok() || matches!(word, "true" | "false" | "null")
        // `Authorization: Bearer x`: the word after this one is the secret.
        || word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic")
}

/// JSON web tokens and bootstrap tokens (kubernetes `cluster-bootstrap/token/api`, `BootstrapTokenPattern`).
fn looks_secret(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    match parts.as_slice() {
        [head, _, _] => head.starts_with("eyJ") && word.len() >= 40,
        [id, secret] => {
            let plain = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)
        }
        _ => false,
    }
}

/// `user:password@host`: by delimiters the password and the host are one word here.
fn userinfo(word: &str) -> String {
    match word.split_once('@') {
        Some((_, host)) if word.starts_with("//") || !host.contains('@') && host.contains('.') => {
            format!("{MARK}@{host}")
        }
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_taken_out_and_nothing_else() {
        let redactor = Redactor::of(Vec::new()).expect("nothing known");
        let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJlLXNpZ25hdHVyZQ";
        for (text, gone) in [
            (format!("Authorization: Bearer {jwt}"), jwt),
            (format!("got {jwt} from the client"), jwt),
            ("use --token abcdef.0123456789abcdef now".to_owned(), "0123456789abcdef"),
            ("\"password\":\"hunter22\"".to_owned(), "hunter22"),
            ("--etcd-password=hunter22 --v=2".to_owned(), "hunter22"),
            ("client-key-data: LS0tLS1CRUdJTg".to_owned(), "LS0tLS1CRUdJTg"),
            ("proxy http://user:hunter22@proxy.example:3128 refused".to_owned(), "hunter22"),
            ("a -----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- b".to_owned(), "MIIE"),
            (
                "{\"k\":\"-----BEGIN PRIVATE KEY-----\\nMIIE\\n-----END PRIVATE KEY-----\\n\"}".to_owned(),
                "MIIE",
            ),
            ("-----BEGIN PRIVATE KEY-----\nMIIE cut off".to_owned(), "MIIE"),
        ] {
            let clean = redactor.redact(&text);
            assert!(!clean.contains(gone) && clean.contains(MARK), "{text:?} became {clean:?}");
        }
        for text in [
            "--service-account-key-file=/etc/kubernetes/pki/sa.pub --token-auth-file=/etc/tokens",
            "failed to list *v1.Secret: secrets is forbidden",
            "the token has expired, and /healthz says [-]etcd failed: reason withheld",
            "listen tcp 10.10.17.210:2380: bind: address already in use",
            "sha256 1064e2889abcf363a1244bbb34903cd3cad2b54b0c37190f52b04d7786e93eeb",
        ] {
            assert_eq!(redactor.redact(text), text);
        }
    }

    #[test]
    fn known_values_are_taken_out_wherever_they_stand() {
        let redactor = Redactor::of(vec!["s3cr3t".into(), "s3cr3t-and-more".into()]).expect("few");
        assert_eq!(redactor.redact("xs3cr3t-and-morex s3cr3t"), "x[redacted]x [redacted]");
        let quoted = Redactor::of(vec!["a\"b\\c-d-e".into()]).expect("one");
        let json = serde_json::to_string(&["a\"b\\c-d-e"]).expect("serialises");
        assert_eq!(quoted.redact(&json), "[\"[redacted]\"]");
    }
}
