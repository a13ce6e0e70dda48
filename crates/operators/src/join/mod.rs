//! Regular join: INNER and LEFT over the whole history of both sides, for appended rows and changelogs. Probes the other
//! side's state row by row of a batch, builds output column at a time; a batch that explodes is resumable.

mod output;
mod side;

#[cfg(test)]
mod tests;

use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::error::{Error, Result};
use flott_core::operator::{Operator, OperatorContext, OperatorProperties, Progress, TARGET_BATCH_ROWS};
use flott_core::sink::ChangelogMode;
use flott_core::state::{KeyBatch, StateBackend, Ttl};
use flott_core::types::Column;
use flott_expr::EvalContext;
use flott_plan::spec::{JoinKind, OperatorSpec};

use crate::emit::Pending;
use crate::zone::session_zone;
pub(crate) use output::{Builder, Source};
use side::{Counts, Side};

/// Entries read from a row's matches at a time.
const SCAN_ENTRIES: usize = 1024;

/// The operator.
pub(crate) struct Join {
    left_outer: bool,
    append_only: bool,
    ttl: Option<Ttl>,
    sides: [Side; 2],
    builder: Builder,
    zone: chrono_tz::Tz,
    work: Option<Work>,
    steps: Vec<Step>,
    candidates: Vec<(Vec<u8>, Counts)>,
    /// Matches so far of the row whose candidates are being judged.
    row_matches: i64,
    pending: Pending,
}

/// A batch that is being joined.
struct Work {
    port: usize,
    batch: ChangeBatch,
    keys: KeyBatch,
    /// Rows with a NULL in a key column match nothing.
    null_key: Vec<bool>,
    next_row: usize,
    /// The last match seen of `next_row`.
    after: Option<Vec<u8>>,
}

/// What happens in order once the condition has judged the candidates.
enum Step {
    /// Row and candidate may match.
    Pair { row: usize, candidate: usize },
    /// All candidates of the row were seen.
    End { row: usize },
}

impl Join {
    /// The operator for a [`OperatorSpec::Join`].
    pub(crate) fn new(spec: &OperatorSpec, output: &[Column]) -> Result<Self> {
        let OperatorSpec::Join { kind, left_keys, right_keys, condition, left, right, left_mode, right_mode, ttl_ms } =
            spec
        else {
            return Err(Error::bug("a join is built from a join's description"));
        };
        let left_outer = *kind == JoinKind::Left;
        let append = *left_mode == ChangelogMode::Append && *right_mode == ChangelogMode::Append;
        Ok(Join {
            left_outer,
            append_only: append && !left_outer,
            ttl: ttl_ms.map(|ttl_ms| Ttl { ttl_ms, update_on_read: false }),
            sides: [Side::new("left", left, left_keys)?, Side::new("right", right, right_keys)?],
            builder: Builder::new(left, right, condition.as_ref(), output)?,
            zone: chrono_tz::UTC,
            work: None,
            steps: Vec::new(),
            candidates: Vec::new(),
            row_matches: 0,
            pending: Pending::default(),
        })
    }

    fn run(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        loop {
            if self.pending.flush(&mut ctx.out) == Progress::Blocked {
                return Ok(Progress::Blocked);
            }
            let Some(mut work) = self.work.take() else { return Ok(Progress::Done) };
            self.collect(&mut work, &mut *ctx.state)?;
            self.judge(&work, ctx)?;
            if work.next_row < work.batch.num_rows() {
                self.work = Some(work);
            }
        }
    }

    /// Collects candidates until there are enough for a batch of output.
    fn collect(&mut self, work: &mut Work, state: &mut dyn StateBackend) -> Result<()> {
        let other = &self.sides[1 - work.port];
        while work.next_row < work.batch.num_rows() && self.candidates.len() < TARGET_BATCH_ROWS {
            let row = work.next_row;
            if !work.null_key[row] {
                let (group, key) = (work.keys.groups[row], work.keys.key(row));
                let first = self.candidates.len();
                let more =
                    other.matches(group, key, work.after.as_deref(), SCAN_ENTRIES, &mut self.candidates, state)?;
                self.steps.extend((first..self.candidates.len()).map(|candidate| Step::Pair { row, candidate }));
                if more {
                    work.after = self.candidates.last().map(|c| c.0.clone());
                    continue;
                }
            }
            self.steps.push(Step::End { row });
            work.after = None;
            work.next_row += 1;
            // A row may match rows of its own batch's other side only through state: nothing to flush in between.
            if self.steps.len() >= 2 * TARGET_BATCH_ROWS {
                break;
            }
        }
        Ok(())
    }

