//! How a link looks on the wire: the greeting, and the header in front of every frame. Knows no sockets.
//!
//! Little-endian. The consumer sends the greeting; the producer answers a status byte (0: welcome), a u16 length and, when it
//! refuses, its reason. Then frames: a header of 16 bytes and a payload, rows and signals to the consumer, credit to the producer.

use flott_core::element::Signal;
use serde::{Deserialize, Serialize};

use super::{ClusterId, Compression, LinkId};

/// First bytes of a greeting.
pub(super) const MAGIC: [u8; 4] = *b"FLTD";
/// Version of everything in this file and in `batch`.
const VERSION: u16 = 1;
/// Bytes of a greeting: of magic, version, its fields as postcard with all numbers at their longest, and a CRC-32.
pub(super) const GREETING_BYTES: usize = 112;
/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 16;
/// What somebody hears who does not begin with [`MAGIC`].
pub(super) const STRANGER: &str = "this port takes connections of Flott's TaskManagers only";
/// Longest reason of a refusal.
pub(super) const REASON_BYTES_MAX: usize = 4096;

/// What a frame holds. Numbers are part of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Rows.
    Batch = 1,
    /// A signal.
    Signal = 2,
    /// Nothing: the channel has ended as it should.
    Close = 3,
    /// What a consumer's task has taken.
    Credit = 4,
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
        out[8] = self.kind as u8;
        out[9] = self.compression as u8;
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
        let kind = [Kind::Batch, Kind::Signal, Kind::Close, Kind::Credit].into_iter().find(|k| *k as u8 == bytes[8]);
        let kind = kind.ok_or_else(|| format!("a frame of kind {}, expected 1 to 4", bytes[8]))?;
        let compression = [Compression::None, Compression::Lz4, Compression::Zstd].get(usize::from(bytes[9])).copied();
        let compression = compression.ok_or_else(|| format!("compression {}, expected 0 to 2", bytes[9]))?;
        let (len, channel) = (word(0), word(4));
        if len > frame_bytes_max {
            return Err(format!("a frame of {len} bytes; at most {frame_bytes_max} are taken"));
        }
        Ok(Header { kind, compression, channel, len })
    }
}

/// What a consumer says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Magic, version, the fields as postcard, zeros, CRC-32 of all that.
    pub(super) fn encode(&self) -> [u8; GREETING_BYTES] {
        let mut out = [0; GREETING_BYTES];
        out[..4].copy_from_slice(&MAGIC);
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        postcard::to_slice(self, &mut out[6..GREETING_BYTES - 4]).expect("its length at most is 95 bytes");
        let sum = crc32fast::hash(&out[..GREETING_BYTES - 4]);
        out[GREETING_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
        out
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
        let (body, sum) = bytes.split_at(GREETING_BYTES - 4);
        if sum != crc32fast::hash(body).to_le_bytes() {
            return Err("a damaged greeting".into());
        }
        let greeting: Greeting = postcard::from_bytes(&body[6..]).map_err(|e| format!("a damaged greeting: {e}"))?;
        if greeting.window_batches == 0 || greeting.window_bytes == 0 {
            return Err("a window without room".into());
        }
        Ok(greeting)
    }
}

/// A signal as a payload.
pub(super) fn encode_signal(signal: &Signal) -> Vec<u8> {
    postcard::to_stdvec(signal).expect("signals are made of numbers and flags")
}

/// The signal of a payload, if it is one.
pub(super) fn decode_signal(bytes: &[u8]) -> Option<Signal> {
    postcard::take_from_bytes(bytes).ok().filter(|(_, rest)| rest.is_empty()).map(|(signal, _)| signal)
}
