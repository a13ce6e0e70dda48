//! GROUP BY: its expressions and, with GROUPING SETS, ROLLUP and CUBE, the sets of them that are grouped by; GROUPING and
//! GROUP_ID. Builds the Expand below an aggregation, not the aggregation.

use flott_core::error::Position;
use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_plan::{Expr, ExprKind, Literal};
use sqlparser::ast::{Expr as SqlExpr, SelectItem};

use super::expr::{ExprBinder, span_position};
use super::function::{call_arguments, function_name};
use super::scope::Scope;
use super::window::{LegacyWindow, is_window_function};
use crate::diag::{place, unsupported};
use crate::planner::rel::{Rel, RelColumn, RelNode, derived_column};

/// A query may group by so many sets: CUBE doubles them with each column.
const SETS_MAX: usize = 4096;

/// What GROUP BY says.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupBy {
    /// The expressions of all sets, each once.
    pub(crate) keys: Vec<Expr>,
    /// The sets, as numbers of expressions; a plain GROUP BY has one.
    pub(crate) sets: Vec<Vec<usize>>,
    /// The window of GROUP BY TUMBLE(…), which every set holds.
    pub(crate) legacy: Option<LegacyWindow>,
}

impl GroupBy {
    /// A plain GROUP BY.
    pub(crate) fn plain(keys: Vec<Expr>) -> Self {
        GroupBy { sets: vec![(0..keys.len()).collect()], keys, legacy: None }
    }

    /// Binds the list behind GROUP BY.
    pub(super) fn bind(scope: &Scope, list: &[SqlExpr], projection: &[SelectItem]) -> Result<Self> {
        let mut group = GroupBy { sets: vec![Vec::new()], ..GroupBy::default() };
        for e in list {
            if let SqlExpr::Function(f) = e
                && is_window_function(&function_name(f))
            {
                if group.legacy.is_some() {
                    return Err(place(Error::user("sql.window", "GROUP BY takes one window"), span_position(e)));
                }
                group.legacy = Some(LegacyWindow::bind(scope, &function_name(f), f)?);
                continue;
            }
            let choices = group.choices(scope, e, projection)?;
            if group.sets.len().saturating_mul(choices.len()) > SETS_MAX {
                let message = format!("GROUP BY comes to more than {SETS_MAX} sets of columns");
                return Err(place(Error::user("sql.group-by", message), span_position(e)));
            }
            let both = |a: &Vec<usize>, b: &Vec<usize>| {
                let mut set = a.clone();
                set.extend(b.iter().filter(|k| !a.contains(k)));
                set
            };
            group.sets =
                group.sets.iter().flat_map(|a| choices.iter().map(|b| both(a, b)).collect::<Vec<_>>()).collect();
        }
        Ok(group)
    }

    /// With these keys in every set.
    pub(super) fn also(mut self, keys: impl Iterator<Item = Expr>) -> Self {
        for key in keys {
            let at = self.keys.iter().position(|k| *k == key).unwrap_or_else(|| {
                self.keys.push(key);
                self.keys.len() - 1
            });
            self.sets.iter_mut().filter(|s| !s.contains(&at)).for_each(|s| s.push(at));
        }
        self
    }

    /// The sets that one element of the list stands for.
    fn choices(&mut self, scope: &Scope, e: &SqlExpr, projection: &[SelectItem]) -> Result<Vec<Vec<usize>>> {
        match e {
            SqlExpr::Rollup(parts) => Ok(rollup(&self.parts(scope, parts, projection)?)),
            SqlExpr::Cube(parts) => cube(&self.parts(scope, parts, projection)?, span_position(e)),
            SqlExpr::GroupingSets(sets) => {
                let mut out = Vec::new();
                for set in sets {
                    match set.as_slice() {
                        [SqlExpr::Function(f)] if matches!(function_name(f).as_str(), "ROLLUP" | "CUBE") => {
                            let args: Vec<Vec<SqlExpr>> =
                                call_arguments(f)?.into_iter().map(|(_, e)| elements(e)).collect();
                            let parts = self.parts(scope, &args, projection)?;
                            let rolled = function_name(f) == "ROLLUP";
                            out.extend(if rolled { rollup(&parts) } else { cube(&parts, span_position(e))? });
                        }
                        set => out.push(self.part(scope, set, projection)?),
                    }
                }
                Ok(out)
            }
            SqlExpr::Tuple(list) => Ok(vec![self.part(scope, list, projection)?]),
            e => Ok(vec![vec![self.key(scope, e, projection)?]]),
        }
    }

