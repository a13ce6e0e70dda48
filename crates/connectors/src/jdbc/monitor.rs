//! What a task and its connector's thread share: a value under a lock, and a way to wait for its change. Never held across a call to a server.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The value and those who wait for it. A thread that panicked under the lock is reported by its [`crate::flusher::Worker`]; the value stays usable.
#[derive(Default)]
pub(super) struct Monitor<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Monitor<T> {
    /// The value.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Lets go of the value until somebody says that it has changed.
    pub fn wait<'a>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }
    /// Wakes everybody who waits.
    pub fn notify_all(&self) {
        self.changed.notify_all();
    }
}
