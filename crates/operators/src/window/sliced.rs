//! TUMBLE, HOP and CUMULATE aggregation, and that of windows that rows bring along: rows go into slices (state namespaces by slice end); a window merges its slices when it
//! fires. Driven by watermarks or processing time; never emits a window early or twice.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray};
use flott_core::batch::ChangeBatch;
use flott_core::error::Result;
use flott_core::key_group::{key_group_of, key_hash};
use flott_core::operator::{Operator, OperatorContext, OperatorEvent, OperatorProperties, Progress, TARGET_BATCH_ROWS};
use flott_core::state::{KeyBatch, Slot, StateBackend};
use hashbrown::HashTable;

use super::grid::Grid;
use super::progress::{Tracker, fires_up_to};
use super::properties::Rows;
use super::{Common, row_times};
use crate::aggregate::{AggregateState, GroupKey, Input, merge_image, signs};
use crate::emit::Pending;
use crate::group_aggregate::encode_keys;

/// The operator.
pub(crate) struct SlicedAggregate {
    common: Common,
    grid: Grid,
    /// Rows go into each of their windows: what is aggregated cannot be merged from slices.
    per_window: bool,
    state: Option<AggregateState>,
    tracker: Tracker,
    /// Where `tracker.progress` is going while windows fire.
    target: i64,
    fired_through: i64,
    firing: Option<Firing>,
    pending: Pending,
    keys: KeyBatch,
    slots: Vec<Slot>,
}

/// A window on its way out.
struct Firing {
    end: i64,
    source: Source,
}

enum Source {
    /// One namespace, read where it lies, from the cursor on.
    Namespace(i64, Option<u64>),
    /// Several slices, merged in memory, from the row on.
    Merged(Merged, usize),
}

/// Groups of several slices.
#[derive(Default)]
struct Merged {
    index: HashTable<(u64, u32)>,
    rows: Rows,
}

impl SlicedAggregate {
    /// The operator for windows on a grid.
    pub(crate) fn new(common: Common) -> Result<Self> {
        let grid = Grid::new(common.window.kind)?;
        let per_window = grid.windows_per_row() > 1 && !common.layout.mergeable();
        Ok(SlicedAggregate {
            common,
            grid,
            per_window,
            state: None,
            tracker: Tracker::new(),
            target: i64::MIN,
            fired_through: i64::MIN,
            firing: None,
            pending: Pending::default(),
            keys: KeyBatch::default(),
            slots: Vec::new(),
        })
    }

    /// Puts the rows where `keep` into the namespaces `ends`.
    fn absorb(&mut self, batch: &ChangeBatch, ends: &[i64], keep: &[bool], ctx: &mut OperatorContext) -> Result<()> {
        let kept: Vec<i64>;
        let filtered;
        let (batch, ends) = if keep.iter().all(|k| *k) {
            (batch, ends)
        } else {
            filtered = batch.filter(&BooleanArray::from(keep.to_vec()))?;
            kept = ends.iter().zip(keep).filter(|(_, k)| **k).map(|(e, _)| *e).collect();
            (&filtered, &kept[..])
        };
        if ends.is_empty() {
            return Ok(());
        }
        let columns = batch.rows.columns();
        let signs = signs(batch.kinds.as_deref());
        let key_columns: Vec<ArrayRef> = self.common.group.iter().map(|&g| columns[g].clone()).collect();
        encode_keys(&self.common.codec, &key_columns, ends.len(), ctx.max_parallelism, &mut self.keys)?;
        let namespaces = if ends.iter().all(|e| *e == ends[0]) { &ends[..1] } else { ends };
        let input = Input {
            namespaces,
            keys: &self.keys,
            key_columns: &key_columns,
            columns,
            signs: signs.as_deref(),
            rows: ends.len(),
            max_parallelism: ctx.max_parallelism,
        };
        self.state.as_mut().expect("opened").apply(&input, false, &mut *ctx.state)
    }

