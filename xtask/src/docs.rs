//! `cargo xtask docs`: writes the pages that are generated from code. `--check` is the test that they are current.

use std::fs;

use crate::tidy::root;

/// The generated pages.
fn pages() -> Vec<(&'static str, String)> {
    vec![
        ("docs/options.md", flott_core::config::docs_markdown()),
        ("docs/connectors.md", flott_connectors::options_markdown()),
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
    #[test]
    fn the_generated_pages_are_current() {
        for (path, text) in super::pages() {
            let on_disk = std::fs::read_to_string(crate::tidy::root().join(path)).unwrap_or_default();
            assert!(on_disk == text, "{path} is not what the code says: run `cargo xtask docs`");
        }
    }
}
