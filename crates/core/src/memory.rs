//! The memory budget of a process: one number, drawn on by everything that buffers. Never allocates and never blocks.
//!
//! Fetch queues, channels, sink buffers and state reserve what they hold and give it back when they let go. Who finds the
//! budget empty slows down: a source polls later, a sink says busy. A reservation may exceed the budget only where a single
//! item is larger than all of it and its pool is empty, so that one large message slows the job instead of stopping it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Who draws on the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryUse {
    /// What sources fetched and did not hand out.
    Fetch,
    /// What waits in channels between tasks.
    Network,
    /// What sinks took and did not write.
    Sink,
    /// Keyed state.
    State,
}

impl MemoryUse {
    /// All of them, in the order of tables.
    pub const ALL: [MemoryUse; 4] = [MemoryUse::Fetch, MemoryUse::Network, MemoryUse::Sink, MemoryUse::State];

    /// As in messages and metrics.
    pub fn name(self) -> &'static str {
        match self {
            MemoryUse::Fetch => "fetch",
            MemoryUse::Network => "network",
            MemoryUse::Sink => "sink",
            MemoryUse::State => "state",
        }
    }
}

#[derive(Debug)]
struct Pool {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
    peak_bytes: AtomicUsize,
    refused: AtomicUsize,
}

/// What became of the budget of one use. Sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryFigures {
    /// The use.
    pub of: MemoryUse,
    /// Its limit; `usize::MAX`: none.
    pub limit_bytes: usize,
    /// Reserved now.
    pub used_bytes: usize,
    /// The most that was reserved at once.
    pub peak_bytes: usize,
    /// How often somebody had to wait for room.
    pub refused: usize,
}

/// The budget of a process, shared by all its tasks. Cloning shares it.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    pools: Arc<[Pool; 4]>,
}

impl MemoryBudget {
    /// A budget of so many bytes for each use.
    pub fn new(limit_bytes: impl Fn(MemoryUse) -> usize) -> Self {
        let pool = |of| Pool {
            limit_bytes: limit_bytes(of),
            used_bytes: AtomicUsize::new(0),
            peak_bytes: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        };
        MemoryBudget { pools: Arc::new(MemoryUse::ALL.map(pool)) }
    }

    /// A budget that refuses nothing, for tests and tools.
    pub fn unlimited() -> Self {
        Self::new(|_| usize::MAX)
    }

    /// Whether it refuses nothing.
    pub fn is_unlimited(&self) -> bool {
        self.pools.iter().all(|p| p.limit_bytes == usize::MAX)
    }

    /// The figures of all uses, in the order of tables.
    pub fn figures(&self) -> [MemoryFigures; 4] {
        MemoryUse::ALL.map(|of| MemoryFigures {
            of,
            limit_bytes: self.limit_bytes(of),
            used_bytes: self.used_bytes(of),
            peak_bytes: self.peak_bytes(of),
            refused: self.refused(of),
        })
    }

    fn pool(&self, of: MemoryUse) -> &Pool {
        &self.pools[of as usize]
    }

    /// The limit of a use, in bytes.
    pub fn limit_bytes(&self, of: MemoryUse) -> usize {
        self.pool(of).limit_bytes
    }
    /// What is reserved now, in bytes.
    pub fn used_bytes(&self, of: MemoryUse) -> usize {
        self.pool(of).used_bytes.load(Ordering::Relaxed)
    }
    /// The most that was reserved at once, in bytes.
    pub fn peak_bytes(&self, of: MemoryUse) -> usize {
        self.pool(of).peak_bytes.load(Ordering::Relaxed)
    }
    /// How often a reservation was refused.
    pub fn refused(&self, of: MemoryUse) -> usize {
        self.pool(of).refused.load(Ordering::Relaxed)
    }