    /// Whether the last window of each slice has fired.
    fn late(&self, slices: &[i64]) -> Vec<bool> {
        let mut last = None;
        let late = slices.iter().map(|&slice| match last {
            Some((s, late)) if s == slice => late,
            _ => {
                let late = self.tracker.has_fired(self.grid.last_window(slice), &self.common.shift);
                last = Some((slice, late));
                late
            }
        });
        late.collect()
    }

    fn absorb_per_window(&mut self, batch: &ChangeBatch, slices: &[i64], ctx: &mut OperatorContext) -> Result<()> {
        for nth in 0..self.grid.windows_per_row() {
            let end = |s: &i64| self.grid.first_window(*s).saturating_add(self.grid.slide * nth as i64);
            let ends: Vec<i64> = slices.iter().map(end).collect();
            let open = |(end, slice): (&i64, &i64)| {
                *end <= self.grid.last_window(*slice) && !self.tracker.has_fired(*end, &self.common.shift)
            };
            let keep: Vec<bool> = ends.iter().zip(slices).map(open).collect();
            self.absorb(batch, &ends, &keep, ctx)?;
        }
        Ok(())
    }

    /// The first window with rows that has not fired.
    fn next_window(&self, state: &mut dyn StateBackend) -> Option<i64> {
        let namespaces = state.rows(self.state.as_ref().expect("opened").table).namespaces();
        let first = |slice: i64| {
            if self.per_window {
                return Some(slice);
            }
            let mut end = self.grid.first_window(slice);
            while end <= self.fired_through || self.tracker.has_fired(end, &self.common.shift) {
                end = end.checked_add(self.grid.slide)?;
                if end > self.grid.last_window(slice) {
                    return None;
                }
            }
            Some(end)
        };
        namespaces.into_iter().filter_map(first).min()
    }

    /// Fires what is due, as far as there is room.
    fn run(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        loop {
            if self.pending.flush(&mut ctx.out) == Progress::Blocked {
                return Ok(Progress::Blocked);
            }
            match self.firing.take() {
                Some(firing) => self.emit_chunk(firing, ctx)?,
                None => {
                    let next = self.next_window(&mut *ctx.state);
                    match next.filter(|end| Tracker::is_due(*end, self.target, &self.common.shift)) {
                        Some(end) => self.firing = Some(self.begin(end, &mut *ctx.state, ctx.max_parallelism)?),
                        None => {
                            let processing_time = self.common.window.processing_time;
                            if !processing_time || self.target < i64::MAX {
                                self.tracker.progress = self.tracker.progress.max(self.target);
                            }
                            if let (true, Some(end)) = (processing_time, next) {
                                ctx.out.wake_at(self.common.shift.timer_instant(end - 1).saturating_add(1));
                            }
                            return Ok(Progress::Done);
                        }
                    }
                }
            }
        }
    }

    fn begin(&mut self, end: i64, state: &mut dyn StateBackend, max_parallelism: u32) -> Result<Firing> {
        let aggregates = self.state.as_ref().expect("opened");
        let table = state.rows(aggregates.table);
        let mut slices = table.namespaces();
        slices.retain(|s| if self.per_window { *s == end } else { self.grid.holds(end, *s) });
        if let [one, rest @ ..] = &slices[..]
            && (rest.is_empty() || self.grid.cumulates())
        {
            for slice in rest {
                merge_slices(aggregates, *one, *slice, state, max_parallelism)?;
            }
            return Ok(Firing { end, source: Source::Namespace(*one, Some(0)) });
        }
        let (layout, mut merged) = (&self.common.layout, Merged::default());
        for slice in slices {
            let mut cursor = Some(0);
            while let Some(from) = cursor {
                self.slots.clear();
                cursor = table.scan(slice, from, TARGET_BATCH_ROWS, &mut self.slots);
                for &slot in &self.slots {
                    merged.add(table.key(slot), table.row(slot), layout);
                }
            }
        }
        Ok(Firing { end, source: Source::Merged(merged, 0) })
    }

