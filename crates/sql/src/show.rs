//! SHOW and DESCRIBE: the catalog as rows. Changes nothing.

use std::fmt::Write;

use flott_core::types::{Column, DataType, TypeKind};
use flott_core::{Error, Result};
use sqlparser::tokenizer::Token;

use crate::binder::{QueryBinder, scan_of};
use crate::catalog::{Catalog, CatalogObject, ColumnSource, Home, Table};
use crate::diag::place;
use crate::functions::Functions;
use crate::parser::ast::{Like, Path, Show};
use crate::parser::dialect::FlinkDialect;
use crate::parser::tokenize;
use crate::session::Planned;

/// Columns of type STRING.
pub(crate) fn strings(names: &[&str]) -> Vec<Column> {
    names.iter().map(|n| Column::new(*n, TypeKind::STRING.nullable())).collect()
}

fn single(column: &str, values: impl IntoIterator<Item = String>) -> Planned {
    Planned::Rows { columns: strings(&[column]), rows: values.into_iter().map(|v| vec![Some(v)]).collect() }
}

/// SHOW …
pub(crate) fn show(catalog: &Catalog, own: &Functions, what: &Show) -> Result<Planned> {
    let home = |of: &Option<Path>| of.as_ref().map_or(Ok(catalog.home.clone()), |p| catalog.database_path(p));
    let objects = |home: &Home, views_only: bool, like: &Option<Like>| {
        let all = catalog.objects_in(home).into_iter().filter(|(_, o)| !views_only || o.is_view());
        all.map(|(n, _)| n.to_owned()).filter(|n| matches_like(n, like)).collect::<Vec<_>>()
    };
    Ok(match what {
        Show::Tables { of, like } => single("table name", objects(&home(of)?, false, like)),
        Show::Views { of, like } => single("view name", objects(&home(of)?, true, like)),
        Show::Catalogs { like } => {
            single("catalog name", catalog.catalogs.keys().filter(|n| matches_like(n, like)).cloned())
        }
        Show::Databases { of, like } => {
            let of = of.as_ref().map_or(catalog.home.catalog.clone(), Path::to_string);
            let known = catalog.catalogs.get(&of).ok_or_else(|| {
                Error::user("sql.unknown-database", format!("there is no catalog `{of}`"))
                    .hint("SHOW CATALOGS lists what there is")
            })?;
            single("database name", known.keys().filter(|n| matches_like(n, like)).cloned())
        }
        Show::CurrentCatalog => single("current catalog name", [catalog.home.catalog.clone()]),
        Show::CurrentDatabase => single("current database name", [catalog.home.database.clone()]),
        Show::Modules => single("module name", ["core".to_owned()]),
        Show::Jobs => {
            Planned::Rows { columns: strings(&["job id", "job name", "status", "start time"]), rows: Vec::new() }
        }
        Show::Functions { user, like } => {
            let mut functions = if *user { Vec::new() } else { builtin_functions() };
            functions.extend(own.names());
            functions.retain(|n| matches_like(n, like));
            functions.sort();
            functions.dedup();
            single("function name", functions)
        }
        Show::Database(path) => {
            let home = catalog.database_path(path)?;
            let known = catalog.catalogs.get(&home.catalog).and_then(|c| c.get(&home.database));
            let known = known.ok_or_else(|| Error::bug("a database vanished"))?;
            let properties: Vec<String> = known.options.iter().map(|(k, v)| format!("({k}, {v})")).collect();
            let row = |name: &str, value: String| vec![Some(name.to_owned()), Some(value)];
            let rows = vec![
                row("Name", home.database),
                row("Comment", known.comment.clone().unwrap_or_default()),
                row("Properties", properties.join(", ")),
            ];
            Planned::Rows { columns: strings(&["info name", "info value"]), rows }
        }
        Show::Columns { of, like } => {
            let Planned::Rows { columns, mut rows } = describe(catalog, of)? else {
                return Err(Error::bug("DESCRIBE gives rows"));
            };
            rows.retain(|r| r.first().and_then(Option::as_deref).is_some_and(|n| matches_like(n, like)));
            Planned::Rows { columns, rows }
        }
        Show::Partitions { of, partition } => partitions(catalog, of, partition)?,
        Show::Create { view, name } => single("result", [create_text(catalog, *view, name)?]),
        Show::CreateCatalog(name) => {
            if !catalog.catalogs.contains_key(&name.value) {
                let error = Error::user("sql.unknown-database", format!("there is no catalog `{}`", name.value));
                return Err(place(error.hint("SHOW CATALOGS lists what there is"), name.position));
            }
            let text = format!("CREATE CATALOG `{}`\nWITH (\n  'type' = 'generic_in_memory'\n)\n", name.value);
            single("result", [text])
        }
    })
}