    /// Judges the candidates and does what follows, in order.
    fn judge(&mut self, work: &Work, ctx: &mut OperatorContext) -> Result<()> {
        let other = &self.sides[1 - work.port];
        let found = other.decode(self.candidates.iter().map(|c| c.0.as_slice()))?;
        let pairs = self.steps.iter().filter_map(|s| match s {
            Step::Pair { row, candidate } => Some((*row as u32, *candidate as u32)),
            Step::End { .. } => None,
        });
        let eval = EvalContext::of(ctx, self.zone);
        let passes = self.builder.judge(work.port, &work.batch.rows, &found, pairs, &eval)?;
        let (steps, mut nth) = (std::mem::take(&mut self.steps), 0);
        for step in &steps {
            match *step {
                Step::Pair { row, candidate } => {
                    if passes.as_ref().is_none_or(|p| p.value(nth)) {
                        self.matched(work, row, candidate, &mut *ctx.state)?;
                    }
                    nth += 1;
                }
                Step::End { row } => self.ended(work, row, &mut *ctx.state)?,
            }
        }
        if let Some(batch) = self.builder.build(work.port, &work.batch.rows, &found, self.append_only)? {
            self.pending.push(batch);
        }
        self.steps = steps;
        self.steps.clear();
        self.candidates.clear();
        Ok(())
    }

    fn kind(&self, work: &Work, row: usize) -> RowKind {
        match work.batch.kind(row) {
            kind if !self.left_outer => kind,
            kind if kind.is_add() => RowKind::Insert,
            _ => RowKind::Delete,
        }
    }

    /// A row of the batch and a row in state match.
    fn matched(&mut self, work: &Work, row: usize, candidate: usize, state: &mut dyn StateBackend) -> Result<()> {
        let kind = self.kind(work, row);
        let (input, found) = (Source::Input(row as u32), Source::Found(candidate as u32));
        let (entry, counts) = &self.candidates[candidate];
        if !(self.left_outer && work.port == 1) {
            self.row_matches += counts.rows;
            self.builder.push(kind, input, found, counts.rows);
            return Ok(());
        }
        let (group, key) = (work.keys.groups[row], work.keys.key(row));
        let Some(mut counts) = self.sides[0].get(group, key, entry, state)? else { return Ok(()) };
        let padded = |builder: &mut Builder, kind| builder.push(kind, found, Source::Null, counts.rows);
        if kind.is_add() {
            if counts.matches == 0 {
                padded(&mut self.builder, RowKind::Delete);
            }
            counts.matches += 1;
            self.builder.push(RowKind::Insert, found, input, counts.rows);
        } else {
            self.builder.push(RowKind::Delete, found, input, counts.rows);
            counts.matches = (counts.matches - 1).max(0);
            if counts.matches == 0 {
                self.builder.push(RowKind::Insert, found, Source::Null, counts.rows);
            }
        }
        self.sides[0].put(group, key, entry, counts, state)
    }

    /// All matches of a row are known: it goes into state, and appears alone if it is an outer row without any.
    fn ended(&mut self, work: &Work, row: usize, state: &mut dyn StateBackend) -> Result<()> {
        let matches = std::mem::take(&mut self.row_matches);
        let kind = self.kind(work, row);
        if self.left_outer && work.port == 0 && matches == 0 {
            self.builder.push(kind, Source::Input(row as u32), Source::Null, 1);
        }
        if work.null_key[row] {
            return Ok(());
        }
        let (group, key) = (work.keys.groups[row], work.keys.key(row));
        let matches = if self.left_outer && work.port == 0 { matches } else { 0 };
        self.sides[work.port].change(group, key, &work.batch.rows, row, kind.is_add(), matches, state)
    }
}

impl Operator for Join {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        self.zone = session_zone(&ctx.config)?;
        for side in &mut self.sides {
            side.open(self.ttl, &mut *ctx.state)?;
        }
        Ok(OperatorProperties::default())
    }

    fn process(&mut self, port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        let side = self.sides.get(port).ok_or_else(|| Error::bug(format!("a join has no input {port}")))?;
        let mut keys = KeyBatch::default();
        let null_key = side.encode(&batch.rows, ctx.max_parallelism, &mut keys)?;
        self.work = Some(Work { port, batch, keys, null_key, next_row: 0, after: None });
        self.run(ctx)
    }

    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.run(ctx)
    }
}
