//! What tables made of segments share: how a slot names a segment and a place in it, how segments are numbered, and how parts of one
//! are shared with snapshots until they are written to. Never knows what a segment holds.

use std::sync::Arc;

use flott_core::error::{Error, Result};
use flott_core::state::Slot;

/// Entries per segment.
pub(crate) const SEGMENT_ROWS: usize = 4096;
/// Bits of a slot that address the entry within its segment.
pub(crate) const OFFSET_BITS: u32 = 12;
/// Segments per table; one less than fits, so that no slot equals `NO_SLOT`.
const SEGMENTS_MAX: usize = (1 << (32 - OFFSET_BITS)) - 1;

#[inline]
pub(crate) fn segment_of(slot: Slot) -> usize {
    (slot >> OFFSET_BITS) as usize
}

#[inline]
pub(crate) fn offset_of(slot: Slot) -> usize {
    slot as usize & (SEGMENT_ROWS - 1)
}

/// The segment of a slot, and the offset within it.
#[inline]
pub(crate) fn place(slot: Slot) -> (usize, usize) {
    (segment_of(slot), offset_of(slot))
}

/// Puts a segment where one was given up, or behind the last one; returns its number.
pub(crate) fn add_segment<S>(segments: &mut Vec<Option<S>>, free: &mut Vec<u32>, segment: S) -> Result<u32> {
    if let Some(at) = free.pop() {
        segments[at as usize] = Some(segment);
        return Ok(at);
    }
    if segments.len() >= SEGMENTS_MAX {
        return Err(Error::user("state.table_full", format!("a state table is full: {SEGMENTS_MAX} segments"))
            .hint("raise the parallelism so that each subtask holds less, or expire state"));
    }
    segments.push(Some(segment));
    Ok((segments.len() - 1) as u32)
}

/// Owned by the table, or shared with snapshots and therefore copied before a write.
pub(crate) enum Shared<T> {
    /// Nobody else sees it.
    Own(T),
    /// A snapshot may be reading it.
    Frozen(Arc<T>),
}

impl<T: Clone + Default> Shared<T> {
    #[inline]
    pub(crate) fn get(&self) -> &T {
        match self {
            Shared::Own(t) => t,
            Shared::Frozen(t) => t,
        }
    }
    /// Makes it readable by a snapshot.
    pub(crate) fn freeze(&mut self) -> Arc<T> {
        if let Shared::Own(t) = self {
            *self = Shared::Frozen(Arc::new(std::mem::take(t)));
        }
        match self {
            Shared::Frozen(t) => Arc::clone(t),
            Shared::Own(_) => unreachable!("frozen above"),
        }
    }
    /// To write to. With the first write since a cut `versions` counts on, and its segment's `version` becomes the new count.
    #[inline]
    pub(crate) fn write(&mut self, version: &mut u64, versions: &mut u64) -> &mut T {
        if let Shared::Frozen(_) = self {
            self.thaw();
            *versions += 1;
            *version = *versions;
        }
        match self {
            Shared::Own(t) => t,
            Shared::Frozen(_) => unreachable!("thawed above"),
        }
    }
    /// Takes it back; copies only while a snapshot still reads it.
    #[cold]
    fn thaw(&mut self) {
        if let Shared::Frozen(arc) = self {
            let arc = std::mem::take(arc);
            *self = Shared::Own(Arc::try_unwrap(arc).unwrap_or_else(|still_read| T::clone(&still_read)));
        }
    }
}
