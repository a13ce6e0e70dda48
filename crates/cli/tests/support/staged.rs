//! A sink whose rows become visible exactly once: staged per checkpoint, published by its committer. Takes every kind of change.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use flott_core::sink::{
    ChangelogMode, CommitError, Committable, Committer, Sink, SinkContext, SinkWriter, WriteStatus,
};
use flott_core::time::SharedClock;
use flott_core::{ChangeBatch, CheckpointId, Result};
use flott_launcher::{parse_zone, result_writer};
use flott_sql::QueryInfo;

#[derive(Default)]
struct Published {
    ids: HashSet<String>,
    changes: Vec<String>,
}

/// What was published, shared by all runs of a job.
#[derive(Clone, Default)]
pub struct Staged {
    published: Arc<Mutex<Published>>,
    /// How long a writer takes for a batch.
    pause_ms: i64,
}

impl Staged {
    /// A sink whose writers take so long for a batch.
    pub fn slow(pause_ms: i64) -> Self {
        Staged { pause_ms, ..Staged::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sink of one run.
    pub fn sink(&self, query: &QueryInfo) -> Arc<dyn Sink> {
        Arc::new(StagedSink { store: self.clone(), query: query.clone() })
    }

    /// The final rows, in order of publication.
    pub fn rows(&self) -> Vec<String> {
        let mut rows: Vec<String> = Vec::new();
        // Changes of one row come from one subtask, but a retraction may be published before what another one adds.
        let mut owed: Vec<String> = Vec::new();
        for change in &self.lock().changes {
            let (sign, row) = change.split_at(1);
            let (from, to) = if sign == "+" { (&mut owed, &mut rows) } else { (&mut rows, &mut owed) };
            match from.iter().rposition(|r| r == row) {
                Some(i) => drop(from.remove(i)),
                None => to.push(row.to_owned()),
            }
        }
        rows.extend(owed.into_iter().map(|row| format!("RETRACTED BUT NEVER THERE: {row}")));
        rows
    }
}

struct StagedSink {
    store: Staged,
    query: QueryInfo,
}

impl Sink for StagedSink {
    fn changelog_mode(&self) -> ChangelogMode {
        self.query.mode
    }
    fn writer(&self, context: SinkContext, _: Vec<Bytes>) -> Result<Box<dyn SinkWriter>> {
        let prefix = format!("{}-{}-{}", context.run, context.attempt, context.subtask);
        let pause_ms = self.store.pause_ms;
        Ok(Box::new(Writer {
            prefix,
            staged: String::new(),
            clock: context.clock,
            pause_ms,
            free_ms: i64::MIN,
            query: self.query.clone(),
        }))
    }
    fn committer(&self, _: SinkContext) -> Result<Option<Box<dyn Committer>>> {
        Ok(Some(Box::new(Publisher(self.store.clone()))))
    }
}

struct Writer {
    prefix: String,
    staged: String,
    clock: SharedClock,
    pause_ms: i64,
    free_ms: i64,
    query: QueryInfo,
}

impl SinkWriter for Writer {
    fn write(&mut self, batch: &ChangeBatch) -> Result<WriteStatus> {
        if self.pause_ms > 0 {
            let now_ms = self.clock.now_ms();
            if now_ms < self.free_ms {
                return Ok(WriteStatus::Busy { until_ms: self.free_ms });
            }
            self.free_ms = now_ms + self.pause_ms;
        }
        let zone = parse_zone(&self.query.zone).unwrap_or_default();
        let columns = batch.rows.columns().iter().zip(&self.query.columns);
        let cells: Vec<_> = columns.map(|(a, c)| result_writer(a, &c.data_type.kind, zone)).collect();
        for i in 0..batch.num_rows() {
            self.staged.push(if batch.kind(i).is_add() { '+' } else { '-' });
            for (c, write) in cells.iter().enumerate() {
                if c > 0 {
                    self.staged.push_str(" | ");
                }
                write(i, &mut self.staged);
            }
            self.staged.push('\n');
        }
        Ok(WriteStatus::Accepted)
    }
    fn prepare_commit(&mut self, checkpoint: CheckpointId, _: bool) -> Result<Vec<Committable>> {
        let payload = std::mem::take(&mut self.staged).into_bytes();
        if payload.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Committable { id: format!("{}-{checkpoint}", self.prefix), checkpoint, payload }])
    }
}

struct Publisher(Staged);

impl Committer for Publisher {
    fn commit(&mut self, committables: &[Committable]) -> Result<(), CommitError> {
        let mut published = self.0.lock();
        for c in committables {
            if published.ids.insert(c.id.clone()) {
                let text = String::from_utf8(c.payload.clone()).expect("rows are text");
                published.changes.extend(text.lines().map(str::to_owned));
            }
        }
        Ok(())
    }
}
