//! TemporalSort: ORDER BY a time of a stream that may never end. Rows wait for the watermark, or for the clock to leave their millisecond;
//! rows of one time are sorted by the other keys. Rows that come too late are dropped and counted.

#[cfg(test)]
mod tests;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use flott_core::batch::ChangeBatch;
use flott_core::error::{Error, Result};
use flott_core::key_group::{KeyGroup, key_group_of, key_hash};
use flott_core::operator::{Operator, OperatorContext, OperatorEvent, OperatorProperties, Progress};
use flott_core::types::{Column, arrow_schema};
use flott_plan::TemporalSortSpec;

use crate::emit::Pending;
use crate::keyed::KeyedRows;
use crate::over::{Waiting, time_bytes, time_of};
use crate::rank::{Sequence, Sorter};
use crate::window::{Tracker, milliseconds};

/// The operator. State: time, sort key and sequence number → row, of the one key group without a key.
pub(crate) struct TemporalSort {
    rowtime: Option<usize>,
    time_name: String,
    rows: KeyedRows,
    sorter: Sorter,
    schema: SchemaRef,
    group: KeyGroup,
    waiting: Waiting,
    sequence: Sequence,
    tracker: Tracker,
    target: i64,
    pending: Pending,
}

impl TemporalSort {
    /// Sorts rows of `input`.
    pub(crate) fn new(spec: &TemporalSortSpec, input: &[Column]) -> Result<Self> {
        Ok(TemporalSort {
            rowtime: spec.rowtime,
            time_name: spec.rowtime.map_or(String::new(), |c| input[c].name.clone()),
            rows: KeyedRows::new(&[], input)?,
            sorter: Sorter::new(&spec.keys, input)?,
            schema: arrow_schema(input),
            group: 0,
            waiting: Waiting::new("waiting"),
            sequence: Sequence::default(),
            tracker: Tracker::new(),
            target: i64::MIN,
            pending: Pending::default(),
        })
    }

    fn run(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        loop {
            if self.pending.flush(&mut ctx.out) == Progress::Blocked {
                return Ok(Progress::Blocked);
            }
            if self.waiting.first().is_none_or(|t| t > self.target) {
                self.wake(ctx);
                return Ok(Progress::Done);
            }
            let due = self.waiting.take(self.target, &mut *ctx.state)?;
            // What may still come is what sorts behind the rows that have left, whatever the watermark says.
            if let Some(last) = due.last() {
                self.tracker.progress = time_of(&last.name)?;
            }
            let columns = self.rows.codec().decode(due.iter().map(|d| &*d.value))?;
            let options = RecordBatchOptions::new().with_row_count(Some(due.len()));
            let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
            self.pending.push(ChangeBatch::append(rows));
        }
    }

    fn wake(&self, ctx: &mut OperatorContext) {
        if let Some(first) = self.waiting.first().filter(|_| self.rowtime.is_none()) {
            ctx.out.wake_at(first.saturating_add(1));
        }
    }
}

impl Operator for TemporalSort {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        self.group = key_group_of(key_hash(&[]), ctx.max_parallelism);
        self.waiting.open(format!("time,{},sequence:{}", self.sorter.schema(), self.rows.types), ctx)?;
        self.sequence.open(ctx)?;
        self.tracker.open(ctx)?;
        self.target = self.tracker.progress;
        self.wake(ctx);
        Ok(OperatorProperties::default())
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        if batch.kinds.as_deref().is_some_and(|k| k.iter().any(|k| !k.is_add())) {
            let text = format!("operator `{}` was planned for appended rows and got a retraction", ctx.name);
            return Err(Error::bug(text));
        }
        let times = match self.rowtime {
            Some(column) => milliseconds(batch.rows.column(column), &self.time_name)?,
            None => vec![ctx.clock.now_ms().max(self.tracker.earliest()); batch.num_rows()],
        };
        let sorted = self.sorter.convert(&batch.rows)?;
        let (mut offsets, mut bytes) = (Vec::new(), Vec::new());
        self.rows.codec().encode_rows(batch.rows.columns(), &mut offsets, &mut bytes)?;
        let (mut late, mut name) = (0, Vec::new());
        for (row, &time) in times.iter().enumerate() {
            if time <= self.tracker.progress {
                late += 1;
                continue;
            }
            name.clear();
            name.extend_from_slice(&time_bytes(time));
            name.extend_from_slice(sorted.key(row));
            name.extend_from_slice(&self.sequence.next().to_be_bytes());
            let value = &bytes[offsets[row] as usize..offsets[row + 1] as usize];
            self.waiting.put(self.group, &name, value, &mut *ctx.state)?;
        }
        ctx.metrics.late_dropped.add(late);
        self.wake(ctx);
        Ok(Progress::Done)
    }

    fn on_event(&mut self, event: OperatorEvent, ctx: &mut OperatorContext) -> Result<Progress> {
        match (event, self.rowtime) {
            (OperatorEvent::Watermark(watermark), Some(_)) => self.target = watermark.0,
            (OperatorEvent::ProcessingTime(now), None) => self.target = self.target.max(now - 1),
            (OperatorEvent::EndOfData, None) => self.target = i64::MAX,
            (OperatorEvent::BeforeBarrier(_), _) => {
                self.tracker.store(ctx);
                self.sequence.store(ctx);
                return Ok(Progress::Done);
            }
            _ => return Ok(Progress::Done),
        }
        self.run(ctx)
    }

    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.run(ctx)
    }
}
