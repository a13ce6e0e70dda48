//! A thread that talks to a server, and the end of it: stopping never waits longer than a second, whatever the server does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use flott_core::{Error, Result};

/// How long a stopped worker may go on before its call to the server is broken off.
const GRACE: Duration = Duration::from_millis(300);
/// How long it may go on after that before it is left to itself.
const PATIENCE: Duration = Duration::from_millis(500);

/// What breaks off a call that is under way; called on a thread of its own.
pub type Cancel = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    finished: bool,
    cancel: Option<Cancel>,
}

/// Tells a worker to stop. Cloning shares it.
#[derive(Clone, Default)]
pub struct Stop(Arc<Shared>);

impl Stop {
    /// Whether the worker has to end. Ask before anything that others see, such as a COMMIT.
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::Acquire)
    }
    /// Sleeps; `false` when the worker was stopped meanwhile.
    pub fn sleep_ms(&self, ms: u64) -> bool {
        let state = lock(&self.0.state);
        let wait = self.0.changed.wait_timeout_while(state, Duration::from_millis(ms), |_| !self.is_stopped());
        drop(wait);
        !self.is_stopped()
    }
    /// Sets what breaks off the worker's calls, anew with every connection.
    pub fn on_stop(&self, cancel: Option<Cancel>) {
        lock(&self.0.state).cancel = cancel;
    }
    /// Stops the worker; returns at once.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::Release);
        // Under the lock, so that nobody goes to sleep between looking and waiting.
        let _state = lock(&self.0.state);
        self.0.changed.notify_all();
    }
    /// Waits for the worker's end; whether it came in time.
    fn wait(&self, at_most: Duration) -> bool {
        let state = lock(&self.0.state);
        let (state, _) =
            self.0.changed.wait_timeout_while(state, at_most, |s| !s.finished).unwrap_or_else(PoisonError::into_inner);
        state.finished
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says that the worker is done, also when it panicked.
struct Finish(Stop);

impl Drop for Finish {
    fn drop(&mut self) {
        lock(&self.0.0.state).finished = true;
        self.0.0.changed.notify_all();
    }
}

/// The thread. Dropping it stops it: at once if it can, within a second in any case.
pub struct Worker {
    name: String,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts `body` on a thread called `name`; it ends when the body does, which looks at [`Stop`] again and again.
    pub fn spawn(name: impl Into<String>, body: impl FnOnce(Stop) + Send + 'static) -> Result<Self> {
        let (name, stop) = (name.into(), Stop::default());
        let theirs = stop.clone();
        let run = move || {
            let _finish = Finish(theirs.clone());
            body(theirs);
        };
        let thread = std::thread::Builder::new().name(name.clone()).spawn(run).map_err(|e| {
            Error::retry("connector.thread", format!("cannot start the thread \"{name}\": {e}"))
                .hint("raise the limit on threads (ulimit -u, the container's pids limit) or lower the parallelism")
        })?;
        Ok(Worker { name, stop, thread: Some(thread) })
    }

    /// What stops it.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }
    /// Whether the body has returned or panicked.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.stop();
        let mut ended = self.stop.wait(GRACE);
        if !ended {
            let cancel = lock(&self.stop.0.state).cancel.take();
            if let Some(cancel) = cancel {
                // It may hang as the server does, so nobody waits for it.
                let _ = std::thread::Builder::new().name(format!("{}-cancel", self.name)).spawn(cancel);
            }
            ended = self.stop.wait(PATIENCE);
        }
        match self.thread.take() {
            Some(thread) if ended => drop(thread.join()),
            _ => tracing::warn!(thread = %self.name, "left behind: its server does not answer; it ends with its call"),
        }
    }
}
