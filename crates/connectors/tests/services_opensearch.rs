//! The sinks `opensearch` and `elasticsearch-7` on a real OpenSearch (`FLOTT_TEST_OPENSEARCH=http://127.0.0.1:PORT`); skipped,
//! and said so, where there is none.
#![cfg(feature = "elasticsearch")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use flott_connectors::contract::sink_context;
use flott_core::batch::RowKind;
use flott_core::registry::{Registry, TableSpec};
use flott_core::sink::{ChangelogMode, SinkContext, SinkWriter, WriteStatus};
use flott_core::time::SystemClock;
use flott_core::types::{Column, TypeKind, arrow_schema};
use flott_core::{ChangeBatch, ErrorKind, Result};
use serde_json::{Value, json};

/// The server, or nothing.
#[allow(clippy::disallowed_methods, reason = "tests find their servers by the environment")]
fn server() -> Option<String> {
    let url = std::env::var("FLOTT_TEST_OPENSEARCH").ok();
    let required = std::env::var("FLOTT_REQUIRE_SERVICES").is_ok_and(|v| v == "1");
    assert!(url.is_some() || !required, "FLOTT_TEST_OPENSEARCH is not set, and services are required");
    if url.is_none() {
        println!("skipped: no FLOTT_TEST_OPENSEARCH");
    }
    url
}

/// An index name that no other test has, in this run or another.
fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (now_ms, process) = (SystemClock::shared().now_ms(), std::process::id());
    format!("flott-{name}-{now_ms}-{process}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn ask(method: &str, url: &str, body: Option<Value>) -> Value {
    let config = ureq::Agent::config_builder().http_status_as_error(false).build();
    let agent = config.new_agent();
    let mut answer = match (method, body) {
        ("GET", _) => agent.get(url).call(),
        ("DELETE", _) => agent.delete(url).call(),
        ("PUT", Some(body)) => agent.put(url).content_type("application/json").send(body.to_string()),
        (_, body) => {
            agent.post(url).content_type("application/json").send(body.map(|b| b.to_string()).unwrap_or_default())
        }
    }
    .expect("an answer");
    serde_json::from_str(&answer.body_mut().read_to_string().expect("a body")).unwrap_or(Value::Null)
}

/// All documents of an index by id, and deletes it.
fn documents(url: &str, index: &str) -> Vec<(String, Value)> {
    ask("POST", &format!("{url}/{index}/_refresh"), None);
    let found = ask("GET", &format!("{url}/{index}/_search?size=10000&sort=_id"), None);
    let hits = found["hits"]["hits"].as_array().cloned().unwrap_or_default();
    hits.into_iter().map(|h| (h["_id"].as_str().unwrap_or_default().to_owned(), h["_source"].clone())).collect()
}

fn columns() -> Vec<Column> {
    let kinds = [
        ("id", TypeKind::BigInt),
        ("name", TypeKind::STRING),
        ("price", TypeKind::Decimal(10, 2)),
        ("at", TypeKind::Timestamp(3)),
    ];
    kinds.into_iter().map(|(name, kind)| Column::new(name, kind.nullable())).collect()
}

fn table(url: &str, index: &str, more: &[(&str, &str)]) -> TableSpec {
    let base = [("connector", "opensearch"), ("hosts", url), ("index", index)];
    TableSpec {
        name: "shop.orders".into(),
        columns: columns(),
        options: base.iter().chain(more).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        primary_key: vec![0],
        partition_keys: Vec::new(),
        input_mode: ChangelogMode::Upsert,
    }
}

const DAY_MS: i64 = 86_400_000;

/// Rows `(id, name)`, each a day after the one before.
fn rows(rows: &[(i64, &str)], kinds: Option<Vec<RowKind>>) -> ChangeBatch {
    let prices = Decimal128Array::from_iter_values(rows.iter().map(|(id, _)| i128::from(id * 100 + 5)));
    let prices = prices.with_precision_and_scale(10, 2).expect("it fits");
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(id, _)| *id))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, name)| *name))),
        Arc::new(prices),
        Arc::new(TimestampMillisecondArray::from_iter_values(
            rows.iter().map(|(id, _)| 1_767_225_600_000 + id * DAY_MS),
        )),
    ];
    let batch = RecordBatch::try_new(arrow_schema(&columns()), arrays).expect("a batch");
    ChangeBatch::new(batch, kinds.map(Into::into), None)
}

struct Running {
    writer: Box<dyn SinkWriter>,
    context: SinkContext,
}

