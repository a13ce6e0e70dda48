//! The writer of one subtask: takes batches whole, hands their records to librdkafka as its queue has room, and waits in `flush`
//! until all are delivered. Never blocks the task's thread, and never commits.

use std::sync::Arc;

use flott_core::memory::{MemoryUse, Reservation};
use flott_core::sink::{Committable, SinkContext, SinkWriter, WriteStatus};
use flott_core::{ChangeBatch, CheckpointId, Error, Result, crash_point};

use super::buffer::Buffer;
use super::committable::Prepared;
use super::config::ProducerConfig;
use super::options::DeliveryGuarantee;
use super::producer::SinkProducer;
use super::records::{RecordEncoder, RecordLayout};
use super::staged::Staged;
use super::transactions::{OpenTransaction, Transactions};

/// When to come back after a full queue.
const FULL_MS: i64 = 5;
/// When to come back for deliveries and answers.
const SOON_MS: i64 = 2;
/// How often failures of deliveries are looked for when nothing is written.
const LOOK_MS: i64 = 100;
/// What a row is held to take before any was seen.
const ROW_BYTES: usize = 128;

/// Where records go.
pub enum Output {
    /// To a producer without transactions.
    Plain(Box<SinkProducer>),
    /// To the producer of the current transaction.
    Transactional {
        /// Makes them.
        transactions: Transactions,
        /// The current one; there from the first row on.
        current: Option<Box<OpenTransaction>>,
    },
}

/// The writer of one subtask.
pub struct KafkaWriter {
    context: SinkContext,
    config: Arc<ProducerConfig>,
    encoder: RecordEncoder,
    /// The table's only topic, or nothing.
    topic: String,
    guarantee: DeliveryGuarantee,
    output: Output,
    buffer: Option<Buffer>,
    buffer_memory: Option<Reservation>,
    staged: Option<Staged>,
    /// Topics that the current transaction wrote to, for messages.
    topics: Vec<String>,
    /// Records handed over and seen delivered.
    delivered: u64,
    /// What the rows of late took.
    row_bytes: usize,
    /// When the call began that is shown in the metrics.
    calling_ns: Option<u64>,
    /// The current transaction as the coordinator knows it: all is in Kafka, and the checkpoint may have it.
    verified: Option<Prepared>,
}

impl KafkaWriter {
    /// A writer into `output`.
    pub fn new(
        layout: &RecordLayout,
        guarantee: DeliveryGuarantee,
        config: Arc<ProducerConfig>,
        output: Output,
        buffer: Option<(usize, i64)>,
        context: SinkContext,
    ) -> Result<Self> {
        let endpoint = format!("kafka {}, topic {}", config.servers(), layout.topics);
        context.metrics.external.set_endpoint(endpoint);
        Ok(KafkaWriter {
            encoder: layout.encoder()?,
            topic: layout.topic().unwrap_or_default().to_owned(),
            buffer: buffer.map(|(rows, interval_ms)| Buffer::new(rows, interval_ms)),
            context,
            config,
            guarantee,
            output,
            buffer_memory: None,
            staged: None,
            topics: Vec::new(),
            delivered: 0,
            row_bytes: ROW_BYTES,
            calling_ns: None,
            verified: None,
        })
    }

    fn busy(&self, ms: i64) -> WriteStatus {
        WriteStatus::Busy { until_ms: self.context.clock.now_ms().saturating_add(ms) }
    }

    /// Makes the next transaction the current one; false when it is not there yet.
    fn is_ready(&mut self) -> Result<bool> {
        let Output::Transactional { transactions, current } = &mut self.output else { return Ok(true) };
        if current.is_none() {
            let Some(next) = transactions.take_next()? else { return Ok(false) };
            *current = Some(Box::new(next));
            self.delivered = 0;
            // The one after it is made while this one is written to.
            transactions.prepare_next();
        }
        Ok(true)
    }

    fn producer(&mut self) -> Option<&mut SinkProducer> {
        match &mut self.output {
            Output::Plain(producer) => Some(producer),
            Output::Transactional { current, .. } => current.as_mut().map(|c| &mut c.producer),
        }
    }

