//! Key groups: the unit in which keyed state is split over subtasks and moved when a job is rescaled.
//!
//! Ranges are Flink's (`max parallelism`, operator index); the key hash is our own and stable for ever:
//! XXH3-64 over the canonical key bytes. A changed hash would orphan every checkpoint.

use serde::{Deserialize, Serialize};

/// A key group: below the job's max parallelism.
pub type KeyGroup = u16;

/// Largest max parallelism, as in Flink.
pub const MAX_PARALLELISM_LIMIT: u32 = 32_768;

/// The stable hash of canonical key bytes.
#[inline]
pub fn key_hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

/// The key group of a key hash.
#[inline]
pub fn key_group_of(hash: u64, max_parallelism: u32) -> KeyGroup {
    // The high half: tables index their slots by the low half, and the two must not correlate.
    (((hash >> 32) * u64::from(max_parallelism)) >> 32) as KeyGroup
}

/// `hash` moved into `group`, its low half kept: for keys that live with another key, such as the distinct values of a group.
#[inline]
pub fn hash_in_group(hash: u64, group: KeyGroup, max_parallelism: u32) -> u64 {
    let high = (u64::from(group) << 32).div_ceil(u64::from(max_parallelism));
    (high << 32) | (hash & 0xFFFF_FFFF)
}

/// The subtask that owns `group`: Flink's formula.
#[inline]
pub fn subtask_of(group: KeyGroup, max_parallelism: u32, parallelism: u32) -> u32 {
    u32::from(group) * parallelism / max_parallelism
}

/// Flink's automatic max parallelism for an operator: 1.5 times its parallelism, rounded up to a power of
/// two, within 128 and 32,768.
pub fn default_max_parallelism(parallelism: u32) -> u32 {
    (parallelism + parallelism / 2).next_power_of_two().clamp(128, MAX_PARALLELISM_LIMIT)
}

/// A contiguous range of key groups, `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyGroupRange {
    /// First group.
    pub start: u32,
    /// One past the last group.
    pub end: u32,
}

impl KeyGroupRange {
    /// The groups of subtask `index` of `parallelism`: Flink's formula.
    pub fn of_subtask(max_parallelism: u32, parallelism: u32, index: u32) -> Self {
        debug_assert!(index < parallelism && parallelism <= max_parallelism);
        let start = (index * max_parallelism).div_ceil(parallelism);
        let end = ((index + 1) * max_parallelism - 1) / parallelism + 1;
        KeyGroupRange { start, end }
    }
    /// Whether `group` lies in the range.
    pub fn contains(&self, group: KeyGroup) -> bool {
        (self.start..self.end).contains(&u32::from(group))
    }
    /// The groups in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = KeyGroup> + use<> {
        (self.start..self.end).map(|g| g as KeyGroup)
    }
    /// Number of groups.
    pub fn len(&self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// What both ranges hold.
    pub fn intersect(&self, other: &Self) -> Self {
        let start = self.start.max(other.start);
        KeyGroupRange { start, end: self.end.min(other.end).max(start) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_every_group_once_and_agree_with_the_owner() {
        for max in [1u32, 7, 128, 1000] {
            for p in 1..=max.min(17) {
                let mut next = 0;
                for i in 0..p {
                    let r = KeyGroupRange::of_subtask(max, p, i);
                    assert_eq!(r.start, next);
                    for g in r.iter() {
                        assert_eq!(subtask_of(g, max, p), i, "max {max} p {p} group {g}");
                    }
                    next = r.end;
                }
                assert_eq!(next, max);
            }
        }
    }

    #[test]
    fn a_hash_moves_into_any_group() {
        for max in [1u32, 7, 128, 1000, 32_768] {
            for group in [0, max / 3, max - 1].map(|g| g as KeyGroup) {
                let moved = hash_in_group(0x0123_4567_89ab_cdef, group, max);
                assert_eq!((key_group_of(moved, max), moved as u32), (group, 0x89ab_cdef));
            }
        }
    }

    #[test]
    fn the_hash_is_frozen() {
        assert_eq!(key_hash(b"flott"), key_hash(b"flott"));
        assert_eq!(key_hash(b""), 0x2d06_8005_38d3_94c2);
        assert!(key_group_of(u64::MAX, 128) == 127 && key_group_of(0, 128) == 0);
    }
}
