//! Column pruning: each operator passes on only what is read above it. Changes no result.

use std::collections::BTreeSet;
use std::sync::Arc;

use flott_core::sink::ChangelogMode;
use flott_plan::{Expr, OverFunction, SortKey};

use super::rel::{AsOf, Rel, RelAggregate, RelColumn, RelNode, RelOver, TimeAttribute, Window, calc};
use super::{lookup, pattern};
use crate::catalog::Table;

/// A pruned relation, and where each old column is now.
struct Pruned {
    rel: Rel,
    map: Vec<Option<usize>>,
}

type Needed = BTreeSet<usize>;

impl Pruned {
    fn at(&self, old: usize) -> usize {
        self.map.get(old).copied().flatten().expect("a needed column was kept")
    }
    fn expr(&self, e: &Expr) -> Expr {
        e.renumber(&|i| self.at(i))
    }
}

/// The relation with the same columns, and nothing below that nobody reads.
pub(crate) fn prune(rel: Rel) -> Rel {
    let columns = rel.columns.clone();
    let all: Needed = (0..columns.len()).collect();
    let pruned = prune_to(rel, &all);
    let order: Vec<usize> = (0..columns.len()).map(|i| pruned.at(i)).collect();
    if order.len() == pruned.rel.columns.len() && order.iter().enumerate().all(|(i, o)| i == *o) {
        return pruned.rel;
    }
    pruned.rel.select(&order)
}

fn kept(width: usize, keep: &Needed) -> Vec<Option<usize>> {
    let mut next = 0;
    (0..width)
        .map(|i| {
            keep.contains(&i).then(|| {
                next += 1;
                next - 1
            })
        })
        .collect()
}

/// The columns needed; this one when there are none, because rows are counted.
fn or_one(needed: &Needed, column: usize) -> Needed {
    if needed.is_empty() { Needed::from([column]) } else { needed.clone() }
}

fn add_columns(needed: &mut Needed, e: &Expr) {
    e.visit_columns(&mut |i| {
        needed.insert(i);
    });
}

fn prune_to(rel: Rel, needed: &Needed) -> Pruned {
    let columns = rel.columns;
    match rel.node {
        RelNode::Scan { table, fields } => prune_scan(&table, &fields, &columns, needed),
        RelNode::Values { rows } => {
            let keep = or_one(needed, 0);
            let map = kept(columns.len(), &keep);
            let rows = rows.into_iter().map(|r| keep.iter().map(|&i| r[i].clone()).collect()).collect();
            let columns = keep.iter().map(|&i| columns[i].clone()).collect();
            Pruned { rel: Rel { node: RelNode::Values { rows }, columns }, map }
        }
        RelNode::Calc { input, filter, projection } => {
            let map = kept(columns.len(), needed);
            let mut below = Needed::new();
            needed.iter().for_each(|&i| add_columns(&mut below, &projection[i]));
            filter.iter().for_each(|f| add_columns(&mut below, f));
            let input = prune_to(*input, &below);
            let mut exprs: Vec<Expr> = needed.iter().map(|&i| input.expr(&projection[i])).collect();
            let mut out: Vec<_> = needed.iter().map(|&i| columns[i].clone()).collect();
            if exprs.is_empty() {
                // Rows are counted, nothing is read: a constant carries them.
                exprs.push(Expr::boolean(true));
                out.push(super::rel::RelColumn::new("$one", exprs[0].data_type.clone()));
            }
            let filter = filter.as_ref().map(|f| input.expr(f));
            Pruned { rel: calc(input.rel, filter, exprs, out), map }
        }
        RelNode::Expand { input, projections } => prune_expand(*input, &projections, &columns, needed),
        RelNode::Union { inputs } => {
            let keep = or_one(needed, 0);
            let map = kept(columns.len(), &keep);
            let inputs = inputs.into_iter().map(|r| {
                let p = prune_to(r, &keep);
                let order: Vec<usize> = keep.iter().map(|&i| p.at(i)).collect();
                p.rel.select(&order)
            });
            let inputs = inputs.collect();
            let columns = keep.iter().map(|&i| columns[i].clone()).collect();
            Pruned { rel: Rel { node: RelNode::Union { inputs }, columns }, map }
        }
        RelNode::Repeat { input, count } => {
            let all: Needed = (0..=count).collect();
            let input = prune_to(*input, &all);
            let order: Vec<usize> = (0..=count).map(|i| input.at(i)).collect();
            let node = RelNode::Repeat { input: Box::new(input.rel.select(&order)), count };
            Pruned { map: (0..columns.len()).map(Some).collect(), rel: Rel { node, columns } }
        }
        RelNode::Sort { input, keys, offset, limit, position } => {
            let mut below = needed.clone();
            below.extend(keys.iter().map(|k| k.column));
            let input = prune_to(*input, &below);
            let keys = keys.into_iter().map(|k| SortKey { column: input.at(k.column), ..k }).collect();
            let map = input.map.clone();
            let columns = input.rel.columns.clone();
            let node = RelNode::Sort { input: Box::new(input.rel), keys, offset, limit, position };
            Pruned { rel: Rel { node, columns }, map }
        }
        node @ RelNode::Join { .. } => prune_join(Rel { node, columns }, needed),
        node @ RelNode::LookupJoin { .. } => prune_lookup(Rel { node, columns }, needed),
        node @ RelNode::Correlate { .. } => prune_correlate(Rel { node, columns }, needed),
        node @ RelNode::Rank { .. } => prune_rank(Rel { node, columns }, needed),
        node @ RelNode::Over { .. } => prune_over(Rel { node, columns }, needed),
        node @ RelNode::Match { .. } => prune_match(Rel { node, columns }, needed),
        node => prune_grouping(Rel { node, columns }, needed),
    }
}

