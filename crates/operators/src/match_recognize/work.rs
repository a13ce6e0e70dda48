//! One turn over some keys: what they remember is loaded, their new rows are stepped through, what is left is stored. The rows of all
//! keys lie in one batch, so that everything but the automaton itself works on columns.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use flott_core::batch::ChangeBatch;
use flott_core::error::{Error, Result};
use flott_core::key_group::KeyGroup;
use flott_core::operator::OperatorContext;
use flott_expr::EvalContext;

use super::MatchRecognize;
use super::accumulate::Running;
use super::condition::Place;
use super::measures::Found;
use super::program::Rows;
use super::sequence::Sequence;
use crate::pattern::{Buffer, Conditions, Match};

/// Keys with their new rows.
pub(super) struct Keys<'a> {
    pub(super) keys: &'a [(KeyGroup, &'a [u8])],
    /// Rows of `batch`, by key.
    pub(super) rows: &'a [usize],
    /// Where the rows of each key begin, and the end; empty when there are no rows.
    pub(super) starts: &'a [usize],
    pub(super) batch: &'a RecordBatch,
    pub(super) times: &'a [i64],
    /// Without rows: the timer of each key that brought it here.
    pub(super) due: Option<&'a [i64]>,
}

impl Keys<'_> {
    fn rows(&self, key: usize) -> &[usize] {
        if self.starts.is_empty() { &[] } else { &self.rows[self.starts[key]..self.starts[key + 1]] }
    }
}

/// Answers the automaton for one key.
struct Judge<'a> {
    rows: &'a Rows,
    rows_of: &'a [u32],
    running: &'a mut Vec<Running>,
    eval: &'a EvalContext,
}

impl Conditions for Judge<'_> {
    fn holds(&mut self, buffer: &Buffer, variable: u16, tail: u32, event: u32) -> Result<bool> {
        let Some(condition) = &self.rows.program().conditions[usize::from(variable)] else { return Ok(true) };
        let (rows, rows_of, running, eval) = (self.rows, self.rows_of, &*self.running, self.eval);
        let place = Place { buffer, tail, event, variable, rows_of, rows, running, eval };
        Ok(condition.value(&place)?.truth() == Some(true))
    }

    fn taken(&mut self, buffer: &Buffer, node: u32) -> Result<()> {
        let width = self.rows.program().in_conditions;
        if width == 0 {
            return Ok(());
        }
        let node = buffer.node(node);
        for id in 0..width {
            let before = (node.previous as usize).checked_mul(width).and_then(|at| self.running.get(at + id));
            let mut running = before.cloned().unwrap_or_default();
            if self.rows.program().aggregates[id].reads(node.variable) {
                self.rows.accumulate(id, &mut running, self.rows_of[node.event as usize] as usize, self.eval)?;
            }
            self.running.push(running);
        }
        Ok(())
    }
}

impl MatchRecognize {
    /// Steps through the rows of `keys`; `end`: time goes on to then.
    pub(super) fn work(&mut self, keys: &Keys<'_>, end: Option<i64>, ctx: &mut OperatorContext) -> Result<()> {
        let table = self.matches.ok_or_else(|| Error::bug("an operator was used before it was opened"))?;
        self.eval = EvalContext::of(ctx, self.eval.zone);
        let mut stored: Vec<Option<Arc<[u8]>>> = Vec::with_capacity(keys.keys.len());
        for (group, key) in keys.keys {
            stored.push(ctx.state.values(table).get(0, *group, key)?);
        }
        let mut sequences = std::mem::take(&mut self.pool);
        if sequences.len() < keys.keys.len() {
            sequences.resize_with(keys.keys.len(), Sequence::default);
        }
        let mut old: Vec<&[u8]> = Vec::new();
        for (sequence, bytes) in sequences.iter_mut().zip(&stored) {
            match bytes {
                Some(bytes) => sequence.decode(&self.nfa, bytes, &mut old)?,
                None => sequence.begin(&self.nfa),
            }
        }
        let rows = self.rows(&old, keys.batch)?;
        let mut found = Found::default();
        let mut running = Vec::new();
        for (k, sequence) in sequences.iter_mut().take(keys.keys.len()).enumerate() {
            // A timer that the key has not asked for last was overtaken by another.
            if keys.due.is_some_and(|due| sequence.timer != Some(due[k])) {
                continue;
            }
            self.step(keys, k, (sequence, old.len()), end, (&rows, &mut running, &mut found))?;
        }
        self.store(keys, &stored, &mut sequences, &rows, end, ctx)?;
        if !found.is_empty() {
            let batch = self.measures.build(&found, &self.key_codec, &rows, &self.eval)?;
            self.pending.push(ChangeBatch::append(batch));
        }
        sequences.truncate(super::AT_ONCE);
        self.pool = sequences;
        Ok(())
    }

