//! The consumer's side of a link: one thread reads frames into the channels of the tasks, one sends credit for what these have taken.
//! The reader never waits for a task: what comes has room.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use arrow_schema::SchemaRef;
use flott_core::element::Element;
use flott_core::error::{Error, Result};
use flott_runtime::{ChannelOptions, ChannelSender, Taken, TaskWaker, TrySendError};

use super::batch::{decompress, write_small};
use super::credit::{Credit, Window};
use super::decode::decode;
use super::frame::{Greeting, HEADER_BYTES, Header, Kind, REASON_BYTES_MAX, decode_signal};
use super::server::{digest, thread};
use super::{ClusterId, Compression, LinkId, NetworkOptions, OnBroken, caught, locked, lost, malformed, plain};

/// How long the credit thread sleeps when nothing wakes it.
const PATIENCE: Duration = Duration::from_millis(1000);

/// A channel that ends in this process.
pub struct IncomingChannel {
    /// Its writing end; its options are [`IncomingLink::channel_options`].
    pub sender: ChannelSender,
    /// What its rows look like.
    pub schema: SchemaRef,
}

struct Lane {
    /// Gone once the producer has ended the channel.
    sender: Mutex<Option<ChannelSender>>,
    schema: SchemaRef,
    /// What lay in the channel before the link began is no credit of the producer's.
    before: Mutex<Taken>,
    window: Mutex<Window>,
}

struct Shared {
    lanes: Vec<Lane>,
    stream: TcpStream,
    waker: TaskWaker,
    peer: String,
    frame_bytes_max: u32,
    stopped: AtomicBool,
    on_broken: Mutex<Option<OnBroken>>,
}

/// A link. Dropping it hangs up.
pub struct IncomingLink {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl IncomingLink {
    /// Options of the channels that a link fills: its window bounds them, and what was in flight in a checkpoint may lie in front of that.
    pub fn channel_options() -> ChannelOptions {
        ChannelOptions { batches_max: u32::MAX as usize, bytes_max: usize::MAX }
    }

    /// Dials the producer's data port at `address` and asks for a link; `waker` is what the writing ends wake. Nothing comes before
    /// [`IncomingLink::start`].
    pub fn connect(
        address: &str,
        cluster: ClusterId,
        link: LinkId,
        channels: Vec<IncomingChannel>,
        waker: TaskWaker,
        options: &NetworkOptions,
        on_broken: OnBroken,
    ) -> Result<Self> {
        let greeting = Greeting {
            cluster,
            link,
            channels: channels.len() as u32,
            digest: digest(channels.iter().map(|c| c.sender.address())),
            window_batches: options.window_batches,
            window_bytes: options.window_bytes,
            frame_bytes_max: options.frame_bytes_max,
            compression: options.compression,
        };
        let stream = dial(address, &greeting, options)?;
        let lane = |c: IncomingChannel| Lane {
            before: Mutex::default(),
            sender: Mutex::new(Some(c.sender)),
            schema: c.schema,
            window: Mutex::new(Window::new(options.window_batches, options.window_bytes)),
        };
        let shared = Arc::new(Shared {
            lanes: channels.into_iter().map(lane).collect(),
            stream,
            waker,
            peer: address.to_owned(),
            frame_bytes_max: options.frame_bytes_max,
            stopped: AtomicBool::new(false),
            on_broken: Mutex::new(Some(on_broken)),
        });
        Ok(IncomingLink { shared, threads: Vec::new() })
    }

    /// Lets elements come. Not before the tasks are built and hold what was in flight in a checkpoint: what lies in the channels by
    /// now is no credit of the producer's, and a gate takes what it finds when it is built for recovered rows.
    pub fn start(&mut self) -> Result<()> {
        for lane in &self.shared.lanes {
            if let Some(sender) = &*locked(&lane.sender) {
                *locked(&lane.before) = sender.put();
            }
        }
        let (reading, crediting) = (Arc::clone(&self.shared), Arc::clone(&self.shared));
        self.threads.push(thread("network-read", move || reading.guarded(Shared::read_all))?);
        self.threads.push(thread("network-credit", move || crediting.guarded(Shared::credit_all))?);
        Ok(())
    }
}

impl Drop for IncomingLink {
    fn drop(&mut self) {
        self.shared.stop();
        // `on_broken`, which runs on one of them, may be what drops the link.
        let own = std::thread::current().id();
        self.threads.drain(..).filter(|t| t.thread().id() != own).for_each(|t| {
            let _ = t.join();
        });
    }
}

/// Connects and greets.
fn dial(address: &str, greeting: &Greeting, options: &NetworkOptions) -> Result<TcpStream> {
    let timeout = Duration::from_millis(options.connect_timeout_ms.max(1));
    let failed = |e: std::io::Error| {
        Error::retry("network.connect", format!("cannot reach TaskManager {address}: {}", plain(&e)))
            .hint("is it running, and may this machine connect to its data port (`taskmanager.data.port`)?")
    };
    let refused = |why: &str| {
        Error::retry("network.refused", format!("TaskManager {address} refused the connection: {why}"))
            .hint("processes of one cluster need the same version of Flott and the same cluster id; a job that is restarting asks again")
    };
    let mut last = std::io::Error::other("the name has no address");
    let mut connected = None;
    for a in address.to_socket_addrs().map_err(failed)? {
        match TcpStream::connect_timeout(&a, timeout) {
            Ok(stream) => {
                connected = Some(stream);
                break;
            }
            Err(e) => last = e,
        }
    }
    let mut stream = connected.ok_or_else(|| failed(last))?;
    stream.set_nodelay(true).map_err(failed)?;
    // The producer may still be deploying its tasks.
    let patience = timeout + Duration::from_millis(options.register_timeout_ms);
    stream.set_read_timeout(Some(patience)).map_err(failed)?;
    stream.write_all(&greeting.encode()).map_err(failed)?;
    let mut answer = [0; 3];
    stream.read_exact(&mut answer).map_err(failed)?;
    if answer[0] != 0 {
        let len = usize::from(u16::from_le_bytes([answer[1], answer[2]])).min(REASON_BYTES_MAX);
        let mut reason = vec![0; len];
        stream.read_exact(&mut reason).map_err(failed)?;
        return Err(refused(&String::from_utf8_lossy(&reason)));
    }
    stream.set_read_timeout(None).map_err(failed)?;
    Ok(stream)
}

impl Shared {
    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        let _ = self.stream.shutdown(Shutdown::Both);
        self.waker.wake();
    }

