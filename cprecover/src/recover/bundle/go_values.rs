//! Takes values out of containers as Go prints them.
//!
//! When a container does not start, kubelet logs all of it (kubernetes `pkg/kubelet/kuberuntime/kuberuntime_manager.go`,
//! "container %+v start failed in pod %v"), with `EnvVar{Name:A,Value:x,ValueFrom:nil,}` for each variable
//! (`staging/src/k8s.io/api/core/v1/generated.pb.go`, `EnvVar.String`). Whatever its name, a value may be a secret.

use super::looks::MARK;

const VARIABLE: &str = "EnvVar{Name:";
/// A probe's header: `HTTPHeader{Name:Authorization,Value:x,}`.
const HEADER: &str = "HTTPHeader{Name:";
const VALUE: &str = "Value:";
/// What stands after a variable's value.
const AFTER_VARIABLE: &str = "ValueFrom:";
const AFTER_HEADER: &str = ",},";

/// Takes the values of variables and headers out, also where the text is cut in their midst.
pub(super) fn go_values(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let first = next(text).unwrap_or(text.len());
    let (before, mut rest) = text.split_at(first);
    out.push_str(&without_cut_start(before));
    while !rest.is_empty() {
        let opening = if rest.starts_with(HEADER) { HEADER } else { VARIABLE };
        let inner = rest.get(opening.len()..).unwrap_or_default();
        let end = next(inner).map_or(rest.len(), |next| opening.len() + next);
        let (item, after) = rest.split_at(end);
        out.push_str(&without_value(item, opening));
        rest = after;
    }
    out
}

/// Where the next variable or header begins.
fn next(text: &str) -> Option<usize> {
    [VARIABLE, HEADER].iter().filter_map(|opening| text.find(opening)).min()
}

/// Takes the value out of a text that begins with a variable or a header and holds no other.
fn without_value(item: &str, opening: &str) -> String {
    let name = item.lines().next().unwrap_or_default();
    let Some(at) = name.find(VALUE) else { return item.to_owned() };
    let (head, rest) = item.split_at(at + VALUE.len());
    let end = if opening == HEADER {
        rest.find(AFTER_HEADER)
    } else {
        // The last one: what looks like the end may be in the value.
        rest.rfind(AFTER_VARIABLE)
            .map(|at| rest.get(..at).unwrap_or_default().trim_end_matches([',', ' ']).len())
    };
    let (value, tail) = rest.split_at(end.unwrap_or_else(|| end_of_cut(rest)));
    // A value that is not there tells a person something.
    let mark = if value.trim_matches('"').is_empty() { value } else { MARK };
    [head, mark, tail].concat()
}

/// Where a cut text ends: with its line, or with the JSON string that it is in.
fn end_of_cut(text: &str) -> usize {
    let line = text.lines().next().unwrap_or_default();
    let inner = line.trim_end_matches(',');
    inner.strip_suffix('"').map_or(line.len(), str::len)
}

