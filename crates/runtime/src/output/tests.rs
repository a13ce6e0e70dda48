//! Where rows go, and what happens when a channel is full.

use arrow_schema::{DataType, Field};
use flott_core::element::Signal;

use super::*;
use crate::channel::{ChannelOptions, ChannelReceiver, channel};
use crate::testing::{batch, render_element, schema};
use crate::waker::TaskWaker;

fn outputs(partitioner: Partitioner, targets: usize) -> (Outputs, Vec<ChannelReceiver>, TaskWaker) {
    let waker = TaskWaker::new();
    let options = ChannelOptions { batches_max: 1, bytes_max: 1 << 20 };
    let (channels, receivers) = (0..targets).map(|_| channel(options, waker.clone(), TaskWaker::new())).unzip();
    let key_fields = match &partitioner {
        Partitioner::Hash(_) => vec![Arc::new(Field::new("k", DataType::Int64, true))],
        _ => Vec::new(),
    };
    let spec = OutputSpec { partitioner, key_fields, channels };
    (Outputs::new(vec![spec], 128, 0, Arc::default()).expect("a valid edge"), receivers, waker)
}

fn rows(from: i64, to: i64) -> Element {
    let texts: Vec<String> = (from..to).map(|i| format!("+U[{i}]")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    Element::Batch(batch(&schema(&[("k", DataType::Int64)]), &texts))
}

fn received(channel: &ChannelReceiver) -> Vec<String> {
    std::iter::from_fn(|| channel.try_recv()).flat_map(|e| render_element(&e, true)).collect()
}

#[test]
fn hash_sends_each_key_to_its_owner_and_loses_none() {
    let (mut out, channels, _) = outputs(Partitioner::Hash(vec![0]), 3);
    out.push(rows(0, 100)).expect("room");
    assert!(out.is_ready());
    let parts: Vec<Vec<String>> = channels.iter().map(received).collect();
    assert!(parts.iter().all(|p| p.len() > 10), "a hundred keys do not all meet: {parts:?}");
    let mut all: Vec<String> = parts.concat();
    all.sort();
    let mut expected = render_element(&rows(0, 100), false);
    expected.sort();
    assert_eq!(all, expected);
    // One key always goes the same way, whole batches included.
    out.push(rows(7, 8)).expect("room");
    let owner = parts.iter().position(|p| p.contains(&"+U[7]".to_owned())).expect("row 7 was sent");
    assert_eq!(received(&channels[owner]), ["+U[7]"]);
}

#[test]
fn rebalance_takes_turns_and_broadcast_copies() {
    let (mut out, channels, _) = outputs(Partitioner::Rebalance, 2);
    out.push(rows(1, 2)).expect("room");
    out.push(rows(2, 3)).expect("room");
    assert_eq!([received(&channels[0]), received(&channels[1])], [["+U[1]"], ["+U[2]"]]);
    let (mut out, channels, _) = outputs(Partitioner::Broadcast, 2);
    out.push(rows(1, 2)).expect("room");
    assert_eq!([received(&channels[0]), received(&channels[1])], [["+U[1]"], ["+U[1]"]]);
}

#[test]
fn global_sends_rows_to_the_first_and_signals_to_all() {
    let (mut out, channels, _) = outputs(Partitioner::Global, 2);
    out.push(rows(1, 2)).expect("room");
    out.push(Element::Signal(Signal::Idle)).expect("room");
    assert_eq!(received(&channels[0]), ["+U[1]", "idle"]);
    assert_eq!(received(&channels[1]), ["idle"]);
}

#[test]
fn what_does_not_fit_waits_and_nothing_overtakes_it() {
    let (mut out, channels, waker) = outputs(Partitioner::Rebalance, 2);
    for i in 0..3 {
        out.push(rows(i, i + 1)).expect("a slot per channel");
    }
    assert!(!out.is_ready() && !out.flush());
    assert_eq!(received(&channels[0]), ["+U[0]"]);
    assert!(waker.take());
    assert!(out.flush() && out.is_ready());
    assert_eq!(received(&channels[0]), ["+U[2]"]);
    assert_eq!(received(&channels[1]), ["+U[1]"]);
}

#[test]
fn a_forward_edge_has_one_channel() {
    let (tx, _rx) = channel(ChannelOptions::default(), TaskWaker::new(), TaskWaker::new());
    let (tx2, _rx2) = channel(ChannelOptions::default(), TaskWaker::new(), TaskWaker::new());
    let spec = OutputSpec { partitioner: Partitioner::Forward, key_fields: Vec::new(), channels: vec![tx, tx2] };
    assert!(Outputs::new(vec![spec], 128, 0, Arc::default()).is_err());
}
