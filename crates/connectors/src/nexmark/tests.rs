//! The generator against its model: the same events at any parallelism and after any restore, right shares, right ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, RecordBatch, StructArray};
use arrow_select::concat::concat_batches;
use flott_core::ErrorKind;
use flott_core::config::Configuration;
use flott_core::memory::MemoryBudget;
use flott_core::registry::{ConnectorFactory, TableSpec};
use flott_core::sink::ChangelogMode;
use flott_core::source::{Boundedness, ReaderContext, ReaderEvent, Source, Split, SplitReader};
use flott_core::time::{ManualClock, SharedClock};
use flott_core::types::TypeKind;

use super::*;

fn table(options: &[(&str, &str)]) -> TableSpec {
    let mut all: BTreeMap<String, String> = options.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    all.insert("connector".into(), "nexmark".into());
    TableSpec {
        name: "datagen".into(),
        columns: columns(),
        options: all,
        primary_key: vec![],
        partition_keys: vec![],
        input_mode: ChangelogMode::Append,
    }
}

fn source(options: &[(&str, &str)]) -> Arc<dyn Source> {
    NexmarkFactory.source(&table(options), &Configuration::default()).unwrap()
}

fn reader(source: &dyn Source, subtask: u32, parallelism: u32, clock: &SharedClock) -> Box<dyn SplitReader> {
    let (config, metrics) = (Arc::new(Configuration::default()), Arc::default());
    source
        .reader(ReaderContext {
            subtask,
            parallelism,
            clock: clock.clone(),
            config,
            memory: MemoryBudget::unlimited(),
            metrics,
        })
        .unwrap()
}

fn clock() -> SharedClock {
    Arc::new(ManualClock::default())
}

/// All rows of the splits dealt to one reader; `stop` is called before each poll and may end the reading.
fn drain(reader: &mut dyn SplitReader, batches: &mut Vec<RecordBatch>) {
    loop {
        match reader.poll().unwrap() {
            ReaderEvent::Rows { batch, .. } => batches.push(batch.rows),
            ReaderEvent::SplitFinished { .. } => {}
            ReaderEvent::Drained => return,
            ReaderEvent::Wait { .. } => panic!("a source that is not paced waits"),
        }
    }
}

fn read(options: &[(&str, &str)], parallelism: u32) -> Vec<RecordBatch> {
    let source = source(options);
    let splits = source.enumerator().unwrap().discover(parallelism).unwrap();
    let mut batches = Vec::new();
    for subtask in 0..parallelism {
        let mut reader = reader(source.as_ref(), subtask, parallelism, &clock());
        let dealt = splits.iter().skip(subtask as usize).step_by(parallelism as usize).cloned().collect();
        reader.assign(dealt).unwrap();
        drain(reader.as_mut(), &mut batches);
    }
    batches
}

fn row_of(batch: &RecordBatch, i: usize) -> &StructArray {
    batch.column(i).as_struct()
}

/// Event time of every row.
fn times(batch: &RecordBatch) -> Vec<i64> {
    let kinds = batch.column(0).as_primitive::<Int32Type>();
    let time = |i: usize| {
        let row = row_of(batch, 1 + kinds.value(i) as usize);
        row.column_by_name("dateTime").unwrap().as_primitive::<TimestampMillisecondType>().value(i)
    };
    (0..batch.num_rows()).map(time).collect()
}

/// One batch of all events in order; with one event a second, times are event numbers.
fn in_order(batches: &[RecordBatch]) -> RecordBatch {
    let all = concat_batches(&batches[0].schema(), batches).unwrap();
    let mut order: Vec<(i64, u32)> = times(&all).into_iter().zip(0..).collect();
    order.sort_unstable();
    let at = arrow_array::UInt32Array::from_iter_values(order.iter().map(|(_, i)| *i));
    arrow_select::take::take_record_batch(&all, &at).unwrap()
}

const SLOW: (&str, &str) = ("first-event.rate", "1");

