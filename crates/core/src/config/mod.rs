//! The effective configuration: option keys declared once, values parsed by them. Never reads files or the environment: the
//! caller hands in text.

mod docs;
mod files;
pub mod keys;
mod known;
mod lint;
mod options;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;
use std::fmt;

use crate::error::{Error, Result};
pub use docs::docs_markdown;
use known::Table;
pub use options::{OPTIONS, OptionDef, Status, ValueRule};
pub use value::{OptionKind, match_enum, parse_bool, parse_duration_ms, parse_list, parse_map, parse_memory_bytes};

/// What is shown instead of a secret.
pub const REDACTED: &str = "******";

/// Something the user should know about an option that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The option, as the user wrote it.
    pub key: String,
    /// What kind of notice.
    pub kind: NoticeKind,
    /// One sentence.
    pub message: String,
}

/// Kinds of notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoticeKind {
    /// A former name or value; the current one is in the message.
    Deprecated,
    /// Accepted, has no effect here.
    NoEffect,
    /// Works, with a consequence that may surprise.
    Consequence,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "option `{}`: {}", self.key, self.message)
    }
}

/// Whether the value of `key` must not be shown.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    const PARTS: &[&str] = &[
        "password",
        "passwd",
        "secret",
        "token",
        "apikey",
        "api-key",
        "access-key",
        "access.key",
        "account.key",
        "service-key",
        "auth-params",
        "basic-auth",
        "credential",
        "jaas.config",
        "http-headers",
        "client.authorization",
        "keystore.key",
        "key.pem",
    ];
    PARTS.iter().any(|p| key.contains(p))
}

/// The effective configuration: canonical keys to the text the user gave.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    values: BTreeMap<String, String>,
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter_redacted()).finish()
    }
}

impl Configuration {
    /// An empty configuration: every option has its default.
    pub fn new() -> Self {
        Self::default()
    }
    /// The text given for a canonical key.
    pub fn raw(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }
    /// The declaration of an option, by its current key or a former name.
    pub fn option(key: &str) -> Option<&'static OptionDef> {
        let table = Table::get();
        table.option(table.current(key).unwrap_or(key))
    }
    /// Sets an option; a former name sets the current one. `User` error when there is no such option, or the value does not
    /// fit it, or Flott refuses it.
    pub fn set(&mut self, key: &str, value: &str) -> Result<Vec<Notice>> {
        let key = key.trim();
        let table = Table::get();
        let mut notices = Vec::new();
        let mut tell = |kind, message: String| notices.push(Notice { key: key.to_owned(), kind, message });
        // A key that is still an option of its own is not a former name.
        let current = if table.option(key).is_some() { None } else { table.current(key) };
        if let Some(current) = current {
            tell(NoticeKind::Deprecated, format!("this is a former name; it is now `{current}`"));
        }
        let name = current.unwrap_or(key);
        let Some(option) = table.option(name) else {
            let Some(why) = table.family(name) else { return Err(unknown(name)) };
            tell(NoticeKind::NoEffect, format!("it has no effect: {why}"));
            self.values.insert(name.to_owned(), value.trim().to_owned());
            return Ok(notices);
        };
        let mut text = value.trim();
        for rule in option.values {
            if let ValueRule::Former(former, now) = rule
                && match_enum(&[*former], text).is_some()
            {
                tell(NoticeKind::Deprecated, format!("the value '{text}' is a former name; it is now '{now}'"));
                text = now;
            }
        }
        let text = option.kind.check(name, text)?;
        for rule in option.values {
            match rule {
                ValueRule::Refuse(refused, why) if match_enum(&[*refused], &text).is_some() => {
                    return Err(
                        Error::user("config.refused", format!("option `{name}` cannot be '{text}'")).detail(*why)
                    );
                }
                ValueRule::Note(noted, what) if match_enum(&[*noted], &text).is_some() => {
                    tell(NoticeKind::Consequence, (*what).to_owned());
                }
                _ => {}
            }
        }
        match option.status {
            Status::Works => check_range(name, &text)?,
            Status::Notice(why) => tell(NoticeKind::NoEffect, format!("it has no effect: {why}")),
            Status::Refused(why) => {
                return Err(Error::user("config.refused", format!("option `{name}` is not supported")).detail(why));
            }
        }
        self.values.insert(name.to_owned(), text);
        Ok(notices)
    }
    /// Sets an option from `key=value`, as `-D` has it.
    pub fn set_property(&mut self, property: &str) -> Result<Vec<Notice>> {
        match property.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => self.set(key, value),
            _ => Err(Error::user("config.property", format!("'{property}' is not an option"))
                .detail("expected key=value")
                .hint("for example -D parallelism.default=2")),
        }
    }
    /// Forgets what was set for a key (or its former name); `User` error when there is no such option.
    pub fn reset(&mut self, key: &str) -> Result<()> {
        let table = Table::get();
        let name = table.current(key).filter(|_| table.option(key).is_none()).unwrap_or(key);
        if table.option(name).is_none() && table.family(name).is_none() {
            return Err(unknown(key));
        }
        self.values.remove(name);
        Ok(())
    }
    /// Forgets everything that was set.
    pub fn reset_all(&mut self) {
        self.values.clear();
    }
    /// Takes over everything that is set in `other`.
    pub fn merge(&mut self, other: &Configuration) {
        self.values.extend(other.values.iter().map(|(k, v)| (k.clone(), v.clone())));
    }
    /// Whether the option was set.
    pub fn is_set(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }
    /// What was set, by canonical key, in order of keys. Holds secrets: see [`Configuration::iter_redacted`].
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
    /// What was set, with secrets hidden.
    pub fn iter_redacted(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().map(|(k, v)| (k, if is_secret(k) { REDACTED } else { v }))
    }
    /// The value or the declared default.
    pub fn string(&self, key: &str) -> Option<String> {
        self.text(key).map(str::to_owned)
    }
    /// A duration in milliseconds; `None` when it is not set and has no default.
    pub fn duration_ms(&self, key: &str) -> Option<i64> {
        self.text(key).and_then(parse_duration_ms)
    }
    /// A memory size in bytes; `None` when it is not set and has no default.
    pub fn memory_bytes(&self, key: &str) -> Option<u64> {
        self.text(key).and_then(parse_memory_bytes)
    }
    /// A switch; false when it is not set and has no default.
    pub fn bool(&self, key: &str) -> bool {
        self.text(key).and_then(parse_bool).unwrap_or(false)
    }
    /// A whole number; `None` when it is not set and has no default.
    pub fn int(&self, key: &str) -> Option<i64> {
        self.text(key).and_then(|t| t.parse().ok())
    }
    /// A decimal number; `None` when it is not set and has no default.
    pub fn double(&self, key: &str) -> Option<f64> {
        self.text(key).and_then(|t| t.parse().ok())
    }
    /// An enum's value in its declared spelling; `None` when it is not set and has no default.
    pub fn enum_value(&self, key: &str) -> Option<&'static str> {
        let OptionKind::Enum(names) = Self::option(key)?.kind else { return None };
        match_enum(names, self.text(key)?)
    }
    /// Items of a list.
    pub fn list(&self, key: &str) -> Vec<String> {
        self.text(key).map(parse_list).unwrap_or_default()
    }
    /// Entries of a map.
    pub fn map(&self, key: &str) -> Vec<(String, String)> {
        self.text(key).and_then(parse_map).unwrap_or_default()
    }
    fn text(&self, key: &str) -> Option<&str> {
        self.raw(key).or_else(|| Table::get().option(key)?.default)
    }
}

