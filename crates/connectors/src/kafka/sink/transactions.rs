//! The thread of one subtask that makes producers with open transactions ahead of time, looks at transactions before they are
//! prepared, and takes apart what is not needed any more, so that the task's thread waits for no server. Never commits.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::Duration;

use flott_core::{Error, Result};

use super::check;
use super::config::ProducerConfig;
use super::naming::Names;
use super::producer::SinkProducer;
use super::protocol::{Cluster, Security, TransactionState};

/// How long the initialisation of a transactional id may take.
const INITIALISE_MS: u64 = 30_000;
/// Orders that may wait.
const ORDERS_MAX: usize = 8;
/// How long the writer waits for the abort of its transaction when it is dropped.
const ABORT_MS: u64 = 2_000;
/// The timeout in requests that fence; any would do.
const FENCE_TIMEOUT_MS: i32 = 60_000;

/// A producer whose transaction has begun.
pub struct OpenTransaction {
    /// The producer. Makes one transaction and is then dropped, so that its epoch stands for that transaction.
    pub producer: SinkProducer,
    /// Its transactional id.
    pub id: String,
    /// Its producer id.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// After how long the broker aborts the transaction.
    pub timeout_ms: i32,
}

enum Order {
    Open,
    Look(String),
    Close(Box<SinkProducer>),
    Abort(Box<SinkProducer>, String),
}

/// The writer's end.
pub struct Transactions {
    orders: Option<SyncSender<Order>>,
    opened: Receiver<Result<OpenTransaction>>,
    looked: Receiver<Result<Option<TransactionState>>>,
    ended: Receiver<()>,
    opening: bool,
    looking: bool,
}

impl Transactions {
    /// Starts the thread; it asks for nothing before the first order.
    pub fn start(
        config: Arc<ProducerConfig>,
        security: Security,
        names: Arc<Names>,
        topic: Option<String>,
    ) -> Result<Self> {
        let (orders, inbox) = sync_channel(ORDERS_MAX);
        let (open_to, opened) = sync_channel(1);
        let (look_to, looked) = sync_channel(1);
        let (end_to, ended) = sync_channel(1);
        let mut cluster = Cluster::new(config.servers(), security);
        cluster.set_patient(true);
        let worker = Worker { config, cluster, names, topic, timeout_ms: None };
        let run = move || {
            worker.run(&inbox, &open_to, &look_to);
            // Nobody may be waiting.
            let _ = end_to.try_send(());
        };
        let spawned = std::thread::Builder::new().name("kafka-transactions".into()).spawn(run);
        spawned.map_err(super::no_thread)?;
        Ok(Transactions { orders: Some(orders), opened, looked, ended, opening: false, looking: false })
    }

    fn order(&self, order: Order) -> Result<(), Order> {
        match self.orders.as_ref().map(|o| o.try_send(order)) {
            Some(Ok(())) => Ok(()),
            Some(Err(TrySendError::Full(order) | TrySendError::Disconnected(order))) => Err(order),
            None => Ok(()),
        }
    }

    /// Asks for the next transaction, unless that was done.
    pub fn prepare_next(&mut self) {
        if !self.opening {
            self.opening = self.order(Order::Open).is_ok();
        }
    }

    /// The next transaction, once it is there.
    pub fn take_next(&mut self) -> Result<Option<OpenTransaction>> {
        self.prepare_next();
        match self.opened.try_recv() {
            Ok(opened) => {
                self.opening = false;
                opened.map(Some)
            }
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(stopped()),
        }
    }

    /// What the coordinator says about `id` now, once it has said it.
    pub fn look(&mut self, id: &str) -> Result<Option<Option<TransactionState>>> {
        if !self.looking {
            self.looking = self.order(Order::Look(id.to_owned())).is_ok();
        }
        match self.looked.try_recv() {
            Ok(state) => {
                self.looking = false;
                state.map(Some)
            }
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(stopped()),
        }
    }

    /// Takes a producer apart.
    pub fn close(&self, producer: SinkProducer) {
        // When there is no room it is dropped here, which takes a little longer.
        drop(self.order(Order::Close(Box::new(producer))));
    }

    /// Aborts a transaction that is in no checkpoint, so that readers need not wait for its timeout. Waits a little for it; if
    /// Kafka cannot be reached, the next start of the job aborts it.
    pub fn abort(&mut self, transaction: OpenTransaction) {
        let OpenTransaction { producer, id, .. } = transaction;
        drop(self.order(Order::Abort(Box::new(producer), id)));
        self.orders = None;
        let _ = self.ended.recv_timeout(Duration::from_millis(ABORT_MS));
    }
}

fn stopped() -> Error {
    Error::bug("the thread of Kafka's transactions has stopped")
}

struct Worker {
    config: Arc<ProducerConfig>,
    cluster: Cluster,
    names: Arc<Names>,
    /// The topic to look for at the first start.
    topic: Option<String>,
    timeout_ms: Option<i32>,
}

impl Worker {
    fn run(
        mut self,
        inbox: &Receiver<Order>,
        opened: &SyncSender<Result<OpenTransaction>>,
        looked: &SyncSender<Result<Option<TransactionState>>>,
    ) {
        // Ends when the writer is dropped. At most one answer of a kind is asked for at a time, so no send waits.
        while let Ok(order) = inbox.recv() {
            let delivered = match order {
                Order::Open => opened.try_send(self.open()).is_ok(),
                Order::Look(id) => looked.try_send(self.look(&id)).is_ok(),
                Order::Close(producer) => {
                    drop(producer);
                    true
                }
                Order::Abort(producer, id) => {
                    producer.purge();
                    if let Err(e) = self.cluster.fence(&id, FENCE_TIMEOUT_MS) {
                        tracing::debug!(id, "a transaction could not be aborted: {e:?}");
                    }
                    true
                }
            };
            if !delivered {
                return;
            }
        }
    }

    fn timeout_ms(&mut self) -> i32 {
        let (given, cluster) = (self.config.transaction_timeout_ms, &mut self.cluster);
        *self.timeout_ms.get_or_insert_with(|| check::effective_timeout_ms(given, cluster))
    }

    fn open(&mut self) -> Result<OpenTransaction> {
        let timeout_ms = self.timeout_ms();
        let id = self.names.take();
        let producer = SinkProducer::open(&self.config, Some((&id, timeout_ms)))?;
        if let Some(topic) = &self.topic {
            producer.check_topic(topic)?;
            self.topic = None;
        }
        producer.initialise(INITIALISE_MS)?;
        let Some(state) = self.look(&id)? else {
            return Err(Error::retry(
                "kafka.transaction-lost",
                format!("kafka forgot the transactional id '{id}' at once"),
            )
            .hint("see the log of the broker that coordinates transactions"));
        };
        producer.begin()?;
        self.names.opened(&id, state.producer_epoch);
        Ok(OpenTransaction { producer, id, producer_id: state.producer_id, epoch: state.producer_epoch, timeout_ms })
    }

    fn look(&mut self, id: &str) -> Result<Option<TransactionState>> {
        let looked = self.cluster.describe(id);
        looked.map_err(|e| e.into_error(self.config.servers()))
    }
}
