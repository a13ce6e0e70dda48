//! Flink's type names, from tokens to types. Never looks at anything but the type.

use flott_core::types::{DataType, MAX_LENGTH, TypeKind};
use flott_core::{Error, Result};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::dialect::FlinkDialect;

/// Types may nest so deep.
const DEPTH_MAX: usize = 32;

/// The type at the parser's place, with `NOT NULL` if it follows.
pub(crate) fn parse_type(parser: &mut Parser) -> Result<DataType, ParserError> {
    parse_nested(parser, 0)
}

/// The type written by `DataType`'s `Display`.
pub(crate) fn parse_type_text(text: &str) -> Result<DataType> {
    let dialect = FlinkDialect::default();
    let bug = |e: String| Error::bug(format!("type `{text}`: {e}"));
    let tokens = super::script::tokenize(&dialect, text).map_err(|e| bug(e.to_string()))?;
    parse_type(&mut Parser::new(&dialect).with_tokens_with_locations(tokens)).map_err(|e| bug(e.to_string()))
}

fn error<T>(message: String, at: &TokenWithSpan) -> Result<T, ParserError> {
    Err(ParserError::ParserError(format!("{message}{}", at.span.start)))
}

fn parse_nested(parser: &mut Parser, depth: usize) -> Result<DataType, ParserError> {
    let token = parser.next_token();
    if depth > DEPTH_MAX {
        return error(format!("types nest deeper than {DEPTH_MAX} levels"), &token);
    }
    let Token::Word(word) = &token.token else { return parser.expected("a data type", token) };
    let name = word.value.to_uppercase();
    let kind = match name.as_str() {
        "BOOLEAN" => TypeKind::Boolean,
        "TINYINT" => TypeKind::TinyInt,
        "SMALLINT" => TypeKind::SmallInt,
        "INT" | "INTEGER" => TypeKind::Int,
        "BIGINT" => TypeKind::BigInt,
        "FLOAT" => TypeKind::Float,
        "DOUBLE" => {
            word_follows(parser, "PRECISION");
            TypeKind::Double
        }
        "DECIMAL" | "DEC" | "NUMERIC" => decimal(parser, &token)?,
        "CHAR" => TypeKind::Char(length(parser, 1)?),
        "VARCHAR" => TypeKind::VarChar(length(parser, MAX_LENGTH)?),
        "STRING" => TypeKind::STRING,
        "BINARY" => TypeKind::Binary(length(parser, 1)?),
        "VARBINARY" => TypeKind::VarBinary(length(parser, MAX_LENGTH)?),
        "BYTES" => TypeKind::BYTES,
        "DATE" => TypeKind::Date,
        "TIME" => {
            let p = precision(parser, 0)?;
            zone(parser)?;
            TypeKind::Time(p)
        }
        "TIMESTAMP" => {
            let p = precision(parser, 6)?;
            if zone(parser)? { TypeKind::TimestampLtz(p) } else { TypeKind::Timestamp(p) }
        }
        "TIMESTAMP_LTZ" => TypeKind::TimestampLtz(precision(parser, 6)?),
        "INTERVAL" => interval(parser)?,
        "ARRAY" => {
            open(parser)?;
            let element = parse_nested(parser, depth + 1)?;
            close(parser)?;
            TypeKind::Array(Box::new(element))
        }
        "MULTISET" => {
            open(parser)?;
            let element = parse_nested(parser, depth + 1)?;
            close(parser)?;
            TypeKind::Multiset(Box::new(element))
        }
        "MAP" => {
            open(parser)?;
            let key = parse_nested(parser, depth + 1)?;
            parser.expect_token(&Token::Comma)?;
            let value = parse_nested(parser, depth + 1)?;
            close(parser)?;
            TypeKind::Map(Box::new(key), Box::new(value))
        }
        "VARIANT" => TypeKind::Variant,
        "BITMAP" => TypeKind::Bitmap,
        "ROW" => row(parser, depth)?,
        "NULL" => TypeKind::Null,
        _ => return unknown(&name, &word.value, &token),
    };
    let mut kind = kind;
    if word_follows(parser, "ARRAY") {
        kind = TypeKind::Array(Box::new(kind.nullable()));
    }
    let nullable = nullability(parser)?;
    Ok(DataType { kind, nullable })
}

/// The error for a name that is no type here.
fn unknown<T>(name: &str, written: &str, at: &TokenWithSpan) -> Result<T, ParserError> {
    if matches!(name, "RAW" | "TIMESTAMP_TZ") {
        return error(format!("type {name} is not supported yet"), at);
    }
    let names = [
        "BOOLEAN",
        "TINYINT",
        "SMALLINT",
        "INT",
        "BIGINT",
        "FLOAT",
        "DOUBLE",
        "DECIMAL",
        "CHAR",
        "VARCHAR",
        "STRING",
        "BINARY",
        "VARBINARY",
        "BYTES",
        "DATE",
        "TIME",
        "TIMESTAMP",
        "TIMESTAMP_LTZ",
        "ARRAY",
        "MAP",
        "MULTISET",
        "ROW",
    ];
    let alias = match name {
        "TEXT" => Some("STRING"),
        "LONG" | "INT8" => Some("BIGINT"),
        "BOOL" => Some("BOOLEAN"),
        "DATETIME" => Some("TIMESTAMP"),
        "TIMESTAMPTZ" => Some("TIMESTAMP_LTZ"),
        _ => crate::diag::nearest(name, names),
    };
    let near = alias.map(|n| format!("; did you mean {n}?")).unwrap_or_default();
    error(format!("there is no data type {written}{near}"), at)
}