impl Running {
    fn start(table: &TableSpec, restored: Vec<bytes::Bytes>) -> Result<Running> {
        let mut registry = Registry::default();
        flott_connectors::register_all(&mut registry);
        let factory = registry.connector(&table.name, &table.options)?;
        let context = SinkContext { clock: SystemClock::shared(), ..sink_context(0, 1, 0, 0) };
        let writer = factory.sink(table, &Default::default())?.writer(context.clone(), restored)?;
        Ok(Running { writer, context })
    }
    fn write(&mut self, batch: &ChangeBatch) -> Result<()> {
        while self.writer.write(batch)? != WriteStatus::Accepted {
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
    fn finish(&mut self) -> Result<()> {
        let start_ms = self.context.clock.now_ms();
        while self.writer.flush(true)? != WriteStatus::Accepted {
            assert!(self.context.clock.now_ms() - start_ms < 60_000, "nothing is written any more");
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

/// Writes and waits; the error if there is one.
fn written(table: &TableSpec, batches: &[ChangeBatch]) -> Result<SinkContext> {
    let mut running = Running::start(table, Vec::new())?;
    for batch in batches {
        running.write(batch)?;
    }
    running.finish()?;
    Ok(running.context)
}

#[test]
fn upserts_and_deletes_by_key_and_again() {
    let Some(url) = server() else { return };
    let index = unique("keyed");
    let first = rows(&[(1, "a"), (2, "b"), (3, "c")], None);
    use RowKind::{Delete, Insert, UpdateAfter};
    let second = rows(&[(2, "B"), (3, "c"), (9, "none"), (4, "d")], Some(vec![UpdateAfter, Delete, Delete, Insert]));
    for connector in ["opensearch", "elasticsearch-7"] {
        let mut t = table(&url, &index, &[]);
        t.options.insert("connector".into(), connector.into());
        // The second time all of it is a replay.
        written(&t, &[first.clone(), second.clone()]).expect("written");
        let found = documents(&url, &index);
        let ids: Vec<_> = found.iter().map(|(id, d)| (id.as_str(), d["name"].as_str().unwrap_or_default())).collect();
        assert_eq!(ids, [("1", "a"), ("2", "B"), ("4", "d")]);
        assert_eq!(found[0].1, json!({"id": 1, "name": "a", "price": 1.05, "at": "2026-01-02 00:00:00"}));
    }
    ask("DELETE", &format!("{url}/{index}"), None);
}

#[test]
fn a_restored_writer_writes_what_the_checkpoint_carried() {
    let Some(url) = server() else { return };
    let index = unique("restored");
    let t = table(&url, &index, &[("sink.bulk-flush.interval", "1 h")]);
    let mut first = Running::start(&t, Vec::new()).expect("a writer");
    first.write(&rows(&[(1, "a"), (2, "b")], None)).expect("taken");
    let snapshot = first.writer.snapshot().expect("rows");
    drop(first);
    let mut second = Running::start(&t, snapshot).expect("a writer");
    second.write(&rows(&[(2, "new")], None)).expect("taken");
    second.finish().expect("written");
    let found = documents(&url, &index);
    assert_eq!(found.len(), 2);
    assert_eq!(found[1].1["name"], "new");
    ask("DELETE", &format!("{url}/{index}"), None);
}

#[test]
fn indices_are_named_by_the_row() {
    let Some(url) = server() else { return };
    let base = unique("daily");
    let t = table(&url, &format!("{base}-{{at|yyyy.MM.dd}}"), &[]);
    written(&t, &[rows(&[(1, "a"), (2, "b")], None)]).expect("written");
    for (day, id) in [("2026.01.02", "1"), ("2026.01.03", "2")] {
        let index = format!("{base}-{day}");
        let ids: Vec<_> = documents(&url, &index).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, [id]);
        ask("DELETE", &format!("{url}/{index}"), None);
    }
    let upper = table(&url, "UPPER", &[]);
    let error = written(&upper, &[rows(&[(1, "a")], None)]).err().expect("index names are in lower case");
    assert!(error.message().contains("must be lowercase"), "{error}");
}

#[test]
fn a_document_that_does_not_fit_the_mapping_is_named() {
    let Some(url) = server() else { return };
    let index = unique("mapped");
    let mapping = json!({"mappings": {"properties": {"name": {"type": "integer"}}}});
    ask("PUT", &format!("{url}/{index}"), Some(mapping));
    let batch = rows(&[(1, "10"), (2, "many"), (3, "30")], None);
    let error = written(&table(&url, &index, &[]), std::slice::from_ref(&batch)).err().expect("not an integer");
    assert_eq!((error.kind(), error.code()), (ErrorKind::User, "elasticsearch.document"));
    for part in ["document `2`", index.as_str(), "status 400", "name", "many"] {
        assert!(error.message().contains(part), "{part}: {error}");
    }
    let context = written(&table(&url, &index, &[("failure-handler", "ignore")]), &[batch]).expect("left out");
    assert_eq!(context.metrics.bad_skipped.get(), 1);
    let ids: Vec<_> = documents(&url, &index).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["1", "3"]);
    ask("DELETE", &format!("{url}/{index}"), None);
}

#[test]
fn an_index_that_is_blocked_is_tried_again() {
    let Some(url) = server() else { return };
    let index = unique("blocked");
    ask("PUT", &format!("{url}/{index}"), Some(json!({"settings": {"index.blocks.write": true}})));
    let batch = rows(&[(1, "a")], None);
    let error =
        written(&table(&url, &index, &[]), std::slice::from_ref(&batch)).err().expect("blocked, and no back-off");
    assert!(error.code() == "elasticsearch.rejected" && error.message().contains("cluster_block_exception"), "{error}");
    let t = table(&url, &index, &[("sink.bulk-flush.backoff.strategy", "EXPONENTIAL")]);
    let mut running = Running::start(&t, Vec::new()).expect("a writer");
    running.write(&batch).expect("taken");
    assert!(matches!(running.writer.flush(true), Ok(WriteStatus::Busy { .. })), "it is due at once");
    std::thread::sleep(Duration::from_millis(300));
    assert_ne!(running.writer.flush(true).expect("no error"), WriteStatus::Accepted, "it waits");
    ask("PUT", &format!("{url}/{index}/_settings"), Some(json!({"index.blocks.write": false})));
    running.finish().expect("written");
    assert!(running.context.metrics.external.retries.get() > 0);
    assert_eq!(documents(&url, &index).len(), 1);
    ask("DELETE", &format!("{url}/{index}"), None);
}

#[test]
fn many_rows_are_written_once_each() {
    let Some(url) = server() else { return };
    let index = unique("many");
    let t = table(&url, &index, &[]);
    let batches: Vec<_> = (0..5)
        .map(|b| rows(&(0..4_000).map(|i| (b * 4_000 + i, "some name of a row")).collect::<Vec<_>>(), None))
        .collect();
    let clock = SystemClock::shared();
    let begin_ns = clock.now_nanos();
    let context = written(&t, &batches).expect("written");
    let seconds = (clock.now_nanos() - begin_ns) as f64 / 1e9;
    ask("POST", &format!("{url}/{index}/_refresh"), None);
    let count = ask("GET", &format!("{url}/{index}/_count"), None);
    println!(
        "20000 upserts in {seconds:.2} s, {:.0} rows/s, {} calls, {} bytes",
        20_000.0 / seconds,
        context.metrics.external.calls.get(),
        context.metrics.bytes.get()
    );
    assert_eq!(count["count"], 20_000);
    ask("DELETE", &format!("{url}/{index}"), None);
}

/// A way to the server that can be cut.
struct Proxy {
    url: String,
    cut: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    fn to(server: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let target = server.trim_start_matches("http://").to_owned();
        let (cut, streams) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (is_cut, kept) = (Arc::clone(&cut), Arc::clone(&streams));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if is_cut.load(Ordering::Acquire) {
                    continue;
                }
                let server = TcpStream::connect(&target).expect("the server is there");
                for (from, to) in [(&stream, &server), (&server, &stream)] {
                    let clone = |s: &TcpStream| s.try_clone().expect("a stream");
                    kept.lock().expect("not poisoned").push(clone(from));
                    let (from, to) = (clone(from), clone(to));
                    std::thread::spawn(move || pass(from, to));
                }
            }
        });
        Proxy { url, cut, streams }
    }
    /// Closes all connections, and new ones until `cut(false)`.
    fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Release);
        for stream in self.streams.lock().expect("not poisoned").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 << 10];
    while let Ok(n) = from.read(&mut buffer)
        && n > 0
        && to.write_all(&buffer[..n]).is_ok()
    {}
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn a_server_that_goes_away_and_comes_back_gets_every_row() {
    let Some(url) = server() else { return };
    let (index, proxy) = (unique("away"), Proxy::to(&url));
    let t = table(&proxy.url, &index, &[("sink.bulk-flush.max-actions", "200")]);
    let mut running = Running::start(&t, Vec::new()).expect("a writer");
    for b in 0..10 {
        let names: Vec<_> = (0..400).map(|i| (b * 400 + i, "x")).collect();
        running.write(&rows(&names, None)).expect("taken");
        // Twice in the middle of things.
        if b == 3 || b == 6 {
            proxy.cut(true);
            std::thread::sleep(Duration::from_millis(500));
            assert_eq!(running.writer.flush(false).expect("no error"), WriteStatus::Accepted, "a barrier passes");
            assert_eq!(running.writer.snapshot().expect("rows").len(), 1, "the checkpoint carries what waits");
            proxy.cut(false);
        }
    }
    running.finish().expect("written");
    assert!(running.context.metrics.external.retries.get() > 0, "the way was cut");
    ask("POST", &format!("{url}/{index}/_refresh"), None);
    assert_eq!(ask("GET", &format!("{url}/{index}/_count"), None)["count"], 4_000);
    ask("DELETE", &format!("{url}/{index}"), None);
}
