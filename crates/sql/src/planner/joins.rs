//! What kind of join a join is: regular, of an interval, of windows; and the operator for it. Decides by time attributes and
//! conditions alone; creates no connector.

use flott_core::{Error, Result};
use flott_plan::spec::{OperatorSpec, WindowProperty};
use flott_plan::{
    Expr, ExprKind, IntervalJoinSpec, JoinKind, JoinSpec, Literal, RegularJoinSpec, TemporalJoinSpec, WindowJoinSpec,
};

use super::explain;
use super::keys::upsert_keys;
use super::physical::{Changes, Phys, PhysKind, PhysicalPlanner, keyed, updating_node};
use super::rel::{AsOf, Rel, RelColumn, RelNode, TimeAttribute, and_all, conjuncts, plan_columns, used_columns};
use crate::diag::{place, unsupported};

/// Two time columns that are never far apart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Interval {
    pub(crate) left_time: usize,
    pub(crate) right_time: usize,
    pub(crate) lower_ms: i64,
    pub(crate) upper_ms: i64,
    /// What else the condition says.
    pub(crate) rest: Vec<Expr>,
}

/// The window columns of both sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Windows {
    left_end: usize,
    right_end: usize,
    proctime: bool,
    zoned: bool,
}

/// Which column of which side a term of a comparison is, and what is added to it.
type Term = (usize, i64);

/// `left − right` of two columns, by (left column, right column): at least and at most.
type Bound = ((usize, usize), Option<i64>, Option<i64>);

/// A time column, with an interval added to it or taken off.
fn term(e: &Expr) -> Option<Term> {
    let milliseconds = |e: &Expr| match (&e.kind, &e.data_type.kind) {
        (ExprKind::Literal(Literal::Int(ms)), flott_core::types::TypeKind::IntervalDayTime) => Some(*ms),
        _ => None,
    };
    match &e.kind {
        ExprKind::Column(i) => Some((*i, 0)),
        ExprKind::Cast { input, .. } if input.data_type.kind == e.data_type.kind => term(input),
        ExprKind::Call { function, args } => match (function.as_str(), args.as_slice()) {
            ("+", [a, b]) => match (milliseconds(a), milliseconds(b)) {
                (None, Some(ms)) => term(a).and_then(|(i, o)| Some((i, o.checked_add(ms)?))),
                (Some(ms), None) => term(b).and_then(|(i, o)| Some((i, o.checked_add(ms)?))),
                _ => None,
            },
            ("-", [a, b]) => {
                let ms = milliseconds(b)?;
                term(a).and_then(|(i, o)| Some((i, o.checked_sub(ms)?)))
            }
            _ => None,
        },
        _ => None,
    }
}

/// What a comparison says about the distance of two columns.
fn bound(e: &Expr, width: usize) -> Option<Bound> {
    let ExprKind::Call { function, args } = &e.kind else { return None };
    let [a, b] = args.as_slice() else { return None };
    let (a, b) = (term(a)?, term(b)?);
    let (function, l, r) = match (a.0 < width, b.0 < width) {
        (true, false) => (function.as_str(), a, b),
        (false, true) => {
            let turned = match function.as_str() {
                "<" => ">",
                "<=" => ">=",
                ">" => "<",
                ">=" => "<=",
                other => other,
            };
            (turned, b, a)
        }
        _ => return None,
    };
    let (pair, d) = ((l.0, r.0 - width), r.1.checked_sub(l.1)?);
    Some(match function {
        "<" => (pair, None, Some(d.checked_sub(1)?)),
        "<=" => (pair, None, Some(d)),
        ">" => (pair, Some(d.checked_add(1)?), None),
        ">=" => (pair, Some(d), None),
        "=" => (pair, Some(d), Some(d)),
        _ => return None,
    })
}

/// The first pair of time columns whose distance the condition bounds on both ends. `is_time`: which pairs of columns are times.
fn interval(
    width: usize,
    keys: &[(usize, usize)],
    condition: &[Expr],
    is_time: impl Fn(usize, usize) -> bool,
) -> Option<Interval> {
    let bounds: Vec<_> = condition.iter().map(|c| bound(c, width).filter(|b| is_time(b.0.0, b.0.1))).collect();
    let equal = keys.iter().copied().filter(|k| is_time(k.0, k.1));
    for pair in equal.chain(bounds.iter().flatten().map(|b| b.0)) {
        let key = keys.contains(&pair).then_some(0);
        let own = || bounds.iter().flatten().filter(|b| b.0 == pair);
        let lower = own().filter_map(|b| b.1).chain(key).max();
        let upper = own().filter_map(|b| b.2).chain(key).min();
        if let (Some(lower_ms), Some(upper_ms)) = (lower, upper) {
            let other = |(c, b): (&Expr, &Option<Bound>)| match b {
                Some((p, ..)) if *p == pair => None,
                _ => Some(c.clone()),
            };
            let rest = condition.iter().zip(&bounds).filter_map(other).collect();
            return Some(Interval { left_time: pair.0, right_time: pair.1, lower_ms, upper_ms, rest });
        }
    }
    None
}

