//! The producer's side of a served link: one thread writes what the channels hold as far as there is credit, one hears credit. Never
//! decides what follows when the connection breaks.

use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flott_core::element::Element;
use flott_core::error::Error;
use flott_core::time::SharedClock;
use flott_runtime::{ChannelReceiver, TaskWaker};

use super::batch::{encode, write_small};
use super::credit::{Credit, Window};
use super::frame::{Greeting, HEADER_BYTES, Header, Kind, encode_signal};
use super::server::thread;
use super::{Compression, OnBroken, OutgoingLink, caught, locked, lost, malformed};

/// How long the writer sleeps when nothing wakes it.
const PATIENCE_MS: i64 = 1_000;
/// Elements of one channel that are written before its neighbours' turn.
const TURN: usize = 4;

/// A link that is served.
pub(super) struct Outgoing {
    windows: Vec<Mutex<Window>>,
    waker: TaskWaker,
    stream: TcpStream,
    compression: Compression,
    frame_bytes_max: u32,
    clock: SharedClock,
    on_broken: Mutex<Option<OnBroken>>,
    /// Nobody is to hear of it any more.
    stopped: AtomicBool,
    /// Everything was written.
    finished: AtomicBool,
}

struct Lane {
    receiver: ChannelReceiver,
    open: bool,
    /// Its task keeps what it has.
    held: bool,
}

impl Lane {
    fn hold(&mut self, held: bool) {
        if self.held != held {
            self.held = held;
            self.receiver.hold(held);
        }
    }
}

/// What came of one look at all channels.
struct Round {
    wrote: bool,
    open: bool,
    /// When a barrier that waits for credit begins to overtake.
    alarm_ms: Option<i64>,
}

impl Outgoing {
    /// With the channels for [`Outgoing::run`].
    pub(super) fn new(
        link: OutgoingLink,
        greeting: &Greeting,
        stream: TcpStream,
        clock: SharedClock,
    ) -> (Self, Vec<ChannelReceiver>) {
        let window = || Mutex::new(Window::new(greeting.window_batches, greeting.window_bytes));
        let outgoing = Outgoing {
            windows: link.channels.iter().map(|_| window()).collect(),
            waker: link.waker,
            stream,
            compression: greeting.compression,
            frame_bytes_max: greeting.frame_bytes_max,
            clock,
            on_broken: Mutex::new(Some(link.on_broken)),
            stopped: AtomicBool::new(false),
            finished: AtomicBool::new(false),
        };
        (outgoing, link.channels)
    }

