//! Regular join: over the whole history of both sides, for appended rows and changelogs. Probes the other side's state row by row of
//! a batch, builds output column at a time; a batch that explodes is resumable. Never keeps rows with a NULL key.

mod append;
mod chains;
mod dated;
mod expiring;
mod interval;
mod output;
mod rows;
mod side;
mod store;
mod temporal;
mod window;

#[cfg(test)]
mod tests;

use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::error::{Error, Result};
use flott_core::operator::{Operator, OperatorContext, OperatorProperties, Progress, TARGET_BATCH_ROWS};
use flott_core::sink::ChangelogMode;
use flott_core::state::{StateBackend, Ttl};
use flott_core::types::Column;
use flott_expr::EvalContext;
use flott_plan::{JoinKind, RegularJoinSpec};

use crate::emit::Pending;
use crate::zone::session_zone;
pub(crate) use append::AppendJoin;
pub(crate) use interval::IntervalJoin;
pub(crate) use output::{Builder, Source};
use side::{Candidate, Changes, Id, Key, Side};
use store::Keys;
pub(crate) use temporal::TemporalJoin;
pub(crate) use window::WindowJoin;

/// Entries read from a row's matches at a time.
const SCAN_ENTRIES: usize = 1024;

/// The operator.
pub(crate) struct Join {
    kind: JoinKind,
    /// Sides whose rows appear depending on whether they have a match: their matches are counted.
    outer: [bool; 2],
    append_only: bool,
    sides: [Side; 2],
    builder: Builder,
    zone: chrono_tz::Tz,
    work: Option<Work>,
    steps: Vec<Step>,
    candidates: Vec<Candidate>,
    /// Matches so far of the row whose candidates are being judged.
    row_matches: i64,
    pending: Pending,
}

/// A batch that is being joined.
struct Work {
    port: usize,
    batch: ChangeBatch,
    keys: Keys,
    next_row: usize,
    /// The last match seen of `next_row`.
    after: Option<Id>,
    /// Matches of the rows that are done, where they are counted.
    matches: Vec<i64>,
}

/// What happens in order once the condition has judged the candidates.
enum Step {
    /// Row and candidate may match.
    Pair { row: usize, candidate: usize },
    /// All candidates of the row were seen.
    End { row: usize },
}

