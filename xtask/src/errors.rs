//! The catalogue of error codes against the source: a test that `docs/errors/README.md` has each code, and no other. Writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::tidy::{root, rust_files};

/// Calls whose first literal is a code, and how many arguments come before it.
const MAKERS: &[(&str, usize)] = &[
    ("Error::user(", 0),
    ("Error::retry(", 0),
    ("Error::corrupt(", 0),
    ("Error::new(ErrorKind::", 1),
    ("Self::new(ErrorKind::", 1),
];

/// The code in the arguments at the head of `rest`, when it is a literal.
fn code(rest: &str, skip: usize) -> Option<&str> {
    let argument = if skip == 0 { rest } else { rest.split_once(',')?.1 };
    argument.trim_start().strip_prefix('"')?.split_once('"').map(|(code, _)| code)
}

fn codes_in(text: &str) -> BTreeSet<&str> {
    // `Error::new(` may be broken over lines before its first argument.
    let calls = MAKERS.iter().flat_map(|(maker, skip)| text.split(*maker).skip(1).map(|rest| code(rest, *skip)));
    let broken = text.split("Error::new(\n").skip(1).map(|rest| code(rest, 1));
    calls.chain(broken).flatten().collect()
}

/// Codes of the product, each with a file that uses it; and all source, where a code may also stand in a table.
fn used() -> (BTreeMap<String, String>, String) {
    let (mut codes, mut source) = (BTreeMap::new(), String::new());
    let crates = root().join("crates");
    for entry in fs::read_dir(&crates).expect("the workspace has crates") {
        let mut files = Vec::new();
        rust_files(&entry.expect("a crate can be listed").path().join("src"), &mut files).expect("a crate has src/");
        for file in files.iter().filter(|f| !is_test(f)) {
            let text = fs::read_to_string(file).expect("source is UTF-8");
            for code in codes_in(&text) {
                codes.insert(code.to_owned(), file.display().to_string());
            }
            source.push_str(&text);
        }
    }
    (codes, source)
}

fn is_test(file: &Path) -> bool {
    file.components().any(|c| matches!(c.as_os_str().to_str(), Some("tests" | "tests.rs" | "testing" | "testing.rs")))
}

#[test]
fn every_error_code_is_in_the_catalogue_and_no_other() {
    let page = fs::read_to_string(root().join("docs/errors/README.md")).expect("the catalogue is there");
    let headings: Vec<&str> = page.lines().filter_map(|l| l.strip_prefix("### ")).collect();
    let (used, source) = used();
    assert!(used.len() > 150, "the scan found only {} codes", used.len());
    let missing: Vec<_> = used.iter().filter(|(code, _)| !headings.contains(&code.as_str())).collect();
    assert!(missing.is_empty(), "docs/errors/README.md lacks a heading for {missing:?}");
    let gone: Vec<_> = headings.iter().filter(|h| !source.contains(&format!("\"{h}\""))).collect();
    assert!(gone.is_empty(), "docs/errors/README.md has headings for codes that nothing uses: {gone:?}");
    let unique: BTreeSet<_> = headings.iter().collect();
    assert_eq!(unique.len(), headings.len(), "a code has two headings");
}

#[test]
fn every_entry_of_the_catalogue_says_something() {
    let page = fs::read_to_string(root().join("docs/errors/README.md")).expect("the catalogue is there");
    for entry in page.split("\n### ").skip(1) {
        let (heading, rest) = entry.split_once('\n').unwrap_or((entry, ""));
        let text = rest.split("\n## ").next().unwrap_or_default().trim();
        assert!(text.len() > 40, "`{heading}` has no explanation");
    }
}

#[test]
fn codes_are_found_however_the_call_is_broken() {
    let text = "Error::user(\"a.b\", x); Error::retry(\n    \"c.d\",\n x) Error::new(\n ErrorKind::User,\n \"e.f\") \
                Self::new(ErrorKind::Bug, \"g\", m) Error::user(code, m)";
    assert_eq!(codes_in(text), BTreeSet::from(["a.b", "c.d", "e.f", "g"]));
}
