//! Wires the parts into a running process of one role. Today: embedded, a whole job in this process.
//!
//! Decides nothing about records, checkpoints or restarts: it carries out what the pure parts decide.

mod client;
mod deploy;
pub mod memory;
mod registry;
mod tasks;
mod upload;

pub use flott_connectors::collect::{CollectHandle, CollectSink, CollectionSource};
pub use flott_expr::{parse_zone, result_writer};

pub use client::{Environment, JobClient, submit};
pub use flott_checkpoint::stats::{Diagnosis, age};
pub use flott_jobmanager::options::{JobOptions, RestoreFrom, job_id_of};
pub use flott_jobmanager::progress::{CheckpointProgress, JobStatus, Progress, StateSize};
pub use registry::{registry, source_transform};
