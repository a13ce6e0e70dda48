//! Session windows: per key, an ordered map from the end of each open session to its start and accumulator. Works a batch in key by
//! key: the sessions of a key are read once, and what changed is written once.

use flott_core::batch::ChangeBatch;
use flott_core::error::{Error, Result};
use flott_core::operator::{Operator, OperatorContext, OperatorEvent, OperatorProperties, Progress, TARGET_BATCH_ROWS};
use flott_core::state::StateBackend;
use flott_state::timers::{TimeDomain, Timer, TimerService};
use flott_state::typed::{MapState, StateDescriptor, StateKey, StateType};

use super::fold::Fold;
use super::grid::CONTENTS;
use super::{LateRow, TimeWindow, WindowRows, no_time, out_of_range};
use crate::keys::KeyColumns;
use crate::output::Output;
use crate::process::TIMERS;
use crate::progress::WatermarkTracker;
use crate::record::Record;
use crate::stage::{Stage, decode};

/// End of a session → its start and contents.
type Sessions<A> = MapState<i64, (i64, A)>;

struct Opened<A: StateType> {
    sessions: Sessions<A>,
    timers: TimerService,
}

/// An open session of the key at hand.
struct Session<A> {
    start_ms: i64,
    end_ms: i64,
    acc: Option<A>,
    /// The end under which it lies in state.
    stored_end_ms: Option<i64>,
    changed: bool,
}

/// Runs session windows.
pub(super) struct SessionOperator<K, F: Fold, E, U> {
    gap_ms: i64,
    fold: F,
    emit: E,
    late: Option<LateRow<F::In, U>>,
    input: Box<dyn Stage<F::In>>,
    keys: KeyColumns<K>,
    opened: Option<Opened<F::Acc>>,
    watermark: WatermarkTracker,
    output: Output<U>,
    /// Sessions that end up to this fire.
    firing: Option<i64>,
}

impl<K, F, E, U> SessionOperator<K, F, E, U>
where
    K: Record,
    F: Fold,
    E: Fn(&K, TimeWindow, F::Out) -> U + Send + 'static,
    U: Record,
{
    pub(super) fn new(gap_ms: i64, width: usize, rows: WindowRows<F, E, U>) -> Result<Self> {
        Ok(SessionOperator {
            gap_ms,
            fold: rows.fold,
            emit: rows.emit,
            late: rows.late,
            input: decode::<F::In>()(),
            keys: KeyColumns::new(width)?,
            opened: None,
            watermark: WatermarkTracker::new(),
            output: Output::new(),
            firing: None,
        })
    }

    /// Rows of the batch, key by key; the rows of a key in order.
    fn by_key(&self) -> Vec<u32> {
        let keys = &self.keys.batch;
        let mut rows: Vec<u32> = (0..keys.len() as u32).collect();
        rows.sort_by(|&a, &b| {
            let (a, b) = (a as usize, b as usize);
            keys.hashes[a].cmp(&keys.hashes[b]).then_with(|| keys.key(a).cmp(keys.key(b)))
        });
        rows
    }

    /// Puts one row into a session of its key; gives it back when it is late.
    fn place(
        &self,
        open: &mut Vec<Session<F::Acc>>,
        row: F::In,
        window: TimeWindow,
        watermark_ms: i64,
    ) -> Result<Option<F::In>> {
        // As in Flink, windows that only touch merge: a gap of exactly `gap_ms` does not split.
        let touches = |s: &Session<F::Acc>| s.start_ms <= window.end_ms && s.end_ms >= window.start_ms;
        let mut merged: Option<Session<F::Acc>> = None;
        let mut i = 0;
        while i < open.len() {
            if !touches(&open[i]) {
                i += 1;
                continue;
            }
            let mut found = open.remove(i);
            merged = Some(match merged {
                None => found,
                Some(mut first) => {
                    first.acc = match (first.acc.take(), found.acc.take()) {
                        (Some(a), Some(b)) => Some(self.fold.merge(a, b)?),
                        (a, b) => a.or(b),
                    };
                    first.start_ms = first.start_ms.min(found.start_ms);
                    first.end_ms = first.end_ms.max(found.end_ms);
                    first
                }
            });
        }
        let mut session = match merged {
            Some(session) => session,
            None if window.max_timestamp_ms() <= watermark_ms => return Ok(Some(row)),
            None => Session {
                start_ms: window.start_ms,
                end_ms: window.end_ms,
                acc: None,
                stored_end_ms: None,
                changed: true,
            },
        };
        session.start_ms = session.start_ms.min(window.start_ms);
        session.end_ms = session.end_ms.max(window.end_ms);
        session.changed = true;
        self.fold.add(row, &mut session.acc)?;
        open.push(session);
        Ok(None)
    }

    fn load(&mut self, at: StateKey<'_>, state: &mut dyn StateBackend) -> Result<Vec<Session<F::Acc>>> {
        let opened = self.opened.as_mut().expect("the runtime opens an operator before anything else");
        let entries = opened.sessions.entries(state, at)?;
        let session = |(end_ms, (start_ms, acc))| Session {
            start_ms,
            end_ms,
            acc: Some(acc),
            stored_end_ms: Some(end_ms),
            changed: false,
        };
        Ok(entries.into_iter().map(session).collect())
    }

    /// Writes the sessions of a key back, and moves their timers.
    fn store(
        opened: &mut Opened<F::Acc>,
        at: StateKey<'_>,
        before: &[i64],
        open: Vec<Session<F::Acc>>,
        state: &mut dyn StateBackend,
    ) -> Result<()> {
        let event = TimeDomain::EventTime;
        for end_ms in before.iter().filter(|end| open.iter().all(|s| s.end_ms != **end)) {
            opened.sessions.remove(state, at, end_ms)?;
            opened.timers.delete(state, event, at, end_ms - 1)?;
        }
        for session in open.into_iter().filter(|s| s.changed) {
            let acc = session.acc.ok_or_else(|| Error::bug("a session without contents"))?;
            opened.sessions.put(state, at, &session.end_ms, &(session.start_ms, acc))?;
            if session.stored_end_ms != Some(session.end_ms) {
                opened.timers.register(state, event, at, session.end_ms - 1)?;
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
            }
        }
    }

    fn fire_some(&mut self, until_ms: i64, ctx: &mut OperatorContext) -> Result<bool> {
        let opened = self.opened.as_mut().expect("the runtime opens an operator before anything else");
        let state = &mut *ctx.state;
        let mut due: Vec<Timer> = Vec::new();
        while due.len() < TARGET_BATCH_ROWS {
            let Some(timer) = opened.timers.pop_due(state, TimeDomain::EventTime, until_ms)? else { break };
            due.push(timer);
        }
        let keys = self.keys.decode(due.iter().map(|t| &*t.key))?;
        for (timer, key) in due.iter().zip(&keys) {
            let (at, end_ms) = (timer.state_key(), timer.time_ms + 1);
            let (start_ms, acc) = opened
                .sessions
                .get(state, at, &end_ms)?
                .ok_or_else(|| Error::bug("a session fires without its contents"))?;
            opened.sessions.remove(state, at, &end_ms)?;
            let window = TimeWindow { start_ms, end_ms };
            let row = (self.emit)(key, window, self.fold.result(acc));
            self.output.rows.push(row, Some(window.max_timestamp_ms()));
        }
        Ok(!due.is_empty())
    }
}

