//! JDBC URLs of MySQL, MariaDB and PostgreSQL: read once, refused with a sentence when they mean something Flott does not
//! do; never printed with a password.

use std::fmt;

use flott_core::{Error, Result};

/// Which SQL a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// MySQL and MariaDB.
    MySql,
    /// PostgreSQL.
    Postgres,
}

impl Dialect {
    /// As in messages.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::MySql => "mysql",
            Dialect::Postgres => "postgresql",
        }
    }
}

/// Whether the connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Never.
    Off,
    /// Always; the server's certificate is not looked at.
    Unverified,
    /// Always; the certificate must be good for the host.
    Verified,
}

/// Where a table is and how to get there.
#[derive(Clone, PartialEq, Eq)]
pub struct JdbcUrl {
    /// The server's language.
    pub dialect: Dialect,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// User, if the URL names one.
    pub user: Option<String>,
    /// Password, if the URL has one.
    pub password: Option<String>,
    /// Encryption.
    pub tls: Tls,
    /// How long a connection may take.
    pub connect_timeout_ms: Option<u64>,
    /// How long an answer may take.
    pub socket_timeout_ms: Option<u64>,
    /// Time zone of the session, if the URL names one.
    pub time_zone: Option<String>,
    /// Schema of unqualified names (`currentSchema`).
    pub schema: Option<String>,
    /// Variables of the session (`sessionVariables` of MySQL, `options` of PostgreSQL), as the server reads them.
    pub session: Option<String>,
}

impl fmt::Debug for JdbcUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for JdbcUrl {
    /// Without user, password and parameters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}:{}", self.dialect.name(), self.host, self.port)
    }
}

/// Parameters that are understood to mean what happens anyway, or nothing here.
const ACCEPTED: &[&str] = &[
    "rewriteBatchedStatements",
    "reWriteBatchedInserts",
    "useUnicode",
    "characterEncoding",
    "characterSetResults",
    "allowPublicKeyRetrieval",
    "autoReconnect",
    "failOverReadOnly",
    "maxReconnects",
    "zeroDateTimeBehavior",
    "tinyInt1isBit",
    "useCursorFetch",
    "defaultFetchSize",
    "useServerPrepStmts",
    "cachePrepStmts",
    "prepStmtCacheSize",
    "prepStmtCacheSqlLimit",
    "allowMultiQueries",
    "useCompression",
    "nullCatalogMeansCurrent",
    "useLocalSessionState",
    "cacheServerConfiguration",
    "useJDBCCompliantTimezoneShift",
    "useLegacyDatetimeCode",
    "tcpKeepAlive",
    "ApplicationName",
    "stringtype",
    "prepareThreshold",
    "binaryTransfer",
    "loginTimeout",
    "assumeMinServerVersion",
    "preferQueryMode",
];

