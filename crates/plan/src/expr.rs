//! Typed expressions with Flink's types and function names. Built by `sql`, compiled by `expr`.

use std::fmt;

use flott_core::types::{DataType, TypeKind};
use serde::{Deserialize, Serialize};

use crate::user::UserFunction;

/// An expression over the columns of one row, with its type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expr {
    /// What it computes.
    pub kind: ExprKind,
    /// Type of the result.
    pub data_type: DataType,
}

/// What an expression computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ExprKind {
    /// Input column by index.
    Column(usize),
    /// A constant of the expression's type.
    Literal(Literal),
    /// Field of a ROW by index.
    Field(Box<Expr>, usize),
    /// A function by canonical upper-case name: `+ - * / % = <> < <= > >= AND OR NOT`, `IS NULL`, `IS TRUE` …, `LIKE`,
    /// `UPPER`, `SPLIT_INDEX` … Arguments have the types the function takes: casts are explicit.
    Call {
        /// Canonical name.
        function: String,
        /// Arguments.
        args: Vec<Expr>,
    },
    /// A function that a user wrote. Arguments have the types it takes.
    User {
        /// The function.
        function: UserFunction,
        /// Arguments.
        args: Vec<Expr>,
    },
    /// CAST to the expression's type; `safe`: TRY_CAST.
    Cast {
        /// What is cast.
        input: Box<Expr>,
        /// NULL instead of an error.
        safe: bool,
    },
    /// CASE: the first branch whose condition is true.
    Case {
        /// (condition, value)
        branches: Vec<(Expr, Expr)>,
        /// ELSE; NULL when absent.
        otherwise: Option<Box<Expr>>,
    },
}

/// A constant. Its SQL type is that of the expression around it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Literal {
    /// NULL of any type.
    Null,
    /// BOOLEAN.
    Boolean(bool),
    /// TINYINT … BIGINT, DATE (days), TIME (ms), TIMESTAMP and TIMESTAMP_LTZ (in the unit of its Arrow type), intervals (ms, months).
    Int(i64),
    /// FLOAT, DOUBLE.
    Double(f64),
    /// DECIMAL: unscaled value.
    Decimal(i128),
    /// CHAR, VARCHAR.
    String(String),
    /// BINARY, VARBINARY.
    Bytes(Vec<u8>),
}

