//! Tumbling and sliding windows: one accumulator per key and window, in the namespace of the window's end. Works a batch in window
//! by window, so that state is read and written once per key, window and batch.

use std::marker::PhantomData;

use flott_core::batch::ChangeBatch;
use flott_core::error::{Error, Result};
use flott_core::operator::{Operator, OperatorContext, OperatorEvent, OperatorProperties, Progress, TARGET_BATCH_ROWS};
use flott_core::state::{KeyBatch, StateBackend};
use flott_state::timers::{TimeDomain, Timer, TimerService};
use flott_state::typed::{StateDescriptor, StateKey, ValueState};

use super::fold::Fold;
use super::{Grid, LateRow, TimeWindow, WindowRows, no_time, out_of_range};
use crate::keys::{KeyColumns, push_key};
use crate::output::Output;
use crate::process::TIMERS;
use crate::progress::WatermarkTracker;
use crate::record::Record;
use crate::stage::{Stage, decode};

/// Name of the windows' contents in state.
pub(super) const CONTENTS: &str = "window-contents";

struct Opened<A: flott_state::typed::StateType> {
    contents: ValueState<A>,
    timers: TimerService,
}

/// Runs tumbling and sliding windows.
pub(super) struct GridOperator<K, F: Fold, E, U> {
    grid: Grid,
    domain: TimeDomain,
    fold: F,
    emit: E,
    late: Option<LateRow<F::In, U>>,
    input: Box<dyn Stage<F::In>>,
    keys: KeyColumns<K>,
    opened: Option<Opened<F::Acc>>,
    watermark: WatermarkTracker,
    output: Output<U>,
    /// Windows that end up to this fire.
    firing: Option<i64>,
    types: PhantomData<fn() -> K>,
}

impl<K, F, E, U> GridOperator<K, F, E, U>
where
    K: Record,
    F: Fold,
    E: Fn(&K, TimeWindow, F::Out) -> U + Send + 'static,
    U: Record,
{
    pub(super) fn new(grid: Grid, domain: TimeDomain, width: usize, rows: WindowRows<F, E, U>) -> Result<Self> {
        Ok(GridOperator {
            grid,
            domain,
            fold: rows.fold,
            emit: rows.emit,
            late: rows.late,
            input: decode::<F::In>()(),
            keys: KeyColumns::new(width)?,
            opened: None,
            watermark: WatermarkTracker::new(),
            output: Output::new(),
            firing: None,
            types: PhantomData,
        })
    }

    /// (end of window, row) of every row that is not late, by window; rows of a window in order. And the rows that are late.
    fn place(&self, times: &[Option<i64>], ctx: &OperatorContext) -> Result<(Vec<(i64, u32)>, Vec<u32>)> {
        let now_ms = ctx.clock.now_ms();
        let (mut placed, mut late) = (Vec::new(), Vec::new());
        for (row, time) in times.iter().enumerate() {
            let time_ms = match self.domain {
                TimeDomain::EventTime => time.ok_or_else(|| no_time(&ctx.name))?,
                TimeDomain::ProcessingTime => now_ms,
            };
            let ends = self.grid.ends(time_ms).ok_or_else(|| out_of_range(time_ms))?;
            let watermark_ms = match self.domain {
                TimeDomain::EventTime => self.watermark.of(self.keys.batch.groups[row]),
                TimeDomain::ProcessingTime => i64::MIN,
            };
            let before = placed.len();
            let mut windows = 0;
            for end in ends {
                windows += 1;
                if end - 1 > watermark_ms {
                    placed.push((end, row as u32));
                }
            }
            if windows > 0 && placed.len() == before {
                late.push(row as u32);
            }
        }
        placed.sort_by_key(|p| p.0);
        Ok((placed, late))
    }

    /// Adds the rows of one window.
    fn add(&mut self, end: i64, rows: Vec<(usize, F::In)>, state: &mut dyn StateBackend) -> Result<()> {
        let opened = self.opened.as_mut().expect("the runtime opens an operator before anything else");
        let whole = rows.len() == self.keys.batch.len();
        let mut part = KeyBatch::default();
        if !whole {
            rows.iter().for_each(|(i, _)| push_key(&mut part, &self.keys.batch, *i));
        }
        opened.contents.prefetch(state, end, if whole { &self.keys.batch } else { &part })?;
        for (i, row) in rows {
            let at = StateKey::of(&self.keys.batch, i).in_namespace(end);
            let (mut added, mut first, fold) = (Ok(()), false, &self.fold);
            opened.contents.update(state, at, |acc| {
                first = acc.is_none();
                added = fold.add(row, acc);
            })?;
            added?;
            if first {
                opened.timers.register(state, self.domain, at, end - 1)?;
            }
        }
        Ok(())
    }

    /// Fires what is due, a batch at a time.
    fn fire(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        loop {
            if self.output.emit(&mut ctx.out)? == Progress::Blocked {
                return Ok(Progress::Blocked);
            }
            let Some(until_ms) = self.firing else { return Ok(Progress::Done) };
            if !self.fire_some(until_ms, ctx)? {
                self.firing = None;
                self.wake(ctx);
            }
        }
    }

    fn fire_some(&mut self, until_ms: i64, ctx: &mut OperatorContext) -> Result<bool> {
        let opened = self.opened.as_mut().expect("the runtime opens an operator before anything else");
        let state = &mut *ctx.state;
        let mut due: Vec<Timer> = Vec::new();
        while due.len() < TARGET_BATCH_ROWS {
            let Some(timer) = opened.timers.pop_due(state, self.domain, until_ms)? else { break };
            due.push(timer);
        }
        let keys = self.keys.decode(due.iter().map(|t| &*t.key))?;
        let mut keys = keys.iter();
        for window in due.chunk_by(|a, b| a.namespace == b.namespace) {
            let mut batch = KeyBatch::default();
            window.iter().for_each(|t| batch.push(&t.key, ctx.max_parallelism));
            opened.contents.prefetch(state, window[0].namespace, &batch)?;
            for (timer, key) in window.iter().zip(&mut keys) {
                let mut contents = None;
                opened.contents.update(state, timer.state_key(), |acc| contents = acc.take())?;
                let contents = contents.ok_or_else(|| Error::bug("a window fires without its contents"))?;
                let window = self.grid.window(timer.namespace);
                let row = (self.emit)(key, window, self.fold.result(contents));
                self.output.rows.push(row, Some(window.max_timestamp_ms()));
            }
        }
        opened.contents.flush(state)?;
        Ok(!due.is_empty())
    }

    fn wake(&self, ctx: &mut OperatorContext) {
        let next = self.opened.as_ref().and_then(|o| o.timers.next_due_ms(TimeDomain::ProcessingTime));
        if let Some(at_ms) = next {
            ctx.out.wake_at(at_ms.saturating_add(1));
        }
    }
}

