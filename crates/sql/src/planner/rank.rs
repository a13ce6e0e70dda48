//! Numbered rows: how many are wanted, and whether that is a Top-N, a deduplication or a Top-N of windows. Builds no operator.

use flott_core::Result;
use flott_core::error::Position;
use flott_plan::spec::{OperatorSpec, WindowProperty};
use flott_plan::{Expr, ExprKind, Literal, SortKey};

use super::physical::Changes;
use super::rel::{RelColumn, TimeAttribute};
use crate::diag::unsupported;

/// How many numbers pass a filter on the number in column `number`, and whether the filter says nothing else.
pub(crate) fn upper_bound(filter: &Expr, number: usize) -> Option<(u64, bool)> {
    let ExprKind::Call { function, args } = &filter.kind else { return None };
    let [a, b] = args.as_slice() else { return None };
    let constant = |e: &Expr| match e.kind {
        ExprKind::Literal(Literal::Int(n)) => Some(n),
        _ => None,
    };
    let is_number = |e: &Expr| e.kind == ExprKind::Column(number);
    let (function, bound) = match function.as_str() {
        f if is_number(a) => (f, constant(b)?),
        "<" if is_number(b) => (">", constant(a)?),
        "<=" if is_number(b) => (">=", constant(a)?),
        ">" if is_number(b) => ("<", constant(a)?),
        ">=" if is_number(b) => ("<=", constant(a)?),
        "=" if is_number(b) => ("=", constant(a)?),
        _ => return None,
    };
    let at_most = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0);
    match function {
        "<=" => Some((at_most(bound)?, true)),
        "<" => Some((at_most(bound.checked_sub(1)?)?, true)),
        "=" => Some((at_most(bound)?, bound == 1)),
        _ => None,
    }
}

/// Whether a filter compares column `number` with a constant for less, more or equal.
pub(crate) fn compares(filter: &Expr, number: usize) -> bool {
    let ExprKind::Call { function, args } = &filter.kind else { return false };
    let [a, b] = args.as_slice() else { return false };
    let literal = |e: &Expr| matches!(e.kind, ExprKind::Literal(_));
    let is_number = |e: &Expr| e.kind == ExprKind::Column(number);
    matches!(function.as_str(), "<" | "<=" | ">" | ">=" | "=")
        && (is_number(a) && literal(b) || literal(a) && is_number(b))
}

/// What a ranking comes to.
pub(crate) struct Ranking<'a> {
    pub(crate) partition: &'a [usize],
    pub(crate) order: &'a [SortKey],
    pub(crate) limit: Option<u64>,
    pub(crate) with_rank: bool,
    pub(crate) input: &'a [RelColumn],
    pub(crate) input_changes: Changes,
    pub(crate) update_before: bool,
    pub(crate) ttl_ms: Option<i64>,
    pub(crate) zone: String,
    pub(crate) position: Option<Position>,
}

impl Ranking<'_> {
    /// The operator, whether its rows carry the number, what it emits, and its name in EXPLAIN.
    pub(crate) fn operator(&self) -> Result<(OperatorSpec, bool, Changes, &'static str)> {
        let Some(limit) = self.limit.filter(|l| *l > 0) else {
            let error = unsupported("a filter on ROW_NUMBER that leaves no first rows", self.position);
            return Err(error.hint("a Top-N needs a highest number of at least 1: WHERE rn <= 10 around the subquery"));
        };
        let append = self.input_changes.is_append();
        if let Some(window) = self.window().filter(|_| append) {
            return Ok((window, self.with_rank, Changes::default(), "WindowRank"));
        }
        if limit == 1 && append {
            let (spec, changes) = self.deduplicate();
            return Ok((spec, false, changes, "Deduplicate"));
        }
        let spec = OperatorSpec::TopN {
            partition: self.partition.to_vec(),
            order: self.order.to_vec(),
            limit,
            with_rank: self.with_rank,
            input_mode: self.input_changes.mode(),
            update_before: self.update_before,
            ttl_ms: self.ttl_ms,
        };
        let changes = match self.with_rank {
            true => Changes { update_before: self.update_before, update_after: true, delete: !append },
            false => Changes { update_before: false, update_after: false, delete: true },
        };
        Ok((spec, self.with_rank, changes, "Rank"))
    }

    fn window(&self) -> Option<OperatorSpec> {
        let of = |property| {
            let is = |&&c: &&usize| self.input[c].attached.is_some_and(|a| a.property == property);
            self.partition.iter().find(is).copied()
        };
        of(WindowProperty::Start)?;
        let window_end = of(WindowProperty::End)?;
        let attached = self.input[window_end].attached?;
        Some(OperatorSpec::WindowTopN {
            partition: self.partition.to_vec(),
            order: self.order.to_vec(),
            limit: self.limit?,
            with_rank: self.with_rank,
            keep_last: self.limit == Some(1) && self.by_rowtime() == Some(true),
            window_end,
            processing_time: attached.proctime,
            zone: attached.zoned.then(|| self.zone.clone()),
        })
    }

    /// Whether the order is that of an event time alone, and then whether the latest row comes first.
    fn by_rowtime(&self) -> Option<bool> {
        match self.order {
            [one] if self.input[one.column].time == Some(TimeAttribute::Rowtime) => Some(one.descending),
            _ => None,
        }
    }

    /// One row per key. By a time attribute alone it is Flink's deduplication: of equal times the last row wins when the last
    /// one is kept.
    fn deduplicate(&self) -> (OperatorSpec, Changes) {
        let time = match self.order {
            [one] => self.input[one.column].time.map(|t| (t, one.descending)),
            _ => None,
        };
        let (order, keep_last) = match time {
            Some((TimeAttribute::Proctime, last)) => (Vec::new(), last),
            Some((TimeAttribute::Rowtime, last)) => (self.order.to_vec(), last),
            None => (self.order.to_vec(), false),
        };
        let insert_only = order.is_empty() && !keep_last;
        let update_before = self.update_before && !insert_only;
        let changes = Changes { update_before, update_after: !insert_only, delete: false };
        let (key, ttl_ms) = (self.partition.to_vec(), self.ttl_ms);
        (OperatorSpec::Deduplicate { key, order, keep_last, update_before, ttl_ms }, changes)
    }
}
