//! Interval join: appended rows of two inputs whose times lie close together. Rows are kept in buckets of time, which go away as a whole
//! once the watermark shows that no match can come; a row without a match appears then at the latest. Never reads expired buckets.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use arrow_array::ArrayRef;
use arrow_buffer::BooleanBuffer;
use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::element::Signal;
use flott_core::error::{Error, Result};
use flott_core::operator::{Operator, OperatorContext, OperatorEvent, OperatorProperties, Progress, TARGET_BATCH_ROWS};
use flott_core::state::{ByteRows, Slot, StateBackend};
use flott_core::time::EventTime;
use flott_core::types::Column;
use flott_expr::EvalContext;
use flott_plan::IntervalJoinSpec;

use super::dated::{Dated, View};
use super::store::{Info, Keys, Rows};
use super::{Builder, Source};
use crate::emit::Pending;
use crate::window::{Tracker, milliseconds};
use crate::zone::session_zone;

/// A bucket is this part of the interval: rows stay that much longer than they must.
const BUCKETS_PER_INTERVAL: i64 = 4;
/// Buckets are not shorter.
const BUCKET_MS_MIN: i64 = 1_000;
/// Buckets of rows that stay.
const KEPT_BUCKET_MS: i64 = 3_600_000;

/// The operator. State: per side, by bucket, the rows.
pub(crate) struct IntervalJoin {
    processing_time: bool,
    sides: [Side; 2],
    builder: Builder,
    zone: chrono_tz::Tz,
    /// How far behind the input the output's watermark is.
    delay_ms: i64,
    /// Its progress is the watermark, or the processing time, up to which rows are complete.
    tracker: Tracker,
    work: Option<Work>,
    /// A watermark came: buckets may have to go before it is passed on.
    expiring: Option<Expiring>,
    scratch: ByteRows,
    pending: Pending,
}

struct Side {
    rows: Dated,
    time: usize,
    time_name: String,
    /// A row at `t` matches rows of the other side from `t + reach.0` to `t + reach.1`.
    reach: (i64, i64),
    /// Whether rows without a match appear.
    outer: bool,
    expires: bool,
    bucket_ms: i64,
    /// Those with rows.
    buckets: BTreeSet<i64>,
}

/// A batch that is being joined.
struct Work {
    port: usize,
    batch: ChangeBatch,
    keys: Keys,
    times: Vec<i64>,
    next_row: usize,
    /// Candidates of the rows taken up, and how many are done.
    pairs: Vec<(u32, Slot)>,
    next_pair: usize,
    matched: Vec<bool>,
}

/// What has to be done before a watermark is passed on.
struct Expiring {
    /// Matches came up to here.
    upto: i64,
    /// The bucket that is on its way out: its side, what is left of its rows.
    bucket: Option<(usize, i64, Vec<Slot>)>,
    pass_on: Option<EventTime>,
}

impl Side {
    fn bucket_of(&self, time_ms: i64) -> i64 {
        time_ms.div_euclid(self.bucket_ms).saturating_mul(self.bucket_ms)
    }
    /// The time up to which matches may come for rows of a bucket.
    fn complete_at(&self, bucket: i64) -> i64 {
        bucket.saturating_add(self.bucket_ms - 1).saturating_add(self.reach.1)
    }
    fn is_complete(&self, bucket: i64, progress: i64) -> bool {
        self.expires && self.complete_at(bucket) <= progress
    }
    /// Appends the rows under a key in the buckets of `range`; where times are kept beside the rows, only those within it.
    fn candidates(&self, view: &View<'_>, key: (&[u8], u64), range: (i64, i64), found: &mut Vec<Slot>) {
        if range.0 > range.1 {
            return;
        }
        let buckets = self.buckets.range(self.bucket_of(range.0)..=self.bucket_of(range.1));
        for bucket in buckets {
            self.rows.each(view, *bucket, key, |slot| {
                let time_ms = view.time_ms(slot);
                if time_ms.is_none_or(|t| (range.0..=range.1).contains(&t)) {
                    found.push(slot);
                }
            });
        }
    }
    /// Which pairs of a row of the other side and a candidate lie within that side's `reach`; `None`: all.
    fn near(
        &self,
        found: &[ArrayRef],
        reach: (i64, i64),
        pairs: &[(u32, Slot)],
        times: &[i64],
    ) -> Result<Option<BooleanBuffer>> {
        if self.rows.marks() {
            return Ok(None);
        }
        let found = milliseconds(&found[self.time], &self.time_name)?;
        Ok(Some(BooleanBuffer::collect_bool(pairs.len(), |i| {
            let apart = found[i].saturating_sub(times[pairs[i].0 as usize]);
            (reach.0..=reach.1).contains(&apart)
        })))
    }
    fn open(&mut self, state: &mut dyn StateBackend) -> Result<()> {
        self.rows.open(state)?;
        self.rows.find_by_key(state)?;
        self.buckets = self.rows.view(state)?.namespaces().into_iter().collect();
        Ok(())
    }
}

