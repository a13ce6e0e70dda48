//! Keyed state as process functions see it: handles that are opened once and read the state of the current key. A handle holds no
//! values; the operator does, for the keys of one batch.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;

use flott_core::error::{Error, Result};
use flott_core::state::{KeyBatch, StateBackend};
use flott_state::typed::{self, MapKey, StateDescriptor, StateKey, StateType};

/// How values are folded into an accumulator, and a result is drawn from it.
pub trait AggregateFunction: Clone + Send + Sync + 'static {
    /// What is added.
    type In;
    /// What is kept in state.
    type Acc: StateType;
    /// The result.
    type Out;
    /// An accumulator to which nothing was added.
    fn create_accumulator(&self) -> Self::Acc;
    /// Adds a value.
    fn add(&self, value: Self::In, acc: &mut Self::Acc) -> Result<()>;
    /// The result so far.
    fn result(&self, acc: &Self::Acc) -> Self::Out;
    /// Both accumulators in one: what merging session windows need.
    fn merge(&self, a: Self::Acc, b: Self::Acc) -> Result<Self::Acc>;
}

/// The function as the state crate wants it.
struct Adapter<F>(F);

impl<F: AggregateFunction> typed::AggregateFunction for Adapter<F> {
    type In = F::In;
    type Acc = F::Acc;
    type Out = F::Out;
    fn create(&self) -> F::Acc {
        self.0.create_accumulator()
    }
    fn add(&self, value: F::In, acc: &mut F::Acc) -> Result<()> {
        self.0.add(value, acc)
    }
    fn result(&self, acc: &F::Acc) -> F::Out {
        self.0.result(acc)
    }
}

/// A registered state of whatever type.
pub(crate) trait RegisteredState: Send {
    fn prefetch(&mut self, backend: &mut dyn StateBackend, keys: &KeyBatch) -> Result<()>;
    fn flush(&mut self, backend: &mut dyn StateBackend) -> Result<()>;
    fn as_any(&mut self) -> &mut dyn Any;
}

macro_rules! batched {
    ($state:ty, $($bounds:tt)*) => {
        impl<$($bounds)*> RegisteredState for $state {
            fn prefetch(&mut self, backend: &mut dyn StateBackend, keys: &KeyBatch) -> Result<()> {
                self.prefetch(backend, 0, keys)
            }
            fn flush(&mut self, backend: &mut dyn StateBackend) -> Result<()> {
                self.flush(backend)
            }
            fn as_any(&mut self) -> &mut dyn Any {
                self
            }
        }
    };
}

batched!(typed::ValueState<T>, T: StateType);
batched!(typed::ListState<T>, T: StateType);
batched!(typed::ReducingState<T>, T: StateType);
batched!(typed::AggregatingState<Adapter<F>>, F: AggregateFunction);

impl<K: MapKey, V: StateType> RegisteredState for typed::MapState<K, V> {
    /// Maps are read lazily.
    fn prefetch(&mut self, _: &mut dyn StateBackend, _: &KeyBatch) -> Result<()> {
        Ok(())
    }
    fn flush(&mut self, _: &mut dyn StateBackend) -> Result<()> {
        Ok(())
    }
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// The states of one operator.
#[derive(Default)]
pub(crate) struct States(Vec<Box<dyn RegisteredState>>);

impl States {
    fn add(&mut self, state: impl RegisteredState + 'static) -> usize {
        self.0.push(Box::new(state));
        self.0.len() - 1
    }
    /// Loads the states of the distinct keys of a batch.
    pub(crate) fn prefetch(&mut self, backend: &mut dyn StateBackend, keys: &KeyBatch) -> Result<()> {
        self.0.iter_mut().try_for_each(|s| s.prefetch(backend, keys))
    }
    /// Writes back what changed.
    pub(crate) fn flush(&mut self, backend: &mut dyn StateBackend) -> Result<()> {
        self.0.iter_mut().try_for_each(|s| s.flush(backend))
    }
    fn get<S: 'static>(&mut self, slot: Option<usize>) -> Result<&mut S> {
        let Some(slot) = slot else {
            return Err(Error::user("datastream.state-not-open", "a state was used before it was opened")
                .hint("open it first: `self.state = ctx.value_state(\"name\")?` in `open`"));
        };
        self.0.get_mut(slot).and_then(|s| s.as_any().downcast_mut()).ok_or_else(|| {
            Error::user("datastream.state-foreign", "a state was used in another operator than the one that opened it")
                .hint("open a state in the `open` of each function that uses it")
        })
    }
}

/// What a state handle needs to reach the value of the current key.
pub struct StateAccess<'a> {
    pub(crate) backend: &'a mut dyn StateBackend,
    pub(crate) states: &'a mut States,
    pub(crate) at: StateKey<'a>,
}

