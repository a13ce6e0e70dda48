//! Typed keyed state for process functions: value, list, map, reducing and aggregating state over the tables of a backend.
//!
//! States are handles registered at open. They read one key at a time and are served in batches: `prefetch` loads the
//! distinct keys of a batch once, `flush` writes back once. A state never sees the backend outside a call, and nothing that
//! was prefetched may be unflushed when a barrier passes.

mod cache;
mod map;
mod map_key;
mod single;
#[cfg(test)]
mod tests;

use flott_core::error::{Error, Result};
use flott_core::key_group::{KeyGroup, key_group_of, key_hash};
use flott_core::state::{KeyBatch, StateBackend, TableDescriptor, TableId, TableKind, Ttl};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use map::MapState;
pub use map_key::MapKey;
pub use single::{AggregateFunction, AggregatingState, ListState, ReducingState, ValueState};

/// What may be kept in state: any type that serde can write and read.
pub trait StateType: Serialize + DeserializeOwned + Clone + Send + 'static {}

impl<T: Serialize + DeserializeOwned + Clone + Send + 'static> StateType for T {}

/// Where an access goes: the current key, its key group, and the namespace (0 outside windows).
#[derive(Clone, Copy, Debug)]
pub struct StateKey<'a> {
    /// Namespace.
    pub namespace: i64,
    /// Key group of the key.
    pub group: KeyGroup,
    /// Canonical bytes of the key.
    pub key: &'a [u8],
}

impl<'a> StateKey<'a> {
    /// Key `i` of a batch, in namespace 0.
    pub fn of(keys: &'a KeyBatch, i: usize) -> Self {
        StateKey { namespace: 0, group: keys.groups[i], key: keys.key(i) }
    }
    /// A single key, in namespace 0.
    pub fn new(key: &'a [u8], max_parallelism: u32) -> Self {
        StateKey { namespace: 0, group: key_group_of(key_hash(key), max_parallelism), key }
    }
    /// The same key in another namespace.
    pub fn in_namespace(self, namespace: i64) -> Self {
        StateKey { namespace, ..self }
    }
}

/// Name, schema text and expiry of a state.
#[derive(Clone, Debug)]
pub struct StateDescriptor {
    /// Name, unique within the operator.
    pub name: String,
    /// What the values mean; the type's name unless given. A restored state with another text is refused.
    pub schema: Option<String>,
    /// Expiry, if any.
    pub ttl: Option<Ttl>,
}

impl From<&str> for StateDescriptor {
    /// A state without expiry.
    fn from(name: &str) -> Self {
        StateDescriptor::new(name)
    }
}

impl StateDescriptor {
    /// A state without expiry.
    pub fn new(name: impl Into<String>) -> Self {
        StateDescriptor { name: name.into(), schema: None, ttl: None }
    }
    /// Entries are gone `ttl_ms` milliseconds of processing time after they were last written.
    pub fn with_ttl(mut self, ttl: Ttl) -> Self {
        self.ttl = Some(ttl);
        self
    }
    /// Names the meaning of the values independently of Rust's type names.
    pub fn with_schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    fn register(
        &self,
        backend: &mut dyn StateBackend,
        shape: &str,
        types: &[&str],
        kind: TableKind,
    ) -> Result<TableId> {
        let meaning = self.schema.clone().unwrap_or_else(|| types.join(", "));
        let schema = format!("{shape}<{meaning}>");
        backend.register(&TableDescriptor { name: self.name.clone(), kind, schema, ttl: self.ttl })
    }
}

fn encode<T: Serialize>(name: &str, value: &T) -> Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(|e| {
        Error::user("state.encode", format!("a value of the state `{name}` cannot be written: {e}"))
            .hint("the type's Serialize implementation must give lengths and not ask for self-describing formats")
    })
}

fn decode<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(undecodable(name, &format!("{} bytes are left over", rest.len()))),
        Err(e) => Err(undecodable(name, &e.to_string())),
    }
}

fn undecodable(name: &str, why: &str) -> Error {
    Error::corrupt("state.decode", format!("a value of the state `{name}` cannot be read: {why}"))
        .hint("if the type's fields changed, restore with the old type or give the state a new name")
}
