//! Window join: rows of both sides are kept per window and joined once, when the window is over. Rows of windows that have fired are
//! late; never fires a window twice, also after a restore.

#[cfg(test)]
mod tests;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{Array, ArrayRef, RecordBatch};
use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::error::{Error, Result};
use flott_core::operator::{Operator, OperatorContext, OperatorEvent, OperatorProperties, Progress, TARGET_BATCH_ROWS};
use flott_core::state::{ByteRows, Slot, StateBackend};
use flott_core::types::Column;
use flott_expr::EvalContext;
use flott_plan::{JoinKind, WindowJoinSpec};

use super::chains::Chains;
use super::dated::Dated;
use super::store::Rows;
use super::{Builder, Source};
use crate::emit::Pending;
use crate::window::{Tracker, fires_up_to};
use crate::zone::{ZoneShift, session_zone};

/// The operator. State: per side, by window end, the rows.
pub(crate) struct WindowJoin {
    kind: JoinKind,
    window_end: [usize; 2],
    processing_time: bool,
    shift: ZoneShift,
    zone: chrono_tz::Tz,
    sides: [Dated; 2],
    builder: Builder,
    tracker: Tracker,
    target: i64,
    firing: Option<Firing>,
    scratch: ByteRows,
    pending: Pending,
}

/// A window that is on its way out.
struct Firing {
    end: i64,
    left: Vec<Slot>,
    /// Left rows that are done.
    next_left: usize,
    /// Candidates of the left rows taken up, as (left row, right row), and how many are done.
    pairs: Vec<(u32, u32)>,
    next_pair: usize,
    /// The left rows taken up, from `next_left` on; per row whether it has found a match.
    rows: Option<RecordBatch>,
    left_matched: Vec<bool>,
    right: Vec<Slot>,
    right_columns: Vec<ArrayRef>,
    right_matched: Vec<bool>,
    next_right: usize,
    chains: Chains,
}

impl WindowJoin {
    /// The operator of a description.
    pub(crate) fn new(spec: &WindowJoinSpec, output: &[Column]) -> Result<Self> {
        let join = &spec.join;
        Ok(WindowJoin {
            kind: join.kind,
            window_end: [spec.left_window_end, spec.right_window_end],
            processing_time: spec.processing_time,
            shift: ZoneShift::new(spec.zone.as_deref())?,
            zone: chrono_tz::UTC,
            sides: [
                Dated::new("left", &join.left, &join.left_keys, false)?,
                Dated::new("right", &join.right, &join.right_keys, false)?,
            ],
            builder: Builder::new(join, output)?,
            tracker: Tracker::new(),
            target: i64::MIN,
            firing: None,
            scratch: ByteRows::default(),
            pending: Pending::default(),
        })
    }

