//! OVER ordered by a column that is no time: a row that comes or goes corrects the results of those behind it. Each batch folds to the
//! difference of the partitions it touches before and after. State of a partition is all its rows.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::{Field, SchemaRef};
use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::error::{Error, Result};
use flott_core::keys::RowCodec;
use flott_core::operator::{Operator, OperatorContext, OperatorEvent, OperatorProperties, Progress};
use flott_core::sink::ChangelogMode;
use flott_core::state::{TableId, Ttl};
use flott_core::types::{Column, arrow_schema};
use flott_plan::{OverOrder, OverSpec};

use super::engine::{Engine, Events};
use crate::emit::Pending;
use crate::keyed::{Grouped, KeyedRows};
use crate::rank::{Entry, Places, Sequence, Sorter, load};

/// Namespaces that hold aggregates while a batch is folded, and nothing between batches.
const BEFORE: i64 = 1;
const AFTER: i64 = 2;

/// The operator.
pub(crate) struct OrderedOver {
    spec: OverSpec,
    rows: KeyedRows,
    sorter: Sorter,
    engine: Engine,
    results: RowCodec,
    sequence: Sequence,
    table: Option<TableId>,
    places: Places,
    schema: SchemaRef,
    pending: Pending,
}

/// The rows of the partitions a batch touches, before and after it.
#[derive(Default)]
struct Lists {
    events: Events,
    rows: Vec<Arc<[u8]>>,
    /// The point of each row.
    point_of: Vec<u32>,
    /// Per partition: its rows before and after, as `rows` numbers them, with their names.
    partitions: Vec<[Vec<(Vec<u8>, u32)>; 2]>,
}

/// Output rows: the kind, the row among the listed ones.
type Change = (RowKind, u32);

impl OrderedOver {
    /// The operator of `spec`.
    pub(crate) fn new(spec: &OverSpec, input: &[Column], output: &[Column]) -> Result<Self> {
        let OverOrder::Column(key) = spec.order else { return Err(Error::bug("an OVER by a time")) };
        if spec.frame.preceding.is_some() && !spec.frame.rows {
            return Err(Error::bug("RANGE with a bound over a column that is no time"));
        }
        let results = output[input.len()..].iter().map(|c| Arc::new(c.data_type.to_field(&c.name)) as Arc<Field>);
        let retracts = spec.input_mode != ChangelogMode::Append;
        Ok(OrderedOver {
            rows: KeyedRows::new(&spec.partition, input)?,
            sorter: Sorter::new(&[key], input)?,
            engine: Engine::new(&spec.partition, &spec.calls, spec.frame.preceding.is_some(), 0, input)?,
            results: RowCodec::new(results.collect())?,
            sequence: Sequence::default(),
            table: None,
            places: Places::new(retracts),
            schema: arrow_schema(output),
            pending: Pending::default(),
            spec: spec.clone(),
        })
    }

    /// The partitions before and after the batch, which changes them in state.
    fn lists(&mut self, batch: &ChangeBatch, grouped: &Grouped, ctx: &mut OperatorContext) -> Result<Lists> {
        let table = self.table.ok_or_else(|| Error::bug("an operator was used before it was opened"))?;
        let sorted = self.sorter.convert(&batch.rows)?;
        let mut lists = Lists::default();
        for gid in 0..grouped.len() {
            let (group, key) = grouped.key(gid);
            let before = load(ctx.state.map(table), 0, group, key, usize::MAX)?;
            for row in grouped.rows(gid) {
                let at = (group, key, sorted.key(row), grouped.bytes(row));
                match batch.kind(row).is_add() {
                    true => self.places.add(table, at, &mut self.sequence, &mut *ctx.state)?,
                    false => self.places.remove(table, at, &mut *ctx.state)?,
                }
            }
            let after = load(ctx.state.map(table), 0, group, key, usize::MAX)?;
            let mut partition = [Vec::new(), Vec::new()];
            for (side, (entries, namespace)) in [(before, BEFORE), (after, AFTER)].into_iter().enumerate() {
                partition[side] = self.list(entries, namespace, grouped, gid, &mut lists);
            }
            lists.partitions.push(partition);
        }
        Ok(lists)
    }

