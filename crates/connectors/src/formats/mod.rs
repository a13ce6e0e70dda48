//! Formats: rows to bytes and back, a batch at a time. Text formats never open a file; formats of whole files do (`bulk`).

pub mod bulk;
#[cfg(any(feature = "avro", feature = "parquet"))]
mod by_name;
#[cfg(feature = "avro")]
pub mod container;
pub mod csv;
pub mod csv_encode;
pub mod json;
pub mod json_encode;
mod lines;
pub mod message;
#[cfg(feature = "parquet")]
pub mod parquet;
pub mod text;

use std::fs::File;
use std::path::Path;

use arrow_array::{ArrayRef, RecordBatch};
use flott_core::batch::RowKinds;
use flott_core::registry::{OptionSpec, TableSpec};
use flott_core::sink::ChangelogMode;
use flott_core::types::Column;
use flott_core::{Error, Result};

use crate::options::{TableOptions, option};

pub use bulk::{BulkFormat, BulkWriter};
pub use csv::CsvOptions;
pub use json::JsonOptions;

/// Longest record that is read, so that an unclosed quote cannot fill the memory.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// A format with its options.
#[derive(Clone, Debug)]
pub enum Format {
    /// Comma-separated values.
    Csv(CsvOptions),
    /// One JSON object a line.
    Json(JsonOptions),
    /// One message a line: `raw`, and the changelogs `debezium-json`, `canal-json`, `maxwell-json`.
    Lines(message::MessageFormat),
    /// A format of whole files.
    Bulk(BulkFormat),
}

/// Formats of messages that are also formats of files, a message a line.
const LINE_FORMATS: [&str; 4] = ["raw", "debezium-json", "canal-json", "maxwell-json"];

/// What [`Decoder::decode`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read: always whole records.
    pub consumed: usize,
    /// Line ends among them.
    pub lines: u64,
    /// Rows appended.
    pub rows: usize,
    /// Bad records left out because an option says so.
    pub skipped: u64,
}

/// A record that is not what the table declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecord {
    /// Line within the block, from 0.
    pub line: u64,
    /// The column, if the fault is in one.
    pub field: Option<String>,
    /// What was found and what was expected, as a sentence without a subject.
    pub problem: String,
    /// The option that would skip it; empty where there is none.
    pub skip_option: &'static str,
}

impl BadRecord {
    /// The error for users; `place` names file and line.
    pub fn into_error(self, place: impl std::fmt::Display) -> Error {
        let field = self.field.map(|f| format!(", field `{f}`")).unwrap_or_default();
        let error = Error::user("format.bad-record", format!("{place}{field}: {}", self.problem));
        if self.skip_option.is_empty() {
            return error.hint("correct the record, or the columns and the format of the table");
        }
        error.hint(format!("correct the record, or set '{}' = 'true' to skip and count bad records", self.skip_option))
    }
}

/// What part of a block to decode.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// The bytes; the first one begins a record.
    pub data: &'a [u8],
    /// Nothing follows `data`.
    pub last: bool,
    /// Records that begin at or after this byte belong to somebody else.
    pub stop: usize,
    /// At most so many rows.
    pub rows_max: usize,
}

impl<'a> Block<'a> {
    /// The line that begins at `from`, without its newline, and the bytes to the next one. `None`: its end is not there yet.
    fn line(&self, from: usize) -> Option<(&'a [u8], usize)> {
        let rest = &self.data[from..];
        match memchr::memchr(b'\n', rest) {
            Some(end) => Some((&rest[..end], end + 1)),
            None if self.last || rest.len() >= RECORD_BYTES_MAX => Some((rest, rest.len())),
            None => None,
        }
    }
}

