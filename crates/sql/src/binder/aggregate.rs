//! Aggregates: collected while the SELECT list is bound, then turned into relations. Recognises window aggregation.

use flott_core::error::Position;
use flott_core::types::DataType;
use flott_core::{Error, Result};
use flott_expr::aggregate_type_of;
use flott_plan::spec::{AggregateFunction, WindowProperty};
use flott_plan::{Expr, ExprKind};

use super::over::OVER_BASE;
use super::window::LegacyWindow;
use crate::diag::{place, unsupported};
use crate::planner::rel::{
    Attached, Rel, RelAggregate, RelColumn, RelNode, TimeAttribute, Window, calc, derived_column, used_columns,
};

/// Collects what is computed per group. While binding, result `k` is column `base + k`.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    /// Number of columns of the input.
    pub(crate) base: usize,
    /// Whether there is a GROUP BY.
    pub(crate) grouped: bool,
    /// Results in order of appearance.
    pub(crate) results: Vec<GroupResult>,
    /// The group window of GROUP BY TUMBLE(…), if any.
    pub(crate) legacy: Option<LegacyWindow>,
}

/// One result per group.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a handful per query")]
pub(crate) enum GroupResult {
    Aggregate(BoundAggregate),
    Property(WindowProperty),
}

/// An aggregate over expressions of the input.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BoundAggregate {
    pub(crate) function: AggregateFunction,
    pub(crate) arg: Option<Expr>,
    /// Further arguments.
    pub(crate) more: Vec<Expr>,
    pub(crate) distinct: bool,
    pub(crate) filter: Option<Expr>,
    pub(crate) data_type: DataType,
}

impl Collector {
    /// The column that stands for the result; equal results share one.
    pub(crate) fn add(&mut self, result: GroupResult, data_type: DataType) -> Expr {
        let k = self.results.iter().position(|r| *r == result).unwrap_or_else(|| {
            self.results.push(result);
            self.results.len() - 1
        });
        Expr::column(self.base + k, data_type)
    }

    /// An aggregate.
    pub(crate) fn aggregate(&mut self, mut aggregate: BoundAggregate) -> Result<Expr> {
        let types: Vec<DataType> = aggregate.arg.iter().chain(&aggregate.more).map(|a| a.data_type.clone()).collect();
        let mut data_type = aggregate_type_of(aggregate.function, &types, self.grouped)?;
        // A filter may leave no row to a group.
        if aggregate.filter.is_some() && !never_null(aggregate.function) {
            data_type.nullable = true;
        }
        // Repeated values change neither of these.
        if matches!(aggregate.function, AggregateFunction::Min | AggregateFunction::Max) {
            aggregate.distinct = false;
        }
        aggregate.data_type = data_type.clone();
        Ok(self.add(GroupResult::Aggregate(aggregate), data_type))
    }
}

/// Whether there is a result over no rows too.
fn never_null(function: AggregateFunction) -> bool {
    use AggregateFunction as F;
    matches!(function, F::Count | F::Collect | F::JsonArrayAgg { .. } | F::JsonObjectAgg { .. })
}

/// An aggregation and where its parts are in its output.
pub(crate) struct Aggregated {
    pub(crate) rel: Rel,
    group: Vec<Expr>,
    group_columns: Vec<usize>,
    result_columns: Vec<usize>,
    base: usize,
}

/// Builds the aggregation of `rel`.
pub(crate) fn aggregate(rel: Rel, group: Vec<Expr>, collector: Collector, at: Option<Position>) -> Result<Aggregated> {
    if let Some(legacy) = collector.legacy.clone() {
        return legacy_aggregate(rel, group, collector, legacy, at);
    }
    let property = |e: &Expr| match e.kind {
        ExprKind::Column(i) => rel.columns[i].window,
        _ => None,
    };
    let has = |p| group.iter().any(|e| property(e) == Some(p));
    if has(WindowProperty::Start) && has(WindowProperty::End) {
        return tvf_aggregate(rel, group, collector, at);
    }
    let base = collector.base;
    let mut pre = PreProjection::default();
    let group_columns: Vec<usize> = group.iter().map(|e| pre.column(e)).collect();
    let (keys, group_out) = distinct_columns(&group_columns);
    let mut aggregates = Vec::new();
    let mut result_columns = Vec::new();
    for result in &collector.results {
        match result {
            GroupResult::Aggregate(a) => {
                result_columns.push(keys.len() + aggregates.len());
                aggregates.push(pre.aggregate(a));
            }
            GroupResult::Property(_) => return Err(Error::bug("a window property without a window")),
        }
    }
    let input = pre.apply(rel);
    let columns = output_columns(&input, &keys, &aggregates, &[], None);
    let node = RelNode::Aggregate { input: Box::new(input), group: keys, aggregates };
    let rel = Rel { node, columns };
    Ok(Aggregated { rel, group, group_columns: group_out, result_columns, base })
}

