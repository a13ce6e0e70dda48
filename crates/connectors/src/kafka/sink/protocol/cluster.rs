//! The cluster behind the brokers that a table names: finds the coordinator of a transactional id, asks it, and asks again while
//! that may help. Never asks without a limit.

use std::collections::HashMap;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{
    DescribeConfigsRequest, DescribeTransactionsRequest, EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest,
    ListTransactionsRequest, MetadataRequest, ProducerId, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use super::calls::Call;
use super::connection::Connection;
use super::failure::CallError;
use super::security::Security;

/// How often a call is made before its failure is final.
const TRIES: u32 = 8;
/// The same for a patient cluster.
const TRIES_PATIENT: u32 = 60;
/// Pause before the second try; doubles up to [`PAUSE_MS_MAX`].
const PAUSE_MS: u64 = 20;
const PAUSE_MS_MAX: u64 = 500;
/// The key type of transactional ids in FindCoordinator.
const TRANSACTION: i8 = 1;
/// The resource type of brokers in DescribeConfigs.
const BROKER: i8 = 4;

/// What the coordinator knows about a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionState {
    /// `Empty`, `Ongoing`, `PrepareCommit`, `PrepareAbort`, `CompleteCommit`, `CompleteAbort`, `PrepareEpochFence` or `Dead`.
    pub state: String,
    /// The producer id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// When the transaction began, by the coordinator's clock; -1 when there was none since the last initialisation.
    pub started_ms: i64,
    /// Its timeout.
    pub timeout_ms: i32,
    /// The topics that it wrote to and that are not told of its end yet.
    pub topics: Vec<String>,
}

/// A transactional id in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The id.
    pub id: String,
    /// The state, as in [`TransactionState::state`].
    pub state: String,
}

/// Connections to a cluster, made when needed.
pub struct Cluster {
    security: Security,
    /// `host:port,…` from the table.
    servers: String,
    connections: HashMap<String, Connection>,
    /// Coordinators by transactional id; emptied when an answer shows that one is wrong.
    coordinators: HashMap<String, String>,
    tries: u32,
}

/// Ids of coordinators that are remembered.
const COORDINATORS_MAX: usize = 4096;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

impl Cluster {
    /// The cluster behind `servers`; connects to nothing yet.
    pub fn new(servers: &str, security: Security) -> Self {
        let (connections, coordinators) = (HashMap::new(), HashMap::new());
        Cluster { security, servers: servers.to_owned(), connections, coordinators, tries: TRIES }
    }

    /// Whether it is asked for half a minute (where no task waits) or for two seconds before a failure is final.
    pub fn set_patient(&mut self, patient: bool) {
        self.tries = if patient { TRIES_PATIENT } else { TRIES };
    }

    /// The same cluster, asked once only.
    pub fn once(mut self) -> Self {
        self.tries = 1;
        self
    }

    /// The brokers that the table names.
    pub fn servers(&self) -> &str {
        &self.servers
    }

    fn connection(&mut self, address: &str) -> Result<&mut Connection, CallError> {
        if !self.connections.contains_key(address) {
            let opened = Connection::open(&self.security, address)?;
            self.connections.insert(address.to_owned(), opened);
        }
        Ok(self.connections.get_mut(address).expect("it is there or was opened above"))
    }

    /// Calls the broker at `address`; a connection that failed is closed.
    fn call_at<R: Call>(&mut self, address: &str, request: &R) -> Result<R::Answer, CallError> {
        let answer = self.connection(address).and_then(|c| c.call(request));
        if matches!(answer, Err(CallError::Unreachable { .. } | CallError::Garbled { .. })) {
            self.connections.remove(address);
        }
        answer
    }

