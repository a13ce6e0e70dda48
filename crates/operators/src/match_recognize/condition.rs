//! DEFINE, compiled: what reads a single row is computed for all rows at once, and only what joins several rows is evaluated match by
//! match, over plain values. What that does not know goes to `flott_expr`, one row at a time.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_schema::SchemaRef;
use flott_core::error::Result;
use flott_core::types::{Column as PlanColumn, TypeKind, arrow_schema};
use flott_expr::{CompiledExpr, EvalContext};
use flott_plan::expr::{Expr, ExprKind};
use flott_plan::pattern::{MatchExpr, MatchReference};

use super::accumulate::Running;
use super::columns::{Column, Scalar};
use super::program::{AggregateId, Builder, Rows};
use crate::aggregate::form_of;
use crate::pattern::{Buffer, NONE};

/// A row of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowRef {
    pub(super) variable: Option<u16>,
    pub(super) first: bool,
    pub(super) offset: u32,
}

/// The rows a condition sees: those up to `tail`, and the current one as the last row of `variable`.
pub(super) struct Place<'a> {
    pub(super) buffer: &'a Buffer,
    pub(super) tail: u32,
    pub(super) event: u32,
    pub(super) variable: u16,
    /// Row of each event of the buffer.
    pub(super) rows_of: &'a [u32],
    pub(super) rows: &'a Rows,
    /// Running values, `aggregates` per node.
    pub(super) running: &'a [Running],
    pub(super) eval: &'a EvalContext,
}

impl Place<'_> {
    /// The row, if there is one.
    fn row(&self, r: RowRef) -> Option<usize> {
        let counts = r.variable.is_none_or(|v| v == self.variable);
        let event = match (r.first, counts) {
            (false, true) if r.offset == 0 => Some(self.event),
            (false, true) => self.buffer.last(self.tail, r.variable, r.offset - 1),
            (false, false) => self.buffer.last(self.tail, r.variable, r.offset),
            (true, _) => match self.buffer.first(self.tail, r.variable, r.offset) {
                None if counts && self.buffer.count(self.tail, r.variable) == r.offset => Some(self.event),
                event => event,
            },
        };
        event.map(|e| self.rows_of[e as usize] as usize)
    }

    /// The aggregate over the rows up to the current one.
    fn aggregate(&self, id: AggregateId) -> Result<ArrayRef> {
        let aggregate = &self.rows.program().aggregates[id];
        let width = self.rows.program().in_conditions;
        let mut running = match self.tail {
            NONE => Running::default(),
            tail => self.running[tail as usize * width + id].clone(),
        };
        if aggregate.reads(self.variable) {
            self.rows.accumulate(id, &mut running, self.rows_of[self.event as usize] as usize, self.eval)?;
        }
        aggregate.finish(&[&running])
    }
}

/// A compiled condition or a part of one.
pub(super) enum Condition {
    /// What is computed of single rows, and its value where there is no such row.
    Row(RowRef, usize),
    Aggregate(AggregateId),
    Literal(Scalar<'static>),
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
    /// IS NULL (`true`), IS NOT NULL.
    IsNull(Box<Condition>, bool),
    Compare(Comparison, Box<Condition>, Box<Condition>),
    Arithmetic(Arithmetic, Width, Box<Condition>, Box<Condition>),
    General(Box<General>),
}

/// `=` and its like: which orders make it true.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comparison {
    less: bool,
    equal: bool,
    greater: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
}

/// How whole numbers wrap.
#[derive(Clone, Copy, Debug)]
pub(super) enum Width {
    I8,
    I16,
    I32,
    I64,
    Float,
}

/// An expression over some values, for `flott_expr`.
pub(super) struct General {
    leaves: Vec<Leaf>,
    schema: SchemaRef,
    compiled: CompiledExpr,
}

enum Leaf {
    Column(RowRef, usize),
    Aggregate(AggregateId),
}

/// Compiles the condition of `variable`.
pub(super) fn compile(condition: &MatchExpr, variable: u16, builder: &mut Builder<'_>) -> Result<Condition> {
    part(&condition.expr, &condition.references, variable, builder)
}

/// The row that a reference of the condition of `variable` means, the same one always written in the same way.
fn row_ref(reference: &MatchReference, variable: u16) -> Option<(RowRef, usize)> {
    let MatchReference::Column { variable: of, first, offset, column, .. } = reference else { return None };
    let of = of.map(|v| v as u16);
    let current = !*first && *offset == 0 && of.is_none_or(|v| v == variable);
    let of = if current { Some(variable) } else { of };
    Some((RowRef { variable: of, first: *first, offset: *offset }, *column))
}

