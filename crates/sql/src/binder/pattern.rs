//! MATCH_RECOGNIZE: partition, order, pattern, definitions and measures to one relation. Refuses what the automaton cannot do, with the place
//! and what to write instead.

use flott_core::error::Position;
use flott_core::types::TypeKind;
use flott_core::{Error, Result};
use flott_plan::pattern::{AfterMatch, MatchExpr, MatchSpec, PatternVariable};
use flott_plan::{ExprKind, Literal};
use sqlparser::ast::{
    AfterMatchSkip, Expr as SqlExpr, FunctionArg, FunctionArgExpr, Ident, MatchRecognizePattern as Sql,
    MatchRecognizeSymbol, Measure, ObjectName, OrderByExpr, RepetitionQuantifier, RowsPerMatch, Spanned,
    SymbolDefinition, TableFactor, TableFunctionArgs,
};

use super::expr::{ExprBinder, span_position};
use super::from::aliased;
use super::navigation::{PatternScope, column_of};
use super::query::{QueryBinder, sort_key};
use super::scope::Scope;
use crate::diag::{At, place, position, suggestion, unsupported};
use crate::parser::pattern::{INPUT, WITHIN, exclusion};
use crate::planner::rel::{Rel, RelColumn, RelNode, TimeAttribute};

/// A pattern may ask for so many rows one by one.
const STATES_MAX: u64 = 10_000;

/// Whether this is the name that the parser gives to a query in front of MATCH_RECOGNIZE.
pub(super) fn is_match_input(name: &ObjectName) -> bool {
    matches!(name.0.as_slice(), [part] if part.as_ident().is_some_and(|i| i.value == INPUT))
}

/// The time that rows are ordered by.
type Time = (usize, TimeAttribute, flott_core::types::DataType);

impl QueryBinder<'_> {
    /// A query in front of MATCH_RECOGNIZE.
    pub(super) fn match_input(&mut self, args: &TableFunctionArgs) -> Result<Rel> {
        match args.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(SqlExpr::Subquery(query)))] => self.query(query),
            _ => Err(Error::bug("the input of MATCH_RECOGNIZE is no query")),
        }
    }

    /// `t MATCH_RECOGNIZE (…)`.
    pub(super) fn match_recognize(&mut self, factor: &TableFactor) -> Result<(Rel, Scope)> {
        let TableFactor::MatchRecognize {
            table,
            partition_by,
            order_by,
            measures,
            rows_per_match,
            after_match_skip,
            pattern,
            symbols,
            alias,
        } = factor
        else {
            return Err(Error::bug("not a MATCH_RECOGNIZE"));
        };
        let at = position(table.span());
        if let Some(RowsPerMatch::AllRows(_)) = rows_per_match {
            let error = unsupported("ALL ROWS PER MATCH", at);
            return Err(error.hint("write ONE ROW PER MATCH, and measures for what is wanted of the rows"));
        }
        let (input, scope) = self.factor(table)?;
        let partition = partition_by.iter().map(|e| partition_column(&scope, e)).collect::<Result<Vec<_>>>()?;
        let (time, order) = order_columns(&scope, order_by, at)?;
        let mut variables = variables(pattern)?;
        let skip = after_match(after_match_skip.as_ref(), &variables)?;
        let within_ms = self.define(&scope, symbols, &mut variables, &time)?;
        let (names, exprs, mut columns) = measured(&scope, measures, &variables, &time, at)?;
        check_names(&input, &partition, &names)?;
        let mut all: Vec<RelColumn> =
            partition.iter().map(|&p| RelColumn { time: None, ..input.columns[p].clone() }).collect();
        for c in &mut all {
            (c.window, c.attached) = (None, None);
        }
        all.append(&mut columns);
        let rowtime = (time.1 == TimeAttribute::Rowtime).then_some(time.0);
        let spec = MatchSpec { partition, time: rowtime, order, variables, within_ms, skip, measures: exprs };
        let node = RelNode::Match { input: Box::new(input), spec: Box::new(spec), position: at };
        aliased(Rel { node, columns: all }, alias.as_ref(), None)
    }

    /// Conditions to their variables; the interval of WITHIN.
    fn define(
        &mut self,
        scope: &Scope,
        symbols: &[SymbolDefinition],
        variables: &mut [PatternVariable],
        time: &Time,
    ) -> Result<Option<i64>> {
        let mut within = None;
        let known = variables.to_vec();
        for s in symbols {
            if s.symbol.quote_style.is_none() && s.symbol.value.eq_ignore_ascii_case(WITHIN) {
                within = Some(interval(&s.definition)?);
                continue;
            }
            // A definition of no variable of the pattern has no effect.
            let Some(v) = known.iter().position(|v| v.name == s.symbol.value) else { continue };
            if variables[v].condition.is_some() {
                let error = Error::user("sql.pattern", format!("`{}` is defined twice", s.symbol.value));
                return Err(place(error.hint("combine the conditions with AND"), position(s.symbol.span)));
            }
            let mut pattern = PatternScope::new(&known, Some(v), time.clone());
            let mut binder = ExprBinder::new(scope, "DEFINE");
            binder.pattern = Some(&mut pattern);
            let condition = binder.bind_condition(&s.definition)?;
            variables[v].condition = Some(pattern.finish(condition));
        }
        Ok(within.filter(|ms| *ms > 0))
    }
}

