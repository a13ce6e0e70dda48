//! The knobs of the checkpoint coordinator, with Flink's defaults; never reads the configuration itself.

use crate::stats::Thresholds;

/// Intervals without a completed checkpoint after which a job is told to have no recovery point.
const STALE_INTERVALS: i64 = 3;
/// Not before so long: a job with a short interval may miss some.
const STALE_LEAST_MS: i64 = 30_000;
/// Not slow before so long, however short the interval.
const SLOW_LEAST_MS: i64 = 1_000;

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
    /// `execution.checkpointing.unaligned.enabled` and `aligned-checkpoint-timeout`: so long after their trigger barriers overtake
    /// rows; 0: from the start, `None`: never. Savepoints and the final checkpoint never do.
    pub unaligned_after_ms: Option<u32>,
    /// `execution.checkpointing.checkpoints-after-tasks-finish`: whether periodic checkpoints go on once some subtasks
    /// have read all their data.
    pub checkpoints_after_tasks_finish: bool,
    /// `flott.checkpoint.slow-threshold`: a checkpoint or commit that takes longer is explained; `None`: half the interval.
    pub slow_ms: Option<i64>,
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
            unaligned_after_ms: None,
            checkpoints_after_tasks_finish: true,
            slow_ms: None,
            history_size: 10,
        }
    }
}

impl CheckpointOptions {
    /// When something is told.
    pub fn thresholds(&self) -> Thresholds {
        let half = self.interval_ms.map(|i| (i / 2).max(SLOW_LEAST_MS));
        Thresholds {
            slow_ms: self.slow_ms.or(half).unwrap_or(Thresholds::default().slow_ms),
            interval_ms: self.interval_ms,
            stale_ms: self.interval_ms.map(|i| i.saturating_mul(STALE_INTERVALS).max(STALE_LEAST_MS)),
        }
    }
}
