//! The threads that ask a lookup source: each has a connection of its own, may block, and tries again. Their queue holds what the
//! operator lets be under way. Never touches the operator's state.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow_array::{RecordBatch, UInt32Array};
use flott_core::error::{Error, ErrorKind, Result};
use flott_core::keys::RowCodec;
use flott_core::lookup::{Lookup, LookupContext, LookupOptions, LookupRows, LookupSource};
use flott_core::operator::OperatorWaker;
use flott_expr::{CompiledCalc, EvalContext};
use flott_plan::spec::LookupMissRetry;

use super::cache::Found;

/// The longest pause between two tries.
const BACKOFF_MS_MAX: i64 = 60_000;

/// Keys to ask for.
pub(super) struct Question {
    /// The batch they are of.
    pub(super) batch: u64,
    /// Their numbers among the distinct keys of the batch.
    pub(super) numbers: Vec<u32>,
    /// The keys.
    pub(super) keys: RecordBatch,
}

/// What was found for a question, a key each.
pub(super) struct Answer {
    /// The batch.
    pub(super) batch: u64,
    /// See [`Question::numbers`].
    pub(super) numbers: Vec<u32>,
    /// Rows as bytes.
    pub(super) found: Result<Vec<Found>>,
}

/// How rows of the table become bytes.
#[derive(Clone)]
pub(super) struct Shape {
    /// Output columns of the table.
    pub(super) calc: Arc<CompiledCalc>,
    /// Their codec.
    pub(super) codec: RowCodec,
    /// The session's zone.
    pub(super) zone: chrono_tz::Tz,
}

/// What every thread is given.
#[derive(Clone)]
pub(super) struct Asking {
    pub(super) source: Arc<dyn LookupSource>,
    pub(super) context: LookupContext,
    pub(super) shape: Shape,
    pub(super) options: LookupOptions,
    pub(super) retry_miss: Option<LookupMissRetry>,
}

#[derive(Default)]
struct Queue {
    questions: VecDeque<Question>,
    answers: Vec<Answer>,
    stopped: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    waker: OperatorWaker,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The threads of one subtask. They end once this is dropped and their call returns.
pub(super) struct Asker(Arc<Shared>);

impl Asker {
    /// Starts `threads`.
    pub(super) fn start(threads: usize, asking: &Asking, waker: OperatorWaker) -> Result<Self> {
        let asker = Asker(Arc::new(Shared { queue: Mutex::default(), changed: Condvar::new(), waker }));
        for _ in 0..threads {
            let (shared, asking) = (Arc::clone(&asker.0), asking.clone());
            let name = format!("lookup:{}", asking.context.subtask);
            std::thread::Builder::new().name(name).spawn(move || work(&shared, &asking)).map_err(|e| {
                Error::retry("lookup.thread", "a thread for a lookup could not be started").detail(e.to_string())
            })?;
        }
        Ok(asker)
    }
    /// Asks.
    pub(super) fn ask(&self, questions: Vec<Question>) {
        self.0.lock().questions.extend(questions);
        self.0.changed.notify_all();
    }
    /// Takes what has been answered.
    pub(super) fn answers(&self) -> Vec<Answer> {
        std::mem::take(&mut self.0.lock().answers)
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.changed.notify_all();
    }
}

fn work(shared: &Shared, asking: &Asking) {
    let mut connection = None;
    while let Some(question) = next(shared) {
        let found = std::panic::catch_unwind(AssertUnwindSafe(|| answer(shared, asking, &mut connection, &question)))
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Retry, "task.panic", "a lookup panicked")));
        if found.is_err() {
            connection = None;
        }
        shared.lock().answers.push(Answer { batch: question.batch, numbers: question.numbers, found });
        shared.waker.wake();
    }
}

fn next(shared: &Shared) -> Option<Question> {
    let idle = |q: &mut Queue| q.questions.is_empty() && !q.stopped;
    let mut queue = shared.changed.wait_while(shared.lock(), idle).unwrap_or_else(PoisonError::into_inner);
    if queue.stopped { None } else { queue.questions.pop_front() }
}

