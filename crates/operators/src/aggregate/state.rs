//! The state of all aggregates of an operator, and one batch's way through it: resolve, gather, update column by column,
//! scatter. Never emits.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_buffer::BooleanBuffer;
use flott_core::batch::RowKind;
use flott_core::error::{Error, Result};
use flott_core::keys::RowCodec;
use flott_core::state::{KeyBatch, Slot, StateBackend, TableDescriptor, TableId, TableKind, Ttl};
use flott_core::types::Column;

use super::collected::{Change, Collected};
use super::distinct::{DistinctState, present_rows, true_rows};
use super::extrema::{Extrema, GroupKey, fixed_width};
use super::finish::Beside;
use super::grouping::Grouping;
use super::layout::{AccKind, Accumulator, Layout, MaskSpec};
use super::update::{RowsView, update};
use super::values::{Form, Values};

/// A batch on its way into state.
pub(crate) struct Input<'a> {
    /// Namespace of all rows, or of each.
    pub namespaces: &'a [i64],
    /// Group key of each row.
    pub keys: &'a KeyBatch,
    /// The group columns that `keys` encodes.
    pub key_columns: &'a [ArrayRef],
    /// All columns.
    pub columns: &'a [ArrayRef],
    /// +1 or −1 per row; `None`: all +1.
    pub signs: Option<&'a [i64]>,
    /// Number of rows.
    pub rows: usize,
    /// Number of key groups.
    pub max_parallelism: u32,
}

impl<'a> Input<'a> {
    /// Where the group of row `i` lives.
    pub(crate) fn at(&self, i: usize) -> GroupKey<'a> {
        let namespace = if self.namespaces.len() == 1 { self.namespaces[0] } else { self.namespaces[i] };
        GroupKey { namespace, group: self.keys.groups[i], key: self.keys.key(i) }
    }
}

/// +1 and −1 for row kinds; `None` when nothing is retracted.
pub(crate) fn signs(kinds: Option<&[RowKind]>) -> Option<Vec<i64>> {
    let kinds = kinds.filter(|k| k.iter().any(|k| !k.is_add()))?;
    Some(kinds.iter().map(|k| if k.is_add() { 1 } else { -1 }).collect())
}

/// Tables of the aggregates of one operator.
pub(crate) struct AggregateState {
    /// The layout.
    pub layout: Arc<Layout>,
    /// State rows.
    pub table: TableId,
    /// Groups of the current batch, with their images after [`AggregateState::apply`].
    pub groups: Grouping,
    /// Images before, when kept.
    pub before: Vec<u8>,
    /// Values beside the rows, by accumulator, then group: before and after.
    pub beside_before: Vec<Vec<Beside>>,
    /// See `beside_before`.
    pub beside_after: Vec<Vec<Beside>>,
    pub(super) distinct: Vec<DistinctState>,
    pub(super) extrema: Extrema,
    slots: Vec<Slot>,
}

impl AggregateState {
    /// Registers the tables of `layout` for groups keyed by `key`.
    pub(crate) fn open(
        layout: Arc<Layout>,
        key: &RowCodec,
        input: &[Column],
        state: &mut dyn StateBackend,
        ttl: Option<Ttl>,
    ) -> Result<Self> {
        let table = state.register(&TableDescriptor {
            name: "groups".into(),
            kind: TableKind::Rows { width: layout.width as u32 },
            schema: layout.schema(),
            ttl,
        })?;
        let sets = layout.distinct.iter().enumerate();
        let distinct = sets.map(|(i, s)| DistinctState::open(s, i, key, input, state, ttl)).collect::<Result<_>>()?;
        let extrema = Extrema::open(&layout, state, ttl)?;
        Ok(AggregateState {
            layout,
            table,
            groups: Grouping::default(),
            before: Vec::new(),
            beside_before: Vec::new(),
            beside_after: Vec::new(),
            distinct,
            extrema,
            slots: Vec::new(),
        })
    }