/// The distinct input columns of a GROUP BY, and for each group expression its place among them.
fn distinct_columns(columns: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut keys: Vec<usize> = Vec::new();
    let places = columns
        .iter()
        .map(|c| {
            keys.iter().position(|k| k == c).unwrap_or_else(|| {
                keys.push(*c);
                keys.len() - 1
            })
        })
        .collect();
    (keys, places)
}

fn output_columns(
    input: &Rel,
    keys: &[usize],
    aggregates: &[RelAggregate],
    properties: &[WindowProperty],
    window: Option<&Window>,
) -> Vec<RelColumn> {
    let mut columns: Vec<RelColumn> =
        keys.iter().map(|&k| RelColumn::new(&input.columns[k].name, input.columns[k].data_type.clone())).collect();
    for (i, a) in aggregates.iter().enumerate() {
        columns.push(RelColumn::new(format!("EXPR${i}"), a.data_type.clone()));
    }
    if let Some(window) = window {
        columns.extend(properties.iter().map(|p| RelColumn { window: None, ..window.property_column(*p) }));
    }
    columns
}

/// GROUP BY window_start, window_end [, keys] over a window table function.
fn tvf_aggregate(rel: Rel, group: Vec<Expr>, collector: Collector, at: Option<Position>) -> Result<Aggregated> {
    let (columns, projection, filter, input, window) = match rel.node {
        RelNode::Calc { input, filter, projection } => match input.node {
            RelNode::Window { input, window } => (rel.columns, projection, filter, input, window),
            _ => return Err(unsupported("GROUP BY over this use of window columns", at)),
        },
        RelNode::Window { input, window } => {
            let all = rel.columns.iter().enumerate().map(|(i, c)| Expr::column(i, c.data_type.clone())).collect();
            (rel.columns, all, None, input, window)
        }
        _ => return Err(unsupported("GROUP BY over this use of window columns", at)),
    };
    let width = input.columns.len();
    let below = |e: &Expr| -> Result<Expr> {
        let e = e.replace_columns(&|i| projection[i].clone());
        if used_columns([&e]).iter().any(|&i| i >= width) {
            let error = unsupported("using window_start, window_end or window_time inside a window aggregation", at);
            return Err(error.hint("aggregate first, then compute with the window columns in an outer SELECT"));
        }
        Ok(e)
    };
    if let Some(f) = &filter
        && used_columns([f]).iter().any(|&i| i >= width)
    {
        let error = unsupported("a WHERE on window columns before the window aggregation", at);
        return Err(error.hint("filter in an outer SELECT"));
    }
    let mut shape = WindowShape::new(&collector);
    let mut keys_of_group = Vec::new();
    for e in &group {
        let property = match e.kind {
            ExprKind::Column(i) => columns[i].window,
            _ => None,
        };
        keys_of_group.push(match property {
            Some(p) => Err(p),
            None => Ok(below(e)?),
        });
    }
    let results = collector
        .results
        .iter()
        .map(|r| match r {
            GroupResult::Aggregate(a) => Ok(GroupResult::Aggregate(BoundAggregate {
                arg: a.arg.as_ref().map(below).transpose()?,
                more: a.more.iter().map(below).collect::<Result<_>>()?,
                filter: a.filter.as_ref().map(below).transpose()?,
                ..a.clone()
            })),
            GroupResult::Property(p) => Ok(GroupResult::Property(*p)),
        })
        .collect::<Result<Vec<_>>>()?;
    let input = match filter {
        Some(f) => input.filter(f),
        None => *input,
    };
    shape.build(input, window, keys_of_group, results, group, false, at)
}