    /// Reserves `bytes`, or nothing when they do not fit. What is larger than the whole limit fits when nothing else is reserved.
    pub fn try_reserve(&self, of: MemoryUse, bytes: usize) -> Option<Reservation> {
        let pool = self.pool(of);
        let taken = pool.used_bytes.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |used| {
            let sum = used.checked_add(bytes)?;
            (sum <= pool.limit_bytes || used == 0).then_some(sum)
        });
        match taken {
            Ok(before) => {
                pool.peak_bytes.fetch_max(before + bytes, Ordering::Relaxed);
                Some(Reservation { budget: self.clone(), of, bytes })
            }
            Err(_) => {
                pool.refused.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// Reserves `bytes` whatever the limit: for what exists already. The next [`Self::try_reserve`] feels it.
    pub fn reserve(&self, of: MemoryUse, bytes: usize) -> Reservation {
        let pool = self.pool(of);
        let before = pool.used_bytes.fetch_add(bytes, Ordering::AcqRel);
        pool.peak_bytes.fetch_max(before.saturating_add(bytes), Ordering::Relaxed);
        Reservation { budget: self.clone(), of, bytes }
    }
}

/// Bytes drawn from a budget; dropping it gives them back.
#[derive(Debug)]
#[must_use]
pub struct Reservation {
    budget: MemoryBudget,
    of: MemoryUse,
    bytes: usize,
}

impl Reservation {
    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
    /// Holds `bytes` from now on, more or fewer, whatever the limit: for what is measured rather than asked for.
    pub fn resize(&mut self, bytes: usize) {
        if bytes > self.bytes {
            let pool = self.budget.pool(self.of);
            let before = pool.used_bytes.fetch_add(bytes - self.bytes, Ordering::AcqRel);
            pool.peak_bytes.fetch_max(before.saturating_add(bytes - self.bytes), Ordering::Relaxed);
            self.bytes = bytes;
        }
        self.shrink_to(bytes);
    }
    /// Gives back all but `bytes`; does nothing when less is held.
    pub fn shrink_to(&mut self, bytes: usize) {
        if bytes < self.bytes {
            self.budget.pool(self.of).used_bytes.fetch_sub(self.bytes - bytes, Ordering::AcqRel);
            self.bytes = bytes;
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.pool(self.of).used_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// A size as people write it: in the largest unit of which it is a whole number, or ten or more.
pub fn size(bytes: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "tb"), (30, "gb"), (20, "mb"), (10, "kb")];
    for (shift, unit) in UNITS {
        let one = 1u64 << shift;
        if bytes >= one && (bytes.is_multiple_of(one) || bytes >= one * 10) {
            return format!("{} {unit}", (bytes / one) + u64::from(bytes % one >= one / 2));
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_comes_back_and_one_large_item_passes_alone() {
        let budget = MemoryBudget::new(|of| if of == MemoryUse::Fetch { 100 } else { 0 });
        let mut a = budget.try_reserve(MemoryUse::Fetch, 60).expect("60 of 100");
        assert!(budget.try_reserve(MemoryUse::Fetch, 50).is_none());
        assert_eq!(budget.refused(MemoryUse::Fetch), 1);
        a.shrink_to(50);
        let b = budget.try_reserve(MemoryUse::Fetch, 50).expect("50 and 50 of 100");
        drop((a, b));
        assert_eq!(budget.used_bytes(MemoryUse::Fetch), 0);
        let mut measured = budget.reserve(MemoryUse::State, 10);
        measured.resize(70);
        measured.resize(30);
        let state = budget.figures()[MemoryUse::State as usize];
        assert_eq!((state.used_bytes, state.peak_bytes, state.limit_bytes), (30, 70, 0));
        let large = budget.try_reserve(MemoryUse::Fetch, 500).expect("larger than all, and alone");
        assert!(budget.try_reserve(MemoryUse::Fetch, 1).is_none());
        drop(large);
        assert_eq!((budget.used_bytes(MemoryUse::Fetch), budget.peak_bytes(MemoryUse::Fetch)), (0, 500));
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1 << 30, "1 gb"),
            (1728 * (1 << 20), "1728 mb"),
            (1536, "1536 bytes"),
            (u64::MAX, "16777216 tb"),
            (25 << 30, "25 gb"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
