//! UNNEST and LATERAL TABLE(f(…)): table functions over the columns of what stands before them. Calls none.

use std::sync::Arc;

use flott_core::error::Position;
use flott_core::table_function::BoundTableFunction;
use flott_core::types::Column;
use flott_core::{Error, Result};
use flott_expr::unnest;
use flott_plan::{Expr, JoinKind, Literal};
use sqlparser::ast::{
    Expr as SqlExpr, Function, FunctionArg, FunctionArgExpr, Join, JoinConstraint, JoinOperator, Spanned, TableAlias,
    TableFactor,
};

use super::expr::ExprBinder;
use super::function::{call_arguments, function_name};
use super::query::QueryBinder;
use super::scope::Scope;
use super::window::is_window_function;
use crate::diag::{At, place, position, unsupported};
use crate::functions;
use crate::planner::rel::{Rel, RelColumn, RelNode, TableCall};

/// A call of a table function in FROM.
pub(super) struct TableCallSyntax<'a> {
    /// In upper case.
    name: String,
    args: Vec<&'a SqlExpr>,
    with_ordinality: bool,
    alias: Option<&'a TableAlias>,
    position: Option<Position>,
}

fn plain(arg: &FunctionArg) -> Option<&SqlExpr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e),
        _ => None,
    }
}

fn of_function<'a>(f: &'a Function, alias: Option<&'a TableAlias>) -> Option<TableCallSyntax<'a>> {
    let args = call_arguments(f).ok()?.into_iter().map(|(_, e)| e).collect();
    let (name, position) = (function_name(f), position(f.name.span()));
    Some(TableCallSyntax { name, args, with_ordinality: false, alias, position })
}

/// The call, if the table is one: `UNNEST(a)`, `LATERAL TABLE(f(x))`, `TABLE(f(x))` where `f` is no window function.
pub(super) fn table_call(factor: &TableFactor) -> Option<TableCallSyntax<'_>> {
    match factor {
        TableFactor::Table { name, args: Some(args), with_ordinality, alias, .. } => {
            let last = name.0.last()?.as_ident()?.value.to_uppercase();
            (last == "UNNEST").then_some(())?;
            let args = args.args.iter().map(plain).collect::<Option<_>>()?;
            let (alias, with_ordinality, position) = (alias.as_ref(), *with_ordinality, position(name.span()));
            Some(TableCallSyntax { name: last, args, with_ordinality, alias, position })
        }
        TableFactor::Function { lateral: true, name, args, alias, .. } => {
            (name.to_string().eq_ignore_ascii_case("TABLE")).then_some(())?;
            match args.as_slice() {
                [arg] => match plain(arg)? {
                    SqlExpr::Function(f) => of_function(f, alias.as_ref()),
                    _ => None,
                },
                _ => None,
            }
        }
        TableFactor::TableFunction { expr: SqlExpr::Function(f), alias } if !is_window_function(&function_name(f)) => {
            of_function(f, alias.as_ref())
        }
        _ => None,
    }
}

impl QueryBinder<'_> {
    /// The rows of a table function for each row of `left`; of one empty row when nothing stands before it.
    pub(super) fn correlate(
        &mut self,
        left: Option<(Rel, Scope)>,
        call: &TableCallSyntax<'_>,
        kind: JoinKind,
    ) -> Result<(Rel, Scope)> {
        let (input, scope) = left.unwrap_or_else(|| {
            let one = Expr::literal(Literal::Boolean(true), flott_core::types::TypeKind::Boolean.not_null());
            let columns = vec![RelColumn::new("$one", one.data_type.clone())];
            (Rel { node: RelNode::Values { rows: vec![vec![one]] }, columns }, Scope::default())
        });
        let mut binder = ExprBinder::new(&scope, "the arguments of a table function");
        let mut args = call.args.iter().map(|a| binder.bind(a)).collect::<Result<Vec<_>>>()?;
        let (columns, function) = table_function(call, &mut args).at(call.position)?;
        let mut right: Vec<RelColumn> = columns.iter().map(|c| RelColumn::new(&c.name, c.data_type.clone())).collect();
        let names = call.alias.map_or(&[][..], |a| &a.columns);
        if !names.is_empty() && names.len() != right.len() {
            let text = format!("{} column names are given for the {} of {}", names.len(), right.len(), call.name);
            return Err(place(Error::user("sql.columns", text), call.position));
        }
        for (i, column) in right.iter_mut().enumerate() {
            column.data_type.nullable |= kind == JoinKind::Left;
            if let Some(name) = names.get(i) {
                column.name.clone_from(&name.name.value);
            }
        }
        let width = scope.len();
        let scope = scope.join(Scope::columns(right, call.alias.map(|a| a.name.value.as_str())));
        let (left, right) = ((0..width).collect(), (0..columns.len()).collect());
        let call = TableCall { name: call.name.clone(), args, function };
        let node = RelNode::Correlate { input: Box::new(input), call, left, right, kind };
        Ok((Rel { node, columns: scope.columns.clone() }, scope))
    }

    /// `CROSS JOIN`, `JOIN … ON` and `LEFT JOIN … ON TRUE` with a table function.
    pub(super) fn correlate_join(
        &mut self,
        left: (Rel, Scope),
        join: &Join,
        call: &TableCallSyntax<'_>,
    ) -> Result<(Rel, Scope)> {
        use JoinOperator as J;
        let (kind, constraint) = match &join.join_operator {
            J::Join(c) | J::Inner(c) | J::CrossJoin(c) => (JoinKind::Inner, c),
            J::Left(c) | J::LeftOuter(c) => (JoinKind::Left, c),
            _ => {
                let error = unsupported("this kind of join with a table function", call.position);
                return Err(error.hint("there are CROSS JOIN, INNER JOIN and LEFT JOIN … ON TRUE"));
            }
        };
        let (rel, scope) = self.correlate(Some(left), call, kind)?;
        let condition = match constraint {
            JoinConstraint::On(e) => ExprBinder::new(&scope, "ON").bind_condition(e)?,
            JoinConstraint::None => return Ok((rel, scope)),
            _ => return Err(unsupported("USING with a table function", call.position).hint("write ON TRUE")),
        };
        match (kind, &condition.kind) {
            (_, flott_plan::ExprKind::Literal(Literal::Boolean(true))) => Ok((rel, scope)),
            (JoinKind::Left, _) => {
                let error = unsupported("LEFT JOIN with a table function ON a condition", call.position);
                Err(error.hint("write ON TRUE, and the condition in WHERE or in the arguments"))
            }
            _ => Ok((rel.filter(condition), scope)),
        }
    }
}

/// The columns of a table function and the function itself; arguments are cast to what it takes.
fn table_function(
    call: &TableCallSyntax<'_>,
    args: &mut Vec<Expr>,
) -> Result<(Vec<Column>, Arc<dyn BoundTableFunction>)> {
    if call.name == "UNNEST" {
        return match args.as_slice() {
            [collection] => unnest(&collection.data_type, call.with_ordinality),
            _ => Err(Error::user("sql.function", "UNNEST takes one collection")),
        };
    }
    functions::bind_table(&call.name, args, call.position).unwrap_or_else(|| {
        Err(Error::user("sql.function", format!("there is no table function {}", call.name))
            .hint("there are UNNEST, those registered by the program, and the window functions TUMBLE, HOP, CUMULATE and SESSION"))
    })
}
