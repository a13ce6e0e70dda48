//! Time as values: event time, and the clock that hands out processing time and durations.
//!
//! Nothing below the edge asks the system for the time; it is given a [`Clock`].

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Event time, or a watermark over it: milliseconds since the epoch, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct EventTime(pub i64);

impl EventTime {
    /// Before every event: the watermark of an input that has said nothing yet.
    pub const MIN: EventTime = EventTime(i64::MIN);
    /// After every event: the watermark of an input that has ended.
    pub const MAX: EventTime = EventTime(i64::MAX);
}

/// Source of time. Implementations must be monotone in `now_nanos`.
pub trait Clock: Send + Sync {
    /// Wall-clock time in milliseconds since the epoch: processing time.
    fn now_ms(&self) -> i64;
    /// Monotone nanoseconds from an arbitrary start: for durations.
    fn now_nanos(&self) -> u64;
}

/// A shared clock.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// The machine's clock, ready to share.
    #[allow(clippy::disallowed_methods, reason = "the one place that may ask the system")]
    pub fn shared() -> SharedClock {
        Arc::new(SystemClock { start: std::time::Instant::now() })
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that may ask the system")]
    fn now_ms(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
    }
    fn now_nanos(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A clock that stands still until told: for tests and the simulator.
#[derive(Debug, Default)]
pub struct ManualClock {
    ms: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `ms`.
    pub fn at(ms: i64) -> Arc<Self> {
        Arc::new(ManualClock { ms: AtomicI64::new(ms) })
    }
    /// Moves the clock to `ms`.
    pub fn set(&self, ms: i64) {
        self.ms.store(ms, Ordering::SeqCst);
    }
    /// Moves the clock forward.
    pub fn advance(&self, by_ms: i64) {
        self.ms.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.ms.load(Ordering::SeqCst)
    }
    fn now_nanos(&self) -> u64 {
        u64::try_from(self.now_ms()).unwrap_or(0).saturating_mul(1_000_000)
    }
}
