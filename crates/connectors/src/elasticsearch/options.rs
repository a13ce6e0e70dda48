//! The options of the connectors, from which checks and documentation come; never connects.

use flott_core::config::{Configuration, keys};
use flott_core::registry::{OptionSpec, TableSpec};
use flott_core::sink::ChangelogMode;
use flott_core::{Error, Result};

use super::index::IndexName;
use crate::formats::{JsonOptions, json};
use crate::http::{Address, Authorization, CallOptions};
use crate::options::{TableOptions, option};

/// Options of `elasticsearch-7`.
pub const OPTIONS: &[OptionSpec] = &[
    option("hosts", "STRING", "", true, "Servers, `http://host:port`, with `;` between them; tried in turn."),
    option(
        "index",
        "STRING",
        "",
        true,
        "The index: `orders`, `orders-{column}`, `orders-{column|yyyy-MM-dd}` or `orders-{now()|yyyy-MM-dd}`.",
    ),
    option("document-id.key-delimiter", "STRING", "_", false, "Text between the columns of a primary key in ids."),
    option("username", "STRING", "", false, "User, together with 'password'."),
    option("password", "STRING", "", false, "Password."),
    option(
        "failure-handler",
        "ENUM(fail|ignore|retry-rejected)",
        "fail",
        false,
        "Documents that the server refuses: fail the job, leave them out and count them, or retry those it is too busy for.",
    ),
    option(
        "sink.delivery-guarantee",
        "ENUM(none|at-least-once)",
        "at-least-once",
        false,
        "`none` loses what waits when the job fails; with a primary key at-least-once has the effect of once.",
    ),
    option(
        "sink.flush-on-checkpoint",
        "BOOLEAN",
        "true",
        false,
        "When false rows that wait are in no checkpoint, as with the guarantee `none`.",
    ),
    option(
        "sink.bulk-flush.max-actions",
        "INT",
        "1000",
        false,
        "Rows per request at most; 0 or -1: no limit of its own.",
    ),
    option("sink.bulk-flush.max-size", "MEMORY", "2 mb", false, "Size of a request at most; 0: 16 mb."),
    option(
        "sink.bulk-flush.interval",
        "DURATION",
        "1 s",
        false,
        "How long a row waits for others; 0: until a checkpoint.",
    ),
    option(
        "sink.bulk-flush.backoff.strategy",
        "ENUM(DISABLED|CONSTANT|EXPONENTIAL)",
        "DISABLED",
        false,
        "How requests are tried again that the server is too busy for.",
    ),
    option("sink.bulk-flush.backoff.max-retries", "INT", "8", false, "How often they are tried again."),
    option("sink.bulk-flush.backoff.delay", "DURATION", "50 ms", false, "The pause, or the first one."),
    option("connection.path-prefix", "STRING", "", false, "In front of every path, such as `/v1`."),
    option(
        "connection.request-timeout",
        "DURATION",
        "",
        false,
        "Accepted without effect: a writer has its own connection.",
    ),
    option("connection.timeout", "DURATION", "5 s", false, "How long connecting may take."),
    option("socket.timeout", "DURATION", "30 s", false, "How long an answer may take."),
    option(
        "connection.max-retry-timeout",
        "DURATION",
        "30 s",
        false,
        "How long servers that do not answer are tried again before the job fails.",
    ),
    option("format", "ENUM(json)", "json", false, "Documents are JSON."),
];

/// What `opensearch` has besides.
pub const OPENSEARCH_OPTIONS: &[OptionSpec] =
    &[option("allow-insecure", "BOOLEAN", "false", false, "Certificates of servers are not checked.")];

/// What becomes of documents that the server refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureHandler {
    /// The job fails.
    Fail,
    /// They are left out and counted.
    Ignore,
    /// Those it is too busy for are tried for long; others fail the job.
    RetryRejected,
}

/// How requests are tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// How often.
    pub max_retries: u32,
    /// Pause before the first retry.
    pub delay_ms: u64,
    /// Whether the pause doubles.
    pub doubles: bool,
}

