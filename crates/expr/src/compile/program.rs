//! The compiled form of expressions: a graph of nodes in which equal sub-expressions are one node; built once, never changed.

use std::collections::HashMap;
use std::fmt;

use arrow_array::ArrayRef;
use arrow_schema::DataType as Arrow;
use flott_core::function::call_user;
use flott_core::types::{Column, TypeKind};
use flott_core::{Error, Result};
use flott_plan::UserFunction;
use flott_plan::expr::{Expr, ExprKind};

use super::value::literal_to_array;
use crate::kernels::{self, Kernel};

/// Index of a node; parts come before what uses them.
pub(crate) type NodeId = usize;

/// What a node computes.
pub(crate) enum Op {
    /// An input column, or a field (of a field …) of one.
    Leaf { column: usize, path: Vec<usize> },
    /// A constant, of length 1.
    Literal(ArrayRef),
    /// A field of a computed ROW.
    Field(NodeId, usize),
    /// A function or a cast over its arguments.
    Call { kernel: Kernel, args: Vec<NodeId> },
    /// Kleene AND (`true`) or OR, the right side only where the left does not decide.
    Logic { and: bool, left: NodeId, right: NodeId },
    /// The first branch whose condition is true.
    Case { branches: Vec<(NodeId, NodeId)>, otherwise: NodeId },
    /// The first argument that is not NULL.
    Coalesce(Vec<NodeId>),
}

/// One node.
pub(crate) struct Node {
    pub op: Op,
    pub data_type: Arrow,
    /// Whether its evaluation, or that of a part, may fail for some row.
    pub fallible: bool,
}

/// Expressions over the same input, compiled together.
pub(crate) struct Program {
    pub nodes: Vec<Node>,
    pub roots: Vec<NodeId>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Program {{ nodes: {}, roots: {:?} }}", self.nodes.len(), self.roots)
    }
}

impl Program {
    /// Compiles `exprs` over `columns`.
    pub fn compile(exprs: &[Expr], columns: &[Column]) -> Result<Self> {
        let mut builder = Builder { nodes: Vec::new(), known: HashMap::new(), columns };
        let roots = exprs.iter().map(|e| builder.add(e)).collect::<Result<_>>()?;
        Ok(Program { nodes: builder.nodes, roots })
    }
}

struct Builder<'a> {
    nodes: Vec<Node>,
    /// Node of an expression by its text with its type: compile time only.
    known: HashMap<String, NodeId>,
    columns: &'a [Column],
}

