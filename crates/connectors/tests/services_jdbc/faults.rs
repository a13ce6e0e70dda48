//! Locks, deadlocks, lost connections, refused rows: recovered, or one clear error.

use std::sync::atomic::Ordering;
use std::time::Duration;

use flott_core::types::TypeKind;
use flott_core::{ErrorKind, RowKind as K};

use crate::support::*;

#[test]
fn the_server_goes_away_in_mid_run_and_comes_back() {
    for server in servers() {
        let mut table = Table::kv(&server, true);
        let proxy = Proxy::to(&server);
        let mut spec = table.spec(&[("sink.buffer-flush.max-rows", "50")]);
        spec.options.insert("url".into(), server.url(proxy.port));
        let context = context(0, 1, 1);
        let sink = sink(&spec).expect("a sink");
        let mut writer = sink.writer(context.clone(), Vec::new()).expect("a writer");
        write(writer.as_mut(), &range(0, 2_000, "a"));
        wait("some rows", || (table.count() > 100).then_some(()));
        proxy.refuse.store(true, Ordering::SeqCst);
        proxy.cut();
        write(writer.as_mut(), &range(1_000, 3_000, "b"));
        std::thread::sleep(Duration::from_millis(700));
        assert!(writer.on_processing_time(now_ms()).is_ok(), "a server that is gone for a moment is no error");
        wait("a pause between two tries", || {
            context.metrics.external.calling().filter(|c| c.what.contains("waiting to try again"))
        });
        proxy.refuse.store(false, Ordering::SeqCst);
        finish(writer.as_mut());
        assert_eq!(table.count(), 3_000);
        assert_eq!(table.client.number(&format!("SELECT COUNT(*) FROM {} WHERE v = 'b'", table.name)), 2_000);
        assert!(context.metrics.external.retries.get() >= 1);
        assert!(
            context.metrics.external.endpoint().is_some_and(|e| e.contains(&table.name) && e.contains("127.0.0.1"))
        );
    }
}

#[test]
fn a_server_that_stays_away_is_given_up_with_its_name() {
    for server in servers() {
        let table = Table::kv(&server, true);
        let mut spec = table.spec(&[("connection.max-retry-timeout", "1 s")]);
        spec.options.insert("url".into(), server.url(1));
        let sink = sink(&spec).expect("a sink");
        let mut writer = sink.writer(context(0, 1, 1), Vec::new()).expect("a writer");
        let e = failure(writer.as_mut());
        assert_eq!((e.code(), e.kind()), ("jdbc.unreachable", ErrorKind::Retry), "{e}");
        assert!(e.to_string().contains("127.0.0.1:1") && e.hint_text().is_some(), "{e}");
    }
}

#[test]
fn deadlocks_and_lock_timeouts_are_tried_again() {
    for server in servers() {
        let mut table = Table::kv(&server, true);
        table.client.run(&format!("INSERT INTO {} VALUES (1, 'x'), (2, 'x')", table.name));
        let sink =
            sink(&table.spec(&[("sink.buffer-flush.max-rows", "2"), ("sink.max-retries", "10")])).expect("a sink");
        let context = context(0, 1, 1);
        let mut writer = sink.writer(context.clone(), Vec::new()).expect("a writer");
        // The other session holds 2 and then wants 1, while the sink has 1 and wants 2. One of them is the victim.
        for round in 0..5 {
            let mut other = server.client();
            other.run("BEGIN");
            other.run(&format!("UPDATE {} SET v = 'other' WHERE k = 2", table.name));
            write(writer.as_mut(), &changes(&[(K::UpdateAfter, 1, "s"), (K::UpdateAfter, 2, "s")]));
            std::thread::sleep(Duration::from_millis(150));
            // A heavier transaction is the survivor on InnoDB; on PostgreSQL whoever waits longer than deadlock_timeout finds out.
            let filler: Vec<String> = (0..50).map(|i| format!("({}, 'f')", 1_000 + round * 100 + i)).collect();
            other.run(&format!("INSERT INTO {} VALUES {}", table.name, filler.join(",")));
            let ended = other.try_run(&format!("UPDATE {} SET v = 'other' WHERE k = 1", table.name));
            let _ = other.try_run(if ended.is_ok() { "COMMIT" } else { "ROLLBACK" });
            finish(writer.as_mut());
            let rows = table.client.rows(&format!("SELECT k, v FROM {} WHERE k < 10 ORDER BY k", table.name));
            assert_eq!(rows, ["1|s", "2|s"], "the sink's rows are there in the end: {server:?}");
        }
        if server.mysql {
            assert!(
                context.metrics.external.retries.get() >= 1,
                "the sink was the victim at least once in five rounds"
            );
        }
    }
}

