//! Tables and streams: SQL over streams, streams out of SQL, in one job. A table becomes a stream, and back, without a copy. Plans
//! through the SQL session; runs nothing.

use std::sync::{Arc, Mutex, PoisonError};

use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::config::{Configuration, Notice};
use flott_core::element::Signal;
use flott_core::error::{Error, Result};
use flott_core::operator::{Operator, OperatorContext, OperatorEvent, OperatorProperties, Progress};
use flott_core::registry::{ConnectorFactory, OptionSpec, TableSpec};
use flott_core::sink::{ChangelogMode, Sink};
use flott_core::source::{
    Boundedness, ReaderContext, Source, SourceTransform, SourceTransformFactory, SplitEnumerator, SplitReader,
};
use flott_core::time::EventTime;
use flott_core::types::{Column, TypeKind};
use flott_launcher::CollectSink;
use flott_plan::stream_graph::{NodeId, NodeKind, Partitioner, StreamGraph, StreamNode};
use flott_sql::{PlanServices, Planned, QueryInfo};

use arrow_array::ArrayRef;

use crate::environment::StreamExecutionEnvironment;
use crate::record::{FieldType, Record};
use crate::stage::{Rows, StageFactory, decode};
use crate::stream::DataStream;

/// Identifier of the connector behind views of streams. Programs do not write it.
const CONNECTOR: &str = "datastream";
/// Its one option.
const VIEW: &str = "view";

/// A change of a table: what becomes of it, and the row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Change<T> {
    /// `+I`, `-U`, `+U` or `-D`.
    pub kind: RowKind,
    /// The row.
    pub row: T,
}

impl<T: Record> Record for Change<T> {
    fn columns() -> Vec<Column> {
        let mut columns = vec![Column::new("op", TypeKind::TinyInt.not_null())];
        columns.extend(T::columns());
        columns
    }
    fn to_arrays(rows: &[Self]) -> Vec<ArrayRef> {
        let kinds: Vec<i8> = rows.iter().map(|r| r.kind as i8).collect();
        let rows: Vec<T> = rows.iter().map(|r| r.row.clone()).collect();
        let mut arrays = vec![<i8 as FieldType>::to_array(&mut kinds.iter())];
        arrays.extend(T::to_arrays(&rows));
        arrays
    }
    fn from_arrays(arrays: &[ArrayRef]) -> Result<Vec<Self>> {
        let kinds = <i8 as FieldType>::from_array(&arrays[0], "op")?;
        let change = |(kind, row): (i8, T)| {
            let kind = u8::try_from(kind).ok().and_then(RowKind::from_u8);
            kind.map(|kind| Change { kind, row }).ok_or_else(|| Error::bug("a change of no known kind"))
        };
        kinds.into_iter().zip(T::from_arrays(&arrays[1..])?).map(change).collect()
    }
}

fn decode_changes<T: Record>() -> StageFactory<Change<T>> {
    let width = T::columns().len();
    Arc::new(move || {
        Box::new(move |batch: &ChangeBatch| {
            let rows = T::from_arrays(&batch.rows.columns()[..width])?.into_iter().enumerate();
            let values = rows.map(|(i, row)| Change { kind: batch.kind(i), row }).collect();
            Ok(Rows { values, times: batch.times.as_ref().map(|t| t.to_vec()) })
        })
    })
}

/// Stands for a stream in a plan; replaced by the stream before anything runs.
struct ViewSource {
    boundedness: Boundedness,
}

impl Source for ViewSource {
    fn boundedness(&self) -> Boundedness {
        self.boundedness
    }
    fn enumerator(&self) -> Result<Box<dyn SplitEnumerator>> {
        Err(Error::bug("a view of a stream was not replaced by the stream"))
    }
    fn reader(&self, _: ReaderContext) -> Result<Box<dyn SplitReader>> {
        Err(Error::bug("a view of a stream was not replaced by the stream"))
    }
}

