//! What is sent for rows, and what becomes of every kind of answer; a double stands for the server.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use flott_core::batch::RowKind;
use flott_core::registry::TableSpec;
use flott_core::sink::{ChangelogMode, SinkContext, SinkWriter, WriteStatus};
use flott_core::time::{ManualClock, SystemClock};
use flott_core::types::TypeKind as T;
use flott_core::{ChangeBatch, CheckpointId, ErrorKind};

use super::bulk::BulkWriter;
use super::options::SinkOptions;
use crate::contract::sink_context;
use crate::flusher::{BatchWriter, FlushError, Stop};
use crate::http::double::{Asked, Double};
use crate::testing::{json_batch, refused, sink, source, table};

const COLUMNS: [(&str, T); 3] = [("id", T::Int), ("day", T::Date), ("s", T::STRING)];
const HELLO: &str = r#"{"version":{"number":"7.17.9"},"tagline":"You Know, for Search"}"#;
const FINE: &str = r#"{"errors":false}"#;

fn table_of(hosts: &str, more: &[(&str, &str)]) -> TableSpec {
    let base = [("connector", "elasticsearch-7"), ("hosts", hosts), ("index", "shop")];
    let mut options: Vec<_> = base.into_iter().filter(|(k, _)| more.iter().all(|(m, _)| m != k)).collect();
    options.extend(more);
    table(&COLUMNS, &options)
}

fn keyed(hosts: &str, more: &[(&str, &str)]) -> TableSpec {
    TableSpec { primary_key: vec![0], input_mode: ChangelogMode::Upsert, ..table_of(hosts, more) }
}

fn rows(text: &str) -> ChangeBatch {
    json_batch(&COLUMNS, text)
}

fn bulk(t: &TableSpec) -> (BulkWriter, SinkContext) {
    let options = SinkOptions::read(t, "elasticsearch-7", &Default::default()).expect("options");
    let context = sink_context(0, 1, 0, 0);
    let (clock, metrics) = (ManualClock::at(1_767_225_600_000), Arc::clone(&context.metrics));
    (BulkWriter::new(Arc::new(options), t, clock, metrics).expect("a writer"), context)
}

/// Connects and writes once.
fn write(writer: &mut BulkWriter, batch: &ChangeBatch) -> Result<(), FlushError> {
    let stop = Stop::default();
    writer.connect(&stop)?;
    writer.write(std::slice::from_ref(batch), &stop)
}

/// A server that says hello, and to `_bulk` what `answer` says to the n-th.
fn server(mut answer: impl FnMut(u32, &Asked) -> (u16, String) + Send + 'static) -> Double {
    let mut n = 0;
    Double::start(move |asked| {
        if asked.line == "GET /" {
            return (200, HELLO.into());
        }
        n += 1;
        answer(n, asked)
    })
}

fn bodies(double: &Double) -> Vec<String> {
    double.asked().into_iter().filter(|a| a.line.starts_with("POST /_bulk?")).map(|a| a.body).collect()
}

/// An answer with one item per status, in order.
fn items(statuses: &[(u16, &str)]) -> (u16, String) {
    let item = |(i, (status, error)): (usize, &(u16, &str))| match *error {
        "" => serde_json::json!({"update": {"_index": "shop", "_id": i.to_string(), "status": status}}),
        error => serde_json::json!({"update": {"_index": "shop", "_id": i.to_string(), "status": status,
            "error": {"type": error, "reason": "because", "caused_by": {"type": "deep", "reason": "inside"}}}}),
    };
    let items: Vec<_> = statuses.iter().enumerate().map(item).collect();
    (200, serde_json::json!({"errors": true, "items": items}).to_string())
}

