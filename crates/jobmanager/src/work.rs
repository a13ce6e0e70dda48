//! Threads that write to the checkpoint storage: they take work in order and answer with an event. They decide nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use flott_core::error::{Error, Result};

type Work = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    work: VecDeque<Work>,
    closed: bool,
}

/// A fixed number of threads behind one queue, which is bounded by those who fill it: one cut per subtask and concurrent checkpoint, or one
/// publication with what was given up or retired since the last.
pub struct WorkThreads {
    shared: Arc<(Mutex<Queue>, Condvar)>,
    threads: Vec<JoinHandle<()>>,
}

impl WorkThreads {
    /// Starts `count` threads.
    pub fn start(name: &str, count: usize) -> std::io::Result<Self> {
        let shared = Arc::new((Mutex::new(Queue::default()), Condvar::new()));
        let threads = (0..count)
            .map(|i| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new().name(format!("{name}-{i}")).spawn(move || run(&shared))
            })
            .collect::<std::io::Result<_>>()?;
        Ok(WorkThreads { shared, threads })
    }
    /// Adds work.
    pub fn submit(&self, work: impl FnOnce() + Send + 'static) {
        let (queue, ready) = &*self.shared;
        queue.lock().unwrap_or_else(PoisonError::into_inner).work.push_back(Box::new(work));
        ready.notify_one();
    }
}

impl Drop for WorkThreads {
    fn drop(&mut self) {
        let (queue, ready) = &*self.shared;
        queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        ready.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so on standard error; there is nothing left to save.
            let _ = thread.join();
        }
    }
}

fn run(shared: &(Mutex<Queue>, Condvar)) {
    let (queue, ready) = shared;
    loop {
        let work = {
            let guard = queue.lock().unwrap_or_else(PoisonError::into_inner);
            let idle = |q: &mut Queue| q.work.is_empty() && !q.closed;
            let mut guard = ready.wait_while(guard, idle).unwrap_or_else(PoisonError::into_inner);
            guard.work.pop_front()
        };
        match work {
            Some(work) => work(),
            None => return,
        }
    }
}

/// Calls `f`; a panic comes back as an error, so that whoever waits for the answer gets one.
pub fn caught<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f))
        .unwrap_or_else(|_| Err(Error::bug("storing a checkpoint panicked; the place is on standard error")))
}
