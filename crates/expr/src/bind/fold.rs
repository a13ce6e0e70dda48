//! Evaluates what is constant at planning time; never folds what reads a clock or the session's zone, and never raises an error of its own.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::Schema;
use flott_core::types::TypeKind;
use flott_plan::expr::{Expr, ExprKind, Literal};

use crate::compile::{CompiledExpr, EvalContext, array_to_literal};

const CLOCK_FUNCTIONS: &[&str] = &[
    "PROCTIME",
    "CURRENT_TIMESTAMP",
    "LOCALTIMESTAMP",
    "CURRENT_DATE",
    "LOCALTIME",
    "RAND",
    "RAND_INTEGER",
    "UUID",
    "CURRENT_WATERMARK",
];
const ZONE_FUNCTIONS: &[&str] = &["FROM_UNIXTIME", "UNIX_TIMESTAMP", "TO_TIMESTAMP_LTZ", "PRINTF"];

/// Whether the expression gives the same value for the same row at any time.
pub fn is_deterministic(expr: &Expr) -> bool {
    let own = match &expr.kind {
        ExprKind::Call { function, args } => {
            !(CLOCK_FUNCTIONS.contains(&function.as_str()) || function == "UNIX_TIMESTAMP" && args.is_empty())
        }
        ExprKind::User { function, .. } => function.function.is_deterministic(),
        _ => true,
    };
    own && expr.children().into_iter().all(is_deterministic)
}

/// The expression with constant parts evaluated and dead branches removed. Parts whose evaluation fails stay, to fail at run time.
pub fn constant_fold(expr: &Expr) -> Expr {
    let folded = match &expr.kind {
        ExprKind::Column(_) | ExprKind::Literal(_) => return expr.clone(),
        ExprKind::Field(e, i) => ExprKind::Field(Box::new(constant_fold(e)), *i),
        ExprKind::Cast { input, safe } => ExprKind::Cast { input: Box::new(constant_fold(input)), safe: *safe },
        ExprKind::Call { function, args } => {
            if let Some(simpler) = fold_same(function, args) {
                return simpler;
            }
            let args: Vec<Expr> = args.iter().map(constant_fold).collect();
            if let Some(simpler) = fold_logic(function, &args) {
                return simpler;
            }
            ExprKind::Call { function: function.clone(), args }
        }
        ExprKind::User { function, args } => {
            ExprKind::User { function: function.clone(), args: args.iter().map(constant_fold).collect() }
        }
        ExprKind::Case { branches, otherwise } => match fold_case(expr, branches, otherwise.as_deref()) {
            Ok(kind) => kind,
            Err(only) => return *only,
        },
    };
    let folded = Expr { kind: folded, data_type: expr.data_type.clone() };
    evaluate(&folded).unwrap_or(folded)
}

fn as_boolean(expr: &Expr) -> Option<bool> {
    match &expr.kind {
        ExprKind::Literal(Literal::Boolean(b)) => Some(*b),
        _ => None,
    }
}

/// `x = x`: as in Flink TRUE without a look at the value, which may be NaN; NULL for NULL.
fn fold_same(function: &str, args: &[Expr]) -> Option<Expr> {
    let [a, b] = args else { return None };
    let same = match function {
        "=" | "<=" | ">=" => true,
        "<>" | "<" | ">" => false,
        _ => return None,
    };
    if a != b || !is_deterministic(a) {
        return None;
    }
    let boolean = |nullable| flott_core::types::DataType { kind: TypeKind::Boolean, nullable };
    let value = Expr::literal(Literal::Boolean(same), boolean(false));
    if !a.data_type.nullable {
        return Some(value);
    }
    if !matches!(a.data_type.kind, TypeKind::Float | TypeKind::Double) {
        return None;
    }
    let known = Expr::call("IS NOT NULL", vec![constant_fold(a)], boolean(false));
    let null = Expr::literal(Literal::Null, boolean(true));
    let kind = ExprKind::Case { branches: vec![(known, value)], otherwise: Some(Box::new(null)) };
    Some(Expr { kind, data_type: boolean(true) })
}

fn fold_logic(function: &str, args: &[Expr]) -> Option<Expr> {
    let [a, b] = args else { return None };
    let (absorbing, neutral) = match function {
        "AND" => (false, true),
        "OR" => (true, false),
        _ => return None,
    };
    for (x, other) in [(a, b), (b, a)] {
        match as_boolean(x) {
            Some(v) if v == absorbing => return Some(x.clone()),
            Some(v) if v == neutral => return Some(other.clone()),
            _ => {}
        }
    }
    None
}

/// `Err`: the only branch that is left.
fn fold_case(expr: &Expr, branches: &[(Expr, Expr)], otherwise: Option<&Expr>) -> Result<ExprKind, Box<Expr>> {
    let mut kept = Vec::new();
    let mut last = otherwise.map(constant_fold);
    for (condition, value) in branches {
        let condition = constant_fold(condition);
        match &condition.kind {
            ExprKind::Literal(Literal::Boolean(true)) => {
                last = Some(constant_fold(value));
                break;
            }
            ExprKind::Literal(Literal::Boolean(false) | Literal::Null) => {}
            _ => kept.push((condition, constant_fold(value))),
        }
    }
    if kept.is_empty() {
        let value = last.unwrap_or_else(|| Expr::literal(Literal::Null, expr.data_type.clone()));
        return Err(Box::new(Expr { kind: value.kind, data_type: expr.data_type.clone() }));
    }
    Ok(ExprKind::Case { branches: kept, otherwise: last.map(Box::new) })
}

/// The literal `expr` evaluates to, if its direct parts are literals and nothing outside them matters.
fn evaluate(expr: &Expr) -> Option<Expr> {
    if !expr.children().iter().all(|c| matches!(c.kind, ExprKind::Literal(_))) || !is_deterministic(expr) {
        return None;
    }
    let zoned = |e: &Expr| matches!(e.data_type.kind, TypeKind::TimestampLtz(_));
    let zone_function =
        matches!(&expr.kind, ExprKind::Call { function, .. } if ZONE_FUNCTIONS.contains(&function.as_str()));
    if zone_function || zoned(expr) || expr.children().into_iter().any(zoned) {
        return None;
    }
    let compiled = CompiledExpr::compile(expr, &[]).ok()?;
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).ok()?;
    let context = EvalContext::new(0, chrono_tz::Tz::UTC);
    let value = compiled.evaluate(&batch, &context).ok()?;
    let literal = array_to_literal(&value, 0)?;
    Some(Expr::literal(literal, expr.data_type.clone()))
}