impl JdbcUrl {
    /// Reads a URL; the error says what is wrong with it and shows no secret.
    pub fn parse(text: &str) -> Result<Self> {
        let rest = text.trim().strip_prefix("jdbc:").ok_or_else(|| bad("it does not begin with 'jdbc:'"))?;
        let (scheme, rest) = rest.split_once(':').ok_or_else(|| bad("it names no kind of database"))?;
        let (dialect, port) = match scheme {
            "mysql" | "mariadb" => (Dialect::MySql, 3306),
            "postgresql" => (Dialect::Postgres, 5432),
            other => {
                return Err(bad(&format!("there is no support for '{other}'"))
                    .hint("tables of MySQL, MariaDB and PostgreSQL can be read and written"));
            }
        };
        let rest = rest.strip_prefix("//").ok_or_else(|| {
            bad("it names no host (connection types such as 'replication:' and 'loadbalance:' are not supported)")
        })?;
        let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (server, database) = place.split_once('/').unwrap_or((place, ""));
        if server.contains(',') {
            return Err(bad("it names several hosts").hint("name one server, or a proxy in front of several"));
        }
        let (login, server) = server.rsplit_once('@').map_or((None, server), |(l, s)| (Some(l), s));
        let (host, port) = split_port(server, port)?;
        let mut url = JdbcUrl {
            dialect,
            host,
            port,
            database: decode(database)?,
            user: None,
            password: None,
            tls: Tls::Off,
            connect_timeout_ms: None,
            socket_timeout_ms: None,
            time_zone: None,
            schema: None,
            session: None,
        };
        if let Some(login) = login {
            let (user, password) = login.split_once(':').map_or((login, None), |(u, p)| (u, Some(p)));
            url.user = Some(decode(user)?);
            url.password = password.map(decode).transpose()?;
        }
        for pair in parameters.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            url.parameter(key, &decode(value)?)?;
        }
        if url.dialect == Dialect::Postgres && url.tls != Tls::Off {
            return Err(bad("encrypted connections to PostgreSQL are not supported")
                .hint("set sslmode=disable and keep the way to the server private, such as by a tunnel"));
        }
        if url.database.is_empty() {
            return Err(bad("it names no database").hint("write jdbc:mysql://host:3306/database"));
        }
        Ok(url)
    }

    fn parameter(&mut self, key: &str, value: &str) -> Result<()> {
        // MySQL's driver counts in milliseconds, PostgreSQL's in seconds; 0 is no limit in both.
        let timeout = |unit_ms: u64| -> Result<Option<u64>> {
            let n: u64 = value.parse().map_err(|_| bad(&format!("'{key}' is not a number")))?;
            Ok(n.checked_mul(unit_ms).filter(|ms| *ms > 0))
        };
        let unit_ms = if self.dialect == Dialect::MySql { 1 } else { 1_000 };
        match key {
            "user" => self.user = Some(value.to_owned()),
            "password" => self.password = Some(value.to_owned()),
            "useSSL" | "requireSSL" | "ssl" => {
                if value.eq_ignore_ascii_case("true") && self.tls == Tls::Off {
                    self.tls = Tls::Unverified;
                } else if value.eq_ignore_ascii_case("false") && key != "requireSSL" {
                    self.tls = Tls::Off;
                }
            }
            "verifyServerCertificate" if value.eq_ignore_ascii_case("true") => self.tls = Tls::Verified,
            "verifyServerCertificate" => {}
            "sslMode" | "sslmode" => self.tls = tls_mode(value)?,
            "connectTimeout" => self.connect_timeout_ms = timeout(unit_ms)?,
            "socketTimeout" => self.socket_timeout_ms = timeout(unit_ms)?,
            "serverTimezone" | "connectionTimeZone" if !matches!(value, "LOCAL" | "SERVER") => {
                self.time_zone = Some(value.to_owned());
            }
            "serverTimezone" | "connectionTimeZone" => {}
            "currentSchema" => self.schema = value.split(',').next().map(|s| s.trim().to_owned()),
            "sessionVariables" if self.dialect == Dialect::MySql => self.session = Some(value.to_owned()),
            "options" if self.dialect == Dialect::Postgres => self.session = Some(value.to_owned()),
            _ if ACCEPTED.contains(&key) => {}
            _ => {
                return Err(bad(&format!("the parameter '{key}' is not known"))
                    .hint("leave it out, or set what it does on the server"));
            }
        }
        Ok(())
    }
}

fn bad(what: &str) -> Error {
    Error::user("jdbc.url", format!("the 'url' of the table cannot be used: {what}"))
}

fn tls_mode(value: &str) -> Result<Tls> {
    Ok(match value.to_ascii_lowercase().replace('-', "_").as_str() {
        "disabled" | "disable" | "preferred" | "prefer" | "allow" => Tls::Off,
        "required" | "require" => Tls::Unverified,
        "verify_ca" | "verify_identity" | "verify_full" => Tls::Verified,
        _ => return Err(bad("the TLS mode is not known").hint("write sslMode=DISABLED, REQUIRED or VERIFY_IDENTITY")),
    })
}

