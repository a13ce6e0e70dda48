//! REGEXP, REGEXP_EXTRACT and their family, SIMILAR TO; constant patterns are compiled once, others when they change.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::types::Int32Type;
use flott_core::types::DataType;
use flott_core::{Error, Result};
use flott_plan::expr::Expr;
use regex::{NoExpand, Regex};

use super::java_regex::{compile, is_invalid_in_java, similar};
use super::lift::{primitive, rows_list, rows_text, text, try_rows, try_rows_bool};
use super::{Compiled, Kernel, constant_text};
use crate::compile::Value;

/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, args: &[Expr], _out: &DataType) -> Result<Option<Compiled>> {
    if let "SIMILAR TO" | "NOT SIMILAR TO" = function {
        return similar_to(function == "NOT SIMILAR TO", args).map(Some);
    }
    if !function.starts_with("REGEXP") {
        return Ok(None);
    }
    let constant = constant_text(&args[1]).map(Found::of).transpose()?;
    let fallible = constant.is_none();
    let kernel: Kernel = match function {
        "REGEXP" => Box::new(move |args, n, _| {
            let (source, m) = (text(&args[0])?, args[0].row_mask());
            let mut patterns = Patterns::new(&args[1], constant.as_ref())?;
            let out = try_rows_bool(&[&args[0], &args[1]], n, |i| {
                let found = patterns.at(i)?;
                Ok(Some(found.is_some_and(|r| !r.as_str().is_empty() && r.is_match(source.value(i & m)))))
            })?;
            Ok(Arc::new(out))
        }),
        "REGEXP_EXTRACT" => Box::new(move |args, n, _| extract(args, n, constant.as_ref())),
        "REGEXP_EXTRACT_ALL" => Box::new(move |args, n, _| extract_all(args, n, constant.as_ref())),
        "REGEXP_COUNT" => integer(constant, |regex, s| Some(regex.find_iter(s).count() as i32)),
        "REGEXP_INSTR" => integer(constant, |regex, s| {
            // Positions are Java's: in UTF-16 units.
            Some(regex.find(s).map_or(0, |m| 1 + s[..m.start()].encode_utf16().count() as i32))
        }),
        "REGEXP_SUBSTR" => Box::new(move |args, n, _| {
            let (source, m) = (text(&args[0])?, args[0].row_mask());
            let mut patterns = Patterns::new(&args[1], constant.as_ref())?;
            let out = rows_text(&[&args[0], &args[1]], n, |i, out| {
                let found = patterns.at(i)?.and_then(|r| r.find(source.value(i & m)));
                out.push_str(found.map_or("", |f| f.as_str()));
                Ok(found.is_some())
            })?;
            Ok(Arc::new(out))
        }),
        "REGEXP_REPLACE" => Box::new(move |args, n, _| {
            let (source, m) = (text(&args[0])?, args[0].row_mask());
            let (with, k) = (text(&args[2])?, args[2].row_mask());
            let mut patterns = Patterns::new(&args[1], constant.as_ref())?;
            let out = rows_text(&[&args[0], &args[1], &args[2]], n, |i, out| {
                let Some(regex) = patterns.at(i)? else { return Ok(false) };
                out.push_str(&regex.replace_all(source.value(i & m), NoExpand(with.value(i & k))));
                Ok(true)
            })?;
            Ok(Arc::new(out))
        }),
        _ => return Ok(None),
    };
    Ok(Some(Compiled { kernel, fallible }))
}

fn integer(constant: Option<Found>, f: impl Fn(&Regex, &str) -> Option<i32> + Send + Sync + 'static) -> Kernel {
    Box::new(move |args, n, _| {
        let (source, m) = (text(&args[0])?, args[0].row_mask());
        let mut patterns = Patterns::new(&args[1], constant.as_ref())?;
        let out = try_rows::<Int32Type>(&[&args[0], &args[1]], n, |i| {
            Ok(patterns.at(i)?.and_then(|regex| f(regex, source.value(i & m))))
        })?;
        Ok(Arc::new(out))
    })
}

