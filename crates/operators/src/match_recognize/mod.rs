//! MATCH_RECOGNIZE: rows wait for the watermark, then pass through the automaton of their key in the order of their times. Late rows are
//! counted and dropped; what no match under way holds is forgotten.

mod accumulate;
mod columns;
mod condition;
mod measures;
mod program;
mod sequence;
mod waiting;
mod work;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use flott_core::batch::ChangeBatch;
use flott_core::error::{Error, Result};
use flott_core::keys::RowCodec;
use flott_core::operator::{Operator, OperatorContext, OperatorEvent, OperatorProperties, Progress};
use flott_core::state::{KeyBatch, TableDescriptor, TableId, TableKind};
use flott_core::types::{Column, arrow_schema};
use flott_expr::EvalContext;
use flott_plan::pattern::{AfterMatch, MatchSpec};

use crate::emit::Pending;
use crate::group_aggregate::{encode_keys, key_codec};
use crate::keyed::KeyedRows;
use crate::pattern::{Element, Nfa, Pattern, Scratch, SkipTo};
use crate::rank::{Sequence as RowNumbers, Sorter};
use crate::source_transform::null_rowtime;
use crate::window::Tracker;
use crate::zone::{ZoneShift, session_zone};
use measures::{Measures, Plan};
use program::{Program, Rows};
use sequence::Sequence;
use waiting::{Due, Waiting};
use work::Keys;

/// Rows, or keys, that are worked on at once; more of one key group wait for the next turn.
const AT_ONCE: usize = 16_384;

/// The operator. State: rows ahead of the watermark; by key, the matches under way with their rows; when keys are to be looked at.
pub(crate) struct MatchRecognize {
    spec: MatchSpec,
    time_name: String,
    nfa: Nfa,
    program: Arc<Program>,
    measures: Measures,
    rows: KeyedRows,
    key_codec: RowCodec,
    kept_codec: RowCodec,
    kept_schema: SchemaRef,
    input: SchemaRef,
    sorter: Sorter,
    numbers: RowNumbers,
    tracker: Tracker,
    unshifted: ZoneShift,
    eval: EvalContext,
    waiting: Waiting,
    timers: Waiting,
    matches: Option<TableId>,
    target: i64,
    pending: Pending,
    scratch: Scratch,
    pool: Vec<Sequence>,
}

fn automaton(spec: &MatchSpec) -> Nfa {
    let element = |v: &flott_plan::pattern::PatternVariable| Element {
        name: v.name.clone(),
        min: v.min,
        max: v.max,
        greedy: v.greedy,
    };
    Nfa::compile(Pattern {
        elements: spec.variables.iter().map(element).collect(),
        within_ms: spec.within_ms,
        skip: match spec.skip {
            AfterMatch::PastLastRow => SkipTo::PastLast,
            AfterMatch::ToNextRow => SkipTo::Next,
            AfterMatch::ToFirst(v) => SkipTo::First(v as u16),
            AfterMatch::ToLast(v) => SkipTo::Last(v as u16),
        },
    })
}

impl MatchRecognize {
    /// Compiles the pattern, its conditions and its measures.
    pub(crate) fn new(spec: &MatchSpec, input: &[Column], output: &[Column]) -> Result<Self> {
        let plan = Plan::new(spec);
        let mut measures = None;
        let program = Program::compile(spec, input, &mut |builder| {
            measures = Some(plan.compile(builder, output)?);
            Ok(())
        })?;
        let kept_codec = key_codec(input, &program.kept)?;
        Ok(MatchRecognize {
            time_name: spec.time.map_or(String::new(), |t| input[t].name.clone()),
            nfa: automaton(spec),
            measures: measures.ok_or_else(|| Error::bug("measures were not compiled"))?,
            rows: KeyedRows::new(&spec.partition, input)?,
            key_codec: key_codec(input, &spec.partition)?,
            kept_codec,
            kept_schema: Rows::schema(input, &program.kept),
            input: arrow_schema(input),
            sorter: Sorter::new(&spec.order, input)?,
            numbers: RowNumbers::default(),
            tracker: Tracker::new(),
            unshifted: ZoneShift::new(None)?,
            eval: EvalContext::new(0, chrono_tz::UTC),
            waiting: Waiting::new("waiting"),
            timers: Waiting::new("timers"),
            matches: None,
            target: i64::MIN,
            pending: Pending::default(),
            scratch: Scratch::default(),
            pool: Vec::new(),
            program: Arc::new(program),
            spec: spec.clone(),
        })
    }

