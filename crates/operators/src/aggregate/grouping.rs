//! The groups that one batch touches: a dense number per group, its slot, its image. Lives for one batch, keeps its memory.

use flott_core::state::{RowTable, Slot};

/// Groups of a batch, numbered in order of first appearance.
#[derive(Default)]
pub(crate) struct Grouping {
    /// Group of each row.
    pub gids: Vec<u32>,
    /// Slot of each group.
    pub slots: Vec<Slot>,
    /// First row of each group.
    pub first_rows: Vec<u32>,
    /// Row image of each group, back to back.
    pub images: Vec<u8>,
    table: Vec<u64>,
}

const EMPTY: u64 = u64::MAX;

impl Grouping {
    /// Numbers the groups of `slots`, one per row.
    pub(crate) fn assign(&mut self, slots: &[Slot]) {
        self.gids.clear();
        self.slots.clear();
        self.first_rows.clear();
        let capacity = (slots.len() * 2).next_power_of_two().max(16);
        self.table.clear();
        self.table.resize(capacity, EMPTY);
        let shift = 64 - capacity.trailing_zeros();
        for (row, &slot) in slots.iter().enumerate() {
            let mut at = (u64::from(slot).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> shift) as usize;
            let gid = loop {
                let entry = self.table[at];
                if entry == EMPTY {
                    let gid = self.slots.len() as u32;
                    self.table[at] = (u64::from(slot) << 32) | u64::from(gid);
                    self.slots.push(slot);
                    self.first_rows.push(row as u32);
                    break gid;
                }
                if (entry >> 32) as u32 == slot {
                    break entry as u32;
                }
                at = (at + 1) & (capacity - 1);
            };
            self.gids.push(gid);
        }
    }
    /// Number of groups.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
    /// Copies the rows of all groups out of the table.
    pub(crate) fn gather(&mut self, width: usize, table: &mut dyn RowTable) {
        self.images.clear();
        self.images.resize(self.slots.len() * width, 0);
        let images = &mut self.images;
        table.update(&self.slots, &mut |g, row| images[g * width..(g + 1) * width].copy_from_slice(row));
    }
    /// Copies the images back.
    pub(crate) fn scatter(&self, width: usize, table: &mut dyn RowTable) {
        let images = &self.images;
        table.update(&self.slots, &mut |g, row| row.copy_from_slice(&images[g * width..(g + 1) * width]));
    }
}
