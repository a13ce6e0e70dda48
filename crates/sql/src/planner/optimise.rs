//! Filters to where they cost least, join keys out of conditions, constants folded. Changes no result.

use flott_expr::{constant_fold, is_deterministic};
use flott_plan::{Expr, ExprKind, JoinKind, Literal};

use super::lookup::{self, LookupJoin};
use super::rank;
use super::rel::{AsOf, Rel, RelColumn, RelNode, SideTtl, and_all, calc, conjuncts, used_columns};

/// The same relation, cheaper.
pub(crate) fn optimise(rel: Rel) -> Rel {
    push(rel, Vec::new())
}

/// `rel` with `filters` (over its columns) applied as far down as they go.
pub(super) fn push(rel: Rel, filters: Vec<Expr>) -> Rel {
    let columns = rel.columns.clone();
    match rel.node {
        RelNode::Calc { input, filter, projection } => {
            let projection: Vec<Expr> = projection.iter().map(constant_fold).collect();
            if !projection.iter().all(is_deterministic) {
                let input = push(*input, filter.into_iter().flat_map(conjuncts).collect());
                return above(fold_values(calc(input, None, projection, columns)), filters);
            }
            let down = filters.iter().map(|f| f.replace_columns(&|i| projection[i].clone()));
            let all = filter.into_iter().flat_map(conjuncts).chain(down).collect();
            fold_values(calc(push(*input, folded(all)), None, projection, columns))
        }
        RelNode::Join { left, right, kind, condition, as_of, ttl, .. } => {
            push_join((*left, *right), (kind, as_of, ttl), condition, columns, filters)
        }
        RelNode::Expand { input, projections } => push_expand(*input, projections, columns, filters),
        RelNode::Window { input, window } => {
            let width = input.columns.len();
            let (down, up) = split(filters, |used| used.iter().all(|&i| i < width));
            let node = RelNode::Window { input: Box::new(push(*input, down)), window };
            above(Rel { node, columns }, up)
        }
        RelNode::Aggregate { input, group, aggregates, ttl } => {
            let keys = group.len();
            let (down, up) = split(filters, |used| !used.is_empty() && used.iter().all(|&i| i < keys));
            let down = down.iter().map(|f| over_keys(f, &group)).collect();
            let node = RelNode::Aggregate { input: Box::new(push(*input, down)), group, aggregates, ttl };
            above(Rel { node, columns }, up)
        }
        RelNode::WindowAggregate { input, window, group, aggregates, properties } => {
            let keys = group.len();
            let (down, up) = split(filters, |used| !used.is_empty() && used.iter().all(|&i| i < keys));
            let down = down.iter().map(|f| over_keys(f, &group)).collect();
            let input = Box::new(push(*input, down));
            let node = RelNode::WindowAggregate { input, window, group, aggregates, properties };
            above(Rel { node, columns }, up)
        }
        RelNode::LookupJoin { input, table, fields, kind, keys, condition, options, position } => {
            let input = *input;
            let join = LookupJoin { input, table, fields, kind, keys, condition, options, position };
            lookup::push(join, columns, filters)
        }
        node @ RelNode::Correlate { .. } => super::correlate::push(Rel { node, columns }, filters),
        RelNode::Rank { .. } => push_rank(rel.node, columns, filters),
        RelNode::Over { .. } => push_over(rel.node, columns, filters),
        RelNode::Repeat { input, count } => {
            // The count is the last column: the others have the same numbers below.
            let input = Box::new(push(*input, filters));
            Rel { node: RelNode::Repeat { input, count }, columns }
        }
        RelNode::Match { .. } => push_match(rel.node, columns, filters),
        RelNode::Union { inputs } => {
            let inputs = inputs.into_iter().map(|r| push(r, filters.clone())).collect();
            Rel { node: RelNode::Union { inputs }, columns }
        }
        RelNode::Sort { input, keys, offset, limit, position } => {
            let input = Box::new(push(*input, Vec::new()));
            above(Rel { node: RelNode::Sort { input, keys, offset, limit, position }, columns }, filters)
        }
        RelNode::Values { rows } => {
            let rows = rows.iter().map(|r| r.iter().map(constant_fold).collect()).collect();
            above(Rel { node: RelNode::Values { rows }, columns }, filters)
        }
        node @ RelNode::Scan { .. } => above(Rel { node, columns }, filters),
    }
}