/// GROUP BY TUMBLE(…), HOP(…), SESSION(…) [, keys].
fn legacy_aggregate(
    rel: Rel,
    group: Vec<Expr>,
    collector: Collector,
    legacy: LegacyWindow,
    at: Option<Position>,
) -> Result<Aggregated> {
    let window = legacy.window(&rel)?;
    let keys = group.iter().cloned().map(Ok).collect();
    let mut shape = WindowShape::new(&collector);
    shape.build(rel, window, keys, collector.results.clone(), group, true, at)
}

/// Builds a WindowAggregate.
struct WindowShape {
    base: usize,
}

impl WindowShape {
    fn new(collector: &Collector) -> Self {
        WindowShape { base: collector.base }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one aggregation, used once")]
    fn build(
        &mut self,
        input: Rel,
        mut window: Window,
        keys: Vec<std::result::Result<Expr, WindowProperty>>,
        results: Vec<GroupResult>,
        group: Vec<Expr>,
        partition_by_group: bool,
        at: Option<Position>,
    ) -> Result<Aggregated> {
        let mut pre = PreProjection::default();
        let key_columns: Vec<usize> = keys.iter().filter_map(|k| k.as_ref().ok()).map(|e| pre.column(e)).collect();
        let (group_keys, places) = distinct_columns(&key_columns);
        let session = matches!(window.kind, flott_plan::WindowKind::Session { .. });
        let partition: Vec<usize> = if partition_by_group {
            if session { group_keys.clone() } else { Vec::new() }
        } else {
            let of = |i: &usize| Expr::column(*i, input.columns[*i].data_type.clone());
            window.partition.iter().map(|i| pre.column(&of(i))).collect()
        };
        if session && !(partition.iter().all(|p| group_keys.contains(p)) && group_keys.len() == partition.len()) {
            let error = unsupported("a SESSION whose PARTITION BY differs from the keys of the GROUP BY", at);
            return Err(error.hint("group by exactly the PARTITION BY columns, window_start and window_end"));
        }
        let aggregates: Vec<RelAggregate> = results
            .iter()
            .filter_map(|r| match r {
                GroupResult::Aggregate(a) => Some(pre.aggregate(a)),
                GroupResult::Property(_) => None,
            })
            .collect();
        let properties = wanted_properties(&keys, &results);
        let time = Expr::column(window.time, input.columns[window.time].data_type.clone());
        window.time = pre.column(&time);
        window.partition = partition;
        let input = pre.apply(input);
        let columns = output_columns(&input, &group_keys, &aggregates, &properties, Some(&window));
        let first_property = group_keys.len() + aggregates.len();
        let property_column =
            |p: &WindowProperty| first_property + properties.iter().position(|x| x == p).unwrap_or_default();
        let mut places = places.into_iter();
        let group_columns = keys
            .iter()
            .map(|k| match k {
                Ok(_) => places.next().unwrap_or_default(),
                Err(p) => property_column(p),
            })
            .collect();
        let mut seen = 0;
        let result_columns = results
            .iter()
            .map(|r| match r {
                GroupResult::Aggregate(_) => {
                    seen += 1;
                    group_keys.len() + seen - 1
                }
                GroupResult::Property(p) => property_column(p),
            })
            .collect();
        let node =
            RelNode::WindowAggregate { input: Box::new(input), window, group: group_keys, aggregates, properties };
        Ok(Aggregated { rel: Rel { node, columns }, group, group_columns, result_columns, base: self.base })
    }
}

fn wanted_properties(
    keys: &[std::result::Result<Expr, WindowProperty>],
    results: &[GroupResult],
) -> Vec<WindowProperty> {
    let of_keys = keys.iter().filter_map(|k| k.as_ref().err().copied());
    let of_results = results.iter().filter_map(|r| match r {
        GroupResult::Property(p) => Some(*p),
        GroupResult::Aggregate(_) => None,
    });
    let mut wanted = Vec::new();
    for p in of_keys.chain(of_results) {
        if !wanted.contains(&p) {
            wanted.push(p);
        }
    }
    wanted
}

/// The Calc below an aggregation: each expression once, as a column.
#[derive(Default)]
struct PreProjection {
    exprs: Vec<Expr>,
}

impl PreProjection {
    fn column(&mut self, e: &Expr) -> usize {
        self.exprs.iter().position(|x| x == e).unwrap_or_else(|| {
            self.exprs.push(e.clone());
            self.exprs.len() - 1
        })
    }

