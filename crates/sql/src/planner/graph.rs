//! Operators to a StreamGraph: sources and sinks are made here, through the registry. Runs nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use flott_core::config::{Configuration, keys, parse_duration_ms};
use flott_core::registry::TableSpec;
use flott_core::sink::{ChangelogMode, Sink};
use flott_core::source::{Boundedness, Source, WatermarkAlignment, WatermarkOptions};
use flott_core::table_function::BoundTableFunction;
use flott_core::types::{Column, TypeKind};
use flott_core::{Error, Result};
use flott_expr::{bind_cast, is_deterministic};
use flott_plan::spec::{CorrelateSpec, LookupJoinSpec, OperatorSpec, SourceTransformSpec};
use flott_plan::{
    CorrelateNode, Expr, ExprKind, LookupNode, NodeId, NodeKind, Partitioner, SourceNode, StreamGraph, StreamNode,
};

use super::advice;
use super::keyed::LookupParts;
use super::physical::{Phys, PhysKind};
use super::rel::plan_columns;
use crate::catalog::{ColumnSource, Table};
use crate::diag::place;
use crate::session::PlanServices;
use crate::values::ValuesSource;

/// Builds the graph of one job.
pub(crate) struct GraphBuilder<'a> {
    pub(crate) graph: StreamGraph,
    /// Whether every source ends.
    pub(crate) bounded: bool,
    /// What the user should know of the operators' state.
    pub(crate) warnings: Vec<String>,
    services: &'a PlanServices,
    config: &'a Configuration,
    zone: String,
    sources: BTreeMap<String, (NodeId, bool)>,
    /// Operators with state by what they compute: equal ones are built once.
    shared: BTreeMap<String, (NodeId, bool)>,
}

/// A table as connectors see it.
pub(crate) fn table_spec(table: &Table, columns: &[usize], mode: ChangelogMode) -> TableSpec {
    let at = |keys: &[usize]| keys.iter().filter_map(|k| columns.iter().position(|c| c == k)).collect();
    TableSpec {
        name: table.path.to_string(),
        columns: columns.iter().map(|&i| table.connector_column(i)).collect(),
        options: table.options.clone(),
        primary_key: at(&table.primary_key),
        partition_keys: at(&table.partition_keys),
        input_mode: mode,
    }
}

impl<'a> GraphBuilder<'a> {
    /// An empty graph.
    pub(crate) fn new(services: &'a PlanServices, config: &'a Configuration, zone: String) -> Self {
        let graph = StreamGraph { name: config.raw("pipeline.name").map(str::to_owned), ..StreamGraph::default() };
        let (warnings, sources, shared) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        GraphBuilder { graph, bounded: true, warnings, services, config, zone, sources, shared }
    }

    /// Adds an operator and everything below it; the node, and whether its input ends.
    pub(crate) fn add(&mut self, phys: &Phys) -> Result<(NodeId, bool)> {
        let spec = match &phys.kind {
            PhysKind::Scan { table, fields } => return self.scan(table, fields, phys),
            PhysKind::Values { rows } => return self.values(rows, phys),
            PhysKind::Spec(spec) => spec,
            PhysKind::Lookup(parts) => return self.lookup(parts, phys),
            PhysKind::Correlate(spec, function) => return self.correlate(spec, function, phys),
        };
        let signature = if keeps_state(spec) { signature(phys) } else { None };
        if let Some(known) = signature.as_ref().and_then(|s| self.shared.get(s)) {
            return Ok(*known);
        }
        let (mut inputs, mut all_end) = (Vec::new(), Vec::new());
        for (input, partitioner) in &phys.inputs {
            let (id, ends) = self.add(input)?;
            all_end.push(ends);
            inputs.push((id, partitioner.clone()));
        }
        self.warnings.extend(advice::state(phys, spec, &all_end));
        let bounded = all_end.iter().all(|ends| *ends);
        let node = self.graph.add(StreamNode {
            name: operator_name(&phys.text),
            uid: None,
            kind: NodeKind::Spec(spec.clone()),
            parallelism: phys.parallelism,
            columns: plan_columns(&phys.columns),
            chainable: true,
        });
        let union = matches!(spec, OperatorSpec::Union);
        for (i, (from, partitioner)) in inputs.into_iter().enumerate() {
            self.graph.connect(from, node, if union { 0 } else { i }, partitioner);
        }
        if let Some(signature) = signature {
            self.shared.insert(signature, (node, bounded));
        }
        Ok((node, bounded))
    }

    fn source(&mut self, name: String, node: SourceNode, columns: Vec<Column>, parallelism: Option<u32>) -> NodeId {
        self.graph.add(StreamNode {
            name,
            uid: None,
            kind: NodeKind::Source(node),
            parallelism,
            columns,
            chainable: true,
        })
    }

    fn values(&mut self, rows: &[Vec<Expr>], phys: &Phys) -> Result<(NodeId, bool)> {
        let columns = plan_columns(&phys.columns);
        let source = ValuesSource::new(rows.to_vec(), columns.clone(), &self.zone)?;
        let node = SourceNode { source: Arc::new(source), transform: None, watermarks: WatermarkOptions::default() };
        Ok((self.source("Values".to_owned(), node, columns, Some(1)), true))
    }

