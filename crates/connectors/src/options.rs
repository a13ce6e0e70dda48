//! Options of a table: checked against the declared ones, then read by type; never read from the environment.

use std::collections::BTreeMap;
use std::fmt::Display;

use flott_core::registry::{OptionSpec, TableSpec};
use flott_core::{Error, Result};

/// Options every connector takes; the planner reads them, connectors only let them pass.
pub const COMMON: &[OptionSpec] = &[
    option("connector", "STRING", "", true, "Which connector reads or writes the table."),
    option("scan.parallelism", "INT", "", false, "Parallelism of the source, if not the job's."),
    option("sink.parallelism", "INT", "", false, "Parallelism of the sink, if not the job's."),
    option("scan.watermark.emit.strategy", "STRING", "on-periodic", false, "When watermarks are emitted."),
    option(
        "scan.watermark.idle-timeout",
        "DURATION",
        "",
        false,
        "A split silent for this long holds no watermark back.",
    ),
    option("scan.watermark.alignment.group", "STRING", "", false, "Sources of one group read at the same pace."),
    option("scan.watermark.alignment.max-drift", "DURATION", "", false, "How far a split may run ahead of its group."),
    option(
        "scan.watermark.alignment.update-interval",
        "DURATION",
        "1 s",
        false,
        "How often the group's watermark is renewed.",
    ),
];

/// A row of an option table.
pub const fn option(
    key: &'static str,
    kind: &'static str,
    default: &'static str,
    required: bool,
    doc: &'static str,
) -> OptionSpec {
    OptionSpec { key, kind, default, required, doc }
}

/// The options of one table.
#[derive(Clone, Copy)]
pub struct TableOptions<'a> {
    table: &'a str,
    values: &'a BTreeMap<String, String>,
    /// In front of every key: `value.` for the format of values.
    prefix: &'a str,
}

impl<'a> TableOptions<'a> {
    /// The options of `table`, after a check that each is in `known` or [`COMMON`] and that none that is required is missing.
    pub fn checked(table: &'a TableSpec, known: &[&[OptionSpec]]) -> Result<Self> {
        let specs = || known.iter().copied().chain([COMMON]).flatten();
        for key in table.options.keys() {
            if !specs().any(|s| matches(s.key, key)) {
                let near = specs()
                    .map(|s| s.key)
                    .max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)))
                    .unwrap_or("connector");
                let all: Vec<_> = known.iter().copied().flatten().map(|s| s.key).collect();
                return Err(Error::user(
                    "table.unknown-option",
                    format!("table `{}`: there is no option '{key}'", table.name),
                )
                .detail(format!("the nearest is '{near}'"))
                .hint(format!("options here: {}", all.join(", "))));
            }
        }
        if let Some(missing) = specs().find(|s| s.required && !table.options.contains_key(s.key)) {
            return Err(Error::user(
                "table.missing-option",
                format!("table `{}`: the option '{}' is missing", table.name, missing.key),
            )
            .hint(missing.doc));
        }
        Ok(TableOptions { table: &table.name, values: &table.options, prefix: "" })
    }

    /// The same options, read under keys that begin with `prefix`: `json.ignore-parse-errors` is `value.json.ignore-parse-errors`.
    pub fn prefixed(&self, prefix: &'a str) -> TableOptions<'a> {
        TableOptions { prefix, ..*self }
    }

    /// The table's name, for messages.
    pub fn table(&self) -> &'a str {
        self.table
    }

    /// The keys of all options that begin with the prefix, whole.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a, '_> {
        self.values.keys().map(String::as_str).filter(|k| k.starts_with(self.prefix))
    }

    /// The text of an option.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        let value = if self.prefix.is_empty() {
            self.values.get(key)
        } else {
            self.values.get(&format!("{}{key}", self.prefix))
        };
        value.map(String::as_str)
    }

    /// An error about the value of `key`.
    pub fn bad(&self, key: &str, expected: impl Display) -> Error {
        let found = self.text(key).unwrap_or("");
        let (table, prefix) = (self.table, self.prefix);
        Error::user("table.bad-option", format!("table `{table}`: '{prefix}{key}' = '{found}' is not {expected}"))
    }

    /// An error about the use of `key` at all.
    pub fn refused(&self, key: &str, why: &str) -> Error {
        Error::user(
            "table.unsupported-option",
            format!("table `{}`: the option '{}{key}' is not supported: {why}", self.table, self.prefix),
        )
    }

    /// TRUE or FALSE.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.text(key).map(str::trim) {
            None => Ok(default),
            Some(t) if t.eq_ignore_ascii_case("true") => Ok(true),
            Some(t) if t.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(self.bad(key, "true or false")),
        }
    }

    /// A number of any kind.
    pub fn number<T: std::str::FromStr>(&self, key: &str, what: &str) -> Result<Option<T>> {
        self.text(key).map(|t| t.trim().parse().map_err(|_| self.bad(key, what))).transpose()
    }

    /// One character; `\t` and other backslash escapes are understood.
    pub fn character(&self, key: &str) -> Result<Option<u8>> {
        let Some(t) = self.text(key) else { return Ok(None) };
        let byte = match t {
            "\\t" => Some(b'\t'),
            "\\\\" => Some(b'\\'),
            _ => match t.as_bytes() {
                [b] if b.is_ascii() && *b != b'\n' && *b != b'\r' => Some(*b),
                _ => None,
            },
        };
        byte.map(Some).ok_or_else(|| self.bad(key, "a single ASCII character (no line break)"))
    }

    /// One of `values`, as its index.
    pub fn one_of(&self, key: &str, values: &[&str], default: usize) -> Result<usize> {
        let Some(t) = self.text(key) else { return Ok(default) };
        let found = values.iter().position(|v| v.eq_ignore_ascii_case(t.trim()));
        found.ok_or_else(|| self.bad(key, format!("one of {}", values.join(", "))))
    }

    /// A duration such as `30 min`, in milliseconds.
    pub fn duration_ms(&self, key: &str) -> Result<Option<i64>> {
        let Some(t) = self.text(key) else { return Ok(None) };
        parse_duration_ms(t).map(Some).ok_or_else(|| self.bad(key, "a duration such as '10 s', '1 min' or '500 ms'"))
    }

    /// A memory size such as `128 mb`, in bytes.
    pub fn memory_bytes(&self, key: &str) -> Result<Option<u64>> {
        let Some(t) = self.text(key) else { return Ok(None) };
        parse_memory_bytes(t).map(Some).ok_or_else(|| self.bad(key, "a memory size such as '128 mb' or '1048576'"))
    }
}

