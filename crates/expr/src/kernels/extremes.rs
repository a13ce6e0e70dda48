//! GREATEST and LEAST: NULL when an argument is NULL.

use flott_core::Result;
use flott_core::types::DataType;
use flott_plan::expr::Expr;

use super::Compiled;
use super::choose::choose;
use super::compare::{Comparison, compare};
use super::lift::valid;
use crate::compile::Value;

/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, _args: &[Expr], out: &DataType) -> Result<Option<Compiled>> {
    let comparison = match function {
        "GREATEST" => Comparison::Ge,
        "LEAST" => Comparison::Le,
        _ => return Ok(None),
    };
    let arrow = out.kind.to_arrow();
    Ok(Some(Compiled::total(move |args, rows, _| {
        let mut best = args[0].clone();
        for next in &args[1..] {
            let keep = compare(comparison, &best, next, rows)?;
            best = choose(&[best, next.clone()], &[keep.values().clone()], rows, &arrow)?;
        }
        let refs: Vec<&Value> = args.iter().collect();
        let array = best.into_array(rows)?;
        Ok(match valid(&refs, rows) {
            None => array,
            Some(nulls) => arrow_select::nullif::nullif(&array, &arrow_array::BooleanArray::new(!nulls.inner(), None))?,
        })
    })))
}