/// How long `retry-rejected` tries without any progress, about: a retry must end.
const REJECTED_MS: u64 = 600_000;
/// As many retries as that with a pause that doubles.
const REJECTED_RETRIES: u64 = 75;
/// Size of requests where there is no limit of rows or bytes.
const UNLIMITED_BYTES: usize = 16 << 20;
const UNLIMITED_ROWS: usize = 10_000;

/// Options of a table, read.
#[derive(Clone, Debug)]
pub struct SinkOptions {
    /// For messages.
    pub table: String,
    /// `elasticsearch-7` or `opensearch`.
    pub connector: &'static str,
    /// Servers, path prefix included.
    pub hosts: Vec<Address>,
    /// User and password.
    pub authorization: Option<Authorization>,
    /// The index.
    pub index: IndexName,
    /// Between the columns of a key.
    pub delimiter: String,
    /// Refused documents.
    pub failure_handler: FailureHandler,
    /// Rows that wait are in checkpoints.
    pub at_least_once: bool,
    /// Rows per flush.
    pub max_actions: usize,
    /// Bytes per request.
    pub max_bytes: usize,
    /// How long rows wait.
    pub interval_ms: Option<i64>,
    /// Retries.
    pub backoff: Backoff,
    /// How long servers that are not there are tried.
    pub unreachable_ms: i64,
    /// Timeouts.
    pub calls: CallOptions,
    /// How documents look.
    pub json: JsonOptions,
}

impl SinkOptions {
    /// Reads and checks the options of a table.
    pub fn read(table: &TableSpec, connector: &'static str, config: &Configuration) -> Result<Self> {
        let more: &[OptionSpec] = if connector == "opensearch" { OPENSEARCH_OPTIONS } else { &[] };
        let o = TableOptions::checked(table, &[OPTIONS, more, json::OPTIONS])?;
        o.one_of("format", &["json"], 0)?;
        let prefix = o.text("connection.path-prefix").unwrap_or_default().trim_matches('/').to_owned();
        let host = |text: &str| {
            let mut address = Address::parse(text)?;
            if !prefix.is_empty() {
                address.url = format!("{}/{prefix}", address.url);
            }
            Some(address)
        };
        let hosts: Option<Vec<_>> = o.text("hosts").unwrap_or_default().split(';').map(host).collect();
        let Some(hosts) = hosts else {
            // The value is not shown: it may hold a password.
            let message = format!("table `{}`: 'hosts' is not a list of servers", table.name);
            return Err(Error::user("table.bad-option", message).hint("write http://host:port, several with `;`"));
        };
        let zone = config.string(keys::LOCAL_TIME_ZONE).unwrap_or_default();
        let zone = match zone.as_str() {
            "" | "default" | "Z" => chrono_tz::UTC,
            name => name.parse().map_err(|_| {
                Error::user("config.zone", format!("'{}' = '{name}' is not a time zone", keys::LOCAL_TIME_ZONE))
            })?,
        };
        let index =
            IndexName::parse(o.text("index").unwrap_or_default(), table, zone).map_err(|e| o.bad("index", e))?;
        if index.depends_on_now() && table.input_mode != ChangelogMode::Append {
            let why =
                "an index named by the time of writing needs rows that are never changed: an update would go elsewhere";
            return Err(o.refused("index", why).hint("name the index by a column of the row"));
        }
        let size = o.memory_bytes("sink.bulk-flush.max-size")?.unwrap_or(2 << 20);
        let ms = |key, default| Ok::<_, Error>(o.duration_ms(key)?.unwrap_or(default).max(0));
        ms("connection.request-timeout", 0)?;
        let failure_handler = failure_handler(&o)?;
        Ok(SinkOptions {
            table: table.name.clone(),
            connector,
            hosts,
            authorization: authorization(&o)?,
            index,
            delimiter: o.text("document-id.key-delimiter").unwrap_or("_").to_owned(),
            failure_handler,
            at_least_once: guarantee(&o)? && o.flag("sink.flush-on-checkpoint", true)?,
            max_actions: max_actions(&o)?,
            max_bytes: if size == 0 { UNLIMITED_BYTES } else { usize::try_from(size).unwrap_or(UNLIMITED_BYTES) },
            interval_ms: Some(ms("sink.bulk-flush.interval", 1_000)?).filter(|ms| *ms > 0),
            backoff: backoff(&o, failure_handler)?,
            unreachable_ms: ms("connection.max-retry-timeout", 30_000)?,
            calls: CallOptions {
                connect_timeout_ms: Some(ms("connection.timeout", 5_000)?.max(1).unsigned_abs()),
                answer_timeout_ms: Some(ms("socket.timeout", 30_000)?.max(1).unsigned_abs()),
                trusted_pem: None,
                insecure: o.flag("allow-insecure", false)?,
            },
            json: JsonOptions::read(&o)?,
        })
    }
}