    /// Hands over what is staged; false when some of it has to wait.
    fn drain(&mut self) -> Result<bool> {
        let Some(mut staged) = self.staged.take() else { return Ok(true) };
        if !self.is_ready()? {
            self.staged = Some(staged);
            return Ok(false);
        }
        let topic = std::mem::take(&mut self.topic);
        let producer = self.producer().expect("it is ready");
        let sent = staged.send(producer, &topic);
        self.topic = topic;
        for topic in staged.take_topics() {
            if !self.topics.contains(&topic) {
                self.topics.push(topic);
            }
        }
        let done = sent?;
        if !done {
            self.staged = Some(staged);
        }
        self.settle()?;
        Ok(done)
    }

    /// Looks at deliveries; records still under way.
    fn settle(&mut self) -> Result<u64> {
        let Some(producer) = self.producer() else { return Ok(0) };
        let under_way = producer.settle()?;
        let delivered = producer.sent().saturating_sub(under_way);
        let new = delivered.saturating_sub(self.delivered);
        self.delivered = delivered.max(self.delivered);
        self.context.metrics.external.rows.add(new);
        Ok(under_way)
    }

    /// Shows that a call is under way, once.
    fn calling(&mut self, what: impl FnOnce() -> String) {
        if self.calling_ns.is_none() {
            self.calling_ns = Some(self.context.clock.now_nanos());
            self.context.metrics.external.begin(what(), self.context.clock.now_ms());
        }
    }

    fn called(&mut self) {
        if let Some(begun) = self.calling_ns.take() {
            let ns = self.context.clock.now_nanos().saturating_sub(begun);
            // Rows are counted as they are delivered.
            self.context.metrics.external.end(0, ns);
        }
    }

    /// Memory for a batch; `None`: not now.
    fn reserve(&self, bytes: usize) -> Option<Reservation> {
        self.context.memory.try_reserve(MemoryUse::Sink, bytes)
    }

    fn take(&mut self, batch: &ChangeBatch) -> Result<WriteStatus> {
        let rows = batch.num_rows();
        let Some(mut memory) = self.reserve(rows.saturating_mul(self.row_bytes)) else {
            return Ok(self.busy(FULL_MS));
        };
        let records = self.encoder.encode(batch)?;
        let bytes = records.bytes();
        self.row_bytes = (bytes / rows).max(16);
        if bytes > memory.bytes() {
            drop(memory);
            memory = self.context.memory.reserve(MemoryUse::Sink, bytes);
        } else {
            memory.shrink_to(bytes);
        }
        self.context.metrics.bytes.add(bytes as u64);
        match &mut self.buffer {
            None => self.staged = Some(Staged::records(records, memory)),
            Some(buffer) => {
                drop(memory);
                buffer.add(&records, self.context.clock.now_ms());
                self.buffer_memory = Some(self.context.memory.reserve(MemoryUse::Sink, buffer.bytes()));
                if buffer.is_due(self.context.clock.now_ms()) {
                    self.stage_buffer();
                }
            }
        }
        Ok(WriteStatus::Accepted)
    }

    /// Stages what the buffer holds; only when nothing is staged.
    fn stage_buffer(&mut self) {
        let changes = self.buffer.as_mut().map(Buffer::take).unwrap_or_default();
        let memory = self.buffer_memory.take();
        if !changes.is_empty() {
            self.staged = Some(Staged::changes(changes, memory));
        }
    }

    /// Whether the coordinator still has the transaction open: then, and only then, the checkpoint may have it.
    fn verify(&mut self) -> Result<bool> {
        let Output::Transactional { transactions, current: Some(current) } = &mut self.output else { return Ok(true) };
        if self.verified.is_some() || current.producer.sent() == 0 {
            return Ok(true);
        }
        let Some(state) = transactions.look(&current.id)? else { return Ok(false) };
        let found = match state {
            Some(s)
                if s.state == "Ongoing"
                    && (s.producer_id, s.producer_epoch) == (current.producer_id, current.epoch) =>
            {
                s
            }
            found => {
                let found =
                    found.map_or_else(|| "gone".to_owned(), |s| format!("{}, epoch {}", s.state, s.producer_epoch));
                let servers = self.config.servers();
                return Err(Error::retry(
                    "kafka.transaction-aborted",
                    format!(
                        "kafka {servers}: the transaction '{}' was aborted before its checkpoint; it is {found}",
                        current.id
                    ),
                )
                .detail(format!(
                    "it expires after {} ms; nothing of it is in a checkpoint, so nothing is lost",
                    current.timeout_ms
                ))
                .hint("raise 'properties.transaction.timeout.ms' above the time between checkpoints"));
            }
        };
        let topics = if self.topics.is_empty() { self.topic.clone() } else { self.topics.join(", ") };
        self.verified = Some(Prepared {
            id: current.id.clone(),
            producer_id: current.producer_id,
            epoch: current.epoch,
            started_ms: found.started_ms,
            timeout_ms: current.timeout_ms,
            rows: current.producer.sent(),
            topics,
        });
        Ok(true)
    }

