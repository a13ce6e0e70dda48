//! The at-least-once sink: upserts, deletes, appends, types, and what is checked before the first row.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, RecordBatch, StringArray, Time32MillisecondArray, TimestampMicrosecondArray,
    TimestampMillisecondArray,
};
use flott_core::types::TypeKind;
use flott_core::{ChangeBatch, CheckpointId, RowKind as K};

use crate::support::*;

#[test]
fn upserts_and_deletes_leave_the_last_change_of_every_key() {
    for server in servers() {
        let mut table = Table::kv(&server, true);
        table.client.run(&format!("INSERT INTO {} VALUES (7, 'old'), (8, 'stays')", table.name));
        let sink = sink(&table.spec(&[("sink.buffer-flush.max-rows", "3")])).expect("a sink");
        let mut writer = sink.writer(context(0, 1, 1), Vec::new()).expect("a writer");
        write(writer.as_mut(), &changes(&[(K::Insert, 1, "a"), (K::Insert, 2, "b"), (K::Delete, 7, "")]));
        write(
            writer.as_mut(),
            &changes(&[(K::UpdateAfter, 1, "c"), (K::Delete, 2, "b"), (K::Insert, 2, "it's \\ \"d\" é 😀")]),
        );
        write(writer.as_mut(), &changes(&[(K::Delete, 9, "never there")]));
        finish(writer.as_mut());
        assert_eq!(table.rows(), ["1|c", "2|it's \\ \"d\" é 😀", "8|stays"], "{server:?}");
    }
}

#[test]
fn a_table_without_key_is_appended_to_and_flushes_by_interval() {
    for server in servers() {
        let mut table = Table::kv(&server, false);
        let spec = table.spec_of(
            &[("k", TypeKind::BigInt), ("v", TypeKind::STRING)],
            &[],
            &[("sink.buffer-flush.interval", "100 ms")],
        );
        let sink = sink(&spec).expect("a sink");
        let mut writer = sink.writer(context(0, 1, 1), Vec::new()).expect("a writer");
        write(writer.as_mut(), &batch(&[(1, "a"), (1, "a")]));
        wait("the interval", || (table.count() == 2).then_some(()));
        write(writer.as_mut(), &range(0, 10_000, "x"));
        finish(writer.as_mut());
        assert_eq!(table.count(), 10_002);
    }
}

#[test]
fn many_rows_of_a_wide_table_and_a_key_of_two_columns() {
    for server in servers() {
        let columns: Vec<String> = (0..12).map(|i| format!("c{i} BIGINT NOT NULL")).collect();
        let mut table = Table::of(&server, &format!("{}, PRIMARY KEY (c1, c0)", columns.join(", ")));
        let names: Vec<String> = (0..12).map(|i| format!("c{i}")).collect();
        let declared: Vec<(&str, TypeKind)> = names.iter().map(|n| (n.as_str(), TypeKind::BigInt)).collect();
        let spec = table.spec_of(&declared, &[0, 1], &[("sink.buffer-flush.max-rows", "5000")]);
        let rows = |from: i64, to: i64, v: i64| {
            let column = |i: i64| -> ArrayRef {
                Arc::new((from..to).map(|r| if i < 2 { r * 10 + i } else { v }).collect::<Int64Array>())
            };
            let named = names.iter().enumerate().map(|(i, n)| (n.as_str(), column(i as i64)));
            ChangeBatch::append(RecordBatch::try_from_iter(named).expect("columns"))
        };
        let sink = sink(&spec).expect("a sink");
        let mut writer = sink.writer(context(0, 1, 1), Vec::new()).expect("a writer");
        write(writer.as_mut(), &rows(0, 7_000, 1));
        write(writer.as_mut(), &rows(6_000, 8_000, 2));
        let gone: Arc<[K]> = vec![K::Delete; 500].into();
        write(writer.as_mut(), &ChangeBatch::new(rows(0, 500, 0).rows, Some(gone), None));
        finish(writer.as_mut());
        let sums = table.client.rows(&format!("SELECT COUNT(*), SUM(c5) FROM {}", table.name));
        assert_eq!(sums, ["7500|9500"], "{server:?}");
    }
}

