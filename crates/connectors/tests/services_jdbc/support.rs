//! Servers, tables, batches and a proxy for the tests of this directory.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use flott_connectors::contract::sink_context;
use flott_core::config::Configuration;
use flott_core::registry::{Registry, TableSpec};
use flott_core::sink::{
    ChangelogMode, CommitError, Committable, Committer, Sink, SinkContext, SinkWriter, WriteStatus,
};
use flott_core::source::{Boundedness, ReaderContext, ReaderEvent, Source, Split, SplitEnumerator, SplitReader};
use flott_core::time::{SharedClock, SystemClock};
use flott_core::types::{Column, TypeKind};
use flott_core::{ChangeBatch, Error, Result, RowKind};
use mysql::prelude::Queryable;

/// The database of the tests on MySQL.
const DATABASE: &str = "flott_jdbc_test";

/// A server under test.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    pub mysql: bool,
    pub host: String,
    pub port: u16,
    pub user: String,
}

#[allow(clippy::disallowed_methods, reason = "tests find their servers by the environment")]
fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn server(variable: &str) -> Option<Server> {
    let Some(url) = env(variable) else {
        assert!(env("FLOTT_REQUIRE_SERVICES").is_none_or(|v| v != "1"), "{variable} is not set");
        println!("skipped: no {variable}");
        return None;
    };
    let (scheme, rest) = url.split_once("://").expect("a url");
    let (user, rest) = rest.split_once('@').expect("user@host:port/");
    let (host, port) = rest.split('/').next().and_then(|h| h.split_once(':')).expect("host:port");
    let port = port.parse().expect("a port");
    Some(Server { mysql: scheme == "mysql", host: host.into(), port, user: user.into() })
}

/// MariaDB or MySQL.
pub fn mysql() -> Option<Server> {
    let server = server("FLOTT_TEST_MYSQL")?;
    let mut conn = server.mysql_conn("mysql");
    conn.query_drop(format!("CREATE DATABASE IF NOT EXISTS {DATABASE}")).expect("a database");
    Some(server)
}

/// PostgreSQL.
pub fn postgres() -> Option<Server> {
    server("FLOTT_TEST_POSTGRES")
}

/// Both.
pub fn servers() -> Vec<Server> {
    mysql().into_iter().chain(postgres()).collect()
}

impl Server {
    fn mysql_conn(&self, database: &str) -> mysql::Conn {
        let opts = mysql::OptsBuilder::new()
            .ip_or_hostname(Some(self.host.clone()))
            .tcp_port(self.port)
            .user(Some(self.user.clone()))
            .db_name(Some(database))
            .prefer_socket(false);
        mysql::Conn::new(opts).expect("the server answers")
    }

    pub fn database(&self) -> &'static str {
        if self.mysql { DATABASE } else { "postgres" }
    }

    /// A connection that looks on, or gets in the way.
    pub fn client(&self) -> Client {
        if self.mysql {
            return Client::MySql(self.mysql_conn(DATABASE));
        }
        let text = format!("host={} port={} user={} dbname=postgres", self.host, self.port, self.user);
        Client::Postgres(Box::new(postgres::Client::connect(&text, postgres::NoTls).expect("the server answers")))
    }

    pub fn url(&self, port: u16) -> String {
        let scheme = if self.mysql { "mysql" } else { "postgresql" };
        format!("jdbc:{scheme}://{}:{port}/{}?user={}", self.host, self.database(), self.user)
    }
}

/// A plain connection.
pub enum Client {
    MySql(mysql::Conn),
    Postgres(Box<postgres::Client>),
}

