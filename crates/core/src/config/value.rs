//! Values of options as text: durations, memory sizes, numbers, enums, parsed the way Flink does; never reads anything.

use crate::error::{Error, Result};

/// What an option's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionKind {
    /// Any text.
    String,
    /// A 32-bit integer.
    Int,
    /// A 64-bit integer.
    Long,
    /// `true` or `false`.
    Bool,
    /// A decimal number.
    Double,
    /// `10 s`, `1min`, `500 ms`; a bare number is milliseconds.
    Duration,
    /// `64 mb`, `1728m`; a bare number is bytes.
    Memory,
    /// One of these names; case, `-` and `_` do not matter.
    Enum(&'static [&'static str]),
    /// Items separated by `;`.
    List,
    /// `key:value` pairs separated by `,`.
    Map,
}

impl OptionKind {
    /// Name as in Flink's documentation.
    pub fn name(self) -> &'static str {
        match self {
            OptionKind::String => "String",
            OptionKind::Int => "Integer",
            OptionKind::Long => "Long",
            OptionKind::Bool => "Boolean",
            OptionKind::Double => "Double",
            OptionKind::Duration => "Duration",
            OptionKind::Memory => "MemorySize",
            OptionKind::Enum(_) => "Enum",
            OptionKind::List => "List",
            OptionKind::Map => "Map",
        }
    }
    /// What was expected, in words, for messages.
    pub fn expected(self) -> String {
        match self {
            OptionKind::String => "text".into(),
            OptionKind::Int => "a whole number between -2147483648 and 2147483647".into(),
            OptionKind::Long => "a whole number".into(),
            OptionKind::Bool => "true or false".into(),
            OptionKind::Double => "a number such as 1.5".into(),
            OptionKind::Duration => {
                "a duration such as 10 s, 500 ms, 1 min, 2 h or 1 d (a bare number is milliseconds)".into()
            }
            OptionKind::Memory => "a size such as 64 mb, 1728m or 1 gb (a bare number is bytes)".into(),
            OptionKind::Enum(names) => format!("one of {}", names.join(", ")),
            OptionKind::List => "items separated by ;".into(),
            OptionKind::Map => "key:value pairs separated by ,".into(),
        }
    }
    /// The canonical text of `value` (enums get their declared spelling); a `User` error naming `key` otherwise.
    pub fn check(self, key: &str, value: &str) -> Result<String> {
        let value = value.trim();
        let canonical = match self {
            OptionKind::String | OptionKind::List => Some(value.to_owned()),
            OptionKind::Int => value.parse::<i32>().ok().map(|n| n.to_string()),
            OptionKind::Long => value.parse::<i64>().ok().map(|n| n.to_string()),
            OptionKind::Bool => parse_bool(value).map(|b| b.to_string()),
            OptionKind::Double => value.parse::<f64>().ok().filter(|d| d.is_finite()).map(|_| value.to_owned()),
            OptionKind::Duration => parse_duration_ms(value).map(|_| value.to_owned()),
            OptionKind::Memory => parse_memory_bytes(value).map(|_| value.to_owned()),
            OptionKind::Enum(names) => match_enum(names, value).map(str::to_owned),
            OptionKind::Map => parse_map(value).map(|_| value.to_owned()),
        };
        canonical.ok_or_else(|| bad_value(key, value, &self.expected()))
    }
}

/// The error of a value that does not fit its option.
pub(super) fn bad_value(key: &str, value: &str, expected: &str) -> Error {
    let shown = if super::is_secret(key) { super::REDACTED } else { value };
    Error::user("config.value", format!("option `{key}` cannot be '{shown}'")).detail(format!("expected {expected}"))
}

/// `true` or `false`, in any case.
pub fn parse_bool(text: &str) -> Option<bool> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// The number in front and the unit behind, lower case.
fn split_unit(text: &str) -> Option<(i64, String)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..digits].parse().ok()?;
    Some((number, text[digits..].trim().to_lowercase()))
}

/// A Flink duration in milliseconds; finer units are rounded down. `None` when it is none, or out of range.
pub fn parse_duration_ms(text: &str) -> Option<i64> {
    let (number, unit) = split_unit(text)?;
    let unit_ms: i64 = match unit.as_str() {
        "d" | "day" | "days" => 86_400_000,
        "h" | "hour" | "hours" => 3_600_000,
        "m" | "min" | "minute" | "minutes" => 60_000,
        "s" | "sec" | "secs" | "second" | "seconds" => 1000,
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1,
        "us" | "µs" | "micro" | "micros" | "microsecond" | "microseconds" => return Some(number / 1000),
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => return Some(number / 1_000_000),
        _ => return None,
    };
    number.checked_mul(unit_ms)
}

/// A Flink memory size in bytes. `None` when it is none, or out of range.
pub fn parse_memory_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let shift = match unit.as_str() {
        "" | "b" | "bytes" => 0,
        "k" | "kb" | "kibibytes" => 10,
        "m" | "mb" | "mebibytes" => 20,
        "g" | "gb" | "gibibytes" => 30,
        "t" | "tb" | "tebibytes" => 40,
        _ => return None,
    };
    u64::try_from(number).ok()?.checked_mul(1 << shift)
}

/// The declared spelling of an enum value.
pub fn match_enum(names: &[&'static str], value: &str) -> Option<&'static str> {
    let fold = |c: char| if c == '_' { '-' } else { c.to_ascii_lowercase() };
    names.iter().copied().find(|n| n.chars().map(fold).eq(value.trim().chars().map(fold)))
}

/// Items of a list.
pub fn parse_list(text: &str) -> Vec<String> {
    text.split(';').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

/// Entries of a map, in order.
pub fn parse_map(text: &str) -> Option<Vec<(String, String)>> {
    text.split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .map(|entry| entry.split_once(':').map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned())))
        .collect()
}
