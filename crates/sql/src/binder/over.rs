//! Functions with OVER (…): collected while the SELECT list is bound. `over_rel` turns them into relations.

use flott_core::error::Position;
use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_expr::{aggregate_type_of, bind_cast, constant_fold};
use flott_plan::spec::AggregateFunction;
use flott_plan::{Expr, ExprKind, Literal, OverFrame, SortKey, UserAggregate};
use sqlparser::ast::{
    Function, FunctionArg, FunctionArgExpr, Ident, NamedWindowDefinition, NamedWindowExpr, Spanned, WindowFrame,
    WindowFrameBound, WindowFrameUnits, WindowSpec, WindowType,
};

use super::aggregate_call::is_distinct;
use super::expr::{ExprBinder, span_position};
use super::function::{aggregate_function, arguments, function_name};
use super::query::sort_key;
use crate::diag::{At, place, position, suggestion, unsupported};

/// While binding, the result of call `k` is column `OVER_BASE + k`: beyond the columns of any relation.
pub(crate) const OVER_BASE: usize = 1 << 24;

/// The calls of a SELECT, and the windows it names.
#[derive(Default)]
pub(crate) struct OverCalls {
    pub(crate) calls: Vec<OverCall>,
    windows: Vec<NamedWindowDefinition>,
}

impl OverCalls {
    /// No calls yet.
    pub(crate) fn new(windows: &[NamedWindowDefinition]) -> Self {
        OverCalls { calls: Vec::new(), windows: windows.to_vec() }
    }
}

/// What a call computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum OverKind {
    RowNumber,
    /// RANK or DENSE_RANK.
    Rank(&'static str),
    Aggregate(AggregateFunction),
    /// An aggregate of the user.
    User,
    FirstValue,
    LastValue,
    Lag(u32),
}

/// A call, over the columns of the SELECT's input.
#[derive(Clone, Debug)]
pub(crate) struct OverCall {
    pub(crate) kind: OverKind,
    pub(crate) arg: Option<Expr>,
    /// Arguments behind the first: the separator of LISTAGG, those of an aggregate of the user.
    pub(crate) more: Vec<Expr>,
    pub(crate) user: Option<UserAggregate>,
    /// What LAG gives before the first row.
    pub(crate) default: Option<Expr>,
    pub(crate) distinct: bool,
    pub(crate) data_type: DataType,
    pub(crate) window: OverWindow,
    pub(crate) position: Option<Position>,
}

/// The window of a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OverWindow {
    pub(crate) partition: Vec<Expr>,
    pub(crate) order: Vec<(Expr, SortKey)>,
    pub(crate) frame: OverFrame,
}

impl OverCall {
    fn same(&self, other: &OverCall) -> bool {
        self.kind == other.kind
            && self.arg == other.arg
            && self.more == other.more
            && self.user == other.user
            && self.default == other.default
            && self.distinct == other.distinct
            && self.window == other.window
    }
    /// The call over other columns.
    pub(crate) fn rewritten(&self, f: &mut dyn FnMut(&Expr) -> Result<Expr>) -> Result<OverCall> {
        let window = OverWindow {
            partition: self.window.partition.iter().map(&mut *f).collect::<Result<_>>()?,
            order: self.window.order.iter().map(|(e, k)| Ok((f(e)?, *k))).collect::<Result<_>>()?,
            frame: self.window.frame,
        };
        let arg = self.arg.as_ref().map(&mut *f).transpose()?;
        let more = self.more.iter().map(&mut *f).collect::<Result<_>>()?;
        Ok(OverCall { arg, more, default: self.default.as_ref().map(&mut *f).transpose()?, window, ..self.clone() })
    }
}

/// The window of an OVER, and whether it gives a frame.
fn window_of<'w>(f: &'w Function, windows: &'w [NamedWindowDefinition]) -> Result<&'w WindowSpec> {
    let at = position(f.name.span());
    let named = |name: &Ident| {
        let found = windows.iter().find(|w| w.0.value == name.value);
        let Some(NamedWindowDefinition(_, definition)) = found else {
            let names: Vec<&str> = windows.iter().map(|w| w.0.value.as_str()).collect();
            let error = Error::user("sql.over", format!("there is no window `{}`", name.value));
            let hint = match names.is_empty() {
                true => "write the window behind OVER, or name it in a WINDOW clause behind FROM".to_owned(),
                false => suggestion(&name.value, &names, 8),
            };
            return Err(place(error.hint(hint), position(name.span)));
        };
        match definition {
            NamedWindowExpr::WindowSpec(spec) => Ok(spec),
            NamedWindowExpr::NamedWindow(other) => {
                Err(unsupported("a WINDOW that is another's name", position(other.span)).hint("repeat the window"))
            }
        }
    };
    let spec = match &f.over {
        Some(WindowType::WindowSpec(spec)) => spec,
        Some(WindowType::NamedWindow(name)) => named(name)?,
        None => {
            let text = format!("{} needs OVER (PARTITION BY … ORDER BY …)", function_name(f));
            return Err(place(Error::user("sql.function", text), at));
        }
    };
    match &spec.window_name {
        Some(name) => Err(unsupported("a window that goes on from another one's name", position(name.span))
            .hint("repeat PARTITION BY and ORDER BY")),
        None => Ok(spec),
    }
}

