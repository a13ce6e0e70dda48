//! A real broker for tests: topics, records, sources of tables, and readers driven to their end. Asserts nothing about the source.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use flott_connectors::contract::rows_of;
use flott_connectors::kafka::KafkaFactory;
use flott_core::config::Configuration;
use flott_core::memory::MemoryBudget;
use flott_core::metrics::OperatorMetrics;
use flott_core::registry::{ConnectorFactory, TableSpec};
use flott_core::sink::ChangelogMode;
use flott_core::source::{Boundedness, ReaderContext, ReaderEvent, Source, Split, SplitEnumerator, SplitReader};
use flott_core::time::SystemClock;
use flott_core::types::{Column, TypeKind};
use flott_core::{CheckpointId, Result};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

/// Waits for a future on this thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park_timeout(Duration::from_millis(20)),
        }
    }
}

/// A record to write.
#[derive(Clone, Default)]
pub struct Record {
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub timestamp: Option<i64>,
    pub headers: Vec<(&'static str, &'static str)>,
}

/// A record with a value in a partition.
pub fn value(partition: i32, value: impl Into<Vec<u8>>) -> Record {
    Record { partition, value: Some(value.into()), ..Record::default() }
}

/// A record with a key.
pub fn keyed(key: &str, value: Option<&str>) -> Record {
    Record { key: Some(key.into()), value: value.map(Into::into), ..Record::default() }
}

/// The broker of a test.
pub struct Broker {
    pub servers: String,
    admin: AdminClient<DefaultClientContext>,
}

static TOPICS: AtomicU32 = AtomicU32::new(0);

#[allow(clippy::disallowed_methods, reason = "tests find servers by the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

impl Broker {
    /// The broker that the environment names; without it the test is skipped.
    pub fn find() -> Option<Broker> {
        let Some(servers) = variable("FLOTT_TEST_KAFKA") else {
            assert!(variable("FLOTT_REQUIRE_SERVICES").is_none(), "FLOTT_TEST_KAFKA is missing");
            println!("skipped: no FLOTT_TEST_KAFKA");
            return None;
        };
        Some(Self::at(&servers))
    }

    pub fn at(servers: &str) -> Broker {
        let admin = ClientConfig::new().set("bootstrap.servers", servers).create().expect("an admin client");
        Broker { servers: servers.to_owned(), admin }
    }

    /// A new topic with a name of its own.
    pub fn topic(&self, what: &str, partitions: i32, config: &[(&str, &str)]) -> String {
        let n = TOPICS.fetch_add(1, Ordering::Relaxed);
        let name = format!("src.{what}-{}-{n}-{}", std::process::id(), now_ms() % 100_000);
        let mut topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        // Records of tests carry timestamps of long ago; the broker would delete them whenever its next check comes.
        if !config.iter().any(|(key, _)| *key == "retention.ms") {
            topic = topic.set("retention.ms", "-1");
        }
        for (key, value) in config {
            topic = topic.set(key, value);
        }
        let made = block_on(self.admin.create_topics([&topic], &AdminOptions::new())).expect("the admin call");
        made[0].as_ref().expect("the topic is made");
        name
    }

    pub fn add_partitions(&self, topic: &str, count: usize) {
        let request = NewPartitions::new(topic, count);
        let made = block_on(self.admin.create_partitions([&request], &AdminOptions::new())).expect("the admin call");
        made[0].as_ref().expect("partitions are added");
    }

    /// Removes the records before an offset.
    pub fn delete_before(&self, topic: &str, partition: i32, offset: i64) {
        let mut list = rdkafka::TopicPartitionList::new();
        list.add_partition_offset(topic, partition, rdkafka::Offset::Offset(offset)).expect("an offset");
        block_on(self.admin.delete_records(&list, &AdminOptions::new())).expect("records are removed");
    }

