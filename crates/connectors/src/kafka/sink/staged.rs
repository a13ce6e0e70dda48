//! What a writer took and has not handed to librdkafka yet: a batch's records, or the changes of the buffer. Sends nothing itself.

use super::buffer::Change;
use super::producer::{Outgoing, Sent, SinkProducer};
use super::records::Records;
use flott_core::Result;
use flott_core::memory::Reservation;

/// Records on their way.
pub struct Staged {
    what: What,
    next: usize,
    memory: Option<Reservation>,
    topics: Vec<String>,
}

enum What {
    Records(Box<Records>),
    Changes(Vec<Change>),
}

impl Staged {
    /// The records of a batch.
    pub fn records(records: Records, memory: Reservation) -> Self {
        Staged { what: What::Records(Box::new(records)), next: 0, memory: Some(memory), topics: Vec::new() }
    }

    /// The changes of the buffer.
    pub fn changes(changes: Vec<Change>, memory: Option<Reservation>) -> Self {
        Staged { what: What::Changes(changes), next: 0, memory, topics: Vec::new() }
    }

    /// Topics other than the table's only one that records went to since the last call.
    pub fn take_topics(&mut self) -> Vec<String> {
        std::mem::take(&mut self.topics)
    }

    /// Hands over what it can; true when all is handed over. Goes on where it stopped.
    pub fn send(&mut self, producer: &mut SinkProducer, topic: &str) -> Result<bool> {
        loop {
            let (topic_of, sent) = match &mut self.what {
                What::Records(records) if self.next < records.rows() => {
                    let Some(record) = records.get(self.next) else {
                        self.next += 1;
                        continue;
                    };
                    let headers = records.headers(record.row);
                    let out = Outgoing {
                        topic: record.topic.unwrap_or(topic),
                        key: record.key,
                        value: record.value,
                        timestamp_ms: record.timestamp_ms,
                        headers,
                    };
                    (record.topic, producer.send(out)?)
                }
                What::Changes(changes) if self.next < changes.len() => {
                    let change = &changes[self.next];
                    let out = Outgoing {
                        topic: change.topic.as_deref().unwrap_or(topic),
                        key: Some(&change.key),
                        value: change.value.as_deref(),
                        timestamp_ms: change.timestamp_ms,
                        headers: change.headers.clone(),
                    };
                    (change.topic.as_deref(), producer.send(out)?)
                }
                _ => break,
            };
            if sent == Sent::Full {
                return Ok(false);
            }
            if let Some(topic) = topic_of
                && !self.topics.iter().any(|t| t == topic)
            {
                self.topics.push(topic.to_owned());
            }
            self.next += 1;
        }
        if let Some(memory) = self.memory.take() {
            producer.hold(memory);
        }
        Ok(true)
    }
}
