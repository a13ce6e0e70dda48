//! Java's regular expressions and SQL's SIMILAR TO in the syntax of the engine here; never matches anything itself.

use flott_core::{Error, Result};
use regex::{Regex, RegexBuilder};

/// Bytes a compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 4 << 20;

/// A regular expression of Java, compiled.
pub(super) fn compile(pattern: &str) -> Result<Regex> {
    RegexBuilder::new(&translated(pattern)).size_limit(PATTERN_BYTES_MAX).build().map_err(|e| {
        let reason = e.to_string().lines().last().unwrap_or_default().trim().to_owned();
        Error::user("sql.regexp", format!("cannot use the regular expression '{pattern}'"))
            .detail(reason)
            .hint("look-around and back-references are not supported")
    })
}

/// Whether Java would refuse the pattern too, as far as can be told: then functions give NULL instead of an error.
pub(super) fn is_invalid_in_java(pattern: &str) -> bool {
    let only_here = ["(?=", "(?!", "(?<=", "(?<!", "(?>", "++", "*+", "?+", "}+", "&&"];
    let back_reference =
        |p: &str| p.as_bytes().windows(2).any(|w| w[0] == b'\\' && (w[1].is_ascii_digit() || b"kGX".contains(&w[1])));
    !only_here.iter().any(|s| pattern.contains(s)) && !back_reference(pattern)
}

/// Escapes that mean ASCII in Java are Unicode's here, and some are written otherwise.
fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    let mut class_depth = 0usize;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('Q') => {
                    let rest: String = chars.by_ref().collect();
                    let (quoted, after) = rest.split_once("\\E").unwrap_or((&rest, ""));
                    out.push_str(&regex::escape(quoted));
                    out.push_str(&translated(after));
                    return out;
                }
                Some('p' | 'P') if chars.peek() == Some(&'{') => {
                    // What follows is a name in braces: POSIX classes are ASCII.
                    let name: String = chars.by_ref().take_while(|c| *c != '}').skip(1).collect();
                    push_property(&name, &mut out);
                }
                Some(escaped) => push_escape(escaped, class_depth > 0, &mut out),
                None => out.push('\\'),
            },
            '[' => {
                class_depth += 1;
                out.push(c);
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
            }
            ']' if class_depth > 0 => {
                class_depth -= 1;
                out.push(c);
            }
            // Set operations here, plain characters in Java.
            '~' | '-' if class_depth > 0 && chars.peek() == Some(&c) => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

fn push_property(name: &str, out: &mut String) {
    let posix = match name {
        "Alpha" => "alpha",
        "Lower" => "lower",
        "Upper" => "upper",
        "ASCII" => "ascii",
        "Digit" => "digit",
        "Alnum" => "alnum",
        "Punct" => "punct",
        "Graph" => "graph",
        "Print" => "print",
        "Blank" => "blank",
        "Cntrl" => "cntrl",
        "XDigit" => "xdigit",
        "Space" => "space",
        _ => {
            // `IsAlphabetic`, `InGreek`, `javaLowerCase`: the prefix is Java's.
            let plain = name.strip_prefix("Is").unwrap_or(name);
            out.extend(["\\p{", plain, "}"]);
            return;
        }
    };
    out.extend(["[[:", posix, ":]]"]);
}

fn push_escape(escaped: char, in_class: bool, out: &mut String) {
    let class = match escaped {
        'd' => "0-9",
        'w' => "a-zA-Z_0-9",
        's' => " \\t\\n\\x0B\\f\\r",
        'h' => " \\xA0\\t",
        _ => {
            match escaped {
                'D' => out.push_str("[^0-9]"),
                'W' => out.push_str("[^a-zA-Z_0-9]"),
                'S' => out.push_str("[^ \\t\\n\\x0B\\f\\r]"),
                'R' => out.push_str("(?:\\r\\n|[\\n\\x0B\\f\\r\\u{85}\\u{2028}\\u{2029}])"),
                'Z' => out.push_str("(?:\\n?\\z)"),
                'e' => out.push_str("\\x1B"),
                // An escaped letter without a meaning is an error in both; anything else stands for itself.
                c if c.is_ascii_alphanumeric() => out.extend(['\\', c]),
                c => out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
            }
            return;
        }
    };
    if in_class {
        out.push_str(class);
    } else {
        out.extend(["[", class, "]"]);
    }
}

/// Characters that SIMILAR TO gives a meaning.
const SIMILAR_SPECIALS: &str = "[]()|^-+*_%?{}";

/// A pattern of SIMILAR TO as a regular expression for the whole text.
pub(super) fn similar(pattern: &str, escape: Option<char>) -> Result<Regex> {
    let bad = |why: &str| {
        Error::user("sql.data", format!("invalid pattern in SIMILAR TO '{pattern}'")).detail(why.to_owned())
    };
    let mut out = String::from("^(?:");
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if Some(c) == escape => match chars.next() {
                Some(next) if SIMILAR_SPECIALS.contains(next) || Some(next) == escape => {
                    out.push_str(&regex::escape(next.encode_utf8(&mut [0; 4])));
                }
                _ => return Err(bad("the escape character stands before an ordinary one")),
            },
            '_' => out.push('.'),
            '%' => out.push_str("(?s:.*)"),
            '[' => enumeration(&mut chars, escape, &mut out).map_err(bad)?,
            ']' => return Err(bad("`]` without `[`")),
            '\\' | '$' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push_str(")$");
    // `$` must be the very end here, not before a last line break.
    out.truncate(out.len() - 1);
    out.push_str("\\z");
    compile(&out)
}

/// What stands between `[` and `]`.
fn enumeration(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    escape: Option<char>,
    out: &mut String,
) -> Result<(), &'static str> {
    out.push('[');
    while let Some(c) = chars.next() {
        match c {
            ']' => {
                out.push(']');
                return Ok(());
            }
            '[' if chars.peek() == Some(&':') => {
                let name: String = chars.by_ref().take_while(|c| *c != ']').collect();
                out.push_str(match name.trim_matches(':').to_ascii_lowercase().as_str() {
                    "alpha" => "a-zA-Z",
                    "upper" => "A-Z",
                    "lower" => "a-z",
                    "digit" => "0-9",
                    "alnum" => "a-zA-Z0-9",
                    "space" => " ",
                    "whitespace" => " \\t\\n\\x0B\\f\\r",
                    _ => return Err("unknown class of characters"),
                });
            }
            '[' => return Err("`[` inside of `[`"),
            c if Some(c) == escape => match chars.next() {
                Some(next) => out.push_str(&regex::escape(next.encode_utf8(&mut [0; 4]))),
                None => return Err("the escape character stands last"),
            },
            '\\' | '&' | '~' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    Err("`[` without `]`")
}