/// Whether the next token is this unquoted word; takes it.
pub(crate) fn word_follows(parser: &mut Parser, word: &str) -> bool {
    let found = matches!(&parser.peek_token_ref().token,
        Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word));
    if found {
        parser.next_token();
    }
    found
}

fn nullability(parser: &mut Parser) -> Result<bool, ParserError> {
    if word_follows(parser, "NOT") {
        if !word_follows(parser, "NULL") {
            let found = parser.peek_token();
            return parser.expected("NULL after NOT", found);
        }
        return Ok(false);
    }
    word_follows(parser, "NULL");
    Ok(true)
}

fn number(parser: &mut Parser, max: u32) -> Result<u32, ParserError> {
    let token = parser.next_token();
    match &token.token {
        Token::Number(text, _) => match text.parse::<u32>() {
            Ok(n) if n <= max => Ok(n),
            _ => error(format!("expected a number up to {max}, found {text}"), &token),
        },
        _ => parser.expected("a number", token),
    }
}

fn length(parser: &mut Parser, default: u32) -> Result<u32, ParserError> {
    if !parser.consume_token(&Token::LParen) {
        return Ok(default);
    }
    let n = number(parser, MAX_LENGTH)?;
    parser.expect_token(&Token::RParen)?;
    Ok(n)
}

fn precision(parser: &mut Parser, default: u8) -> Result<u8, ParserError> {
    if !parser.consume_token(&Token::LParen) {
        return Ok(default);
    }
    let n = number(parser, 9)?;
    parser.expect_token(&Token::RParen)?;
    Ok(u8::try_from(n).unwrap_or(9))
}

fn decimal(parser: &mut Parser, at: &TokenWithSpan) -> Result<TypeKind, ParserError> {
    if !parser.consume_token(&Token::LParen) {
        return Ok(TypeKind::Decimal(10, 0));
    }
    let p = number(parser, 38)?;
    let s = if parser.consume_token(&Token::Comma) { number(parser, 38)? } else { 0 };
    parser.expect_token(&Token::RParen)?;
    if p == 0 || s > p {
        return error(format!("DECIMAL({p}, {s}): precision must be 1 to 38, scale 0 to the precision"), at);
    }
    Ok(TypeKind::Decimal(u8::try_from(p).unwrap_or(38), u8::try_from(s).unwrap_or(0)))
}

/// `WITH LOCAL TIME ZONE` (true), `WITHOUT TIME ZONE` or nothing (false).
fn zone(parser: &mut Parser) -> Result<bool, ParserError> {
    if word_follows(parser, "WITHOUT") {
        expect_words(parser, &["TIME", "ZONE"])?;
    } else if word_follows(parser, "WITH") {
        expect_words(parser, &["LOCAL", "TIME", "ZONE"])?;
        return Ok(true);
    }
    Ok(false)
}

/// Takes these words or fails.
pub(crate) fn expect_words(parser: &mut Parser, words: &[&str]) -> Result<(), ParserError> {
    for word in words {
        if !word_follows(parser, word) {
            let found = parser.peek_token();
            return parser.expected(word, found);
        }
    }
    Ok(())
}

fn interval(parser: &mut Parser) -> Result<TypeKind, ParserError> {
    let token = parser.next_token();
    let Token::Word(unit) = &token.token else { return parser.expected("an interval unit", token) };
    let kind = match unit.value.to_uppercase().as_str() {
        "YEAR" | "MONTH" => TypeKind::IntervalYearMonth,
        "DAY" | "HOUR" | "MINUTE" | "SECOND" => TypeKind::IntervalDayTime,
        _ => return parser.expected("an interval unit", token),
    };
    precision(parser, 0)?;
    if word_follows(parser, "TO") {
        parser.next_token();
        precision(parser, 0)?;
    }
    Ok(kind)
}

fn open(parser: &mut Parser) -> Result<(), ParserError> {
    parser.expect_token(&Token::Lt).map(|_| ())
}

/// One `>`; the script's tokens hold no `>>`.
fn close(parser: &mut Parser) -> Result<(), ParserError> {
    parser.expect_token(&Token::Gt).map(|_| ())
}

fn row(parser: &mut Parser, depth: usize) -> Result<TypeKind, ParserError> {
    let angle = !parser.consume_token(&Token::LParen);
    let end = if angle { Token::Gt } else { Token::RParen };
    if angle {
        if parser.consume_token(&Token::Neq) {
            return Ok(TypeKind::Row(Vec::new()));
        }
        open(parser)?;
    }
    let mut fields = Vec::new();
    while !parser.consume_token(&end) {
        if !fields.is_empty() {
            parser.expect_token(&Token::Comma)?;
        }
        let name = parser.parse_identifier()?.value;
        let data_type = parse_nested(parser, depth + 1)?;
        if matches!(parser.peek_token_ref().token, Token::SingleQuotedString(_)) {
            parser.next_token();
        }
        fields.push((name, data_type));
    }
    Ok(TypeKind::Row(fields))
}
