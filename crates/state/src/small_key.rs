//! Byte strings that are mostly short, kept inline: keys of ordered tables. Never mutated once made.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;

const INLINE_BYTES_MAX: usize = 30;

/// An immutable byte string: up to 30 bytes inline, longer ones shared.
#[derive(Clone)]
pub(crate) enum SmallKey {
    /// Length and bytes.
    Inline(u8, [u8; INLINE_BYTES_MAX]),
    /// A longer one.
    Heap(Arc<[u8]>),
}

impl SmallKey {
    /// Longer keys lie on the heap.
    pub(crate) const INLINE_BYTES: usize = INLINE_BYTES_MAX;

    pub(crate) fn new(bytes: &[u8]) -> Self {
        if bytes.len() <= INLINE_BYTES_MAX {
            let mut inline = [0; INLINE_BYTES_MAX];
            inline[..bytes.len()].copy_from_slice(bytes);
            SmallKey::Inline(bytes.len() as u8, inline)
        } else {
            SmallKey::Heap(Arc::from(bytes))
        }
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            SmallKey::Inline(len, bytes) => &bytes[..usize::from(*len)],
            SmallKey::Heap(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for SmallKey {
    #[inline]
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for SmallKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for SmallKey {}

impl PartialOrd for SmallKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SmallKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}
