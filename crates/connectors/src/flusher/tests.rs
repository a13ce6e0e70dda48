//! What a flusher does with rows, errors, checkpoints and a server that hangs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use flott_core::memory::MemoryBudget;
use flott_core::time::SystemClock;
use flott_core::types::TypeKind;

use super::*;
use crate::contract::{rows_of, sink_context};
use crate::testing::json_batch;

const OPTIONS: FlushOptions = FlushOptions {
    max_rows: 3,
    interval_ms: None,
    max_retries: 2,
    backoff_ms: 1,
    unreachable_ms: 2_000,
    queue_rows_max: 6,
};

/// What the server answers to the next calls, and what it was asked.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    calls: Vec<String>,
    answers: VecDeque<FlushError>,
    connects: VecDeque<FlushError>,
    gate: Option<Receiver<()>>,
}

impl Server {
    fn lock(&self) -> MutexGuard<'_, Script> {
        self.0.lock().expect("not poisoned")
    }
    /// The server holds every write until it is told to go on.
    fn held(&self) -> SyncSender<()> {
        let (send, receive) = sync_channel(16);
        self.lock().gate = Some(receive);
        send
    }
    /// Waits until so many writes were made.
    fn calls(&self, count: usize) -> Vec<String> {
        wait(|| self.lock().calls.len() >= count);
        self.lock().calls.clone()
    }
    fn start(&self, options: FlushOptions, context: SinkContext, restored: &[Bytes]) -> Flusher {
        Flusher::start("test", Box::new(self.clone()), options, context, restored).expect("a thread")
    }
}

fn wait(done: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("nothing happened for 4 s");
}

impl BatchWriter for Server {
    fn connect(&mut self, _: &Stop) -> Result<(), FlushError> {
        self.lock().connects.pop_front().map_or(Ok(()), Err)
    }
    fn write(&mut self, rows: &[ChangeBatch], _: &Stop) -> Result<(), FlushError> {
        let gate = self.lock().gate.take();
        if let Some(gate) = gate {
            let _ = gate.recv();
            self.lock().gate = Some(gate);
        }
        let mut script = self.lock();
        script.calls.push(rows.iter().flat_map(rows_of).collect::<Vec<_>>().join(" "));
        script.answers.pop_front().map_or(Ok(()), Err)
    }
}

fn rows(values: std::ops::Range<i64>) -> ChangeBatch {
    let text: String = values.map(|v| format!("{{\"a\":{v}}}\n")).collect();
    json_batch(&[("a", TypeKind::BigInt)], &text)
}

fn context() -> SinkContext {
    SinkContext { clock: SystemClock::shared(), ..sink_context(0, 1, 0, 1) }
}

fn error() -> Error {
    Error::retry("test.server", "no")
}

#[test]
fn rows_go_out_by_number_by_age_and_when_asked() {
    let server = Server::default();
    let flusher = server.start(OPTIONS, context(), &[]);
    assert!(flusher.offer(&rows(0..5)).expect("alive"));
    assert_eq!(server.calls(1), ["+I[0] +I[1] +I[2]"]);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(flusher.pending_rows(), 2, "too few for a flush, and no interval");
    flusher.flush_soon();
    assert_eq!(server.calls(2)[1], "+I[3] +I[4]");
    wait(|| flusher.pending_rows() == 0);

    let server = Server::default();
    let context = context();
    let flusher = server.start(FlushOptions { interval_ms: Some(60), ..OPTIONS }, context.clone(), &[]);
    let begin_ms = context.clock.now_ms();
    assert!(flusher.offer(&rows(0..1)).expect("alive"));
    assert_eq!(server.calls(1), ["+I[0]"]);
    assert!(context.clock.now_ms() - begin_ms >= 55, "a row waits for others as long as the interval says");
    wait(|| context.metrics.external.rows.get() == 1);
}