/// Whether `key` is what `pattern` says; a `#` stands for anything that is not empty.
pub fn matches(pattern: &str, key: &str) -> bool {
    match pattern.split_once('#') {
        None => pattern == key,
        Some((head, tail)) => key.len() > head.len() + tail.len() && key.starts_with(head) && key.ends_with(tail),
    }
}

fn number_and_unit(t: &str) -> Option<(u64, String)> {
    let t = t.trim();
    let at = t.find(|c: char| !c.is_ascii_digit()).unwrap_or(t.len());
    Some((t[..at].parse().ok()?, t[at..].trim().to_ascii_lowercase()))
}

/// `10 s`, `1min`, `500` (milliseconds), `PT30M`: milliseconds.
pub fn parse_duration_ms(t: &str) -> Option<i64> {
    let upper = t.trim().to_ascii_uppercase();
    if let Some(iso) = upper.strip_prefix("PT") {
        let (n, unit) = number_and_unit(iso)?;
        let unit_ms = match unit.as_str() {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            _ => return None,
        };
        return i64::try_from(n).ok()?.checked_mul(unit_ms);
    }
    let (n, unit) = number_and_unit(t)?;
    let unit_ms = match unit.as_str() {
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
        "m" | "min" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => return i64::try_from(n / 1_000_000).ok(),
        "us" | "µs" | "micro" | "micros" | "microsecond" | "microseconds" => return i64::try_from(n / 1_000).ok(),
        _ => return None,
    };
    i64::try_from(n).ok()?.checked_mul(unit_ms)
}

/// `1024`, `128 mb`, `1g`: bytes.
pub fn parse_memory_bytes(t: &str) -> Option<u64> {
    let (n, unit) = number_and_unit(t)?;
    let factor: u64 = match unit.as_str() {
        "" | "b" | "bytes" => 1,
        "k" | "kb" | "kibibytes" => 1 << 10,
        "m" | "mb" | "mebibytes" => 1 << 20,
        "g" | "gb" | "gibibytes" => 1 << 30,
        "t" | "tb" | "tebibytes" => 1 << 40,
        _ => return None,
    };
    n.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        for (text, ms) in [("10 s", 10_000), ("1min", 60_000), ("5", 5), ("PT30M", 1_800_000), ("2 d", 172_800_000)] {
            assert_eq!(parse_duration_ms(text), Some(ms), "{text}");
        }
        for bad in ["", "s", "-1 s", "5 weeks", "PT5"] {
            assert_eq!(parse_duration_ms(bad), None, "{bad}");
        }
        for (text, bytes) in [("128 mb", 128 << 20), ("1600Mb", 1600 << 20), ("7", 7), ("1g", 1 << 30)] {
            assert_eq!(parse_memory_bytes(text), Some(bytes), "{text}");
        }
        assert_eq!(parse_memory_bytes("12 parsecs"), None);
    }

    #[test]
    fn patterns_stand_for_column_names() {
        assert!(matches("fields.#.min", "fields.a.b.min"));
        assert!(!matches("fields.#.min", "fields..min"));
        assert!(!matches("fields.#.min", "fields.a.max"));
    }
}
