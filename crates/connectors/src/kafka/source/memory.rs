//! What a reader may fetch ahead: its share of the process's budget, and the settings of librdkafka that hold it to that. Fetches
//! nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use flott_core::memory::{MemoryBudget, MemoryUse, Reservation};

use crate::kafka::properties::ClientProperties;

/// Fetched ahead by a reader at most, whatever the budget.
const SHARE_MAX_BYTES: usize = 96 << 20;
/// A reader gets so much even when the budget is spent: without it there is no progress at all.
const SHARE_MIN_BYTES: usize = 1 << 20;
/// What librdkafka holds beside the bytes of a message, roughly.
const MESSAGE_OVERHEAD_BYTES: usize = 400;

/// Whether a reader of this process is beyond the budget now: one at a time may be, so that large messages pass one by one.
static BEYOND: AtomicBool = AtomicBool::new(false);

/// What a round takes beyond the share. Dropping it gives it back.
#[derive(Debug)]
pub struct Extra {
    _reservation: Reservation,
    beyond: bool,
}

impl Extra {
    /// Takes `bytes` from the budget; or, where they do not fit, the one place beyond it. `anyway`: without asking for that.
    pub fn take(budget: &MemoryBudget, bytes: usize, anyway: bool) -> Option<Self> {
        if let Some(reservation) = budget.try_reserve(MemoryUse::Fetch, bytes) {
            return Some(Extra { _reservation: reservation, beyond: false });
        }
        let beyond = !BEYOND.swap(true, Ordering::AcqRel);
        (beyond || anyway).then(|| Extra { _reservation: budget.reserve(MemoryUse::Fetch, bytes), beyond })
    }
}

impl Drop for Extra {
    fn drop(&mut self) {
        if self.beyond {
            BEYOND.store(false, Ordering::Release);
        }
    }
}

/// The share of one reader. Dropping it gives it back.
#[derive(Debug)]
pub struct FetchShare {
    reservation: Reservation,
    bounded: bool,
}

impl FetchShare {
    /// Takes the share of one of `readers`, which leaves as much again for what they hand out.
    pub fn take(budget: &MemoryBudget, readers: u32) -> Self {
        let limit = budget.limit_bytes(MemoryUse::Fetch);
        let mut wanted = (limit / (readers as usize + 1)).clamp(SHARE_MIN_BYTES, SHARE_MAX_BYTES);
        let bounded = wanted < SHARE_MAX_BYTES;
        loop {
            if let Some(reservation) = budget.try_reserve(MemoryUse::Fetch, wanted) {
                return FetchShare { reservation, bounded };
            }
            if wanted == SHARE_MIN_BYTES {
                return FetchShare { reservation: budget.reserve(MemoryUse::Fetch, wanted), bounded: true };
            }
            wanted = (wanted / 2).max(SHARE_MIN_BYTES);
        }
    }

    /// Bytes of the share.
    pub fn bytes(&self) -> usize {
        self.reservation.bytes()
    }

    /// Whether the budget made it smaller than it would be.
    pub fn bounded(&self) -> bool {
        self.bounded
    }

    /// Bytes decoded in one go.
    pub fn round_bytes(&self) -> usize {
        (self.bytes() / 8).clamp(256 << 10, 2 << 20)
    }

    /// Tells librdkafka: half of the share in its queue, a quarter in the response that is under way, the rest is for
    /// batches. What the table says is kept where it is less.
    pub fn apply(&self, properties: &mut ClientProperties, partitions: usize) {
        let at_most = |properties: &mut ClientProperties, key: &str, or: Option<&str>, most: usize| {
            let given = properties.native(key).or_else(|| properties.native(or?));
            let given = given.and_then(|v| v.parse::<usize>().ok()).unwrap_or(usize::MAX);
            properties.set(key, &given.min(most).to_string());
        };
        let bytes = self.bytes();
        let response = (bytes / 4).clamp(256 << 10, 50 << 20);
        at_most(properties, "queued.max.messages.kbytes", None, (bytes / 2 / 1024).max(1));
        at_most(properties, "fetch.max.bytes", None, response);
        at_most(properties, "max.partition.fetch.bytes", None, response.min(1 << 20));
        let messages = bytes / 2 / MESSAGE_OVERHEAD_BYTES / partitions.max(1);
        at_most(properties, "queued.min.messages", None, messages.clamp(1_000, 100_000));
        // librdkafka refuses a response larger than this, and one message may be larger than what is asked for.
        properties.set_default("receive.message.max.bytes", "1000000000");
        // It also raises fetch.max.bytes to message.max.bytes, which means nothing for a consumer.
        properties.set_default("message.max.bytes", "1000");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::properties::Side;

    fn budget(bytes: usize) -> MemoryBudget {
        MemoryBudget::new(|of| if of == MemoryUse::Fetch { bytes } else { 0 })
    }

    #[test]
    fn shares_never_exceed_the_budget_until_it_is_spent() {
        let of = budget(64 << 20);
        let shares: Vec<_> = (0..3).map(|_| FetchShare::take(&of, 3)).collect();
        assert!(shares.iter().all(|s| s.bytes() == 16 << 20 && s.bounded()), "{shares:?}");
        // Another source finds a quarter left, and a third one less and less.
        assert_eq!(FetchShare::take(&of, 1).bytes(), 16 << 20);
        let rest = of.try_reserve(MemoryUse::Fetch, 16 << 20).expect("a quarter is left");
        assert_eq!(FetchShare::take(&of, 1).bytes(), SHARE_MIN_BYTES);
        drop((shares, rest));
        assert_eq!(of.used_bytes(MemoryUse::Fetch), 0);
        let free = FetchShare::take(&MemoryBudget::unlimited(), 4);
        assert!(free.bytes() == SHARE_MAX_BYTES && !free.bounded());
    }

    #[test]
    fn one_reader_at_a_time_is_beyond_the_budget() {
        let of = budget(10);
        let fits = Extra::take(&of, 8, false).expect("8 of 10");
        let beyond = Extra::take(&of, 30, false).expect("the one place");
        assert!(Extra::take(&of, 30, false).is_none());
        let anyway = Extra::take(&of, 30, true).expect("after waiting for long");
        drop(anyway);
        assert!(Extra::take(&of, 30, false).is_none(), "the place is still taken");
        drop(beyond);
        drop(Extra::take(&of, 30, false).expect("it is free again"));
        drop(fits);
        assert_eq!(of.used_bytes(MemoryUse::Fetch), 0);
    }

    #[test]
    fn the_settings_of_the_client_fit_into_the_share() {
        let of = budget(32 << 20);
        let share = FetchShare::take(&of, 1);
        let given = [("bootstrap.servers", "h:1"), ("fetch.max.bytes", "500000")];
        let given = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut properties = ClientProperties::translate(given, Side::Consumer).expect("known keys");
        share.apply(&mut properties, 10);
        assert_eq!(properties.native("queued.max.messages.kbytes"), Some("8192"));
        assert_eq!(properties.native("fetch.max.bytes"), Some("500000"));
        assert_eq!(properties.native("max.partition.fetch.bytes"), Some("1048576"));
        assert_eq!(properties.native("queued.min.messages"), Some("2097"));
        properties.check().expect("librdkafka takes them");
    }
}
