//! Window Top-N: the first rows of each partition of each window, emitted once, when the window is over. Rows of windows that have
//! fired are late; never fires a window twice, also after a restore.

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{Array, BooleanArray};
use arrow_schema::SchemaRef;
use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::error::{Error, Result};
use flott_core::key_group::{key_group_of, key_hash};
use flott_core::operator::{Operator, OperatorContext, OperatorEvent, OperatorProperties, Progress, TARGET_BATCH_ROWS};
use flott_core::state::{Slot, StateBackend, TableDescriptor, TableId, TableKind};
use flott_core::types::{Column, arrow_schema};
use flott_plan::spec::OperatorSpec;

use super::list::{Entry, Sequence, Top, load, merge};
use super::{Sorter, opened};
use crate::emit::Pending;
use crate::keyed::{KeyedRows, Output};
use crate::window::{Tracker, fires_up_to};
use crate::zone::ZoneShift;

/// The operator. State, by window end: which partitions there are, and partition → sort key and sequence number → row.
pub(crate) struct WindowTopN {
    limit: usize,
    with_rank: bool,
    keep_last: bool,
    window_end: usize,
    processing_time: bool,
    shift: ZoneShift,
    rows: KeyedRows,
    sorter: Sorter,
    schema: SchemaRef,
    sequence: Sequence,
    tracker: Tracker,
    target: i64,
    partitions: Option<TableId>,
    top: Option<TableId>,
    /// The window that is on its way out, and how far it has come.
    firing: Option<(i64, u64)>,
    pending: Pending,
}

impl WindowTopN {
    /// The operator that `spec` describes.
    pub(crate) fn new(spec: &OperatorSpec, input: &[Column], output: &[Column]) -> Result<Self> {
        let OperatorSpec::WindowTopN {
            partition,
            order,
            limit,
            with_rank,
            keep_last,
            window_end,
            processing_time,
            zone,
        } = spec
        else {
            return Err(Error::bug("a window Top-N is built from its description"));
        };
        Ok(WindowTopN {
            limit: usize::try_from(*limit).unwrap_or(usize::MAX),
            with_rank: *with_rank,
            keep_last: *keep_last && *limit == 1,
            window_end: *window_end,
            processing_time: *processing_time,
            shift: ZoneShift::new(zone.as_deref())?,
            rows: KeyedRows::new(partition, input)?,
            sorter: Sorter::new(order, input)?,
            schema: arrow_schema(output),
            sequence: Sequence::default(),
            tracker: Tracker::new(),
            target: i64::MIN,
            partitions: None,
            top: None,
            firing: None,
            pending: Pending::default(),
        })
    }

    /// Without the rows of windows that have fired.
    fn in_time(&self, batch: ChangeBatch, ctx: &OperatorContext) -> Result<ChangeBatch> {
        let ends = ends(&batch, self.window_end)?;
        let keep: Vec<bool> = ends.iter().map(|end| !self.tracker.has_fired(*end, &self.shift)).collect();
        let late = keep.iter().filter(|k| !**k).count();
        if late == 0 {
            return Ok(batch);
        }
        ctx.metrics.late_dropped.add(late as u64);
        batch.filter(&BooleanArray::from(keep))
    }

    fn next_window(&self, state: &mut dyn StateBackend) -> Result<Option<i64>> {
        Ok(state.rows(opened(self.partitions)?).namespaces().into_iter().next())
    }

    fn wake(&self, end: i64, ctx: &mut OperatorContext) {
        if self.processing_time {
            ctx.out.wake_at(self.shift.timer_instant(end - 1).saturating_add(1));
        }
    }

    /// Fires what is due, as far as there is room.
    fn run(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        loop {
            if self.pending.flush(&mut ctx.out) == Progress::Blocked {
                return Ok(Progress::Blocked);
            }
            if let Some((end, cursor)) = self.firing.take() {
                self.firing = self.emit_chunk(end, cursor, ctx)?;
                continue;
            }
            let next = self.next_window(&mut *ctx.state)?;
            match next.filter(|end| Tracker::is_due(*end, self.target, &self.shift)) {
                Some(end) => self.firing = Some((end, 0)),
                None => {
                    if !self.processing_time || self.target < i64::MAX {
                        self.tracker.progress = self.tracker.progress.max(self.target);
                    }
                    if let Some(end) = next {
                        self.wake(end, ctx);
                    }
                    return Ok(Progress::Done);
                }
            }
        }
    }

