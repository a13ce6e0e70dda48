//! What a job asks for, read once from the effective configuration.

use std::str::FromStr;

use flott_checkpoint::restart::RestartKind;
use flott_checkpoint::{CheckpointOptions, RestartOptions};
use flott_core::config::{Configuration, keys};
use flott_core::error::{Error, Result};
use flott_core::ids::JobId;
use flott_plan::job_graph::JobGraphOptions;

use crate::progress::JobStatus;

/// Where the state of a new job comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreFrom {
    /// Nowhere.
    Nothing,
    /// The job's own newest checkpoint, if there is one.
    Latest,
    /// This checkpoint.
    Path(String),
}

/// Options of a job.
#[derive(Clone, Debug)]
pub struct JobOptions {
    /// How the graph is cut into tasks.
    pub graph: JobGraphOptions,
    /// When checkpoints are taken.
    pub checkpoint: CheckpointOptions,
    /// What follows a failure.
    pub restart: RestartOptions,
    /// `flott.state.over-budget` is `fail`, or is not set while a size of memory is.
    pub fails_over_state_budget: bool,
    /// `execution.checkpointing.dir`.
    pub checkpoint_dir: Option<String>,
    /// `execution.checkpointing.data-inline-threshold`.
    pub inline_threshold_bytes: usize,
    /// `execution.checkpointing.num-retained`.
    pub num_retained: usize,
    /// `execution.checkpointing.externalized-checkpoint-retention` is RETAIN_ON_CANCELLATION.
    pub retain_on_cancellation: bool,
    /// `DELETE_ON_CANCELLATION`: kept when the job fails.
    pub retain_on_failure: bool,
    /// Where the state comes from.
    pub restore: RestoreFrom,
    /// `execution.state-recovery.ignore-unclaimed-state`.
    pub ignore_unclaimed: bool,
}

impl JobOptions {
    /// Reads the options; values were checked when they were set.
    pub fn from_config(config: &Configuration) -> Self {
        let positive = |key: &str| config.int(key).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
        let retention = config.enum_value(keys::CHECKPOINT_RETENTION);
        let interval_ms = config.duration_ms(keys::CHECKPOINT_INTERVAL).filter(|ms| *ms > 0);
        let retain_on_cancellation = retention == Some("RETAIN_ON_CANCELLATION");
        JobOptions {
            graph: JobGraphOptions {
                parallelism: positive(keys::TABLE_DEFAULT_PARALLELISM).or(positive(keys::PARALLELISM)).unwrap_or(1),
                max_parallelism: positive(keys::MAX_PARALLELISM),
                chaining: config.bool(keys::OPERATOR_CHAINING),
            },
            checkpoint: checkpoint_options(config, interval_ms),
            restart: restart_options(config, interval_ms.is_some()),
            fails_over_state_budget: match config.enum_value(keys::STATE_OVER_BUDGET) {
                Some(chosen) => chosen == "fail",
                None => config.iter().any(|(key, _)| key.starts_with("taskmanager.memory.") && key.ends_with(".size")),
            },
            checkpoint_dir: config.string(keys::CHECKPOINT_DIR),
            inline_threshold_bytes: size(config.memory_bytes(keys::CHECKPOINT_INLINE_THRESHOLD), 20 * 1024),
            num_retained: positive(keys::CHECKPOINT_NUM_RETAINED).unwrap_or(1) as usize,
            retain_on_cancellation,
            retain_on_failure: retain_on_cancellation || retention == Some("DELETE_ON_CANCELLATION"),
            restore: match config.string(keys::RECOVERY_PATH).filter(|p| !p.is_empty()) {
                None => RestoreFrom::Nothing,
                Some(p) if p.eq_ignore_ascii_case("latest") => RestoreFrom::Latest,
                Some(p) => RestoreFrom::Path(p),
            },
            ignore_unclaimed: config.bool(keys::RECOVERY_IGNORE_UNCLAIMED),
        }
    }

    /// Whether the checkpoints go away when the job ends like this. A job that was started from a checkpoint never deletes:
    /// the one it was started from may be its own, and belongs to the user. With `latest` the same command then finds that
    /// everything is done.
    pub fn discards_at(&self, status: &JobStatus) -> bool {
        let own_start = self.restore == RestoreFrom::Nothing;
        match status {
            JobStatus::Finished => own_start,
            JobStatus::Canceled => own_start && !self.retain_on_cancellation,
            JobStatus::Failed(_) => own_start && !self.retain_on_failure,
            _ => false,
        }
    }
}

fn size(bytes: Option<u64>, default: usize) -> usize {
    bytes.and_then(|b| usize::try_from(b).ok()).unwrap_or(default)
}