fn prune_expand(input: Rel, projections: &[Vec<Expr>], columns: &[RelColumn], needed: &Needed) -> Pruned {
    let keep = or_one(needed, columns.len() - 1);
    let mut below = Needed::new();
    projections.iter().for_each(|p| keep.iter().for_each(|&i| add_columns(&mut below, &p[i])));
    let input = prune_to(input, &below);
    let projections = projections.iter().map(|p| keep.iter().map(|&i| input.expr(&p[i])).collect()).collect();
    let map = kept(columns.len(), &keep);
    let columns = keep.iter().map(|&i| columns[i].clone()).collect();
    Pruned { rel: Rel { node: RelNode::Expand { input: Box::new(input.rel), projections }, columns }, map }
}

fn prune_scan(table: &Arc<Table>, fields: &[usize], columns: &[RelColumn], needed: &Needed) -> Pruned {
    let mut keep = needed.clone();
    // The last row of a key is told by the whole key.
    let key = table.primary_key.iter().filter(|_| table.source_mode == ChangelogMode::Upsert).copied();
    for f in watermark_columns(table).into_iter().chain(key) {
        keep.extend(fields.iter().position(|x| *x == f));
    }
    if keep.is_empty() {
        keep.extend(fields.iter().position(|&f| narrow(table, f)).or((!fields.is_empty()).then_some(0)));
    }
    let map = kept(columns.len(), &keep);
    let node = RelNode::Scan { table: table.clone(), fields: keep.iter().map(|&i| fields[i]).collect() };
    Pruned { rel: Rel { node, columns: keep.iter().map(|&i| columns[i].clone()).collect() }, map }
}

fn watermark_columns(table: &Table) -> Vec<usize> {
    let Some((rowtime, expr)) = &table.watermark else { return Vec::new() };
    let mut columns = super::rel::used_columns([expr]);
    columns.push(*rowtime);
    columns
}

/// Whether a column is cheap to carry.
fn narrow(table: &Table, column: usize) -> bool {
    let kind = &table.columns[column].data_type.kind;
    kind.is_numeric() || kind.is_timestamp()
}

