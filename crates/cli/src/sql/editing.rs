//! The line editor's manners: which input is complete, and what is coloured. Knows SQL by its words only.

use std::borrow::Cow;

use rustyline::completion::{Completer, Pair};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use super::completion::{self, Names};

/// What the editor knows of the session.
#[derive(Default)]
pub struct Editing {
    /// Tables, views, columns and functions.
    pub names: Names,
    /// Colours are shown.
    pub colours: bool,
}

/// Words that are commands of the shell without a semicolon, as in Flink's SQL client.
const COMMANDS: &[&str] = &["quit", "exit", "help", "clear"];

/// Whether the text ends a statement: a `;` outside of strings and comments, or a command of the shell.
pub fn is_complete(text: &str) -> bool {
    let trimmed = text.trim();
    if trimmed.is_empty() || trimmed.starts_with('\\') || COMMANDS.iter().any(|c| trimmed.eq_ignore_ascii_case(c)) {
        return true;
    }
    let Some(code) = code(text) else { return false };
    let code = code.to_ascii_uppercase().replace(';', " ; ");
    let words: Vec<&str> = code.split_whitespace().collect();
    let Some((&";", inner)) = words.split_last() else { return false };
    let first = if inner.first() == Some(&"EXPLAIN") { &inner[1..] } else { inner };
    let sets: [&[&str]; 3] = [&["EXECUTE", "STATEMENT", "SET"], &["BEGIN", "STATEMENT", "SET"], &["STATEMENT", "SET"]];
    !sets.iter().any(|s| first.starts_with(s)) || inner.last() == Some(&"END")
}

/// The text without comments and with an `x` for each quoted text; nothing when one does not end.
fn code(text: &str) -> Option<String> {
    let (mut code, mut chars) = (String::new(), text.chars().peekable());
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('-', Some('-')) => {
                let _ = chars.by_ref().find(|c| *c == '\n');
                code.push('\n');
            }
            ('/', Some('*')) => {
                let mut before = ' ';
                chars.next();
                chars.by_ref().find(|c| std::mem::replace(&mut before, *c) == '*' && *c == '/')?;
                code.push(' ');
            }
            ('\'' | '`' | '"', _) => {
                chars.by_ref().find(|next| *next == c)?;
                code.push('x');
            }
            _ => code.push(c),
        }
    }
    Some(code)
}

impl Completer for Editing {
    type Candidate = Pair;
    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, found) = completion::complete(&self.names, line, at);
        Ok((start, found.into_iter().map(|text| Pair { display: text.clone(), replacement: text }).collect()))
    }
}

impl Hinter for Editing {
    type Hint = String;
}

impl Validator for Editing {
    fn validate(&self, ctx: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_complete(ctx.input()) { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Highlighter for Editing {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        if !self.colours {
            return Cow::Borrowed(line);
        }
        let (mut out, mut rest) = (String::with_capacity(line.len() + 64), line);
        while let Some(first) = rest.chars().next() {
            let (length, colour) = token(rest, first);
            let (token, after) = rest.split_at(length);
            match colour {
                Some(colour) => out.extend(["\x1b[", colour, "m", token, "\x1b[0m"]),
                None => out.push_str(token),
            }
            rest = after;
        }
        Cow::Owned(out)
    }
    fn highlight_char(&self, _: &str, _: usize, _: CmdKind) -> bool {
        self.colours
    }
}

/// The length of the token at the beginning of a text, and its colour.
fn token(rest: &str, first: char) -> (usize, Option<&'static str>) {
    let until = |pattern: &str, from: usize| {
        rest.get(from..).and_then(|r| r.find(pattern)).map_or(rest.len(), |i| from + i + pattern.len())
    };
    match first {
        '\'' => (until("'", 1), Some("32")),
        '`' => (until("`", 1), None),
        '-' if rest.starts_with("--") => (rest.find('\n').unwrap_or(rest.len()), Some("2")),
        '/' if rest.starts_with("/*") => (until("*/", 2), Some("2")),
        c if c.is_alphabetic() || c == '_' => {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            (length, completion::is_keyword(&rest[..length]).then_some("1;34"))
        }
        c => (c.len_utf8(), None),
    }
}

impl Helper for Editing {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_at_its_semicolon() {
        for text in [
            "SELECT 1;",
            "SELECT 1; -- done",
            "\\timing",
            "quit",
            "",
            "SELECT ';' -- x;\n;",
            "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; END;",
            "EXPLAIN STATEMENT SET BEGIN INSERT INTO a SELECT 1;END;",
        ] {
            assert!(is_complete(text), "{text}");
        }
        for text in [
            "SELECT 1",
            "SELECT ';",
            "SELECT 1 -- ;",
            "SELECT /* ;",
            "SELECT 1; -- \nSELECT",
            "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1;",
            "EXPLAIN EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1;",
        ] {
            assert!(!is_complete(text), "{text}");
        }
    }

    #[test]
    fn words_strings_and_comments_are_coloured() {
        let editing = Editing { names: Names::default(), colours: true };
        let shown = editing.highlight("select 'a', b -- c\n, `d`, 'é", 0);
        assert_eq!(shown, "\x1b[1;34mselect\x1b[0m \x1b[32m'a'\x1b[0m, b \x1b[2m-- c\x1b[0m\n, `d`, \x1b[32m'é\x1b[0m");
        let plain = Editing::default();
        assert_eq!(plain.highlight("select 'a'", 0), "select 'a'");
    }
}