impl IntervalJoin {
    /// The operator of a description.
    pub(crate) fn new(spec: &IntervalJoinSpec, output: &[Column]) -> Result<Self> {
        let join = &spec.join;
        if !join.kind.projects_right() {
            return Err(Error::bug("an interval join is INNER, LEFT or FULL"));
        }
        let width = spec.upper_ms.saturating_sub(spec.lower_ms);
        let bucket_ms = (width / BUCKETS_PER_INTERVAL).max(BUCKET_MS_MIN);
        let side = |name, columns: &[Column], keys: &[usize], time: usize, reach, outer, keep: bool| -> Result<Side> {
            let column = columns.get(time).filter(|_| !spec.processing_time);
            Ok(Side {
                rows: Dated::new(name, columns, keys, outer || spec.processing_time)?,
                time,
                time_name: column.map(|c| c.name.clone()).unwrap_or_default(),
                reach,
                outer,
                expires: !keep,
                bucket_ms: if keep { bucket_ms.max(KEPT_BUCKET_MS) } else { bucket_ms },
                buckets: BTreeSet::new(),
            })
        };
        let (lower, upper) = (spec.lower_ms, spec.upper_ms);
        let reach = (upper.saturating_neg(), lower.saturating_neg());
        let (outer, keep) = (join.kind.left_outer(), spec.keep_left);
        let left = side("left", &join.left, &join.left_keys, spec.left_time, reach, outer, keep)?;
        let (outer, keep) = (join.kind.right_outer(), spec.keep_right);
        let right = side("right", &join.right, &join.right_keys, spec.right_time, (lower, upper), outer, keep)?;
        let late_padding = if join.kind.left_outer() { bucket_ms } else { 0 };
        Ok(IntervalJoin {
            processing_time: spec.processing_time,
            sides: [left, right],
            builder: Builder::new(join, output)?,
            zone: chrono_tz::UTC,
            delay_ms: upper.max(lower.saturating_neg()).max(0).saturating_add(late_padding),
            tracker: Tracker::new(),
            work: None,
            expiring: None,
            scratch: ByteRows::default(),
            pending: Pending::default(),
        })
    }

    fn run(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        loop {
            if self.pending.flush(&mut ctx.out) == Progress::Blocked {
                return Ok(Progress::Blocked);
            }
            if let Some(work) = self.work.take() {
                self.work = self.join(work, ctx)?;
            } else if let Some(expiring) = self.expiring.take() {
                self.expiring = self.expire(expiring, ctx)?;
            } else {
                self.wake(ctx);
                return Ok(Progress::Done);
            }
        }
    }

    /// The next step of joining a batch.
    fn join(&mut self, mut work: Work, ctx: &mut OperatorContext) -> Result<Option<Work>> {
        if work.next_pair < work.pairs.len() {
            self.judge(&mut work, ctx)?;
            return Ok(Some(work));
        }
        if work.next_row < work.batch.num_rows() {
            self.collect(&mut work, &mut *ctx.state)?;
            return Ok(Some(work));
        }
        self.keep(&work, ctx)?;
        Ok(None)
    }

    /// Finds the candidates of the next rows: about a batch of them.
    fn collect(&self, work: &mut Work, state: &mut dyn StateBackend) -> Result<()> {
        let (own, other) = (&self.sides[work.port], &self.sides[1 - work.port]);
        let view = other.rows.view(state)?;
        work.pairs.clear();
        work.next_pair = 0;
        let mut found = Vec::new();
        while work.next_row < work.batch.num_rows() && work.pairs.len() < TARGET_BATCH_ROWS {
            let row = work.next_row;
            work.next_row += 1;
            if work.keys.has_null[row] {
                continue;
            }
            let time_ms = work.times[row];
            let range = (time_ms.saturating_add(own.reach.0), time_ms.saturating_add(own.reach.1));
            let keys = &work.keys.keys;
            other.candidates(&view, (keys.key(row), keys.hashes[row]), range, &mut found);
            work.pairs.extend(found.drain(..).map(|slot| (row as u32, slot)));
        }
        Ok(())
    }

