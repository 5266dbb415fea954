#![allow(clippy::indexing_slicing)]

use super::*;

fn wait() -> contract::Decision {
    contract::Decision {
        rule_id: "r".into(),
        action: contract::Action::Wait(5),
        reason: "because".into(),
        evidence: Vec::new(),
        confidence: 0.5,
        max_attempts: 1,
        cool_down_ms: 0,
    }
}

fn refused(change: impl FnOnce(&mut contract::Decision)) -> String {
    let mut raw = wait();
    change(&mut raw);
    decisions(vec![raw]).expect_err("nonsense must not pass").to_string()
}

#[test]
fn confidence_is_a_number_from_0_to_1() {
    for confidence in [f32::NAN, f32::INFINITY, -0.1, 1.1] {
        assert!(refused(|raw| raw.confidence = confidence).contains("confidence"));
    }
    assert!(decisions(vec![wait()]).is_ok());
}

#[test]
fn answers_lists_and_texts_are_bounded() {
    assert!(decisions(vec![wait(); MAX_DECISIONS]).is_ok());
    let many = decisions(vec![wait(); MAX_DECISIONS + 1]).expect_err("too many").to_string();
    assert!(many.contains("65 decisions"), "{many}");
    let long = "x".repeat(MAX_TEXT_BYTES + 1);
    assert!(refused(|raw| raw.reason.clone_from(&long)).contains("a reason of 2049 bytes"));
    assert!(refused(|raw| raw.rule_id.clone_from(&long)).contains("a rule id"));
    assert!(refused(|raw| raw.evidence = vec![long.clone()]).contains("an evidence id"));
    assert!(refused(|raw| raw.evidence = vec!["e".into(); MAX_ITEMS + 1]).contains("65 pieces"));
    let hints = vec![String::new(); MAX_ITEMS + 1];
    let escalate = contract::Escalate { summary: String::new(), hints };
    assert!(refused(|raw| raw.action = contract::Action::Escalate(escalate)).contains("hints"));
}

#[test]
fn control_characters_never_reach_a_terminal() {
    let mut raw = wait();
    raw.reason = "a\u{1b}[2Jb\nc".into();
    let clean = decisions(vec![raw]).expect("text is cleaned, not refused");
    assert_eq!(clean[0].reason, "a\u{fffd}[2Jb\u{fffd}c");
}

#[test]
fn targets_that_cannot_exist_are_nonsense() {
    let holder = |port, pid| {
        contract::Action::TerminateHolder(contract::TerminateHolder { port, pid, start_ticks: 1 })
    };
    assert!(refused(|raw| raw.action = holder(2380, 0)).contains("no pid"));
    assert!(refused(|raw| raw.action = holder(2380, u32::MAX)).contains("no pid"));
    assert!(refused(|raw| raw.action = holder(0, 7)).contains("port 0"));
    for file in ["../etcd.yaml", "", ".hidden", "/etc/passwd"] {
        assert!(
            refused(|raw| raw.action = contract::Action::QuarantineManifest(file.into()))
                .contains("file name")
        );
    }
}

#[cfg(feature = "wasm-runtime")]
#[test]
fn a_policy_names_itself_in_one_short_line() {
    let good = cprecover_policies::describe(cprecover_policies::Profile::Default);
    assert!(metadata(good.clone()).is_ok());
    for name in ["", "a b", "a\u{1b}[2J", &"x".repeat(65)] {
        assert!(metadata(contract::Metadata { name: name.into(), ..good.clone() }).is_err(), "{name:?}");
    }
    assert!(metadata(contract::Metadata { version: "1\n2".into(), ..good.clone() }).is_err());
    assert!(metadata(contract::Metadata { description: "a\nb".into(), ..good.clone() }).is_err());
    let rule = good.rules[0].clone();
    assert!(metadata(contract::Metadata { rules: vec![rule; MAX_RULES + 1], ..good }).is_err());
}
