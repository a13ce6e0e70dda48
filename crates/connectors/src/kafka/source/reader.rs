//! Reads the partitions of one subtask with one consumer, without a consumer group: a round of messages at a time, decoded into
//! columns per partition. Never waits for a broker in `poll`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use flott_core::ids::CheckpointId;
use flott_core::source::{ReaderContext, ReaderEvent, Split, SplitReader};
use flott_core::{Error, Result};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::commit::Commits;
use super::config::{BadRecords, SourceConfig};
use super::dead_letter::DeadLetters;
use super::health::Health;
use super::memory::{Extra, FetchShare};
use super::partition::Assigned;
use super::rows::{Appended, BadMessage};
use crate::kafka::client::{Context, Watch};

/// Messages decoded in one round at most.
const ROUND_MESSAGES: usize = 4096;
/// Rounds that were not full begin at least so far apart: a slow stream then comes in batches, not in single rows.
const ROUND_PAUSE_MS: i64 = 5;
/// The same when nothing came for a while.
const QUIET_PAUSE_MS: i64 = 20;
/// Empty rounds that make a while.
const QUIET_ROUNDS: u32 = 40;
/// A round that needs more than the reader's share waits so often for memory, then it goes on anyway.
const MEMORY_WAITS: u32 = 1000;

/// The reader of one subtask.
pub(super) struct KafkaReader {
    pub(super) config: Arc<SourceConfig>,
    pub(super) context: ReaderContext,
    pub(super) watch: Arc<Watch>,
    /// Made with the first split, when the number of partitions is known.
    pub(super) consumer: Option<BaseConsumer<Context>>,
    pub(super) partitions: Vec<Assigned>,
    pub(super) health: Health,
    share: Option<FetchShare>,
    letters: Option<DeadLetters>,
    commits: Commits,
    /// Partitions whose rows of the last round are not handed out yet: indices into `partitions`.
    ready: VecDeque<usize>,
    /// What the messages of the last round took beyond the share.
    extra: Option<Extra>,
    /// Bytes of the largest message seen lately.
    large_bytes: usize,
    memory_waits: u32,
    next_round_ms: i64,
    /// Empty rounds in a row.
    quiet_rounds: u32,
    /// That messages are larger than the share was said.
    said_large: bool,
    /// The topic and partition of the last message, and where it is in `partitions`.
    last: Option<(usize, i32, usize)>,
}

/// How a round ended.
struct Round {
    messages: usize,
    bytes: usize,
    /// The client had nothing more.
    empty: bool,
}

impl KafkaReader {
    pub(super) fn new(config: Arc<SourceConfig>, context: ReaderContext) -> Result<Self> {
        let letters = match &config.bad_records {
            BadRecords::DeadLetter(topic) => Some(DeadLetters::new(&config.producer, topic)?),
            _ => None,
        };
        let endpoint = format!("kafka {}, topic {}", config.properties.servers(), config.topics);
        context.metrics.external.set_endpoint(endpoint);
        Ok(KafkaReader {
            health: Health::new(&config),
            commits: Commits::new(&config, context.clock.now_ms()),
            watch: Arc::default(),
            consumer: None,
            partitions: Vec::new(),
            share: None,
            letters,
            ready: VecDeque::new(),
            extra: None,
            large_bytes: 0,
            memory_waits: 0,
            next_round_ms: i64::MIN,
            quiet_rounds: 0,
            said_large: false,
            last: None,
            config,
            context,
        })
    }