#[test]
fn a_full_queue_refuses_and_a_snapshot_has_what_is_not_written() {
    let server = Server::default();
    let go = server.held();
    let memory = MemoryBudget::new(|_| 1 << 20);
    let context = SinkContext { memory: memory.clone(), ..context() };
    let flusher = server.start(OPTIONS, context.clone(), &[]);
    assert!(flusher.offer(&rows(0..4)).expect("alive"));
    assert!(flusher.offer(&rows(4..6)).expect("alive"));
    assert!(!flusher.offer(&rows(6..7)).expect("alive"), "six rows may wait");
    assert!(memory.used_bytes(MemoryUse::Sink) > 0);
    let all = flusher.snapshot().expect("a snapshot");
    go.send(()).expect("the server waits");
    wait(|| flusher.pending_rows() == 3);
    let rest = flusher.snapshot().expect("a snapshot");
    let text =
        |items: &[Bytes]| items.iter().flat_map(|b| rows_of(&decode_batch(b).expect("rows"))).collect::<Vec<_>>();
    assert_eq!(text(&all).len(), 6, "rows that are being written are not written yet");
    assert_eq!(text(&rest), ["+I[3]", "+I[4]", "+I[5]"]);
    drop(go);
    drop(flusher);
    assert_eq!(memory.used_bytes(MemoryUse::Sink), 0);

    let restored = Server::default();
    let flusher = restored.start(OPTIONS, context, &rest);
    assert!(flusher.offer(&rows(6..9)).expect("alive"));
    assert_eq!(restored.calls(2), ["+I[3] +I[4] +I[5]", "+I[6] +I[7] +I[8]"], "restored rows come first");
}

#[test]
fn a_batch_larger_than_queue_and_budget_passes_alone() {
    let server = Server::default();
    let context = SinkContext { memory: MemoryBudget::new(|_| 1), ..context() };
    let flusher = server.start(OPTIONS, context, &[]);
    assert!(flusher.offer(&rows(0..20)).expect("alive"));
    assert!(!flusher.offer(&rows(20..21)).expect("alive"));
    assert_eq!(server.calls(7).len(), 7, "a full queue does not wait for the interval");
    wait(|| flusher.pending_rows() == 0);
}

#[test]
fn errors_are_tried_again_as_often_as_said_and_then_come_back_for_ever() {
    let server = Server::default();
    server.lock().answers.extend([FlushError::Busy(error()), FlushError::Busy(error())]);
    server.lock().connects.extend([FlushError::Unreachable(error())]);
    let context = context();
    let flusher = server.start(OPTIONS, context.clone(), &[]);
    assert!(flusher.offer(&rows(0..3)).expect("alive"));
    wait(|| flusher.pending_rows() == 0);
    assert_eq!((server.calls(3).len(), context.metrics.external.retries.get()), (3, 3));

    server.lock().answers.extend((0..3).map(|_| FlushError::Busy(error())));
    assert!(flusher.offer(&rows(3..6)).expect("alive"));
    wait(|| flusher.check().is_err());
    for _ in 0..2 {
        let e = flusher.offer(&rows(6..7)).expect_err("the error stays");
        assert_eq!(e.message(), "flush of 3 rows failed 3 times: no");
    }
    assert!(flusher.snapshot().is_err(), "no checkpoint pretends that all is well");

    let server = Server::default();
    server.lock().connects.extend([FlushError::Fatal(error())]);
    let flusher = server.start(OPTIONS, self::context(), &[]);
    wait(|| flusher.check().is_err());
    assert_eq!(flusher.check().expect_err("at the start").code(), "test.server");
}

#[test]
fn an_unreachable_server_is_given_up_after_its_time() {
    let server = Server::default();
    server.lock().connects.extend((0..1_000).map(|_| FlushError::Unreachable(error())));
    let flusher = server.start(FlushOptions { unreachable_ms: 50, ..OPTIONS }, context(), &[]);
    wait(|| flusher.check().is_err());
    let e = flusher.check().expect_err("given up");
    assert!(e.message().starts_with("connect failed for 0."), "{e}");
}

#[test]
fn a_server_that_hangs_holds_nobody_up() {
    struct Hanging(Arc<AtomicUsize>);
    impl BatchWriter for Hanging {
        fn connect(&mut self, stop: &Stop) -> Result<(), FlushError> {
            let cancelled = Arc::clone(&self.0);
            stop.on_stop(Some(Box::new(move || {
                cancelled.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_secs(30));
            })));
            Ok(())
        }
        fn write(&mut self, _: &[ChangeBatch], _: &Stop) -> Result<(), FlushError> {
            std::thread::sleep(Duration::from_secs(30));
            Ok(())
        }
    }
    let (clock, cancelled) = (SystemClock::shared(), Arc::new(AtomicUsize::new(0)));
    let writer = Box::new(Hanging(Arc::clone(&cancelled)));
    let flusher = Flusher::start("hangs", writer, OPTIONS, context(), &[]).expect("a thread");
    assert!(flusher.offer(&rows(0..3)).expect("alive"));
    std::thread::sleep(Duration::from_millis(50));
    let begin_ms = clock.now_ms();
    drop(flusher);
    let took_ms = clock.now_ms() - begin_ms;
    assert!(took_ms < 1_000, "it took {took_ms} ms");
    assert_eq!(cancelled.load(Ordering::SeqCst), 1, "the call was broken off");
}
