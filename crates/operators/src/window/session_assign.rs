//! SESSION as a table function: keeps the rows of each key until their session is over, then emits them with its window. Late rows are
//! dropped; a retraction takes its row out of the session, which keeps its extent. Never emits a session early or twice.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::error::{Error, Result};
use flott_core::key_group::KeyGroup;
use flott_core::operator::{Operator, OperatorContext, OperatorEvent, OperatorProperties, Progress, TARGET_BATCH_ROWS};
use flott_core::state::{
    KeyBatch, MapRange, MapTable, RowTable, Slot, StateBackend, TableDescriptor, TableId, TableKind,
};
use flott_core::types::{Column, arrow_schema};
use flott_plan::spec::{WindowProperty, WindowSpec};

use super::progress::{Tracker, fires_up_to};
use super::properties::column;
use super::session::SlotMap;
use super::{row_times, time_column};
use crate::emit::Pending;
use crate::keyed::{KeyedRows, Output};
use crate::zone::ZoneShift;

/// Bytes of the time before a row in state.
const TIME: usize = 8;

/// The operator. State: key → when its first session may end; key → time and row → how often the row is there.
pub(crate) struct SessionAssign {
    window: WindowSpec,
    time_name: String,
    gap: i64,
    shift: ZoneShift,
    rows: KeyedRows,
    input: SchemaRef,
    output: SchemaRef,
    timers_table: TableId,
    rows_table: TableId,
    /// When to look at a key; derived from state. One valid entry per key, see `scheduled`.
    timers: BinaryHeap<Reverse<(i64, Slot)>>,
    scheduled: SlotMap<i64>,
    tracker: Tracker,
    target: i64,
    pending: Pending,
}

/// Rows with their windows, to be emitted.
#[derive(Default)]
struct Closed {
    out: Output,
    windows: Vec<(i64, i64)>,
}

impl SessionAssign {
    /// Sessions of the rows of each PARTITION BY key.
    pub(crate) fn new(window: &WindowSpec, gap: i64, input: &[Column], output: &[Column]) -> Result<Self> {
        if output.len() != input.len() + 3 {
            return Err(Error::bug("SESSION appends three columns"));
        }
        Ok(SessionAssign {
            time_name: time_column(window, input)?,
            gap,
            shift: ZoneShift::new(window.zone.as_deref())?,
            rows: KeyedRows::new(&window.partition, input)?,
            input: arrow_schema(input),
            output: arrow_schema(output),
            window: window.clone(),
            timers_table: TableId(0),
            rows_table: TableId(0),
            timers: BinaryHeap::new(),
            scheduled: SlotMap::default(),
            tracker: Tracker::new(),
            target: i64::MIN,
            pending: Pending::default(),
        })
    }

    /// Puts the rows of one key into state; the number of late ones.
    fn put(
        &self,
        (group, key): (KeyGroup, &[u8]),
        rows: impl Iterator<Item = (i64, i64, Vec<u8>)>,
        first_end: &mut i64,
        map: &mut dyn MapTable,
    ) -> Result<u64> {
        let mut late = 0;
        for (time, sign, entry) in rows {
            let end = time.saturating_add(self.gap);
            if self.tracker.has_fired(end, &self.shift) && !self.touches(time, (group, key), map)? {
                late += 1;
                continue;
            }
            let count = map.get(0, group, key, &entry)?.as_deref().map_or(Ok(0), count_of)?;
            map.put(0, group, key, &entry, &(count + sign).to_le_bytes())?;
            *first_end = (*first_end).min(end);
        }
        Ok(late)
    }

    /// Whether a row at `time` would join an open session: all rows in state are of such.
    fn touches(&self, time: i64, (group, key): (KeyGroup, &[u8]), map: &mut dyn MapTable) -> Result<bool> {
        let after = order_bytes(time.saturating_sub(self.gap));
        let mut found = Vec::new();
        map.scan(MapRange { namespace: 0, group, key, prefix: &[], after: Some(&after) }, 1, &mut found)?;
        let Some((entry, _)) = found.first() else { return Ok(false) };
        Ok(time_of(entry)? <= time.saturating_add(self.gap))
    }

