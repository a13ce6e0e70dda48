//! Evaluates a program over the rows of a batch, or over some of them: a child frame sees its parent's values through a filter, made when asked for.

use std::cell::RefCell;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, StructArray, new_empty_array};
use arrow_buffer::BooleanBuffer;
use arrow_select::filter::{FilterBuilder, FilterPredicate};
use flott_core::{Error, Result};

use super::program::{NodeId, Op, Program};
use super::{EvalContext, Value};
use crate::kernels::choose::{choose, scatter};

/// Values of one evaluation, each node at most once.
pub(crate) struct Frame<'a> {
    program: &'a Program,
    batch: &'a RecordBatch,
    ctx: &'a EvalContext,
    rows: usize,
    parent: Option<(&'a Frame<'a>, FilterPredicate)>,
    memo: RefCell<Vec<Option<Value>>>,
}

impl<'a> Frame<'a> {
    /// All rows of `batch`.
    pub fn root(program: &'a Program, batch: &'a RecordBatch, ctx: &'a EvalContext) -> Self {
        let memo = RefCell::new(vec![None; program.nodes.len()]);
        Frame { program, batch, ctx, rows: batch.num_rows(), parent: None, memo }
    }

    /// The rows of this frame where `mask` is true.
    pub fn child(&'a self, mask: &BooleanArray) -> Frame<'a> {
        let predicate = FilterBuilder::new(mask).optimize().build();
        Frame {
            program: self.program,
            batch: self.batch,
            ctx: self.ctx,
            rows: predicate.count(),
            parent: Some((self, predicate)),
            memo: RefCell::new(vec![None; self.program.nodes.len()]),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The value of node `id`.
    pub fn eval(&self, id: NodeId) -> Result<Value> {
        if let Some(known) = self.known(id)? {
            return Ok(known);
        }
        let value = self.compute(id)?;
        self.memo.borrow_mut()[id] = Some(value.clone());
        Ok(value)
    }

    /// What this frame or a parent has evaluated already. Leaves are always taken from the parent.
    fn known(&self, id: NodeId) -> Result<Option<Value>> {
        if let Some(value) = &self.memo.borrow()[id] {
            return Ok(Some(value.clone()));
        }
        let Some((parent, predicate)) = &self.parent else { return Ok(None) };
        let found = match &self.program.nodes[id].op {
            Op::Leaf { .. } => Some(parent.eval(id)?),
            _ => parent.known(id)?,
        };
        let Some(found) = found else { return Ok(None) };
        let value = match found {
            Value::Array(a) => Value::Array(predicate.filter(&a)?),
            scalar => scalar,
        };
        self.memo.borrow_mut()[id] = Some(value.clone());
        Ok(Some(value))
    }

    fn compute(&self, id: NodeId) -> Result<Value> {
        let node = &self.program.nodes[id];
        if let Op::Literal(one) = &node.op {
            return Ok(Value::Scalar(Arc::clone(one)));
        }
        if self.rows == 0 {
            return Ok(Value::Array(new_empty_array(&node.data_type)));
        }
        match &node.op {
            Op::Literal(one) => Ok(Value::Scalar(Arc::clone(one))),
            Op::Leaf { column, path } => {
                let mut array = Arc::clone(self.batch.column(*column));
                for field in path {
                    array = child(array.as_struct(), *field)?;
                }
                Ok(Value::Array(array))
            }
            Op::Field(input, i) => {
                let input = self.eval(*input)?;
                let array = child(input.array().as_struct(), *i)?;
                Ok(if input.is_scalar() { Value::Scalar(array) } else { Value::Array(array) })
            }
            Op::Call { kernel, args } => {
                let args = args.iter().map(|a| self.eval(*a)).collect::<Result<Vec<_>>>()?;
                if args.iter().all(Value::is_scalar) {
                    return Ok(Value::Scalar(kernel(&args, 1, self.ctx)?));
                }
                Ok(Value::Array(kernel(&args, self.rows, self.ctx)?))
            }
            Op::Logic { and, left, right } => self.logic(*and, *left, *right),
            Op::Case { branches, otherwise } => self.case(branches, *otherwise, &node.data_type),
            Op::Coalesce(args) => self.coalesce(args, &node.data_type),
        }
    }

    fn logic(&self, and: bool, left: NodeId, right: NodeId) -> Result<Value> {
        let a = self.eval(left)?.into_array(self.rows)?;
        let a = a.as_boolean();
        let decided = |b: &BooleanArray| if and { false_bits(b) } else { true_bits(b) };
        let done = decided(a);
        if done.count_set_bits() == self.rows {
            return Ok(Value::Array(Arc::new(a.clone())));
        }
        let b = if self.program.nodes[right].fallible { self.eval_where(right, &!&done)? } else { self.eval(right)? };
        let b = b.into_array(self.rows)?;
        let kernel = if and { arrow_arith::boolean::and_kleene } else { arrow_arith::boolean::or_kleene };
        Ok(Value::Array(Arc::new(kernel(a, b.as_boolean())?)))
    }

    /// Node `id` on the rows of `mask` alone; other rows are NULL.
    fn eval_where(&self, id: NodeId, mask: &BooleanBuffer) -> Result<Value> {
        let count = mask.count_set_bits();
        if count == self.rows {
            return self.eval(id);
        }
        let mask = BooleanArray::new(mask.clone(), None);
        let part = self.child(&mask).eval(id)?.into_array(count)?;
        Ok(Value::Array(scatter(&part, &mask)?))
    }

    fn eval_branch(&self, id: NodeId, mask: &BooleanBuffer) -> Result<Value> {
        if self.program.nodes[id].fallible { self.eval_where(id, mask) } else { self.eval(id) }
    }

    fn case(
        &self,
        branches: &[(NodeId, NodeId)],
        otherwise: NodeId,
        data_type: &arrow_schema::DataType,
    ) -> Result<Value> {
        let mut open = BooleanBuffer::new_set(self.rows);
        let mut taken = Vec::with_capacity(branches.len());
        let mut values = Vec::with_capacity(branches.len() + 1);
        for (condition, value) in branches {
            let condition = self.eval_branch(*condition, &open)?.into_array(self.rows)?;
            let take = &true_bits(condition.as_boolean()) & &open;
            open = &open & &!&take;
            values.push(self.eval_branch(*value, &take)?);
            taken.push(take);
        }
        values.push(self.eval_branch(otherwise, &open)?);
        choose(&values, &taken, self.rows, data_type)
    }

    fn coalesce(&self, args: &[NodeId], data_type: &arrow_schema::DataType) -> Result<Value> {
        let Some((last, init)) = args.split_last() else { return Err(Error::bug("COALESCE without arguments")) };
        let mut open = BooleanBuffer::new_set(self.rows);
        let (mut taken, mut values) = (Vec::new(), Vec::new());
        for arg in init {
            let value = self.eval_branch(*arg, &open)?;
            if let Value::Array(a) = &value
                && a.null_count() == 0
                && taken.is_empty()
            {
                return Ok(value);
            }
            let valid = arrow_arith::boolean::is_not_null(value.array())?;
            let valid = Value::into_array(
                if value.is_scalar() { Value::Scalar(Arc::new(valid)) } else { Value::Array(Arc::new(valid)) },
                self.rows,
            )?;
            let take = valid.as_boolean().values() & &open;
            open = &open & &!&take;
            values.push(value);
            taken.push(take);
        }
        values.push(self.eval_branch(*last, &open)?);
        choose(&values, &taken, self.rows, data_type)
    }
}

/// Rows that are true.
pub(crate) fn true_bits(a: &BooleanArray) -> BooleanBuffer {
    match a.nulls() {
        Some(nulls) if nulls.null_count() > 0 => a.values() & nulls.inner(),
        _ => a.values().clone(),
    }
}

/// Rows that are false.
fn false_bits(a: &BooleanArray) -> BooleanBuffer {
    match a.nulls() {
        Some(nulls) if nulls.null_count() > 0 => &!a.values() & nulls.inner(),
        _ => !a.values(),
    }
}

/// A field of a ROW: NULL where the ROW is.
pub(crate) fn child(row: &StructArray, field: usize) -> Result<ArrayRef> {
    let column = row.column(field);
    let Some(nulls) = row.nulls().filter(|n| n.null_count() > 0) else { return Ok(Arc::clone(column)) };
    let same =
        column.nulls().is_some_and(|c| c.inner().inner().ptr_eq(nulls.inner().inner()) && c.offset() == nulls.offset());
    if same {
        return Ok(Arc::clone(column));
    }
    let absent = BooleanArray::new(!nulls.inner(), None);
    Ok(arrow_select::nullif::nullif(column, &absent)?)
}
