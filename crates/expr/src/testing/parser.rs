//! Reads SQL expressions for tests: literals, columns, fields, operators, calls, CASE, CAST.

use flott_core::types::{Column, DataType, TypeKind};
use flott_core::{Error, Result};
use flott_plan::expr::{Expr, ExprKind, Literal};

use super::literal;
use crate::bind::{bind_call, bind_case, bind_cast};

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Number(String),
    Text(String),
    Symbol(String),
}

fn tokens(sql: &str) -> Vec<Token> {
    let mut out = Vec::new();
    let mut rest = sql.trim();
    while let Some(c) = rest.chars().next() {
        let length = if c.is_ascii_digit() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let exponent = rest[end..].starts_with('e');
            let tail = |s: &str| s[1..].find(|c: char| !c.is_ascii_digit() && c != '-').map_or(s.len(), |n| n + 1);
            let end = if exponent { end + tail(&rest[end..]) } else { end };
            out.push(Token::Number(rest[..end].to_owned()));
            end
        } else if c == '\'' {
            let mut end = 1;
            while !rest[end..].starts_with('\'') || rest[end..].starts_with("''") {
                end += if rest[end..].starts_with("''") {
                    2
                } else {
                    rest[end..].chars().next().expect("quote").len_utf8()
                };
            }
            out.push(Token::Text(rest[1..end].replace("''", "'")));
            end + 1
        } else if c.is_alphabetic() || c == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            out.push(Token::Word(rest[..end].to_owned()));
            end
        } else {
            let two = ["<=", ">=", "<>", "||", "!="].iter().any(|s| rest.starts_with(s));
            let end = if two { 2 } else { 1 };
            out.push(Token::Symbol(rest[..end].to_owned()));
            end
        };
        rest = rest[length..].trim_start();
    }
    out
}

/// Reads `sql` over `columns` and binds it.
pub(crate) fn parse(sql: &str, columns: &[Column]) -> Result<Expr> {
    let mut parser = Parser { tokens: tokens(sql), at: 0, columns };
    let expr = parser.expr(0)?;
    assert_eq!(parser.at, parser.tokens.len(), "left over in {sql}");
    Ok(expr)
}

struct Parser<'a> {
    tokens: Vec<Token>,
    at: usize,
    columns: &'a [Column],
}