    /// Takes a batch. Afterwards `groups` holds the touched groups with their new images, already in state; `keep_before`
    /// keeps the old ones too.
    pub(crate) fn apply(&mut self, input: &Input<'_>, keep_before: bool, state: &mut dyn StateBackend) -> Result<()> {
        let layout = self.layout.clone();
        self.gather(input, state)?;
        if keep_before {
            self.before.clear();
            self.before.extend_from_slice(&self.groups.images);
        }
        let masks = self.masks(input, state)?;
        for (index, acc) in layout.accumulators.iter().enumerate() {
            self.accumulate(index, acc, input, masks[acc.mask].as_ref(), state)?;
        }
        self.groups.scatter(layout.width, state.rows(self.table));
        Ok(())
    }

    /// Reads the groups of a batch, and what lies beside their rows.
    pub(super) fn gather(&mut self, input: &Input<'_>, state: &mut dyn StateBackend) -> Result<()> {
        let table = state.rows(self.table);
        table.resolve(input.namespaces, input.keys, true, &mut self.slots)?;
        self.groups.assign(&self.slots);
        self.groups.gather(self.layout.width, table);
        self.load_beside(input, state)
    }

    fn load_beside(&mut self, input: &Input<'_>, state: &mut dyn StateBackend) -> Result<()> {
        if self.layout.beside == 0 {
            return Ok(());
        }
        self.beside_before = vec![Vec::with_capacity(self.groups.len()); self.layout.beside];
        for &row in &self.groups.first_rows {
            let values = self.extrema.load(input.at(row as usize), state)?;
            for (column, value) in self.beside_before.iter_mut().zip(values) {
                column.push(value);
            }
        }
        self.beside_after = self.beside_before.clone();
        Ok(())
    }

    pub(super) fn masks(
        &mut self,
        input: &Input<'_>,
        state: &mut dyn StateBackend,
    ) -> Result<Vec<Option<BooleanBuffer>>> {
        let sets = self.distinct.iter_mut().map(|d| d.apply(input, state)).collect::<Result<Vec<_>>>()?;
        let mask = |m: &MaskSpec| match m {
            MaskSpec::All => None,
            MaskSpec::Filter(column) => Some(true_rows(&input.columns[*column])),
            MaskSpec::Distinct { set, filter } => Some(sets[*set][*filter].clone()),
        };
        Ok(self.layout.masks.iter().map(mask).collect())
    }

    fn accumulate(
        &mut self,
        index: usize,
        acc: &Accumulator,
        input: &Input<'_>,
        mask: Option<&BooleanBuffer>,
        state: &mut dyn StateBackend,
    ) -> Result<()> {
        let selected = match (mask, present_rows(input.columns, acc.not_null())) {
            (Some(a), Some(b)) => Some(a & &b),
            (a, b) => a.cloned().or(b),
        };
        let width = self.layout.width;
        let gids = std::mem::take(&mut self.groups.gids);
        let rows = RowsView { gids: &gids, signs: input.signs, selected: selected.as_ref(), part: None };
        let values = match acc.kind {
            AccKind::Count | AccKind::Collected { .. } | AccKind::User => None,
            AccKind::Moments => Some(moments_of(&input.columns[acc.args[0]])?),
            _ => Some(Values::of(&input.columns[acc.args[0]])?),
        };
        let result = match (acc.kind, &values, acc.multiset, acc.beside) {
            (AccKind::Extreme { max, form }, Some(values), Some(set), _) => {
                update(&mut self.groups.images, width, &counter(acc), None, &rows);
                self.extrema
                    .count(set, max, values, &rows, |i| input.at(i), state)
                    .and_then(|()| self.refresh(index, form, set, &rows, input, state))
            }
            (AccKind::Collected { kind, .. }, _, _, Some(beside)) => {
                update(&mut self.groups.images, width, acc, None, &rows);
                self.collect(acc, kind, beside, &rows, input, state)
            }
            (AccKind::User, _, _, Some(beside)) => {
                update(&mut self.groups.images, width, acc, None, &rows);
                self.fold_user(acc, beside, &rows, input, state)
            }
            (AccKind::Extreme { max, .. }, Some(values), None, Some(beside)) => {
                self.best_beside(acc, max, beside, values, &rows, input, state)
            }
            _ => {
                update(&mut self.groups.images, width, acc, values.as_ref(), &rows);
                Ok(())
            }
        };
        self.groups.gids = gids;
        result
    }