#[test]
fn keys_make_upserts_and_deletes() {
    let double = server(|_, _| (200, FINE.into()));
    let mut t = keyed(&double.url, &[("document-id.key-delimiter", "$"), ("index", "shop-{day|yyyy.MM}")]);
    t.primary_key = vec![0, 2];
    let batch =
        rows("{\"id\":1,\"day\":\"2026-02-09\",\"s\":\"a\\\"\"}\n{\"id\":2,\"day\":\"2026-03-01\",\"s\":\"b\"}");
    let batch = ChangeBatch::new(batch.rows, Some([RowKind::UpdateAfter, RowKind::Delete].into()), None);
    let (mut writer, context) = bulk(&t);
    write(&mut writer, &batch).expect("written");
    let sent = concat!(
        "{\"update\":{\"_index\":\"shop-2026.02\",\"_id\":\"1$a\\\"\",\"retry_on_conflict\":3}}\n",
        "{\"doc\":{\"id\":1,\"day\":\"2026-02-09\",\"s\":\"a\\\"\"},\"doc_as_upsert\":true}\n",
        "{\"delete\":{\"_index\":\"shop-2026.03\",\"_id\":\"2$b\"}}\n",
    );
    assert_eq!(bodies(&double), [sent]);
    assert_eq!(context.metrics.bytes.get(), sent.len() as u64);
    let nothing = rows("{\"id\":null,\"day\":\"2026-03-01\"}");
    let error = write(&mut writer, &nothing).expect_err("no id").into_error();
    assert!(error.code() == "elasticsearch.key" && error.message().contains("column `id` is NULL"), "{error}");
}

#[test]
fn without_a_key_every_row_is_a_new_document() {
    let double = server(|_, _| (200, FINE.into()));
    let t = table_of(&double.url, &[("index", "{s}-{now()|yyyy-MM-dd}"), ("json.encode.ignore-null-fields", "true")]);
    let (mut writer, _) = bulk(&t);
    write(&mut writer, &rows("{\"id\":1,\"s\":\"x\"}")).expect("written");
    assert_eq!(bodies(&double), ["{\"index\":{\"_index\":\"x-2026-01-01\"}}\n{\"id\":1,\"s\":\"x\"}\n"]);
    let t = table_of(&double.url, &[("index", "{day|yyyy}")]);
    let error = write(&mut bulk(&t).0, &rows("{\"id\":1}")).expect_err("no day").into_error();
    assert!(error.code() == "elasticsearch.index" && error.message().contains("column `day` is NULL"), "{error}");
}

#[test]
fn requests_have_a_size() {
    let double = server(|_, _| (200, FINE.into()));
    let t = table_of(&double.url, &[("sink.bulk-flush.max-size", "100")]);
    let (mut writer, _) = bulk(&t);
    let text: String = (0..9).map(|i| format!("{{\"id\":{i}}}\n")).collect();
    write(&mut writer, &rows(&text)).expect("written");
    let sent = bodies(&double);
    assert!(sent.len() > 3 && sent.iter().all(|b| b.len() < 160), "{sent:?}");
    let ids = |i: &usize| sent.concat().contains(&format!("{{\"id\":{i},"));
    assert_eq!((0..9).filter(ids).count(), 9);
    assert_eq!(sent.concat().matches("_index").count(), 9, "each row once");
}

#[test]
fn a_request_that_is_too_long_is_sent_in_parts() {
    let double = server(|_, asked| if asked.body.len() > 150 { (413, String::new()) } else { (200, FINE.into()) });
    let (mut writer, _) = bulk(&table_of(&double.url, &[]));
    let text: String = (0..6).map(|i| format!("{{\"id\":{i}}}\n")).collect();
    write(&mut writer, &rows(&text)).expect("written");
    let done: String = bodies(&double).into_iter().filter(|b| b.len() <= 150).collect();
    assert_eq!(done.matches("_index").count(), 6);
    let long = rows(&format!("{{\"id\":1,\"s\":\"{}\"}}", "x".repeat(200)));
    let error = write(&mut writer, &long).expect_err("one document is too long").into_error();
    assert!(error.message().contains("http.max_content_length"), "{error}");
}

#[test]
fn refused_documents_are_named_or_counted() {
    let mapping = || items(&[(200, ""), (400, "mapper_parsing_exception"), (400, "mapper_parsing_exception")]);
    let text = "{\"id\":0}\n{\"id\":1}\n{\"id\":2}";
    let double = server(move |_, _| mapping());
    let error = write(&mut bulk(&keyed(&double.url, &[])).0, &rows(text)).expect_err("refused").into_error();
    assert_eq!((error.kind(), error.code()), (ErrorKind::User, "elasticsearch.document"));
    let said = "document `1` of index `shop` (and 1 more) with status 400: \
                mapper_parsing_exception: because; caused by deep: inside";
    assert!(error.message().contains(said), "{error}");

    let (mut writer, context) = bulk(&keyed(&double.url, &[("failure-handler", "ignore")]));
    write(&mut writer, &rows(text)).expect("left out");
    assert_eq!(context.metrics.bad_skipped.get(), 2);
    assert_eq!(bodies(&double).len(), 2, "nothing is sent again");
}

