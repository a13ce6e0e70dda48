//! ALTER TABLE: changes of a table's declaration. Binds nothing; the changed declaration is checked like a new one.

use flott_core::error::Position;
use flott_core::{Error, Result};
use sqlparser::tokenizer::Token;

use crate::diag::{place, suggestion};
use crate::parser::ast::{AlterTable, ColumnDef, ColumnKind, ColumnPlace, Components, CreateTable, Name};
use crate::parser::dialect::FlinkDialect;
use crate::parser::tokenize;

fn bad(message: String, at: Option<Position>) -> Error {
    place(Error::user("sql.alter", message), at)
}

/// Carries out what concerns the declaration alone.
pub(crate) fn change(table: &mut CreateTable, action: &AlterTable) -> Result<()> {
    match action {
        AlterTable::Set(options) => {
            for (key, value, at) in options {
                if key == "connector" {
                    let error = bad("ALTER TABLE cannot change 'connector'".into(), *at);
                    return Err(error.hint("DROP the table and CREATE it anew"));
                }
                table.options.retain(|(k, ..)| k != key);
                table.options.push((key.clone(), value.clone(), *at));
            }
            Ok(())
        }
        AlterTable::Reset(keys) => {
            for (key, at) in keys {
                if key == "connector" {
                    return Err(bad("ALTER TABLE cannot take 'connector' away".into(), *at));
                }
                table.options.retain(|(k, ..)| k != key);
            }
            Ok(())
        }
        AlterTable::Add(components) => add(table, components),
        AlterTable::Modify(components) => modify(table, components),
        AlterTable::DropColumns(names) => drop_columns(table, names),
        AlterTable::DropPrimaryKey if table.primary_key.is_empty() => {
            Err(bad("the table has no PRIMARY KEY".into(), table.name.position))
        }
        AlterTable::DropPrimaryKey => {
            table.primary_key.clear();
            Ok(())
        }
        AlterTable::DropWatermark if table.watermark.is_none() => {
            Err(bad("the table has no watermark".into(), table.name.position))
        }
        AlterTable::DropWatermark => {
            table.watermark = None;
            Ok(())
        }
        AlterTable::RenameColumn(from, to) => rename_column(table, from, to),
        AlterTable::Rename(_) | AlterTable::AddPartitions { .. } | AlterTable::DropPartitions { .. } => {
            Err(Error::bug("not a change of the declaration"))
        }
    }
}

fn find(table: &CreateTable, name: &Name) -> Result<usize> {
    table.columns.iter().position(|c| c.name.value == name.value).ok_or_else(|| {
        let names: Vec<&str> = table.columns.iter().map(|c| c.name.value.as_str()).collect();
        bad(format!("there is no column `{}`", name.value), name.position).hint(suggestion(&name.value, &names, 16))
    })
}

fn add(table: &mut CreateTable, components: &Components) -> Result<()> {
    let new = &components.table;
    for (column, to) in new.columns.iter().zip(&components.places) {
        if table.columns.iter().any(|c| c.name.value == column.name.value) {
            let error = bad(format!("there is a column `{}` already", column.name.value), column.name.position);
            return Err(error.hint("write MODIFY to change it"));
        }
        insert(table, column.clone(), to, table.columns.len())?;
    }
    if let Some(watermark) = &new.watermark {
        if table.watermark.is_some() {
            let error = bad("the table has a watermark already".into(), watermark.position);
            return Err(error.hint("write MODIFY to change it"));
        }
        table.watermark = Some(watermark.clone());
    }
    if let Some(key) = new.primary_key.first() {
        if !table.primary_key.is_empty() {
            let error = bad("the table has a PRIMARY KEY already".into(), key.position);
            return Err(error.hint("write MODIFY to change it"));
        }
        table.primary_key = new.primary_key.clone();
    }
    Ok(())
}

