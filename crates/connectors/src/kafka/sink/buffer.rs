//! The buffer of `upsert-kafka`: keeps the last change of each key, up to a number of rows or for a time. Sends nothing.

use std::collections::HashMap;

use rdkafka::message::OwnedHeaders;

use super::records::Records;

/// A change, out of its batch.
#[derive(Debug)]
pub struct Change {
    /// Its topic; `None`: the table's only one.
    pub topic: Option<String>,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value; `None`: a tombstone.
    pub value: Option<Vec<u8>>,
    /// Milliseconds since the epoch; `None`: now.
    pub timestamp_ms: Option<i64>,
    /// Its headers.
    pub headers: Option<OwnedHeaders>,
}

/// Changes by topic and key.
#[derive(Debug)]
pub struct Buffer {
    rows_max: usize,
    interval_ms: i64,
    changes: Vec<Change>,
    at: HashMap<(Option<String>, Vec<u8>), usize>,
    since_ms: Option<i64>,
    bytes: usize,
}

impl Buffer {
    /// A buffer of at most `rows_max` keys, kept for at most `interval_ms`.
    pub fn new(rows_max: usize, interval_ms: i64) -> Self {
        Buffer { rows_max, interval_ms, changes: Vec::new(), at: HashMap::new(), since_ms: None, bytes: 0 }
    }

    /// Takes the records of a batch.
    pub fn add(&mut self, records: &Records, now_ms: i64) {
        for record in (0..records.rows()).filter_map(|row| records.get(row)) {
            self.since_ms.get_or_insert(now_ms);
            let change = Change {
                topic: record.topic.map(str::to_owned),
                key: record.key.unwrap_or_default().to_vec(),
                value: record.value.map(<[u8]>::to_vec),
                timestamp_ms: record.timestamp_ms,
                headers: records.headers(record.row),
            };
            self.bytes += change.bytes();
            let place = self.at.entry((change.topic.clone(), change.key.clone())).or_insert(self.changes.len());
            match self.changes.get_mut(*place) {
                Some(older) => {
                    self.bytes -= older.bytes();
                    *older = change;
                }
                None => self.changes.push(change),
            }
        }
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the changes are to be written now.
    pub fn is_due(&self, now_ms: i64) -> bool {
        self.changes.len() >= self.rows_max || self.due_ms().is_some_and(|due| due <= now_ms)
    }

    /// When they are, at the latest.
    pub fn due_ms(&self) -> Option<i64> {
        self.since_ms.map(|since| since.saturating_add(self.interval_ms))
    }

    /// The changes, in the order in which their keys came first. The buffer is empty then.
    pub fn take(&mut self) -> Vec<Change> {
        self.at.clear();
        (self.since_ms, self.bytes) = (None, 0);
        std::mem::take(&mut self.changes)
    }
}

impl Change {
    fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }
}
