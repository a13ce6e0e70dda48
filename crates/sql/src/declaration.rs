//! Declarations of tables put together: LIKE takes over parts of another table, AS the columns of a query. Binds nothing.

use flott_core::error::Position;
use flott_core::types::TypeKind;
use flott_core::{Error, Result};

use crate::catalog::Table;
use crate::diag::{place, suggestion};
use crate::parser::ast::{
    ColumnDef, ColumnKind, CreateTable, LikeFeature, LikeStrategy, Name, PartitionSpec, TableLike,
};
use crate::planner::rel::RelColumn;

/// What LIKE does with a part that its options do not name, as in Flink.
fn strategy(like: &TableLike, feature: LikeFeature) -> LikeStrategy {
    let of = |f: LikeFeature| like.options.iter().find(|(_, known)| *known == f).map(|(s, _)| *s);
    of(feature).or_else(|| of(LikeFeature::All)).unwrap_or(match feature {
        LikeFeature::Options => LikeStrategy::Overwriting,
        _ => LikeStrategy::Including,
    })
}

fn twice(what: &str, remedy: &str, at: Option<Position>) -> Error {
    let error = Error::user("sql.like", format!("the table behind LIKE has {what} already"));
    place(error.hint(remedy.to_owned()), at)
}

/// The declaration with what it takes over from `base`.
pub(crate) fn like(create: &CreateTable, like: &TableLike, base: &CreateTable) -> Result<CreateTable> {
    use LikeFeature as F;
    use LikeStrategy as S;
    let mut merged = CreateTable { like: None, columns: like_columns(create, like, base)?, ..create.clone() };
    let taken = |feature| strategy(like, feature) != S::Excluding;
    if taken(F::Constraints) && !base.primary_key.is_empty() {
        if let Some(key) = create.primary_key.first() {
            return Err(twice("a PRIMARY KEY", "write LIKE t (EXCLUDING CONSTRAINTS)", key.position));
        }
        merged.primary_key = base.primary_key.clone();
    }
    if taken(F::Partitions) && !base.partitioned_by.is_empty() {
        if let Some(key) = create.partitioned_by.first() {
            return Err(twice("partitions", "write LIKE t (EXCLUDING PARTITIONS)", key.position));
        }
        merged.partitioned_by = base.partitioned_by.clone();
    }
    if let (true, Some(watermark)) = (taken(F::Watermarks), &base.watermark) {
        match &create.watermark {
            Some(w) if strategy(like, F::Watermarks) == S::Including && w.column == watermark.column => {
                return Err(twice("a watermark", "write LIKE t (OVERWRITING WATERMARKS)", w.position));
            }
            Some(_) => {}
            None => merged.watermark = Some(watermark.clone()),
        }
    }
    if taken(F::Options) {
        for (key, value, _) in &base.options {
            match create.options.iter().find(|(k, ..)| k == key) {
                Some((.., at)) if strategy(like, F::Options) == S::Including => {
                    return Err(twice(&format!("the option '{key}'"), "write LIKE t (OVERWRITING OPTIONS)", *at));
                }
                Some(_) => {}
                None => merged.options.push((key.clone(), value.clone(), create.name.position)),
            }
        }
    }
    merged.comment = create.comment.clone().or_else(|| base.comment.clone());
    Ok(merged)
}

fn like_columns(create: &CreateTable, like: &TableLike, base: &CreateTable) -> Result<Vec<ColumnDef>> {
    let feature_of = |kind: &ColumnKind| match kind {
        ColumnKind::Physical(_) => None,
        ColumnKind::Metadata { .. } => Some(LikeFeature::Metadata),
        ColumnKind::Computed { .. } => Some(LikeFeature::Generated),
    };
    let taken = |c: &&ColumnDef| feature_of(&c.kind).is_none_or(|f| strategy(like, f) != LikeStrategy::Excluding);
    let mut columns: Vec<ColumnDef> = base.columns.iter().filter(taken).cloned().collect();
    for own in &create.columns {
        let Some(i) = columns.iter().position(|c| c.name.value == own.name.value) else {
            columns.push(own.clone());
            continue;
        };
        let feature = feature_of(&columns[i].kind).filter(|f| feature_of(&own.kind) == Some(*f));
        match feature {
            Some(f) if strategy(like, f) == LikeStrategy::Overwriting => columns[i] = own.clone(),
            _ => {
                let what = format!("a column `{}`", own.name.value);
                let remedy = match feature {
                    Some(LikeFeature::Metadata) => "write LIKE t (OVERWRITING METADATA)",
                    Some(_) => "write LIKE t (OVERWRITING GENERATED)",
                    None => "name the column differently: types of physical columns are taken over as they are",
                };
                return Err(twice(&what, remedy, own.name.position));
            }
        }
    }
    Ok(columns)
}

