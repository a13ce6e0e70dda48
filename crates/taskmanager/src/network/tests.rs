//! Links over loopback: order, credit, overtaking barriers, ends and breaks, and what strangers send. Codecs are in `codec`.

mod codec;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use flott_core::batch::ChangeBatch;
use flott_core::element::{Barrier, BarrierOptions, Element, Signal};
use flott_core::error::Error;
use flott_core::ids::{CheckpointId, JobId, OperatorId};
use flott_core::snapshot::ChannelAddress;
use flott_core::time::{EventTime, SystemClock};
use flott_runtime::{ChannelOptions, ChannelReceiver, ChannelSender, TaskWaker, TrySendError, channel_at};

use super::*;

const CLUSTER: ClusterId = ClusterId(7);
/// Longer than anything here takes; a wait that lasts this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]))
}

fn rows(first: i64, count: i64) -> Element {
    let column = Arc::new(Int64Array::from_iter_values(first..first + count));
    Element::Batch(ChangeBatch::append(RecordBatch::try_new(schema(), vec![column]).expect("one column")))
}

fn first_row(e: &Element) -> Option<i64> {
    let Element::Batch(b) = e else { return None };
    b.rows.column(0).as_any().downcast_ref::<Int64Array>().map(|a| a.value(0))
}

fn link(attempt: u32) -> LinkId {
    LinkId { job: JobId(1), generation: 3, attempt, producer: 0, consumer: 1 }
}

fn address(from: u32) -> ChannelAddress {
    ChannelAddress { operator: OperatorId(2), subtask: 0, edge: 0, port: 0, producer: OperatorId(1), from }
}

fn options() -> NetworkOptions {
    NetworkOptions { window_batches: 4, register_timeout_ms: 300, connect_timeout_ms: 2_000, ..Default::default() }
}

fn server() -> DataServer {
    DataServer::start("127.0.0.1:0", CLUSTER, options(), SystemClock::shared()).expect("a free port")
}

/// A task that writes, as far as a channel knows it.
struct Producer {
    senders: Vec<ChannelSender>,
    waker: TaskWaker,
}

/// A link from this process to itself, and the tasks at its ends.
struct Ends {
    producer: Producer,
    receivers: Vec<ChannelReceiver>,
    reader: TaskWaker,
    link: Option<IncomingLink>,
    broken: [Receiver<Error>; 2],
}

fn on_broken() -> (OnBroken, Receiver<Error>) {
    let (tx, rx) = sync_channel(1);
    let told = Mutex::new(tx);
    (Box::new(move |e| told.lock().expect("one thread").send(e).expect("the test listens")), rx)
}

/// A link of so many channels from this process to itself.
fn connect(server: &DataServer, id: LinkId, channels: u32, options: &NetworkOptions) -> Result<Ends, Error> {
    connect_after(server, id, channels, options, |_| {})
}

/// The same, once `before` has used the producer's ends.
fn connect_after(
    server: &DataServer,
    id: LinkId,
    channels: u32,
    options: &NetworkOptions,
    before: impl FnOnce(&[ChannelSender]),
) -> Result<Ends, Error> {
    let (writer, reader, out, back) = (TaskWaker::new(), TaskWaker::new(), TaskWaker::new(), TaskWaker::new());
    let mut ends = (Vec::new(), Vec::new());
    let (mut outgoing, mut incoming) = (Vec::new(), Vec::new());
    for i in 0..channels {
        let (s, r) = channel_at(address(i), OutgoingLink::channel_options(), writer.clone(), out.clone());
        ends.0.push(s);
        outgoing.push(r);
        let (s, r) = channel_at(address(i), IncomingLink::channel_options(), back.clone(), reader.clone());
        incoming.push(IncomingChannel { sender: s, schema: schema() });
        ends.1.push(r);
    }
    before(&ends.0);
    let ((tell_producer, producer), (tell_consumer, consumer)) = (on_broken(), on_broken());
    server.register(OutgoingLink { id, channels: outgoing, waker: out, on_broken: tell_producer })?;
    let at = server.address().to_string();
    let mut link = IncomingLink::connect(&at, CLUSTER, id, incoming, back, options, tell_consumer)?;
    link.start()?;
    let (senders, receivers) = ends;
    Ok(Ends {
        producer: Producer { senders, waker: writer },
        receivers,
        reader,
        link: Some(link),
        broken: [producer, consumer],
    })
}

/// Waits until `f` says something; the wakers of a task stand in for its loop.
fn wait<T>(waker: &TaskWaker, mut f: impl FnMut() -> Option<T>) -> T {
    for _ in 0..PATIENCE.as_millis() / 10 {
        if let Some(t) = f() {
            return t;
        }
        waker.park(Duration::from_millis(10));
    }
    panic!("nothing came");
}