    /// One source per table and job.
    fn scan(&mut self, table: &Arc<Table>, fields: &[usize], phys: &Phys) -> Result<(NodeId, bool)> {
        if let Some(known) = self.sources.get(&table.scan_key()) {
            return Ok(*known);
        }
        let name = table.path.to_string();
        let given = table.source_columns();
        let spec = table_spec(table, &given, ChangelogMode::Append);
        let factory = self.services.registry.connector(&name, &table.options)?;
        let source: Arc<dyn Source> = factory.source(&spec, self.config).map_err(|e| of_table(e, &name))?;
        let bounded = source.boundedness() == Boundedness::Bounded;
        self.bounded &= bounded;
        let columns = plan_columns(&phys.columns);
        let transform = self.transform(table, fields, &given, &columns)?;
        let transform = transform.map(|t| (self.services.source_transform)(&t)).transpose()?;
        let watermarks = self.watermark_options(table)?;
        let node = SourceNode { source, transform, watermarks };
        let id = self.source(format!("Source: {}", table.name), node, columns, phys.parallelism);
        self.sources.insert(table.scan_key(), (id, bounded));
        Ok((id, bounded))
    }

    fn transform(
        &self,
        table: &Table,
        fields: &[usize],
        given: &[usize],
        output: &[Column],
    ) -> Result<Option<SourceTransformSpec>> {
        let projection = over_given(table, fields, given)?;
        let watermark = match &table.watermark {
            Some((rowtime, e)) => {
                let at = |i: usize| fields.iter().position(|f| *f == i).unwrap_or(usize::MAX);
                Some((at(*rowtime), e.renumber(&at)))
            }
            None => None,
        };
        let identity = watermark.is_none()
            && projection.len() == given.len()
            && projection.iter().enumerate().all(|(i, e)| e.kind == ExprKind::Column(i));
        if identity {
            return Ok(None);
        }
        let physical: Vec<Column> = given.iter().map(|&i| table.connector_column(i)).collect();
        Ok(Some(SourceTransformSpec {
            physical,
            projection,
            output: output.to_vec(),
            watermark,
            zone: self.zone.clone(),
        }))
    }

    /// A lookup join and everything below it.
    fn lookup(&mut self, parts: &LookupParts, phys: &Phys) -> Result<(NodeId, bool)> {
        let Some((input, partitioner)) = phys.inputs.first() else { return Err(Error::bug("a join without an input")) };
        let table = &parts.table;
        let (name, given) = (table.path.to_string(), table.source_columns());
        let key_of = |(_, field): &(usize, usize)| given.iter().position(|g| g == field);
        let asked: Vec<usize> = parts.keys.iter().filter_map(key_of).collect();
        let factory = self.services.registry.connector(&name, &table.options)?;
        let source = factory
            .lookup(&table_spec(table, &given, ChangelogMode::Append), &asked, self.config)
            .map_err(|e| place(of_table(e, &name), parts.position))?;
        let spec = LookupJoinSpec {
            kind: parts.kind,
            keys: parts.keys.iter().map(|k| k.0).collect(),
            table: given.iter().map(|&i| table.connector_column(i)).collect(),
            projection: over_given(table, &parts.fields, &given)?,
            condition: parts.condition.clone(),
            input_mode: parts.input_mode,
            options: parts.options,
        };
        let (from, bounded) = self.add(input)?;
        let node = self.graph.add(StreamNode {
            name: operator_name(&phys.text),
            uid: None,
            kind: NodeKind::Lookup(LookupNode { spec, source }),
            parallelism: phys.parallelism,
            columns: plan_columns(&phys.columns),
            chainable: true,
        });
        self.graph.connect(from, node, 0, partitioner.clone());
        Ok((node, bounded))
    }

    /// A table function and everything below it.
    fn correlate(
        &mut self,
        spec: &CorrelateSpec,
        function: &Arc<dyn BoundTableFunction>,
        phys: &Phys,
    ) -> Result<(NodeId, bool)> {
        let Some((input, partitioner)) = phys.inputs.first() else { return Err(Error::bug("no input")) };
        let (from, bounded) = self.add(input)?;
        let node = self.graph.add(StreamNode {
            name: operator_name(&phys.text),
            uid: None,
            kind: NodeKind::Correlate(CorrelateNode { spec: spec.clone(), function: Arc::clone(function) }),
            parallelism: phys.parallelism,
            columns: plan_columns(&phys.columns),
            chainable: true,
        });
        self.graph.connect(from, node, 0, partitioner.clone());
        Ok((node, bounded))
    }

