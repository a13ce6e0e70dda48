//! The exactly-once writer: keeps the rows between two barriers and makes them the committable of the checkpoint. Talks to no
//! server; the committer applies the rows once the checkpoint is published.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use flott_core::batch_codec::{decode_batch, encode_batch};
use flott_core::config::parse_duration_ms;
use flott_core::memory::{MemoryUse, Reservation};
use flott_core::sink::{Committable, SinkContext, SinkWriter, WriteStatus};
use flott_core::{ChangeBatch, CheckpointId, Error, Result};

use super::changes::compact;
use super::session::Place;
use super::writer::Table;
use crate::wire::{Reader, Writer};

/// Tag and version of the encoding.
const TAG: (u8, u8) = (b'J', 1);
/// How soon a writer without room is asked again.
const BUSY_MS: i64 = 20;
/// How often the committer is asked whether the table can be written.
const CHECK_MS: i64 = 200;
/// How long an epoch may be full before the job is told so; three checkpoint intervals if that is longer.
const FULL_MS: i64 = 60_000;
/// Rows after which an epoch is compacted for the first time.
const COMPACT_ROWS: usize = 16_384;

/// The rows of one epoch of one subtask, as in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// The subtask that wrote it, and the parallelism it had.
    pub writer: (u32, u32),
    /// The committable of the same writer before this one; empty for the first.
    pub after: String,
    /// The rows, encoded.
    pub rows: Vec<u8>,
}

impl Epoch {
    /// As a payload.
    pub fn encode(&self) -> Vec<u8> {
        let (subtask, parallelism) = self.writer;
        let head = Writer::new(TAG.0, TAG.1).u64(subtask.into()).u64(parallelism.into()).text(&self.after);
        let mut out = head.u64(self.rows.len() as u64).done();
        out.extend_from_slice(&self.rows);
        out
    }

    /// Back from a payload.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        let mut r = Reader::new("epoch of rows", payload, TAG.0, TAG.1)?;
        let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let writer = (number(r.u64()?), number(r.u64()?));
        let after = r.text()?;
        let rows = r.bytes()?;
        r.end()?;
        Ok(Epoch { writer, after, rows })
    }
}

/// What one subtask has prepared and not seen committed, and why nothing ever will be; shared by its writer and its committer.
#[derive(Default)]
pub struct Outstanding(Mutex<(BTreeMap<String, Reservation>, Option<Error>)>);

impl Outstanding {
    fn lock(&self) -> MutexGuard<'_, (BTreeMap<String, Reservation>, Option<Error>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.lock().0.values().map(Reservation::bytes).sum()
    }
    /// A committable is committed.
    pub fn remove(&self, id: &str) {
        self.lock().0.remove(id);
    }
    /// The table cannot be written: the writer says so, before anything is there to commit.
    pub fn fail(&self, error: Error) {
        self.lock().1 = Some(error);
    }
    /// The error of [`Self::fail`].
    pub fn check(&self) -> Result<()> {
        self.lock().1.clone().map_or(Ok(()), Err)
    }
    fn add(&self, id: &str, held: Reservation) {
        self.lock().0.insert(id.to_owned(), held);
    }
}

/// The writer of one subtask.
pub struct EpochWriter {
    table: Arc<Table>,
    context: SinkContext,
    outstanding: Arc<Outstanding>,
    max_bytes: usize,
    batches: Vec<(ChangeBatch, Reservation)>,
    rows: usize,
    bytes: usize,
    compact_at_rows: usize,
    last_id: String,
    full_since_ms: Option<i64>,
}

impl EpochWriter {
    /// A writer; `restored` are rows that an at-least-once writer of the same table had not written.
    pub fn new(
        table: Arc<Table>,
        context: SinkContext,
        outstanding: Arc<Outstanding>,
        restored: &[Bytes],
    ) -> Result<Self> {
        let max_bytes = table.write.exactly_once.as_ref().map_or(0, |m| m.max_bytes);
        let mut writer = EpochWriter {
            table,
            context,
            outstanding,
            max_bytes: usize::try_from(max_bytes).unwrap_or(usize::MAX),
            batches: Vec::new(),
            rows: 0,
            bytes: 0,
            compact_at_rows: COMPACT_ROWS,
            last_id: String::new(),
            full_since_ms: None,
        };
        for bytes in restored {
            let batch = decode_batch(bytes)?;
            let held = writer.context.memory.reserve(MemoryUse::Sink, batch.memory_bytes());
            writer.keep(batch, held);
        }
        Ok(writer)
    }

    fn keep(&mut self, batch: ChangeBatch, held: Reservation) {
        self.rows += batch.num_rows();
        self.bytes += held.bytes();
        self.batches.push((batch, held));
    }

