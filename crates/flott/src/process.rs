//! Process functions over keyed streams: one call per row and per timer, with the state of the key. State is served in batches:
//! loaded for the keys of a batch before its rows, written back after them; nothing is unwritten when a barrier passes.

use std::collections::VecDeque;

use flott_core::batch::ChangeBatch;
use flott_core::error::Result;
use flott_core::operator::{Operator, OperatorContext, OperatorEvent, OperatorProperties, Progress, TARGET_BATCH_ROWS};
use flott_core::state::{KeyBatch, StateBackend};
use flott_core::time::SharedClock;
use flott_state::timers::{TimeDomain, Timer, TimerService};
use flott_state::typed::StateKey;

use crate::keys::KeyColumns;
use crate::output::Output;
use crate::progress::WatermarkTracker;
use crate::record::Record;
use crate::stage::{NO_TIME, Rows, Stage, decode};
use crate::state::{KeyedStateContext, OpenContext, StateAccess, States};

/// A function over the rows of a keyed stream, with state and timers. One clone runs in each subtask.
///
/// Call order: `open` once per start of the job; then `process` for every row and `on_timer` for every timer that is due, each
/// with the row's or the timer's key as the current one. An error, or a panic, fails the job with the operator's name.
pub trait KeyedProcessFunction: Clone + Send + Sync + 'static {
    /// The key.
    type Key: Record;
    /// Rows in.
    type In: Record;
    /// Rows out.
    type Out: Record;
    /// Opens the states.
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let _ = ctx;
        Ok(())
    }
    /// Takes a row.
    fn process(&mut self, value: Self::In, ctx: &mut KeyedContext<'_, Self::Key, Self::Out>) -> Result<()>;
    /// Takes a timer that is due.
    fn on_timer(
        &mut self,
        time_ms: i64,
        domain: TimeDomain,
        ctx: &mut KeyedContext<'_, Self::Key, Self::Out>,
    ) -> Result<()> {
        let _ = (time_ms, domain, ctx);
        Ok(())
    }
}

/// The context of a [`KeyedProcessFunction`]: shorter to write than [`KeyedContext`] with its types.
pub type Context<'a, F> = KeyedContext<'a, <F as KeyedProcessFunction>::Key, <F as KeyedProcessFunction>::Out>;

/// What a call of a process function is about, and what it can do.
pub struct KeyedContext<'a, K, Out> {
    key: &'a K,
    at: StateKey<'a>,
    timestamp_ms: Option<i64>,
    watermark_ms: i64,
    clock: &'a SharedClock,
    backend: &'a mut dyn StateBackend,
    states: &'a mut States,
    timers: &'a mut TimerService,
    rows: &'a mut Rows<Out>,
}

impl<K, Out> KeyedStateContext for KeyedContext<'_, K, Out> {
    fn state_access(&mut self) -> StateAccess<'_> {
        StateAccess { backend: &mut *self.backend, states: &mut *self.states, at: self.at }
    }
}

impl<K, Out> KeyedContext<'_, K, Out> {
    /// The current key.
    pub fn key(&self) -> &K {
        self.key
    }
    /// Event time of the row or timer, if there is one.
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.timestamp_ms.filter(|t| *t != NO_TIME)
    }
    /// The watermark; `i64::MIN` before the first.
    pub fn watermark_ms(&self) -> i64 {
        self.watermark_ms
    }
    /// Processing time.
    pub fn processing_time_ms(&self) -> i64 {
        self.clock.now_ms()
    }
    /// Emits a row with the event time of the row or timer.
    pub fn collect(&mut self, row: Out) {
        self.rows.push(row, self.timestamp_ms);
    }
    /// A timer of this key, due when the watermark reaches `time_ms`. Registered twice, it fires once.
    pub fn register_event_timer(&mut self, time_ms: i64) -> Result<()> {
        self.timers.register(&mut *self.backend, TimeDomain::EventTime, self.at, time_ms).map(drop)
    }
    /// A timer of this key, due when processing time has passed `time_ms`. It does not fire after the end of all data.
    pub fn register_processing_timer(&mut self, time_ms: i64) -> Result<()> {
        self.timers.register(&mut *self.backend, TimeDomain::ProcessingTime, self.at, time_ms).map(drop)
    }
    /// Deletes a timer of this key; nothing happens when there is none.
    pub fn delete_event_timer(&mut self, time_ms: i64) -> Result<()> {
        self.timers.delete(&mut *self.backend, TimeDomain::EventTime, self.at, time_ms).map(drop)
    }
    /// Deletes a timer of this key; nothing happens when there is none.
    pub fn delete_processing_timer(&mut self, time_ms: i64) -> Result<()> {
        self.timers.delete(&mut *self.backend, TimeDomain::ProcessingTime, self.at, time_ms).map(drop)
    }
}

