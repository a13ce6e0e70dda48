//! A connection to PostgreSQL over the `postgres` crate: values travel as text, which the server reads by the column's type.

use std::error::Error as StdError;
use std::time::Duration;

use bytes::BytesMut;
use flott_core::types::TypeKind;
use flott_core::{Error, Result};
use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::{Format, FromSql, IsNull, ToSql, Type};
use postgres::{Client, NoTls, Statement};

use super::session::{DbError, DbErrorKind, OnRows, Param, ReadError, RowQuery, Session};
use super::url::JdbcUrl;
use crate::columns::ColumnBuilder;
use crate::flusher::Cancel;

/// A connection attempt takes this long at most, unless the URL says otherwise.
const CONNECT_TIMEOUT_MS: u64 = 10_000;
/// Idle connections are checked after so long.
const KEEPALIVE_MS: u64 = 30_000;
/// Prepared statements kept per connection.
const STATEMENTS: usize = 160;
/// The protocol has no limit worth the name; this keeps single statements reasonable.
const PACKET_BYTES_MAX: usize = 64 << 20;

/// The connection.
pub struct PostgresSession {
    client: Client,
    /// Prepared statements, the last used one at the end.
    statements: Vec<(String, Statement)>,
}

impl PostgresSession {
    /// Connects; the session's time zone is UTC, so that instants have one meaning.
    pub fn connect(url: &JdbcUrl) -> Result<Self, DbError> {
        let ms = Duration::from_millis;
        let mut config = Client::configure();
        config
            .host(&url.host)
            .port(url.port)
            .dbname(&url.database)
            .user(url.user.as_deref().unwrap_or("postgres"))
            .application_name("flott")
            .connect_timeout(ms(url.connect_timeout_ms.unwrap_or(CONNECT_TIMEOUT_MS)))
            .keepalives_idle(ms(KEEPALIVE_MS));
        if let Some(password) = &url.password {
            config.password(password);
        }
        if let Some(options) = &url.session {
            config.options(options);
        }
        if let Some(timeout) = url.socket_timeout_ms {
            config.tcp_user_timeout(ms(timeout));
        }
        let mut client = config.connect(NoTls).map_err(|e| db_error(&e))?;
        let mut setup = "SET TIME ZONE 'UTC'; SET datestyle = 'ISO, YMD'; SET extra_float_digits = 3".to_owned();
        if let Some(timeout) = url.socket_timeout_ms {
            setup.push_str(&format!("; SET statement_timeout = {timeout}"));
        }
        if let Some(schema) = &url.schema {
            setup.push_str(&format!("; SET search_path = \"{}\"", schema.replace('"', "\"\"")));
        }
        client.batch_execute(&setup).map_err(|e| db_error(&e))?;
        Ok(PostgresSession { client, statements: Vec::new() })
    }

    fn prepared(&mut self, sql: &str) -> Result<Statement, DbError> {
        if let Some(at) = self.statements.iter().rposition(|(s, _)| s == sql) {
            let found = self.statements.remove(at);
            let statement = found.1.clone();
            self.statements.push(found);
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).map_err(|e| db_error(&e))?;
        if self.statements.len() >= STATEMENTS {
            self.statements.remove(0);
        }
        self.statements.push((sql.to_owned(), statement.clone()));
        Ok(statement)
    }
}

impl Session for PostgresSession {
    fn execute(&mut self, sql: &str, params: Vec<Param>) -> Result<u64, DbError> {
        let statement = self.prepared(sql)?;
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|p| p as &(dyn ToSql + Sync)).collect();
        self.client.execute(&statement, &params).map_err(|e| db_error(&e))
    }

    fn command(&mut self, sql: &str) -> Result<(), DbError> {
        self.client.batch_execute(sql).map_err(|e| db_error(&e))
    }

    fn texts(&mut self, sql: &str, params: Vec<Param>) -> Result<Vec<Vec<Option<String>>>, DbError> {
        let statement = self.prepared(sql)?;
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|p| p as &(dyn ToSql + Sync)).collect();
        let rows = self.client.query(&statement, &params).map_err(|e| db_error(&e))?;
        let text = |row: &postgres::Row, i| {
            let raw: Option<Raw<'_>> = row.try_get(i).map_err(|e| db_error(&e))?;
            Ok(raw.map(|r| String::from_utf8_lossy(r.0).into_owned()))
        };
        rows.iter().map(|row| (0..row.len()).map(|i| text(row, i)).collect()).collect()
    }

    fn rows(
        &mut self,
        query: RowQuery<'_>,
        builders: &mut [ColumnBuilder],
        on_rows: &mut OnRows<'_>,
    ) -> Result<(), ReadError> {
        let RowQuery { sql, params, fetch_rows } = query;
        let statement = self.prepared(sql)?;
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|p| p as &(dyn ToSql + Sync)).collect();
        // A portal is read on only as fast as its rows are taken, without a server-side cursor.
        let mut iter = self.client.query_raw(&statement, params.iter().copied()).map_err(|e| db_error(&e))?;
        let mut rows = 0;
        while let Some(row) = iter.next().map_err(|e| db_error(&e))? {
            for (i, builder) in builders.iter_mut().enumerate() {
                let raw: Option<Raw<'_>> = row.try_get(i).map_err(|e| db_error(&e))?;
                if !append(raw, builder) {
                    return Err(unreadable(row.columns()[i].name(), raw, builder).into());
                }
            }
            rows += 1;
            if rows == fetch_rows {
                rows = 0;
                if !on_rows(builders)? {
                    return Ok(());
                }
            }
        }
        on_rows(builders)?;
        Ok(())
    }

    fn begin(&mut self) -> Result<(), DbError> {
        self.command("BEGIN")
    }

    fn packet_bytes_max(&self) -> usize {
        PACKET_BYTES_MAX
    }

    fn cancel(&self) -> Cancel {
        let token = self.client.cancel_token();
        Box::new(move || {
            if let Err(e) = token.cancel_query(NoTls) {
                tracing::warn!(error = %db_error(&e), "cannot break off a statement of a sink that was stopped");
            }
        })
    }
}

