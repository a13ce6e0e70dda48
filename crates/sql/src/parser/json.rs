//! The JSON functions' own syntax: keywords between and behind their arguments. They become calls whose clauses are named arguments;
//! nothing is bound here.

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArgumentList, FunctionArguments, Ident,
    ObjectName, Value,
};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Span, Token};

use super::types::{expect_words, parse_type, word_follows};

type Parsed<T> = Result<T, ParserError>;

/// Names whose arguments have a syntax of their own.
const FUNCTIONS: &[&str] =
    &["JSON_VALUE", "JSON_QUERY", "JSON_EXISTS", "JSON_OBJECT", "JSON_ARRAY", "JSON_OBJECTAGG", "JSON_ARRAYAGG"];

/// A call of one of the functions with keywords among their arguments, if the parser stands before one.
pub(super) fn parse_call(parser: &mut Parser) -> Option<Parsed<Expr>> {
    let [word, paren] = parser.peek_tokens_with_location::<2>();
    let Token::Word(w) = &word.token else { return None };
    let name = w.value.to_uppercase();
    if w.quote_style.is_some() || paren.token != Token::LParen || !FUNCTIONS.contains(&name.as_str()) {
        return None;
    }
    Some(call(parser, &name))
}

fn call(parser: &mut Parser, name: &str) -> Parsed<Expr> {
    let span = parser.next_token().span;
    parser.expect_token(&Token::LParen)?;
    let mut args = Vec::new();
    match name {
        "JSON_OBJECT" | "JSON_OBJECTAGG" => pairs(parser, &mut args)?,
        "JSON_ARRAY" | "JSON_ARRAYAGG" => {
            while !matches!(parser.peek_token_ref().token, Token::RParen) && !on_null_follows(parser) {
                args.push(plain(parser.parse_expr()?));
                if !parser.consume_token(&Token::Comma) {
                    break;
                }
            }
        }
        _ => {
            args.push(plain(parser.parse_expr()?));
            parser.expect_token(&Token::Comma)?;
            args.push(plain(parser.parse_expr()?));
        }
    }
    while !parser.consume_token(&Token::RParen) {
        clause(parser, &mut args)?;
    }
    let filter = if parser.parse_keyword(Keyword::FILTER) {
        parser.expect_token(&Token::LParen)?;
        parser.expect_keyword_is(Keyword::WHERE)?;
        let filter = parser.parse_expr()?;
        parser.expect_token(&Token::RParen)?;
        Some(Box::new(filter))
    } else {
        None
    };
    let Expr::Function(f) = function(name, span, args) else { unreachable!("a function was made") };
    Ok(Expr::Function(Function { filter, ..f }))
}

/// A call by name.
pub(super) fn function(name: &str, span: Span, args: Vec<FunctionArg>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident { value: name.to_owned(), quote_style: None, span }]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// An argument by position.
pub(super) fn plain(e: Expr) -> FunctionArg {
    FunctionArg::Unnamed(FunctionArgExpr::Expr(e))
}

fn named(name: &str, e: Expr) -> FunctionArg {
    let operator = FunctionArgOperator::RightArrow;
    FunctionArg::Named { name: Ident::new(name), arg: FunctionArgExpr::Expr(e), operator }
}

fn named_text(name: &str, text: &str) -> FunctionArg {
    named(name, Expr::value(Value::SingleQuotedString(text.to_owned())))
}

fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// `NULL ON NULL` or `ABSENT ON NULL`.
fn on_null_follows(parser: &Parser) -> bool {
    let [first, on, null] = parser.peek_tokens::<3>();
    (is_word(&first, "NULL") || is_word(&first, "ABSENT")) && is_word(&on, "ON") && is_word(&null, "NULL")
}

