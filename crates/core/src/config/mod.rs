//! The effective configuration: option keys declared once, values parsed by them.

use std::collections::BTreeMap;

/// The effective configuration: canonical keys to the text the user gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    values: BTreeMap<String, String>,
}

impl Configuration {
    /// The text given for a canonical key.
    pub fn raw(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }
}