/// Takes out the rest of values whose beginning was cut off, with their line up to there.
fn without_cut_start(text: &str) -> String {
    let clean = |line: &str| {
        let Some((cut, after)) = line.rsplit_once(AFTER_VARIABLE) else { return line.to_owned() };
        // In JSON the name and the quote before it stay.
        let named = cut.find("\": \"").map(|at| at + 4);
        let quoted = || cut.trim_start().starts_with('"').then(|| cut.find('"').map_or(0, |at| at + 1));
        let kept = cut.get(..named.or_else(quoted).unwrap_or_default()).unwrap_or_default();
        [kept, MARK, ",", AFTER_VARIABLE, after].concat()
    };
    text.split_inclusive('\n').map(clean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of kubelet 1.34, shortened.
    fn line(value: &str) -> String {
        format!(
            "E0610 12:00:00.1 1 kuberuntime_manager.go:1341] \"Unhandled Error\" err=\"container &Container{{Name:db,\
             Image:postgres,Env:[]EnvVar{{EnvVar{{Name:DB_PASSWORD,Value:{value},ValueFrom:nil,}},EnvVar{{Name:\
             FROM,Value:,ValueFrom:&EnvVarSource{{SecretKeyRef:&SecretKeySelector{{Key:pw,}},}},}},EnvVar{{Name:\
             LAST,Value:{value},ValueFrom:nil,}},}},LivenessProbe:&Probe{{HTTPHeaders:[]HTTPHeader{{HTTPHeader{{\
             Name:X-Any,Value:{value},}},}},}},}} start failed in pod db_default(1): CrashLoopBackOff\"\n"
        )
    }

    #[test]
    fn the_values_of_a_container_are_taken_out_whatever_their_names() {
        for value in ["Tr0ub4dor-pg", "a,b}{c", "two\\nlines", "two\n\tlines", "of,ValueFrom:nil,}Tr0ub4dor"]
        {
            let clean = go_values(&format!("I0610 well\n{}I0610 good\n", line(value)));
            assert!(
                !clean.contains("Tr0ub4dor") && !clean.contains("lines") && !clean.contains(",b}"),
                "{clean}"
            );
            assert!(clean.starts_with("I0610 well\nE0610") && clean.ends_with("\nI0610 good\n"), "{clean}");
            for stays in [
                "Name:DB_PASSWORD,Value:[redacted],ValueFrom:nil",
                "Key:pw",
                "Value:,ValueFrom:&",
                "in pod db",
            ] {
                assert!(clean.contains(stays), "{stays} in {clean}");
            }
            assert_eq!(go_values(&clean), clean);
        }
        let printed = r#"v1.EnvVar{Name:"A", Value:"Tr0ub4dor", ValueFrom:(*v1.EnvVarSource)(nil)}"#;
        assert_eq!(go_values(printed), printed.replace("\"Tr0ub4dor\"", MARK));
    }

    #[test]
    fn a_cut_at_any_place_leaves_no_value() {
        let whole = line("Tr0ub4dor-Tr0ub4dor");
        for cut in 0..whole.len() {
            let (head, tail) = whole.split_at(cut);
            let clean = go_values(&format!("well\n{head}\ngood\n"));
            assert!(!clean.contains("Tr0") && clean.ends_with("\ngood\n"), "{cut}: {clean}");
            // The values of a header that is cut at its start look like nothing.
            if cut < whole.find("LivenessProbe").expect("there") {
                let clean = go_values(&format!("{tail}good\n"));
                assert!(!clean.contains("dor") && clean.ends_with("\ngood\n"), "{cut}: {clean}");
            }
            let json = serde_json::json!({"a": [head], "line": head, "rest": tail, "b": 1});
            let text = serde_json::to_string_pretty(&json).expect("serialises");
            let clean: serde_json::Value = serde_json::from_str(&go_values(&text)).expect("is JSON still");
            assert_eq!(clean.get("b"), Some(&serde_json::Value::from(1)), "{cut}: {clean}");
        }
    }

    #[test]
    fn what_is_cut_at_its_start_leaves_json_as_it_is() {
        let json = serde_json::json!({"a": "dor,ValueFrom:nil,}", "b": ["dor,ValueFrom:nil,}"], "c": 1});
        let text = go_values(&serde_json::to_string_pretty(&json).expect("serialises"));
        let clean: serde_json::Value = serde_json::from_str(&text).expect("is JSON still");
        let gone = "[redacted],ValueFrom:nil,}";
        assert_eq!(clean, serde_json::json!({"a": gone, "b": [gone], "c": 1}));
    }

    #[test]
    fn other_text_stays() {
        for text in ["", "no values", "Value: 3", "EnvVar{Name:A", "Env:[]EnvVar{},\nValue: 3\n"] {
            assert_eq!(go_values(text), text);
        }
    }
}
