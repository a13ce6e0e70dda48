//! CREATE TABLE and CREATE VIEW: declarations checked and bound. Makes no source or sink.

use std::collections::BTreeMap;
use std::sync::Arc;

use flott_core::error::Position;
use flott_core::registry::{ConnectorFactory, Registry};
use flott_core::sink::ChangelogMode;
use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_expr::bind_cast;
use flott_plan::{Expr, ExprKind};

use crate::binder::{ExprBinder, QueryBinder, Scope};
use crate::catalog::{Catalog, ColumnSource, ObjectPath, Table, TableColumn, View};
use crate::diag::{place, suggestion};
use crate::parser::ast::{ColumnKind, CreateTable, CreateView, Name, Watermark};
use crate::planner::graph::{same_values, table_spec};
use crate::planner::rel::RelColumn;

/// Options every table may have, whatever its connector.
const COMMON_OPTIONS: &[&str] = &[
    "connector",
    "format",
    "scan.parallelism",
    "sink.parallelism",
    "scan.watermark.emit.strategy",
    "scan.watermark.idle-timeout",
    "scan.watermark.alignment.group",
    "scan.watermark.alignment.max-drift",
    "scan.watermark.alignment.update-interval",
];

/// The table that a CREATE TABLE declares.
pub(crate) fn table(create: &CreateTable, path: ObjectPath, registry: &Registry) -> Result<Table> {
    let (at, name) = (create.name.position, &path.name);
    let mut options = BTreeMap::new();
    for (key, value, position) in &create.options {
        if options.insert(key.clone(), value.clone()).is_some() {
            return Err(place(Error::user("table.option", format!("option '{key}' is given twice")), *position));
        }
    }
    let connector_at = create.options.iter().find(|o| o.0 == "connector").and_then(|o| o.2).or(at);
    let factory = registry.connector(name, &options).map_err(|e| place(e, connector_at))?;
    check_options(create, factory.as_ref(), &options)?;
    let mut columns = plain_columns(create, factory.as_ref(), &options)?;
    let primary_key = key_columns(&columns, &create.primary_key, "PRIMARY KEY")?;
    for &i in &primary_key {
        if !matches!(columns[i].source, ColumnSource::Physical) {
            let error = Error::user("table.primary-key", format!("key column `{}` is not physical", columns[i].name));
            return Err(place(error, at));
        }
        // As in Flink, key columns are NOT NULL whether they say so or not.
        columns[i].data_type.nullable = false;
    }
    computed_columns(create, &mut columns)?;
    let partition_keys = key_columns(&columns, &create.partitioned_by, "PARTITIONED BY")?;
    let mut table = Table {
        name: name.clone(),
        columns,
        watermark: None,
        primary_key,
        partition_keys,
        options,
        comment: create.comment.clone(),
        temporary: create.temporary,
        watermark_text: create.watermark.as_ref().map(|w| w.text.clone()),
        source_mode: ChangelogMode::Append,
        declaration: with_key(create),
        partitions: Vec::new(),
        hinted: String::new(),
        path,
    };
    watermark(create, &mut table)?;
    // An option that is wrong is reported when the table is read.
    let spec = table_spec(&table, &table.source_columns(), ChangelogMode::Append);
    table.source_mode = factory.source_mode(&spec).unwrap_or(ChangelogMode::Append);
    Ok(table)
}

/// The declaration with its key columns NOT NULL: they stay so when the key goes.
fn with_key(create: &CreateTable) -> CreateTable {
    let mut declaration = create.clone();
    for column in &mut declaration.columns {
        if let ColumnKind::Physical(t) = &mut column.kind {
            t.nullable &= !create.primary_key.iter().any(|k| k.value == column.name.value);
        }
    }
    declaration
}