impl<K, F, E, U> Operator for GridOperator<K, F, E, U>
where
    K: Record,
    F: Fold,
    E: Fn(&K, TimeWindow, F::Out) -> U + Send + 'static,
    U: Record,
{
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        self.watermark.open(ctx)?;
        let contents = ValueState::register(&mut *ctx.state, &StateDescriptor::new(CONTENTS))?;
        let timers = TimerService::open(&mut *ctx.state, TIMERS)?;
        self.opened = Some(Opened { contents, timers });
        self.wake(ctx);
        Ok(OperatorProperties::default())
    }

    fn process(&mut self, _: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        self.keys.read_bytes(&batch.rows, ctx.max_parallelism)?;
        let (values, times): (Vec<F::In>, Vec<Option<i64>>) = self.input.run(&batch)?.into_pairs().unzip();
        let (placed, late) = self.place(&times, ctx)?;
        let state = &mut *ctx.state;
        for window in placed.chunk_by(|a, b| a.0 == b.0) {
            let rows = window.iter().map(|p| (p.1 as usize, values[p.1 as usize].clone())).collect();
            self.add(window[0].0, rows, state)?;
        }
        let opened = self.opened.as_mut().expect("the runtime opens an operator before anything else");
        opened.contents.flush(state)?;
        match self.late {
            Some(make) => {
                late.iter().for_each(|&i| self.output.rows.push(make(values[i as usize].clone()), times[i as usize]));
            }
            None => ctx.metrics.late_dropped.add(late.len() as u64),
        }
        self.wake(ctx);
        self.output.emit(&mut ctx.out)
    }

    fn on_event(&mut self, event: OperatorEvent, ctx: &mut OperatorContext) -> Result<Progress> {
        let until_ms = match (event, self.domain) {
            (OperatorEvent::Watermark(w), TimeDomain::EventTime) => {
                self.watermark.raise(w.0);
                w.0
            }
            (OperatorEvent::ProcessingTime(now_ms), TimeDomain::ProcessingTime) => now_ms.saturating_sub(1),
            (OperatorEvent::EndOfData, TimeDomain::ProcessingTime) => i64::MAX,
            (OperatorEvent::BeforeBarrier(_), _) => return self.watermark.store(ctx).map(|()| Progress::Done),
            _ => return Ok(Progress::Done),
        };
        self.firing = Some(until_ms);
        self.fire(ctx)
    }

    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.fire(ctx)
    }
}
