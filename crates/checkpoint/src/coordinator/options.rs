//! The knobs of the checkpoint coordinator, with Flink's defaults; never reads the configuration itself.

/// Options of [`super::CheckpointCoordinator`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointOptions {
    /// `execution.checkpointing.interval`; `None`: no periodic checkpoints.
    pub interval_ms: Option<i64>,
    /// `execution.checkpointing.min-pause`: from the completion of one checkpoint to the next periodic trigger.
    pub min_pause_ms: i64,
    /// `execution.checkpointing.timeout`.
    pub timeout_ms: i64,
    /// `execution.checkpointing.max-concurrent-checkpoints`; savepoints and the final checkpoint pass it.
    pub max_concurrent: u32,
    /// `execution.checkpointing.tolerable-failed-checkpoints`: consecutive failures (of the reasons that count) that do
    /// not fail the job. `u32::MAX`: any number.
    pub tolerable_failures: u32,
    /// `execution.checkpointing.mode: AT_LEAST_ONCE`.
    pub at_least_once: bool,
    /// `execution.checkpointing.checkpoints-after-tasks-finish`: whether periodic checkpoints go on once some subtasks
    /// have read all their data.
    pub checkpoints_after_tasks_finish: bool,
    /// `web.checkpoints.history`: finished checkpoints kept in the statistics.
    pub history_size: usize,
}

impl Default for CheckpointOptions {
    fn default() -> Self {
        CheckpointOptions {
            interval_ms: None,
            min_pause_ms: 0,
            timeout_ms: 600_000,
            max_concurrent: 1,
            tolerable_failures: 0,
            at_least_once: false,
            checkpoints_after_tasks_finish: true,
            history_size: 10,
        }
    }
}
