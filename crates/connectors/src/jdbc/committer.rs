//! The exactly-once committer: applies epochs on a thread of its own, each in one transaction with its ledger row. The task's
//! thread only asks how far it is; a reply that was lost is settled by the ledger.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use flott_core::batch_codec::decode_batch;
use flott_core::sink::{CommitError, Committable, Committer, SinkContext};
use flott_core::{CheckpointId, Error, Result, crash_point};

use super::apply::apply;
use super::changes::Changes;
use super::epoch::{Epoch, Outstanding};
use super::ledger::Ledger;
use super::monitor::Monitor;
use super::options::ExactlyOnce;
use super::session::DbError;
use super::writer::{BACKOFF_MS, Open, Table};
use crate::flusher::{FlushError, Stop, Worker};

/// How soon the thread is asked again: often at first, less often when the server is slow.
const POLL_MS: (i64, i64) = (2, 50);
/// Rows per statement at least: an epoch is applied as a whole, however small its flushes would be.
const STATEMENT_ROWS: usize = 1_000;
/// Commits between two cleanings of the ledger.
const CLEAN_EVERY: u64 = 256;
/// Pause before a committable is looked at again whose predecessor another subtask has.
const ORDER_MS: u64 = 50;
/// Longest pause between two tries.
const BACKOFF_MS_MAX: u64 = 2_000;

#[derive(Default)]
struct State {
    queue: VecDeque<Committable>,
    /// In the queue or being applied.
    taken: BTreeSet<String>,
    done: BTreeSet<String>,
    failed: Option<CommitError>,
    stopped: bool,
}

/// The committer of one subtask.
pub struct LedgerCommitter {
    shared: Arc<Monitor<State>>,
    worker: Worker,
    context: SinkContext,
    outstanding: Arc<Outstanding>,
    poll_ms: i64,
}

impl LedgerCommitter {
    /// Starts the thread, which connects and checks the tables at once.
    pub fn start(
        table: Arc<Table>,
        mode: &ExactlyOnce,
        context: SinkContext,
        outstanding: Arc<Outstanding>,
    ) -> Result<Self> {
        let open = Open::new(table);
        context.metrics.external.set_endpoint(open.place.endpoint());
        let shared = Arc::new(Monitor::default());
        let mut applier = Applier {
            open,
            ledger: None,
            ledger_name: mode.ledger.clone(),
            context: context.clone(),
            shared: Arc::clone(&shared),
            outstanding: Arc::clone(&outstanding),
            applied: 0,
        };
        let worker = Worker::spawn(format!("jdbc-commit-{}", context.subtask), move |stop| applier.run(&stop))?;
        Ok(LedgerCommitter { shared, worker, context, outstanding, poll_ms: POLL_MS.0 })
    }
}

impl Committer for LedgerCommitter {
    fn commit(&mut self, committables: &[Committable]) -> Result<(), CommitError> {
        let mut state = self.shared.lock();
        if let Some(error) = state.failed.take() {
            // What comes again is taken again.
            state.taken.clear();
            state.queue.clear();
            return Err(error);
        }
        let committed = committables.iter().take_while(|c| state.done.contains(&c.id)).count();
        for c in &committables[..committed] {
            state.done.remove(&c.id);
            state.taken.remove(&c.id);
            self.outstanding.remove(&c.id);
        }
        if committed == committables.len() {
            self.poll_ms = POLL_MS.0;
            return Ok(());
        }
        if self.worker.is_finished() {
            return Err(CommitError::Fatal(Error::bug("the thread of a committer ended without an error")));
        }
        let mut added = false;
        for c in &committables[committed..] {
            if state.taken.insert(c.id.clone()) {
                state.queue.push_back(c.clone());
                added = true;
            }
        }
        drop(state);
        if added {
            self.shared.notify_all();
            self.poll_ms = POLL_MS.0;
        } else {
            self.poll_ms = (self.poll_ms * 2).min(POLL_MS.1);
        }
        Err(CommitError::Pending { committed, until_ms: self.context.clock.now_ms() + self.poll_ms })
    }
}

impl Drop for LedgerCommitter {
    fn drop(&mut self) {
        self.worker.stop().stop();
        self.shared.lock().stopped = true;
        self.shared.notify_all();
    }
}