fn checkpoint_options(config: &Configuration, interval_ms: Option<i64>) -> CheckpointOptions {
    let defaults = CheckpointOptions::default();
    let number = |key: &str, default: u32| config.int(key).and_then(|n| u32::try_from(n).ok()).unwrap_or(default);
    CheckpointOptions {
        interval_ms,
        min_pause_ms: config.duration_ms(keys::CHECKPOINT_MIN_PAUSE).unwrap_or(defaults.min_pause_ms),
        timeout_ms: config.duration_ms(keys::CHECKPOINT_TIMEOUT).unwrap_or(defaults.timeout_ms),
        max_concurrent: number(keys::CHECKPOINT_MAX_CONCURRENT, defaults.max_concurrent),
        tolerable_failures: number(keys::CHECKPOINT_TOLERABLE_FAILURES, defaults.tolerable_failures),
        at_least_once: config.enum_value(keys::CHECKPOINT_MODE) == Some("AT_LEAST_ONCE"),
        unaligned_after_ms: unaligned_after_ms(config),
        checkpoints_after_tasks_finish: config.bool(keys::CHECKPOINTS_AFTER_TASKS_FINISH),
        slow_ms: config.duration_ms(keys::CHECKPOINT_SLOW),
        history_size: number(keys::CHECKPOINT_HISTORY, 10) as usize,
    }
}

/// When barriers begin to overtake rows. Not asked for, they do so a moment after their trigger; asked for, with the options' own
/// values: Flink's.
fn unaligned_after_ms(config: &Configuration) -> Option<u32> {
    let chosen = config.is_set(keys::UNALIGNED_ENABLED);
    let concurrent = concurrent(config) > 1;
    let at_least_once = config.enum_value(keys::CHECKPOINT_MODE) == Some("AT_LEAST_ONCE");
    if !config.bool(keys::UNALIGNED_ENABLED) || concurrent || at_least_once {
        return None;
    }
    let after = config.duration_ms(keys::ALIGNED_TIMEOUT).filter(|_| chosen || config.is_set(keys::ALIGNED_TIMEOUT));
    Some(after.map_or(ALIGNED_TIMEOUT_MS, |ms| u32::try_from(ms.max(0)).unwrap_or(u32::MAX)))
}

/// Checkpoints that may be under way at once: with a pause between them, one.
fn concurrent(config: &Configuration) -> i64 {
    match config.duration_ms(keys::CHECKPOINT_MIN_PAUSE) {
        Some(pause_ms) if pause_ms > 0 => 1,
        _ => config.int(keys::CHECKPOINT_MAX_CONCURRENT).unwrap_or(1),
    }
}

/// Refuses what Flink refuses: barriers that overtake each other would need copies of copies.
pub fn check_unaligned(config: &Configuration) -> Result<()> {
    let asked = config.is_set(keys::UNALIGNED_ENABLED) && config.bool(keys::UNALIGNED_ENABLED);
    let concurrent = concurrent(config);
    if asked && concurrent > 1 {
        let unaligned = keys::UNALIGNED_ENABLED;
        return Err(Error::user(
            "config.refused",
            format!("`{}` = {concurrent} and `{unaligned}` = true do not go together", keys::CHECKPOINT_MAX_CONCURRENT),
        )
        .detail("rows in flight can belong to one unaligned checkpoint at a time")
        .hint(format!("set {}: 1, or {unaligned}: false", keys::CHECKPOINT_MAX_CONCURRENT)));
    }
    Ok(())
}

/// `execution.checkpointing.aligned-checkpoint-timeout` when nothing is said of unaligned checkpoints.
const ALIGNED_TIMEOUT_MS: u32 = 1_000;

fn restart_options(config: &Configuration, checkpointing: bool) -> RestartOptions {
    let mut options = match config.enum_value(keys::RESTART_TYPE) {
        None => RestartOptions::for_checkpointing(checkpointing),
        Some("fixed-delay") => RestartOptions::of(RestartKind::FixedDelay),
        Some("failure-rate") => RestartOptions::of(RestartKind::FailureRate),
        Some("exponential-delay") => RestartOptions::of(RestartKind::ExponentialDelay),
        Some(_) => RestartOptions::of(RestartKind::None),
    };
    let number = |key: &str, to: &mut u64| {
        if let Some(n) = config.int(key).and_then(|n| u64::try_from(n).ok()) {
            *to = n;
        }
    };
    let duration = |key: &str, to: &mut i64| {
        if let Some(ms) = config.duration_ms(key) {
            *to = ms;
        }
    };
    let fraction = |key: &str, to: &mut f64| {
        if let Some(x) = config.double(key) {
            *to = x;
        }
    };
    number(keys::RESTART_FIXED_ATTEMPTS, &mut options.fixed_attempts);
    duration(keys::RESTART_FIXED_DELAY, &mut options.fixed_delay_ms);
    number(keys::RESTART_RATE_MAX, &mut options.rate_failures);
    duration(keys::RESTART_RATE_INTERVAL, &mut options.rate_interval_ms);
    duration(keys::RESTART_RATE_DELAY, &mut options.rate_delay_ms);
    duration(keys::RESTART_EXP_INITIAL, &mut options.initial_backoff_ms);
    duration(keys::RESTART_EXP_MAX, &mut options.max_backoff_ms);
    duration(keys::RESTART_EXP_RESET, &mut options.reset_threshold_ms);
    fraction(keys::RESTART_EXP_MULTIPLIER, &mut options.backoff_multiplier);
    fraction(keys::RESTART_EXP_JITTER, &mut options.jitter_factor);
    number(keys::RESTART_EXP_ATTEMPTS, &mut options.attempts_before_reset);
    options
}

/// `pipeline.job-id`, if it is set.
pub fn job_id_of(config: &Configuration) -> Result<Option<JobId>> {
    config.string(keys::PIPELINE_JOB_ID).filter(|s| !s.is_empty()).map(|s| JobId::from_str(&s)).transpose()
}