    /// Calls any broker: one that is connected, else those that the table names, in turn.
    fn call_any<R: Call>(&mut self, request: &R) -> Result<R::Answer, CallError> {
        let mut candidates: Vec<String> = self.connections.values().map(|c| c.address().to_owned()).collect();
        candidates.extend(self.servers.split(',').map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()));
        let mut last = CallError::Unreachable { address: self.servers.clone(), reason: "no broker is named".into() };
        for address in candidates {
            match self.call_at(&address, request) {
                Err(e @ CallError::Unreachable { .. }) => last = e,
                other => return other,
            }
        }
        Err(last)
    }

    /// Tries `call` again while that may help.
    fn persistently<T>(&mut self, mut call: impl FnMut(&mut Self) -> Result<T, CallError>) -> Result<T, CallError> {
        let mut pause_ms = PAUSE_MS;
        for _ in 1..self.tries {
            match call(self) {
                Err(e) if e.is_passing() => {
                    if e.is_misdirected() {
                        self.coordinators.clear();
                    }
                }
                other => return other,
            }
            std::thread::sleep(Duration::from_millis(pause_ms));
            pause_ms = (pause_ms * 2).min(PAUSE_MS_MAX);
        }
        call(self)
    }

    /// The address of the coordinator of a transactional id.
    fn coordinator(&mut self, id: &str) -> Result<String, CallError> {
        if let Some(address) = self.coordinators.get(id) {
            return Ok(address.clone());
        }
        let request = FindCoordinatorRequest::default().with_key(text(id)).with_key_type(TRANSACTION);
        let answer = self.call_any(&request)?;
        check(FindCoordinatorRequest::NAME, answer.error_code)?;
        let address = join(&answer.host, answer.port);
        if self.coordinators.len() >= COORDINATORS_MAX {
            self.coordinators.clear();
        }
        self.coordinators.insert(id.to_owned(), address.clone());
        Ok(address)
    }

    /// Ends the transaction of (`id`, `producer_id`, `epoch`), which librdkafka began. To commit what is committed is a success.
    pub fn end(&mut self, id: &str, producer_id: i64, epoch: i16, commit: bool) -> Result<(), CallError> {
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(text(id)))
            .with_producer_id(ProducerId(producer_id))
            .with_producer_epoch(epoch)
            .with_committed(commit);
        self.persistently(|c| {
            let address = c.coordinator(id)?;
            let answer = c.call_at(&address, &request)?;
            check(EndTxnRequest::NAME, answer.error_code)
        })
    }

    /// What the coordinator knows about an id; `None` when it knows nothing.
    pub fn describe(&mut self, id: &str) -> Result<Option<TransactionState>, CallError> {
        let ids = vec![TransactionalId(text(id))];
        let request = DescribeTransactionsRequest::default().with_transactional_ids(ids);
        self.persistently(|c| {
            let address = c.coordinator(id)?;
            let answer = c.call_at(&address, &request)?;
            let Some(found) = answer.transaction_states.into_iter().next() else {
                let reason = format!("it does not speak of '{id}'");
                return Err(CallError::Garbled { call: DescribeTransactionsRequest::NAME, reason });
            };
            if found.error_code == ResponseError::TransactionalIdNotFound.code() {
                return Ok(None);
            }
            check(DescribeTransactionsRequest::NAME, found.error_code)?;
            Ok(Some(TransactionState {
                state: found.transaction_state.to_string(),
                producer_id: found.producer_id.0,
                producer_epoch: found.producer_epoch,
                started_ms: found.transaction_start_time_ms,
                timeout_ms: found.transaction_timeout_ms,
                topics: found.topics.iter().map(|t| t.topic.to_string()).collect(),
            }))
        })
    }

    /// Aborts the transaction that is open under `id`, and fences its producer: whoever still has it can write no more. Does
    /// nothing when none is open: to initialise an id once more would hide how its last transaction ended.
    pub fn fence(&mut self, id: &str, timeout_ms: i32) -> Result<(), CallError> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(text(id))))
            .with_transaction_timeout_ms(timeout_ms)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        self.persistently(|c| {
            if c.describe(id)?.is_none_or(|t| t.state != "Ongoing") {
                return Ok(());
            }
            let address = c.coordinator(id)?;
            let answer = c.call_at(&address, &request)?;
            match ResponseError::try_from_code(answer.error_code) {
                // The broker aborts, and bids the producer that it takes us for to wait.
                None | Some(ResponseError::ConcurrentTransactions) => Ok(()),
                Some(_) => Err(CallError::Refused { call: InitProducerIdRequest::NAME, code: answer.error_code }),
            }
        })
    }

    /// All transactional ids that begin with `prefix` and are in one of `states`, of the whole cluster.
    pub fn list(&mut self, prefix: &str, states: &[&str]) -> Result<Vec<Listed>, CallError> {
        let brokers = self.persistently(|c| {
            let answer = c.call_any(&MetadataRequest::default().with_topics(Some(Vec::new())))?;
            Ok(answer.brokers.iter().map(|b| join(&b.host, b.port)).collect::<Vec<_>>())
        })?;
        let filters = states.iter().map(|s| text(s)).collect();
        let request = ListTransactionsRequest::default().with_state_filters(filters).with_duration_filter(-1);
        let mut found = Vec::new();
        for address in brokers {
            let listed = self.persistently(|c| {
                let answer = c.call_at(&address, &request)?;
                check(ListTransactionsRequest::NAME, answer.error_code)?;
                Ok(answer.transaction_states)
            })?;
            let ours = listed.into_iter().filter(|t| t.transactional_id.starts_with(prefix));
            found.extend(
                ours.map(|t| Listed { id: t.transactional_id.to_string(), state: t.transaction_state.to_string() }),
            );
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// A setting of a broker, such as `transaction.max.timeout.ms`; `None` when the broker does not tell.
    pub fn broker_setting(&mut self, key: &str) -> Result<Option<String>, CallError> {
        self.persistently(|c| {
            let metadata = c.call_any(&MetadataRequest::default().with_topics(Some(Vec::new())))?;
            let Some(broker) = metadata.brokers.first() else { return Ok(None) };
            let address = join(&broker.host, broker.port);
            let resource = DescribeConfigsResource::default()
                .with_resource_type(BROKER)
                .with_resource_name(text(&broker.node_id.0.to_string()))
                .with_configuration_keys(Some(vec![text(key)]));
            let answer = c.call_at(&address, &DescribeConfigsRequest::default().with_resources(vec![resource]))?;
            let Some(result) = answer.results.into_iter().next() else { return Ok(None) };
            check(DescribeConfigsRequest::NAME, result.error_code)?;
            let setting = result.configs.into_iter().find(|s| &*s.name == key);
            Ok(setting.and_then(|s| s.value).map(|v| v.to_string()))
        })
    }
}

fn check(call: &'static str, code: i16) -> Result<(), CallError> {
    if code == 0 { Ok(()) } else { Err(CallError::Refused { call, code }) }
}

/// `host:port`, with brackets around an IPv6 address.
fn join(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