    /// Ends it quietly.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        let _ = self.stream.shutdown(Shutdown::Both);
        self.waker.wake();
    }

    fn broke(&self, error: Error) {
        let hears = locked(&self.on_broken).take();
        let _ = self.stream.shutdown(Shutdown::Both);
        self.waker.wake();
        if let Some(hears) = hears.filter(|_| !self.stopped.load(Ordering::Acquire)) {
            hears(error);
        }
    }

    /// Serves the link to its end; this thread hears credit.
    pub(super) fn run(
        self: &Arc<Self>,
        channels: Vec<ChannelReceiver>,
        stream: &TcpStream,
        peer: &str,
        greeted: std::io::Result<()>,
    ) {
        if let Err(e) = greeted {
            return self.broke(lost(peer, &e));
        }
        let mut lanes: Vec<Lane> =
            channels.into_iter().map(|receiver| Lane { receiver, open: true, held: false }).collect();
        let (link, to) = (Arc::clone(self), peer.to_owned());
        let writer = thread("network-write", move || {
            if let Err(e) = caught(|| link.write_all(&mut lanes, &to)) {
                link.broke(e);
            }
        });
        let writer = match writer {
            Ok(writer) => writer,
            Err(e) => return self.broke(e),
        };
        if let Err(e) = caught(|| self.hear(stream, peer))
            && !self.finished.load(Ordering::Acquire)
        {
            self.broke(e);
        }
        let _ = writer.join();
    }

    /// Hears credit until the consumer hangs up.
    fn hear(&self, mut stream: &TcpStream, peer: &str) -> Result<(), Error> {
        let mut bytes = [0; HEADER_BYTES];
        let mut payload = [0; 16];
        loop {
            stream.read_exact(&mut bytes).map_err(|e| lost(peer, &e))?;
            let header = Header::decode(&bytes, payload.len() as u32).map_err(|e| malformed(peer, e))?;
            let window = self.windows.get(header.channel as usize).filter(|_| header.kind == Kind::Credit);
            let window = window.filter(|_| header.len as usize == payload.len());
            let window = window.ok_or_else(|| malformed(peer, format!("{header:?} instead of credit")))?;
            stream.read_exact(&mut payload).map_err(|e| lost(peer, &e))?;
            let mut window = locked(window);
            let news = window.taken(Credit::decode(&payload)).map_err(|e| malformed(peer, e))?;
            drop(window);
            if news {
                self.waker.wake();
            }
        }
    }

    /// Writes until every channel has ended.
    fn write_all(&self, lanes: &mut [Lane], peer: &str) -> Result<(), Error> {
        let mut first = 0;
        loop {
            let round = self.round(lanes, first, peer)?;
            if !round.open {
                self.finished.store(true, Ordering::Release);
                let _ = self.stream.shutdown(Shutdown::Write);
                return Ok(());
            }
            // Tasks that still write wait then, until the JobManager stops them.
            if self.stopped.load(Ordering::Acquire) || locked(&self.on_broken).is_none() {
                return Ok(());
            }
            if round.wrote {
                first = (first + 1) % lanes.len().max(1);
                continue;
            }
            let until = round.alarm_ms.map_or(PATIENCE_MS, |at| at.saturating_sub(self.clock.now_ms()));
            self.waker.park(Duration::from_millis(until.clamp(1, PATIENCE_MS) as u64));
        }
    }

    /// Gives every channel its turn.
    fn round(&self, lanes: &mut [Lane], first: usize, peer: &str) -> Result<Round, Error> {
        let mut round = Round { wrote: false, open: false, alarm_ms: None };
        let count = lanes.len();
        for step in 0..count {
            let at = (first + step) % count;
            for _ in 0..TURN {
                if !lanes[at].open {
                    break;
                }
                // Asked before the queue is: what was sent before the end is still in it then.
                if lanes[at].receiver.is_closed() && lanes[at].receiver.is_empty() {
                    lanes[at].open = false;
                    // The consumer hangs up as soon as it has read the last of these.
                    self.finished.store(lanes.iter().all(|l| !l.open), Ordering::Release);
                    write_small(&mut &self.stream, Kind::Close, at as u32, &[]).map_err(|e| lost(peer, &e))?;
                    break;
                }
                let has_room = locked(&self.windows[at]).has_room();
                lanes[at].hold(!has_room);
                if !has_room {
                    let overtakes_ms = lanes[at].receiver.next_overtaking_ms();
                    if overtakes_ms.is_none_or(|ms| ms > self.clock.now_ms()) {
                        round.alarm_ms = round.alarm_ms.into_iter().chain(overtakes_ms).min();
                        break;
                    }
                }
                match lanes[at].receiver.try_recv() {
                    Some(element) => {
                        self.write(at, &element, peer)?;
                        round.wrote = true;
                    }
                    None => break,
                }
            }
            round.open |= lanes[at].open;
        }
        Ok(round)
    }

    fn write(&self, channel: usize, element: &Element, peer: &str) -> Result<(), Error> {
        let account = || locked(&self.windows[channel]);
        let mut to = &self.stream;
        match element {
            Element::Signal(signal) => {
                account().sent_signal();
                write_small(&mut to, Kind::Signal, channel as u32, &encode_signal(signal)).map_err(|e| lost(peer, &e))
            }
            Element::Batch(batch) => {
                let encoded = encode(batch)?;
                if encoded.len > self.frame_bytes_max as usize {
                    return Err(too_large(batch.num_rows(), encoded.len, self.frame_bytes_max));
                }
                // Counted before it can be taken; what it weighs is counted alike on the other side.
                account().sent_batch(u32::try_from(encoded.len).unwrap_or(u32::MAX));
                encoded.write(&mut to, channel as u32, self.compression).map(|_| ()).map_err(|e| lost(peer, &e))
            }
        }
    }
}

/// Retrying would only meet the same batch again.
fn too_large(rows: usize, bytes: usize, bytes_max: u32) -> Error {
    Error::user(
        "network.batch",
        format!("a batch of {rows} rows takes {bytes} bytes; at most {bytes_max} go to another TaskManager"),
    )
    .hint("leave large columns out before the exchange, or run with one TaskManager")
}
