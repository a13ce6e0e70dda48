//! The data port of a TaskManager: takes connections, checks who asks for what, and hands each to the link that is registered for it.
//! Never reads rows.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flott_core::error::{Error, Result};
use flott_core::snapshot::ChannelAddress;
use flott_core::time::SharedClock;
use flott_runtime::{ChannelOptions, ChannelReceiver, TaskWaker};

use super::frame::{GREETING_BYTES, Greeting, MAGIC, REASON_BYTES_MAX, STRANGER};
use super::outgoing::Outgoing;
use super::{ClusterId, LinkId, NetworkOptions, OVERDRAFT_MAX, OnBroken, locked, plain};

/// Connections that may be greeting at one time; more are closed at once.
const GREETINGS_MAX: usize = 64;

/// The producer's side of a link.
pub struct OutgoingLink {
    /// Which.
    pub id: LinkId,
    /// The reading ends of its tasks' channels, in the order of their addresses.
    pub channels: Vec<ChannelReceiver>,
    /// What those ends wake.
    pub waker: TaskWaker,
    /// Hears when the link breaks.
    pub on_broken: OnBroken,
}

/// A link, waiting for its consumer or served.
enum Entry {
    Waiting(OutgoingLink),
    Served(Arc<Outgoing>),
}

struct Shared {
    cluster: ClusterId,
    options: NetworkOptions,
    clock: SharedClock,
    links: Mutex<BTreeMap<LinkId, Entry>>,
    registered: Condvar,
    stopped: AtomicBool,
    greeting: AtomicUsize,
}

/// The server. Dropping it closes the port and every link.
pub struct DataServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<std::thread::JoinHandle<()>>,
}

impl OutgoingLink {
    /// Options of the channels that a link empties: few batches, the window of the consumer's side comes on top.
    pub fn channel_options() -> ChannelOptions {
        ChannelOptions { batches_max: OVERDRAFT_MAX as usize, ..ChannelOptions::default() }
    }
}

impl DataServer {
    /// Listens on `bind`, `HOST:PORT`; port 0 takes a free one. A `User` error names a port that is taken.
    pub fn start(bind: &str, cluster: ClusterId, options: NetworkOptions, clock: SharedClock) -> Result<Self> {
        let failed = |e: std::io::Error| {
            Error::user("network.bind", format!("cannot listen for other TaskManagers on {bind}: {e}"))
                .hint("choose a free port with `taskmanager.data.port`, and an address of this machine with `taskmanager.bind-host`")
        };
        let listener = bind.to_socket_addrs().and_then(|a| TcpListener::bind(a.collect::<Vec<_>>().as_slice()));
        let listener = listener.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            cluster,
            options,
            clock,
            links: Mutex::default(),
            registered: Condvar::new(),
            stopped: AtomicBool::new(false),
            greeting: AtomicUsize::new(0),
        });
        let own = Arc::clone(&shared);
        let acceptor = thread("network-accept", move || accept(&listener, &own))?;
        Ok(DataServer { shared, address, acceptor: Some(acceptor) })
    }
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
    /// Offers a link: whoever asks for it next gets it.
    pub fn register(&self, link: OutgoingLink) -> Result<()> {
        match self.shared.links().entry(link.id) {
            std::collections::btree_map::Entry::Vacant(place) => place.insert(Entry::Waiting(link)),
            _ => return Err(Error::bug(format!("the link {} was registered twice", link.id))),
        };
        self.shared.registered.notify_all();
        Ok(())
    }
    /// Ends a link, served or not; its channels are closed.
    pub fn close(&self, id: &LinkId) {
        let entry = self.shared.links().remove(id);
        if let Some(Entry::Served(link)) = entry {
            link.stop();
        }
    }
}

impl Drop for DataServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.shared.registered.notify_all();
        // The acceptor waits in `accept`: a connection wakes it.
        let woken = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if let Some(acceptor) = self.acceptor.take().filter(|_| woken.is_ok()) {
            let _ = acceptor.join();
        }
        let links = std::mem::take(&mut *self.shared.links());
        for entry in links.into_values() {
            if let Entry::Served(link) = entry {
                link.stop();
            }
        }
    }
}

/// Starts a thread.
pub(super) fn thread(name: &str, f: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(f);
    started.map_err(|e| Error::retry("network.threads", format!("cannot start a thread for the network: {e}")))
}

/// What both sides of a link must agree on beside the number of channels.
pub(super) fn digest(addresses: impl Iterator<Item = ChannelAddress>) -> u64 {
    let bytes = postcard::to_stdvec(&addresses.collect::<Vec<_>>()).expect("addresses are made of numbers");
    flott_core::key_group::key_hash(&bytes)
}