/// A stream that SQL can read.
struct View {
    name: String,
    source: Arc<dyn Source>,
    node: NodeId,
    partitioner: Partitioner,
}

/// The streams that SQL can read, by number.
#[derive(Clone, Default)]
pub(crate) struct Views(Arc<Mutex<Vec<View>>>);

impl Views {
    fn with<R>(&self, f: impl FnOnce(&mut Vec<View>) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ConnectorFactory for Views {
    fn identifier(&self) -> &'static str {
        CONNECTOR
    }
    fn options(&self) -> &'static [OptionSpec] {
        const OPTIONS: &[OptionSpec] = &[OptionSpec {
            key: VIEW,
            kind: "INT",
            default: "",
            required: true,
            doc: "Number of the stream, given by create_temporary_view.",
        }];
        OPTIONS
    }
    fn source(&self, table: &TableSpec, _: &Configuration) -> Result<Arc<dyn Source>> {
        let number = table.options.get(VIEW).and_then(|n| n.parse::<usize>().ok());
        let source = self.with(|views| number.and_then(|n| views.get(n)).map(|v| Arc::clone(&v.source)));
        source.ok_or_else(|| {
            Error::user("table.view", format!("table `{}` stands for no stream of this program", table.name))
                .hint("create it with create_temporary_view")
        })
    }
    fn sink(&self, table: &TableSpec, _: &Configuration) -> Result<Arc<dyn Sink>> {
        Err(Error::user("table.view", format!("`{}` is a stream and cannot be written", table.name))
            .hint("insert into a table with a connector"))
    }
}

/// From a stream to a table: drops event times, which tables have in columns; computes columns and watermarks.
struct ToTable(Option<Box<dyn SourceTransform>>, bool);

impl Operator for ToTable {
    fn open(&mut self, _: &mut OperatorContext) -> Result<OperatorProperties> {
        Ok(OperatorProperties { forwards_watermarks: !self.1, forwards_idleness: !self.1 })
    }
    fn process(&mut self, _: usize, mut batch: ChangeBatch, ctx: &mut OperatorContext) -> Result<Progress> {
        batch.times = None;
        let (batch, watermark) = match &mut self.0 {
            Some(transform) => transform.apply(batch)?,
            None => (batch, None),
        };
        ctx.out.emit(batch);
        if let (Some(ms), true) = (watermark, self.1) {
            ctx.out.emit_signal(Signal::Watermark(EventTime(ms)));
        }
        Ok(Progress::Done)
    }
    fn on_event(&mut self, event: OperatorEvent, ctx: &mut OperatorContext) -> Result<Progress> {
        if let (OperatorEvent::Watermark(EventTime::MAX), true) = (event, self.1) {
            ctx.out.emit_signal(Signal::Watermark(EventTime::MAX));
        }
        Ok(Progress::Done)
    }
}

fn to_table(
    transform: Option<Arc<dyn SourceTransformFactory>>,
) -> impl Fn() -> Result<Box<dyn Operator>> + Send + Sync {
    move || {
        let own_watermarks = transform.as_ref().is_some_and(|t| t.has_watermarks());
        let transform = transform.as_ref().map(|t| t.create()).transpose()?;
        Ok(Box::new(ToTable(transform, own_watermarks)) as Box<dyn Operator>)
    }
}

/// Adds the nodes of a plan to a program, views replaced by their streams. Where each node went; `skip` goes nowhere.
fn graft(plan: StreamGraph, skip: Option<usize>, graph: &mut StreamGraph, views: &[View]) -> Vec<NodeId> {
    let mut places = Vec::with_capacity(plan.nodes.len());
    for (i, node) in plan.nodes.into_iter().enumerate() {
        let view = match &node.kind {
            NodeKind::Source(s) => {
                let same = |v: &&View| std::ptr::addr_eq(Arc::as_ptr(&v.source), Arc::as_ptr(&s.source));
                views.iter().find(same).map(|v| (v, s.transform.clone()))
            }
            _ => None,
        };
        let place = match view {
            _ if skip == Some(i) => NodeId(usize::MAX),
            None => graph.add(node),
            Some((view, transform)) => {
                let place = graph.add(StreamNode {
                    name: format!("View: {}", view.name),
                    uid: None,
                    kind: NodeKind::Operator(Arc::new(to_table(transform))),
                    parallelism: graph.node(view.node).parallelism,
                    columns: node.columns,
                    chainable: true,
                });
                graph.connect(view.node, place, 0, view.partitioner.clone());
                place
            }
        };
        places.push(place);
    }
    for e in plan.edges.into_iter().filter(|e| skip != Some(e.to.0)) {
        graph.connect(places[e.from.0], places[e.to.0], e.port, e.partitioner);
    }
    places
}

