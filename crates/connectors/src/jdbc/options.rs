//! Options of a `jdbc` table, read and checked together; never connects.

use flott_core::lookup::{LookupCache, LookupOptions};
use flott_core::registry::{OptionSpec, TableSpec};
use flott_core::{Error, Result};

use super::url::JdbcUrl;
use crate::options::{TableOptions, option};

/// Options of the connector.
pub const OPTIONS: &[OptionSpec] = &[
    option("url", "STRING", "", true, "`jdbc:mysql://…`, `jdbc:mariadb://…` or `jdbc:postgresql://…`."),
    option("table-name", "STRING", "", true, "The table in the database: `totals`, `shop.totals` or `schema.totals`."),
    option("driver", "STRING", "", false, "Accepted without effect: the URL says which server it is."),
    option("username", "STRING", "", false, "User; goes before the one in 'url'."),
    option("password", "STRING", "", false, "Password; goes before the one in 'url'."),
    option("connection.max-retry-timeout", "DURATION", "60 s", false, "How long an unreachable server is tried again."),
    option("connection.provider", "STRING", "", false, "Refused: connections are Flott's own."),
    option("scan.partition.column", "STRING", "", false, "Column that cuts the scan into parts and orders each part."),
    option("scan.partition.num", "INT", "", false, "Number of parts."),
    option("scan.partition.lower-bound", "BIGINT", "", false, "Smallest value of the partition column to read."),
    option("scan.partition.upper-bound", "BIGINT", "", false, "Largest value of the partition column to read."),
    option("scan.fetch-size", "INT", "0", false, "Rows fetched at once; 0: 4096."),
    option(
        "scan.auto-commit",
        "BOOLEAN",
        "true",
        false,
        "Whether a scan without partitions reads outside a transaction.",
    ),
    option("lookup.cache", "ENUM(NONE|PARTIAL)", "NONE", false, "Whether answers of lookup joins are kept."),
    option(
        "lookup.partial-cache.max-rows",
        "BIGINT",
        "",
        false,
        "Rows kept; required by a PARTIAL cache without expiry.",
    ),
    option(
        "lookup.partial-cache.expire-after-write",
        "DURATION",
        "",
        false,
        "Answers older than this are asked again.",
    ),
    option(
        "lookup.partial-cache.expire-after-access",
        "DURATION",
        "",
        false,
        "Answers unused for so long are forgotten.",
    ),
    option(
        "lookup.partial-cache.cache-missing-key",
        "BOOLEAN",
        "true",
        false,
        "Whether it is kept that a key has no rows.",
    ),
    option("lookup.cache.max-rows", "BIGINT", "", false, "Former name of 'lookup.partial-cache.max-rows'."),
    option("lookup.cache.ttl", "DURATION", "", false, "Former name of 'lookup.partial-cache.expire-after-write'."),
    option(
        "lookup.cache.caching-missing-key",
        "BOOLEAN",
        "",
        false,
        "Former name of 'lookup.partial-cache.cache-missing-key'.",
    ),
    option("lookup.max-retries", "INT", "3", false, "How often a failed lookup is tried again."),
    option(
        "sink.buffer-flush.max-rows",
        "INT",
        "100",
        false,
        "Rows per flush; 0: flushes by interval and checkpoint only.",
    ),
    option("sink.buffer-flush.interval", "DURATION", "1 s", false, "A row waits no longer than this; 0: for ever."),
    option("sink.max-retries", "INT", "3", false, "How often rows that the server refuses for now are tried again."),
    option(
        "sink.delivery-guarantee",
        "ENUM(at-least-once|exactly-once)",
        "at-least-once",
        false,
        "exactly-once: rows are applied with their checkpoint, in one transaction with a ledger row (Flott's own option).",
    ),
    option(
        "sink.exactly-once.ledger-table",
        "STRING",
        "flott_commits",
        false,
        "The ledger of applied checkpoints, created beside the table if missing (Flott's own option).",
    ),
    option(
        "sink.exactly-once.max-bytes",
        "MEMORY",
        "64 mb",
        false,
        "What one subtask may hold between two checkpoints in exactly-once mode (Flott's own option).",
    ),
    option("filter.handling.policy", "ENUM(always|never)", "always", false, "Accepted without effect."),
];

/// Rows that a cache bounded by age alone keeps at most.
const UNBOUNDED_CACHE_ROWS: u64 = 1_000_000;
/// Rows of a flush when 'sink.buffer-flush.max-rows' is 0.
const UNLIMITED_ROWS: usize = 5_000;

