//! Expressions of DEFINE and MEASURES: names of pattern variables, FIRST and LAST, aggregates over rows of a match. Each value taken from
//! the match becomes a reference; what remains is an ordinary expression over references.

use flott_core::error::Position;
use flott_core::types::DataType;
use flott_core::{Error, Result};
use flott_expr::{aggregate_type, bind_call};
use flott_plan::pattern::{MatchExpr, MatchReference};
use flott_plan::spec::AggregateFunction;
use flott_plan::{Expr, ExprKind, PatternVariable};
use sqlparser::ast::{
    DuplicateTreatment, Expr as SqlExpr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Value,
};

use super::expr::{ExprBinder, span_position};
use super::function::{aggregate_function, function_name};
use super::scope::Scope;
use crate::diag::{At, place, position, suggestion, unsupported};
use crate::planner::rel::TimeAttribute;

/// What names mean within one expression of MATCH_RECOGNIZE.
pub(crate) struct PatternScope {
    variables: Vec<PatternVariable>,
    /// The variable that is being defined; `None` in MEASURES.
    current: Option<usize>,
    /// The column that rows are ordered by, and its kind.
    time: (usize, TimeAttribute, DataType),
    references: Vec<MatchReference>,
    /// FIRST or LAST around the name, with its offset.
    offset: Option<(bool, u32)>,
    /// The one variable (or none) that the argument of FIRST, LAST or an aggregate names.
    single: Option<Single>,
    in_aggregate: bool,
}

/// Which variable an argument names, once it names any.
struct Single {
    function: String,
    variable: Option<Option<usize>>,
}

impl PatternScope {
    /// The scope of DEFINE of variable `current`, or of MEASURES.
    pub(super) fn new(
        variables: &[PatternVariable],
        current: Option<usize>,
        time: (usize, TimeAttribute, DataType),
    ) -> Self {
        let variables = variables.to_vec();
        PatternScope {
            variables,
            current,
            time,
            references: Vec::new(),
            offset: None,
            single: None,
            in_aggregate: false,
        }
    }

    /// The expression over what it refers to.
    pub(super) fn finish(self, expr: Expr) -> MatchExpr {
        MatchExpr { expr, references: self.references }
    }

    fn reference(&mut self, reference: MatchReference) -> Expr {
        let data_type = reference.data_type().clone();
        let k = self.references.iter().position(|r| *r == reference).unwrap_or_else(|| {
            self.references.push(reference);
            self.references.len() - 1
        });
        Expr::column(k, data_type)
    }

    /// Whether there may be no such row.
    fn may_be_absent(&self, variable: Option<usize>, first: bool, offset: u32) -> bool {
        match self.current {
            Some(current) => match variable {
                Some(v) if v != current => v > current || offset >= self.variables[v].min,
                _ if first || offset > 0 => {
                    let before = self.variables[..current].iter().map(|v| v.min).sum::<u32>();
                    offset > if variable.is_some() { 0 } else { before }
                }
                _ => false,
            },
            None => {
                let rows = |v: Option<usize>| match v {
                    Some(v) => self.variables[v].min,
                    None => self.variables.iter().fold(0u32, |n, v| n.saturating_add(v.min)),
                };
                offset >= rows(variable)
            }
        }
    }

    /// The rows of `variable` are named; FIRST, LAST and aggregates take those of one variable.
    fn name(&mut self, variable: Option<usize>) -> Result<()> {
        if let Some(single) = &mut self.single
            && *single.variable.get_or_insert(variable) != variable
        {
            let error =
                Error::user("sql.pattern", format!("{} names rows of several pattern variables", single.function));
            return Err(error.hint("name one variable in each FIRST, LAST or aggregate, and combine the results"));
        }
        Ok(())
    }
}