    /// The next partitions of a window; at its end it is forgotten.
    fn emit_chunk(&mut self, end: i64, cursor: u64, ctx: &mut OperatorContext) -> Result<Option<(i64, u64)>> {
        let (partitions, top) = (opened(self.partitions)?, opened(self.top)?);
        let check = self.tracker.some_fired(end, &self.shift);
        let at_once = (TARGET_BATCH_ROWS / self.limit.clamp(1, TARGET_BATCH_ROWS)).max(1);
        let mut slots: Vec<Slot> = Vec::new();
        let next = ctx.state.rows(partitions).scan(end, cursor, at_once, &mut slots);
        let mut out = Output::default();
        for slot in slots {
            let key = ctx.state.rows(partitions).key(slot).to_vec();
            let group = key_group_of(key_hash(&key), ctx.max_parallelism);
            let map = ctx.state.map(top);
            if !(check && self.tracker.fired_before(end, &key, &self.shift)) {
                for (i, entry) in load(map, end, group, &key, self.limit)?.into_iter().enumerate() {
                    out.stored(RowKind::Insert, &entry.row);
                    if self.with_rank {
                        out.rank(i + 1);
                    }
                }
            }
            map.clear(end, group, &key)?;
        }
        if let Some(batch) = out.build(None, self.rows.codec(), &self.schema)? {
            self.pending.push(batch);
        }
        match next {
            Some(cursor) => Ok(Some((end, cursor))),
            None => {
                ctx.state.rows(partitions).drop_namespace(end);
                Ok(None)
            }
        }
    }
}

/// The end of each row's window.
fn ends(batch: &ChangeBatch, column: usize) -> Result<Vec<i64>> {
    let column = batch.rows.column(column);
    let ends = column.as_primitive_opt::<TimestampMillisecondType>();
    match ends.filter(|e| e.null_count() == 0) {
        Some(ends) => Ok(ends.values().to_vec()),
        None => Err(Error::bug(format!("window_end is {} with {} NULLs", column.data_type(), column.null_count()))),
    }
}

impl Operator for WindowTopN {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        let mut table = |name: &str, kind, schema: String| {
            ctx.state.register(&TableDescriptor { name: name.to_owned(), kind, schema, ttl: None })
        };
        self.partitions = Some(table("partitions", TableKind::Rows { width: 8 }, "here".to_owned())?);
        let schema = format!("{},sequence:{}", self.sorter.schema(), self.rows.types);
        self.top = Some(table("top", TableKind::Map, schema)?);
        self.sequence.open(ctx)?;
        self.tracker.open(ctx)?;
        if let Some(end) = self.next_window(&mut *ctx.state)? {
            self.wake(end, ctx);
        }
        Ok(OperatorProperties::default())
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        let batch = self.in_time(batch, ctx)?;
        if batch.num_rows() == 0 {
            return Ok(Progress::Done);
        }
        let ends = ends(&batch, self.window_end)?;
        let grouped = self.rows.group(&batch, ctx.max_parallelism, true)?;
        let sorted = self.sorter.convert(&batch.rows)?;
        let (partitions, top) = (opened(self.partitions)?, opened(self.top)?);
        let mut slots = Vec::new();
        ctx.state.rows(partitions).resolve(&ends, &grouped.keys, true, &mut slots)?;
        for gid in 0..grouped.len() {
            let (group, key) = grouped.key(gid);
            // The window is part of the partition: all rows of a group end with it.
            let Some(end) = grouped.rows(gid).next().map(|row| ends[row]) else { continue };
            let map = ctx.state.map(top);
            let before = load(map, end, group, key, self.limit)?;
            let mut rows: Vec<usize> = grouped.rows(gid).collect();
            let mut kept = &before[..];
            if self.keep_last {
                // The last of the batch's best rows, which beats an equal one of before.
                rows = rows
                    .into_iter()
                    .reduce(|a, b| if sorted.key(b) <= sorted.key(a) { b } else { a })
                    .into_iter()
                    .collect();
                if let ([old], [best]) = (kept, &rows[..])
                    && sorted.key(*best) <= old.sort()
                {
                    kept = &[];
                }
            }
            let mut after = Top::new(self.limit);
            after.begin(kept.iter().map(Entry::sort));
            rows.into_iter().for_each(|row| after.offer(sorted.key(row), row));
            let after = after.finish(kept, &mut self.sequence, |row| grouped.bytes(row));
            merge(map, end, group, key, &before, &after)?;
        }
        if let Some(first) = ends.iter().min() {
            self.wake(*first, ctx);
        }
        Ok(Progress::Done)
    }

    fn on_event(&mut self, event: OperatorEvent, ctx: &mut OperatorContext) -> Result<Progress> {
        if let OperatorEvent::BeforeBarrier(_) = event {
            self.tracker.store(ctx);
            self.sequence.store(ctx);
        }
        let Some(target) = fires_up_to(event, self.processing_time) else { return Ok(Progress::Done) };
        self.target = target;
        self.run(ctx)
    }

    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.run(ctx)
    }
}
