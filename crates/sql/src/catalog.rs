//! The session's tables and views: one catalog, one database, names as Flink keeps them (case-sensitive). Stores nothing outside the session.

use std::collections::BTreeMap;
use std::sync::Arc;

use flott_core::sink::ChangelogMode;
use flott_core::types::{Column, DataType};
use flott_core::{Error, Result};
use flott_plan::Expr;
use sqlparser::ast::Query;

use crate::diag::{place, suggestion};
use crate::parser::ast::Path;

/// The catalog's name.
pub const CATALOG: &str = "default_catalog";
/// The database's name.
pub const DATABASE: &str = "default_database";

/// Tables and views by name.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    objects: BTreeMap<String, CatalogObject>,
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub(crate) enum CatalogObject {
    Table(Arc<Table>),
    View(Arc<View>),
}

/// A table.
#[derive(Debug)]
pub struct Table {
    /// Name without catalog and database.
    pub name: String,
    /// Columns in the order declared.
    pub columns: Vec<TableColumn>,
    /// Rowtime column and watermark, over the table's columns.
    pub watermark: Option<(usize, Expr)>,
    /// Primary key columns.
    pub primary_key: Vec<usize>,
    /// PARTITIONED BY columns.
    pub partition_keys: Vec<usize>,
    /// WITH options.
    pub options: BTreeMap<String, String>,
    /// COMMENT.
    pub comment: Option<String>,
    /// CREATE TEMPORARY TABLE.
    pub temporary: bool,
    /// The watermark's text.
    pub watermark_text: Option<String>,
    /// Which changes a scan gives.
    pub source_mode: ChangelogMode,
}

/// A column of a table.
#[derive(Clone, Debug)]
pub struct TableColumn {
    /// Name.
    pub name: String,
    /// Type.
    pub data_type: DataType,
    /// Where its values come from.
    pub source: ColumnSource,
    /// COMMENT.
    pub comment: Option<String>,
}

/// Where the values of a column come from.
#[derive(Clone, Debug)]
pub enum ColumnSource {
    /// The record.
    Physical,
    /// The connector's metadata.
    Metadata {
        /// The connector's key.
        key: String,
        /// Not written by INSERT.
        is_virtual: bool,
        /// The connector's type: values are cast between it and the column's type.
        given: DataType,
    },
    /// An expression over the table's columns, and its text.
    Computed(Expr, String),
}

/// A view.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) name: String,
    pub(crate) columns: Vec<String>,
    pub(crate) query: Box<Query>,
    pub(crate) text: String,
}

/// The full name of an object.
pub fn full_name(name: &str) -> String {
    format!("{CATALOG}.{DATABASE}.{name}")
}

impl Catalog {
    /// The object's own name, when the path leads into the one database.
    pub(crate) fn local_name(path: &Path) -> Result<&str> {
        let known = match path.parts.as_slice() {
            [_] => true,
            [d, _] => d == DATABASE,
            [c, d, _] => c == CATALOG && d == DATABASE,
            _ => false,
        };
        let name = path.parts.last().map_or("", String::as_str);
        if known {
            return Ok(name);
        }
        let error = Error::user("sql.unknown-table", format!("there is no database for `{path}`"))
            .hint(format!("the only database is {CATALOG}.{DATABASE}: write `{name}`"));
        Err(place(error, path.position))
    }

    /// The table or view, or an error with the nearest name.
    pub(crate) fn get(&self, path: &Path) -> Result<&CatalogObject> {
        let name = Self::local_name(path)?;
        self.objects.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.objects.keys().map(String::as_str).collect();
            let error = Error::user("sql.unknown-table", format!("there is no table or view `{name}`"))
                .hint(suggestion(name, &names, 12));
            place(error, path.position)
        })
    }

    /// Whether the name is taken.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.objects.contains_key(name)
    }

    pub(crate) fn insert(&mut self, name: &str, object: CatalogObject) {
        self.objects.insert(name.to_owned(), object);
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<CatalogObject> {
        self.objects.remove(name)
    }

    pub(crate) fn objects(&self) -> impl Iterator<Item = (&str, &CatalogObject)> {
        self.objects.iter().map(|(n, o)| (n.as_str(), o))
    }

    /// The table of this name, if it is one.
    pub fn table(&self, name: &str) -> Option<&Arc<Table>> {
        match self.objects.get(name) {
            Some(CatalogObject::Table(t)) => Some(t),
            _ => None,
        }
    }
}

impl Table {
    /// Numbers of the columns the connector gives: physical ones, then metadata.
    pub(crate) fn source_columns(&self) -> Vec<usize> {
        let of = |metadata: bool| {
            (0..self.columns.len()).filter(move |&i| match self.columns[i].source {
                ColumnSource::Physical => !metadata,
                ColumnSource::Metadata { .. } => metadata,
                ColumnSource::Computed(..) => false,
            })
        };
        of(false).chain(of(true)).collect()
    }

    /// Numbers of the columns INSERT writes, in the order declared.
    pub(crate) fn insert_columns(&self) -> Vec<usize> {
        let written = |&i: &usize| {
            matches!(self.columns[i].source, ColumnSource::Physical | ColumnSource::Metadata { is_virtual: false, .. })
        };
        (0..self.columns.len()).filter(written).collect()
    }

    /// Numbers of the columns a sink is given: physical ones, then metadata.
    pub(crate) fn sink_columns(&self) -> Vec<usize> {
        let written = self.insert_columns();
        self.source_columns().into_iter().filter(|i| written.contains(i)).collect()
    }

    /// The column as connectors see it.
    pub(crate) fn connector_column(&self, i: usize) -> Column {
        let c = &self.columns[i];
        let (metadata_key, data_type) = match &c.source {
            ColumnSource::Metadata { key, given, .. } => (Some(key.clone()), given.clone()),
            _ => (None, c.data_type.clone()),
        };
        Column { name: c.name.clone(), data_type, metadata_key }
    }
}