/// The declaration of CREATE TABLE … AS, and the columns that its query fills, in the query's order. As in Flink: columns of the
/// CREATE part first, then those of the query, whose types the CREATE part may change.
pub(crate) fn as_query(create: &CreateTable, query: &[RelColumn]) -> Result<(CreateTable, Vec<Name>)> {
    let at = create.name.position;
    let bad = |message: String| place(Error::user("sql.create-as", message), at);
    let query = apart(query);
    let names: Vec<&str> = query.iter().map(|c| c.name.as_str()).collect();
    for c in &query {
        if c.data_type.kind == TypeKind::Null {
            let error = bad(format!("column `{}` of the query is NULL and has no type", c.name));
            return Err(error.hint("CAST it to the type the column is to have"));
        }
    }
    let mut merged = CreateTable { query: None, order: Vec::new(), ..create.clone() };
    let in_query = |c: &ColumnDef| names.contains(&c.name.value.as_str());
    if let Some(c) = create.columns.iter().find(|c| in_query(c) && !matches!(c.kind, ColumnKind::Physical(_))) {
        let message = format!("column `{}` is one of the query and cannot be computed or metadata", c.name.value);
        return Err(place(Error::user("sql.create-as", message), c.name.position));
    }
    merged.columns.retain(|c| !in_query(c));
    let of_query = |c: &RelColumn| {
        let declared = create.columns.iter().find(|d| d.name.value == c.name).cloned();
        declared.unwrap_or_else(|| ColumnDef {
            name: Name { value: c.name.clone(), position: at },
            kind: ColumnKind::Physical(c.data_type.clone()),
            comment: None,
        })
    };
    let filled = query.iter().map(|c| Name { value: c.name.clone(), position: at }).collect();
    if create.order.is_empty() {
        merged.columns.extend(query.iter().map(of_query));
        return Ok((merged, filled));
    }
    if create.order.len() != query.len() {
        return Err(bad(format!("{} columns are named, the query has {}", create.order.len(), query.len())));
    }
    for name in &create.order {
        let Some(c) = query.iter().find(|c| c.name == name.value) else {
            let error = Error::user("sql.create-as", format!("the query has no column `{}`", name.value));
            return Err(place(error.hint(suggestion(&name.value, &names, 16)), name.position));
        };
        merged.columns.push(of_query(c));
    }
    Ok((merged, filled))
}

/// The columns with names that tell them apart: the second `id` is `id0`, as in Flink.
fn apart(query: &[RelColumn]) -> Vec<RelColumn> {
    let mut out: Vec<RelColumn> = Vec::with_capacity(query.len());
    for column in query {
        let taken = |name: &str| out.iter().any(|c| c.name == name);
        let free =
            (0..).map(|n| format!("{}{n}", column.name)).find(|n| !taken(n) && !query.iter().any(|c| c.name == *n));
        let name = if taken(&column.name) { free.unwrap_or_default() } else { column.name.clone() };
        out.push(column.renamed(&name));
    }
    out
}

/// A partition as `column=value` pairs in the order of the table's partition columns.
pub(crate) fn partition(table: &Table, spec: &PartitionSpec, whole: bool) -> Result<Vec<(String, String)>> {
    let keys: Vec<&str> = table.partition_keys.iter().map(|&k| table.columns[k].name.as_str()).collect();
    if let Some((name, _)) = spec.iter().find(|(n, _)| !keys.contains(&n.value.as_str())) {
        let message = format!("`{}` is no partition column of `{}`", name.value, table.name);
        let error = Error::user("sql.partition", message).hint(suggestion(&name.value, &keys, 12));
        return Err(place(error, name.position));
    }
    let value = |key: &&str| spec.iter().find(|(n, _)| n.value == *key).map(|(_, v)| ((*key).to_owned(), v.clone()));
    if let (true, Some(missing)) = (whole, keys.iter().find(|k| value(k).is_none())) {
        let message = format!("the partition lacks a value of `{missing}`");
        let at = spec.first().and_then(|(n, _)| n.position);
        return Err(place(Error::user("sql.partition", message), at));
    }
    Ok(keys.iter().filter_map(value).collect())
}
