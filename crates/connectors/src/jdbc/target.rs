//! The table in the database as its catalog describes it, and whether the declared table fits it; never changes it.

use flott_core::registry::TableSpec;
use flott_core::types::TypeKind;
use flott_core::{Error, Result};

use super::options::JdbcOptions;
use super::session::{DbError, Param, Place, Session};
use super::url::Dialect;
use crate::flusher::FlushError;

/// What a column holds, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Whole numbers.
    Integer,
    /// Exact decimals.
    Decimal,
    /// Floating-point numbers.
    Float,
    /// Truth values, BIT included.
    Bool,
    /// Characters, JSON and everything that is written as text.
    Text,
    /// Bytes.
    Bytes,
    /// Days.
    Date,
    /// Times of day.
    Time,
    /// Dates with times.
    Timestamp,
    /// Types of one database only.
    Other,
}

/// A column of the table in the database.
#[derive(Clone, Debug)]
pub struct TargetColumn {
    /// Its name there.
    pub name: String,
    /// Its type as the server writes it.
    pub type_text: String,
    holds: Holds,
    /// Must be given a value.
    required: bool,
}

/// The table in the database, with what statements need.
#[derive(Clone, Debug)]
pub struct Target {
    /// The server's language.
    pub dialect: Dialect,
    /// Qualified and quoted.
    pub table_sql: String,
    /// Schema (MySQL: database) and name, as they are.
    pub table: (String, String),
    /// For each declared column its name in the database.
    pub names: Vec<String>,
    /// For each declared column what the database holds there.
    pub holds: Vec<Holds>,
    /// The declared key, as indices of declared columns; empty: rows are appended.
    pub key: Vec<usize>,
}

/// What a table is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Rows are written to it.
    Write,
    /// Rows are read from it.
    Read,
}

/// Why there is no target.
pub enum TargetError {
    /// The server.
    Db(DbError),
    /// The table does not fit.
    Misfit(Error),
}

impl From<DbError> for TargetError {
    fn from(e: DbError) -> Self {
        TargetError::Db(e)
    }
}

impl TargetError {
    /// For a flusher.
    pub fn into_flush_error(self, place: &Place) -> FlushError {
        match self {
            TargetError::Db(e) => place.flush_error("look at the table", &e),
            TargetError::Misfit(e) => FlushError::Fatal(e),
        }
    }
    /// As it is.
    pub fn into_error(self, place: &Place) -> Error {
        self.into_flush_error(place).into_error()
    }
}