fn insert(table: &mut CreateTable, column: ColumnDef, to: &ColumnPlace, unsaid: usize) -> Result<()> {
    let at = match to {
        ColumnPlace::Unsaid => unsaid,
        ColumnPlace::First => 0,
        ColumnPlace::After(name) => find(table, name)? + 1,
    };
    table.columns.insert(at, column);
    Ok(())
}

fn modify(table: &mut CreateTable, components: &Components) -> Result<()> {
    let new = &components.table;
    for (column, to) in new.columns.iter().zip(&components.places) {
        let at = find(table, &column.name)?;
        let old = table.columns.remove(at);
        let comment = column.comment.clone().or(old.comment);
        insert(table, ColumnDef { comment, ..column.clone() }, to, at)?;
    }
    if let Some(watermark) = &new.watermark {
        if table.watermark.is_none() {
            let error = bad("the table has no watermark to change".into(), watermark.position);
            return Err(error.hint("write ADD"));
        }
        table.watermark = Some(watermark.clone());
    }
    if let Some(key) = new.primary_key.first() {
        if table.primary_key.is_empty() {
            let error = bad("the table has no PRIMARY KEY to change".into(), key.position);
            return Err(error.hint("write ADD"));
        }
        table.primary_key = new.primary_key.clone();
    }
    Ok(())
}

/// Whether the text of an expression names the column.
fn mentions(text: &str, column: &str) -> bool {
    let tokens = tokenize(&FlinkDialect::default(), text).unwrap_or_default();
    tokens.iter().any(|t| matches!(&t.token, Token::Word(w) if w.value == column))
}

/// Refuses a change of a column that others are made of.
fn unused(table: &CreateTable, name: &Name, gone: &[Name]) -> Result<()> {
    let column = name.value.as_str();
    for c in &table.columns {
        if let ColumnKind::Computed { text, .. } = &c.kind
            && !gone.iter().any(|g| g.value == c.name.value)
            && mentions(text, column)
        {
            let message = format!("column `{column}` is used by the computed column `{}`", c.name.value);
            return Err(bad(message, name.position));
        }
    }
    if table.partitioned_by.iter().any(|k| k.value == column) {
        return Err(bad(format!("column `{column}` is a partition column"), name.position));
    }
    if let Some(w) = &table.watermark
        && (w.column == [column] || mentions(&w.text, column))
    {
        let error = bad(format!("column `{column}` is used by the watermark"), name.position);
        return Err(error.hint("ALTER TABLE … DROP WATERMARK first"));
    }
    Ok(())
}

fn drop_columns(table: &mut CreateTable, names: &[Name]) -> Result<()> {
    for (i, name) in names.iter().enumerate() {
        find(table, name)?;
        if names[..i].iter().any(|n| n.value == name.value) {
            return Err(bad(format!("column `{}` is named twice", name.value), name.position));
        }
        unused(table, name, names)?;
        if table.primary_key.iter().any(|k| k.value == name.value) {
            let error = bad(format!("column `{}` is part of the PRIMARY KEY", name.value), name.position);
            return Err(error.hint("ALTER TABLE … DROP PRIMARY KEY first"));
        }
    }
    table.columns.retain(|c| !names.iter().any(|n| n.value == c.name.value));
    Ok(())
}

fn rename_column(table: &mut CreateTable, from: &Name, to: &Name) -> Result<()> {
    let at = find(table, from)?;
    if table.columns.iter().any(|c| c.name.value == to.value) {
        return Err(bad(format!("there is a column `{}` already", to.value), to.position));
    }
    unused(table, from, &[])?;
    // A metadata column without FROM reads the key of its old name.
    if let ColumnKind::Metadata { key: key @ None, .. } = &mut table.columns[at].kind {
        *key = Some(from.value.clone());
    }
    table.columns[at].name = to.clone();
    table.primary_key.iter_mut().filter(|k| k.value == from.value).for_each(|k| k.value = to.value.clone());
    Ok(())
}