#[test]
fn the_events_are_the_same_at_any_parallelism() {
    let options = [("events.num", "100000"), SLOW];
    let one = read(&options, 1);
    let all = concat_batches(&one[0].schema(), &one).unwrap();
    assert_eq!(all.num_rows(), 100_000);
    assert!(
        times(&all).windows(2).all(|w| w[1] - w[0] == 1000),
        "one reader reads in order, without gap or repetition"
    );
    for parallelism in [2, 3, 16, 20] {
        assert_eq!(in_order(&read(&options, parallelism)), all, "parallelism {parallelism}");
    }
    let other = read(&[("events.num", "100000"), SLOW, ("seed", "1")], 1);
    assert_ne!(other[0], one[0]);
}

#[test]
fn a_restored_reader_goes_on_in_the_middle_of_a_block_at_any_parallelism() {
    let options = [("events.num", "30000"), ("rate.limited", "true"), ("first-event.rate", "100000")];
    let expected = read(&[("events.num", "30000"), ("first-event.rate", "100000")], 1);
    let expected = concat_batches(&expected[0].schema(), &expected).unwrap();
    let source = source(&options);
    let manual = Arc::new(ManualClock::default());
    let shared: SharedClock = manual.clone();
    let mut splits = source.enumerator().unwrap().discover(1).unwrap();
    let mut batches = Vec::new();
    let mut readers = 1;
    while !splits.is_empty() {
        // A step that does not divide the 6.25 ms of a block leaves a reader within one.
        let mut left = Vec::new();
        for subtask in 0..readers {
            let mut r = reader(source.as_ref(), subtask, readers, &shared);
            r.assign(splits.iter().skip(subtask as usize).step_by(readers as usize).cloned().collect()).unwrap();
            let mut rows = 0;
            for _ in 0..7 {
                loop {
                    match r.poll().unwrap() {
                        ReaderEvent::Rows { batch, .. } => {
                            rows += batch.num_rows();
                            batches.push(batch.rows);
                        }
                        ReaderEvent::SplitFinished { .. } => {}
                        ReaderEvent::Wait { until_ms } => {
                            manual.advance(until_ms - shared.now_ms());
                            break;
                        }
                        ReaderEvent::Drained => break,
                    }
                }
            }
            assert!(rows < 30_000 / 2, "the test must restore before the end");
            left.extend(r.snapshot().unwrap());
        }
        splits = left;
        readers = readers % 3 + 1;
    }
    let all = concat_batches(&batches[0].schema(), &batches).unwrap();
    assert_eq!(all.num_rows(), 30_000);
    // Many events share a millisecond, so there is no order to compare: the same set of rows.
    let rows = |batch: &RecordBatch| {
        let codec = flott_core::keys::RowCodec::new(batch.schema().fields().to_vec()).unwrap();
        let mut keys = flott_core::state::KeyBatch::default();
        codec.encode_keys(batch.columns(), 1, &mut keys).unwrap();
        let mut rows: Vec<Vec<u8>> = (0..keys.len()).map(|i| keys.key(i).to_vec()).collect();
        rows.sort_unstable();
        rows
    };
    assert!(rows(&all) == rows(&expected), "the restored readers made other events");
}

