//! Tests of metadata: encoding, every kind of damage, fit and redistribution.

use bytes::Bytes;
use flott_core::snapshot::{
    ChunkLocation, ChunkRef, ChunkScope, InFlightPlace, InFlightSegment, KeyedStateHandle, OperatorStateEntry,
    OperatorSubtaskState, Redistribution,
};
use flott_core::{CheckpointId, ErrorKind, JobId, KeyGroupRange, OperatorId};

use super::*;

fn keyed(max: u32, parallelism: u32, index: u32) -> KeyedStateHandle {
    let file = ChunkLocation::File { path: format!("shared/1-{index}-ab"), offset: 3 };
    KeyedStateHandle {
        format: ("flott-canonical".to_owned(), 1),
        key_groups: KeyGroupRange::of_subtask(max, parallelism, index),
        descriptor: Bytes::from_static(b"tables"),
        chunks: vec![
            ChunkRef { scope: ChunkScope::Shared, location: file, len: 9, crc32: 7 },
            ChunkRef {
                scope: ChunkScope::Exclusive,
                location: ChunkLocation::Inline(Bytes::from_static(b"small")),
                len: 5,
                crc32: 8,
            },
        ],
        state_bytes: 14,
        written_bytes: 5,
    }
}

fn list(name: &str, redistribution: Redistribution, items: &[String]) -> OperatorStateEntry {
    let items = items.iter().map(|i| Bytes::copy_from_slice(i.as_bytes())).collect();
    OperatorStateEntry { name: name.to_owned(), redistribution, items }
}

fn subtask(operator: OperatorId, index: u32) -> (u32, OperatorSubtaskState) {
    let item = |n: u32| format!("{index}.{n}");
    let operator_state = vec![
        list("split", Redistribution::Split, &(0..2 + index).map(item).collect::<Vec<_>>()),
        list("union", Redistribution::Union, &[item(0)]),
        list("broadcast", Redistribution::Broadcast, &["same".to_owned()]),
    ];
    (index, OperatorSubtaskState { operator, keyed: Some(keyed(128, 2, index)), operator_state })
}

pub(crate) fn metadata() -> CheckpointMetadata {
    let id = OperatorId::from_uid("window");
    let window = OperatorMetadata {
        id,
        name: "Window".to_owned(),
        parallelism: 2,
        max_parallelism: 128,
        subtasks: vec![subtask(id, 0), subtask(id, 1)],
    };
    let source = OperatorMetadata {
        id: OperatorId::from_uid("source"),
        name: "Source".to_owned(),
        parallelism: 1,
        max_parallelism: 128,
        subtasks: Vec::new(),
    };
    CheckpointMetadata {
        job: JobId(5),
        job_name: "hourly".to_owned(),
        checkpoint: CheckpointId(7),
        generation: 2,
        triggered_ms: 1_000,
        completed_ms: 1_200,
        savepoint: false,
        last: false,
        max_parallelism: 128,
        operators: vec![source, window],
        coordinator_states: vec![CoordinatorState { operator: OperatorId::from_uid("source"), state: vec![1, 2] }],
        in_flight: Vec::new(),
    }
}

fn job(operators: &[(&str, u32, u32)]) -> JobDescription {
    let operators = operators.iter().map(|(uid, parallelism, max)| OperatorInfo {
        id: OperatorId::from_uid(uid),
        name: format!("New {uid}"),
        parallelism: *parallelism,
        max_parallelism: *max,
    });
    JobDescription { job: JobId(5), name: "hourly".to_owned(), max_parallelism: 128, operators: operators.collect() }
}

#[test]
fn it_reads_what_it_wrote() {
    let m = metadata();
    assert_eq!(CheckpointMetadata::decode(&m.encode(), "x").unwrap(), m);
    assert_eq!(m.files().collect::<Vec<_>>(), ["shared/1-0-ab", "shared/1-1-ab"]);
    assert_eq!(m.state_bytes(), 28);
}