/// The interval of an interval join: between time attributes of the same kind.
pub(crate) fn time_interval(
    (left, right): (&[RelColumn], &[RelColumn]),
    kind: JoinKind,
    keys: &[(usize, usize)],
    condition: &[Expr],
) -> Option<Interval> {
    if !kind.projects_right() {
        return None;
    }
    interval(left.len(), keys, condition, |l, r| left[l].time.is_some() && left[l].time == right[r].time)
}

/// The windows of a window join: starts and ends are equal.
pub(crate) fn windows((left, right): (&[RelColumn], &[RelColumn]), keys: &[(usize, usize)]) -> Option<Windows> {
    let of = |property| {
        keys.iter().copied().find(|&(l, r)| match (left[l].attached, right[r].attached) {
            (Some(a), Some(b)) => a.property == property && a == b,
            _ => false,
        })
    };
    of(WindowProperty::Start)?;
    let (left_end, right_end) = of(WindowProperty::End)?;
    let attached = left[left_end].attached?;
    Some(Windows { left_end, right_end, proctime: attached.proctime, zoned: attached.zoned })
}

/// Equalities of plain columns, as keys, and the other conjuncts.
fn plain_keys(condition: &[Expr], width: usize) -> Vec<(usize, usize)> {
    let key = |c: &Expr| match bound(c, width) {
        Some((pair, Some(0), Some(0))) => Some(pair),
        _ => None,
    };
    condition.iter().filter_map(key).collect()
}

/// The relation of a FROM clause with the attributes that its joins keep: all in joins of windows, times in joins of intervals,
/// none in regular joins. `filters` is what WHERE says.
pub(crate) fn settle(rel: Rel, filters: Vec<Expr>) -> Rel {
    let mut columns = rel.columns;
    match rel.node {
        RelNode::Calc { input, filter, projection } => {
            let down = filters.iter().map(|f| f.replace_columns(&|i| projection[i].clone()));
            let input = settle(*input, down.chain(filter.clone().into_iter().flat_map(conjuncts)).collect());
            for (c, e) in columns.iter_mut().zip(&projection) {
                if let ExprKind::Column(i) = e.kind {
                    let from = &input.columns[i];
                    (c.time, c.window, c.attached) = (from.time, from.window, from.attached);
                }
            }
            Rel { node: RelNode::Calc { input: Box::new(input), filter, projection }, columns }
        }
        RelNode::Join { left, right, kind, keys, condition, as_of, ttl } => {
            let width = left.columns.len();
            let used = |f: &Expr| used_columns([f]);
            let of_left = |f: &&Expr| used(f).iter().all(|&i| i < width);
            let of_right = |f: &&Expr| used(f).iter().all(|&i| i >= width);
            let shift = |f: &Expr| f.renumber(&|i| i - width);
            let mut on: Vec<Expr> = condition.iter().cloned().flat_map(conjuncts).collect();
            if kind == JoinKind::Inner {
                on.extend(filters.iter().cloned());
            }
            let above = if kind == JoinKind::Inner { &on } else { &filters };
            let below: Vec<Expr> = above.iter().filter(of_left).cloned().collect();
            let left = settle(*left, if kind == JoinKind::Full { Vec::new() } else { below });
            let below: Vec<Expr> = on.iter().filter(of_right).map(shift).collect();
            let right = settle(*right, if kind == JoinKind::Full { Vec::new() } else { below });
            let (left, right) = (Box::new(left), Box::new(right));
            let node = RelNode::Join { left, right, kind, keys, condition, as_of, ttl };
            attributes(Rel { node, columns }, &on)
        }
        RelNode::LookupJoin { input, table, fields, kind, keys, condition, options, position } => {
            let width = input.columns.len();
            let below = filters.into_iter().filter(|f| used_columns([f]).iter().all(|&i| i < width)).collect();
            let input = Box::new(settle(*input, below));
            for (c, from) in columns.iter_mut().zip(&input.columns) {
                (c.time, c.window, c.attached) = (from.time, from.window, from.attached);
            }
            let node = RelNode::LookupJoin { input, table, fields, kind, keys, condition, options, position };
            Rel { node, columns }
        }
        node => Rel { node, columns },
    }
}