/// Filters on the partition go below.
fn push_match(node: RelNode, columns: Vec<RelColumn>, filters: Vec<Expr>) -> Rel {
    let RelNode::Match { input, spec, position } = node else { unreachable!("called for patterns") };
    let keys = spec.partition.len();
    let (down, up) = split(filters, |used| !used.is_empty() && used.iter().all(|&i| i < keys));
    let down = down.iter().map(|f| over_keys(f, &spec.partition)).collect();
    let input = Box::new(push(*input, down));
    above(Rel { node: RelNode::Match { input, spec, position }, columns }, up)
}

/// Filters on what all projections pass on alike go below.
fn push_expand(input: Rel, projections: Vec<Vec<Expr>>, columns: Vec<RelColumn>, filters: Vec<Expr>) -> Rel {
    let same = |&i: &usize| projections.iter().all(|p| p[i] == projections[0][i]);
    let (down, up) = split(filters, |used| !used.is_empty() && used.iter().all(same));
    let down = down.iter().map(|f| f.replace_columns(&|i| projections[0][i].clone())).collect();
    let node = RelNode::Expand { input: Box::new(push(input, down)), projections };
    above(Rel { node, columns }, up)
}

/// A filter on the number bounds it; filters on the partition go below.
fn push_rank(node: RelNode, columns: Vec<RelColumn>, filters: Vec<Expr>) -> Rel {
    let RelNode::Rank { input, partition, order, mut limit, with_rank, position } = node else {
        unreachable!("called for numbered rows")
    };
    let number = if with_rank { input.columns.len() } else { usize::MAX };
    let (mut down, mut up) = (Vec::new(), Vec::new());
    for f in folded(filters.into_iter().flat_map(conjuncts).collect()) {
        let bound = rank::upper_bound(&f, number);
        if let Some((n, _)) = bound {
            limit = Some(limit.map_or(n, |l| l.min(n)));
        }
        let used = used_columns([&f]);
        match bound {
            Some((_, true)) => {}
            _ if !used.is_empty() && used.iter().all(|c| partition.contains(c)) => down.push(f),
            _ => up.push(f),
        }
    }
    if limit.is_none() && with_rank && up.iter().any(|f| rank::compares(f, number)) {
        limit = Some(0);
    }
    let input = Box::new(push(*input, down));
    above(Rel { node: RelNode::Rank { input, partition, order, limit, with_rank, position }, columns }, up)
}

/// Filters on the partition go below. One that bounds RANK or DENSE_RANK asks for a Top-N by it, which there is not.
fn push_over(node: RelNode, columns: Vec<RelColumn>, filters: Vec<Expr>) -> Rel {
    let RelNode::Over { input, partition, order, frame, mut calls, position } = node else {
        unreachable!("called for functions with OVER")
    };
    let width = input.columns.len();
    let all = folded(filters.into_iter().flat_map(conjuncts).collect());
    for (i, call) in calls.iter_mut().enumerate().filter(|(_, c)| c.name.ends_with("RANK")) {
        call.bounded |= all.iter().any(|f| rank::compares(f, width + i));
    }
    let (down, up) = split(all, |used| !used.is_empty() && used.iter().all(|c| partition.contains(c)));
    let input = Box::new(push(*input, down));
    above(Rel { node: RelNode::Over { input, partition, order, frame, calls, position }, columns }, up)
}