/// The bytes of version 1 never change: whoever changes a type of a checkpoint must raise the version and still read this.
#[test]
fn the_format_of_version_1_is_frozen() {
    let bytes = metadata().encode();
    assert_eq!((&bytes[..8], &bytes[8..12]), (&b"FLOTT\x00CP"[..], &[1, 0, 0, 0][..]));
    assert_eq!((bytes.len(), crc32fast::hash(&bytes)), FROZEN);
}

const FROZEN: (usize, u32) = (381, 3_662_335_297);

fn with_rows_in_flight() -> CheckpointMetadata {
    let place = InFlightPlace::Queued { operator: OperatorId::from_uid("window"), subtask: 1 };
    let location = ChunkLocation::File { path: "chk-7/2-1-cd".to_owned(), offset: 40 };
    let chunk = ChunkRef { scope: ChunkScope::Exclusive, location, len: 6, crc32: 9 };
    CheckpointMetadata { in_flight: vec![InFlightSegment { place, rows: 2, chunk }], ..metadata() }
}

#[test]
fn rows_in_flight_make_it_version_2() {
    let m = with_rows_in_flight();
    let bytes = m.encode();
    assert_eq!(bytes[8..12], [2, 0, 0, 0]);
    assert_eq!(CheckpointMetadata::decode(&bytes, "x").unwrap(), m);
    assert_eq!(m.files().collect::<Vec<_>>(), ["shared/1-0-ab", "shared/1-1-ab", "chk-7/2-1-cd"]);
    assert_eq!((m.state_bytes(), m.in_flight_bytes()), (28, 6));
    for n in 12..bytes.len() {
        let e = CheckpointMetadata::decode(&bytes[..n], "x").unwrap_err();
        assert_eq!(e.code(), "checkpoint.truncated", "{n} bytes: {e}");
    }
    let e = graph_fit(&m, &job(&[("renamed", 2, 128), ("source", 1, 128)]), true).unwrap();
    assert!(e.len() == 1 && e[0].contains("`Window`"), "{e:?}");
}

#[test]
fn rows_in_flight_need_their_operator_even_when_it_has_no_state() {
    let mut m = with_rows_in_flight();
    m.operators[1].subtasks.clear();
    let e = graph_fit(&m, &job(&[("source", 1, 128)]), false).unwrap_err();
    assert!(e.code() == "checkpoint.unclaimed-state" && e.message().contains("`Window`"), "{e}");
    m.in_flight[0].rows = 0;
    assert!(graph_fit(&m, &job(&[("source", 1, 128)]), false).unwrap().is_empty());
}

#[test]
fn every_truncation_is_told() {
    let bytes = metadata().encode();
    for n in 0..bytes.len() {
        let e = CheckpointMetadata::decode(&bytes[..n], "/c/chk-7/_metadata").unwrap_err();
        assert_eq!((e.kind(), e.code()), (ErrorKind::Corrupt, "checkpoint.truncated"), "{n} bytes: {e}");
        assert!(e.message().contains("/c/chk-7/_metadata") && e.hint_text().is_some(), "{e}");
    }
}

#[test]
fn every_flipped_bit_is_told() {
    let bytes = metadata().encode();
    for i in 0..bytes.len() {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[i] ^= 1 << bit;
            let e = CheckpointMetadata::decode(&bad, "x").unwrap_err();
            let expected: &[&str] = match i {
                0..8 => &["checkpoint.foreign"],
                8..12 => &["checkpoint.version"],
                12..20 => &["checkpoint.truncated", "checkpoint.checksum"],
                _ => &["checkpoint.checksum"],
            };
            assert!(expected.contains(&e.code()), "byte {i} bit {bit}: {e}");
        }
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(CheckpointMetadata::decode(&longer, "x").unwrap_err().code(), "checkpoint.checksum");
}

#[test]
fn foreign_files_and_later_versions_are_refused() {
    let e = CheckpointMetadata::decode(b"\x49\x60\x67\xcc of Java", "x").unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::User, "checkpoint.foreign"));
    let later = Frame { version: 3, ..METADATA }.encode(&metadata());
    let e = CheckpointMetadata::decode(&later, "x").unwrap_err();
    assert!(e.code() == "checkpoint.version" && e.message().contains("version 3"), "{e}");
    let other = METADATA.encode(&"not metadata");
    assert_eq!(CheckpointMetadata::decode(&other, "x").unwrap_err().code(), "checkpoint.malformed");
}