    pub fn producer(&self, more: &[(&str, &str)]) -> BaseProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers).set("message.max.bytes", "100000000").set("linger.ms", "0");
        for (key, value) in more {
            config.set(*key, *value);
        }
        config.create().expect("a producer")
    }

    /// Writes records in order and waits until they are there.
    pub fn write(&self, topic: &str, records: &[Record]) {
        let producer = self.producer(&[("acks", "all")]);
        send(&producer, topic, records);
        producer.flush(Duration::from_secs(30)).expect("records are written");
    }

    /// Writes records in one transaction, which commits or not.
    pub fn transaction(&self, topic: &str, records: &[Record], commit: bool) {
        let id = format!("{topic}-{}", TOPICS.fetch_add(1, Ordering::Relaxed));
        let producer = self.producer(&[("transactional.id", &id)]);
        let wait = Duration::from_secs(20);
        producer.init_transactions(wait).expect("a producer id");
        producer.begin_transaction().expect("a transaction");
        send(&producer, topic, records);
        producer.flush(wait).expect("written");
        if commit {
            producer.commit_transaction(wait).expect("committed");
        } else {
            producer.abort_transaction(wait).expect("aborted");
        }
    }

    /// A table on this broker.
    pub fn table(&self, columns: Vec<Column>, options: &[(&str, &str)]) -> TableSpec {
        let mut all: std::collections::BTreeMap<String, String> =
            [("connector", "kafka"), ("properties.bootstrap.servers", self.servers.as_str())]
                .iter()
                .chain(options)
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect();
        all.entry("scan.startup.mode".into()).or_insert("earliest-offset".into());
        TableSpec {
            name: "t".into(),
            columns,
            options: all,
            primary_key: Vec::new(),
            partition_keys: Vec::new(),
            input_mode: ChangelogMode::Append,
        }
    }
}

fn send(producer: &BaseProducer, topic: &str, records: &[Record]) {
    for r in records {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(r.partition);
        if let Some(key) = &r.key {
            record = record.key(key);
        }
        if let Some(value) = &r.value {
            record = record.payload(value);
        }
        if let Some(ms) = r.timestamp {
            record = record.timestamp(ms);
        }
        if !r.headers.is_empty() {
            let all = r
                .headers
                .iter()
                .fold(OwnedHeaders::new(), |h, (key, value)| h.insert(Header { key, value: Some(value.as_bytes()) }));
            record = record.headers(all);
        }
        while let Err((error, again)) = producer.send(record) {
            assert!(error.to_string().contains("Queue full"), "{error}");
            producer.poll(Duration::from_millis(10));
            record = again;
        }
        producer.poll(Duration::ZERO);
    }
}

/// Milliseconds since the epoch.
pub fn now_ms() -> i64 {
    SystemClock::shared().now_ms()
}

/// Nullable columns.
pub fn columns(of: &[(&str, TypeKind)]) -> Vec<Column> {
    of.iter().map(|(n, k)| Column::new(*n, k.clone().nullable())).collect()
}

/// A metadata column.
pub fn metadata(name: &str, key: &str, kind: TypeKind) -> Column {
    Column { name: name.into(), data_type: kind.nullable(), metadata_key: Some(key.into()) }
}

/// `n BIGINT`.
pub fn numbers() -> Vec<Column> {
    columns(&[("n", TypeKind::BigInt)])
}

/// `{"n":N}` for each number, in partition `N % partitions`.
pub fn counted(from: i64, to: i64, partitions: i32) -> Vec<Record> {
    (from..to).map(|n| value((n % i64::from(partitions)) as i32, format!("{{\"n\":{n}}}"))).collect()
}

/// The rows of [`counted`], sorted.
pub fn counted_rows(from: i64, to: i64) -> Vec<String> {
    let mut rows: Vec<String> = (from..to).map(|n| format!("+I[{n}]")).collect();
    rows.sort();
    rows
}

/// The source of a table.
pub fn source(table: &TableSpec) -> Result<Arc<dyn Source>> {
    KafkaFactory::new(table.options["connector"] == "upsert-kafka").source(table, &Configuration::default())
}

/// A context at the machine's clock.
pub fn context(subtask: u32, parallelism: u32, memory: MemoryBudget) -> ReaderContext {
    let (config, metrics) = (Arc::new(Configuration::default()), Arc::new(OperatorMetrics::default()));
    ReaderContext { subtask, parallelism, clock: SystemClock::shared(), config, memory, metrics }
}

