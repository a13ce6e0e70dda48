//! The sink and its writers: rows go to a flusher, whose thread sends them; checkpoints carry what is not sent. Never waits for
//! the server on a task's thread.

use std::sync::Arc;

use bytes::Bytes;
use flott_core::registry::TableSpec;
use flott_core::sink::{ChangelogMode, Committable, Sink, SinkContext, SinkWriter, WriteStatus};
use flott_core::{ChangeBatch, CheckpointId, Result};

use super::bulk::BulkWriter;
use super::document::Documents;
use super::options::SinkOptions;
use crate::flusher::{FlushOptions, Flusher};

/// How soon a writer without room is asked again.
const BUSY_MS: i64 = 10;
/// How often the flusher's thread is asked for an error while no rows come.
const CHECK_MS: i64 = 200;
/// Rows that wait for the server at least, whatever the size of a flush.
const QUEUE_ROWS: usize = 8_192;
/// Pause before an unreachable server is tried again; doubles.
const UNREACHABLE_PAUSE_MS: u64 = 100;

/// A table in an index.
pub struct BulkSink {
    options: Arc<SinkOptions>,
    table: TableSpec,
}

impl BulkSink {
    /// The sink of a table; what documents cannot carry is refused here.
    pub fn new(options: SinkOptions, table: TableSpec) -> Result<Self> {
        Documents::new(&table, options.index.clone(), options.json.clone(), options.delimiter.clone())?;
        Ok(BulkSink { options: Arc::new(options), table })
    }
}

impl Sink for BulkSink {
    fn changelog_mode(&self) -> ChangelogMode {
        if self.table.primary_key.is_empty() { ChangelogMode::Append } else { ChangelogMode::Upsert }
    }

    fn writer(&self, context: SinkContext, restored: Vec<Bytes>) -> Result<Box<dyn SinkWriter>> {
        let options = Arc::clone(&self.options);
        let hosts: Vec<_> = options.hosts.iter().map(|h| h.url.as_str()).collect();
        let endpoint = format!("{} {}, index {}", options.connector, hosts.join(", "), options.index.text());
        context.metrics.external.set_endpoint(endpoint);
        let flush = FlushOptions {
            max_rows: options.max_actions,
            interval_ms: options.interval_ms,
            max_retries: 0,
            backoff_ms: UNREACHABLE_PAUSE_MS,
            unreachable_ms: options.unreachable_ms,
            queue_rows_max: QUEUE_ROWS.max(options.max_actions.saturating_mul(4)),
        };
        let (clock, metrics) = (Arc::clone(&context.clock), Arc::clone(&context.metrics));
        let bulk = BulkWriter::new(Arc::clone(&options), &self.table, clock, metrics)?;
        let name = format!("bulk-{}", context.subtask);
        let flusher = Flusher::start(&name, Box::new(bulk), flush, context.clone(), &restored)?;
        Ok(Box::new(Writer { context, flusher, at_least_once: options.at_least_once }))
    }
}

struct Writer {
    context: SinkContext,
    flusher: Flusher,
    at_least_once: bool,
}

impl Writer {
    fn busy(&self) -> WriteStatus {
        WriteStatus::Busy { until_ms: self.context.clock.now_ms() + BUSY_MS }
    }
}

impl SinkWriter for Writer {
    fn write(&mut self, batch: &ChangeBatch) -> Result<WriteStatus> {
        Ok(if self.flusher.offer(batch)? { WriteStatus::Accepted } else { self.busy() })
    }

    fn flush(&mut self, end_of_data: bool) -> Result<WriteStatus> {
        self.flusher.check()?;
        if self.at_least_once || end_of_data {
            self.flusher.flush_soon();
        }
        Ok(if end_of_data && self.flusher.pending_rows() > 0 { self.busy() } else { WriteStatus::Accepted })
    }

    fn prepare_commit(&mut self, _: CheckpointId, _: bool) -> Result<Vec<Committable>> {
        Ok(Vec::new())
    }

    fn snapshot(&mut self) -> Result<Vec<Bytes>> {
        if self.at_least_once { self.flusher.snapshot() } else { Ok(Vec::new()) }
    }

    fn on_processing_time(&mut self, now_ms: i64) -> Result<Option<i64>> {
        self.flusher.check()?;
        Ok(Some(now_ms + CHECK_MS))
    }
}
