//! Function calls: aggregates to the collector, group-window functions to the group's window, the rest to `flott_expr`.

use flott_core::error::Position;
use flott_core::types::TypeKind;
use flott_core::{Error, Result};
use flott_expr::bind_call;
use flott_plan::spec::{AggregateFunction, BitmapFold, WindowProperty};
use flott_plan::{Expr, ExprKind};
use sqlparser::ast::{
    Expr as SqlExpr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Spanned,
};

use super::aggregate::GroupResult;
use super::expr::{ExprBinder, span_position};
use super::literal;
use super::window::{self, LegacyWindow};
use crate::diag::{At, place, position, unsupported};
use crate::planner::rel::TimeAttribute;

/// Functions that need OVER.
const RANKING: &[&str] = &["ROW_NUMBER", "RANK", "DENSE_RANK", "LEAD", "LAG", "NTILE", "CUME_DIST", "PERCENT_RANK"];

/// The function's name in upper case.
pub(crate) fn function_name(f: &Function) -> String {
    f.name.0.last().and_then(|p| p.as_ident()).map_or(String::new(), |i| i.value.to_uppercase())
}

/// The aggregate of a name.
pub(super) fn aggregate_function(name: &str) -> Option<AggregateFunction> {
    Some(match name {
        _ if crate::functions::is_aggregate(name) => AggregateFunction::User,
        "COUNT" => AggregateFunction::Count,
        "SUM" => AggregateFunction::Sum,
        "AVG" => AggregateFunction::Avg,
        "MIN" => AggregateFunction::Min,
        "MAX" => AggregateFunction::Max,
        "STDDEV_POP" => AggregateFunction::Deviation { root: true, sample: false },
        "STDDEV" | "STDDEV_SAMP" => AggregateFunction::Deviation { root: true, sample: true },
        "VAR_POP" => AggregateFunction::Deviation { root: false, sample: false },
        "VARIANCE" | "VAR_SAMP" => AggregateFunction::Deviation { root: false, sample: true },
        "FIRST_VALUE" => AggregateFunction::FirstValue,
        "LAST_VALUE" => AggregateFunction::LastValue,
        "SINGLE_VALUE" => AggregateFunction::SingleValue,
        "LISTAGG" => AggregateFunction::ListAgg,
        "ARRAY_AGG" => AggregateFunction::ArrayAgg { ignore_nulls: false },
        "COLLECT" => AggregateFunction::Collect,
        "PERCENTILE" => AggregateFunction::Percentile,
        "JSON_ARRAYAGG" => AggregateFunction::JsonArrayAgg { absent_on_null: true },
        "JSON_OBJECTAGG" => AggregateFunction::JsonObjectAgg { absent_on_null: false },
        _ => return bitmap_aggregate(name),
    })
}

/// `BITMAP_BUILD_AGG`, `BITMAP_OR_CARDINALITY_AGG` …
fn bitmap_aggregate(name: &str) -> Option<AggregateFunction> {
    let body = name.strip_prefix("BITMAP_")?.strip_suffix("_AGG")?;
    let (fold, cardinality) = match body.strip_suffix("_CARDINALITY") {
        Some(fold) => (fold, true),
        None => (body, false),
    };
    let fold = match fold {
        "BUILD" => BitmapFold::Build,
        "AND" => BitmapFold::And,
        "OR" => BitmapFold::Or,
        "XOR" => BitmapFold::Xor,
        _ => return None,
    };
    Some(AggregateFunction::Bitmap { fold, cardinality })
}

/// Whether the expression holds an aggregate or a group-window property: what makes a SELECT an aggregation.
pub(crate) fn has_aggregate(e: &SqlExpr) -> bool {
    match e {
        SqlExpr::Function(f) if f.over.is_none() && aggregate_function(&function_name(f)).is_some() => true,
        SqlExpr::Function(f) => {
            let arguments = arguments(f).is_some_and(|l| l.args.iter().filter_map(arg_expr).any(has_aggregate));
            arguments || over_parts(f).any(has_aggregate)
        }
        SqlExpr::BinaryOp { .. } => {
            let mut e = e;
            while let SqlExpr::BinaryOp { left, right, .. } = e {
                if has_aggregate(right) {
                    return true;
                }
                e = left;
            }
            has_aggregate(e)
        }
        _ => children(e).into_iter().any(has_aggregate),
    }
}

/// Direct parts of an expression.
pub(crate) fn parts(e: &SqlExpr) -> Vec<&SqlExpr> {
    match e {
        SqlExpr::Function(f) => {
            let arguments = arguments(f).into_iter().flat_map(|l| l.args.iter().filter_map(arg_expr));
            arguments.chain(over_parts(f)).collect()
        }
        SqlExpr::BinaryOp { left, right, .. } => vec![left, right],
        other => children(other),
    }
}