impl Expr {
    /// Column `index`.
    pub fn column(index: usize, data_type: DataType) -> Self {
        Expr { kind: ExprKind::Column(index), data_type }
    }
    /// A constant.
    pub fn literal(value: Literal, data_type: DataType) -> Self {
        Expr { kind: ExprKind::Literal(value), data_type }
    }
    /// TRUE or FALSE.
    pub fn boolean(value: bool) -> Self {
        Self::literal(Literal::Boolean(value), TypeKind::Boolean.not_null())
    }
    /// A function call with arguments already of the right types.
    pub fn call(function: &str, args: Vec<Expr>, data_type: DataType) -> Self {
        Expr { kind: ExprKind::Call { function: function.to_owned(), args }, data_type }
    }
    /// CAST.
    pub fn cast(self, data_type: DataType) -> Self {
        Expr { kind: ExprKind::Cast { input: Box::new(self), safe: false }, data_type }
    }
    /// Direct parts.
    pub fn children(&self) -> Vec<&Expr> {
        match &self.kind {
            ExprKind::Column(_) | ExprKind::Literal(_) => Vec::new(),
            ExprKind::Field(e, _) => vec![e],
            ExprKind::Cast { input, .. } => vec![input],
            ExprKind::Call { args, .. } | ExprKind::User { args, .. } => args.iter().collect(),
            ExprKind::Case { branches, otherwise } => {
                branches.iter().flat_map(|(c, v)| [c, v]).chain(otherwise.as_deref()).collect()
            }
        }
    }
    /// Calls `f` on every column index.
    pub fn visit_columns(&self, f: &mut impl FnMut(usize)) {
        if let ExprKind::Column(i) = &self.kind {
            f(*i);
        }
        for c in self.children() {
            c.visit_columns(f);
        }
    }
    /// The same expression with every column replaced: projections merged.
    pub fn replace_columns(&self, f: &impl Fn(usize) -> Expr) -> Expr {
        self.map_columns(&|i, _| f(i))
    }
    /// The same expression over columns at other places.
    pub fn renumber(&self, to: &dyn Fn(usize) -> usize) -> Expr {
        self.map_columns(&|i, data_type| Expr::column(to(i), data_type.clone()))
    }
    /// The same expression with every column replaced by what `f` makes of its index and type.
    pub fn map_columns(&self, f: &dyn Fn(usize, &DataType) -> Expr) -> Expr {
        let boxed = |e: &Expr| Box::new(e.map_columns(f));
        let all = |args: &[Expr]| args.iter().map(|a| a.map_columns(f)).collect();
        let kind = match &self.kind {
            ExprKind::Column(i) => return f(*i, &self.data_type),
            ExprKind::Literal(l) => ExprKind::Literal(l.clone()),
            ExprKind::Field(e, i) => ExprKind::Field(boxed(e), *i),
            ExprKind::Cast { input, safe } => ExprKind::Cast { input: boxed(input), safe: *safe },
            ExprKind::Call { function, args } => ExprKind::Call { function: function.clone(), args: all(args) },
            ExprKind::User { function, args } => ExprKind::User { function: function.clone(), args: all(args) },
            ExprKind::Case { branches, otherwise } => ExprKind::Case {
                branches: branches.iter().map(|(c, v)| (c.map_columns(f), v.map_columns(f))).collect(),
                otherwise: otherwise.as_ref().map(|e| boxed(e)),
            },
        };
        Expr { kind, data_type: self.data_type.clone() }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Null => write!(f, "NULL"),
            Literal::Boolean(b) => write!(f, "{}", if *b { "TRUE" } else { "FALSE" }),
            Literal::Int(i) => write!(f, "{i}"),
            Literal::Double(d) => write!(f, "{d:?}"),
            Literal::Decimal(d) => write!(f, "{d}"),
            Literal::String(s) => write!(f, "'{}'", s.replace('\'', "''")),
            Literal::Bytes(b) => {
                write!(f, "X'")?;
                b.iter().try_for_each(|b| write!(f, "{b:02X}"))?;
                write!(f, "'")
            }
        }
    }
}

impl fmt::Display for Expr {
    /// As in EXPLAIN, with `$i` for columns.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Column(i) => write!(f, "${i}"),
            ExprKind::Literal(l) => write!(f, "{l}"),
            ExprKind::Field(e, i) => match &e.data_type.kind {
                TypeKind::Row(fields) => write!(f, "{e}.{}", fields[*i].0),
                _ => write!(f, "{e}.{i}"),
            },
            ExprKind::Cast { input, safe } => {
                write!(f, "{}({input} AS {})", if *safe { "TRY_CAST" } else { "CAST" }, self.data_type.kind)
            }
            ExprKind::Call { function, args } => match &args[..] {
                [a, b] if !function.chars().any(char::is_alphabetic) || function == "AND" || function == "OR" => {
                    write!(f, "({a} {function} {b})")
                }
                _ => {
                    write!(f, "{function}(")?;
                    for (i, a) in args.iter().enumerate() {
                        write!(f, "{}{a}", if i > 0 { ", " } else { "" })?;
                    }
                    write!(f, ")")
                }
            },
            ExprKind::User { function, args } => {
                let args: Vec<String> = args.iter().map(ToString::to_string).collect();
                write!(f, "{}({})", function.name, args.join(", "))
            }
            ExprKind::Case { branches, otherwise } => {
                write!(f, "CASE")?;
                for (c, v) in branches {
                    write!(f, " WHEN {c} THEN {v}")?;
                }
                match otherwise {
                    Some(e) => write!(f, " ELSE {e} END"),
                    None => write!(f, " END"),
                }
            }
        }
    }
}