#[test]
fn a_lock_wait_timeout_is_tried_again_and_then_names_the_table() {
    for server in servers() {
        let table = Table::kv(&server, true);
        let (short, code) = if server.mysql {
            ("&sessionVariables=innodb_lock_wait_timeout=1", "1205")
        } else {
            ("&options=-c%20lock_timeout=500", "55P03")
        };
        let mut spec = table.spec(&[("sink.max-retries", "1")]);
        spec.options.insert("url".into(), format!("{}{short}", server.url(server.port)));
        let sink = sink(&spec).expect("a sink");
        let mut writer = sink.writer(context(0, 1, 1), Vec::new()).expect("a writer");
        let mut blocker = server.client();
        blocker.run("BEGIN");
        blocker.run(&format!("INSERT INTO {} VALUES (1, 'mine')", table.name));
        write(writer.as_mut(), &batch(&[(1, "a")]));
        let e = failure(writer.as_mut());
        assert_eq!((e.code(), e.kind()), ("jdbc.conflict", ErrorKind::Retry), "{e}");
        for part in [code, "failed 2 times", &table.name, "upsert of 1 row", "127.0.0.1"] {
            assert!(e.to_string().contains(part), "{part} is not in: {e}");
        }
    }
}

#[test]
fn rows_that_the_table_refuses_fail_at_once_with_the_servers_words() {
    for server in servers() {
        let table = Table::of(&server, "k BIGINT NOT NULL, v VARCHAR(3) NOT NULL UNIQUE, n SMALLINT, CHECK (n <> 13)");
        let columns = [("k", TypeKind::BigInt), ("v", TypeKind::STRING), ("n", TypeKind::Int)];
        let spec = table.spec_of(&columns, &[], &[]);
        let try_rows = |k: &[i64], v: &[Option<&str>], n: &[i32], code: &str, part: &str| {
            use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
            let arrays: [(&str, ArrayRef); 3] = [
                ("k", std::sync::Arc::new(Int64Array::from(k.to_vec()))),
                ("v", std::sync::Arc::new(StringArray::from(v.to_vec()))),
                ("n", std::sync::Arc::new(Int32Array::from(n.to_vec()))),
            ];
            let rows = flott_core::ChangeBatch::append(RecordBatch::try_from_iter(arrays).expect("columns"));
            let sink = sink(&spec).expect("a sink");
            let context = context(0, 1, 1);
            let mut writer = sink.writer(context.clone(), Vec::new()).expect("a writer");
            write(writer.as_mut(), &rows);
            let e = failure(writer.as_mut());
            assert_eq!((e.code(), e.kind()), (code, ErrorKind::User), "{e}");
            assert_eq!(context.metrics.external.retries.get(), 0, "trying again changes nothing");
            for part in [part, "insert of", &table.name, "127.0.0.1"] {
                assert!(e.to_string().contains(part), "{part} is not in: {e}");
            }
        };
        let (long, null, check, unique) =
            if server.mysql { ("1406", "1048", "4025", "1062") } else { ("22001", "23502", "23514", "23505") };
        try_rows(&[1], &[Some("toolong")], &[1], "jdbc.data", long);
        try_rows(&[1], &[None], &[1], "jdbc.constraint", null);
        try_rows(&[1], &[Some("a")], &[13], "jdbc.constraint", check);
        try_rows(&[1, 2], &[Some("a"), Some("a")], &[1, 1], "jdbc.duplicate", unique);
        try_rows(&[1], &[Some("a")], &[70_000], "jdbc.data", if server.mysql { "1264" } else { "22003" });
    }
}

#[test]
fn a_full_server_is_waited_for() {
    let Some(server) = mysql() else { return };
    let mut table = Table::kv(&server, true);
    // A user of one connection, which somebody else has.
    let user = unique("u");
    table.client.run(&format!("CREATE USER {user}@'%' WITH MAX_USER_CONNECTIONS 1"));
    table.client.run(&format!("GRANT ALL ON *.* TO {user}@'%'"));
    let other = Server { user: user.clone(), ..server.clone() }.client();
    let mut spec = table.spec(&[]);
    spec.options.insert("username".into(), user.clone());
    let sink = sink(&spec).expect("a sink");
    let mut writer = sink.writer(context(0, 1, 1), Vec::new()).expect("a writer");
    write(writer.as_mut(), &batch(&[(1, "a")]));
    std::thread::sleep(Duration::from_millis(400));
    assert!(writer.on_processing_time(now_ms()).is_ok(), "too many connections may pass");
    drop(other);
    finish(writer.as_mut());
    assert_eq!(table.rows(), ["1|a"]);
    drop(writer);
    table.client.run(&format!("DROP USER {user}@'%'"));
}

#[test]
fn a_row_larger_than_a_packet_is_named_and_many_rows_are_cut_into_packets() {
    let Some(server) = mysql() else { return };
    let mut table = Table::of(&server, "k BIGINT PRIMARY KEY, v LONGTEXT");
    let sink = sink(&table.spec(&[("sink.buffer-flush.max-rows", "64")])).expect("a sink");
    let mut writer = sink.writer(context(0, 1, 1), Vec::new()).expect("a writer");
    let megabyte = "x".repeat(1 << 20);
    write(writer.as_mut(), &range(0, 40, &megabyte));
    finish(writer.as_mut());
    let bytes = table.client.number(&format!("SELECT SUM(LENGTH(v)) FROM {}", table.name));
    assert_eq!(bytes, 40 << 20, "40 MB in packets of 16 MB");
    let packet = table.client.number("SELECT @@max_allowed_packet");
    write(writer.as_mut(), &batch(&[(1, &"y".repeat(packet as usize + 1))]));
    let e = failure(writer.as_mut());
    assert_eq!(e.code(), "jdbc.too-large", "{e}");
    assert!(e.to_string().contains("max_allowed_packet"), "{e}");
}
