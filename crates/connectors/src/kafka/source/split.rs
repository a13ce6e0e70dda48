//! A partition, where to read on in it and where to stop; never asks a broker.

use flott_core::Result;
use flott_core::source::Split;

use crate::wire::{Reader, Writer};

/// Tag and version of the encoded position.
const TAG: (u8, u8) = (b'K', 1);

/// A partition with the position in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionSplit {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset of the next record.
    pub offset: i64,
    /// The offset to stop at: the first that is not read. `None`: never.
    pub stop: Option<i64>,
}

impl PartitionSplit {
    /// `TOPIC-PARTITION`, as in Flink. No two partitions have the same: what follows the last `-` is the partition.
    pub fn id_of(topic: &str, partition: i32) -> String {
        format!("{topic}-{partition}")
    }

    /// Name of the split.
    pub fn id(&self) -> String {
        Self::id_of(&self.topic, self.partition)
    }

    /// With the position encoded.
    pub fn encode(&self) -> Split {
        let number = |n: i64| u64::from_le_bytes(n.to_le_bytes());
        let state = Writer::new(TAG.0, TAG.1)
            .text(&self.topic)
            .u64(number(i64::from(self.partition)))
            .u64(number(self.offset))
            .u64(number(self.stop.unwrap_or(i64::MAX)));
        Split { id: self.id(), state: state.done() }
    }

    /// From its encoding.
    pub fn decode(split: &Split) -> Result<Self> {
        let mut reader = Reader::new("position in a Kafka partition", &split.state, TAG.0, TAG.1)?;
        let topic = reader.text()?;
        let mut number = || reader.u64().map(|n| i64::from_le_bytes(n.to_le_bytes()));
        let (partition, offset, stop) = (number()?, number()?, number()?);
        reader.end()?;
        let partition = i32::try_from(partition).map_err(|_| {
            flott_core::Error::corrupt("connector.state", "a partition in the checkpoint has no number")
        })?;
        Ok(PartitionSplit { topic, partition, offset, stop: Some(stop).filter(|s| *s != i64::MAX) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_and_foreign_bytes_do_not() {
        for stop in [None, Some(0), Some(77)] {
            let split = PartitionSplit { topic: "a.b-c".into(), partition: 12, offset: 1 << 40, stop };
            let encoded = split.encode();
            assert_eq!(encoded.id, "a.b-c-12");
            assert_eq!(PartitionSplit::decode(&encoded).expect("its own bytes"), split);
            for cut in 0..encoded.state.len() {
                let short = Split { id: encoded.id.clone(), state: encoded.state[..cut].to_vec() };
                assert_eq!(PartitionSplit::decode(&short).expect_err("too short").code(), "connector.state");
            }
        }
    }
}
