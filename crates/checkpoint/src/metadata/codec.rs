//! The frame around every file of ours in a checkpoint directory: magic, version, length, CRC; never guesses.
//!
//! Layout, little-endian: magic (8 bytes), version (u32), payload length (u64), CRC-32 of all bytes but itself (u32),
//! payload (postcard).

use flott_core::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

const HEADER: usize = 8 + 4 + 8 + 4;

/// A kind of framed file.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// First eight bytes.
    pub magic: [u8; 8],
    /// The version written, and the only one read by this frame.
    pub version: u32,
    /// What it is called in errors.
    pub noun: &'static str,
}

/// `chk-N/_metadata`.
pub const METADATA: Frame = Frame { magic: *b"FLOTT\x00CP", version: 1, noun: "checkpoint metadata" };

/// `chk-N/_metadata` with rows in flight.
pub const METADATA_IN_FLIGHT: Frame = Frame { version: 2, ..METADATA };

impl Frame {
    /// The framed bytes of a value.
    pub fn encode<T: Serialize>(&self, value: &T) -> Vec<u8> {
        let payload = postcard::to_stdvec(value).expect("values of ours are made of types that postcard can encode");
        let mut out = Vec::with_capacity(HEADER + payload.len());
        out.extend_from_slice(&self.magic);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        let crc = checksum(&out, &payload);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&payload);
        out
    }

    /// Whether these are bytes of this version, or no version can be told.
    pub fn is_version_of(&self, bytes: &[u8]) -> bool {
        bytes.get(8..12).is_none_or(|v| u32::from_le_bytes(array(v)) == self.version)
    }

    /// The value in framed bytes read from `path`.
    pub fn decode<T: DeserializeOwned>(&self, bytes: &[u8], path: &str) -> Result<T> {
        let payload = self.payload(bytes, path)?;
        postcard::take_from_bytes(payload).ok().filter(|(_, rest)| rest.is_empty()).map(|(value, _)| value).ok_or_else(
            || {
                Error::corrupt("checkpoint.malformed", format!("cannot read {} {path}", self.noun))
                    .detail("its checksum is right but its content is not what this version of Flott writes")
                    .hint("restore it with the version of Flott that wrote it")
            },
        )
    }

    fn payload<'a>(&self, bytes: &'a [u8], path: &str) -> Result<&'a [u8]> {
        let noun = self.noun;
        let seen = bytes.len().min(self.magic.len());
        if bytes[..seen] != self.magic[..seen] {
            return Err(Error::user("checkpoint.foreign", format!("{path} is not {noun} of Flott"))
                .detail(format!("it begins with {:02x?}, expected {:02x?}", &bytes[..seen], self.magic))
                .hint("name a chk-N directory, or its _metadata file, that Flott wrote"));
        }
        if bytes.len() < HEADER {
            return Err(self.truncated(bytes.len() as u64, HEADER as u64, path));
        }
        let version = u32::from_le_bytes(array(&bytes[8..12]));
        if version != self.version {
            return Err(Error::user(
                "checkpoint.version",
                format!("{noun} {path} has version {version}, which this Flott cannot read"),
            )
            .detail(format!("this Flott reads versions up to {}", self.version))
            .hint("restore it with the version of Flott that wrote it"));
        }
        let len = u64::from_le_bytes(array(&bytes[12..20]));
        let payload = &bytes[HEADER..];
        if (payload.len() as u64) < len {
            return Err(self.truncated(bytes.len() as u64, len.saturating_add(HEADER as u64), path));
        }
        let found = checksum(&bytes[..20], payload);
        let expected = u32::from_le_bytes(array(&bytes[20..24]));
        if found != expected || payload.len() as u64 != len {
            return Err(Error::corrupt("checkpoint.checksum", format!("{noun} {path} is damaged"))
                .detail(format!("its checksum is {found:08x}, expected {expected:08x}"))
                .hint("restore the file from a copy, or start from another checkpoint with -s PATH"));
        }
        Ok(payload)
    }

    fn truncated(&self, found: u64, expected: u64, path: &str) -> Error {
        Error::corrupt("checkpoint.truncated", format!("{} {path} is truncated", self.noun))
            .detail(format!("it has {found} bytes, expected {expected}"))
            .hint("restore the file from a copy, or start from another checkpoint with -s PATH")
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the caller slices exactly N bytes")
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(header);
    crc.update(payload);
    crc.finalize()
}
