//! What kubelet's own files say: its arguments and its configuration.

use serde_json::Value;

use super::yaml;
use crate::error::Result;

/// Returns the value of `--name=value` or `--name value` in a file of kubelet's arguments, such as
/// `KUBELET_KUBEADM_ARGS="--a=b --c=d"`; the last one wins, as in Go's `pflag`.
pub(crate) fn flag<'a>(file: &'a str, name: &str) -> Option<&'a str> {
    let lines = file.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut words =
        lines.flat_map(|line| line.split(['"', '\'', ' ', '\t'])).filter(|word| !word.is_empty()).peekable();
    let mut found = None;
    while let Some(word) = words.next() {
        // Without quotes the first argument stands right behind the variable.
        let word = match word.split_once('=') {
            Some((variable, rest)) if !variable.starts_with('-') => rest,
            _ => word,
        };
        let Some(body) = word.strip_prefix("--") else { continue };
        match body.split_once('=') {
            Some((key, value)) if key == name => found = Some(value),
            None if body == name => found = words.peek().copied(),
            _ => {}
        }
    }
    found.filter(|value| !value.is_empty())
}

/// Returns a text of a `KubeletConfiguration`; an empty one is not given.
///
/// # Errors
/// As [`yaml::from_slice_as_kubelet`].
pub(crate) fn setting(config: &[u8], key: &str) -> Result<Option<String>> {
    // kubelet decodes leniently where strict decoding fails (kubernetes `pkg/kubelet/kubeletconfig/util/codec`).
    let config: Value = yaml::from_slice_as_kubelet(config)?;
    Ok(config.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAG: &str = "container-runtime-endpoint";

    #[test]
    fn a_flag_is_found_however_it_is_quoted_and_the_last_one_wins() {
        for text in [
            "KUBELET_KUBEADM_ARGS=\"--x=y --container-runtime-endpoint=unix:///run/a.sock --z\"\n",
            "KUBELET_EXTRA_ARGS=--container-runtime-endpoint=unix:///run/a.sock\n",
            "KUBELET_EXTRA_ARGS='--container-runtime-endpoint unix:///run/a.sock'\n",
            "A=--container-runtime-endpoint=b\nB=\"--container-runtime-endpoint=unix:///run/a.sock\"",
        ] {
            assert_eq!(flag(text, FLAG), Some("unix:///run/a.sock"), "{text}");
        }
        for text in [
            "",
            "# KUBELET_EXTRA_ARGS=--container-runtime-endpoint=unix:///run/a.sock\n",
            "A=--container-runtime-endpoint=",
            "A=--container-runtime-endpoint-x=b",
            "A=\"--container-runtime-endpoint\"",
        ] {
            assert_eq!(flag(text, FLAG), None, "{text}");
        }
    }

    #[test]
    fn an_empty_setting_is_none_and_a_torn_file_an_error() {
        let read = |text: &str| setting(text.as_bytes(), "containerRuntimeEndpoint");
        assert_eq!(read("containerRuntimeEndpoint: unix:///x\n").expect("reads"), Some("unix:///x".into()));
        assert_eq!(
            read("containerRuntimeEndpoint: \"\"\nkind: KubeletConfiguration\n").expect("reads"),
            None
        );
        let twice = "maxPods: 110\ncontainerRuntimeEndpoint: unix:///x\nmaxPods: 200\n";
        assert_eq!(read(twice).expect("kubelet takes it"), Some("unix:///x".into()));
        assert!(read("containerRuntimeEndpoint: [").is_err());
    }
}
