#![allow(clippy::indexing_slicing, reason = "tests")]

use super::*;

fn names<'a>(checks: impl Iterator<Item = &'a Check>) -> Vec<&'a str> {
    checks.map(|check| check.name.as_str()).collect()
}

#[test]
fn the_incident_reads_the_same_in_lines_in_one_line_and_with_crlf() {
    let lines =
        "[+]ping ok\n[-]log failed: reason withheld\n[-]etcd failed: reason withheld\nhealthz check failed\n";
    let forms = [
        lines.to_owned(),
        lines.replace('\n', "\r\n"),
        lines.trim_end().replace('\n', " "),
        lines.lines().fold(String::new(), |text, line| text + "   > " + line + "\n"),
        format!("\u{feff}{lines}"),
    ];
    for form in forms {
        let report = parse(form.as_bytes());
        assert_eq!(report.verdict, Verdict::Unhealthy, "{form:?}");
        assert_eq!(names(report.failed()), ["log", "etcd"], "{form:?}");
        assert_eq!(report.endpoint.as_deref(), Some("healthz"), "{form:?}");
        assert_eq!(report.checks[0].state, CheckState::Ok);
        assert_eq!(report.checks[2].reason, None, "a withheld reason is no reason");
        assert!(report.unknown_lines.is_empty(), "{report:?}");
    }
    assert!(meaning("log").expect("known").meaning.contains("not etcd"));
}

#[test]
fn kubectls_wrapped_form() {
    let text = r#"Error from server (InternalError): an error on the server ("[+]ping ok\n[-]etcd failed: reason withheld\n[+]poststarthook/rbac/bootstrap-roles ok\nhealthz check failed") has prevented the request from succeeding"#;
    let report = parse(text.as_bytes());
    assert_eq!(report.verdict, Verdict::Unhealthy);
    assert_eq!(names(report.failed()), ["etcd"]);
    assert_eq!(report.checks[2].name, "poststarthook/rbac/bootstrap-roles");
    let status = serde_json::json!({"kind": "Status", "code": 500, "message": "an error on the server",
        "details": {"causes": [{"reason": "UnexpectedServerResponse", "message": "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed"}]}});
    let report = parse(status.to_string().as_bytes());
    assert_eq!(names(report.failed()), ["etcd"]);
    assert_eq!((report.code, report.endpoint.as_deref()), (Some(500), Some("readyz")));
}

#[test]
fn excluded_checks_and_warnings() {
    let text = "[+]ping ok\n[+]etcd excluded: ok\n[+]etcd-override-0 excluded with etcd: ok\n\
                warn: some health checks cannot be excluded: no matches for \"foo\",\"bar\"\nlivez check passed";
    for form in [text.to_owned(), text.replace('\n', " ")] {
        let report = parse(form.as_bytes());
        assert_eq!(report.verdict, Verdict::Healthy);
        assert_eq!(report.checks[1].state, CheckState::Excluded);
        assert_eq!(report.checks[2].reason.as_deref(), Some("etcd"), "{form}");
        assert_eq!(
            report.warnings,
            ["some health checks cannot be excluded: no matches for \"foo\",\"bar\""],
            "{form}"
        );
    }
}

