//! Top-N: the first rows of each partition, over appended rows, changelogs, and windows. Each folds a batch to the difference of
//! the lists before and after; rows that are equal by the order keep the order they came in.

mod list;
mod packed;
mod places;
mod sorter;
mod window;

#[cfg(test)]
mod tests;

pub(crate) use list::{Entry, Sequence, load};
pub(crate) use places::{Places, open_list};
pub(crate) use sorter::Sorter;
pub(crate) use window::WindowTopN;

use arrow_schema::SchemaRef;
use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::error::{Error, Result};
use flott_core::operator::{Operator, OperatorContext, OperatorEvent, OperatorProperties, Progress};
use flott_core::sink::ChangelogMode;
use flott_core::state::{FoundValues, StateBackend, TableDescriptor, TableId, TableKind, Ttl};
use flott_core::types::{Column, arrow_schema};
use flott_plan::spec::SortKey;

use crate::emit::Pending;
use crate::keyed::{Grouped, KeyedRows, Output, Writes};
use list::{Item, Top, merge};
use packed::{Packed, ROWS_MAX};
use sorter::Sorted;

/// What the plan says of a Top-N.
#[derive(Clone)]
pub(crate) struct Options {
    /// PARTITION BY columns.
    pub partition: Vec<usize>,
    /// ORDER BY.
    pub order: Vec<SortKey>,
    /// Rows per partition.
    pub limit: u64,
    /// Whether the rank is a column.
    pub with_rank: bool,
    /// What the input holds.
    pub input_mode: ChangelogMode,
    /// Whether `-U` rows are wanted.
    pub update_before: bool,
    /// TTL of rows.
    pub ttl_ms: Option<i64>,
}

/// The operator. State of appended rows: partition → list, as one value if it is short; else, and where rows expire one by one,
/// partition → sort key and sequence number → row. State of a changelog: all rows in that way, and beside them partition → row → its
/// sequence numbers.
pub(crate) struct TopN {
    options: Options,
    limit: usize,
    rows: KeyedRows,
    sorter: Sorter,
    schema: SchemaRef,
    sequence: Sequence,
    top: Option<TableId>,
    places: Places,
    /// Whether the list of a partition is one value.
    packed: bool,
    found: FoundValues,
    writes: Writes,
    pending: Pending,
}

impl TopN {
    /// Top-N of rows of `input`.
    pub(crate) fn new(options: Options, input: &[Column], output: &[Column]) -> Result<Self> {
        let limit = usize::try_from(options.limit).unwrap_or(usize::MAX);
        Ok(TopN {
            packed: options.input_mode == ChangelogMode::Append && options.ttl_ms.is_none() && limit <= ROWS_MAX,
            limit,
            found: FoundValues::default(),
            writes: Writes::default(),
            rows: KeyedRows::new(&options.partition, input)?,
            sorter: Sorter::new(&options.order, input)?,
            schema: arrow_schema(output),
            sequence: Sequence::default(),
            top: None,
            places: Places::new(options.input_mode != ChangelogMode::Append),
            pending: Pending::default(),
            options,
        })
    }

    fn retracts(&self) -> bool {
        self.options.input_mode != ChangelogMode::Append
    }

    /// Appended rows, the list of a partition in one value.
    fn append_packed(&mut self, grouped: &Grouped, sorted: &Sorted, state: &mut dyn StateBackend) -> Result<Output> {
        let (values, firsts) = (state.values(opened(self.top)?), grouped.firsts());
        values.get_batch(0, &grouped.keys, &firsts, &mut self.found)?;
        let (mut out, mut value) = (Output::default(), Vec::new());
        let (mut before, mut after) = (Packed::default(), Top::new(self.limit));
        let bytes = |row| grouped.bytes(row);
        for (gid, first) in firsts.iter().enumerate() {
            before.read(self.found.get(gid))?;
            after.begin(before.sorts());
            for row in grouped.rows(gid) {
                after.offer(sorted.key(row), row);
            }
            if !after.changed() {
                continue;
            }
            before.write(after.items(), &bytes, &mut value)?;
            self.writes.put(values, &grouped.keys, *first, &value)?;
            match self.options.with_rank {
                true => differ_by_rank(
                    self.options.update_before,
                    before.rows().iter().copied(),
                    after.items().iter().map(|(_, item)| before.row(*item, &bytes)),
                    &mut out,
                ),
                false => differ_packed(&before, after.items(), &bytes, &mut out),
            }
        }
        self.writes.finish(values, &grouped.keys)?;
        Ok(out)
    }

    /// Appended rows: only what is in the list matters.
    fn append(&mut self, grouped: &Grouped, sorted: &Sorted, state: &mut dyn StateBackend) -> Result<Output> {
        let table = opened(self.top)?;
        let mut out = Output::default();
        for gid in 0..grouped.len() {
            let (group, key) = grouped.key(gid);
            let before = load(state.map(table), 0, group, key, self.limit)?;
            let mut after = Top::new(self.limit);
            after.begin(before.iter().map(Entry::sort));
            for row in grouped.rows(gid) {
                after.offer(sorted.key(row), row);
            }
            let after = after.finish(&before, &mut self.sequence, |row| grouped.bytes(row));
            merge(state.map(table), 0, group, key, &before, &after)?;
            self.differ(&before, &after, &mut out);
        }
        Ok(out)
    }

