//! The history of checkpoints, where their time went, and what the REST API shows of it; fed by the coordinator and its driver, never
//! decides anything.

mod figures;
mod history;
mod path;
mod rest;
mod sentences;
mod watch;

pub use figures::{
    ExternalFigures, ExternalLoad, Figures, Load, TaskFigures, TaskLoad, Topology, TopologyEdge, TopologyVertex,
};
pub use history::{CheckpointRecord, CheckpointStatsHistory, CutRecord, Restored, Status, SubtaskRecord};
pub use path::{CriticalPath, Phase, Segment, bottleneck, critical_path};
pub use rest::{
    CheckpointStatistics, CheckpointingStatistics, Counts, Latest, PathSegment, Quantiles, Summary, TaskDetails,
    TaskStatistics,
};
pub use sentences::{Diagnosis, age};
pub use watch::Thresholds;

#[cfg(test)]
mod tests;
