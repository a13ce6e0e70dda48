//! Channels between tasks of different processes. Moves elements; never decides what a broken connection means for a job.
//!
//! A *link* carries all channels from the tasks of one TaskManager to the tasks of another, for one attempt of one job, over one TCP
//! connection. The consumer dials, says which link it wants and how much each channel may hold (the *window*); the producer answers and
//! sends frames. Each side keeps an ordinary channel of `flott-runtime` in front of its task, so a task cannot tell a remote neighbour
//! from one in its own process.
//!
//! A channel's elements are sent only while the consumer has room for them, so that its reader never waits and one slow channel never
//! holds up its neighbours on the connection. Credit is a count of what the consumer's task has taken, hence idempotent. While there is
//! none, the producer's queue takes nothing more, so that a barrier waits in front of it, where the producing task can have it overtake.
//! One that was queued before that takes what is ahead of it along without credit: at most one queue, because nothing more comes until
//! there is room again. What a barrier overtakes at the consumer, the consumer's task stores.
//!
//! Nothing waits for a timer: a frame is written as soon as there is something to write.

mod batch;
mod credit;
mod decode;
mod frame;
mod incoming;
mod outgoing;
mod server;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};

use flott_core::error::{Error, Result};
use flott_core::ids::JobId;
use serde::{Deserialize, Serialize};

pub use incoming::{IncomingChannel, IncomingLink};
pub use server::{DataServer, OutgoingLink};

/// Signals that a channel may have under way beyond its batches.
pub(crate) const SIGNALS_MAX: u64 = 32;
/// Batches of the producer's own queue, which an overtaking barrier may take along without credit.
pub(crate) const OVERDRAFT_MAX: u64 = 4;

/// A cluster, as its processes know it: those of another one are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterId(pub u128);

/// One link of one attempt of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LinkId {
    /// The job.
    pub job: JobId,
    /// The generation of its JobManager.
    pub generation: u64,
    /// The attempt within the generation.
    pub attempt: u32,
    /// Which TaskManager of the attempt writes.
    pub producer: u32,
    /// Which one reads.
    pub consumer: u32,
}

impl std::fmt::Display for LinkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let LinkId { job, generation, attempt, producer, consumer } = self;
        write!(f, "job {job}, generation {generation}, attempt {attempt}, from TaskManager {producer} to {consumer}")
    }
}

/// How frames of rows are compressed. Numbers are part of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// LZ4 blocks.
    Lz4 = 1,
    /// Zstandard, level 1.
    Zstd = 2,
}

/// How a link behaves. Window, compression and length of frames are the consumer's to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkOptions {
    /// Batches of a channel that may be under way or wait for the consumer; at least 1.
    pub window_batches: u32,
    /// Bytes of a channel that may: one batch more is sent when there are less.
    pub window_bytes: u32,
    /// Compression of rows.
    pub compression: Compression,
    /// Longest frame; a batch that takes more fails its job.
    pub frame_bytes_max: u32,
    /// How long dialing, and each step of the greeting, may take.
    pub connect_timeout_ms: u64,
    /// How long a producer waits for its side of a link that somebody asks for.
    pub register_timeout_ms: u64,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        NetworkOptions {
            window_batches: 8,
            window_bytes: 4 << 20,
            compression: Compression::None,
            frame_bytes_max: 1 << 30,
            connect_timeout_ms: 10_000,
            register_timeout_ms: 30_000,
        }
    }
}

/// Hears, once, that a link broke: the tasks at its ends wait until somebody stops them. Called on a thread of the link, which must not
/// be made to wait for whoever drops it.
pub type OnBroken = Box<dyn FnOnce(Error) + Send>;

/// Locks, also after a thread has panicked: that ends its link anyway.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the operating system said, as somebody who looks at a log wants to read it.
pub(crate) fn plain(e: &std::io::Error) -> String {
    use std::io::ErrorKind::{TimedOut, UnexpectedEof, WouldBlock};
    match e.kind() {
        UnexpectedEof => "it closed the connection".into(),
        WouldBlock | TimedOut => "it did not answer in time".into(),
        _ => e.to_string(),
    }
}

/// Runs a part of a link; a panic in it is an error that somebody hears.
pub(crate) fn caught(run: impl FnOnce() -> Result<()>) -> Result<()> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|_| {
        Err(Error::bug("the network between TaskManagers panicked; the place is on standard error"))
    })
}

/// The connection to `peer` broke.
pub(crate) fn lost(peer: &str, why: &std::io::Error) -> Error {
    Error::retry("network.lost", format!("the connection to TaskManager {peer} broke: {}", plain(why))).hint(
        "the job restarts from its last checkpoint; look at that TaskManager's log, and at the network between the two",
    )
}

/// What `peer` sent is not what a TaskManager of this version sends.
pub(crate) fn malformed(peer: &str, what: impl std::fmt::Display) -> Error {
    Error::retry("network.frame", format!("TaskManager {peer} sent something that cannot be read: {what}"))
        .hint("both must run the same version of Flott; anything else is a defect of the network or of Flott")
}