struct Applier {
    open: Open,
    ledger: Option<Ledger>,
    ledger_name: String,
    context: SinkContext,
    shared: Arc<Monitor<State>>,
    outstanding: Arc<Outstanding>,
    applied: u64,
}

impl Applier {
    fn run(&mut self, stop: &Stop) {
        // A table that is missing or does not fit is found at the start, not with the first checkpoint.
        let mut result = self.until(stop, "connect", 0, &mut |me, stop| me.connect(stop));
        if let Err(CommitError::Fatal(e) | CommitError::Indeterminate(e) | CommitError::Determinate(e)) = &result {
            self.outstanding.fail(e.clone());
        }
        loop {
            if stop.is_stopped() {
                break;
            }
            let mut state = self.shared.lock();
            if let Err(error) = std::mem::replace(&mut result, Ok(())) {
                state.failed = Some(error);
                state.queue.clear();
            }
            let next = loop {
                if state.stopped {
                    return stop.on_stop(None);
                }
                match state.queue.pop_front() {
                    // Not before the task has heard of a failure: order must hold.
                    Some(next) if state.failed.is_none() => break next,
                    _ => state = self.shared.wait(state),
                }
            };
            drop(state);
            result = self.apply(&next, stop);
            if result.is_ok() && !stop.is_stopped() {
                self.shared.lock().done.insert(next.id);
            }
        }
        stop.on_stop(None);
    }

    fn connect(&mut self, stop: &Stop) -> Result<(), FlushError> {
        self.open.connect(stop)?;
        if self.ledger.is_none() {
            let place = self.open.place.clone();
            let (session, target) = self.open.parts()?;
            let ledger = Ledger::open(session, target, &self.ledger_name, &self.context, &place)
                .map_err(|e| e.into_flush_error(&place))?;
            session.commit().map_err(|e| place.flush_error("create the ledger", &e))?;
            self.ledger = Some(ledger);
        }
        Ok(())
    }

    fn apply(&mut self, committable: &Committable, stop: &Stop) -> Result<(), CommitError> {
        let read = || {
            let epoch = Epoch::decode(&committable.payload)?;
            let batch = [decode_batch(&epoch.rows)?];
            let changes = Changes::of(&batch, &self.open.table.spec.primary_key)?;
            Ok::<_, Error>((epoch, batch, changes))
        };
        let (epoch, batch, changes) = read().map_err(CommitError::Fatal)?;
        let rows = changes.len();
        let what = format!("commit of {rows} rows (checkpoint {})", committable.checkpoint);
        self.until(stop, &what, rows, &mut |me, stop| {
            me.connect(stop)?;
            me.await_predecessor(&epoch, committable.checkpoint, stop)?;
            if stop.is_stopped() {
                return Ok(());
            }
            me.transaction(committable, &batch, &changes, stop)
        })?;
        self.applied += 1;
        if self.applied.is_multiple_of(CLEAN_EVERY)
            && let (Ok((session, _)), Some(ledger)) = (self.open.parts(), &self.ledger)
        {
            ledger.clean(session, committable.checkpoint);
        }
        Ok(())
    }

    /// After a rescale, epochs of one writer may be with several subtasks: each waits for the one before it.
    fn await_predecessor(&mut self, epoch: &Epoch, checkpoint: CheckpointId, stop: &Stop) -> Result<(), FlushError> {
        if epoch.after.is_empty() || epoch.writer == (self.context.subtask, self.context.parallelism) {
            return Ok(());
        }
        let begin_ms = self.context.clock.now_ms();
        loop {
            let place = self.open.place.clone();
            let (session, _) = self.open.parts()?;
            let Some(ledger) = &self.ledger else { return Ok(()) };
            let applied = ledger.has(session, &epoch.after, checkpoint).and_then(|found| {
                // A new transaction each time: an old one would see an old ledger.
                session.rollback()?;
                Ok(found)
            });
            let failed = |me: &mut Self, e: DbError| {
                me.open.recover(e.kind);
                place.flush_error("look into the ledger", &e)
            };
            if applied.map_err(|e| failed(self, e))? || !stop.sleep_ms(ORDER_MS) {
                return Ok(());
            }
            if self.context.clock.now_ms() - begin_ms > self.open.table.jdbc.unreachable_ms {
                let message = format!("{}: the rows before checkpoint {checkpoint} are not applied", place.endpoint());
                return Err(FlushError::Busy(
                    Error::retry("jdbc.order", message)
                        .detail(format!("the ledger has no row {}", epoch.after))
                        .hint("another subtask applies them; see why it does not"),
                ));
            }
        }
    }

