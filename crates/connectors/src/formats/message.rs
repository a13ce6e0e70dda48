//! Formats of messages: the value or key of one Kafka record to rows and back. Never reads from a server itself, except that
//! `avro-confluent` asks its schema registry.

use arrow_array::ArrayRef;
use flott_core::batch::{ChangeBatch, RowKinds};
use flott_core::error::Result;

use super::BadRecord;

/// Turns messages into columns, a message at a time.
pub trait MessageDecoder: Send {
    /// Appends the rows of one message: none, one, or several (`debezium-json` makes two of an update). After an error nothing of
    /// this message was appended.
    fn decode(&mut self, message: &[u8]) -> Result<(), BadRecord>;
    /// Rows appended since the last [`Self::finish`].
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
    /// Per row: where its message ends (it begins where the one before ends), and whether there is one: a format may have no
    /// word for a row kind.
    pub entries: Vec<MessageEnd>,
}

/// The end of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageEnd {
    /// Offset just after its last byte.
    pub end: usize,
    /// False: the row makes no message.
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
    /// Notes a row that makes no message.
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