/// A planned query: its node, how rows leave it, what they are.
struct QueryNode {
    node: NodeId,
    partitioner: Partitioner,
    info: QueryInfo,
}

/// The columns of a query must be those of the row type, by place.
fn check_columns<T: Record>(info: &QueryInfo) -> Result<()> {
    let expected = T::columns();
    let text = |columns: &[Column]| {
        let columns = columns.iter().map(|c| format!("{} {}", c.name, c.data_type.kind));
        columns.collect::<Vec<_>>().join(", ")
    };
    let same = |(q, t): (&Column, &Column)| {
        let elsewhere = q.name != t.name && expected.iter().any(|c| c.name == q.name);
        q.data_type.kind.to_arrow() == t.data_type.kind.to_arrow() && !elsewhere
    };
    if info.columns.len() == expected.len() && info.columns.iter().zip(&expected).all(same) {
        return Ok(());
    }
    Err(Error::user("datastream.columns", "the query's columns are not those of the row type")
        .detail(format!("the query gives ({}), the row type has ({})", text(&info.columns), text(&expected)))
        .hint("list and CAST the columns in the order of the fields"))
}

impl StreamExecutionEnvironment {
    /// Carries out SQL statements: CREATE, DROP, SET, RESET; an INSERT INTO becomes a part of the job that `execute` starts.
    pub fn execute_sql(&self, script: &str) -> Result<Vec<Notice>> {
        let mut all = Vec::new();
        self.plan_all(script, &mut |env, planned| {
            match planned {
                Planned::Done { notices, .. } => all.extend(notices),
                Planned::Job { graph, query: None, .. } => {
                    env.graft(graph, None);
                }
                Planned::Job { .. } => {
                    return Err(Error::user("datastream.sql", "execute_sql takes no queries").hint("use sql_query"));
                }
                Planned::Rows { .. } | Planned::Plan { .. } => {
                    return Err(Error::user("datastream.sql", "execute_sql takes no statements that answer with rows")
                        .hint("SHOW, DESCRIBE and EXPLAIN are for the SQL client"));
                }
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// The rows of a query as a stream. The query must only append; see [`StreamExecutionEnvironment::to_changelog_stream`]
    /// for one that updates.
    pub fn sql_query<T: Record>(&self, query: &str) -> Result<DataStream<T>> {
        let found = self.query(query)?;
        check_columns::<T>(&found.info)?;
        if found.info.mode != ChangelogMode::Append {
            return Err(Error::user(
                "datastream.changelog",
                "the query updates rows it gave before, and a DataStream cannot",
            )
            .hint("use to_changelog_stream, or aggregate in windows"));
        }
        Ok(DataStream::of_node(self.clone(), found.node, decode::<T>()).partitioned(found.partitioner))
    }

    /// The changes of a query's result as a stream.
    pub fn to_changelog_stream<T: Record>(&self, query: &str) -> Result<DataStream<Change<T>>> {
        let found = self.query(query)?;
        check_columns::<T>(&found.info)?;
        // The node's columns have no kind: the first operator behind it makes one.
        let changes = DataStream::of_node(self.clone(), found.node, decode_changes::<T>());
        Ok(changes.partitioned(found.partitioner).converted("Changes"))
    }

    /// Lets SQL read a stream as the table `name`.
    pub fn create_temporary_view<T: Record>(&self, name: &str, stream: DataStream<T>) -> Result<()> {
        self.create_temporary_view_with(name, stream, "")
    }

    /// As [`StreamExecutionEnvironment::create_temporary_view`], with more declarations as in CREATE TABLE: computed columns, or
    /// an event time, as in `WATERMARK FOR ts AS ts - INTERVAL '5' SECOND`.
    pub fn create_temporary_view_with<T: Record>(
        &self,
        name: &str,
        stream: DataStream<T>,
        declarations: &str,
    ) -> Result<()> {
        let (node, partitioner) = stream.into_node();
        let boundedness = self.with_graph(|g| boundedness(g, node));
        let source: Arc<dyn Source> = Arc::new(ViewSource { boundedness });
        let view = View { name: name.to_owned(), source, node, partitioner };
        let number = self.views().with(|views| {
            views.push(view);
            views.len() - 1
        });
        let quoted = |name: &str| format!("`{}`", name.replace('`', "``"));
        let mut lines: Vec<String> =
            T::columns().iter().map(|c| format!("{} {}", quoted(&c.name), c.data_type)).collect();
        if !declarations.trim().is_empty() {
            lines.push(declarations.to_owned());
        }
        let ddl = format!(
            "CREATE TEMPORARY TABLE {} (\n{}\n) WITH ('connector' = '{CONNECTOR}', '{VIEW}' = '{number}');",
            quoted(name),
            lines.join(",\n")
        );
        self.execute_sql(&ddl).map(drop).map_err(|e| e.context(format!("view `{name}`")))
    }

    fn query(&self, query: &str) -> Result<QueryNode> {
        let mut found = None;
        self.plan_all(query, &mut |env, planned| {
            let Planned::Job { graph, query: Some(info), .. } = planned else {
                return Err(Error::user("datastream.sql", "sql_query takes one SELECT")
                    .hint("other statements go through execute_sql"));
            };
            if found.is_some() {
                return Err(Error::user("datastream.sql", "sql_query takes one SELECT, and there are more"));
            }
            let sink = graph.nodes.iter().position(|n| matches!(n.kind, NodeKind::Sink(_)));
            let edge = graph.edges.iter().find(|e| Some(e.to.0) == sink).cloned();
            let edge = edge.ok_or_else(|| Error::bug("a query was planned without its result"))?;
            let places = env.graft(graph, sink);
            found = Some(QueryNode { node: places[edge.from.0], partitioner: edge.partitioner, info });
            Ok(())
        })?;
        found.ok_or_else(|| Error::user("datastream.sql", "there is no query").hint("write a SELECT"))
    }

    fn plan_all(&self, script: &str, take: &mut dyn FnMut(&Self, Planned) -> Result<()>) -> Result<()> {
        let (statements, services) = self.with_session(|session, registry| {
            let services = PlanServices { registry, source_transform: flott_launcher::source_transform };
            Ok::<_, Error>((session.parse_script(script)?, services))
        })?;
        let collect = |info: &QueryInfo| -> Arc<dyn Sink> { Arc::new(CollectSink::new(info.mode, 1).0) };
        for statement in statements {
            let planned = self.with_session(|session, _| session.plan(&statement, &services, &collect))?;
            take(self, planned)?;
        }
        Ok(())
    }

    fn graft(&self, plan: StreamGraph, skip: Option<usize>) -> Vec<NodeId> {
        self.views().with(|views| self.with_graph(|graph| graft(plan, skip, graph, views)))
    }
}

/// A stream ends when all sources above it do.
fn boundedness(graph: &StreamGraph, node: NodeId) -> Boundedness {
    let ends = match &graph.node(node).kind {
        NodeKind::Source(s) => s.source.boundedness() == Boundedness::Bounded,
        _ => graph.inputs(node).iter().all(|e| boundedness(graph, e.from) == Boundedness::Bounded),
    };
    if ends { Boundedness::Bounded } else { Boundedness::Unbounded }
}