fn prune_join(rel: Rel, needed: &Needed) -> Pruned {
    let RelNode::Join { left, right, kind, keys, condition, as_of, ttl } = rel.node else {
        unreachable!("called for joins")
    };
    let columns = rel.columns;
    let left_width = left.columns.len();
    let mut all = needed.clone();
    condition.iter().for_each(|c| add_columns(&mut all, c));
    let mut left_needed: Needed = all.iter().copied().filter(|&i| i < left_width).collect();
    let mut right_needed: Needed = all.iter().filter(|&&i| i >= left_width).map(|i| i - left_width).collect();
    left_needed.extend(keys.iter().map(|k| k.0));
    right_needed.extend(keys.iter().map(|k| k.1));
    left_needed.extend(as_of.map(|a| a.left_time));
    right_needed.extend(as_of.map(|a| a.right_time));
    // Rows lie in state: what the inputs keep of their own accord stays out of them.
    let own = |rel: Rel, needed: &Needed| {
        let pruned = prune_to(rel, needed);
        if needed.is_empty() { pruned } else { narrowed(pruned, needed) }
    };
    let (left, right) = (own(*left, &left_needed), own(*right, &right_needed));
    let new_left = left.rel.columns.len();
    let to = |i: usize| if i < left_width { left.at(i) } else { new_left + right.at(i - left_width) };
    let keys = keys.iter().map(|(l, r)| (left.at(*l), right.at(*r))).collect();
    let condition = condition.as_ref().map(|c| c.renumber(&to));
    let map: Vec<Option<usize>> = (0..columns.len())
        .map(|i| if i < left_width { left.map[i] } else { right.map[i - left_width].map(|r| new_left + r) })
        .collect();
    // What the inputs kept of their own accord has no column in the old relation.
    let padded = |c: &RelColumn, padded: bool| {
        let mut c = c.clone();
        c.data_type.nullable |= padded;
        c
    };
    let mut out: Vec<RelColumn> = left.rel.columns.iter().map(|c| padded(c, kind.right_outer())).collect();
    if kind.projects_right() {
        out.extend(right.rel.columns.iter().map(|c| padded(c, kind.pads_right())));
    }
    for c in &mut out {
        (c.time, c.window, c.attached) = (None, None, None);
    }
    for (old, new) in map.iter().enumerate() {
        if let Some(n) = new {
            out[*n] = columns[old].clone();
        }
    }
    let times = |a: AsOf| AsOf { left_time: left.at(a.left_time), right_time: right.at(a.right_time), ..a };
    let as_of = as_of.map(times);
    let node =
        RelNode::Join { left: Box::new(left.rel), right: Box::new(right.rel), kind, keys, condition, as_of, ttl };
    Pruned { rel: Rel { node, columns: out }, map }
}

fn prune_lookup(rel: Rel, needed: &Needed) -> Pruned {
    let RelNode::LookupJoin { input, table, fields, kind, keys, condition, options, position } = rel.node else {
        unreachable!("called for lookup joins")
    };
    let (columns, width) = (rel.columns, input.columns.len());
    let (below, right) = lookup::needed(needed, width, &keys, condition.as_ref());
    let input = prune_to(*input, &below);
    let new_width = input.rel.columns.len();
    let place = |i: usize| right.iter().position(|r| *r == i).map(|at| new_width + at);
    let map: Vec<Option<usize>> =
        (0..columns.len()).map(|i| if i < width { input.map[i] } else { place(i - width) }).collect();
    let keys = keys.iter().map(|(i, field)| (input.at(*i), *field)).collect();
    let condition = condition.as_ref().map(|c| c.renumber(&|i| map[i].expect("a needed column was kept")));
    let mut out = input.rel.columns.clone();
    out.extend(right.iter().map(|&i| columns[width + i].clone()));
    for (old, new) in input.map.iter().enumerate() {
        if let Some(n) = new {
            out[*n] = columns[old].clone();
        }
    }
    let fields = right.iter().map(|&i| fields[i]).collect();
    let input = Box::new(input.rel);
    let node = RelNode::LookupJoin { input, table, fields, kind, keys, condition, options, position };
    Pruned { rel: Rel { node, columns: out }, map }
}

/// Without the columns that nobody asked for.
fn narrowed(pruned: Pruned, wanted: &Needed) -> Pruned {
    if pruned.rel.columns.len() == wanted.len() {
        return pruned;
    }
    let places: Vec<usize> = wanted.iter().map(|&i| pruned.at(i)).collect();
    Pruned { map: kept(pruned.map.len(), wanted), rel: pruned.rel.select(&places) }
}

/// Only what is read above is copied for each row the function makes.
fn prune_correlate(rel: Rel, needed: &Needed) -> Pruned {
    let RelNode::Correlate { input, mut call, left, right, kind } = rel.node else {
        unreachable!("called for table functions")
    };
    let width = left.len();
    let mut needed = needed.clone();
    if needed.is_empty() {
        needed.insert(width);
    }
    let mut below: Needed = needed.iter().filter(|&&i| i < width).map(|&i| left[i]).collect();
    call.args.iter().for_each(|a| add_columns(&mut below, a));
    let input = prune_to(*input, &below);
    call.args = call.args.iter().map(|a| input.expr(a)).collect();
    let map = kept(rel.columns.len(), &needed);
    let columns = needed.iter().map(|&i| rel.columns[i].clone()).collect();
    let right = needed.iter().filter(|&&i| i >= width).map(|&i| right[i - width]).collect();
    let left = needed.iter().filter(|&&i| i < width).map(|&i| input.at(left[i])).collect();
    let node = RelNode::Correlate { input: Box::new(input.rel), call, left, right, kind };
    Pruned { rel: Rel { node, columns }, map }
}

