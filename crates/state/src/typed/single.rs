//! States with one byte string per key: value, list, reducing, aggregating. Never touches another key than the one given.

use flott_core::error::Result;
use flott_core::state::{KeyBatch, StateBackend, TableKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cache::{CachedValues, ValueCodec};
use super::{StateDescriptor, StateKey, StateType, decode, encode, undecodable};

struct Plain(String);

impl<T: Serialize + DeserializeOwned> ValueCodec<T> for Plain {
    fn encode(&self, value: &T) -> Result<Option<Vec<u8>>> {
        encode(&self.0, value).map(Some)
    }
    fn decode(&self, bytes: &[u8]) -> Result<T> {
        decode(&self.0, bytes)
    }
}

/// Elements back to back, each with its length (u32, little-endian); an empty list is absent.
struct Elements(String);

impl<T: Serialize + DeserializeOwned> ValueCodec<Vec<T>> for Elements {
    fn encode(&self, list: &Vec<T>) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        for element in list {
            append_element(&self.0, element, &mut bytes)?;
        }
        Ok((!list.is_empty()).then_some(bytes))
    }
    fn decode(&self, mut bytes: &[u8]) -> Result<Vec<T>> {
        let mut list = Vec::new();
        while !bytes.is_empty() {
            let (len, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| undecodable(&self.0, "it ends early"))?;
            let split = rest.split_at_checked(u32::from_le_bytes(*len) as usize);
            let (element, rest) = split.ok_or_else(|| undecodable(&self.0, "it ends early"))?;
            list.push(decode(&self.0, element)?);
            bytes = rest;
        }
        Ok(list)
    }
}

