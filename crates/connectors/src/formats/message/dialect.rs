//! The dialects of change logs in JSON: their options, members and metadata, as tables; never reads a message.

use flott_core::registry::OptionSpec;
use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use regex::Regex;

use crate::formats::JsonOptions;
use crate::options::{TableOptions, option};

macro_rules! changelog_options {
    ($name:literal $(, $more:expr)* $(,)?) => {
        &[
            $($more,)*
            option(
                concat!($name, ".ignore-parse-errors"),
                "BOOLEAN",
                "false",
                false,
                "Bad records are skipped and counted instead of failing the job.",
            ),
            option(concat!($name, ".timestamp-format.standard"), "ENUM(SQL|ISO-8601)", "SQL", false, "How timestamps are written."),
            option(concat!($name, ".map-null-key.mode"), "ENUM(FAIL|DROP|LITERAL)", "FAIL", false, "What to do when a MAP with a NULL key is written."),
            option(concat!($name, ".map-null-key.literal"), "STRING", "null", false, "The key for NULL in mode LITERAL."),
            option(concat!($name, ".encode.decimal-as-plain-number"), "BOOLEAN", "false", false, "DECIMAL is never written in scientific notation."),
            option(concat!($name, ".encode.ignore-null-fields"), "BOOLEAN", "false", false, "Members that are NULL are not written."),
        ]
    };
}

/// Options of `debezium-json`.
pub const DEBEZIUM_OPTIONS: &[OptionSpec] = changelog_options!(
    "debezium-json",
    option(
        "debezium-json.schema-include",
        "BOOLEAN",
        "false",
        false,
        "Messages hold a schema beside the payload (reading only)."
    ),
);

/// Options of `canal-json`.
pub const CANAL_OPTIONS: &[OptionSpec] = changelog_options!(
    "canal-json",
    option(
        "canal-json.database.include",
        "STRING",
        "",
        false,
        "Only changes of databases whose name matches this regular expression."
    ),
    option(
        "canal-json.table.include",
        "STRING",
        "",
        false,
        "Only changes of tables whose name matches this regular expression."
    ),
);

/// Options of `maxwell-json`.
pub const MAXWELL_OPTIONS: &[OptionSpec] = changelog_options!("maxwell-json");

/// Who writes the change log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `before`, `after` and `op`.
    Debezium,
    /// `data`, `old` (arrays) and `type`.
    Canal,
    /// `data`, `old` and `type`.
    Maxwell,
}

/// Where a metadata column is found and how it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The key of the column.
    pub key: &'static str,
    /// Index into [`Dialect::members`].
    pub member: usize,
    /// The member of that member, if it is an object.
    pub inner: Option<&'static str>,
    /// How it is read.
    pub read: Read,
}

/// How metadata is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// A JSON string.
    String,
    /// Milliseconds as TIMESTAMP_LTZ(3).
    Millis,
    /// The JSON itself, as text.
    Text,
    /// An object of strings.
    StringMap,
    /// An object of integers.
    IntMap,
    /// An array of strings.
    Strings,
}

impl Read {
    /// The type of the column.
    pub fn data_type(self) -> DataType {
        let string = || Box::new(TypeKind::STRING.nullable());
        match self {
            Read::String | Read::Text => TypeKind::STRING,
            Read::Millis => TypeKind::TimestampLtz(3),
            Read::StringMap => TypeKind::Map(string(), string()),
            Read::IntMap => TypeKind::Map(string(), Box::new(TypeKind::Int.nullable())),
            Read::Strings => TypeKind::Array(string()),
        }
        .nullable()
    }
}

const fn meta(key: &'static str, member: usize, inner: Option<&'static str>, read: Read) -> Metadata {
    Metadata { key, member, inner, read }
}

const DEBEZIUM_METADATA: &[Metadata] = &[
    meta("schema", SCHEMA, None, Read::Text),
    meta("ingestion-timestamp", 4, None, Read::Millis),
    meta("source.timestamp", 3, Some("ts_ms"), Read::Millis),
    meta("source.database", 3, Some("db"), Read::String),
    meta("source.schema", 3, Some("schema"), Read::String),
    meta("source.table", 3, Some("table"), Read::String),
    meta("source.properties", 3, None, Read::StringMap),
];

const CANAL_METADATA: &[Metadata] = &[
    meta("database", 3, None, Read::String),
    meta("table", 4, None, Read::String),
    meta("sql-type", 5, None, Read::IntMap),
    meta("pk-names", 6, None, Read::Strings),
    meta("ingestion-timestamp", 7, None, Read::Millis),
    meta("event-timestamp", 8, None, Read::Millis),
];

const MAXWELL_METADATA: &[Metadata] = &[
    meta("database", 3, None, Read::String),
    meta("table", 4, None, Read::String),
    meta("primary-key-columns", 5, None, Read::Strings),
    meta("ingestion-timestamp", 6, None, Read::Millis),
];

/// Most members of a dialect that are looked at.
pub const MEMBERS_MAX: usize = 10;
/// Index of Debezium's schema, which stands beside the payload.
pub const SCHEMA: usize = 9;

impl Dialect {
    /// As in `format`.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Debezium => "debezium-json",
            Dialect::Canal => "canal-json",
            Dialect::Maxwell => "maxwell-json",
        }
    }
    /// Members of a message: the row before, the row after (or `old` and `data`), the operation, then metadata.
    pub fn members(self) -> &'static [&'static str] {
        match self {
            Dialect::Debezium => &["before", "after", "op", "source", "ts_ms"],
            Dialect::Canal => &["old", "data", "type", "database", "table", "sqlType", "pkNames", "ts", "es"],
            Dialect::Maxwell => &["old", "data", "type", "database", "table", "primary-key-columns", "ts"],
        }
    }
    /// Metadata that can be read.
    pub fn metadata(self) -> &'static [Metadata] {
        match self {
            Dialect::Debezium => DEBEZIUM_METADATA,
            Dialect::Canal => CANAL_METADATA,
            Dialect::Maxwell => MAXWELL_METADATA,
        }
    }
}

/// Options of a change log in JSON, read.
#[derive(Clone, Debug)]
pub struct ChangelogOptions {
    /// Whose.
    pub dialect: Dialect,
    /// How values look.
    pub json: JsonOptions,
    /// Debezium: the payload stands beside a schema.
    pub schema_include: bool,
    /// Canal: databases that count.
    pub database: Option<Regex>,
    /// Canal: tables that count.
    pub table: Option<Regex>,
}

impl ChangelogOptions {
    /// Reads the options of a table.
    pub fn read(o: &TableOptions<'_>, dialect: Dialect) -> Result<Self> {
        let pattern = |key: &str| {
            let Some(text) = o.text(key) else { return Ok(None) };
            // The whole name must match, as in Java's `matches`.
            let whole = Regex::new(&format!("^(?:{text})$"));
            whole.map(Some).map_err(|_| o.bad(key, "a regular expression (look-around is not supported)"))
        };
        Ok(ChangelogOptions {
            dialect,
            json: JsonOptions::read_of(o, dialect.name())?,
            schema_include: o.flag("debezium-json.schema-include", false)?,
            database: pattern("canal-json.database.include")?,
            table: pattern("canal-json.table.include")?,
        })
    }

    /// Refuses what can be read only.
    pub fn check_encoding(&self) -> Result<()> {
        if !self.schema_include {
            return Ok(());
        }
        Err(Error::user(
            "table.unsupported-option",
            "the option 'debezium-json.schema-include' is not supported for writing: messages are written without a schema",
        )
        .hint("leave it out of the sink's options"))
    }
}
