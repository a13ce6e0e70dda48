//! How a link looks on the wire: the greeting, and the header in front of every frame. Knows no sockets.
//!
//! Little-endian. The consumer sends the greeting; the producer answers a status byte (0: welcome), a u16 length and, when it
//! refuses, its reason. Then frames: a header of 16 bytes and a payload, rows and signals to the consumer, credit to the producer.

use flott_core::element::{Barrier, BarrierOptions, Signal};
use flott_core::ids::{CheckpointId, JobId};
use flott_core::time::EventTime;

use super::{ClusterId, Compression, LinkId};

/// First bytes of a greeting.
pub(super) const MAGIC: [u8; 4] = *b"FLTD";
/// Version of everything in this file and in `batch`.
pub(super) const VERSION: u16 = 1;
/// Bytes of a greeting.
pub(super) const GREETING_BYTES: usize = 88;
/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 16;
/// What somebody hears who does not begin with [`MAGIC`].
pub(super) const STRANGER: &str = "this port takes connections of Flott's TaskManagers only";
/// Longest reason of a refusal.
pub(super) const REASON_BYTES_MAX: usize = 4096;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Rows.
    Batch,
    /// A signal.
    Signal,
    /// Nothing: the channel has ended as it should.
    Close,
    /// What a consumer's task has taken.
    Credit,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) compression: Compression,
    /// Which channel of the link.
    pub(super) channel: u32,
    /// Bytes that follow.
    pub(super) len: u32,
}

impl Header {
    /// len, channel, kind, compression, two zero bytes, CRC-32 of all that.
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..4].copy_from_slice(&self.len.to_le_bytes());
        out[4..8].copy_from_slice(&self.channel.to_le_bytes());
        out[8] = match self.kind {
            Kind::Batch => 1,
            Kind::Signal => 2,
            Kind::Close => 3,
            Kind::Credit => 4,
        };
        out[9] = compression_code(self.compression);
        let sum = crc32fast::hash(&out[..12]);
        out[12..].copy_from_slice(&sum.to_le_bytes());
        out
    }
    /// What is wrong with it, otherwise.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES], frame_bytes_max: u32) -> Result<Self, String> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if word(12) != crc32fast::hash(&bytes[..12]) {
            return Err("the checksum of a frame's header does not fit".into());
        }
        let kind = match bytes[8] {
            1 => Kind::Batch,
            2 => Kind::Signal,
            3 => Kind::Close,
            4 => Kind::Credit,
            n => return Err(format!("a frame of kind {n}, expected 1 to 4")),
        };
        let compression = compression(bytes[9]).ok_or_else(|| format!("compression {}, expected 0 to 2", bytes[9]))?;
        let (len, channel) = (word(0), word(4));
        if len > frame_bytes_max {
            return Err(format!("a frame of {len} bytes; at most {frame_bytes_max} are taken"));
        }
        Ok(Header { kind, compression, channel, len })
    }
}

fn compression_code(of: Compression) -> u8 {
    match of {
        Compression::None => 0,
        Compression::Lz4 => 1,
        Compression::Zstd => 2,
    }
}

fn compression(code: u8) -> Option<Compression> {
    [Compression::None, Compression::Lz4, Compression::Zstd].get(usize::from(code)).copied()
}

/// What a consumer says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    pub(super) cluster: ClusterId,
    pub(super) link: LinkId,
    /// Number of channels, and a digest of their addresses: both sides must have planned the same.
    pub(super) channels: u32,
    pub(super) digest: u64,
    pub(super) window_batches: u32,
    pub(super) window_bytes: u32,
    pub(super) frame_bytes_max: u32,
    pub(super) compression: Compression,
}