    /// The consumer, made when it is first needed.
    fn connect(&mut self, partitions: usize) -> Result<&BaseConsumer<Context>> {
        if self.consumer.is_none() {
            let share = FetchShare::take(&self.context.memory, self.context.parallelism);
            let mut properties = self.config.properties.clone();
            share.apply(&mut properties, partitions);
            let id = format!("{}-{}", properties.native("client.id").unwrap_or("flott"), self.context.subtask);
            properties.set("client.id", &id);
            properties.set("statistics.interval.ms", &self.health.interval_ms().to_string());
            if share.bounded() {
                tracing::info!(
                    table = %self.config.table,
                    subtask = self.context.subtask,
                    share_bytes = share.bytes(),
                    "the memory budget bounds the fetch: at most {} kB are fetched ahead",
                    properties.native("queued.max.messages.kbytes").unwrap_or("?")
                );
            }
            let context = Context::default();
            self.watch = context.0.clone();
            let consumer = BaseConsumer::from_config_and_context(&properties.client_config(), context)
                .map_err(|e| super::enumerator::creation(properties.servers(), &e))?;
            self.share = Some(share);
            self.consumer = Some(consumer);
        }
        self.consumer.as_ref().ok_or_else(|| Error::bug("the consumer was made just now"))
    }

    /// Reads the partitions at `at` from where they are.
    pub(super) fn read_from_here(&mut self, at: &[usize]) -> Result<()> {
        let mut list = TopicPartitionList::with_capacity(at.len());
        for &i in at {
            let p = &self.partitions[i];
            list.add_partition_offset(&p.topic, p.partition, Offset::Offset(p.next)).map_err(|e| self.refused(&e))?;
        }
        self.last = None;
        let consumer = self.connect(at.len())?;
        let assigned = consumer.incremental_assign(&list);
        assigned.map_err(|e| self.refused(&e))?;
        at.iter().for_each(|i| self.partitions[*i].fetched = true);
        Ok(())
    }

    /// Stops fetching a partition.
    pub(super) fn leave(&mut self, at: usize) -> Result<()> {
        let p = &mut self.partitions[at];
        if !std::mem::take(&mut p.fetched) {
            return Ok(());
        }
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(&p.topic, p.partition);
        self.last = None;
        match &self.consumer {
            Some(consumer) => consumer.incremental_unassign(&list).map_err(|e| self.refused(&e)),
            None => Ok(()),
        }
    }

    fn refused(&self, error: &KafkaError) -> Error {
        let message = format!("kafka {}: the consumer refuses partitions", self.config.properties.servers());
        Error::retry("kafka.unavailable", message).detail(error.to_string())
    }

    fn again_at(&self, ms: i64) -> ReaderEvent {
        ReaderEvent::Wait { until_ms: ms }
    }

    /// Takes what a round beyond the share needs; `false`: not now.
    fn reserve_for_round(&mut self, now_ms: i64) -> bool {
        let share = self.share.as_ref().map_or(0, FetchShare::round_bytes);
        if self.large_bytes <= share {
            return true;
        }
        let bounded = self.share.as_ref().is_some_and(FetchShare::bounded);
        if bounded && !std::mem::replace(&mut self.said_large, true) {
            tracing::warn!(
                table = %self.config.table,
                subtask = self.context.subtask,
                message_bytes = self.large_bytes,
                share_bytes = self.share.as_ref().map_or(0, FetchShare::bytes),
                "the fetch is bounded by the memory budget: messages are large, they are fetched a few at a time"
            );
        }
        let anyway = self.memory_waits >= MEMORY_WAITS;
        self.extra = Extra::take(&self.context.memory, self.large_bytes, anyway);
        if self.extra.is_none() {
            self.memory_waits += 1;
            self.next_round_ms = now_ms + ROUND_PAUSE_MS;
            return false;
        }
        self.memory_waits = 0;
        true
    }