/// Direct parts of the forms that may stand around an aggregate.
fn children(e: &SqlExpr) -> Vec<&SqlExpr> {
    use SqlExpr as E;
    match e {
        E::Nested(a)
        | E::IsNull(a)
        | E::IsNotNull(a)
        | E::IsTrue(a)
        | E::IsNotTrue(a)
        | E::IsFalse(a)
        | E::IsNotFalse(a)
        | E::IsUnknown(a)
        | E::IsNotUnknown(a) => vec![a],
        E::UnaryOp { expr, .. }
        | E::Cast { expr, .. }
        | E::Extract { expr, .. }
        | E::Ceil { expr, .. }
        | E::Floor { expr, .. }
        | E::Trim { expr, .. } => vec![expr],
        E::IsDistinctFrom(a, b) | E::IsNotDistinctFrom(a, b) => vec![a, b],
        E::Like { expr, pattern, .. } => vec![expr, pattern],
        E::Between { expr, low, high, .. } => vec![expr, low, high],
        E::InList { expr, list, .. } => std::iter::once(expr.as_ref()).chain(list).collect(),
        E::Position { expr, r#in } => vec![expr, r#in],
        E::Substring { expr, substring_from, substring_for, .. } => {
            std::iter::once(expr.as_ref()).chain(substring_from.as_deref()).chain(substring_for.as_deref()).collect()
        }
        E::CompoundFieldAccess { root, .. } => vec![root],
        E::Tuple(parts) => parts.iter().collect(),
        E::Case { operand, conditions, else_result, .. } => operand
            .as_deref()
            .into_iter()
            .chain(conditions.iter().flat_map(|c| [&c.condition, &c.result]))
            .chain(else_result.as_deref())
            .collect(),
        _ => Vec::new(),
    }
}

pub(super) fn arguments(f: &Function) -> Option<&FunctionArgumentList> {
    match &f.args {
        FunctionArguments::List(list) => Some(list),
        _ => None,
    }
}

/// Expressions of an OVER.
fn over_parts(f: &Function) -> impl Iterator<Item = &SqlExpr> {
    let window = match &f.over {
        Some(sqlparser::ast::WindowType::WindowSpec(window)) => Some(window),
        _ => None,
    };
    window.into_iter().flat_map(|w| w.partition_by.iter().chain(w.order_by.iter().map(|o| &o.expr)))
}

fn arg_expr(arg: &FunctionArg) -> Option<&SqlExpr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e),
        FunctionArg::Named { arg: FunctionArgExpr::Expr(e), .. } => Some(e),
        _ => None,
    }
}