fn part(e: &Expr, references: &[MatchReference], variable: u16, builder: &mut Builder<'_>) -> Result<Condition> {
    if let Some(row) = single_row(e, references, variable, builder)? {
        return Ok(row);
    }
    let mut parts = |args: &[Expr]| -> Result<Vec<Condition>> {
        args.iter().map(|a| part(a, references, variable, builder)).collect()
    };
    match &e.kind {
        ExprKind::Column(i) => {
            if let MatchReference::Aggregate { .. } = &references[*i] {
                return Ok(Condition::Aggregate(builder.aggregate(&references[*i])?));
            }
        }
        ExprKind::Literal(_) if form_of(&e.data_type.kind.to_arrow()).is_some() => {
            return Ok(Condition::Literal(constant(e)?));
        }
        ExprKind::Call { function, args } => match (function.as_str(), args.as_slice()) {
            ("AND", args) => return Ok(Condition::And(parts(args)?)),
            ("OR", args) => return Ok(Condition::Or(parts(args)?)),
            ("NOT", [a]) => return Ok(Condition::Not(Box::new(part(a, references, variable, builder)?))),
            ("IS NULL" | "IS NOT NULL", [a]) if form_of(&a.data_type.kind.to_arrow()).is_some() => {
                let a = part(a, references, variable, builder)?;
                return Ok(Condition::IsNull(Box::new(a), function == "IS NULL"));
            }
            (f, [a, b]) => {
                if let Some(binary) = binary(f, a, b, e) {
                    let (a, b) = (part(a, references, variable, builder)?, part(b, references, variable, builder)?);
                    let (a, b) = (Box::new(a), Box::new(b));
                    return Ok(match binary {
                        Binary::Compare(c) => Condition::Compare(c, a, b),
                        Binary::Arithmetic(o, w) => Condition::Arithmetic(o, w, a, b),
                    });
                }
            }
            _ => {}
        },
        _ => {}
    }
    general(e, references, variable, builder)
}

/// What reads one row only and cannot fail becomes a column.
fn single_row(
    e: &Expr,
    references: &[MatchReference],
    variable: u16,
    builder: &mut Builder<'_>,
) -> Result<Option<Condition>> {
    let mut row: Option<RowRef> = None;
    let mut same = form_of(&e.data_type.kind.to_arrow()).is_some();
    e.visit_columns(&mut |i| match row_ref(&references[i], variable) {
        Some((r, _)) => same &= *row.get_or_insert(r) == r,
        None => same = false,
    });
    let Some(row) = row.filter(|_| same) else { return Ok(None) };
    let over_input = over_input(e, references);
    Ok(builder.row_column(&over_input)?.map(|column| Condition::Row(row, column)))
}

/// The expression over columns of the input.
fn over_input(e: &Expr, references: &[MatchReference]) -> Expr {
    e.replace_columns(&|i| match &references[i] {
        MatchReference::Column { column, data_type, .. } => Expr::column(*column, data_type.clone()),
        other => Expr::column(i, other.data_type().clone()),
    })
}

enum Binary {
    Compare(Comparison),
    Arithmetic(Arithmetic, Width),
}

fn binary(function: &str, a: &Expr, b: &Expr, result: &Expr) -> Option<Binary> {
    let arrow = a.data_type.kind.to_arrow();
    if arrow != b.data_type.kind.to_arrow() || form_of(&arrow).is_none() {
        return None;
    }
    let compare = |less, equal, greater| Some(Binary::Compare(Comparison { less, equal, greater }));
    let operator = match function {
        "=" => return compare(false, true, false),
        "<>" => return compare(true, false, true),
        "<" => return compare(true, false, false),
        "<=" => return compare(true, true, false),
        ">" => return compare(false, false, true),
        ">=" => return compare(false, true, true),
        "+" => Arithmetic::Add,
        "-" => Arithmetic::Subtract,
        "*" => Arithmetic::Multiply,
        _ => return None,
    };
    if result.data_type.kind != a.data_type.kind || result.data_type.kind != b.data_type.kind {
        return None;
    }
    let width = match result.data_type.kind {
        TypeKind::TinyInt => Width::I8,
        TypeKind::SmallInt => Width::I16,
        TypeKind::Int => Width::I32,
        TypeKind::BigInt => Width::I64,
        TypeKind::Double => Width::Float,
        _ => return None,
    };
    Some(Binary::Arithmetic(operator, width))
}

/// The value of an expression without columns.
fn constant(e: &Expr) -> Result<Scalar<'static>> {
    let compiled = CompiledExpr::compile(e, &[])?;
    let one = RecordBatch::try_new_with_options(
        arrow_schema(&[]),
        Vec::new(),
        &RecordBatchOptions::new().with_row_count(Some(1)),
    )?;
    let eval = EvalContext::new(0, chrono_tz::UTC);
    Ok(Column::of(&compiled.evaluate(&one, &eval)?)?.get(0).into_owned())
}

