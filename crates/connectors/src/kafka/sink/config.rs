//! What librdkafka is told about a producer, beside what the table says. Connects to nothing.

use flott_core::memory::MemoryUse;
use flott_core::sink::SinkContext;
use flott_core::{Error, Result};

use super::options::{DeliveryGuarantee, Partitioning, SinkOptions};
use crate::kafka::properties::ClientProperties;

/// Java's `buffer.memory`.
const BUFFER_BYTES: usize = 32 << 20;
/// The least that a producer works well with.
const BUFFER_BYTES_MIN: usize = 1 << 20;
/// Java's `delivery.timeout.ms`.
const DELIVERY_MS: &str = "120000";

/// A producer's settings.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// For librdkafka.
    pub properties: ClientProperties,
    /// Which partition a record goes to.
    pub partitioning: Partitioning,
    /// The subtask it belongs to.
    pub subtask: u32,
    /// What the table says about the timeout of transactions.
    pub transaction_timeout_ms: Option<i32>,
}

impl ProducerConfig {
    /// The brokers that the table names.
    pub fn servers(&self) -> &str {
        self.properties.servers()
    }
}

/// The properties of producers of a table, from those it gives. Checked with librdkafka.
pub fn table_properties(mut properties: ClientProperties, options: &SinkOptions) -> Result<ClientProperties> {
    for notice in properties.notices() {
        tracing::warn!("{notice}");
    }
    if properties.given("max.block.ms").is_some() {
        tracing::warn!("'properties.max.block.ms' has no effect: a full queue slows the job down instead");
    }
    let exactly_once = options.guarantee == DeliveryGuarantee::ExactlyOnce;
    let all = properties.given("acks").is_none_or(|a| a == "all" || a == "-1");
    if exactly_once && !all {
        return Err(Error::user("kafka.property", "'properties.acks' must be 'all' for exactly-once")
            .detail(format!("it is '{}'", properties.given("acks").unwrap_or("")))
            .hint("leave it out"));
    }
    let idempotent = properties.flag("enable.idempotence", all)?;
    if exactly_once && !idempotent {
        return Err(Error::user(
            "kafka.property",
            "'properties.enable.idempotence' = 'false' contradicts exactly-once",
        )
        .hint("leave it out"));
    }
    properties.set("enable.idempotence", if idempotent { "true" } else { "false" });
    if let Some(level) = properties
        .given("compression.type")
        .and_then(|kind| properties.given(&format!("compression.{kind}.level")))
        .map(str::to_owned)
    {
        properties.set_default("compression.level", &level);
    }
    // The hash of Java's clients, so that records of one key meet in one partition whoever writes them.
    properties.set_default("partitioner", "murmur2_random");
    if options.partitioning != Partitioning::Default {
        properties.set("sticky.partitioning.linger.ms", "0");
    }
    properties.set_default("delivery.timeout.ms", DELIVERY_MS);
    // Failures are all that anybody looks at.
    properties.set("delivery.report.only.error", "true");
    if properties.given("buffer.memory").is_some() {
        let bytes = properties.number("buffer.memory")?.unwrap_or(0);
        properties.set_default("queue.buffering.max.kbytes", &(bytes / 1024).max(1).to_string());
    }
    properties.check()?;
    Ok(properties)
}

/// The timeout of transactions that the table gives.
pub fn given_timeout_ms(properties: &ClientProperties) -> Result<Option<i32>> {
    let Some(ms) = properties.number("transaction.timeout.ms")? else { return Ok(None) };
    i32::try_from(ms).ok().filter(|ms| *ms >= 1_000).map(Some).ok_or_else(|| {
        Error::user("kafka.property", format!("'properties.transaction.timeout.ms' = '{ms}' is out of range"))
            .hint("at least 1000 ms, and longer than a checkpoint and a restart of the job together take")
    })
}

/// The configuration of one subtask's producers: the queue fits into the memory of the process.
pub fn of_subtask(
    properties: &ClientProperties,
    options: &SinkOptions,
    timeout_ms: Option<i32>,
    context: &SinkContext,
) -> ProducerConfig {
    let mut properties = properties.clone();
    let number = |key: &str| properties.native(key).and_then(|v| v.parse::<usize>().ok());
    let wanted = number("queue.buffering.max.kbytes").map_or(BUFFER_BYTES, |kb| kb.saturating_mul(1024));
    let share = context.memory.limit_bytes(MemoryUse::Sink) / (context.parallelism.max(1) as usize);
    // The largest record has to fit, or it would be refused for ever.
    let largest = number("message.max.bytes").unwrap_or(1_000_000) + 1024;
    let bytes = wanted.min(share.max(BUFFER_BYTES_MIN)).max(largest);
    properties.set("queue.buffering.max.kbytes", &bytes.div_ceil(1024).min(2_097_151).to_string());
    ProducerConfig {
        properties,
        partitioning: options.partitioning,
        subtask: context.subtask,
        transaction_timeout_ms: timeout_ms,
    }
}