impl<K, F, E, U> Operator for SessionOperator<K, F, E, U>
where
    K: Record,
    F: Fold,
    E: Fn(&K, TimeWindow, F::Out) -> U + Send + 'static,
    U: Record,
{
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        self.watermark.open(ctx)?;
        let sessions = MapState::register(&mut *ctx.state, &StateDescriptor::new(CONTENTS))?;
        let timers = TimerService::open(&mut *ctx.state, TIMERS)?;
        self.opened = Some(Opened { sessions, timers });
        Ok(OperatorProperties::default())
    }

    fn process(&mut self, _: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        self.keys.read_bytes(&batch.rows, ctx.max_parallelism)?;
        let pairs = self.input.run(&batch)?.into_pairs();
        let mut rows: Vec<Option<(F::In, Option<i64>)>> = pairs.map(Some).collect();
        let order = self.by_key();
        let keys = std::mem::take(&mut self.keys.batch);
        let state = &mut *ctx.state;
        for group in order.chunk_by(|&a, &b| keys.key(a as usize) == keys.key(b as usize)) {
            let at = StateKey::of(&keys, group[0] as usize);
            let mut open = self.load(at, state)?;
            let before: Vec<i64> = open.iter().map(|s| s.end_ms).collect();
            for (row, time) in group.iter().filter_map(|&i| rows[i as usize].take()) {
                let start_ms = time.ok_or_else(|| no_time(&ctx.name))?;
                let end_ms = start_ms.checked_add(self.gap_ms).ok_or_else(|| out_of_range(start_ms))?;
                let window = TimeWindow { start_ms, end_ms };
                match (self.place(&mut open, row, window, self.watermark.of(at.group))?, self.late) {
                    (None, _) => {}
                    (Some(late), Some(make)) => self.output.rows.push(make(late), time),
                    (Some(_), None) => ctx.metrics.late_dropped.add(1),
                }
            }
            let opened = self.opened.as_mut().expect("the runtime opens an operator before anything else");
            Self::store(opened, at, &before, open, state)?;
        }
        self.keys.batch = keys;
        self.output.emit(&mut ctx.out)
    }

    fn on_event(&mut self, event: OperatorEvent, ctx: &mut OperatorContext) -> Result<Progress> {
        match event {
            OperatorEvent::Watermark(w) => {
                self.watermark.raise(w.0);
                self.firing = Some(w.0);
                self.fire(ctx)
            }
            OperatorEvent::BeforeBarrier(_) => self.watermark.store(ctx).map(|()| Progress::Done),
            _ => Ok(Progress::Done),
        }
    }

    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.fire(ctx)
    }
}
