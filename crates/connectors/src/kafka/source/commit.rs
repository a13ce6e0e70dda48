//! Commits offsets to the consumer group for others to see, after the checkpoint that covers them. A failure is logged and
//! counted, never an error: nothing here is read back.

use std::collections::VecDeque;

use flott_core::ids::CheckpointId;
use flott_core::source::ReaderContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::config::SourceConfig;
use super::partition::Assigned;
use super::split::PartitionSplit;
use crate::kafka::client::{Context, Watch};

/// Checkpoints whose positions are remembered until they are complete.
const CUTS_MAX: usize = 16;

/// The commits of one reader.
pub(super) struct Commits {
    on_checkpoint: bool,
    interval_ms: Option<i64>,
    next_ms: i64,
    cuts: VecDeque<(CheckpointId, Vec<PartitionSplit>)>,
    /// Partitions that ended since the last cut.
    finished: Vec<PartitionSplit>,
    checkpointed: bool,
    warned: bool,
}

impl Commits {
    pub(super) fn new(config: &SourceConfig, now_ms: i64) -> Self {
        let interval_ms = config.auto_commit_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX));
        Commits {
            on_checkpoint: config.commit_on_checkpoint,
            interval_ms,
            next_ms: now_ms.saturating_add(interval_ms.unwrap_or(0)),
            cuts: VecDeque::new(),
            finished: Vec::new(),
            checkpointed: false,
            warned: false,
        }
    }

    /// A partition ended.
    pub(super) fn finished(&mut self, partition: &Assigned) {
        if self.on_checkpoint || self.interval_ms.is_some() {
            self.finished.push(partition.position());
        }
    }

    /// The positions of a checkpoint.
    pub(super) fn cut(&mut self, checkpoint: CheckpointId, mut positions: Vec<PartitionSplit>) {
        if self.on_checkpoint {
            positions.extend(self.finished.iter().cloned());
            if self.cuts.len() == CUTS_MAX {
                self.cuts.pop_front();
            }
            self.cuts.push_back((checkpoint, positions));
        }
    }

    /// Commits the positions of a complete checkpoint.
    pub(super) fn complete(&mut self, consumer: &BaseConsumer<Context>, checkpoint: CheckpointId) {
        self.checkpointed = true;
        let Some(at) = self.cuts.iter().position(|(c, _)| *c == checkpoint) else { return };
        let last = self.cuts.drain(..=at).next_back();
        if let Some((_, positions)) = last {
            self.finished.retain(|f| !positions.contains(f));
            self.send(consumer, &positions);
        }
    }

    /// Without checkpoints: commits now and then, if `enable.auto.commit` says so.
    pub(super) fn tick(
        &mut self,
        consumer: &BaseConsumer<Context>,
        now_ms: i64,
        positions: impl FnOnce() -> Vec<PartitionSplit>,
    ) {
        let Some(interval_ms) = self.interval_ms.filter(|_| !self.checkpointed && now_ms >= self.next_ms) else {
            return;
        };
        self.next_ms = now_ms.saturating_add(interval_ms);
        let mut all = positions();
        all.append(&mut self.finished);
        self.send(consumer, &all);
    }

    fn send(&mut self, consumer: &BaseConsumer<Context>, positions: &[PartitionSplit]) {
        if positions.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::with_capacity(positions.len());
        let added = positions
            .iter()
            .try_for_each(|p| list.add_partition_offset(&p.topic, p.partition, Offset::Offset(p.offset)));
        if let Err(e) = added.and_then(|()| consumer.commit(&list, CommitMode::Async)) {
            self.warn(&e.to_string());
        }
    }

    /// Looks at what became of commits.
    pub(super) fn check(&mut self, watch: &Watch, context: &ReaderContext) {
        if let Some(code) = watch.take_commit_problem() {
            context.metrics.external.retries.add(1);
            self.warn(&code.to_string());
        }
    }

    fn warn(&mut self, problem: &str) {
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(
                "offsets were not committed to the consumer group; the next checkpoint tries again: {problem}"
            );
        } else {
            tracing::debug!("offsets were not committed: {problem}");
        }
    }
}
