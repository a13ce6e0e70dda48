//! Rows into Kafka records: keys and values by their formats, a batch at a time; topic, timestamp and headers from metadata
//! columns; tombstones. Sends nothing.

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType};
use arrow_array::{Array, ArrayRef, BooleanArray, MapArray, RecordBatch, StringArray};
use arrow_schema::{DataType as Arrow, TimeUnit};
use flott_core::registry::TableSpec;
use flott_core::{ChangeBatch, Error, Result, RowKind};
use rdkafka::message::{Header, OwnedHeaders};
use regex::Regex;

use crate::formats::message::{MessageEncoder, Messages};
use crate::kafka::options::{Encoding, Topics};

/// Where records go, and which columns say what about them.
#[derive(Clone, Debug)]
pub struct RecordLayout {
    /// The table, for messages.
    pub table: String,
    /// The topics that may be written.
    pub topics: Topics,
    /// Formats and columns of keys and values.
    pub encoding: Encoding,
    /// The table itself: its columns.
    pub spec: TableSpec,
    /// Deletes become tombstones, values are always insertions.
    pub upsert: bool,
    topic_column: Option<usize>,
    timestamp_column: Option<usize>,
    headers_column: Option<usize>,
}

impl RecordLayout {
    /// The layout of a table; metadata columns that cannot be written are refused.
    pub fn new(spec: &TableSpec, topics: Topics, encoding: Encoding, upsert: bool) -> Result<Self> {
        let column = |key: &str| spec.columns.iter().position(|c| c.metadata_key.as_deref() == Some(key));
        let read_only = |key: &&str| !["topic", "timestamp", "headers"].contains(key);
        if let Some(key) = spec.columns.iter().filter_map(|c| c.metadata_key.as_deref()).find(read_only) {
            return Err(Error::user(
                "kafka.columns",
                format!("table `{}`: the metadata '{key}' cannot be written", spec.name),
            )
            .hint("declare the column VIRTUAL; topic, timestamp and headers can be written"));
        }
        let layout = RecordLayout {
            table: spec.name.clone(),
            topics,
            encoding,
            spec: spec.clone(),
            upsert,
            topic_column: column("topic"),
            timestamp_column: column("timestamp"),
            headers_column: column("headers"),
        };
        if layout.topic().is_none() && layout.topic_column.is_none() {
            return Err(Error::user(
                "kafka.columns",
                format!("table `{}` does not say which topic a row goes to", spec.name),
            )
            .detail(format!("it names '{}'", layout.topics))
            .hint("declare a column `topic` STRING METADATA, or name a single topic"));
        }
        // Types that the formats cannot carry are refused here, not in the task.
        layout.encoder()?;
        Ok(layout)
    }

    /// The topic, when all rows go to one.
    pub fn topic(&self) -> Option<&str> {
        match &self.topics {
            Topics::List(names) if names.len() == 1 => Some(&names[0]),
            _ => None,
        }
    }

    /// An encoder of the table's rows.
    pub fn encoder(&self) -> Result<RecordEncoder> {
        let key = match &self.encoding.key_format {
            Some(format) => Some(format.encoder(&self.encoding.key_columns(&self.spec))?),
            None => None,
        };
        let value = match (self.encoding.value.is_empty(), self.upsert) {
            (true, true) => None,
            _ => Some(self.encoding.value_format.encoder(&self.encoding.value_columns(&self.spec))?),
        };
        Ok(RecordEncoder { layout: self.clone(), key, value })
    }
}

/// Turns batches into records.
pub struct RecordEncoder {
    layout: RecordLayout,
    key: Option<Box<dyn MessageEncoder>>,
    value: Option<Box<dyn MessageEncoder>>,
}

/// The records of a batch.
#[derive(Default)]
pub struct Records {
    rows: usize,
    keys: Option<Messages>,
    values: Messages,
    /// Which message of `values` belongs to which row; `None`: the one with its number.
    value_of: Option<Vec<Value>>,
    topic: Option<StringArray>,
    timestamp: Option<(ArrayRef, TimeUnit)>,
    headers: Option<MapArray>,
}

#[derive(Clone, Copy)]
enum Value {
    Message(u32),
    Tombstone,
    /// The row makes no record.
    Nothing,
}

/// One record.
pub struct Record<'a> {
    /// Its topic; `None`: the table's only one.
    pub topic: Option<&'a str>,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; `None`: a tombstone.
    pub value: Option<&'a [u8]>,
    /// Milliseconds since the epoch; `None`: now.
    pub timestamp_ms: Option<i64>,
    /// The row, to ask for headers.
    pub row: usize,
}

impl RecordEncoder {
    /// The records of `batch`. Rows with a topic that the table does not allow are refused.
    pub fn encode(&mut self, batch: &ChangeBatch) -> Result<Records> {
        let rows = batch.num_rows();
        let mut records = Records { rows, ..Records::default() };
        if let Some(key) = &mut self.key {
            let columns = batch.rows.project(&self.layout.encoding.key)?;
            let mut messages = Messages::default();
            key.encode(&ChangeBatch::append(columns), &mut messages)?;
            records.keys = Some(messages);
        }
        match &mut self.value {
            Some(value) if self.layout.upsert => {
                records.value_of = encode_upserts(value.as_mut(), batch, &self.layout, &mut records.values)?;
            }
            Some(value) => {
                let columns = batch.rows.project(&self.layout.encoding.value)?;
                let columns = ChangeBatch::new(columns, batch.kinds.clone(), None);
                value.encode(&columns, &mut records.values)?;
            }
            None => {
                // A table whose columns are all in the key: what is there is an empty object, what is not is a tombstone.
                records.values.bytes.extend_from_slice(b"{}");
                records.values.end();
                let value = |i| match batch.kind(i) {
                    RowKind::Insert | RowKind::UpdateAfter => Value::Message(0),
                    RowKind::Delete => Value::Tombstone,
                    RowKind::UpdateBefore => Value::Nothing,
                };
                records.value_of = Some((0..rows).map(value).collect());
            }
        }
        self.metadata(&batch.rows, &mut records)?;
        Ok(records)
    }