/// A table, as configured.
#[derive(Clone, Debug)]
pub struct JdbcOptions {
    /// Where and how; user and password included.
    pub url: JdbcUrl,
    /// The table as written.
    pub table: String,
    /// Name of the table in Flott, for messages.
    pub name: String,
    /// `connection.max-retry-timeout`.
    pub unreachable_ms: i64,
}

/// How a sink writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// Rows per flush.
    pub max_rows: usize,
    /// Age at which a row is flushed.
    pub interval_ms: Option<i64>,
    /// Retries.
    pub max_retries: u32,
    /// `Some` in exactly-once mode.
    pub exactly_once: Option<ExactlyOnce>,
}

/// The exactly-once mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExactlyOnce {
    /// Name of the ledger.
    pub ledger: String,
    /// Bytes a subtask may hold between two checkpoints.
    pub max_bytes: u64,
}

/// How a source reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanOptions {
    /// The parts, if a partition column is given.
    pub partitions: Option<Partitions>,
    /// Rows per fetch.
    pub fetch_rows: usize,
    /// `scan.auto-commit`.
    pub auto_commit: bool,
}

/// A partitioned scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partitions {
    /// Index of the column in the table's columns.
    pub column: usize,
    /// Number of parts.
    pub count: u32,
    /// Smallest value.
    pub lower: i64,
    /// Largest value.
    pub upper: i64,
}

impl JdbcOptions {
    /// Reads and checks what all uses of a table share.
    pub fn read(o: &TableOptions<'_>, table: &TableSpec) -> Result<Self> {
        let mut url = JdbcUrl::parse(o.text("url").unwrap_or_default())
            .map_err(|e| e.context(format_args!("table `{}`", table.name)))?;
        if o.text("connection.provider").is_some() {
            return Err(o.refused("connection.provider", "connections are Flott's own").hint("leave it out"));
        }
        if let Some(driver) = o.text("driver") {
            tracing::info!(table = %table.name, %driver, "option 'driver' has no effect: the URL says which server it is");
        }
        if let Some(user) = o.text("username") {
            url.user = Some(user.to_owned());
        }
        if let Some(password) = o.text("password") {
            url.password = Some(password.to_owned());
        }
        let name = o.text("table-name").unwrap_or_default().trim().to_owned();
        if name.is_empty() || name.split('.').any(str::is_empty) || name.split('.').count() > 2 {
            return Err(o.bad("table-name", "a table's name such as 'totals' or 'shop.totals'"));
        }
        if let Some(column) = table.columns.iter().find(|c| c.metadata_key.is_some()) {
            return Err(Error::user(
                "jdbc.metadata",
                format!("table `{}`: the metadata column `{}` does not exist", table.name, column.name),
            )
            .hint("the connector 'jdbc' has no metadata columns"));
        }
        let unreachable_ms = o.duration_ms("connection.max-retry-timeout")?.unwrap_or(60_000);
        if unreachable_ms < 1_000 {
            return Err(o.bad("connection.max-retry-timeout", "a duration of at least 1 s"));
        }
        Ok(JdbcOptions { url, table: name, name: table.name.clone(), unreachable_ms })
    }
}

impl WriteOptions {
    /// Reads and checks the options of a sink.
    pub fn read(o: &TableOptions<'_>) -> Result<Self> {
        let rows: usize = o.number("sink.buffer-flush.max-rows", "a number of rows")?.unwrap_or(100);
        let interval_ms = o.duration_ms("sink.buffer-flush.interval")?.unwrap_or(1_000);
        let exactly_once = o.one_of("sink.delivery-guarantee", &["at-least-once", "exactly-once"], 0)? == 1;
        let ledger = o.text("sink.exactly-once.ledger-table").unwrap_or("flott_commits").trim().to_owned();
        if ledger.is_empty() || ledger.contains('.') {
            return Err(o.bad("sink.exactly-once.ledger-table", "a table's name without a dot"));
        }
        let max_bytes = o.memory_bytes("sink.exactly-once.max-bytes")?.unwrap_or(64 << 20);
        if max_bytes < 1 << 10 {
            return Err(o.bad("sink.exactly-once.max-bytes", "a memory size of at least 1 kb"));
        }
        Ok(WriteOptions {
            max_rows: if rows == 0 { UNLIMITED_ROWS } else { rows },
            interval_ms: Some(interval_ms).filter(|ms| *ms > 0),
            max_retries: o.number("sink.max-retries", "a number of retries")?.unwrap_or(3),
            exactly_once: exactly_once.then_some(ExactlyOnce { ledger, max_bytes }),
        })
    }
}