impl Join {
    /// The operator of a description.
    pub(crate) fn new(spec: &RegularJoinSpec, output: &[Column]) -> Result<Self> {
        let join = &spec.join;
        let append = spec.left_mode == ChangelogMode::Append && spec.right_mode == ChangelogMode::Append;
        let ttl = |ms: Option<i64>| ms.map(|ttl_ms| Ttl { ttl_ms, update_on_read: false });
        Ok(Join {
            kind: join.kind,
            outer: [join.kind.left_outer(), join.kind.right_outer()],
            append_only: append && matches!(join.kind, JoinKind::Inner | JoinKind::Semi),
            sides: [
                Side::new("left", &join.left, &join.left_keys, ttl(spec.left_ttl_ms))?,
                Side::new("right", &join.right, &join.right_keys, ttl(spec.right_ttl_ms))?,
            ],
            builder: Builder::new(join, output)?,
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
            self.judge(&mut work, ctx)?;
            if work.next_row < work.batch.num_rows() {
                self.work = Some(work);
                continue;
            }
            // Rows of one input do not meet each other: they go into state together.
            let Work { port, batch, keys, matches, .. } = &work;
            let (keys, null_key, max_parallelism) = (&keys.keys, keys.has_null.as_slice(), ctx.max_parallelism);
            let changes = Changes { batch, keys, null_key, matches, max_parallelism };
            self.sides[*port].apply(&changes, &mut *ctx.state)?;
        }
    }

    /// Collects candidates until there are enough for a batch of output.
    fn collect(&mut self, work: &mut Work, state: &mut dyn StateBackend) -> Result<()> {
        let other = &self.sides[1 - work.port];
        while work.next_row < work.batch.num_rows() && self.candidates.len() < TARGET_BATCH_ROWS {
            let row = work.next_row;
            if !work.keys.has_null[row] {
                let first = self.candidates.len();
                let found = &mut self.candidates;
                let more = other.matches(work.key(row), work.after.as_ref(), SCAN_ENTRIES, found, state)?;
                self.steps.extend((first..self.candidates.len()).map(|candidate| Step::Pair { row, candidate }));
                if more {
                    work.after = self.candidates.last().map(|c| c.id.clone());
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
    fn judge(&mut self, work: &mut Work, ctx: &mut OperatorContext) -> Result<()> {
        let other = &self.sides[1 - work.port];
        let found = other.decode(&self.candidates, &mut *ctx.state)?;
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
                Step::End { row } => self.ended(work, row),
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

    /// Inner joins keep the kinds of their input; where padding comes and goes, rows are inserted and deleted.
    fn kind(&self, work: &Work, row: usize) -> RowKind {
        match work.batch.kind(row) {
            kind if self.kind == JoinKind::Inner => kind,
            kind if kind.is_add() => RowKind::Insert,
            _ => RowKind::Delete,
        }
    }

    /// A row of the batch and a row in state match.
    fn matched(&mut self, work: &Work, row: usize, candidate: usize, state: &mut dyn StateBackend) -> Result<()> {
        let kind = self.kind(work, row);
        let (input, found) = (Source::Input(row as u32), Source::Found(candidate as u32));
        let other = 1 - work.port;
        let known = &self.candidates[candidate].counts;
        self.row_matches += known.rows;
        if !self.outer[other] {
            if self.kind.projects_right() {
                self.builder.push(kind, input, found, known.rows);
            }
            return Ok(());
        }
        let (key, id) = (work.key(row), &self.candidates[candidate].id);
        // An earlier row of the batch may have changed it.
        let Some(mut counts) = self.sides[other].get(key, id, state)? else { return Ok(()) };
        let before = counts.matches;
        counts.matches = if kind.is_add() { before + 1 } else { (before - 1).max(0) };
        let turns = (before == 0) != (counts.matches == 0);
        let alone = match self.kind {
            JoinKind::Semi if kind.is_add() => RowKind::Insert,
            JoinKind::Semi => RowKind::Delete,
            _ if kind.is_add() => RowKind::Delete,
            _ => RowKind::Insert,
        };
        if turns && kind.is_add() {
            self.builder.push(alone, found, Source::Null, counts.rows);
        }
        if self.kind.projects_right() {
            self.builder.push(kind, found, input, counts.rows);
        }
        if turns && !kind.is_add() {
            self.builder.push(alone, found, Source::Null, counts.rows);
        }
        self.sides[other].put(key, id, counts, state)
    }

    /// All matches of a row are known: it may appear alone.
    fn ended(&mut self, work: &mut Work, row: usize) {
        let matches = std::mem::take(&mut self.row_matches);
        if !self.outer[work.port] {
            return;
        }
        if (matches > 0) == (self.kind == JoinKind::Semi) {
            let kind = self.kind(work, row);
            self.builder.push(kind, Source::Input(row as u32), Source::Null, 1);
        }
        work.matches.push(matches);
    }
}

impl Work {
    fn key(&self, row: usize) -> Key<'_> {
        let keys = &self.keys.keys;
        Key { group: keys.groups[row], hash: keys.hashes[row], bytes: keys.key(row) }
    }
}

impl Operator for Join {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        self.zone = session_zone(&ctx.config)?;
        for side in &mut self.sides {
            side.open(&mut *ctx.state)?;
        }
        Ok(OperatorProperties::default())
    }

    fn process(&mut self, port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        let side = self.sides.get(port).ok_or_else(|| Error::bug(format!("a join has no input {port}")))?;
        let keys = side.keys(&batch.rows, ctx.max_parallelism)?;
        self.work = Some(Work { port, batch, keys, next_row: 0, after: None, matches: Vec::new() });
        self.run(ctx)
    }

    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.run(ctx)
    }
}
