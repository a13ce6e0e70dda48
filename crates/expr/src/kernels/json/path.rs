//! JSON paths as Flink reads them: `[strict|lax] $.a['b'][0][*]..c`. Finds values on a tape, makes none.

use super::tape::{Kind, Node, kind};

/// One step of a path.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    Index(i64),
    Indexes(Vec<i64>),
    Slice(Option<i64>, Option<i64>),
    All,
    Deep,
}

/// A path, read once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// What is not there is NULL instead of an error.
    pub(super) lax: bool,
    steps: Vec<Step>,
    /// Whether it leads to one value at most.
    definite: bool,
}

/// What a path leads to.
pub(super) enum Found<'a> {
    /// One value.
    One(Node<'a>),
    /// All values of a path with `*`, `..` or a range.
    Many(Vec<Node<'a>>),
}

/// There is nothing where the path leads.
pub(super) struct NotFound;

fn mode(text: &str) -> (bool, &str) {
    let trimmed = text.trim_start();
    for (word, lax) in [("lax", true), ("strict", false)] {
        if let (Some(head), Some(rest)) = (trimmed.get(..word.len()), trimmed.get(word.len()..))
            && head.eq_ignore_ascii_case(word)
            && rest.starts_with(char::is_whitespace)
        {
            return (lax, rest.trim_start());
        }
    }
    (false, text)
}

impl Path {
    /// Reads a path; `None` when it is none.
    pub(super) fn parse(text: &str) -> Option<Path> {
        let (lax, text) = mode(text);
        let mut rest = text.trim();
        // A path may leave the `$.` out.
        match rest.strip_prefix('$').or_else(|| rest.strip_prefix('@')) {
            Some(after) => rest = after,
            None => {
                let steps = Self::steps(&format!(".{rest}"))?;
                return Some(Self::of(lax, steps));
            }
        }
        Some(Self::of(lax, Self::steps(rest)?))
    }

    fn of(lax: bool, steps: Vec<Step>) -> Path {
        let definite = steps.iter().all(|s| matches!(s, Step::Name(_) | Step::Index(_)));
        Path { lax, steps, definite }
    }

    fn steps(mut rest: &str) -> Option<Vec<Step>> {
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix("..") {
                steps.push(Step::Deep);
                rest = after;
                if !rest.starts_with('[') {
                    rest = Self::name(rest, &mut steps)?;
                }
            } else if let Some(after) = rest.strip_prefix('.') {
                rest = if after.starts_with('[') { after } else { Self::name(after, &mut steps)? };
            } else {
                rest = Self::bracket(rest.strip_prefix('[')?.trim_start(), &mut steps)?;
            }
        }
        Some(steps)
    }

    fn name<'a>(rest: &'a str, steps: &mut Vec<Step>) -> Option<&'a str> {
        let end = rest.find(['.', '[', ' ', '(']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if name.is_empty() || after.starts_with(['(', ' ']) {
            return None;
        }
        steps.push(if name == "*" { Step::All } else { Step::Name(name.to_owned()) });
        Some(after)
    }

    /// What stands in brackets, behind the opening one.
    fn bracket<'a>(rest: &'a str, steps: &mut Vec<Step>) -> Option<&'a str> {
        if let Some(quote) = rest.chars().next().filter(|c| matches!(c, '\'' | '"')) {
            let mut name = String::new();
            let mut chars = rest[1..].char_indices();
            let end = loop {
                match chars.next()? {
                    (_, '\\') => name.push(chars.next()?.1),
                    (at, c) if c == quote => break at,
                    (_, c) => name.push(c),
                }
            };
            steps.push(Step::Name(name));
            return rest[end + 2..].trim_start().strip_prefix(']');
        }
        let (inside, after) = rest.split_once(']')?;
        let number = |t: &str| t.trim().parse::<i64>().ok();
        let inside = inside.trim();
        steps.push(if inside == "*" {
            Step::All
        } else if let Some((from, to)) = inside.split_once(':') {
            let bound = |t: &str| if t.trim().is_empty() { Some(None) } else { number(t).map(Some) };
            Step::Slice(bound(from)?, bound(to)?)
        } else if inside.contains(',') {
            Step::Indexes(inside.split(',').map(number).collect::<Option<_>>()?)
        } else {
            Step::Index(number(inside)?)
        });
        Some(after)
    }

    /// What the path leads to in a document.
    pub(super) fn find<'a>(&self, root: Node<'a>) -> Result<Found<'a>, NotFound> {
        let mut found = Vec::new();
        let walked = walk(root, &self.steps, true, &mut found);
        // A lax path that may lead to many values leads to none where a part is missing.
        if self.lax && !self.definite {
            return Ok(Found::Many(if walked.is_ok() { found } else { Vec::new() }));
        }
        walked?;
        if !self.definite {
            return Ok(Found::Many(found));
        }
        found.pop().map(Found::One).ok_or(NotFound)
    }
}

fn at(items: super::tape::Items<'_>, index: i64) -> Option<Node<'_>> {
    if index >= 0 {
        return items.clone().nth(usize::try_from(index).ok()?);
    }
    let count = items.clone().count() as i64;
    items.clone().nth(usize::try_from(count + index).ok()?)
}

/// Values at the end of `steps`. A missing part fails as long as the way to it was without choice.
fn walk<'a>(node: Node<'a>, steps: &[Step], definite: bool, found: &mut Vec<Node<'a>>) -> Result<(), NotFound> {
    let Some((step, rest)) = steps.split_first() else {
        found.push(node);
        return Ok(());
    };
    let missing = if definite { Err(NotFound) } else { Ok(()) };
    match (step, kind(node)) {
        (Step::Name(name), Kind::Object(members)) => match members.get(name) {
            Some(value) => walk(value, rest, definite, found),
            None if rest.is_empty() => Ok(()),
            None => missing,
        },
        (Step::Index(i), Kind::Array(items)) => match at(items, *i) {
            Some(value) => walk(value, rest, definite, found),
            None => Ok(()),
        },
        (Step::Indexes(all), Kind::Array(items)) => {
            all.iter().filter_map(|i| at(items.clone(), *i)).try_for_each(|v| walk(v, rest, false, found))
        }
        (Step::Slice(from, to), Kind::Array(items)) => {
            let count = items.clone().count() as i64;
            let bound = |b: Option<i64>, default: i64| match b {
                None => default,
                Some(b) if b < 0 => (count + b).max(0),
                Some(b) => b.min(count),
            };
            let (from, to) = (bound(*from, 0), bound(*to, count));
            let taken = items.skip(from as usize).take((to - from).max(0) as usize);
            taken.into_iter().try_for_each(|v| walk(v, rest, false, found))
        }
        (Step::All, Kind::Array(mut items)) => items.try_for_each(|v| walk(v, rest, false, found)),
        (Step::All, Kind::Object(mut members)) => members.try_for_each(|(_, v)| walk(v, rest, false, found)),
        (Step::All, _) => Ok(()),
        (Step::Deep, _) => deep(node, rest, found),
        (_, _) => missing,
    }
}

fn deep<'a>(node: Node<'a>, rest: &[Step], found: &mut Vec<Node<'a>>) -> Result<(), NotFound> {
    walk(node, rest, false, found)?;
    match kind(node) {
        Kind::Array(mut items) => items.try_for_each(|v| deep(v, rest, found)),
        Kind::Object(mut members) => members.try_for_each(|(_, v)| deep(v, rest, found)),
        _ => Ok(()),
    }
}