impl Producer {
    fn send(&self, channel: usize, element: Element) {
        let mut next = Some(element);
        wait(&self.waker, || match self.senders[channel].try_send(next.take().expect("came back")) {
            Ok(()) => Some(()),
            Err(TrySendError::Full(e)) => {
                next = Some(e);
                None
            }
            Err(TrySendError::Closed(_)) => panic!("the channel is closed"),
        });
    }
    /// Sends batches until the channel takes no more; how many it took.
    fn fill(&self, channel: usize, rows_each: i64) -> i64 {
        let mut sent = 0;
        let mut quiet = 0;
        while quiet < 20 {
            match self.senders[channel].try_send(rows(sent, rows_each)) {
                Ok(()) => (sent, quiet) = (sent + 1, 0),
                Err(_) => {
                    quiet += 1;
                    self.waker.park(Duration::from_millis(10));
                }
            }
        }
        sent
    }
}

impl Ends {
    fn receive(&self, channel: usize) -> Element {
        wait(&self.reader, || self.receivers[channel].try_recv())
    }
}

#[test]
fn rows_and_signals_arrive_in_order_and_the_end_follows() {
    let server = server();
    for (attempt, compression) in [Compression::None, Compression::Lz4, Compression::Zstd].into_iter().enumerate() {
        let ends = connect(&server, link(attempt as u32), 2, &NetworkOptions { compression, ..options() });
        let mut ends = ends.expect("connects");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..200 {
                    ends.producer.send(n as usize % 2, rows(n, 300));
                    ends.producer.send(n as usize % 2, Element::Signal(Signal::Watermark(EventTime(n))));
                }
            });
            for n in 0..200 {
                assert_eq!(first_row(&ends.receive(n as usize % 2)), Some(n), "{compression:?}");
                let Element::Signal(s) = ends.receive(n as usize % 2) else { panic!("a watermark follows {n}") };
                assert_eq!(s, Signal::Watermark(EventTime(n)));
            }
        });
        ends.producer.senders.clear();
        wait(&ends.reader, || ends.receivers.iter().all(ChannelReceiver::is_closed).then_some(()));
        drop(ends.link.take());
        let late = Duration::from_millis(200);
        assert!(ends.broken.iter().all(|b| b.recv_timeout(late).is_err()), "an end is not a break");
    }
}

#[test]
fn a_channel_that_nobody_reads_is_bounded_and_holds_up_no_other() {
    let server = server();
    let ends = connect(&server, link(0), 2, &options()).expect("connects");
    let taken = ends.producer.fill(0, 10);
    let (window, queue) = (i64::from(options().window_batches), OutgoingLink::channel_options().batches_max as i64);
    assert!(
        (window..=window + queue).contains(&taken),
        "the window, and what the producer's own queue took meanwhile: {taken}"
    );
    for n in 0..50 {
        ends.producer.send(1, rows(n, 10));
        assert_eq!(first_row(&ends.receive(1)), Some(n));
    }
    for n in 0..taken {
        assert_eq!(first_row(&ends.receive(0)), Some(n), "nothing was lost meanwhile");
    }
}

#[test]
fn a_batch_larger_than_the_window_passes() {
    let server = server();
    let ends = connect(&server, link(0), 1, &NetworkOptions { window_bytes: 100, ..options() }).expect("connects");
    let sent = ends.producer.fill(0, 1000);
    assert!(sent <= 1 + OutgoingLink::channel_options().batches_max as i64, "one at a time: {sent}");
    for n in 0..sent {
        assert_eq!(first_row(&ends.receive(0)), Some(n));
    }
}

#[test]
fn many_signals_wait_for_credit_and_come_all() {
    let server = server();
    let ends = connect(&server, link(0), 1, &options()).expect("connects");
    std::thread::scope(|scope| {
        scope.spawn(|| (0..500).for_each(|n| ends.producer.send(0, Element::Signal(Signal::Watermark(EventTime(n))))));
        std::thread::sleep(Duration::from_millis(50));
        for n in 0..500 {
            let Element::Signal(s) = ends.receive(0) else { panic!("signal {n}") };
            assert_eq!(s, Signal::Watermark(EventTime(n)));
        }
    });
}

