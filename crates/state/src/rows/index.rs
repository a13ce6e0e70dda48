//! From the low half of a key hash to a slot: open addressing with linear probing, one cache line per look-up. Never sees keys.

use flott_core::state::{NO_SLOT, Slot};

/// Entries from which on a batch's look-ups are worth touching ahead: 32 KiB, the size of a first-level cache.
const LARGE: usize = 4096;
const MIN_CAPACITY: usize = 4;

#[derive(Clone, Copy)]
struct Entry {
    tag: u32,
    /// `NO_SLOT` when the place is empty.
    slot: Slot,
}

const EMPTY: Entry = Entry { tag: 0, slot: NO_SLOT };

/// The slots of a namespace by hash. Growing needs no look at the keys.
#[derive(Default)]
pub(crate) struct SlotIndex {
    /// A power of two of places, at most 11/16 of them taken.
    entries: Vec<Entry>,
    shift: u32,
    len: usize,
}

impl SlotIndex {
    pub(crate) fn len(&self) -> usize {
        self.len
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Bytes on the heap.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }
    /// Whether look-ups are likely to miss the cache.
    pub(crate) fn is_large(&self) -> bool {
        self.entries.len() > LARGE
    }

    #[inline]
    fn home(&self, tag: u32) -> usize {
        (u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    /// The first slot a look-up would try: loads the cache line without a branch.
    #[inline]
    pub(crate) fn peek(&self, tag: u32) -> Slot {
        self.entries.get(self.home(tag)).map_or(NO_SLOT, |e| e.slot)
    }

    /// The slot under `tag` for which `is_it` holds.
    #[inline]
    pub(crate) fn find(&self, tag: u32, mut is_it: impl FnMut(Slot) -> bool) -> Option<Slot> {
        if self.entries.is_empty() {
            return None;
        }
        let mask = self.entries.len() - 1;
        let mut at = self.home(tag);
        loop {
            let entry = self.entries[at & mask];
            if entry.slot == NO_SLOT {
                return None;
            }
            if entry.tag == tag && is_it(entry.slot) {
                return Some(entry.slot);
            }
            at += 1;
        }
    }

    /// Adds a slot that is not there yet.
    pub(crate) fn insert(&mut self, tag: u32, slot: Slot) {
        if (self.len + 1) * 16 > self.entries.len() * 11 {
            self.grow();
        }
        self.place(Entry { tag, slot });
        self.len += 1;
    }

    fn place(&mut self, entry: Entry) {
        let mask = self.entries.len() - 1;
        let mut at = self.home(entry.tag);
        while self.entries[at & mask].slot != NO_SLOT {
            at += 1;
        }
        self.entries[at & mask] = entry;
    }

    fn grow(&mut self) {
        let capacity = (self.entries.len() * 2).max(MIN_CAPACITY);
        let old = std::mem::replace(&mut self.entries, vec![EMPTY; capacity]);
        self.shift = 64 - capacity.trailing_zeros();
        old.into_iter().filter(|e| e.slot != NO_SLOT).for_each(|e| self.place(e));
    }

    /// Removes a slot; later entries of its run move up, so that no tombstones are left.
    pub(crate) fn remove(&mut self, tag: u32, slot: Slot) {
        if self.entries.is_empty() {
            return;
        }
        let mask = self.entries.len() - 1;
        let mut hole = self.home(tag) & mask;
        while self.entries[hole].slot != slot {
            if self.entries[hole].slot == NO_SLOT {
                return;
            }
            hole = (hole + 1) & mask;
        }
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let entry = self.entries[at];
            if entry.slot == NO_SLOT {
                break;
            }
            let from_home = at.wrapping_sub(self.home(entry.tag)) & mask;
            if from_home >= at.wrapping_sub(hole) & mask {
                self.entries[hole] = entry;
                hole = at;
            }
        }
        self.entries[hole] = EMPTY;
        self.len -= 1;
    }
}
