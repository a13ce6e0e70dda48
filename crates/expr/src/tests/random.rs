//! AND, OR, NOT, CASE and division over random rows, against an interpreter that goes row by row.

use std::sync::Arc;

use arrow_array::{BooleanArray, Int32Array};
use flott_core::types::{Column, TypeKind};
use flott_plan::expr::{Expr, ExprKind, Literal};

use crate::bind::{bind_call, bind_case};
use crate::testing::{batch, evaluate, literal};

/// A small generator with a fixed seed: every run sees the same expressions.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

const ROWS: usize = 67;

fn condition(random: &mut Random, depth: u32) -> Expr {
    let bind = |name: &str, args| bind_call(name, args).expect("binds");
    match random.below(if depth == 0 { 2 } else { 6 }) {
        0 => Expr::column(random.below(2) as usize, TypeKind::Boolean.nullable()),
        1 => Expr::column(random.below(2) as usize, TypeKind::Boolean.nullable()),
        2 => bind("AND", vec![condition(random, depth - 1), condition(random, depth - 1)]),
        3 => bind("OR", vec![condition(random, depth - 1), condition(random, depth - 1)]),
        4 => bind("NOT", vec![condition(random, depth - 1)]),
        _ => bind("<", vec![number(random, depth - 1), number(random, depth - 1)]),
    }
}

fn number(random: &mut Random, depth: u32) -> Expr {
    match random.below(if depth == 0 { 2 } else { 5 }) {
        0 => Expr::column(2 + random.below(2) as usize, TypeKind::Int.nullable()),
        1 => literal(Literal::Int(random.below(3) as i64), TypeKind::Int),
        2 => bind_call("+", vec![number(random, depth - 1), number(random, depth - 1)]).expect("binds"),
        3 => bind_call("/", vec![number(random, depth - 1), number(random, depth - 1)]).expect("binds"),
        _ => {
            let mut branches = Vec::new();
            for _ in 0..=random.below(2) {
                branches.push((condition(random, depth - 1), number(random, depth - 1)));
            }
            bind_case(branches, Some(number(random, depth - 1))).expect("binds")
        }
    }
}

/// NULL, or a number with booleans as 0 and 1; `Err` for a division by zero.
fn interpret(expr: &Expr, row: &[Option<i32>]) -> Result<Option<i32>, ()> {
    match &expr.kind {
        ExprKind::Column(i) => Ok(row[*i]),
        ExprKind::Literal(Literal::Int(i)) => Ok(Some(*i as i32)),
        ExprKind::Case { branches, otherwise } => {
            for (condition, value) in branches {
                if interpret(condition, row)? == Some(1) {
                    return interpret(value, row);
                }
            }
            otherwise.as_ref().map_or(Ok(None), |e| interpret(e, row))
        }
        ExprKind::Call { function, args } => {
            let a = interpret(&args[0], row)?;
            match (function.as_str(), a) {
                ("NOT", a) => return Ok(a.map(|a| 1 - a)),
                ("AND", Some(0)) => return Ok(Some(0)),
                ("OR", Some(1)) => return Ok(Some(1)),
                _ => {}
            }
            let b = interpret(&args[1], row)?;
            Ok(match (function.as_str(), a, b) {
                ("AND", _, Some(0)) => Some(0),
                ("OR", _, Some(1)) => Some(1),
                ("/", Some(_), Some(0)) => return Err(()),
                (_, None, _) | (_, _, None) => None,
                ("AND" | "OR", _, Some(b)) => Some(if function == "AND" { b } else { b.max(a.unwrap_or(0)) }),
                ("<", Some(a), Some(b)) => Some(i32::from(a < b)),
                ("+", Some(a), Some(b)) => Some(a.wrapping_add(b)),
                ("/", Some(a), Some(b)) => Some(a.wrapping_div(b)),
                other => panic!("{other:?}"),
            })
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn compiled_expressions_equal_an_interpreter() {
    let mut random = Random(0x5eed_1234_abcd);
    let mut column =
        |n: u64| (0..ROWS).map(|_| random.below(n + 1).checked_sub(1).map(|v| v as i32)).collect::<Vec<_>>();
    let data = [column(2), column(2), column(4), column(4)];
    let boolean = |c: &[Option<i32>]| Arc::new(c.iter().map(|v| v.map(|v| v == 1)).collect::<BooleanArray>());
    let (columns, rows) = batch(
        vec![
            (Column::new("a", TypeKind::Boolean.nullable()), boolean(&data[0])),
            (Column::new("b", TypeKind::Boolean.nullable()), boolean(&data[1])),
            (Column::new("x", TypeKind::Int.nullable()), Arc::new(Int32Array::from(data[2].clone()))),
            (Column::new("y", TypeKind::Int.nullable()), Arc::new(Int32Array::from(data[3].clone()))),
        ],
        ROWS,
    );
    let (mut succeeded, mut failed) = (0, 0);
    for _ in 0..3000 {
        let expr = number(&mut random, 4);
        let row = |i: usize| data.iter().map(|c| c[i]).collect::<Vec<_>>();
        let expected: Result<Vec<_>, ()> = (0..ROWS).map(|i| interpret(&expr, &row(i))).collect();
        let found = evaluate(&expr, &columns, &rows);
        match (expected, found) {
            (Ok(expected), Ok(found)) => {
                let expected: Vec<String> =
                    expected.iter().map(|v| v.map_or("NULL".to_owned(), |v| v.to_string())).collect();
                assert_eq!(found, expected, "{expr}");
                succeeded += 1;
            }
            (Err(()), Err(e)) => {
                assert_eq!(e.message(), "division by zero", "{expr}");
                failed += 1;
            }
            (expected, found) => panic!("{expr}: {expected:?} but {found:?}"),
        }
    }
    assert!(succeeded > 500 && failed > 100, "{succeeded} {failed}");
}
