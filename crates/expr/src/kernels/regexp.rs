//! REGEXP, REGEXP_EXTRACT and REGEXP_REPLACE; constant patterns are compiled once, others when they change.

use std::sync::Arc;

use arrow_array::types::Int32Type;
use flott_core::types::DataType;
use flott_core::{Error, Result};
use flott_plan::expr::Expr;
use regex::{NoExpand, Regex, RegexBuilder};

use super::lift::{primitive, rows_text, text, try_rows_bool};
use super::{Compiled, constant_text};
use crate::compile::Value;

/// Bytes a compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 4 << 20;

/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, args: &[Expr], _out: &DataType) -> Result<Option<Compiled>> {
    if !matches!(function, "REGEXP" | "REGEXP_EXTRACT" | "REGEXP_REPLACE") {
        return Ok(None);
    }
    let constant = constant_text(&args[1]).map(compile).transpose()?;
    let fallible = constant.is_none();
    let kernel: super::Kernel = match function {
        "REGEXP" => Box::new(move |args, n, _| {
            let (source, m) = (text(&args[0])?, args[0].row_mask());
            let mut patterns = Patterns::new(&args[1], constant.as_ref())?;
            let out = try_rows_bool(&[&args[0], &args[1]], n, |i| {
                let regex = patterns.at(i)?;
                Ok(Some(!regex.as_str().is_empty() && regex.is_match(source.value(i & m))))
            })?;
            Ok(Arc::new(out))
        }),
        "REGEXP_EXTRACT" => Box::new(move |args, n, _| extract(args, n, constant.as_ref())),
        _ => Box::new(move |args, n, _| {
            let (source, m) = (text(&args[0])?, args[0].row_mask());
            let (with, k) = (text(&args[2])?, args[2].row_mask());
            let mut patterns = Patterns::new(&args[1], constant.as_ref())?;
            let out = rows_text(&[&args[0], &args[1], &args[2]], n, |i, out| {
                out.push_str(&patterns.at(i)?.replace_all(source.value(i & m), NoExpand(with.value(i & k))));
                Ok(true)
            })?;
            Ok(Arc::new(out))
        }),
    };
    Ok(Some(Compiled { kernel, fallible }))
}

fn extract(args: &[Value], rows: usize, constant: Option<&Regex>) -> Result<arrow_array::ArrayRef> {
    let (source, m) = (text(&args[0])?, args[0].row_mask());
    let group = args.get(2).map(|g| Ok::<_, Error>((primitive::<Int32Type>(g)?, g.row_mask()))).transpose()?;
    let mut patterns = Patterns::new(&args[1], constant)?;
    let refs: Vec<&Value> = args.iter().collect();
    let mut found = constant.map(Regex::capture_locations);
    let out = rows_text(&refs, rows, |i, out| {
        let Ok(group) = usize::try_from(group.map_or(0, |(g, k)| g.value(i & k))) else { return Ok(false) };
        let regex = patterns.at(i)?;
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

fn compile(pattern: &str) -> Result<Regex> {
    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build().map_err(|e| {
        let reason = e.to_string().lines().last().unwrap_or_default().trim().to_owned();
        Error::user("sql.regexp", format!("cannot use the regular expression '{pattern}'"))
            .detail(reason)
            .hint("look-around and back-references are not supported")
    })
}

/// The pattern of each row.
struct Patterns<'a> {
    constant: Option<&'a Regex>,
    source: (&'a arrow_array::StringArray, usize),
    last: Option<Regex>,
}

impl<'a> Patterns<'a> {
    fn new(value: &'a Value, constant: Option<&'a Regex>) -> Result<Self> {
        Ok(Patterns { constant, source: (text(value)?, value.row_mask()), last: None })
    }
    fn at(&mut self, i: usize) -> Result<&Regex> {
        if let Some(regex) = self.constant {
            return Ok(regex);
        }
        let pattern = self.source.0.value(i & self.source.1);
        let regex = match self.last.take() {
            Some(last) if last.as_str() == pattern => last,
            _ => compile(pattern)?,
        };
        Ok(self.last.insert(regex))
    }
}