/// A projection of literal rows is literal rows.
fn fold_values(rel: Rel) -> Rel {
    match rel.node {
        RelNode::Calc { input, filter: None, projection }
            if !projection.is_empty() && matches!(input.node, RelNode::Values { .. }) =>
        {
            let RelNode::Values { rows } = input.node else { unreachable!("checked by the guard") };
            let project = |row: Vec<Expr>| {
                projection.iter().map(|e| constant_fold(&e.replace_columns(&|i| row[i].clone()))).collect()
            };
            let rows = rows.into_iter().map(project).collect();
            Rel { node: RelNode::Values { rows }, columns: rel.columns }
        }
        node => Rel { node, columns: rel.columns },
    }
}

fn over_keys(f: &Expr, group: &[usize]) -> Expr {
    f.renumber(&|i| group[i])
}

pub(super) fn split(filters: Vec<Expr>, down: impl Fn(&[usize]) -> bool) -> (Vec<Expr>, Vec<Expr>) {
    filters.into_iter().partition(|f| down(&used_columns([f])))
}

pub(crate) fn above(rel: Rel, filters: Vec<Expr>) -> Rel {
    match and_all(folded(filters)) {
        Some(f) => rel.filter(f),
        None => rel,
    }
}

/// Constants folded; what is always TRUE goes away.
pub(crate) fn folded(filters: Vec<Expr>) -> Vec<Expr> {
    filters.iter().map(constant_fold).filter(|f| !matches!(f.kind, ExprKind::Literal(Literal::Boolean(true)))).collect()
}

/// One side of a join while keys are looked for.
pub(crate) struct Side {
    rel: Rel,
    width: usize,
    pub(crate) extra: Vec<Expr>,
    pub(crate) filters: Vec<Expr>,
}

impl Side {
    pub(crate) fn new(rel: Rel) -> Self {
        Side { width: rel.columns.len(), rel, extra: Vec::new(), filters: Vec::new() }
    }

    /// The column that holds a key expression.
    pub(crate) fn key(&mut self, e: Expr) -> usize {
        if let ExprKind::Column(i) = e.kind {
            return i;
        }
        let at = self.extra.iter().position(|x| *x == e).unwrap_or_else(|| {
            self.extra.push(e);
            self.extra.len() - 1
        });
        self.width + at
    }

    pub(crate) fn finish(self) -> Rel {
        let rel = push(self.rel, folded(self.filters));
        if self.extra.is_empty() {
            return rel;
        }
        let mut exprs = rel.identity();
        let mut columns = rel.columns.clone();
        for (i, e) in self.extra.into_iter().enumerate() {
            columns.push(RelColumn::new(format!("$key{i}"), e.data_type.clone()));
            exprs.push(e);
        }
        calc(rel, None, exprs, columns)
    }
}

fn push_join(
    (left, right): (Rel, Rel),
    (kind, as_of, ttl): (JoinKind, Option<AsOf>, SideTtl),
    condition: Option<Expr>,
    columns: Vec<RelColumn>,
    filters: Vec<Expr>,
) -> Rel {
    let (mut left, mut right) = (Side::new(left), Side::new(right));
    let (left_width, right_width) = (left.width, right.width);
    let shift = |e: &Expr| e.renumber(&|i| i - left_width);
    let on_left = |e: &Expr| used_columns([e]).iter().all(|&i| i < left_width);
    let on_right = |e: &Expr| used_columns([e]).iter().all(|&i| i >= left_width);
    let filters: Vec<Expr> = filters.into_iter().flat_map(conjuncts).collect();
    let kind = match kind {
        JoinKind::Left if filters.iter().any(|f| rejects_null(f, left_width)) => JoinKind::Inner,
        kind => kind,
    };
    let inner = kind == JoinKind::Inner;
    let mut on: Vec<Expr> = condition.into_iter().flat_map(conjuncts).collect();
    let mut up = Vec::new();
    for f in filters {
        if inner {
            on.push(f);
        } else if on_left(&f) && kind != JoinKind::Full {
            left.filters.push(f);
        } else {
            up.push(f);
        }
    }
    let mut keys: Vec<(usize, usize)> = Vec::new();
    let mut rest = Vec::new();
    for c in folded(on) {
        if matches!(kind, JoinKind::Inner | JoinKind::Semi) && on_left(&c) {
            left.filters.push(c);
        // Which version is valid is not for a filter to say.
        } else if kind != JoinKind::Full && as_of.is_none() && on_right(&c) && !on_left(&c) {
            right.filters.push(shift(&c));
        } else if let Some((l, r)) = equality(&c, left_width) {
            let key = (left.key(l), right.key(shift(&r)));
            if !keys.contains(&key) {
                keys.push(key);
            }
        } else {
            rest.push(c);
        }
    }
    let extra = (left.extra.len(), right.extra.len());
    let (left, right) = (left.finish(), right.finish());
    let moved = |e: &Expr| e.renumber(&|i| if i < left_width { i } else { i + extra.0 });
    let condition = and_all(rest.iter().map(moved));
    let joined = with_extra(&columns, (left_width, right_width), kind, (&left, &right));
    let node = RelNode::Join { left: Box::new(left), right: Box::new(right), kind, keys, condition, as_of, ttl };
    let mut rel = Rel { node, columns: joined };
    if rel.columns.len() != columns.len() {
        let right_start = left_width + extra.0;
        let right = if kind.projects_right() { right_start..right_start + right_width } else { 0..0 };
        let visible: Vec<usize> = (0..left_width).chain(right).collect();
        rel = rel.select(&visible);
        rel.columns = columns;
    }
    above(rel, up)
}