    /// The next rows of a window; at its end, slices that no window needs any more go away.
    fn emit_chunk(&mut self, firing: Firing, ctx: &mut OperatorContext) -> Result<()> {
        let Firing { end, source } = firing;
        let check = self.tracker.some_fired(end, &self.common.shift);
        let skip = |key: &[u8]| check && self.tracker.fired_before(end, key, &self.common.shift);
        let layout = self.common.layout.clone();
        let mut rows = Rows { beside: vec![Vec::new(); layout.beside], ..Rows::default() };
        let next = match source {
            Source::Namespace(namespace, cursor) => {
                let aggregates = self.state.as_ref().expect("opened");
                let table = ctx.state.rows(aggregates.table);
                self.slots.clear();
                let next = cursor.and_then(|c| table.scan(namespace, c, TARGET_BATCH_ROWS, &mut self.slots));
                let holds_rows = |s: &&Slot| layout.group_rows(table.row(**s)) > 0;
                for &slot in self.slots.iter().filter(holds_rows).filter(|s| !skip(table.key(**s))) {
                    rows.push(table.key(slot), table.row(slot));
                }
                load_beside(aggregates, namespace, &mut rows, ctx)?;
                next.map(|c| Source::Namespace(namespace, Some(c)))
            }
            Source::Merged(merged, from) => {
                let to = (from + TARGET_BATCH_ROWS).min(merged.rows.len());
                let width = layout.width;
                let image = |i: usize| &merged.rows.images[i * width..(i + 1) * width];
                for i in (from..to).filter(|&i| layout.group_rows(image(i)) > 0 && !skip(merged.key(i))) {
                    rows.push(merged.key(i), image(i));
                }
                (to < merged.rows.len()).then_some(Source::Merged(merged, to))
            }
        };
        if rows.len() > 0 {
            let windows = vec![(self.grid.start(end), end); rows.len()];
            let Common { layout, codec, output, shift, .. } = &self.common;
            self.pending.push(output.build(layout, codec, &rows, &windows, shift)?);
        }
        match next {
            Some(source) => self.firing = Some(Firing { end, source }),
            None => self.finish_window(end, &mut *ctx.state, ctx.max_parallelism)?,
        }
        Ok(())
    }

    fn finish_window(&mut self, end: i64, state: &mut dyn StateBackend, max_parallelism: u32) -> Result<()> {
        self.fired_through = end;
        let aggregates = self.state.as_mut().expect("opened");
        for slice in state.rows(aggregates.table).namespaces() {
            let last = if self.per_window { slice } else { self.grid.last_window(slice) };
            if last > end {
                continue;
            }
            if aggregates.has_beside() {
                let mut cursor = Some(0);
                while let Some(from) = cursor {
                    self.slots.clear();
                    let table = state.rows(aggregates.table);
                    cursor = table.scan(slice, from, TARGET_BATCH_ROWS, &mut self.slots);
                    let keys: Vec<Vec<u8>> = self.slots.iter().map(|s| table.key(*s).to_vec()).collect();
                    for key in &keys {
                        let group = key_group_of(key_hash(key), max_parallelism);
                        aggregates.forget_beside(GroupKey { namespace: slice, group, key }, state)?;
                    }
                }
            }
            aggregates.drop_namespace(slice, state);
        }
        Ok(())
    }
}