    /// One batch of all rows, each key once.
    fn compact(&mut self) -> Result<()> {
        if self.batches.len() < 2 && self.rows < self.compact_at_rows {
            return Ok(());
        }
        let (batches, held): (Vec<_>, Vec<_>) = std::mem::take(&mut self.batches).into_iter().unzip();
        let batch = compact(&batches, &self.table.spec.primary_key)?;
        drop((batches, held));
        (self.rows, self.bytes) = (0, 0);
        let held = self.context.memory.reserve(MemoryUse::Sink, batch.memory_bytes());
        self.keep(batch, held);
        self.compact_at_rows = COMPACT_ROWS.max(self.rows * 2);
        Ok(())
    }

    fn fits(&self, more_bytes: usize) -> bool {
        let held_bytes = self.bytes + self.outstanding.bytes();
        held_bytes == 0 || held_bytes + more_bytes <= self.max_bytes
    }

    /// No room: what is prepared may be committed meanwhile, and a barrier may come; an epoch full for long is an error.
    fn busy(&mut self) -> Result<WriteStatus> {
        let now_ms = self.context.clock.now_ms();
        let interval = self.context.config.raw("execution.checkpointing.interval").and_then(parse_duration_ms);
        let committing = self.outstanding.bytes() > 0;
        let since_ms = *self.full_since_ms.get_or_insert(now_ms);
        if committing {
            self.full_since_ms = None;
        } else if interval.is_none_or(|ms| now_ms - since_ms > FULL_MS.max(ms.saturating_mul(3))) {
            return Err(self.too_large(interval.is_some()));
        }
        Ok(WriteStatus::Busy { until_ms: now_ms + BUSY_MS })
    }

    fn too_large(&self, checkpointing: bool) -> Error {
        let place = Place::of(&self.table.jdbc);
        let error = Error::user(
            "jdbc.epoch-full",
            format!("{}, table {}: the rows between two checkpoints do not fit", place.server, place.table),
        )
        .detail(format!(
            "{} rows of {} bytes are held in exactly-once mode, 'sink.exactly-once.max-bytes' allows {}",
            self.rows, self.bytes, self.max_bytes
        ));
        if checkpointing {
            error.hint(
                "raise 'sink.exactly-once.max-bytes' or taskmanager.memory, shorten execution.checkpointing.interval, or set \
                 execution.checkpointing.unaligned.enabled so that barriers do not wait behind rows",
            )
        } else {
            error.hint("set execution.checkpointing.interval, so that rows are applied in parts, or raise 'sink.exactly-once.max-bytes'")
        }
    }
}

impl SinkWriter for EpochWriter {
    fn write(&mut self, batch: &ChangeBatch) -> Result<WriteStatus> {
        self.outstanding.check()?;
        if batch.num_rows() == 0 {
            return Ok(WriteStatus::Accepted);
        }
        let bytes = batch.memory_bytes();
        if self.rows >= self.compact_at_rows || !self.fits(bytes) {
            self.compact()?;
        }
        if !self.fits(bytes) {
            return self.busy();
        }
        let held = match self.context.memory.try_reserve(MemoryUse::Sink, bytes) {
            Some(held) => held,
            None if self.rows == 0 => self.context.memory.reserve(MemoryUse::Sink, bytes),
            None => return self.busy(),
        };
        self.full_since_ms = None;
        self.keep(batch.clone(), held);
        Ok(WriteStatus::Accepted)
    }

    fn prepare_commit(&mut self, checkpoint: CheckpointId, _: bool) -> Result<Vec<Committable>> {
        self.full_since_ms = None;
        if self.rows == 0 {
            return Ok(Vec::new());
        }
        let (batches, held): (Vec<_>, Vec<_>) = std::mem::take(&mut self.batches).into_iter().unzip();
        let batch = compact(&batches, &self.table.spec.primary_key)?;
        (self.rows, self.bytes, self.compact_at_rows) = (0, 0, COMPACT_ROWS);
        let c = &self.context;
        let id = format!("{}-{}-{:x}-{}-{}-{checkpoint}", c.job, c.operator, c.run, c.attempt, c.subtask);
        let after = std::mem::replace(&mut self.last_id, id.clone());
        let epoch = Epoch { writer: (c.subtask, c.parallelism), after, rows: encode_batch(&batch)?.to_vec() };
        let payload = epoch.encode();
        drop((batches, held));
        self.outstanding.add(&id, c.memory.reserve(MemoryUse::Sink, payload.len()));
        Ok(vec![Committable { id, checkpoint, payload }])
    }

    fn on_processing_time(&mut self, now_ms: i64) -> Result<Option<i64>> {
        self.outstanding.check()?;
        Ok(Some(now_ms + CHECK_MS))
    }
}

#[cfg(test)]
mod tests;
