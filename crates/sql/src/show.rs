//! SHOW and DESCRIBE: the catalog as rows. Changes nothing.

use std::fmt::Write;

use flott_core::Result;

use crate::binder::{QueryBinder, scan_of};
use crate::catalog::{CATALOG, Catalog, CatalogObject, ColumnSource, DATABASE, Table, full_name};
use crate::parser::ast::{Path, Show};
use crate::session::Planned;

fn single(column: &str, values: impl IntoIterator<Item = String>) -> Planned {
    Planned::Rows { columns: vec![column.to_owned()], rows: values.into_iter().map(|v| vec![Some(v)]).collect() }
}

/// SHOW …
pub(crate) fn show(catalog: &Catalog, what: &Show) -> Result<Planned> {
    let names = |views_only: bool| {
        let wanted = move |o: &CatalogObject| !views_only || matches!(o, CatalogObject::View(_));
        catalog.objects().filter(move |(_, o)| wanted(o)).map(|(n, _)| n.to_owned()).collect::<Vec<_>>()
    };
    Ok(match what {
        Show::Tables => single("table name", names(false)),
        Show::Views => single("view name", names(true)),
        Show::Catalogs => single("catalog name", [CATALOG.to_owned()]),
        Show::Databases => single("database name", [DATABASE.to_owned()]),
        Show::Functions => {
            let named = |n: &&str| n.starts_with(|c: char| c.is_ascii_alphabetic()) && !n.contains(' ');
            let mut functions: Vec<String> =
                flott_expr::function_names().into_iter().filter(named).map(str::to_lowercase).collect();
            functions.extend(["avg", "count", "max", "min", "sum", "tumble", "hop", "session"].map(str::to_owned));
            functions.sort();
            functions.dedup();
            single("function name", functions)
        }
        Show::Create(path) => single("result", [create_text(catalog, path)?]),
    })
}

/// DESCRIBE t
pub(crate) fn describe(catalog: &Catalog, path: &Path) -> Result<Planned> {
    let columns = ["name", "type", "null", "key", "extras", "watermark"].map(str::to_owned).to_vec();
    let yes_no = |b: bool| Some(if b { "TRUE" } else { "FALSE" }.to_owned());
    let rows = match catalog.get(path)? {
        CatalogObject::Table(t) => {
            let scan = scan_of(t);
            t.columns
                .iter()
                .enumerate()
                .map(|(i, c)| {
                    let key = t.primary_key.contains(&i).then(|| {
                        let names: Vec<&str> = t.primary_key.iter().map(|&k| t.columns[k].name.as_str()).collect();
                        format!("PRI({})", names.join(", "))
                    });
                    let watermark = t.watermark.as_ref().filter(|w| w.0 == i).and(t.watermark_text.clone());
                    let mut shown = scan.columns[i].clone();
                    shown.data_type.nullable = true;
                    vec![
                        Some(c.name.clone()),
                        Some(shown.type_text()),
                        yes_no(c.data_type.nullable),
                        key,
                        extras(&c.source),
                        watermark,
                    ]
                })
                .collect()
        }
        CatalogObject::View(_) => {
            let rel = QueryBinder::new(catalog).table_columns(path)?;
            rel.into_iter()
                .map(|mut c| {
                    let nullable = c.data_type.nullable;
                    c.data_type.nullable = true;
                    vec![Some(c.name.clone()), Some(c.type_text()), yes_no(nullable), None, None, None]
                })
                .collect()
        }
    };
    Ok(Planned::Rows { columns, rows })
}

fn extras(source: &ColumnSource) -> Option<String> {
    match source {
        ColumnSource::Physical => None,
        ColumnSource::Computed(_, text) => Some(format!("AS {text}")),
        ColumnSource::Metadata { key, is_virtual, .. } => {
            Some(format!("METADATA FROM '{key}'{}", if *is_virtual { " VIRTUAL" } else { "" }))
        }
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn create_text(catalog: &Catalog, path: &Path) -> Result<String> {
    Ok(match catalog.get(path)? {
        CatalogObject::View(v) => {
            let columns = if v.columns.is_empty() {
                String::new()
            } else {
                format!(" ({})", v.columns.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", "))
            };
            format!("CREATE VIEW {}{columns} AS\n{}", quoted_name(&v.name), v.text)
        }
        CatalogObject::Table(t) => create_table_text(t),
    })
}

fn quoted_name(name: &str) -> String {
    full_name(name).split('.').map(|p| format!("`{p}`")).collect::<Vec<_>>().join(".")
}

fn create_table_text(t: &Table) -> String {
    let mut items: Vec<String> = Vec::new();
    for c in &t.columns {
        let mut item = match &c.source {
            ColumnSource::Physical => format!("`{}` {}", c.name, c.data_type),
            ColumnSource::Computed(_, text) => format!("`{}` AS {text}", c.name),
            ColumnSource::Metadata { .. } => {
                format!("`{}` {} {}", c.name, c.data_type, extras(&c.source).unwrap_or_default())
            }
        };
        if let Some(comment) = &c.comment {
            let _ = write!(item, " COMMENT {}", quoted(comment));
        }
        items.push(item);
    }
    if let (Some((i, _)), Some(text)) = (&t.watermark, &t.watermark_text) {
        items.push(format!("WATERMARK FOR `{}` AS {text}", t.columns[*i].name));
    }
    let list = |keys: &[usize]| keys.iter().map(|&k| format!("`{}`", t.columns[k].name)).collect::<Vec<_>>().join(", ");
    if !t.primary_key.is_empty() {
        items.push(format!("PRIMARY KEY ({}) NOT ENFORCED", list(&t.primary_key)));
    }
    let temporary = if t.temporary { "TEMPORARY " } else { "" };
    let mut out = format!("CREATE {temporary}TABLE {} (\n  {}\n)", quoted_name(&t.name), items.join(",\n  "));
    if let Some(comment) = &t.comment {
        let _ = write!(out, " COMMENT {}", quoted(comment));
    }
    if !t.partition_keys.is_empty() {
        let _ = write!(out, "\nPARTITIONED BY ({})", list(&t.partition_keys));
    }
    let options: Vec<String> = t.options.iter().map(|(k, v)| format!("{} = {}", quoted(k), quoted(v))).collect();
    let _ = write!(out, "\nWITH (\n  {}\n)", options.join(",\n  "));
    out
}