impl Shared {
    fn links(&self) -> MutexGuard<'_, BTreeMap<LinkId, Entry>> {
        locked(&self.links)
    }

    /// The link that a greeting asks for, as soon as it is registered, or why there is none.
    fn claim(&self, greeting: &Greeting, stream: &TcpStream) -> Result<(Arc<Outgoing>, Vec<ChannelReceiver>), String> {
        if greeting.cluster != self.cluster {
            return Err("this TaskManager belongs to another cluster".into());
        }
        let id = greeting.link;
        let until_ms = self.clock.now_ms().saturating_add(self.options.register_timeout_ms as i64);
        let mut links = self.links();
        loop {
            if self.stopped.load(Ordering::Acquire) {
                return Err("this TaskManager is shutting down".into());
            }
            match links.get(&id) {
                Some(Entry::Served(_)) => return Err(format!("{id} is served already")),
                Some(Entry::Waiting(link)) => {
                    let (own, theirs) = (link.channels.len(), greeting.channels);
                    if own != theirs as usize || digest(link.channels.iter().map(|c| c.address())) != greeting.digest {
                        return Err(format!("{id} has {own} channels here and {theirs} there, or different ones"));
                    }
                    break;
                }
                None => {}
            }
            let left = until_ms - self.clock.now_ms();
            if left <= 0 {
                return Err(format!("{id} is not known to this TaskManager"));
            }
            let wait = Duration::from_millis(left.clamp(1, 100) as u64);
            links = self.registered.wait_timeout(links, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        let stream = stream.try_clone().map_err(|e| e.to_string())?;
        let Some(Entry::Waiting(link)) = links.remove(&id) else { return Err("the link has just gone".into()) };
        let (served, channels) = Outgoing::new(link, greeting, stream, Arc::clone(&self.clock));
        let served = Arc::new(served);
        links.insert(id, Entry::Served(Arc::clone(&served)));
        Ok((served, channels))
    }

    /// Reads what a connection wants, for so long and no longer: one that sends byte by byte holds a place.
    fn hear_greeting(&self, mut stream: &TcpStream) -> Result<Greeting, String> {
        let text = |e: std::io::Error| plain(&e);
        let timeout_ms = i64::try_from(self.options.connect_timeout_ms).unwrap_or(i64::MAX).max(1);
        let until_ms = self.clock.now_ms().saturating_add(timeout_ms);
        stream.set_nodelay(true).map_err(text)?;
        stream.set_write_timeout(Some(Duration::from_millis(timeout_ms.unsigned_abs()))).map_err(text)?;
        let (mut bytes, mut len) = ([0; GREETING_BYTES], 0);
        while len < GREETING_BYTES {
            let left_ms = (until_ms - self.clock.now_ms()).max(1);
            stream.set_read_timeout(Some(Duration::from_millis(left_ms.unsigned_abs()))).map_err(text)?;
            len += match stream.read(&mut bytes[len..]) {
                Ok(0) => return Err("no greeting came".into()),
                Ok(n) => n,
                Err(e) => return Err(format!("no greeting came: {}", plain(&e))),
            };
            // Somebody who speaks another protocol waits for an answer.
            if bytes[..len.min(4)] != MAGIC[..len.min(4)] {
                return Err(STRANGER.into());
            }
            if len < GREETING_BYTES && self.clock.now_ms() >= until_ms {
                return Err("no greeting came in time".into());
            }
        }
        Greeting::decode(&bytes)
    }

    /// Greets a connection and serves its link to the end.
    fn serve(&self, mut stream: &TcpStream, peer: &str) -> Result<(), String> {
        let greeting = self.hear_greeting(stream);
        self.greeting.fetch_sub(1, Ordering::AcqRel);
        let claimed = greeting.and_then(|g| self.claim(&g, stream));
        let (status, reason) = match &claimed {
            Ok(_) => (0u8, String::new()),
            Err(reason) => (1, reason.chars().take(REASON_BYTES_MAX / 4).collect()),
        };
        let answer = [&[status][..], &(reason.len() as u16).to_le_bytes(), reason.as_bytes()].concat();
        let greeted = stream.write_all(&answer).and_then(|()| stream.set_read_timeout(None));
        let greeted = greeted.and_then(|()| stream.set_write_timeout(None));
        let (link, channels) = claimed?;
        link.run(channels, stream, peer, greeted);
        // Ended or broken: link ids never come again.
        self.links().retain(|_, entry| !matches!(entry, Entry::Served(other) if Arc::ptr_eq(other, &link)));
        Ok(())
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        if shared.stopped.load(Ordering::Acquire) {
            return;
        }
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, peer.to_string()),
            Err(e) => {
                // Out of descriptors, or a connection that was gone at once: neither is a reason to stop listening.
                tracing::warn!("a connection from another TaskManager was not taken: {e}");
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
        };
        if shared.greeting.fetch_add(1, Ordering::AcqRel) >= GREETINGS_MAX {
            shared.greeting.fetch_sub(1, Ordering::AcqRel);
            tracing::warn!(
                "a connection from {peer} was closed: {GREETINGS_MAX} others have not said yet what they want"
            );
            let _ = stream.shutdown(Shutdown::Both);
            continue;
        }
        let own = Arc::clone(shared);
        let served = thread("network-serve", move || {
            if let Err(e) = own.serve(&stream, &peer) {
                tracing::warn!("a connection from {peer} was refused: {e}");
            }
        });
        if let Err(e) = served {
            shared.greeting.fetch_sub(1, Ordering::AcqRel);
            tracing::warn!("a connection was closed: {e}");
        }
    }
}