/// Turns bytes into columns. After an error the builders hold the rows before the bad record.
pub trait Decoder: Send {
    /// Decodes whole records until the block or the limit ends.
    fn decode(&mut self, block: Block<'_>) -> Result<Progress, BadRecord>;
    /// Rows decoded since the last [`Self::finish`].
    fn rows(&self) -> usize;
    /// The columns of these rows.
    fn finish(&mut self) -> Result<Vec<ArrayRef>>;
    /// The kinds of the rows of the last [`Self::finish`]; `None`: all inserts.
    fn kinds(&mut self) -> Option<RowKinds> {
        None
    }
}

/// Turns columns into bytes.
pub trait Encoder: Send {
    /// Appends the rows of `batch`, one record each.
    fn encode(&mut self, batch: &RecordBatch, out: &mut String) -> Result<()>;
}

/// The options of every format of messages, most of which are formats of files too.
pub const TABLES: &[(&str, &[OptionSpec])] = &[
    ("csv", csv::OPTIONS),
    ("json", json::OPTIONS),
    ("raw", message::raw::OPTIONS),
    ("debezium-json", message::dialect::DEBEZIUM_OPTIONS),
    ("canal-json", message::dialect::CANAL_OPTIONS),
    ("maxwell-json", message::dialect::MAXWELL_OPTIONS),
    #[cfg(feature = "avro")]
    ("avro", message::avro::OPTIONS),
    #[cfg(feature = "avro")]
    ("avro-confluent", message::avro::CONFLUENT_OPTIONS),
];

/// The options of formats that are other ones in files, or are of files only.
pub const FILE_TABLES: &[(&str, &[OptionSpec])] = &[
    #[cfg(feature = "parquet")]
    ("parquet", parquet::OPTIONS),
    #[cfg(feature = "avro")]
    ("avro", container::OPTIONS),
];

/// The option that names the format.
pub const FORMAT_OPTION: OptionSpec = option(
    "format",
    "ENUM(csv|json|parquet|avro|raw|debezium-json|canal-json|maxwell-json)",
    "",
    true,
    "How rows are written as bytes.",
);

impl Format {
    /// The options of the format named by the table, or an error that lists the formats.
    pub fn options_of(table: &TableSpec) -> Result<&'static [OptionSpec]> {
        match table.options.get("format").map(String::as_str) {
            Some("csv") => Ok(csv::OPTIONS),
            Some("json") => Ok(json::OPTIONS),
            #[cfg(feature = "parquet")]
            Some("parquet") => Ok(parquet::OPTIONS),
            #[cfg(feature = "avro")]
            Some("avro") => Ok(container::OPTIONS),
            Some(name) if LINE_FORMATS.contains(&name) => message::MessageFormat::options(table, ""),
            Some(other) => Err(Error::user(
                "table.unknown-format",
                format!("table `{}`: there is no format '{other}' of files", table.name),
            )
            .hint(format!("available: csv, json, parquet, avro, {}", LINE_FORMATS.join(", ")))),
            None => Err(Error::user(
                "table.missing-option",
                format!("table `{}`: the option 'format' is missing", table.name),
            )
            .hint("add 'format' = 'csv', 'json', 'parquet', 'avro' or 'raw'")),
        }
    }

    /// Reads the format and its options.
    pub fn read(options: &TableOptions<'_>) -> Result<Self> {
        match options.text("format") {
            Some("csv") => CsvOptions::read(options).map(Format::Csv),
            #[cfg(feature = "parquet")]
            Some("parquet") => parquet::ParquetOptions::read(options).map(|o| Format::Bulk(BulkFormat::Parquet(o))),
            #[cfg(feature = "avro")]
            Some("avro") => container::ContainerOptions::read(options).map(|o| Format::Bulk(BulkFormat::Avro(o))),
            Some(name) if name != "json" => message::MessageFormat::read(options, "").map(Format::Lines),
            _ => JsonOptions::read(options).map(Format::Json),
        }
    }

