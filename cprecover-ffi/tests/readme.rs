//! The programs in the README are the very files that are tested, and short.

use std::path::Path;

/// The fenced blocks of a language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("\n```{language}\n");
    text.split(fence.as_str()).skip(1).map(|rest| rest.split("\n```").next().expect("an end")).collect()
}

fn is_the_file(language: &str, file: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("README.md");
    let source = std::fs::read_to_string(root.join(file)).expect("an example");
    let blocks = blocks(&readme, language);
    let [block] = blocks.as_slice() else { panic!("{} programs in {language}", blocks.len()) };
    for (number, (readme, source)) in block.lines().zip(source.lines()).enumerate() {
        assert_eq!(readme, source, "README.md is not {file} in line {}", number + 1);
    }
    assert_eq!(block.trim_end(), source.trim_end(), "README.md is not {file}");
    let lines = source.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines <= 40, "{file} has {lines} lines that are not blank");
}

#[test]
fn the_c_program_is_the_example() {
    is_the_file("c", "examples/c/recover.c");
}

#[test]
fn the_go_program_is_the_example() {
    is_the_file("go", "examples/go/main.go");
}
