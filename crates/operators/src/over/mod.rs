//! OverAggregate: functions over the rows before each row, by time. By event time rows wait for the watermark; by processing time they
//! are answered as they come. Never emits a row twice, and never changes a result.

mod engine;
mod frame;
mod ordered;
mod values;
mod waiting;

#[cfg(test)]
mod tests;

pub(crate) use ordered::OrderedOver;
pub(crate) use waiting::{Due, Waiting, time_bytes, time_of};

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::SchemaRef;
use flott_core::batch::ChangeBatch;
use flott_core::error::{Error, Result};
use flott_core::operator::{Operator, OperatorContext, OperatorEvent, OperatorProperties, Progress};
use flott_core::state::{KeyBatch, NO_SLOT, Ttl};
use flott_core::types::{Column, arrow_schema};
use flott_plan::{OverOrder, OverSpec};

use crate::emit::Pending;
use crate::group_aggregate::encode_keys;
use crate::keyed::KeyedRows;
use crate::rank::Sequence;
use crate::window::{Tracker, milliseconds};
use engine::{Engine, Events};
use frame::{Frames, HEADER, Header, RowSet};

/// What makes rows due.
#[derive(Clone, Copy, PartialEq)]
enum Wait {
    /// The watermark reaches the time in this column.
    Watermark(usize),
    /// The clock goes past the millisecond they came in, so that all rows of it are there.
    Clock,
    /// Nothing.
    No,
}

/// The operator. State: rows that wait, by time; the rows of frames with a bound, by partition; aggregates by partition.
pub(crate) struct OverAggregate {
    partition: Vec<usize>,
    wait: Wait,
    time_name: String,
    ttl_ms: Option<i64>,
    rows: KeyedRows,
    engine: Engine,
    frames: Frames,
    waiting: Waiting,
    sequence: Sequence,
    tracker: Tracker,
    target: i64,
    schema: SchemaRef,
    pending: Pending,
    keys: KeyBatch,
}

impl OverAggregate {
    /// The operator of `spec`, whose order is a time.
    pub(crate) fn new(spec: &OverSpec, input: &[Column], output: &[Column]) -> Result<Self> {
        let frame = spec.frame;
        let (wait, time_name) = match spec.order {
            OverOrder::Rowtime(column) => (Wait::Watermark(column), input[column].name.clone()),
            OverOrder::Proctime if !frame.rows && frame.preceding.is_some() => (Wait::Clock, String::new()),
            OverOrder::Proctime => (Wait::No, String::new()),
            OverOrder::Column(_) => return Err(Error::bug("an OVER by another column than a time")),
        };
        let bounded = frame.preceding.is_some();
        let header = if bounded { HEADER } else { 0 };
        Ok(OverAggregate {
            partition: spec.partition.clone(),
            wait,
            time_name,
            ttl_ms: spec.ttl_ms,
            rows: KeyedRows::new(&spec.partition, input)?,
            engine: Engine::new(&spec.partition, &spec.calls, bounded, header, input)?,
            frames: Frames::new(frame, !frame.rows && wait != Wait::No, spec.ttl_ms),
            waiting: Waiting::new("waiting"),
            sequence: Sequence::default(),
            tracker: Tracker::new(),
            target: i64::MIN,
            schema: arrow_schema(output),
            pending: Pending::default(),
            keys: KeyBatch::default(),
        })
    }

    fn name(&mut self, time: i64) -> [u8; 16] {
        let mut name = [0; 16];
        name[..8].copy_from_slice(&time_bytes(time));
        name[8..].copy_from_slice(&self.sequence.next().to_be_bytes());
        name
    }

    fn encode(&self, columns: &[ArrayRef], rows: usize, ctx: &OperatorContext, keys: &mut KeyBatch) -> Result<()> {
        let key_columns: Vec<ArrayRef> = self.partition.iter().map(|&p| columns[p].clone()).collect();
        encode_keys(&self.engine.codec, &key_columns, rows, ctx.max_parallelism, keys)
    }