    fn aggregate(&mut self, a: &BoundAggregate) -> RelAggregate {
        RelAggregate {
            function: a.function,
            arg: a.arg.as_ref().map(|e| self.column(e)),
            more: a.more.iter().map(|e| self.column(e)).collect(),
            distinct: a.distinct,
            filter: a.filter.as_ref().map(|e| self.column(e)),
            data_type: a.data_type.clone(),
        }
    }

    fn apply(self, rel: Rel) -> Rel {
        let columns = self
            .exprs
            .iter()
            .enumerate()
            .map(|(i, e)| {
                let name = match e.kind {
                    ExprKind::Column(c) => rel.columns[c].name.clone(),
                    _ => format!("$f{i}"),
                };
                derived_column(&rel.columns, e, &name)
            })
            .collect();
        calc(rel, None, self.exprs, columns)
    }
}

impl Aggregated {
    /// An expression of the SELECT list over the aggregation's output: group expressions and results become columns; any other
    /// column is an error.
    pub(crate) fn rewrite(&self, e: &Expr, names: &[RelColumn], at: Option<Position>) -> Result<Expr> {
        if let Some(i) = self.group.iter().position(|g| g == e) {
            let column = self.group_columns[i];
            return Ok(Expr::column(column, self.rel.columns[column].data_type.clone()));
        }
        let rewritten = match &e.kind {
            // The number of a row, which is only known once the groups are.
            ExprKind::Column(i) if *i >= OVER_BASE => return Ok(e.clone()),
            ExprKind::Column(i) if *i >= self.base => {
                let column = self.result_columns[i - self.base];
                return Ok(Expr::column(column, self.rel.columns[column].data_type.clone()));
            }
            ExprKind::Column(i) => {
                let name = names.get(*i).map_or("?", |c| c.name.as_str());
                let error = Error::user("sql.group-by", format!("column `{name}` is not in the GROUP BY"))
                    .hint("add it to the GROUP BY, or put it into an aggregate such as MAX");
                return Err(place(error, at));
            }
            ExprKind::Literal(_) => return Ok(e.clone()),
            ExprKind::Field(x, i) => ExprKind::Field(Box::new(self.rewrite(x, names, at)?), *i),
            ExprKind::Cast { input, safe } => {
                ExprKind::Cast { input: Box::new(self.rewrite(input, names, at)?), safe: *safe }
            }
            ExprKind::Call { function, args } => {
                let args = args.iter().map(|a| self.rewrite(a, names, at)).collect::<Result<_>>()?;
                ExprKind::Call { function: function.clone(), args }
            }
            ExprKind::User { function, args } => {
                let args = args.iter().map(|a| self.rewrite(a, names, at)).collect::<Result<_>>()?;
                ExprKind::User { function: function.clone(), args }
            }
            ExprKind::Case { branches, otherwise } => ExprKind::Case {
                branches: branches
                    .iter()
                    .map(|(c, v)| Ok((self.rewrite(c, names, at)?, self.rewrite(v, names, at)?)))
                    .collect::<Result<_>>()?,
                otherwise: otherwise.as_ref().map(|o| self.rewrite(o, names, at).map(Box::new)).transpose()?,
            },
        };
        Ok(Expr { kind: rewritten, data_type: e.data_type.clone() })
    }
}

impl Window {
    /// The column that a property of the window is.
    pub(crate) fn property_column(&self, property: WindowProperty) -> RelColumn {
        use flott_core::types::TypeKind;
        let timestamp = TypeKind::Timestamp(3).not_null();
        let proctime = self.time_attribute == TimeAttribute::Proctime;
        let zoned = proctime || matches!(self.time_type.kind, TypeKind::TimestampLtz(_));
        let (window, attached) = (Some(property), Some(Attached { property, proctime, zoned }));
        match property {
            WindowProperty::Start => RelColumn { window, attached, ..RelColumn::new("window_start", timestamp) },
            WindowProperty::End => RelColumn { window, attached, ..RelColumn::new("window_end", timestamp) },
            WindowProperty::Time => {
                let data_type = match (self.time_attribute, &self.time_type.kind) {
                    (TimeAttribute::Proctime, _) => TypeKind::TimestampLtz(3),
                    (_, kind) => kind.clone(),
                };
                RelColumn {
                    time: Some(self.time_attribute),
                    window,
                    attached,
                    ..RelColumn::new("window_time", data_type.not_null())
                }
            }
        }
    }
}
