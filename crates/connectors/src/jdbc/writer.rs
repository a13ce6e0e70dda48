//! The at-least-once writer: rows go to a flusher, whose thread upserts them in transactions; checkpoints carry what is not
//! written. Never waits for the server on the task's thread.

use std::sync::Arc;

use bytes::Bytes;
use flott_core::registry::TableSpec;
use flott_core::sink::{Committable, SinkContext, SinkWriter, WriteStatus};
use flott_core::{ChangeBatch, CheckpointId, Result};

use super::apply::apply;
use super::changes::Changes;
use super::encode::needs_utc;
use super::options::{JdbcOptions, WriteOptions};
use super::session::{DbErrorKind, Place, Session, connect};
use super::target::{Target, Use, resolve};
use crate::flusher::{BatchWriter, FlushError, FlushOptions, Flusher, Stop};

/// Pause before the first retry.
pub const BACKOFF_MS: u64 = 100;
/// How soon a writer without room is asked again.
const BUSY_MS: i64 = 10;
/// How often the flusher's thread is asked for an error while no rows come.
const CHECK_MS: i64 = 200;
/// Rows that wait for the server at least, whatever the size of a flush.
const QUEUE_ROWS: usize = 8_192;

/// A table to write, as configured.
#[derive(Debug)]
pub struct Table {
    /// Where.
    pub jdbc: JdbcOptions,
    /// How.
    pub write: WriteOptions,
    /// What.
    pub spec: TableSpec,
}

/// A connection to a checked table, opened when needed.
pub struct Open {
    /// The table.
    pub table: Arc<Table>,
    /// For messages.
    pub place: Place,
    connected: Option<(Box<dyn Session>, Target)>,
}

impl Open {
    /// Not connected yet.
    pub fn new(table: Arc<Table>) -> Self {
        let place = Place::of(&table.jdbc);
        Open { table, place, connected: None }
    }

    /// Connects and checks the table unless that is done; `stop` learns how to break calls off.
    pub fn connect(&mut self, stop: &Stop) -> Result<(), FlushError> {
        if self.connected.is_some() {
            return Ok(());
        }
        let (jdbc, spec) = (&self.table.jdbc, &self.table.spec);
        let failed = |e| self.place.flush_error("connect", &e);
        let mut session = connect(jdbc, needs_utc(&spec.columns), false).map_err(failed)?;
        stop.on_stop(Some(session.cancel()));
        let target = resolve(session.as_mut(), jdbc, spec, Use::Write).map_err(|e| e.into_flush_error(&self.place))?;
        session.commit().map_err(failed)?;
        self.connected = Some((session, target));
        Ok(())
    }

    /// Session and target; only after [`Self::connect`].
    pub fn parts(&mut self) -> Result<(&mut dyn Session, &Target), FlushError> {
        match &mut self.connected {
            Some((session, target)) => Ok((session.as_mut(), target)),
            None => Err(FlushError::Fatal(flott_core::Error::bug("a table was written before it was opened"))),
        }
    }

    /// Ends the transaction after a failure, or the connection when it is no good any more.
    pub fn recover(&mut self, kind: DbErrorKind) {
        let keep = kind != DbErrorKind::Gone && self.connected.as_mut().is_some_and(|(s, _)| s.rollback().is_ok());
        if !keep {
            self.connected = None;
        }
    }
}

impl BatchWriter for Open {
    fn connect(&mut self, stop: &Stop) -> Result<(), FlushError> {
        Open::connect(self, stop)
    }

    /// One transaction per call, so that of a statement whose client died nothing stays.
    fn write(&mut self, rows: &[ChangeBatch], stop: &Stop) -> Result<(), FlushError> {
        let full = self.table.write.max_rows;
        let (session, target) = self.parts()?;
        let changes = Changes::of(rows, &target.key).map_err(FlushError::Fatal)?;
        let result = session
            .begin()
            .map_err(|e| ("begin of a transaction".to_owned(), e))
            .and_then(|()| apply(session, target, rows, &changes, full).map_err(|e| (e.what, e.error)));
        let result = match result {
            // Whoever was stopped has a successor that may have written newer rows.
            Ok(()) if stop.is_stopped() => {
                self.recover(DbErrorKind::Conflict);
                return Ok(());
            }
            Ok(()) => session.commit().map_err(|e| (format!("commit of {} rows", changes.len()), e)),
            failed => failed,
        };
        result.map_err(|(what, e)| {
            self.recover(e.kind);
            self.place.flush_error(&what, &e)
        })
    }
}

/// The writer of one subtask.
pub struct JdbcWriter {
    context: SinkContext,
    flusher: Flusher,
}

impl JdbcWriter {
    /// Starts the thread, which connects and checks the table at once.
    pub fn start(table: Arc<Table>, context: SinkContext, restored: &[Bytes]) -> Result<Self> {
        let open = Open::new(Arc::clone(&table));
        context.metrics.external.set_endpoint(open.place.endpoint());
        let write = &table.write;
        let options = FlushOptions {
            max_rows: write.max_rows,
            interval_ms: write.interval_ms,
            max_retries: write.max_retries,
            backoff_ms: BACKOFF_MS,
            unreachable_ms: table.jdbc.unreachable_ms,
            queue_rows_max: QUEUE_ROWS.max(write.max_rows.saturating_mul(4)),
        };
        let name = format!("jdbc-{}", context.subtask);
        let flusher = Flusher::start(&name, Box::new(open), options, context.clone(), restored)?;
        Ok(JdbcWriter { context, flusher })
    }

    fn busy(&self) -> WriteStatus {
        WriteStatus::Busy { until_ms: self.context.clock.now_ms() + BUSY_MS }
    }
}

impl SinkWriter for JdbcWriter {
    fn write(&mut self, batch: &ChangeBatch) -> Result<WriteStatus> {
        Ok(if self.flusher.offer(batch)? { WriteStatus::Accepted } else { self.busy() })
    }

    fn flush(&mut self, end_of_data: bool) -> Result<WriteStatus> {
        self.flusher.check()?;
        self.flusher.flush_soon();
        Ok(if end_of_data && self.flusher.pending_rows() > 0 { self.busy() } else { WriteStatus::Accepted })
    }

    fn prepare_commit(&mut self, _: CheckpointId, _: bool) -> Result<Vec<Committable>> {
        Ok(Vec::new())
    }

    fn snapshot(&mut self) -> Result<Vec<Bytes>> {
        self.flusher.snapshot()
    }

    fn on_processing_time(&mut self, now_ms: i64) -> Result<Option<i64>> {
        self.flusher.check()?;
        Ok(Some(now_ms + CHECK_MS))
    }
}
