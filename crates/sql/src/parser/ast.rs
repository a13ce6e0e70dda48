//! Statements of Flink's dialect as parsed; queries and expressions are sqlparser's. Nothing here is resolved.

use flott_core::error::Position;
use flott_core::types::DataType;
use sqlparser::ast::{Expr, Query};

/// One statement of a script.
#[derive(Clone, Debug)]
pub struct ParsedStatement {
    /// The text, as written.
    pub text: String,
    /// Where it begins in the script.
    pub position: Position,
    pub(crate) kind: Statement,
}

impl ParsedStatement {
    /// Whether it starts a job: SELECT, INSERT INTO, a statement set.
    pub fn is_job(&self) -> bool {
        matches!(self.kind, Statement::Query(_) | Statement::Insert(_) | Statement::Inserts(_))
    }
    /// Whether it is a query whose rows go back to the user.
    pub fn is_query(&self) -> bool {
        matches!(self.kind, Statement::Query(_))
    }
}

/// A name with its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Name {
    pub(crate) value: String,
    pub(crate) position: Option<Position>,
}

/// A dotted name with the place of its first part.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Path {
    pub(crate) parts: Vec<String>,
    pub(crate) position: Option<Position>,
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.parts.join("."))
    }
}

/// What a statement says.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one per statement of a script")]
pub(crate) enum Statement {
    CreateTable(CreateTable),
    CreateView(CreateView),
    Drop { view: bool, if_exists: bool, name: Path },
    Query(Box<Query>),
    Insert(Insert),
    Inserts(Vec<Insert>),
    Set(Option<(String, String)>),
    Reset(Option<String>),
    Show(Show),
    Describe(Path),
    Explain { changelog_mode: bool, statement: Box<Statement> },
}

/// SHOW …
#[derive(Clone, Debug)]
pub(crate) enum Show {
    Tables,
    Views,
    Functions,
    Catalogs,
    Databases,
    Create(Path),
}

/// INSERT INTO table [(columns)] query.
#[derive(Clone, Debug)]
pub(crate) struct Insert {
    pub(crate) table: Path,
    pub(crate) columns: Option<Vec<Name>>,
    pub(crate) query: Box<Query>,
}

/// CREATE VIEW.
#[derive(Clone, Debug)]
pub(crate) struct CreateView {
    pub(crate) name: Path,
    pub(crate) if_not_exists: bool,
    pub(crate) columns: Vec<Name>,
    pub(crate) query: Box<Query>,
    /// The query's text, for SHOW CREATE.
    pub(crate) text: String,
}

/// CREATE TABLE.
#[derive(Clone, Debug)]
pub(crate) struct CreateTable {
    pub(crate) name: Path,
    pub(crate) if_not_exists: bool,
    pub(crate) temporary: bool,
    pub(crate) columns: Vec<ColumnDef>,
    pub(crate) watermark: Option<(Vec<String>, Expr, Option<Position>)>,
    pub(crate) primary_key: Vec<Name>,
    pub(crate) partitioned_by: Vec<Name>,
    pub(crate) comment: Option<String>,
    pub(crate) options: Vec<(String, String, Option<Position>)>,
}

/// A column of CREATE TABLE.
#[derive(Clone, Debug)]
pub(crate) struct ColumnDef {
    pub(crate) name: Name,
    pub(crate) kind: ColumnKind,
    pub(crate) comment: Option<String>,
}

/// Kinds of columns.
#[derive(Clone, Debug)]
pub(crate) enum ColumnKind {
    Physical(DataType),
    Metadata { data_type: DataType, key: Option<String>, is_virtual: bool },
    Computed { expr: Box<Expr>, text: String },
}