/// Numbers that have the right type and still make no sense.
fn check_range(key: &str, text: &str) -> Result<()> {
    let number = || text.parse::<i64>().unwrap_or(i64::MAX);
    let expected = match key {
        keys::PARALLELISM if number() < 1 => "a number from 1",
        keys::TABLE_DEFAULT_PARALLELISM if number() < 1 && number() != -1 => "a number from 1, or -1",
        keys::MAX_PARALLELISM if !(1..=32_768).contains(&number()) && number() != -1 => {
            "a number from 1 to 32768, or -1"
        }
        keys::CHECKPOINT_MAX_CONCURRENT | keys::CHECKPOINT_NUM_RETAINED if number() < 1 => "a number from 1",
        keys::CHECKPOINT_TOLERABLE_FAILURES | keys::CHECKPOINT_HISTORY if number() < 0 => "a number from 0",
        keys::RESTART_FIXED_ATTEMPTS | keys::RESTART_RATE_MAX | keys::RESTART_EXP_ATTEMPTS if number() < 0 => {
            "a number from 0"
        }
        keys::CHECKPOINT_INTERVAL | keys::CHECKPOINT_TIMEOUT if parse_duration_ms(text).is_some_and(|ms| ms < 10) => {
            "a duration of 10 ms or more"
        }
        keys::CHECKPOINT_INLINE_THRESHOLD if parse_memory_bytes(text).is_some_and(|b| b > 1 << 20) => {
            "a size up to 1 mb"
        }
        keys::MEMORY_MANAGED_FRACTION | keys::MEMORY_NETWORK_FRACTION | keys::MEMORY_OVERHEAD_FRACTION
            if text.parse::<f64>().is_ok_and(|f| !(0.0..1.0).contains(&f)) =>
        {
            "a number from 0 to less than 1"
        }
        keys::RESTART_EXP_MULTIPLIER if text.parse::<f64>().is_ok_and(|m| m < 1.0) => "a number from 1",
        keys::RESTART_EXP_JITTER if text.parse::<f64>().is_ok_and(|j| !(0.0..=1.0).contains(&j)) => {
            "a number from 0 to 1"
        }
        keys::PIPELINE_JOB_ID if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) => {
            "32 hexadecimal digits"
        }
        _ => return Ok(()),
    };
    Err(value::bad_value(key, text, expected))
}

fn unknown(key: &str) -> Error {
    let e = Error::user("config.unknown", format!("there is no option `{key}`"));
    match Table::get().nearest(key) {
        Some(near) => e.hint(format!("did you mean `{near}`?")),
        None => e.hint("the options page lists all keys"),
    }
}
