//! Aggregates of the user: accumulators as bytes beside the state row. Every call of the user's code is made here, and what it gives is
//! checked; errors and panics name the function and the place of the call.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType as Arrow;
use flott_core::error::{Error, Result};
use flott_core::function::{AggregateChange, call_user};
use flott_plan::UserAggregate;

use super::finish::Beside;
use super::layout::Accumulator;
use super::update::RowsView;

fn of(acc: &Accumulator) -> Result<&UserAggregate> {
    acc.user.as_ref().ok_or_else(|| Error::bug("an aggregate of the user without its function"))
}

/// Takes the rows into the accumulators of their groups; which groups were touched.
pub(super) fn fold(
    acc: &Accumulator,
    columns: &[ArrayRef],
    rows: &RowsView<'_>,
    values: &mut [Beside],
) -> Result<Vec<usize>> {
    let user = of(acc)?;
    let (mut touched, mut changes) = (Vec::new(), Vec::new());
    let mut places = vec![usize::MAX; values.len()];
    rows.for_each(|row, group, sign| {
        if places[group] == usize::MAX {
            places[group] = touched.len();
            touched.push(group);
        }
        changes.push(AggregateChange { accumulator: places[group], row, add: sign > 0 });
    });
    if touched.is_empty() {
        return Ok(touched);
    }
    let mut accumulators: Vec<Option<Vec<u8>>> =
        touched.iter().map(|&g| values[g].as_deref().map(<[u8]>::to_vec)).collect();
    let args: Vec<ArrayRef> = acc.args.iter().map(|&a| columns[a].clone()).collect();
    call_user(&user.name, user.position, || user.function.fold(&mut accumulators, &changes, &args))?;
    for (&group, accumulator) in touched.iter().zip(accumulators) {
        values[group] = accumulator.map(Arc::from);
    }
    Ok(touched)
}

/// Two accumulators in one; the rows of `a` came first.
pub(super) fn merge(acc: &Accumulator, a: Option<&[u8]>, b: Option<&[u8]>) -> Result<Beside> {
    let user = of(acc)?;
    Ok(match (a, b) {
        (Some(a), Some(b)) => Some(call_user(&user.name, user.position, || user.function.merge(a, b))?.into()),
        (one, other) => one.or(other).map(Arc::from),
    })
}

/// The results of accumulators.
pub(super) fn column(user: &UserAggregate, arrow: &Arrow, values: &[Beside]) -> Result<ArrayRef> {
    call_user(&user.name, user.position, || {
        let accumulators: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
        let made = user.function.values(&accumulators)?;
        if made.len() != values.len() || made.data_type() != arrow {
            let (found, wanted) = (made.data_type(), values.len());
            let message = format!("it promised {wanted} values of {arrow} and gave {} of {found}", made.len());
            return Err(Error::user("function.result", message));
        }
        Ok(made)
    })
}

#[cfg(test)]
mod tests;
