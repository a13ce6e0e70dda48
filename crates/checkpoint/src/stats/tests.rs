//! Tests of the history: Flink's fields, percentiles, sentences, bounds.

use std::collections::BTreeMap;

use flott_core::snapshot::SubtaskCheckpointStats;
use flott_core::{CheckpointId, SubtaskId, VertexId};

mod situations;

use super::*;

fn at(vertex: u128, index: u32) -> SubtaskId {
    SubtaskId { vertex: VertexId(vertex), index }
}

fn history() -> CheckpointStatsHistory {
    let names = BTreeMap::from([(VertexId(1), "Source".to_owned()), (VertexId(2), "Window".to_owned())]);
    CheckpointStatsHistory::new(2, names)
}

fn report(start_delay_ms: u64, bytes: u64) -> SubtaskCheckpointStats {
    SubtaskCheckpointStats {
        start_delay_ms,
        async_ms: 1,
        state_bytes: bytes,
        written_bytes: bytes,
        ..Default::default()
    }
}

#[test]
fn rows_in_flight_are_where_flink_shows_them() {
    let mut h = history();
    h.triggered(CheckpointId(1), 0, false, false, &[at(2, 0), at(2, 1)]);
    let stats = SubtaskCheckpointStats {
        processed_bytes: 7,
        persisted_bytes: 40,
        unaligned: true,
        ..SubtaskCheckpointStats::default()
    };
    h.acknowledged(CheckpointId(1), 10, at(2, 0), stats);
    h.acknowledged(CheckpointId(1), 10, at(2, 1), SubtaskCheckpointStats::default());
    h.completed(CheckpointId(1), 20, String::new(), 0);
    let json = serde_json::to_value(h.statistics()).unwrap();
    assert_eq!(
        (&json["history"][0]["persisted_data"], &json["summary"]["processed_data"]["max"]),
        (&40.into(), &7.into())
    );
    let task = serde_json::to_value(h.task_details(CheckpointId(1), VertexId(2)).unwrap()).unwrap();
    assert_eq!((&task["persisted_data"], &task["summary"]["alignment"]["persisted"]["max"]), (&40.into(), &40.into()));
    let unaligned = |i: usize| &task["subtasks"][i]["unaligned_checkpoint"];
    assert_eq!((unaligned(0), unaligned(1)), (&true.into(), &false.into()));
    assert_eq!(task["subtasks"][0]["alignment"]["processed"], 7);
}

fn take(h: &mut CheckpointStatsHistory, id: u64) {
    let t = i64::try_from(id).unwrap() * 1_000;
    h.triggered(CheckpointId(id), t, false, false, &[at(1, 0), at(2, 0), at(2, 1)]);
    h.acknowledged(CheckpointId(id), t + 10, at(1, 0), report(0, 500));
    h.acknowledged(CheckpointId(id), t + 20, at(2, 0), report(5, 100));
    h.acknowledged(CheckpointId(id), t + 400, at(2, 1), report(390, 200));
}

/// The fields of an object of an answer recorded from Flink 2.3.
const CHECKPOINT_FIELDS: &str = "className id status is_savepoint savepointFormat trigger_timestamp latest_ack_timestamp \
    checkpointed_size state_size end_to_end_duration alignment_buffered processed_data persisted_data num_subtasks \
    num_acknowledged_subtasks checkpoint_type tasks external_path discarded";

#[test]
fn the_answer_has_flinks_fields_in_flinks_order() {
    let mut h = history();
    take(&mut h, 1);
    h.completed(CheckpointId(1), 1_500, "file:///c/chk-1".to_owned(), 41);
    take(&mut h, 2);
    let json = serde_json::to_value(h.statistics()).unwrap();
    assert_eq!(json["counts"], serde_json::json!({"restored":0,"total":2,"in_progress":1,"completed":1,"failed":0}));
    let completed = json["latest"]["completed"].as_object().unwrap();
    let fields: Vec<&str> = completed.keys().map(String::as_str).collect();
    assert_eq!(fields, CHECKPOINT_FIELDS.split_whitespace().collect::<Vec<_>>());
    assert_eq!(completed["checkpointed_size"], 841, "the metadata counts as written");
    assert_eq!(completed["state_size"], 800);
    assert_eq!((&completed["end_to_end_duration"], &completed["status"]), (&500.into(), &"COMPLETED".into()));
    assert_eq!(json["history"][0]["className"], "in_progress");
    assert_eq!(json["history"][0].get("discarded"), None);
    assert_eq!(json["latest"]["savepoint"], serde_json::Value::Null);
}

