//! Flink's dialect as hooks of sqlparser: quoting, reserved words, and the expressions sqlparser does not know. Never rewrites text.

use std::cell::Cell;

use sqlparser::ast::{
    CastKind, DataType as SqlType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName, UnaryOperator,
};
use sqlparser::dialect::Dialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use super::json;
use super::types::parse_type;

/// Name of the custom type that carries a Flink type's text through sqlparser's tree.
pub(crate) const FLINK_TYPE: &str = "FLINK_TYPE";

/// Flink's dialect. Remembers how far the parser got, for error messages.
#[derive(Debug, Default)]
pub(crate) struct FlinkDialect {
    furthest: Cell<usize>,
}

impl FlinkDialect {
    /// Index of the last token at which an expression was begun.
    pub(crate) fn furthest(&self) -> usize {
        self.furthest.get()
    }
}

impl Dialect for FlinkDialect {
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }
    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_' || ch == '$'
    }
    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }
    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }
    fn supports_group_by_expr(&self) -> bool {
        true
    }
    fn supports_named_fn_args_with_rarrow_operator(&self) -> bool {
        true
    }
    fn supports_table_versioning(&self) -> bool {
        true
    }
    fn supports_comment_optimizer_hint(&self) -> bool {
        true
    }
    fn supports_match_recognize(&self) -> bool {
        true
    }
    fn supports_parens_around_table_factor(&self) -> bool {
        true
    }
    fn supports_unicode_string_literal(&self) -> bool {
        true
    }
    fn is_reserved_for_identifier(&self, kw: Keyword) -> bool {
        use Keyword as K;
        matches!(
            kw,
            K::CASE
                | K::CAST
                | K::TRY_CAST
                | K::EXTRACT
                | K::EXISTS
                | K::INTERVAL
                | K::SUBSTRING
                | K::TRIM
                | K::NOT
                | K::NULL
                | K::TRUE
                | K::FALSE
                | K::SELECT
                | K::FROM
                | K::WHERE
                | K::GROUP
                | K::HAVING
                | K::ORDER
                | K::UNION
                | K::THEN
                | K::WHEN
                | K::ELSE
        )
    }
    fn parse_infix(&self, parser: &mut Parser, expr: &Expr, _: u8) -> Option<Result<Expr, ParserError>> {
        if let Some(is_json) = json::parse_is_json(parser, expr) {
            return Some(is_json);
        }
        let negated = parser.peek_keyword(Keyword::NOT);
        let [_, second, third] = parser.peek_tokens::<3>();
        let between = if negated { second.clone() } else { parser.peek_token_ref().token.clone() };
        let kind = if negated { third } else { second };
        let is = |token: &Token, word: &str| matches!(token, Token::Word(w) if w.value.eq_ignore_ascii_case(word));
        if !is(&between, "BETWEEN") || !(is(&kind, "SYMMETRIC") || is(&kind, "ASYMMETRIC")) {
            return None;
        }
        (0..if negated { 3 } else { 2 }).for_each(|_| parser.advance_token());
        Some(parse_between(parser, expr, negated, is(&kind, "SYMMETRIC")))
    }
    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        self.furthest.set(self.furthest.get().max(parser.index()));
        let Token::Word(word) = &parser.peek_token_ref().token else { return None };
        if word.quote_style.is_some() {
            return None;
        }
        if is_semantics(&word.value) && is_call(&parser.peek_tokens::<3>()) {
            return Some(parse_semantics(parser));
        }
        if let Some(parsed) = json::parse_call(parser).or_else(|| json::parse_collection(parser)) {
            return Some(parsed);
        }
        let Token::Word(word) = &parser.peek_token_ref().token else { return None };
        match word.keyword {
            Keyword::TABLE => Some(parse_table_argument(parser)),
            Keyword::CAST => Some(parse_cast(parser, CastKind::Cast)),
            Keyword::TRY_CAST => Some(parse_cast(parser, CastKind::TryCast)),
            Keyword::FROM
            | Keyword::WHERE
            | Keyword::GROUP
            | Keyword::HAVING
            | Keyword::UNION
            | Keyword::THEN
            | Keyword::WHEN => {
                let found = parser.peek_token();
                Some(parser.expected("an expression", found))
            }
            _ => None,
        }
    }
}

