//! What is written is read; damage is told; rescaling gives every row to one owner and lets no watermark come too soon.

use arrow_schema::{DataType, Field};
use flott_core::ErrorKind;
use flott_core::snapshot::ChunkLocation;

use super::*;
use crate::testing::{MemoryChunks, batch, render_batch, render_element, schema};

const OPERATOR: OperatorId = OperatorId(3);

fn rows(from: i64, to: i64) -> ChangeBatch {
    let texts: Vec<String> = (from..to).map(|i| format!("+U[{i}]")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    batch(&schema(&[("k", DataType::Int64)]), &texts)
}

fn watermark(ms: i64) -> Element {
    Element::Signal(Signal::Watermark(EventTime(ms)))
}

fn address(subtask: u32, from: u32) -> ChannelAddress {
    ChannelAddress { operator: OPERATOR, subtask, edge: 0, port: 0, producer: OperatorId(1), from }
}

fn mark(from: u32, ms: i64) -> ChannelMark {
    ChannelMark { edge: 0, from, watermark: EventTime(ms), idle: false }
}

/// Two subtasks with two channels each: some rows wait, some are in channels.
fn cut(subtask: u32) -> InFlightCut {
    let base = i64::from(subtask) * 100;
    let items = vec![
        InFlightItem::Batch { port: 0, batch: rows(base, base + 10) },
        InFlightItem::Watermark(EventTime(20 + base)),
    ];
    let queued = Queued {
        seen: EventTime(10 + base),
        items,
        combined: EventTime(20 + base),
        marks: vec![mark(0, 20 + base), mark(1, 30 + base)],
    };
    let first = vec![Element::Batch(rows(base + 10, base + 20)), watermark(40 + base), Element::Signal(Signal::Idle)];
    let second =
        vec![Element::Batch(rows(base + 20, base + 30)), Element::Signal(Signal::Active), watermark(35 + base)];
    InFlightCut {
        queued: vec![(OPERATOR, queued)],
        channels: vec![(address(subtask, 0), 1, first), (address(subtask, 1), 0, second)],
    }
}

fn segments() -> Vec<InFlightSegment> {
    (0..2).flat_map(|i| cut(i).write(i, &MemoryChunks).expect("memory takes it")).collect()
}

fn texts(elements: &[Element]) -> Vec<String> {
    elements.iter().flat_map(|e| render_element(e, true)).collect()
}

#[test]
fn what_is_written_is_read_in_order() {
    let segments = segments();
    assert_eq!(segments.iter().map(|s| s.rows).collect::<Vec<_>>(), [10; 6]);
    let mut data = InFlightData::load(&segments, &MemoryChunks).expect("just written");
    let queued = data.take_queued(OPERATOR, 1).expect("it waited");
    assert_eq!((queued.seen, queued.combined, queued.marks.len()), (EventTime(110), EventTime(120), 2));
    let InFlightItem::Batch { port: 0, batch } = &queued.items[0] else { panic!("rows come first") };
    assert_eq!(render_batch(batch).len(), 10);
    let expected = cut(0).channels.remove(0).2;
    assert_eq!(texts(&data.take_channel(address(0, 0))), texts(&expected));
    assert!(data.take_channel(address(0, 0)).is_empty(), "it is taken once");
}

#[test]
fn what_the_reader_stored_comes_before_what_the_writer_stored() {
    let part = |part, n| (address(0, 0), part, vec![Element::Batch(rows(n, n + 1))]);
    let cut = InFlightCut { queued: Vec::new(), channels: vec![part(1, 2), part(0, 1)] };
    let segments = cut.write(0, &MemoryChunks).expect("memory takes it");
    let mut data = InFlightData::load(&segments, &MemoryChunks).expect("just written");
    assert_eq!(texts(&data.take_channel(address(0, 0))), ["+U[1]", "+U[2]"]);
}

#[test]
fn damaged_bytes_are_told() {
    for segment in segments() {
        let ChunkLocation::Inline(bytes) = &segment.chunk.location else { panic!("memory is inline") };
        for n in (0..bytes.len()).step_by(7) {
            let mut short = segment.clone();
            short.chunk.location = ChunkLocation::Inline(bytes.slice(..n));
            let e = InFlightData::load(&[short], &MemoryChunks).expect_err("cut short");
            assert_eq!((e.kind(), e.code()), (ErrorKind::Corrupt, "state.encoding"), "{n}");
        }
    }
}

fn deal(parallelism: u32, route: PortRoute) -> Vec<Queued> {
    let data = InFlightData::load(&segments(), &MemoryChunks).expect("just written");
    data.deal_out(OPERATOR, 2, parallelism, &[route]).expect("well-formed rows")
}

fn dealt(queued: &Queued) -> Vec<String> {
    let text = |item: &InFlightItem| match item {
        InFlightItem::Batch { batch, .. } => render_batch(batch),
        InFlightItem::Watermark(w) => vec![format!("watermark {}", w.0)],
    };
    queued.items.iter().flat_map(text).collect()
}

fn keys() -> PortRoute {
    let fields = vec![std::sync::Arc::new(Field::new("k", DataType::Int64, true))];
    PortRoute::Keys { columns: vec![0], fields, max_parallelism: 128 }
}

#[test]
fn every_row_gets_one_owner_and_time_is_that_of_the_slowest() {
    for parallelism in [1, 2, 3, 7] {
        let all = deal(parallelism, keys());
        assert_eq!(all.len(), parallelism as usize);
        let mut rows: Vec<String> = all.iter().flat_map(dealt).filter(|t| t.starts_with('+')).collect();
        rows.sort();
        let mut expected: Vec<String> =
            [0, 100].iter().flat_map(|b| (*b..b + 30).map(|n| format!("+U[{n}]"))).collect();
        expected.sort();
        assert_eq!(rows, expected, "parallelism {parallelism}");
        for queued in &all {
            assert_eq!(queued.seen, EventTime(10), "nothing was given more than the slowest had seen");
            // Subtask 0 held 20, then 30 on its second channel and 40 on its first, which went idle: 35 is what it came to.
            assert_eq!(queued.combined, EventTime(35));
        }
    }
}

#[test]
fn rows_without_keys_stay_together_and_broadcast_rows_come_once_to_each() {
    let whole = deal(1, PortRoute::Whole);
    assert_eq!(dealt(&whole[0]).iter().filter(|t| t.starts_with('+')).count(), 60);
    let spread = deal(3, PortRoute::Whole);
    let counts: Vec<usize> = spread.iter().map(|q| dealt(q).iter().filter(|t| t.starts_with('+')).count()).collect();
    assert_eq!(counts, [30, 30, 0]);
    let copies = deal(3, PortRoute::Broadcast);
    for (i, queued) in copies.iter().enumerate() {
        let first = dealt(queued).into_iter().find(|t| t.starts_with('+')).expect("rows");
        assert_eq!(first, if i == 1 { "+U[100]" } else { "+U[0]" });
    }
}

#[test]
fn a_subtask_that_stored_nothing_holds_time_back() {
    let segments = cut(0).write(0, &MemoryChunks).expect("memory takes it");
    let data = InFlightData::load(&segments, &MemoryChunks).expect("just written");
    let all = data.deal_out(OPERATOR, 2, 2, &[keys()]).expect("well-formed rows");
    assert!(all.iter().all(|q| q.combined == EventTime::MIN && !dealt(q).iter().any(|t| t.starts_with('w'))));
}
