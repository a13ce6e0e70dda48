//! Options of the format `json`, also of formats that build on it; reads no record.

use flott_core::Result;
use flott_core::registry::OptionSpec;

use crate::options::{TableOptions, option};

/// Options of the format.
pub const OPTIONS: &[OptionSpec] = &[
    option("json.fail-on-missing-field", "BOOLEAN", "false", false, "A missing member is an error instead of NULL."),
    option(
        "json.ignore-parse-errors",
        "BOOLEAN",
        "false",
        false,
        "Bad records are skipped and counted instead of failing the job.",
    ),
    option("json.timestamp-format.standard", "ENUM(SQL|ISO-8601)", "SQL", false, "How timestamps are written."),
    option(
        "json.map-null-key.mode",
        "ENUM(FAIL|DROP|LITERAL)",
        "FAIL",
        false,
        "What to do when a MAP with a NULL key is written.",
    ),
    option("json.map-null-key.literal", "STRING", "null", false, "The key for NULL in mode LITERAL."),
    option(
        "json.encode.decimal-as-plain-number",
        "BOOLEAN",
        "false",
        false,
        "DECIMAL is never written in scientific notation.",
    ),
    option("json.encode.ignore-null-fields", "BOOLEAN", "false", false, "Members that are NULL are not written."),
    option(
        "json.decode.json-parser.enabled",
        "BOOLEAN",
        "true",
        false,
        "Accepted without effect: there is one parser.",
    ),
];

/// What to do with NULL keys of a MAP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NullKey {
    /// An error.
    Fail,
    /// Leave the entry out.
    Drop,
    /// Write this text.
    Literal(String),
}

/// Options of the format, read.
#[derive(Clone, Debug)]
pub struct JsonOptions {
    /// Missing members are errors.
    pub fail_on_missing_field: bool,
    /// Skip bad records.
    pub ignore_parse_errors: bool,
    /// ISO-8601 rather than SQL timestamps.
    pub iso: bool,
    /// NULL keys.
    pub null_key: NullKey,
    /// Plain decimals.
    pub plain_decimals: bool,
    /// Leave NULL members out.
    pub ignore_null_fields: bool,
}

impl Default for JsonOptions {
    fn default() -> Self {
        JsonOptions {
            fail_on_missing_field: false,
            ignore_parse_errors: false,
            iso: false,
            null_key: NullKey::Fail,
            plain_decimals: false,
            ignore_null_fields: false,
        }
    }
}

impl JsonOptions {
    /// Reads the options of a table.
    pub fn read(o: &TableOptions<'_>) -> Result<Self> {
        let options = Self::read_of(o, "json")?;
        o.flag("json.decode.json-parser.enabled", true)?;
        if options.fail_on_missing_field && options.ignore_parse_errors {
            return Err(
                o.bad("json.ignore-parse-errors", "possible together with 'json.fail-on-missing-field' = 'true'")
            );
        }
        Ok(options)
    }

    /// Reads the same options of a format that builds on JSON, such as `debezium-json`.
    pub(in crate::formats) fn read_of(o: &TableOptions<'_>, format: &str) -> Result<Self> {
        let key = |name: &str| format!("{format}.{name}");
        let literal = o.text(&key("map-null-key.literal")).unwrap_or("null").to_owned();
        Ok(JsonOptions {
            fail_on_missing_field: o.flag(&key("fail-on-missing-field"), false)?,
            ignore_parse_errors: o.flag(&key("ignore-parse-errors"), false)?,
            iso: o.one_of(&key("timestamp-format.standard"), &["SQL", "ISO-8601"], 0)? == 1,
            null_key: match o.one_of(&key("map-null-key.mode"), &["FAIL", "DROP", "LITERAL"], 0)? {
                0 => NullKey::Fail,
                1 => NullKey::Drop,
                _ => NullKey::Literal(literal),
            },
            plain_decimals: o.flag(&key("encode.decimal-as-plain-number"), false)?,
            ignore_null_fields: o.flag(&key("encode.ignore-null-fields"), false)?,
        })
    }
}
