//! The relational tree between binder and StreamGraph: typed, resolved, by column number. Pure data.

use std::sync::Arc;

use flott_core::error::Position;
use flott_core::table_function::BoundTableFunction;
use flott_core::types::{Column, DataType};
use flott_plan::spec::{AggregateFunction, JoinKind, LookupJoinOptions, SortKey, WindowKind, WindowProperty};
use flott_plan::{Expr, ExprKind, MatchSpec, OverFrame, OverFunction, UserAggregate};

use crate::catalog::Table;

/// Which time an attribute column carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeAttribute {
    Rowtime,
    Proctime,
}

/// A column of a relation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RelColumn {
    pub(crate) name: String,
    pub(crate) data_type: DataType,
    /// Time attribute.
    pub(crate) time: Option<TimeAttribute>,
    /// Which property of the window of the TVF below this column is.
    pub(crate) window: Option<WindowProperty>,
    /// Which property of a window this column is, however the row came by it.
    pub(crate) attached: Option<Attached>,
}

/// A window column that still belongs to its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attached {
    pub(crate) property: WindowProperty,
    /// The window is one of processing time.
    pub(crate) proctime: bool,
    /// The window was cut in the session's zone.
    pub(crate) zoned: bool,
}

impl RelColumn {
    pub(crate) fn new(name: impl Into<String>, data_type: DataType) -> Self {
        RelColumn { name: name.into(), data_type, time: None, window: None, attached: None }
    }
    /// The same values under another name.
    pub(crate) fn renamed(&self, name: &str) -> Self {
        RelColumn { name: name.to_owned(), ..self.clone() }
    }
    /// Type as EXPLAIN and DESCRIBE write it.
    pub(crate) fn type_text(&self) -> String {
        match self.time {
            Some(TimeAttribute::Rowtime) => format!("{} *ROWTIME*", self.data_type),
            Some(TimeAttribute::Proctime) => format!("{} *PROCTIME*", self.data_type),
            None => self.data_type.to_string(),
        }
    }
}

/// `FOR SYSTEM_TIME AS OF` an event time: a left row meets the version of the right side at its time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AsOf {
    pub(crate) left_time: usize,
    pub(crate) right_time: usize,
    pub(crate) position: Option<Position>,
}

/// How long state stays, as a STATE_TTL hint says it: milliseconds, 0 for as long as the job runs; `None`: as the session says.
pub(crate) type HintedTtl = Option<i64>;

/// The same for the sides of a join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SideTtl {
    pub(crate) left: HintedTtl,
    pub(crate) right: HintedTtl,
}

/// A relation: an operation and the columns it gives.
#[derive(Clone, Debug)]
pub(crate) struct Rel {
    pub(crate) node: RelNode,
    pub(crate) columns: Vec<RelColumn>,
}

/// Windows of a table function over its input.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Window {
    pub(crate) kind: WindowKind,
    pub(crate) time: usize,
    pub(crate) time_attribute: TimeAttribute,
    pub(crate) time_type: DataType,
    pub(crate) partition: Vec<usize>,
    pub(crate) position: Option<Position>,
}

/// An aggregate over columns of the input.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RelAggregate {
    pub(crate) function: AggregateFunction,
    /// That of the user.
    pub(crate) user: Option<UserAggregate>,
    pub(crate) arg: Option<usize>,
    /// Further arguments: a separator, the value beside a key.
    pub(crate) more: Vec<usize>,
    pub(crate) distinct: bool,
    pub(crate) filter: Option<usize>,
    pub(crate) data_type: DataType,
}

/// A function with OVER, over columns of the input.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RelOver {
    pub(crate) function: OverFunction,
    /// As it was written, where the function does not say it.
    pub(crate) name: &'static str,
    pub(crate) arg: Option<usize>,
    /// Arguments behind the first: the separator of LISTAGG, those of an aggregate of the user.
    pub(crate) more: Vec<usize>,
    /// That of the user.
    pub(crate) user: Option<UserAggregate>,
    pub(crate) distinct: bool,
    pub(crate) data_type: DataType,
    /// A filter above compares the result with a constant: filled by the optimiser for RANK and DENSE_RANK.
    pub(crate) bounded: bool,
}