    /// Adds the rows of a batch to the values beside their groups, or takes them out.
    fn collect(
        &mut self,
        acc: &Accumulator,
        kind: Collected,
        beside: usize,
        rows: &RowsView<'_>,
        input: &Input<'_>,
        state: &mut dyn StateBackend,
    ) -> Result<()> {
        let entries = Entries::of(acc, input.columns)?;
        for (g, changes) in entries.by_group(rows, self.groups.len()) {
            let at = input.at(self.groups.first_rows[g] as usize);
            let current = &mut self.beside_after[beside][g];
            *current = kind.fold(current.as_deref(), &changes)?.map(Arc::from);
            self.extrema.store(beside, at, current, state)?;
        }
        Ok(())
    }

    fn fold_user(
        &mut self,
        acc: &Accumulator,
        beside: usize,
        rows: &RowsView<'_>,
        input: &Input<'_>,
        state: &mut dyn StateBackend,
    ) -> Result<()> {
        for g in super::user::fold(acc, input.columns, rows, &mut self.beside_after[beside])? {
            let at = input.at(self.groups.first_rows[g] as usize);
            self.extrema.store(beside, at, &self.beside_after[beside][g], state)?;
        }
        Ok(())
    }

    /// After its multiset changed: the extreme of each touched group.
    fn refresh(
        &mut self,
        index: usize,
        form: Form,
        set: usize,
        rows: &RowsView<'_>,
        input: &Input<'_>,
        state: &mut dyn StateBackend,
    ) -> Result<()> {
        let layout = self.layout.clone();
        let acc = &layout.accumulators[index];
        let mut touched = vec![false; self.groups.len()];
        rows.for_each(|_, g, _| touched[g] = true);
        for g in (0..touched.len()).filter(|&g| touched[g]) {
            let at = input.at(self.groups.first_rows[g] as usize);
            let value = self.extrema.first(set, at, state)?;
            match acc.beside {
                Some(beside) => {
                    self.extrema.store(beside, at, &value, state)?;
                    self.beside_after[beside][g] = value;
                }
                None => {
                    let size = fixed_width(form);
                    let field = &mut self.groups.images[g * layout.width + acc.offset + 8..][..size];
                    match value.filter(|v| v.len() == size) {
                        Some(v) => field.copy_from_slice(&v),
                        None => field.fill(0),
                    }
                }
            }
        }
        Ok(())
    }

    /// MIN or MAX over strings that are never retracted.
    #[allow(clippy::too_many_arguments, reason = "one step of a batch's way")]
    fn best_beside(
        &mut self,
        acc: &Accumulator,
        max: bool,
        beside: usize,
        values: &Values,
        rows: &RowsView<'_>,
        input: &Input<'_>,
        state: &mut dyn StateBackend,
    ) -> Result<()> {
        update(&mut self.groups.images, self.layout.width, &counter(acc), None, rows);
        let current = &mut self.beside_after[beside];
        let mut best: Vec<Option<u32>> = vec![None; current.len()];
        rows.for_each(|i, g, _| {
            let new = values.bytes(i);
            let old = best[g].map(|b| values.bytes(b as usize)).or(current[g].as_deref());
            if old.is_none_or(|old| if max { new > old } else { new < old }) {
                best[g] = Some(i as u32);
            }
        });
        for (g, row) in best.iter().enumerate().filter_map(|(g, b)| b.map(|b| (g, b))) {
            current[g] = Some(values.bytes(row as usize).into());
            self.extrema.store(beside, input.at(row as usize), &current[g], state)?;
        }
        Ok(())
    }

