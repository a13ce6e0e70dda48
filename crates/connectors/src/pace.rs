//! Holds a source to a number of rows per second, shared by its readers in one process; never sleeps.

use std::sync::{Mutex, PoisonError};

/// A token bucket. Time is the caller's.
#[derive(Debug)]
pub struct Pace {
    per_second: f64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    start_ns: Option<u64>,
    taken: f64,
}

impl Pace {
    /// At most `per_second` rows a second, all callers together.
    pub fn new(per_second: f64) -> Self {
        Pace { per_second, state: Mutex::default() }
    }

    /// Permission for up to `max` rows, or how many milliseconds to wait. Rows come in portions of a twentieth of a
    /// second; after a pause at most a quarter of a second is made up for.
    pub fn take(&self, now_ns: u64, max: usize) -> Result<usize, i64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let start = *state.start_ns.get_or_insert(now_ns);
        let due = now_ns.saturating_sub(start) as f64 / 1e9 * self.per_second;
        let portion = (self.per_second / 20.0).clamp(1.0, max.max(1) as f64);
        let burst = (self.per_second / 4.0).max(portion);
        state.taken = state.taken.max(due - burst);
        let free = due - state.taken;
        if free + 1e-6 < portion {
            return Err((((portion - free) / self.per_second * 1000.0).ceil() as i64).max(1));
        }
        let rows = ((free + 1e-6).floor() as usize).min(max);
        state.taken += rows as f64;
        Ok(rows)
    }

    /// Returns permission that was not used.
    pub fn give_back(&self, rows: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.taken = (state.taken - rows as f64).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_over_seconds_and_pauses_do_not_pile_up() {
        let pace = Pace::new(1000.0);
        let (mut now, mut rows) = (0u64, 0);
        while now < 10_000_000_000 {
            match pace.take(now, 4096) {
                Ok(n) => rows += n,
                Err(wait_ms) => now += wait_ms as u64 * 1_000_000,
            }
        }
        assert!((9_900..=10_050).contains(&rows), "{rows}");
        assert!(pace.take(now + 60_000_000_000, 4096).is_ok_and(|n| n <= 300));
    }

    #[test]
    fn slow_rates_give_single_rows() {
        let pace = Pace::new(2.0);
        assert_eq!(pace.take(0, 4096), Err(500));
        assert_eq!(pace.take(500_000_000, 4096), Ok(1));
        pace.give_back(1);
        assert_eq!(pace.take(500_000_000, 4096), Ok(1));
        assert_eq!(pace.take(600_000_000, 4096), Err(400));
    }
}