impl Parser<'_> {
    fn peek(&self) -> String {
        match self.tokens.get(self.at) {
            Some(Token::Word(w)) => w.to_uppercase(),
            Some(Token::Symbol(s)) => s.clone(),
            _ => String::new(),
        }
    }
    fn eat(&mut self, word: &str) -> bool {
        let found = self.peek() == word;
        self.at += usize::from(found);
        found
    }
    fn expect(&mut self, word: &str) {
        assert!(self.eat(word), "expected {word} at {:?}", &self.tokens[self.at..]);
    }
    fn text(&mut self) -> String {
        let Some(Token::Text(t) | Token::Number(t) | Token::Word(t)) = self.tokens.get(self.at).cloned() else {
            panic!("expected text at {:?}", &self.tokens[self.at..])
        };
        self.at += 1;
        t
    }

    fn expr(&mut self, level: u8) -> Result<Expr> {
        let mut left = self.unary(level)?;
        loop {
            let symbol = self.peek();
            let power = match symbol.as_str() {
                "OR" => 1,
                "AND" => 2,
                "=" | "<>" | "!=" | "<" | "<=" | ">" | ">=" | "IS" | "LIKE" => 4,
                "NOT" => 4,
                "+" | "-" | "||" => 5,
                "*" | "/" | "%" => 6,
                _ => return Ok(left),
            };
            if power <= level {
                return Ok(left);
            }
            self.at += 1;
            left = match symbol.as_str() {
                "IS" => self.is(left)?,
                "NOT" => {
                    self.expect("LIKE");
                    self.like("NOT LIKE", left)?
                }
                "LIKE" => self.like("LIKE", left)?,
                _ => {
                    let right = self.expr(power)?;
                    bind_call(&symbol, vec![left, right])?
                }
            };
        }
    }

    fn is(&mut self, left: Expr) -> Result<Expr> {
        let not = if self.eat("NOT") { "NOT " } else { "" };
        if self.eat("DISTINCT") {
            self.expect("FROM");
            let right = self.expr(4)?;
            return bind_call(&format!("IS {not}DISTINCT FROM"), vec![left, right]);
        }
        let word = self.text().to_uppercase();
        bind_call(&format!("IS {not}{word}"), vec![left])
    }

    fn like(&mut self, name: &str, left: Expr) -> Result<Expr> {
        let mut args = vec![left, self.expr(4)?];
        if self.eat("ESCAPE") {
            args.push(self.expr(4)?);
        }
        bind_call(name, args)
    }

    fn unary(&mut self, level: u8) -> Result<Expr> {
        if self.eat("NOT") {
            let arg = self.expr(3)?;
            return bind_call("NOT", vec![arg]);
        }
        if self.eat("-") {
            let arg = self.expr(7.max(level))?;
            return bind_call("-", vec![arg]);
        }
        let mut expr = self.primary()?;
        while self.eat(".") {
            let name = self.text();
            let TypeKind::Row(fields) = &expr.data_type.kind else { panic!("{name} of no ROW") };
            let i = fields.iter().position(|(n, _)| *n == name).expect("field");
            let data_type = fields[i].1.clone().with_nullable(true);
            expr = Expr { kind: ExprKind::Field(Box::new(expr), i), data_type };
        }
        Ok(expr)
    }

    fn primary(&mut self) -> Result<Expr> {
        let token = self.tokens[self.at].clone();
        self.at += 1;
        match token {
            Token::Number(n) => Ok(number(&n)),
            Token::Text(t) => Ok(literal(Literal::String(t.clone()), TypeKind::Char(t.chars().count().max(1) as u32))),
            Token::Symbol(_) => {
                let inner = self.expr(0)?;
                self.expect(")");
                Ok(inner)
            }
            Token::Word(word) => self.word(&word),
        }
    }

    fn word(&mut self, word: &str) -> Result<Expr> {
        let upper = word.to_uppercase();
        if let Some(i) = self.columns.iter().position(|c| c.name == word) {
            return Ok(Expr::column(i, self.columns[i].data_type.clone()));
        }
        match upper.as_str() {
            "TRUE" => return Ok(Expr::boolean(true)),
            "FALSE" => return Ok(Expr::boolean(false)),
            "NULL" => return Ok(Expr::literal(Literal::Null, TypeKind::Null.nullable())),
            "DATE" | "TIME" | "TIMESTAMP" if matches!(self.tokens.get(self.at), Some(Token::Text(_))) => {
                let text = self.text();
                let kind = match upper.as_str() {
                    "DATE" => TypeKind::Date,
                    "TIME" => TypeKind::Time(0),
                    _ => TypeKind::Timestamp(3),
                };
                let text = literal(Literal::String(text), TypeKind::STRING);
                return Ok(crate::constant_fold(&bind_cast(text, kind.not_null(), false)?));
            }
            "INTERVAL" => return Ok(self.interval()),
            "CASE" => return self.case(),
            "CAST" | "TRY_CAST" => {
                self.expect("(");
                let input = self.expr(0)?;
                self.expect("AS");
                let kind = self.data_type();
                self.expect(")");
                let nullable = input.data_type.nullable;
                return bind_cast(input, DataType { kind, nullable }, upper == "TRY_CAST");
            }
            _ => {}
        }
        let mut args = Vec::new();
        if self.eat("(") && !self.eat(")") {
            loop {
                args.push(self.expr(0)?);
                if !self.eat(",") {
                    break;
                }
            }
            self.expect(")");
        }
        if args.is_empty()
            && self.tokens.get(self.at - 1) != Some(&Token::Symbol(")".into()))
            && !upper.starts_with("CURRENT")
        {
            return Err(Error::user("sql.test", format!("no column {word}")));
        }
        bind_call(&upper, args)
    }

    fn interval(&mut self) -> Expr {
        let n: i64 = self.text().parse().expect("a number");
        let unit = self.text().to_uppercase();
        let ms = |n: i64| literal(Literal::Int(n), TypeKind::IntervalDayTime);
        match unit.as_str() {
            "DAY" => ms(n * 86_400_000),
            "HOUR" => ms(n * 3_600_000),
            "MINUTE" => ms(n * 60_000),
            "SECOND" => ms(n * 1000),
            "MONTH" => literal(Literal::Int(n), TypeKind::IntervalYearMonth),
            "YEAR" => literal(Literal::Int(n * 12), TypeKind::IntervalYearMonth),
            _ => panic!("unit {unit}"),
        }
    }

    fn case(&mut self) -> Result<Expr> {
        let mut branches = Vec::new();
        while self.eat("WHEN") {
            let condition = self.expr(0)?;
            self.expect("THEN");
            branches.push((condition, self.expr(0)?));
        }
        let otherwise = if self.eat("ELSE") { Some(self.expr(0)?) } else { None };
        self.expect("END");
        bind_case(branches, otherwise)
    }

    fn data_type(&mut self) -> TypeKind {
        let name = self.text().to_uppercase();
        let mut numbers = Vec::new();
        if self.eat("(") {
            loop {
                numbers.push(self.text().parse::<u32>().expect("a number"));
                if !self.eat(",") {
                    break;
                }
            }
            self.expect(")");
        }
        let n = |i: usize, default: u32| numbers.get(i).copied().unwrap_or(default);
        match name.as_str() {
            "BOOLEAN" => TypeKind::Boolean,
            "TINYINT" => TypeKind::TinyInt,
            "SMALLINT" => TypeKind::SmallInt,
            "INT" => TypeKind::Int,
            "BIGINT" => TypeKind::BigInt,
            "FLOAT" => TypeKind::Float,
            "DOUBLE" => TypeKind::Double,
            "DECIMAL" => TypeKind::Decimal(n(0, 10) as u8, n(1, 0) as u8),
            "CHAR" => TypeKind::Char(n(0, 1)),
            "VARCHAR" => TypeKind::VarChar(n(0, 1)),
            "STRING" => TypeKind::STRING,
            "BYTES" => TypeKind::BYTES,
            "DATE" => TypeKind::Date,
            "TIME" => TypeKind::Time(n(0, 0) as u8),
            "TIMESTAMP" => TypeKind::Timestamp(n(0, 6) as u8),
            "TIMESTAMP_LTZ" => TypeKind::TimestampLtz(n(0, 6) as u8),
            _ => panic!("type {name}"),
        }
    }
}

/// INT or BIGINT; with a point DECIMAL; with an exponent DOUBLE.
fn number(text: &str) -> Expr {
    if text.contains('e') {
        return literal(Literal::Double(text.parse().expect("a number")), TypeKind::Double);
    }
    if let Some((whole, fraction)) = text.split_once('.') {
        let digits: i128 = format!("{whole}{fraction}").parse().expect("digits");
        let precision = (digits.to_string().len()).max(fraction.len()) as u8;
        return literal(Literal::Decimal(digits), TypeKind::Decimal(precision, fraction.len() as u8));
    }
    let n: i64 = text.parse().expect("digits");
    literal(Literal::Int(n), if i32::try_from(n).is_ok() { TypeKind::Int } else { TypeKind::BigInt })
}