impl ExprBinder<'_> {
    /// `A.price`, `price`: a column of rows of the match.
    pub(super) fn pattern_column(&mut self, parts: &[Ident]) -> Result<Expr> {
        let scope = self.scope;
        let Some(pattern) = self.pattern.as_deref_mut() else { return Err(Error::bug("names outside of a pattern")) };
        let variable = match parts {
            [first, _, ..] => pattern.variables.iter().position(|v| v.name == first.value),
            _ => None,
        };
        let names = if variable.is_some() { &parts[1..] } else { parts };
        if let ([first, _, ..], None) = (parts, variable)
            && !scope.columns.iter().any(|c| c.name == first.value)
        {
            let known: Vec<&str> = pattern.variables.iter().map(|v| v.name.as_str()).collect();
            let error = Error::user("sql.pattern", format!("there is no pattern variable `{}`", first.value));
            return Err(place(error.hint(suggestion(&first.value, &known, 12)), position(first.span)));
        }
        let resolved = resolve(scope, names)?;
        pattern.name(variable)?;
        if pattern.in_aggregate {
            return Ok(resolved);
        }
        let (first, offset) = pattern.offset.unwrap_or((false, 0));
        let absent = pattern.may_be_absent(variable, first, offset);
        let mut column = None;
        resolved.visit_columns(&mut |i| column = Some(i));
        let Some(column) = column else { return Ok(resolved) };
        let mut data_type = scope.columns[column].data_type.clone();
        data_type.nullable |= absent;
        let reference = pattern.reference(MatchReference::Column { variable, first, offset, column, data_type });
        let nullable = resolved.data_type.nullable || absent;
        let mut bound = resolved.replace_columns(&|_| reference.clone());
        bound.data_type.nullable = nullable;
        Ok(bound)
    }

    /// A call that means something else in MATCH_RECOGNIZE, or nothing.
    pub(super) fn pattern_call(&mut self, name: &str, f: &Function, at: Option<Position>) -> Option<Result<Expr>> {
        let measures = self.pattern.as_ref().is_some_and(|p| p.current.is_none());
        let bound = match name {
            "FIRST" | "LAST" => self.navigate(name, f, at),
            "PREV" | "NEXT" => self.physical(name, f, measures),
            "FINAL" if measures => self.inner(f),
            "FINAL" | "RUNNING" => {
                let hint = if measures { "a match gives one row, so leave it out" } else { "leave it out" };
                Err(unsupported(&format!("{name} here"), at).hint(hint))
            }
            "CLASSIFIER" | "MATCH_NUMBER" => {
                let hint = "tell variables apart by a measure of each, as in COUNT(A.id) AS rows_of_a";
                Err(unsupported(&format!("{name}() in MATCH_RECOGNIZE"), at).hint(hint))
            }
            "MATCH_PROCTIME" => bind_call("PROCTIME", Vec::new()),
            "MATCH_ROWTIME" => self.match_rowtime(f),
            _ => match aggregate_function(name) {
                Some(AggregateFunction::User) => {
                    let error = unsupported(&format!("{name}, an aggregate of the user, in MATCH_RECOGNIZE"), at);
                    Err(error.hint("aggregate the matches in a query around"))
                }
                Some(function) => self.pattern_aggregate(function, name, f, at),
                None => return None,
            },
        };
        Some(bound.at(at))
    }

    fn scope_mut(&mut self) -> Result<&mut PatternScope> {
        self.pattern.as_deref_mut().ok_or_else(|| Error::bug("a pattern's function outside of a pattern"))
    }

    /// FIRST(x [, n]), LAST(x [, n]).
    fn navigate(&mut self, name: &str, f: &Function, at: Option<Position>) -> Result<Expr> {
        let (argument, offset) = one_and_offset(name, f, 0)?;
        let first = name == "FIRST";
        let pattern = self.scope_mut()?;
        if pattern.offset.is_some() || pattern.in_aggregate {
            let inside = if pattern.in_aggregate { "an aggregate" } else { "FIRST or LAST" };
            let error = Error::user("sql.pattern", format!("{name} is not allowed inside {inside}"));
            return Err(place(error.hint("navigate from rows of a variable directly, as in LAST(A.price, 2)"), at));
        }
        pattern.offset = Some((first, offset));
        pattern.single = Some(Single { function: name.to_owned(), variable: None });
        let bound = self.bind(argument);
        let pattern = self.scope_mut()?;
        let single = pattern.single.take();
        pattern.offset = None;
        if single.is_some_and(|s| s.variable.is_none()) && bound.is_ok() {
            let error = Error::user("sql.pattern", format!("{name} takes a column of the match"));
            return Err(place(error.hint("as in LAST(A.price)"), at));
        }
        bound
    }

    /// PREV and NEXT: with an offset of 0 the row itself.
    fn physical(&mut self, name: &str, f: &Function, measures: bool) -> Result<Expr> {
        let at = position(
            f.name.0.first().and_then(|p| p.as_ident()).map_or(sqlparser::tokenizer::Span::empty(), |i| i.span),
        );
        let (argument, offset) = one_and_offset(name, f, 1)?;
        if measures || offset != 0 {
            let hint = "count among the rows of a variable: LAST(A.price, 1) is the row of A before the last";
            return Err(unsupported(&format!("{name}, a row by its distance in the input,"), at).hint(hint));
        }
        self.bind(argument)
    }

    fn inner(&mut self, f: &Function) -> Result<Expr> {
        match call_arguments(f) {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(e))] => self.bind(e),
            _ => Err(Error::user("sql.pattern", "FINAL stands in front of FIRST, LAST or an aggregate")),
        }
    }

    /// MATCH_ROWTIME([column]).
    fn match_rowtime(&mut self, f: &Function) -> Result<Expr> {
        let scope = self.scope;
        let pattern = self.scope_mut()?;
        let (column, attribute, mut data_type) = pattern.time.clone();
        if attribute != TimeAttribute::Rowtime {
            let error = Error::user("sql.pattern", "MATCH_ROWTIME() needs an ORDER BY event time");
            return Err(error.hint("use MATCH_PROCTIME(), or order by the column of the table's WATERMARK"));
        }
        match call_arguments(f) {
            [] => data_type.nullable = false,
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(e))] => {
                let named = match e {
                    SqlExpr::Identifier(i) => Some(i),
                    SqlExpr::CompoundIdentifier(parts) => parts.last(),
                    _ => None,
                };
                if named.is_none_or(|n| n.value != scope.columns[column].name) {
                    let error = Error::user("sql.pattern", format!("MATCH_ROWTIME takes the event time, found `{e}`"));
                    return Err(place(error.hint("write MATCH_ROWTIME()"), span_position(e)));
                }
            }
            _ => return Err(Error::user("sql.pattern", "MATCH_ROWTIME takes the event time, or nothing")),
        }
        Ok(match pattern.current {
            // The row that is looked at.
            Some(_) => {
                let (variable, first, offset) = (None, false, 0);
                pattern.reference(MatchReference::Column { variable, first, offset, column, data_type })
            }
            None => pattern.reference(MatchReference::Rowtime { data_type }),
        })
    }

    fn pattern_aggregate(
        &mut self,
        function: AggregateFunction,
        name: &str,
        f: &Function,
        at: Option<Position>,
    ) -> Result<Expr> {
        let list = match &f.args {
            FunctionArguments::List(list) => list,
            _ => return Err(Error::user("sql.function", format!("{name} takes one argument"))),
        };
        if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) {
            let error = unsupported(&format!("{name}(DISTINCT …) in MATCH_RECOGNIZE"), at);
            return Err(error.hint("aggregate all rows, or aggregate the matches in an outer query"));
        }
        if f.filter.is_some() || f.over.is_some() || !list.clauses.is_empty() {
            return Err(unsupported(&format!("this form of {name} in MATCH_RECOGNIZE"), at)
                .hint("write a CASE as the argument instead of FILTER"));
        }
        let pattern = self.scope_mut()?;
        if pattern.in_aggregate || pattern.offset.is_some() {
            let error = Error::user(
                "sql.pattern",
                format!("the aggregate {name} is not allowed inside of another function of the match"),
            );
            return Err(place(error.hint("compute the parts one by one"), at));
        }
        pattern.in_aggregate = true;
        pattern.single = Some(Single { function: name.to_owned(), variable: None });
        let argument = match list.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] if function == AggregateFunction::Count => Ok(None),
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(e))] => self.bind(e).map(Some),
            _ => Err(Error::user("sql.function", format!("{name} takes one argument"))),
        };
        let pattern = self.scope_mut()?;
        pattern.in_aggregate = false;
        let named = pattern.single.take().and_then(|s| s.variable);
        let argument = argument?;
        if argument.is_some() && named.is_none() {
            let error =
                Error::user("sql.pattern", format!("{name} takes a column of the match, or an expression with one"));
            return Err(place(error.hint(format!("as in {name}(A.price)")), at));
        }
        let null = flott_core::types::TypeKind::Null.nullable();
        let data_type = aggregate_type(function, argument.as_ref().map_or(&null, |a| &a.data_type), false)?;
        let variable = named.flatten();
        Ok(self.scope_mut()?.reference(MatchReference::Aggregate { variable, function, argument, data_type }))
    }
}