#[test]
fn details_tell_vertices_and_subtasks() {
    let mut h = history();
    take(&mut h, 1);
    let details = h.details(CheckpointId(1)).unwrap();
    let window = &details.tasks[&VertexId(2).to_string()];
    assert_eq!((window.num_subtasks, window.state_size, window.end_to_end_duration), (2, 300, 400));
    let task = serde_json::to_value(h.task_details(CheckpointId(1), VertexId(2)).unwrap()).unwrap();
    assert_eq!(task["summary"]["start_delay"]["max"], 390);
    assert_eq!(task["subtasks"][1]["start_delay"], 390);
    assert_eq!(task["subtasks"][1]["checkpoint"], serde_json::json!({"sync": 0, "async": 1}));
    assert_eq!(task["num_acknowledged_subtasks"], 2);
    assert!(h.task_details(CheckpointId(1), VertexId(9)).is_none() && h.details(CheckpointId(9)).is_none());
}

#[test]
fn percentiles_are_values_that_occurred() {
    let q = Quantiles::of(1..=200);
    assert_eq!((q.min, q.max, q.avg), (1, 200, 100));
    assert_eq!((q.p50, q.p90, q.p95, q.p99, q.p999), (100.0, 180.0, 190.0, 198.0, 200.0));
    assert_eq!(Quantiles::of([7]).p999, 7.0);
    assert_eq!(Quantiles::of([]), Quantiles::default());
}

#[test]
fn a_failure_says_the_sentence_wherever_it_is_shown() {
    let mut h = history();
    h.triggered(CheckpointId(1), 0, false, false, &[at(1, 0), at(2, 0), at(2, 1)]);
    h.failed(CheckpointId(1), 20_000, ("CHECKPOINT_EXPIRED", "Checkpoint expired before completing."), "");
    let sentence = "checkpoint 1 expired after 20 s: 20.0 s capturing the state of the sources' enumerators; 3 of 3 subtasks had not \
         acknowledged: Source#0, Window#0, Window#1";
    let failed = h.latest_failed().unwrap();
    assert_eq!(failed.diagnosis, Some(Diagnosis { code: "checkpoint.expired".into(), sentence: sentence.into() }));
    let json = serde_json::to_value(h.statistics()).unwrap();
    let failed = &json["latest"]["failed"];
    assert_eq!(failed["failure_timestamp"], 20_000);
    assert_eq!(failed["diagnosis"], serde_json::json!({"code": "checkpoint.expired", "sentence": sentence}));
    assert_eq!(
        failed["failure_message"],
        format!("Checkpoint expired before completing. {sentence} [checkpoint.expired]")
    );
    let details = serde_json::to_value(h.details(CheckpointId(1)).unwrap()).unwrap();
    assert_eq!(details["critical_path"], serde_json::json!([{"phase": "trigger", "duration": 20_000}]));
    assert_eq!(h.take_diagnoses().len(), 1);
    assert!(h.take_diagnoses().is_empty(), "told once");
}

#[test]
fn the_history_is_bounded_and_counts_go_on() {
    let mut h = history();
    for id in 1..=5 {
        take(&mut h, id);
        h.completed(CheckpointId(id), 0, String::new(), 0);
    }
    h.discarded(CheckpointId(4));
    h.restored(CheckpointId(5), 9, false, None);
    assert_eq!(h.ended().map(|r| (r.id.0, r.discarded)).collect::<Vec<_>>(), [(5, false), (4, true)]);
    assert_eq!((h.counts().completed, h.counts().restored), (5, 1));
    assert_eq!(h.statistics().latest.restored.unwrap().restore_timestamp, 9);
}