#[test]
fn etcd_forms() {
    assert_eq!(parse(br#"{"health":"true"}"#).verdict, Verdict::Healthy);
    assert_eq!(parse(br#"{"health":true,"reason":""}"#).verdict, Verdict::Healthy);
    let report = parse(br#"{"health":"false","reason":"ALARM NOSPACE"}"#);
    assert_eq!(report.verdict, Verdict::Unhealthy);
    assert!(report.meanings()[0].1.expect("known").meaning.contains("quota"));
    let report = parse(b"[-]linearizable_read failed: etcdserver: leader changed\n[+]data_corruption ok\n");
    assert_eq!(report.verdict, Verdict::Unhealthy, "no trailer is needed for a failure");
    assert_eq!(report.checks[0].reason.as_deref(), Some("etcdserver: leader changed"));
    for form in ["[+]serializable_read ok\nok\n", "[+]serializable_read ok ok"] {
        assert_eq!(parse(form.as_bytes()).verdict, Verdict::Healthy, "{form}");
    }
}

#[test]
fn alive_but_undetermined() {
    let forbidden = br#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"forbidden: User \"system:anonymous\" cannot get path \"/healthz\"","reason":"Forbidden","code":403}"#;
    assert_eq!(parse(forbidden).verdict, Verdict::AliveUndetermined);
    assert_eq!(parse_response(Some(401), b"Unauthorized").verdict, Verdict::AliveUndetermined);
    assert_eq!(parse_response(Some(403), b"ok").verdict, Verdict::AliveUndetermined);
    assert_eq!(parse_response(Some(404), b"404 page not found\n").verdict, Verdict::AliveUndetermined);
    assert_eq!(parse_response(Some(200), b"").verdict, Verdict::AliveUndetermined);
    assert_eq!(parse_response(Some(500), b"ok").verdict, Verdict::Unhealthy);
    let cut = parse(b"[+]ping ok\n[+]log ok\n");
    assert_eq!(cut.verdict, Verdict::AliveUndetermined, "the rest of the answer is missing");
}

#[test]
fn logs_and_sub_paths_tell_the_reason() {
    let report = parse(
        b"I0610 14:06:40.5 1 healthz.go:261] etcd,log check failed: healthz\n\
          [-]etcd failed: error getting data from etcd: context deadline exceeded\n[-]log failed: logging blocked\n",
    );
    assert_eq!(report.message.as_deref(), Some("etcd,log"));
    assert_eq!(
        report.checks[0].reason.as_deref(),
        Some("error getting data from etcd: context deadline exceeded")
    );
    let report = parse(b"internal server error: etcd failed: reason withheld");
    assert_eq!(report.verdict, Verdict::Unhealthy);
    assert_eq!(report.message.as_deref(), Some("etcd failed: reason withheld"));
}

#[test]
fn what_is_unknown_is_kept_and_says_nothing() {
    let report = parse(b"curl: (7) Failed to connect to localhost port 6443\n[x]y\n");
    assert_eq!(report.verdict, Verdict::Unknown);
    assert_eq!(report.unknown_lines.len(), 2);
    assert_eq!(parse(b"").verdict, Verdict::Unknown);
    assert_eq!(parse(b"{\"a\":1}").verdict, Verdict::Unknown);
    let flood = "x\n".repeat(10_000);
    let report = parse(flood.as_bytes());
    assert!(report.truncated);
    assert_eq!(report.unknown_lines.len(), Report::MAX_UNKNOWN_LINES);
}

#[test]
fn every_recorded_answer_parses() {
    let healthy = [
        "apiserver-healthz-verbose.txt",
        "apiserver-healthz.txt",
        "apiserver-livez-verbose.txt",
        "apiserver-livez.txt",
        "apiserver-readyz-verbose-exclude.txt",
        "apiserver-readyz-verbose.txt",
        "apiserver-readyz.txt",
        "etcd-health.json",
        "etcd-livez-verbose.txt",
        "etcd-readyz-verbose.txt",
        "kcm-healthz.txt",
        "scheduler-healthz.txt",
        "scheduler-livez.txt",
    ];
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/health");
    let read = |name: &str| parse(&std::fs::read(dir.join(name)).expect(name));
    for name in healthy {
        let report = read(name);
        assert_eq!(report.verdict, Verdict::Healthy, "{name}: {report:?}");
        assert!(report.unknown_lines.is_empty(), "{name}: {report:?}");
        assert!(report.failed().next().is_none());
    }
    let hung = read("apiserver-healthz-etcd-hung.txt");
    assert_eq!(names(hung.failed()), ["etcd"]);
    assert_eq!((hung.verdict, hung.checks.len()), (Verdict::Unhealthy, 36));
    assert_eq!(read("api-403.json").verdict, Verdict::AliveUndetermined);
    assert_eq!(read("apiserver-version.json").verdict, Verdict::AliveUndetermined);
}

proptest::proptest! {
    #[test]
    fn the_short_way_gives_what_the_long_way_gives(name in "\\PC{0,12}|[!-~]{1,12}", tail in " ok|  ok| ok |\tok|ok| ok\r") {
        // A quoted line goes the long way.
        let line = format!("[+]{name}{tail}");
        let (short, long) = (parse(line.as_bytes()), parse(format!("> {line}").as_bytes()));
        proptest::prop_assert_eq!(short, long);
    }

    #[test]
    fn no_byte_soup_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..3000)) {
        let report = parse(&bytes);
        proptest::prop_assert!(report.verdict != Verdict::Healthy || report.failed().next().is_none());
    }
}
