//! Wires the parts into a running process of one role. Today: embedded, a whole job in this process.
//!
//! Decides nothing about records, checkpoints or restarts: it carries out what the pure parts decide.

mod client;
mod deploy;
mod job_master;
mod options;
mod progress;
mod registry;
mod work;

pub use flott_connectors::collect::{CollectHandle, CollectSink, CollectionSource};
pub use flott_connectors::text::{Style as TextStyle, render_value};

pub use client::{Environment, JobClient, submit};
pub use options::{JobOptions, RestoreFrom, job_id_of};
pub use progress::{CheckpointProgress, JobStatus, Progress};
pub use registry::{registry, source_transform};