    /// Judges a batch of candidates.
    fn judge(&mut self, work: &mut Work, ctx: &mut OperatorContext) -> Result<()> {
        let eval = EvalContext::of(ctx, self.zone);
        let other = &self.sides[1 - work.port];
        let upto = work.pairs.len().min(work.next_pair + TARGET_BATCH_ROWS);
        let pairs = &work.pairs[work.next_pair..upto];
        let mut view = other.rows.view(&mut *ctx.state)?;
        let found = other.rows.decode(&view, pairs.iter().map(|p| p.1), &mut self.scratch)?;
        let near = other.near(&found, self.sides[work.port].reach, pairs, &work.times)?;
        let numbered = pairs.iter().enumerate().map(|(i, p)| (p.0, i as u32));
        let passes = self.builder.judge(work.port, &work.batch.rows, &found, numbered, &eval)?;
        let passes = [near, passes].into_iter().flatten().reduce(|a, b| &a & &b);
        for (i, (row, slot)) in pairs.iter().enumerate() {
            if passes.as_ref().is_some_and(|p| !p.value(i)) {
                continue;
            }
            work.matched[*row as usize] = true;
            let copies = view.copies(*slot);
            if let (true, Some(table)) = (other.outer, view.counted()) {
                let info = Info { matched: copies, ..Info::read(table.row(*slot)) };
                info.write(table.row_mut(*slot));
            }
            self.builder.push(RowKind::Insert, Source::Input(*row), Source::Found(i as u32), i64::from(copies));
        }
        work.next_pair = upto;
        self.emit(work.port, &work.batch, &found)
    }

    /// All matches of a batch are known: its rows go into state while others may come, else rows without a match appear.
    fn keep(&mut self, work: &Work, ctx: &mut OperatorContext) -> Result<()> {
        let side = &mut self.sides[work.port];
        let (mut of, mut buckets) = (Vec::new(), Vec::new());
        for row in 0..work.batch.num_rows() {
            let time_ms = work.times[row];
            let waits = !side.expires || time_ms.saturating_add(side.reach.1) > self.tracker.progress;
            if waits && !work.keys.has_null[row] {
                of.push(row);
                buckets.push(side.bucket_of(time_ms));
            } else if side.outer && !work.matched[row] {
                self.builder.push(RowKind::Insert, Source::Input(row as u32), Source::Null, 1);
            }
        }
        let (keys, max_parallelism) = (&work.keys.keys, ctx.max_parallelism);
        let rows = Rows { rows: &work.batch.rows, keys, of: &of, namespaces: &buckets, max_parallelism };
        let mut is_new = vec![false; of.len()];
        let slots = side.rows.insert(&rows, &mut *ctx.state, &mut |j, info| {
            is_new[j] = info.copies == 1;
            info.time_ms = work.times[of[j]];
            info.matched += u32::from(work.matched[of[j]]);
        })?;
        side.buckets.extend(&buckets);
        if let View::Counted(table) = side.rows.view(&mut *ctx.state)? {
            for (j, slot) in slots.iter().enumerate().filter(|(j, _)| is_new[*j]) {
                side.rows.add(buckets[j], (keys.key(of[j]), keys.hashes[of[j]]), *slot, table);
            }
        }
        if self.builder.len() > 0 {
            let nothing = self.sides[1 - work.port].rows.nothing();
            self.emit(work.port, &work.batch, &nothing)?;
        }
        Ok(())
    }

    fn emit(&mut self, port: usize, batch: &ChangeBatch, found: &[ArrayRef]) -> Result<()> {
        if let Some(batch) = self.builder.build(port, &batch.rows, found, true)? {
            self.pending.push(batch);
        }
        Ok(())
    }

