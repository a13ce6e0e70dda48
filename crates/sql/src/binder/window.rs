//! Windows: table functions TUMBLE, HOP, SESSION, and the older group functions of the same names. Builds relations, runs nothing.

use flott_core::error::Position;
use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_expr::constant_fold;
use flott_plan::spec::{WindowKind, WindowProperty};
use flott_plan::{Expr, ExprKind, Literal};
use sqlparser::ast::{Expr as SqlExpr, Function, Ident, Spanned};

use super::expr::ExprBinder;
use super::function::{argument_position, call_arguments, function_name};
use super::query::QueryBinder;
use super::scope::Scope;
use crate::diag::{At, place, position, unsupported};
use crate::parser::ast::Path;
use crate::planner::rel::{Rel, RelColumn, RelNode, TimeAttribute, Window};

/// Whether the name is one of a window function.
pub(crate) fn is_window_function(name: &str) -> bool {
    matches!(name, "TUMBLE" | "HOP" | "SESSION" | "CUMULATE")
}

/// `TUMBLE_START` → (`TUMBLE`, start).
pub(crate) fn property_function(name: &str) -> Option<(&'static str, WindowProperty)> {
    let (window, property) = name.split_once('_')?;
    let window = ["TUMBLE", "HOP", "SESSION"].into_iter().find(|w| *w == window)?;
    let property = match property {
        "START" => WindowProperty::Start,
        "END" => WindowProperty::End,
        "ROWTIME" | "PROCTIME" => WindowProperty::Time,
        _ => return None,
    };
    Some((window, property))
}

/// A window of GROUP BY TUMBLE(ts, size), HOP(ts, slide, size), SESSION(ts, gap).
#[derive(Clone, Debug)]
pub(crate) struct LegacyWindow {
    kind: WindowKind,
    time: usize,
    column: RelColumn,
    position: Option<Position>,
}

impl LegacyWindow {
    /// The window of a call named, or derived from, `name`.
    pub(crate) fn bind(scope: &Scope, name: &str, f: &Function) -> Result<Self> {
        let at = position(f.name.span());
        let args = call_arguments(f)?;
        let form = match name {
            "HOP" => "HOP(time attribute, slide, size)",
            "SESSION" => "SESSION(time attribute, gap)",
            _ => "TUMBLE(time attribute, size)",
        };
        let bad = || place(Error::user("sql.window", format!("expected {form}")), at);
        let Some(((_, time), sizes)) = args.split_first() else { return Err(bad()) };
        let mut binder = ExprBinder::new(scope, "GROUP BY");
        let bound = binder.bind(time)?;
        let ExprKind::Column(time) = bound.kind else {
            let error = Error::user("sql.window", format!("{name} takes a time attribute column first"));
            return Err(place(error, argument_position(time, f)));
        };
        let column = scope.columns[time].clone();
        check_time(&column, at)?;
        let mut ms = Vec::new();
        for (_, e) in sizes {
            ms.push(interval_ms(&mut binder, e, argument_position(e, f))?);
        }
        let kind = match (name, ms.as_slice()) {
            ("TUMBLE", [size]) => WindowKind::Tumble { size_ms: *size, offset_ms: 0 },
            ("HOP", [slide, size]) => WindowKind::Hop { size_ms: *size, slide_ms: *slide, offset_ms: 0 },
            ("SESSION", [gap]) => WindowKind::Session { gap_ms: *gap },
            _ => return Err(bad()),
        };
        // Unlike the table function, this HOP takes any size and slide.
        check_positive(kind, at)?;
        Ok(LegacyWindow { kind, time, column, position: at })
    }

    /// Whether two calls mean the same window.
    pub(crate) fn same(&self, other: &LegacyWindow) -> bool {
        self.kind == other.kind && self.time == other.time
    }

    /// The window over the relation it was bound to.
    pub(crate) fn window(&self, rel: &Rel) -> Result<Window> {
        let column = &rel.columns[self.time];
        Ok(Window {
            kind: self.kind,
            time: self.time,
            time_attribute: check_time(column, self.position)?,
            time_type: column.data_type.clone(),
            partition: Vec::new(),
            position: self.position,
        })
    }

    /// Type of a property.
    pub(crate) fn property_type(&self, property: WindowProperty) -> DataType {
        match property {
            WindowProperty::Start | WindowProperty::End => TypeKind::Timestamp(3).not_null(),
            WindowProperty::Time => self.column.data_type.clone(),
        }
    }
}

/// The column must be a time attribute.
fn check_time(column: &RelColumn, at: Option<Position>) -> Result<TimeAttribute> {
    column.time.ok_or_else(|| {
        let error = Error::user(
            "sql.time-attribute",
            format!(
                "the window needs a time attribute, but `{}` is a plain {}",
                column.name, column.data_type.kind
            ),
        )
        .hint(
            "declare WATERMARK FOR the column in CREATE TABLE, or a column AS PROCTIME(); the attribute is lost where the column is \
             computed with, aggregated or joined: pass it on as it is",
        );
        place(error, at)
    })
}

