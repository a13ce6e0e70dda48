//! The parker of a task: set by channels, mailbox and timers, waited for by the task's thread. Never holds data.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Wakes one task. Cloned into every channel end and mailbox of that task; a wake-up is never lost: one that comes while
/// the task runs makes its next [`TaskWaker::park`] return at once.
#[derive(Clone, Debug, Default)]
pub struct TaskWaker(Arc<Parker>);

#[derive(Debug)]
struct Parker {
    notified: AtomicBool,
    /// When a barrier that lies in one of the task's channels begins to overtake; `i64::MAX`: none does.
    alarm_ms: AtomicI64,
    lock: Mutex<()>,
    condvar: Condvar,
}

impl Default for Parker {
    fn default() -> Self {
        Parker {
            notified: AtomicBool::new(false),
            alarm_ms: AtomicI64::new(i64::MAX),
            lock: Mutex::default(),
            condvar: Condvar::default(),
        }
    }
}

impl TaskWaker {
    /// A waker for a task that is to be built.
    pub fn new() -> Self {
        TaskWaker::default()
    }
    /// Wakes the task. Cheap when it is already awake or woken.
    pub fn wake(&self) {
        if !self.0.notified.swap(true, Ordering::AcqRel) {
            // The lock orders this against a thread between its last look at the flag and its wait.
            drop(self.0.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.0.condvar.notify_one();
        }
    }
    /// Has the task look for overtaking barriers in its channels at `ms`, and wakes it so that it knows.
    pub(crate) fn alarm_at(&self, ms: i64) {
        self.0.alarm_ms.fetch_min(ms, Ordering::AcqRel);
        self.wake();
    }
    /// When to look.
    pub(crate) fn alarm_ms(&self) -> i64 {
        self.0.alarm_ms.load(Ordering::Acquire)
    }
    /// The task looks now: what comes later sets the alarm again.
    pub(crate) fn clear_alarm(&self) {
        self.0.alarm_ms.store(i64::MAX, Ordering::Release);
    }
    /// Takes the wake-up, if there is one: what a simulator asks instead of parking.
    pub fn take(&self) -> bool {
        self.0.notified.swap(false, Ordering::AcqRel)
    }
    /// Waits for a wake-up, at most `timeout`. Only the task's own thread calls this.
    pub fn park(&self, timeout: Duration) {
        if self.take() {
            return;
        }
        let guard = self.0.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let awake = |(): &mut ()| !self.0.notified.load(Ordering::Acquire);
        drop(self.0.condvar.wait_timeout_while(guard, timeout, awake).unwrap_or_else(PoisonError::into_inner));
        self.take();
    }
}