/// Waits; an error once the operator is gone.
fn pause(shared: &Shared, ms: i64) -> Result<()> {
    let timeout = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    let waiting = |q: &mut Queue| !q.stopped;
    let waited = shared.changed.wait_timeout_while(shared.lock(), timeout, waiting);
    let (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
    if queue.stopped { Err(Error::cancelled()) } else { Ok(()) }
}

type Connection = Option<Box<dyn Lookup>>;

fn answer(shared: &Shared, asking: &Asking, connection: &mut Connection, question: &Question) -> Result<Vec<Found>> {
    let mut found = ask_table(shared, asking, connection, &question.keys)?;
    let Some(retry) = asking.retry_miss else { return Ok(found) };
    for _ in 0..retry.max_attempts {
        let missing: Vec<u32> = (0..found.len() as u32).filter(|&i| found[i as usize].is_empty()).collect();
        if missing.is_empty() {
            break;
        }
        pause(shared, retry.delay_ms)?;
        let keys = arrow_select::take::take_record_batch(&question.keys, &UInt32Array::from(missing.clone()))?;
        let again = ask_table(shared, asking, connection, &keys)?;
        missing.into_iter().zip(again).for_each(|(i, rows)| found[i as usize] = rows);
    }
    Ok(found)
}

/// Asks once, and again after errors that may pass.
fn ask_table(shared: &Shared, asking: &Asking, connection: &mut Connection, keys: &RecordBatch) -> Result<Vec<Found>> {
    let mut backoff_ms = asking.options.retry_backoff_ms.max(1);
    let mut tries = 0;
    loop {
        let error = match try_once(asking, connection, keys) {
            Ok(rows) => return encode(asking, &rows, keys.num_rows()),
            Err(e) => e,
        };
        if error.kind() != ErrorKind::Retry || tries >= asking.options.max_retries {
            return Err(match tries {
                0 => error,
                n => error.context(format_args!("a lookup failed {} times", n + 1)),
            });
        }
        tries += 1;
        *connection = None;
        asking.context.metrics.external.retries.add(1);
        pause(shared, backoff_ms)?;
        backoff_ms = (backoff_ms * 2).min(BACKOFF_MS_MAX);
    }
}

fn try_once(asking: &Asking, connection: &mut Connection, keys: &RecordBatch) -> Result<LookupRows> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(asking.source.connect(asking.context.clone())?),
    };
    open.lookup(keys)
}

/// The rows of each key, projected, as bytes.
fn encode(asking: &Asking, rows: &LookupRows, keys: usize) -> Result<Vec<Found>> {
    let (owners, count) = (rows.keys.values(), rows.rows.num_rows());
    let sorted = owners.windows(2).all(|w| w[0] <= w[1]);
    if owners.len() != count || !sorted || owners.last().is_some_and(|&k| k as usize >= keys) {
        return Err(Error::bug(format!("a lookup of {keys} keys gave {count} rows for {} keys", rows.keys.len())));
    }
    let mut found: Vec<Found> = vec![Found::default(); keys];
    if count == 0 {
        return Ok(found);
    }
    let shape = &asking.shape;
    let eval = EvalContext::new(asking.context.clock.now_ms(), shape.zone);
    let projected = shape.calc.apply(&rows.rows, &eval)?.map(|(rows, _)| rows);
    let projected = projected.ok_or_else(|| Error::bug("a projection without a filter dropped rows"))?;
    let (mut offsets, mut bytes) = (Vec::new(), Vec::new());
    shape.codec.encode_rows(projected.columns(), &mut offsets, &mut bytes)?;
    let row = |i: usize| bytes[offsets[i] as usize..offsets[i + 1] as usize].into();
    let mut first = 0;
    while first < count {
        let owner = owners[first];
        let end = first + owners[first..].iter().take_while(|o| **o == owner).count();
        found[owner as usize] = (first..end).map(row).collect();
        first = end;
    }
    Ok(found)
}
