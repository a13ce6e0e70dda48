//! One assigned partition: its rows, the position after them, and whether it has reached its end. Talks to no broker.

use std::sync::Arc;

use flott_core::source::Split;
use flott_core::{ChangeBatch, Result};

use super::rows::{PartitionRows, RowPlan};
use super::split::PartitionSplit;

/// A partition that is being read.
pub(super) struct Assigned {
    pub(super) id: Arc<str>,
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) rows: PartitionRows,
    /// The next offset to decode.
    pub(super) next: i64,
    /// The position after the rows that were handed out.
    pub(super) handed: i64,
    pub(super) stop: Option<i64>,
    pub(super) paused: bool,
    /// The consumer has it.
    pub(super) fetched: bool,
    /// Statistics in a row that say everything before the end was fetched.
    pub(super) fetched_to_end: u8,
}

impl Assigned {
    pub(super) fn new(split: &Split, plan: &RowPlan) -> Result<Self> {
        let PartitionSplit { topic, partition, offset, stop } = PartitionSplit::decode(split)?;
        Ok(Assigned {
            id: Arc::from(split.id.as_str()),
            rows: plan.partition(&topic, partition)?,
            topic: Arc::from(topic),
            partition,
            next: offset,
            handed: offset,
            stop,
            paused: false,
            fetched: false,
            fetched_to_end: 0,
        })
    }

    /// Whether nothing is left to decode.
    pub(super) fn ended(&self) -> bool {
        self.stop.is_some_and(|stop| self.next >= stop)
    }

    /// The rows since the last batch; from now on they count as handed out.
    pub(super) fn hand_out(&mut self, plan: &RowPlan) -> Result<ChangeBatch> {
        self.handed = self.next;
        self.rows.finish(plan)
    }

    /// The position after everything that was handed out.
    pub(super) fn position(&self) -> PartitionSplit {
        PartitionSplit {
            topic: self.topic.to_string(),
            partition: self.partition,
            offset: self.handed,
            stop: self.stop,
        }
    }
}