fn authorization(o: &TableOptions<'_>) -> Result<Option<Authorization>> {
    match (o.text("username"), o.text("password")) {
        (None, None) => Ok(None),
        (Some(user), Some(password)) if !user.is_empty() && !password.is_empty() => {
            Ok(Some(Authorization::basic(user, password)))
        }
        _ => Err(Error::user(
            "table.missing-option",
            format!("table `{}`: 'username' and 'password' must be given together, and not be empty", o.table()),
        )
        .hint("give both, or neither for a server without security")),
    }
}

fn failure_handler(o: &TableOptions<'_>) -> Result<FailureHandler> {
    let names = ["fail", "ignore", "retry-rejected"];
    if let Some(text) = o.text("failure-handler")
        && text.contains('.')
    {
        return Err(o
            .refused("failure-handler", "Java classes cannot be run")
            .hint("use fail, ignore or retry-rejected"));
    }
    Ok(match o.one_of("failure-handler", &names, 0)? {
        0 => FailureHandler::Fail,
        1 => FailureHandler::Ignore,
        _ => FailureHandler::RetryRejected,
    })
}

fn guarantee(o: &TableOptions<'_>) -> Result<bool> {
    match o.one_of("sink.delivery-guarantee", &["none", "at-least-once", "exactly-once"], 1)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(o
            .refused("sink.delivery-guarantee", "the server has no transactions that a checkpoint could commit")
            .hint("use 'at-least-once': with a PRIMARY KEY, rows that are written again change nothing")),
    }
}

fn max_actions(o: &TableOptions<'_>) -> Result<usize> {
    match o.number::<i64>("sink.bulk-flush.max-actions", "a number of rows; 0 or -1 for no limit")? {
        None => Ok(1_000),
        Some(0 | -1) => Ok(UNLIMITED_ROWS),
        Some(n) => usize::try_from(n)
            .map(|n| n.min(1 << 20))
            .map_err(|_| o.bad("sink.bulk-flush.max-actions", "at least 1; 0 or -1 for no limit")),
    }
}

fn backoff(o: &TableOptions<'_>, handler: FailureHandler) -> Result<Backoff> {
    let strategy = o.one_of("sink.bulk-flush.backoff.strategy", &["DISABLED", "NONE", "CONSTANT", "EXPONENTIAL"], 0)?;
    let retries = o.number::<u32>("sink.bulk-flush.backoff.max-retries", "a number of retries")?.unwrap_or(8);
    let delay_ms = o.duration_ms("sink.bulk-flush.backoff.delay")?.unwrap_or(50).max(0).unsigned_abs();
    let max_retries = match (handler, strategy) {
        (FailureHandler::RetryRejected, 2) => {
            u32::try_from((REJECTED_MS / delay_ms.max(1)).max(REJECTED_RETRIES)).unwrap_or(u32::MAX).max(retries)
        }
        (FailureHandler::RetryRejected, _) => retries.max(REJECTED_RETRIES as u32),
        (_, 0 | 1) => 0,
        _ => retries,
    };
    Ok(Backoff { max_retries, delay_ms, doubles: strategy != 2 })
}
