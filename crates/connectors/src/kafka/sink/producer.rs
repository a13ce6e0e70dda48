//! A librdkafka producer as the sink needs it: hands records over without blocking, knows what is not delivered yet, and keeps
//! the first failure. Never decides when something is committed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flott_core::memory::Reservation;
use flott_core::{Error, Result};
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Partitioner, Producer, ProducerContext, PurgeConfig};

use super::config::ProducerConfig;
use super::options::Partitioning;
use crate::kafka::client::{Context, call_error, is_final};

/// How long one look at a topic's metadata may take, at the start.
const METADATA_MS: u64 = 1_000;
/// How often it is looked for while no broker answers.
const METADATA_TRIES: u32 = 10;
/// How often a topic that is not there is looked for, and the pause between.
const LOOKS: u32 = 10;
const LOOK_MS: u64 = 200;

/// A record that was not delivered.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its topic.
    pub topic: String,
    /// Bytes of key and value.
    pub bytes: usize,
    /// Why.
    pub code: Code,
}

/// Failed deliveries of one producer.
#[derive(Debug, Default)]
struct Failures(Mutex<Option<(Failure, u64)>>);

impl Failures {
    fn add(&self, failure: Failure) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            Some((_, count)) => *count += 1,
            None => *state = Some((failure, 1)),
        }
    }
    fn first(&self) -> Option<(Failure, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The partitioners that Kafka's clients do not have.
#[derive(Debug)]
pub struct OwnPartitioner {
    partitioning: Partitioning,
    subtask: u32,
    next: AtomicU32,
}

impl Partitioner for OwnPartitioner {
    fn partition(&self, _: &str, _: Option<&[u8]>, partitions: i32, _: impl Fn(i32) -> bool) -> i32 {
        let count = u32::try_from(partitions).unwrap_or(1).max(1);
        let at = match self.partitioning {
            Partitioning::RoundRobin => self.next.fetch_add(1, Ordering::Relaxed) % count,
            Partitioning::Fixed | Partitioning::Default => self.subtask % count,
        };
        i32::try_from(at).unwrap_or(0)
    }
}

/// What a producer reports.
pub struct Reports {
    client: Context,
    failures: Arc<Failures>,
    partitioner: Option<OwnPartitioner>,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.client.log(level, facility, message);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        self.client.error(error, reason);
    }
}

impl ProducerContext<OwnPartitioner> for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((e, message)) = result {
            let bytes = message.key_len() + message.payload_len();
            let code = e.rdkafka_error_code().unwrap_or(Code::Unknown);
            self.failures.add(Failure { topic: message.topic().to_owned(), bytes, code });
        }
    }

    fn get_custom_partitioner(&self) -> Option<&OwnPartitioner> {
        self.partitioner.as_ref()
    }
}

/// Whether a record was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It was.
    Taken,
    /// The queue is full.
    Full,
}

/// A record on its way out.
pub struct Outgoing<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; `None`: a tombstone.
    pub value: Option<&'a [u8]>,
    /// Milliseconds since the epoch; `None`: now.
    pub timestamp_ms: Option<i64>,
    /// Its headers.
    pub headers: Option<OwnedHeaders>,
}

/// A producer with what it has not delivered.
pub struct SinkProducer {
    producer: BaseProducer<Reports, OwnPartitioner>,
    failures: Arc<Failures>,
    config: Arc<ProducerConfig>,
    /// Records handed over.
    sent: u64,
    /// Memory of batches, with the number of records handed over up to their end.
    held: VecDeque<(u64, Reservation)>,
}

impl SinkProducer {
    /// A producer; with a transactional id, it is to be initialised by [`Self::begin`]'s caller.
    pub fn open(config: &Arc<ProducerConfig>, transaction: Option<(&str, i32)>) -> Result<Self> {
        let mut properties = config.properties.clone();
        if let Some((id, timeout_ms)) = transaction {
            properties.set("transactional.id", id);
            properties.set("transaction.timeout.ms", &timeout_ms.to_string());
            let delivery_ms = properties.native("delivery.timeout.ms").and_then(|t| t.parse().ok());
            if delivery_ms.is_none_or(|t: i32| t > timeout_ms) {
                // librdkafka's law for producers with transactions.
                properties.set("delivery.timeout.ms", &timeout_ms.to_string());
            }
        }
        let partitioning = config.partitioning;
        let partitioner = (partitioning != Partitioning::Default).then(|| OwnPartitioner {
            partitioning,
            subtask: config.subtask,
            // Subtasks begin at different partitions.
            next: AtomicU32::new(config.subtask),
        });
        let failures = Arc::new(Failures::default());
        let reports = Reports { client: Context::default(), failures: Arc::clone(&failures), partitioner };
        let producer = BaseProducer::from_config_and_context(&properties.client_config(), reports);
        let producer = producer.map_err(|e| {
            Error::user("kafka.property", format!("a Kafka producer cannot be made for {}", config.servers()))
                .detail(e.to_string())
                .hint("correct the table's 'properties.*'")
        })?;
        Ok(SinkProducer { producer, failures, config: Arc::clone(config), sent: 0, held: VecDeque::new() })
    }