    /// Removes a touched group whose last row was retracted.
    pub(crate) fn remove(&mut self, gid: usize, input: &Input<'_>, state: &mut dyn StateBackend) -> Result<()> {
        self.extrema.remove(input.at(self.groups.first_rows[gid] as usize), state)?;
        state.rows(self.table).remove(self.groups.slots[gid]);
        Ok(())
    }
    /// The values beside the row of a group that is not in the current batch.
    pub(crate) fn load(&self, at: GroupKey<'_>, state: &mut dyn StateBackend) -> Result<Vec<Beside>> {
        self.extrema.load(at, state)
    }
    /// Sets the values beside the row of a group.
    pub(crate) fn store_beside(&self, at: GroupKey<'_>, values: &[Beside], state: &mut dyn StateBackend) -> Result<()> {
        values.iter().enumerate().try_for_each(|(i, v)| self.extrema.store(i, at, v, state))
    }
    /// Forgets the values beside the row of a group.
    pub(crate) fn forget_beside(&self, at: GroupKey<'_>, state: &mut dyn StateBackend) -> Result<()> {
        self.extrema.remove(at, state)
    }
    /// Whether anything lies beside the rows.
    pub(crate) fn has_beside(&self) -> bool {
        !self.extrema.is_empty()
    }
    /// Drops all groups of a namespace; what lies beside its rows must be forgotten before.
    pub(crate) fn drop_namespace(&mut self, namespace: i64, state: &mut dyn StateBackend) {
        state.rows(self.table).drop_namespace(namespace);
        for d in &self.distinct {
            state.rows(d.table()).drop_namespace(namespace);
        }
    }
}

/// The arguments of an accumulator as bytes, one string per row.
pub(crate) struct Entries {
    bytes: Vec<u8>,
    offsets: Vec<u32>,
}

impl Entries {
    pub(crate) fn of(acc: &Accumulator, columns: &[ArrayRef]) -> Result<Self> {
        let codec = acc.codec.as_ref().ok_or_else(|| Error::bug("values kept beside a row have a codec"))?;
        let args: Vec<ArrayRef> = acc.args.iter().map(|&a| columns[a].clone()).collect();
        let mut entries = Entries { bytes: Vec::new(), offsets: Vec::new() };
        codec.encode_rows(&args, &mut entries.offsets, &mut entries.bytes)?;
        Ok(entries)
    }
    pub(crate) fn at(&self, i: usize) -> &[u8] {
        &self.bytes[self.offsets[i] as usize..self.offsets[i + 1] as usize]
    }
    /// The changes of each touched group, in the order of the rows.
    pub(crate) fn by_group(&self, rows: &RowsView<'_>, groups: usize) -> Vec<(usize, Vec<Change<'_>>)> {
        let mut of: Vec<Vec<Change<'_>>> = vec![Vec::new(); groups];
        rows.for_each(|i, g, sign| of[g].push((self.at(i), sign)));
        of.into_iter().enumerate().filter(|(_, changes)| !changes.is_empty()).collect()
    }
}

/// Numbers whose spread is measured, DECIMALs as what they stand for.
pub(crate) fn moments_of(column: &ArrayRef) -> Result<Values> {
    let values = Values::of(column)?;
    let arrow_schema::DataType::Decimal128(_, scale) = column.data_type() else { return Ok(values) };
    let power = 10f64.powi((*scale).into());
    Ok(match values {
        Values::Decimal(v) => Values::Float(v.iter().map(|v| *v as f64 / power).collect()),
        other => other,
    })
}

/// The count of an extreme, to be changed without the extreme.
pub(super) fn counter(acc: &Accumulator) -> Accumulator {
    Accumulator { kind: AccKind::Count, ..acc.clone() }
}

/// Changes images that the caller gathered itself (sessions): no DISTINCT; what lies beside them, `update_beside` changes.
pub(crate) fn update_images(
    layout: &Layout,
    images: &mut [u8],
    gids: &[u32],
    columns: &[ArrayRef],
    selected: Option<&BooleanBuffer>,
) -> Result<()> {
    for acc in &layout.accumulators {
        let mask = match &layout.masks[acc.mask] {
            MaskSpec::Filter(column) => Some(true_rows(&columns[*column])),
            _ => None,
        };
        let parts = [selected.cloned(), mask, present_rows(columns, acc.not_null())];
        let selected = parts.into_iter().flatten().reduce(|a, b| &a & &b);
        let values = match acc.kind {
            AccKind::Count | AccKind::Collected { .. } | AccKind::User => None,
            AccKind::Moments => Some(moments_of(&columns[acc.args[0]])?),
            _ => Some(Values::of(&columns[acc.args[0]])?),
        };
        let rows = RowsView { gids, signs: None, selected: selected.as_ref(), part: None };
        update(images, layout.width, acc, values.as_ref(), &rows);
    }
    Ok(())
}
