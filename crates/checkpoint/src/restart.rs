//! Restart strategies with Flink's defaults: pure, given the time and a random number; never restarts anything itself.

use std::collections::VecDeque;

/// `restart-strategy.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartKind {
    /// `none`, `off`, `disable`: the first failure fails the job.
    None,
    /// `fixed-delay`.
    FixedDelay,
    /// `failure-rate`.
    FailureRate,
    /// `exponential-delay`.
    ExponentialDelay,
}

/// `restart-strategy.*`, with Flink's defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct RestartOptions {
    /// The strategy.
    pub kind: RestartKind,
    /// `restart-strategy.fixed-delay.attempts`.
    pub fixed_attempts: u64,
    /// `restart-strategy.fixed-delay.delay`.
    pub fixed_delay_ms: i64,
    /// `restart-strategy.failure-rate.max-failures-per-interval`.
    pub rate_failures: u64,
    /// `restart-strategy.failure-rate.failure-rate-interval`.
    pub rate_interval_ms: i64,
    /// `restart-strategy.failure-rate.delay`.
    pub rate_delay_ms: i64,
    /// `restart-strategy.exponential-delay.initial-backoff`.
    pub initial_backoff_ms: i64,
    /// `restart-strategy.exponential-delay.max-backoff`.
    pub max_backoff_ms: i64,
    /// `restart-strategy.exponential-delay.backoff-multiplier`.
    pub backoff_multiplier: f64,
    /// `restart-strategy.exponential-delay.reset-backoff-threshold`.
    pub reset_threshold_ms: i64,
    /// `restart-strategy.exponential-delay.jitter-factor`.
    pub jitter_factor: f64,
    /// `restart-strategy.exponential-delay.attempts-before-reset-backoff`.
    pub attempts_before_reset: u64,
}

impl RestartOptions {
    /// Flink's defaults when `restart-strategy.type` is not set: none without checkpointing, exponential delay with it.
    pub fn for_checkpointing(enabled: bool) -> Self {
        Self::of(if enabled { RestartKind::ExponentialDelay } else { RestartKind::None })
    }
    /// Flink's defaults of a strategy.
    pub fn of(kind: RestartKind) -> Self {
        RestartOptions {
            kind,
            fixed_attempts: 1,
            fixed_delay_ms: 1_000,
            rate_failures: 1,
            rate_interval_ms: 60_000,
            rate_delay_ms: 1_000,
            initial_backoff_ms: 1_000,
            max_backoff_ms: 60_000,
            backoff_multiplier: 1.5,
            reset_threshold_ms: 3_600_000,
            jitter_factor: 0.1,
            attempts_before_reset: 2_147_483_647,
        }
    }
}

/// What follows a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestartDecision {
    /// Restart after a pause.
    Restart {
        /// The pause.
        delay_ms: i64,
    },
    /// The job has failed for good; the sentence says why there is no further restart.
    GiveUp(String),
}

/// A strategy and what it remembers of earlier failures.
#[derive(Clone, Debug)]
pub enum RestartStrategy {
    /// Never restarts.
    None,
    /// Restarts a fixed number of times.
    FixedDelay {
        /// Options.
        options: RestartOptions,
        /// Failures so far.
        failures: u64,
    },
    /// Restarts unless failures come too often.
    FailureRate {
        /// Options.
        options: RestartOptions,
        /// Times of the last failures: at most one more than may happen in an interval.
        failed_ms: VecDeque<i64>,
    },
    /// Restarts with growing pauses.
    ExponentialDelay {
        /// Options.
        options: RestartOptions,
        /// Pause before the last restart; 0 at first.
        backoff_ms: i64,
        /// Restarts since the last reset.
        attempts: u64,
        /// Time of the last failure.
        last_failure_ms: Option<i64>,
    },
}

impl RestartStrategy {
    /// A fresh strategy.
    pub fn new(options: RestartOptions) -> Self {
        match options.kind {
            RestartKind::None => RestartStrategy::None,
            RestartKind::FixedDelay => RestartStrategy::FixedDelay { options, failures: 0 },
            RestartKind::FailureRate => RestartStrategy::FailureRate { options, failed_ms: VecDeque::new() },
            RestartKind::ExponentialDelay => {
                RestartStrategy::ExponentialDelay { options, backoff_ms: 0, attempts: 0, last_failure_ms: None }
            }
        }
    }

    /// The job failed at `now_ms`. `random` is any number, used for jitter.
    pub fn on_failure(&mut self, now_ms: i64, random: u64) -> RestartDecision {
        match self {
            RestartStrategy::None => RestartDecision::GiveUp(
                "no restart: restart-strategy.type is none (the default without checkpointing)".into(),
            ),
            RestartStrategy::FixedDelay { options, failures } => {
                *failures = failures.saturating_add(1);
                if *failures > options.fixed_attempts {
                    return RestartDecision::GiveUp(format!(
                        "no further restart: failure {failures} with restart-strategy.fixed-delay.attempts = {}",
                        options.fixed_attempts
                    ));
                }
                RestartDecision::Restart { delay_ms: options.fixed_delay_ms }
            }
            RestartStrategy::FailureRate { options, failed_ms } => {
                failed_ms.push_back(now_ms);
                while failed_ms.front().is_some_and(|t| now_ms.saturating_sub(*t) > options.rate_interval_ms) {
                    failed_ms.pop_front();
                }
                if failed_ms.len() as u64 > options.rate_failures {
                    failed_ms.pop_front();
                    return RestartDecision::GiveUp(format!(
                        "no further restart: more than {} failures within {} ms \
                         (restart-strategy.failure-rate.max-failures-per-interval)",
                        options.rate_failures, options.rate_interval_ms
                    ));
                }
                RestartDecision::Restart { delay_ms: options.rate_delay_ms }
            }
            RestartStrategy::ExponentialDelay { options, backoff_ms, attempts, last_failure_ms } => {
                let quiet_ms = last_failure_ms.map(|t| now_ms.saturating_sub(t));
                let reset = quiet_ms.is_none_or(|q| q >= options.reset_threshold_ms.saturating_add(*backoff_ms));
                *last_failure_ms = Some(now_ms);
                if reset {
                    (*attempts, *backoff_ms) = (1, options.initial_backoff_ms);
                } else {
                    *attempts = attempts.saturating_add(1);
                    *backoff_ms =
                        ((*backoff_ms as f64 * options.backoff_multiplier) as i64).min(options.max_backoff_ms);
                }
                if *attempts > options.attempts_before_reset {
                    return RestartDecision::GiveUp(format!(
                        "no further restart: failure {attempts} with \
                         restart-strategy.exponential-delay.attempts-before-reset-backoff = {}",
                        options.attempts_before_reset
                    ));
                }
                // In [-1, 1).
                let unit = (random >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
                let jitter_ms = (*backoff_ms as f64 * options.jitter_factor * unit) as i64;
                RestartDecision::Restart { delay_ms: (*backoff_ms + jitter_ms).clamp(0, options.max_backoff_ms) }
            }
        }
    }
}

#[cfg(test)]
mod tests;
