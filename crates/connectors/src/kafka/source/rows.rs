//! Messages of a partition to rows of the table: key and value by their formats, metadata beside them. Decides nothing about bad
//! records and reads from no broker.

use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow_schema::SchemaRef;
use flott_core::registry::TableSpec;
use flott_core::sink::ChangelogMode;
use flott_core::types::{Column, TypeKind, arrow_schema};
use flott_core::{ChangeBatch, Error, Result, RowKind};
use rdkafka::Timestamp;
use rdkafka::message::{BorrowedMessage, Headers, Message};

use crate::columns::ColumnBuilder;
use crate::formats::BadRecord;
use crate::formats::message::{Decoded, MessageDecoder, MessageFormat};
use crate::kafka::options::Encoding;

/// Stands for NULL in a list of places.
const NONE: u32 = u32::MAX;

/// Metadata of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meta {
    Topic,
    Partition,
    Headers,
    Offset,
    Timestamp,
    TimestampType,
}

/// Where a column of the rows comes from.
#[derive(Clone, Debug)]
enum Origin {
    Key(usize),
    Value(usize),
    Meta(usize),
}

/// How the messages of a table become rows; shared by all partitions.
#[derive(Debug)]
pub struct RowPlan {
    schema: SchemaRef,
    upsert: bool,
    key_format: Option<MessageFormat>,
    key: Vec<Column>,
    value_format: MessageFormat,
    value: Vec<Column>,
    meta: Vec<(Meta, Column)>,
    origins: Vec<Origin>,
}

impl RowPlan {
    /// The plan of a table; an error when a type or a metadata column cannot be read.
    pub fn new(table: &TableSpec, encoding: Encoding, upsert: bool) -> Result<Self> {
        let mut value = encoding.value_columns(table);
        let (mut meta, mut origins) = (Vec::new(), Vec::new());
        for (i, column) in table.columns.iter().enumerate() {
            let in_key = encoding.key.iter().position(|k| *k == i);
            let in_value = encoding.value.iter().position(|v| *v == i);
            // The value wins where a column is in both, except that the key is what an upsert is about.
            origins.push(match (&column.metadata_key, in_key, in_value) {
                (Some(key), ..) if key.starts_with("value.") => {
                    value.push(column.clone());
                    Origin::Value(value.len() - 1)
                }
                (Some(key), ..) => {
                    meta.push((of_key(table, column, key)?, column.clone()));
                    Origin::Meta(meta.len() - 1)
                }
                (None, Some(k), _) if upsert => Origin::Key(k),
                (None, _, Some(v)) => Origin::Value(v),
                (None, Some(k), None) => Origin::Key(k),
                (None, None, None) => return Err(Error::bug(format!("column `{}` is nowhere", column.name))),
            });
        }
        // A key that no column takes is not decoded at all.
        let keyed = upsert || origins.iter().any(|o| matches!(o, Origin::Key(_)));
        let plan = RowPlan {
            schema: arrow_schema(&table.columns),
            upsert,
            key: encoding.key_columns(table),
            key_format: encoding.key_format.filter(|_| keyed),
            value_format: encoding.value_format,
            value,
            meta,
            origins,
        };
        if upsert && plan.value_format.changelog_mode() != ChangelogMode::Append {
            return Err(Error::user(
                "table.unsupported-option",
                format!("table `{}`: 'upsert-kafka' takes no format of changes", table.name),
            )
            .detail(format!("'value.format' = '{}'", plan.value_format.name()))
            .hint("use the connector 'kafka' for it"));
        }
        plan.partition("", 0)?;
        Ok(plan)
    }

    /// Which changes the rows are.
    pub fn mode(&self) -> ChangelogMode {
        if self.upsert { ChangelogMode::Upsert } else { self.value_format.changelog_mode() }
    }

    /// Whether bad keys (`true`) or values are skipped and counted by an option of their format.
    pub fn ignores(&self, in_key: bool) -> bool {
        match &self.key_format {
            Some(format) if in_key => format.ignores_parse_errors(),
            _ => !in_key && self.value_format.ignores_parse_errors(),
        }
    }

    /// The rows of one partition, none yet.
    pub fn partition(&self, topic: &str, partition: i32) -> Result<PartitionRows> {
        let key = self.key_format.as_ref().map(|f| f.decoder(&self.key)).transpose()?;
        let meta = self.meta.iter().map(|(_, c)| ColumnBuilder::new(&c.data_type)).collect::<Result<_>>()?;
        Ok(PartitionRows {
            topic: topic.to_owned(),
            partition,
            key,
            value: self.value_format.decoder(&self.value)?,
            meta,
            key_at: Vec::new(),
            value_at: Vec::new(),
            rows: 0,
        })
    }
}