impl ExprBinder<'_> {
    /// A call.
    pub(super) fn function(&mut self, f: &Function) -> Result<Expr> {
        let name = function_name(f);
        let at = position(f.name.span());
        if self.pattern.is_some()
            && let Some(bound) = self.pattern_call(&name, f, at)
        {
            return bound;
        }
        if f.over.is_some() || RANKING.contains(&name.as_str()) {
            return self.over_call(f);
        }
        if f.name.0.len() > 1 || !f.within_group.is_empty() || f.null_treatment.is_some() {
            return Err(unsupported(&format!("this form of {}", f.name), at));
        }
        if let Some(function) = aggregate_function(&name) {
            return self.aggregate_call(function, f, at);
        }
        if name == "APPROX_COUNT_DISTINCT" {
            let error = unsupported("APPROX_COUNT_DISTINCT on streams", at);
            return Err(error.hint("write COUNT(DISTINCT x), which is exact"));
        }
        if f.filter.is_some() {
            let error = Error::user("sql.function", format!("FILTER is for aggregates, and {name} is none"));
            return Err(place(error, at));
        }
        if matches!(name.as_str(), "GROUPING" | "GROUPING_ID" | "GROUP_ID") {
            return self.grouping(&name, f, at);
        }
        if let Some((of, property)) = window::property_function(&name) {
            return self.window_property(&name, of, property, f, at);
        }
        if window::is_window_function(&name) {
            let error = Error::user("sql.window", format!("{name} stands in GROUP BY, or in FROM as a table function"))
                .hint(format!("as in FROM TABLE({name}(TABLE t, DESCRIPTOR(ts), INTERVAL '10' MINUTE))"));
            return Err(place(error, at));
        }
        let list = arguments(f);
        if list.is_some_and(|l| l.duplicate_treatment.is_some() || !l.clauses.is_empty()) {
            return Err(unsupported(&format!("this form of {name}"), at));
        }
        if let Some(bound) = self.json_call(&name, f)? {
            return Ok(bound);
        }
        let takes_unit = matches!(name.as_str(), "TIMESTAMPDIFF" | "TIMESTAMPADD");
        let mut args = Vec::new();
        for (i, arg) in list.map_or(&[][..], |l| &l.args).iter().enumerate() {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) = arg else {
                return Err(unsupported(&format!("this argument of {name}"), at));
            };
            args.push(match e {
                SqlExpr::Identifier(unit) if takes_unit && i == 0 => literal::string(&unit.value.to_uppercase()),
                _ => self.bind(e)?,
            });
        }
        if name == "CURRENT_WATERMARK" {
            self.check_rowtime(&args).at(at)?;
        }
        if name == "CURRENT_DATABASE" && args.is_empty() {
            return Ok(crate::functions::current_database());
        }
        if let Some(bound) = crate::functions::bind_scalar(&name, &args, at) {
            return bound.at(at);
        }
        bind_call(&name, args).at(at)
    }

    /// CURRENT_WATERMARK takes the type of its argument, which says nothing unless it is an event-time attribute.
    fn check_rowtime(&self, args: &[Expr]) -> Result<()> {
        let [Expr { kind: ExprKind::Column(i), .. }] = args else { return not_rowtime("an expression") };
        let column = &self.scope.columns[*i];
        match column.time {
            Some(TimeAttribute::Rowtime) => Ok(()),
            Some(TimeAttribute::Proctime) => not_rowtime(&format!("`{}`, a processing time", column.name)),
            None => not_rowtime(&format!("`{}`, a plain {}", column.name, column.data_type.kind)),
        }
    }

    fn aggregate_call(&mut self, function: AggregateFunction, f: &Function, at: Option<Position>) -> Result<Expr> {
        let name = function_name(f);
        let Some(collector) = self.collector.take() else {
            let error = Error::user("sql.aggregate", format!("the aggregate {name} is not allowed in {}", self.place));
            let hint = match self.place {
                "WHERE" => "use HAVING after GROUP BY",
                _ => "aggregate in a subquery first",
            };
            return Err(place(error.hint(hint), at));
        };
        // Aggregates do not nest: their arguments see no collector.
        let bound = self.aggregate_parts(function, f, at);
        let result = bound.and_then(|a| collector.aggregate(a)).at(at);
        self.collector = Some(collector);
        result
    }

    /// `GROUPING(a, b)` and its like: which of the keys the set of a row lacks.
    fn grouping(&mut self, name: &str, f: &Function, at: Option<Position>) -> Result<Expr> {
        let Some(keys) = self.collector.as_ref().filter(|c| c.grouped).map(|c| c.group.keys.clone()) else {
            let error = Error::user("sql.group-by", format!("{name} needs a GROUP BY"));
            return Err(place(error.hint("as in GROUP BY ROLLUP (a, b)"), at));
        };
        let data_type = TypeKind::BigInt.not_null();
        let args = call_arguments(f)?;
        if args.is_empty() != (name == "GROUP_ID") {
            let takes = if args.is_empty() { "takes columns of the GROUP BY" } else { "takes no argument" };
            return Err(place(Error::user("sql.function", format!("{name} {takes}")), at));
        }
        let mut of = Vec::new();
        for (_, e) in args {
            let bound = ExprBinder::new(self.scope, "GROUPING").bind(e)?;
            let Some(key) = keys.iter().position(|k| *k == bound) else {
                let error = Error::user("sql.group-by", format!("{name}: `{e}` is not in the GROUP BY"));
                return Err(place(error, argument_position(e, f)));
            };
            of.push(key);
        }
        let result = if of.is_empty() { GroupResult::GroupId } else { GroupResult::Grouping(of) };
        let collector = self.collector.as_mut().ok_or_else(|| Error::bug("checked above"))?;
        Ok(collector.add(result, data_type))
    }

    /// `TUMBLE_START(ts, size)` and its like: only beside GROUP BY with the same window.
    fn window_property(
        &mut self,
        name: &str,
        of: &str,
        property: WindowProperty,
        f: &Function,
        at: Option<Position>,
    ) -> Result<Expr> {
        let own = LegacyWindow::bind(self.scope, of, f)?;
        let fits = self.collector.as_ref().and_then(|c| c.group.legacy.as_ref()).is_some_and(|l| l.same(&own));
        let Some(collector) = self.collector.as_mut().filter(|_| fits) else {
            let error = Error::user("sql.window", format!("{name} needs a GROUP BY with the same {of}(…)"))
                .hint(format!("repeat the arguments of {name} in GROUP BY {of}(…)"));
            return Err(place(error, at));
        };
        let data_type = own.property_type(property);
        Ok(collector.add(GroupResult::Property(property), data_type))
    }
}

fn not_rowtime(found: &str) -> Result<()> {
    let message = format!("CURRENT_WATERMARK takes an event-time attribute, found {found}");
    Err(Error::user("sql.time-attribute", message)
        .hint("give it the column that has WATERMARK FOR in CREATE TABLE, passed on as it is"))
}

/// The expression arguments of a call, with their names.
pub(crate) fn call_arguments(f: &Function) -> Result<Vec<(Option<String>, &SqlExpr)>> {
    let at = position(f.name.span());
    let list = arguments(f).map_or(&[][..], |l| &l.args);
    list.iter()
        .map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Ok((None, e)),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(e), .. } => Ok((Some(name.value.to_uppercase()), e)),
            _ => Err(place(Error::user("sql.window", format!("{} does not take this argument", f.name)), at)),
        })
        .collect()
}

/// The place of a call's argument, or of the call.
pub(crate) fn argument_position(e: &SqlExpr, f: &Function) -> Option<Position> {
    span_position(e).or_else(|| position(f.name.span()))
}
