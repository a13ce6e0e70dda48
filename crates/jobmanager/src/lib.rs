//! The JobManager's side of a job: when its tasks start and stop, who reads which split, checkpoints, failover. Never touches a row.
//!
//! * [`job_master`] decides purely: `step(now, event) -> Vec<Action>`.
//! * [`driver`] carries that out on a thread of its own, over a [`TaskGateway`] and a checkpoint storage.
//! * [`progress`] is what clients see.

pub mod driver;
pub mod job_master;
pub mod options;
pub mod progress;
mod topology;
mod work;

pub use driver::{EVENTS_MAX, JobDriver, JobEvent, JobParts, Restore, Started, TaskGateway};
pub use options::{JobOptions, RestoreFrom};
pub use topology::topology;
pub use work::{WorkThreads, caught};