fn typed_columns() -> Vec<(&'static str, TypeKind)> {
    vec![
        ("id", TypeKind::Int),
        ("flag", TypeKind::Boolean),
        ("tiny", TypeKind::TinyInt),
        ("small", TypeKind::SmallInt),
        ("real4", TypeKind::Float),
        ("real8", TypeKind::Double),
        ("dec", TypeKind::Decimal(20, 4)),
        ("raw", TypeKind::BYTES),
        ("day", TypeKind::Date),
        ("clock", TypeKind::Time(0)),
        ("local", TypeKind::Timestamp(3)),
        ("fine", TypeKind::Timestamp(6)),
        ("instant", TypeKind::TimestampLtz(3)),
        ("word", TypeKind::STRING),
    ]
}

/// One row of values, one of NULLs.
fn typed_rows() -> RecordBatch {
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![1, 2])),
        Arc::new(BooleanArray::from(vec![Some(true), None])),
        Arc::new(Int8Array::from(vec![Some(-128), None])),
        Arc::new(Int16Array::from(vec![Some(32_767), None])),
        Arc::new(Float32Array::from(vec![Some(1.5), None])),
        Arc::new(Float64Array::from(vec![Some(0.1), None])),
        Arc::new(
            Decimal128Array::from(vec![Some(-12_345_678_901_234_567), None])
                .with_precision_and_scale(20, 4)
                .expect("fits"),
        ),
        Arc::new(BinaryArray::from_opt_vec(vec![Some(&[0u8, 255, 39, 92][..]), None])),
        Arc::new(Date32Array::from(vec![Some(19_000), None])),
        Arc::new(Time32MillisecondArray::from(vec![Some(3_723_000), None])),
        Arc::new(TimestampMillisecondArray::from(vec![Some(1_700_000_000_123), None])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(-1_000_001), None])),
        Arc::new(TimestampMillisecondArray::from(vec![Some(1_700_000_000_000), None]).with_timezone("UTC")),
        Arc::new(StringArray::from(vec![Some(""), None])),
    ];
    let schema = flott_core::types::arrow_schema(
        &typed_columns().into_iter().map(|(n, k)| flott_core::types::Column::new(n, k.nullable())).collect::<Vec<_>>(),
    );
    RecordBatch::try_new(schema, arrays).expect("typed columns")
}

#[test]
fn every_type_is_written_and_read_back() {
    for server in servers() {
        let columns = if server.mysql {
            "id INT PRIMARY KEY, flag BOOLEAN, tiny TINYINT, small SMALLINT, real4 FLOAT, real8 DOUBLE, `dec` DECIMAL(20, 4), \
             raw VARBINARY(20), day DATE, clock TIME, local DATETIME(3), fine DATETIME(6), instant TIMESTAMP(3) NULL, word TEXT"
        } else {
            "id INT PRIMARY KEY, flag BOOLEAN, tiny SMALLINT, small SMALLINT, real4 REAL, real8 DOUBLE PRECISION, \
             dec NUMERIC(20, 4), raw BYTEA, day DATE, clock TIME, local TIMESTAMP(3), fine TIMESTAMP(6), \
             instant TIMESTAMPTZ(3), word TEXT"
        };
        let table = Table::of(&server, columns);
        let spec = table.spec_of(&typed_columns(), &[0], &[]);
        let sink = sink(&spec).expect("a sink");
        let mut writer = sink.writer(context(0, 1, 1), Vec::new()).expect("a writer");
        let rows = typed_rows();
        write(writer.as_mut(), &ChangeBatch::append(rows.clone()));
        finish(writer.as_mut());
        let read = flott_connectors::contract::check_source(&|| patient_source(&spec));
        assert_eq!(read, flott_connectors::contract::rows_of(&ChangeBatch::append(rows)), "{server:?}");
    }
}