fn prune_rank(rel: Rel, needed: &Needed) -> Pruned {
    let RelNode::Rank { input, partition, order, limit, with_rank, position } = rel.node else {
        unreachable!("called for numbered rows")
    };
    let (columns, width) = (rel.columns, input.columns.len());
    let mut below: Needed = needed.iter().copied().filter(|&i| i < width).collect();
    below.extend(partition.iter().copied());
    below.extend(order.iter().map(|k| k.column));
    // Rows lie in state: what the input keeps of its own accord stays out of them.
    let input = narrowed(prune_to(*input, &below), &below);
    let with_rank = with_rank && needed.contains(&width);
    let partition = partition.iter().map(|&c| input.at(c)).collect();
    let order = order.iter().map(|k| SortKey { column: input.at(k.column), ..*k }).collect();
    let new_width = input.rel.columns.len();
    let mut map = input.map.clone();
    map.resize(columns.len(), with_rank.then_some(new_width));
    let mut out = input.rel.columns.clone();
    for (old, new) in input.map.iter().enumerate() {
        if let Some(n) = new {
            out[*n] = columns[old].clone();
        }
    }
    out.extend(columns.get(width).filter(|_| with_rank).cloned());
    let input = Box::new(input.rel);
    Pruned {
        rel: Rel { node: RelNode::Rank { input, partition, order, limit, with_rank, position }, columns: out },
        map,
    }
}

fn prune_over(rel: Rel, needed: &Needed) -> Pruned {
    let RelNode::Over { input, partition, order, frame, calls, position } = rel.node else {
        unreachable!("called for functions with OVER")
    };
    let (columns, width) = (rel.columns, input.columns.len());
    let mut below: Needed = needed.iter().copied().filter(|&i| i < width).collect();
    let kept_calls: Vec<usize> = (0..calls.len()).filter(|i| needed.contains(&(width + i))).collect();
    if kept_calls.is_empty() {
        let mut input = prune_to(*input, &below);
        input.map.resize(columns.len(), None);
        return input;
    }
    below.extend(partition.iter().copied());
    below.extend(order.iter().map(|k| k.column));
    for call in kept_calls.iter().map(|&i| &calls[i]) {
        below.extend(call.arg);
        below.extend(call.more.iter().copied());
        if let OverFunction::Lag { default, .. } = call.function {
            below.extend(default);
        }
    }
    // Rows lie in state: what the input keeps of its own accord stays out of them.
    let input = narrowed(prune_to(*input, &below), &below);
    let new_width = input.rel.columns.len();
    let moved = |c: &RelOver| RelOver {
        arg: c.arg.map(|a| input.at(a)),
        more: c.more.iter().map(|&a| input.at(a)).collect(),
        function: match c.function {
            OverFunction::Lag { offset, default } => {
                OverFunction::Lag { offset, default: default.map(|d| input.at(d)) }
            }
            other => other,
        },
        ..c.clone()
    };
    let calls: Vec<RelOver> = kept_calls.iter().map(|&i| moved(&calls[i])).collect();
    let mut map = input.map.clone();
    let place = |i: usize| kept_calls.iter().position(|k| *k == i).map(|at| new_width + at);
    map.extend((0..columns.len() - width).map(place));
    let mut out = input.rel.columns.clone();
    for (old, new) in input.map.iter().enumerate() {
        if let Some(n) = new {
            out[*n] = columns[old].clone();
        }
    }
    out.extend(kept_calls.iter().map(|&i| columns[width + i].clone()));
    let partition = partition.iter().map(|&c| input.at(c)).collect();
    let order = order.iter().map(|k| SortKey { column: input.at(k.column), ..*k }).collect();
    let node = RelNode::Over { input: Box::new(input.rel), partition, order, frame, calls, position };
    Pruned { rel: Rel { node, columns: out }, map }
}

/// Measures that nobody asked for go; the partition stays.
fn prune_match(rel: Rel, needed: &Needed) -> Pruned {
    let RelNode::Match { input, mut spec, position } = rel.node else { unreachable!("called for patterns") };
    let keys = spec.partition.len();
    let keep = with_keys(keys, needed);
    let mut at = keys;
    spec.measures.retain(|_| {
        at += 1;
        keep.contains(&(at - 1))
    });
    let below = pattern::needed(&spec);
    // Rows lie in state: what the input keeps of its own accord stays out of them.
    let input = narrowed(prune_to(*input, &below), &below);
    let spec = Box::new(pattern::moved(*spec, &|i| input.at(i)));
    let map = kept(rel.columns.len(), &keep);
    let columns = keep.iter().map(|&i| rel.columns[i].clone()).collect();
    Pruned { rel: Rel { node: RelNode::Match { input: Box::new(input.rel), spec, position }, columns }, map }
}