    fn transaction(
        &mut self,
        committable: &Committable,
        batch: &[flott_core::ChangeBatch],
        changes: &Changes,
        stop: &Stop,
    ) -> Result<(), FlushError> {
        let full = self.open.table.write.max_rows.max(STATEMENT_ROWS);
        let Some(ledger) = &self.ledger else { return Err(FlushError::Fatal(Error::bug("the ledger is not open"))) };
        let (session, target) = self.open.parts()?;
        let mut run = || -> Result<bool, (String, DbError)> {
            let named = |what: &'static str| move |e| (what.to_owned(), e);
            session.begin().map_err(named("begin of a transaction"))?;
            let entered = ledger.enter(session, &committable.id, committable.checkpoint, changes.len());
            if !entered.map_err(named("entry in the ledger"))? {
                session.rollback().map_err(named("rollback"))?;
                return Ok(false);
            }
            apply(session, target, batch, changes, full).map_err(|e| (e.what, e.error))?;
            if stop.is_stopped() {
                session.rollback().map_err(named("rollback"))?;
                return Ok(false);
            }
            crash_point::reach("jdbc.commit.before");
            session.commit().map_err(named("commit"))?;
            crash_point::reach("jdbc.commit.applied");
            Ok(true)
        };
        match run() {
            Ok(applied) => {
                if !applied {
                    tracing::info!(id = %committable.id, "these rows were applied before: the ledger has them");
                }
                Ok(())
            }
            Err((what, e)) => {
                self.open.recover(e.kind);
                Err(self.open.place.flush_error(&what, &e))
            }
        }
    }

    /// Tries until it works, is not worth another try, or the thread is stopped. A commit whose reply was lost is tried
    /// again like any other: the ledger says whether it happened.
    fn until(
        &mut self,
        stop: &Stop,
        what: &str,
        rows: usize,
        call: &mut dyn FnMut(&mut Self, &Stop) -> Result<(), FlushError>,
    ) -> Result<(), CommitError> {
        let (mut tries, mut gone_since_ms, mut pause_ms) = (0, None::<i64>, BACKOFF_MS);
        loop {
            let clock = Arc::clone(&self.context.clock);
            let metrics = Arc::clone(&self.context.metrics);
            let begin_ns = clock.now_nanos();
            metrics.external.begin(what, clock.now_ms());
            let result = call(self, stop);
            let carried = if result.is_ok() { rows as u64 } else { 0 };
            metrics.external.end(carried, clock.now_nanos().saturating_sub(begin_ns));
            let now_ms = clock.now_ms();
            let error = match result {
                Ok(()) => return Ok(()),
                Err(_) if stop.is_stopped() => return Ok(()),
                Err(FlushError::Fatal(e)) => return Err(CommitError::Fatal(e)),
                Err(FlushError::Busy(e)) => {
                    gone_since_ms = None;
                    tries += 1;
                    if tries > self.open.table.write.max_retries {
                        return Err(CommitError::Determinate(e.context(format_args!("{what} failed {tries} times"))));
                    }
                    e
                }
                Err(FlushError::Unreachable(e)) => {
                    let gone_ms = now_ms - *gone_since_ms.get_or_insert(now_ms);
                    if gone_ms >= self.open.table.jdbc.unreachable_ms {
                        let e = e.context(format_args!("{what} failed for {:.1} s", gone_ms as f64 / 1e3));
                        return Err(CommitError::Indeterminate(e));
                    }
                    e
                }
            };
            tracing::warn!(%what, %error, pause_ms, "a commit failed and will be tried again");
            metrics.external.retries.add(1);
            metrics.external.begin(format!("{what} (waiting to try again)"), now_ms);
            if !stop.sleep_ms(pause_ms) {
                return Ok(());
            }
            pause_ms = (pause_ms * 2).min(BACKOFF_MS_MAX);
        }
    }
}