    fn matches_schema(&self) -> String {
        let kept: Vec<String> = self.kept_schema.fields().iter().map(|f| f.data_type().to_string()).collect();
        let pattern: Vec<String> = self
            .spec
            .variables
            .iter()
            .map(|v| format!("{}{{{},{:?}}}{}", v.name, v.min, v.max, if v.greedy { "" } else { "?" }))
            .collect();
        format!("{};rows({});pattern({})", sequence::SCHEMA, kept.join(","), pattern.join(" "))
    }

    /// Puts rows where they wait for the watermark; late ones are dropped.
    fn wait(&mut self, batch: &ChangeBatch, time: usize, ctx: &mut OperatorContext) -> Result<()> {
        let column = batch.rows.column(time);
        if column.null_count() > 0 {
            return Err(null_rowtime(&self.time_name));
        }
        let Some(times) = column.as_primitive_opt::<TimestampMillisecondType>() else {
            return Err(Error::bug(format!("a time attribute of type {}", column.data_type())));
        };
        let mut keys = KeyBatch::default();
        let columns: Vec<ArrayRef> = self.spec.partition.iter().map(|&p| batch.rows.column(p).clone()).collect();
        encode_keys(&self.key_codec, &columns, batch.num_rows(), ctx.max_parallelism, &mut keys)?;
        let (mut offsets, mut bytes) = (Vec::new(), Vec::new());
        self.rows.codec().encode_rows(batch.rows.columns(), &mut offsets, &mut bytes)?;
        let sorted = self.sorter.convert(&batch.rows)?;
        let mut late = 0;
        for (row, &time) in times.values().iter().enumerate() {
            let end = time.saturating_add(1);
            if self.tracker.has_fired(end, &self.unshifted)
                || (self.tracker.some_fired(end, &self.unshifted)
                    && self.tracker.fired_before(end, keys.key(row), &self.unshifted))
            {
                late += 1;
                continue;
            }
            let number = self.numbers.next().to_be_bytes();
            let value = &bytes[offsets[row] as usize..offsets[row + 1] as usize];
            self.waiting.put(keys.groups[row], time, &[sorted.key(row), &number], value, &mut *ctx.state)?;
        }
        ctx.metrics.late_dropped.add(late);
        Ok(())
    }

    /// Works on what is due, as far as there is room.
    fn run(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        loop {
            if self.pending.flush(&mut ctx.out) == Progress::Blocked {
                return Ok(Progress::Blocked);
            }
            if !self.due_rows(ctx)? && !self.due_keys(ctx)? {
                break;
            }
        }
        if self.spec.time.is_some() {
            self.tracker.progress = self.tracker.progress.max(self.target);
        } else if let Some(next) = self.timers.earliest() {
            ctx.out.wake_at(next);
        }
        Ok(Progress::Done)
    }

    /// Works on rows that are due; whether there were any.
    fn due_rows(&mut self, ctx: &mut OperatorContext) -> Result<bool> {
        let mut due: Vec<Due> = Vec::new();
        let mut all = true;
        while all
            && due.len() < AT_ONCE
            && let Some(group) = self.waiting.due_group(self.target)
        {
            all = self.waiting.take(group, self.target, AT_ONCE - due.len(), &mut *ctx.state, &mut due)?;
        }
        if due.is_empty() {
            return Ok(false);
        }
        let columns = self.rows.codec().decode(due.iter().map(|d| &*d.value))?;
        let options = RecordBatchOptions::new().with_row_count(Some(due.len()));
        let batch = ChangeBatch::append(RecordBatch::try_new_with_options(self.input.clone(), columns, &options)?);
        let times: Vec<i64> = due.iter().map(|d| d.time).collect();
        self.take_rows(&batch, &times, all.then_some(self.target), ctx)?;
        Ok(true)
    }

