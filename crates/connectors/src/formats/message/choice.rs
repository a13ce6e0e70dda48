//! Which format a table's messages have, from its options; never reads a message itself.

use std::sync::LazyLock;

use flott_core::registry::{OptionSpec, TableSpec};
use flott_core::sink::ChangelogMode;
use flott_core::types::{Column, DataType};
use flott_core::{Error, Result};

#[cfg(feature = "avro")]
use super::avro::{self, AvroOptions};
use super::changelog::ChangelogDecoder;
use super::dialect::{ChangelogOptions, Dialect};
use super::raw::{RawDecoder, RawEncoder, RawOptions};
use super::{MessageDecoder, MessageEncoder, text, unknown_metadata};
use crate::formats::{CsvOptions, JsonOptions, TABLES};
use crate::options::TableOptions;

/// Prefixes of the options of a format: of `format`, of `key.format` and of `value.format`.
const PREFIXES: [&str; 3] = ["", "key.", "value."];

/// The options of every format under every prefix. Made once, since [`OptionSpec`] has keys that live for ever.
static PREFIXED: LazyLock<Vec<(&'static str, &'static str, Vec<OptionSpec>)>> = LazyLock::new(|| {
    let under = |prefix: &str, spec: &OptionSpec| OptionSpec { key: format!("{prefix}{}", spec.key).leak(), ..*spec };
    let tables = |prefix: &'static str| {
        TABLES.iter().map(move |(name, specs)| (prefix, *name, specs.iter().map(|s| under(prefix, s)).collect()))
    };
    PREFIXES.into_iter().flat_map(tables).collect()
});

/// The format of messages, with its options.
#[derive(Clone, Debug)]
pub struct MessageFormat {
    kind: Kind,
    /// The option that skips bad records, with its prefix; empty when the format has none.
    skip_option: &'static str,
}

#[derive(Clone, Debug)]
enum Kind {
    Csv(CsvOptions),
    Json(JsonOptions),
    Raw(RawOptions),
    Changelog(ChangelogOptions),
    #[cfg(feature = "avro")]
    Avro(AvroOptions),
}

