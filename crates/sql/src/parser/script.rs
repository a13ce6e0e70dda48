//! A script to tokens and statements: splits at `;` by tokens, guards nesting, and gives every syntax error its place.

use flott_core::error::Position;
use flott_core::{Error, Result};
use sqlparser::dialect::Dialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer, TokenizerError, Whitespace, Word};

use super::ast::{HINT_MARK, ParsedStatement};
use super::dialect::FlinkDialect;
use super::pattern::arrange;
use super::statement::StatementParser;
use crate::diag::{location, place, unsupported};

/// Parentheses, brackets and CASE may nest so deep.
const NESTING_MAX: usize = 48;
/// A chain of operators without parentheses or commas may be so long.
const CHAIN_MAX: usize = 300;

/// All statements of a script, in order. Comments and empty statements vanish.
pub fn parse_script(text: &str) -> Result<Vec<ParsedStatement>> {
    let dialect = FlinkDialect::default();
    let tokens = tokenize(&dialect, text).map_err(|e| tokenizer_error(&e))?;
    let lines = LineIndex::new(text);
    split(&tokens)?.into_iter().map(|range| parse_one(text, &lines, &tokens[range])).collect()
}

/// Tokens with spans; `>>` becomes two `>`: Flink has no shift operator, but nested types.
pub(crate) fn tokenize(dialect: &dyn Dialect, text: &str) -> Result<Vec<TokenWithSpan>, TokenizerError> {
    let tokens = Tokenizer::new(dialect, text).tokenize_with_location()?;
    let mut out = Vec::with_capacity(tokens.len());
    for token in tokens {
        if token.token == Token::ShiftRight {
            let start = token.span.start;
            let middle = Location { line: start.line, column: start.column + 1 };
            out.push(TokenWithSpan::new(Token::Gt, Span::new(start, middle)));
            out.push(TokenWithSpan::new(Token::Gt, Span::new(middle, token.span.end)));
        } else {
            out.push(token);
        }
    }
    Ok(out)
}

fn tokenizer_error(e: &TokenizerError) -> Error {
    let error = Error::user("sql.parse", e.message.clone());
    place(error, location(e.location))
}

/// Whether the token is this word, unquoted.
pub(crate) fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// Ranges of tokens of the statements. A statement set keeps its inner semicolons.
fn split(tokens: &[TokenWithSpan]) -> Result<Vec<std::ops::Range<usize>>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    let mut words: Vec<&Token> = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::Whitespace(_) | Token::EOF => continue,
            Token::SemiColon if in_statement_set(&words) => words.push(&token.token),
            Token::SemiColon => {
                if !words.is_empty() {
                    ranges.push(start..i);
                }
                words.clear();
                start = i + 1;
            }
            t => {
                if words.is_empty() {
                    start = i;
                }
                words.push(t);
            }
        }
    }
    if !words.is_empty() {
        ranges.push(start..tokens.len());
    }
    Ok(ranges)
}

/// `[EXPLAIN] EXECUTE STATEMENT SET BEGIN … ` or `BEGIN STATEMENT SET; …`, not yet ended by `END`.
fn in_statement_set(words: &[&Token]) -> bool {
    let words = if words.first().is_some_and(|t| is_word(t, "EXPLAIN")) { &words[1..] } else { words };
    let begins = |p: &[&str]| words.len() >= p.len() && p.iter().zip(words).all(|(a, b)| is_word(b, a));
    (begins(&["EXECUTE", "STATEMENT", "SET"])
        || begins(&["BEGIN", "STATEMENT", "SET"])
        || begins(&["STATEMENT", "SET"]))
        && !words.last().is_some_and(|t| is_word(t, "END"))
}

fn parse_one(text: &str, lines: &LineIndex, tokens: &[TokenWithSpan]) -> Result<ParsedStatement> {
    let tokens = arrange(significant(tokens)?)?;
    let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else {
        return Err(Error::bug("an empty statement was not skipped"));
    };
    let (start, end) = (first.span.start, last.span.end);
    guard(&tokens)?;
    let dialect = FlinkDialect::default();
    let source = Source { text, lines };
    let parser = Parser::new(&dialect).with_tokens_with_locations(tokens.clone());
    let kind = StatementParser::new(parser, &source)
        .parse()
        .map_err(|e| parser_error(&e, end))
        .map_err(|e| innermost(&tokens, end, dialect.furthest()).unwrap_or(e))?;
    let position = location(start).unwrap_or(Position { line: 1, column: 1 });
    Ok(ParsedStatement { text: source.slice(start, end).to_owned(), position, kind })
}

