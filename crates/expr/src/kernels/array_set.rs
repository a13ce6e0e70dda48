//! ARRAY_DISTINCT, ARRAY_UNION, ARRAY_EXCEPT, ARRAY_INTERSECT: arrays as sets, in the order of the first argument.

use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType as Arrow;
use flott_core::Result;
use flott_core::types::DataType;
use flott_plan::expr::Expr;
use std::collections::HashSet;

use super::Compiled;
use super::array::{Builder, Keys, Lists};
use super::lift::{is_valid, valid};
use crate::compile::Value;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Set {
    Distinct,
    Union,
    Except,
    Intersect,
}

/// The kernel, if `function` is one of these.
pub(super) fn kernel(function: &str, _args: &[Expr], out: &DataType) -> Result<Option<Compiled>> {
    let set = match function {
        "ARRAY_DISTINCT" => Set::Distinct,
        "ARRAY_UNION" => Set::Union,
        "ARRAY_EXCEPT" => Set::Except,
        "ARRAY_INTERSECT" => Set::Intersect,
        _ => return Ok(None),
    };
    let arrow = out.kind.to_arrow();
    Ok(Some(Compiled::total(move |args, n, _| apply(set, args, n, &arrow))))
}

fn apply(set: Set, args: &[Value], rows: usize, out: &Arrow) -> Result<ArrayRef> {
    let first = Lists::of(&args[0])?;
    let second = args.get(1).map(Lists::of).transpose()?;
    let keys = Keys::of(first.list.values())?;
    let other = second.as_ref().map(|s| Keys::of(s.list.values())).transpose()?;
    let nulls = valid(&args.iter().collect::<Vec<_>>(), rows);
    let mut builder = Builder::new(rows);
    for i in 0..rows {
        let there = is_valid(&nulls, i);
        if there {
            // Short arrays dominate: sets of borrowed bytes, one per row.
            let mut seen: HashSet<&[u8]> = HashSet::new();
            let theirs = || {
                second
                    .as_ref()
                    .zip(other.as_ref())
                    .into_iter()
                    .flat_map(|(s, k)| s.range(i).map(move |at| (at, k.at(at))))
            };
            let mut null_at = None;
            let held: HashSet<&[u8]> = match set {
                Set::Except | Set::Intersect => theirs().map(|(_, k)| k).collect(),
                _ => HashSet::new(),
            };
            for at in first.range(i) {
                let key = keys.at(at);
                let wanted = match set {
                    Set::Except => !held.contains(key),
                    Set::Intersect => held.contains(key),
                    _ => true,
                };
                if !wanted || !seen.insert(key) {
                    continue;
                }
                // Flink puts the NULL of a difference last.
                if set == Set::Except && first.list.values().is_null(at) {
                    null_at = Some((0, at));
                } else {
                    builder.at.push((0, at));
                }
            }
            builder.at.extend(null_at);
            if set == Set::Union {
                builder.at.extend(theirs().filter(|(_, key)| seen.insert(key)).map(|(at, _)| (1, at)));
            }
        }
        builder.end(there)?;
    }
    let mut sources = vec![first.list.values()];
    sources.extend(second.as_ref().map(|s| s.list.values()));
    builder.finish(&sources, out)
}
