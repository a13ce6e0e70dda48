//! The few requests of Kafka's protocol that librdkafka has no call for: ending, describing, listing and fencing transactions of
//! processes that are dead. Blocking, over connections of its own; never carries a record.

mod calls;
mod cluster;
mod connection;
mod failure;
mod login;
mod scram;
mod security;
mod tls;

pub use cluster::{Cluster, Listed, TransactionState};
pub use failure::CallError;
pub use security::Security;

#[cfg(test)]
mod tests;