    /// Nothing is staged, under way or unverified.
    fn is_flushed(&mut self, end_of_data: bool) -> Result<bool> {
        if self.staged.is_none() && self.buffer.is_some() {
            self.stage_buffer();
        }
        if !self.drain()? {
            return Ok(false);
        }
        if self.guarantee == DeliveryGuarantee::None && !end_of_data {
            return Ok(true);
        }
        if self.settle()? > 0 {
            if let Some(producer) = self.producer() {
                producer.hurry();
            }
            if self.settle()? > 0 {
                return Ok(false);
            }
        }
        self.verify()
    }
}

impl SinkWriter for KafkaWriter {
    /// A batch is taken whole or not at all: an unaligned checkpoint keeps a batch that was not taken.
    fn write(&mut self, batch: &ChangeBatch) -> Result<WriteStatus> {
        if batch.num_rows() == 0 {
            return Ok(WriteStatus::Accepted);
        }
        if !self.drain()? || !self.is_ready()? {
            self.settle()?;
            self.calling(|| "handing over records: the queue of the producer is full".to_owned());
            return Ok(self.busy(FULL_MS));
        }
        let status = self.take(batch)?;
        if status == WriteStatus::Accepted {
            self.called();
            self.verified = None;
            self.drain()?;
        } else {
            self.settle()?;
            self.calling(|| "waiting for memory: records are not delivered yet".to_owned());
        }
        Ok(status)
    }

    fn flush(&mut self, end_of_data: bool) -> Result<WriteStatus> {
        if self.is_flushed(end_of_data)? {
            self.called();
            return Ok(WriteStatus::Accepted);
        }
        let left = match self.producer() {
            Some(producer) => producer.sent(),
            None => 0,
        };
        let left = left.saturating_sub(self.delivered);
        self.calling(|| format!("flush of {left} records"));
        Ok(self.busy(SOON_MS))
    }

    fn prepare_commit(&mut self, checkpoint: CheckpointId, end_of_data: bool) -> Result<Vec<Committable>> {
        let all = self.guarantee != DeliveryGuarantee::None || end_of_data;
        if all && (self.staged.is_some() || self.settle()? > 0) {
            return Err(Error::bug("a Kafka sink was to prepare a commit before it was flushed"));
        }
        crash_point::reach("kafka.sink.flushed");
        let Output::Transactional { transactions, current } = &mut self.output else { return Ok(Vec::new()) };
        let Some(prepared) = self.verified.take() else {
            if current.as_ref().is_some_and(|c| c.producer.sent() > 0) {
                return Err(Error::bug("a Kafka sink was to prepare a transaction that was not verified"));
            }
            return Ok(Vec::new());
        };
        if let Some(done) = current.take() {
            transactions.close(done.producer);
        }
        self.topics.clear();
        self.delivered = 0;
        crash_point::reach("kafka.sink.prepared");
        Ok(vec![prepared.to_committable(checkpoint)])
    }

    fn on_processing_time(&mut self, now_ms: i64) -> Result<Option<i64>> {
        if let Output::Transactional { transactions, current: None } = &mut self.output {
            transactions.prepare_next();
        }
        if self.staged.is_none() && self.buffer.as_ref().is_some_and(|b| b.is_due(now_ms)) {
            self.stage_buffer();
        }
        self.drain()?;
        self.settle()?;
        let due_ms = self.buffer.as_ref().and_then(Buffer::due_ms).unwrap_or(i64::MAX);
        Ok(Some(due_ms.clamp(now_ms + 1, now_ms + LOOK_MS)))
    }
}

impl Drop for KafkaWriter {
    /// A transaction that is in no checkpoint is aborted, so that readers of committed records do not wait for its timeout.
    fn drop(&mut self) {
        if let Output::Transactional { transactions, current } = &mut self.output
            && let Some(open) = current.take()
            && open.producer.sent() > 0
        {
            transactions.abort(*open);
        }
    }
}
