//! Takes secrets out of text: values that are known to be secret on this node, and what looks like one.

use aho_corasick::AhoCorasick;

use super::go_values::go_values;
use super::keys::private_keys;
use super::learn::{MAX_SECRETS, secrets_of};
use super::looks::{MARK, userinfo_of_urls, values};
use crate::error::{Error, ErrorKind, Result};
use crate::node::NodeOptions;

/// Takes secrets out.
#[derive(Debug)]
pub(super) struct Redactor {
    known: Option<AhoCorasick>,
}

impl Redactor {
    /// Learns this node's secrets: keys, kubeconfigs, tokens, what manifests, also those in the store, put into
    /// environments, and the encryption of the API server's objects.
    ///
    /// # Errors
    /// When a file that holds secrets cannot be read: then it is not known what to take out.
    pub(super) fn of_node(node: &NodeOptions) -> Result<Self> {
        Self::of(secrets_of(node)?)
    }

    fn of(mut secrets: Vec<String>) -> Result<Self> {
        if secrets.len() > MAX_SECRETS {
            return Err(Error::new(ErrorKind::Limit, format!("the node has over {MAX_SECRETS} secrets")));
        }
        // In JSON a quote or a backslash of a secret has another form.
        let escaped = secrets.iter().filter(|secret| secret.contains(['"', '\\']));
        let escaped: Vec<String> = escaped
            .filter_map(|secret| Some(serde_json::to_string(secret).ok()?.trim_matches('"').to_owned()))
            .collect();
        secrets.extend(escaped);
        secrets.sort_unstable();
        secrets.dedup();
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
        let mut text = go_values(&private_keys(text));
        if let Some(known) = &self.known {
            text = known.replace_all_with_marks(&text);
        }
        values(&userinfo_of_urls(&text))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_are_taken_out_wherever_they_stand() {
        let redactor = Redactor::of(vec!["s3cr3t".into(), "s3cr3t-and-more".into()]).expect("few");
        assert_eq!(redactor.redact("xs3cr3t-and-morex s3cr3t"), "x[redacted]x [redacted]");
        let quoted = Redactor::of(vec!["a\"b\\c-d-e".into()]).expect("one");
        let json = serde_json::to_string(&["a\"b\\c-d-e"]).expect("serialises");
        assert_eq!(quoted.redact(&json), "[\"[redacted]\"]");
    }

    #[test]
    fn what_is_not_known_whole_is_no_redaction() {
        let many = (0..=MAX_SECRETS).map(|count| format!("secret {count}")).collect();
        assert_eq!(Redactor::of(many).expect_err("too many").kind(), ErrorKind::Limit);
    }
}
