//! Lookup join: rows of the input joined with rows of an outside table, asked for by key. Never blocks: questions go to threads, and
//! a batch leaves once all of its keys are answered and those before it have left.
//!
//! What is under way does not hold up barriers: appended rows without an answer are part of the snapshot and are asked for
//! again after a restore. Rows of a changelog must not change their order over subtasks, so they are waited for.

mod asker;
mod cache;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow_schema::{Schema, SchemaRef};
use flott_core::batch::ChangeBatch;
use flott_core::batch_codec::{decode_batch, encode_batch};
use flott_core::element::Signal;
use flott_core::error::{Error, Result};
use flott_core::keys::RowCodec;
use flott_core::lookup::{LookupContext, LookupOptions, LookupSource};
use flott_core::operator::{Operator, OperatorContext, OperatorEvent, OperatorProperties, Progress, TARGET_BATCH_ROWS};
use flott_core::sink::ChangelogMode;
use flott_core::snapshot::Redistribution;
use flott_core::state::KeyBatch;
use flott_core::types::{Column, arrow_schema};
use flott_expr::{CompiledCalc, EvalContext};
use flott_plan::{JoinKind, JoinSpec, LookupJoinSpec};

use crate::emit::Pending;
use crate::group_aggregate::{encode_keys, key_codec};
use crate::join::{Builder, Source};
use crate::keyed::distinct;
use crate::zone::session_zone;
use asker::{Answer, Asker, Asking, Question, Shape};
use cache::{Cache, Found};

/// Batches whose keys may be under way.
const BATCHES_MAX: usize = 8;
/// Keys of one question.
const QUESTION_KEYS: usize = 512;
/// Threads of a subtask when the hint says `'async' = 'true'`.
const PARALLEL_THREADS: usize = 4;
/// Operator state: batches without an answer.
const STATE: &str = "under-way";

/// The operator.
pub(crate) struct LookupJoin {
    spec: LookupJoinSpec,
    source: Arc<dyn LookupSource>,
    options: LookupOptions,
    input: SchemaRef,
    key_codec: RowCodec,
    key_schema: SchemaRef,
    calc: Arc<CompiledCalc>,
    row_codec: RowCodec,
    builder: Builder,
    zone: chrono_tz::Tz,
    cache: Option<Cache>,
    asker: Option<Asker>,
    waiting: VecDeque<Waiting>,
    asked: u64,
    pending: Pending,
    /// The call that is under way lasts until nothing waits any more.
    draining: bool,
}

/// What has not left yet, in order.
#[allow(clippy::large_enum_variant, reason = "sixteen of them at most")]
enum Waiting {
    Rows(Probe),
    Signal(Signal),
}

/// A batch whose keys are being answered.
struct Probe {
    number: u64,
    batch: ChangeBatch,
    keys: KeyBatch,
    /// For each row its number among the distinct keys; `None`: a key column is NULL.
    key_of: Vec<Option<u32>>,
    /// A row with each distinct key.
    first: Vec<u32>,
    found: Vec<Option<Found>>,
    unanswered: usize,
    next_row: usize,
}

impl LookupJoin {
    /// The operator for `spec`, asking `source`; refuses what does not fit.
    pub(crate) fn new(
        spec: &LookupJoinSpec,
        source: &Arc<dyn LookupSource>,
        input: &[Column],
        output: &[Column],
    ) -> Result<Self> {
        let right = output.get(input.len()..).ok_or_else(|| Error::bug("a lookup join without output columns"))?;
        let names: Vec<String> = right.iter().map(|c| c.name.clone()).collect();
        let all: Vec<usize> = (0..right.len()).collect();
        let pairs = JoinSpec {
            kind: spec.kind,
            left_keys: Vec::new(),
            right_keys: Vec::new(),
            condition: spec.condition.clone(),
            left: input.to_vec(),
            right: right.to_vec(),
        };
        let key_fields = spec.keys.iter().map(|&k| input[k].data_type.to_field(&input[k].name));
        Ok(LookupJoin {
            options: source.options(),
            spec: spec.clone(),
            source: Arc::clone(source),
            input: arrow_schema(input),
            key_codec: key_codec(input, &spec.keys)?,
            key_schema: Arc::new(Schema::new(key_fields.collect::<Vec<_>>())),
            calc: Arc::new(CompiledCalc::compile(None, &spec.projection, &spec.table, &names)?),
            row_codec: key_codec(right, &all)?,
            builder: Builder::new(&pairs, output)?,
            zone: chrono_tz::UTC,
            cache: None,
            asker: None,
            waiting: VecDeque::new(),
            asked: 0,
            pending: Pending::default(),
            draining: false,
        })
    }

