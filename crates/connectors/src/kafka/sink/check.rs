//! What is checked when a job with exactly-once is submitted: the timeout of its transactions, against the brokers and against
//! its checkpoints. Asks the brokers once; when none answers, the start of the job finds out.

use flott_core::config::{Configuration, keys};
use flott_core::{Error, Result};

use super::config::ProducerConfig;
use super::protocol::Cluster;

/// Flink's timeout of transactions, where the brokers allow it.
pub const DEFAULT_TIMEOUT_MS: i32 = 3_600_000;
/// The brokers' own maximum, unless configured.
const BROKER_DEFAULT_MAX_MS: i32 = 900_000;
/// The setting of brokers.
const BROKER_MAX: &str = "transaction.max.timeout.ms";

/// The brokers' maximum, if they tell.
pub fn broker_max_ms(cluster: &mut Cluster) -> Option<i32> {
    match cluster.broker_setting(BROKER_MAX) {
        Ok(value) => value.and_then(|v| v.parse().ok()),
        Err(e) => {
            tracing::debug!("the brokers do not tell {BROKER_MAX}: {e:?}");
            None
        }
    }
}

/// The timeout that transactions get: the table's, else an hour, or what the brokers allow.
pub fn effective_timeout_ms(given: Option<i32>, cluster: &mut Cluster) -> i32 {
    given.unwrap_or_else(|| DEFAULT_TIMEOUT_MS.min(broker_max_ms(cluster).unwrap_or(BROKER_DEFAULT_MAX_MS)))
}

/// The error for a timeout above the brokers' maximum.
pub fn timeout_too_long(config: &ProducerConfig, max_ms: Option<i32>) -> Error {
    too_long(config.servers(), config.transaction_timeout_ms, max_ms)
}

fn too_long(servers: &str, given: Option<i32>, max_ms: Option<i32>) -> Error {
    let given = given.map_or_else(|| "the default".to_owned(), |ms| format!("{ms} ms"));
    let max = max_ms.map_or_else(|| "less".to_owned(), |ms| format!("at most {ms} ms ({BROKER_MAX})"));
    Error::user(
        "kafka.transaction-timeout",
        format!("'properties.transaction.timeout.ms' is {given}, and kafka {servers} allows {max}"),
    )
    .detail("Kafka aborts a transaction that is not committed within its timeout")
    .hint(format!("lower 'properties.transaction.timeout.ms', or raise {BROKER_MAX} of the brokers"))
}

/// Refuses a timeout above the brokers' maximum; passes when the brokers cannot be asked now.
pub fn check_timeout(given: Option<i32>, cluster: &mut Cluster) -> Result<()> {
    let Some(given_ms) = given else { return Ok(()) };
    match broker_max_ms(cluster) {
        Some(max_ms) if given_ms > max_ms => Err(too_long(cluster.servers(), given, Some(max_ms))),
        _ => Ok(()),
    }
}

/// Why the timeout is too short for the checkpoints of the job, if it is.
pub fn too_short(timeout_ms: i32, config: &Configuration) -> Option<String> {
    let interval_ms = config.duration_ms(keys::CHECKPOINT_INTERVAL).filter(|ms| *ms > 0)?;
    let checkpoint_ms = config.duration_ms(keys::CHECKPOINT_TIMEOUT)?;
    let needed_ms = interval_ms.saturating_add(checkpoint_ms);
    (i64::from(timeout_ms) < needed_ms).then(|| {
        format!(
            "transactions expire after {timeout_ms} ms, and a checkpoint may take {interval_ms} ms (interval) and {checkpoint_ms} ms \
             (timeout) to complete: Kafka may abort transactions that are still to be committed; raise \
             'properties.transaction.timeout.ms'"
        )
    })
}