    /// Runs one of the two loops; what it fails with is heard unless the link was stopped.
    fn guarded(&self, run: impl FnOnce(&Self) -> Result<()>) {
        let Err(e) = caught(|| run(self)) else { return };
        let hears = locked(&self.on_broken).take().filter(|_| !self.stopped.load(Ordering::Acquire));
        self.stop();
        if let Some(hears) = hears {
            hears(e);
        }
    }

    fn read_all(&self) -> Result<()> {
        let mut open = self.lanes.len();
        let mut bytes = [0; HEADER_BYTES];
        while open > 0 {
            (&self.stream).read_exact(&mut bytes).map_err(|e| lost(&self.peer, &e))?;
            let header = Header::decode(&bytes, self.frame_bytes_max).map_err(|e| malformed(&self.peer, e))?;
            let mut payload = vec![0; header.len as usize];
            (&self.stream).read_exact(&mut payload).map_err(|e| lost(&self.peer, &e))?;
            open -= usize::from(self.take(header, payload).map_err(|e| malformed(&self.peer, e))?);
        }
        // Nothing more is owed to the producer.
        self.stopped.store(true, Ordering::Release);
        self.waker.wake();
        Ok(())
    }

    /// Hands a frame to its channel; whether that ended the channel, or what is wrong with the frame.
    fn take(&self, header: Header, payload: Vec<u8>) -> Result<bool, String> {
        let lane = self.lanes.get(header.channel as usize);
        let lane = lane.ok_or_else(|| format!("channel {} of {}", header.channel, self.lanes.len()))?;
        let element = match header.kind {
            Kind::Batch => {
                let payload = match header.compression {
                    Compression::None => payload,
                    with => decompress(&payload, with, self.frame_bytes_max)?,
                };
                let mut window = locked(&lane.window);
                window.sent_batch(payload.len() as u32);
                if window.exceeded() {
                    return Err(format!("more than channel {} has room for", header.channel));
                }
                drop(window);
                Element::Batch(decode(payload, &lane.schema)?)
            }
            Kind::Signal => {
                let mut window = locked(&lane.window);
                window.sent_signal();
                if window.exceeded() {
                    return Err(format!("more signals than channel {} has room for", header.channel));
                }
                drop(window);
                Element::Signal(decode_signal(&payload).ok_or("an unknown signal")?)
            }
            Kind::Close => {
                return match locked(&lane.sender).take() {
                    Some(_) => Ok(true),
                    None => Err(format!("channel {} ended twice", header.channel)),
                };
            }
            Kind::Credit => return Err("credit on the wrong side".into()),
        };
        let sender = locked(&lane.sender);
        let sender = sender.as_ref().ok_or_else(|| format!("rows after the end of channel {}", header.channel))?;
        match sender.try_send(element) {
            Ok(()) => {}
            // The task has ended, or failed: somebody else sees to that. Nobody takes these rows, so no more will come.
            Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(_)) => return Err(format!("more than channel {} takes", header.channel)),
        }
        self.arm(lane, sender);
        Ok(false)
    }

    /// Has the credit thread woken in time for the producer not to wait.
    fn arm(&self, lane: &Lane, sender: &ChannelSender) {
        let window = locked(&lane.window);
        let (batches, signals) = window.is_half_full();
        if !batches && !signals {
            return;
        }
        let (sent, lane_before) = (window.sent(), *locked(&lane.before));
        drop(window);
        let when = |half: bool, before: u64, sent: u64| if half { before + sent } else { u64::MAX };
        sender.wake_when_taken(Taken {
            batches: when(batches, lane_before.batches, sent.batches),
            signals: when(signals, lane_before.signals, sent.signals),
        });
    }

    fn credit_all(&self) -> Result<()> {
        while !self.stopped.load(Ordering::Acquire) {
            for (i, lane) in self.lanes.iter().enumerate() {
                if !self.credit(i as u32, lane)? {
                    // The producer is gone, perhaps because it has sent everything: the reader will see which.
                    return Ok(());
                }
            }
            self.waker.park(PATIENCE);
        }
        Ok(())
    }

    /// Sends credit for what the task has taken, if the producer is going to need it. Whether it could be sent.
    fn credit(&self, channel: u32, lane: &Lane) -> Result<bool> {
        let sender = locked(&lane.sender);
        let Some(sender) = sender.as_ref() else { return Ok(true) };
        let (taken, before) = (sender.taken(), *locked(&lane.before));
        let credit = Credit {
            batches: taken.batches.saturating_sub(before.batches),
            signals: taken.signals.saturating_sub(before.signals),
        };
        let mut window = locked(&lane.window);
        if window.is_half_full() == (false, false) {
            return Ok(true);
        }
        let news = window.taken(credit).map_err(|e| Error::bug(format!("channel {channel}: {e}")))?;
        drop(window);
        if news && write_small(&mut &self.stream, Kind::Credit, channel, &credit.encode()).is_err() {
            return Ok(false);
        }
        self.arm(lane, sender);
        Ok(true)
    }
}
