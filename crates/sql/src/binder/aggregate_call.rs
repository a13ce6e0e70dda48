//! Calls of aggregates: their arguments with defaults and casts, DISTINCT and FILTER. Where they go, `aggregate` knows.

use flott_core::error::Position;
use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_expr::{bind_call, bind_cast};
use flott_plan::spec::AggregateFunction;
use flott_plan::{Expr, ExprKind};
use sqlparser::ast::{
    DuplicateTreatment, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList,
    NullTreatment,
};

use super::aggregate::BoundAggregate;
use super::expr::ExprBinder;
use super::function::{arguments, function_name};
use super::json::text_of;
use super::literal;
use crate::diag::{place, unsupported};

/// How an aggregate is called.
fn form(function: AggregateFunction) -> &'static str {
    use AggregateFunction as F;
    match function {
        F::Count => "COUNT(*) or COUNT(x)",
        F::ListAgg => "a string and, if wanted, a separator",
        F::Percentile => "a number, a percentage and, if wanted, a frequency",
        F::JsonObjectAgg { .. } => "KEY k VALUE v",
        _ => "one argument",
    }
}

impl ExprBinder<'_> {
    /// An aggregate with its arguments bound.
    pub(super) fn aggregate_parts(
        &mut self,
        function: AggregateFunction,
        f: &Function,
        at: Option<Position>,
    ) -> Result<BoundAggregate> {
        let name = function_name(f);
        if function == AggregateFunction::User {
            return self.user_aggregate(f, &name, at);
        }
        let takes = || place(Error::user("sql.function", format!("{name} takes {}", form(function))), at);
        let list = arguments(f).ok_or_else(takes)?;
        let function = with_clauses(function, list, &name, at)?;
        let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
        let place_before = std::mem::replace(&mut self.place, "the argument of an aggregate");
        let args = self.aggregate_arguments(function, list, distinct, at);
        self.place = "FILTER";
        let filter = f.filter.as_ref().map(|e| self.bind_condition(e)).transpose();
        self.place = place_before;
        let (mut args, filter) = (args?, filter?);
        let count = function == AggregateFunction::Count;
        if args.is_empty() && !count {
            return Err(takes());
        }
        // COUNT of what is never NULL counts rows.
        if count && !distinct && args.iter().all(|a| !a.data_type.nullable) {
            args.clear();
        }
        let most = match function {
            AggregateFunction::Percentile => 3,
            AggregateFunction::ListAgg | AggregateFunction::JsonObjectAgg { .. } => 2,
            _ => 1,
        };
        if args.len() > most {
            return Err(takes());
        }
        let mut args = fitted(function, args)?.into_iter();
        let (arg, more) = (args.next(), args.collect());
        let data_type = TypeKind::Null.nullable();
        Ok(BoundAggregate { function, user: None, arg, more, distinct, filter, data_type })
    }

    /// An aggregate of the user.
    fn user_aggregate(&mut self, f: &Function, name: &str, at: Option<Position>) -> Result<BoundAggregate> {
        let place_before = std::mem::replace(&mut self.place, "the argument of an aggregate");
        let args = self.user_arguments(f, name, at);
        self.place = "FILTER";
        let filter = f.filter.as_ref().map(|e| self.bind_condition(e)).transpose();
        self.place = place_before;
        let (user, args, data_type) = crate::functions::bind_aggregate(name, &args?, at)?;
        let mut args = args.into_iter();
        let (arg, more) = (args.next(), args.collect());
        Ok(BoundAggregate {
            function: AggregateFunction::User,
            user: Some(user),
            arg,
            more,
            distinct: is_distinct(f),
            filter: filter?,
            data_type,
        })
    }

    /// The arguments of an aggregate of the user, as they are.
    pub(super) fn user_arguments(&mut self, f: &Function, name: &str, at: Option<Position>) -> Result<Vec<Expr>> {
        let list = arguments(f);
        if list.is_some_and(|l| !l.clauses.is_empty()) {
            return Err(unsupported(&format!("this form of {name}"), at));
        }
        let bind = |arg: &FunctionArg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => self.bind(e),
            _ => Err(unsupported(&format!("this argument of {name}"), at).hint("write its arguments one by one")),
        };
        list.map_or(&[][..], |l| &l.args).iter().map(bind).collect()
    }

    fn aggregate_arguments(
        &mut self,
        function: AggregateFunction,
        list: &FunctionArgumentList,
        distinct: bool,
        at: Option<Position>,
    ) -> Result<Vec<Expr>> {
        let count = function == AggregateFunction::Count;
        let mut args = Vec::with_capacity(list.args.len());
        for arg in &list.args {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if count && !distinct && list.args.len() == 1 => {}
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => args.push(self.bind(e)?),
                FunctionArg::Named { .. } => {}
                _ => {
                    let text = format!("{} takes {}", function.name(), form(function));
                    return Err(place(Error::user("sql.function", text), at));
                }
            }
        }
        if count && args.len() > 1 {
            return Err(unsupported("COUNT of several columns", at).hint("count one column, or concatenate them"));
        }
        Ok(args)
    }
}

