//! MATCH_RECOGNIZE for sqlparser, which knows neither WITHIN nor a subquery in front: tokens are arranged so that its tree carries both,
//! and keep their places. Parses nothing itself.

use flott_core::error::Position;
use flott_core::{Error, Result};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Span, Token, TokenWithSpan, Word};

use super::script::is_word;
use crate::diag::{location, unsupported};

/// Name of the definition that carries the interval of WITHIN; no variable can be called so, because the word is reserved.
pub(crate) const WITHIN: &str = "WITHIN";
/// Name of the table function whose argument is the query that MATCH_RECOGNIZE stands behind.
pub(crate) const INPUT: &str = "match input";

fn word(value: &str, keyword: Keyword, span: Span) -> TokenWithSpan {
    let quote_style = (keyword == Keyword::NoKeyword).then_some('`');
    TokenWithSpan::new(Token::Word(Word { value: value.to_owned(), quote_style, keyword }), span)
}

/// `{- A -}` in a pattern.
pub(crate) fn exclusion(at: Option<Position>) -> Error {
    unsupported("an exclusion {- … -} in a pattern", at)
        .hint("leave the braces out: a match gives one row, so nothing needs to be excluded")
}

/// The token that closes the parenthesis at `open`.
fn closing(tokens: &[TokenWithSpan], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (i, t) in tokens.iter().enumerate().skip(open) {
        match t.token {
            Token::LParen => depth += 1,
            Token::RParen => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(i);
                }
            }
            _ => {}
        }
    }
    None
}

/// The tokens as sqlparser understands them. `PATTERN (…) WITHIN i DEFINE …` becomes `PATTERN (…) DEFINE WITHIN AS i, …`.
pub(crate) fn arrange(tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>> {
    if !tokens.iter().any(|t| is_word(&t.token, "MATCH_RECOGNIZE")) {
        return Ok(tokens);
    }
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len() + 8);
    let mut at = 0;
    while at < tokens.len() {
        let opens = tokens.get(at + 1).is_some_and(|t| t.token == Token::LParen);
        if !(opens && is_word(&tokens[at].token, "MATCH_RECOGNIZE")) {
            out.push(tokens[at].clone());
            at += 1;
            continue;
        }
        name_input(&mut out);
        let end = closing(&tokens, at + 1).unwrap_or(tokens.len());
        body(&tokens[at..end], &mut out)?;
        at = end;
    }
    Ok(out)
}

/// A query in front is made the argument of a function.
fn name_input(out: &mut Vec<TokenWithSpan>) {
    if out.last().is_none_or(|t| t.token != Token::RParen) {
        return;
    }
    let mut depth = 0usize;
    let open = out.iter().rposition(|t| {
        match t.token {
            Token::RParen => depth += 1,
            Token::LParen => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    let is_query = |t: &TokenWithSpan| ["SELECT", "WITH", "VALUES"].iter().any(|w| is_word(&t.token, w));
    let Some(open) = open.filter(|o| out.get(o + 1).is_some_and(is_query)) else { return };
    let (first, last) = (out[open].span, out[out.len() - 1].span);
    out.push(TokenWithSpan::new(Token::RParen, last));
    out.insert(open, TokenWithSpan::new(Token::LParen, first));
    out.insert(open, word(INPUT, Keyword::NoKeyword, first));
}

/// From MATCH_RECOGNIZE to before its closing parenthesis.
fn body(tokens: &[TokenWithSpan], out: &mut Vec<TokenWithSpan>) -> Result<()> {
    let opens = |i: usize| tokens.get(i + 1).is_some_and(|t| t.token == Token::LParen);
    let pattern = (0..tokens.len()).rev().find(|&i| is_word(&tokens[i].token, "PATTERN") && opens(i));
    let Some(after) = pattern.and_then(|p| closing(tokens, p + 1)).map(|close| close + 1) else {
        out.extend_from_slice(tokens);
        return Ok(());
    };
    // sqlparser takes the brace for a quantifier.
    let pattern = pattern.map_or(&tokens[..0], |p| &tokens[p..after]);
    if let Some(two) = pattern.windows(2).find(|t| t[0].token == Token::LBrace && t[1].token == Token::Minus) {
        return Err(exclusion(location(two[0].span.start)));
    }
    let define = (after..tokens.len()).find(|&i| is_word(&tokens[i].token, "DEFINE"));
    let clauses = &tokens[after..define.unwrap_or(tokens.len())];
    if let Some(subset) = clauses.iter().find(|t| is_word(&t.token, "SUBSET")) {
        let error = unsupported("SUBSET in MATCH_RECOGNIZE", location(subset.span.start));
        return Err(
            error.hint("name the variables one by one, or leave out the variable to mean all rows of the match")
        );
    }
    out.extend_from_slice(&tokens[..after]);
    match (clauses.split_first(), define) {
        (Some((within, interval)), Some(define)) if is_word(&within.token, WITHIN) => {
            out.push(tokens[define].clone());
            out.push(within.clone());
            out.push(word("AS", Keyword::AS, within.span));
            out.extend_from_slice(interval);
            out.push(TokenWithSpan::new(Token::Comma, tokens[define].span));
            out.extend_from_slice(&tokens[define + 1..]);
        }
        _ => out.extend_from_slice(&tokens[after..]),
    }
    Ok(())
}