impl Client {
    pub fn run(&mut self, sql: &str) {
        self.try_run(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    pub fn try_run(&mut self, sql: &str) -> Result<(), String> {
        match self {
            Client::MySql(c) => c.query_drop(sql).map_err(|e| e.to_string()),
            Client::Postgres(c) => c.batch_execute(sql).map_err(|e| e.to_string()),
        }
    }
    /// The rows as text, columns parted by `|`.
    pub fn rows(&mut self, sql: &str) -> Vec<String> {
        match self {
            Client::MySql(c) => {
                let rows: Vec<mysql::Row> = c.query(sql).expect(sql);
                let text = |v: mysql::Value| match v {
                    mysql::Value::NULL => "NULL".to_owned(),
                    mysql::Value::Bytes(b) => String::from_utf8_lossy(&b).into_owned(),
                    v => v.as_sql(true),
                };
                rows.into_iter().map(|r| r.unwrap().into_iter().map(text).collect::<Vec<_>>().join("|")).collect()
            }
            Client::Postgres(c) => {
                let rows = c.simple_query(sql).expect(sql);
                let line = |m| match m {
                    postgres::SimpleQueryMessage::Row(r) => {
                        let text: Vec<&str> = (0..r.len()).map(|i| r.get(i).unwrap_or("NULL")).collect();
                        Some(text.join("|"))
                    }
                    _ => None,
                };
                rows.into_iter().filter_map(line).collect()
            }
        }
    }
    pub fn number(&mut self, sql: &str) -> i64 {
        self.rows(sql)[0].parse().expect("a number")
    }
}

/// A name nobody else uses.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (pid, n) = (std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
    format!("{name}_{pid}_{n}")
}

/// A table in the database, dropped at the end.
pub struct Table {
    pub server: Server,
    pub name: String,
    pub client: Client,
}

impl Table {
    /// `(k BIGINT, v VARCHAR(20))`, with the key unless `key` is false.
    pub fn kv(server: &Server, key: bool) -> Self {
        let end = if key { ", PRIMARY KEY (k)" } else { "" };
        Self::of(server, &format!("k BIGINT NOT NULL, v VARCHAR(20){end}"))
    }
    pub fn of(server: &Server, columns: &str) -> Self {
        let name = unique("t");
        let mut client = server.client();
        let end = if server.mysql { " CHARSET utf8mb4" } else { "" };
        client.run(&format!("CREATE TABLE {name} ({columns}){end}"));
        Table { server: server.clone(), name, client }
    }
    pub fn rows(&mut self) -> Vec<String> {
        self.client.rows(&format!("SELECT k, v FROM {} ORDER BY k, v", self.name))
    }
    pub fn count(&mut self) -> i64 {
        self.client.number(&format!("SELECT COUNT(*) FROM {}", self.name))
    }
    /// The declared table.
    pub fn spec(&self, options: &[(&str, &str)]) -> TableSpec {
        let kv = [("k", TypeKind::BigInt), ("v", TypeKind::STRING)];
        self.spec_of(&kv, &[0], options)
    }
    pub fn spec_of(&self, columns: &[(&str, TypeKind)], key: &[usize], options: &[(&str, &str)]) -> TableSpec {
        let url = self.server.url(self.server.port);
        let base = [("connector", "jdbc"), ("url", url.as_str()), ("table-name", self.name.as_str())];
        TableSpec {
            name: format!("default_catalog.default_database.{}", self.name),
            columns: columns.iter().map(|(n, k)| Column::new(*n, k.clone().nullable())).collect(),
            options: base.iter().chain(options).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            primary_key: key.to_vec(),
            partition_keys: Vec::new(),
            input_mode: if key.is_empty() { ChangelogMode::Append } else { ChangelogMode::Upsert },
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let _ = self.server.client().try_run(&format!("DROP TABLE IF EXISTS {}", self.name));
    }
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    flott_connectors::register_all(&mut registry);
    registry
}

pub fn sink(spec: &TableSpec) -> Result<Arc<dyn Sink>> {
    registry().connector(&spec.name, &spec.options)?.sink(spec, &Configuration::default())
}

pub fn source(spec: &TableSpec) -> Result<Arc<dyn Source>> {
    registry().connector(&spec.name, &spec.options)?.source(spec, &Configuration::default())
}

pub fn lookup(spec: &TableSpec, keys: &[usize]) -> Arc<dyn flott_core::lookup::LookupSource> {
    let registry = registry();
    let factory = registry.connector(&spec.name, &spec.options).expect("jdbc");
    factory.lookup(spec, keys, &Configuration::default()).expect("a lookup source")
}

/// A context of subtask `subtask` of `parallelism`, on the machine's clock.
pub fn context(subtask: u32, parallelism: u32, run: u64) -> SinkContext {
    let mut config = Configuration::default();
    config.set("execution.checkpointing.interval", "10 s").expect("an option");
    SinkContext { clock: clock(), config: Arc::new(config), ..sink_context(subtask, parallelism, 0, run) }
}

pub fn clock() -> SharedClock {
    SystemClock::shared()
}

pub fn now_ms() -> i64 {
    clock().now_ms()
}

/// Rows of `(k, v)`.
pub fn batch(rows: &[(i64, &str)]) -> ChangeBatch {
    let k: ArrayRef = Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>());
    let v: ArrayRef = Arc::new(rows.iter().map(|r| Some(r.1)).collect::<StringArray>());
    ChangeBatch::append(RecordBatch::try_from_iter([("k", k), ("v", v)]).expect("two columns"))
}

/// Rows of `(k, v)` with what they do.
pub fn changes(rows: &[(RowKind, i64, &str)]) -> ChangeBatch {
    let plain: Vec<(i64, &str)> = rows.iter().map(|r| (r.1, r.2)).collect();
    ChangeBatch::new(batch(&plain).rows, Some(rows.iter().map(|r| r.0).collect()), None)
}

/// Rows `from..to`, all with value `v`.
pub fn range(from: i64, to: i64, v: &str) -> ChangeBatch {
    batch(&(from..to).map(|k| (k, v)).collect::<Vec<_>>())
}

pub fn wait<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    for _ in 0..6_000 {
        if let Some(t) = done() {
            return t;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{what}: nothing for 30 s");
}

/// Writes and waits while the writer is busy.
pub fn write(writer: &mut dyn SinkWriter, batch: &ChangeBatch) {
    wait("a write", || (writer.write(batch).expect("a write") == WriteStatus::Accepted).then_some(()));
}

/// Writes everything that is left.
pub fn finish(writer: &mut dyn SinkWriter) {
    wait("the end", || (writer.flush(true).expect("a flush") == WriteStatus::Accepted).then_some(()));
}

/// The error that a writer comes to.
pub fn failure(writer: &mut dyn SinkWriter) -> Error {
    wait("an error", || writer.flush(true).err())
}

/// Commits and waits while it is under way.
pub fn commit(committer: &mut dyn Committer, committables: &[Committable]) -> Result<(), CommitError> {
    let mut rest = committables;
    wait("a commit", || match committer.commit(rest) {
        Err(CommitError::Pending { committed, .. }) => {
            rest = &rest[committed..];
            None
        }
        other => Some(other),
    })
}

/// The source of a table whose readers wait for the server, as a task would, instead of saying so: for the law of sources, which
/// polls without a pause.
pub fn patient_source(spec: &TableSpec) -> Arc<dyn Source> {
    struct Patient(Arc<dyn Source>);
    struct PatientReader(Box<dyn SplitReader>);
    impl Source for Patient {
        fn boundedness(&self) -> Boundedness {
            self.0.boundedness()
        }
        fn enumerator(&self) -> Result<Box<dyn SplitEnumerator>> {
            self.0.enumerator()
        }
        fn reader(&self, context: ReaderContext) -> Result<Box<dyn SplitReader>> {
            Ok(Box::new(PatientReader(self.0.reader(context)?)))
        }
    }
    impl SplitReader for PatientReader {
        fn assign(&mut self, splits: Vec<Split>) -> Result<()> {
            self.0.assign(splits)
        }
        fn poll(&mut self) -> Result<ReaderEvent> {
            wait("rows", || match self.0.poll() {
                Ok(ReaderEvent::Wait { .. }) => None,
                other => Some(other),
            })
        }
        fn snapshot(&mut self) -> Result<Vec<Split>> {
            self.0.snapshot()
        }
    }
    Arc::new(Patient(source(spec).expect("a source")))
}

/// A TCP proxy that can cut all connections, refuse new ones, and slow the server's answers down.
pub struct Proxy {
    pub port: u16,
    pub refuse: Arc<AtomicBool>,
    pub delay_ms: Arc<AtomicU64>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    pub fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let proxy = Proxy { port, refuse: Arc::default(), delay_ms: Arc::default(), open: Arc::default() };
        let (refuse, delay, open) = (proxy.refuse.clone(), proxy.delay_ms.clone(), proxy.open.clone());
        let target = (server.host.clone(), server.port);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if refuse.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&target) else { continue };
                let mut all = open.lock().expect("not poisoned");
                all.extend([&client, &server].map(|s| s.try_clone().expect("a stream")));
                drop(all);
                let pairs = [(&client, &server, 0), (&server, &client, 1)];
                for (from, to, answers) in pairs.map(|(f, t, a)| (f.try_clone(), t.try_clone(), a)) {
                    let (from, to, delay) = (from.expect("a stream"), to.expect("a stream"), delay.clone());
                    std::thread::spawn(move || copy(from, to, (answers == 1).then_some(delay)));
                }
            }
        });
        proxy
    }

    /// Breaks every connection.
    pub fn cut(&self) {
        for stream in self.open.lock().expect("not poisoned").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, delay: Option<Arc<AtomicU64>>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 {
            break;
        }
        if let Some(ms) = delay.as_ref().map(|d| d.load(Ordering::SeqCst)).filter(|ms| *ms > 0) {
            std::thread::sleep(Duration::from_millis(ms));
        }
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
