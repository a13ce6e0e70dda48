//! Hints behind SELECT: LOOKUP and STATE_TTL are understood, strategies of batch joins are taken with a notice, every other is refused
//! by name.

use std::collections::BTreeMap;

use flott_core::config::parse_duration_ms;
use flott_core::error::Position;
use flott_core::{Error, Result};
use flott_plan::{LookupJoinOptions, LookupMissRetry};
use sqlparser::ast::OptimizerHint;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::query::QueryBinder;
use super::scope::Scope;
use crate::diag::{place, suggestion, unsupported};
use crate::parser::dialect::FlinkDialect;
use crate::planner::rel::HintedTtl;

/// Retries of the `fixed_delay` strategy that need no saying: Flink's defaults exist for neither.
const NEEDED: [&str; 2] = ["fixed-delay", "max-attempts"];

/// Strategies of batch joins: a streaming join has one, so these are taken and mean nothing, as in Flink.
const STRATEGIES: [&str; 5] = ["BROADCAST", "SHUFFLE_HASH", "SHUFFLE_MERGE", "NEST_LOOP", "MULTI_JOIN"];

/// A LOOKUP hint that waits for its join.
#[derive(Clone, Debug)]
struct LookupHint {
    table: String,
    options: LookupJoinOptions,
    position: Option<Position>,
}

/// The hints of a SELECT.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hints {
    /// LOOKUP hints that no join has taken yet.
    lookup: Vec<LookupHint>,
    /// STATE_TTL: table and milliseconds.
    ttl: Vec<(String, i64)>,
    /// Tables that other hints name, with the hint.
    named: Vec<(String, String)>,
    position: Option<Position>,
}

impl Hints {
    /// What STATE_TTL says of the input that this is the scope of, when it is a single table.
    pub(super) fn state_ttl(&self, scope: &Scope) -> HintedTtl {
        let name = scope.qualifiers.first()?.as_ref()?;
        let alone = scope.qualifiers.iter().all(|q| q.as_ref() == Some(name));
        self.ttl.iter().find(|(table, _)| alone && table == name).map(|(_, ms)| *ms)
    }

    /// A hint that names no table of the SELECT is an error, and so is one that no join took.
    pub(super) fn refuse_unused(&self, scope: &Scope) -> Result<()> {
        let mut tables: Vec<&str> = scope.qualifiers.iter().flatten().map(String::as_str).collect();
        tables.dedup();
        if let Some((hint, table)) = self.named.iter().find(|(_, table)| !tables.contains(&table.as_str())) {
            let message = format!("the {hint} hint is for `{table}`, which this SELECT does not read");
            let error = Error::user("sql.hint", message);
            return Err(place(error.hint(suggestion(table, &tables, 12)), self.position));
        }
        let Some(hint) = self.lookup.first() else { return Ok(()) };
        let message = format!("the LOOKUP hint is for `{}`, which no lookup join of this SELECT is of", hint.table);
        let error = Error::user("sql.hint", message);
        Err(place(error.hint("name the table, or its alias, behind JOIN … FOR SYSTEM_TIME AS OF"), hint.position))
    }
}

impl QueryBinder<'_> {
    /// The hints of a SELECT.
    pub(super) fn read_hints(&mut self, hints: &[OptimizerHint], at: Option<Position>) -> Result<Hints> {
        let mut found = Hints { position: at, ..Hints::default() };
        for hint in hints {
            for Written { name, options, tables } in parse(&hint.text).ok_or_else(|| malformed(&hint.text, at))? {
                match name.as_str() {
                    "LOOKUP" => found.lookup.push(lookup(options, at)?),
                    "STATE_TTL" => {
                        for (table, time) in options {
                            found.ttl.push((table.clone(), state_ttl(&table, &time, at)?));
                            found.named.push((name.clone(), table));
                        }
                    }
                    strategy if STRATEGIES.contains(&strategy) => {
                        self.notices.push(format!(
                            "the hint {name} is for joins of batches: a join of streams keeps both sides as state and is not changed by it"
                        ));
                        found.named.extend(tables.into_iter().map(|table| (name.clone(), table)));
                    }
                    _ => {
                        let error = unsupported(&format!("the hint {name}"), at);
                        let names = ["LOOKUP", "STATE_TTL"].into_iter().chain(STRATEGIES).collect::<Vec<_>>();
                        return Err(error.hint(format!("leave it out; {}", suggestion(&name, &names, 8))));
                    }
                }
            }
        }
        Ok(found)
    }

    /// What the hint for a table says, under its alias or its name.
    pub(super) fn take_lookup_hint(&mut self, alias: &str, name: &str) -> Result<LookupJoinOptions> {
        let hints = &mut self.hints.lookup;
        let at = hints.iter().position(|h| h.table == alias || h.table == name);
        Ok(at.map(|i| hints.remove(i).options).unwrap_or_default())
    }
}

fn state_ttl(table: &str, time: &str, at: Option<Position>) -> Result<i64> {
    parse_duration_ms(time.trim()).filter(|ms| *ms >= 0).ok_or_else(|| {
        let error = Error::user("sql.hint", format!("STATE_TTL: '{table}' = '{time}' is no duration"));
        place(error.hint("as in '1d' or '12h'; '0s' keeps the state for as long as the job runs"), at)
    })
}

fn malformed(text: &str, at: Option<Position>) -> Error {
    let error = Error::user("sql.hint", format!("the hint `{}` cannot be read", text.trim()));
    place(error.hint("as in /*+ LOOKUP('table'='dim', 'async'='true') */"), at)
}

type Arguments = BTreeMap<String, String>;

/// A hint as it is written.
struct Written {
    name: String,
    /// Arguments that are keys with values.
    options: Arguments,
    /// Other arguments: names of tables, without those of their databases.
    tables: Vec<String>,
}

/// `NAME(args), NAME(args)`.
fn parse(text: &str) -> Option<Vec<Written>> {
    let dialect = FlinkDialect::default();
    let tokens = crate::parser::tokenize(&dialect, text).ok()?;
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    let mut out = Vec::new();
    while parser.peek_token_ref().token != Token::EOF {
        let Token::Word(word) = parser.next_token().token else { return None };
        let (mut options, mut tables) = (Arguments::new(), Vec::new());
        if parser.consume_token(&Token::LParen) {
            while !parser.consume_token(&Token::RParen) {
                match parser.next_token().token {
                    Token::SingleQuotedString(key) if parser.consume_token(&Token::Eq) => {
                        let Token::SingleQuotedString(value) = parser.next_token().token else { return None };
                        options.insert(key, value);
                    }
                    Token::SingleQuotedString(table) => tables.push(table),
                    Token::Word(word) => tables.push(word.value),
                    // What stood before the dot is a database.
                    Token::Period => drop(tables.pop()),
                    Token::EOF => return None,
                    _ => {}
                }
            }
        }
        out.push(Written { name: word.value.to_uppercase(), options, tables });
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
    for Written { name, options: arguments, .. } in parse(text).ok_or_else(bad)? {
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
