//! sqlparser's expressions to typed ones. Types come from `flott_expr`; never evaluates.

use flott_core::error::Position;
use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_expr::{bind_call, bind_case, bind_cast};
use flott_plan::{Expr, ExprKind};
use sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, CeilFloorKind, DataType as SqlType, DateTimeField, Expr as SqlExpr, Ident,
    Spanned, Subscript, TrimWhereField, UnaryOperator,
};

use super::aggregate::Collector;
use super::literal;
use super::navigation::PatternScope;
use super::over::OverCalls;
use super::scope::{Scope, fields};
use crate::diag::{At, place, position, unsupported};
use crate::parser::dialect::FLINK_TYPE;
use crate::parser::types::parse_type_text;

/// Expressions may nest so deep.
const DEPTH_MAX: usize = 64;

/// Binds expressions over one scope.
pub(crate) struct ExprBinder<'a> {
    pub(crate) scope: &'a Scope,
    /// Where aggregates go, when they are allowed here.
    pub(crate) collector: Option<&'a mut Collector>,
    /// Where calls with OVER go, when they are allowed here.
    pub(crate) over: Option<&'a mut OverCalls>,
    /// What names mean in MATCH_RECOGNIZE.
    pub(crate) pattern: Option<&'a mut PatternScope>,
    /// What this place is, for messages: `WHERE`, `SELECT` …
    pub(crate) place: &'static str,
    depth: usize,
}

/// Where an expression stands.
pub(crate) fn span_position(e: &SqlExpr) -> Option<Position> {
    position(e.span())
}

impl<'a> ExprBinder<'a> {
    /// A binder that refuses aggregates.
    pub(crate) fn new(scope: &'a Scope, place: &'static str) -> Self {
        ExprBinder { scope, collector: None, over: None, pattern: None, place, depth: 0 }
    }

    /// A binder that collects aggregates.
    pub(crate) fn with_aggregates(scope: &'a Scope, place: &'static str, collector: &'a mut Collector) -> Self {
        ExprBinder { scope, collector: Some(collector), over: None, pattern: None, place, depth: 0 }
    }

    /// The binder, collecting calls with OVER too.
    pub(crate) fn with_over(self, over: &'a mut OverCalls) -> Self {
        ExprBinder { over: Some(over), ..self }
    }

    /// The typed expression; errors point at the smallest part that is wrong.
    pub(crate) fn bind(&mut self, e: &SqlExpr) -> Result<Expr> {
        if self.depth >= DEPTH_MAX {
            let error = Error::user("sql.too-deep", format!("the expression nests deeper than {DEPTH_MAX} levels"));
            return Err(place(error.hint("name the parts in a subquery"), span_position(e)));
        }
        self.depth += 1;
        let bound = self.bind_inner(e).at(span_position(e));
        self.depth -= 1;
        bound
    }

    /// The expression, which must be BOOLEAN.
    pub(crate) fn bind_condition(&mut self, e: &SqlExpr) -> Result<Expr> {
        let bound = self.bind(e)?;
        if matches!(bound.data_type.kind, TypeKind::Boolean | TypeKind::Null) {
            return bind_cast(bound, TypeKind::Boolean.nullable(), false).at(span_position(e));
        }
        let error = Error::user("sql.type", format!("{} takes a BOOLEAN, found {}", self.place, bound.data_type.kind));
        Err(place(error, span_position(e)))
    }

