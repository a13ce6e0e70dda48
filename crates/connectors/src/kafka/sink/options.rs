//! The `sink.*` options of `kafka` and `upsert-kafka`, read and checked. Connects to nothing.

use flott_core::registry::OptionSpec;
use flott_core::{Error, Result};

use super::naming::NamingStrategy;
use crate::options::{TableOptions, option};

/// Options of the sinks of both connectors.
pub const SINK_OPTIONS: &[OptionSpec] = &[
    option(
        "sink.delivery-guarantee",
        "ENUM(none|at-least-once|exactly-once)",
        "at-least-once",
        false,
        "What readers find after a failure; with exactly-once they must read with `isolation.level` = `read_committed`.",
    ),
    option("sink.semantic", "STRING", "", false, "Deprecated name of `sink.delivery-guarantee`."),
    option(
        "sink.transactional-id-prefix",
        "STRING",
        "",
        false,
        "For exactly-once: what the names of transactions begin with; a different one for every sink of a cluster.",
    ),
    option(
        "sink.transaction-naming-strategy",
        "ENUM(pooling|incrementing)",
        "pooling",
        false,
        "Whether names of committed transactions are used again. Both are safe; pooling spares the brokers' memory.",
    ),
    option(
        "sink.lost-transactions",
        "ENUM(fail|ignore)",
        "fail",
        false,
        "What to do when Kafka aborted or forgot a transaction that the checkpoint holds (Flott's own option).",
    ),
    option(
        "sink.partitioner",
        "STRING",
        "default",
        false,
        "`default` (by key, as the Java client), `fixed` (one partition per subtask) or `round-robin` (without keys).",
    ),
];

/// Options of the sink of `upsert-kafka` alone.
pub const UPSERT_SINK_OPTIONS: &[OptionSpec] = &[
    option(
        "sink.buffer-flush.max-rows",
        "INT",
        "0",
        false,
        "Rows kept so that only the last change of a key is written; works with the interval only.",
    ),
    option(
        "sink.buffer-flush.interval",
        "DURATION",
        "0 s",
        false,
        "How long changes are kept so that only the last one of a key is written; works with max-rows only.",
    ),
];

/// What readers find after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryGuarantee {
    /// Records may be lost or come twice.
    None,
    /// No record is lost; some may come twice.
    AtLeastOnce,
    /// Every record once, for readers of committed records.
    ExactlyOnce,
}

/// Which partition a record goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitioning {
    /// By the hash of the key, as Kafka's Java client does it; without a key a random one for a while.
    Default,
    /// All records of a subtask to one.
    Fixed,
    /// One after another.
    RoundRobin,
}

/// The options, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkOptions {
    /// What readers find after a failure.
    pub guarantee: DeliveryGuarantee,
    /// What names of transactions begin with; there with [`DeliveryGuarantee::ExactlyOnce`].
    pub prefix: String,
    /// How they are chosen.
    pub naming: NamingStrategy,
    /// Lost transactions are counted and logged instead of failing the job.
    pub ignore_lost: bool,
    /// Which partition a record goes to.
    pub partitioning: Partitioning,
    /// Rows and milliseconds for which changes are kept; `None`: they are written at once.
    pub buffer: Option<(usize, i64)>,
}

impl SinkOptions {
    /// Reads the options of a table that has key columns or none.
    pub fn read(o: &TableOptions<'_>, upsert: bool, has_key: bool) -> Result<Self> {
        let guarantee = Self::guarantee(o)?;
        let prefix = o.text("sink.transactional-id-prefix").unwrap_or("").trim().to_owned();
        if guarantee == DeliveryGuarantee::ExactlyOnce && prefix.is_empty() {
            let message = format!(
                "table `{}`: the option 'sink.transactional-id-prefix' is missing, and exactly-once needs it",
                o.table()
            );
            return Err(Error::user("table.missing-option", message)
                .hint("choose a prefix that no other sink of the Kafka cluster has, such as 'shop-orders'"));
        }
        let naming = match o.one_of("sink.transaction-naming-strategy", &["pooling", "incrementing", "default"], 0)? {
            0 => NamingStrategy::Pooling,
            _ => NamingStrategy::Incrementing,
        };
        let ignore_lost = o.one_of("sink.lost-transactions", &["fail", "ignore"], 0)? == 1;
        let partitioning = Self::partitioning(o, upsert, has_key)?;
        Ok(SinkOptions { guarantee, prefix, naming, ignore_lost, partitioning, buffer: Self::buffer(o, upsert)? })
    }

    fn guarantee(o: &TableOptions<'_>) -> Result<DeliveryGuarantee> {
        let key = match (o.text("sink.delivery-guarantee"), o.text("sink.semantic")) {
            (Some(_), Some(_)) => {
                return Err(o.refused("sink.semantic", "'sink.delivery-guarantee' is set too; it is the newer name"));
            }
            (None, Some(_)) => {
                tracing::warn!(table = o.table(), "'sink.semantic' is deprecated: call it 'sink.delivery-guarantee'");
                "sink.semantic"
            }
            _ => "sink.delivery-guarantee",
        };
        Ok(match o.one_of(key, &["none", "at-least-once", "exactly-once"], 1)? {
            0 => DeliveryGuarantee::None,
            1 => DeliveryGuarantee::AtLeastOnce,
            _ => DeliveryGuarantee::ExactlyOnce,
        })
    }

    fn partitioning(o: &TableOptions<'_>, upsert: bool, has_key: bool) -> Result<Partitioning> {
        let Some(text) = o.text("sink.partitioner") else { return Ok(Partitioning::Default) };
        let key = "sink.partitioner";
        match text.trim() {
            _ if upsert => {
                Err(o.refused(key, "the changes of one key must stay in order, so 'upsert-kafka' goes by the key"))
            }
            "default" => Ok(Partitioning::Default),
            "fixed" => Ok(Partitioning::Fixed),
            "round-robin" if has_key => {
                Err(o.refused(key, "'round-robin' does not work with 'key.fields': records of one key belong together"))
            }
            "round-robin" => Ok(Partitioning::RoundRobin),
            class if class.contains('.') => Err(o.refused(
                key,
                &format!("'{class}' names a Java class, and no Java code runs here; use default, fixed or round-robin"),
            )),
            _ => Err(o.bad(key, "one of default, fixed, round-robin")),
        }
    }

    fn buffer(o: &TableOptions<'_>, upsert: bool) -> Result<Option<(usize, i64)>> {
        if !upsert {
            return Ok(None);
        }
        let rows: usize = o.number("sink.buffer-flush.max-rows", "a number of rows, or 0")?.unwrap_or(0);
        let interval_ms = o.duration_ms("sink.buffer-flush.interval")?.unwrap_or(0);
        match (rows > 0, interval_ms > 0) {
            (true, true) => Ok(Some((rows, interval_ms))),
            (false, false) => Ok(None),
            (with_rows, _) => Err(o.refused(
                if with_rows { "sink.buffer-flush.max-rows" } else { "sink.buffer-flush.interval" },
                "'sink.buffer-flush.max-rows' and 'sink.buffer-flush.interval' work together only: set both or none",
            )),
        }
    }
}
