//! `DataStream<T>`: rows of a Rust type. Methods build the graph; closures run in tasks, one copy per subtask.

use std::sync::Arc;

use arrow_array::RecordBatch;
use flott_core::batch::ChangeBatch;
use flott_core::error::{Error, Result};
use flott_core::operator::{Operator, OperatorFactory};
use flott_core::sink::Sink;
use flott_core::types::{Column, arrow_schema};
use flott_plan::OperatorSpec;
use flott_plan::stream_graph::{NodeId, NodeKind, Partitioner, StreamNode};

use crate::environment::{Connector, StreamExecutionEnvironment};
use crate::keyed::KeyedStream;
use crate::record::Record;
use crate::stage::{Rows, StageFactory, StageOperator, decode, encode};
use crate::watermarks::{self, WatermarkStrategy};

/// A stream of rows of type `T`.
///
/// `map`, `filter` and `flat_map` are fused: rows pass between them as Rust values. They become columns where a stream is
/// partitioned, unioned or written.
pub struct DataStream<T: Record> {
    pub(crate) env: StreamExecutionEnvironment,
    pub(crate) node: NodeId,
    stage: StageFactory<T>,
    /// Names of the fused operators; empty: the node's own rows.
    fused: Vec<String>,
    uid: Option<String>,
    partitioner: Partitioner,
}

impl<T: Record> Clone for DataStream<T> {
    fn clone(&self) -> Self {
        DataStream {
            env: self.env.clone(),
            node: self.node,
            stage: Arc::clone(&self.stage),
            fused: self.fused.clone(),
            uid: self.uid.clone(),
            partitioner: self.partitioner.clone(),
        }
    }
}

impl<T: Record> DataStream<T> {
    pub(crate) fn of_node(env: StreamExecutionEnvironment, node: NodeId, stage: StageFactory<T>) -> Self {
        DataStream { env, node, stage, fused: Vec::new(), uid: None, partitioner: Partitioner::Forward }
    }

    fn fuse<U: Record>(self, name: &str, stage: StageFactory<U>) -> DataStream<U> {
        let mut fused = self.fused;
        fused.push(name.to_owned());
        DataStream { env: self.env, node: self.node, stage, fused, uid: self.uid, partitioner: self.partitioner }
    }

    /// The stream with another way of spreading its rows.
    pub(crate) fn partitioned(mut self, partitioner: Partitioner) -> Self {
        self.partitioner = partitioner;
        self
    }

    /// The stream behind a stage that the next node must run, because the node's own columns are not those of `T`.
    pub(crate) fn converted(mut self, name: &str) -> Self {
        self.fused.push(name.to_owned());
        self
    }

    /// Some of the stream's rows, read by another stage from the same node.
    pub(crate) fn part<U: Record>(self, name: &str, stage: StageFactory<U>) -> DataStream<U> {
        DataStream::of_node(self.env, self.node, stage).converted(name)
    }

    /// The node whose columns are those of `T`, and how rows leave it.
    pub(crate) fn into_node(self) -> (NodeId, Partitioner) {
        let stream = self.materialise();
        (stream.node, stream.partitioner)
    }

    /// One row out for each row in.
    pub fn map<U: Record>(self, mut f: impl FnMut(T) -> U + Clone + Send + Sync + 'static) -> DataStream<U> {
        self.try_map(move |row| Ok(f(row)))
    }

    /// Like [`DataStream::map`]; an error fails the job with the operator's name.
    pub fn try_map<U: Record>(self, f: impl FnMut(T) -> Result<U> + Clone + Send + Sync + 'static) -> DataStream<U> {
        let input = Arc::clone(&self.stage);
        let stage: StageFactory<U> = Arc::new(move || {
            let (mut input, mut f) = (input(), f.clone());
            Box::new(move |batch: &ChangeBatch| {
                let rows = input.run(batch)?;
                let values = rows.values.into_iter().map(&mut f).collect::<Result<Vec<U>>>()?;
                Ok(Rows { values, times: rows.times })
            })
        });
        self.fuse("Map", stage)
    }