#[test]
fn shares_ids_and_sizes_are_those_of_the_model() {
    let batches = read(&[("events.num", "50000")], 1);
    let all = concat_batches(&batches[0].schema(), &batches).unwrap();
    let nulls: Vec<usize> = (1..4).map(|i| all.num_rows() - all.column(i).null_count()).collect();
    assert_eq!(nulls, [1000, 3000, 46_000]);
    let long = |row: usize, name: &str| -> Vec<i64> {
        let column = row_of(&all, row).column_by_name(name).unwrap().clone();
        column.as_primitive::<Int64Type>().iter().flatten().collect()
    };
    assert_eq!(long(1, "id"), (1000..2000).collect::<Vec<_>>());
    assert_eq!(long(2, "id"), (1000..4000).collect::<Vec<_>>());
    let within = |values: Vec<i64>, low: i64, high: i64| values.iter().all(|v| (low..high).contains(v));
    assert!(within(long(2, "seller"), 1000, 2010) && within(long(2, "category"), 10, 15));
    assert!(within(long(3, "auction"), 1000, 4010) && within(long(3, "bidder"), 2000, 3010));
    assert!(within(long(3, "price"), 100, 100_000_001));
    let mut prices = long(3, "price");
    prices.sort_unstable();
    let median = prices[prices.len() / 2];
    assert!((80_000..125_000).contains(&median), "logarithms are evenly spread: {median}");
    let hot = long(3, "auction").iter().filter(|a| *a % 100 == 0).count() as f64 / 46_000.0;
    assert!((0.45..0.55).contains(&hot), "one bid in two is for a hot auction: {hot}");
    let expires = row_of(&all, 2).column_by_name("expires").unwrap().as_primitive::<TimestampMillisecondType>();
    let opened = row_of(&all, 2).column_by_name("dateTime").unwrap().as_primitive::<TimestampMillisecondType>();
    assert!(opened.iter().flatten().zip(expires.iter().flatten()).all(|(a, b)| a < b));
    for (row, average) in [(1, 200), (2, 500), (3, 100)] {
        let rows = row_of(&all, row);
        let valid = rows.len() - rows.null_count();
        let sized = |(f, c): (&Arc<arrow_schema::Field>, &Arc<dyn Array>)| match f.name().as_str() {
            // As in the Java generator, channel and URL come on top of a bid's size; the event time does of a person's.
            "channel" | "url" => 0,
            "dateTime" if row == 1 => 0,
            _ => c.as_string_opt::<i32>().map_or(valid * 8, |s| s.value_data().len()),
        };
        let bytes: usize = rows.fields().iter().zip(rows.columns()).map(sized).sum();
        let found = bytes as f64 / valid as f64;
        assert!((found / f64::from(average) - 1.0).abs() < 0.05, "column {row}: {found} bytes, not {average}");
    }
}

#[test]
fn strings_look_like_nexmarks() {
    let batches = read(&[("events.num", "5000")], 1);
    let text = |row: usize, name: &str| -> Vec<String> {
        let of = |b: &RecordBatch| {
            let column = row_of(b, row).column_by_name(name).unwrap().clone();
            column.as_string::<i32>().iter().flatten().map(str::to_owned).collect::<Vec<_>>()
        };
        batches.iter().flat_map(of).collect()
    };
    assert!(text(1, "emailAddress").iter().all(|e| e.contains('@') && e.ends_with(".com")));
    assert!(text(1, "creditCard").iter().all(|c| c.len() == 19 && c.split(' ').all(|p| p.parse::<u32>().is_ok())));
    assert!(text(2, "itemName").iter().all(|n| n.len() < 20 && n.trim() == n));
    assert!(text(3, "url").iter().all(|u| u.starts_with("https://www.nexmark.com/") && u.matches('/').count() == 6));
    let channels = text(3, "channel");
    let hot = channels.iter().filter(|c| !c.starts_with("channel-")).count();
    assert!((2100..2500).contains(&hot), "{hot} of 4600");
}

#[test]
fn event_zero_is_frozen() {
    let batch = &read(&[("events.num", "10")], 1)[0];
    let shown = |row: usize, name: &str, i: usize| {
        let column = row_of(batch, row).column_by_name(name).unwrap().clone();
        match column.as_string_opt::<i32>() {
            Some(s) => s.value(i).to_owned(),
            None => column.as_primitive::<Int64Type>().value(i).to_string(),
        }
    };
    let first = [shown(1, "name", 0), shown(1, "creditCard", 0), shown(3, "auction", 5), shown(3, "price", 5)];
    assert_eq!(first, FROZEN);
}

const FROZEN: [&str; 4] = ["Saul Bartels", "0771 5393 6499 0781", "1003", "2487941"];