#[test]
fn a_busy_server_is_asked_again_with_what_it_refused() {
    // Row 3 is for the same document as row 1: it was done, and must still be the last.
    let text = "{\"id\":0}\n{\"id\":1,\"s\":\"old\"}\n{\"id\":2}\n{\"id\":1,\"s\":\"new\"}";
    let busy = "es_rejected_execution_exception";
    let answers = move |n, _: &Asked| match n {
        1 => (429, r#"{"error":{"type":"circuit_breaking_exception","reason":"memory"},"status":429}"#.into()),
        2 => items(&[(200, ""), (429, busy), (200, ""), (200, "")]),
        _ => (200, FINE.into()),
    };
    let double = server(answers);
    let backoff = [("sink.bulk-flush.backoff.strategy", "CONSTANT"), ("sink.bulk-flush.backoff.delay", "1 ms")];
    let (mut writer, context) = bulk(&keyed(&double.url, &backoff));
    write(&mut writer, &rows(text)).expect("written");
    let sent = bodies(&double);
    assert_eq!(sent.len(), 3);
    assert_eq!(sent[0], sent[1]);
    assert_eq!(sent[2].matches("\"_id\":\"1\"").count(), 2, "{}", sent[2]);
    assert!(sent[2].find("old") < sent[2].find("new") && !sent[2].contains("\"_id\":\"0\""), "{}", sent[2]);
    assert_eq!(context.metrics.external.retries.get(), 2);

    let double = server(answers);
    let error = write(&mut bulk(&keyed(&double.url, &[])).0, &rows(text)).expect_err("no back-off").into_error();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Retry, "elasticsearch.rejected"));
    assert!(error.message().contains("circuit_breaking_exception: memory"), "{error}");

    let double = server(move |_, _| items(&[(429, busy)]));
    let retries = [backoff[0], backoff[1], ("sink.bulk-flush.backoff.max-retries", "2")];
    let error =
        write(&mut bulk(&keyed(&double.url, &retries)).0, &rows("{\"id\":0}")).expect_err("too busy").into_error();
    assert!(
        error.message().contains("put off 1 operations, first of document `0` of index `shop`, after 2 retries"),
        "{error}"
    );
    assert_eq!(bodies(&double).len(), 3);
    let (mut writer, context) =
        bulk(&keyed(&double.url, &[retries[0], retries[1], retries[2], ("failure-handler", "ignore")]));
    write(&mut writer, &rows("{\"id\":0}")).expect("left out");
    assert_eq!(context.metrics.bad_skipped.get(), 1);
}

#[test]
fn retry_rejected_and_conflicts_need_no_strategy() {
    let double = server(|n, _| match n {
        1..=4 => items(&[(429, "es_rejected_execution_exception")]),
        5 => items(&[(409, "version_conflict_engine_exception")]),
        _ => (200, FINE.into()),
    });
    let delay = ("sink.bulk-flush.backoff.delay", "1 ms");
    let (mut writer, _) = bulk(&keyed(&double.url, &[("failure-handler", "retry-rejected"), delay]));
    write(&mut writer, &rows("{\"id\":0}")).expect("written");
    assert_eq!(bodies(&double).len(), 6);
    let double =
        server(|n, _| if n < 4 { items(&[(409, "version_conflict_engine_exception")]) } else { (200, FINE.into()) });
    write(&mut bulk(&keyed(&double.url, &[delay])).0, &rows("{\"id\":0}")).expect("conflicts pass");
}

#[test]
fn hosts_are_tried_in_turn_and_named_when_none_answers() {
    let double = server(|_, _| (200, FINE.into()));
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let gone = format!("http://127.0.0.1:{port}");
    let (mut writer, _) = bulk(&keyed(&format!("{gone};{}", double.url), &[]));
    write(&mut writer, &rows("{\"id\":0}")).expect("the second answers");
    let Err(FlushError::Unreachable(error)) = write(&mut bulk(&keyed(&gone, &[])).0, &rows("{\"id\":0}")) else {
        panic!("nobody is there");
    };
    assert!(error.kind() == ErrorKind::Retry && error.message().contains(&gone), "{error}");
    // A connection that breaks off, and a gateway without servers, are the same as nobody.
    for status in [0, 503] {
        let double = Double::start(move |_| (status, String::new()));
        let result = write(&mut bulk(&keyed(&double.url, &[])).0, &rows("{\"id\":0}"));
        assert!(matches!(result, Err(FlushError::Unreachable(_))), "{status}: {result:?}");
    }
}