/// Moves the groups of a slice into an earlier one of the same cumulating window: later windows then read one slice.
fn merge_slices(
    aggregates: &AggregateState,
    into: i64,
    slice: i64,
    state: &mut dyn StateBackend,
    max_parallelism: u32,
) -> Result<()> {
    let table = state.rows(aggregates.table);
    let (layout, mut keys, mut images) = (&aggregates.layout, KeyBatch::default(), Vec::new());
    let (mut cursor, mut slots) = (Some(0), Vec::new());
    while let Some(from) = cursor {
        slots.clear();
        keys.clear();
        images.clear();
        cursor = table.scan(slice, from, TARGET_BATCH_ROWS, &mut slots);
        for &slot in &slots {
            keys.push(table.key(slot), max_parallelism);
            images.extend_from_slice(table.row(slot));
        }
        table.resolve(&[into], &keys, true, &mut slots)?;
        let image = |i: usize| &images[i * layout.width..(i + 1) * layout.width];
        table.update(&slots, &mut |i, row| merge_image(layout, row, image(i)));
    }
    table.drop_namespace(slice);
    Ok(())
}

/// Reads what lies beside the rows of a chunk.
fn load_beside(aggregates: &AggregateState, namespace: i64, rows: &mut Rows, ctx: &mut OperatorContext) -> Result<()> {
    if rows.beside.is_empty() {
        return Ok(());
    }
    let mut start = 0;
    for &end in &rows.key_ends {
        let key = &rows.keys[start..end];
        let group = key_group_of(key_hash(key), ctx.max_parallelism);
        let values = aggregates.load(GroupKey { namespace, group, key }, &mut *ctx.state)?;
        rows.beside.iter_mut().zip(values).for_each(|(column, v)| column.push(v));
        start = end;
    }
    Ok(())
}

impl Merged {
    fn key(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.rows.key_ends[i - 1] };
        &self.rows.keys[start..self.rows.key_ends[i]]
    }
    fn add(&mut self, key: &[u8], image: &[u8], layout: &Arc<crate::aggregate::Layout>) {
        let hash = key_hash(key);
        let found =
            self.index.find(hash, |(h, i)| *h == hash && self.key(*i as usize) == key).map(|(_, i)| *i as usize);
        match found {
            Some(i) => merge_image(layout, &mut self.rows.images[i * layout.width..(i + 1) * layout.width], image),
            None => {
                let i = self.rows.len() as u32;
                self.rows.push(key, image);
                self.index.insert_unique(hash, (hash, i), |(h, _)| *h);
            }
        }
    }
}

impl Operator for SlicedAggregate {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        let Common { layout, codec, input, window, .. } = &self.common;
        self.state = Some(AggregateState::open(layout.clone(), codec, input, &mut *ctx.state, None)?);
        let processing_time = window.processing_time;
        self.tracker.open(ctx)?;
        if processing_time && let Some(end) = self.next_window(&mut *ctx.state) {
            ctx.out.wake_at(self.common.shift.timer_instant(end - 1).saturating_add(1));
        }
        Ok(OperatorProperties::default())
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        let Common { window, time_name, shift, .. } = &mut self.common;
        let mut slices = row_times(window, time_name, shift, &batch, self.tracker.earliest(), ctx)?;
        slices.iter_mut().for_each(|t| *t = self.grid.slice_end(*t));
        let late = self.late(&slices);
        let late_rows = late.iter().filter(|l| **l).count();
        ctx.metrics.late_dropped.add(late_rows as u64);
        if self.per_window {
            self.absorb_per_window(&batch, &slices, ctx)?;
        } else {
            let keep: Vec<bool> = late.iter().map(|l| !l).collect();
            self.absorb(&batch, &slices, &keep, ctx)?;
        }
        if self.common.window.processing_time
            && let Some(&slice) = slices.first()
        {
            let end = self.grid.first_window(slice);
            ctx.out.wake_at(self.common.shift.timer_instant(end - 1).saturating_add(1));
        }
        Ok(Progress::Done)
    }

    fn on_event(&mut self, event: OperatorEvent, ctx: &mut OperatorContext) -> Result<Progress> {
        if let OperatorEvent::BeforeBarrier(_) = event {
            self.tracker.store(ctx);
        }
        let Some(target) = fires_up_to(event, self.common.window.processing_time) else { return Ok(Progress::Done) };
        self.target = target;
        self.run(ctx)
    }

    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.run(ctx)
    }
}