    fn watermark_options(&self, table: &Table) -> Result<WatermarkOptions> {
        let duration = |key: &str| -> Result<Option<i64>> {
            let Some(text) = table.options.get(key) else { return Ok(None) };
            parse_duration_ms(text).map(Some).ok_or_else(|| {
                Error::user("table.option", format!("table `{}`: '{key}' = '{text}' is not a duration", table.name))
                    .hint("as in '10 s' or '1 min'")
            })
        };
        let idle = duration("scan.watermark.idle-timeout")?.or(self.config.duration_ms(keys::SOURCE_IDLE_TIMEOUT));
        let alignment = match (
            table.options.get("scan.watermark.alignment.group"),
            duration("scan.watermark.alignment.max-drift")?,
        ) {
            (Some(group), Some(max_drift_ms)) => Some(WatermarkAlignment { group: group.clone(), max_drift_ms }),
            _ => None,
        };
        Ok(WatermarkOptions { idle_timeout_ms: idle.filter(|ms| *ms > 0), alignment })
    }

    /// The sink of a table, fitted to what the query produces; refuses updates where the sink takes none.
    pub(crate) fn table_sink(&self, table: &Table, phys: &Phys) -> Result<Arc<dyn Sink>> {
        let name = table.path.to_string();
        let factory = self.services.registry.connector(&name, &table.options)?;
        let make = |mode| {
            let spec = table_spec(table, &table.sink_columns(), mode);
            factory.sink(&spec, self.config).map_err(|e| of_table(e, &name))
        };
        make(phys.changes.mode())
    }

    /// Connects a sink behind `phys`.
    pub(crate) fn sink(
        &mut self,
        name: String,
        sink: Arc<dyn Sink>,
        phys: &Phys,
        partitioner: Partitioner,
        parallelism: Option<u32>,
    ) -> Result<()> {
        let (from, _) = self.add(phys)?;
        let columns = plan_columns(&phys.columns);
        let kind = NodeKind::Sink(sink);
        let node = self.graph.add(StreamNode { name, uid: None, kind, parallelism, columns, chainable: true });
        self.graph.connect(from, node, 0, partitioner);
        Ok(())
    }
}

/// Whether an operator is worth sharing: it remembers rows, which costs more than to hand its output to two.
fn keeps_state(spec: &OperatorSpec) -> bool {
    use OperatorSpec as S;
    matches!(
        spec,
        S::WindowAggregate { .. }
            | S::GroupAggregate { .. }
            | S::Join(_)
            | S::IntervalJoin(_)
            | S::WindowJoin(_)
            | S::TemporalJoin(_)
            | S::TopN { .. }
            | S::WindowTopN { .. }
            | S::Deduplicate { .. }
            | S::ChangelogNormalize { .. }
    )
}

/// All that an operator's output follows from; `None` when it does not follow from its input alone.
fn signature(phys: &Phys) -> Option<String> {
    let own = match &phys.kind {
        PhysKind::Scan { table, fields } => format!("{} {fields:?}", table.name),
        PhysKind::Values { rows } => format!("{rows:?}"),
        PhysKind::Spec(OperatorSpec::Calc { filter, projection })
            if !filter.iter().chain(projection).all(is_deterministic) =>
        {
            return None;
        }
        PhysKind::Spec(spec) => format!("{spec:?}"),
        PhysKind::Lookup(_) | PhysKind::Correlate(..) => return None,
    };
    let mut out = format!("{own} {:?} {:?}", phys.parallelism, plan_columns(&phys.columns));
    for (input, partitioner) in &phys.inputs {
        out.push_str(&format!(" {partitioner:?}({})", signature(input)?));
    }
    Some(out)
}

/// Whether values of one type are values of the other as they are: nested types may differ in what is NOT NULL inside.
pub(crate) fn same_values(a: &TypeKind, b: &TypeKind) -> bool {
    let nested = matches!(a, TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Row(_));
    a == b || (nested && a.to_arrow() == b.to_arrow())
}

/// Columns of a table as expressions over what its connector gives.
fn over_given(table: &Table, fields: &[usize], given: &[usize]) -> Result<Vec<Expr>> {
    let mut plain: Vec<Option<Expr>> = vec![None; table.columns.len()];
    for (at, &i) in given.iter().enumerate() {
        let (column, declared) = (table.connector_column(i).data_type, table.columns[i].data_type.clone());
        let cast = !same_values(&column.kind, &declared.kind);
        let e = Expr::column(at, if cast { column } else { declared.clone() });
        plain[i] = Some(if cast { bind_cast(e, declared, false)? } else { e });
    }
    let bug = || Error::bug(format!("a column of `{}` is neither given nor computed", table.name));
    let of =
        |i: &usize| match &table.columns[*i].source {
            ColumnSource::Computed(e, _) => Ok(e.replace_columns(&|c| {
                plain[c].clone().unwrap_or_else(|| Expr::column(usize::MAX, e.data_type.clone()))
            })),
            _ => plain[*i].clone().ok_or_else(bug),
        };
    fields.iter().map(of).collect()
}

/// Says which table it is, unless the connector has said so.
fn of_table(e: Error, name: &str) -> Error {
    let context = format!("table `{name}`");
    if e.message().starts_with(&context) { e } else { e.context(context) }
}

/// `Calc(select=[…])` is called `Calc` in a task's name.
fn operator_name(text: &str) -> String {
    text.split('(').next().unwrap_or(text).to_owned()
}
