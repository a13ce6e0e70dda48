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
            || matches!(&self.kind, Statement::CreateTable(create) if create.query.is_some())
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

/// How a hint behind a table's name travels through sqlparser's tree: as one more part of the name.
pub(crate) const HINT_MARK: char = '\u{1}';

/// A dotted name with the place of its first part.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Path {
    pub(crate) parts: Vec<String>,
    pub(crate) position: Option<Position>,
    /// The text of the hint behind the name.
    pub(crate) hint: Option<String>,
}

impl Path {
    /// A path from its parts; a hint among them is taken out.
    pub(crate) fn new(mut parts: Vec<String>, position: Option<Position>) -> Self {
        let marked = parts.last().is_some_and(|p| p.starts_with(HINT_MARK));
        let hint = if marked { parts.pop() } else { None };
        Path { parts, position, hint: hint.map(|h| h[HINT_MARK.len_utf8()..].to_owned()) }
    }
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
    CreateDatabase { name: Path, if_not_exists: bool, comment: Option<String>, options: Options },
    CreateCatalog { name: Name, if_not_exists: bool, options: Options },
    CreateFunction(CreateFunction),
    AlterTable { name: Path, if_exists: bool, action: AlterTable },
    AlterView { name: Path, action: AlterView },
    AlterDatabase { name: Path, options: Options },
    Drop(Drop),
    Use { catalog: bool, name: Path },
    Query(Box<Query>),
    Insert(Insert),
    Inserts(Vec<Insert>),
    Set(Option<(String, String)>),
    Reset(Option<String>),
    Show(Show),
    Describe(Path),
    Explain { details: ExplainDetails, statement: Box<Statement> },
}

/// Options in parentheses: key, value, place.
pub(crate) type Options = Vec<(String, String, Option<Position>)>;

/// What a DROP names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ObjectKind {
    Table,
    View,
    Database,
    Catalog,
    Function,
}

/// DROP …
#[derive(Clone, Debug)]
pub(crate) struct Drop {
    pub(crate) kind: ObjectKind,
    pub(crate) temporary: bool,
    pub(crate) if_exists: bool,
    pub(crate) cascade: bool,
    pub(crate) name: Path,
}

/// CREATE [TEMPORARY [SYSTEM]] FUNCTION … AS 'class'.
#[derive(Clone, Debug)]
pub(crate) struct CreateFunction {
    pub(crate) name: Path,
    pub(crate) temporary: bool,
    pub(crate) if_not_exists: bool,
    pub(crate) class: String,
    pub(crate) class_position: Option<Position>,
}

/// ALTER TABLE …
#[derive(Clone, Debug)]
pub(crate) enum AlterTable {
    Rename(Path),
    Set(Options),
    Reset(Vec<(String, Option<Position>)>),
    Add(Box<Components>),
    Modify(Box<Components>),
    DropColumns(Vec<Name>),
    DropPrimaryKey,
    DropWatermark,
    RenameColumn(Name, Name),
    AddPartitions { if_not_exists: bool, partitions: Vec<PartitionSpec> },
    DropPartitions { if_exists: bool, partitions: Vec<PartitionSpec> },
}

/// Parts of a table that ALTER TABLE adds or changes.
#[derive(Clone, Debug)]
pub(crate) struct Components {
    /// Columns, watermark and key: the rest is empty.
    pub(crate) table: CreateTable,
    /// Where each column goes.
    pub(crate) places: Vec<ColumnPlace>,
}

/// Where a column goes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ColumnPlace {
    /// At the end, or where it is.
    Unsaid,
    First,
    After(Name),
}

/// Partition columns with their values, as literals are written.
pub(crate) type PartitionSpec = Vec<(Name, String)>;

/// ALTER VIEW …
#[derive(Clone, Debug)]
pub(crate) enum AlterView {
    Rename(Path),
    As { query: Box<Query>, text: String },
}

/// What EXPLAIN shows besides the plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExplainDetails {
    pub(crate) changelog_mode: bool,
    pub(crate) estimated_cost: bool,
    pub(crate) plan_advice: bool,
    pub(crate) json_execution_plan: bool,
}

/// SHOW …
#[derive(Clone, Debug)]
pub(crate) enum Show {
    Tables {
        of: Option<Path>,
        like: Option<Like>,
    },
    Views {
        of: Option<Path>,
        like: Option<Like>,
    },
    Functions {
        user: bool,
        like: Option<Like>,
    },
    Catalogs {
        like: Option<Like>,
    },
    Databases {
        of: Option<Path>,
        like: Option<Like>,
    },
    Columns {
        of: Path,
        like: Option<Like>,
    },
    Partitions {
        of: Path,
        partition: PartitionSpec,
    },
    /// DESCRIBE DATABASE.
    Database(Path),
    CurrentCatalog,
    CurrentDatabase,
    Modules,
    Jobs,
    Create {
        view: bool,
        name: Path,
    },
    CreateCatalog(Name),
}

/// `[NOT] LIKE pattern`, or ILIKE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Like {
    pub(crate) pattern: String,
    pub(crate) negated: bool,
    pub(crate) any_case: bool,
}

/// INSERT INTO table [PARTITION (…)] [(columns)] query.
#[derive(Clone, Debug)]
pub(crate) struct Insert {
    pub(crate) table: Path,
    pub(crate) partition: Vec<(Name, Expr)>,
    pub(crate) columns: Option<Vec<Name>>,
    pub(crate) query: Box<Query>,
}

/// CREATE VIEW.
#[derive(Clone, Debug)]
pub(crate) struct CreateView {
    pub(crate) name: Path,
    pub(crate) if_not_exists: bool,
    pub(crate) temporary: bool,
    pub(crate) comment: Option<String>,
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
    /// Take the place of a table of this name (CREATE OR REPLACE … AS).
    pub(crate) replace: bool,
    pub(crate) watermark: Option<Watermark>,
    pub(crate) primary_key: Vec<Name>,
    pub(crate) partitioned_by: Vec<Name>,
    pub(crate) comment: Option<String>,
    pub(crate) options: Options,
    pub(crate) like: Option<TableLike>,
    /// CREATE TABLE … AS.
    pub(crate) query: Option<Box<Query>>,
    /// Of CREATE TABLE … AS: names only, in another order than the query's.
    pub(crate) order: Vec<Name>,
}

/// WATERMARK FOR column AS expression.
#[derive(Clone, Debug)]
pub(crate) struct Watermark {
    pub(crate) column: Vec<String>,
    pub(crate) expr: Expr,
    pub(crate) text: String,
    pub(crate) position: Option<Position>,
}

/// LIKE table (options).
#[derive(Clone, Debug)]
pub(crate) struct TableLike {
    pub(crate) table: Path,
    pub(crate) options: Vec<(LikeStrategy, LikeFeature)>,
}

/// What LIKE does with a part of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LikeStrategy {
    Including,
    Excluding,
    Overwriting,
}

/// A part of a table that LIKE may take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LikeFeature {
    All,
    Constraints,
    Distribution,
    Generated,
    Metadata,
    Options,
    Partitions,
    Watermarks,
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

impl CreateTable {
    /// A declaration of nothing yet.
    pub(crate) fn empty(name: Path) -> Self {
        CreateTable {
            name,
            if_not_exists: false,
            temporary: false,
            replace: false,
            columns: Vec::new(),
            watermark: None,
            primary_key: Vec::new(),
            partitioned_by: Vec::new(),
            comment: None,
            options: Vec::new(),
            like: None,
            query: None,
            order: Vec::new(),
        }
    }
}
