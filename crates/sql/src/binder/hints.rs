//! Hints behind SELECT: LOOKUP is understood, every other is refused by name. Never ignores one.

use std::collections::BTreeMap;

use flott_core::config::parse_duration_ms;
use flott_core::error::Position;
use flott_core::{Error, Result};
use flott_plan::{LookupJoinOptions, LookupMissRetry};
use sqlparser::ast::OptimizerHint;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::query::QueryBinder;
use crate::diag::{place, unsupported};
use crate::parser::dialect::FlinkDialect;

/// Retries of the `fixed_delay` strategy that need no saying: Flink's defaults exist for neither.
const NEEDED: [&str; 2] = ["fixed-delay", "max-attempts"];

/// A LOOKUP hint that waits for its join.
#[derive(Clone, Debug)]
pub(crate) struct LookupHint {
    table: String,
    options: LookupJoinOptions,
    position: Option<Position>,
}

impl QueryBinder<'_> {
    /// The hints of a SELECT.
    pub(super) fn read_hints(&mut self, hints: &[OptimizerHint], at: Option<Position>) -> Result<Vec<LookupHint>> {
        let mut found = Vec::new();
        for hint in hints {
            for (name, arguments) in parse(&hint.text).ok_or_else(|| malformed(&hint.text, at))? {
                if name != "LOOKUP" {
                    let error = unsupported(&format!("the hint {name}"), at);
                    return Err(error.hint("leave it out; there is LOOKUP"));
                }
                found.push(lookup(arguments, at)?);
            }
        }
        Ok(found)
    }

    /// What the hint for a table says, under its alias or its name.
    pub(super) fn take_lookup_hint(&mut self, alias: &str, name: &str) -> Result<LookupJoinOptions> {
        let at = self.lookup_hints.iter().position(|h| h.table == alias || h.table == name);
        Ok(at.map(|i| self.lookup_hints.remove(i).options).unwrap_or_default())
    }

    /// A hint that no join took is an error.
    pub(super) fn refuse_unused(&self) -> Result<()> {
        let Some(hint) = self.lookup_hints.first() else { return Ok(()) };
        let message = format!("the LOOKUP hint is for `{}`, which no lookup join of this SELECT is of", hint.table);
        let error = Error::user("sql.hint", message);
        Err(place(error.hint("name the table, or its alias, behind JOIN … FOR SYSTEM_TIME AS OF"), hint.position))
    }
}

fn malformed(text: &str, at: Option<Position>) -> Error {
    let error = Error::user("sql.hint", format!("the hint `{}` cannot be read", text.trim()));
    place(error.hint("as in /*+ LOOKUP('table'='dim', 'async'='true') */"), at)
}

type Arguments = BTreeMap<String, String>;

/// `NAME(args), NAME(args)`: keys and values of the arguments; of arguments that are none only that they are there.
fn parse(text: &str) -> Option<Vec<(String, Arguments)>> {
    let dialect = FlinkDialect::default();
    let tokens = crate::parser::tokenize(&dialect, text).ok()?;
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    let mut out = Vec::new();
    while parser.peek_token_ref().token != Token::EOF {
        let Token::Word(word) = parser.next_token().token else { return None };
        let mut arguments = Arguments::new();
        if parser.consume_token(&Token::LParen) {
            while !parser.consume_token(&Token::RParen) {
                match parser.next_token().token {
                    Token::SingleQuotedString(key) if parser.consume_token(&Token::Eq) => {
                        let Token::SingleQuotedString(value) = parser.next_token().token else { return None };
                        arguments.insert(key, value);
                    }
                    Token::EOF => return None,
                    _ => {}
                }
            }
        }
        out.push((word.value.to_uppercase(), arguments));
        let _ = parser.consume_token(&Token::Comma);
    }
    Some(out)
}

/// The options of a hint behind a table's name.
pub(crate) fn options_hint(text: &str, at: Option<Position>) -> Result<BTreeMap<String, String>> {
    let bad = || {
        let error = Error::user("sql.hint", format!("the hint `{}` cannot be read", text.trim()));
        place(error.hint("as in t /*+ OPTIONS('key' = 'value') */"), at)
    };
    let mut options = BTreeMap::new();
    for (name, arguments) in parse(text).ok_or_else(bad)? {
        if name != "OPTIONS" {
            let error = unsupported(&format!("the hint {name} behind a table"), at);
            return Err(error.hint("there is OPTIONS('key' = 'value') here; other hints stand behind SELECT"));
        }
        options.extend(arguments);
    }
    Ok(options)
}

fn lookup(arguments: Arguments, at: Option<Position>) -> Result<LookupHint> {
    let bad = |message: String| place(Error::user("sql.hint", format!("LOOKUP: {message}")), at);
    let get = |key: &str| arguments.get(key).map(|v| v.trim());
    let table = get("table").ok_or_else(|| bad("'table' is missing: which table is looked up".into()))?.to_owned();
    let mut options = LookupJoinOptions::default();
    for (key, value) in &arguments {
        match (key.as_str(), value.trim()) {
            ("table" | "retry-strategy" | "retry-predicate" | "fixed-delay" | "max-attempts", _) => {}
            ("async", "true") => options.parallel = true,
            // The order of results is kept, which serves both modes; what is under way is bounded anyway.
            ("async", "false") | ("output-mode", "ordered" | "allow_unordered") => {}
            ("capacity", n) if n.parse::<u32>().is_ok_and(|n| n > 0) => {}
            ("timeout", _) => return Err(bad("'timeout' is not supported: the connector's own timeouts apply".into())),
            ("shuffle", "false") => {}
            ("shuffle", _) => return Err(bad("'shuffle' is not supported: rows are not spread by key".into())),
            (key @ ("async" | "output-mode" | "capacity"), value) => {
                return Err(bad(format!("'{key}' = '{value}' is not possible")));
            }
            (key, _) => return Err(bad(format!("there is no option '{key}'"))),
        }
    }
    let retry = ["retry-predicate", "retry-strategy", NEEDED[0], NEEDED[1]];
    if retry.iter().any(|k| get(k).is_some()) {
        if let Some(missing) = retry.iter().find(|k| get(k).is_none()) {
            return Err(bad(format!("'{missing}' is missing: a retry needs {}", retry.join(", "))));
        }
        if get("retry-predicate") != Some("lookup_miss") || get("retry-strategy") != Some("fixed_delay") {
            return Err(bad(
                "a retry takes 'retry-predicate' = 'lookup_miss' and 'retry-strategy' = 'fixed_delay'".into()
            ));
        }
        let delay_ms = get("fixed-delay").and_then(parse_duration_ms);
        let max_attempts = get("max-attempts").and_then(|n| n.parse().ok()).filter(|n| *n > 0);
        options.retry_miss = match (delay_ms, max_attempts) {
            (Some(delay_ms), Some(max_attempts)) => Some(LookupMissRetry { delay_ms, max_attempts }),
            (None, _) => return Err(bad("'fixed-delay' is not a duration".into())),
            (_, None) => return Err(bad("'max-attempts' is not a number above 0".into())),
        };
    }
    Ok(LookupHint { table, options, position: at })
}