/// Name of the timers of an operator.
pub(crate) const TIMERS: &str = "timers";

/// What an open operator has.
struct Opened {
    timers: TimerService,
    states: States,
}

/// Runs a [`KeyedProcessFunction`].
pub(crate) struct ProcessOperator<F: KeyedProcessFunction> {
    function: F,
    input: Box<dyn Stage<F::In>>,
    keys: KeyColumns<F::Key>,
    opened: Option<Opened>,
    watermark: WatermarkTracker,
    output: Output<F::Out>,
    /// Timers that are being fired: their domain, and up to when.
    firing: Option<(TimeDomain, i64)>,
    ahead: Ahead<F::Key>,
}

/// Timers that are due next, with their keys: decoded, and their states loaded, together.
struct Ahead<K>(VecDeque<(Timer, K)>);

impl<K> Ahead<K> {
    /// The key of a timer, if it was looked at; what comes before it was deleted in the meantime.
    fn take(&mut self, timer: &Timer) -> Option<K> {
        while self.0.front().is_some_and(|(t, _)| t < timer) {
            self.0.pop_front();
        }
        let hit = self.0.front().is_some_and(|(t, _)| t == timer);
        if hit { self.0.pop_front().map(|(_, k)| k) } else { None }
    }
}

impl<F: KeyedProcessFunction> ProcessOperator<F> {
    /// The operator over rows of `width` columns with their keys behind.
    pub(crate) fn new(function: F, width: usize) -> Result<Self> {
        Ok(ProcessOperator {
            function,
            input: decode::<F::In>()(),
            keys: KeyColumns::new(width)?,
            opened: None,
            watermark: WatermarkTracker::new(),
            output: Output::new(),
            firing: None,
            ahead: Ahead(VecDeque::new()),
        })
    }

    fn opened(&mut self) -> &mut Opened {
        self.opened.as_mut().expect("the runtime opens an operator before anything else")
    }

    /// Fires what is due, a batch of output at a time.
    fn fire(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        let Some((domain, until_ms)) = self.firing else { return self.output.emit(&mut ctx.out) };
        loop {
            if self.output.emit(&mut ctx.out)? == Progress::Blocked {
                return Ok(Progress::Blocked);
            }
            if !self.fire_some(domain, until_ms, ctx)? {
                break;
            }
        }
        self.firing = None;
        self.wake(ctx);
        Ok(Progress::Done)
    }

    /// Fires timers until there is a batch of output. False when none was due.
    fn fire_some(&mut self, domain: TimeDomain, until_ms: i64, ctx: &mut OperatorContext) -> Result<bool> {
        let mut fired = false;
        let state = &mut *ctx.state;
        self.look_ahead(domain, until_ms, state, ctx.max_parallelism)?;
        let opened = self.opened.as_mut().expect("the runtime opens an operator before anything else");
        let mut calls = 0;
        while self.output.rows.values.len() < TARGET_BATCH_ROWS && calls < TARGET_BATCH_ROWS {
            let Some(timer) = opened.timers.pop_due(state, domain, until_ms)? else { break };
            (fired, calls) = (true, calls + 1);
            let key = match self.ahead.take(&timer) {
                Some(key) => key,
                None => one(self.keys.decode([&*timer.key])?)?,
            };
            let mut call = KeyedContext {
                key: &key,
                at: timer.state_key(),
                // As in Flink, rows from processing-time timers have no event time.
                timestamp_ms: Some(if domain == TimeDomain::EventTime { timer.time_ms } else { NO_TIME }),
                watermark_ms: self.watermark.of(timer.group),
                clock: &ctx.clock,
                backend: &mut *state,
                states: &mut opened.states,
                timers: &mut opened.timers,
                rows: &mut self.output.rows,
            };
            self.function.on_timer(timer.time_ms, domain, &mut call)?;
        }
        self.ahead.0.clear();
        opened.states.flush(state)?;
        Ok(fired)
    }