    /// Rows by event time or by the clock: into state, unless they are late.
    fn store(&mut self, batch: &ChangeBatch, times: &[i64], ctx: &mut OperatorContext) -> Result<()> {
        let mut keys = std::mem::take(&mut self.keys);
        self.encode(batch.rows.columns(), batch.num_rows(), ctx, &mut keys)?;
        let mut slots = Vec::new();
        if self.frames.is_bounded() {
            self.engine.slots(&keys, &mut *ctx.state, &mut slots)?;
        }
        let (mut offsets, mut bytes) = (Vec::new(), Vec::new());
        self.rows.codec().encode_rows(batch.rows.columns(), &mut offsets, &mut bytes)?;
        let mut late = 0;
        for (row, &time) in times.iter().enumerate() {
            // With a bound a partition knows how far it has come; without one, rows behind the watermark are late.
            let reached = match slots.get(row) {
                None => self.tracker.progress,
                Some(&NO_SLOT) => i64::MIN,
                Some(&slot) => Header::read(self.engine.row(slot, &mut *ctx.state)?).last,
            };
            if time <= reached && reached > i64::MIN {
                late += 1;
                continue;
            }
            let name = self.name(time);
            let value = &bytes[offsets[row] as usize..offsets[row + 1] as usize];
            self.waiting.put(keys.groups[row], &name, value, &mut *ctx.state)?;
        }
        ctx.metrics.late_dropped.add(late);
        self.keys = keys;
        Ok(())
    }