    /// Emits the sessions of a key that are over and forgets them; when the next one may end.
    fn close(&self, group: KeyGroup, key: &[u8], closed: &mut Closed, map: &mut dyn MapTable) -> Result<Option<i64>> {
        let mut open: Vec<(Vec<u8>, std::sync::Arc<[u8]>)> = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        let mut last = i64::MIN;
        loop {
            let mut chunk = Vec::new();
            let range = MapRange { namespace: 0, group, key, prefix: &[], after: after.as_deref() };
            let more = map.scan(range, TARGET_BATCH_ROWS, &mut chunk)?;
            after = chunk.last().map(|(entry, _)| entry.clone());
            for (entry, count) in chunk {
                let time = time_of(&entry)?;
                if !open.is_empty() && time > last.saturating_add(self.gap) {
                    if !self.is_over(last) {
                        return Ok(Some(last.saturating_add(self.gap)));
                    }
                    self.emit(group, key, std::mem::take(&mut open), last, closed, map)?;
                }
                last = time;
                open.push((entry, count));
            }
            if !more {
                break;
            }
        }
        if open.is_empty() {
            return Ok(None);
        }
        if !self.is_over(last) {
            return Ok(Some(last.saturating_add(self.gap)));
        }
        self.emit(group, key, open, last, closed, map)?;
        Ok(None)
    }

    fn is_over(&self, last: i64) -> bool {
        Tracker::is_due(last.saturating_add(self.gap), self.target, &self.shift)
    }

    fn emit(
        &self,
        group: KeyGroup,
        key: &[u8],
        rows: Vec<(Vec<u8>, std::sync::Arc<[u8]>)>,
        last: i64,
        closed: &mut Closed,
        map: &mut dyn MapTable,
    ) -> Result<()> {
        let Some((first, _)) = rows.first() else { return Ok(()) };
        let window = (time_of(first)?, last.saturating_add(self.gap));
        for (entry, count) in &rows {
            for _ in 0..count_of(count)?.max(0) {
                closed.out.stored(RowKind::Insert, &entry[TIME..]);
                closed.windows.push(window);
            }
            map.remove(0, group, key, entry)?;
        }
        Ok(())
    }

    /// Fires what is due, as far as there is room.
    fn run(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        loop {
            if self.pending.flush(&mut ctx.out) == Progress::Blocked {
                return Ok(Progress::Blocked);
            }
            let mut closed = Closed::default();
            while closed.windows.len() < TARGET_BATCH_ROWS {
                let Some(&Reverse((end, slot))) = self.timers.peek() else { break };
                if !Tracker::is_due(end, self.target, &self.shift) {
                    break;
                }
                self.timers.pop();
                self.look(end, slot, &mut closed, ctx)?;
            }
            if closed.windows.is_empty() {
                break;
            }
            let batch = self.build(closed)?;
            batch.into_iter().for_each(|b| self.pending.push(b));
        }
        if !self.window.processing_time || self.target < i64::MAX {
            self.tracker.progress = self.tracker.progress.max(self.target);
        }
        self.wake(ctx);
        Ok(Progress::Done)
    }

    /// Looks at the key in `slot` if `end` is still when its first session may end.
    fn look(&mut self, end: i64, slot: Slot, closed: &mut Closed, ctx: &mut OperatorContext) -> Result<()> {
        if self.scheduled.get(&slot) != Some(&end) {
            return Ok(());
        }
        let table = ctx.state.rows(self.timers_table);
        let mut keys = KeyBatch::default();
        keys.push(table.key(slot), ctx.max_parallelism);
        let next = self.close(keys.groups[0], keys.key(0), closed, ctx.state.map(self.rows_table))?;
        let table = ctx.state.rows(self.timers_table);
        match next {
            Some(next) => self.schedule(next, slot, table),
            None => {
                self.scheduled.remove(&slot);
                table.remove(slot);
            }
        }
        Ok(())
    }

    fn schedule(&mut self, end: i64, slot: Slot, table: &mut dyn RowTable) {
        table.row_mut(slot).copy_from_slice(&end.to_le_bytes());
        self.timers.push(Reverse((end, slot)));
        self.scheduled.insert(slot, end);
    }