/// The bytes of a column as they came.
#[derive(Clone, Copy)]
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Raw(raw))
    }
    fn accepts(_: &Type) -> bool {
        true
    }
}

impl ToSql for Param {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self {
            Param::Null => return Ok(IsNull::Yes),
            Param::Bool(b) => out.extend_from_slice(if *b { b"t" } else { b"f" }),
            Param::Int(n) => out.extend_from_slice(n.to_string().as_bytes()),
            Param::Float(x) => out.extend_from_slice(x.to_string().as_bytes()),
            Param::Double(x) => out.extend_from_slice(x.to_string().as_bytes()),
            Param::Text(t) => out.extend_from_slice(t.as_bytes()),
            Param::Bytes(b) => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\x");
                out.extend(b.iter().flat_map(|b| [HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]));
            }
        }
        Ok(IsNull::No)
    }
    fn accepts(_: &Type) -> bool {
        true
    }
    fn to_sql_checked(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        self.to_sql(ty, out)
    }
    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }
}

/// Appends a value that came as text (binary strings: as they are); `false` when it does not fit.
fn append(raw: Option<Raw<'_>>, builder: &mut ColumnBuilder) -> bool {
    let Some(Raw(bytes)) = raw else {
        builder.append_null();
        return true;
    };
    if matches!(builder.kind(), TypeKind::Binary(_) | TypeKind::VarBinary(_)) {
        return builder.append_bytes(bytes);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match builder.kind() {
        // In UTC, as the session is: `2020-01-01 00:00:00+00`.
        TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => {
            builder.append_text(text.strip_suffix("+00").unwrap_or(text))
        }
        _ => builder.append_text(text),
    }
}

fn unreadable(column: &str, raw: Option<Raw<'_>>, builder: &ColumnBuilder) -> Error {
    let shown = String::from_utf8_lossy(raw.map_or(b"NULL", |r| r.0)).chars().take(80).collect::<String>();
    Error::user("jdbc.value", format!("column `{column}`: the value '{shown}' is not a {}", builder.kind()))
        .hint("declare the column with a type that holds every value of the table, such as STRING")
}

/// Sorts what the server or the driver says.
pub fn db_error(e: &postgres::Error) -> DbError {
    use DbErrorKind as K;
    let Some(db) = e.as_db_error() else {
        // Without an answer of the server: refused, broken, timed out; or a value the driver could not send.
        let mut message = e.to_string();
        let mut source = e.source();
        while let Some(inner) = source {
            message = format!("{message}: {inner}");
            source = inner.source();
        }
        let client = message.contains("serializing parameter") || message.contains("retrieving column");
        return DbError { kind: if client { K::Client } else { K::Gone }, code: String::new(), message };
    };
    let code = db.code();
    let kind = match (code.code(), &code.code()[..2]) {
        (_, "08") | ("53300" | "57P01" | "57P02" | "57P03" | "57P05" | "25P03", _) => K::Gone,
        (_, "40") | ("55P03" | "57014" | "53100" | "53200" | "25006", _) => K::Conflict,
        (_, "28") | ("42501", _) => K::Denied,
        ("3D000" | "3F000" | "42P01" | "42703", _) => K::Missing,
        _ if *code == SqlState::UNIQUE_VIOLATION => K::Duplicate,
        ("54000", _) => K::TooLarge,
        (_, "23") | ("44000", _) => K::Constraint,
        (_, "22") => K::Data,
        _ => K::Other,
    };
    let mut message = db.message().to_owned();
    if let Some(detail) = db.detail() {
        message = format!("{message} ({detail})");
    }
    if let Some(column) = db.column() {
        message = format!("{message} (column {column})");
    }
    DbError { kind, code: code.code().to_owned(), message }
}
