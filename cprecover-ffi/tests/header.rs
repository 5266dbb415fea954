//! The checked-in header is what cbindgen makes of the sources.

use std::path::Path;

/// Makes the header; its version macros come from the crate's version, nothing is typed twice.
fn generate() -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut config = cbindgen::Config::from_file(dir.join("cbindgen.toml")).expect("cbindgen.toml parses");
    config.header = Some(include_str!("contract.txt").trim_end().to_owned());
    config.after_includes = Some(format!(
        "\n/** The version of this header. */\n#define CPR_VERSION \"{}\"\n#define CPR_VERSION_MAJOR {}\n\
         #define CPR_VERSION_MINOR {}\n#define CPR_VERSION_PATCH {}",
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_VERSION_MAJOR"),
        env!("CARGO_PKG_VERSION_MINOR"),
        env!("CARGO_PKG_VERSION_PATCH"),
    ));
    let mut header = Vec::new();
    let mut builder = cbindgen::Builder::new().with_config(config);
    // In the order of a reader.
    for file in SOURCES {
        builder = builder.with_src(dir.join("src").join(file));
    }
    builder.generate().expect("cbindgen reads the sources").write(&mut header);
    String::from_utf8(header).expect("utf-8")
}

const SOURCES: [&str; 20] = [
    "version.rs",
    "status.rs",
    "names.rs",
    "error.rs",
    "buf.rs",
    "cancel.rs",
    "call.rs",
    "node.rs",
    "healthz.rs",
    "port.rs",
    "backup.rs",
    "policy.rs",
    "observe.rs",
    "plan.rs",
    "regenerate.rs",
    "pods.rs",
    "etcd.rs",
    "bundle.rs",
    "watch.rs",
    "audit.rs",
];

#[test]
fn the_header_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../include/cprecover.h");
    let fresh = generate();
    if std::env::var_os("CPRECOVER_BLESS").is_some() {
        std::fs::write(&path, &fresh).expect("write the header");
    }
    let checked_in = std::fs::read_to_string(&path).expect("include/cprecover.h");
    for (number, (old, new)) in checked_in.lines().zip(fresh.lines()).enumerate() {
        assert_eq!(old, new, "include/cprecover.h line {}: run again with CPRECOVER_BLESS=1", number + 1);
    }
    assert_eq!(checked_in, fresh, "include/cprecover.h: run again with CPRECOVER_BLESS=1");
}

#[test]
fn the_documentation_has_the_contract() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/c-abi.md");
    let text = std::fs::read_to_string(path).expect("docs/c-abi.md");
    let shown =
        text.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the contract");
    let contract: Vec<&str> = include_str!("contract.txt")
        .lines()
        .filter(|line| !["/*", " */"].contains(line))
        .map(|line| line.strip_prefix(" * ").unwrap_or(""))
        .collect();
    assert_eq!(shown.trim(), contract.join("\n").trim(), "docs/c-abi.md shows tests/contract.txt");
    let count = include_str!("symbols.txt").lines().count();
    assert!(text.contains(&format!("{count} functions")), "docs/c-abi.md: {count} functions");
}