fn append_element<T: Serialize>(name: &str, element: &T, bytes: &mut Vec<u8>) -> Result<()> {
    let encoded = encode(name, element)?;
    bytes.extend_from_slice(&(encoded.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&encoded);
    Ok(())
}

macro_rules! batched {
    () => {
        /// Loads the values of a batch's distinct keys; accesses to them are served from memory until `flush`.
        pub fn prefetch(&mut self, backend: &mut dyn StateBackend, namespace: i64, keys: &KeyBatch) -> Result<()> {
            self.values.prefetch(backend, namespace, keys)
        }
        /// Writes back what changed since `prefetch` and forgets it. Must be called before a barrier passes.
        pub fn flush(&mut self, backend: &mut dyn StateBackend) -> Result<()> {
            self.values.flush(backend)
        }
        /// Removes the state of a key.
        pub fn clear(&mut self, backend: &mut dyn StateBackend, at: StateKey<'_>) -> Result<()> {
            self.values.set(backend, at, None)
        }
    };
}

/// One value per key.
pub struct ValueState<T: StateType> {
    values: CachedValues<T, Plain>,
}

impl<T: StateType> ValueState<T> {
    /// Registers the state.
    pub fn register(backend: &mut dyn StateBackend, descriptor: &StateDescriptor) -> Result<Self> {
        let table = descriptor.register(backend, "value", &[std::any::type_name::<T>()], TableKind::Values)?;
        Ok(ValueState { values: CachedValues::new(table, Plain(descriptor.name.clone())) })
    }
    /// The value of a key.
    pub fn get(&mut self, backend: &mut dyn StateBackend, at: StateKey<'_>) -> Result<Option<T>> {
        self.values.read(backend, at, |v| v.cloned())
    }
    /// Sets the value of a key.
    pub fn set(&mut self, backend: &mut dyn StateBackend, at: StateKey<'_>, value: T) -> Result<()> {
        self.values.set(backend, at, Some(value))
    }
    /// Changes the value of a key in place; `None` is absent.
    pub fn update(
        &mut self,
        backend: &mut dyn StateBackend,
        at: StateKey<'_>,
        f: impl FnOnce(&mut Option<T>),
    ) -> Result<()> {
        self.values.change(backend, at, |v| {
            f(v);
            Ok(())
        })
    }
    batched!();
}

/// A list of elements per key.
pub struct ListState<T: StateType> {
    values: CachedValues<Vec<T>, Elements>,
}

impl<T: StateType> ListState<T> {
    /// Registers the state.
    pub fn register(backend: &mut dyn StateBackend, descriptor: &StateDescriptor) -> Result<Self> {
        let table = descriptor.register(backend, "list", &[std::any::type_name::<T>()], TableKind::Values)?;
        Ok(ListState { values: CachedValues::new(table, Elements(descriptor.name.clone())) })
    }
    /// The elements of a key, in the order in which they were added; empty when there are none.
    pub fn get(&mut self, backend: &mut dyn StateBackend, at: StateKey<'_>) -> Result<Vec<T>> {
        self.values.read(backend, at, |v| v.cloned().unwrap_or_default())
    }
    /// Appends an element.
    pub fn add(&mut self, backend: &mut dyn StateBackend, at: StateKey<'_>, element: T) -> Result<()> {
        self.add_all(backend, at, [element])
    }
    /// Appends elements.
    pub fn add_all(
        &mut self,
        backend: &mut dyn StateBackend,
        at: StateKey<'_>,
        elements: impl IntoIterator<Item = T>,
    ) -> Result<()> {
        self.values.change(backend, at, |v| {
            v.get_or_insert_default().extend(elements);
            Ok(())
        })
    }
    /// Replaces the list; an empty one is removed.
    pub fn set(&mut self, backend: &mut dyn StateBackend, at: StateKey<'_>, elements: Vec<T>) -> Result<()> {
        self.values.set(backend, at, Some(elements).filter(|e| !e.is_empty()))
    }
    batched!();
}

/// How two values become one.
type Reduce<T> = Box<dyn FnMut(T, T) -> Result<T> + Send>;

/// One value per key, folded from all that was added.
pub struct ReducingState<T: StateType> {
    values: CachedValues<T, Plain>,
    reduce: Reduce<T>,
}

impl<T: StateType> ReducingState<T> {
    /// Registers the state with its function.
    pub fn register(
        backend: &mut dyn StateBackend,
        descriptor: &StateDescriptor,
        reduce: impl FnMut(T, T) -> Result<T> + Send + 'static,
    ) -> Result<Self> {
        let table = descriptor.register(backend, "reducing", &[std::any::type_name::<T>()], TableKind::Values)?;
        let values = CachedValues::new(table, Plain(descriptor.name.clone()));
        Ok(ReducingState { values, reduce: Box::new(reduce) })
    }
    /// The folded value of a key.
    pub fn get(&mut self, backend: &mut dyn StateBackend, at: StateKey<'_>) -> Result<Option<T>> {
        self.values.read(backend, at, |v| v.cloned())
    }
    /// Folds a value in. When the function fails, the state of the key is left as it was.
    pub fn add(&mut self, backend: &mut dyn StateBackend, at: StateKey<'_>, value: T) -> Result<()> {
        let reduce = &mut self.reduce;
        self.values.change(backend, at, |v| {
            *v = Some(match v.clone() {
                Some(old) => reduce(old, value)?,
                None => value,
            });
            Ok(())
        })
    }
    batched!();
}

/// How inputs are folded into an accumulator and an output is drawn from it.
pub trait AggregateFunction: Send + 'static {
    /// What is added.
    type In;
    /// What is kept in state.
    type Acc: StateType;
    /// What is read.
    type Out;
    /// An accumulator to which nothing was added.
    fn create(&self) -> Self::Acc;
    /// Adds a value.
    fn add(&self, value: Self::In, acc: &mut Self::Acc) -> Result<()>;
    /// The result so far.
    fn result(&self, acc: &Self::Acc) -> Self::Out;
}

/// One accumulator per key.
pub struct AggregatingState<F: AggregateFunction> {
    values: CachedValues<F::Acc, Plain>,
    function: F,
}

impl<F: AggregateFunction> AggregatingState<F> {
    /// Registers the state with its function.
    pub fn register(backend: &mut dyn StateBackend, descriptor: &StateDescriptor, function: F) -> Result<Self> {
        let table =
            descriptor.register(backend, "aggregating", &[std::any::type_name::<F::Acc>()], TableKind::Values)?;
        Ok(AggregatingState { values: CachedValues::new(table, Plain(descriptor.name.clone())), function })
    }
    /// The result of a key; `None` when nothing was added.
    pub fn get(&mut self, backend: &mut dyn StateBackend, at: StateKey<'_>) -> Result<Option<F::Out>> {
        let function = &self.function;
        self.values.read(backend, at, |v| v.map(|acc| function.result(acc)))
    }
    /// Adds a value.
    pub fn add(&mut self, backend: &mut dyn StateBackend, at: StateKey<'_>, value: F::In) -> Result<()> {
        let function = &self.function;
        self.values.change(backend, at, |v| function.add(value, v.get_or_insert_with(|| function.create())))
    }
    batched!();
}