/// A context with a current key: what state handles read from.
pub trait KeyedStateContext {
    /// For the handles.
    #[doc(hidden)]
    fn state_access(&mut self) -> StateAccess<'_>;
}

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident<$($p:ident),*>) => {
        $(#[$doc])*
        ///
        /// A handle: open it in `open`, then use it with the context of each call. `Default` gives one that is not open.
        pub struct $name<$($p),*> {
            slot: Option<usize>,
            types: PhantomData<fn() -> ($($p,)*)>,
        }
        impl<$($p),*> Clone for $name<$($p),*> {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<$($p),*> Copy for $name<$($p),*> {}
        impl<$($p),*> Default for $name<$($p),*> {
            fn default() -> Self {
                $name { slot: None, types: PhantomData }
            }
        }
        impl<$($p),*> fmt::Debug for $name<$($p),*> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), self.slot)
            }
        }
    };
}

handle!(
    /// One value per key.
    ValueState<T>
);
handle!(
    /// A list per key.
    ListState<T>
);
handle!(
    /// An ordered map per key.
    MapState<K, V>
);
handle!(
    /// One value per key, folded from all that was added.
    ReducingState<T>
);
handle!(
    /// One accumulator per key.
    AggregatingState<F>
);

impl<T: StateType> ValueState<T> {
    /// The value of the current key.
    pub fn get(&self, ctx: &mut impl KeyedStateContext) -> Result<Option<T>> {
        let a = ctx.state_access();
        a.states.get::<typed::ValueState<T>>(self.slot)?.get(a.backend, a.at)
    }
    /// Sets the value of the current key.
    pub fn set(&self, ctx: &mut impl KeyedStateContext, value: T) -> Result<()> {
        let a = ctx.state_access();
        a.states.get::<typed::ValueState<T>>(self.slot)?.set(a.backend, a.at, value)
    }
    /// Changes the value of the current key in place; `None` is absent.
    pub fn update(&self, ctx: &mut impl KeyedStateContext, f: impl FnOnce(&mut Option<T>)) -> Result<()> {
        let a = ctx.state_access();
        a.states.get::<typed::ValueState<T>>(self.slot)?.update(a.backend, a.at, f)
    }
    /// Removes the value of the current key.
    pub fn clear(&self, ctx: &mut impl KeyedStateContext) -> Result<()> {
        let a = ctx.state_access();
        a.states.get::<typed::ValueState<T>>(self.slot)?.clear(a.backend, a.at)
    }
}

impl<T: StateType> ListState<T> {
    /// The elements of the current key, in the order in which they were added.
    pub fn get(&self, ctx: &mut impl KeyedStateContext) -> Result<Vec<T>> {
        let a = ctx.state_access();
        a.states.get::<typed::ListState<T>>(self.slot)?.get(a.backend, a.at)
    }
    /// Appends an element.
    pub fn add(&self, ctx: &mut impl KeyedStateContext, element: T) -> Result<()> {
        let a = ctx.state_access();
        a.states.get::<typed::ListState<T>>(self.slot)?.add(a.backend, a.at, element)
    }
    /// Replaces the list.
    pub fn set(&self, ctx: &mut impl KeyedStateContext, elements: Vec<T>) -> Result<()> {
        let a = ctx.state_access();
        a.states.get::<typed::ListState<T>>(self.slot)?.set(a.backend, a.at, elements)
    }
    /// Removes the list of the current key.
    pub fn clear(&self, ctx: &mut impl KeyedStateContext) -> Result<()> {
        let a = ctx.state_access();
        a.states.get::<typed::ListState<T>>(self.slot)?.clear(a.backend, a.at)
    }
}

impl<K: MapKey, V: StateType> MapState<K, V> {
    /// The value of an entry.
    pub fn get(&self, ctx: &mut impl KeyedStateContext, key: &K) -> Result<Option<V>> {
        let a = ctx.state_access();
        a.states.get::<typed::MapState<K, V>>(self.slot)?.get(a.backend, a.at, key)
    }
    /// Whether there is an entry.
    pub fn contains(&self, ctx: &mut impl KeyedStateContext, key: &K) -> Result<bool> {
        let a = ctx.state_access();
        a.states.get::<typed::MapState<K, V>>(self.slot)?.contains(a.backend, a.at, key)
    }
    /// Sets an entry.
    pub fn put(&self, ctx: &mut impl KeyedStateContext, key: &K, value: &V) -> Result<()> {
        let a = ctx.state_access();
        a.states.get::<typed::MapState<K, V>>(self.slot)?.put(a.backend, a.at, key, value)
    }
    /// Removes an entry.
    pub fn remove(&self, ctx: &mut impl KeyedStateContext, key: &K) -> Result<()> {
        let a = ctx.state_access();
        a.states.get::<typed::MapState<K, V>>(self.slot)?.remove(a.backend, a.at, key)
    }
    /// Whether the map of the current key is empty.
    pub fn is_empty(&self, ctx: &mut impl KeyedStateContext) -> Result<bool> {
        let a = ctx.state_access();
        a.states.get::<typed::MapState<K, V>>(self.slot)?.is_empty(a.backend, a.at)
    }
    /// Calls `f` for every entry in the order of the map's keys until it returns `false`; reads in parts.
    pub fn for_each(&self, ctx: &mut impl KeyedStateContext, f: impl FnMut(K, V) -> Result<bool>) -> Result<()> {
        let a = ctx.state_access();
        a.states.get::<typed::MapState<K, V>>(self.slot)?.for_each(a.backend, a.at, f)
    }
    /// All entries, in order. For maps known to be small.
    pub fn entries(&self, ctx: &mut impl KeyedStateContext) -> Result<Vec<(K, V)>> {
        let a = ctx.state_access();
        a.states.get::<typed::MapState<K, V>>(self.slot)?.entries(a.backend, a.at)
    }
    /// Removes the map of the current key.
    pub fn clear(&self, ctx: &mut impl KeyedStateContext) -> Result<()> {
        let a = ctx.state_access();
        a.states.get::<typed::MapState<K, V>>(self.slot)?.clear(a.backend, a.at)
    }
}