/// The metadata under a key, if the column can hold it.
fn of_key(table: &TableSpec, column: &Column, key: &str) -> Result<Meta> {
    let kind = &column.data_type.kind;
    let refuse = |problem: String| {
        Error::user("kafka.metadata", format!("table `{}`, column `{}`: {problem}", table.name, column.name))
    };
    let (meta, fits) = match key {
        "topic" => (Meta::Topic, kind.is_string()),
        "partition" => (Meta::Partition, matches!(kind, TypeKind::Int | TypeKind::BigInt)),
        "headers" => {
            let fits = matches!(kind, TypeKind::Map(k, v) if k.kind.is_string()
                && matches!(v.kind, TypeKind::VarBinary(_) | TypeKind::Binary(_)));
            (Meta::Headers, fits)
        }
        "offset" => (Meta::Offset, *kind == TypeKind::BigInt),
        "timestamp" => (Meta::Timestamp, kind.is_timestamp()),
        "timestamp-type" => (Meta::TimestampType, kind.is_string()),
        "leader-epoch" => {
            let problem = "the metadata 'leader-epoch' is not available: the client library does not hand it out";
            return Err(refuse(problem.into()).hint("leave the column out"));
        }
        _ => return Err(refuse(format!("there is no metadata '{key}'"))),
    };
    if fits { Ok(meta) } else { Err(refuse(format!("the metadata '{key}' cannot be read as {kind}"))) }
}

/// A bad record, and whether it is its key that is bad.
pub struct BadMessage {
    /// What is bad.
    pub record: BadRecord,
    /// It is the key.
    pub in_key: bool,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is in the rows.
    Rows,
    /// It has no value, and that means nothing here.
    Tombstone,
}

/// The rows of one partition since the last batch.
pub struct PartitionRows {
    topic: String,
    partition: i32,
    key: Option<Box<dyn MessageDecoder>>,
    value: Box<dyn MessageDecoder>,
    meta: Vec<ColumnBuilder>,
    /// For each row: its place among the decoded keys; unused without keys.
    key_at: Vec<u32>,
    /// For each row of an upsert table: its place among the decoded values.
    value_at: Vec<u32>,
    rows: usize,
}

impl PartitionRows {
    /// Rows since the last batch.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Appends the rows of a message. After an error nothing of it is in the rows.
    pub fn append(&mut self, plan: &RowPlan, message: &BorrowedMessage<'_>) -> Result<Appended, BadMessage> {
        let Some(payload) = message.payload() else {
            return if plan.upsert { self.append_upsert(plan, message, None) } else { Ok(Appended::Tombstone) };
        };
        if plan.upsert {
            return self.append_upsert(plan, message, Some(payload));
        }
        let key_at = self.decode_key(message)?;
        let before = self.value.rows();
        self.value.decode(payload).map_err(|record| BadMessage { record, in_key: false })?;
        let rows = self.value.rows() - before;
        if self.key.is_some() {
            self.key_at.extend(std::iter::repeat_n(key_at, rows));
        }
        self.append_meta(plan, message, rows);
        Ok(Appended::Rows)
    }

    fn append_upsert(
        &mut self,
        plan: &RowPlan,
        message: &BorrowedMessage<'_>,
        payload: Option<&[u8]>,
    ) -> Result<Appended, BadMessage> {
        let bad = |problem: &str, in_key| BadMessage {
            record: BadRecord { line: 0, field: None, problem: problem.into(), skip_option: "" },
            in_key,
        };
        let key_at = self.decode_key(message)?;
        if key_at == NONE {
            return Err(bad("the message has no key, and the key is the table's primary key", true));
        }
        let mut value_at = NONE;
        if let Some(payload) = payload {
            let before = self.value.rows();
            self.value.decode(payload).map_err(|record| BadMessage { record, in_key: false })?;
            match self.value.rows() - before {
                1 => value_at = before as u32,
                0 => return Err(bad("the value holds no row", false)),
                // Rows that nothing points to are left out of the batch.
                _ => return Err(bad("the value holds more than one row", false)),
            }
        }
        self.key_at.push(key_at);
        self.value_at.push(value_at);
        self.append_meta(plan, message, 1);
        Ok(Appended::Rows)
    }

