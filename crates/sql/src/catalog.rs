//! The session's catalogs, databases, tables and views; names as Flink keeps them (case-sensitive). Stores nothing outside the session.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use flott_core::sink::ChangelogMode;
use flott_core::types::{Column, DataType};
use flott_core::{Error, Result};
use flott_plan::Expr;
use sqlparser::ast::Query;

use crate::diag::{place, suggestion};
use crate::parser::ast::{CreateTable, Path};

/// The name of the catalog that is always there.
pub const CATALOG: &str = "default_catalog";
/// The name of its database.
pub const DATABASE: &str = "default_database";

/// The full name of a table or view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectPath {
    /// Catalog.
    pub catalog: String,
    /// Database.
    pub database: String,
    /// Name.
    pub name: String,
}

impl std::fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.catalog, self.database, self.name)
    }
}

impl ObjectPath {
    /// Each part in backquotes.
    pub(crate) fn quoted(&self) -> String {
        [&self.catalog, &self.database, &self.name].map(|p| format!("`{}`", p.replace('`', "``"))).join(".")
    }
}

/// Where names without catalog or database are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    pub(crate) catalog: String,
    pub(crate) database: String,
}

impl Default for Home {
    fn default() -> Self {
        Home { catalog: CATALOG.to_owned(), database: DATABASE.to_owned() }
    }
}

/// A database.
#[derive(Clone, Debug, Default)]
pub(crate) struct Database {
    pub(crate) comment: Option<String>,
    pub(crate) options: BTreeMap<String, String>,
}

/// Databases, tables and views by name. Temporary objects hide others of the same name.
#[derive(Clone, Debug)]
pub struct Catalog {
    pub(crate) home: Home,
    pub(crate) catalogs: BTreeMap<String, BTreeMap<String, Database>>,
    objects: BTreeMap<ObjectPath, CatalogObject>,
    temporary: BTreeMap<ObjectPath, CatalogObject>,
    /// Hints behind table names may set options.
    pub(crate) dynamic_options: bool,
}

impl Default for Catalog {
    fn default() -> Self {
        let databases = BTreeMap::from([(DATABASE.to_owned(), Database::default())]);
        Catalog {
            home: Home::default(),
            catalogs: BTreeMap::from([(CATALOG.to_owned(), databases)]),
            objects: BTreeMap::new(),
            temporary: BTreeMap::new(),
            dynamic_options: true,
        }
    }
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub(crate) enum CatalogObject {
    Table(Arc<Table>),
    View(Arc<View>),
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Name without catalog and database.
    pub name: String,
    /// Full name.
    pub path: ObjectPath,
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
    /// The declaration, complete: what LIKE and ALTER TABLE start from.
    pub(crate) declaration: CreateTable,
    /// Partitions made known by ALTER TABLE … ADD PARTITION.
    pub(crate) partitions: Vec<Vec<(String, String)>>,
    /// The options that a hint sets: scans with other options are other scans.
    pub(crate) hinted: String,
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
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) name: String,
    pub(crate) path: ObjectPath,
    pub(crate) temporary: bool,
    pub(crate) comment: Option<String>,
    pub(crate) columns: Vec<String>,
    pub(crate) query: Box<Query>,
    pub(crate) text: String,
    /// Where the names in the query are looked for.
    pub(crate) home: Home,
}

impl CatalogObject {
    pub(crate) fn is_view(&self) -> bool {
        matches!(self, CatalogObject::View(_))
    }
}

impl Catalog {
    /// The full name that a path stands for, seen from `home`. The database must exist.
    pub(crate) fn resolve_from(&self, home: &Home, path: &Path) -> Result<ObjectPath> {
        let (catalog, database, name) = match path.parts.as_slice() {
            [name] => (&home.catalog, &home.database, name),
            [database, name] => (&home.catalog, database, name),
            [catalog, database, name] => (catalog, database, name),
            _ => {
                let error = Error::user("sql.name", format!("`{path}` has too many parts"));
                return Err(place(error.hint("write name, database.name or catalog.database.name"), path.position));
            }
        };
        self.database_of(catalog, database).map_err(|e| place(e, path.position))?;
        Ok(ObjectPath { catalog: catalog.clone(), database: database.clone(), name: name.clone() })
    }

    /// The full name that a path stands for.
    pub(crate) fn resolve(&self, path: &Path) -> Result<ObjectPath> {
        self.resolve_from(&self.home, path)
    }

    fn database_of(&self, catalog: &str, database: &str) -> Result<&Database> {
        let Some(databases) = self.catalogs.get(catalog) else {
            let names: Vec<&str> = self.catalogs.keys().map(String::as_str).collect();
            let error = Error::user("sql.unknown-database", format!("there is no catalog `{catalog}`"));
            return Err(error.hint(suggestion(catalog, &names, 12)));
        };
        databases.get(database).ok_or_else(|| {
            let names: Vec<&str> = databases.keys().map(String::as_str).collect();
            Error::user("sql.unknown-database", format!("there is no database `{database}` in `{catalog}`"))
                .hint(suggestion(database, &names, 12))
        })
    }