/// A call of a table function.
#[derive(Clone, Debug)]
pub(crate) struct TableCall {
    /// As in EXPLAIN.
    pub(crate) name: String,
    pub(crate) args: Vec<Expr>,
    pub(crate) function: Arc<dyn BoundTableFunction>,
}

/// Operations.
#[derive(Clone, Debug)]
pub(crate) enum RelNode {
    /// Columns of a table, by number; `columns` of the relation are these.
    Scan { table: Arc<Table>, fields: Vec<usize> },
    /// Literal rows.
    Values { rows: Vec<Vec<Expr>> },
    /// Filter, then project.
    Calc { input: Box<Rel>, filter: Option<Expr>, projection: Vec<Expr> },
    /// Each row once per projection: what grouping sets come to.
    Expand { input: Box<Rel>, projections: Vec<Vec<Expr>> },
    /// Window table function: appends start, end and time.
    Window { input: Box<Rel>, window: Window },
    /// Output: group columns, aggregates, properties.
    WindowAggregate {
        input: Box<Rel>,
        window: Window,
        group: Vec<usize>,
        aggregates: Vec<RelAggregate>,
        properties: Vec<WindowProperty>,
    },
    /// Output: group columns, aggregates.
    Aggregate { input: Box<Rel>, group: Vec<usize>, aggregates: Vec<RelAggregate>, ttl: HintedTtl },
    /// Output: left columns, right columns. Keys are filled by the optimiser from the condition.
    Join {
        left: Box<Rel>,
        right: Box<Rel>,
        kind: JoinKind,
        keys: Vec<(usize, usize)>,
        condition: Option<Expr>,
        as_of: Option<AsOf>,
        ttl: SideTtl,
    },
    /// A join with rows asked of a table by key. Output: input columns, then `fields` of the table. Keys (input column, table
    /// column) are filled by the optimiser from the condition.
    LookupJoin {
        input: Box<Rel>,
        table: Arc<Table>,
        fields: Vec<usize>,
        kind: JoinKind,
        keys: Vec<(usize, usize)>,
        condition: Option<Expr>,
        options: LookupJoinOptions,
        position: Option<Position>,
    },
    /// A table function applied to each row. Output: `left` columns of the input, then `right` columns of the function.
    Correlate { input: Box<Rel>, call: TableCall, left: Vec<usize>, right: Vec<usize>, kind: JoinKind },
    /// ROW_NUMBER() OVER (PARTITION BY … ORDER BY …). Output: input columns, then the number if `with_rank`. The limit is filled
    /// by the optimiser from the filter above; 0: the filter bounds the number, but leaves no first rows.
    Rank {
        input: Box<Rel>,
        partition: Vec<usize>,
        order: Vec<SortKey>,
        limit: Option<u64>,
        with_rank: bool,
        position: Option<Position>,
    },
    /// Functions with OVER. Output: input columns, then one per call.
    Over {
        input: Box<Rel>,
        partition: Vec<usize>,
        order: Vec<SortKey>,
        frame: OverFrame,
        calls: Vec<RelOver>,
        position: Option<Position>,
    },
    /// Each row as often as its column `count` says. Output: the other columns.
    Repeat { input: Box<Rel>, count: usize },
    /// MATCH_RECOGNIZE. Output: partition columns, measures.
    Match { input: Box<Rel>, spec: Box<MatchSpec>, position: Option<Position> },
    /// UNION ALL.
    Union { inputs: Vec<Rel> },
    /// ORDER BY, OFFSET, LIMIT.
    Sort { input: Box<Rel>, keys: Vec<SortKey>, offset: u64, limit: Option<u64>, position: Option<Position> },
}

impl Rel {
    /// All columns as they are.
    pub(crate) fn identity(&self) -> Vec<Expr> {
        self.columns.iter().enumerate().map(|(i, c)| Expr::column(i, c.data_type.clone())).collect()
    }

    /// Rows where `condition` holds.
    pub(crate) fn filter(self, condition: Expr) -> Rel {
        let (projection, columns) = (self.identity(), self.columns.clone());
        calc(self, Some(condition), projection, columns)
    }

    /// A projection; names given, attributes kept where a column is passed on.
    pub(crate) fn project(self, exprs: Vec<Expr>, names: &[String]) -> Rel {
        let columns = exprs.iter().zip(names).map(|(e, n)| derived_column(&self.columns, e, n)).collect();
        calc(self, None, exprs, columns)
    }