    /// Rows for which `f` is true.
    pub fn filter(self, f: impl FnMut(&T) -> bool + Clone + Send + Sync + 'static) -> DataStream<T> {
        let input = Arc::clone(&self.stage);
        let stage: StageFactory<T> = Arc::new(move || {
            let (mut input, mut f) = (input(), f.clone());
            Box::new(move |batch: &ChangeBatch| {
                let mut kept = Rows::empty();
                for (row, time) in input.run(batch)?.into_pairs() {
                    if f(&row) {
                        kept.push(row, time);
                    }
                }
                Ok(kept)
            })
        });
        self.fuse("Filter", stage)
    }

    /// Any number of rows out for each row in.
    pub fn flat_map<U: Record, I>(self, f: impl FnMut(T) -> I + Clone + Send + Sync + 'static) -> DataStream<U>
    where
        I: IntoIterator<Item = U>,
    {
        let input = Arc::clone(&self.stage);
        let stage: StageFactory<U> = Arc::new(move || {
            let (mut input, mut f) = (input(), f.clone());
            Box::new(move |batch: &ChangeBatch| {
                let mut all = Rows::empty();
                for (row, time) in input.run(batch)?.into_pairs() {
                    f(row).into_iter().for_each(|u| all.push(u, time));
                }
                Ok(all)
            })
        });
        self.fuse("FlatMap", stage)
    }

    /// The address of the state of what follows, kept when the program changes.
    pub fn uid(mut self, uid: &str) -> Self {
        if self.fused.is_empty() {
            self.env.with_graph(|g| g.nodes[self.node.0].uid = Some(uid.to_owned()));
        } else {
            self.uid = Some(uid.to_owned());
        }
        self
    }

    /// The name shown to people, of the operator just added.
    pub fn name(mut self, name: &str) -> Self {
        match self.fused.last_mut() {
            Some(last) => *last = name.to_owned(),
            None => self.env.with_graph(|g| g.nodes[self.node.0].name = name.to_owned()),
        }
        self
    }

    /// Number of subtasks of the operator just added.
    pub fn parallelism(self, parallelism: u32) -> Self {
        let stream = if self.fused.is_empty() { self } else { self.materialise() };
        stream.env.with_graph(|g| g.nodes[stream.node.0].parallelism = Some(parallelism));
        stream
    }

    /// Spreads rows evenly over the subtasks that follow.
    pub fn rebalance(self) -> Self {
        let mut stream = self.materialise();
        stream.partitioner = Partitioner::Rebalance;
        stream
    }

    /// Gives every row to every subtask that follows.
    pub fn broadcast(self) -> Self {
        let mut stream = self.materialise();
        stream.partitioner = Partitioner::Broadcast;
        stream
    }

    /// Both streams in one.
    pub fn union(self, other: DataStream<T>) -> DataStream<T> {
        let (a, b) = (self.materialise(), other.materialise());
        let node = a.env.add(StreamNode {
            name: "Union".into(),
            uid: None,
            kind: NodeKind::Spec(OperatorSpec::Union),
            parallelism: None,
            columns: T::columns(),
            chainable: false,
        });
        a.env.with_graph(|g| {
            g.connect(a.node, node, 0, a.partitioner.clone());
            g.connect(b.node, node, 0, b.partitioner.clone());
        });
        DataStream::of_node(a.env, node, decode::<T>())
    }

    /// Gives every row an event time, and the stream watermarks. Right behind a source they are per split.
    pub fn assign_timestamps_and_watermarks(self, strategy: WatermarkStrategy<T>) -> Result<DataStream<T>> {
        watermarks::assign(self, strategy)
    }

    /// Partitions the stream: rows with equal keys meet in one subtask, and share state there.
    pub fn key_by<K: Record>(self, key: impl Fn(&T) -> K + Clone + Send + Sync + 'static) -> KeyedStream<K, T> {
        let width = T::columns().len();
        let mut columns = T::columns();
        columns.extend(K::columns().into_iter().map(|c| Column::new(format!("key.{}", c.name), c.data_type)));
        let schema = arrow_schema(&columns);
        let stage = Arc::clone(&self.stage);
        let factory = move || -> Result<Box<dyn Operator>> {
            let (stage, key, schema) = (stage(), key.clone(), Arc::clone(&schema));
            let encode = move |rows: &Rows<T>| {
                let keys: Vec<K> = rows.values.iter().map(&key).collect();
                let mut arrays = T::to_arrays(&rows.values);
                arrays.extend(K::to_arrays(&keys));
                let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
                Ok(ChangeBatch::new(batch, None, rows.times.as_ref().map(|t| t.as_slice().into())))
            };
            Ok(Box::new(StageOperator { stage, encode }))
        };
        let node = self.append(&self.name_with("KeyBy"), columns, Arc::new(factory));
        KeyedStream::new(self.env, node, width)
    }

    /// Writes the stream through a connector; the columns are those of `T`.
    pub fn sink_to(self, name: &str, connector: &Connector) -> Result<SinkHandle> {
        let sink = self.env.sink_of::<T>(name, connector)?;
        Ok(self.sink(name, sink))
    }

    /// Writes the stream into any sink.
    pub fn sink(self, name: &str, sink: Arc<dyn Sink>) -> SinkHandle {
        let stream = self.materialise();
        let node = stream.env.add(StreamNode {
            name: format!("Sink: {name}"),
            uid: None,
            kind: NodeKind::Sink(sink),
            parallelism: None,
            columns: T::columns(),
            chainable: stream.partitioner == Partitioner::Forward,
        });
        stream.env.with_graph(|g| g.connect(stream.node, node, 0, stream.partitioner.clone()));
        SinkHandle { env: stream.env, node }
    }

    /// Runs the job and returns the rows of this stream. For tests and small results: all rows are held in memory.
    pub fn execute_and_collect(self, job_name: &str) -> Result<Vec<T>> {
        let env = self.env.clone();
        let (sink, handle) = flott_launcher::CollectSink::new(flott_core::sink::ChangelogMode::Append, 64);
        self.sink("collect", Arc::new(sink));
        let client = env.execute_async(job_name)?;
        let mut rows = Vec::new();
        loop {
            let done = client.status().is_terminal();
            while let Some(batch) = handle.next(std::time::Duration::from_millis(if done { 0 } else { 20 })) {
                rows.extend(T::from_arrays(batch.rows.columns())?);
            }
            if done {
                break;
            }
        }
        match client.join() {
            flott_launcher::JobStatus::Failed(e) => Err(e),
            flott_launcher::JobStatus::Canceled | flott_launcher::JobStatus::Suspended => Err(Error::cancelled()),
            _ => Ok(rows),
        }
    }

    /// The rows as columns of a node of their own.
    pub(crate) fn materialise(self) -> DataStream<T> {
        if self.fused.is_empty() {
            return self;
        }
        let stage = Arc::clone(&self.stage);
        let factory = move || -> Result<Box<dyn Operator>> {
            Ok(Box::new(StageOperator { stage: stage(), encode: encode::<T> }))
        };
        let node = self.append(&self.fused.join(" -> "), T::columns(), Arc::new(factory));
        DataStream::of_node(self.env, node, decode::<T>())
    }

    /// The name of an operator that also runs what is fused.
    pub(crate) fn name_with(&self, last: &str) -> String {
        let names: Vec<&str> = self.fused.iter().map(String::as_str).chain([last]).collect();
        names.join(" -> ")
    }

    pub(crate) fn append(&self, name: &str, columns: Vec<Column>, factory: Arc<dyn OperatorFactory>) -> NodeId {
        let node = self.env.add(StreamNode {
            name: name.to_owned(),
            uid: self.uid.clone(),
            kind: NodeKind::Operator(factory),
            parallelism: None,
            columns,
            chainable: true,
        });
        self.env.with_graph(|g| g.connect(self.node, node, 0, self.partitioner.clone()));
        node
    }

    pub(crate) fn stage(&self) -> StageFactory<T> {
        Arc::clone(&self.stage)
    }

    /// Whether the rows come straight from a source that has no watermarks yet.
    pub(crate) fn is_source(&self) -> bool {
        let source = |g: &mut flott_plan::StreamGraph| matches!(&g.node(self.node).kind, NodeKind::Source(s) if s.transform.is_none());
        self.fused.is_empty() && self.env.with_graph(source)
    }
}

/// A sink of the program.
pub struct SinkHandle {
    env: StreamExecutionEnvironment,
    node: NodeId,
}

impl SinkHandle {
    /// The address of the sink's state.
    pub fn uid(self, uid: &str) -> Self {
        self.env.with_graph(|g| g.nodes[self.node.0].uid = Some(uid.to_owned()));
        self
    }
    /// Number of writers.
    pub fn parallelism(self, parallelism: u32) -> Self {
        self.env.with_graph(|g| g.nodes[self.node.0].parallelism = Some(parallelism));
        self
    }
}
