//! A connection to MySQL or MariaDB over the `mysql` crate: binary protocol, prepared statements; never a pool.

use std::time::Duration;

use flott_core::text::days_from_civil;
use flott_core::types::TypeKind;
use flott_core::{Error, Result};
use mysql::prelude::Queryable;
use mysql::{Conn, DriverError, Opts, OptsBuilder, Params, SslOpts, Value};

use super::session::{DbError, DbErrorKind, OnRows, Param, ReadError, RowQuery, Session};
use super::url::{JdbcUrl, Tls};
use crate::columns::ColumnBuilder;
use crate::flusher::Cancel;

/// A connection attempt takes this long at most, unless the URL says otherwise.
const CONNECT_TIMEOUT_MS: u64 = 10_000;
/// Idle connections are checked after so long, so that a host that vanished is noticed.
const KEEPALIVE_MS: u32 = 30_000;
/// Prepared statements kept per connection.
const STATEMENTS: usize = 160;

/// The connection.
pub struct MySqlSession {
    conn: Conn,
    opts: Opts,
    packet_bytes_max: usize,
}

impl MySqlSession {
    /// Connects; data that does not fit is an error in this session, whatever the server's default is.
    pub fn connect(url: &JdbcUrl, utc: bool, autocommit: bool) -> Result<Self, DbError> {
        let ms = |n: u64| Some(Duration::from_millis(n));
        let ssl = match url.tls {
            Tls::Off => None,
            Tls::Verified => Some(SslOpts::default()),
            Tls::Unverified => {
                Some(SslOpts::default().with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true))
            }
        };
        let opts: Opts = OptsBuilder::new()
            .ip_or_hostname(Some(url.host.clone()))
            .tcp_port(url.port)
            .user(url.user.clone())
            .pass(url.password.clone())
            .db_name(Some(url.database.clone()))
            .prefer_socket(false)
            .tcp_connect_timeout(ms(url.connect_timeout_ms.unwrap_or(CONNECT_TIMEOUT_MS)))
            .read_timeout(url.socket_timeout_ms.and_then(ms))
            .write_timeout(url.socket_timeout_ms.and_then(ms))
            .tcp_keepalive_time_ms(Some(KEEPALIVE_MS))
            .stmt_cache_size(STATEMENTS)
            .ssl_opts(ssl)
            .into();
        let mut conn = Conn::new(opts.clone()).map_err(|e| db_error(&e))?;
        let zone = match (&url.time_zone, utc) {
            (Some(zone), _) => format!(", time_zone = '{}'", zone.replace(['\'', '\\'], "")),
            (None, true) => ", time_zone = '+00:00'".to_owned(),
            (None, false) => String::new(),
        };
        let more = url.session.as_ref().map(|v| format!(", {}", v.replace(';', ","))).unwrap_or_default();
        let setup = format!(
            "SET sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES'), autocommit = {}{zone}{more}",
            u8::from(autocommit)
        );
        conn.query_drop(setup).map_err(|e| db_error(&e))?;
        let packet: Option<u64> = conn.query_first("SELECT @@max_allowed_packet").map_err(|e| db_error(&e))?;
        let packet_bytes_max = usize::try_from(packet.unwrap_or(1 << 20)).unwrap_or(usize::MAX);
        Ok(MySqlSession { conn, opts, packet_bytes_max })
    }
}

impl Session for MySqlSession {
    fn execute(&mut self, sql: &str, params: Vec<Param>) -> Result<u64, DbError> {
        let run = |conn: &mut Conn| {
            let result = conn.exec_iter(sql, values(params))?;
            Ok(result.affected_rows())
        };
        run(&mut self.conn).map_err(|e: mysql::Error| db_error(&e))
    }

    fn command(&mut self, sql: &str) -> Result<(), DbError> {
        self.conn.query_drop(sql).map_err(|e| db_error(&e))
    }

