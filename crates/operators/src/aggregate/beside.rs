//! Values beside rows that the caller holds itself (sessions): changed by a batch, and merged when two groups become one. Pure.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_buffer::BooleanBuffer;
use flott_core::error::Result;

use super::distinct::{present_rows, true_rows};
use super::finish::Beside;
use super::layout::{AccKind, Layout, MaskSpec};
use super::state::Entries;
use super::update::RowsView;
use super::values::Values;

/// Takes the rows of a batch into the values of their groups; `beside[v][group]`.
pub(crate) fn update_beside(
    layout: &Layout,
    beside: &mut [Vec<Beside>],
    gids: &[u32],
    columns: &[ArrayRef],
    selected: Option<&BooleanBuffer>,
) -> Result<()> {
    for acc in &layout.accumulators {
        let Some(values) = acc.beside.and_then(|v| beside.get_mut(v)) else { continue };
        let mask = match &layout.masks[acc.mask] {
            MaskSpec::Filter(column) => Some(true_rows(&columns[*column])),
            _ => None,
        };
        let parts = [selected.cloned(), mask, present_rows(columns, acc.not_null())];
        let selected = parts.into_iter().flatten().reduce(|a, b| &a & &b);
        let rows = RowsView { gids, signs: None, selected: selected.as_ref(), part: None };
        match acc.kind {
            AccKind::Collected { kind, .. } => {
                let entries = Entries::of(acc, columns)?;
                for (g, changes) in entries.by_group(&rows, values.len()) {
                    values[g] = kind.fold(values[g].as_deref(), &changes)?.map(Arc::from);
                }
            }
            AccKind::User => {
                super::user::fold(acc, columns, &rows, values)?;
            }
            AccKind::Extreme { max, .. } => {
                let column = Values::of(&columns[acc.args[0]])?;
                rows.for_each(|i, g, _| {
                    let new = column.bytes(i);
                    if better(max, new, values[g].as_deref()) {
                        values[g] = Some(new.into());
                    }
                });
            }
            _ => {}
        }
    }
    Ok(())
}

fn better(max: bool, new: &[u8], old: Option<&[u8]>) -> bool {
    old.is_none_or(|old| if max { new > old } else { new < old })
}

/// The values of two groups that became one; those of `first` came first.
pub(crate) fn merge_beside(layout: &Layout, first: &[Beside], second: &[Beside]) -> Result<Vec<Beside>> {
    let mut merged = vec![None; layout.beside];
    for acc in &layout.accumulators {
        let Some(v) = acc.beside else { continue };
        let (a, b) = (first[v].as_deref(), second[v].as_deref());
        merged[v] = match (acc.kind, b) {
            (AccKind::Collected { kind, .. }, _) => kind.merge(a, b)?.map(Arc::from),
            (AccKind::User, _) => super::user::merge(acc, a, b)?,
            (AccKind::Extreme { max, .. }, Some(new)) if better(max, new, a) => second[v].clone(),
            _ => first[v].clone(),
        };
    }
    Ok(merged)
}
