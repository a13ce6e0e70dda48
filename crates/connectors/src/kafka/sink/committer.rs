//! The committer: gives prepared transactions to a thread that ends them, and says `Pending` until it has, so that the task's
//! thread waits for no server. Ends nothing itself.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use flott_core::sink::{CommitError, Committable, Committer, SinkContext};
use flott_core::{CheckpointId, Error, Result};

use super::committable::Prepared;
use super::endings::Endings;

/// How long a call waits for a commit that is as quick as usual.
const WAIT_MS: u64 = 2;
/// When to ask again.
const AGAIN_MS: i64 = 2;

enum Order {
    Commit(Vec<(Prepared, CheckpointId)>),
    CleanUp,
}

enum Answer {
    Committed(Result<(), CommitError>),
    CleanedUp(Result<()>),
}

/// Commits the transactions of one subtask.
pub struct KafkaCommitter {
    context: SinkContext,
    orders: SyncSender<Order>,
    answers: Receiver<Answer>,
    /// How many committables are with the thread, and since when.
    under_way: Option<(usize, u64)>,
}

impl KafkaCommitter {
    /// A committer, and its thread; it ends with the committer.
    pub fn start(mut endings: Endings, context: SinkContext) -> Result<Self> {
        // One order at a time: neither side ever waits for room.
        let (orders, inbox) = sync_channel(1);
        let (outbox, answers) = sync_channel(1);
        let run = move || {
            while let Ok(order) = inbox.recv() {
                let answer = match order {
                    Order::Commit(transactions) => Answer::Committed(endings.commit(&transactions)),
                    Order::CleanUp => Answer::CleanedUp(endings.clean_up()),
                };
                if outbox.send(answer).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("kafka-commits".into()).spawn(run).map_err(super::no_thread)?;
        Ok(KafkaCommitter { context, orders, answers, under_way: None })
    }

    fn order(&self, order: Order) -> Result<()> {
        self.orders.try_send(order).map_err(|_| Error::bug("the thread of Kafka's commits does not take orders"))
    }

    fn pending(&self, committed: usize) -> CommitError {
        CommitError::Pending { committed, until_ms: self.context.clock.now_ms().saturating_add(AGAIN_MS) }
    }

    fn ended(&mut self, begun: u64, done: &Result<(), CommitError>) {
        let external = &self.context.metrics.external;
        external.end(0, self.context.clock.now_nanos().saturating_sub(begun));
        if matches!(done, Err(CommitError::Determinate(_))) {
            external.retries.add(1);
        }
    }
}

impl Committer for KafkaCommitter {
    fn commit(&mut self, committables: &[Committable]) -> Result<(), CommitError> {
        let (count, begun) = match self.under_way {
            Some(under_way) => under_way,
            None => {
                let decode = |c: &Committable| Ok((Prepared::decode(&c.payload)?, c.checkpoint));
                let transactions: Result<Vec<_>> = committables.iter().map(decode).collect();
                self.order(Order::Commit(transactions.map_err(CommitError::Fatal)?)).map_err(CommitError::Fatal)?;
                let clock = &self.context.clock;
                let what = format!("commit of {} transactions", committables.len());
                self.context.metrics.external.begin(what, clock.now_ms());
                let under_way = (committables.len(), clock.now_nanos());
                self.under_way = Some(under_way);
                under_way
            }
        };
        match self.answers.recv_timeout(Duration::from_millis(WAIT_MS)) {
            Err(RecvTimeoutError::Timeout) => Err(self.pending(0)),
            Ok(Answer::Committed(done)) => {
                self.under_way = None;
                self.ended(begun, &done);
                done?;
                // What came since is next.
                if committables.len() > count { Err(self.pending(count)) } else { Ok(()) }
            }
            Ok(Answer::CleanedUp(_)) | Err(RecvTimeoutError::Disconnected) => {
                Err(CommitError::Indeterminate(Error::bug("the thread of Kafka's commits has stopped")))
            }
        }
    }

    /// At the start, when there is nothing else to do: waits for the answer, which has a limit.
    fn clean_up(&mut self) -> Result<()> {
        self.order(Order::CleanUp)?;
        match self.answers.recv() {
            Ok(Answer::CleanedUp(done)) => done,
            _ => Err(Error::bug("the thread of Kafka's commits has stopped")),
        }
    }
}