    /// The next step of letting buckets go; at last the watermark follows.
    fn expire(&mut self, mut expiring: Expiring, ctx: &mut OperatorContext) -> Result<Option<Expiring>> {
        if let Some((port, bucket, mut slots)) = expiring.bucket.take() {
            let rest = slots.split_off(slots.len().min(TARGET_BATCH_ROWS));
            self.unmatched(port, &slots, &mut *ctx.state)?;
            if rest.is_empty() {
                self.drop_bucket(port, bucket, &mut *ctx.state)?;
            } else {
                expiring.bucket = Some((port, bucket, rest));
            }
            return Ok(Some(expiring));
        }
        for port in 0..2 {
            while let Some(&bucket) = self.sides[port].buckets.first() {
                if !self.sides[port].is_complete(bucket, expiring.upto) {
                    break;
                }
                if self.sides[port].outer {
                    let slots = self.sides[port].rows.view(&mut *ctx.state)?.all(bucket);
                    expiring.bucket = Some((port, bucket, slots));
                    return Ok(Some(expiring));
                }
                self.drop_bucket(port, bucket, &mut *ctx.state)?;
            }
        }
        if let Some(time) = expiring.pass_on {
            let late = if time == EventTime::MAX { time } else { EventTime(time.0.saturating_sub(self.delay_ms)) };
            ctx.out.emit_signal(Signal::Watermark(late));
        }
        Ok(None)
    }

    fn drop_bucket(&mut self, port: usize, bucket: i64, state: &mut dyn StateBackend) -> Result<()> {
        self.sides[port].buckets.remove(&bucket);
        self.sides[port].rows.drop_namespace(bucket, state)
    }

    /// Rows of a bucket that have found no match appear alone.
    fn unmatched(&mut self, port: usize, slots: &[Slot], state: &mut dyn StateBackend) -> Result<()> {
        let side = &self.sides[port].rows;
        let mut view = side.view(state)?;
        let rows = ChangeBatch::append(side.batch(&view, slots, &mut self.scratch)?);
        let table = view.counted().ok_or_else(|| Error::bug("a side that pads counts its rows"))?;
        for (i, slot) in slots.iter().enumerate() {
            let info = Info::read(table.row(*slot));
            let times = i64::from(info.copies.saturating_sub(info.matched));
            self.builder.push(RowKind::Insert, Source::Input(i as u32), Source::Null, times);
        }
        let nothing = self.sides[1 - port].rows.nothing();
        self.emit(port, &rows, &nothing)
    }

    fn wake(&self, ctx: &mut OperatorContext) {
        if !self.processing_time {
            return;
        }
        let first = |s: &Side| s.buckets.first().map(|b| s.complete_at(*b).saturating_add(1));
        if let Some(at) = self.sides.iter().filter_map(first).min() {
            ctx.out.wake_at(at);
        }
    }
}

impl Operator for IntervalJoin {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        self.zone = session_zone(&ctx.config)?;
        for side in &mut self.sides {
            side.open(&mut *ctx.state)?;
        }
        self.tracker.open(ctx)?;
        self.wake(ctx);
        Ok(OperatorProperties { forwards_watermarks: self.processing_time, ..OperatorProperties::default() })
    }

    fn process(&mut self, port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        let side = self.sides.get(port).ok_or_else(|| Error::bug(format!("a join has no input {port}")))?;
        let rows = batch.num_rows();
        let times = match self.processing_time {
            true => vec![ctx.clock.now_ms(); rows],
            false => milliseconds(batch.rows.column(side.time), &side.time_name)?,
        };
        let keys = side.rows.keys(&batch.rows, ctx.max_parallelism)?;
        let matched = vec![false; rows];
        self.work = Some(Work { port, batch, keys, times, next_row: 0, pairs: Vec::new(), next_pair: 0, matched });
        self.run(ctx)
    }

    fn on_event(&mut self, event: OperatorEvent, ctx: &mut OperatorContext) -> Result<Progress> {
        let (progress, pass_on) = match event {
            OperatorEvent::Watermark(watermark) if !self.processing_time => (watermark.0, Some(watermark)),
            OperatorEvent::ProcessingTime(now) if self.processing_time => (now - 1, None),
            OperatorEvent::EndOfData if self.processing_time => (i64::MAX, None),
            OperatorEvent::BeforeBarrier(_) => {
                self.tracker.store(ctx);
                return Ok(Progress::Done);
            }
            _ => return Ok(Progress::Done),
        };
        if !self.processing_time || progress < i64::MAX {
            self.tracker.progress = self.tracker.progress.max(progress);
        }
        self.expiring = Some(Expiring { upto: progress, bucket: None, pass_on });
        self.run(ctx)
    }

    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.run(ctx)
    }
}
