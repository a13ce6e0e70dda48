//! What the writer leaves in the checkpoint about a prepared transaction, and what a coordinator's answer says about its fate.
//! Pure: asks nobody.

use flott_core::sink::Committable;
use flott_core::{CheckpointId, Result};

use super::protocol::TransactionState;
use crate::wire::{Reader, Writer};

/// Tag and version of the encoding.
const TAG: (u8, u8) = (b'K', 1);

/// A transaction whose records are all in Kafka and which waits for its commit. Id, producer and epoch together are used for one
/// transaction only, ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The transactional id.
    pub id: String,
    /// The producer id.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// When the transaction began, by the coordinator's clock.
    pub started_ms: i64,
    /// After how long the broker aborts it.
    pub timeout_ms: i32,
    /// How many records it holds.
    pub rows: u64,
    /// The topics it wrote to, separated by commas; for messages.
    pub topics: String,
}

impl Prepared {
    /// As part of a checkpoint.
    pub fn to_committable(&self, checkpoint: CheckpointId) -> Committable {
        let payload = Writer::new(TAG.0, TAG.1)
            .text(&self.id)
            .u64(self.producer_id as u64)
            .u64(self.epoch as u64)
            .u64(self.started_ms as u64)
            .u64(self.timeout_ms as u64)
            .u64(self.rows)
            .text(&self.topics);
        let id = format!("{}:{}:{}", self.id, self.producer_id, self.epoch);
        Committable { id, checkpoint, payload: payload.done() }
    }

    /// Back from its encoding.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        let mut r = Reader::new("prepared transaction", payload, TAG.0, TAG.1)?;
        let prepared = Prepared {
            id: r.text()?,
            producer_id: r.u64()? as i64,
            epoch: r.u64()? as i16,
            started_ms: r.u64()? as i64,
            timeout_ms: r.u64()? as i32,
            rows: r.u64()?,
            topics: r.text()?,
        };
        r.end()?;
        Ok(prepared)
    }
}

/// What became of a prepared transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It waits for its commit.
    Open,
    /// It is committed, or will be whatever happens.
    Committed,
    /// It was aborted: its records are lost.
    Aborted,
    /// The coordinator has forgotten the id: nobody can tell.
    Forgotten,
}

/// Reads the fate of `prepared` from what the coordinator says about its id now.
///
/// It can be read because of three rules that writer, committer and clean-up keep: an id is initialised anew (epoch + 1) only after
/// its transaction was committed; a transaction is aborted only by fencing or by its timeout, which leave `CompleteAbort` with the
/// transaction's start (and an epoch that is higher by 1, or by 2 with the second transaction protocol); and an id with an aborted
/// transaction is never initialised again.
pub fn fate(prepared: &Prepared, now: Option<&TransactionState>) -> Fate {
    let Some(now) = now else { return Fate::Forgotten };
    let same = (now.producer_id, now.producer_epoch) == (prepared.producer_id, prepared.epoch);
    let same_start = now.started_ms == prepared.started_ms;
    match now.state.as_str() {
        "Ongoing" if same => Fate::Open,
        "PrepareCommit" | "CompleteCommit" if same => Fate::Committed,
        "PrepareAbort" | "CompleteAbort" | "PrepareEpochFence" if same || same_start => Fate::Aborted,
        "Dead" => Fate::Forgotten,
        // The same producer and epoch with no transaction at all: it never began, and no writer prepares that.
        _ if same => Fate::Aborted,
        // Another epoch, another transaction or none: the id was initialised again, so ours was committed before.
        _ if now.producer_epoch > prepared.epoch || now.producer_id != prepared.producer_id => Fate::Committed,
        // Epochs never go back.
        _ => Fate::Forgotten,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared() -> Prepared {
        let (id, topics) = ("p-0-1-0-3".to_owned(), "a,b".to_owned());
        Prepared { id, producer_id: 70_000, epoch: 5, started_ms: 1_000, timeout_ms: 60_000, rows: 12, topics }
    }

    #[test]
    fn it_comes_back_from_its_encoding_and_foreign_bytes_are_refused() {
        let p = prepared();
        let committable = p.to_committable(CheckpointId(9));
        assert_eq!(committable.id, "p-0-1-0-3:70000:5");
        assert_eq!(Prepared::decode(&committable.payload).expect("its own bytes"), p);
        for cut in 0..committable.payload.len() {
            assert!(Prepared::decode(&committable.payload[..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = committable.payload;
        longer.push(0);
        assert!(Prepared::decode(&longer).is_err());
    }

    #[test]
    fn the_fate_of_a_transaction() {
        // State, producer id, epoch, start -> fate of a transaction of producer 70000, epoch 5, begun at 1000.
        let cases = [
            ("Ongoing", 70_000, 5, 1_000, Fate::Open),
            ("PrepareCommit", 70_000, 5, 1_000, Fate::Committed),
            ("CompleteCommit", 70_000, 5, 1_000, Fate::Committed),
            // It expired or was fenced: the epoch is bumped once, by the second protocol twice.
            ("PrepareAbort", 70_000, 6, 1_000, Fate::Aborted),
            ("CompleteAbort", 70_000, 6, 1_000, Fate::Aborted),
            ("CompleteAbort", 70_000, 7, 1_000, Fate::Aborted),
            ("CompleteAbort", 70_000, 5, 1_000, Fate::Aborted),
            ("Empty", 70_000, 5, -1, Fate::Aborted),
            // The id was used again.
            ("Empty", 70_000, 6, -1, Fate::Committed),
            ("Ongoing", 70_000, 6, 2_000, Fate::Committed),
            ("CompleteCommit", 70_000, 6, 2_000, Fate::Committed),
            ("CompleteAbort", 70_000, 7, 2_000, Fate::Committed),
            ("Empty", 70_001, 0, -1, Fate::Committed),
            ("Dead", 70_000, 5, -1, Fate::Forgotten),
            ("Empty", 70_000, 4, -1, Fate::Forgotten),
        ];
        for (state, producer_id, producer_epoch, started_ms, expected) in cases {
            let now = TransactionState {
                state: state.to_owned(),
                producer_id,
                producer_epoch,
                started_ms,
                timeout_ms: 60_000,
                topics: Vec::new(),
            };
            assert_eq!(fate(&prepared(), Some(&now)), expected, "{state} {producer_id} {producer_epoch} {started_ms}");
        }
        assert_eq!(fate(&prepared(), None), Fate::Forgotten);
    }
}