fn general(e: &Expr, references: &[MatchReference], variable: u16, builder: &mut Builder<'_>) -> Result<Condition> {
    let mut used: Vec<usize> = Vec::new();
    e.visit_columns(&mut |i| {
        if !used.contains(&i) {
            used.push(i);
        }
    });
    let mut leaves = Vec::with_capacity(used.len());
    let mut columns = Vec::with_capacity(used.len());
    for &i in &used {
        let reference = &references[i];
        leaves.push(match row_ref(reference, variable) {
            Some((row, column)) => Leaf::Column(row, column),
            None => Leaf::Aggregate(builder.aggregate(reference)?),
        });
        columns.push(PlanColumn::new(format!("r{i}"), reference.data_type().clone()));
    }
    let place = |i: usize| used.iter().position(|u| *u == i).unwrap_or_default();
    let renumbered = e.replace_columns(&|i| Expr::column(place(i), references[i].data_type().clone()));
    let compiled = CompiledExpr::compile(&renumbered, &columns)?;
    Ok(Condition::General(Box::new(General { leaves, schema: arrow_schema(&columns), compiled })))
}

impl Condition {
    /// The value for a row of a match.
    pub(super) fn value<'a>(&self, place: &'a Place<'_>) -> Result<Scalar<'a>> {
        Ok(match self {
            Condition::Row(r, column) => place.rows.value(*column, place.row(*r)),
            Condition::Aggregate(id) => Column::of(&place.aggregate(*id)?)?.get(0).into_owned(),
            Condition::Literal(value) => value.clone(),
            Condition::And(parts) => logic(parts, place, false)?,
            Condition::Or(parts) => logic(parts, place, true)?,
            Condition::Not(a) => Scalar::boolean(a.value(place)?.truth().map(|b| !b)),
            Condition::IsNull(a, wanted) => Scalar::boolean(Some((a.value(place)? == Scalar::Null) == *wanted)),
            Condition::Compare(c, a, b) => c.apply(&a.value(place)?, &b.value(place)?),
            Condition::Arithmetic(o, width, a, b) => o.apply(*width, &a.value(place)?, &b.value(place)?),
            Condition::General(general) => general.value(place)?,
        })
    }
}

/// AND and OR; parts behind one that decides are not looked at.
fn logic<'a>(parts: &[Condition], place: &'a Place<'_>, decisive: bool) -> Result<Scalar<'a>> {
    let mut unknown = false;
    for part in parts {
        match part.value(place)?.truth() {
            Some(b) if b == decisive => return Ok(Scalar::boolean(Some(decisive))),
            Some(_) => {}
            None => unknown = true,
        }
    }
    Ok(Scalar::boolean((!unknown).then_some(!decisive)))
}

impl Comparison {
    fn apply(self, a: &Scalar<'_>, b: &Scalar<'_>) -> Scalar<'static> {
        if *a == Scalar::Null || *b == Scalar::Null {
            return Scalar::Null;
        }
        Scalar::boolean(Some(match a.compare(b) {
            Some(Ordering::Less) => self.less,
            Some(Ordering::Equal) => self.equal,
            Some(Ordering::Greater) => self.greater,
            // NaN equals nothing.
            None => self.less && self.greater,
        }))
    }
}

impl Arithmetic {
    fn apply(self, width: Width, a: &Scalar<'_>, b: &Scalar<'_>) -> Scalar<'static> {
        match (a, b) {
            (Scalar::Int(a), Scalar::Int(b)) => {
                let value = match self {
                    Arithmetic::Add => a.wrapping_add(*b),
                    Arithmetic::Subtract => a.wrapping_sub(*b),
                    Arithmetic::Multiply => a.wrapping_mul(*b),
                };
                Scalar::Int(match width {
                    Width::I8 => i64::from(value as i8),
                    Width::I16 => i64::from(value as i16),
                    Width::I32 => i64::from(value as i32),
                    _ => value,
                })
            }
            (Scalar::Float(a), Scalar::Float(b)) => Scalar::Float(match self {
                Arithmetic::Add => a + b,
                Arithmetic::Subtract => a - b,
                Arithmetic::Multiply => a * b,
            }),
            _ => Scalar::Null,
        }
    }
}

impl General {
    fn value(&self, place: &Place<'_>) -> Result<Scalar<'static>> {
        let leaf = |(i, leaf): (usize, &Leaf)| match leaf {
            Leaf::Column(row, column) => Ok(match place.row(*row) {
                Some(at) => place.rows.batch().column(place.rows.place(*column)).slice(at, 1),
                None => new_null_array(self.schema.field(i).data_type(), 1),
            }),
            Leaf::Aggregate(id) => place.aggregate(*id),
        };
        let columns = self.leaves.iter().enumerate().map(leaf).collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let one = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        Ok(Column::of(&self.compiled.evaluate(&one, place.eval)?)?.get(0).into_owned())
    }
}
