//! One connection to a server, whatever it speaks: what the connector asks of it, and why it may say no. Blocks; never used
//! on a task's thread.

use std::fmt;

use flott_core::{Error, ErrorKind, Result};

use super::mysql::MySqlSession;
use super::options::JdbcOptions;
use super::postgres::PostgresSession;
use super::url::Dialect;
use crate::columns::ColumnBuilder;
use crate::flusher::{Cancel, FlushError};

/// A value on its way to the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Param {
    /// NULL.
    Null,
    /// BOOLEAN.
    Bool(bool),
    /// Any integer.
    Int(i64),
    /// FLOAT.
    Float(f32),
    /// DOUBLE.
    Double(f64),
    /// Strings, and everything that is sent as text: DECIMAL, dates, times.
    Text(String),
    /// Binary strings.
    Bytes(Vec<u8>),
}

impl Param {
    /// Bytes on the wire, about.
    pub fn size_bytes(&self) -> usize {
        match self {
            Param::Null | Param::Bool(_) => 5,
            Param::Int(_) | Param::Float(_) | Param::Double(_) => 24,
            Param::Text(t) => t.len() + 9,
            Param::Bytes(b) => b.len() * 2 + 9,
        }
    }
}

/// What kind of failure it is: decides what is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DbErrorKind {
    /// No connection, or it broke, or the server takes no more of them: what was under way may have happened.
    Gone,
    /// Deadlock, lock wait timeout, read-only server, full disk: rolled back, may work later.
    Conflict,
    /// User or password wrong, or a right is missing.
    Denied,
    /// Database, table or column missing.
    Missing,
    /// A unique key is taken.
    Duplicate,
    /// Another constraint refuses the row.
    Constraint,
    /// A value does not fit its column.
    Data,
    /// A statement or a row is larger than the server takes.
    TooLarge,
    /// Anything else the server says.
    Other,
    /// The session itself cannot go on, such as a value that cannot be read.
    Client,
}

/// What a server said.
#[derive(Clone, Debug)]
pub struct DbError {
    /// Its kind.
    pub kind: DbErrorKind,
    /// The server's own code, such as `1213 (40001)`; empty when it did not answer.
    pub code: String,
    /// The server's words.
    pub message: String,
}

impl fmt::Display for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.code.is_empty() { write!(f, "{}", self.message) } else { write!(f, "{}: {}", self.code, self.message) }
    }
}

/// Rows on their way from the server: the builders have the rows so far; whether to go on.
pub type OnRows<'a> = dyn FnMut(&mut [ColumnBuilder]) -> Result<bool> + 'a;

/// A query whose rows are read by type.
pub struct RowQuery<'a> {
    /// The statement.
    pub sql: &'a str,
    /// Its parameters.
    pub params: Vec<Param>,
    /// Rows between two calls of the receiver.
    pub fetch_rows: usize,
}

/// Why reading rows stopped.
#[derive(Debug)]
pub enum ReadError {
    /// The server.
    Db(DbError),
    /// A value that does not fit its declared type, or the receiver.
    Local(Error),
}

impl From<DbError> for ReadError {
    fn from(e: DbError) -> Self {
        ReadError::Db(e)
    }
}

impl From<Error> for ReadError {
    fn from(e: Error) -> Self {
        ReadError::Local(e)
    }
}

/// A connection. Statements with parameters are prepared and kept.
pub trait Session: Send {
    /// Runs a statement; the number of rows it touched.
    fn execute(&mut self, sql: &str, params: Vec<Param>) -> Result<u64, DbError>;
    /// Runs a statement without parameters or result.
    fn command(&mut self, sql: &str) -> Result<(), DbError>;
    /// The few rows of a query, as text.
    fn texts(&mut self, sql: &str, params: Vec<Param>) -> Result<Vec<Vec<Option<String>>>, DbError>;
    /// Streams the rows of a query into builders, one per column; the last call may have no rows.
    fn rows(
        &mut self,
        query: RowQuery<'_>,
        builders: &mut [ColumnBuilder],
        on_rows: &mut OnRows<'_>,
    ) -> Result<(), ReadError>;
    /// Begins a transaction.
    fn begin(&mut self) -> Result<(), DbError>;
    /// Ends it for good.
    fn commit(&mut self) -> Result<(), DbError> {
        self.command("COMMIT")
    }
    /// Ends it as if it had not been.
    fn rollback(&mut self) -> Result<(), DbError> {
        self.command("ROLLBACK")
    }
    /// Bytes that a statement with its parameters may have.
    fn packet_bytes_max(&self) -> usize;
    /// What breaks off a statement that is under way, and its transaction.
    fn cancel(&self) -> Cancel;
}