/// `[KEY] k VALUE v, …`, or `k : v`.
fn pairs(parser: &mut Parser, args: &mut Vec<FunctionArg>) -> Parsed<()> {
    while !matches!(parser.peek_token_ref().token, Token::RParen) && !on_null_follows(parser) {
        let [first, second] = parser.peek_tokens::<2>();
        if is_word(&first, "KEY") && !matches!(second, Token::Comma | Token::RParen) && !is_word(&second, "VALUE") {
            parser.next_token();
        }
        args.push(plain(parser.parse_expr()?));
        if !parser.consume_token(&Token::Colon) {
            expect_words(parser, &["VALUE"])?;
        }
        args.push(plain(parser.parse_expr()?));
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    Ok(())
}

/// One clause behind the arguments.
fn clause(parser: &mut Parser, args: &mut Vec<FunctionArg>) -> Parsed<()> {
    if word_follows(parser, "RETURNING") {
        args.push(named_text("RETURNING", &parse_type(parser)?.to_string()));
        return Ok(());
    }
    if word_follows(parser, "DEFAULT") {
        let value = parser.parse_expr()?;
        let name = if on(parser)? == "EMPTY" { "DEFAULT_ON_EMPTY" } else { "DEFAULT_ON_ERROR" };
        args.push(named(name, value));
        return Ok(());
    }
    let without = word_follows(parser, "WITHOUT");
    if without || word_follows(parser, "WITH") {
        let conditional = word_follows(parser, "CONDITIONAL");
        let _unconditional_is_the_default = !conditional && word_follows(parser, "UNCONDITIONAL");
        word_follows(parser, "ARRAY");
        expect_words(parser, &["WRAPPER"])?;
        let text = match (without, conditional) {
            (true, _) => "WITHOUT",
            (false, true) => "CONDITIONAL",
            (false, false) => "UNCONDITIONAL",
        };
        args.push(named_text("WRAPPER", text));
        return Ok(());
    }
    let words = ["NULL", "ERROR", "ABSENT", "TRUE", "FALSE", "UNKNOWN"];
    let behaviour = match words.into_iter().find(|w| word_follows(parser, w)) {
        Some(word) => word,
        None => {
            expect_words(parser, &["EMPTY"])?;
            let object = word_follows(parser, "OBJECT");
            if !object {
                expect_words(parser, &["ARRAY"])?;
            }
            if object { "EMPTY OBJECT" } else { "EMPTY ARRAY" }
        }
    };
    let name = format!("ON_{}", on(parser)?);
    args.push(named_text(&name, behaviour));
    Ok(())
}

/// `ON EMPTY`, `ON ERROR` or `ON NULL`.
fn on(parser: &mut Parser) -> Parsed<&'static str> {
    expect_words(parser, &["ON"])?;
    match ["EMPTY", "ERROR", "NULL"].into_iter().find(|w| word_follows(parser, w)) {
        Some(word) => Ok(word),
        None => {
            let found = parser.peek_token();
            parser.expected("EMPTY, ERROR or NULL", found)
        }
    }
}

/// `x IS [NOT] JSON [VALUE | SCALAR | ARRAY | OBJECT]`, if that follows.
pub(super) fn parse_is_json(parser: &mut Parser, expr: &Expr) -> Option<Parsed<Expr>> {
    let [is, second, third] = parser.peek_tokens::<3>();
    let negated = is_word(&second, "NOT");
    if !is_word(&is, "IS") || !is_word(if negated { &third } else { &second }, "JSON") {
        return None;
    }
    let span = parser.next_token().span;
    if negated {
        parser.next_token();
    }
    parser.next_token();
    let kinds = ["VALUE", "SCALAR", "ARRAY", "OBJECT"];
    let kind = kinds.into_iter().find(|w| word_follows(parser, w)).unwrap_or("VALUE");
    let name = format!("IS {}JSON {kind}", if negated { "NOT " } else { "" });
    Some(Ok(function(&name, span, vec![plain(expr.clone())])))
}

/// `ARRAY[…]` and `MAP[…]` as the calls `ARRAY(…)` and `MAP(…)`, with the subscripts that follow.
pub(super) fn parse_collection(parser: &mut Parser) -> Option<Parsed<Expr>> {
    let [word, bracket] = parser.peek_tokens_with_location::<2>();
    let Token::Word(w) = &word.token else { return None };
    let name = w.value.to_uppercase();
    if bracket.token != Token::LBracket || !matches!(name.as_str(), "ARRAY" | "MAP") || w.quote_style.is_some() {
        return None;
    }
    Some(collection(parser, &name))
}

fn collection(parser: &mut Parser, name: &str) -> Parsed<Expr> {
    use sqlparser::ast::{AccessExpr, Subscript};
    let span = parser.next_token().span;
    parser.expect_token(&Token::LBracket)?;
    let mut args = Vec::new();
    while !parser.consume_token(&Token::RBracket) {
        if !args.is_empty() {
            parser.expect_token(&Token::Comma)?;
        }
        args.push(plain(parser.parse_expr()?));
    }
    let mut access_chain = Vec::new();
    while parser.consume_token(&Token::LBracket) {
        let index = parser.parse_expr()?;
        parser.expect_token(&Token::RBracket)?;
        access_chain.push(AccessExpr::Subscript(Subscript::Index { index }));
    }
    let root = Box::new(function(name, span, args));
    Ok(if access_chain.is_empty() { *root } else { Expr::CompoundFieldAccess { root, access_chain } })
}
