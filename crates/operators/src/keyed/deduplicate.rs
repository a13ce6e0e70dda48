//! Deduplicate: the first row of each key by an order, over appended rows. Never deletes.

use arrow_schema::SchemaRef;
use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::error::{Error, Result};
use flott_core::operator::{Operator, OperatorContext, OperatorProperties, Progress};
use flott_core::state::FoundValues;
use flott_core::types::{Column, arrow_schema};
use flott_plan::spec::SortKey;

use super::{KeyedRows, Output, Values, Writes, push_prefixed, split_prefixed};
use crate::rank::Sorter;

/// What the plan says.
pub(crate) struct Options {
    /// Key columns.
    pub key: Vec<usize>,
    /// The order; none: that of coming.
    pub order: Vec<SortKey>,
    /// Among equal rows the last wins.
    pub keep_last: bool,
    /// Whether `-U` rows are wanted.
    pub update_before: bool,
    /// TTL of keys.
    pub ttl_ms: Option<i64>,
}

/// The operator. State: key → length and bytes of the sort key, then the row if it is needed for `-U`.
pub(crate) struct Deduplicate {
    options: Options,
    rows: KeyedRows,
    sorter: Sorter,
    schema: SchemaRef,
    values: Values,
    found: FoundValues,
    writes: Writes,
    /// The first row to come stays: nothing but the key is remembered.
    first_comes: bool,
}

impl Deduplicate {
    /// Rows of `columns`.
    pub(crate) fn new(options: Options, columns: &[Column]) -> Result<Self> {
        let first_comes = options.order.is_empty() && !options.keep_last;
        let rows = match options.update_before && !first_comes {
            true => KeyedRows::new(&options.key, columns)?,
            false => KeyedRows::keys_only(&options.key, columns)?,
        };
        let sorter = Sorter::new(&options.order, columns)?;
        let schema = format!("{},{}", sorter.schema(), rows.types);
        let values = Values::new(schema, options.ttl_ms);
        let (schema, found, writes) = (arrow_schema(columns), FoundValues::default(), Writes::default());
        Ok(Deduplicate { options, rows, sorter, schema, values, found, writes, first_comes })
    }
}

impl Operator for Deduplicate {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        self.values.open(&mut *ctx.state)?;
        Ok(OperatorProperties::default())
    }
    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        if batch.kinds.as_deref().is_some_and(|k| k.iter().any(|k| !k.is_add())) {
            let text = format!("operator `{}` was planned for appended rows and got a retraction", ctx.name);
            return Err(Error::bug(text));
        }
        let with_row = self.options.update_before && !self.first_comes;
        let grouped = self.rows.group(&batch, ctx.max_parallelism, with_row)?;
        let sorted = self.sorter.convert(&batch.rows)?;
        let (values, firsts) = (self.values.of(&mut *ctx.state)?, grouped.firsts());
        values.get_batch(0, &grouped.keys, &firsts, &mut self.found)?;
        let (mut out, mut value) = (Output::default(), Vec::new());
        for (gid, &first) in firsts.iter().enumerate() {
            let before = self.found.get(gid).map(split_prefixed).transpose()?;
            let mut winner: Option<usize> = None;
            for row in grouped.rows(gid) {
                let best = winner.map(|w| sorted.key(w)).or(before.map(|b| b.0));
                let wins = best.is_none_or(|b| match self.options.keep_last {
                    true => sorted.key(row) <= b,
                    false => sorted.key(row) < b,
                });
                if wins {
                    winner = Some(row);
                }
            }
            let Some(winner) = winner else { continue };
            match before {
                None => out.input(RowKind::Insert, winner),
                Some((_, row)) => {
                    if self.options.update_before {
                        out.stored(RowKind::UpdateBefore, row);
                    }
                    out.input(RowKind::UpdateAfter, winner);
                }
            }
            value.clear();
            push_prefixed(&mut value, sorted.key(winner))?;
            if with_row {
                value.extend_from_slice(grouped.bytes(winner));
            }
            self.writes.put(values, &grouped.keys, first, &value)?;
        }
        self.writes.finish(values, &grouped.keys)?;
        if let Some(batch) = out.build(Some(&batch.rows), self.rows.codec(), &self.schema)? {
            ctx.out.emit(batch);
        }
        Ok(Progress::Done)
    }
}