#[test]
fn boundedness_stop_and_keep_alive() {
    assert_eq!(source(&[]).boundedness(), Boundedness::Unbounded);
    assert_eq!(source(&[("events.num", "5")]).boundedness(), Boundedness::Bounded);
    let rows = |options: &[(&str, &str)]| read(options, 1).iter().map(RecordBatch::num_rows).sum::<usize>();
    assert_eq!(rows(&[("events.num", "500"), ("stop-at", "70")]), 70);
    assert_eq!(rows(&[("events.num", "70"), ("person.proportion", "0"), ("auction.proportion", "0")]), 70);
    let alive = source(&[("events.num", "1"), ("keep-alive", "true")]);
    assert_eq!(alive.boundedness(), Boundedness::Unbounded);
    let mut r = reader(alive.as_ref(), 0, 1, &clock());
    r.assign(alive.enumerator().unwrap().discover(1).unwrap()).unwrap();
    assert!(matches!(r.poll().unwrap(), ReaderEvent::Rows { .. }));
    assert!(matches!(r.poll().unwrap(), ReaderEvent::Wait { .. }));
}

#[test]
fn a_paced_reader_keeps_to_the_rate_and_a_paused_one_waits() {
    let source = source(&[("rate.limited", "true"), ("next-event.rate", "1000")]);
    let manual = Arc::new(ManualClock::default());
    let shared: SharedClock = manual.clone();
    let mut r = reader(source.as_ref(), 0, 1, &shared);
    r.assign(source.enumerator().unwrap().discover(1).unwrap()).unwrap();
    let mut rows = 0;
    while shared.now_ms() < 2000 {
        match r.poll().unwrap() {
            ReaderEvent::Rows { batch, .. } => rows += batch.num_rows(),
            ReaderEvent::Wait { until_ms } => manual.advance(until_ms - shared.now_ms()),
            other => panic!("{other:?}"),
        }
    }
    assert!((1950..=2001).contains(&rows), "{rows} events in 2 s at 1000 a second");
    (0..reader::SPLITS).for_each(|i| r.pause(&format!("nexmark-{i}"), true));
    assert!(matches!(r.poll().unwrap(), ReaderEvent::Wait { .. }));
}

#[test]
fn bad_options_columns_and_positions_are_refused() {
    for (key, value) in [
        ("events.num", "many"),
        ("events.num", "-1"),
        ("bid.hot-ratio.auctions", "0"),
        ("first-event.rate", "0"),
        ("bid.avg-size", "1 gb"),
        ("base-time", "yesterday"),
        ("rate.shape", "ROUND"),
        ("evnts.num", "1"),
    ] {
        let e = NexmarkFactory.source(&table(&[(key, value)]), &Configuration::default()).err().unwrap();
        assert!(e.kind() == ErrorKind::User && e.to_string().contains(key), "{key}: {e}");
    }
    let both = table(&[("first-event.rate", "10"), ("next-event.rate", "20")]);
    assert!(NexmarkFactory.source(&both, &Configuration::default()).is_err());
    let mut other = table(&[]);
    other.columns[0].data_type = TypeKind::BigInt.nullable();
    let e = NexmarkFactory.source(&other, &Configuration::default()).err().unwrap();
    assert!(e.to_string().contains("`event_type` is BIGINT"), "{e}");
    other.columns = columns();
    other.columns[0].data_type = TypeKind::Int.not_null();
    assert!(NexmarkFactory.source(&other, &Configuration::default()).is_ok());
    let source = source(&[]);
    for (id, state) in [("nexmark-16", vec![]), ("file", vec![]), ("nexmark-1", vec![1]), ("nexmark-1", vec![9; 25])] {
        let split = Split { id: id.into(), state };
        let e = reader(source.as_ref(), 0, 1, &clock()).assign(vec![split]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt, "{id}");
    }
}

#[test]
fn the_law_of_sources_holds() {
    let flat = crate::contract::check_source(&|| source(&[("events.num", "9000")]));
    let paced = crate::contract::check_source(&|| source(&[("events.num", "9000"), ("rate.limited", "true")]));
    assert_eq!(flat.len(), 9000);
    assert!(flat == paced, "pacing changes when events come, not which");
}