/// What follows `x BETWEEN SYMMETRIC`: the call `BETWEEN SYMMETRIC(x, a, b)`.
fn parse_between(parser: &mut Parser, expr: &Expr, negated: bool, symmetric: bool) -> Result<Expr, ParserError> {
    let between = parser.parse_between(expr.clone(), negated)?;
    let Expr::Between { expr, low, high, .. } = between else { return Ok(between) };
    if !symmetric {
        return Ok(Expr::Between { expr, negated, low, high });
    }
    let args = [expr, low, high].map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(*e)));
    let list = FunctionArgumentList { duplicate_treatment: None, args: args.into(), clauses: Vec::new() };
    let call = Expr::Function(call("BETWEEN SYMMETRIC", FunctionArguments::List(list)));
    Ok(if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(call) } } else { call })
}

/// A plain call.
fn call(name: &str, args: FunctionArguments) -> Function {
    Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args,
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    }
}

/// FINAL and RUNNING in front of LAST(…) and its like.
fn is_semantics(word: &str) -> bool {
    word.eq_ignore_ascii_case("FINAL") || word.eq_ignore_ascii_case("RUNNING")
}

/// Whether a word is followed by a call.
fn is_call([_, name, open]: &[Token; 3]) -> bool {
    matches!(name, Token::Word(w) if w.quote_style.is_none()) && *open == Token::LParen
}

/// `FINAL LAST(x)` as the call `FINAL(LAST(x))`.
fn parse_semantics(parser: &mut Parser) -> Result<Expr, ParserError> {
    let token = parser.next_token();
    let name = token.token.to_string().to_uppercase();
    let inner = parser.parse_prefix()?;
    Ok(call_at(Ident { value: name, quote_style: None, span: token.span }, vec![inner]))
}

/// A plain call of a name with its place.
fn call_at(name: Ident, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect();
    let list = FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() };
    let name = ObjectName::from(vec![name]);
    Expr::Function(Function { name, ..call("", FunctionArguments::List(list)) })
}

/// `TABLE t [PARTITION BY a | (a, b)]` as the call `TABLE(t, a, b)`.
fn parse_table_argument(parser: &mut Parser) -> Result<Expr, ParserError> {
    let token = parser.next_token();
    let parenthesised = parser.consume_token(&Token::LParen);
    let name = parser.parse_object_name(false)?;
    if parenthesised {
        parser.expect_token(&Token::RParen)?;
    }
    let parts: Vec<Ident> = name.0.iter().filter_map(|p| p.as_ident().cloned()).collect();
    let mut args = vec![Expr::CompoundIdentifier(parts)];
    if parser.parse_keywords(&[Keyword::PARTITION, Keyword::BY]) {
        if parser.consume_token(&Token::LParen) {
            args.extend(parser.parse_comma_separated(Parser::parse_expr)?);
            parser.expect_token(&Token::RParen)?;
        } else {
            args.push(parser.parse_expr()?);
            while more_partition_columns(parser) {
                parser.expect_token(&Token::Comma)?;
                args.push(parser.parse_expr()?);
            }
        }
    }
    Ok(call_at(Ident { value: "TABLE".into(), quote_style: None, span: token.span }, args))
}

/// Whether `, column` follows rather than the next argument of the function.
fn more_partition_columns(parser: &Parser) -> bool {
    let [comma, word, after] = parser.peek_tokens::<3>();
    matches!((comma, word), (Token::Comma, Token::Word(_))) && !matches!(after, Token::LParen | Token::RArrow)
}

/// `CAST(x AS type)` with Flink's types.
fn parse_cast(parser: &mut Parser, kind: CastKind) -> Result<Expr, ParserError> {
    parser.next_token();
    parser.expect_token(&Token::LParen)?;
    let expr = parser.parse_expr()?;
    parser.expect_keyword_is(Keyword::AS)?;
    let data_type = parse_type(parser)?;
    parser.expect_token(&Token::RParen)?;
    let name = ObjectName::from(vec![Ident::new(FLINK_TYPE)]);
    let data_type = SqlType::Custom(name, vec![data_type.to_string()]);
    Ok(Expr::Cast { kind, expr: Box::new(expr), data_type, array: false, format: None })
}
