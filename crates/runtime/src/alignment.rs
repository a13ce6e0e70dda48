//! Watermark alignment: sources of one group tell each other how far they are. Plain atomics; nobody waits here.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A group of sources that read at most so far ahead of the slowest. One per group name and job attempt.
#[derive(Debug)]
pub struct AlignmentGroup {
    max_drift_ms: i64,
    members: Mutex<Vec<Arc<AtomicI64>>>,
}

impl AlignmentGroup {
    /// A group whose splits may be at most `max_drift_ms` ahead of the group's lowest watermark.
    pub fn new(max_drift_ms: i64) -> Arc<Self> {
        Arc::new(AlignmentGroup { max_drift_ms, members: Mutex::new(Vec::new()) })
    }
    /// Adds a subtask. It does not hold the others back before it reports.
    pub fn join(self: &Arc<Self>) -> AlignmentMember {
        let watermark = Arc::new(AtomicI64::new(i64::MAX));
        self.members.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&watermark));
        AlignmentMember { group: Arc::clone(self), watermark }
    }
    /// The highest watermark a split may have and still be read.
    pub fn allowed_ms(&self) -> i64 {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let lowest = members.iter().map(|m| m.load(Ordering::Relaxed)).min().unwrap_or(i64::MAX);
        lowest.saturating_add(self.max_drift_ms)
    }
}

/// One subtask of a group; leaves it when dropped.
#[derive(Debug)]
pub struct AlignmentMember {
    group: Arc<AlignmentGroup>,
    watermark: Arc<AtomicI64>,
}

impl AlignmentMember {
    /// Reports this subtask's watermark; `None` when it holds nobody back (idle, ended, or nothing read yet).
    pub fn report(&self, watermark_ms: Option<i64>) {
        self.watermark.store(watermark_ms.unwrap_or(i64::MAX), Ordering::Relaxed);
    }
    /// See [`AlignmentGroup::allowed_ms`].
    pub fn allowed_ms(&self) -> i64 {
        self.group.allowed_ms()
    }
}

impl Drop for AlignmentMember {
    fn drop(&mut self) {
        let mut members = self.group.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|m| !Arc::ptr_eq(m, &self.watermark));
    }
}
