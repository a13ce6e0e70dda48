//! For tests only: a small reader of SQL expressions over the binder, and evaluation of them as text; never part of the crate's code.

mod parser;

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use flott_core::Result;
use flott_core::types::{Column, TypeKind, arrow_schema};
use flott_plan::expr::{Expr, ExprKind, Literal};

use crate::compile::{CompiledExpr, EvalContext, Value, literal_to_array};
use crate::kernels;

pub(crate) use parser::parse;

/// 2026-01-15 23:46:00.953 UTC.
pub(crate) const NOW_MS: i64 = 1_768_520_760_953;

pub(crate) fn context() -> EvalContext {
    EvalContext::new(NOW_MS, chrono_tz::Europe::Berlin)
}

/// A batch of `columns` with `rows` rows.
pub(crate) fn batch(columns: Vec<(Column, ArrayRef)>, rows: usize) -> (Vec<Column>, RecordBatch) {
    let (columns, arrays): (Vec<Column>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(arrow_schema(&columns), arrays, &options).expect("columns fit");
    (columns, batch)
}

/// Evaluates to text, row by row.
pub(crate) fn evaluate(expr: &Expr, columns: &[Column], batch: &RecordBatch) -> Result<Vec<String>> {
    let array = CompiledExpr::compile(expr, columns)?.evaluate(batch, &context())?;
    assert_eq!(array.data_type(), &expr.data_type.kind.to_arrow(), "type of {expr}");
    assert_eq!(array.len(), batch.num_rows(), "rows of {expr}");
    // An overflow of DECIMAL is NULL all the same.
    let may_be_null = expr.data_type.nullable || matches!(expr.data_type.kind, TypeKind::Decimal(..));
    assert!(may_be_null || array.null_count() == 0, "{expr} is NOT NULL and has a NULL");
    let cast = kernels::cast::kernel(&expr.data_type.kind, &TypeKind::STRING, false)?;
    let text = (cast.kernel)(&[Value::Array(Arc::clone(&array))], array.len(), &context())?;
    let text = arrow_array::cast::AsArray::as_string::<i32>(&text);
    Ok((0..text.len()).map(|i| if text.is_null(i) { "NULL".to_owned() } else { text.value(i).to_owned() }).collect())
}

/// Evaluates `sql` as a constant, then once more with its literals as columns: both must agree.
pub(crate) fn constant(sql: &str) -> Result<String> {
    let expr = parse(sql, &[])?;
    let (columns, one) = batch(vec![], 1);
    let expected = evaluate(&expr, &columns, &one).map(|rows| rows[0].clone());
    let mut literals = Vec::new();
    let lifted = lift(&expr, &mut literals);
    let (columns, three) = batch(literals, 3);
    let rows = evaluate(&lifted, &columns, &three);
    match (expected, rows) {
        (Ok(expected), Ok(rows)) => {
            assert!(rows.iter().all(|r| *r == expected), "{sql}: constant {expected}, column {rows:?}");
            Ok(expected)
        }
        (Err(e), Err(_)) => Err(e),
        (a, b) => panic!("{sql}: constant {a:?}, column {b:?}"),
    }
}

/// The expression with literals replaced by columns of three equal rows, except where only a constant will do.
fn lift(expr: &Expr, columns: &mut Vec<(Column, ArrayRef)>) -> Expr {
    let constant_at = |function: &str| match function {
        "EXTRACT" | "TIMESTAMPDIFF" | "TIMESTAMPADD" => Some(0),
        "FLOOR" | "CEIL" | "TO_TIMESTAMP_LTZ" => Some(1),
        _ => None,
    };
    let kind = match &expr.kind {
        ExprKind::Literal(literal) => {
            let one = literal_to_array(literal, &expr.data_type).expect("literal");
            let array = Value::Scalar(one).into_array(3).expect("three rows");
            columns.push((Column::new(format!("c{}", columns.len()), expr.data_type.clone()), array));
            ExprKind::Column(columns.len() - 1)
        }
        ExprKind::Call { function, args } => {
            let args = args
                .iter()
                .enumerate()
                .map(|(i, a)| if constant_at(function) == Some(i) { a.clone() } else { lift(a, columns) });
            ExprKind::Call { function: function.clone(), args: args.collect() }
        }
        ExprKind::User { function, args } => {
            let args = args.iter().map(|a| lift(a, columns)).collect();
            ExprKind::User { function: function.clone(), args }
        }
        ExprKind::Cast { input, safe } => ExprKind::Cast { input: Box::new(lift(input, columns)), safe: *safe },
        ExprKind::Case { branches, otherwise } => ExprKind::Case {
            branches: branches.iter().map(|(c, v)| (lift(c, columns), lift(v, columns))).collect(),
            otherwise: otherwise.as_ref().map(|e| Box::new(lift(e, columns))),
        },
        ExprKind::Field(input, i) => ExprKind::Field(Box::new(lift(input, columns)), *i),
        ExprKind::Column(i) => ExprKind::Column(*i),
    };
    Expr { kind, data_type: expr.data_type.clone() }
}

/// Checks lines `expression => value`, or `expression => error: part of the message`. Lines that start with `#` are comments.
pub(crate) fn check(script: &str) {
    compare(script, constant);
}

/// Runs all lines; then fails with those that differ.
fn compare(script: &str, run: impl Fn(&str) -> Result<String>) {
    let mut wrong = Vec::new();
    for line in script.lines().map(str::trim_start).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (sql, expected) = line.split_once(" => ").unwrap_or_else(|| panic!("no => in: {line}"));
        let found = run(sql.trim()).unwrap_or_else(|e| format!("error: {e}"));
        let fits = match expected.strip_prefix("error: ") {
            Some(part) => found.starts_with("error: ") && found.contains(part),
            None => found == expected,
        };
        if !fits {
            wrong.push(format!("{sql} => {found}   (expected {expected})"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Checks lines `expression => type`.
pub(crate) fn check_types(script: &str, columns: &[Column]) {
    compare(script, |sql| Ok(parse(sql, columns)?.data_type.to_string()));
}

/// A literal of a type.
pub(crate) fn literal(value: Literal, kind: TypeKind) -> Expr {
    Expr::literal(value, kind.not_null())
}
