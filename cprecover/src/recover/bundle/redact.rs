//! Takes secrets out of text: values that are known to be secret on this node, and what looks like one.

use aho_corasick::AhoCorasick;

use super::go_values::go_values;
use super::json_values::json_values;
use super::keys::private_keys;
use super::learn::{MAX_SECRETS, secrets_of};
use super::looks::{MARK, userinfo_of_urls, values};
use crate::error::{Error, ErrorKind, Result};
use crate::node::NodeOptions;

/// JSON in a message that a component logs in JSON is text within text in an observation.
const MAX_DEPTH: usize = 3;

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
        let escaped: Vec<String> = secrets.iter().flat_map(|secret| escaped_forms(secret)).collect();
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
        let mut text = json_values(&go_values(&private_keys(text)));
        if let Some(known) = &self.known {
            text = known.replace_all_with_marks(&text);
        }
        values(&userinfo_of_urls(&text))
    }
}

/// The forms that a secret has in JSON, and as text within JSON, where they are others.
fn escaped_forms(secret: &str) -> Vec<String> {
    let mut forms = Vec::new();
    let mut last = secret.to_owned();
    for _ in 0..MAX_DEPTH {
        let Ok(json) = serde_json::to_string(&last) else { break };
        let inner = json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or_default();
        if inner == last {
            break;
        }
        inner.clone_into(&mut last);
        forms.push(last.clone());
    }
    forms
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
    fn what_json_writes_otherwise_is_known_in_that_form_too() {
        for secret in ["two\nlines-of-it", "a\ttab-in-it", "a-bell\u{7}-in-it", "ends-with-\"", "a\"b\\c-d-e"]
        {
            let redactor = Redactor::of(vec![secret.to_owned()]).expect("one");
            let mut text = secret.to_owned();
            let mut wanted = MARK.to_owned();
            for depth in 0..=MAX_DEPTH {
                assert_eq!(redactor.redact(&text), wanted, "{secret:?} in {depth} texts");
                text = serde_json::to_string(&[text]).expect("serialises");
                wanted = serde_json::to_string(&[wanted]).expect("serialises");
            }
        }
    }

    #[test]
    fn what_is_not_known_whole_is_no_redaction() {
        let many = (0..=MAX_SECRETS).map(|count| format!("secret {count}")).collect();
        assert_eq!(Redactor::of(many).expect_err("too many").kind(), ErrorKind::Limit);
    }
}