    /// A changelog: every row is kept, so that the next one can move up.
    fn change(
        &mut self,
        batch: &ChangeBatch,
        grouped: &Grouped,
        sorted: &Sorted,
        state: &mut dyn StateBackend,
    ) -> Result<Output> {
        let table = opened(self.top)?;
        let mut out = Output::default();
        for gid in 0..grouped.len() {
            let (group, key) = grouped.key(gid);
            let before = load(state.map(table), 0, group, key, self.limit)?;
            for row in grouped.rows(gid) {
                let at = (group, key, sorted.key(row), grouped.bytes(row));
                match batch.kind(row).is_add() {
                    true => self.places.add(table, at, &mut self.sequence, state)?,
                    false => self.places.remove(table, at, state)?,
                }
            }
            let after = load(state.map(table), 0, group, key, self.limit)?;
            self.differ(&before, &after, &mut out);
        }
        Ok(out)
    }

    /// What became of the list.
    fn differ(&self, before: &[Entry], after: &[Entry], out: &mut Output) {
        if self.options.with_rank {
            return differ_by_rank(self.options.update_before, rows_of(before), rows_of(after), out);
        }
        // Both are sorted by name: one walk finds what left and what came.
        let mut came = Vec::new();
        let (mut b, mut a) = (before.iter().peekable(), after.iter().peekable());
        loop {
            match (b.peek(), a.peek()) {
                (Some(old), Some(new)) if old.name == new.name => {
                    b.next();
                    a.next();
                }
                (Some(old), new) if new.is_none_or(|new| old.name < new.name) => {
                    out.stored(RowKind::Delete, &old.row);
                    b.next();
                }
                (_, Some(new)) => {
                    came.push(&new.row);
                    a.next();
                }
                (_, None) => break,
            }
        }
        came.into_iter().for_each(|row| out.stored(RowKind::Insert, row));
    }
}

fn rows_of(list: &[Entry]) -> impl Iterator<Item = &[u8]> {
    list.iter().map(|e| &*e.row)
}

/// What became of a list, rank by rank.
fn differ_by_rank<'r>(
    update_before: bool,
    mut before: impl Iterator<Item = &'r [u8]>,
    mut after: impl Iterator<Item = &'r [u8]>,
    out: &mut Output,
) {
    for rank in 1.. {
        match (before.next(), after.next()) {
            (Some(old), Some(new)) if std::ptr::eq(old, new) || old == new => {}
            (Some(old), Some(new)) => {
                if update_before {
                    out.stored(RowKind::UpdateBefore, old);
                    out.rank(rank);
                }
                out.stored(RowKind::UpdateAfter, new);
                out.rank(rank);
            }
            (Some(old), None) => {
                out.stored(RowKind::Delete, old);
                out.rank(rank);
            }
            (None, Some(new)) => {
                out.stored(RowKind::Insert, new);
                out.rank(rank);
            }
            (None, None) => return,
        }
    }
}

/// What left a list, and what came.
fn differ_packed<'b, 'a: 'b>(
    before: &Packed<'a>,
    after: &[(&[u8], Item)],
    bytes: &impl Fn(usize) -> &'b [u8],
    out: &mut Output,
) {
    let stayed = after.iter().fold(0u64, |set, (_, item)| match item {
        Item::Before(i) => set | 1 << i,
        Item::Row(_) => set,
    });
    let left = before.rows().iter().enumerate().filter(|(i, _)| stayed >> i & 1 == 0);
    left.for_each(|(_, row)| out.stored(RowKind::Delete, row));
    for (_, item) in after.iter().filter(|(_, item)| matches!(item, Item::Row(_))) {
        out.stored(RowKind::Insert, before.row(*item, bytes));
    }
}

fn opened(table: Option<TableId>) -> Result<TableId> {
    table.ok_or_else(|| Error::bug("a Top-N was used before it was opened"))
}

impl Operator for TopN {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        let ttl = self.options.ttl_ms.map(|ttl_ms| Ttl { ttl_ms, update_on_read: false });
        self.top = Some(match self.packed {
            true => {
                let (name, schema) = ("top".to_owned(), format!("list({},{})", self.sorter.schema(), self.rows.types));
                ctx.state.register(&TableDescriptor { name, kind: TableKind::Values, schema, ttl })?
            }
            false => open_list(&self.sorter.schema(), &self.rows.types, ttl, &mut *ctx.state)?,
        });
        self.places.open(&self.rows.types, ttl, &mut *ctx.state)?;
        self.sequence.open(ctx)?;
        Ok(OperatorProperties::default())
    }
    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        let retraction = batch.kinds.as_deref().is_some_and(|k| k.iter().any(|k| !k.is_add()));
        if retraction && !self.retracts() {
            let text = format!("operator `{}` was planned for appended rows and got a retraction", ctx.name);
            return Err(Error::bug(text));
        }
        let grouped = self.rows.group(&batch, ctx.max_parallelism, true)?;
        let sorted = self.sorter.convert(&batch.rows)?;
        let out = match self.retracts() {
            false if self.packed => self.append_packed(&grouped, &sorted, &mut *ctx.state)?,
            false => self.append(&grouped, &sorted, &mut *ctx.state)?,
            true => self.change(&batch, &grouped, &sorted, &mut *ctx.state)?,
        };
        if let Some(batch) = out.build(None, self.rows.codec(), &self.schema)? {
            self.pending.push(batch);
        }
        Ok(self.pending.flush(&mut ctx.out))
    }
    fn on_event(&mut self, event: OperatorEvent, ctx: &mut OperatorContext) -> Result<Progress> {
        if let OperatorEvent::BeforeBarrier(_) = event {
            self.sequence.store(ctx);
        }
        Ok(Progress::Done)
    }
    fn resume(&mut self, ctx: &mut OperatorContext) -> Result<Progress> {
        Ok(self.pending.flush(&mut ctx.out))
    }
}