    /// Old rows, then new ones.
    fn rows(&self, old: &[&[u8]], new: &RecordBatch) -> Result<Rows> {
        let batch = if old.is_empty() {
            new.clone()
        } else {
            let columns = self.kept_codec.decode(old.iter().copied())?;
            let options = RecordBatchOptions::new().with_row_count(Some(old.len()));
            let before = RecordBatch::try_new_with_options(self.kept_schema.clone(), columns, &options)?;
            let both = |(a, b): (&ArrayRef, &ArrayRef)| -> Result<ArrayRef> {
                Ok(arrow_select::concat::concat(&[a.as_ref(), b.as_ref()])?)
            };
            let columns = before.columns().iter().zip(new.columns()).map(both).collect::<Result<Vec<_>>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(old.len() + new.num_rows()));
            RecordBatch::try_new_with_options(self.kept_schema.clone(), columns, &options)?
        };
        Rows::new(Arc::clone(&self.program), batch, &self.eval)
    }

    /// Steps one key through its rows.
    fn step(
        &mut self,
        keys: &Keys<'_>,
        k: usize,
        (sequence, first_new): (&mut Sequence, usize),
        end: Option<i64>,
        (rows, running, found): (&Rows, &mut Vec<Running>, &mut Found),
    ) -> Result<()> {
        let key = keys.keys[k].1;
        let mut matches: Vec<Match> = Vec::new();
        running.clear();
        let new = keys.rows(k);
        let Sequence { buffer, run, rows_of, .. } = sequence;
        let mut judge = Judge { rows, rows_of, running, eval: &self.eval };
        for node in 0..buffer.nodes().len() as u32 {
            judge.taken(buffer, node)?;
        }
        rows_of.extend(new.iter().map(|row| (first_new + row) as u32));
        let mut judge = Judge { rows, rows_of, running, eval: &self.eval };
        let mut last = None;
        for row in new {
            let time = keys.times[*row];
            if last.replace(time) != Some(time) {
                self.nfa.advance(run, buffer, time, &mut self.scratch, &mut matches)?;
            }
            let event = buffer.event(time);
            self.nfa.step(run, buffer, event, &mut judge, &mut self.scratch, &mut matches)?;
        }
        if let Some(end) = end {
            self.nfa.advance(run, buffer, end, &mut self.scratch, &mut matches)?;
        }
        for m in matches {
            self.measures.note(found, key, m, (buffer, rows_of), (rows, &self.eval))?;
        }
        Ok(())
    }

    /// Stores what the keys still remember, and when they are to be looked at.
    fn store(
        &mut self,
        keys: &Keys<'_>,
        stored: &[Option<Arc<[u8]>>],
        sequences: &mut [Sequence],
        rows: &Rows,
        end: Option<i64>,
        ctx: &mut OperatorContext,
    ) -> Result<()> {
        let table = self.matches.ok_or_else(|| Error::bug("an operator was used before it was opened"))?;
        let mut held: Vec<u32> = Vec::new();
        for ((group, key), sequence) in keys.keys.iter().zip(sequences.iter_mut()) {
            sequence.compact();
            held.extend(&sequence.rows_of);
            if sequence.timer.is_some_and(|t| end.is_some_and(|end| t <= end)) {
                sequence.timer = None;
            }
            if let Some(deadline) = self.nfa.deadline(&sequence.run, &sequence.buffer)
                && sequence.timer.is_none_or(|t| t > deadline)
            {
                sequence.timer = Some(deadline);
                self.timers.put(*group, deadline, &[key], &[], &mut *ctx.state)?;
            }
        }
        let (mut offsets, mut bytes) = (Vec::new(), Vec::new());
        if !self.program.kept.is_empty() && !held.is_empty() {
            let indices = UInt32Array::from(held);
            let taken = arrow_select::take::take_record_batch(rows.batch(), &indices)?;
            self.kept_codec.encode_rows(taken.columns(), &mut offsets, &mut bytes)?;
        }
        let (mut at, mut out) = (0, Vec::new());
        let values = ctx.state.values(table);
        for (k, ((group, key), sequence)) in keys.keys.iter().zip(sequences.iter()).enumerate() {
            if sequence.is_empty() {
                if stored[k].is_some() {
                    values.remove(0, *group, key)?;
                }
                continue;
            }
            out.clear();
            let row = |event: usize| match offsets.get(at + event..at + event + 2) {
                Some(range) => &bytes[range[0] as usize..range[1] as usize],
                None => &[],
            };
            sequence.encode(row, &mut out);
            at += sequence.rows_of.len();
            if stored[k].as_deref() != Some(&out) {
                values.put(0, *group, key, &out)?;
            }
        }
        Ok(())
    }
}