    /// The table or view, or an error with the nearest name.
    pub(crate) fn get(&self, path: &Path) -> Result<&CatalogObject> {
        self.get_from(&self.home, path)
    }

    /// As [`Catalog::get`], seen from `home`.
    pub(crate) fn get_from(&self, home: &Home, path: &Path) -> Result<&CatalogObject> {
        let full = self.resolve_from(home, path)?;
        self.find(&full).ok_or_else(|| {
            let home = Home { catalog: full.catalog, database: full.database };
            let names: Vec<&str> = self.objects_in(&home).into_iter().map(|(n, _)| n).collect();
            let error = Error::user("sql.unknown-table", format!("there is no table or view `{}`", full.name))
                .hint(suggestion(&full.name, &names, 12));
            place(error, path.position)
        })
    }

    /// What a full name stands for.
    pub(crate) fn find(&self, path: &ObjectPath) -> Option<&CatalogObject> {
        self.temporary.get(path).or_else(|| self.objects.get(path))
    }

    /// Whether there is such an object among the temporary ones, or among the others.
    pub(crate) fn holds(&self, path: &ObjectPath, temporary: bool) -> bool {
        if temporary { self.temporary.contains_key(path) } else { self.objects.contains_key(path) }
    }

    pub(crate) fn insert(&mut self, path: ObjectPath, object: CatalogObject, temporary: bool) {
        let objects = if temporary { &mut self.temporary } else { &mut self.objects };
        objects.insert(path, object);
    }

    pub(crate) fn remove(&mut self, path: &ObjectPath, temporary: bool) -> Option<CatalogObject> {
        if temporary { self.temporary.remove(path) } else { self.objects.remove(path) }
    }

    /// Tables and views of the current database by name.
    pub(crate) fn objects(&self) -> Vec<(&str, &CatalogObject)> {
        self.objects_in(&self.home)
    }

    /// Tables and views of a database by name.
    pub(crate) fn objects_in(&self, home: &Home) -> Vec<(&str, &CatalogObject)> {
        let inside = |p: &ObjectPath| p.catalog == home.catalog && p.database == home.database;
        let all = self.objects.iter().chain(&self.temporary).filter(|(p, _)| inside(p));
        let by_name: BTreeMap<&str, &CatalogObject> = all.map(|(p, o)| (p.name.as_str(), o)).collect();
        by_name.into_iter().collect()
    }

    /// The table of this name in the current database, if it is one.
    pub fn table(&self, name: &str) -> Option<&Arc<Table>> {
        let Home { catalog, database } = self.home.clone();
        match self.find(&ObjectPath { catalog, database, name: name.to_owned() }) {
            Some(CatalogObject::Table(t)) => Some(t),
            _ => None,
        }
    }

    /// Names of the tables and views of the current database, with the names of their columns where they are known.
    pub fn names(&self) -> Vec<(String, Vec<String>)> {
        let columns = |o: &CatalogObject| match o {
            CatalogObject::Table(t) => t.columns.iter().map(|c| c.name.clone()).collect(),
            CatalogObject::View(v) => v.columns.clone(),
        };
        self.objects().into_iter().map(|(n, o)| (n.to_owned(), columns(o))).collect()
    }

    /// The table under the options of the hint behind its name.
    pub(crate) fn hinted(&self, table: &Arc<Table>, path: &Path) -> Result<Arc<Table>> {
        let Some(hint) = &path.hint else { return Ok(Arc::clone(table)) };
        let options = crate::binder::options_hint(hint, path.position)?;
        if !self.dynamic_options {
            let error = Error::user("sql.hint", "the hint OPTIONS is switched off");
            let error = error.hint("SET 'table.dynamic-table-options.enabled' = 'true'");
            return Err(place(error, path.position));
        }
        let mut changed = Table::clone(table);
        for (key, value) in options {
            if matches!(key.as_str(), "connector" | "format" | "value.format" | "key.format") {
                let error = Error::user("sql.hint", format!("the hint OPTIONS cannot change '{key}'"));
                let error = error.hint(format!("CREATE TABLE … LIKE `{}` with the other {key}", table.name));
                return Err(place(error, path.position));
            }
            let _ = write!(changed.hinted, "'{key}'='{value}' ");
            changed.options.insert(key, value);
        }
        Ok(Arc::new(changed))
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

    /// What tells scans apart: the name, and the options of a hint.
    pub(crate) fn scan_key(&self) -> String {
        if self.hinted.is_empty() { self.path.to_string() } else { format!("{} {}", self.path, self.hinted) }
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