/// Opens a connection. `utc`: the session's time zone is UTC, because a column has an instant in it. `autocommit`: every
/// statement is a transaction of its own, unless [`Session::begin`] says otherwise (PostgreSQL: always so).
pub fn connect(options: &JdbcOptions, utc: bool, autocommit: bool) -> Result<Box<dyn Session>, DbError> {
    Ok(match options.url.dialect {
        Dialect::MySql => Box::new(MySqlSession::connect(&options.url, utc, autocommit)?),
        Dialect::Postgres => Box::new(PostgresSession::connect(&options.url)?),
    })
}

/// Names a server and a table in every error.
#[derive(Clone, Debug)]
pub struct Place {
    /// `mysql 127.0.0.1:3306`.
    pub server: String,
    /// `shop.totals`.
    pub table: String,
}

impl Place {
    /// Of a table.
    pub fn of(options: &JdbcOptions) -> Self {
        Place { server: options.url.to_string(), table: qualified(options) }
    }

    /// As [`flott_core::metrics::ExternalMetrics::set_endpoint`] wants it.
    pub fn endpoint(&self) -> String {
        format!("{}, table {}", self.server, self.table)
    }

    /// The error about `what` (such as `upsert of 100 rows`), with what to do.
    pub fn error(&self, what: &str, e: &DbError) -> Error {
        use DbErrorKind as K;
        let (kind, code, said, hint) = match e.kind {
            K::Gone => (
                ErrorKind::Retry,
                "jdbc.unreachable",
                "cannot be reached",
                "check that the server runs, that host and port in 'url' are right, and its limit on connections",
            ),
            K::Conflict => (
                ErrorKind::Retry,
                "jdbc.conflict",
                "refused for now",
                "look for another session that holds locks on the table; raise 'sink.max-retries' if it is meant to",
            ),
            K::Denied => (
                ErrorKind::User,
                "jdbc.denied",
                "not allowed",
                "check 'username' and 'password', and grant the user the right named",
            ),
            K::Missing => (
                ErrorKind::User,
                "jdbc.missing",
                "something does not exist",
                "create it, or correct 'url' and 'table-name'",
            ),
            K::Duplicate => (
                ErrorKind::User,
                "jdbc.duplicate",
                "a unique key is taken",
                "declare the key as PRIMARY KEY … NOT ENFORCED so that rows are upserted, or drop the unique index that the query does not keep",
            ),
            K::Constraint => (
                ErrorKind::User,
                "jdbc.constraint",
                "a constraint refuses a row",
                "filter or complete such rows in the query, or relax the constraint",
            ),
            K::Data => (
                ErrorKind::User,
                "jdbc.data",
                "a value does not fit its column",
                "widen the column, or cut or cast the value in the query",
            ),
            K::TooLarge => (
                ErrorKind::User,
                "jdbc.too-large",
                "larger than the server takes",
                "raise max_allowed_packet on the server, or write smaller values",
            ),
            K::Other => (ErrorKind::Retry, "jdbc.server", "failed", "the server's words say more; its log may, too"),
            K::Client => (ErrorKind::User, "jdbc.client", "failed on the way", "see the words of the driver"),
        };
        Error::new(kind, code, format!("{}, table {}: {what}: {said}: {e}", self.server, self.table)).hint(hint)
    }

    /// The same for a flusher.
    pub fn flush_error(&self, what: &str, e: &DbError) -> FlushError {
        let error = self.error(what, e);
        match e.kind {
            DbErrorKind::Gone => FlushError::Unreachable(error),
            DbErrorKind::Conflict | DbErrorKind::Other => FlushError::Busy(error),
            _ => FlushError::Fatal(error),
        }
    }
}

/// The name of the table with its database, as in messages.
fn qualified(options: &JdbcOptions) -> String {
    match (&options.url.dialect, options.table.contains('.')) {
        (Dialect::MySql, true) => options.table.clone(),
        _ => format!("{}.{}", options.url.database, options.table),
    }
}
