//! The account of one channel: what is under way to its consumer. Both sides keep one; pure.

use std::collections::VecDeque;

use super::{OVERDRAFT_MAX, SIGNALS_MAX};

/// Signals that an overtaking barrier may take along, and barriers that go in front of everything.
const SIGNALS_OVERDRAFT_MAX: u64 = 128;

/// What may be under way, and what is.
#[derive(Clone, Debug)]
pub(super) struct Window {
    batches_max: u64,
    bytes_max: u64,
    /// Bytes of each batch under way, oldest first.
    sizes: VecDeque<u32>,
    bytes: u64,
    sent_signals: u64,
    taken_batches: u64,
    taken_signals: u64,
}

/// What a consumer's task has taken since the link began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Credit {
    pub(super) batches: u64,
    pub(super) signals: u64,
}

impl Credit {
    pub(super) fn encode(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.batches.to_le_bytes());
        out[8..].copy_from_slice(&self.signals.to_le_bytes());
        out
    }
    pub(super) fn decode(bytes: &[u8; 16]) -> Self {
        let number = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        Credit { batches: number(0), signals: number(8) }
    }
}

impl Window {
    pub(super) fn new(batches_max: u32, bytes_max: u32) -> Self {
        Window {
            batches_max: u64::from(batches_max),
            bytes_max: u64::from(bytes_max),
            sizes: VecDeque::new(),
            bytes: 0,
            sent_signals: 0,
            taken_batches: 0,
            taken_signals: 0,
        }
    }
    fn batches(&self) -> u64 {
        self.sizes.len() as u64
    }
    fn signals(&self) -> u64 {
        self.sent_signals - self.taken_signals
    }
    /// Whether anything may be sent. A batch of any size goes while there is a byte of room: one more than fits, never a stuck channel.
    pub(super) fn has_room(&self) -> bool {
        self.batches() < self.batches_max && self.bytes < self.bytes_max && self.signals() < SIGNALS_MAX
    }
    /// Whether more is under way than any barrier may have taken along.
    pub(super) fn exceeded(&self) -> bool {
        self.batches() > self.batches_max + OVERDRAFT_MAX || self.signals() > SIGNALS_MAX + SIGNALS_OVERDRAFT_MAX
    }
    /// Which of batches and signals take half of the room: the producer will wait for credit soon.
    pub(super) fn is_half_full(&self) -> (bool, bool) {
        let batches = self.batches() * 2 >= self.batches_max || self.bytes * 2 >= self.bytes_max;
        (batches && self.batches() > 0, self.signals() * 2 >= SIGNALS_MAX)
    }
    pub(super) fn sent_batch(&mut self, bytes: u32) {
        self.sizes.push_back(bytes);
        self.bytes += u64::from(bytes);
    }
    pub(super) fn sent_signal(&mut self) {
        self.sent_signals += 1;
    }
    /// Everything sent so far.
    pub(super) fn sent(&self) -> Credit {
        Credit { batches: self.taken_batches + self.batches(), signals: self.sent_signals }
    }
    /// The consumer's task has taken so much; whether that is new, or why it cannot be. Older news changes nothing.
    pub(super) fn taken(&mut self, credit: Credit) -> Result<bool, String> {
        let sent = self.sent();
        if credit.batches > sent.batches || credit.signals > sent.signals {
            return Err(format!("credit for {credit:?}, but only {sent:?} was sent"));
        }
        let news = credit.batches > self.taken_batches || credit.signals > self.taken_signals;
        for _ in self.taken_batches..credit.batches {
            self.bytes -= self.sizes.pop_front().map_or(0, u64::from);
        }
        self.taken_batches = self.taken_batches.max(credit.batches);
        self.taken_signals = self.taken_signals.max(credit.signals);
        Ok(news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_counted_in_batches_bytes_and_signals() {
        let mut w = Window::new(3, 100);
        assert!(w.has_room() && w.is_half_full() == (false, false));
        w.sent_batch(40);
        w.sent_batch(1000);
        assert!(!w.has_room() && w.is_half_full().0, "the second was let in by one byte of room");
        assert_eq!(w.taken(Credit { batches: 1, signals: 0 }), Ok(true));
        assert!(!w.has_room() && w.is_half_full().0, "1000 bytes are still there");
        assert_eq!(w.taken(Credit { batches: 2, signals: 0 }), Ok(true));
        assert!(w.has_room() && !w.is_half_full().0);
        assert_eq!(w.taken(Credit { batches: 1, signals: 0 }), Ok(false), "old news");
        assert!(w.taken(Credit { batches: 3, signals: 0 }).is_err_and(|e| e.contains("only")));
        (0..SIGNALS_MAX).for_each(|_| w.sent_signal());
        assert!(!w.has_room() && w.is_half_full() == (false, true));
        assert_eq!(w.taken(Credit { batches: 2, signals: 1 }), Ok(true));
        assert!(w.has_room() && !w.exceeded());
        (0..3 + OVERDRAFT_MAX).for_each(|_| w.sent_batch(1));
        assert!(!w.exceeded(), "as many as a barrier may take along");
        w.sent_batch(1);
        assert!(w.exceeded());
    }
}