    /// Takes a batch on its way: what the cache does not know is asked for.
    fn probe(&mut self, batch: ChangeBatch, ctx: &OperatorContext) -> Result<()> {
        let columns: Vec<ArrayRef> = self.spec.keys.iter().map(|&k| batch.rows.column(k).clone()).collect();
        let mut keys = KeyBatch::default();
        encode_keys(&self.key_codec, &columns, batch.num_rows(), ctx.max_parallelism, &mut keys)?;
        let nullable: Vec<&ArrayRef> = columns.iter().filter(|c| c.null_count() > 0).collect();
        let is_null = |row: usize| nullable.iter().any(|c| c.is_null(row));
        let (numbers, first) = distinct(&keys);
        let key_of: Vec<Option<u32>> = (0..keys.len()).map(|row| (!is_null(row)).then_some(numbers[row])).collect();
        let now_ms = ctx.clock.now_ms();
        let mut found: Vec<Option<Found>> = Vec::with_capacity(first.len());
        let mut missing: Vec<u32> = Vec::new();
        for (number, &row) in first.iter().enumerate() {
            let row = row as usize;
            let known = match (&mut self.cache, is_null(row)) {
                (_, true) => Some(Found::default()),
                (Some(cache), false) => cache.get(keys.hashes[row], keys.key(row), now_ms),
                (None, false) => None,
            };
            if known.is_none() {
                missing.push(number as u32);
            }
            found.push(known);
        }
        let number = self.asked;
        self.asked += 1;
        let mut questions = Vec::new();
        for numbers in missing.chunks(QUESTION_KEYS) {
            let rows: UInt32Array = numbers.iter().map(|&n| first[n as usize]).collect();
            let taken = columns.iter().map(|c| Ok(arrow_select::take::take(c, &rows, None)?));
            let keys = RecordBatch::try_new(self.key_schema.clone(), taken.collect::<Result<_>>()?)?;
            questions.push(Question { batch: number, numbers: numbers.to_vec(), keys });
        }
        let unanswered = missing.len();
        self.waiting.push_back(Waiting::Rows(Probe {
            number,
            batch,
            keys,
            key_of,
            first,
            found,
            unanswered,
            next_row: 0,
        }));
        if !questions.is_empty() {
            self.asker
                .as_ref()
                .ok_or_else(|| Error::bug("a lookup join was used before it was opened"))?
                .ask(questions);
        }
        Ok(())
    }

    /// Hands answers to the batches that wait for them.
    fn take_answers(&mut self, now_ms: i64) -> Result<()> {
        for Answer { batch, numbers, found } in self.asker.as_ref().map(Asker::answers).unwrap_or_default() {
            let found = found?;
            let probe = self.waiting.iter_mut().find_map(|w| match w {
                Waiting::Rows(p) if p.number == batch => Some(p),
                _ => None,
            });
            let probe = probe.ok_or_else(|| Error::bug("an answer to a question that was not asked"))?;
            probe.unanswered -= numbers.len();
            for (number, found) in numbers.into_iter().zip(found) {
                if let Some(cache) = &mut self.cache {
                    let row = probe.first[number as usize] as usize;
                    cache.put(probe.keys.hashes[row], probe.keys.key(row), &found, now_ms);
                }
                probe.found[number as usize] = Some(found);
            }
        }
        Ok(())
    }

    /// Lets out what is answered, as far as there is room.
    fn run(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.take_answers(ctx.clock.now_ms())?;
        loop {
            if self.pending.flush(&mut ctx.out) == Progress::Blocked {
                return Ok(Progress::Blocked);
            }
            match self.waiting.pop_front() {
                Some(Waiting::Signal(signal)) => ctx.out.emit_signal(signal),
                Some(Waiting::Rows(mut probe)) if probe.unanswered == 0 => {
                    let eval = EvalContext::of(ctx, self.zone);
                    self.join(&mut probe, &eval)?;
                    if probe.next_row < probe.batch.num_rows() {
                        self.waiting.push_front(Waiting::Rows(probe));
                    }
                }
                Some(unanswered) => {
                    self.waiting.push_front(unanswered);
                    if self.draining {
                        // Only the waker ends this.
                        ctx.out.wake_at(i64::MAX);
                        return Ok(Progress::Blocked);
                    }
                    return Ok(Progress::Done);
                }
                None => {
                    self.draining = false;
                    return Ok(Progress::Done);
                }
            }
        }
    }