/// The tokens without white space and comments, but with the hints behind SELECT. A hint behind a table's name becomes one more
/// part of the name; elsewhere it is an error.
fn significant(tokens: &[TokenWithSpan]) -> Result<Vec<TokenWithSpan>> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    for t in tokens {
        match &t.token {
            Token::Whitespace(Whitespace::MultiLineComment(text)) if text.starts_with('+') => {
                if out.last().is_some_and(|t| is_word(&t.token, "SELECT")) {
                    out.push(t.clone());
                    continue;
                }
                if ends_in_table_name(&out) {
                    let value = format!("{HINT_MARK}{}", &text[1..]);
                    let word = Word { value, quote_style: Some('`'), keyword: Keyword::NoKeyword };
                    out.push(TokenWithSpan::new(Token::Period, t.span));
                    out.push(TokenWithSpan::new(Token::Word(word), t.span));
                    continue;
                }
                let error = unsupported("a hint other than behind SELECT or a table's name", location(t.span.start));
                return Err(error.hint("as in FROM t /*+ OPTIONS('key' = 'value') */"));
            }
            Token::Whitespace(_) | Token::EOF => {}
            _ => out.push(t.clone()),
        }
    }
    Ok(out)
}

/// Whether the tokens end in a name behind FROM, JOIN, INTO, TABLE or a comma.
fn ends_in_table_name(tokens: &[TokenWithSpan]) -> bool {
    let mut rest = tokens;
    loop {
        let [before @ .., last] = rest else { return false };
        if !matches!(&last.token, Token::Word(w) if !w.value.starts_with(HINT_MARK)) {
            return false;
        }
        match before {
            [inner @ .., dot] if dot.token == Token::Period => rest = inner,
            [.., t] => {
                let words = ["FROM", "JOIN", "INTO", "TABLE"];
                return t.token == Token::Comma || words.iter().any(|w| is_word(&t.token, w));
            }
            [] => return false,
        }
    }
}

/// When a query in parentheses is wrong, sqlparser rewinds and reports what it expected instead of the query. The error
/// of the smallest wrong query is the one to show.
fn innermost(tokens: &[TokenWithSpan], end: Location, furthest: usize) -> Option<Error> {
    let mut open = Vec::new();
    let mut queries = Vec::new();
    for (i, t) in tokens.iter().enumerate() {
        match t.token {
            Token::LParen => open.push(i),
            Token::RParen => {
                let begin = open.pop()?;
                let query = tokens.get(begin + 1).is_some_and(|t| {
                    matches!(&t.token, Token::Word(w) if w.quote_style.is_none()
                        && matches!(w.keyword, Keyword::SELECT | Keyword::WITH))
                });
                if query && begin <= furthest {
                    queries.push(begin + 1..i);
                }
            }
            _ => {}
        }
    }
    queries.sort_by_key(|r| r.len());
    queries.into_iter().take(64).find_map(|range| {
        let stop = tokens.get(range.end).map_or(end, |t| t.span.start);
        let dialect = FlinkDialect::default();
        let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens[range].to_vec());
        match parser.parse_query() {
            Err(e) => Some(parser_error(&e, stop)),
            Ok(_) if parser.peek_token_ref().token != Token::EOF => {
                let found = parser.peek_token();
                let position = location(found.span.start);
                Some(place(
                    Error::user("sql.parse", format!("expected the end of the query, found: {found}")),
                    position,
                ))
            }
            Ok(_) => None,
        }
    })
}

/// sqlparser's error with the position taken out of its text.
pub(crate) fn parser_error(e: &ParserError, end: Location) -> Error {
    let text = match e {
        ParserError::ParserError(m) | ParserError::TokenizerError(m) => m.as_str(),
        ParserError::RecursionLimitExceeded => "the statement nests too deep",
    };
    let (message, at) = split_position(text);
    let mut message = message.trim_end().to_owned();
    if let Some(rest) = message.strip_prefix("Expected: ") {
        message = format!("expected {rest}");
    }
    if let Some(rest) = message.strip_suffix("found: EOF") {
        message = format!("{rest}found the end of the statement");
    }
    place(Error::user("sql.parse", message), at.or_else(|| location(end)))
}

