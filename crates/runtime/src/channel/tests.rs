//! Credit, order, wake-ups and what later checkpoints need of a channel.

use flott_core::element::Signal;
use flott_core::ids::CheckpointId;
use flott_core::time::EventTime;

use super::*;
use crate::testing::{batch, render_element, schema};

fn rows(n: i64) -> Element {
    let schema = schema(&[("a", arrow_schema::DataType::Int64)]);
    Element::Batch(batch(&schema, &[&format!("+I[{n}]")]))
}

fn watermark(ms: i64) -> Element {
    Element::Signal(Signal::Watermark(EventTime(ms)))
}

fn text(e: &Element) -> String {
    render_element(e, true).join(" ")
}

fn small() -> (ChannelSender, ChannelReceiver, TaskWaker, TaskWaker) {
    let (s, r) = (TaskWaker::new(), TaskWaker::new());
    let options = ChannelOptions { batches_max: 2, bytes_max: 1 << 20 };
    let (tx, rx) = channel(options, s.clone(), r.clone());
    (tx, rx, s, r)
}

#[test]
fn a_full_channel_gives_the_element_back_and_wakes_its_sender_when_there_is_room() {
    let (tx, rx, sender, receiver) = small();
    assert!(tx.try_send(rows(1)).is_ok() && receiver.take(), "the first element wakes the receiver");
    assert!(tx.try_send(rows(2)).is_ok() && !receiver.take(), "the second finds it awake");
    let Err(TrySendError::Full(back)) = tx.try_send(rows(3)) else { panic!("no credit is left") };
    assert_eq!(text(&back), "+I[3]");
    assert!(tx.try_send(watermark(5)).is_ok(), "signals need no credit for rows");
    assert!(!sender.take());
    assert_eq!(text(&rx.try_recv().expect("sent")), "+I[1]");
    assert!(sender.take(), "room wakes the sender");
    assert!(tx.try_send(back).is_ok());
    let rest: Vec<String> = std::iter::from_fn(|| rx.try_recv()).map(|e| text(&e)).collect();
    assert_eq!(rest, ["+I[2]", "watermark 5", "+I[3]"]);
    assert!(!sender.take(), "nobody waits");
}

#[test]
fn bytes_are_credit_too_but_an_empty_channel_takes_any_batch() {
    let options = ChannelOptions { batches_max: 100, bytes_max: 1 };
    let (tx, rx) = channel(options, TaskWaker::new(), TaskWaker::new());
    assert!(tx.try_send(rows(1)).is_ok());
    assert!(matches!(tx.try_send(rows(2)), Err(TrySendError::Full(_))));
    assert!(rx.queued().1 > 1 && rx.try_recv().is_some());
    assert_eq!(rx.queued(), (0, 0));
    assert!(tx.try_send(rows(2)).is_ok());
}

#[test]
fn signals_are_bounded() {
    let (tx, _rx, ..) = small();
    let sent = (0..10_000).take_while(|&i| tx.try_send(watermark(i)).is_ok()).count();
    assert_eq!(sent, 2 + SIGNALS_MAX);
}

fn barrier(checkpoint: u64, unaligned_after_ms: Option<u32>) -> Barrier {
    let options = flott_core::element::BarrierOptions { unaligned_after_ms, ..Default::default() };
    Barrier { checkpoint: flott_core::CheckpointId(checkpoint), triggered_ms: 100, options }
}

fn queued(b: Barrier) -> Element {
    Element::Signal(Signal::Barrier(b))
}

fn texts(elements: &[Element]) -> Vec<String> {
    elements.iter().map(text).collect()
}

#[test]
fn barriers_overtake_the_rest_and_not_each_other() {
    let (tx, rx, _, receiver) = small();
    assert!(tx.try_send(rows(1)).is_ok() && tx.try_send(queued(barrier(1, None))).is_ok());
    assert!(tx.try_send(rows(2)).is_ok() && tx.try_send(watermark(5)).is_ok());
    assert_eq!(receiver.alarm_ms(), i64::MAX, "nothing overtakes yet");
    assert_eq!(texts(&tx.overtake(barrier(2, Some(7)))), ["+I[1]", "+I[2]", "watermark 5"]);
    assert_eq!(receiver.alarm_ms(), i64::MIN);
    tx.overtake(barrier(3, Some(7)));
    let next = || rx.take_priority().map(|b| (b.checkpoint.0, b.is_unaligned()));
    assert_eq!([next(), next(), next()], [Some((2, true)), Some((3, true)), None]);
    assert_eq!(text(&rx.try_recv().expect("sent")), "+I[1]");
}

#[test]
fn a_barrier_is_taken_from_between_rows_when_its_time_has_come() {
    let (tx, rx, _, receiver) = small();
    assert!(tx.try_send(rows(1)).is_ok() && tx.try_send(queued(barrier(1, Some(50)))).is_ok());
    assert!(tx.try_send(rows(2)).is_ok());
    assert_eq!((receiver.alarm_ms(), rx.next_overtaking_ms()), (150, Some(150)));
    assert!(rx.overtake(|b| b.checkpoint.0 == 9).is_none());
    let (found, before) = rx.overtake(|b| b.overtakes_at_ms() <= Some(150)).expect("it is due");
    assert_eq!((found, texts(&before)), (barrier(1, Some(50)), vec!["+I[1]".to_owned()]));
    let rest: Vec<String> = std::iter::from_fn(|| rx.try_recv()).map(|e| text(&e)).collect();
    assert_eq!((rest, rx.next_overtaking_ms()), (vec!["+I[1]".to_owned(), "+I[2]".to_owned()], None));
}