impl<T: StateType> ReducingState<T> {
    /// The folded value of the current key.
    pub fn get(&self, ctx: &mut impl KeyedStateContext) -> Result<Option<T>> {
        let a = ctx.state_access();
        a.states.get::<typed::ReducingState<T>>(self.slot)?.get(a.backend, a.at)
    }
    /// Folds a value in.
    pub fn add(&self, ctx: &mut impl KeyedStateContext, value: T) -> Result<()> {
        let a = ctx.state_access();
        a.states.get::<typed::ReducingState<T>>(self.slot)?.add(a.backend, a.at, value)
    }
    /// Removes the value of the current key.
    pub fn clear(&self, ctx: &mut impl KeyedStateContext) -> Result<()> {
        let a = ctx.state_access();
        a.states.get::<typed::ReducingState<T>>(self.slot)?.clear(a.backend, a.at)
    }
}

impl<F: AggregateFunction> AggregatingState<F> {
    /// The result of the current key; `None` when nothing was added.
    pub fn get(&self, ctx: &mut impl KeyedStateContext) -> Result<Option<F::Out>> {
        let a = ctx.state_access();
        a.states.get::<typed::AggregatingState<Adapter<F>>>(self.slot)?.get(a.backend, a.at)
    }
    /// Adds a value.
    pub fn add(&self, ctx: &mut impl KeyedStateContext, value: F::In) -> Result<()> {
        let a = ctx.state_access();
        a.states.get::<typed::AggregatingState<Adapter<F>>>(self.slot)?.add(a.backend, a.at, value)
    }
    /// Removes the accumulator of the current key.
    pub fn clear(&self, ctx: &mut impl KeyedStateContext) -> Result<()> {
        let a = ctx.state_access();
        a.states.get::<typed::AggregatingState<Adapter<F>>>(self.slot)?.clear(a.backend, a.at)
    }
}

/// What a function opens its states with. A name is enough; [`StateDescriptor`] adds expiry.
pub struct OpenContext<'a> {
    pub(crate) backend: &'a mut dyn StateBackend,
    pub(crate) states: &'a mut States,
    /// Index of this subtask, from 0.
    pub subtask: u32,
    /// Number of subtasks.
    pub parallelism: u32,
}

impl OpenContext<'_> {
    /// Opens value state.
    pub fn value_state<T: StateType>(&mut self, descriptor: impl Into<StateDescriptor>) -> Result<ValueState<T>> {
        let state = typed::ValueState::<T>::register(self.backend, &descriptor.into())?;
        Ok(ValueState { slot: Some(self.states.add(state)), types: PhantomData })
    }
    /// Opens list state.
    pub fn list_state<T: StateType>(&mut self, descriptor: impl Into<StateDescriptor>) -> Result<ListState<T>> {
        let state = typed::ListState::<T>::register(self.backend, &descriptor.into())?;
        Ok(ListState { slot: Some(self.states.add(state)), types: PhantomData })
    }
    /// Opens map state.
    pub fn map_state<K: MapKey, V: StateType>(
        &mut self,
        descriptor: impl Into<StateDescriptor>,
    ) -> Result<MapState<K, V>> {
        let state = typed::MapState::<K, V>::register(self.backend, &descriptor.into())?;
        Ok(MapState { slot: Some(self.states.add(state)), types: PhantomData })
    }
    /// Opens reducing state.
    pub fn reducing_state<T: StateType>(
        &mut self,
        descriptor: impl Into<StateDescriptor>,
        mut reduce: impl FnMut(T, T) -> T + Send + 'static,
    ) -> Result<ReducingState<T>> {
        let reduce = move |a, b| Ok(reduce(a, b));
        let state = typed::ReducingState::<T>::register(self.backend, &descriptor.into(), reduce)?;
        Ok(ReducingState { slot: Some(self.states.add(state)), types: PhantomData })
    }
    /// Opens aggregating state.
    pub fn aggregating_state<F: AggregateFunction>(
        &mut self,
        descriptor: impl Into<StateDescriptor>,
        function: F,
    ) -> Result<AggregatingState<F>> {
        let state = typed::AggregatingState::register(self.backend, &descriptor.into(), Adapter(function))?;
        Ok(AggregatingState { slot: Some(self.states.add(state)), types: PhantomData })
    }
}
