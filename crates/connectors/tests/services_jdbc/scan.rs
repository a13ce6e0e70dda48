//! The bounded scan: the law of sources with and without partitions, and a server that goes away in the middle.

use std::sync::Arc;

use flott_connectors::contract::{check_source, reader_context};
use flott_core::source::ReaderEvent;
use flott_core::time::ManualClock;
use flott_core::types::TypeKind;

use crate::support::*;

fn filled(server: &Server, rows: i64) -> Table {
    let mut table = Table::of(server, "k BIGINT, v VARCHAR(20)");
    table.client.run(&format!("CREATE INDEX {}_k ON {} (k)", table.name, table.name));
    for from in (0..rows).step_by(1_000) {
        // Three rows per value, so that fetches end between equal values.
        let values: Vec<String> = (from..(from + 1_000).min(rows)).map(|i| format!("({}, 'v{i}')", i / 3)).collect();
        table.client.run(&format!("INSERT INTO {} VALUES {}", table.name, values.join(",")));
    }
    table
}

const KV: [(&str, TypeKind); 2] = [("k", TypeKind::BigInt), ("v", TypeKind::STRING)];

fn partitioned<'a>(num: &'a str, upper: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("scan.partition.column", "k"),
        ("scan.partition.num", num),
        ("scan.partition.lower-bound", "0"),
        ("scan.partition.upper-bound", upper),
    ]
}

#[test]
fn a_partitioned_scan_obeys_the_law_and_reads_only_its_bounds() {
    for server in servers() {
        let table = filled(&server, 900);
        let mut options = partitioned("4", "99");
        options.extend([("scan.fetch-size", "17"), ("scan.auto-commit", "false")]);
        let spec = table.spec_of(&KV, &[], &options);
        let rows = check_source(&|| patient_source(&spec));
        let mut expected: Vec<String> = (0..300).map(|i| format!("+I[{}, v{i}]", i / 3)).collect();
        expected.sort();
        assert_eq!(rows, expected, "{server:?}");
    }
}

#[test]
fn a_scan_without_partitions_goes_on_after_the_rows_it_gave() {
    for server in servers() {
        let mut table = Table::kv(&server, true);
        let values: Vec<String> = (0..100).map(|i| format!("({i}, 'v{i}')")).collect();
        table.client.run(&format!("INSERT INTO {} VALUES {}", table.name, values.join(",")));
        let spec = table.spec(&[("scan.fetch-size", "7")]);
        assert_eq!(check_source(&|| patient_source(&spec)).len(), 100);
        let empty = Table::kv(&server, true);
        assert!(check_source(&|| patient_source(&empty.spec(&[]))).is_empty());
    }
}

#[test]
fn a_scan_goes_on_when_its_server_is_back() {
    for server in servers() {
        let table = filled(&server, 9_000);
        let proxy = Proxy::to(&server);
        let mut options = partitioned("2", "3000");
        options.push(("scan.fetch-size", "100"));
        let mut spec = table.spec_of(&KV, &[], &options);
        spec.options.insert("url".into(), server.url(proxy.port));
        let source = source(&spec).expect("a source");
        let splits = source.enumerator().expect("an enumerator").discover(1).expect("splits");
        let clock = ManualClock::at(0);
        let mut reader = source.reader(reader_context(Arc::clone(&clock), 0, 1)).expect("a reader");
        reader.assign(splits).expect("assigned");
        let (mut rows, mut cuts) = (0, 0);
        wait("the end of the scan", || match reader.poll().expect("no error") {
            ReaderEvent::Rows { batch, .. } => {
                rows += batch.num_rows();
                if rows > 2_000 * (cuts + 1) && cuts < 3 {
                    proxy.cut();
                    cuts += 1;
                }
                None
            }
            ReaderEvent::Drained => Some(()),
            _ => None,
        });
        assert_eq!((rows, cuts), (9_000, 3), "{server:?}");
    }
}

#[test]
fn errors_of_a_scan_name_table_and_column() {
    for server in servers() {
        let mut table = Table::kv(&server, true);
        table.client.run(&format!("INSERT INTO {} VALUES (300, 'x')", table.name));
        let check = |columns: &[(&str, TypeKind)], code: &str, part: &str| {
            let spec = table.spec_of(columns, &[], &[]);
            let source = source(&spec).expect("a source");
            let splits = source.enumerator().expect("an enumerator").discover(1).expect("splits");
            let mut reader = source.reader(reader_context(ManualClock::at(0), 0, 1)).expect("a reader");
            reader.assign(splits).expect("assigned");
            let e = wait("an error", || reader.poll().err());
            assert_eq!(e.code(), code, "{e}");
            assert!(e.to_string().contains(part), "{e}");
        };
        check(&[("k", TypeKind::TinyInt)], "jdbc.value", "300");
        check(&[("nope", TypeKind::Int)], "jdbc.missing-column", "nope");
        check(&[("v", TypeKind::Date)], "jdbc.type", "`v`");
    }
}