#[test]
fn a_barrier_that_overtakes_reaches_a_consumer_that_reads_nothing() {
    let server = server();
    let ends = connect(&server, link(0), 1, &options()).expect("connects");
    let sent = ends.producer.fill(0, 10);
    let window = options().window_batches as usize;
    wait(&ends.reader, || (ends.receivers[0].queued().0 == window).then_some(()));
    let after = BarrierOptions { unaligned_after_ms: Some(0), ..Default::default() };
    let barrier = Barrier { checkpoint: CheckpointId(5), triggered_ms: 0, options: after };
    // As a task does it that a barrier has overtaken: in front of its own queue, whose rows are in its part of the checkpoint.
    let overtaken = ends.producer.senders[0].overtake(barrier);
    assert_eq!(overtaken.len(), sent as usize - window);
    let due = wait(&ends.reader, || ends.receivers[0].next_overtaking_ms());
    assert_eq!(due, i64::MIN, "the consumer's task hears of it with its queue full");
    let mut got = Vec::new();
    while got.len() < sent as usize {
        if let Some(n) = first_row(&ends.receive(0)) {
            got.push(n);
        }
    }
    assert_eq!(got, (0..sent).collect::<Vec<_>>());
}

#[test]
fn a_barrier_behind_rows_without_credit_takes_them_along_once() {
    let server = server();
    let now_ms = SystemClock::shared().now_ms();
    let later = BarrierOptions { unaligned_after_ms: Some(300), ..Default::default() };
    let barrier = Barrier { checkpoint: CheckpointId(6), triggered_ms: now_ms, options: later };
    let one = NetworkOptions { window_batches: 1, ..options() };
    let ends = connect_after(&server, link(0), 1, &one, |senders| {
        (0..3).for_each(|n| assert!(senders[0].try_send(rows(n, 10)).is_ok()));
        assert!(senders[0].try_send(Element::Signal(Signal::Barrier(barrier))).is_ok());
    });
    let ends = ends.expect("connects");
    wait(&ends.reader, || (ends.receivers[0].queued().0 == 4).then_some(()));
    assert!(SystemClock::shared().now_ms() >= now_ms + 300, "two rows and the barrier had no credit until it was due");
    for n in 0..3 {
        assert_eq!(first_row(&ends.receive(0)), Some(n));
    }
    assert!(matches!(ends.receive(0), Element::Signal(Signal::Barrier(b)) if b == barrier));
}

#[test]
fn a_barrier_that_comes_when_there_is_no_credit_stays_with_its_task() {
    let server = server();
    let ends = connect(&server, link(0), 1, &options()).expect("connects");
    let sent = ends.producer.fill(0, 10);
    let barrier = Barrier { checkpoint: CheckpointId(6), triggered_ms: 0, options: BarrierOptions::default() };
    let refused = ends.producer.senders[0].try_send(Element::Signal(Signal::Barrier(barrier)));
    assert!(matches!(refused, Err(TrySendError::Full(Element::Signal(_)))));
    for n in 0..sent {
        assert_eq!(first_row(&ends.receive(0)), Some(n));
    }
    ends.producer.send(0, Element::Signal(Signal::Barrier(barrier)));
    assert!(matches!(ends.receive(0), Element::Signal(Signal::Barrier(b)) if b == barrier));
}

#[test]
fn a_link_that_breaks_is_heard_of_once_on_each_side() {
    let server = server();
    let mut ends = connect(&server, link(0), 1, &options()).expect("connects");
    let other = connect(&server, link(1), 1, &options()).expect("connects");
    drop(ends.link.take());
    let e = ends.broken[0].recv_timeout(PATIENCE).expect("the producer hears of it");
    assert_eq!(e.code(), "network.lost");
    assert!(ends.broken[1].try_recv().is_err(), "the consumer hung up itself");
    server.close(&link(0));
    other.producer.send(0, rows(1, 1));
    assert_eq!(first_row(&other.receive(0)), Some(1), "another link goes on");
    server.close(&link(1));
    let e = other.broken[1].recv_timeout(PATIENCE).expect("the consumer hears of it");
    assert_eq!((e.code(), e.to_string().contains("broke")), ("network.lost", true));
    assert!(!other.receivers[0].is_closed(), "a break does not look like an end");
}

/// What the server answers to these bytes, and whether it hangs up.
fn say(server: &DataServer, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).expect("listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(answer.get(3..).unwrap_or_default()).into_owned()
}

