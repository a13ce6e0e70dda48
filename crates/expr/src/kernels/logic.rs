//! NOT and the IS predicates in three-valued logic; AND, OR and CASE are evaluated by the frame, lazily.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray};
use flott_core::Result;
use flott_core::types::DataType;
use flott_plan::expr::Expr;

use super::Compiled;

/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, _args: &[Expr], _out: &DataType) -> Result<Option<Compiled>> {
    let f: fn(&ArrayRef) -> Result<BooleanArray> = match function {
        "NOT" => |a| Ok(arrow_arith::boolean::not(a.as_boolean())?),
        "IS NULL" | "IS UNKNOWN" => |a| Ok(arrow_arith::boolean::is_null(a)?),
        "IS NOT NULL" | "IS NOT UNKNOWN" => |a| Ok(arrow_arith::boolean::is_not_null(a)?),
        "IS TRUE" => |a| Ok(is(a.as_boolean(), true)),
        "IS FALSE" => |a| Ok(is(a.as_boolean(), false)),
        "IS NOT TRUE" => |a| Ok(arrow_arith::boolean::not(&is(a.as_boolean(), true))?),
        "IS NOT FALSE" => |a| Ok(arrow_arith::boolean::not(&is(a.as_boolean(), false))?),
        _ => return Ok(None),
    };
    Ok(Some(Compiled::total(move |args, _, _| {
        let out: ArrayRef = Arc::new(f(args[0].array())?);
        Ok(out)
    })))
}

fn is(a: &BooleanArray, wanted: bool) -> BooleanArray {
    let bits = if wanted { a.values().clone() } else { !a.values() };
    let bits = match a.nulls() {
        Some(nulls) => &bits & nulls.inner(),
        None => bits,
    };
    BooleanArray::new(bits, None)
}