impl Builder<'_> {
    fn add(&mut self, expr: &Expr) -> Result<NodeId> {
        let key = format!("{expr:?}");
        if let Some(id) = self.known.get(&key) {
            return Ok(*id);
        }
        let (op, own_fallible) = self.op(expr)?;
        let fallible = own_fallible || parts(&op).iter().any(|id| self.nodes[*id].fallible);
        self.nodes.push(Node { op, data_type: expr.data_type.kind.to_arrow(), fallible });
        let id = self.nodes.len() - 1;
        self.known.insert(key, id);
        Ok(id)
    }

    /// The operation and whether it may fail by itself.
    fn op(&mut self, expr: &Expr) -> Result<(Op, bool)> {
        Ok(match &expr.kind {
            ExprKind::Column(_) | ExprKind::Field(..) => match self.leaf(expr)? {
                Some(op) => (op, false),
                None => match &expr.kind {
                    ExprKind::Field(input, i) => (Op::Field(self.add(input)?, *i), false),
                    _ => return Err(Error::bug("a column is a leaf")),
                },
            },
            ExprKind::Literal(literal) => (Op::Literal(literal_to_array(literal, &expr.data_type)?), false),
            ExprKind::Cast { input, safe } => {
                let cast = kernels::cast::kernel(&input.data_type.kind, &expr.data_type.kind, *safe)?;
                (Op::Call { kernel: cast.kernel, args: vec![self.add(input)?] }, cast.fallible)
            }
            ExprKind::Case { branches, otherwise } => {
                let mut ids = Vec::with_capacity(branches.len());
                for (condition, value) in branches {
                    ids.push((self.add(condition)?, self.add(value)?));
                }
                let otherwise = match otherwise {
                    Some(e) => self.add(e)?,
                    None => self.add(&Expr::literal(flott_plan::expr::Literal::Null, expr.data_type.clone()))?,
                };
                (Op::Case { branches: ids, otherwise }, false)
            }
            ExprKind::Call { function, args } => return self.call(function, args, expr),
            ExprKind::User { function, args } => {
                let args = args.iter().map(|a| self.add(a)).collect::<Result<Vec<_>>>()?;
                (Op::Call { kernel: user(function, expr.data_type.kind.to_arrow()), args }, true)
            }
        })
    }

    fn call(&mut self, function: &str, args: &[Expr], expr: &Expr) -> Result<(Op, bool)> {
        let mut ids = Vec::with_capacity(args.len());
        for (i, arg) in args.iter().enumerate() {
            // All functions that read one document share its parsed form.
            ids.push(match i == 0 && kernels::json::takes_document(function) {
                true => self.add(&Expr::call(kernels::json::PARSED, vec![arg.clone()], TypeKind::BYTES.nullable()))?,
                false => self.add(arg)?,
            });
        }
        Ok(match function {
            "AND" | "OR" if ids.len() >= 2 => {
                let and = function == "AND";
                let (last, init) = (ids[ids.len() - 1], &ids[..ids.len() - 1]);
                let mut left = init[0];
                for right in &init[1..] {
                    let fallible = self.nodes[left].fallible || self.nodes[*right].fallible;
                    self.nodes.push(Node {
                        op: Op::Logic { and, left, right: *right },
                        data_type: Arrow::Boolean,
                        fallible,
                    });
                    left = self.nodes.len() - 1;
                }
                (Op::Logic { and, left, right: last }, false)
            }
            "COALESCE" => (Op::Coalesce(ids), false),
            _ => {
                let compiled = kernels::compile(function, args, &expr.data_type)?;
                (Op::Call { kernel: compiled.kernel, args: ids }, compiled.fallible)
            }
        })
    }

    fn leaf(&self, expr: &Expr) -> Result<Option<Op>> {
        match &expr.kind {
            ExprKind::Column(column) => {
                let Some(found) = self.columns.get(*column) else {
                    return Err(Error::bug(format!("column ${column} of {}", self.columns.len())));
                };
                if found.data_type.kind.to_arrow() != expr.data_type.kind.to_arrow() {
                    return Err(Error::bug(format!(
                        "column ${column} \"{}\" is {}, the expression says {}",
                        found.name, found.data_type, expr.data_type
                    )));
                }
                Ok(Some(Op::Leaf { column: *column, path: Vec::new() }))
            }
            ExprKind::Field(input, i) => {
                match &input.data_type.kind {
                    TypeKind::Row(fields) if *i < fields.len() => {}
                    other => return Err(Error::bug(format!("field {i} of {other}"))),
                }
                Ok(self.leaf(input)?.map(|op| match op {
                    Op::Leaf { column, mut path } => {
                        path.push(*i);
                        Op::Leaf { column, path }
                    }
                    other => other,
                }))
            }
            _ => Ok(None),
        }
    }
}

/// The kernel of a function that a user wrote: what it gives is checked, and its panics are errors.
fn user(function: &UserFunction, expected: Arrow) -> Kernel {
    let UserFunction { name, function, position } = function.clone();
    Box::new(move |args, rows, _| {
        call_user(&name, position, || {
            let args = args.iter().map(|a| a.clone().into_array(rows)).collect::<Result<Vec<_>>>()?;
            let result = function.evaluate(&args, rows)?;
            if result.len() != rows || *result.data_type() != expected {
                let found = format!("it gave {} values of {}", result.len(), result.data_type());
                return Err(Error::user("function.result", "the result is not what the function said it would be")
                    .detail(format!("{found}, expected {rows} of {expected}")));
            }
            Ok(result)
        })
    })
}

fn parts(op: &Op) -> Vec<NodeId> {
    match op {
        Op::Leaf { .. } | Op::Literal(_) => Vec::new(),
        Op::Field(id, _) => vec![*id],
        Op::Call { args, .. } | Op::Coalesce(args) => args.clone(),
        Op::Logic { left, right, .. } => vec![*left, *right],
        Op::Case { branches, otherwise } => branches.iter().flat_map(|(c, v)| [*c, *v]).chain([*otherwise]).collect(),
    }
}