fn check_positive(kind: WindowKind, at: Option<Position>) -> Result<()> {
    let fail = |message: String| Err(place(Error::user("sql.window", message), at));
    match kind {
        WindowKind::Tumble { size_ms, .. } if size_ms <= 0 => fail("the size of TUMBLE must be positive".into()),
        WindowKind::Hop { size_ms, slide_ms, .. } if size_ms <= 0 || slide_ms <= 0 => {
            fail("the size and the slide of HOP must be positive".into())
        }
        WindowKind::Cumulate { size_ms, step_ms, .. } if size_ms <= 0 || step_ms <= 0 => {
            fail("the size and the step of CUMULATE must be positive".into())
        }
        WindowKind::Session { gap_ms } if gap_ms <= 0 => fail("the gap of SESSION must be positive".into()),
        _ => Ok(()),
    }
}

fn check_sizes(kind: WindowKind, at: Option<Position>) -> Result<()> {
    check_positive(kind, at)?;
    let message = match kind {
        WindowKind::Hop { size_ms, slide_ms, .. } if size_ms % slide_ms != 0 => format!(
            "the size of HOP must be a whole multiple of its slide, found size {size_ms} ms and slide {slide_ms} ms"
        ),
        WindowKind::Cumulate { size_ms, step_ms, .. } if size_ms % step_ms != 0 => format!(
            "the size of CUMULATE must be a whole multiple of its step, found size {size_ms} ms and step {step_ms} ms"
        ),
        _ => return Ok(()),
    };
    Err(place(Error::user("sql.window", message), at))
}

/// A constant interval in milliseconds.
fn interval_ms(binder: &mut ExprBinder<'_>, e: &SqlExpr, at: Option<Position>) -> Result<i64> {
    let bound = constant_fold(&binder.bind(e)?);
    match (&bound.kind, &bound.data_type.kind) {
        (ExprKind::Literal(Literal::Int(ms)), TypeKind::IntervalDayTime) => Ok(*ms),
        (_, kind) => {
            let error =
                Error::user("sql.window", format!("expected a constant interval of days or less, found {kind}"))
                    .hint("as in INTERVAL '10' MINUTE");
            Err(place(error, at))
        }
    }
}

/// Arguments of a table function by parameter.
struct Arguments<'a> {
    by_parameter: Vec<(&'static str, &'a SqlExpr)>,
}

impl<'a> Arguments<'a> {
    fn new(name: &str, f: &'a Function) -> Result<Self> {
        let parameters: &[&str] = match name {
            "TUMBLE" => &["DATA", "TIMECOL", "SIZE", "OFFSET"],
            "HOP" => &["DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"],
            "CUMULATE" => &["DATA", "TIMECOL", "STEP", "SIZE", "OFFSET"],
            _ => &["DATA", "TIMECOL", "GAP"],
        };
        let at = position(f.name.span());
        let signature = || format!("{name}({})", parameters.join(", "));
        let mut by_parameter: Vec<(&'static str, &SqlExpr)> = Vec::new();
        for (i, (given, e)) in call_arguments(f)?.into_iter().enumerate() {
            let parameter = match &given {
                Some(n) => parameters.iter().find(|p| *p == n),
                None => parameters.get(i),
            };
            let Some(parameter) = parameter else {
                let what = given.map_or("too many arguments".to_owned(), |n| format!("there is no parameter {n}"));
                let error = Error::user("sql.window", format!("{name}: {what}")).hint(format!("it is {}", signature()));
                return Err(place(error, argument_position(e, f)));
            };
            by_parameter.push((*parameter, e));
        }
        let out = Arguments { by_parameter };
        for required in parameters.iter().filter(|p| **p != "OFFSET") {
            if out.get(required).is_none() {
                let error = Error::user("sql.window", format!("{name} lacks {required}"))
                    .hint(format!("it is {}", signature()));
                return Err(place(error, at));
            }
        }
        Ok(out)
    }

    fn get(&self, parameter: &str) -> Option<&'a SqlExpr> {
        self.by_parameter.iter().find(|(p, _)| *p == parameter).map(|(_, e)| *e)
    }
}