    fn metadata(&self, rows: &RecordBatch, records: &mut Records) -> Result<()> {
        let layout = &self.layout;
        if let (Some(column), None) = (layout.topic_column, layout.topic()) {
            let topics = rows.column(column).as_string::<i32>().clone();
            check_topics(&topics, layout)?;
            records.topic = Some(topics);
        }
        if let Some(column) = layout.timestamp_column {
            let array = rows.column(column);
            let Arrow::Timestamp(unit, _) = array.data_type() else {
                return Err(Error::bug(format!("the metadata column `timestamp` is a {}", array.data_type())));
            };
            records.timestamp = Some((array.clone(), *unit));
        }
        if let Some(column) = layout.headers_column {
            records.headers = Some(rows.column(column).as_map().clone());
        }
        Ok(())
    }
}

/// Encodes insertions; the rows of tombstones and of `-U` get no message.
fn encode_upserts(
    value: &mut dyn MessageEncoder,
    batch: &ChangeBatch,
    layout: &RecordLayout,
    out: &mut Messages,
) -> Result<Option<Vec<Value>>> {
    let columns = batch.rows.project(&layout.encoding.value)?;
    let is_add = |i: usize| batch.kind(i).is_add();
    if batch.kinds.is_none() || (0..batch.num_rows()).all(is_add) {
        value.encode(&ChangeBatch::append(columns), out)?;
        return Ok(None);
    }
    let mask = BooleanArray::from_iter((0..batch.num_rows()).map(|i| Some(is_add(i))));
    let adds = arrow_select::filter::filter_record_batch(&columns, &mask)?;
    value.encode(&ChangeBatch::append(adds), out)?;
    let mut next = 0;
    let of = |i| match batch.kind(i) {
        RowKind::Insert | RowKind::UpdateAfter => {
            next += 1;
            Value::Message(next - 1)
        }
        RowKind::Delete => Value::Tombstone,
        // The +U that follows says it all.
        RowKind::UpdateBefore => Value::Nothing,
    };
    Ok(Some((0..batch.num_rows()).map(of).collect()))
}

fn check_topics(topics: &StringArray, layout: &RecordLayout) -> Result<()> {
    let mut last = "";
    for row in 0..topics.len() {
        let refused = |found: String| {
            Err(Error::user("kafka.topic", format!("table `{}`: a row goes to {found}", layout.table))
                .detail(format!("the table allows '{}'", layout.topics))
                .hint("correct the column `topic`, or the table's option 'topic' or 'topic-pattern'"))
        };
        if topics.is_null(row) {
            return refused("no topic: its column `topic` is NULL".to_owned());
        }
        let topic = topics.value(row);
        if topic == last {
            continue;
        }
        let allowed = match &layout.topics {
            Topics::List(names) => names.iter().any(|n| n == topic),
            Topics::Pattern(pattern) => matches_whole(pattern, topic),
        };
        if !allowed {
            return refused(format!("the topic '{topic}'"));
        }
        last = topic;
    }
    Ok(())
}

fn matches_whole(pattern: &Regex, topic: &str) -> bool {
    crate::kafka::options::is_topic(topic) && pattern.is_match(topic)
}

impl Records {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.values.bytes.len() + self.keys.as_ref().map_or(0, |k| k.bytes.len())
    }

    /// The record of a row; `None` when it makes none.
    pub fn get(&self, row: usize) -> Option<Record<'_>> {
        let value = match self.value_of.as_ref().map_or(Value::Message(row as u32), |v| v[row]) {
            Value::Message(at) => Some(self.values.get(at as usize)?),
            Value::Tombstone => None,
            Value::Nothing => return None,
        };
        let key = match &self.keys {
            Some(keys) => keys.get(row),
            None => None,
        };
        let topic = self.topic.as_ref().map(|t| t.value(row));
        Some(Record { topic, key, value, timestamp_ms: self.timestamp_ms(row), row })
    }

    fn timestamp_ms(&self, row: usize) -> Option<i64> {
        let (array, unit) = self.timestamp.as_ref().filter(|(a, _)| a.is_valid(row))?;
        Some(match unit {
            TimeUnit::Second => return None,
            TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().value(row),
            TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(row).div_euclid(1_000),
            TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1_000_000),
        })
    }

    /// The headers of a row.
    pub fn headers(&self, row: usize) -> Option<OwnedHeaders> {
        let map = self.headers.as_ref().filter(|m| m.is_valid(row))?;
        let entries = map.value(row);
        let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_binary::<i32>());
        let valid = (0..entries.len()).filter(|i| keys.is_valid(*i));
        let mut headers = OwnedHeaders::new_with_capacity(entries.len());
        for i in valid {
            let value = values.is_valid(i).then(|| values.value(i));
            headers = headers.insert(Header { key: keys.value(i), value });
        }
        Some(headers)
    }
}
