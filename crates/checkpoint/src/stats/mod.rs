//! The history of checkpoints and what the REST API shows of it; fed by the coordinator, never decides anything.

mod explain;
mod history;
mod rest;

pub use history::{CheckpointRecord, CheckpointStatsHistory, Restored, Status, SubtaskRecord};
pub use rest::{
    CheckpointStatistics, CheckpointingStatistics, Counts, Latest, Quantiles, Summary, TaskDetails, TaskStatistics,
};

#[cfg(test)]
mod tests;
