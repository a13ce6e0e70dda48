//! Aggregates: collected while the SELECT list is bound, then turned into relations. Recognises window aggregation.

use flott_core::error::Position;
use flott_core::types::DataType;
use flott_core::{Error, Result};
use flott_expr::aggregate_type_of;
use flott_plan::spec::{AggregateFunction, WindowKind, WindowProperty};
use flott_plan::{Expr, ExprKind, UserAggregate};

use super::grouping::{Expanded, GroupBy, expand, null_in_null_out};
use super::over::OVER_BASE;
use super::windowed::windowed;
use crate::diag::place;
use crate::planner::rel::{Rel, RelAggregate, RelColumn, RelNode, Window, calc, derived_column};

/// Collects what is computed per group. While binding, result `k` is column `base + k`.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    /// Number of columns of the input.
    pub(crate) base: usize,
    /// Whether there is a GROUP BY.
    pub(crate) grouped: bool,
    /// Results in order of appearance.
    pub(crate) results: Vec<GroupResult>,
    /// What the groups are.
    pub(crate) group: GroupBy,
}

/// One result per group.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a handful per query")]
pub(crate) enum GroupResult {
    Aggregate(BoundAggregate),
    Property(WindowProperty),
    /// GROUPING of these keys.
    Grouping(Vec<usize>),
    /// GROUP_ID.
    GroupId,
}

/// An aggregate over expressions of the input.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BoundAggregate {
    pub(crate) function: AggregateFunction,
    /// That of the user, whose type is known already.
    pub(crate) user: Option<UserAggregate>,
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
        if aggregate.user.is_some() {
            let data_type = aggregate.data_type.clone();
            return Ok(self.add(GroupResult::Aggregate(aggregate), data_type));
        }
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
    /// Results over the columns of the aggregation.
    results: Vec<Expr>,
    base: usize,
}

/// A key of an aggregation: an expression of its input, or a property of its window.
#[derive(Clone, Debug)]
pub(super) enum Key {
    Expr(Expr),
    Property(WindowProperty),
}

/// The parts of an aggregation over `input`.
pub(super) struct Parts {
    pub(super) input: Rel,
    pub(super) window: Option<Window>,
    /// In the order of [`GroupBy::keys`].
    pub(super) keys: Vec<Key>,
    pub(super) results: Vec<GroupResult>,
    /// The keys are what tells sessions apart.
    pub(super) partition_by_group: bool,
}

impl Parts {
    /// An aggregation that knows no windows.
    pub(super) fn plain(input: Rel, group: &GroupBy, results: &[GroupResult]) -> Self {
        let keys = group.keys.iter().cloned().map(Key::Expr).collect();
        Parts { input, window: None, keys, results: results.to_vec(), partition_by_group: false }
    }
}

/// Builds the aggregation of `rel`.
pub(crate) fn aggregate(rel: Rel, collector: Collector) -> Result<Aggregated> {
    let (base, group) = (collector.base, collector.group);
    let parts = match &group.legacy {
        Some(legacy) => {
            let window = Some(legacy.window(&rel)?);
            Parts { window, partition_by_group: true, ..Parts::plain(rel, &group, &collector.results) }
        }
        None => windowed(rel, &group, &collector.results),
    };
    Ok(build(parts, group, base))
}

