//! What a librdkafka client reports besides messages: errors, statistics, the fate of commits; and how errors read. Sends
//! nothing itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flott_core::Error;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};
use serde::Deserialize;

/// What the callbacks of one client have reported. Written on the thread that polls the client.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    state: Mutex<State>,
    events: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    problem: Option<Problem>,
    stats: Option<Stats>,
    commit_problem: Option<Code>,
}

/// The last error that a client reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) reason: String,
}

/// The statistics that are used here.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Stats {
    #[serde(default)]
    brokers: HashMap<String, Broker>,
    #[serde(default)]
    topics: HashMap<String, Topic>,
}

#[derive(Debug, Deserialize)]
struct Broker {
    state: String,
}

#[derive(Debug, Deserialize)]
struct Topic {
    partitions: HashMap<String, Partition>,
}

#[derive(Debug, Deserialize)]
struct Partition {
    next_offset: i64,
}

impl Stats {
    /// Whether the client is connected to any broker.
    pub(crate) fn connected(&self) -> bool {
        self.brokers.values().any(|b| b.state == "UP" || b.state == "UPDATE")
    }
    /// The offset after everything that was fetched of a partition, records that are never handed out included.
    pub(crate) fn next_offset(&self, topic: &str, partition: i32) -> Option<i64> {
        let partition = self.topics.get(topic)?.partitions.get(&partition.to_string())?;
        Some(partition.next_offset).filter(|o| *o >= 0)
    }
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Polls a client until it has no callback left to serve; what else it has is dropped, so it must be assigned nothing.
    pub(crate) fn serve(&self, consumer: &BaseConsumer<Context>) {
        loop {
            let before = self.events();
            if consumer.poll(Duration::ZERO).is_none() && self.events() == before {
                return;
            }
        }
    }
    /// How many callbacks there were. A poll that served one returns nothing, as an empty queue does.
    pub(crate) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }
    fn count(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }
    /// The last error, kept until [`Self::forgive`].
    pub(crate) fn problem(&self) -> Option<Problem> {
        self.lock().problem.clone()
    }
    /// Forgets the last error: the client got through since.
    pub(crate) fn forgive(&self) {
        self.lock().problem = None;
    }
    /// The statistics that came since the last call.
    pub(crate) fn take_stats(&self) -> Option<Stats> {
        self.lock().stats.take()
    }
    /// Why a commit of offsets failed since the last call.
    pub(crate) fn take_commit_problem(&self) -> Option<Code> {
        self.lock().commit_problem.take()
    }
    fn report(&self, code: Code, reason: &str) {
        let mut state = self.lock();
        // That no broker can be reached says less than why.
        let says_less = code == Code::AllBrokersDown || code == Code::BrokerTransportFailure;
        if says_less && state.problem.as_ref().is_some_and(|p| p.code != Code::AllBrokersDown) {
            return;
        }
        state.problem = Some(Problem { code, reason: reason.to_owned() });
    }
}

/// The context of our clients: keeps what the callbacks say in a [`Watch`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Context(pub(crate) Arc<Watch>);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.count();
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "kafka", "{facility}: {message}");
            }
            // Every try to connect makes such a line; what matters of it is said where it is known for how long it has lasted.
            _ if facility == "FAIL" || facility == "ERROR" => tracing::debug!(target: "kafka", "{facility}: {message}"),
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
                tracing::warn!(target: "kafka", "{facility}: {message}");
            }
            _ => tracing::debug!(target: "kafka", "{facility}: {message}"),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.0.count();
        match serde_json::from_slice(statistics) {
            Ok(stats) => self.0.lock().stats = Some(stats),
            Err(e) => tracing::warn!(target: "kafka", "statistics of the client cannot be read: {e}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.count();
        if let Some(code) = error.rdkafka_error_code() {
            self.0.report(code, reason);
        }
    }
}

impl ConsumerContext for Context {
    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        self.0.count();
        let of_partition = || offsets.elements().iter().find_map(|e| e.error().err());
        if let Some(e) = result.err().or_else(of_partition) {
            let code = e.rdkafka_error_code().unwrap_or(Code::Unknown);
            // Nothing to commit is no failure.
            if code != Code::NoOffset {
                self.0.lock().commit_problem = Some(code);
            }
        }
    }
}

/// Whether trying again is of no use until somebody changes something.
pub(crate) fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::SSL
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::InvalidTopic
    )
}

/// The error for a code of Kafka's: `what` failed at `servers`.
pub(crate) fn error_of(servers: &str, what: &str, problem: &Problem) -> Error {
    let Problem { code, reason } = problem;
    let reason = if reason.is_empty() { code.to_string() } else { reason.clone() };
    // A refused certificate of ours shows only when the connection is used.
    let code = if reason.contains("SSL routines") { &Code::SSL } else { code };
    let user = |id, hint: &str| Error::user(id, format!("kafka {servers}: {what} failed")).detail(&*reason).hint(hint);
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => user(
            "kafka.authentication",
            "check 'properties.sasl.mechanism', 'properties.sasl.jaas.config' and 'properties.security.protocol' against the \
             broker's listener",
        ),
        Code::SSL => user(
            "kafka.tls",
            "check 'properties.security.protocol' against the broker's listener, and that 'properties.ssl.truststore.location' \
             holds the certificate of its authority in PEM",
        ),
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => user(
            "kafka.authorization",
            "grant the principal the operation, as with kafka-acls --add --allow-principal User:NAME --operation Read --topic T",
        ),
        Code::InvalidTopic => user("kafka.topic-name", "correct the name of the topic"),
        _ => Error::retry("kafka.unavailable", format!("kafka {servers}: {what} failed")).detail(reason).hint(
            "see that the brokers run, that 'properties.bootstrap.servers' names them with ports that are open, and that \
             'properties.security.protocol' is what their listeners speak",
        ),
    }
}

/// The error for what a call of librdkafka returned, with the reason that the client reported before, if that says more.
pub(crate) fn call_error(servers: &str, what: &str, error: &KafkaError, watch: &Watch) -> Error {
    let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
    let called = Problem { code, reason: error.to_string() };
    let problem = if is_final(code) { called } else { watch.problem().unwrap_or(called) };
    error_of(servers, what, &problem)
}

/// The offset of an element, if it is a plain number.
pub(crate) fn plain_offset(offset: Offset) -> Option<i64> {
    match offset {
        Offset::Offset(n) if n >= 0 => Some(n),
        _ => None,
    }
}