fn aggregate_inputs(needed: &mut Needed, aggregates: &[RelAggregate]) {
    for a in aggregates {
        needed.extend(a.arg);
        needed.extend(a.more.iter().copied());
        needed.extend(a.filter);
    }
}

fn moved(aggregates: Vec<RelAggregate>, input: &Pruned) -> Vec<RelAggregate> {
    aggregates
        .into_iter()
        .map(|a| RelAggregate {
            arg: a.arg.map(|i| input.at(i)),
            more: a.more.iter().map(|&i| input.at(i)).collect(),
            filter: a.filter.map(|i| input.at(i)),
            ..a
        })
        .collect()
}

fn window_inputs(needed: &mut Needed, window: &Window) {
    if window.time_attribute == TimeAttribute::Rowtime {
        needed.insert(window.time);
    }
    needed.extend(window.partition.iter().copied());
}

fn moved_window(window: Window, input: &Pruned) -> Window {
    let time = match window.time_attribute {
        TimeAttribute::Rowtime => input.at(window.time),
        TimeAttribute::Proctime => 0,
    };
    let partition = window.partition.iter().map(|&i| input.at(i)).collect();
    Window { time, partition, ..window }
}

/// The columns an aggregation keeps: its keys always, and one column at least.
fn with_keys(keys: usize, needed: &Needed) -> Needed {
    let mut keep: Needed = (0..keys).chain(needed.iter().copied()).collect();
    if keep.is_empty() {
        keep.insert(0);
    }
    keep
}

/// Windows and aggregations.
fn prune_grouping(rel: Rel, needed: &Needed) -> Pruned {
    let columns = rel.columns;
    match rel.node {
        RelNode::Window { input, window } => {
            let width = input.columns.len();
            let mut below: Needed = needed.iter().copied().filter(|&i| i < width).collect();
            window_inputs(&mut below, &window);
            let input = prune_to(*input, &below);
            let new_width = input.rel.columns.len();
            let mut map = input.map.clone();
            map.extend((0..3).map(|i| Some(new_width + i)));
            let mut out = input.rel.columns.clone();
            for (old, new) in input.map.iter().enumerate() {
                if let Some(n) = new {
                    out[*n] = columns[old].clone();
                }
            }
            out.extend(columns[width..].iter().cloned());
            let window = moved_window(window, &input);
            let node = RelNode::Window { input: Box::new(input.rel), window };
            Pruned { rel: Rel { node, columns: out }, map }
        }
        RelNode::Aggregate { input, group, aggregates, ttl } => {
            let keys = group.len();
            let keep = with_keys(keys, needed);
            let aggregates: Vec<RelAggregate> =
                keep.iter().filter(|&&i| i >= keys).map(|&i| aggregates[i - keys].clone()).collect();
            let mut below: Needed = group.iter().copied().collect();
            aggregate_inputs(&mut below, &aggregates);
            let input = prune_to(*input, &below);
            let group = group.iter().map(|&g| input.at(g)).collect();
            let aggregates = moved(aggregates, &input);
            let map = kept(columns.len(), &keep);
            let out = keep.iter().map(|&i| columns[i].clone()).collect();
            let node = RelNode::Aggregate { input: Box::new(input.rel), group, aggregates, ttl };
            Pruned { rel: Rel { node, columns: out }, map }
        }
        RelNode::WindowAggregate { input, window, group, aggregates, properties } => {
            let (keys, first_property) = (group.len(), group.len() + aggregates.len());
            let keep = with_keys(keys, needed);
            let properties =
                keep.iter().filter(|&&i| i >= first_property).map(|&i| properties[i - first_property]).collect();
            let aggregates: Vec<RelAggregate> = keep
                .iter()
                .filter(|&&i| i >= keys && i < first_property)
                .map(|&i| aggregates[i - keys].clone())
                .collect();
            let mut below: Needed = group.iter().copied().collect();
            aggregate_inputs(&mut below, &aggregates);
            window_inputs(&mut below, &window);
            let input = prune_to(*input, &below);
            let group = group.iter().map(|&g| input.at(g)).collect();
            let aggregates = moved(aggregates, &input);
            let window = moved_window(window, &input);
            let map = kept(columns.len(), &keep);
            let out = keep.iter().map(|&i| columns[i].clone()).collect();
            let input = Box::new(input.rel);
            let node = RelNode::WindowAggregate { input, window, group, aggregates, properties };
            Pruned { rel: Rel { node, columns: out }, map }
        }
        node => {
            let map = (0..columns.len()).map(Some).collect();
            Pruned { rel: Rel { node, columns }, map }
        }
    }
}
