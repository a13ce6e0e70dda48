//! Ends prepared transactions by their stored producer id and epoch, whether their producer is alive or long dead, and aborts what
//! dead attempts left open. Blocks, so it runs on the committer's thread. Ends no transaction that is not named to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flott_core::sink::{CommitError, SinkContext};
use flott_core::{CheckpointId, Error, Result, crash_point};
use kafka_protocol::ResponseError;

use super::committable::{Fate, Prepared, fate};
use super::naming::{Names, Origin, family};
use super::protocol::{CallError, Cluster};

/// The timeout in requests that fence; any would do.
const FENCE_TIMEOUT_MS: i32 = 60_000;

/// What a committer shares with the others of its sink.
pub struct Shared {
    /// The names of its subtask's transactions.
    pub names: Arc<Names>,
    /// Whether the sweep was done in this attempt.
    pub swept: Arc<AtomicBool>,
}

/// Ends the transactions of one subtask.
pub struct Endings {
    cluster: Cluster,
    context: SinkContext,
    table: String,
    prefix: String,
    ignore_lost: bool,
    shared: Shared,
}

impl Endings {
    /// The endings of the sink of `table`.
    pub fn new(
        cluster: Cluster,
        context: SinkContext,
        table: String,
        prefix: String,
        ignore_lost: bool,
        shared: Shared,
    ) -> Self {
        Endings { cluster, context, table, prefix, ignore_lost, shared }
    }

    /// Commits in order, up to the first that fails.
    pub fn commit(&mut self, transactions: &[(Prepared, CheckpointId)]) -> Result<(), CommitError> {
        self.cluster.set_patient(true);
        let family = family(&self.prefix, &self.context);
        let mut own = false;
        for (prepared, checkpoint) in transactions {
            crash_point::reach("kafka.sink.commit");
            self.commit_one(prepared, *checkpoint)?;
            crash_point::reach("kafka.sink.committed");
            own |= Origin::read(&family, &prepared.id).is_some_and(|o| !o.is_dead(&self.context));
            self.shared.names.give_back(&prepared.id, prepared.epoch);
        }
        // A transaction of this attempt is in a complete checkpoint, so every subtask has committed what it restored: whatever
        // dead attempts still have open is in no checkpoint.
        if own { self.sweep_once().map_err(CommitError::Determinate) } else { Ok(()) }
    }

    /// An open transaction of a dead attempt may be a restored committable of another subtask that has not committed yet. Alone,
    /// this committer knows that there is none; else they are aborted at the first commit of this attempt.
    pub fn clean_up(&mut self) -> Result<()> {
        self.cluster.set_patient(false);
        if self.context.parallelism == 1 { self.sweep_once() } else { Ok(()) }
    }

    fn sweep_once(&mut self) -> Result<()> {
        if self.shared.swept.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        self.sweep().inspect_err(|_| self.shared.swept.store(false, Ordering::SeqCst))
    }

    /// Commits one transaction. No other transaction ever has its id, producer id and epoch, so that the request can go out at
    /// once; only a refusal makes it necessary to look.
    fn commit_one(&mut self, prepared: &Prepared, checkpoint: CheckpointId) -> Result<(), CommitError> {
        let Prepared { id, producer_id, epoch, .. } = prepared;
        match self.cluster.end(id, *producer_id, *epoch, true) {
            Ok(()) => return Ok(()),
            Err(e) => match e.response() {
                Some(
                    ResponseError::InvalidProducerEpoch
                    | ResponseError::ProducerFenced
                    | ResponseError::InvalidProducerIdMapping
                    | ResponseError::InvalidTxnState
                    | ResponseError::ConcurrentTransactions,
                ) => tracing::debug!(id, "a commit was refused: {e:?}"),
                _ => return Err(self.not_now(e, prepared)),
            },
        }
        let state = self.cluster.describe(id).map_err(|e| self.not_now(e, prepared))?;
        match fate(prepared, state.as_ref()) {
            Fate::Committed => Ok(()),
            Fate::Open => {
                let servers = self.cluster.servers();
                Err(CommitError::Determinate(
                    Error::retry(
                        "kafka.commit",
                        format!("kafka {servers}: the transaction '{id}' cannot be committed yet"),
                    )
                    .hint("the coordinator is busy with it; see the log of the brokers if this goes on"),
                ))
            }
            fate => self.lost(prepared, checkpoint, fate),
        }
    }

    /// The error for a commit that may be tried again: to commit what is committed changes nothing.
    fn not_now(&self, e: CallError, prepared: &Prepared) -> CommitError {
        let error = e.into_error(self.cluster.servers());
        CommitError::Determinate(error.context(format_args!("the transaction '{}' is not committed", prepared.id)))
    }

    /// A transaction that Kafka aborted, or forgot.
    fn lost(&self, prepared: &Prepared, checkpoint: CheckpointId, fate: Fate) -> Result<(), CommitError> {
        let Prepared { id, rows, topics, timeout_ms, .. } = prepared;
        let (table, servers) = (&self.table, self.cluster.servers());
        let what = format!("{rows} records for '{topics}' of checkpoint {checkpoint}, in the transaction '{id}'");
        if self.ignore_lost {
            tracing::error!(table, servers, "given up, since 'sink.lost-transactions' is 'ignore': {what}");
            self.context.metrics.bad_skipped.add(*rows);
            return Ok(());
        }
        let error = match fate {
            Fate::Forgotten => Error::user("kafka.transaction-lost", format!("table `{table}`: nobody knows what became of {what}"))
                .detail(format!(
                    "kafka {servers} forgets a transactional id that was not used for transactional.id.expiration.ms (7 days); \
                     the transaction was committed before, or it expired after {timeout_ms} ms"
                ))
                .hint(
                    "look whether the records are in the topic; start from another checkpoint, or set 'sink.lost-transactions' = \
                     'ignore' to go on in any case",
                ),
            _ => Error::user("kafka.transaction-lost", format!("table `{table}`: kafka {servers} aborted {what}: they are lost"))
                .detail(format!(
                    "a transaction that is not committed within its timeout is aborted; this one had {timeout_ms} ms, \
                     and the job was down for longer between the checkpoint and its commit"
                ))
                .hint(
                    "raise 'properties.transaction.timeout.ms' (and transaction.max.timeout.ms of the brokers) above the longest time \
                     the job may be down; now start from an older checkpoint or an earlier offset, or set \
                     'sink.lost-transactions' = 'ignore' to go on without these records",
                ),
        };
        Err(CommitError::Fatal(error))
    }

    /// Aborts what dead attempts of any subtask left open.
    fn sweep(&mut self) -> Result<()> {
        let family = family(&self.prefix, &self.context);
        let servers = self.cluster.servers().to_owned();
        let failed =
            |e: CallError| e.into_error(&servers).context("open transactions of dead attempts cannot be aborted");
        for open in self.cluster.list(&family, &["Ongoing"]).map_err(failed)? {
            if Origin::read(&family, &open.id).is_some_and(|o| o.is_dead(&self.context)) {
                tracing::info!(
                    table = self.table,
                    id = open.id,
                    "aborting a transaction that a dead attempt left open"
                );
                self.cluster.fence(&open.id, FENCE_TIMEOUT_MS).map_err(failed)?;
            }
        }
        Ok(())
    }
}