/// The join with the attributes that its columns keep; `on` is all that is known to hold, or its own condition alone.
pub(crate) fn attributes(rel: Rel, on: &[Expr]) -> Rel {
    let mut columns = rel.columns;
    if let RelNode::Join { left, right, kind, condition, as_of, .. } = &rel.node {
        let own: Vec<Expr> = condition.iter().cloned().flat_map(conjuncts).collect();
        let on = if on.is_empty() { own.as_slice() } else { on };
        let sides = (left.columns.as_slice(), right.columns.as_slice());
        let windowed = as_of.is_none() && windows(sides, &plain_keys(on, left.columns.len())).is_some();
        let timed = as_of.is_none() && (windowed || time_interval(sides, *kind, &[], on).is_some());
        for (c, from) in columns.iter_mut().zip(left.columns.iter().chain(&right.columns)) {
            c.time = from.time.filter(|_| timed);
            c.attached = from.attached.filter(|_| windowed);
            c.window = None;
        }
        for (c, from) in columns.iter_mut().zip(&left.columns).filter(|_| as_of.is_some()) {
            (c.time, c.attached) = (from.time, from.attached);
        }
    }
    Rel { node: rel.node, columns }
}

/// Whether the column is the end of windows whose results the relation holds: such rows are never late.
fn is_window_result(rel: &Rel, column: usize) -> bool {
    match &rel.node {
        RelNode::Calc { input, projection, .. } => match projection[column].kind {
            ExprKind::Column(i) => is_window_result(input, i),
            _ => false,
        },
        RelNode::WindowAggregate { window, group, aggregates, properties, .. } => {
            let end = column.checked_sub(group.len() + aggregates.len()).and_then(|p| properties.get(p));
            let local = matches!(window.time_type.kind, flott_core::types::TypeKind::Timestamp(_));
            end == Some(&WindowProperty::End) && local && window.time_attribute == TimeAttribute::Rowtime
        }
        _ => false,
    }
}

/// The inputs of a join that was built.
struct Sides<'a> {
    rel: &'a Rel,
    left: Phys,
    right: Phys,
    join: JoinSpec,
}

impl PhysicalPlanner<'_> {
    /// A join by its kind.
    pub(super) fn join(&self, rel: &Rel) -> Result<Phys> {
        let RelNode::Join { left: left_rel, right: right_rel, kind, keys, condition, as_of, ttl } = &rel.node else {
            return Err(Error::bug("not a join"));
        };
        // Of versions only the new half of an update counts.
        let (left, right) = (self.build(left_rel, true)?, self.build(right_rel, as_of.is_none())?);
        let join = JoinSpec {
            kind: *kind,
            left_keys: keys.iter().map(|k| k.0).collect(),
            right_keys: keys.iter().map(|k| k.1).collect(),
            condition: condition.clone(),
            left: plan_columns(&left.columns),
            right: plan_columns(&right.columns),
        };
        let append = left.changes.is_append() && right.changes.is_append();
        let columns = (left_rel.columns.as_slice(), right_rel.columns.as_slice());
        let on: Vec<Expr> = condition.clone().into_iter().flat_map(conjuncts).collect();
        let windowed = windows(columns, keys).filter(|_| append);
        let timed = time_interval(columns, *kind, keys, &on);
        let sides = Sides { rel, left, right, join };
        if let Some(as_of) = as_of {
            return temporal_join(sides, right_rel, *as_of);
        }
        if let Some(windows) = windowed {
            return Ok(self.window_join(sides, windows));
        }
        if let Some(interval) = timed {
            let updating = [&sides.left, &sides.right].into_iter().find(|p| !p.changes.is_append());
            if let Some(input) = updating {
                let error = unsupported("an interval join of an updating input", None);
                let hint = "join on columns that are no time attributes: CAST them to a plain TIMESTAMP";
                return Err(error.detail(format!("its input is produced by {}", updating_node(input))).hint(hint));
            }
            return Ok(interval_join(sides, interval, (false, false)));
        }
        // Results of windows are never late: rows that they are joined with need not stay.
        let never_late = |l: usize, r: usize| (is_window_result(left_rel, l), is_window_result(right_rel, r));
        let bounded = interval(left_rel.columns.len(), keys, &on, |l, r| {
            let (left_result, right_result) = never_late(l, r);
            let rowtime = |c: &RelColumn| c.time == Some(TimeAttribute::Rowtime);
            (left_result && (right_result || rowtime(&right_rel.columns[r])))
                || (right_result && rowtime(&left_rel.columns[l]))
        });
        let ttl = (self.hinted_ttl_ms(ttl.left), self.hinted_ttl_ms(ttl.right));
        if let Some(bounded) = bounded.filter(|_| append && *kind == JoinKind::Inner && ttl == (None, None)) {
            let (left_result, right_result) = never_late(bounded.left_time, bounded.right_time);
            return Ok(interval_join(sides, bounded, (!right_result, !left_result)));
        }
        Ok(self.regular_join(sides, ttl))
    }

    fn regular_join(&self, sides: Sides<'_>, ttl: (Option<i64>, Option<i64>)) -> Phys {
        let (l, r) = (sides.left.changes, sides.right.changes);
        let changes = match sides.join.kind {
            JoinKind::Inner => l.union(r),
            JoinKind::Semi if r.is_append() => l,
            _ => Changes::ALL,
        };
        let spec = RegularJoinSpec {
            left_mode: l.mode(),
            right_mode: r.mode(),
            left_ttl_ms: ttl.0,
            right_ttl_ms: ttl.1,
            join: sides.join.clone(),
        };
        let text = explain::describe(sides.rel);
        built(sides, OperatorSpec::Join(spec), changes, text)
    }

    fn window_join(&self, sides: Sides<'_>, windows: Windows) -> Phys {
        let spec = WindowJoinSpec {
            join: sides.join.clone(),
            left_window_end: windows.left_end,
            right_window_end: windows.right_end,
            processing_time: windows.proctime,
            zone: windows.zoned.then(|| self.zone()),
        };
        let text = explain::describe(sides.rel).replacen("Join(", "WindowJoin(", 1);
        built(sides, OperatorSpec::WindowJoin(spec), Changes::default(), text)
    }
}

