//! `cargo xtask docs`: writes the pages that are generated from code. `--check` is the test that they are current.

use std::fs;

use crate::tidy::root;

/// The generated pages.
fn pages() -> Vec<(&'static str, String)> {
    vec![
        ("docs/options.md", flott_core::config::docs_markdown()),
        ("docs/connectors.md", flott_connectors::options_markdown()),
        ("docs/compat/functions.md", crate::functions::markdown()),
    ]
}

/// Writes the pages.
pub fn run() -> Result<(), String> {
    for (path, text) in pages() {
        fs::write(root().join(path), text).map_err(|e| format!("{path}: {e}"))?;
        println!("{path}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use flott_core::config::{OPTIONS, Status};

    #[test]
    fn the_generated_pages_are_current() {
        for (path, text) in super::pages() {
            let on_disk = fs::read_to_string(crate::tidy::root().join(path)).unwrap_or_default();
            assert!(on_disk == text, "{path} is not what the code says: run `cargo xtask docs`");
        }
    }

    /// An option works, or says that it does not: one without rules for its values that no code reads would be ignored in silence.
    #[test]
    fn every_option_that_is_said_to_work_is_read() {
        let root = crate::tidy::root();
        let names = fs::read_to_string(root.join("crates/core/src/config/keys.rs")).expect("the keys are there");
        let mut files = Vec::new();
        crate::tidy::rust_files(&root.join("crates"), &mut files).expect("the crates can be read");
        let elsewhere = files.iter().filter(|f| !f.starts_with(root.join("crates/core/src/config")));
        let code: Vec<String> = elsewhere.map(|f| fs::read_to_string(f).expect("source is UTF-8")).collect();
        for option in OPTIONS.iter().filter(|o| o.status == Status::Works && o.values.is_empty()) {
            let declared = format!(" = \"{}\";", option.key);
            let line = names.lines().find_map(|l| l.strip_suffix(&declared)).unwrap_or_default().trim();
            assert!(!line.is_empty(), "`{}` has no name in keys.rs", option.key);
            let name = format!("keys::{line}");
            let read = code.iter().any(|text| {
                text.match_indices(&name)
                    .any(|(at, _)| !text[at + name.len()..].starts_with(|c: char| c == '_' || c.is_alphanumeric()))
            });
            assert!(read, "no code reads `{}`: declare it with a notice, or refuse its values", option.key);
        }
    }
}
