//! Formats of messages: the value or key of one Kafka record to rows and back. Never reads from a server itself, except that
//! `avro-confluent` asks its schema registry.

#[cfg(feature = "avro")]
pub mod avro;
pub mod changelog;
mod choice;
pub mod dialect;
pub mod raw;
mod text;

use arrow_array::ArrayRef;
use flott_core::batch::{ChangeBatch, RowKinds};
use flott_core::error::{Error, Result};
use flott_core::types::Column;

use super::BadRecord;

pub use choice::MessageFormat;

/// Turns messages into columns, a message at a time.
pub trait MessageDecoder: Send {
    /// Appends the rows of one message: none, one, or several (`debezium-json` makes two of an update). After an error nothing of
    /// this message was appended.
    fn decode(&mut self, message: &[u8]) -> Result<(), BadRecord>;
    /// Rows appended since the last [`Self::finish`]. A message that could not be decoded for a reason outside of it (a schema
    /// registry that is away) counts as one, and `finish` fails.
    fn rows(&self) -> usize;
    /// These rows.
    fn finish(&mut self) -> Result<Decoded>;
}

/// Rows of a decoder: columns of one length, in the order of the table's columns it was made for.
pub struct Decoded {
    /// The columns.
    pub columns: Vec<ArrayRef>,
    /// Row kinds; `None`: all inserts.
    pub kinds: Option<RowKinds>,
}

/// Turns rows into messages.
pub trait MessageEncoder: Send {
    /// Appends one entry per row of `batch`, whose columns are those the encoder was made for.
    fn encode(&mut self, batch: &ChangeBatch, out: &mut Messages) -> Result<()>;
}

/// Encoded messages, one after another in one buffer.
#[derive(Debug, Default)]
pub struct Messages {
    /// All bytes.
    pub bytes: Vec<u8>,
    /// Per row: where its message ends (it begins where the one before ends), and whether there is one: NULL of `raw` is a
    /// record without a value.
    pub entries: Vec<MessageEnd>,
}

/// The end of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageEnd {
    /// Offset just after its last byte.
    pub end: usize,
    /// False: there are no bytes, as for NULL of `raw`: in Kafka a record without a value (or key).
    pub is_message: bool,
}

impl Messages {
    /// Empties it and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }
    /// Ends the message whose bytes were appended last.
    pub fn end(&mut self) {
        self.entries.push(MessageEnd { end: self.bytes.len(), is_message: true });
    }
    /// Notes a row without a message.
    pub fn skip(&mut self) {
        self.entries.push(MessageEnd { end: self.bytes.len(), is_message: false });
    }
    /// The message of a row.
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        let start = row.checked_sub(1).map_or(0, |before| self.entries[before].end);
        let entry = self.entries[row];
        entry.is_message.then(|| &self.bytes[start..entry.end])
    }
}

/// A column asks for metadata that the format does not read.
fn unknown_metadata(format: &str, column: &Column) -> Error {
    let key = column.metadata_key.as_deref().unwrap_or_default();
    Error::user(
        "format.metadata",
        format!("column `{}`: the format '{format}' has no metadata '{key}' to read", column.name),
    )
    .hint("see the format's metadata columns in the documentation, or declare a physical column")
}

#[cfg(test)]
pub(crate) mod tests;
