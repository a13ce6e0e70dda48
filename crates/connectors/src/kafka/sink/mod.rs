//! The sink of `kafka` and `upsert-kafka`, exactly once by transactions that survive the death of their producers. How, and why
//! so: `docs/design/kafka-sink.md`.

mod buffer;
mod builder;
mod check;
mod committable;
mod committer;
mod config;
mod endings;
mod naming;
mod options;
mod producer;
pub mod protocol;
mod records;
mod staged;
mod transactions;
mod writer;

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use flott_core::config::Configuration;
use flott_core::ids::OperatorId;
use flott_core::registry::TableSpec;
use flott_core::sink::{ChangelogMode, Committer, Sink, SinkContext, SinkWriter};
use flott_core::{Error, Result};
use regex::Regex;

use super::options::{Encoding, Topics};
use super::properties::{ClientProperties, Side};
use crate::options::TableOptions;
use committer::KafkaCommitter;
use endings::{Endings, Shared};
use naming::Names;
use producer::SinkProducer;
use protocol::{Cluster, Security};
use records::RecordLayout;
use transactions::Transactions;
use writer::{KafkaWriter, Output};

pub use builder::KafkaSinkBuilder;
pub use committable::{Fate, Prepared, fate};
pub use naming::{NamingStrategy, Origin};
pub use options::{DeliveryGuarantee, Partitioning, SINK_OPTIONS, SinkOptions, UPSERT_SINK_OPTIONS};

/// Kafka as a sink.
pub struct KafkaSink {
    layout: RecordLayout,
    options: SinkOptions,
    properties: ClientProperties,
    mode: ChangelogMode,
    /// For exactly-once: how the connections beside librdkafka's are made.
    security: Option<Security>,
    timeout_ms: Option<i32>,
    /// What writers and committers of a subtask share.
    attempts: Mutex<HashMap<(OperatorId, u32), Attempt>>,
}

/// The latest attempt of a subtask.
struct Attempt {
    number: (u64, u32),
    names: Arc<Names>,
    swept: Arc<AtomicBool>,
}

impl KafkaSink {
    /// The sink of a table whose options are checked. For exactly-once it asks the brokers for their limit of transactions, if
    /// they can be reached.
    pub fn new(o: &TableOptions<'_>, table: &TableSpec, config: &Configuration, upsert: bool) -> Result<Self> {
        let encoding = Encoding::read(o, table, upsert)?;
        let options = SinkOptions::read(o, upsert, !encoding.key.is_empty())?;
        let properties = config::table_properties(ClientProperties::read(table, Side::Producer)?, &options)?;
        let mode = if upsert { ChangelogMode::Upsert } else { encoding.value_format.changelog_mode() };
        let layout = RecordLayout::new(table, topics(o)?, encoding, upsert)?;
        let mut sink = KafkaSink {
            layout,
            options,
            properties,
            mode,
            security: None,
            timeout_ms: None,
            attempts: Mutex::default(),
        };
        if sink.options.guarantee == DeliveryGuarantee::ExactlyOnce {
            sink.check_transactions(config)?;
        }
        Ok(sink)
    }

    /// A builder for programs.
    pub fn builder(servers: impl Into<String>, topic: impl Into<String>) -> KafkaSinkBuilder {
        KafkaSinkBuilder::new(servers.into(), topic.into())
    }

    fn check_transactions(&mut self, config: &Configuration) -> Result<()> {
        let security = Security::read(&self.properties)?;
        self.timeout_ms = config::given_timeout_ms(&self.properties)?;
        let mut cluster = Cluster::new(self.properties.servers(), security.clone()).once();
        check::check_timeout(self.timeout_ms, &mut cluster)?;
        let timeout_ms = self.timeout_ms.unwrap_or(check::DEFAULT_TIMEOUT_MS);
        if let Some(why) = check::too_short(timeout_ms, config) {
            tracing::warn!(table = self.layout.table, "{why}");
        }
        self.security = Some(security);
        Ok(())
    }

    /// What the writer and the committer of a subtask share in one attempt. What older attempts shared is forgotten.
    fn shared(&self, context: &SinkContext) -> Shared {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let number = (context.run, context.attempt);
        let of_operator = |(operator, _): &(OperatorId, u32)| *operator == context.operator;
        let sibling = attempts.iter().find(|(key, a)| of_operator(key) && a.number == number);
        let swept = sibling.map(|(_, a)| Arc::clone(&a.swept)).unwrap_or_default();
        let fresh = || Attempt {
            number,
            names: Arc::new(Names::new(&self.options.prefix, context, self.options.naming)),
            swept,
        };
        let attempt = match attempts.remove(&(context.operator, context.subtask)) {
            Some(attempt) if attempt.number == number => attempt,
            _ => fresh(),
        };
        let shared = Shared { names: Arc::clone(&attempt.names), swept: Arc::clone(&attempt.swept) };
        attempts.insert((context.operator, context.subtask), attempt);
        shared
    }
}

/// The topics that a sink may write to.
fn topics(o: &TableOptions<'_>) -> Result<Topics> {
    let Some(pattern) = o.text("topic-pattern") else { return super::options::topic_list(o).map(Topics::List) };
    if o.text("topic").is_some() {
        return Err(o.refused("topic-pattern", "'topic' is set too; only one of the two may be"));
    }
    let regex = Regex::new(&format!("^(?:{pattern})$"));
    regex.map(Topics::Pattern).map_err(|e| o.bad("topic-pattern", "a regular expression").detail(e.to_string()))
}

impl Sink for KafkaSink {
    fn changelog_mode(&self) -> ChangelogMode {
        self.mode
    }

    fn writer(&self, context: SinkContext, _: Vec<Bytes>) -> Result<Box<dyn SinkWriter>> {
        let config = config::of_subtask(&self.properties, &self.options, self.timeout_ms, &context);
        let config = Arc::new(config);
        let topic = self.layout.topic().map(str::to_owned);
        let output = match &self.security {
            Some(security) => {
                let names = self.shared(&context).names;
                let transactions = Transactions::start(Arc::clone(&config), security.clone(), names, topic)?;
                Output::Transactional { transactions, current: None }
            }
            None => {
                let producer = SinkProducer::open(&config, None)?;
                topic.map(|topic| producer.check_topic(&topic)).transpose()?;
                Output::Plain(Box::new(producer))
            }
        };
        let (guarantee, buffer) = (self.options.guarantee, self.options.buffer);
        Ok(Box::new(KafkaWriter::new(&self.layout, guarantee, config, output, buffer, context)?))
    }

    fn committer(&self, context: SinkContext) -> Result<Option<Box<dyn Committer>>> {
        let Some(security) = &self.security else { return Ok(None) };
        let cluster = Cluster::new(self.properties.servers(), security.clone());
        let shared = self.shared(&context);
        let (table, prefix) = (self.layout.table.clone(), self.options.prefix.clone());
        let endings = Endings::new(cluster, context.clone(), table, prefix, self.options.ignore_lost, shared);
        Ok(Some(Box::new(KafkaCommitter::start(endings, context)?)))
    }
}

impl std::fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KafkaSink({}, {:?})", self.layout.topics, self.options.guarantee)
    }
}

/// The error for a table of options that is wrong in a program.
fn unbuildable(e: Error) -> Error {
    e.context("the Kafka sink cannot be built")
}

/// The error when the system gives no thread.
fn no_thread(e: std::io::Error) -> Error {
    Error::retry("job.threads", format!("cannot start a thread for Kafka's transactions: {e}"))
        .hint("raise the limit on threads (ulimit -u, or the container's pids limit)")
}

#[cfg(test)]
mod tests;