    /// Results of rows, in their order.
    fn answer(&mut self, set: &RowSet, ctx: &mut OperatorContext) -> Result<()> {
        let now_ms = ctx.clock.now_ms();
        let plan = self.frames.plan(set, &self.engine, now_ms, &mut *ctx.state)?;
        let mut columns = set.columns.clone();
        if !plan.left.is_empty() {
            let left = self.rows.codec().decode(plan.left.iter().map(|r| &**r))?;
            for (column, left) in columns.iter_mut().zip(&left) {
                *column = arrow_select::concat::concat(&[column.as_ref(), left.as_ref()])?;
            }
        }
        let mut header = |partition: usize, bytes: &mut [u8]| {
            if let Some(header) = plan.headers.get(partition) {
                header.write(bytes);
            }
        };
        let results = self.engine.run(&columns, &plan.events, ctx.max_parallelism, &mut header, &mut *ctx.state)?;
        let points = UInt32Array::from(plan.point_of);
        let mut output = set.columns.clone();
        for result in &results {
            output.push(arrow_select::take::take(result, &points, None)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(points.len()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), output, &options)?;
        self.pending.push(ChangeBatch::append(rows));
        Ok(())
    }

    /// The rows that waited, with what answering them needs.
    fn due(&mut self, due: Vec<Due>, ctx: &OperatorContext) -> Result<RowSet> {
        let columns = self.rows.codec().decode(due.iter().map(|d| &*d.value))?;
        let mut keys = KeyBatch::default();
        self.encode(&columns, due.len(), ctx, &mut keys)?;
        let damaged = |_| Error::corrupt("state.row", "a row in state that waits for its time has no number");
        let names = due.iter().map(|d| d.name.as_slice().try_into().map_err(damaged)).collect::<Result<_>>()?;
        let bytes = due.into_iter().map(|d| d.value).collect();
        Ok(RowSet { columns, names, bytes, keys })
    }

    /// State of partitions that got no rows for long goes away.
    fn expire(&mut self, until: i64, ctx: &mut OperatorContext) -> Result<()> {
        let (events, rows): (Events, Vec<Arc<[u8]>>) =
            self.frames.expired(until, &self.engine, ctx.max_parallelism, &mut *ctx.state)?;
        if rows.is_empty() {
            return Ok(());
        }
        let columns = self.rows.codec().decode(rows.iter().map(|r| &**r))?;
        self.engine.run(&columns, &events, ctx.max_parallelism, &mut |_, _| {}, &mut *ctx.state)?;
        Ok(())
    }

    fn expiry_target(&self, ctx: &OperatorContext) -> i64 {
        if self.frames.expires_by_clock() { ctx.clock.now_ms() } else { self.target }
    }

    /// Answers what is due, as far as there is room.
    fn run(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        loop {
            if self.pending.flush(&mut ctx.out) == Progress::Blocked {
                return Ok(Progress::Blocked);
            }
            if self.wait != Wait::No && self.waiting.first().is_some_and(|t| t <= self.target) {
                let due = self.waiting.take(self.target, &mut *ctx.state)?;
                let set = self.due(due, ctx)?;
                self.answer(&set, ctx)?;
                continue;
            }
            let until = self.expiry_target(ctx);
            if self.frames.expiry.first().is_some_and(|t| t <= until) {
                self.expire(until, ctx)?;
                continue;
            }
            // The clock is not at an end with the data.
            if self.wait != Wait::Clock || self.target < i64::MAX {
                self.tracker.progress = self.tracker.progress.max(self.target);
            }
            self.wake(ctx);
            return Ok(Progress::Done);
        }
    }

    fn wake(&self, ctx: &mut OperatorContext) {
        let rows = self.waiting.first().filter(|_| self.wait == Wait::Clock).map(|t| t.saturating_add(1));
        let by_clock = self.frames.expires_by_clock() || self.wait == Wait::Clock;
        let expiry = self.frames.expiry.first().filter(|_| by_clock);
        if let Some(at) = rows.into_iter().chain(expiry).min() {
            ctx.out.wake_at(at);
        }
    }
}

impl Operator for OverAggregate {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        let ttl = self.ttl_ms.filter(|_| !self.frames.is_bounded());
        let ttl = ttl.map(|ttl_ms| Ttl { ttl_ms, update_on_read: false });
        self.engine.open(ttl, &mut *ctx.state)?;
        self.frames.open(&self.rows.types, ctx)?;
        if self.wait != Wait::No {
            self.waiting.open(format!("time,sequence:{}", self.rows.types), ctx)?;
        }
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
        let rows = batch.num_rows();
        // The clock may go back; rows may not.
        let now_ms = ctx.clock.now_ms().max(self.tracker.earliest());
        match self.wait {
            Wait::Watermark(column) => {
                let times = milliseconds(batch.rows.column(column), &self.time_name)?;
                self.store(&batch, &times, ctx)?;
            }
            Wait::Clock => self.store(&batch, &vec![now_ms; rows], ctx)?,
            Wait::No => {
                let columns = batch.rows.columns().to_vec();
                let (mut keys, mut bytes) = (KeyBatch::default(), Vec::new());
                self.encode(&columns, rows, ctx, &mut keys)?;
                if self.frames.is_bounded() {
                    let (mut offsets, mut all) = (Vec::new(), Vec::new());
                    self.rows.codec().encode_rows(&columns, &mut offsets, &mut all)?;
                    bytes = offsets.windows(2).map(|w| all[w[0] as usize..w[1] as usize].into()).collect();
                }
                let names = (0..rows).map(|_| self.name(now_ms)).collect();
                self.answer(&RowSet { columns, names, bytes, keys }, ctx)?;
                return self.run(ctx);
            }
        }
        self.wake(ctx);
        Ok(Progress::Done)
    }

    fn on_event(&mut self, event: OperatorEvent, ctx: &mut OperatorContext) -> Result<Progress> {
        match (event, self.wait) {
            (OperatorEvent::Watermark(watermark), Wait::Watermark(_)) => self.target = watermark.0,
            (OperatorEvent::ProcessingTime(now), Wait::Clock) => self.target = self.target.max(now - 1),
            // The clock will not go on for these rows: all that are there are peers of none to come.
            (OperatorEvent::EndOfData, Wait::Clock) => self.target = i64::MAX,
            (OperatorEvent::ProcessingTime(_), _) => {}
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