fn partition_column(scope: &Scope, e: &SqlExpr) -> Result<usize> {
    let bound = ExprBinder::new(scope, "PARTITION BY").bind(e)?;
    column_of(&bound).ok_or_else(|| {
        unsupported("an expression in PARTITION BY of MATCH_RECOGNIZE", span_position(e))
            .hint("compute it in a subquery, and name the column")
    })
}

/// The time attribute, then further columns.
fn order_columns(
    scope: &Scope,
    order_by: &[OrderByExpr],
    at: Option<Position>,
) -> Result<(Time, Vec<flott_plan::SortKey>)> {
    let hint = "order by the column of the table's WATERMARK, or by one AS PROCTIME(), ascending; others may follow";
    let Some((first, rest)) = order_by.split_first() else {
        return Err(place(
            Error::user("sql.pattern", "MATCH_RECOGNIZE needs ORDER BY a time attribute").hint(hint),
            at,
        ));
    };
    let first_at = span_position(&first.expr);
    let bound = ExprBinder::new(scope, "ORDER BY").bind(&first.expr)?;
    let time = column_of(&bound).and_then(|i| Some((i, scope.columns[i].time?, scope.columns[i].data_type.clone())));
    let Some(time) = time else {
        let error = Error::user(
            "sql.pattern",
            format!("`{}` is no time attribute, and rows of MATCH_RECOGNIZE come in the order of time", first.expr),
        );
        return Err(place(error.hint(hint), first_at));
    };
    if first.options.asc == Some(false) {
        let error = Error::user("sql.pattern", "MATCH_RECOGNIZE takes rows in ascending order of time only");
        return Err(place(error.hint("leave out DESC; others behind the time may descend"), first_at));
    }
    let mut order = Vec::new();
    for o in rest {
        let bound = ExprBinder::new(scope, "ORDER BY").bind(&o.expr)?;
        let column = column_of(&bound).ok_or_else(|| {
            unsupported("an expression in ORDER BY of MATCH_RECOGNIZE", span_position(&o.expr))
                .hint("compute it in a subquery, and name the column")
        })?;
        order.push(sort_key(column, o));
    }
    Ok((time, order))
}

fn interval(e: &SqlExpr) -> Result<i64> {
    let bound = ExprBinder::new(&Scope::default(), "WITHIN").bind(e)?;
    match (&bound.kind, &bound.data_type.kind) {
        (ExprKind::Literal(Literal::Int(ms)), TypeKind::IntervalDayTime) => Ok(*ms),
        _ => {
            let error = Error::user(
                "sql.pattern",
                format!("WITHIN takes an interval of days, hours, minutes or seconds, found `{e}`"),
            );
            Err(place(error.hint("as in WITHIN INTERVAL '1' HOUR"), span_position(e)))
        }
    }
}

fn after_match(skip: Option<&AfterMatchSkip>, variables: &[PatternVariable]) -> Result<AfterMatch> {
    let variable = |name: &Ident| {
        variables.iter().position(|v| v.name == name.value).ok_or_else(|| {
            let known: Vec<&str> = variables.iter().map(|v| v.name.as_str()).collect();
            let error = Error::user("sql.pattern", format!("there is no pattern variable `{}` to skip to", name.value));
            place(error.hint(suggestion(&name.value, &known, 12)), position(name.span))
        })
    };
    Ok(match skip {
        None | Some(AfterMatchSkip::ToNextRow) => AfterMatch::ToNextRow,
        Some(AfterMatchSkip::PastLastRow) => AfterMatch::PastLastRow,
        Some(AfterMatchSkip::ToFirst(name)) => AfterMatch::ToFirst(variable(name)?),
        Some(AfterMatchSkip::ToLast(name)) => AfterMatch::ToLast(variable(name)?),
    })
}

