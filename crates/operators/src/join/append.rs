//! Inner join of two inputs that only append: each side is kept as lists by key, nothing is counted or found again. Never used
//! where a row can be retracted, padded or expire: that is `Join`.

use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::error::{Error, Result};
use flott_core::operator::{Operator, OperatorContext, OperatorProperties, Progress, TARGET_BATCH_ROWS};
use flott_core::sink::ChangelogMode;
use flott_core::state::{ByteRows, NO_SLOT, Slot, StateBackend};
use flott_core::types::Column;
use flott_expr::EvalContext;
use flott_plan::{JoinKind, RegularJoinSpec};

use super::dated::Dated;
use super::store::Rows;
use super::{Builder, Source};

#[cfg(test)]
mod tests;

use crate::emit::Pending;
use crate::zone::session_zone;

/// All rows lie in one namespace.
const NAMESPACE: i64 = 0;

/// A batch that is being joined.
struct Work {
    port: usize,
    batch: ChangeBatch,
    /// Where the matches of each row begin.
    heads: Vec<Slot>,
    next_row: usize,
    /// Where to go on with the matches of `next_row`.
    from: Slot,
}

/// The operator.
pub(crate) struct AppendJoin {
    sides: [Dated; 2],
    builder: Builder,
    zone: chrono_tz::Tz,
    work: Option<Work>,
    /// Matches of the rows in `pairs`, one each.
    found: Vec<Slot>,
    pairs: Vec<u32>,
    scratch: ByteRows,
    pending: Pending,
}

impl AppendJoin {
    /// Whether a join is of this kind.
    pub(crate) fn fits(spec: &RegularJoinSpec) -> bool {
        let appends = spec.left_mode == ChangelogMode::Append && spec.right_mode == ChangelogMode::Append;
        spec.join.kind == JoinKind::Inner && appends && spec.left_ttl_ms.is_none() && spec.right_ttl_ms.is_none()
    }

    /// The operator of a description that fits.
    pub(crate) fn new(spec: &RegularJoinSpec, output: &[Column]) -> Result<Self> {
        let join = &spec.join;
        Ok(AppendJoin {
            sides: [
                Dated::new("left", &join.left, &join.left_keys, false)?,
                Dated::new("right", &join.right, &join.right_keys, false)?,
            ],
            builder: Builder::new(join, output)?,
            zone: chrono_tz::UTC,
            work: None,
            found: Vec::new(),
            pairs: Vec::new(),
            scratch: ByteRows::default(),
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
            self.emit(&work, ctx)?;
            if work.next_row < work.heads.len() {
                self.work = Some(work);
            }
        }
    }

    /// Reads matches until there are enough for a batch of output.
    fn collect(&mut self, work: &mut Work, state: &mut dyn StateBackend) -> Result<()> {
        let lists = self.sides[1 - work.port].lists(state)?;
        while work.next_row < work.heads.len() && self.found.len() < TARGET_BATCH_ROWS {
            let (head, row) = (work.heads[work.next_row], work.next_row as u32);
            if head != NO_SLOT {
                let from = if work.from == NO_SLOT { head } else { work.from };
                work.from = lists.read(head, from, TARGET_BATCH_ROWS - self.found.len(), &mut self.found);
                self.pairs.resize(self.found.len(), row);
                if work.from != NO_SLOT {
                    break;
                }
            }
            work.next_row += 1;
        }
        Ok(())
    }

    /// Judges the pairs and builds output of those that pass.
    fn emit(&mut self, work: &Work, ctx: &mut OperatorContext) -> Result<()> {
        if self.pairs.is_empty() {
            return Ok(());
        }
        let (port, rows) = (work.port, &work.batch.rows);
        let other = &self.sides[1 - port];
        let found = other.decode(&other.view(&mut *ctx.state)?, self.found.iter().copied(), &mut self.scratch)?;
        let pairs = self.pairs.iter().enumerate().map(|(i, row)| (*row, i as u32));
        let passes = self.builder.judge(port, rows, &found, pairs.clone(), &EvalContext::of(ctx, self.zone))?;
        for (row, i) in pairs.filter(|(_, i)| passes.as_ref().is_none_or(|p| p.value(*i as usize))) {
            self.builder.push(RowKind::Insert, Source::Input(row), Source::Found(i), 1);
        }
        if let Some(batch) = self.builder.build(port, rows, &found, true)? {
            self.pending.push(batch);
        }
        self.found.clear();
        self.pairs.clear();
        Ok(())
    }
}

impl Operator for AppendJoin {
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
        let of: Vec<usize> = (0..keys.keys.len()).filter(|r| !keys.has_null[*r]).collect();
        let max_parallelism = ctx.max_parallelism;
        let namespaces = vec![NAMESPACE; of.len()];
        let rows = Rows { rows: &batch.rows, keys: &keys.keys, of: &of, namespaces: &namespaces, max_parallelism };
        side.insert(&rows, &mut *ctx.state, &mut |_, _| {})?;
        let mut heads = Vec::with_capacity(keys.keys.len());
        self.sides[1 - port].lists(&mut *ctx.state)?.find(NAMESPACE, &keys.keys, &mut heads);
        heads.iter_mut().zip(&keys.has_null).filter(|(_, null)| **null).for_each(|(head, _)| *head = NO_SLOT);
        self.work = Some(Work { port, batch, heads, next_row: 0, from: NO_SLOT });
        self.run(ctx)
    }

    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        self.run(ctx)
    }
}
