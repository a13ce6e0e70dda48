//! Gives calls their types: looks functions up, checks arguments, inserts Flink's implicit casts; never evaluates except to fold constants.

mod aggregate;
mod arithmetic;
mod cast;
mod collection;
mod fold;
mod functions;
mod json;
mod special;
mod types;
mod variadic;

pub use aggregate::{aggregate_type, aggregate_type_of};
pub use cast::{bind_cast, is_implicit_cast};
pub use fold::{constant_fold, is_deterministic};
pub use functions::function_names;
pub use json::{JsonClauses, bind_json};
pub use types::common_type;

use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_plan::expr::{Expr, ExprKind};

/// Binds a call of the function or operator `name` (any case): `UPPER`, `+`, `AND`, `IS NULL`, `LIKE`, `||` …
pub fn bind_call(name: &str, args: Vec<Expr>) -> Result<Expr> {
    let upper = name.to_ascii_uppercase();
    if let Some(bound) = special::bind(&upper, &args)? {
        return Ok(bound);
    }
    if let Some(bound) = variadic::bind(&upper, &args)? {
        return Ok(bound);
    }
    if let Some(bound) = collection::bind(&upper, &args)? {
        return Ok(bound);
    }
    if let Some(bound) = json::bind(&upper, &args)? {
        return Ok(bound);
    }
    functions::bind(&upper, args)
}

/// Binds CASE: conditions must be BOOLEAN; values are cast to their common type.
pub fn bind_case(branches: Vec<(Expr, Expr)>, otherwise: Option<Expr>) -> Result<Expr> {
    for (condition, _) in &branches {
        if !matches!(condition.data_type.kind, TypeKind::Boolean | TypeKind::Null) {
            return Err(Error::user("sql.type", format!("WHEN takes a BOOLEAN, found {}", condition.data_type.kind))
                .detail(format!("the condition is {condition}")));
        }
    }
    let mut types: Vec<DataType> = branches.iter().map(|(_, v)| v.data_type.clone()).collect();
    match &otherwise {
        Some(e) => types.push(e.data_type.clone()),
        None => types.push(TypeKind::Null.nullable()),
    }
    let Some(target) = common_type(&types) else {
        return Err(Error::user("sql.type", "the branches of CASE have no common type")
            .detail(format!("found {}", type_list(&types)))
            .hint("cast the branches to one type"));
    };
    let branches =
        branches.into_iter().map(|(c, v)| Ok((implicit_cast(c, &TypeKind::Boolean)?, implicit_cast(v, &target.kind)?)));
    let branches = branches.collect::<Result<Vec<_>>>()?;
    let otherwise = otherwise.map(|e| implicit_cast(e, &target.kind).map(Box::new)).transpose()?;
    Ok(Expr { kind: ExprKind::Case { branches, otherwise }, data_type: target })
}

/// Casts to `kind` where it differs, keeping nullability. The caller knows that the pair is allowed.
pub(crate) fn implicit_cast(expr: Expr, kind: &TypeKind) -> Result<Expr> {
    if &expr.data_type.kind == kind {
        return Ok(expr);
    }
    let nullable = expr.data_type.nullable;
    bind_cast(expr, DataType { kind: kind.clone(), nullable }, false)
}

/// `(INT, STRING)`.
pub(crate) fn type_list(types: &[DataType]) -> String {
    let names: Vec<String> = types.iter().map(|t| t.kind.to_string()).collect();
    format!("({})", names.join(", "))
}

/// The error for a call whose arguments do not fit.
pub(crate) fn mismatch(name: &str, args: &[Expr], expected: &str) -> Error {
    let types: Vec<DataType> = args.iter().map(|a| a.data_type.clone()).collect();
    Error::user("sql.function", format!("cannot apply {name} to arguments of types {}", type_list(&types)))
        .detail(format!("expected {expected}"))
}

/// NULL in, NULL out.
pub(crate) fn any_nullable(args: &[Expr]) -> bool {
    args.iter().any(|a| a.data_type.nullable)
}