/// Names, expressions and columns of the measures.
#[allow(clippy::type_complexity, reason = "three lists of one length, used once")]
fn measured(
    scope: &Scope,
    measures: &[Measure],
    variables: &[PatternVariable],
    time: &Time,
    at: Option<Position>,
) -> Result<(Vec<Ident>, Vec<MatchExpr>, Vec<RelColumn>)> {
    if measures.is_empty() {
        let error = Error::user("sql.pattern", "MATCH_RECOGNIZE needs MEASURES: without them a match gives nothing");
        return Err(place(error.hint("as in MEASURES A.price AS price"), at));
    }
    let (mut names, mut exprs, mut columns) = (Vec::new(), Vec::new(), Vec::new());
    for m in measures {
        let mut pattern = PatternScope::new(variables, None, time.clone());
        let mut binder = ExprBinder::new(scope, "MEASURES");
        binder.pattern = Some(&mut pattern);
        let bound = binder.bind(&m.expr).at(span_position(&m.expr))?;
        let bound = pattern.finish(bound);
        let rowtime = column_of(&bound.expr)
            .is_some_and(|i| matches!(bound.references[i], flott_plan::MatchReference::Rowtime { .. }));
        let proctime = matches!(&bound.expr.kind, ExprKind::Call { function, .. } if function == "PROCTIME");
        let mut column = RelColumn::new(&m.alias.value, bound.expr.data_type.clone());
        column.time = match (rowtime, proctime) {
            (true, _) => Some(TimeAttribute::Rowtime),
            (_, true) => Some(TimeAttribute::Proctime),
            _ => None,
        };
        names.push(m.alias.clone());
        columns.push(column);
        exprs.push(bound);
    }
    Ok((names, exprs, columns))
}

/// Columns of the result must have names of their own.
fn check_names(input: &Rel, partition: &[usize], names: &[Ident]) -> Result<()> {
    for (i, name) in names.iter().enumerate() {
        let taken = partition.iter().any(|&p| input.columns[p].name == name.value);
        if taken || names[..i].iter().any(|n| n.value == name.value) {
            let what = if taken { "is a partition column already" } else { "is measured twice" };
            let error = Error::user("sql.pattern", format!("`{}` {what}", name.value));
            return Err(place(error.hint("give the measure a name of its own with AS"), position(name.span)));
        }
    }
    Ok(())
}

/// The variables of a pattern in order.
fn variables(pattern: &Sql) -> Result<Vec<PatternVariable>> {
    let mut out: Vec<(PatternVariable, Option<Position>)> = Vec::new();
    flatten(pattern, &mut out).at(first_name(pattern))?;
    for (i, (v, at)) in out.iter().enumerate() {
        if out[..i].iter().any(|(other, _)| other.name == v.name) {
            let error = unsupported(&format!("the variable `{}` twice in a pattern", v.name), *at);
            return Err(error.hint("use another name with the same condition"));
        }
    }
    let at = out.first().and_then(|(_, at)| *at);
    if out.iter().all(|(v, _)| v.min == 0) {
        let error = unsupported("a pattern that matches no row at all", at);
        return Err(error.hint("let one variable take a row at least: A+ instead of A*"));
    }
    if let Some((v, at)) = out.last()
        && v.greedy
        && v.max.is_none_or(|max| v.min.max(1) != max)
    {
        let error = unsupported(&format!("the greedy quantifier of `{}` at the end of a pattern", v.name), *at);
        return Err(error.detail("it would wait for a row that ends it").hint(format!(
            "write a reluctant one, as in {0}+?, or a further variable behind it that is defined as NOT the condition of {0}",
            v.name
        )));
    }
    let states: u64 = out.iter().map(|(v, _)| u64::from(v.max.unwrap_or(v.min).max(v.min)) + 1).sum();
    if states > STATES_MAX {
        let error = unsupported(&format!("a pattern that counts more than {STATES_MAX} rows"), at);
        return Err(error.hint("count rows in DEFINE, as in COUNT(A.id) < 20000"));
    }
    Ok(out.into_iter().map(|(v, _)| v).collect())
}