    fn bind_inner(&mut self, e: &SqlExpr) -> Result<Expr> {
        match e {
            SqlExpr::Identifier(ident) => self.identifier(std::slice::from_ref(ident)),
            SqlExpr::CompoundIdentifier(parts) => self.identifier(parts),
            SqlExpr::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain),
            SqlExpr::Nested(e) => self.bind(e),
            SqlExpr::Value(v) => literal::value(v),
            SqlExpr::TypedString(t) => literal::typed_string(t),
            SqlExpr::Interval(i) => literal::interval(i, span_position(e)),
            SqlExpr::BinaryOp { op, .. } if *op != BinaryOperator::Overlaps => self.binary(e),
            SqlExpr::UnaryOp { op, expr } => self.unary(*op, expr),
            SqlExpr::IsNull(e) => self.call("IS NULL", &[e]),
            SqlExpr::IsNotNull(e) => self.call("IS NOT NULL", &[e]),
            SqlExpr::IsTrue(e) => self.call("IS TRUE", &[e]),
            SqlExpr::IsNotTrue(e) => self.call("IS NOT TRUE", &[e]),
            SqlExpr::IsFalse(e) => self.call("IS FALSE", &[e]),
            SqlExpr::IsNotFalse(e) => self.call("IS NOT FALSE", &[e]),
            SqlExpr::IsUnknown(e) => self.call("IS UNKNOWN", &[e]),
            SqlExpr::IsNotUnknown(e) => self.call("IS NOT UNKNOWN", &[e]),
            SqlExpr::IsDistinctFrom(a, b) => self.call("IS DISTINCT FROM", &[a, b]),
            SqlExpr::IsNotDistinctFrom(a, b) => self.call("IS NOT DISTINCT FROM", &[a, b]),
            SqlExpr::InList { expr, list, negated } => self.in_list(expr, list, *negated),
            SqlExpr::Between { expr, negated, low, high } => {
                let x = self.bind(expr)?;
                let (low_bound, high_bound) = (self.bind(low)?, self.bind(high)?);
                let above = bind_call(">=", vec![x.clone(), low_bound]).at(span_position(low))?;
                let below = bind_call("<=", vec![x, high_bound]).at(span_position(high))?;
                negate_if(*negated, bind_call("AND", vec![above, below])?)
            }
            SqlExpr::Like { negated, any: false, expr, pattern, escape_char } => {
                let mut args = vec![self.bind(expr)?, self.bind(pattern)?];
                if let Some(escape) = escape_char {
                    args.push(literal::value(escape)?);
                }
                bind_call(if *negated { "NOT LIKE" } else { "LIKE" }, args)
            }
            SqlExpr::SimilarTo { negated, expr, pattern, escape_char } => {
                let mut args = vec![self.bind(expr)?, self.bind(pattern)?];
                if let Some(escape) = escape_char {
                    args.push(literal::value(escape)?);
                }
                bind_call(if *negated { "NOT SIMILAR TO" } else { "SIMILAR TO" }, args)
            }
            SqlExpr::BinaryOp { left, op: BinaryOperator::Overlaps, right } => self.overlaps(left, right),
            SqlExpr::Cast { kind, expr, data_type, .. } => self.cast(kind, expr, data_type),
            SqlExpr::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref())
            }
            SqlExpr::Function(f) => self.function(f),
            _ => self.bind_special(e),
        }
    }

    /// The forms with keywords between their arguments, and what is not supported.
    fn bind_special(&mut self, e: &SqlExpr) -> Result<Expr> {
        match e {
            SqlExpr::Extract { field, expr, .. } => {
                let x = self.bind(expr)?;
                bind_call("EXTRACT", vec![literal::string(&unit_name(field)), x])
            }
            SqlExpr::Ceil { expr, field } => self.rounded("CEIL", expr, field),
            SqlExpr::Floor { expr, field } => self.rounded("FLOOR", expr, field),
            SqlExpr::Position { expr, r#in } => self.call("POSITION", &[expr, r#in]),
            SqlExpr::Substring { expr, substring_from, substring_for, .. } => {
                let mut parts: Vec<&SqlExpr> = vec![expr];
                parts.extend(substring_from.as_deref());
                parts.extend(substring_for.as_deref());
                self.call("SUBSTRING", &parts)
            }
            SqlExpr::Trim { trim_where, trim_what, expr, trim_characters } => {
                let mut args = vec![self.bind(expr)?];
                let what = trim_what.as_deref().or(trim_characters.as_ref().and_then(|c| c.first()));
                if let Some(what) = what {
                    args.push(self.bind(what)?);
                }
                let name = match trim_where {
                    Some(TrimWhereField::Leading) => "LTRIM",
                    Some(TrimWhereField::Trailing) => "RTRIM",
                    _ => "TRIM",
                };
                bind_call(name, args)
            }
            SqlExpr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                let mut parts: Vec<&SqlExpr> = vec![expr, overlay_what, overlay_from];
                parts.extend(overlay_for.as_deref());
                self.call("OVERLAY", &parts)
            }
            SqlExpr::Exists { subquery, negated } => negate_if(*negated, self.subquery(subquery, e)?),
            SqlExpr::Subquery(query) => self.subquery(query, e),
            SqlExpr::InSubquery { .. } => {
                let error = unsupported(&format!("IN (SELECT …) in {}", self.place), span_position(e));
                Err(error.hint("it may stand in WHERE, joined by AND; or write a JOIN with SELECT DISTINCT"))
            }
            SqlExpr::Tuple(parts) => self.call("ROW", &parts.iter().collect::<Vec<_>>()),
            SqlExpr::Array(a) => self.call("ARRAY", &a.elem.iter().collect::<Vec<_>>()),
            SqlExpr::Map(_) | SqlExpr::Struct { .. } => {
                let error = unsupported("a MAP or ROW written like this", span_position(e));
                Err(error.hint("write MAP[key, value, …] or ROW(value, …)"))
            }
            SqlExpr::GroupingSets(_) | SqlExpr::Cube(_) | SqlExpr::Rollup(_) => {
                Err(unsupported("GROUPING SETS, CUBE and ROLLUP", span_position(e))
                    .hint("write one query per set and UNION ALL them"))
            }
            other => Err(unsupported(&format!("the expression `{other}`"), span_position(e))),
        }
    }

    fn identifier(&mut self, parts: &[Ident]) -> Result<Expr> {
        // Functions that are written without parentheses give way to columns of the same name.
        if let [name] = parts
            && name.quote_style.is_none()
            && !self.scope.columns.iter().any(|c| c.name == name.value)
        {
            let upper = name.value.to_uppercase();
            if matches!(
                upper.as_str(),
                "CURRENT_DATE" | "CURRENT_TIME" | "CURRENT_TIMESTAMP" | "LOCALTIME" | "LOCALTIMESTAMP"
            ) {
                return bind_call(&upper, Vec::new());
            }
        }
        if self.pattern.is_some() {
            return self.pattern_column(parts);
        }
        self.scope.resolve(parts)
    }

    /// The column that stands for a subquery.
    fn subquery(&self, query: &sqlparser::ast::Query, e: &SqlExpr) -> Result<Expr> {
        let known = self.scope.subqueries.iter().find(|(q, _)| *q == super::subquery::identity(query));
        known.map(|(_, column)| self.scope.column(*column)).ok_or_else(|| {
            unsupported(&format!("a subquery in {}", self.place), span_position(e))
                .hint("it may stand in WHERE, in the SELECT list and in HAVING; or write it as a JOIN")
        })
    }

    fn call(&mut self, name: &str, args: &[&SqlExpr]) -> Result<Expr> {
        let args = args.iter().map(|a| self.bind(a)).collect::<Result<Vec<_>>>()?;
        bind_call(name, args)
    }

    fn access(&mut self, root: &SqlExpr, chain: &[AccessExpr]) -> Result<Expr> {
        // `a.b.c` with a quoted or keyword part may come as an access chain: names first.
        let mut bound = None;
        let mut rest = chain;
        if let SqlExpr::Identifier(first) = root {
            let mut parts = vec![first.clone()];
            while let Some((AccessExpr::Dot(SqlExpr::Identifier(i)), tail)) = rest.split_first() {
                parts.push(i.clone());
                rest = tail;
            }
            bound =
                Some(if self.pattern.is_some() { self.pattern_column(&parts)? } else { self.scope.resolve(&parts)? });
        }
        let mut expr = match bound {
            Some(e) => e,
            None => self.bind(root)?,
        };
        for step in rest {
            expr = match step {
                AccessExpr::Dot(SqlExpr::Identifier(name)) => fields(expr, std::slice::from_ref(name))?,
                AccessExpr::Subscript(Subscript::Index { index }) => {
                    let index_bound = self.bind(index)?;
                    bind_call("ELEMENT_AT", vec![expr, index_bound]).at(span_position(index))?
                }
                _ => return Err(unsupported("this kind of access", span_position(root))),
            };
        }
        Ok(expr)
    }

    /// Left-deep chains are walked in a loop: they may be long.
    fn binary(&mut self, e: &SqlExpr) -> Result<Expr> {
        let mut spine = Vec::new();
        let mut leftmost = e;
        while let SqlExpr::BinaryOp { left, op, right } = leftmost {
            spine.push((op, right.as_ref(), leftmost));
            leftmost = left;
        }
        let mut bound = self.bind(leftmost)?;
        for (op, right, whole) in spine.into_iter().rev() {
            let right_bound = self.bind(right)?;
            let name =
                operator_name(op).ok_or_else(|| unsupported(&format!("the operator {op}"), span_position(whole)))?;
            bound = bind_call(name, vec![bound, right_bound]).at(span_position(whole))?;
        }
        Ok(bound)
    }

    /// `(a, b) OVERLAPS (c, d)`.
    fn overlaps(&mut self, left: &SqlExpr, right: &SqlExpr) -> Result<Expr> {
        let mut args = Vec::with_capacity(4);
        for side in [left, right] {
            let SqlExpr::Tuple(parts) = side else {
                return Err(place(
                    Error::user("sql.parse", "OVERLAPS stands between two periods")
                        .hint("write (start, end) OVERLAPS (start, end)"),
                    span_position(side),
                ));
            };
            for part in parts {
                args.push(self.bind(part)?);
            }
        }
        bind_call("OVERLAPS", args)
    }

    fn unary(&mut self, op: UnaryOperator, expr: &SqlExpr) -> Result<Expr> {
        let name = match op {
            UnaryOperator::Plus => "+",
            UnaryOperator::Minus => "-",
            UnaryOperator::Not => "NOT",
            other => return Err(unsupported(&format!("the operator {other}"), span_position(expr))),
        };
        let bound = self.bind(expr)?;
        // The most negative integers are one beyond their positive twins.
        if name == "-"
            && let ExprKind::Literal(flott_plan::Literal::Decimal(d)) = bound.kind
            && d == 1 << 63
            && matches!(bound.data_type.kind, TypeKind::Decimal(_, 0))
        {
            return Ok(Expr::literal(flott_plan::Literal::Int(i64::MIN), TypeKind::BigInt.not_null()));
        }
        bind_call(name, vec![bound])
    }

    fn in_list(&mut self, expr: &SqlExpr, list: &[SqlExpr], negated: bool) -> Result<Expr> {
        let x = self.bind(expr)?;
        let mut parts = Vec::with_capacity(list.len());
        for item in list {
            let mut item_bound = self.bind(item)?;
            // As in Flink, where `x = 0.1` compares a FLOAT as DOUBLE, and `x IN (0.1, 0.2)` as FLOAT.
            if x.data_type.kind == TypeKind::Float && matches!(item_bound.kind, ExprKind::Literal(_)) && list.len() > 1
            {
                let nullable = item_bound.data_type.nullable;
                let to = DataType { kind: TypeKind::Float, nullable };
                item_bound = bind_cast(item_bound, to, false).at(span_position(item))?;
            }
            parts.push(bind_call("=", vec![x.clone(), item_bound]).at(span_position(item))?);
        }
        // A balanced tree: long lists must not nest deep.
        while parts.len() > 1 {
            let mut next = Vec::with_capacity(parts.len().div_ceil(2));
            let mut pairs = parts.into_iter();
            while let Some(a) = pairs.next() {
                next.push(match pairs.next() {
                    Some(b) => bind_call("OR", vec![a, b])?,
                    None => a,
                });
            }
            parts = next;
        }
        match parts.pop() {
            Some(e) => negate_if(negated, e),
            None => Err(Error::user("sql.parse", "IN takes one value or more")),
        }
    }

    fn cast(&mut self, kind: &CastKind, expr: &SqlExpr, data_type: &SqlType) -> Result<Expr> {
        let target = match data_type {
            SqlType::Custom(name, text) if name.to_string() == FLINK_TYPE && text.len() == 1 => {
                parse_type_text(&text[0])?
            }
            other => {
                return Err(unsupported(&format!("a cast to {other} written like this"), span_position(expr))
                    .hint("write CAST(x AS type)"));
            }
        };
        let bound = self.bind(expr)?;
        let safe = !matches!(kind, CastKind::Cast);
        let nullable = bound.data_type.nullable;
        bind_cast(bound, DataType { kind: target.kind, nullable }, safe).at(span_position(expr))
    }

    fn case(
        &mut self,
        operand: Option<&SqlExpr>,
        conditions: &[sqlparser::ast::CaseWhen],
        otherwise: Option<&SqlExpr>,
    ) -> Result<Expr> {
        let operand = operand.map(|o| self.bind(o)).transpose()?;
        let mut branches = Vec::with_capacity(conditions.len());
        for when in conditions {
            let condition = self.bind(&when.condition)?;
            let condition = match &operand {
                Some(o) => bind_call("=", vec![o.clone(), condition]).at(span_position(&when.condition))?,
                None => condition,
            };
            branches.push((condition, self.bind(&when.result)?));
        }
        let otherwise = otherwise.map(|e| self.bind(e)).transpose()?;
        bind_case(branches, otherwise)
    }

    fn rounded(&mut self, name: &str, expr: &SqlExpr, field: &CeilFloorKind) -> Result<Expr> {
        let x = self.bind(expr)?;
        match field {
            CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) => bind_call(name, vec![x]),
            CeilFloorKind::DateTimeField(unit) => bind_call(name, vec![x, literal::string(&unit_name(unit))]),
            CeilFloorKind::Scale(_) => Err(unsupported(&format!("{name} with a scale"), span_position(expr))),
        }
    }
}

fn negate_if(negated: bool, e: Expr) -> Result<Expr> {
    if negated { bind_call("NOT", vec![e]) } else { Ok(e) }
}

/// The unit's name without plural.
pub(crate) fn unit_name(field: &DateTimeField) -> String {
    let name = field.to_string().to_uppercase();
    name.strip_suffix('S').filter(|n| *n != "DAY" || name == "DAYS").map_or(name.clone(), str::to_owned)
}

fn operator_name(op: &BinaryOperator) -> Option<&'static str> {
    use BinaryOperator as B;
    Some(match op {
        B::Plus => "+",
        B::Minus => "-",
        B::Multiply => "*",
        B::Divide => "/",
        B::Modulo => "%",
        B::StringConcat => "||",
        B::Gt => ">",
        B::Lt => "<",
        B::GtEq => ">=",
        B::LtEq => "<=",
        B::Eq => "=",
        B::NotEq => "<>",
        B::And => "AND",
        B::Or => "OR",
        _ => return None,
    })
}