fn check_options(
    create: &CreateTable,
    factory: &dyn ConnectorFactory,
    options: &BTreeMap<String, String>,
) -> Result<()> {
    let known = factory.options();
    let fits = |pattern: &str, key: &str| match pattern.split_once('#') {
        Some((head, tail)) => key.len() > head.len() + tail.len() && key.starts_with(head) && key.ends_with(tail),
        None => pattern == key,
    };
    let formats: Vec<&str> =
        ["format", "value.format", "key.format"].iter().filter_map(|k| options.get(*k).map(String::as_str)).collect();
    for (key, _, position) in &create.options {
        let of_format = formats.iter().any(|f| {
            let rest = key.strip_prefix("value.").or(key.strip_prefix("key.")).unwrap_or(key);
            rest.strip_prefix(f).is_some_and(|r| r.starts_with('.'))
        });
        let common = COMMON_OPTIONS.contains(&key.as_str());
        if of_format || common || known.iter().any(|o| fits(o.key, key)) {
            continue;
        }
        let names: Vec<&str> = known.iter().map(|o| o.key).chain(COMMON_OPTIONS.iter().copied()).collect();
        let message = format!("connector '{}' has no option '{key}'", factory.identifier());
        let error = Error::user("table.unknown-option", message).hint(suggestion(key, &names, 40));
        return Err(place(error, *position));
    }
    for option in known.iter().filter(|o| o.required) {
        if !options.contains_key(option.key) {
            let message = format!("connector '{}' needs the option '{}'", factory.identifier(), option.key);
            let error = Error::user("table.missing-option", message).detail(option.doc);
            return Err(place(error, create.name.position));
        }
    }
    for key in ["scan.parallelism", "sink.parallelism"] {
        if let Some(value) = options.get(key)
            && !value.parse::<u32>().is_ok_and(|n| n > 0)
        {
            let error = Error::user("table.option", format!("'{key}' = '{value}' is not a positive number"));
            let position = create.options.iter().find(|o| o.0 == key).and_then(|o| o.2);
            return Err(place(error, position));
        }
    }
    Ok(())
}

/// Physical and metadata columns bound; computed ones as placeholders, in the order declared.
fn plain_columns(
    create: &CreateTable,
    factory: &dyn ConnectorFactory,
    options: &BTreeMap<String, String>,
) -> Result<Vec<TableColumn>> {
    let mut columns: Vec<TableColumn> = Vec::new();
    let no_physical = !create.columns.iter().any(|c| matches!(c.kind, ColumnKind::Physical(_)));
    if no_physical && let Some(defaults) = factory.default_columns() {
        columns.extend(defaults.into_iter().map(|c| TableColumn {
            name: c.name,
            data_type: c.data_type,
            source: ColumnSource::Physical,
            comment: None,
        }));
    } else if no_physical {
        let error = Error::user("table.no-columns", format!("table `{}` has no physical column", create.name))
            .hint("declare the columns of its records");
        return Err(place(error, create.name.position));
    }
    for def in &create.columns {
        if columns.iter().any(|c| c.name == def.name.value) {
            let error = Error::user("table.duplicate-column", format!("column `{}` is declared twice", def.name.value));
            return Err(place(error, def.name.position));
        }
        let (data_type, source) = match &def.kind {
            ColumnKind::Physical(t) => (t.clone(), ColumnSource::Physical),
            ColumnKind::Metadata { data_type, key, is_virtual } => {
                let key = key.clone().unwrap_or_else(|| def.name.value.clone());
                let given = metadata_type(factory, options, &key, data_type, *is_virtual, def.name.position)?;
                (data_type.clone(), ColumnSource::Metadata { key, is_virtual: *is_virtual, given })
            }
            ColumnKind::Computed { text, .. } => {
                let nothing = Expr::literal(flott_plan::Literal::Null, TypeKind::Null.nullable());
                (TypeKind::Null.nullable(), ColumnSource::Computed(nothing, text.clone()))
            }
        };
        columns.push(TableColumn { name: def.name.value.clone(), data_type, source, comment: def.comment.clone() });
    }
    Ok(columns)
}

/// The connector's type of a metadata column, which must cast to the declared one and, when it is written, back.
fn metadata_type(
    factory: &dyn ConnectorFactory,
    options: &BTreeMap<String, String>,
    key: &str,
    data_type: &DataType,
    is_virtual: bool,
    at: Option<Position>,
) -> Result<DataType> {
    let known = factory.metadata(options);
    let casts = |from: &DataType, to: &DataType| {
        same_values(&from.kind, &to.kind) || bind_cast(Expr::column(0, from.clone()), to.clone(), false).is_ok()
    };
    match known.iter().find(|(k, _)| k == key) {
        Some((_, found)) if casts(found, data_type) && (is_virtual || casts(data_type, found)) => Ok(found.clone()),
        Some((_, found)) => {
            let message = format!("metadata '{key}' is of type {} and does not cast to {}", found.kind, data_type.kind);
            Err(place(Error::user("table.metadata", message).hint("declare it so, and CAST in the query"), at))
        }
        // Keys that are only written are the sink's affair.
        None if !is_virtual && known.is_empty() => {
            let message = format!("connector '{}' has no metadata", factory.identifier());
            Err(place(Error::user("table.metadata", message), at))
        }
        None => {
            let names: Vec<&str> = known.iter().map(|(k, _)| k.as_str()).collect();
            let message = format!("connector '{}' has no metadata '{key}'", factory.identifier());
            Err(place(Error::user("table.metadata", message).hint(suggestion(key, &names, 20)), at))
        }
    }
}

