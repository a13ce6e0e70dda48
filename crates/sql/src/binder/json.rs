//! Calls of JSON functions with clauses: named arguments of the parser to what `flott_expr` binds. Evaluates nothing.

use flott_core::Result;
use flott_core::error::Position;
use flott_expr::{JsonClauses, bind_json};
use flott_plan::Expr;
use sqlparser::ast::{Expr as SqlExpr, Function, FunctionArg, FunctionArgExpr, Spanned, Value};

use super::expr::ExprBinder;
use super::function::arguments;
use crate::diag::{At, position, unsupported};
use crate::parser::types::parse_type_text;

/// The text of a string constant.
pub(super) fn text_of(e: &SqlExpr) -> Option<&str> {
    match e {
        SqlExpr::Value(v) => match &v.value {
            Value::SingleQuotedString(s) => Some(s),
            _ => None,
        },
        _ => None,
    }
}

impl ExprBinder<'_> {
    /// The call, if `name` is a JSON function with clauses.
    pub(super) fn json_call(&mut self, name: &str, f: &Function) -> Result<Option<Expr>> {
        let known = name.starts_with("IS JSON ") || name.starts_with("IS NOT JSON ");
        let functions = ["JSON_VALUE", "JSON_QUERY", "JSON_EXISTS", "JSON_OBJECT", "JSON_ARRAY"];
        if !known && !functions.contains(&name) {
            return Ok(None);
        }
        let at: Option<Position> = position(f.name.span());
        let (mut args, mut clauses) = (Vec::new(), JsonClauses::default());
        for arg in arguments(f).map_or(&[][..], |l| &l.args) {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => args.push(self.bind(e)?),
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(e), .. } => {
                    self.json_clause(&name.value, e, &mut clauses)?;
                }
                _ => return Err(unsupported(&format!("this argument of {name}"), at)),
            }
        }
        bind_json(name, args, clauses).map(Some).at(at)
    }

    fn json_clause(&mut self, name: &str, e: &SqlExpr, clauses: &mut JsonClauses) -> Result<()> {
        let text = text_of(e).map(str::to_owned);
        match name {
            "RETURNING" => clauses.returning = text.map(|t| parse_type_text(&t)).transpose()?.map(|t| t.kind),
            "WRAPPER" => clauses.wrapper = text,
            "ON_EMPTY" => clauses.on_empty = text,
            "ON_ERROR" => clauses.on_error = text,
            "ON_NULL" => clauses.on_null = text,
            "DEFAULT_ON_EMPTY" => clauses.default_on_empty = Some(self.bind(e)?),
            _ => clauses.default_on_error = Some(self.bind(e)?),
        }
        Ok(())
    }
}
