//! Lookups: one call for many keys, keys without rows, keys with several, and a lost connection.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use flott_connectors::contract::rows_of;
use flott_core::lookup::{LookupCache, LookupContext};
use flott_core::types::TypeKind;
use flott_core::{ChangeBatch, ErrorKind};

use crate::support::*;

fn context_of_join() -> LookupContext {
    let context = context(0, 1, 1);
    LookupContext { subtask: 0, clock: context.clock, config: context.config, metrics: context.metrics }
}

#[test]
fn keys_find_their_rows() {
    for server in servers() {
        let mut table = Table::of(&server, "k BIGINT, n VARCHAR(9), v VARCHAR(20)");
        table.client.run(&format!(
            "INSERT INTO {} VALUES (1, 'a', 'one'), (2, 'b', 'two'), (2, 'b', 'deux'), (3, 'C', 'three'), (4, NULL, 'four')",
            table.name
        ));
        let columns = [("n", TypeKind::STRING), ("v", TypeKind::STRING), ("k", TypeKind::BigInt)];
        let spec = table.spec_of(&columns, &[], &[]);
        let keys = |k: Vec<i64>, n: Option<Vec<&str>>| {
            let mut columns: Vec<(&str, ArrayRef)> = vec![("k", Arc::new(Int64Array::from(k)))];
            if let Some(n) = n {
                columns.push(("n", Arc::new(StringArray::from(n))));
            }
            RecordBatch::try_from_iter(columns).expect("keys")
        };
        let mut by_k = lookup(&spec, &[2]).connect(context_of_join()).expect("a connection");
        let found = by_k.lookup(&keys(vec![9, 2, 1, 2, 4], None)).expect("rows");
        assert_eq!(found.keys.values().as_ref(), [1, 1, 2, 3, 3, 4]);
        let mut rows = rows_of(&ChangeBatch::append(found.rows));
        rows[0..2].sort();
        rows[3..5].sort();
        assert_eq!(
            rows,
            [
                "+I[b, deux, 2]",
                "+I[b, two, 2]",
                "+I[a, one, 1]",
                "+I[b, deux, 2]",
                "+I[b, two, 2]",
                "+I[null, four, 4]"
            ]
        );
        assert_eq!(by_k.lookup(&keys(vec![77], None)).expect("nothing").rows.num_rows(), 0);
        let mut by_both = lookup(&spec, &[2, 0]).connect(context_of_join()).expect("a connection");
        let found = by_both.lookup(&keys(vec![1, 2, 3], Some(vec!["b", "b", "c"]))).expect("rows");
        // The collation of MariaDB's tables is blind to case, PostgreSQL's is not.
        let expected: &[u32] = if server.mysql { &[1, 1, 2] } else { &[1, 1] };
        assert_eq!(found.keys.values().as_ref(), expected, "{server:?}");
        // What others write is seen at once.
        table.client.run(&format!("UPDATE {} SET v = 'uno' WHERE k = 1", table.name));
        let found = by_k.lookup(&keys(vec![1], None)).expect("rows");
        assert_eq!(rows_of(&ChangeBatch::append(found.rows)), ["+I[a, uno, 1]"]);
        let many = by_k.lookup(&keys((0..5_000).collect(), None)).expect("rows");
        assert_eq!(many.keys.values().as_ref(), [1, 2, 2, 3, 4]);
    }
}

#[test]
fn a_lost_connection_is_an_error_to_retry_and_the_next_call_connects_anew() {
    for server in servers() {
        let mut table = Table::kv(&server, true);
        table.client.run(&format!("INSERT INTO {} VALUES (1, 'a')", table.name));
        let proxy = Proxy::to(&server);
        let mut spec = table.spec(&[]);
        spec.options.insert("url".into(), server.url(proxy.port));
        let mut by_k = lookup(&spec, &[0]).connect(context_of_join()).expect("a connection");
        let key = RecordBatch::try_from_iter([("k", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).expect("a key");
        assert_eq!(by_k.lookup(&key).expect("a row").keys.len(), 1);
        proxy.cut();
        let e = by_k.lookup(&key).expect_err("the connection is gone");
        assert_eq!((e.code(), e.kind()), ("jdbc.unreachable", ErrorKind::Retry), "{e}");
        assert_eq!(by_k.lookup(&key).expect("a new connection").keys.len(), 1);
    }
}

#[test]
fn options_of_caches_are_flinks_old_and_new() {
    let Some(server) = servers().into_iter().next() else { return };
    let table = Table::kv(&server, true);
    let options = |o: &[(&str, &str)]| lookup(&table.spec(o), &[0]).options();
    assert_eq!((options(&[]).cache, options(&[]).max_retries), (None, 3));
    let old = options(&[("lookup.cache.max-rows", "10"), ("lookup.cache.ttl", "1 min"), ("lookup.max-retries", "1")]);
    let cache = LookupCache {
        max_rows: 10,
        expire_after_write_ms: Some(60_000),
        expire_after_access_ms: None,
        cache_missing_key: true,
    };
    assert_eq!((old.cache, old.max_retries), (Some(cache), 1));
    let new = options(&[
        ("lookup.cache", "PARTIAL"),
        ("lookup.partial-cache.max-rows", "10"),
        ("lookup.partial-cache.expire-after-write", "1 min"),
    ]);
    assert_eq!(new.cache, Some(cache));
}