    /// Works on keys that asked to be looked at by now; whether there were any.
    fn due_keys(&mut self, ctx: &mut OperatorContext) -> Result<bool> {
        let Some(group) = self.timers.due_group(self.target) else { return Ok(false) };
        let mut due: Vec<Due> = Vec::new();
        self.timers.take(group, self.target, AT_ONCE, &mut *ctx.state, &mut due)?;
        due.sort_by(|a, b| a.name.cmp(&b.name));
        due.dedup_by(|later, first| later.name == first.name);
        let keys: Vec<_> = due.iter().map(|d| (group, d.name.as_slice())).collect();
        let timers: Vec<i64> = due.iter().map(|d| d.time).collect();
        let empty = RecordBatch::new_empty(self.kept_schema.clone());
        let work = Keys { keys: &keys, rows: &[], starts: &[], batch: &empty, times: &[], due: Some(&timers) };
        self.work(&work, Some(self.target), ctx)?;
        Ok(true)
    }

    /// Works on rows that are in the order of their times; `end`: no more rows up to then.
    fn take_rows(
        &mut self,
        batch: &ChangeBatch,
        times: &[i64],
        end: Option<i64>,
        ctx: &mut OperatorContext,
    ) -> Result<()> {
        let grouped = self.rows.group(batch, ctx.max_parallelism, false)?;
        let keys: Vec<_> = (0..grouped.len()).map(|g| grouped.key(g)).collect();
        let (mut rows, mut starts) = (Vec::with_capacity(batch.num_rows()), vec![0]);
        let by_processing_time = self.spec.time.is_none() && !self.spec.order.is_empty();
        let sorted = self.sorter.convert(&batch.rows)?;
        for gid in 0..grouped.len() {
            let from = rows.len();
            rows.extend(grouped.rows(gid));
            if by_processing_time {
                rows[from..].sort_by(|a, b| sorted.key(*a).cmp(sorted.key(*b)));
            }
            starts.push(rows.len());
        }
        let kept = batch.rows.project(&self.program.kept)?;
        let kept = RecordBatch::try_new_with_options(
            self.kept_schema.clone(),
            kept.columns().to_vec(),
            &RecordBatchOptions::new().with_row_count(Some(batch.num_rows())),
        )?;
        let work = Keys { keys: &keys, rows: &rows, starts: &starts, batch: &kept, times, due: None };
        self.work(&work, end, ctx)
    }
}

impl Operator for MatchRecognize {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        let groups = ctx.key_groups();
        let rows = format!("{},number:{}", self.sorter.schema(), self.rows.types);
        self.waiting.open(&rows, groups, &mut *ctx.state)?;
        self.timers.open("key", groups, &mut *ctx.state)?;
        let (name, kind, schema) = ("matches".to_owned(), TableKind::Values, self.matches_schema());
        self.matches = Some(ctx.state.register(&TableDescriptor { name, kind, schema, ttl: None })?);
        self.numbers.open(ctx)?;
        self.tracker.open(ctx)?;
        self.eval.zone = session_zone(&ctx.config)?;
        if self.spec.time.is_none()
            && let Some(next) = self.timers.earliest()
        {
            ctx.out.wake_at(next);
        }
        Ok(OperatorProperties::default())
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        if let Some(time) = self.spec.time {
            self.wait(&batch, time, ctx)?;
            return Ok(Progress::Done);
        }
        let now = ctx.clock.now_ms();
        self.target = self.target.max(now);
        let times = vec![self.target; batch.num_rows()];
        self.take_rows(&batch, &times, Some(self.target), ctx)?;
        self.run(ctx)
    }

    fn on_event(&mut self, event: OperatorEvent, ctx: &mut OperatorContext) -> Result<Progress> {
        match event {
            OperatorEvent::Watermark(watermark) if self.spec.time.is_some() => self.target = watermark.0,
            OperatorEvent::ProcessingTime(now) if self.spec.time.is_none() => self.target = self.target.max(now),
            OperatorEvent::BeforeBarrier(_) => {
                self.tracker.store(ctx);
                self.numbers.store(ctx);
                return Ok(Progress::Done);
            }
            _ => return Ok(Progress::Done),
        }
        self.run(ctx)
    }

    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.run(ctx)
    }
}