#[test]
fn what_is_queued_can_be_repartitioned() {
    let (tx, rx, sender, _) = small();
    assert!(tx.try_send(rows(1)).is_ok() && tx.try_send(rows(2)).is_ok() && tx.try_send(rows(3)).is_err());
    rx.rewrite_queued(|all| all.into_iter().skip(1).collect());
    assert!(sender.take());
    assert_eq!(rx.queued().0, 1);
    assert!(tx.try_send(rows(3)).is_ok() && tx.try_send(rows(4)).is_err());
    assert_eq!(text(&rx.try_recv().expect("kept")), "+I[2]");
}

#[test]
fn ends_that_are_gone_are_seen() {
    let (tx, rx, _, receiver) = small();
    assert!(tx.try_send(rows(1)).is_ok());
    assert!(receiver.take() && !rx.is_closed());
    drop(tx);
    assert!(receiver.take() && rx.is_closed());
    assert_eq!(text(&rx.try_recv().expect("sent before")), "+I[1]");
    let (tx, rx, sender, _) = small();
    drop(rx);
    assert!(sender.take());
    assert!(matches!(tx.try_send(rows(1)), Err(TrySendError::Closed(_))));
}

#[test]
fn no_wake_up_is_lost_between_threads() {
    let (sender, receiver) = (TaskWaker::new(), TaskWaker::new());
    let (tx, rx) = channel(ChannelOptions { batches_max: 3, bytes_max: 1 << 20 }, sender.clone(), receiver.clone());
    let minute = std::time::Duration::from_secs(60);
    let producer = std::thread::spawn(move || {
        for n in 0..5_000 {
            let mut element = rows(n);
            while let Err(TrySendError::Full(e) | TrySendError::Closed(e)) = tx.try_send(element) {
                element = e;
                sender.park(minute);
            }
        }
    });
    let mut next = 0;
    while next < 5_000 {
        match rx.try_recv() {
            Some(e) => {
                assert_eq!(text(&e), format!("+I[{next}]"));
                next += 1;
            }
            None => receiver.park(minute),
        }
    }
    producer.join().expect("the producer does not panic");
}

#[test]
fn what_is_queued_is_drawn_from_the_budget_and_given_back_with_the_channel() {
    let budget = MemoryBudget::new(|_| 1 << 20);
    let used = || budget.used_bytes(MemoryUse::Network);
    let (tx, rx, _, _) = small();
    rx.draw_on(&budget);
    assert!(tx.try_send(rows(1)).is_ok());
    let one = used();
    assert!(one > 0 && one == rx.queued().1);
    assert!(tx.try_send(rows(2)).is_ok() && used() == rx.queued().1 && used() > one);
    assert!(rx.try_recv().is_some() && used() == rx.queued().1);
    drop((tx, rx));
    assert_eq!(used(), 0);
    assert!(budget.peak_bytes(MemoryUse::Network) > one);
}

#[test]
fn a_held_channel_takes_only_what_overtakes() {
    let (tx, rx, sender, _) = small();
    rx.hold(true);
    let Err(TrySendError::Full(back)) = tx.try_send(rows(1)) else { panic!("it is held") };
    assert!(matches!(tx.try_send(watermark(5)), Err(TrySendError::Full(_))));
    let barrier = Barrier { checkpoint: CheckpointId(1), triggered_ms: 0, options: Default::default() };
    assert!(tx.overtake(barrier).is_empty());
    assert!(rx.take_priority().is_some() && !sender.take());
    rx.hold(false);
    assert!(sender.take(), "whoever was refused is woken");
    assert!(tx.try_send(back).is_ok());
}

#[test]
fn a_sender_hears_when_so_much_was_taken() {
    let (tx, rx, sender, _) = small();
    assert!(tx.try_send(rows(1)).is_ok() && tx.try_send(watermark(5)).is_ok() && tx.try_send(rows(2)).is_ok());
    assert_eq!((tx.put(), tx.taken()), (Taken { batches: 2, signals: 1 }, Taken::default()));
    tx.wake_when_taken(Taken { batches: 1, ..Taken::NEVER });
    tx.wake_when_taken(Taken { batches: 2, ..Taken::NEVER });
    assert!(!sender.take() && rx.try_recv().is_some() && sender.take(), "the first call still counts");
    assert!(rx.try_recv().is_some() && rx.try_recv().is_some() && !sender.take(), "once");
    tx.wake_when_taken(Taken { signals: 1, ..Taken::NEVER });
    assert!(sender.take(), "at once when it has been taken");
    assert_eq!((tx.put(), tx.taken()), (Taken { batches: 2, signals: 1 }, Taken { batches: 2, signals: 1 }));
}