/// Names of the built-in functions.
pub(crate) fn builtin_functions() -> Vec<String> {
    let named = |n: &&str| n.starts_with(|c: char| c.is_ascii_alphabetic()) && !n.contains(' ');
    let mut functions: Vec<String> =
        flott_expr::function_names().into_iter().filter(named).map(str::to_lowercase).collect();
    functions.extend(["avg", "count", "max", "min", "sum", "tumble", "hop", "session"].map(str::to_owned));
    functions
}

/// `%` stands for any text, `_` for a character.
fn matches_like(name: &str, like: &Option<Like>) -> bool {
    let Some(like) = like else { return true };
    let fold = |t: &str| if like.any_case { t.to_lowercase() } else { t.to_owned() };
    let (name, pattern): (Vec<char>, Vec<char>) = (fold(name).chars().collect(), fold(&like.pattern).chars().collect());
    // One row of the usual table: which prefixes of the name the pattern so far matches.
    let mut fits = vec![false; name.len() + 1];
    fits[0] = true;
    for p in pattern {
        let before = fits.clone();
        fits[0] = p == '%' && before[0];
        for i in 1..=name.len() {
            fits[i] = match p {
                '%' => before[i] || fits[i - 1],
                '_' => before[i - 1],
                c => before[i - 1] && name[i - 1] == c,
            };
        }
    }
    fits[name.len()] != like.negated
}

fn partitions(catalog: &Catalog, of: &Path, spec: &crate::parser::ast::PartitionSpec) -> Result<Planned> {
    let table = match catalog.get(of)? {
        CatalogObject::Table(t) if !t.partition_keys.is_empty() => t,
        _ => {
            let error = Error::user("sql.partition", format!("`{of}` has no partitions"));
            return Err(place(error.hint("declare it PARTITIONED BY (…)"), of.position));
        }
    };
    let wanted = crate::declaration::partition(table, spec, false)?;
    let fits = |p: &&Vec<(String, String)>| wanted.iter().all(|w| p.contains(w));
    let text = |p: &Vec<(String, String)>| p.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("/");
    Ok(single("partition name", table.partitions.iter().filter(fits).map(text)))
}

/// DESCRIBE t
pub(crate) fn describe(catalog: &Catalog, path: &Path) -> Result<Planned> {
    let flag = |b: bool| Some(if b { "TRUE" } else { "FALSE" }.to_owned());
    let mut comments = Vec::new();
    let mut rows: Vec<Vec<Option<String>>> = match catalog.get(path)? {
        CatalogObject::Table(t) => {
            let scan = scan_of(t);
            comments = t.columns.iter().map(|c| c.comment.clone()).collect();
            t.columns
                .iter()
                .enumerate()
                .map(|(i, c)| {
                    let key = t.primary_key.contains(&i).then(|| {
                        let names: Vec<&str> = t.primary_key.iter().map(|&k| t.columns[k].name.as_str()).collect();
                        format!("PRI({})", names.join(", "))
                    });
                    let watermark = t.watermark.as_ref().filter(|w| w.0 == i).and(t.watermark_text.as_ref());
                    let watermark = watermark.map(|text| serialised(text, t));
                    let mut shown = scan.columns[i].clone();
                    shown.data_type.nullable = true;
                    let (nullable, extra) = (flag(c.data_type.nullable), extras(&c.source, &c.name, t));
                    vec![Some(c.name.clone()), Some(shown.type_text()), nullable, key, extra, watermark]
                })
                .collect()
        }
        CatalogObject::View(_) => {
            let rel = QueryBinder::new(catalog).table_columns(path)?;
            rel.into_iter()
                .map(|mut c| {
                    let nullable = c.data_type.nullable;
                    c.data_type.nullable = true;
                    vec![Some(c.name.clone()), Some(c.type_text()), flag(nullable), None, None, None]
                })
                .collect()
        }
    };
    let mut columns = strings(&["name", "type", "null", "key", "extras", "watermark"]);
    columns[2].data_type = TypeKind::Boolean.nullable();
    if comments.iter().any(Option::is_some) {
        columns.extend(strings(&["comment"]));
        rows.iter_mut().zip(comments).for_each(|(row, comment)| row.push(comment));
    }
    Ok(Planned::Rows { columns, rows })
}