#[test]
fn strangers_are_told_why_they_are_refused() {
    let server = server();
    let ends = connect(&server, link(0), 1, &options()).expect("connects");
    let greeting = frame::Greeting {
        cluster: CLUSTER,
        link: link(9),
        channels: 1,
        digest: 0,
        window_batches: 1,
        window_bytes: 1,
        frame_bytes_max: 1,
        compression: Compression::None,
    };
    let wrong = |change: &dyn Fn(&mut frame::Greeting)| {
        let mut g = greeting;
        change(&mut g);
        say(&server, &g.encode())
    };
    assert!(say(&server, &[b'x'; 500]).contains("Flott's TaskManagers only"));
    assert!(say(&server, b"GET / HTTP/1.1\r\n\r\n").contains("Flott's TaskManagers only"));
    assert!(say(&server, &greeting.encode()[..80]).contains("no greeting came"));
    assert!(wrong(&|g| g.cluster = ClusterId(8)).contains("another cluster"));
    assert!(wrong(&|g| g.window_batches = 0).contains("without room"));
    assert!(wrong(&|_| {}).contains("is not known to this TaskManager"));
    assert!(wrong(&|g| g.link = link(0)).contains("served already"));
    let mut newer = greeting.encode();
    newer[4] = 9;
    assert!(say(&server, &newer).contains("version 9 of the data protocol"));
    let mut damaged = greeting.encode();
    damaged[50] ^= 1;
    assert!(say(&server, &damaged).contains("damaged"));
    ends.producer.send(0, rows(4, 1));
    assert_eq!(first_row(&ends.receive(0)), Some(4), "nobody else was affected");
}

#[test]
fn a_batch_that_fits_no_frame_is_named() {
    let server = server();
    let small = NetworkOptions { frame_bytes_max: 1000, ..options() };
    let ends = connect(&server, link(0), 1, &small).expect("connects");
    ends.producer.send(0, rows(0, 1000));
    let e = ends.broken[0].recv_timeout(PATIENCE).expect("the producer hears of it");
    assert!(e.code() == "network.batch" && e.to_string().contains("a batch of 1000 rows"), "{e}");
}

#[test]
fn both_sides_must_have_planned_the_same() {
    let server = server();
    let (tell, _broken) = on_broken();
    let waker = TaskWaker::new();
    let (_s, r) = channel_at(address(0), ChannelOptions::default(), waker.clone(), waker.clone());
    server
        .register(OutgoingLink { id: link(0), channels: vec![r], waker: waker.clone(), on_broken: tell })
        .expect("new");
    let (s, _r) = channel_at(address(1), IncomingLink::channel_options(), waker.clone(), waker.clone());
    let channels = vec![IncomingChannel { sender: s, schema: schema() }];
    let at = server.address().to_string();
    let refused = IncomingLink::connect(&at, CLUSTER, link(0), channels, waker, &options(), on_broken().0);
    let e = refused.err().expect("other channels");
    assert!(e.code() == "network.refused" && e.to_string().contains("different ones"), "{e}");
}

#[test]
fn a_consumer_of_garbage_says_so_and_nobody_listens_is_said_too() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = listener.local_addr().expect("bound").to_string();
    let mut huge =
        frame::Header { kind: frame::Kind::Batch, compression: Compression::None, channel: 0, len: 9 }.encode();
    huge[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let sum = crc32fast::hash(&huge[..12]);
    huge[12..].copy_from_slice(&sum.to_le_bytes());
    for (garbage, says) in [(vec![0xAB; 64], "checksum"), (huge.to_vec(), "a frame of 4294967295 bytes")] {
        let waker = TaskWaker::new();
        let (s, _r) = channel_at(address(0), IncomingLink::channel_options(), waker.clone(), waker.clone());
        let channels = vec![IncomingChannel { sender: s, schema: schema() }];
        let (tell, broken) = on_broken();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().expect("somebody dials");
                let mut greeting = [0; frame::GREETING_BYTES];
                stream.read_exact(&mut greeting).expect("a greeting");
                stream.write_all(&[0, 0, 0]).expect("welcome");
                let _ = stream.write_all(&garbage);
                let _ = stream.read_to_end(&mut Vec::new());
            });
            let link = IncomingLink::connect(&at, CLUSTER, link(0), channels, waker, &options(), tell);
            let mut link = link.expect("welcome");
            link.start().expect("two threads");
            let e = broken.recv_timeout(PATIENCE).expect("the consumer hears of it");
            assert!(e.code() == "network.frame" && e.to_string().contains(says), "{e}");
        });
    }
    drop(listener);
    let gone = IncomingLink::connect(&at, CLUSTER, link(0), Vec::new(), TaskWaker::new(), &options(), on_broken().0);
    assert_eq!(gone.err().expect("nobody listens").code(), "network.connect");
    let taken = server();
    let again = DataServer::start(&taken.address().to_string(), CLUSTER, options(), SystemClock::shared());
    assert_eq!(again.err().expect("the port is in use").code(), "network.bind");
}