impl ExprBinder<'_> {
    /// A function with OVER; the column that stands for its result.
    pub(super) fn over_call(&mut self, f: &Function) -> Result<Expr> {
        let (name, at) = (function_name(f), position(f.name.span()));
        if self.over.is_none() && f.over.is_some() {
            let error = Error::user("sql.over", format!("{name} with OVER is not allowed in {}", self.place));
            return Err(place(error.hint("compute it in a subquery, and use the result outside of it"), at));
        }
        if f.filter.is_some() {
            let error = unsupported("FILTER with OVER", at);
            return Err(error.hint("aggregate CASE WHEN condition THEN x END: rows without the condition give NULL"));
        }
        if f.null_treatment.is_some() || !f.within_group.is_empty() || f.name.0.len() > 1 {
            return Err(unsupported(&format!("this form of {name}"), at));
        }
        // Calls do not nest: their parts see no place for others.
        let calls = self.over.take();
        let windows = calls.as_ref().map_or(&[][..], |c| &c.windows);
        let bound = self.over_parts(&name, f, windows, at);
        self.over = calls;
        let (call, Some(calls)) = (bound?, self.over.as_deref_mut()) else {
            return Err(Error::bug("a function with OVER where none may be"));
        };
        let data_type = call.data_type.clone();
        let k = calls.calls.iter().position(|c| c.same(&call)).unwrap_or_else(|| {
            calls.calls.push(call);
            calls.calls.len() - 1
        });
        Ok(Expr::column(OVER_BASE + k, data_type))
    }

    fn over_parts(
        &mut self,
        name: &str,
        f: &Function,
        windows: &[NamedWindowDefinition],
        at: Option<Position>,
    ) -> Result<OverCall> {
        let spec = window_of(f, windows)?;
        let number = TypeKind::BigInt.not_null();
        let (mut more, mut user) = (Vec::new(), None);
        let (kind, data_type, arg, default) = match (name, aggregate_function(name)) {
            ("ROW_NUMBER", _) => (OverKind::RowNumber, number, None, None),
            ("RANK", _) => (OverKind::Rank("RANK"), number, None, None),
            ("DENSE_RANK", _) => (OverKind::Rank("DENSE_RANK"), number, None, None),
            ("LAG", _) => self.lag(f, at)?,
            ("FIRST_VALUE" | "LAST_VALUE", _) => {
                let arg = self.one_argument(name, f, at)?;
                let kind = if name == "FIRST_VALUE" { OverKind::FirstValue } else { OverKind::LastValue };
                (kind, arg.data_type.clone(), Some(arg), None)
            }
            (_, Some(AggregateFunction::User)) => {
                let args = self.user_arguments(f, name, at)?;
                let (bound, args, data_type) = crate::functions::bind_aggregate(name, &args, at)?;
                let mut args = args.into_iter();
                let first = args.next();
                (more, user) = (args.collect(), Some(bound));
                (OverKind::User, data_type, first, None)
            }
            (_, Some(function)) => {
                let bound = self.aggregate_parts(function, f, at)?;
                let types: Vec<DataType> = bound.arg.iter().chain(&bound.more).map(|a| a.data_type.clone()).collect();
                // The frame holds the row itself: it is never empty.
                let data_type = aggregate_type_of(bound.function, &types, true).at(at)?;
                more = bound.more;
                (OverKind::Aggregate(bound.function), data_type, bound.arg, None)
            }
            _ => return Err(no_over(name, at)),
        };
        if matches!(kind, OverKind::RowNumber | OverKind::Rank(_)) && arguments(f).is_some_and(|l| !l.args.is_empty()) {
            return Err(place(Error::user("sql.function", format!("{name} takes no arguments")), at));
        }
        let distinct = is_distinct(f);
        let aggregates = matches!(kind, OverKind::Aggregate(_) | OverKind::User);
        if distinct && !aggregates {
            return Err(unsupported(&format!("{name}(DISTINCT …)"), at));
        }
        let framed = aggregates || matches!(kind, OverKind::FirstValue | OverKind::LastValue);
        let frame = match &spec.window_frame {
            Some(_) if !framed => {
                return Err(place(Error::user("sql.over", format!("{name} takes no ROWS or RANGE")), at));
            }
            Some(frame) => self.frame(frame, at)?,
            None => OverFrame { rows: kind == OverKind::RowNumber, preceding: None },
        };
        let partition = spec.partition_by.iter().map(|e| self.bind(e)).collect::<Result<Vec<_>>>()?;
        let mut order = Vec::new();
        for o in &spec.order_by {
            order.push((self.bind(&o.expr)?, sort_key(0, o)));
        }
        if order.is_empty() {
            let error = Error::user("sql.over", format!("{name} needs an ORDER BY in its OVER"));
            return Err(place(error.hint("say which rows come first"), at));
        }
        let window = OverWindow { partition, order, frame };
        let distinct = distinct && aggregates;
        Ok(OverCall { kind, arg, more, user, default, distinct, data_type, window, position: at })
    }

    fn one_argument(&mut self, name: &str, f: &Function, at: Option<Position>) -> Result<Expr> {
        match arguments(f).map_or(&[][..], |l| &l.args) {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(e))] => self.bind(e),
            _ => Err(place(Error::user("sql.function", format!("{name} takes one argument")), at)),
        }
    }

    /// `LAG(x [, offset [, default]])`
    #[allow(clippy::type_complexity, reason = "the parts of a call, used once")]
    fn lag(&mut self, f: &Function, at: Option<Position>) -> Result<(OverKind, DataType, Option<Expr>, Option<Expr>)> {
        let mut args = Vec::new();
        for arg in arguments(f).map_or(&[][..], |l| &l.args) {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) = arg else {
                return Err(unsupported("this argument of LAG", at));
            };
            args.push((self.bind(e)?, span_position(e)));
        }
        let mut args = args.into_iter();
        let Some((value, _)) = args.next().filter(|_| args.len() <= 2) else {
            return Err(place(Error::user("sql.function", "LAG takes a value, an offset and a default"), at));
        };
        let offset = match args.next() {
            None => 1,
            Some((e, e_at)) => constant(&e).and_then(|n| u32::try_from(n).ok()).ok_or_else(|| {
                let error = Error::user("sql.over", "the offset of LAG is a constant number of rows, from 0");
                place(error, e_at)
            })?,
        };
        let default = match args.next() {
            None => None,
            Some((e, e_at)) => {
                let to = DataType { kind: value.data_type.kind.clone(), nullable: e.data_type.nullable };
                Some(bind_cast(e, to, false).at(e_at)?)
            }
        };
        let nullable = default.as_ref().is_none_or(|d| d.data_type.nullable);
        let data_type = DataType { kind: value.data_type.kind.clone(), nullable };
        Ok((OverKind::Lag(offset), data_type, Some(value), default))
    }

    /// ROWS or RANGE from so far PRECEDING to CURRENT ROW.
    fn frame(&mut self, frame: &WindowFrame, at: Option<Position>) -> Result<OverFrame> {
        let rows = match frame.units {
            WindowFrameUnits::Rows => true,
            WindowFrameUnits::Range => false,
            WindowFrameUnits::Groups => return Err(unsupported("GROUPS in OVER", at).hint("use ROWS or RANGE")),
        };
        let to_row = matches!(frame.end_bound, None | Some(WindowFrameBound::CurrentRow));
        let preceding = match &frame.start_bound {
            WindowFrameBound::Preceding(bound) if to_row => bound,
            _ => {
                let error = unsupported("an OVER frame that does not go from … PRECEDING to CURRENT ROW", at);
                return Err(error.detail(format!("found a frame from {}", frame.start_bound)).hint(
                    "as in ROWS BETWEEN 2 PRECEDING AND CURRENT ROW; rows that are still to come cannot be counted",
                ));
            }
        };
        let Some(bound) = preceding else { return Ok(OverFrame { rows, preceding: None }) };
        let bound_at = span_position(bound).or(at);
        let e = constant_fold(&self.bind(bound)?);
        let is_interval = e.data_type.kind == TypeKind::IntervalDayTime;
        match constant(&e).filter(|n| *n >= 0 && is_interval != rows) {
            Some(preceding) => Ok(OverFrame { rows, preceding: Some(preceding) }),
            None => {
                let takes = match rows {
                    true => "ROWS takes a constant number of rows, from 0",
                    false => "RANGE takes an INTERVAL of days, hours, minutes or seconds",
                };
                Err(place(Error::user("sql.over", takes).detail(format!("found {bound}")), bound_at))
            }
        }
    }
}

fn constant(e: &Expr) -> Option<i64> {
    match constant_fold(e).kind {
        ExprKind::Literal(Literal::Int(n)) => Some(n),
        _ => None,
    }
}

/// Why a function does not take OVER.
fn no_over(name: &str, at: Option<Position>) -> Error {
    let functions = "there are all aggregates, FIRST_VALUE, LAST_VALUE, LAG, ROW_NUMBER, RANK and DENSE_RANK";
    match name {
        "LEAD" | "NTILE" | "PERCENT_RANK" | "CUME_DIST" | "NTH_VALUE" => {
            let error = unsupported(&format!("{name} on a stream"), at);
            error.hint(format!("it depends on rows that are still to come; {functions}"))
        }
        _ => unsupported(&format!("{name} with OVER"), at).hint(functions),
    }
}
