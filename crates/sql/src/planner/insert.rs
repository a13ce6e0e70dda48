//! INSERT INTO: the query fitted to the sink's columns. Creates no sink.

use flott_core::config::{Configuration, keys};
use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_expr::{bind_cast, constant_fold, is_implicit_cast};
use flott_plan::{Expr, Literal};

use super::graph::same_values;
use super::rel::{Rel, RelColumn};
use crate::binder::{ExprBinder, Scope};
use crate::catalog::Table;
use crate::diag::{At, place, suggestion};
use crate::parser::ast::{Insert, Name};

/// The query with the sink's columns, cast where Flink casts by itself.
pub(crate) fn fit(rel: Rel, table: &Table, insert: &Insert) -> Result<Rel> {
    let sink: Vec<usize> = table.sink_columns();
    let constants = partition_values(table, insert)?;
    let mut targets: Vec<usize> = match &insert.columns {
        None => table.insert_columns(),
        Some(names) => named_columns(table, &sink, names, &constants)?,
    };
    targets.retain(|i| !constants.iter().any(|(c, _)| c == i));
    let schemas = |error: Error| {
        let query: Vec<String> = rel.columns.iter().map(|c| format!("{}: {}", c.name, c.data_type)).collect();
        let expected: Vec<String> =
            targets.iter().map(|&i| format!("{}: {}", table.columns[i].name, table.columns[i].data_type)).collect();
        let detail = format!("query schema: [{}]; sink schema: [{}]", query.join(", "), expected.join(", "));
        place(error.detail(detail), insert.table.position)
    };
    let mismatch = |cause: String| {
        let message = format!("column types of query result and sink for `{}` do not match: {cause}", table.name);
        schemas(Error::user("sql.insert", message))
    };
    if rel.columns.len() != targets.len() {
        let cause = format!(
            "different number of columns, {} from the query and {} in the sink",
            rel.columns.len(),
            targets.len()
        );
        return Err(mismatch(cause));
    }
    let given = rel.identity();
    let mut exprs = Vec::with_capacity(sink.len());
    for &i in &sink {
        let target = &table.columns[i];
        let given_type = table.connector_column(i).data_type.kind;
        if let Some((_, value)) = constants.iter().find(|(c, _)| *c == i) {
            exprs.push(value.clone());
            continue;
        }
        let Some(at) = targets.iter().position(|t| *t == i) else {
            exprs.push(Expr::literal(Literal::Null, given_type.nullable()));
            continue;
        };
        let e = given[at].clone();
        if !is_implicit_cast(&e.data_type.kind, &target.data_type.kind) {
            let cause = format!(
                "incompatible types for sink column `{}` at position {at}: {} does not become {} by itself",
                target.name, e.data_type.kind, target.data_type.kind
            );
            return Err(mismatch(cause).hint(format!("CAST it to {}", target.data_type.kind)));
        }
        let nullable = e.data_type.nullable;
        let to = DataType { kind: target.data_type.kind.clone(), nullable };
        let e = bind_cast(e, to, false).at(insert.table.position)?;
        // Metadata goes to the connector in the connector's type.
        exprs.push(match same_values(&given_type, &e.data_type.kind) {
            true => e,
            false => bind_cast(e, DataType { kind: given_type, nullable }, false).at(insert.table.position)?,
        });
    }
    let names: Vec<String> = sink.iter().map(|&i| table.columns[i].name.clone()).collect();
    Ok(rel.project(exprs, &names))
}

/// The values that PARTITION (…) gives to partition columns.
fn partition_values(table: &Table, insert: &Insert) -> Result<Vec<(usize, Expr)>> {
    let mut out: Vec<(usize, Expr)> = Vec::new();
    for (name, value) in &insert.partition {
        let keys: Vec<&str> = table.partition_keys.iter().map(|&k| table.columns[k].name.as_str()).collect();
        let Some(at) = keys.iter().position(|k| *k == name.value) else {
            let message = format!("`{}` is no partition column of `{}`", name.value, table.name);
            let error = Error::user("sql.partition", message).hint(suggestion(&name.value, &keys, 12));
            return Err(place(error, name.position));
        };
        let column = table.partition_keys[at];
        if out.iter().any(|(c, _)| *c == column) {
            let error = Error::user("sql.partition", format!("partition column `{}` is given twice", name.value));
            return Err(place(error, name.position));
        }
        let value = ExprBinder::new(&Scope::default(), "PARTITION").bind(value)?;
        let declared = &table.columns[column].data_type;
        let to = DataType { kind: declared.kind.clone(), nullable: value.data_type.nullable };
        out.push((column, constant_fold(&bind_cast(value, to, false).at(name.position)?)));
    }
    Ok(out)
}

fn named_columns(table: &Table, sink: &[usize], names: &[Name], given: &[(usize, Expr)]) -> Result<Vec<usize>> {
    let mut out: Vec<usize> = Vec::new();
    for name in names {
        let Some(&i) = sink.iter().find(|&&i| table.columns[i].name == name.value) else {
            let all: Vec<&str> = sink.iter().map(|&i| table.columns[i].name.as_str()).collect();
            let error = Error::user(
                "sql.unknown-column",
                format!("table `{}` has no column `{}` to write", table.name, name.value),
            );
            return Err(place(error.hint(suggestion(&name.value, &all, 16)), name.position));
        };
        if out.contains(&i) {
            let error = Error::user("sql.insert", format!("column `{}` is named twice", name.value));
            return Err(place(error, name.position));
        }
        out.push(i);
    }
    for &i in sink {
        let c = &table.columns[i];
        if !out.contains(&i) && !given.iter().any(|(g, _)| *g == i) && !c.data_type.nullable {
            let error = Error::user(
                "sql.insert",
                format!("column `{}` of `{}` is {} and is given no value", c.name, table.name, c.data_type),
            );
            return Err(place(error, names.first().and_then(|n| n.position)));
        }
    }
    Ok(out)
}

/// NOT NULL columns of the sink that the query may leave NULL, and whether such rows are dropped.
pub(crate) fn not_null_columns(
    table: &Table,
    columns: &[RelColumn],
    config: &Configuration,
) -> Option<(Vec<(usize, String)>, bool)> {
    let checked: Vec<(usize, String)> = table
        .sink_columns()
        .into_iter()
        .enumerate()
        .filter(|(at, i)| !table.columns[*i].data_type.nullable && may_be_null(&columns[*at]))
        .map(|(at, i)| (at, table.columns[i].name.clone()))
        .collect();
    (!checked.is_empty()).then_some((checked, drops(config)))
}

/// Columns of a query's result that are NOT NULL and may hold NULL all the same, and whether such rows are dropped.
pub(crate) fn not_null_results(columns: &[RelColumn], config: &Configuration) -> Option<(Vec<(usize, String)>, bool)> {
    let checked: Vec<(usize, String)> = columns
        .iter()
        .enumerate()
        .filter(|(_, c)| !c.data_type.nullable && may_be_null(c))
        .map(|(at, c)| (at, c.name.clone()))
        .collect();
    (!checked.is_empty()).then_some((checked, drops(config)))
}

/// As in Flink, the type of DECIMAL arithmetic does not say that an overflow gives NULL.
fn may_be_null(column: &RelColumn) -> bool {
    column.data_type.nullable || matches!(column.data_type.kind, TypeKind::Decimal(..))
}

fn drops(config: &Configuration) -> bool {
    config.enum_value(keys::NOT_NULL_ENFORCER) == Some("DROP")
}