/// Puts the Calc, the Expand and the aggregation over the input.
fn build(parts: Parts, group: GroupBy, base: usize) -> Aggregated {
    let Parts { input, window, keys, results, partition_by_group } = parts;
    let mut pre = PreProjection::default();
    let key_exprs = keys.iter().filter_map(|k| match k {
        Key::Expr(e) => Some(e),
        Key::Property(_) => None,
    });
    let (mut group_keys, places) = distinct_columns(&key_exprs.map(|e| pre.column(e)).collect::<Vec<_>>());
    let aggregates: Vec<RelAggregate> = results
        .iter()
        .filter_map(|r| match r {
            GroupResult::Aggregate(a) => Some(pre.aggregate(a)),
            _ => None,
        })
        .collect();
    let of = |i: usize| Expr::column(i, input.columns[i].data_type.clone());
    let mut window = window.map(|w| Window {
        time: pre.column(&of(w.time)),
        partition: w.partition.iter().map(|i| pre.column(&of(*i))).collect(),
        ..w
    });
    let mut input = pre.apply(input);
    let mut set = None;
    if group.is_sets() {
        let Expanded { rel, keys: columns, set: number } =
            expand(input, &group_keys, &key_sets(&keys, &places, &group));
        (input, group_keys, set) = (rel, columns, Some(group_keys.len()));
        group_keys.push(number);
    }
    if let Some(window) = &mut window {
        match window.kind {
            WindowKind::Session { .. } if partition_by_group => window.partition.clone_from(&group_keys),
            WindowKind::Session { .. } => {}
            _ => window.partition.clear(),
        }
    }
    let properties = window.as_ref().map(|_| wanted_properties(&keys, &results)).unwrap_or_default();
    let columns = output_columns(&input, &group_keys, &aggregates, &properties, window.as_ref());
    let first_property = group_keys.len() + aggregates.len();
    let property_column = |p: &WindowProperty| first_property + properties.iter().position(|x| x == p).unwrap_or(0);
    let mut places = places.into_iter();
    let group_columns = keys
        .iter()
        .map(|k| match k {
            Key::Expr(_) => places.next().unwrap_or_default(),
            Key::Property(p) => property_column(p),
        })
        .collect();
    let mut next = group_keys.len();
    let column = |i: usize| Expr::column(i, columns[i].data_type.clone());
    let results = results
        .iter()
        .map(|r| match r {
            GroupResult::Aggregate(_) => {
                next += 1;
                column(next - 1)
            }
            GroupResult::Property(p) => column(property_column(p)),
            GroupResult::Grouping(of) => group.indicator(Some(of), set),
            GroupResult::GroupId => group.indicator(None, set),
        })
        .collect();
    let input = Box::new(input);
    let node = match window {
        Some(window) => RelNode::WindowAggregate { input, window, group: group_keys, aggregates, properties },
        None => RelNode::Aggregate { input, group: group_keys, aggregates, ttl: None },
    };
    Aggregated { rel: Rel { node, columns }, group: group.keys, group_columns, results, base }
}

/// The sets as numbers of distinct key columns; properties of the window are in each.
fn key_sets(keys: &[Key], places: &[usize], group: &GroupBy) -> Vec<Vec<usize>> {
    let mut next = 0;
    let place: Vec<Option<usize>> = keys
        .iter()
        .map(|k| match k {
            Key::Expr(_) => {
                next += 1;
                Some(places[next - 1])
            }
            Key::Property(_) => None,
        })
        .collect();
    group.sets.iter().map(|set| set.iter().filter_map(|k| place[*k]).collect()).collect()
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
    let mut columns: Vec<RelColumn> = keys
        .iter()
        .map(|&k| {
            let c = &input.columns[k];
            // The start of a window goes on belonging to its row.
            let attached = c.attached.filter(|_| window.is_some_and(|w| w.kind == WindowKind::Attached));
            RelColumn { attached, ..RelColumn::new(&c.name, c.data_type.clone()) }
        })
        .collect();
    for (i, a) in aggregates.iter().enumerate() {
        columns.push(RelColumn::new(format!("EXPR${i}"), a.data_type.clone()));
    }
    if let Some(window) = window {
        columns.extend(properties.iter().map(|p| RelColumn { window: None, ..window.property_column(*p) }));
    }
    columns
}

fn wanted_properties(keys: &[Key], results: &[GroupResult]) -> Vec<WindowProperty> {
    let of_keys = keys.iter().filter_map(|k| match k {
        Key::Property(p) => Some(*p),
        Key::Expr(_) => None,
    });
    let of_results = results.iter().filter_map(|r| match r {
        GroupResult::Property(p) => Some(*p),
        _ => None,
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
            user: a.user.clone(),
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
                return Ok(self.results[i - self.base].clone());
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
        let before: Vec<bool> = e.children().iter().map(|c| c.data_type.nullable).collect();
        let data_type = null_in_null_out(&rewritten, &before, &e.data_type);
        Ok(Expr { kind: rewritten, data_type })
    }
}