#[test]
fn what_does_not_fit_is_one_error_before_the_first_row() {
    for server in servers() {
        let place = format!("{}:{}", server.host, server.port);
        let check = |spec: &flott_core::registry::TableSpec, code: &str, parts: &[&str]| {
            let sink = sink(spec).expect("a sink");
            let mut writer = sink.writer(context(0, 1, 1), Vec::new()).expect("a writer");
            let e = failure(writer.as_mut());
            assert_eq!(e.code(), code, "{e}");
            for part in parts.iter().chain(&[place.as_str()]) {
                assert!(e.to_string().contains(part), "{part} is not in: {e}");
            }
            assert!(e.hint_text().is_some() && writer.snapshot().is_err(), "{e}");
        };
        let table = Table::of(&server, "k BIGINT NOT NULL, v VARCHAR(20), extra INT NOT NULL, PRIMARY KEY (k, extra)");
        let kv = [("k", TypeKind::BigInt), ("v", TypeKind::STRING)];
        let mut gone = table.spec(&[]);
        gone.options.insert("table-name".into(), "no_such_table".into());
        check(&gone, "jdbc.missing-table", &["no_such_table", "CREATE TABLE", "PRIMARY KEY", server.database()]);
        check(
            &table.spec_of(&[("k", TypeKind::BigInt), ("w", TypeKind::STRING)], &[], &[]),
            "jdbc.missing-column",
            &["`w`", "k, v, extra"],
        );
        check(
            &table.spec_of(&[("k", TypeKind::Date), ("v", TypeKind::STRING)], &[], &[]),
            "jdbc.type",
            &["`k`", "bigint", "DATE"],
        );
        check(&table.spec_of(&kv, &[], &[]), "jdbc.missing-column", &["`extra`", "default"]);
        let all = [("k", TypeKind::BigInt), ("v", TypeKind::STRING), ("extra", TypeKind::Int)];
        check(
            &table.spec_of(&all, &[0], &[]),
            "jdbc.key",
            &["(k)", "(k, extra)"].map(|s| if server.mysql { s } else { "k" }),
        );
        let mut wrong = table.spec_of(&all, &[0, 2], &[("password", "geheim")]);
        wrong.options.insert("username".into(), "nobody_here".into());
        let e = failure(sink(&wrong).expect("a sink").writer(context(0, 1, 1), Vec::new()).expect("a writer").as_mut());
        assert_eq!(e.code(), "jdbc.denied", "{e}");
        assert!(!e.to_string().contains("geheim"), "{e}");
        check(&gone, "jdbc.missing-table", &[]);
    }
}

#[test]
fn a_checkpoint_carries_what_the_server_has_not_taken() {
    for server in servers() {
        let mut table = Table::kv(&server, true);
        let mut blocker = server.client();
        blocker.run("BEGIN");
        blocker.run(&format!("INSERT INTO {} VALUES (5, 'mine')", table.name));
        let sink = sink(&table.spec(&[("sink.buffer-flush.max-rows", "10")])).expect("a sink");
        let mut writer = sink.writer(context(0, 1, 1), Vec::new()).expect("a writer");
        write(writer.as_mut(), &range(0, 100, "a"));
        std::thread::sleep(std::time::Duration::from_millis(300));
        let begin_ms = now_ms();
        assert_eq!(writer.flush(false).expect("alive"), flott_core::sink::WriteStatus::Accepted);
        assert!(writer.prepare_commit(CheckpointId(1), false).expect("prepared").is_empty());
        let state = writer.snapshot().expect("a snapshot");
        drop(writer);
        let took_ms = now_ms() - begin_ms;
        assert!(took_ms < 1_500, "a checkpoint and a cancellation behind a lock took {took_ms} ms");
        // The statement of the dead writer must not come to life when the lock goes.
        let mut writer = sink.writer(context(0, 1, 2), state).expect("a writer");
        write(writer.as_mut(), &range(0, 10, "b"));
        blocker.run("ROLLBACK");
        finish(writer.as_mut());
        assert_eq!(table.count(), 100, "{server:?}");
        let new = table.client.number(&format!("SELECT COUNT(*) FROM {} WHERE v = 'b'", table.name));
        assert_eq!(new, 10, "restored rows came first: {server:?}");
    }
}