#[test]
fn a_lost_answer_is_asked_for_again_without_what_was_done() {
    let double = server(|n, _| match n {
        1 => items(&[(200, ""), (429, "es_rejected_execution_exception")]),
        2 => (0, String::new()),
        _ => (200, FINE.into()),
    });
    let more = [("sink.bulk-flush.backoff.strategy", "EXPONENTIAL"), ("sink.bulk-flush.backoff.delay", "1 ms")];
    let (mut writer, _) = bulk(&keyed(&double.url, &more));
    let batch = rows("{\"id\":0}\n{\"id\":1}");
    assert!(matches!(write(&mut writer, &batch), Err(FlushError::Unreachable(_))));
    write(&mut writer, &batch).expect("written");
    let sent = bodies(&double);
    assert_eq!(sent[1], sent[2]);
    assert!(!sent[2].contains("\"_id\":\"0\""), "{}", sent[2]);
}

#[test]
fn servers_that_do_not_fit_are_refused() {
    for (answer, code, part) in [
        (
            (401, r#"{"error":{"type":"security_exception","reason":"missing authentication"}}"#),
            "elasticsearch.request",
            "missing authentication",
        ),
        ((200, "<html>"), "elasticsearch.request", "<html>"),
        ((200, r#"{"version":{"number":"6.8.23"}}"#), "elasticsearch.version", "6.8.23"),
    ] {
        let double = Double::start(move |_| (answer.0, answer.1.to_owned()));
        let t = keyed(&double.url, &[("username", "ann"), ("password", "secret")]);
        let error = write(&mut bulk(&t).0, &rows("{\"id\":0}")).expect_err("refused").into_error();
        assert!(error.code() == code && error.message().contains(part), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(double.asked()[0].headers["authorization"], "Basic YW5uOnNlY3JldA==");
    }
    let double = server(|_, _| (400, r#"{"error":"no handler"}"#.into()));
    let t = keyed(&double.url, &[("connection.path-prefix", "/")]);
    let error = write(&mut bulk(&t).0, &rows("{\"id\":0}")).expect_err("refused").into_error();
    assert!(error.message().contains("answers 400: no handler"), "{error}");
    let double =
        Double::start(|a| if a.line.starts_with("GET /v1/") { (200, HELLO.into()) } else { (200, FINE.into()) });
    let t = keyed(&double.url, &[("connection.path-prefix", "/v1")]);
    write(&mut bulk(&t).0, &rows("{\"id\":0}")).expect("written");
    assert!(double.asked()[1].line.starts_with("POST /v1/_bulk?"), "{:?}", double.asked());
}

#[test]
fn options_that_cannot_work_are_refused() {
    for (options, code) in [
        (&[("hosts", "localhost:9200")][..], "table.bad-option"),
        (&[("index", "a-{nope}")], "table.bad-option"),
        (&[("index", "a-{day|HH}")], "table.bad-option"),
        (&[("index", "a-{s|yyyy}")], "table.bad-option"),
        (&[("index", "a-{day")], "table.bad-option"),
        (&[("index", "")], "table.bad-option"),
        (&[("index", "a-{now()|yyyy}")], "table.unsupported-option"),
        (&[("username", "ann")], "table.missing-option"),
        (&[("sink.delivery-guarantee", "exactly-once")], "table.unsupported-option"),
        (&[("failure-handler", "org.acme.Handler")], "table.unsupported-option"),
        (&[("failure-handler", "never")], "table.bad-option"),
        (&[("sink.bulk-flush.max-actions", "-2")], "table.bad-option"),
        (&[("sink.bulk-flush.backoff.strategy", "LINEAR")], "table.bad-option"),
        (&[("format", "csv")], "table.bad-option"),
        (&[("document-type", "_doc")], "table.unknown-option"),
        (&[("allow-insecure", "true")], "table.unknown-option"),
    ] {
        assert_eq!(refused(sink(&keyed("http://127.0.0.1:1", options))).code(), code, "{options:?}");
    }
    let secret = keyed("http://u:secret@x:y", &[]);
    assert!(!refused(sink(&secret)).to_string().contains("secret"));
    let mut t = table(&[("k", T::BYTES)], &[("connector", "opensearch"), ("hosts", "http://h"), ("index", "i")]);
    assert_eq!(sink(&t).expect("a sink").changelog_mode(), ChangelogMode::Append);
    t.primary_key = vec![0];
    assert_eq!(refused(sink(&t)).code(), "elasticsearch.key");
    assert_eq!(refused(source(&t)).code(), "table.not-readable");
    let insecure = table(
        &[("k", T::Int)],
        &[("connector", "opensearch"), ("hosts", "https://h"), ("index", "i"), ("allow-insecure", "true")],
    );
    sink(&insecure).expect("a sink");
    t.options.insert("connector".into(), "elasticsearch-6".into());
    assert_eq!(refused(sink(&t)).code(), "elasticsearch.version");
}

/// A writer on its own thread, with the machine's clock.
fn running(t: &TableSpec, restored: Vec<bytes::Bytes>) -> (Box<dyn SinkWriter>, SinkContext) {
    let context = SinkContext { clock: SystemClock::shared(), ..sink_context(0, 1, 0, 0) };
    (sink(t).expect("a sink").writer(context.clone(), restored).expect("a writer"), context)
}

fn finish(writer: &mut dyn SinkWriter) -> flott_core::Result<()> {
    for _ in 0..1_000 {
        if writer.flush(true)? == WriteStatus::Accepted {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("nothing was written in ten seconds");
}

#[test]
fn a_checkpoint_does_not_wait_and_carries_what_is_not_written() {
    let hold = Arc::new(AtomicU32::new(1));
    let theirs = Arc::clone(&hold);
    let double = server(move |_, _| {
        while theirs.load(Ordering::Relaxed) == 1 {
            std::thread::sleep(Duration::from_millis(5));
        }
        (200, FINE.into())
    });
    for (guarantee, carried) in [("at-least-once", 1), ("none", 0)] {
        hold.store(1, Ordering::Relaxed);
        let t = keyed(&double.url, &[("sink.delivery-guarantee", guarantee)]);
        let (mut writer, context) = running(&t, Vec::new());
        assert_eq!(writer.write(&rows("{\"id\":1}\n{\"id\":2}")).expect("taken"), WriteStatus::Accepted);
        assert_eq!(writer.flush(false).expect("no error"), WriteStatus::Accepted, "while the server hangs");
        assert!(writer.prepare_commit(CheckpointId(1), false).expect("nothing").is_empty());
        let snapshot = writer.snapshot().expect("rows");
        assert_eq!(snapshot.len(), carried);
        hold.store(0, Ordering::Relaxed);
        finish(writer.as_mut()).expect("written");
        assert!(writer.snapshot().expect("no rows").is_empty());
        assert!(context.metrics.external.endpoint().is_some_and(|e| e.contains(&double.url)));
        drop(writer);
        let before = bodies(&double).len();
        let (mut writer, _) = running(&t, snapshot);
        finish(writer.as_mut()).expect("written again");
        assert_eq!(bodies(&double).len() - before, carried);
    }
}

#[test]
fn a_server_that_is_gone_is_one_error_after_a_while_and_no_error_before() {
    let down = Arc::new(AtomicU32::new(1));
    let theirs = Arc::clone(&down);
    let double = Double::start(move |asked| match theirs.load(Ordering::Relaxed) {
        1 => (503, String::new()),
        _ if asked.line == "GET /" => (200, HELLO.into()),
        _ => (200, FINE.into()),
    });
    let (mut writer, context) = running(&keyed(&double.url, &[]), Vec::new());
    assert_eq!(writer.write(&rows("{\"id\":1}")).expect("taken"), WriteStatus::Accepted);
    std::thread::sleep(Duration::from_millis(150));
    assert!(matches!(writer.flush(true), Ok(WriteStatus::Busy { .. })), "no error yet");
    down.store(0, Ordering::Relaxed);
    finish(writer.as_mut()).expect("written");
    assert!(context.metrics.external.retries.get() > 0);

    down.store(1, Ordering::Relaxed);
    let (mut writer, _) = running(&keyed(&double.url, &[("connection.max-retry-timeout", "200 ms")]), Vec::new());
    assert_eq!(writer.write(&rows("{\"id\":1}")).expect("taken"), WriteStatus::Accepted);
    let error = refused(finish(writer.as_mut()));
    assert_eq!((error.kind(), error.code()), (ErrorKind::Retry, "elasticsearch.unreachable"));
    assert!(error.message().contains(&double.url), "{error}");
}