    /// Decodes the keys of the timers that are due next and loads their states.
    fn look_ahead(
        &mut self,
        domain: TimeDomain,
        until_ms: i64,
        state: &mut dyn StateBackend,
        max_parallelism: u32,
    ) -> Result<()> {
        let opened = self.opened.as_mut().expect("the runtime opens an operator before anything else");
        let due: Vec<Timer> = opened.timers.due(domain, until_ms).take(TARGET_BATCH_ROWS).cloned().collect();
        if due.is_empty() {
            return Ok(());
        }
        let mut keys = KeyBatch::default();
        due.iter().for_each(|t| keys.push(&t.key, max_parallelism));
        opened.states.prefetch(state, &keys)?;
        let values = self.keys.decode(due.iter().map(|t| &*t.key))?;
        self.ahead.0 = due.into_iter().zip(values).collect();
        Ok(())
    }

    fn wake(&mut self, ctx: &mut OperatorContext) {
        if let Some(at_ms) = self.opened().timers.next_due_ms(TimeDomain::ProcessingTime) {
            // As in Flink, a timer is due once its millisecond is over.
            ctx.out.wake_at(at_ms.saturating_add(1));
        }
    }
}

fn one<K>(keys: Vec<K>) -> Result<K> {
    keys.into_iter().next().ok_or_else(|| flott_core::Error::bug("the key of a timer vanished"))
}

impl<F: KeyedProcessFunction> Operator for ProcessOperator<F> {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        self.watermark.open(ctx)?;
        let timers = TimerService::open(&mut *ctx.state, TIMERS)?;
        let mut states = States::default();
        let (subtask, parallelism) = (ctx.subtask, ctx.parallelism);
        self.function.open(&mut OpenContext { backend: &mut *ctx.state, states: &mut states, subtask, parallelism })?;
        self.opened = Some(Opened { timers, states });
        self.wake(ctx);
        Ok(OperatorProperties::default())
    }

    fn process(&mut self, _: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        let rows = self.input.run(&batch)?;
        let values = self.keys.values(&batch.rows)?;
        self.keys.read_bytes(&batch.rows, ctx.max_parallelism)?;
        let opened = self.opened.as_mut().expect("the runtime opens an operator before anything else");
        let state = &mut *ctx.state;
        opened.states.prefetch(state, &self.keys.batch)?;
        for (i, (row, timestamp_ms)) in rows.into_pairs().enumerate() {
            let at = StateKey::of(&self.keys.batch, i);
            let mut call = KeyedContext {
                key: &values[i],
                at,
                timestamp_ms,
                watermark_ms: self.watermark.of(at.group),
                clock: &ctx.clock,
                backend: &mut *state,
                states: &mut opened.states,
                timers: &mut opened.timers,
                rows: &mut self.output.rows,
            };
            self.function.process(row, &mut call)?;
        }
        opened.states.flush(state)?;
        self.wake(ctx);
        self.output.emit(&mut ctx.out)
    }

    fn on_event(&mut self, event: OperatorEvent, ctx: &mut OperatorContext) -> Result<Progress> {
        match event {
            OperatorEvent::Watermark(w) => {
                self.watermark.raise(w.0);
                self.firing = Some((TimeDomain::EventTime, w.0));
                self.fire(ctx)
            }
            OperatorEvent::ProcessingTime(now_ms) => {
                self.firing = Some((TimeDomain::ProcessingTime, now_ms.saturating_sub(1)));
                self.fire(ctx)
            }
            OperatorEvent::BeforeBarrier(_) => self.watermark.store(ctx).map(|()| Progress::Done),
            OperatorEvent::Idle | OperatorEvent::Active | OperatorEvent::EndOfInput(_) | OperatorEvent::EndOfData => {
                Ok(Progress::Done)
            }
        }
    }

    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.fire(ctx)
    }
}