/// A reader with everything that came out of it.
pub struct Run {
    pub reader: Box<dyn SplitReader>,
    pub metrics: Arc<OperatorMetrics>,
    pub rows: Vec<String>,
    pub batches: Vec<(Arc<str>, usize)>,
    pub drained: bool,
}

impl Run {
    pub fn new(source: &dyn Source, splits: Vec<Split>) -> Run {
        Self::within(source, splits, MemoryBudget::unlimited())
    }

    pub fn within(source: &dyn Source, splits: Vec<Split>, memory: MemoryBudget) -> Run {
        let context = context(0, 1, memory);
        let metrics = context.metrics.clone();
        let mut reader = source.reader(context).expect("a reader");
        reader.assign(splits).expect("splits are assigned");
        Run { reader, metrics, rows: Vec::new(), batches: Vec::new(), drained: false }
    }

    /// One poll, with the waiting that the runtime would do.
    pub fn step(&mut self) -> Result<()> {
        match self.reader.poll()? {
            ReaderEvent::Rows { split, batch } => {
                self.batches.push((split, batch.num_rows()));
                self.rows.extend(rows_of(&batch));
            }
            ReaderEvent::SplitFinished { .. } => {}
            ReaderEvent::Wait { until_ms } => {
                let ms = until_ms.saturating_sub(now_ms()).clamp(0, 50);
                std::thread::sleep(Duration::from_millis(ms as u64));
            }
            ReaderEvent::Drained => self.drained = true,
        }
        Ok(())
    }

    /// Polls until `done` or for `seconds`; whether it was done.
    pub fn until(&mut self, seconds: i64, mut done: impl FnMut(&Run) -> bool) -> Result<bool> {
        let end = now_ms() + seconds * 1000;
        while !done(self) {
            if now_ms() > end {
                return Ok(false);
            }
            self.step()?;
        }
        Ok(true)
    }

    /// Polls until there are so many rows.
    pub fn rows(&mut self, n: usize) {
        let done = self.until(20, |r| r.rows.len() >= n || r.drained).expect("no error");
        assert!(done && self.rows.len() >= n, "{} of {n} rows came: {:?}", self.rows.len(), self.rows.last());
    }

    /// Sorted rows.
    pub fn sorted(&self) -> Vec<String> {
        let mut rows = self.rows.clone();
        rows.sort();
        rows
    }
}

/// All splits of a source.
pub fn splits(source: &dyn Source) -> Result<Vec<Split>> {
    source.enumerator()?.discover(1)
}

/// Reads a bounded source to its end: the rows, sorted, and the counters.
pub fn read_all(source: &dyn Source) -> Result<(Vec<String>, Arc<OperatorMetrics>)> {
    let mut run = Run::new(source, splits(source)?);
    let done = run.until(30, |r| r.drained)?;
    assert!(done, "a bounded source ends; rows so far: {}", run.rows.len());
    Ok((run.sorted(), run.metrics.clone()))
}

/// A source whose readers wait as the runtime would, for the contract that moves a clock of its own.
pub struct Patient(pub Arc<dyn Source>);

struct PatientReader(Box<dyn SplitReader>);

impl Source for Patient {
    fn boundedness(&self) -> Boundedness {
        self.0.boundedness()
    }
    fn enumerator(&self) -> Result<Box<dyn SplitEnumerator>> {
        self.0.enumerator()
    }
    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SplitReader>> {
        Ok(Box::new(PatientReader(self.0.reader(context)?)))
    }
}

impl SplitReader for PatientReader {
    fn assign(&mut self, splits: Vec<Split>) -> Result<()> {
        self.0.assign(splits)
    }
    fn poll(&mut self) -> Result<ReaderEvent> {
        let event = self.0.poll()?;
        if matches!(event, ReaderEvent::Wait { .. }) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(event)
    }
    fn snapshot(&mut self) -> Result<Vec<Split>> {
        self.0.snapshot()
    }
    fn snapshot_for(&mut self, checkpoint: CheckpointId) -> Result<Vec<Split>> {
        self.0.snapshot_for(checkpoint)
    }
}
