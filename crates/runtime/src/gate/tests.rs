//! What the gate hands out: joined batches, signals in order, held channels.

use flott_core::element::{Barrier, BarrierOptions};
use flott_core::time::EventTime;

use super::*;
use crate::channel::{ChannelOptions, ChannelSender, channel};
use crate::testing::{batch, render_batch, schema};
use crate::waker::TaskWaker;

fn gate(ports: &[usize], buffer_timeout_ms: i64) -> (InputGate, Vec<ChannelSender>) {
    let options = ChannelOptions { batches_max: 64, bytes_max: 1 << 20 };
    let mut senders = Vec::new();
    let receivers = ports
        .iter()
        .map(|&n| {
            let (s, r): (Vec<_>, Vec<_>) = (0..n).map(|_| channel(options, TaskWaker::new(), TaskWaker::new())).unzip();
            senders.extend(s);
            r
        })
        .collect();
    (InputGate::new(receivers, GateOptions { buffer_timeout_ms, target_batch_rows: 8 }), senders)
}

fn rows(n: i64) -> Element {
    Element::Batch(batch(&schema(&[("a", arrow_schema::DataType::Int64)]), &[&format!("[{n}]")]))
}

fn barrier(checkpoint: u64) -> Element {
    Element::Signal(Signal::Barrier(Barrier {
        checkpoint: CheckpointId(checkpoint),
        triggered_ms: 0,
        options: BarrierOptions::default(),
    }))
}

fn send(channel: &ChannelSender, elements: impl IntoIterator<Item = Element>) {
    for e in elements {
        channel.try_send(e).expect("the test sends less than fits");
    }
}

fn drain(gate: &mut InputGate) -> Vec<String> {
    let mut out = Vec::new();
    loop {
        out.push(match gate.poll(0).expect("no error") {
            HeadPoll::Nothing { .. } => return out,
            HeadPoll::Declined(c) => format!("declined {c}"),
            HeadPoll::Item(Item::Batch { port, batch }) => format!("{port}: {}", render_batch(&batch).join(" ")),
            HeadPoll::Item(Item::Signal(Signal::Watermark(w))) => format!("watermark {}", w.0),
            HeadPoll::Item(Item::Signal(s)) => format!("{s:?}"),
            HeadPoll::Item(Item::EndOfInput(port)) => format!("end of {port}"),
            HeadPoll::Item(Item::Barrier(b)) => format!("barrier {}", b.barrier.checkpoint),
        });
    }
}

#[test]
fn small_batches_are_joined_and_signals_flush_them() {
    let (mut gate, channels) = gate(&[2], 100);
    let watermark = || Element::Signal(Signal::Watermark(EventTime(5)));
    send(&channels[0], [rows(1), rows(2), watermark(), rows(3)]);
    send(&channels[1], [rows(4), watermark()]);
    assert_eq!(drain(&mut gate), ["0: +I[1] +I[4] +I[2]", "watermark 5", "0: +I[3]"]);
    send(&channels[0], (0..9).map(rows));
    let all = drain(&mut gate);
    assert_eq!(all.len(), 2, "eight rows are a full batch: {all:?}");
}

#[test]
fn nothing_is_joined_when_the_timeout_is_zero_and_nothing_waits_longer_than_it() {
    let (mut none, channels) = gate(&[1], 0);
    send(&channels[0], [rows(1), rows(2)]);
    assert_eq!(drain(&mut none), ["0: +I[1]", "0: +I[2]"]);
    let (mut some, channels) = gate(&[1], 100);
    send(&channels[0], [rows(1), rows(2), rows(3)]);
    // The buffer is begun at time 0; at 100 it goes, though more could be read.
    some.buffered_since_ms = Some(0);
    some.ports[0].buffer.push(batch(&schema(&[("a", arrow_schema::DataType::Int64)]), &["[0]"]));
    let HeadPoll::Item(Item::Batch { batch, .. }) = some.poll(100).expect("no error") else { panic!("rows were due") };
    assert_eq!(render_batch(&batch), ["+I[0]"]);
}

#[test]
fn a_held_channel_waits_for_the_barrier_of_the_others() {
    let (mut gate, channels) = gate(&[1, 1], 100);
    send(&channels[0], [rows(1), barrier(1), rows(2)]);
    send(&channels[1], [rows(3)]);
    assert_eq!(drain(&mut gate), ["0: +I[1]", "1: +I[3]"]);
    send(&channels[1], [barrier(1), rows(4)]);
    assert_eq!(drain(&mut gate), ["barrier 1", "0: +I[2]", "1: +I[4]"]);
    send(&channels[0], [barrier(2), rows(5)]);
    assert_eq!(drain(&mut gate), Vec::<String>::new());
    gate.abort(CheckpointId(2));
    assert_eq!(drain(&mut gate), ["0: +I[5]"]);
}

#[test]
fn ends_of_inputs_come_one_by_one_and_barriers_after_them() {
    let (mut gate, channels) = gate(&[2, 1], 100);
    let end = || Element::Signal(Signal::EndOfData);
    send(&channels[0], [rows(1), end()]);
    send(&channels[2], [end()]);
    assert_eq!(drain(&mut gate), ["0: +I[1]", "end of 1"]);
    send(&channels[1], [rows(2), end()]);
    assert_eq!(drain(&mut gate), ["0: +I[2]", "end of 0", "EndOfData"]);
    channels.iter().for_each(|c| send(c, [barrier(1)]));
    assert_eq!(drain(&mut gate), ["barrier 1"]);
}