    fn list(
        &self,
        entries: Vec<Entry>,
        namespace: i64,
        grouped: &Grouped,
        gid: usize,
        lists: &mut Lists,
    ) -> Vec<(Vec<u8>, u32)> {
        let ends: Vec<bool> = (0..entries.len())
            .map(|i| self.spec.frame.rows || entries.get(i + 1).is_none_or(|next| next.sort() != entries[i].sort()))
            .collect();
        let mut rows = Vec::with_capacity(entries.len());
        // Of a frame of ROWS with a bound: how many rows it has room for.
        let room = self.spec.frame.preceding.map(|n| usize::try_from(n).unwrap_or(usize::MAX).saturating_add(1));
        for (i, entry) in entries.into_iter().enumerate() {
            let row = lists.rows.len() as u32;
            let mut event = |row: u32, sign: i64, place: usize| {
                lists.events.push(row, sign, (place as u128).to_be_bytes(), &grouped.keys, grouped.first(gid));
                lists.events.namespaces.push(namespace);
            };
            event(row, 1, i);
            if let Some(out) = room.and_then(|room| i.checked_sub(room)) {
                event(row - (i - out) as u32, -1, out);
            }
            lists.point_of.push(lists.events.points.len() as u32);
            if ends[i] {
                lists.events.point();
            }
            lists.rows.push(entry.row);
            rows.push((entry.name, row));
        }
        rows
    }

    /// What became of the results.
    fn changes(&self, lists: &Lists, results: &[ArrayRef]) -> Result<Vec<Change>> {
        let (mut offsets, mut bytes) = (Vec::new(), Vec::new());
        self.results.encode_rows(results, &mut offsets, &mut bytes)?;
        let result = |row: u32| {
            let point = lists.point_of[row as usize] as usize;
            &bytes[offsets[point] as usize..offsets[point + 1] as usize]
        };
        let (mut gone, mut other) = (Vec::new(), Vec::new());
        for [before, after] in &lists.partitions {
            let (mut b, mut a) = (before.iter().peekable(), after.iter().peekable());
            loop {
                match (b.peek(), a.peek()) {
                    (Some((old_name, old)), Some((new_name, new))) if old_name == new_name => {
                        if result(*old) != result(*new) {
                            if self.spec.update_before {
                                other.push((RowKind::UpdateBefore, *old));
                            }
                            other.push((RowKind::UpdateAfter, *new));
                        }
                        b.next();
                        a.next();
                    }
                    (Some((name, old)), new) if new.is_none_or(|(new, _)| name < new) => {
                        gone.push((RowKind::Delete, *old));
                        b.next();
                    }
                    (_, Some((_, new))) => {
                        other.push((RowKind::Insert, *new));
                        a.next();
                    }
                    (_, None) => break,
                }
            }
        }
        // A row may have moved: it goes before it comes.
        gone.extend(other);
        Ok(gone)
    }

    fn emit(&mut self, changes: &[Change], lists: &Lists, columns: &[ArrayRef], results: &[ArrayRef]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let rows: UInt32Array = changes.iter().map(|c| c.1).collect();
        let points: UInt32Array = changes.iter().map(|c| lists.point_of[c.1 as usize]).collect();
        let of_rows = columns.iter().map(|c| arrow_select::take::take(c, &rows, None));
        let of_points = results.iter().map(|c| arrow_select::take::take(c, &points, None));
        let output = of_rows.chain(of_points).collect::<std::result::Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(changes.len()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), output, &options)?;
        let kinds: Vec<RowKind> = changes.iter().map(|c| c.0).collect();
        let appends = kinds.iter().all(|k| *k == RowKind::Insert);
        self.pending.push(ChangeBatch::new(rows, (!appends).then(|| kinds.into()), None));
        Ok(())
    }
}

impl Operator for OrderedOver {
    fn open(&mut self, ctx: &mut OperatorContext) -> Result<OperatorProperties> {
        let ttl = self.spec.ttl_ms.map(|ttl_ms| Ttl { ttl_ms, update_on_read: false });
        self.engine.open(None, &mut *ctx.state)?;
        let (sort, types) = (self.sorter.schema(), &self.rows.types);
        self.table = Some(crate::rank::open_list(&sort, types, ttl, &mut *ctx.state)?);
        self.places.open(types, ttl, &mut *ctx.state)?;
        self.sequence.open(ctx)?;
        Ok(OperatorProperties::default())
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        let retraction = batch.kinds.as_deref().is_some_and(|k| k.iter().any(|k| !k.is_add()));
        if retraction && self.spec.input_mode == ChangelogMode::Append {
            let text = format!("operator `{}` was planned for appended rows and got a retraction", ctx.name);
            return Err(Error::bug(text));
        }
        let grouped = self.rows.group(&batch, ctx.max_parallelism, true)?;
        let lists = self.lists(&batch, &grouped, ctx)?;
        if lists.rows.is_empty() {
            return Ok(Progress::Done);
        }
        let columns = self.rows.codec().decode(lists.rows.iter().map(|r| &**r))?;
        let state = &mut *ctx.state;
        let results = self.engine.run(&columns, &lists.events, ctx.max_parallelism, &mut |_, _| {}, state)?;
        self.engine.forget(&lists.events, &[BEFORE, AFTER], state)?;
        let changes = self.changes(&lists, &results)?;
        self.emit(&changes, &lists, &columns, &results)?;
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