fn split_port(server: &str, default: u16) -> Result<(String, u16)> {
    let (host, port) = match server.strip_prefix('[') {
        Some(rest) => {
            let (host, tail) = rest.split_once(']').ok_or_else(|| bad("the address lacks its ']'"))?;
            (host, tail.strip_prefix(':'))
        }
        None => server.rsplit_once(':').map_or((server, None), |(h, p)| (h, Some(p))),
    };
    let port = port.map_or(Ok(default), |p| p.parse().map_err(|_| bad("the port is not a number up to 65535")))?;
    Ok((if host.is_empty() { "localhost" } else { host }.to_owned(), port))
}

fn decode(text: &str) -> Result<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let hex = |d: Option<u8>| d.and_then(|d| char::from(d).to_digit(16));
        let (Some(high), Some(low)) = (hex(bytes.next()), hex(bytes.next())) else {
            return Err(bad("a '%' is not followed by two hexadecimal digits"));
        };
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).map_err(|_| bad("it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_as_users_write_them() {
        let u = JdbcUrl::parse("jdbc:mysql://db.example:3307/shop?useSSL=false&rewriteBatchedStatements=true&user=a&password=p%26q&connectTimeout=5000")
            .expect("a good url");
        assert_eq!(
            (u.dialect, u.host.as_str(), u.port, u.database.as_str()),
            (Dialect::MySql, "db.example", 3307, "shop")
        );
        assert_eq!((u.user.as_deref(), u.password.as_deref()), (Some("a"), Some("p&q")));
        assert_eq!((u.connect_timeout_ms, u.tls), (Some(5_000), Tls::Off));
        assert!(!format!("{u:?}").contains("p&q"));
        let u = JdbcUrl::parse("jdbc:postgresql://u:secret@[::1]/d?sslmode=disable&socketTimeout=7&currentSchema=s")
            .expect("a good url");
        assert_eq!((u.host.as_str(), u.port, u.tls, u.socket_timeout_ms), ("::1", 5432, Tls::Off, Some(7_000)));
        assert_eq!((u.user.as_deref(), u.schema.as_deref()), (Some("u"), Some("s")));
        assert_eq!(JdbcUrl::parse("jdbc:mariadb:///x").expect("good").host, "localhost");
        assert_eq!(
            JdbcUrl::parse("jdbc:mysql://h/x?serverTimezone=Asia/Shanghai").expect("good").time_zone.as_deref(),
            Some("Asia/Shanghai")
        );
        assert_eq!(JdbcUrl::parse("jdbc:mysql://h/x?sslMode=VERIFY_IDENTITY").expect("good").tls, Tls::Verified);
    }

    #[test]
    fn what_is_not_done_is_refused_without_showing_a_password() {
        for (text, part) in [
            ("mysql://h/x", "begin with 'jdbc:'"),
            ("jdbc:oracle:thin:@h", "no support for 'oracle'"),
            ("jdbc:mysql:replication://a,b/x", "names no host"),
            ("jdbc:mysql://a:1,b:2/x?password=hidden", "several hosts"),
            ("jdbc:mysql://h:99999/x", "port"),
            ("jdbc:mysql://h/?password=hidden", "no database"),
            ("jdbc:mysql://h/x?password=hidden&cacheResultSetMeta=a", "'cacheResultSetMeta' is not known"),
            ("jdbc:mysql://h/x?password=hid%zz", "hexadecimal"),
            ("jdbc:postgresql://h/x?sslmode=require", "encrypted"),
        ] {
            let e = JdbcUrl::parse(text).expect_err(text);
            assert!(e.to_string().contains(part), "{text}: {e}");
            assert!(!e.to_string().contains("hid"), "{e}");
        }
    }
}