fn scope_of(columns: &[TableColumn], keep: impl Fn(&TableColumn) -> bool) -> (Scope, Vec<usize>) {
    let places: Vec<usize> = (0..columns.len()).filter(|&i| keep(&columns[i])).collect();
    let visible = places.iter().map(|&i| RelColumn::new(&columns[i].name, columns[i].data_type.clone())).collect();
    (Scope::columns(visible, None), places)
}

fn computed_columns(create: &CreateTable, columns: &mut [TableColumn]) -> Result<()> {
    // As in Flink, computed columns see physical and metadata columns, not each other.
    let (scope, places) = scope_of(columns, |c| !matches!(c.source, ColumnSource::Computed(..)));
    for def in &create.columns {
        let ColumnKind::Computed { expr, text } = &def.kind else { continue };
        let bound = ExprBinder::new(&scope, "a computed column").bind(expr)?;
        let bound = bound.renumber(&|i| places[i]);
        if let Some(column) = columns.iter_mut().find(|c| c.name == def.name.value) {
            column.data_type = bound.data_type.clone();
            column.source = ColumnSource::Computed(bound, text.clone());
        }
    }
    Ok(())
}

fn key_columns(columns: &[TableColumn], names: &[Name], what: &str) -> Result<Vec<usize>> {
    let mut out = Vec::new();
    for name in names {
        let Some(i) = columns.iter().position(|c| c.name == name.value) else {
            let all: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
            let error = Error::user("sql.unknown-column", format!("{what}: there is no column `{}`", name.value))
                .hint(suggestion(&name.value, &all, 16));
            return Err(place(error, name.position));
        };
        out.push(i);
    }
    Ok(out)
}

fn watermark(create: &CreateTable, table: &mut Table) -> Result<()> {
    let Some(Watermark { column, expr, position: at, .. }) = &create.watermark else { return Ok(()) };
    let name = column.join(".");
    let Some(i) = table.columns.iter().position(|c| c.name == name) else {
        let all: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
        let error = Error::user("sql.unknown-column", format!("WATERMARK: there is no column `{name}`"))
            .hint(suggestion(&name, &all, 16));
        return Err(place(error, *at));
    };
    let rowtime = &table.columns[i].data_type.kind;
    if !matches!(rowtime, TypeKind::Timestamp(0..=3) | TypeKind::TimestampLtz(0..=3)) {
        let message = format!(
            "the rowtime column `{name}` must be TIMESTAMP(p) or TIMESTAMP_LTZ(p) with p up to 3, but is {rowtime}"
        );
        let error = Error::user("sql.time-attribute", message);
        return Err(place(error.hint("declare it so, or compute it: ts AS TO_TIMESTAMP(text)"), *at));
    }
    let (scope, places) = scope_of(&table.columns, |_| true);
    let bound = ExprBinder::new(&scope, "WATERMARK").bind(expr)?;
    let bound = bound.renumber(&|c| places[c]);
    if std::mem::discriminant(&bound.data_type.kind) != std::mem::discriminant(rowtime) {
        let message = format!("the watermark of `{name}` must be a {rowtime}, but is {}", bound.data_type.kind);
        return Err(place(Error::user("sql.time-attribute", message), *at));
    }
    debug_assert!(!matches!(bound.kind, ExprKind::Literal(_)) || places.len() == table.columns.len(), "all columns");
    table.watermark = Some((i, bound));
    Ok(())
}

/// The view that a CREATE VIEW declares; its query must bind.
pub(crate) fn view(create: &CreateView, path: ObjectPath, catalog: &Catalog) -> Result<Arc<View>> {
    let rel = QueryBinder::new(catalog).query(&create.query)?;
    if !create.columns.is_empty() && create.columns.len() != rel.columns.len() {
        let message = format!("the view names {} columns, its query has {}", create.columns.len(), rel.columns.len());
        return Err(place(Error::user("sql.columns", message), create.columns[0].position));
    }
    let columns = match create.columns.is_empty() {
        true => rel.columns.iter().map(|c| c.name.clone()).collect(),
        false => create.columns.iter().map(|n| n.value.clone()).collect(),
    };
    Ok(Arc::new(View {
        name: path.name.clone(),
        path,
        temporary: create.temporary,
        comment: create.comment.clone(),
        columns,
        query: create.query.clone(),
        text: create.text.clone(),
        home: catalog.home.clone(),
    }))
}