    fn build(&self, closed: Closed) -> Result<Option<ChangeBatch>> {
        let Some(batch) = closed.out.build(None, self.rows.codec(), &self.input)? else { return Ok(None) };
        let mut columns = batch.rows.columns().to_vec();
        for property in [WindowProperty::Start, WindowProperty::End, WindowProperty::Time] {
            let arrow = self.output.field(columns.len()).data_type();
            columns.push(column(property, arrow, &closed.windows, &self.shift)?);
        }
        Ok(Some(ChangeBatch::append(RecordBatch::try_new(self.output.clone(), columns)?)))
    }

    fn wake(&self, ctx: &mut OperatorContext) {
        if let (true, Some(Reverse((end, _)))) = (self.window.processing_time, self.timers.peek()) {
            ctx.out.wake_at(self.shift.timer_instant(end - 1).saturating_add(1));
        }
    }

    /// Derives the timers from state.
    fn rebuild(&mut self, state: &mut dyn StateBackend) -> Result<()> {
        let (mut cursor, mut slots) = (Some(0), Vec::new());
        let table = state.rows(self.timers_table);
        while let Some(from) = cursor {
            slots.clear();
            cursor = table.scan(0, from, TARGET_BATCH_ROWS, &mut slots);
            for &slot in &slots {
                let end = count_of(table.row(slot))?;
                self.timers.push(Reverse((end, slot)));
                self.scheduled.insert(slot, end);
            }
        }
        Ok(())
    }
}

/// Bytes that sort as times do.
fn order_bytes(time: i64) -> [u8; TIME] {
    (time as u64 ^ (1 << 63)).to_be_bytes()
}

fn damaged() -> Error {
    Error::corrupt("state.row", "a row of a session in state is damaged")
}

fn time_of(entry: &[u8]) -> Result<i64> {
    let bytes = entry.first_chunk::<TIME>().ok_or_else(damaged)?;
    Ok((u64::from_be_bytes(*bytes) ^ (1 << 63)) as i64)
}

fn count_of(value: &[u8]) -> Result<i64> {
    value.first_chunk::<8>().map(|b| i64::from_le_bytes(*b)).ok_or_else(damaged)
}

impl Operator for SessionAssign {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        let mut table = |name: &str, kind, schema: String| {
            ctx.state.register(&TableDescriptor { name: name.to_owned(), kind, schema, ttl: None })
        };
        self.timers_table = table("sessions", TableKind::Rows { width: 8 }, "end".to_owned())?;
        self.rows_table = table("rows", TableKind::Map, format!("time,{}:count", self.rows.types))?;
        self.tracker.open(ctx)?;
        self.rebuild(&mut *ctx.state)?;
        self.wake(ctx);
        Ok(OperatorProperties::default())
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        let earliest = self.tracker.earliest();
        let times = row_times(&self.window, &self.time_name, &mut self.shift, &batch, earliest, ctx)?;
        let grouped = self.rows.group(&batch, ctx.max_parallelism, true)?;
        let mut slots = Vec::new();
        ctx.state.rows(self.timers_table).resolve(&[0], &grouped.keys, true, &mut slots)?;
        for gid in 0..grouped.len() {
            let Some(slot) = grouped.rows(gid).next().map(|row| slots[row]) else { continue };
            let known = self.scheduled.get(&slot).copied();
            let mut first_end = known.unwrap_or(i64::MAX);
            let (group, key) = grouped.key(gid);
            let map = ctx.state.map(self.rows_table);
            let entry = |row: usize| {
                let sign = if batch.kind(row).is_add() { 1 } else { -1 };
                (times[row], sign, [&order_bytes(times[row])[..], grouped.bytes(row)].concat())
            };
            let late = self.put((group, key), grouped.rows(gid).map(entry), &mut first_end, map)?;
            ctx.metrics.late_dropped.add(late);
            let table = ctx.state.rows(self.timers_table);
            if first_end == i64::MAX {
                table.remove(slot);
            } else if known != Some(first_end) {
                self.schedule(first_end, slot, table);
            }
        }
        self.wake(ctx);
        Ok(Progress::Done)
    }

    fn on_event(&mut self, event: OperatorEvent, ctx: &mut OperatorContext) -> Result<Progress> {
        if let OperatorEvent::BeforeBarrier(_) = event {
            self.tracker.store(ctx);
        }
        let Some(target) = fires_up_to(event, self.window.processing_time) else { return Ok(Progress::Done) };
        self.target = target;
        self.run(ctx)
    }

    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.run(ctx)
    }
}
