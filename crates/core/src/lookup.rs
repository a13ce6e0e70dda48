//! The law of lookup sources: rows of an outside table by key, for joins. Never called on a task's thread.

use std::sync::Arc;

use arrow_array::{RecordBatch, UInt32Array};

use crate::config::Configuration;
use crate::error::Result;
use crate::metrics::OperatorMetrics;
use crate::time::SharedClock;

/// A table that can be asked for rows by key. Shared by all subtasks of a join.
pub trait LookupSource: Send + Sync {
    /// A connection for one thread; opened on that thread, where it may block.
    fn connect(&self, context: LookupContext) -> Result<Box<dyn Lookup>>;
    /// How results are cached and failed calls retried, from the table's options.
    fn options(&self) -> LookupOptions;
}

/// What a lookup is given.
#[derive(Clone)]
pub struct LookupContext {
    /// Index of the subtask.
    pub subtask: u32,
    /// Processing time.
    pub clock: SharedClock,
    /// The effective configuration.
    pub config: Arc<Configuration>,
    /// Counters of the join; the connector names the server it talks to and times its calls there.
    pub metrics: Arc<OperatorMetrics>,
}

/// Asks for rows. An error of kind `Retry` is tried again within [`LookupOptions::max_retries`].
pub trait Lookup: Send {
    /// The rows for each row of `keys` (the key columns in the order the join asked for, none of them NULL).
    fn lookup(&mut self, keys: &RecordBatch) -> Result<LookupRows>;
}

/// What was found: rows of the table, each with the index of the key it answers, ascending.
#[derive(Clone, Debug)]
pub struct LookupRows {
    /// For each row, which key of the call it belongs to. A key without rows is absent.
    pub keys: UInt32Array,
    /// The rows, in the table's schema.
    pub rows: RecordBatch,
}

/// Caching and retries of lookups: Flink's `lookup.*` options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookupOptions {
    /// `lookup.cache`: `None` asks every time.
    pub cache: Option<LookupCache>,
    /// `lookup.max-retries`.
    pub max_retries: u32,
    /// Pause before the first retry in milliseconds; doubles with each.
    pub retry_backoff_ms: i64,
}

/// `lookup.cache` = `PARTIAL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupCache {
    /// `lookup.partial-cache.max-rows`.
    pub max_rows: u64,
    /// `lookup.partial-cache.expire-after-write`, in milliseconds.
    pub expire_after_write_ms: Option<i64>,
    /// `lookup.partial-cache.expire-after-access`, in milliseconds.
    pub expire_after_access_ms: Option<i64>,
    /// `lookup.partial-cache.cache-missing-key`: remember also that there is nothing.
    pub cache_missing_key: bool,
}