fn extract(args: &[Value], rows: usize, constant: Option<&Found>) -> Result<ArrayRef> {
    let (source, m) = (text(&args[0])?, args[0].row_mask());
    let group = args.get(2).map(|g| Ok::<_, Error>((primitive::<Int32Type>(g)?, g.row_mask()))).transpose()?;
    let mut patterns = Patterns::new(&args[1], constant)?;
    let refs: Vec<&Value> = args.iter().collect();
    let mut found = constant.and_then(|c| c.0.as_ref()).map(Regex::capture_locations);
    let out = rows_text(&refs, rows, |i, out| {
        let Ok(group) = usize::try_from(group.map_or(0, |(g, k)| g.value(i & k))) else { return Ok(false) };
        let Some(regex) = patterns.at(i)? else { return Ok(false) };
        let s = source.value(i & m);
        let mut fresh;
        let found = match &mut found {
            Some(found) => found,
            None => {
                fresh = regex.capture_locations();
                &mut fresh
            }
        };
        match regex.captures_read(found, s).and_then(|_| found.get(group)) {
            Some((start, end)) => out.push_str(&s[start..end]),
            None => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(Arc::new(out))
}

/// The group of every match; the first group when none is given.
fn extract_all(args: &[Value], rows: usize, constant: Option<&Found>) -> Result<ArrayRef> {
    let (source, m) = (text(&args[0])?, args[0].row_mask());
    let group = args.get(2).map(|g| Ok::<_, Error>((primitive::<Int32Type>(g)?, g.row_mask()))).transpose()?;
    let mut patterns = Patterns::new(&args[1], constant)?;
    let refs: Vec<&Value> = args.iter().collect();
    let out = rows_list(&refs, rows, |i, items| {
        let Ok(group) = usize::try_from(group.map_or(1, |(g, k)| g.value(i & k))) else { return Ok(false) };
        let Some(regex) = patterns.at(i)?.filter(|r| group < r.captures_len()) else { return Ok(false) };
        for found in regex.captures_iter(source.value(i & m)) {
            items.append_option(found.get(group).map(|g| g.as_str()));
        }
        Ok(true)
    })?;
    Ok(Arc::new(out))
}

/// A pattern; nothing for one that Java refuses, with which functions give NULL or FALSE.
struct Found(Option<Regex>);

impl Found {
    fn of(pattern: &str) -> Result<Self> {
        match compile(pattern) {
            Ok(regex) => Ok(Found(Some(regex))),
            Err(_) if is_invalid_in_java(pattern) => Ok(Found(None)),
            Err(e) => Err(e),
        }
    }
}

/// The pattern of each row.
struct Patterns<'a> {
    constant: Option<&'a Found>,
    source: (&'a arrow_array::StringArray, usize),
    last: Option<(String, Found)>,
}

impl<'a> Patterns<'a> {
    fn new(value: &'a Value, constant: Option<&'a Found>) -> Result<Self> {
        Ok(Patterns { constant, source: (text(value)?, value.row_mask()), last: None })
    }
    fn at(&mut self, i: usize) -> Result<Option<&Regex>> {
        if let Some(found) = self.constant {
            return Ok(found.0.as_ref());
        }
        let pattern = self.source.0.value(i & self.source.1);
        let found = match self.last.take() {
            Some(last) if last.0 == pattern => last,
            _ => (pattern.to_owned(), Found::of(pattern)?),
        };
        Ok(self.last.insert(found).1.0.as_ref())
    }
}

fn similar_to(negated: bool, args: &[Expr]) -> Result<Compiled> {
    let escape = |s: &str| -> Result<char> {
        let mut chars = s.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(c),
            _ => Err(Error::user("sql.data", format!("ESCAPE takes one character, found '{s}'"))),
        }
    };
    let constant = match (constant_text(&args[1]), args.get(2).map(constant_text)) {
        (Some(pattern), None) => Some(similar(pattern, None)?),
        (Some(pattern), Some(Some(e))) => Some(similar(pattern, Some(escape(e)?))?),
        _ => None,
    };
    Ok(Compiled {
        fallible: constant.is_none(),
        kernel: Box::new(move |args, n, _| {
            let parts = args.iter().map(|a| Ok((text(a)?, a.row_mask()))).collect::<Result<Vec<_>>>()?;
            let at = |k: usize, i: usize| parts[k].0.value(i & parts[k].1);
            let refs: Vec<&Value> = args.iter().collect();
            let out = try_rows_bool(&refs, n, |i| {
                let own;
                let regex = match &constant {
                    Some(regex) => regex,
                    None => {
                        let escape = if parts.len() > 2 { Some(escape(at(2, i))?) } else { None };
                        own = similar(at(1, i), escape)?;
                        &own
                    }
                };
                Ok(Some(regex.is_match(at(0, i)) != negated))
            })?;
            Ok(Arc::new(out))
        }),
    })
}