    fn texts(&mut self, sql: &str, params: Vec<Param>) -> Result<Vec<Vec<Option<String>>>, DbError> {
        let rows: Vec<mysql::Row> = self.conn.exec(sql, values(params)).map_err(|e| db_error(&e))?;
        Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect())
    }

    fn rows(
        &mut self,
        query: RowQuery<'_>,
        builders: &mut [ColumnBuilder],
        on_rows: &mut OnRows<'_>,
    ) -> Result<(), ReadError> {
        let RowQuery { sql, params, fetch_rows } = query;
        let mut result = self.conn.exec_iter(sql, values(params)).map_err(|e| db_error(&e))?;
        let mut rows = 0;
        for row in result.by_ref() {
            let row = row.map_err(|e| db_error(&e))?;
            for (i, builder) in builders.iter_mut().enumerate() {
                let value = row.as_ref(i).unwrap_or(&Value::NULL);
                if !append(value, builder) {
                    return Err(unreadable(row.columns_ref()[i].name_str().as_ref(), value, builder).into());
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
        drop(result);
        on_rows(builders)?;
        Ok(())
    }

    /// Transactions begin by themselves: in a session that writes, autocommit is off.
    fn begin(&mut self) -> Result<(), DbError> {
        Ok(())
    }

    fn packet_bytes_max(&self) -> usize {
        self.packet_bytes_max
    }

    fn cancel(&self) -> Cancel {
        let (opts, id) = (self.opts.clone(), self.conn.connection_id());
        Box::new(move || {
            let killed = Conn::new(opts).and_then(|mut conn| conn.query_drop(format!("KILL CONNECTION {id}")));
            if let Err(e) = killed {
                tracing::warn!(error = %db_error(&e), "cannot break off a statement of a sink that was stopped");
            }
        })
    }
}

fn values(params: Vec<Param>) -> Params {
    let value = |p| match p {
        Param::Null => Value::NULL,
        Param::Bool(b) => Value::Int(i64::from(b)),
        Param::Int(n) => Value::Int(n),
        Param::Float(x) => Value::Float(x),
        Param::Double(x) => Value::Double(x),
        Param::Text(t) => Value::Bytes(t.into_bytes()),
        Param::Bytes(b) => Value::Bytes(b),
    };
    if params.is_empty() { Params::Empty } else { Params::Positional(params.into_iter().map(value).collect()) }
}

fn text(value: Value) -> Option<String> {
    Some(match value {
        Value::NULL => return None,
        Value::Bytes(b) => String::from_utf8_lossy(&b).into_owned(),
        Value::Int(n) => n.to_string(),
        Value::UInt(n) => n.to_string(),
        Value::Float(x) => x.to_string(),
        Value::Double(x) => x.to_string(),
        other => other.as_sql(true),
    })
}

/// Appends a value as the declared type; `false` when it does not fit.
fn append(value: &Value, builder: &mut ColumnBuilder) -> bool {
    match value {
        Value::NULL => {
            builder.append_null();
            true
        }
        Value::Int(n) => append_int(*n, builder),
        Value::UInt(n) => match i64::try_from(*n) {
            Ok(n) => append_int(n, builder),
            Err(_) => builder.append_text(&n.to_string()) || builder.append_unscaled(i128::from(*n), 0),
        },
        Value::Float(x) => builder.append_f64(f64::from(*x)) || builder.append_text(&x.to_string()),
        Value::Double(x) => builder.append_f64(*x) || builder.append_text(&x.to_string()),
        Value::Bytes(b) => append_bytes(b, builder),
        Value::Date(y, mo, d, h, mi, s, us) => {
            if *y == 0 || *mo == 0 || *d == 0 {
                return false;
            }
            let days = days_from_civil(i64::from(*y), u32::from(*mo), u32::from(*d));
            let of_day_us = (i64::from(*h) * 3_600 + i64::from(*mi) * 60 + i64::from(*s)) * 1_000_000 + i64::from(*us);
            append_moment(days, of_day_us, builder)
        }
        Value::Time(negative, days, h, mi, s, us) => {
            let seconds = i64::from(*days) * 86_400 + i64::from(*h) * 3_600 + i64::from(*mi) * 60 + i64::from(*s);
            match builder.kind() {
                TypeKind::Time(_) if !negative && seconds < 86_400 => {
                    builder.append_raw(seconds * 1_000 + i64::from(*us) / 1_000)
                }
                k if k.is_string() => builder.append_text(value.as_sql(true).trim_matches('\'')),
                _ => false,
            }
        }
    }
}

fn append_int(n: i64, builder: &mut ColumnBuilder) -> bool {
    match builder.kind() {
        TypeKind::Boolean => builder.append_bool(n != 0),
        k if k.is_string() => builder.append_text(&n.to_string()),
        k if k.is_numeric() => builder.append_i64(n),
        _ => false,
    }
}

fn append_bytes(bytes: &[u8], builder: &mut ColumnBuilder) -> bool {
    match builder.kind() {
        TypeKind::Binary(_) | TypeKind::VarBinary(_) => builder.append_bytes(bytes),
        // BIT columns come as bytes, most significant first.
        TypeKind::Boolean => match bytes {
            [] => false,
            [b'0'] => builder.append_bool(false),
            [b'1'] => builder.append_bool(true),
            bits => builder.append_bool(bits.iter().any(|b| *b != 0)),
        },
        _ => std::str::from_utf8(bytes).is_ok_and(|t| builder.append_text(t)),
    }
}

fn append_moment(days: i64, of_day_us: i64, builder: &mut ColumnBuilder) -> bool {
    match builder.kind() {
        TypeKind::Date => builder.append_raw(days),
        TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) => {
            let per_second = flott_core::text::units_per_second(*p);
            // To the unit of the carrier, cut to the declared precision.
            let step_us = 10i64.pow(u32::from(6 - (*p).min(6)));
            let us = of_day_us - of_day_us % step_us;
            let of_day =
                if per_second >= 1_000_000 { us * (per_second / 1_000_000) } else { us / (1_000_000 / per_second) };
            let whole = days.checked_mul(86_400).and_then(|s| s.checked_mul(per_second));
            whole.and_then(|w| w.checked_add(of_day)).is_some_and(|n| builder.append_raw(n))
        }
        k if k.is_string() => {
            let mut text = String::new();
            flott_core::text::format_date(days, &mut text);
            text.push(' ');
            flott_core::text::format_time(of_day_us * 1_000, if of_day_us % 1_000_000 == 0 { 0 } else { 6 }, &mut text);
            builder.append_text(&text)
        }
        _ => false,
    }
}

fn unreadable(column: &str, value: &Value, builder: &ColumnBuilder) -> Error {
    Error::user(
        "jdbc.value",
        format!("column `{column}`: the value {} is not a {}", value.as_sql(true), builder.kind()),
    )
    .hint("declare the column with a type that holds every value of the table, such as STRING")
}

/// Sorts what the server or the driver says.
pub fn db_error(e: &mysql::Error) -> DbError {
    use DbErrorKind as K;
    let (kind, code, message) = match e {
        mysql::Error::MySqlError(e) => {
            let kind = match e.code {
                1040 | 1042 | 1043 | 1053 | 1152..=1161 | 1184 | 1203 | 1226 | 1927 | 2000..=2999 | 4031
                    if e.code != 1153 =>
                {
                    K::Gone
                }
                1153 | 1301 => K::TooLarge,
                1205 | 1213 | 1206 | 1021 | 1041 | 1114 | 1290 | 1836 | 1792 | 1317 | 3024 | 1969 | 1020 => K::Conflict,
                1044 | 1045 | 1142 | 1143 | 1227 | 1370 | 1698 | 1820 | 1862 | 1251 => K::Denied,
                1049 | 1051 | 1054 | 1146 => K::Missing,
                1062 | 1022 | 1169 | 1586 => K::Duplicate,
                1048 | 1216 | 1217 | 1364 | 1451 | 1452 | 3819 | 4025 => K::Constraint,
                1264 | 1265 | 1292 | 1366 | 1367 | 1406 | 1411 | 1441 | 1690 | 3140 => K::Data,
                _ => K::Other,
            };
            (kind, format!("{} ({})", e.code, e.state), e.message.clone())
        }
        mysql::Error::DriverError(DriverError::PacketTooLarge) => {
            (K::TooLarge, String::new(), "a packet is larger than max_allowed_packet".to_owned())
        }
        mysql::Error::DriverError(d) => {
            let gone = matches!(
                d,
                DriverError::ConnectTimeout
                    | DriverError::CouldNotConnect(_)
                    | DriverError::PacketOutOfSync
                    | DriverError::UnexpectedPacket
                    | DriverError::Timeout
                    | DriverError::SetupError
            );
            (if gone { K::Gone } else { K::Client }, String::new(), d.to_string())
        }
        mysql::Error::IoError(e) => (K::Gone, String::new(), e.to_string()),
        mysql::Error::CodecError(e) => (K::Gone, String::new(), e.to_string()),
        mysql::Error::TlsError(e) => (K::Gone, String::new(), format!("TLS: {e}")),
        other => (K::Client, String::new(), other.to_string()),
    };
    DbError { kind, code, message }
}