/// A column of the input, with its fields; the names have no qualifier.
fn resolve(scope: &Scope, names: &[Ident]) -> Result<Expr> {
    let bare = Scope::columns(scope.columns.clone(), None);
    bare.resolve(names)
}

fn call_arguments(f: &Function) -> &[FunctionArg] {
    match &f.args {
        FunctionArguments::List(list) => &list.args,
        _ => &[],
    }
}

/// The argument and the offset of a navigation.
fn one_and_offset<'e>(name: &str, f: &'e Function, default: u32) -> Result<(&'e SqlExpr, u32)> {
    let exprs: Vec<&SqlExpr> = call_arguments(f)
        .iter()
        .filter_map(|a| match a {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e),
            _ => None,
        })
        .collect();
    match exprs.as_slice() {
        [e] => Ok((e, default)),
        [e, offset] => {
            let number = match offset {
                SqlExpr::Value(v) => match &v.value {
                    Value::Number(n, _) => n.to_string().parse().ok(),
                    _ => None,
                },
                _ => None,
            };
            number.map(|n| (*e, n)).ok_or_else(|| {
                let error =
                    Error::user("sql.pattern", format!("the offset of {name} is a whole number, found `{offset}`"));
                place(error.hint(format!("as in {name}(A.price, 1)")), span_position(offset))
            })
        }
        _ => Err(Error::user("sql.pattern", format!("{name}, in {}, takes a column and an offset", function_name(f)))),
    }
}

/// Whether an expression is a plain column.
pub(super) fn column_of(e: &Expr) -> Option<usize> {
    match e.kind {
        ExprKind::Column(i) => Some(i),
        _ => None,
    }
}