impl MessageFormat {
    /// The names of all formats.
    pub fn names() -> Vec<&'static str> {
        TABLES.iter().map(|(name, _)| *name).collect()
    }

    /// The prefix of the format of values: `value.` when the table says `value.format`, else nothing.
    pub fn value_prefix(table: &TableSpec) -> &'static str {
        if table.options.contains_key("value.format") { "value." } else { "" }
    }

    /// The options of the format that `{prefix}format` names, keys with the prefix, for [`TableOptions::checked`]; none when the
    /// option is absent. `prefix` is nothing, `key.` or `value.`.
    pub fn options(table: &TableSpec, prefix: &str) -> Result<&'static [OptionSpec]> {
        let Some(name) = table.options.get(&format!("{prefix}format")) else { return Ok(&[]) };
        let found = PREFIXED.iter().find(|(p, n, _)| *p == prefix && n == name);
        found.map(|(_, _, specs)| specs.as_slice()).ok_or_else(|| {
            let message = format!("table `{}`: there is no format '{name}'", table.name);
            Error::user("table.unknown-format", message).hint(format!("available: {}", Self::names().join(", ")))
        })
    }

    /// Reads the format named by `{prefix}format` and its options, which are checked before (see [`Self::options`]).
    pub fn read(options: &TableOptions<'_>, prefix: &'static str) -> Result<Self> {
        let o = options.prefixed(prefix);
        let Some(name) = o.text("format") else {
            let message = format!("table `{}`: the option '{prefix}format' is missing", o.table());
            return Err(
                Error::user("table.missing-option", message).hint(format!("available: {}", Self::names().join(", ")))
            );
        };
        let kind = match name {
            "csv" => {
                let csv = CsvOptions::read(&o)?;
                if csv.ignore_first_line {
                    return Err(o.refused("csv.ignore-first-line", "a message has no heading; the option is for files"));
                }
                Kind::Csv(csv)
            }
            "json" => Kind::Json(JsonOptions::read(&o)?),
            "raw" => Kind::Raw(RawOptions::read(&o)?),
            "debezium-json" => Kind::Changelog(ChangelogOptions::read(&o, Dialect::Debezium)?),
            "canal-json" => Kind::Changelog(ChangelogOptions::read(&o, Dialect::Canal)?),
            "maxwell-json" => Kind::Changelog(ChangelogOptions::read(&o, Dialect::Maxwell)?),
            #[cfg(feature = "avro")]
            "avro" => Kind::Avro(AvroOptions::read(&o)?),
            #[cfg(feature = "avro")]
            "avro-confluent" => Kind::Avro(AvroOptions::read_confluent(&o, options, prefix == "key.")?),
            _ => return Err(o.bad("format", format!("one of {}", Self::names().join(", ")))),
        };
        let skip_option = PREFIXED
            .iter()
            .filter(|(p, n, _)| *p == prefix && *n == name)
            .flat_map(|(_, _, specs)| specs)
            .find_map(|s| s.key.ends_with(".ignore-parse-errors").then_some(s.key));
        Ok(MessageFormat { kind, skip_option: skip_option.unwrap_or("") })
    }

    /// `json`, `csv`, …
    pub fn name(&self) -> &'static str {
        match &self.kind {
            Kind::Csv(_) => "csv",
            Kind::Json(_) => "json",
            Kind::Raw(_) => "raw",
            Kind::Changelog(o) => o.dialect.name(),
            #[cfg(feature = "avro")]
            Kind::Avro(o) => o.name(),
        }
    }

    /// Whether bad records are to be counted and skipped (`….ignore-parse-errors`). Decoders report them in any case.
    pub fn ignores_parse_errors(&self) -> bool {
        match &self.kind {
            Kind::Csv(o) => o.ignore_parse_errors,
            Kind::Json(o) => o.ignore_parse_errors,
            Kind::Changelog(o) => o.json.ignore_parse_errors,
            _ => false,
        }
    }

    /// Which row kinds decoded messages have, and encoded ones can carry.
    pub fn changelog_mode(&self) -> ChangelogMode {
        match self.kind {
            Kind::Changelog(_) => ChangelogMode::Retract,
            _ => ChangelogMode::Append,
        }
    }

    /// The metadata that the format itself reads, by key, such as `source.table`. A connector offers them as `value.KEY`.
    pub fn metadata(&self) -> Vec<(&'static str, DataType)> {
        match &self.kind {
            Kind::Changelog(o) => o.dialect.metadata().iter().map(|m| (m.key, m.read.data_type())).collect(),
            _ => Vec::new(),
        }
    }

    /// A decoder of `columns`: physical ones, and metadata of the format, whose `metadata_key` is a key of
    /// [`Self::metadata`] with or without `value.`.
    pub fn decoder(&self, columns: &[Column]) -> Result<Box<dyn MessageDecoder>> {
        let skip = self.skip_option;
        if let Some(column) = columns.iter().find(|c| c.metadata_key.is_some())
            && self.metadata().is_empty()
        {
            return Err(unknown_metadata(self.name(), column));
        }
        Ok(match &self.kind {
            Kind::Csv(o) => Box::new(text::CsvMessages::new(o.clone(), columns, skip)?),
            Kind::Json(o) => Box::new(text::JsonMessages::new(o.clone(), columns, skip)?),
            Kind::Raw(o) => Box::new(RawDecoder::new(*o, columns)?),
            Kind::Changelog(o) => Box::new(ChangelogDecoder::new(o.clone(), columns, skip)?),
            #[cfg(feature = "avro")]
            Kind::Avro(o) => avro::decoder(o, columns)?,
        })
    }

    /// An encoder of `columns`, the physical ones. Formats whose [`Self::changelog_mode`] is `Append` write every row,
    /// whatever its kind: what becomes of deletes is the connector's business.
    pub fn encoder(&self, columns: &[Column]) -> Result<Box<dyn MessageEncoder>> {
        match &self.kind {
            Kind::Csv(o) => text::csv_encoder(o.clone(), columns),
            Kind::Json(o) => text::json_encoder(o.clone(), columns),
            Kind::Raw(o) => Ok(Box::new(RawEncoder::new(*o, columns)?)),
            Kind::Changelog(o) => text::changelog_encoder(o.clone(), columns),
            #[cfg(feature = "avro")]
            Kind::Avro(o) => avro::encoder(o, columns),
        }
    }
}
