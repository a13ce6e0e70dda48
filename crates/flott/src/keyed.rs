//! `KeyedStream<K, T>`: a stream whose rows with equal keys meet in one subtask. Builds the graph only.

use std::marker::PhantomData;
use std::sync::Arc;

use flott_core::error::Result;
use flott_core::operator::{Operator, OperatorFactory};
use flott_core::types::Column;
use flott_plan::stream_graph::{NodeId, NodeKind, Partitioner, StreamNode};
use flott_state::typed::StateType;

use crate::environment::StreamExecutionEnvironment;
use crate::process::{Context, KeyedProcessFunction, ProcessOperator};
use crate::record::Record;
use crate::stage::decode;
use crate::state::{AggregateFunction, AggregatingState, OpenContext, ValueState};
use crate::stream::DataStream;
use crate::window::{WindowAssigner, WindowedStream};

/// A partitioned stream: the way to state, timers and windows.
pub struct KeyedStream<K: Record, T: Record> {
    env: StreamExecutionEnvironment,
    /// Its columns are those of `T`, then those of `K`.
    node: NodeId,
    width: usize,
    types: PhantomData<fn() -> (K, T)>,
}

impl<K: Record, T: Record> Clone for KeyedStream<K, T> {
    fn clone(&self) -> Self {
        KeyedStream::new(self.env.clone(), self.node, self.width)
    }
}

impl<K: Record, T: Record> KeyedStream<K, T> {
    /// A stream over a node whose rows are `width` columns of `T`, then the key.
    pub(crate) fn new(env: StreamExecutionEnvironment, node: NodeId, width: usize) -> Self {
        KeyedStream { env, node, width, types: PhantomData }
    }

    /// Columns of the row itself.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// An operator behind the exchange by key.
    pub(crate) fn operator<U: Record>(
        self,
        name: &str,
        columns: Vec<Column>,
        factory: Arc<dyn OperatorFactory>,
    ) -> DataStream<U> {
        let node = self.env.add(StreamNode {
            name: name.to_owned(),
            uid: None,
            kind: NodeKind::Operator(factory),
            parallelism: None,
            columns,
            chainable: true,
        });
        let keys = (self.width..self.width + K::columns().len()).collect();
        self.env.with_graph(|g| g.connect(self.node, node, 0, Partitioner::Hash(keys)));
        DataStream::of_node(self.env, node, decode::<U>())
    }

    /// Calls a function with state and timers for each row.
    pub fn process<F>(self, function: F) -> DataStream<F::Out>
    where
        F: KeyedProcessFunction<Key = K, In = T>,
    {
        self.process_as("KeyedProcess", function)
    }

    fn process_as<F>(self, name: &str, function: F) -> DataStream<F::Out>
    where
        F: KeyedProcessFunction<Key = K, In = T>,
    {
        let width = self.width;
        let factory =
            move || -> Result<Box<dyn Operator>> { Ok(Box::new(ProcessOperator::new(function.clone(), width)?)) };
        self.operator(name, F::Out::columns(), Arc::new(factory))
    }

    /// Folds the rows of each key; emits the folded row after each one.
    pub fn reduce(self, f: impl Fn(T, T) -> T + Clone + Send + Sync + 'static) -> DataStream<T>
    where
        T: StateType,
    {
        self.process_as("Reduce", RunningReduce { f, folded: ValueState::default(), key: PhantomData })
    }

    /// Aggregates the rows of each key; emits the result after each one.
    pub fn aggregate<F>(self, function: F) -> DataStream<F::Out>
    where
        F: AggregateFunction<In = T>,
        F::Out: Record,
    {
        let state = AggregatingState::default();
        self.process_as("Aggregate", RunningAggregate { function, state, key: PhantomData })
    }

    /// Groups the rows of each key into windows. An error when the windows have no size.
    pub fn window(self, assigner: WindowAssigner) -> Result<WindowedStream<K, T>> {
        assigner.check()?;
        Ok(WindowedStream::new(self, assigner))
    }
}

struct RunningReduce<K, T, R> {
    f: R,
    folded: ValueState<T>,
    key: PhantomData<fn() -> K>,
}

impl<K, T, R: Clone> Clone for RunningReduce<K, T, R> {
    fn clone(&self) -> Self {
        RunningReduce { f: self.f.clone(), folded: self.folded, key: PhantomData }
    }
}

impl<K, T, R> KeyedProcessFunction for RunningReduce<K, T, R>
where
    K: Record,
    T: Record + StateType,
    R: Fn(T, T) -> T + Clone + Send + Sync + 'static,
{
    type Key = K;
    type In = T;
    type Out = T;
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        self.folded = ctx.value_state("reduce")?;
        Ok(())
    }
    fn process(&mut self, value: T, ctx: &mut Context<'_, Self>) -> Result<()> {
        let (mut result, f) = (None, &self.f);
        self.folded.update(ctx, |folded| {
            let new = match folded.take() {
                Some(old) => f(old, value),
                None => value,
            };
            result = Some(new.clone());
            *folded = Some(new);
        })?;
        result.into_iter().for_each(|row| ctx.collect(row));
        Ok(())
    }
}

struct RunningAggregate<K, F> {
    function: F,
    state: AggregatingState<F>,
    key: PhantomData<fn() -> K>,
}

impl<K, F: Clone> Clone for RunningAggregate<K, F> {
    fn clone(&self) -> Self {
        RunningAggregate { function: self.function.clone(), state: self.state, key: PhantomData }
    }
}

impl<K, F> KeyedProcessFunction for RunningAggregate<K, F>
where
    K: Record,
    F: AggregateFunction,
    F::In: Record,
    F::Out: Record,
{
    type Key = K;
    type In = F::In;
    type Out = F::Out;
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        self.state = ctx.aggregating_state("aggregate", self.function.clone())?;
        Ok(())
    }
    fn process(&mut self, value: F::In, ctx: &mut Context<'_, Self>) -> Result<()> {
        self.state.add(ctx, value)?;
        let result = self.state.get(ctx)?;
        result.into_iter().for_each(|row| ctx.collect(row));
        Ok(())
    }
}
