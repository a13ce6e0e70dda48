//! The thread of a task: calls [`Task::run`] in a loop, parks when there is nothing to do, and accounts for every
//! nanosecond as busy, idle or backpressured.

use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use flott_core::error::{Error, Result};

use crate::task::{Task, TaskProgress};

/// Things a task does between two looks at the clock.
const BUDGET: usize = 64;

/// Longest time in park: metrics of a quiet task are at most this old.
const PARK_MAX_MS: i64 = 250;

/// Starts the thread of a task. It ends when the task has: finished, failed or cancelled.
pub fn spawn_task(task: Task) -> Result<JoinHandle<()>> {
    // Linux shows 15 bytes of a thread's name: the index first, then what fits of the vertex.
    let name = format!("{}:{}", task.subtask().index, task.name());
    Builder::new()
        .name(name.chars().filter(|c| *c != '\0').collect())
        .spawn(move || drive(task))
        .map_err(|e| Error::retry("task.thread", "a thread for a task could not be started").detail(e.to_string()))
}

fn drive(mut task: Task) {
    let (clock, metrics, waker) = (task.clock().clone(), task.metrics().clone(), task.waker().clone());
    let mut since = clock.now_nanos();
    loop {
        let progress = task.run(BUDGET);
        let now = clock.now_nanos();
        metrics.busy_ns.add(now - since);
        since = now;
        let (wake_at_ms, waited) = match progress {
            TaskProgress::Finished => return,
            TaskProgress::Working => continue,
            TaskProgress::Idle { wake_at_ms } => (wake_at_ms, &metrics.idle_ns),
            TaskProgress::Backpressured { wake_at_ms } => (wake_at_ms, &metrics.backpressured_ns),
        };
        let until_ms = wake_at_ms.map_or(PARK_MAX_MS, |w| w.saturating_sub(clock.now_ms()).clamp(0, PARK_MAX_MS));
        waker.park(Duration::from_millis(u64::try_from(until_ms).unwrap_or(0)));
        let now = clock.now_nanos();
        waited.add(now - since);
        since = now;
    }
}
