//! What the gate hands out: joined batches, signals in order, held channels.

use flott_core::element::{Barrier, BarrierOptions};
use flott_core::time::EventTime;

use super::*;
use crate::channel::{ChannelOptions, ChannelSender, channel};
use crate::in_flight::InFlightItem;
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
        out.push(match gate.poll(0, true).expect("no error") {
            HeadPoll::Nothing { .. } => return out,
            HeadPoll::Declined(c) => format!("declined {c}"),
            HeadPoll::Hurry => "hurry".to_owned(),
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
    let HeadPoll::Item(Item::Batch { batch, .. }) = some.poll(100, true).expect("no error") else {
        panic!("rows were due")
    };
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

fn unaligned(checkpoint: u64, after_ms: u32) -> Barrier {
    let options = BarrierOptions { unaligned_after_ms: Some(after_ms), ..BarrierOptions::default() };
    Barrier { checkpoint: CheckpointId(checkpoint), triggered_ms: 0, options }
}

fn copied(elements: &[Element]) -> Vec<String> {
    elements.iter().flat_map(|e| crate::testing::render_element(e, true)).collect()
}

/// Takes the barrier out of line: what waits before it.
fn taken(gate: &mut InputGate, checkpoint: u64) -> Vec<String> {
    assert_eq!(gate.take_started().map(|b| b.checkpoint.0), Some(checkpoint));
    let (_, items) = gate.take_barrier(CheckpointId(checkpoint)).expect("it is in line");
    let text = |item: &InFlightItem| match item {
        InFlightItem::Batch { port, batch } => format!("{port}: {}", render_batch(batch).join(" ")),
        InFlightItem::Watermark(w) => format!("watermark {}", w.0),
    };
    items.iter().map(text).collect()
}

#[test]
fn a_barrier_that_overtakes_goes_before_what_was_read_and_the_rest_is_copied_until_all_have_come() {
    let (mut gate, channels) = gate(&[2], 100);
    let watermark = |ms| Element::Signal(Signal::Watermark(EventTime(ms)));
    send(&channels[0], [watermark(5), rows(1), rows(2)]);
    send(&channels[1], [rows(3)]);
    // Everything is read and joined; nothing is handed out.
    assert!(matches!(gate.poll(0, false).expect("no error"), HeadPoll::Nothing { .. }));
    assert!(channels[0].overtake(unaligned(1, 0)).is_empty(), "the channel is empty by now");
    assert_eq!(gate.hurry(7).expect("no error"), None);
    assert_eq!(taken(&mut gate, 1), ["0: +I[3] +I[1] +I[2]"]);
    assert!(gate.take_captured(CheckpointId(1)).is_none(), "channel 1 has not brought its barrier");
    send(&channels[1], [rows(4), watermark(9)]);
    assert_eq!(drain(&mut gate), ["0: +I[3] +I[1] +I[2]", "0: +I[4]", "watermark 5"]);
    send(&channels[1], [rows(5)]);
    assert_eq!(copied(&channels[1].overtake(unaligned(1, 0))), ["+I[5]"], "the writer stores what it overtakes");
    gate.hurry(30).expect("no error");
    let copy = gate.take_captured(CheckpointId(1)).expect("both have come");
    assert_eq!((copy.combined, copy.alignment_ms), (EventTime::MIN, 23));
    assert_eq!((copy.marks[0].watermark, copy.marks[1].watermark), (EventTime(5), EventTime::MIN));
    let parts: Vec<Vec<String>> = copy.channels.iter().map(|(_, e)| copied(e)).collect();
    assert_eq!(parts, [vec![], vec!["+I[4]".to_owned(), "watermark 9".to_owned()]]);
    assert_eq!(drain(&mut gate), ["0: +I[5]"]);
}

#[test]
fn an_alignment_switches_in_time_and_takes_barriers_from_between_rows() {
    let (mut gate, channels) = gate(&[2], 100);
    let timed = || Element::Signal(Signal::Barrier(unaligned(1, 50)));
    send(&channels[0], [timed(), rows(1)]);
    send(&channels[1], [rows(2), rows(3), timed(), rows(4)]);
    // Channel 0 is held. The task is slow: it has taken one batch of channel 1 when the time has come.
    let first = channels[0].address();
    let Some(Element::Signal(Signal::Barrier(b))) = gate.channels[0].receiver.try_recv() else { panic!("sent") };
    gate.on_signal(0, Signal::Barrier(b), 10).expect("no error");
    assert_eq!((gate.overtakes_at_ms(), first.from), (Some(50), 0));
    assert_eq!(gate.hurry(49).expect("no error"), Some(50));
    assert!(gate.take_started().is_none());
    gate.hurry(50).expect("no error");
    assert_eq!(taken(&mut gate, 1), Vec::<String>::new());
    let copy = gate.take_captured(CheckpointId(1)).expect("the other barrier lay in its channel");
    let parts: Vec<Vec<String>> = copy.channels.iter().map(|(_, e)| copied(e)).collect();
    assert_eq!(parts, [vec![], vec!["+I[2]".to_owned(), "+I[3]".to_owned()]]);
    assert_eq!(drain(&mut gate), ["0: +I[1] +I[2] +I[3] +I[4]"], "nothing is held and nothing is lost");
}

#[test]
fn an_aborted_checkpoint_is_copied_no_further() {
    let (mut gate, channels) = gate(&[2], 100);
    channels[0].overtake(unaligned(1, 0));
    gate.hurry(1).expect("no error");
    assert!(taken(&mut gate, 1).is_empty());
    gate.abort(CheckpointId(1));
    send(&channels[1], [rows(1)]);
    assert_eq!(drain(&mut gate), ["0: +I[1]"]);
    channels[1].overtake(unaligned(1, 0));
    gate.hurry(2).expect("no error");
    assert!(gate.take_captured(CheckpointId(1)).is_none() && gate.take_started().is_none());
}