fn flatten(pattern: &Sql, out: &mut Vec<(PatternVariable, Option<Position>)>) -> Result<()> {
    let at = first_name(pattern);
    match pattern {
        Sql::Concat(parts) => parts.iter().try_for_each(|p| flatten(p, out)),
        Sql::Group(inner) => flatten(inner, out),
        Sql::Symbol(MatchRecognizeSymbol::Named(name)) => {
            out.push(variable(name, (1, Some(1), true)));
            Ok(())
        }
        Sql::Repetition(inner, quantifier) => {
            // A `?` behind a quantifier makes it reluctant.
            let (inner, quantifier, greedy) = match (inner.as_ref(), quantifier) {
                (Sql::Repetition(inner, of), RepetitionQuantifier::AtMostOne) => (inner, of, false),
                _ => (inner, quantifier, true),
            };
            let Some(name) = single(inner) else {
                let error = unsupported(&format!("a quantifier behind a group, as in `{pattern}`"), at);
                return Err(error.hint(
                    "put quantifiers behind single variables; look for a repeated group with a query of its own",
                ));
            };
            let (v, at) = variable(name, quantified(name, quantifier, greedy)?);
            out.push((v, at));
            Ok(())
        }
        Sql::Alternation(_) => {
            let hint = "use one variable with a condition of OR, or one query for each branch and UNION ALL";
            Err(unsupported(&format!("the pattern `{pattern}`, one of several,"), at).hint(hint))
        }
        Sql::Permute(_) => {
            Err(unsupported("PERMUTE in a pattern", at).hint("write one query for each order, and UNION ALL them"))
        }
        Sql::Exclude(_) => Err(exclusion(at)),
        Sql::Symbol(_) => Err(unsupported(&format!("the anchor {pattern} in a pattern"), at)
            .hint("a stream has no first and no last row: say in DEFINE what begins and ends a match")),
    }
}

/// The place of the first name in a pattern; anchors have none.
fn first_name(pattern: &Sql) -> Option<Position> {
    let of = |s: &MatchRecognizeSymbol| match s {
        MatchRecognizeSymbol::Named(name) => position(name.span),
        _ => None,
    };
    match pattern {
        Sql::Symbol(s) | Sql::Exclude(s) => of(s),
        Sql::Permute(symbols) => symbols.iter().find_map(of),
        Sql::Concat(parts) | Sql::Alternation(parts) => parts.iter().find_map(first_name),
        Sql::Group(inner) | Sql::Repetition(inner, _) => first_name(inner),
    }
}

/// The name that stands alone in parentheses.
fn single(pattern: &Sql) -> Option<&Ident> {
    match pattern {
        Sql::Group(inner) => single(inner),
        Sql::Symbol(MatchRecognizeSymbol::Named(name)) if name.value != "$" || name.quote_style.is_some() => Some(name),
        _ => None,
    }
}

fn variable(name: &Ident, (min, max, greedy): (u32, Option<u32>, bool)) -> (PatternVariable, Option<Position>) {
    (PatternVariable { name: name.value.clone(), min, max, greedy, condition: None }, position(name.span))
}

fn quantified(name: &Ident, q: &RepetitionQuantifier, greedy: bool) -> Result<(u32, Option<u32>, bool)> {
    use RepetitionQuantifier as Q;
    let (min, max) = match *q {
        Q::ZeroOrMore => (0, None),
        Q::OneOrMore => (1, None),
        Q::AtMostOne => (0, Some(1)),
        Q::Exactly(n) => (n, Some(n)),
        Q::AtLeast(n) => (n, None),
        Q::AtMost(n) => (0, Some(n)),
        Q::Range(n, m) => (n, Some(m)),
    };
    let at = position(name.span);
    if max.is_some_and(|max| max == 0 || max < min) {
        let error = Error::user("sql.pattern", format!("the quantifier {q} of `{}` lets it take no row", name.value));
        return Err(place(error.hint("write the lesser number first, and at least 1 as the greater"), at));
    }
    if !greedy && (min, max) == (0, Some(1)) {
        let error = unsupported(&format!("the reluctant quantifier {q}? of `{}`", name.value), at);
        return Err(error.hint(format!("write {}?, or leave the variable out", name.value)));
    }
    Ok((min, max, greedy))
}