fn temporal_join(sides: Sides<'_>, right: &Rel, as_of: AsOf) -> Result<Phys> {
    let known = upsert_keys(right);
    let on = &sides.join.right_keys;
    if !known.iter().any(|k| k.iter().all(|c| on.contains(c))) {
        let keys: Vec<String> =
            known.iter().map(|k| explain::names(&k.iter().copied().collect::<Vec<_>>(), &right.columns)).collect();
        let found =
            if keys.is_empty() { "it has none".to_owned() } else { format!("it is ({})", keys.join("), or (")) };
        let message =
            "a temporal join needs the primary key of the versioned table in its ON, each column compared with =";
        let error = Error::user("sql.temporal-join", message).detail(found).hint(
            "declare PRIMARY KEY (…) NOT ENFORCED, or keep the last row of each key: ROW_NUMBER() OVER (PARTITION BY key ORDER BY \
             time DESC) … WHERE rn = 1",
        );
        return Err(place(error, as_of.position));
    }
    let append = sides.left.changes.is_append();
    let spec = TemporalJoinSpec {
        join: sides.join.clone(),
        left_time: as_of.left_time,
        right_time: as_of.right_time,
        left_mode: sides.left.changes.mode(),
    };
    let changes = Changes { delete: !append, ..Changes::default() };
    let text = explain::describe(sides.rel);
    Ok(built(sides, OperatorSpec::TemporalJoin(spec), changes, text))
}

fn interval_join(sides: Sides<'_>, interval: Interval, (keep_left, keep_right): (bool, bool)) -> Phys {
    let mut join = sides.join.clone();
    join.condition = and_all(interval.rest);
    let processing_time = sides.left.columns[interval.left_time].time == Some(TimeAttribute::Proctime);
    let bounds = format!(
        "IntervalJoin(windowBounds=[isRowTime={}, leftLowerBound={}, leftUpperBound={}, leftTimeIndex={}, rightTimeIndex={}], ",
        !processing_time, interval.lower_ms, interval.upper_ms, interval.left_time, interval.right_time
    );
    let text = explain::describe(sides.rel).replacen("Join(", &bounds, 1);
    let spec = IntervalJoinSpec {
        join,
        left_time: interval.left_time,
        right_time: interval.right_time,
        processing_time,
        lower_ms: interval.lower_ms,
        upper_ms: interval.upper_ms,
        keep_left,
        keep_right,
    };
    built(sides, OperatorSpec::IntervalJoin(spec), Changes::default(), text)
}

fn built(sides: Sides<'_>, spec: OperatorSpec, changes: Changes, text: String) -> Phys {
    let (left_partitioner, parallelism) = keyed(sides.join.left_keys);
    let (right_partitioner, _) = keyed(sides.join.right_keys);
    let inputs = vec![(sides.left, left_partitioner), (sides.right, right_partitioner)];
    Phys { kind: PhysKind::Spec(spec), inputs, columns: sides.rel.columns.clone(), changes, parallelism, text }
}