/// An expression over the columns of a table as Flink writes it: names in backquotes, other words in capitals.
fn serialised(text: &str, table: &Table) -> String {
    let Ok(tokens) = tokenize(&FlinkDialect::default(), text) else { return text.to_owned() };
    let mut out = String::new();
    let mut after_dot = false;
    for t in &tokens {
        match &t.token {
            Token::Word(w) if after_dot || table.columns.iter().any(|c| c.name == w.value) => {
                let _ = write!(out, "`{}`", w.value.replace('`', "``"));
            }
            Token::Word(w) if w.quote_style.is_none() => out.push_str(&w.value.to_uppercase()),
            Token::Whitespace(_) => out.push(' '),
            Token::EOF => {}
            other => {
                let _ = write!(out, "{other}");
            }
        }
        after_dot = t.token == Token::Period;
    }
    out
}

fn extras(source: &ColumnSource, name: &str, table: &Table) -> Option<String> {
    match source {
        ColumnSource::Physical => None,
        ColumnSource::Computed(_, text) => Some(format!("AS {}", serialised(text, table))),
        ColumnSource::Metadata { key, is_virtual, .. } => {
            let from = if key == name { String::new() } else { format!(" FROM '{key}'") };
            Some(format!("METADATA{from}{}", if *is_virtual { " VIRTUAL" } else { "" }))
        }
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn name_list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

fn create_text(catalog: &Catalog, view: bool, path: &Path) -> Result<String> {
    Ok(match catalog.get(path)? {
        CatalogObject::View(v) if view => {
            let temporary = if v.temporary { "TEMPORARY " } else { "" };
            let columns: Vec<String> = v.columns.iter().map(|c| format!("  `{c}`")).collect();
            let comment = v.comment.as_ref().map(|c| format!("COMMENT {}\n", quoted(c))).unwrap_or_default();
            let (name, columns) = (v.path.quoted(), columns.join(",\n"));
            format!("CREATE {temporary}VIEW {name} (\n{columns}\n)\n{comment}AS {}\n", v.text)
        }
        CatalogObject::Table(t) if !view => create_table_text(t),
        CatalogObject::View(v) => {
            let error = Error::user("sql.show", format!("`{}` is a view", v.name));
            return Err(place(error.hint("write SHOW CREATE VIEW"), path.position));
        }
        CatalogObject::Table(t) => {
            let error = Error::user("sql.show", format!("`{}` is a table", t.name));
            return Err(place(error.hint("write SHOW CREATE TABLE"), path.position));
        }
    })
}

/// A type with lengths written out: STRING is VARCHAR(2147483647).
fn full_type(data_type: &DataType) -> String {
    let text = data_type.to_string();
    // Names of fields stand in backquotes.
    let parts = text.split('`').enumerate().map(|(i, part)| match i % 2 {
        0 => part.replace("STRING", "VARCHAR(2147483647)").replace("BYTES", "VARBINARY(2147483647)"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("`")
}

fn create_table_text(t: &Table) -> String {
    let mut items: Vec<String> = Vec::new();
    for c in &t.columns {
        let mut item = match &c.source {
            ColumnSource::Physical => format!("`{}` {}", c.name, full_type(&c.data_type)),
            ColumnSource::Computed(_, text) => format!("`{}` AS {}", c.name, serialised(text, t)),
            ColumnSource::Metadata { .. } => {
                format!(
                    "`{}` {} {}",
                    c.name,
                    full_type(&c.data_type),
                    extras(&c.source, &c.name, t).unwrap_or_default()
                )
            }
        };
        if let Some(comment) = &c.comment {
            let _ = write!(item, " COMMENT {}", quoted(comment));
        }
        items.push(item);
    }
    if let (Some((i, _)), Some(text)) = (&t.watermark, &t.watermark_text) {
        items.push(format!("WATERMARK FOR `{}` AS {}", t.columns[*i].name, serialised(text, t)));
    }
    let list = |keys: &[usize]| name_list(keys.iter().map(|&k| &t.columns[k].name));
    if !t.primary_key.is_empty() {
        let names: Vec<&str> = t.primary_key.iter().map(|&k| t.columns[k].name.as_str()).collect();
        let (name, list) = (names.join("_"), list(&t.primary_key));
        items.push(format!("CONSTRAINT `PK_{name}` PRIMARY KEY ({list}) NOT ENFORCED"));
    }
    let temporary = if t.temporary { "TEMPORARY " } else { "" };
    let mut out = format!("CREATE {temporary}TABLE {} (\n  {}\n)\n", t.path.quoted(), items.join(",\n  "));
    if let Some(comment) = &t.comment {
        let _ = writeln!(out, "COMMENT {}", quoted(comment));
    }
    if !t.partition_keys.is_empty() {
        let _ = writeln!(out, "PARTITIONED BY ({})", list(&t.partition_keys));
    }
    let options: Vec<String> = t.options.iter().map(|(k, v)| format!("{} = {}", quoted(k), quoted(v))).collect();
    let _ = writeln!(out, "WITH (\n  {}\n)", options.join(",\n  "));
    out
}