    /// Decodes what the client has, up to the limits of a round.
    fn round(&mut self) -> Result<Round> {
        let bytes_max = self.share.as_ref().map_or(usize::MAX, FetchShare::round_bytes);
        let mut round = Round { messages: 0, bytes: 0, empty: false };
        let mut largest = 0;
        // Taken out, so that messages may borrow from it while the partitions change.
        let Some(consumer) = self.consumer.take() else { return Ok(round) };
        let (mut result, mut failed) = (Ok(()), None);
        while round.messages < ROUND_MESSAGES && round.bytes < bytes_max && result.is_ok() {
            let events = self.watch.events();
            match consumer.poll(Duration::ZERO) {
                // A callback was served instead: there may be messages behind it.
                None if self.watch.events() != events => {}
                None => {
                    round.empty = true;
                    break;
                }
                Some(Ok(message)) => {
                    let bytes = message.payload_len() + message.key_len();
                    round.messages += 1;
                    round.bytes += bytes;
                    largest = largest.max(bytes);
                    result = self.take(&message);
                }
                Some(Err(error)) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        self.consumer = Some(consumer);
        self.large_bytes = largest.max(self.large_bytes - self.large_bytes / 8);
        self.context.metrics.bytes.add(round.bytes as u64);
        result?;
        failed.map_or(Ok(()), |error| self.on_error(&error))?;
        Ok(round)
    }

    /// The partition of a message.
    #[inline]
    fn place(&mut self, message: &BorrowedMessage<'_>) -> Option<usize> {
        // The address of the client's topic stands for its name as long as no partition comes or goes.
        let (topic, partition) = (message.topic_ptr() as usize, message.partition());
        if let Some((t, p, at)) = self.last
            && t == topic
            && p == partition
        {
            return Some(at);
        }
        let name = message.topic();
        let at = self.partitions.iter().position(|p| p.partition == partition && *p.topic == *name)?;
        self.last = Some((topic, partition, at));
        Some(at)
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) -> Result<()> {
        let Some(at) = self.place(message) else { return Ok(()) };
        let p = &mut self.partitions[at];
        let offset = message.offset();
        // Below: came again after a pause. Beyond: belongs to whoever reads after the end.
        if offset < p.next || p.ended() {
            return Ok(());
        }
        if p.stop.is_some_and(|stop| offset >= stop) {
            p.next = offset;
            return Ok(());
        }
        let appended = p.rows.append(&self.config.plan, message);
        p.next = offset + 1;
        match appended {
            Ok(Appended::Rows) => Ok(()),
            Ok(Appended::Tombstone) => {
                self.context.metrics.bad_skipped.add(u64::from(self.config.counts_tombstones()));
                Ok(())
            }
            Err(bad) => self.on_bad(message, bad),
        }
    }

    #[cold]
    fn on_bad(&mut self, message: &BorrowedMessage<'_>, bad: BadMessage) -> Result<()> {
        let BadMessage { record, in_key } = bad;
        let error = || {
            let (servers, half) = (self.config.properties.servers(), if in_key { ", key" } else { "" });
            let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
            let field = record.field.as_ref().map(|f| format!(", field `{f}`")).unwrap_or_default();
            let place =
                format!("kafka {servers}, topic `{topic}`, partition {partition}, offset {offset}{half}{field}");
            Error::user("format.bad-record", format!("{place}: {}", record.problem)).hint(
                "set 'scan.bad-records' = 'skip' to skip and count such records, or 'dead-letter' to copy them to a topic",
            )
        };
        if !self.config.plan.ignores(in_key) {
            match &self.config.bad_records {
                BadRecords::Fail => return Err(error()),
                BadRecords::Skip => {}
                BadRecords::DeadLetter(_) => {
                    let reason = error().message().to_owned();
                    if let Some(letters) = &mut self.letters {
                        letters.send(message, &reason)?;
                    }
                }
            }
        }
        if self.context.metrics.bad_skipped.get() == 0 {
            tracing::warn!(table = %self.config.table, "the first bad record that is skipped: {}", error().message());
        }
        self.context.metrics.bad_skipped.add(1);
        Ok(())
    }

    /// Rows of the last round that are not handed out yet.
    fn hand_out(&mut self) -> Result<Option<ReaderEvent>> {
        while let Some(at) = self.ready.pop_front() {
            let p = &mut self.partitions[at];
            if p.rows.rows() > 0 {
                let batch = p.hand_out(&self.config.plan)?;
                return Ok(Some(ReaderEvent::Rows { split: p.id.clone(), batch }));
            }
        }
        self.extra = None;
        Ok(None)
    }

    /// A partition that was read to its end, if there is one.
    fn finish_one(&mut self) -> Result<Option<ReaderEvent>> {
        let Some(at) = self.partitions.iter().position(|p| p.ended() && p.rows.rows() == 0) else { return Ok(None) };
        self.leave(at)?;
        self.last = None;
        let done = self.partitions.remove(at);
        self.commits.finished(&done);
        Ok(Some(ReaderEvent::SplitFinished { split: done.id }))
    }

    /// After a round: which partitions have rows, and how far those are that have none.
    fn sort_out(&mut self) {
        for (at, p) in self.partitions.iter_mut().enumerate() {
            if p.rows.rows() > 0 {
                self.ready.push_back(at);
            } else {
                p.handed = p.next;
            }
        }
        if self.ready.is_empty() {
            self.extra = None;
        }
    }
}

impl SplitReader for KafkaReader {
    fn assign(&mut self, splits: Vec<Split>) -> Result<()> {
        let first = self.partitions.len();
        for split in &splits {
            self.partitions.push(Assigned::new(split, &self.config.plan)?);
        }
        let open: Vec<usize> = (first..self.partitions.len()).filter(|i| !self.partitions[*i].ended()).collect();
        if open.is_empty() { Ok(()) } else { self.read_from_here(&open) }
    }

    fn poll(&mut self) -> Result<ReaderEvent> {
        if let Some(event) = self.hand_out()? {
            return Ok(event);
        }
        if let Some(event) = self.finish_one()? {
            return Ok(event);
        }
        if self.partitions.is_empty() {
            return Ok(ReaderEvent::Drained);
        }
        let now_ms = self.context.clock.now_ms();
        if now_ms < self.next_round_ms {
            return Ok(self.again_at(self.next_round_ms));
        }
        if !self.reserve_for_round(now_ms) {
            return Ok(self.again_at(self.next_round_ms));
        }
        let round = self.round()?;
        self.sort_out();
        self.after_round(round.empty)?;
        if let Some(consumer) = &self.consumer {
            let current = self.partitions.iter().map(Assigned::position);
            self.commits.tick(consumer, now_ms, || current.collect());
            self.commits.check(&self.watch, &self.context);
        }
        self.quiet_rounds = if round.messages == 0 { self.quiet_rounds.saturating_add(1) } else { 0 };
        self.next_round_ms = match round.messages < ROUND_MESSAGES / 8 && round.empty {
            true if self.quiet_rounds > QUIET_ROUNDS => now_ms + QUIET_PAUSE_MS,
            true => now_ms + ROUND_PAUSE_MS,
            false => now_ms,
        };
        match self.hand_out()? {
            Some(event) => Ok(event),
            None => match self.finish_one()? {
                Some(event) => Ok(event),
                None => Ok(self.again_at(self.next_round_ms.max(now_ms + i64::from(round.empty)))),
            },
        }
    }

    fn snapshot(&mut self) -> Result<Vec<Split>> {
        if let Some(letters) = &mut self.letters {
            letters.flush()?;
        }
        Ok(self.partitions.iter().map(|p| p.position().encode()).collect())
    }

    fn snapshot_for(&mut self, checkpoint: CheckpointId) -> Result<Vec<Split>> {
        self.commits.cut(checkpoint, self.partitions.iter().map(Assigned::position).collect());
        self.snapshot()
    }

    fn pause(&mut self, split: &str, paused: bool) {
        let Some(p) = self.partitions.iter_mut().find(|p| &*p.id == split) else { return };
        p.paused = paused;
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(&p.topic, p.partition);
        let Some(consumer) = &self.consumer else { return };
        let done = if paused { consumer.pause(&list) } else { consumer.resume(&list) };
        if let Err(e) = done {
            tracing::warn!(table = %self.config.table, split, "a partition could not be paused or resumed: {e}");
        }
    }

    fn notify_complete(&mut self, checkpoint: CheckpointId) -> Result<()> {
        if let Some(consumer) = &self.consumer {
            self.commits.complete(consumer, checkpoint);
        }
        Ok(())
    }
}