    /// Decodes the key; its place among the keys, [`NONE`] when there is no key.
    fn decode_key(&mut self, message: &BorrowedMessage<'_>) -> Result<u32, BadMessage> {
        let (Some(decoder), Some(key)) = (&mut self.key, message.key()) else { return Ok(NONE) };
        let before = decoder.rows();
        decoder.decode(key).map_err(|record| BadMessage { record, in_key: true })?;
        if decoder.rows() == before + 1 {
            return Ok(before as u32);
        }
        let problem = "the key does not hold exactly one row".to_owned();
        Err(BadMessage { record: BadRecord { line: 0, field: None, problem, skip_option: "" }, in_key: true })
    }

    fn append_meta(&mut self, plan: &RowPlan, message: &BorrowedMessage<'_>, rows: usize) {
        self.rows += rows;
        for (builder, (meta, column)) in self.meta.iter_mut().zip(&plan.meta) {
            for _ in 0..rows {
                let taken = match meta {
                    Meta::Topic => builder.append_text(&self.topic),
                    Meta::Partition => builder.append_i64(i64::from(self.partition)),
                    Meta::Offset => builder.append_i64(message.offset()),
                    Meta::Timestamp => message
                        .timestamp()
                        .to_millis()
                        .is_some_and(|ms| builder.append_raw(in_unit(ms, &column.data_type.kind))),
                    Meta::TimestampType => builder.append_text(match message.timestamp() {
                        Timestamp::NotAvailable => "NoTimestampType",
                        Timestamp::CreateTime(_) => "CreateTime",
                        Timestamp::LogAppendTime(_) => "LogAppendTime",
                    }),
                    Meta::Headers => append_headers(builder, message),
                };
                if !taken {
                    builder.append_null();
                }
            }
        }
    }

    /// The rows as a batch; none are left.
    pub fn finish(&mut self, plan: &RowPlan) -> Result<ChangeBatch> {
        let rows = std::mem::take(&mut self.rows);
        let Decoded { columns: values, mut kinds } = self.value.finish()?;
        let keys = match &mut self.key {
            Some(decoder) => decoder.finish()?.columns,
            None => Vec::new(),
        };
        let keys = placed(keys, &std::mem::take(&mut self.key_at))?;
        let value_at = std::mem::take(&mut self.value_at);
        let values = if plan.upsert { placed(values, &value_at)? } else { values };
        let metas: Vec<ArrayRef> = self.meta.iter_mut().map(ColumnBuilder::finish).collect::<Result<_>>()?;
        if plan.upsert {
            let kind = |at: &u32| if *at == NONE { RowKind::Delete } else { RowKind::UpdateAfter };
            kinds = Some(value_at.iter().map(kind).collect());
        }
        let columns: Vec<ArrayRef> = plan
            .origins
            .iter()
            .map(|origin| match origin {
                Origin::Key(i) => keys[*i].clone(),
                Origin::Value(i) => values[*i].clone(),
                Origin::Meta(i) => metas[*i].clone(),
            })
            .collect();
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(plan.schema.clone(), columns, &options)?;
        Ok(ChangeBatch::new(batch, kinds, None))
    }
}

/// Columns whose row `i` is what is at `places[i]`; as they are when that changes nothing.
fn placed(columns: Vec<ArrayRef>, places: &[u32]) -> Result<Vec<ArrayRef>> {
    let Some(len) = columns.first().map(|c| c.len()) else { return Ok(columns) };
    if len == places.len() && places.iter().enumerate().all(|(i, at)| *at as usize == i) {
        return Ok(columns);
    }
    let places: UInt32Array = places.iter().map(|at| Some(*at).filter(|at| *at != NONE)).collect();
    columns.iter().map(|c| Ok(arrow_select::take::take(c.as_ref(), &places, None)?)).collect()
}

/// Milliseconds in the unit of a timestamp's carrier.
fn in_unit(ms: i64, kind: &TypeKind) -> i64 {
    match kind {
        TypeKind::Timestamp(0..=3) | TypeKind::TimestampLtz(0..=3) => ms,
        TypeKind::Timestamp(4..=6) | TypeKind::TimestampLtz(4..=6) => ms.saturating_mul(1_000),
        _ => ms.saturating_mul(1_000_000),
    }
}

fn append_headers(builder: &mut ColumnBuilder, message: &BorrowedMessage<'_>) -> bool {
    let Some((keys, values)) = builder.entries() else { return false };
    for header in message.headers().into_iter().flat_map(|h| h.iter()) {
        keys.append_text(header.key);
        match header.value {
            Some(value) if values.append_bytes(value) => {}
            _ => values.append_null(),
        }
    }
    builder.close();
    true
}