/// Whether the call has DISTINCT.
pub(super) fn is_distinct(f: &Function) -> bool {
    arguments(f).is_some_and(|l| l.duplicate_treatment == Some(DuplicateTreatment::Distinct))
}

/// What stands behind the arguments: `ABSENT ON NULL`, `IGNORE NULLS`.
fn with_clauses(
    function: AggregateFunction,
    list: &FunctionArgumentList,
    name: &str,
    at: Option<Position>,
) -> Result<AggregateFunction> {
    use AggregateFunction as F;
    let on_null = list.args.iter().find_map(|a| match a {
        FunctionArg::Named { name, arg: FunctionArgExpr::Expr(e), .. } if name.value == "ON_NULL" => text_of(e),
        _ => None,
    });
    let absent = on_null.map(|behaviour| behaviour == "ABSENT");
    let function = match function {
        F::JsonArrayAgg { absent_on_null } => F::JsonArrayAgg { absent_on_null: absent.unwrap_or(absent_on_null) },
        F::JsonObjectAgg { absent_on_null } => F::JsonObjectAgg { absent_on_null: absent.unwrap_or(absent_on_null) },
        other => other,
    };
    match (function, list.clauses.as_slice()) {
        (function, []) => Ok(function),
        (F::ArrayAgg { .. }, [FunctionArgumentClause::IgnoreOrRespectNulls(treatment)]) => {
            Ok(F::ArrayAgg { ignore_nulls: *treatment == NullTreatment::IgnoreNulls })
        }
        _ => Err(unsupported(&format!("this form of {name}"), at)),
    }
}

/// Arguments with defaults, cast to what the aggregate takes.
fn fitted(function: AggregateFunction, mut args: Vec<Expr>) -> Result<Vec<Expr>> {
    use AggregateFunction as F;
    for arg in &mut args {
        if arg.data_type.kind == TypeKind::Null {
            let target = if function == F::ListAgg { TypeKind::STRING } else { TypeKind::Int };
            *arg = bind_cast(arg.clone(), target.nullable(), false)?;
        }
    }
    let cast = |arg: &Expr, kind: TypeKind| {
        let nullable = arg.data_type.nullable;
        bind_cast(arg.clone(), DataType { kind, nullable }, false)
    };
    match function {
        F::ListAgg if args.len() == 1 => args.push(literal::string(",")),
        F::Percentile if args.iter().all(|a| a.data_type.kind.is_numeric() || is_array(a)) => {
            args[0] = cast(&args[0], TypeKind::Double)?;
            if let Some(p) = args.get_mut(1) {
                let double = TypeKind::Double;
                let kind = if is_array(p) { TypeKind::Array(Box::new(double.nullable())) } else { double };
                *p = cast(p, kind)?;
            }
            if let Some(frequency) = args.get_mut(2) {
                *frequency = cast(frequency, TypeKind::BigInt)?;
            }
        }
        // The aggregate joins texts: what is JSON already stays as it is.
        F::JsonArrayAgg { .. } | F::JsonObjectAgg { .. } => {
            if let Some(value) = args.last_mut()
                && !matches!(&value.kind, ExprKind::Call { function, .. }
                    if matches!(function.as_str(), "JSON_OBJECT" | "JSON_ARRAY" | "JSON"))
            {
                *value = bind_call("JSON_STRING", vec![value.clone()])?;
            }
        }
        _ => {}
    }
    Ok(args)
}

fn is_array(e: &Expr) -> bool {
    matches!(e.data_type.kind, TypeKind::Array(_))
}