impl Greeting {
    pub(super) fn encode(&self) -> [u8; GREETING_BYTES] {
        let mut out = Vec::with_capacity(GREETING_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[compression_code(self.compression), 0]);
        out.extend_from_slice(&self.cluster.0.to_le_bytes());
        out.extend_from_slice(&self.link.job.0.to_le_bytes());
        out.extend_from_slice(&self.link.generation.to_le_bytes());
        for n in [self.link.attempt, self.link.producer, self.link.consumer, self.channels] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out.extend_from_slice(&self.digest.to_le_bytes());
        for n in [self.window_batches, self.window_bytes, self.frame_bytes_max] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        let sum = crc32fast::hash(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out.try_into().unwrap_or([0; GREETING_BYTES])
    }
    /// What is wrong with it, otherwise.
    pub(super) fn decode(bytes: &[u8; GREETING_BYTES]) -> Result<Self, String> {
        if bytes[..4] != MAGIC {
            return Err(STRANGER.into());
        }
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        if version != VERSION {
            return Err(format!("version {version} of the data protocol; this TaskManager speaks version {VERSION}"));
        }
        let mut f = Fields(&bytes[6..]);
        let read = |f: &mut Fields<'_>| {
            let compression = compression(f.array::<1>()?[0])?;
            f.array::<1>()?;
            let cluster = ClusterId(u128::from_le_bytes(f.array()?));
            let job = JobId(u128::from_le_bytes(f.array()?));
            let generation = f.u64()?;
            let link = LinkId { job, generation, attempt: f.u32()?, producer: f.u32()?, consumer: f.u32()? };
            let (channels, digest) = (f.u32()?, f.u64()?);
            let (window_batches, window_bytes, frame_bytes_max) = (f.u32()?, f.u32()?, f.u32()?);
            let greeting = Greeting {
                cluster,
                link,
                channels,
                digest,
                window_batches,
                window_bytes,
                frame_bytes_max,
                compression,
            };
            (f.u32()? == crc32fast::hash(&bytes[..GREETING_BYTES - 4])).then_some(greeting)
        };
        let greeting = read(&mut f).ok_or("a damaged greeting")?;
        if greeting.window_batches == 0 || greeting.window_bytes == 0 {
            return Err("a window without room".into());
        }
        Ok(greeting)
    }
}

/// Reads fields; `None` when the bytes end too soon.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }
    pub(super) fn byte(&mut self) -> Option<u8> {
        Some(self.array::<1>()?[0])
    }
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }
}

const WATERMARK: u8 = 1;
const IDLE: u8 = 2;
const ACTIVE: u8 = 3;
const BARRIER: u8 = 4;
const LATENCY: u8 = 5;
const END_OF_DATA: u8 = 6;
/// Stands for a barrier that never overtakes.
const NEVER: u32 = u32::MAX;

/// A signal as a payload.
pub(super) fn encode_signal(signal: &Signal) -> Vec<u8> {
    let number = |code: u8, n: i64| [&[code][..], &n.to_le_bytes()].concat();
    match signal {
        Signal::Watermark(w) => number(WATERMARK, w.0),
        Signal::Idle => vec![IDLE],
        Signal::Active => vec![ACTIVE],
        Signal::LatencyMarker { emitted_ms } => number(LATENCY, *emitted_ms),
        Signal::EndOfData => vec![END_OF_DATA],
        Signal::Barrier(b) => {
            let o = &b.options;
            let mut out = vec![BARRIER];
            out.extend_from_slice(&b.checkpoint.0.to_le_bytes());
            out.extend_from_slice(&b.triggered_ms.to_le_bytes());
            out.push(u8::from(o.at_least_once) | u8::from(o.savepoint) << 1 | u8::from(o.last) << 2);
            out.extend_from_slice(&o.unaligned_after_ms.unwrap_or(NEVER).to_le_bytes());
            out
        }
    }
}

/// The signal of a payload, if it is one.
pub(super) fn decode_signal(bytes: &[u8]) -> Option<Signal> {
    let mut f = Fields(bytes);
    let signal = match f.byte()? {
        WATERMARK => Signal::Watermark(EventTime(f.i64()?)),
        IDLE => Signal::Idle,
        ACTIVE => Signal::Active,
        LATENCY => Signal::LatencyMarker { emitted_ms: f.i64()? },
        END_OF_DATA => Signal::EndOfData,
        BARRIER => {
            let (checkpoint, triggered_ms, flags) = (CheckpointId(f.u64()?), f.i64()?, f.byte()?);
            let after = f.u32()?;
            let options = BarrierOptions {
                at_least_once: flags & 1 != 0,
                savepoint: flags & 2 != 0,
                last: flags & 4 != 0,
                unaligned_after_ms: (after != NEVER).then_some(after),
            };
            (flags < 8).then_some(Signal::Barrier(Barrier { checkpoint, triggered_ms, options }))?
        }
        _ => return None,
    };
    f.0.is_empty().then_some(signal)
}