    /// Some of the columns.
    pub(crate) fn select(self, fields: &[usize]) -> Rel {
        let exprs = fields.iter().map(|&i| Expr::column(i, self.columns[i].data_type.clone())).collect();
        let columns = fields.iter().map(|&i| self.columns[i].clone()).collect();
        calc(self, None, exprs, columns)
    }
}

/// The column an expression gives: attributes survive only when a column is passed on as it is.
pub(crate) fn derived_column(input: &[RelColumn], expr: &Expr, name: &str) -> RelColumn {
    let mut column = match &expr.kind {
        ExprKind::Column(i) => input[*i].renamed(name),
        ExprKind::Call { function, .. } if function == "PROCTIME" => {
            RelColumn { time: Some(TimeAttribute::Proctime), ..RelColumn::new(name, expr.data_type.clone()) }
        }
        _ => RelColumn::new(name, expr.data_type.clone()),
    };
    column.data_type = expr.data_type.clone();
    column
}

/// Merged expressions may have so many nodes together.
const MERGED_SIZE_MAX: usize = 2000;

/// Filter and projection over `input`, merged into a Calc below where that does not blow up.
pub(crate) fn calc(input: Rel, filter: Option<Expr>, projection: Vec<Expr>, columns: Vec<RelColumn>) -> Rel {
    let trivial = filter.is_none()
        && projection.len() == input.columns.len()
        && projection.iter().enumerate().all(|(i, e)| e.kind == ExprKind::Column(i));
    if trivial {
        return Rel { node: input.node, columns };
    }
    match input {
        Rel { node: RelNode::Calc { input: inner, filter: inner_filter, projection: inner_projection }, .. }
            if merged_size(&inner_projection, filter.iter().chain(&projection)) <= MERGED_SIZE_MAX =>
        {
            let substitute = |e: &Expr| e.replace_columns(&|i| inner_projection[i].clone());
            let filter = and_all(inner_filter.into_iter().chain(filter.as_ref().map(substitute)));
            let projection = projection.iter().map(substitute).collect();
            Rel { node: RelNode::Calc { input: inner, filter, projection }, columns }
        }
        input => Rel { node: RelNode::Calc { input: Box::new(input), filter, projection }, columns },
    }
}

fn merged_size<'a>(inner: &[Expr], outer: impl Iterator<Item = &'a Expr>) -> usize {
    let sizes: Vec<usize> = inner.iter().map(size).collect();
    let mut total: usize = 0;
    for e in outer {
        total = total.saturating_add(size(e));
        e.visit_columns(&mut |i| total = total.saturating_add(sizes[i] - 1));
    }
    // A merge that only passes columns on never grows anything.
    if sizes.iter().all(|s| *s == 1) { 0 } else { total }
}

fn size(e: &Expr) -> usize {
    1 + e.children().into_iter().map(size).sum::<usize>()
}

/// The parts of a conjunction.
pub(crate) fn conjuncts(e: Expr) -> Vec<Expr> {
    let mut out = Vec::new();
    let mut stack = vec![e];
    while let Some(e) = stack.pop() {
        match e.kind {
            ExprKind::Call { function, mut args } if function == "AND" => {
                args.reverse();
                stack.extend(args);
            }
            kind => out.push(Expr { kind, data_type: e.data_type }),
        }
    }
    out
}

/// The conjunction of the parts; `None` of none.
pub(crate) fn and_all(parts: impl IntoIterator<Item = Expr>) -> Option<Expr> {
    parts.into_iter().reduce(|a, b| {
        let nullable = a.data_type.nullable || b.data_type.nullable;
        let data_type = DataType { kind: flott_core::types::TypeKind::Boolean, nullable };
        Expr::call("AND", vec![a, b], data_type)
    })
}

/// Columns of the plan from columns of a relation.
pub(crate) fn plan_columns(columns: &[RelColumn]) -> Vec<Column> {
    columns.iter().map(|c| Column::new(&c.name, c.data_type.clone())).collect()
}

/// Columns an expression reads, each once, ascending.
pub(crate) fn used_columns<'a>(exprs: impl IntoIterator<Item = &'a Expr>) -> Vec<usize> {
    let mut used = std::collections::BTreeSet::new();
    for e in exprs {
        e.visit_columns(&mut |i| {
            used.insert(i);
        });
    }
    used.into_iter().collect()
}