#[test]
fn state_needs_its_operator() {
    let fits = job(&[("window", 4, 128), ("source", 1, 128), ("added", 1, 128)]);
    assert_eq!(graph_fit(&metadata(), &fits, false).unwrap(), Vec::<String>::new());
    let without = job(&[("renamed", 2, 128), ("source", 1, 128)]);
    let e = graph_fit(&metadata(), &without, false).unwrap_err();
    assert_eq!(e.code(), "checkpoint.unclaimed-state");
    let text = e.to_string();
    for part in ["`Window`", "`New renamed`", "`hourly`", "uid", "execution.state-recovery.ignore-unclaimed-state"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("`Source`"), "its state is claimed: {text}");
    let notices = graph_fit(&metadata(), &without, true).unwrap();
    assert!(notices.len() == 1 && notices[0].contains("`Window`"), "{notices:?}");
    // The state of an enumerator is state as well.
    let e = graph_fit(&metadata(), &job(&[("window", 2, 128)]), false).unwrap_err();
    assert!(e.message().contains("`Source`"), "{e}");
}

#[test]
fn key_groups_must_agree() {
    let e = graph_fit(&metadata(), &job(&[("window", 2, 256), ("source", 1, 128)]), false).unwrap_err();
    assert_eq!(e.code(), "checkpoint.max-parallelism");
    assert_eq!(e.hint_text(), Some("set pipeline.max-parallelism: 128"));
    let e = graph_fit(&metadata(), &job(&[("window", 129, 128), ("source", 1, 128)]), false).unwrap_err();
    assert_eq!(e.code(), "checkpoint.parallelism");
}

fn texts(restored: &RestoredOperator, name: &str) -> Vec<String> {
    let entry = restored.operator_state.iter().find(|e| e.name == name).expect("the entry is there");
    entry.items.iter().map(|b| String::from_utf8(b.to_vec()).unwrap()).collect()
}

#[test]
fn every_subtask_gets_its_share() {
    let (m, id) = (metadata(), OperatorId::from_uid("window"));
    for parallelism in [1, 2, 3, 5, 128] {
        let all: Vec<RestoredOperator> = (0..parallelism).map(|i| m.assign(id, parallelism, i)).collect();
        let mut split: Vec<String> = all.iter().flat_map(|r| texts(r, "split")).collect();
        split.sort();
        assert_eq!(split, ["0.0", "0.1", "1.0", "1.1", "1.2"], "parallelism {parallelism}: each item once");
        for (i, r) in all.iter().enumerate() {
            assert_eq!(texts(r, "union"), ["0.0", "1.0"]);
            assert_eq!(texts(r, "broadcast"), ["same"]);
            let range = KeyGroupRange::of_subtask(128, parallelism, i as u32);
            let covered: usize = r.keyed.iter().map(|k| k.key_groups.intersect(&range).len()).sum();
            assert_eq!(covered, range.len(), "parallelism {parallelism} subtask {i}");
            assert!(r.keyed.iter().all(|k| !k.key_groups.intersect(&range).is_empty()));
        }
    }
    assert_eq!(
        texts(&m.assign(id, 2, 0), "split"),
        ["0.0", "0.1"],
        "unchanged parallelism keeps items where they were"
    );
    assert_eq!(texts(&m.assign(id, 3, 1), "split"), ["0.1", "1.2"], "round-robin otherwise");
}

#[test]
fn unknown_operators_get_nothing_and_sources_their_enumerator() {
    assert_eq!(metadata().assign(OperatorId(1), 2, 0), RestoredOperator::default());
    let source = metadata().assign(OperatorId::from_uid("source"), 200, 150);
    assert_eq!((source.coordinator_state, source.keyed.len()), (Some(vec![1, 2]), 0));
}
