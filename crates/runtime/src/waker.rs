//! The parker of a task: set by channels, mailbox and timers, waited for by the task's thread. Never holds data.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Wakes one task. Cloned into every channel end and mailbox of that task; a wake-up is never lost: one that comes while
/// the task runs makes its next [`TaskWaker::park`] return at once.
#[derive(Clone, Debug, Default)]
pub struct TaskWaker(Arc<Parker>);

#[derive(Debug, Default)]
struct Parker {
    notified: AtomicBool,
    lock: Mutex<()>,
    condvar: Condvar,
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
