//! Aggregates while rows come and go: the image of a group at given points of a sequence of rows, not only at its end. Accumulator by
//! accumulator, as batches are. Never emits.

use std::sync::Arc;

use flott_core::error::Result;
use flott_core::state::StateBackend;

use super::distinct::present_rows;
use super::finish::Beside;
use super::layout::{AccKind, Accumulator};
use super::state::{AggregateState, Entries, Input, counter, moments_of};
use super::update::{RowsView, update};
use super::values::{Form, Values};

/// What the groups were at each point.
#[derive(Default)]
pub(crate) struct Running {
    /// One image per point, back to back.
    pub images: Vec<u8>,
    /// Values beside the rows, by accumulator, then point.
    pub beside: Vec<Vec<Beside>>,
}

impl AggregateState {
    /// Takes a sequence of rows. `points` are ends of parts of it, ascending, no two parts of one point of different groups: after each the
    /// group of its last row is looked at. Rows behind the last point are taken too. The caller stores the groups afterwards.
    pub(crate) fn run(&mut self, input: &Input<'_>, points: &[usize], state: &mut dyn StateBackend) -> Result<Running> {
        let layout = self.layout.clone();
        self.gather(input, state)?;
        let masks = self.masks(input, state)?;
        let images = vec![0; points.len() * layout.width];
        let mut out = Running { images, beside: vec![Vec::new(); layout.beside] };
        let gids = std::mem::take(&mut self.groups.gids);
        for acc in &layout.accumulators {
            let selected = match (masks[acc.mask].as_ref(), present_rows(input.columns, acc.not_null())) {
                (Some(a), Some(b)) => Some(a & &b),
                (a, b) => a.cloned().or(b),
            };
            let rows = RowsView { gids: &gids, signs: input.signs, selected: selected.as_ref(), part: None };
            let result = self.run_one(acc, input, rows, points, &mut out, state);
            if result.is_err() {
                self.groups.gids = gids;
                return result.map(|()| out);
            }
        }
        self.groups.gids = gids;
        Ok(out)
    }

    fn run_one(
        &mut self,
        acc: &Accumulator,
        input: &Input<'_>,
        mut rows: RowsView<'_>,
        points: &[usize],
        out: &mut Running,
        state: &mut dyn StateBackend,
    ) -> Result<()> {
        let (width, bytes) = (self.layout.width, acc.kind.width());
        let values = match acc.kind {
            AccKind::Count | AccKind::Collected { .. } | AccKind::User => None,
            AccKind::Moments => Some(moments_of(&input.columns[acc.args[0]])?),
            _ => Some(Values::of(&input.columns[acc.args[0]])?),
        };
        let entries = acc.codec.as_ref().map(|_| Entries::of(acc, input.columns)).transpose()?;
        let counted = counter(acc);
        let mut from = 0;
        for (point, to) in points.iter().copied().map(Some).chain([None]).enumerate() {
            rows.part = Some((from, to.unwrap_or(input.rows)));
            let group = to.map(|to| rows.gids[to - 1] as usize);
            match (acc.kind, &values) {
                (AccKind::Extreme { max, form }, Some(values)) if acc.multiset.is_some() || form == Form::Bytes => {
                    update(&mut self.groups.images, width, &counted, None, &rows);
                    self.extreme(acc, max, values, &rows, (input, group), state)?;
                }
                _ => update(&mut self.groups.images, width, acc, values.as_ref(), &rows),
            }
            if let (AccKind::Collected { kind, .. }, Some(beside), Some(entries)) = (acc.kind, acc.beside, &entries) {
                let mut changes = Vec::new();
                rows.for_each(|i, g, sign| changes.push((g, (entries.at(i), sign))));
                for (g, change) in changes {
                    let current = &mut self.beside_after[beside][g];
                    *current = kind.fold(current.as_deref(), &[change])?.map(Arc::from);
                }
            }
            if let (AccKind::User, Some(beside)) = (acc.kind, acc.beside) {
                super::user::fold(acc, input.columns, &rows, &mut self.beside_after[beside])?;
            }
            if let Some(group) = group {
                let image = &self.groups.images[group * width + acc.offset..][..bytes];
                out.images[point * width + acc.offset..][..bytes].copy_from_slice(image);
                if let Some(beside) = acc.beside {
                    out.beside[beside].push(self.beside_after[beside][group].clone());
                }
            }
            from = to.unwrap_or(from);
        }
        // Strings lie beside the rows also between batches.
        if let Some(beside) = acc.beside {
            for (group, &row) in self.groups.first_rows.iter().enumerate() {
                if self.beside_before[beside][group] != self.beside_after[beside][group] {
                    self.extrema.store(beside, input.at(row as usize), &self.beside_after[beside][group], state)?;
                }
            }
        }
        Ok(())
    }

    /// A part of the sequence for an extreme that does not fit into the row: its value after it, when somebody looks.
    fn extreme(
        &mut self,
        acc: &Accumulator,
        max: bool,
        values: &Values,
        rows: &RowsView<'_>,
        (input, group): (&Input<'_>, Option<usize>),
        state: &mut dyn StateBackend,
    ) -> Result<()> {
        let Some(set) = acc.multiset else {
            let Some(beside) = acc.beside else { return Ok(()) };
            let current = &mut self.beside_after[beside];
            rows.for_each(|i, g, _| {
                let new = values.bytes(i);
                if current[g].as_deref().is_none_or(|old| if max { new > old } else { new < old }) {
                    current[g] = Some(new.into());
                }
            });
            return Ok(());
        };
        self.extrema.count(set, max, values, rows, |i| input.at(i), state)?;
        let Some(group) = group else { return Ok(()) };
        let value = self.extrema.first(set, input.at(self.groups.first_rows[group] as usize), state)?;
        match acc.beside {
            Some(beside) => self.beside_after[beside][group] = value,
            None => {
                let field = acc.offset + 8..acc.offset + acc.kind.width();
                let image = &mut self.groups.images[group * self.layout.width..][field];
                match value.filter(|v| v.len() == image.len()) {
                    Some(v) => image.copy_from_slice(&v),
                    None => image.fill(0),
                }
            }
        }
        Ok(())
    }

    /// Writes the groups of the batch back; those without rows go away with all they had. `header` may change the owner's bytes.
    pub(crate) fn store(
        &mut self,
        input: &Input<'_>,
        header: &mut dyn FnMut(usize, &mut [u8]),
        state: &mut dyn StateBackend,
    ) -> Result<()> {
        let width = self.layout.width;
        for (group, image) in self.groups.images.chunks_exact_mut(width).enumerate() {
            header(group, &mut image[..self.layout.header]);
        }
        self.groups.scatter(width, state.rows(self.table));
        for group in 0..self.groups.len() {
            if self.layout.group_rows(&self.groups.images[group * width..]) == 0 {
                self.remove(group, input, state)?;
            }
        }
        Ok(())
    }
}