    fn parts(&mut self, scope: &Scope, parts: &[Vec<SqlExpr>], projection: &[SelectItem]) -> Result<Vec<Vec<usize>>> {
        parts.iter().map(|part| self.part(scope, part, projection)).collect()
    }

    fn part(&mut self, scope: &Scope, list: &[SqlExpr], projection: &[SelectItem]) -> Result<Vec<usize>> {
        let mut part = Vec::new();
        for e in list {
            let key = self.key(scope, e, projection)?;
            if !part.contains(&key) {
                part.push(key);
            }
        }
        Ok(part)
    }

    fn key(&mut self, scope: &Scope, e: &SqlExpr, projection: &[SelectItem]) -> Result<usize> {
        if let SqlExpr::Value(_) = e {
            let error = Error::user("sql.group-by", "GROUP BY takes columns and expressions, not positions");
            return Err(place(error.hint("repeat the expression of the SELECT list"), span_position(e)));
        }
        if let SqlExpr::Function(f) = e
            && is_window_function(&function_name(f))
        {
            let error = unsupported(&format!("{} inside grouping sets", function_name(f)), span_position(e));
            return Err(error.hint("put the window before them: GROUP BY TUMBLE(…), GROUPING SETS (…)"));
        }
        let bound = bind_key(scope, e, projection)?;
        Ok(self.keys.iter().position(|k| *k == bound).unwrap_or_else(|| {
            self.keys.push(bound);
            self.keys.len() - 1
        }))
    }

    /// Whether there are several sets.
    pub(crate) fn is_sets(&self) -> bool {
        self.sets.len() > 1
    }

    /// What GROUPING(keys) is in each set: a bit per key, 1 where the set lacks it.
    fn grouping_bits(&self, keys: &[usize]) -> Vec<i64> {
        let bits = |set: &Vec<usize>| keys.iter().fold(0, |bits, k| bits << 1 | i64::from(!set.contains(k)));
        self.sets.iter().map(bits).collect()
    }

    /// What GROUP_ID() is in each set: how many equal sets come before.
    fn group_ids(&self) -> Vec<i64> {
        let equal = |a: &[usize], b: &[usize]| a.len() == b.len() && a.iter().all(|k| b.contains(k));
        let before = |i: usize| self.sets[..i].iter().filter(|s| equal(s, &self.sets[i])).count() as i64;
        (0..self.sets.len()).map(before).collect()
    }

    /// GROUPING(keys), or GROUP_ID() without keys, over the number of the set in column `set`.
    pub(super) fn indicator(&self, keys: Option<&[usize]>, set: Option<usize>) -> Expr {
        let values = keys.map_or_else(|| self.group_ids(), |k| self.grouping_bits(k));
        let number = |n: i64| Expr::literal(Literal::Int(n), bigint());
        let first = values.first().copied().unwrap_or_default();
        let Some(set) = set.filter(|_| values.iter().any(|v| *v != first)) else { return number(first) };
        let is = |i: usize| {
            let args = vec![Expr::column(set, bigint()), number(i as i64)];
            Expr::call("=", args, TypeKind::Boolean.not_null())
        };
        let branches = (1..values.len()).filter(|&i| values[i] != first).map(|i| (is(i), number(values[i]))).collect();
        let kind = ExprKind::Case { branches, otherwise: Some(Box::new(number(first))) };
        Expr { kind, data_type: bigint() }
    }
}

fn bigint() -> DataType {
    TypeKind::BigInt.not_null()
}

/// The expressions of a parenthesised list.
fn elements(e: &SqlExpr) -> Vec<SqlExpr> {
    match e {
        SqlExpr::Tuple(list) => list.clone(),
        e => vec![e.clone()],
    }
}

/// All beginnings, the longest first.
fn rollup(parts: &[Vec<usize>]) -> Vec<Vec<usize>> {
    (0..=parts.len()).rev().map(|n| joined(&parts[..n])).collect()
}

