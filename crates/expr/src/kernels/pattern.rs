//! LIKE: `%` any text, `_` one character, no escape character unless one is given; constant patterns are analysed once.

use std::sync::Arc;

use flott_core::types::DataType;
use flott_core::{Error, Result};
use flott_plan::expr::Expr;
use memchr::memmem;

use super::lift::{rows_bool, text, try_rows_bool};
use super::{Compiled, constant_text};
use crate::compile::Value;

/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, args: &[Expr], _out: &DataType) -> Result<Option<Compiled>> {
    let negated = match function {
        "LIKE" => false,
        "NOT LIKE" => true,
        _ => return Ok(None),
    };
    let escape = args.get(2).map(constant_text);
    if let (Some(pattern), None | Some(Some(_))) = (constant_text(&args[1]), escape) {
        let pattern = Pattern::parse(pattern, escape.flatten())?;
        return Ok(Some(Compiled::total(move |args, n, _| {
            let (source, m) = (text(&args[0])?, args[0].row_mask());
            Ok(Arc::new(rows_bool(&[&args[0]], n, |i| pattern.matches(source.value(i & m)) != negated)))
        })));
    }
    Ok(Some(Compiled::partial(move |args, n, _| {
        let parts = args.iter().map(|a| Ok((text(a)?, a.row_mask()))).collect::<Result<Vec<_>>>()?;
        let refs: Vec<&Value> = args.iter().collect();
        let at = |k: usize, i: usize| parts[k].0.value(i & parts[k].1);
        let out = try_rows_bool(&refs, n, |i| {
            let pattern = Pattern::parse(at(1, i), (parts.len() > 2).then(|| at(2, i)))?;
            Ok(Some(pattern.matches(at(0, i)) != negated))
        })?;
        Ok(Arc::new(out))
    })))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Char(char),
    One,
    Many,
}

/// A LIKE pattern, by how it is matched best.
enum Pattern {
    Equal(String),
    Prefix(String),
    Suffix(String),
    Contains(Box<memmem::Finder<'static>>),
    General(Vec<Token>),
}

impl Pattern {
    fn parse(pattern: &str, escape: Option<&str>) -> Result<Self> {
        let escape = escape.map(single_char).transpose()?;
        let mut tokens = Vec::with_capacity(pattern.len());
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                c if Some(c) == escape => match chars.next() {
                    Some(next) if next == '%' || next == '_' || Some(next) == escape => Token::Char(next),
                    _ => {
                        return Err(Error::user("sql.data", format!("invalid escape sequence in LIKE '{pattern}'"))
                            .detail(format!("'{c}' must be followed by %, _ or itself")));
                    }
                },
                '%' => Token::Many,
                '_' => Token::One,
                c => Token::Char(c),
            });
        }
        tokens.dedup_by(|a, b| *a == Token::Many && *b == Token::Many);
        let literal = |tokens: &[Token]| -> Option<String> {
            tokens.iter().map(|t| if let Token::Char(c) = t { Some(*c) } else { None }).collect()
        };
        Ok(match &tokens[..] {
            all if literal(all).is_some() => Pattern::Equal(literal(all).unwrap_or_default()),
            [head @ .., Token::Many] if literal(head).is_some() => Pattern::Prefix(literal(head).unwrap_or_default()),
            [Token::Many, tail @ ..] if literal(tail).is_some() => Pattern::Suffix(literal(tail).unwrap_or_default()),
            [Token::Many, inner @ .., Token::Many] if literal(inner).is_some() => {
                let needle = literal(inner).unwrap_or_default();
                Pattern::Contains(Box::new(memmem::Finder::new(needle.as_bytes()).into_owned()))
            }
            _ => Pattern::General(tokens),
        })
    }

    fn matches(&self, s: &str) -> bool {
        match self {
            Pattern::Equal(text) => s == text,
            Pattern::Prefix(text) => s.starts_with(text.as_str()),
            Pattern::Suffix(text) => s.ends_with(text.as_str()),
            Pattern::Contains(finder) => finder.find(s.as_bytes()).is_some(),
            Pattern::General(tokens) => matches_tokens(tokens, s),
        }
    }
}

fn single_char(escape: &str) -> Result<char> {
    let mut chars = escape.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) => Ok(c),
        _ => Err(Error::user("sql.data", format!("ESCAPE takes one character, found '{escape}'"))),
    }
}

/// Greedy with a single way back, to the last `%`: linear for usual patterns.
fn matches_tokens(tokens: &[Token], s: &str) -> bool {
    let mut rest = s.chars();
    let mut at = 0;
    let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
    loop {
        if tokens.get(at) == Some(&Token::Many) {
            at += 1;
            retry = Some((at, rest.clone()));
            continue;
        }
        match (tokens.get(at), rest.next()) {
            (None, None) => return true,
            (Some(Token::One), Some(_)) => at += 1,
            (Some(Token::Char(c)), Some(found)) if *c == found => at += 1,
            (Some(_), None) => return false,
            _ => {
                let Some((after, mut from)) = retry.take() else { return false };
                if from.next().is_none() {
                    return false;
                }
                at = after;
                rest = from.clone();
                retry = Some((after, from));
            }
        }
    }
}
