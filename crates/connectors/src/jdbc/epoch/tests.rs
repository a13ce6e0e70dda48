//! Epochs: compacted, bounded, handed over at barriers.

use flott_core::config::Configuration;
use flott_core::memory::MemoryBudget;
use flott_core::time::ManualClock;
use flott_core::types::TypeKind;

use super::*;
use crate::contract::{rows_of, sink_context};
use crate::jdbc::options::{JdbcOptions, WriteOptions};
use crate::options::TableOptions;
use crate::testing::{json_batch, table};

fn writer(clock: &Arc<ManualClock>, interval: Option<&str>) -> EpochWriter {
    let mut spec = table(
        &[("k", TypeKind::BigInt), ("v", TypeKind::BigInt)],
        &[
            ("connector", "jdbc"),
            ("url", "jdbc:mysql://h/d"),
            ("table-name", "t"),
            ("sink.delivery-guarantee", "exactly-once"),
            ("sink.exactly-once.max-bytes", "2 kb"),
        ],
    );
    spec.primary_key = vec![0];
    let o = TableOptions::checked(&spec, &[crate::jdbc::options::OPTIONS]).expect("good options");
    let (jdbc, write) = (JdbcOptions::read(&o, &spec).expect("good"), WriteOptions::read(&o).expect("good"));
    let mut config = Configuration::new();
    if let Some(interval) = interval {
        config.set("execution.checkpointing.interval", interval).expect("an option");
    }
    let context = SinkContext {
        clock: clock.clone(),
        config: Arc::new(config),
        memory: MemoryBudget::new(|_| 1 << 20),
        ..sink_context(1, 2, 3, 4)
    };
    let table = Arc::new(Table { jdbc, write, spec });
    EpochWriter::new(table, context, Arc::default(), &[]).expect("a writer")
}

fn rows(keys: std::ops::Range<i64>, v: i64) -> ChangeBatch {
    let text: String = keys.map(|k| format!("{{\"k\":{k},\"v\":{v}}}\n")).collect();
    json_batch(&[("k", TypeKind::BigInt), ("v", TypeKind::BigInt)], &text)
}

#[test]
fn a_barrier_takes_the_last_change_of_every_key() {
    let clock = ManualClock::at(0);
    let mut w = writer(&clock, Some("10 s"));
    assert!(w.prepare_commit(CheckpointId(1), false).expect("nothing").is_empty());
    assert_eq!(w.write(&rows(0..2, 1)).expect("kept"), WriteStatus::Accepted);
    assert_eq!(w.write(&rows(1..3, 2)).expect("kept"), WriteStatus::Accepted);
    let first = w.prepare_commit(CheckpointId(2), false).expect("prepared").remove(0);
    let epoch = Epoch::decode(&first.payload).expect("just written");
    assert_eq!((epoch.writer, epoch.after.as_str()), ((1, 2), ""));
    assert_eq!(rows_of(&decode_batch(&epoch.rows).expect("rows")), ["+I[0, 1]", "+I[1, 2]", "+I[2, 2]"]);
    assert_eq!(w.write(&rows(0..1, 3)).expect("kept"), WriteStatus::Accepted);
    let second = w.prepare_commit(CheckpointId(3), false).expect("prepared").remove(0);
    assert_eq!(Epoch::decode(&second.payload).expect("just written").after, first.id);
    assert_ne!(first.id, second.id);
    for n in 0..first.payload.len() {
        assert!(Epoch::decode(&first.payload[..n]).is_err(), "cut at {n}");
    }
}

#[test]
fn a_full_epoch_is_compacted_then_waits_and_then_fails_with_a_remedy() {
    let clock = ManualClock::at(0);
    let mut w = writer(&clock, Some("10 s"));
    for n in 0..50 {
        assert_eq!(w.write(&rows(0..20, n)).expect("kept"), WriteStatus::Accepted, "the same keys again and again fit");
    }
    while w.write(&rows(w.rows as i64 + 100..w.rows as i64 + 120, 0)).expect("kept") == WriteStatus::Accepted {}
    clock.advance(59_000);
    assert!(matches!(w.write(&rows(500..520, 0)), Ok(WriteStatus::Busy { .. })));
    assert_eq!(w.prepare_commit(CheckpointId(1), false).expect("a barrier still passes").len(), 1);
    assert!(matches!(w.write(&rows(500..520, 0)), Ok(WriteStatus::Busy { .. })), "prepared rows count until committed");
    clock.advance(600_000);
    assert!(matches!(w.write(&rows(500..520, 0)), Ok(WriteStatus::Busy { .. })), "and a slow server is no error");
    let ids: Vec<String> = w.outstanding.lock().0.keys().cloned().collect();
    ids.iter().for_each(|id| w.outstanding.remove(id));
    while w.write(&rows(w.rows as i64..w.rows as i64 + 20, 0)).expect("kept") == WriteStatus::Accepted {}
    clock.advance(60_001);
    let e = w.write(&rows(500..520, 0)).expect_err("no barrier came");
    assert_eq!(e.code(), "jdbc.epoch-full");
    assert!(e.to_string().contains("sink.exactly-once.max-bytes"), "{e}");
}

#[test]
fn without_checkpoints_a_full_epoch_fails_at_once_and_a_dead_table_is_heard_of() {
    let clock = ManualClock::at(0);
    let mut w = writer(&clock, None);
    let e = loop {
        match w.write(&rows(w.rows as i64..w.rows as i64 + 20, 0)) {
            Ok(status) => assert_eq!(status, WriteStatus::Accepted),
            Err(e) => break e,
        }
    };
    assert!(e.hint_text().is_some_and(|h| h.contains("execution.checkpointing.interval")), "{e}");
    let mut w = writer(&clock, None);
    w.outstanding.fail(Error::user("jdbc.missing-table", "gone"));
    assert_eq!(w.on_processing_time(0).expect_err("heard").code(), "jdbc.missing-table");
}