fn split_position(text: &str) -> (&str, Option<Position>) {
    let Some(i) = text.rfind(" at Line: ") else { return (text, None) };
    let parsed = text[i + 10..].split_once(", Column: ").and_then(|(line, column)| {
        Some(Position { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? })
    });
    match parsed {
        Some(p) => (&text[..i], Some(p)),
        None => (text, None),
    }
}

/// Refuses what would exhaust the stack or the parser's patience, and unbalanced parentheses with a clear place.
fn guard(tokens: &[TokenWithSpan]) -> Result<()> {
    let too_deep = |t: &TokenWithSpan| {
        place(
            Error::user("sql.too-deep", format!("the statement nests deeper than {NESTING_MAX} levels"))
                .hint("use WITH or views to name the parts"),
            location(t.span.start),
        )
    };
    let mut open: Vec<(&TokenWithSpan, usize)> = Vec::new();
    let mut chain = 0;
    let mut cases = 0usize;
    let mut relations = 0;
    for t in tokens {
        match &t.token {
            Token::LParen | Token::LBracket => {
                open.push((t, chain));
                chain = 0;
            }
            Token::RParen | Token::RBracket => {
                let Some((_, outer)) = open.pop() else {
                    return Err(place(
                        Error::user("sql.parse", format!("`{}` closes nothing", t.token)),
                        location(t.span.start),
                    ));
                };
                chain = outer;
            }
            Token::Comma | Token::SemiColon => chain = 0,
            Token::Word(w) if w.quote_style.is_none() => match w.keyword {
                Keyword::CASE => cases += 1,
                Keyword::END => cases = cases.saturating_sub(1),
                Keyword::AND | Keyword::OR | Keyword::NOT => chain += 1,
                Keyword::UNION | Keyword::JOIN => relations += 1,
                Keyword::SELECT | Keyword::FROM | Keyword::WHERE | Keyword::ON | Keyword::THEN | Keyword::ELSE => {
                    chain = 0
                }
                _ => {}
            },
            Token::Plus | Token::Minus | Token::Mul | Token::Div | Token::Mod | Token::StringConcat => {
                chain += 1;
            }
            _ => {}
        }
        if open.len() + cases > NESTING_MAX {
            return Err(too_deep(t));
        }
        if chain > CHAIN_MAX || relations > CHAIN_MAX {
            let error =
                Error::user("sql.too-deep", format!("an expression or query chains more than {CHAIN_MAX} operators"));
            return Err(place(error.hint("use IN (…), parentheses or several statements"), location(t.span.start)));
        }
    }
    match open.last() {
        Some((t, _)) => {
            Err(place(Error::user("sql.parse", format!("`{}` is never closed", t.token)), location(t.span.start)))
        }
        None => Ok(()),
    }
}

/// The script's text by position.
pub(crate) struct Source<'a> {
    text: &'a str,
    lines: &'a LineIndex,
}

impl<'a> Source<'a> {
    /// The text between two locations.
    pub(crate) fn slice(&self, start: Location, end: Location) -> &'a str {
        let (a, b) = (self.lines.offset(self.text, start), self.lines.offset(self.text, end));
        self.text.get(a..b.max(a)).unwrap_or("")
    }
}

/// Byte offsets of lines.
pub(crate) struct LineIndex(Vec<usize>);

impl LineIndex {
    fn new(text: &str) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1);
        LineIndex(std::iter::once(0).chain(starts).collect())
    }
    fn offset(&self, text: &str, at: Location) -> usize {
        let line = usize::try_from(at.line.saturating_sub(1)).unwrap_or(usize::MAX);
        let Some(&start) = self.0.get(line) else { return text.len() };
        let column = usize::try_from(at.column.saturating_sub(1)).unwrap_or(usize::MAX);
        text[start..].char_indices().nth(column).map_or(text.len(), |(i, _)| start + i)
    }
}
