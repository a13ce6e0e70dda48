//! CARDINALITY and ELEMENT_AT of ARRAY and MAP; elements count from 1.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, UInt32Array};
use arrow_ord::ord::make_comparator;
use arrow_schema::{DataType as Arrow, SortOptions};
use flott_core::types::DataType;
use flott_core::{Error, Result};
use flott_plan::expr::Expr;

use super::Compiled;
use super::lift::{is_valid, primitive, rows_opt, valid};
use crate::compile::Value;

/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, _args: &[Expr], _out: &DataType) -> Result<Option<Compiled>> {
    Ok(match function {
        "CARDINALITY" => Some(Compiled::total(|args, n, _| {
            let offsets = offsets(args[0].array())?;
            let m = args[0].row_mask();
            let out = rows_opt::<Int32Type>(&[&args[0]], n, |i| Some(offsets[(i & m) + 1] - offsets[i & m]))?;
            Ok(Arc::new(out))
        })),
        "ELEMENT_AT" => Some(Compiled::total(element_at)),
        _ => None,
    })
}

fn offsets(array: &ArrayRef) -> Result<&[i32]> {
    match array.data_type() {
        Arrow::List(_) => Ok(array.as_list::<i32>().value_offsets()),
        Arrow::Map(..) => Ok(array.as_map().value_offsets()),
        other => Err(Error::bug(format!("{other} has no elements"))),
    }
}

fn element_at(args: &[Value], rows: usize, _: &crate::compile::EvalContext) -> Result<ArrayRef> {
    let (container, m, k) = (args[0].array(), args[0].row_mask(), args[1].row_mask());
    let offsets = offsets(container)?;
    let nulls = valid(&[&args[0], &args[1]], rows);
    let range = |i: usize| offsets[i & m]..offsets[(i & m) + 1];
    let (values, at): (&ArrayRef, UInt32Array) = match container.data_type() {
        Arrow::Map(..) => {
            let map = container.as_map();
            let compare = make_comparator(map.keys(), args[1].array(), SortOptions::default())?;
            let find = |i: usize| range(i).rev().find(|at| compare(*at as usize, i & k).is_eq());
            let at = (0..rows).map(|i| if is_valid(&nulls, i) { find(i).map(|at| at as u32) } else { None });
            (map.values(), at.collect())
        }
        _ => {
            let index = primitive::<Int32Type>(&args[1])?;
            let find = |i: usize| range(i).nth(usize::try_from(index.value(i & k)).ok()?.checked_sub(1)?);
            let at = (0..rows).map(|i| if is_valid(&nulls, i) { find(i).map(|at| at as u32) } else { None });
            (container.as_list::<i32>().values(), at.collect())
        }
    };
    Ok(arrow_select::take::take(values, &at, None)?)
}