/// Quotes an identifier.
pub fn quote(dialect: Dialect, name: &str) -> String {
    match dialect {
        Dialect::MySql => format!("`{}`", name.replace('`', "``")),
        Dialect::Postgres => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

/// Looks the table up and checks that the declared one fits.
pub fn resolve(
    session: &mut dyn Session,
    options: &JdbcOptions,
    spec: &TableSpec,
    for_use: Use,
) -> Result<Target, TargetError> {
    let dialect = options.url.dialect;
    let table = find_table(session, options, spec)?;
    let columns = columns_of(session, dialect, &table)?;
    let place = Place::of(options);
    let mut names = Vec::with_capacity(spec.columns.len());
    let mut holds = Vec::with_capacity(spec.columns.len());
    for column in &spec.columns {
        let found = columns.iter().find(|c| c.name == column.name);
        let found = found.or_else(|| columns.iter().find(|c| c.name.eq_ignore_ascii_case(&column.name)));
        let Some(found) = found else { return Err(TargetError::Misfit(no_column(&place, &column.name, &columns))) };
        if !fits(&column.data_type.kind, found.holds, for_use) {
            return Err(TargetError::Misfit(wrong_type(&place, spec, &column.name, &column.data_type.kind, found)));
        }
        names.push(found.name.clone());
        holds.push(found.holds);
    }
    if for_use == Use::Write {
        if let Some(missing) = columns.iter().find(|c| c.required && !names.contains(&c.name)) {
            return Err(TargetError::Misfit(not_given(&place, spec, missing)));
        }
        check_key(session, options, spec, &table, &names)?;
    }
    let table_sql = format!("{}.{}", quote(dialect, &table.0), quote(dialect, &table.1));
    Ok(Target { dialect, table_sql, table, names, holds, key: spec.primary_key.clone() })
}

fn find_table(
    session: &mut dyn Session,
    options: &JdbcOptions,
    spec: &TableSpec,
) -> Result<(String, String), TargetError> {
    let (schema, name) = match options.table.split_once('.') {
        Some((schema, name)) => (Some(schema), name),
        None => (None, options.table.as_str()),
    };
    let here = match options.url.dialect {
        Dialect::MySql => "DATABASE()",
        Dialect::Postgres => "current_schema()",
    };
    let placeholders = if options.url.dialect == Dialect::MySql { ["?", "?"] } else { ["$1", "$2"] };
    let (by_schema, mut params) = match schema {
        Some(s) => (placeholders[1], vec![Param::Text(name.to_lowercase()), Param::Text(s.to_owned())]),
        None => (here, vec![Param::Text(name.to_lowercase())]),
    };
    let sql = format!(
        "SELECT table_schema, table_name FROM information_schema.tables WHERE LOWER(table_name) = {} AND table_schema = {by_schema}",
        placeholders[0]
    );
    let found = session.texts(&sql, std::mem::take(&mut params))?;
    let mut found: Vec<(String, String)> =
        found.into_iter().filter_map(|mut row| Some((row.get_mut(0)?.take()?, row.get_mut(1)?.take()?))).collect();
    found.sort_by_key(|(_, n)| n != name);
    found.into_iter().next().ok_or_else(|| {
        let place = Place::of(options);
        TargetError::Misfit(
            Error::user(
                "jdbc.missing-table",
                format!("{}: there is no table {}, which `{}` is declared on", place.server, place.table, spec.name),
            )
            .hint(format!("correct 'url' or 'table-name', or create it: {}", create_table(options, spec))),
        )
    })
}

fn columns_of(
    session: &mut dyn Session,
    dialect: Dialect,
    (schema, name): &(String, String),
) -> Result<Vec<TargetColumn>, DbError> {
    let sql = match dialect {
        Dialect::MySql => {
            "SELECT column_name, column_type, data_type, is_nullable, column_default, extra \
             FROM information_schema.columns WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position"
        }
        Dialect::Postgres => {
            "SELECT column_name, data_type, udt_name, is_nullable, column_default, \
             CASE WHEN is_identity = 'YES' OR is_generated = 'ALWAYS' THEN 'generated' ELSE '' END \
             FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2 ORDER BY ordinal_position"
        }
    };
    let rows = session.texts(sql, vec![Param::Text(schema.clone()), Param::Text(name.clone())])?;
    let column = |row: Vec<Option<String>>| {
        let text = |i: usize| row.get(i).cloned().flatten().unwrap_or_default();
        let extra = text(5).to_lowercase();
        // MariaDB says `NULL` in words where a column without default may be NULL.
        let has_default = row.get(4).is_some_and(|d| d.as_deref().is_some_and(|d| d != "NULL"));
        let given = has_default || extra.contains("auto_increment") || extra.contains("generated");
        TargetColumn {
            name: text(0),
            holds: holds(dialect, &text(1).to_lowercase(), &text(2).to_lowercase()),
            type_text: text(1),
            required: text(3) == "NO" && !given,
        }
    };
    Ok(rows.into_iter().map(column).collect())
}

fn holds(dialect: Dialect, full: &str, base: &str) -> Holds {
    match (dialect, base) {
        (Dialect::MySql, "tinyint") if full.starts_with("tinyint(1)") => Holds::Bool,
        (Dialect::MySql, "bit") => Holds::Bool,
        (_, "bool") => Holds::Bool,
        (_, "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "year" | "int2" | "int4" | "int8") => {
            Holds::Integer
        }
        (_, "decimal" | "numeric" | "money") => Holds::Decimal,
        (_, "float" | "double" | "float4" | "float8" | "real") => Holds::Float,
        (_, "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "json" | "enum" | "set")
        | (
            _,
            "bpchar" | "name" | "jsonb" | "uuid" | "xml" | "citext" | "inet" | "cidr" | "interval" | "inet4" | "inet6",
        ) => Holds::Text,
        (_, "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" | "bytea") => Holds::Bytes,
        (_, "date") => Holds::Date,
        (_, "time" | "timetz") => Holds::Time,
        (_, "datetime" | "timestamp" | "timestamptz") => Holds::Timestamp,
        _ => Holds::Other,
    }
}

/// Whether values of `declared` go into, or come from, a column that holds `actual`.
fn fits(declared: &TypeKind, actual: Holds, for_use: Use) -> bool {
    use Holds as H;
    let reads_anything = for_use == Use::Read && declared.is_string();
    let number = matches!(actual, H::Integer | H::Decimal | H::Float);
    reads_anything
        || match declared {
            TypeKind::Boolean => matches!(actual, H::Bool | H::Integer),
            TypeKind::TinyInt | TypeKind::SmallInt | TypeKind::Int | TypeKind::BigInt => {
                number || actual == H::Bool || (for_use == Use::Write && actual == H::Text)
            }
            TypeKind::Decimal(..) | TypeKind::Float | TypeKind::Double => {
                number || (for_use == Use::Write && actual == H::Text)
            }
            TypeKind::Char(_) | TypeKind::VarChar(_) => matches!(actual, H::Text | H::Other),
            TypeKind::Binary(_) | TypeKind::VarBinary(_) => {
                actual == H::Bytes || (for_use == Use::Read && actual == H::Text)
            }
            TypeKind::Date => matches!(actual, H::Date) || (for_use == Use::Write && actual == H::Timestamp),
            TypeKind::Time(_) => actual == H::Time,
            TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => actual == H::Timestamp,
            _ => false,
        }
}

/// The type of a new column for a declared one.
fn type_for(dialect: Dialect, kind: &TypeKind, key: bool) -> String {
    let mysql = dialect == Dialect::MySql;
    match kind {
        TypeKind::Boolean => "BOOLEAN".into(),
        TypeKind::TinyInt if mysql => "TINYINT".into(),
        TypeKind::TinyInt | TypeKind::SmallInt => "SMALLINT".into(),
        TypeKind::Int => "INT".into(),
        TypeKind::Float => if mysql { "FLOAT" } else { "REAL" }.into(),
        TypeKind::Double => if mysql { "DOUBLE" } else { "DOUBLE PRECISION" }.into(),
        TypeKind::Decimal(p, s) => format!("DECIMAL({p}, {s})"),
        TypeKind::Char(n) => format!("CHAR({n})"),
        TypeKind::VarChar(n) if *n <= 16_000 => format!("VARCHAR({n})"),
        TypeKind::VarChar(_) if mysql && key => "VARCHAR(255)".into(),
        TypeKind::VarChar(_) => "TEXT".into(),
        TypeKind::Binary(_) | TypeKind::VarBinary(_) => if mysql { "LONGBLOB" } else { "BYTEA" }.into(),
        TypeKind::Date => "DATE".into(),
        TypeKind::Time(p) => format!("TIME({})", (*p).min(6)),
        TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) if mysql => format!("DATETIME({})", (*p).min(6)),
        TypeKind::Timestamp(p) => format!("TIMESTAMP({})", (*p).min(6)),
        TypeKind::TimestampLtz(p) => format!("TIMESTAMP({}) WITH TIME ZONE", (*p).min(6)),
        _ => "BIGINT".into(),
    }
}

/// The statement that would make the table as it is declared.
fn create_table(options: &JdbcOptions, spec: &TableSpec) -> String {
    let dialect = options.url.dialect;
    let column = |(i, c): (usize, &flott_core::types::Column)| {
        format!("{} {}", quote(dialect, &c.name), type_for(dialect, &c.data_type.kind, spec.primary_key.contains(&i)))
    };
    let mut parts: Vec<String> = spec.columns.iter().enumerate().map(column).collect();
    if !spec.primary_key.is_empty() {
        let key: Vec<String> = spec.primary_key.iter().map(|k| quote(dialect, &spec.columns[*k].name)).collect();
        parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
    }
    let name: Vec<String> = options.table.split('.').map(|p| quote(dialect, p)).collect();
    format!("CREATE TABLE {} ({})", name.join("."), parts.join(", "))
}

/// An upsert needs a unique index on exactly the declared key; anything else would append or overwrite the wrong rows.
fn check_key(
    session: &mut dyn Session,
    options: &JdbcOptions,
    spec: &TableSpec,
    (schema, name): &(String, String),
    names: &[String],
) -> Result<(), TargetError> {
    if spec.primary_key.is_empty() {
        return Ok(());
    }
    let (place, mysql) = (Place::of(options), options.url.dialect == Dialect::MySql);
    let sql = if mysql {
        "SELECT index_name, column_name FROM information_schema.statistics \
         WHERE table_schema = ? AND table_name = ? AND non_unique = 0 ORDER BY index_name, seq_in_index"
    } else {
        "SELECT i.indexrelid::text, a.attname FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid \
         JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey) \
         WHERE n.nspname = $1 AND c.relname = $2 AND i.indisunique AND i.indpred IS NULL ORDER BY 1, 2"
    };
    let rows = session.texts(sql, vec![Param::Text(schema.clone()), Param::Text(name.clone())])?;
    let mut indexes: Vec<(String, Vec<String>)> = Vec::new();
    for row in rows {
        let mut row = row.into_iter().map(Option::unwrap_or_default);
        let (index, column) = (row.next().unwrap_or_default(), row.next().unwrap_or_default());
        match indexes.last_mut() {
            Some((last, columns)) if *last == index => columns.push(column),
            _ => indexes.push((index, vec![column])),
        }
    }
    let key: Vec<&str> = spec.primary_key.iter().map(|k| names[*k].as_str()).collect();
    let is_key = |columns: &[String]| columns.len() == key.len() && columns.iter().all(|c| key.contains(&c.as_str()));
    if indexes.iter().any(|(_, columns)| is_key(columns)) {
        let others = indexes.iter().filter(|(_, columns)| !is_key(columns)).count();
        if mysql && others > 0 {
            tracing::warn!(table = %place.table, others, "the table has other unique keys: ON DUPLICATE KEY UPDATE obeys them, too");
        }
        return Ok(());
    }
    let found: Vec<String> = indexes.iter().map(|(_, columns)| format!("({})", columns.join(", "))).collect();
    let found = if found.is_empty() {
        "it has no unique key".into()
    } else {
        format!("its unique keys are {}", found.join(", "))
    };
    Err(TargetError::Misfit(
        Error::user(
            "jdbc.key",
            format!("{}, table {}: there is no unique key on ({})", place.server, place.table, key.join(", ")),
        )
        .detail(format!("`{}` declares PRIMARY KEY ({}); {found}", spec.name, key.join(", ")))
        .hint("an upsert needs one: ALTER TABLE … ADD PRIMARY KEY, or declare the key that the table has"),
    ))
}

fn no_column(place: &Place, name: &str, columns: &[TargetColumn]) -> Error {
    let all: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    Error::user("jdbc.missing-column", format!("{}, table {}: there is no column `{name}`", place.server, place.table))
        .detail(format!("its columns are {}", all.join(", ")))
        .hint("rename the declared column, or ALTER TABLE … ADD COLUMN")
}

fn wrong_type(place: &Place, spec: &TableSpec, name: &str, kind: &TypeKind, found: &TargetColumn) -> Error {
    Error::user(
        "jdbc.type",
        format!("{}, table {}: column `{name}` is {}, not {kind}", place.server, place.table, found.type_text),
    )
    .detail(format!("`{}` declares it {kind}", spec.name))
    .hint("declare the type that the column has and CAST in the query")
}

fn not_given(place: &Place, spec: &TableSpec, missing: &TargetColumn) -> Error {
    let (server, table, column) = (&place.server, &place.table, &missing.name);
    Error::user(
        "jdbc.missing-column",
        format!("{server}, table {table}: column `{column}` needs a value and gets none"),
    )
    .detail(format!("it is {} NOT NULL without default, and `{}` does not declare it", missing.type_text, spec.name))
    .hint("declare and fill the column, or give it a default in the database")
}