    fn next_window(&self, state: &mut dyn StateBackend) -> Result<Option<i64>> {
        let mut next = None;
        for side in &self.sides {
            let first = side.view(state)?.namespaces().first().copied();
            next = [next, first].into_iter().flatten().min();
        }
        Ok(next)
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
            if let Some(firing) = self.firing.take() {
                self.firing = self.step(firing, ctx)?;
                continue;
            }
            let next = self.next_window(&mut *ctx.state)?;
            match next.filter(|end| Tracker::is_due(*end, self.target, &self.shift)) {
                Some(end) => self.firing = Some(self.begin(end, &mut *ctx.state)?),
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

    fn begin(&mut self, end: i64, state: &mut dyn StateBackend) -> Result<Firing> {
        let check = self.tracker.some_fired(end, &self.shift);
        let mut slots = [Vec::new(), Vec::new()];
        for (side, slots) in self.sides.iter().zip(&mut slots) {
            let view = side.view(state)?;
            *slots = view.all(end);
            if check {
                slots.retain(|s| !self.tracker.fired_before(end, view.key(*s), &self.shift));
            }
        }
        let [left, right] = slots;
        let view = self.sides[1].view(state)?;
        let mut chains = Chains::default();
        for (i, slot) in right.iter().enumerate() {
            chains.add(view.key(*slot), i as u32, |other| view.key(right[other as usize]));
        }
        let right_columns = self.sides[1].decode(&view, right.iter().copied(), &mut self.scratch)?;
        Ok(Firing {
            end,
            left,
            next_left: 0,
            pairs: Vec::new(),
            next_pair: 0,
            rows: None,
            left_matched: Vec::new(),
            right_matched: vec![false; right.len()],
            right,
            right_columns,
            next_right: 0,
            chains,
        })
    }

    /// The next output of a window; at its end it is forgotten.
    fn step(&mut self, mut firing: Firing, ctx: &mut OperatorContext) -> Result<Option<Firing>> {
        if firing.next_left < firing.left.len() {
            if firing.rows.is_none() {
                self.take_up(&mut firing, ctx)?;
            }
            self.join(&mut firing, ctx)?;
            return Ok(Some(firing));
        }
        if self.kind.right_outer() && firing.next_right < firing.right.len() {
            self.unmatched_right(&mut firing, &mut *ctx.state)?;
            return Ok(Some(firing));
        }
        for side in &mut self.sides {
            side.drop_namespace(firing.end, &mut *ctx.state)?;
        }
        Ok(None)
    }

    /// Finds the candidates of the next left rows.
    fn take_up(&mut self, firing: &mut Firing, ctx: &mut OperatorContext) -> Result<()> {
        let view = self.sides[0].view(&mut *ctx.state)?;
        let slots = &firing.left[firing.next_left..];
        let slots = &slots[..slots.len().min(TARGET_BATCH_ROWS)];
        let rows = self.sides[0].batch(&view, slots, &mut self.scratch)?;
        let keys = self.sides[0].keys(&rows, ctx.max_parallelism)?;
        let right = self.sides[1].view(&mut *ctx.state)?;
        firing.pairs.clear();
        firing.next_pair = 0;
        let mut taken = 0;
        while taken < rows.num_rows() && firing.pairs.len() < TARGET_BATCH_ROWS {
            let (row, key) = (taken as u32, keys.keys.key(taken));
            let same = |other: u32| right.key(firing.right[other as usize]) == key;
            if !keys.has_null[taken] {
                firing.chains.each_hashed(keys.keys.hashes[taken], same, |other| firing.pairs.push((row, other)));
            }
            taken += 1;
        }
        firing.left_matched = vec![false; taken];
        firing.rows = Some(rows.slice(0, taken));
        Ok(())
    }

    /// Judges a batch of candidates; after the last, left rows without a match have their turn.
    fn join(&mut self, firing: &mut Firing, ctx: &mut OperatorContext) -> Result<()> {
        let Some(rows) = firing.rows.clone() else {
            return Err(Error::bug("left rows are taken up before they are joined"));
        };
        let upto = firing.pairs.len().min(firing.next_pair + TARGET_BATCH_ROWS);
        let pairs = firing.pairs[firing.next_pair..upto].to_vec();
        firing.next_pair = upto;
        let eval = EvalContext::of(ctx, self.zone);
        let passes = self.builder.judge(0, &rows, &firing.right_columns, pairs.iter().copied(), &eval)?;
        for (i, (l, r)) in pairs.iter().enumerate() {
            if passes.as_ref().is_some_and(|p| !p.value(i)) {
                continue;
            }
            let first = !std::mem::replace(&mut firing.left_matched[*l as usize], true);
            firing.right_matched[*r as usize] = true;
            match self.kind {
                JoinKind::Semi if first => self.builder.push(RowKind::Insert, Source::Input(*l), Source::Null, 1),
                JoinKind::Semi | JoinKind::Anti => {}
                _ => self.builder.push(RowKind::Insert, Source::Input(*l), Source::Found(*r), 1),
            }
        }
        if firing.next_pair == firing.pairs.len() {
            if self.kind.pads_right() || self.kind == JoinKind::Anti {
                for (l, _) in firing.left_matched.iter().enumerate().filter(|(_, m)| !**m) {
                    self.builder.push(RowKind::Insert, Source::Input(l as u32), Source::Null, 1);
                }
            }
            firing.next_left += rows.num_rows();
            firing.rows = None;
        }
        self.emit(0, &rows, &firing.right_columns)
    }

    fn unmatched_right(&mut self, firing: &mut Firing, state: &mut dyn StateBackend) -> Result<()> {
        let upto = firing.right.len().min(firing.next_right + TARGET_BATCH_ROWS);
        let range = firing.next_right..upto;
        let slots = &firing.right[range.clone()];
        let view = self.sides[1].view(state)?;
        let rows = self.sides[1].batch(&view, slots, &mut self.scratch)?;
        for i in (0..slots.len()).filter(|i| !firing.right_matched[range.start + i]) {
            self.builder.push(RowKind::Insert, Source::Null, Source::Input(i as u32), 1);
        }
        firing.next_right = upto;
        let nothing = self.sides[0].nothing();
        self.emit(1, &rows, &nothing)
    }

    fn emit(&mut self, port: usize, rows: &RecordBatch, found: &[ArrayRef]) -> Result<()> {
        if let Some(batch) = self.builder.build(port, rows, found, true)? {
            self.pending.push(batch);
        }
        Ok(())
    }

    /// Whether rows of a port without a match never appear: those with a NULL in a key are then not worth keeping.
    fn drops_unmatched(&self, port: usize) -> bool {
        match port {
            0 => matches!(self.kind, JoinKind::Inner | JoinKind::Semi),
            _ => !self.kind.right_outer(),
        }
    }
}

/// The end of each row's window.
fn ends(rows: &RecordBatch, column: usize) -> Result<Vec<i64>> {
    let column = rows.column(column);
    match column.as_primitive_opt::<TimestampMillisecondType>().filter(|e| e.null_count() == 0) {
        Some(ends) => Ok(ends.values().to_vec()),
        None => Err(Error::bug(format!("a window's end is {} with {} NULLs", column.data_type(), column.null_count()))),
    }
}

impl Operator for WindowJoin {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        self.zone = session_zone(&ctx.config)?;
        for side in &mut self.sides {
            side.open(&mut *ctx.state)?;
        }
        self.tracker.open(ctx)?;
        if let Some(end) = self.next_window(&mut *ctx.state)? {
            self.wake(end, ctx);
        }
        Ok(OperatorProperties::default())
    }

    fn process(&mut self, port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        let side = self.sides.get(port).ok_or_else(|| Error::bug(format!("a join has no input {port}")))?;
        let ends = ends(&batch.rows, self.window_end[port])?;
        let keys = side.keys(&batch.rows, ctx.max_parallelism)?;
        let drops = self.drops_unmatched(port);
        let (mut of, mut namespaces, mut late) = (Vec::with_capacity(ends.len()), Vec::with_capacity(ends.len()), 0);
        for (row, end) in ends.iter().enumerate() {
            if self.tracker.has_fired(*end, &self.shift) {
                late += 1;
            } else if !(drops && keys.has_null[row]) {
                of.push(row);
                namespaces.push(*end);
            }
        }
        ctx.metrics.late_dropped.add(late);
        let max_parallelism = ctx.max_parallelism;
        let rows = Rows { rows: &batch.rows, keys: &keys.keys, of: &of, namespaces: &namespaces, max_parallelism };
        side.insert(&rows, &mut *ctx.state, &mut |_, _| {})?;
        if let Some(first) = namespaces.iter().min() {
            self.wake(*first, ctx);
        }
        Ok(Progress::Done)
    }

    fn on_event(&mut self, event: OperatorEvent, ctx: &mut OperatorContext) -> Result<Progress> {
        if let OperatorEvent::BeforeBarrier(_) = event {
            self.tracker.store(ctx);
        }
        let Some(target) = fires_up_to(event, self.processing_time) else { return Ok(Progress::Done) };
        self.target = target;
        self.run(ctx)
    }

    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.run(ctx)
    }
}