    /// Looks whether the topic exists, or can be made; blocks for some seconds at most.
    pub fn check_topic(&self, topic: &str) -> Result<()> {
        let (mut tries, mut looks) = (METADATA_TRIES, LOOKS);
        loop {
            match self.look_for(topic) {
                Ok(None) => return Ok(()),
                // The question made the broker make it, if it does that.
                Ok(Some(Code::UnknownTopicOrPartition | Code::UnknownTopic)) if looks > 1 => {
                    looks -= 1;
                    std::thread::sleep(Duration::from_millis(LOOK_MS));
                }
                Ok(Some(Code::UnknownTopicOrPartition | Code::UnknownTopic)) => return Err(self.missing(topic)),
                Ok(Some(Code::TopicAuthorizationFailed)) => {
                    return Err(self.refused(topic, Code::TopicAuthorizationFailed));
                }
                // A topic that is being made has no leader yet.
                Ok(Some(_)) => return Ok(()),
                Err(e) => {
                    tries -= 1;
                    // What was reported meanwhile says more than a time-out, and may say that waiting is of no use.
                    let problem = self.producer.context().client.0.problem();
                    if tries == 0 || problem.is_some_and(|p| is_final(p.code)) {
                        return Err(self.failed(&format!("asking for the topic '{topic}'"), &e));
                    }
                }
            }
        }
    }

    /// What the brokers hold against the topic, if anything.
    fn look_for(&self, topic: &str) -> Result<Option<Code>, KafkaError> {
        let metadata = self.producer.client().fetch_metadata(Some(topic), Duration::from_millis(METADATA_MS));
        self.producer.poll(Duration::ZERO);
        Ok(metadata?.topics().iter().find_map(|t| t.error()).map(Code::from))
    }

    fn missing(&self, topic: &str) -> Error {
        Error::user("kafka.topic-missing", format!("kafka {}: there is no topic '{topic}'", self.config.servers()))
            .detail("the brokers do not make it by themselves (auto.create.topics.enable)")
            .hint(format!(
                "create it: kafka-topics.sh --create --topic {topic} --partitions N, or correct the option 'topic'"
            ))
    }

    fn refused(&self, topic: &str, code: Code) -> Error {
        Error::user(
            "kafka.authorization",
            format!("kafka {}: the topic '{topic}' may not be written", self.config.servers()),
        )
        .detail(code.to_string())
        .hint("grant the principal the operation Write on the topic")
    }

    /// Hands a record over. Does not block.
    pub fn send(&mut self, record: Outgoing<'_>) -> Result<Sent> {
        let Outgoing { topic, key, value, timestamp_ms, headers } = record;
        let bytes = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        let out = BaseRecord {
            topic,
            partition: None,
            payload: value,
            key,
            timestamp: timestamp_ms,
            headers,
            delivery_opaque: (),
        };
        match self.producer.send(out) {
            Ok(()) => {
                self.sent += 1;
                Ok(Sent::Taken)
            }
            Err((KafkaError::MessageProduction(Code::QueueFull), _)) => Ok(Sent::Full),
            Err((KafkaError::MessageProduction(code), _)) => {
                // A failure that came before explains why nothing is taken any more.
                self.producer.poll(Duration::ZERO);
                self.check()?;
                Err(self.undelivered(&Failure { topic: topic.to_owned(), bytes, code }, 1))
            }
            Err((e, _)) => Err(self.failed(&format!("a record for the topic '{topic}'"), &e)),
        }
    }

    /// Keeps the memory of what was handed over last until it is delivered.
    pub fn hold(&mut self, memory: Reservation) {
        self.held.push_back((self.sent, memory));
    }