impl ScanOptions {
    /// Reads and checks the options of a scan.
    pub fn read(o: &TableOptions<'_>, table: &TableSpec) -> Result<Self> {
        const KEYS: [&str; 4] =
            ["scan.partition.column", "scan.partition.num", "scan.partition.lower-bound", "scan.partition.upper-bound"];
        let given = KEYS.iter().filter(|k| o.text(k).is_some()).count();
        if given != 0 && given != KEYS.len() {
            let missing: Vec<_> = KEYS.iter().filter(|k| o.text(k).is_none()).map(|k| format!("'{k}'")).collect();
            return Err(Error::user(
                "table.missing-option",
                format!("table `{}`: a partitioned scan lacks {}", table.name, missing.join(" and ")),
            )
            .hint("give all four 'scan.partition.*' options or none"));
        }
        let partitions = if given == 0 { None } else { Some(Self::partitions(o, table)?) };
        let fetch_rows: usize = o.number("scan.fetch-size", "a number of rows")?.unwrap_or(0);
        Ok(ScanOptions {
            partitions,
            fetch_rows: if fetch_rows == 0 { 4_096 } else { fetch_rows.min(1 << 20) },
            auto_commit: o.flag("scan.auto-commit", true)?,
        })
    }

    fn partitions(o: &TableOptions<'_>, table: &TableSpec) -> Result<Partitions> {
        let name = o.text("scan.partition.column").unwrap_or_default();
        let column = table.columns.iter().position(|c| c.name == name);
        let column = column.filter(|c| {
            let kind = &table.columns[*c].data_type.kind;
            kind.is_integer() || matches!(kind, flott_core::types::TypeKind::Decimal(_, 0))
        });
        let column = column.ok_or_else(|| {
            o.bad("scan.partition.column", "a column of the table of an integer type")
                .hint("dates and timestamps cannot cut a scan; choose a numeric key")
        })?;
        let number = |key| Ok::<i64, Error>(o.number(key, "a whole number")?.unwrap_or_default());
        let count: u32 = o.number("scan.partition.num", "a number of parts above 0")?.unwrap_or(0);
        if count == 0 || count > 10_000 {
            return Err(o.bad("scan.partition.num", "a number of parts from 1 to 10000"));
        }
        let (lower, upper) = (number("scan.partition.lower-bound")?, number("scan.partition.upper-bound")?);
        if lower > upper {
            return Err(o.bad("scan.partition.lower-bound", "at most 'scan.partition.upper-bound'"));
        }
        Ok(Partitions { column, count, lower, upper })
    }
}

/// Reads and checks the options of lookups.
pub fn lookup_options(o: &TableOptions<'_>) -> Result<LookupOptions> {
    let mode = o.one_of("lookup.cache", &["NONE", "PARTIAL", "FULL"], 0)?;
    if mode == 2 {
        return Err(o.refused("lookup.cache", "the connector has no FULL cache").hint("write 'PARTIAL'"));
    }
    let old_rows: Option<i64> = o.number("lookup.cache.max-rows", "a number of rows")?;
    let old_ttl_ms = o.duration_ms("lookup.cache.ttl")?;
    let max_rows: Option<u64> = o.number("lookup.partial-cache.max-rows", "a number of rows")?;
    let expire_after_write_ms = o.duration_ms("lookup.partial-cache.expire-after-write")?.or(old_ttl_ms);
    let expire_after_access_ms = o.duration_ms("lookup.partial-cache.expire-after-access")?;
    // As in Flink, the two former options together turned the cache on.
    let former = mode == 0 && old_rows.is_some_and(|n| n > 0) && old_ttl_ms.is_some_and(|ms| ms > 0);
    let max_rows = max_rows.or(old_rows.and_then(|n| u64::try_from(n).ok()));
    if mode == 1 && max_rows.is_none() && expire_after_write_ms.is_none() && expire_after_access_ms.is_none() {
        return Err(o
            .bad("lookup.cache", "possible without a bound")
            .hint("set 'lookup.partial-cache.max-rows' or one of 'lookup.partial-cache.expire-after-*'"));
    }
    let missing = o.flag("lookup.cache.caching-missing-key", true)?;
    let cache = LookupCache {
        max_rows: max_rows.unwrap_or(UNBOUNDED_CACHE_ROWS),
        expire_after_write_ms,
        expire_after_access_ms,
        cache_missing_key: o.flag("lookup.partial-cache.cache-missing-key", missing)?,
    };
    let max_retries = o.number("lookup.max-retries", "a number of retries")?.unwrap_or(3);
    Ok(LookupOptions { cache: (mode == 1 || former).then_some(cache), max_retries, retry_backoff_ms: 1_000 })
}