    /// Joins the next rows of a batch, about a batch of output.
    fn join(&mut self, probe: &mut Probe, eval: &EvalContext) -> Result<()> {
        let mut rows: Vec<&[u8]> = Vec::new();
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        let from = probe.next_row;
        while probe.next_row < probe.batch.num_rows() && pairs.len() < TARGET_BATCH_ROWS {
            let found = probe.key_of[probe.next_row].and_then(|k| probe.found[k as usize].as_ref());
            for row in found.map(|f| f.iter()).into_iter().flatten() {
                pairs.push((probe.next_row as u32, rows.len() as u32));
                rows.push(row);
            }
            probe.next_row += 1;
        }
        let table = self.row_codec.decode(rows)?;
        let passes = self.builder.judge(0, &probe.batch.rows, &table, pairs.iter().copied(), eval)?;
        let mut pair = pairs.iter().enumerate().peekable();
        for row in from..probe.next_row {
            let (kind, mut matched) = (probe.batch.kind(row), false);
            while let Some((nth, &(_, candidate))) = pair.next_if(|(_, p)| p.0 as usize == row) {
                if passes.as_ref().is_none_or(|p| p.value(nth)) {
                    matched = true;
                    self.builder.push(kind, Source::Input(row as u32), Source::Found(candidate), 1);
                }
            }
            if !matched && self.spec.kind == JoinKind::Left {
                self.builder.push(kind, Source::Input(row as u32), Source::Null, 1);
            }
        }
        let append_only = probe.batch.kinds.is_none();
        if let Some(batch) = self.builder.build(0, &probe.batch.rows, &table, append_only)? {
            self.pending.push(batch);
        }
        Ok(())
    }

    /// Appended rows without an answer go into the snapshot; a changelog is waited for.
    fn before_barrier(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        if self.spec.input_mode != ChangelogMode::Append {
            self.draining = true;
            return self.run(ctx);
        }
        let rows = self.waiting.iter().filter_map(|w| match w {
            Waiting::Rows(p) => Some(encode_batch(&p.batch.slice(p.next_row, p.batch.num_rows() - p.next_row))),
            Waiting::Signal(_) => None,
        });
        let items = rows.collect::<Result<_>>()?;
        ctx.operator_state.set(STATE, Redistribution::Split, items);
        Ok(Progress::Done)
    }
}

impl Operator for LookupJoin {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        self.zone = session_zone(&ctx.config)?;
        self.cache = self.options.cache.map(Cache::new);
        let context = LookupContext {
            subtask: ctx.subtask,
            clock: Arc::clone(&ctx.clock),
            config: Arc::clone(&ctx.config),
            metrics: Arc::clone(&ctx.metrics),
        };
        let asking = Asking {
            source: Arc::clone(&self.source),
            context,
            shape: Shape { calc: Arc::clone(&self.calc), codec: self.row_codec.clone(), zone: self.zone },
            options: self.options,
            retry_miss: self.spec.options.retry_miss,
        };
        let threads = if self.spec.options.parallel { PARALLEL_THREADS } else { 1 };
        self.asker = Some(Asker::start(threads, &asking, ctx.out.waker())?);
        for item in ctx.operator_state.take(STATE) {
            let batch = decode_batch(&item)?;
            if batch.schema() != self.input {
                let text = format!("operator `{}`: rows kept in the checkpoint have other columns", ctx.name);
                return Err(Error::user("state.schema", text)
                    .detail(format!("found {}, expected {}", batch.schema(), self.input))
                    .hint("start the changed query without the old state"));
            }
            self.probe(batch, ctx)?;
            // Rows that need no answer leave at once.
            ctx.out.waker().wake();
        }
        Ok(OperatorProperties { forwards_watermarks: false, forwards_idleness: false })
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        self.probe(batch, ctx)?;
        self.run(ctx)
    }

    fn on_event(&mut self, event: OperatorEvent, ctx: &mut OperatorContext) -> Result<Progress> {
        match event {
            // What is said stays behind the rows that came before it.
            OperatorEvent::Watermark(time) => {
                match self.waiting.back_mut() {
                    Some(Waiting::Signal(Signal::Watermark(last))) => *last = time,
                    _ => self.waiting.push_back(Waiting::Signal(Signal::Watermark(time))),
                }
                self.run(ctx)
            }
            OperatorEvent::Idle => {
                self.waiting.push_back(Waiting::Signal(Signal::Idle));
                self.run(ctx)
            }
            OperatorEvent::Active => {
                self.waiting.push_back(Waiting::Signal(Signal::Active));
                self.run(ctx)
            }
            OperatorEvent::ProcessingTime(_) => self.run(ctx),
            OperatorEvent::BeforeBarrier(_) => self.before_barrier(ctx),
            OperatorEvent::EndOfData => {
                self.draining = true;
                self.run(ctx)
            }
            OperatorEvent::EndOfInput(_) => Ok(Progress::Done),
        }
    }

    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.run(ctx)
    }

    fn accepts_input(&self) -> bool {
        self.waiting.len() < 2 * BATCHES_MAX
    }

    fn is_settled(&self) -> bool {
        self.waiting.is_empty()
    }
}