impl QueryBinder<'_> {
    /// A window table function in FROM.
    pub(super) fn window_tvf(&mut self, f: &Function) -> Result<Rel> {
        let name = function_name(f);
        let at = position(f.name.span());
        if !is_window_function(&name) {
            let error = unsupported(&format!("the table function {}", f.name), at);
            return Err(error.hint("there are TUMBLE, HOP, CUMULATE and SESSION"));
        }
        let args = Arguments::new(&name, f)?;
        let data = args.get("DATA").ok_or_else(|| Error::bug("checked above"))?;
        let (input, partition) = self.window_input(data, f)?;
        let scope = Scope::of(&input, None);
        let timecol = args.get("TIMECOL").ok_or_else(|| Error::bug("checked above"))?;
        let time = descriptor(&scope, timecol, f)?;
        let time_attribute = check_time(&input.columns[time], argument_position(timecol, f))?;
        let mut binder = ExprBinder::new(&scope, "a window function");
        let mut size = |parameter: &str| match args.get(parameter) {
            Some(e) => interval_ms(&mut binder, e, argument_position(e, f)),
            None => Ok(0),
        };
        let kind = match name.as_str() {
            "TUMBLE" => WindowKind::Tumble { size_ms: size("SIZE")?, offset_ms: size("OFFSET")? },
            "HOP" => WindowKind::Hop { size_ms: size("SIZE")?, slide_ms: size("SLIDE")?, offset_ms: size("OFFSET")? },
            "CUMULATE" => {
                WindowKind::Cumulate { size_ms: size("SIZE")?, step_ms: size("STEP")?, offset_ms: size("OFFSET")? }
            }
            _ => WindowKind::Session { gap_ms: size("GAP")? },
        };
        check_sizes(kind, at)?;
        if !partition.is_empty() && !matches!(kind, WindowKind::Session { .. }) {
            let error = Error::user("sql.window", format!("PARTITION BY is for SESSION, {name} has none"));
            return Err(place(error, at));
        }
        let partition = partition.iter().map(|e| partition_column(&scope, e, f)).collect::<Result<Vec<_>>>()?;
        let time_type = input.columns[time].data_type.kind.clone().not_null();
        let window = Window { kind, time, time_attribute, time_type, partition, position: at };
        let mut columns = input.columns.clone();
        // The rows of a session leave behind the watermark that ends it.
        if matches!(kind, WindowKind::Session { .. }) {
            columns.iter_mut().for_each(|c| c.time = None);
        }
        columns.iter_mut().for_each(|c| (c.window, c.attached) = (None, None));
        for p in [WindowProperty::Start, WindowProperty::End, WindowProperty::Time] {
            columns.push(window.property_column(p));
        }
        Ok(Rel { node: RelNode::Window { input: Box::new(input), window }, columns })
    }

    /// `TABLE t [PARTITION BY …]`, or a subquery.
    fn window_input<'e>(&mut self, data: &'e SqlExpr, f: &Function) -> Result<(Rel, Vec<&'e SqlExpr>)> {
        match data {
            SqlExpr::Function(table) if function_name(table) == "TABLE" => {
                let args = call_arguments(table)?;
                let Some(((_, SqlExpr::CompoundIdentifier(parts)), rest)) = args.split_first() else {
                    return Err(Error::bug("TABLE without a name"));
                };
                let at = parts.first().and_then(|i| position(i.span));
                let path = Path::new(parts.iter().map(|i| i.value.clone()).collect(), at);
                Ok((self.table(&path)?, rest.iter().map(|(_, e)| *e).collect()))
            }
            SqlExpr::Subquery(query) => Ok((self.query(query)?, Vec::new())),
            SqlExpr::Nested(inner) => self.window_input(inner, f),
            other => {
                let error =
                    Error::user("sql.window", format!("{} takes TABLE and a name first, found `{other}`", f.name))
                        .hint(format!("write TABLE {other}"));
                Err(place(error, argument_position(other, f)))
            }
        }
    }
}

fn descriptor(scope: &Scope, e: &SqlExpr, f: &Function) -> Result<usize> {
    let at = argument_position(e, f);
    let bad = |found: String| {
        let error = Error::user("sql.window", format!("expected DESCRIPTOR(a time attribute), found {found}"));
        place(error, at)
    };
    let SqlExpr::Function(d) = e else { return Err(bad(format!("`{e}`"))) };
    if function_name(d) != "DESCRIPTOR" {
        return Err(bad(format!("`{e}`")));
    }
    let args = call_arguments(d)?;
    let [(None, column)] = args.as_slice() else { return Err(bad(format!("{} columns", args.len()))) };
    let parts: &[Ident] = match column {
        SqlExpr::Identifier(i) => std::slice::from_ref(i),
        SqlExpr::CompoundIdentifier(parts) => parts,
        other => return Err(bad(format!("`{other}`"))),
    };
    match scope.resolve(parts).at(at)?.kind {
        ExprKind::Column(i) => Ok(i),
        _ => Err(bad(format!("the field `{column}`"))),
    }
}

fn partition_column(scope: &Scope, e: &SqlExpr, f: &Function) -> Result<usize> {
    match ExprBinder::new(scope, "PARTITION BY").bind(e)? {
        Expr { kind: ExprKind::Column(i), .. } => Ok(i),
        _ => {
            let error = unsupported("PARTITION BY an expression", argument_position(e, f));
            Err(error.hint("compute it as a column of a view first"))
        }
    }
}
