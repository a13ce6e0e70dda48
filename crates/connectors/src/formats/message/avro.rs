//! The formats `avro` and `avro-confluent`, over the crate `arrow-avro`: columns at a time, and a message that is bad is named.
//! Never reads object container files.

mod arrays;
mod decode;
mod encode;
mod registry;
mod resolve;
mod schema;

use std::sync::Arc;

use flott_core::registry::OptionSpec;
use flott_core::types::Column;
use flott_core::{Error, Result};

use super::{MessageDecoder, MessageEncoder};
use crate::options::{TableOptions, option};

use registry::{Registry, RegistryOptions};

/// How values are written, in messages and in files.
pub(in crate::formats) const ENCODING: OptionSpec =
    option("avro.encoding", "ENUM(binary|json)", "binary", false, "Only `binary` is supported.");
/// How times are written, in messages and in files.
pub(in crate::formats) const TIMESTAMP_MAPPING: OptionSpec = option(
    "avro.timestamp_mapping.legacy",
    "BOOLEAN",
    "true",
    false,
    "TIMESTAMP is written as `timestamp-millis`; when false as `local-timestamp-…`, and TIMESTAMP_LTZ as `timestamp-…`.",
);

/// Options of `avro`.
pub const OPTIONS: &[OptionSpec] = &[
    ENCODING,
    TIMESTAMP_MAPPING,
    option("avro.codec", "STRING", "", false, "Accepted without effect: it compresses files, not messages."),
];

/// Options of `avro-confluent`.
pub const CONFLUENT_OPTIONS: &[OptionSpec] = &[
    option("avro-confluent.url", "STRING", "", true, "The schema registry; several addresses with commas."),
    option(
        "avro-confluent.subject",
        "STRING",
        "",
        false,
        "Under which schemas are registered when writing; `TOPIC-value` or `TOPIC-key` for Kafka.",
    ),
    option("avro-confluent.schema", "STRING", "", false, "The schema, if not the one made from the columns."),
    option(
        "avro-confluent.basic-auth.credentials-source",
        "ENUM(URL|USER_INFO)",
        "URL",
        false,
        "Where user and password are.",
    ),
    option("avro-confluent.basic-auth.user-info", "STRING", "", false, "`user:password`, for USER_INFO."),
    option(
        "avro-confluent.bearer-auth.credentials-source",
        "ENUM(STATIC_TOKEN)",
        "",
        false,
        "Only a token given here is supported.",
    ),
    option("avro-confluent.bearer-auth.token", "STRING", "", false, "The token."),
    option(
        "avro-confluent.ssl.truststore.location",
        "STRING",
        "",
        false,
        "A PEM file with the certificates to trust instead of the usual ones.",
    ),
    option("avro-confluent.ssl.truststore.password", "STRING", "", false, "Refused: PEM files have no password."),
    option("avro-confluent.ssl.keystore.location", "STRING", "", false, "Refused: no client certificates."),
    option("avro-confluent.ssl.keystore.password", "STRING", "", false, "Refused: no client certificates."),
    option("avro-confluent.properties.#", "STRING", "", false, "Refused: there is no Java client they could go to."),
];

/// Options of both formats, read.
#[derive(Clone, Debug)]
pub struct AvroOptions {
    /// TIMESTAMP as `timestamp-millis`.
    legacy_timestamps: bool,
    /// A schema that was given.
    schema: Option<String>,
    /// The registry: messages carry the id of their schema.
    registry: Option<Arc<RegistryOptions>>,
}

impl AvroOptions {
    /// Reads the options of `avro`.
    pub fn read(o: &TableOptions<'_>) -> Result<Self> {
        if o.one_of("avro.encoding", &["binary", "json"], 0)? == 1 {
            return Err(o
                .refused("avro.encoding", "the JSON encoding of Avro is not written or read")
                .hint("use 'binary', or the format 'json'"));
        }
        let legacy_timestamps = o.flag("avro.timestamp_mapping.legacy", true)?;
        Ok(AvroOptions { legacy_timestamps, schema: None, registry: None })
    }

    /// Reads the options of `avro-confluent`; `all` are the table's, for the topic.
    pub fn read_confluent(o: &TableOptions<'_>, all: &TableOptions<'_>, is_key: bool) -> Result<Self> {
        let registry = RegistryOptions::read(o, all.text("topic"), is_key)?;
        let schema = o.text("avro-confluent.schema").map(str::to_owned);
        Ok(AvroOptions { legacy_timestamps: true, schema, registry: Some(Arc::new(registry)) })
    }

    /// The format's name.
    pub fn name(&self) -> &'static str {
        if self.registry.is_some() { "avro-confluent" } else { "avro" }
    }

    /// The schema of the table: the one given, if it fits the columns, or the one made from them.
    fn schema(&self, columns: &[Column]) -> Result<String> {
        let derived = schema::of_columns(columns, self.legacy_timestamps)?;
        match &self.schema {
            None => Ok(derived.to_string()),
            Some(given) => schema::check(given, &derived).map(|()| given.clone()),
        }
    }
}

/// A decoder of `columns`.
pub fn decoder(options: &AvroOptions, columns: &[Column]) -> Result<Box<dyn MessageDecoder>> {
    let schema = options.schema(columns)?;
    let registry = options.registry.as_ref().map(|o| Registry::new(Arc::clone(o))).transpose()?;
    Ok(Box::new(decode::AvroDecoder::new(schema, registry, columns)?))
}

/// An encoder of `columns`.
pub fn encoder(options: &AvroOptions, columns: &[Column]) -> Result<Box<dyn MessageEncoder>> {
    let schema = options.schema(columns)?;
    let registry = options.registry.as_ref().map(|o| Registry::new(Arc::clone(o))).transpose()?;
    if registry.as_ref().is_some_and(|r| r.subject().is_none()) {
        return Err(Error::user("format.avro.subject", "the option 'avro-confluent.subject' is missing")
            .hint("it says under which subject of the registry the schema is registered"));
    }
    Ok(Box::new(encode::AvroEncoder::new(schema, registry, columns)?))
}

/// The columns as Arrow's schema that notes Avro's: what a container file is written with.
pub(in crate::formats) fn carrier(options: &AvroOptions, columns: &[Column]) -> Result<arrow_schema::Schema> {
    encode::carrier(&options.schema(columns)?, columns)
}

/// Refuses NULLs that the schema cannot carry.
pub(in crate::formats) fn check_nulls(columns: &[Column], rows: &arrow_array::RecordBatch) -> Result<()> {
    encode::check_nulls(columns, rows.columns())
}

/// An error of the crate about a schema.
fn schema_error(schema: &str, problem: impl std::fmt::Display) -> Error {
    let short = crate::formats::excerpt(schema.as_bytes());
    Error::user("format.avro.schema", format!("the Avro schema {short} cannot be used: {problem}"))
        .hint("correct the schema, or the columns of the table")
}

#[cfg(test)]
mod tests;