/// The columns of a join whose sides have more columns than they had.
fn with_extra(
    columns: &[RelColumn],
    (left_width, right_width): (usize, usize),
    kind: JoinKind,
    (left, right): (&Rel, &Rel),
) -> Vec<RelColumn> {
    let padded = |c: &RelColumn, padded: bool| {
        let mut c = c.clone();
        c.data_type.nullable |= padded;
        c
    };
    let mut joined: Vec<RelColumn> = columns[..left_width].to_vec();
    joined.extend(left.columns[left_width..].iter().map(|c| padded(c, kind.right_outer())));
    if kind.projects_right() {
        joined.extend(columns[left_width..].iter().cloned());
        joined.extend(right.columns[right_width..].iter().map(|c| padded(c, kind.pads_right())));
    }
    joined
}

/// Whether the filter passes no row whose columns from `from` on are all NULL.
fn rejects_null(filter: &Expr, from: usize) -> bool {
    // NULL for NULL.
    fn strict(e: &Expr, from: usize) -> bool {
        match &e.kind {
            ExprKind::Column(i) => *i >= from,
            ExprKind::Cast { input, .. } => strict(input, from),
            ExprKind::Call { function, args } => {
                matches!(function.as_str(), "=" | "<>" | "<" | "<=" | ">" | ">=" | "+" | "-" | "*" | "LIKE")
                    && args.iter().any(|a| strict(a, from))
            }
            _ => false,
        }
    }
    match &filter.kind {
        ExprKind::Call { function, args } if function == "IS NOT NULL" => args.iter().any(|a| strict(a, from)),
        ExprKind::Call { .. } => strict(filter, from),
        _ => false,
    }
}

/// The sides of `l = r`, one over left columns only, the other over right ones only.
fn equality(e: &Expr, left_width: usize) -> Option<(Expr, Expr)> {
    let ExprKind::Call { function, args } = &e.kind else { return None };
    let [a, b] = args.as_slice() else { return None };
    if function != "=" || a.data_type.kind != b.data_type.kind && !both_strings(a, b) {
        return None;
    }
    let side = |e: &Expr| {
        let used = used_columns([e]);
        if used.is_empty() {
            None
        } else if used.iter().all(|&i| i < left_width) {
            Some(true)
        } else if used.iter().all(|&i| i >= left_width) {
            Some(false)
        } else {
            None
        }
    };
    match (side(a)?, side(b)?) {
        (true, false) => Some((a.clone(), b.clone())),
        (false, true) => Some((b.clone(), a.clone())),
        _ => None,
    }
}

fn both_strings(a: &Expr, b: &Expr) -> bool {
    a.data_type.kind.is_string() && b.data_type.kind.is_string()
}