    /// Sees what was delivered: how many records are still under way. An error when one failed.
    pub fn settle(&mut self) -> Result<u64> {
        self.producer.poll(Duration::ZERO);
        self.check()?;
        let under_way = u64::try_from(self.producer.in_flight_count()).unwrap_or(0);
        // Partitions overtake one another, so this is a little early or late for single records, never for all of them.
        let delivered = self.sent.saturating_sub(under_way);
        while self.held.front().is_some_and(|(end, _)| *end <= delivered) {
            self.held.pop_front();
        }
        Ok(under_way)
    }

    /// Bids librdkafka not to wait for fuller batches.
    pub fn hurry(&self) {
        // An error says only that something is still under way.
        let _ = self.producer.flush(Duration::from_millis(1));
    }

    /// Records handed over so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    fn check(&self) -> Result<()> {
        match self.failures.first() {
            Some((failure, count)) => Err(self.undelivered(&failure, count)),
            None => match self.producer.client().fatal_error() {
                Some((code, reason)) => Err(self.fatal(code, &reason)),
                None => Ok(()),
            },
        }
    }

    /// The error for records that were not delivered.
    fn undelivered(&self, failure: &Failure, count: u64) -> Error {
        let Failure { topic, bytes, code } = failure;
        let servers = self.config.servers();
        match code {
            Code::MessageSizeTooLarge | Code::InvalidMessageSize => {
                let limit = self.config.properties.native("message.max.bytes").unwrap_or("1000000");
                let sentence =
                    format!("kafka {servers}: a record of {bytes} bytes is too large for the topic '{topic}'");
                Error::user("kafka.message-too-large", sentence)
                    .detail(format!("the producer's limit is {limit} bytes (max.request.size); the topic's is max.message.bytes"))
                    .hint("raise 'properties.max.request.size', and max.message.bytes of the topic, above the size of the record")
            }
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => self.missing(topic),
            Code::TopicAuthorizationFailed => self.refused(topic, *code),
            Code::Fatal | Code::Fenced | Code::InvalidProducerEpoch | Code::InvalidTransactionalState => {
                match self.producer.client().fatal_error() {
                    Some((code, reason)) => self.fatal(code, &reason),
                    None => self.fatal(*code, &code.to_string()),
                }
            }
            _ => {
                let problem = self.producer.context().client.0.problem();
                let why = problem.map_or_else(|| code.to_string(), |p| format!("{code}: {}", p.reason));
                Error::retry(
                    "kafka.delivery",
                    format!("kafka {servers}: {count} records for '{topic}' were not delivered"),
                )
                .detail(why)
                .hint(
                    "see that the brokers run and that the topic has enough replicas in sync; \
                         'properties.delivery.timeout.ms' says for how long a record is tried",
                )
            }
        }
    }

    /// The error for a producer that can do nothing any more.
    fn fatal(&self, code: Code, reason: &str) -> Error {
        let servers = self.config.servers();
        let sentence = format!("kafka {servers}: the producer was stopped: {reason}");
        match code {
            Code::TransactionalIdAuthorizationFailed | Code::ClusterAuthorizationFailed => {
                Error::user("kafka.authorization", sentence)
                    .hint("grant the principal the operations Describe and Write on the transactional ids of 'sink.transactional-id-prefix'")
            }
            _ => Error::retry("kafka.fenced", sentence)
                .detail("its transaction expired, or a newer start of the job took over; nothing of it is visible to readers")
                .hint("if the transaction expired, raise 'properties.transaction.timeout.ms' above the time between checkpoints"),
        }
    }

    /// The error for a call that failed.
    pub fn failed(&self, what: &str, e: &KafkaError) -> Error {
        call_error(self.config.servers(), what, e, &self.producer.context().client.0)
    }

    /// Initialises the producer's transactional id; blocks for `timeout_ms` at most.
    pub fn initialise(&self, timeout_ms: u64) -> Result<()> {
        self.producer.init_transactions(Duration::from_millis(timeout_ms)).map_err(|e| {
            self.producer.poll(Duration::ZERO);
            match e.rdkafka_error_code() {
                Some(Code::InvalidTransactionTimeout) => super::check::timeout_too_long(&self.config, None),
                Some(code @ (Code::TransactionalIdAuthorizationFailed | Code::ClusterAuthorizationFailed)) => {
                    self.fatal(code, &e.to_string())
                }
                _ => self.failed("initialising a transaction (its coordinator may be unreachable)", &e),
            }
        })
    }

    /// Begins a transaction: nothing is sent.
    pub fn begin(&self) -> Result<()> {
        self.producer.begin_transaction().map_err(|e| self.failed("beginning a transaction", &e))
    }

    /// Forgets what is not delivered.
    pub fn purge(&self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
    }
}