/// All subsets, larger ones of the first columns first.
fn cube(parts: &[Vec<usize>], at: Option<Position>) -> Result<Vec<Vec<usize>>> {
    let n = parts.len();
    if n >= usize::BITS as usize || 1usize << n > SETS_MAX {
        let message = format!("CUBE of {n} columns comes to more than {SETS_MAX} sets of columns");
        return Err(place(Error::user("sql.group-by", message), at));
    }
    let subset = |mask: usize| {
        let chosen: Vec<Vec<usize>> =
            (0..n).filter(|i| mask >> (n - 1 - i) & 1 == 1).map(|i| parts[i].clone()).collect();
        joined(&chosen)
    };
    Ok((0..1usize << n).rev().map(subset).collect())
}

fn joined(parts: &[Vec<usize>]) -> Vec<usize> {
    let mut out: Vec<usize> = Vec::new();
    for k in parts.iter().flatten() {
        if !out.contains(k) {
            out.push(*k);
        }
    }
    out
}

fn bind_key(scope: &Scope, e: &SqlExpr, projection: &[SelectItem]) -> Result<Expr> {
    ExprBinder::new(scope, "GROUP BY").bind(e).map_err(|error| {
        let is_alias = matches!(e, SqlExpr::Identifier(name) if projection.iter().any(|item|
            matches!(item, SelectItem::ExprWithAlias { alias, .. } if alias.value == name.value)));
        if is_alias {
            error.hint("GROUP BY does not see names given in the SELECT list: repeat the expression")
        } else {
            error
        }
    })
}

/// The keys of an aggregation over several sets.
pub(super) struct Expanded {
    pub(super) rel: Rel,
    /// The column of each key.
    pub(super) keys: Vec<usize>,
    /// The column with the number of the set.
    pub(super) set: usize,
}

/// Each row of `input` once per set: behind its columns, the keys that some sets lack, NULL there, and the number of the set.
pub(super) fn expand(input: Rel, keys: &[usize], sets: &[Vec<usize>]) -> Expanded {
    let width = input.columns.len();
    let everywhere = |k: &usize| sets.iter().all(|s| s.contains(k));
    let copied: Vec<usize> = (0..keys.len()).filter(|k| !everywhere(k)).collect();
    let set = width + copied.len();
    let nullable = |k: usize| input.columns[keys[k]].data_type.kind.clone().nullable();
    let projection = |(n, s): (usize, &Vec<usize>)| {
        let mut out = input.identity();
        out.extend(copied.iter().map(|&k| match s.contains(&k) {
            true => Expr::column(keys[k], nullable(k)),
            false => Expr::literal(Literal::Null, nullable(k)),
        }));
        out.push(Expr::literal(Literal::Int(n as i64), bigint()));
        out
    };
    let projections: Vec<Vec<Expr>> = sets.iter().enumerate().map(projection).collect();
    let mut columns = input.columns.clone();
    for &k in &copied {
        let e = Expr::column(keys[k], nullable(k));
        let copy = derived_column(&input.columns, &e, &input.columns[keys[k]].name);
        columns.push(RelColumn::new(copy.name, copy.data_type));
    }
    columns.push(RelColumn::new("$e", bigint()));
    let place = |k: usize| copied.iter().position(|c| *c == k).map_or(keys[k], |at| width + at);
    let key_columns = (0..keys.len()).map(place).collect();
    let node = RelNode::Expand { input: Box::new(input), projections };
    Expanded { rel: Rel { node, columns }, keys: key_columns, set }
}

/// Types that hold after some columns may have become NULL: NULL comes out where NULL goes in, unless the function says otherwise.
pub(super) fn null_in_null_out(kind: &ExprKind, before: &[bool], data_type: &DataType) -> DataType {
    let raised = |after: &[&Expr]| after.iter().zip(before).any(|(e, was)| e.data_type.nullable && !was);
    let nullable = match kind {
        ExprKind::Call { function, .. } if function.starts_with("IS ") => false,
        ExprKind::Call { function, args } if function == "COALESCE" || function == "IFNULL" => {
            args.iter().all(|a| a.data_type.nullable)
        }
        ExprKind::Case { branches, otherwise } => {
            let values: Vec<&Expr> = branches.iter().map(|b| &b.1).chain(otherwise.as_deref()).collect();
            otherwise.is_some() && values.iter().any(|v| v.data_type.nullable)
        }
        ExprKind::Call { args, .. } => raised(&args.iter().collect::<Vec<_>>()),
        ExprKind::Cast { input, .. } | ExprKind::Field(input, _) => raised(&[input]),
        _ => false,
    };
    DataType { kind: data_type.kind.clone(), nullable: data_type.nullable || nullable }
}
