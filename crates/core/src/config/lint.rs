//! Combinations of options that are valid and still surprise: each with the consequence spelt out. Decides nothing.

use super::{Configuration, Notice, NoticeKind, keys};

/// Below this, checkpoints cost more than they save on most storage.
const INTERVAL_SANE_MS: i64 = 1000;
/// From this number on, people mean "any number".
const ANY_NUMBER: i64 = 1_000_000;

impl Configuration {
    /// What the user should know about how the options work together; run once, when a job starts.
    pub fn lint(&self) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut tell = |key: &str, message: String| {
            notices.push(Notice { key: key.to_owned(), kind: NoticeKind::Consequence, message });
        };
        match self.duration_ms(keys::CHECKPOINT_INTERVAL) {
            Some(interval_ms) => self.lint_checkpoints(interval_ms, &mut tell),
            None => self.lint_no_checkpoints(&mut tell),
        }
        self.lint_restarts(&mut tell);
        let (parallelism, max) =
            (self.int(keys::PARALLELISM).unwrap_or(1), self.int(keys::MAX_PARALLELISM).unwrap_or(-1));
        if max > 0 && parallelism > max {
            tell(
                keys::PARALLELISM,
                format!("{parallelism} is above `{}` = {max}: the job will be refused", keys::MAX_PARALLELISM),
            );
        }
        notices
    }

    fn lint_checkpoints(&self, interval_ms: i64, tell: &mut dyn FnMut(&str, String)) {
        if interval_ms < INTERVAL_SANE_MS {
            tell(
                keys::CHECKPOINT_INTERVAL,
                format!(
                    "a checkpoint every {interval_ms} ms costs throughput; below 1 s every sink also makes very small files"
                ),
            );
        }
        let pause_ms = self.duration_ms(keys::CHECKPOINT_MIN_PAUSE).unwrap_or(0);
        let concurrent = self.int(keys::CHECKPOINT_MAX_CONCURRENT).unwrap_or(1);
        if pause_ms > 0 && concurrent > 1 {
            tell(
                keys::CHECKPOINT_MAX_CONCURRENT,
                format!(
                    "`{}` = {pause_ms} ms asks for a pause after each checkpoint, so only one is ever under way and {concurrent} \
                     counts as 1",
                    keys::CHECKPOINT_MIN_PAUSE
                ),
            );
        }
        if pause_ms > interval_ms {
            tell(
                keys::CHECKPOINT_MIN_PAUSE,
                format!(
                    "{pause_ms} ms is longer than the interval of {interval_ms} ms: checkpoints start {pause_ms} ms apart or more"
                ),
            );
        }
        self.lint_failures(interval_ms, tell);
        if self.enum_value(keys::CHECKPOINT_MODE) == Some("AT_LEAST_ONCE") {
            tell(keys::CHECKPOINT_MODE, "after a failure rows may be counted twice".to_owned());
            if self.is_set(keys::UNALIGNED_ENABLED) && self.bool(keys::UNALIGNED_ENABLED) {
                let message = "it has no effect: with AT_LEAST_ONCE no channel waits for barriers";
                tell(keys::UNALIGNED_ENABLED, message.to_owned());
            }
        } else if concurrent > 1 && pause_ms == 0 && !self.is_set(keys::UNALIGNED_ENABLED) {
            tell(
                keys::CHECKPOINT_MAX_CONCURRENT,
                "with more than one checkpoint at a time none overtakes rows in flight: all wait behind a slow sink"
                    .to_owned(),
            );
        }
        if self.is_set(keys::CHECKPOINT_DIR) {
            return;
        }
        let retained = self.enum_value(keys::CHECKPOINT_RETENTION) == Some("RETAIN_ON_CANCELLATION");
        if retained {
            tell(
                keys::CHECKPOINT_RETENTION,
                format!(
                    "nothing can be retained without `{}`: checkpoints lie in memory and end with the process",
                    keys::CHECKPOINT_DIR
                ),
            );
        } else {
            tell(
                keys::CHECKPOINT_DIR,
                "it is not set: checkpoints lie in memory, so the job survives a failed task but not the end of its process".to_owned(),
            );
        }
    }

    /// What becomes of checkpoints that take long or fail.
    fn lint_failures(&self, interval_ms: i64, tell: &mut dyn FnMut(&str, String)) {
        let timeout_ms = self.duration_ms(keys::CHECKPOINT_TIMEOUT).unwrap_or(i64::MAX);
        if timeout_ms < interval_ms {
            tell(
                keys::CHECKPOINT_TIMEOUT,
                format!(
                    "a checkpoint is given up after {timeout_ms} ms although the next one is due only {interval_ms} ms after its start: a slow \
                     one is lost for nothing"
                ),
            );
        }
        let tolerable = self.int(keys::CHECKPOINT_TOLERABLE_FAILURES).unwrap_or(0);
        if tolerable >= ANY_NUMBER {
            tell(
                keys::CHECKPOINT_TOLERABLE_FAILURES,
                "every failure is tolerated, so the job may run for days without a point to recover from: raise an alarm on the code \
                 checkpoint.no-recovery-point, or set a number such as 10"
                    .to_owned(),
            );
        }
        let slow_ms = self.duration_ms(keys::CHECKPOINT_SLOW).unwrap_or(0);
        if slow_ms > timeout_ms {
            tell(
                keys::CHECKPOINT_SLOW,
                format!(
                    "{slow_ms} ms is above the timeout of {timeout_ms} ms: no checkpoint is told as slow before it is given up"
                ),
            );
        }
    }

    fn lint_no_checkpoints(&self, tell: &mut dyn FnMut(&str, String)) {
        let idle = [
            keys::CHECKPOINT_MIN_PAUSE,
            keys::CHECKPOINT_TIMEOUT,
            keys::CHECKPOINT_MAX_CONCURRENT,
            keys::CHECKPOINT_TOLERABLE_FAILURES,
            keys::CHECKPOINT_MODE,
            keys::CHECKPOINT_RETENTION,
        ];
        for key in idle.into_iter().filter(|k| self.is_set(k)) {
            tell(
                key,
                format!(
                    "it has no effect without `{}`: the job takes no periodic checkpoints",
                    keys::CHECKPOINT_INTERVAL
                ),
            );
        }
    }

    fn lint_restarts(&self, tell: &mut dyn FnMut(&str, String)) {
        let Some(chosen) = self.enum_value(keys::RESTART_TYPE) else { return };
        if chosen == "none" && self.is_set(keys::CHECKPOINT_INTERVAL) {
            tell(
                keys::RESTART_TYPE,
                "the job ends at its first failure, although it has checkpoints to go on from".to_owned(),
            );
        }
        for (key, _) in self.iter() {
            let Some(rest) = key.strip_prefix("restart-strategy.") else { continue };
            if let Some((strategy, _)) = rest.split_once('.')
                && strategy != chosen
            {
                tell(key, format!("it has no effect: `{}` is {chosen}", keys::RESTART_TYPE));
            }
        }
    }
}