    /// `csv`, `json`, …: also the suffix of files.
    pub fn name(&self) -> &'static str {
        match self {
            Format::Csv(_) => "csv",
            Format::Json(_) => "json",
            Format::Lines(format) => format.name(),
            Format::Bulk(bulk) => bulk.name(),
        }
    }

    /// Which row kinds the records have.
    pub fn changelog_mode(&self) -> ChangelogMode {
        match self {
            Format::Lines(format) => format.changelog_mode(),
            _ => ChangelogMode::Append,
        }
    }

    /// Refuses columns that the format cannot read.
    pub fn check_read(&self, columns: &[Column]) -> Result<()> {
        match self {
            Format::Bulk(bulk) => bulk.check(columns),
            _ => self.decoder(columns).map(drop),
        }
    }

    /// Refuses columns that the format cannot write, and formats that are only read.
    pub fn check_write(&self, columns: &[Column]) -> Result<()> {
        match self {
            Format::Bulk(bulk) => bulk.check(columns),
            Format::Lines(format) if format.changelog_mode() != ChangelogMode::Append => {
                let text = format!("files are not written in the format '{}'", format.name());
                Err(Error::user("table.unknown-format", text).hint("write 'csv', 'json', 'parquet', 'avro' or 'raw'"))
            }
            Format::Lines(format) => format.encoder(columns).map(drop),
            _ => self.encoder(columns).map(drop),
        }
    }

    /// Whether rows are written by [`Self::encoder`], and not by [`Self::writer`].
    pub fn writes_text(&self) -> bool {
        matches!(self, Format::Csv(_) | Format::Json(_))
    }

    /// A writer of `columns` to a new file, of a format that is not text.
    pub fn writer(&self, file: File, path: &Path, columns: &[Column]) -> Result<Box<dyn BulkWriter>> {
        match self {
            Format::Bulk(bulk) => bulk.writer(file, path, columns),
            Format::Lines(format) => lines::writer(format, file, path, columns),
            _ => Err(Error::bug(format!("a writer of whole files of {}", self.name()))),
        }
    }

    /// The format of whole files, if it is one.
    pub fn bulk(&self) -> Option<&BulkFormat> {
        match self {
            Format::Bulk(bulk) => Some(bulk),
            _ => None,
        }
    }

    /// A decoder of `columns`, of a text format.
    pub fn decoder(&self, columns: &[Column]) -> Result<Box<dyn Decoder>> {
        Ok(match self {
            Format::Csv(options) => Box::new(csv::CsvDecoder::new(options.clone(), columns)?),
            Format::Json(options) => Box::new(json::JsonDecoder::new(options.clone(), columns)?),
            Format::Lines(format) => Box::new(lines::LineDecoder::new(format, columns)?),
            Format::Bulk(_) => return Err(Error::bug(format!("a text decoder of {}", self.name()))),
        })
    }

    /// An encoder of `columns`, of a text format.
    pub fn encoder(&self, columns: &[Column]) -> Result<Box<dyn Encoder>> {
        Ok(match self {
            Format::Csv(options) => Box::new(csv_encode::CsvEncoder::new(options.clone(), columns)?),
            Format::Json(options) => Box::new(json_encode::JsonEncoder::new(options.clone(), columns)?),
            Format::Lines(_) | Format::Bulk(_) => {
                return Err(Error::bug(format!("a text encoder of {}", self.name())));
            }
        })
    }

    /// The character that makes a line end part of a field, if the format has one.
    pub fn quote(&self) -> Option<u8> {
        match self {
            Format::Csv(options) => options.quote,
            Format::Json(_) | Format::Lines(_) | Format::Bulk(_) => None,
        }
    }

    /// Whether the first line of a file is not a record.
    pub fn skips_first_line(&self) -> bool {
        matches!(self, Format::Csv(options) if options.ignore_first_line)
    }
}

/// At most 80 characters of what was found, for messages.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(400)]);
    let mut short: String = text.chars().take(80).collect();
    if text.chars().nth(80).is_some() {
        short.push('…');
    }
    short
}
