//! JSON documents in a form that is walked without parsing again: one byte string per document. Accepts what Jackson accepts; never
//! recurses deeper than its limit.
//!
//! A value is a tag and what belongs to it: `n` `t` `f`; `#` and `"` a u32 length and the text; `[` and `{` a u32 length of the rest and the
//! items, in an object each behind its name (a u32 length and the text). A document that is not JSON is the one byte `!`.

use std::fmt::Write;

/// Containers may nest so deep, as in Jackson.
const DEPTH_MAX: usize = 1000;
/// The tag of what is no JSON.
const BAD: u8 = b'!';

/// A value on a tape: begins with its tag.
pub(super) type Node<'a> = &'a [u8];

/// Appends the document; `!` when it is not JSON.
pub(super) fn parse(text: &str, out: &mut Vec<u8>) {
    let start = out.len();
    let mut parser = Parser { text: text.as_bytes(), at: 0, out };
    let done = parser.value(0).is_some() && parser.ends_well();
    if !done {
        out.truncate(start);
        out.push(BAD);
    }
}

/// The document, if it is JSON.
pub(super) fn document(tape: &[u8]) -> Option<Node<'_>> {
    (tape.first() != Some(&BAD) && !tape.is_empty()).then_some(tape)
}

struct Parser<'t, 'o> {
    text: &'t [u8],
    at: usize,
    out: &'o mut Vec<u8>,
}

impl Parser<'_, '_> {
    fn skip_space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }
    /// Jackson reads one value and leaves what follows, but a number or a word ends at a space.
    fn ends_well(&self) -> bool {
        let last = self.text[self.at - 1];
        !last.is_ascii_alphanumeric() || matches!(self.text.get(self.at), None | Some(b' ' | b'\t' | b'\n' | b'\r'))
    }
    fn word(&mut self, word: &[u8], tag: u8) -> Option<()> {
        self.text[self.at..].starts_with(word).then_some(())?;
        self.at += word.len();
        self.out.push(tag);
        Some(())
    }
    fn value(&mut self, depth: usize) -> Option<()> {
        self.skip_space();
        match *self.text.get(self.at)? {
            b'n' => self.word(b"null", b'n'),
            b't' => self.word(b"true", b't'),
            b'f' => self.word(b"false", b'f'),
            b'"' => {
                self.out.push(b'"');
                self.string()
            }
            b'-' | b'0'..=b'9' => self.number(),
            open @ (b'[' | b'{') if depth < DEPTH_MAX => self.container(open, depth),
            _ => None,
        }
    }
    fn container(&mut self, open: u8, depth: usize) -> Option<()> {
        let close = if open == b'[' { b']' } else { b'}' };
        self.at += 1;
        self.out.push(open);
        let length_at = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        self.skip_space();
        if self.text.get(self.at) == Some(&close) {
            self.at += 1;
            return Some(());
        }
        loop {
            if open == b'{' {
                self.skip_space();
                (*self.text.get(self.at)? == b'"').then_some(())?;
                self.string()?;
                self.skip_space();
                (*self.text.get(self.at)? == b':').then_some(())?;
                self.at += 1;
            }
            self.value(depth + 1)?;
            self.skip_space();
            let found = *self.text.get(self.at)?;
            self.at += 1;
            match found {
                b',' => {}
                found if found == close => break,
                _ => return None,
            }
        }
        let length = u32::try_from(self.out.len() - length_at - 4).ok()?;
        self.out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        Some(())
    }
    /// A string at its quote: length and text.
    fn string(&mut self) -> Option<()> {
        self.at += 1;
        let length_at = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f))?;
            self.out.extend_from_slice(&rest[..plain]);
            self.at += plain + 1;
            match rest[plain] {
                b'"' => break,
                b'\\' => self.escape()?,
                _ => return None,
            }
        }
        let length = u32::try_from(self.out.len() - length_at - 4).ok()?;
        self.out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        Some(())
    }
    fn escape(&mut self) -> Option<()> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        let plain = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let mut code = self.hex()?;
                if (0xd800..0xdc00).contains(&code) && self.text[self.at..].starts_with(b"\\u") {
                    let back = self.at;
                    self.at += 2;
                    match self.hex()? {
                        low @ 0xdc00..=0xdfff => code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00),
                        _ => self.at = back,
                    }
                }
                let c = char::from_u32(code).unwrap_or('?');
                self.out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Some(());
            }
            _ => return None,
        };
        self.out.push(plain);
        Some(())
    }
    fn hex(&mut self) -> Option<u32> {
        let digits = std::str::from_utf8(self.text.get(self.at..self.at + 4)?).ok()?;
        self.at += 4;
        digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
    }
    fn digits(&mut self) -> usize {
        let from = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        self.at - from
    }
    fn number(&mut self) -> Option<()> {
        let start = self.at;
        if self.text[self.at] == b'-' {
            self.at += 1;
        }
        let leading_zero = self.text.get(self.at) == Some(&b'0');
        let whole = self.digits();
        (whole > 0 && !(leading_zero && whole > 1)).then_some(())?;
        let mut exact = true;
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            exact = false;
            (self.digits() > 0).then_some(())?;
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            exact = false;
            if matches!(self.text.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            (self.digits() > 0).then_some(())?;
        }
        let text = std::str::from_utf8(&self.text[start..self.at]).ok()?;
        let mut shown = String::with_capacity(text.len());
        match (exact, text) {
            (true, "-0") => shown.push('0'),
            (true, text) => shown.push_str(text),
            (false, text) => java_decimal(text, &mut shown)?,
        }
        push_text(b'#', &shown, self.out)
    }
}

fn push_text(tag: u8, text: &str, out: &mut Vec<u8>) -> Option<()> {
    out.push(tag);
    out.extend_from_slice(&u32::try_from(text.len()).ok()?.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    Some(())
}

/// A number with a point or an exponent as Java's BigDecimal writes it.
fn java_decimal(text: &str, out: &mut String) -> Option<()> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let (digits, sign) = if digits.is_empty() { ("0", "") } else { (digits, sign) };
    let scale = fraction.len() as i64 - exponent;
    let adjusted = digits.len() as i64 - 1 - scale;
    out.push_str(sign);
    if scale >= 0 && adjusted >= -6 {
        let scale = scale as usize;
        if scale == 0 {
            out.push_str(digits);
        } else if digits.len() > scale {
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            let _ = write!(out, "{whole}.{fraction}");
        } else {
            out.push_str("0.");
            out.extend(std::iter::repeat_n('0', scale - digits.len()));
            out.push_str(digits);
        }
    } else {
        let (first, rest) = digits.split_at(1);
        out.push_str(first);
        if !rest.is_empty() {
            let _ = write!(out, ".{rest}");
        }
        let _ = write!(out, "E{adjusted:+}");
    }
    Some(())
}

fn length_at(node: &[u8], at: usize) -> usize {
    let bytes: [u8; 4] = node[at..at + 4].try_into().expect("four bytes were taken");
    u32::from_le_bytes(bytes) as usize
}

/// Bytes of the value at the front.
fn size(node: Node<'_>) -> usize {
    match node[0] {
        b'n' | b't' | b'f' => 1,
        _ => 5 + length_at(node, 1),
    }
}

/// What a value is.
pub(super) enum Kind<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    String(&'a str),
    Array(Items<'a>),
    Object(Members<'a>),
}

fn text(node: Node<'_>) -> &str {
    std::str::from_utf8(&node[5..5 + length_at(node, 1)]).unwrap_or_default()
}

/// Looks at a value.
pub(super) fn kind(node: Node<'_>) -> Kind<'_> {
    match node[0] {
        b't' => Kind::Bool(true),
        b'f' => Kind::Bool(false),
        b'#' => Kind::Number(text(node)),
        b'"' => Kind::String(text(node)),
        b'[' => Kind::Array(Items(&node[5..5 + length_at(node, 1)])),
        b'{' => Kind::Object(Members(&node[5..5 + length_at(node, 1)])),
        _ => Kind::Null,
    }
}

/// Items of an array.
#[derive(Clone)]
pub(super) struct Items<'a>(&'a [u8]);

impl<'a> Iterator for Items<'a> {
    type Item = Node<'a>;
    fn next(&mut self) -> Option<Node<'a>> {
        (!self.0.is_empty()).then_some(())?;
        let (item, rest) = self.0.split_at(size(self.0));
        self.0 = rest;
        Some(item)
    }
}

/// Members of an object, in the order of the text, repeated names included.
#[derive(Clone)]
pub(super) struct Members<'a>(&'a [u8]);

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, Node<'a>);
    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then_some(())?;
        let length = length_at(self.0, 0);
        let (name, rest) = self.0[4..].split_at(length);
        let (value, rest) = rest.split_at(size(rest));
        self.0 = rest;
        Some((std::str::from_utf8(name).unwrap_or_default(), value))
    }
}

impl<'a> Members<'a> {
    /// The member of this name; of repeated ones the last.
    pub(super) fn get(&self, name: &str) -> Option<Node<'a>> {
        self.clone().filter(|(n, _)| *n == name).last().map(|(_, v)| v)
    }
    /// Each name once, ordered.
    pub(super) fn sorted(&self) -> Vec<(&'a str, Node<'a>)> {
        let mut all: Vec<_> = self.clone().collect();
        all.sort_by_key(|(name, _)| *name);
        // The sort is stable: of equal names the last stays.
        let mut kept: Vec<(&str, Node<'_>)> = Vec::with_capacity(all.len());
        for member in all {
            match kept.last_mut() {
                Some(last) if last.0 == member.0 => *last = member,
                _ => kept.push(member),
            }
        }
        kept
    }
}

/// Writes a value as JSON text: no spaces, names ordered.
pub(super) fn write(node: Node<'_>, out: &mut String) {
    match kind(node) {
        Kind::Null => out.push_str("null"),
        Kind::Bool(b) => out.push_str(if b { "true" } else { "false" }),
        Kind::Number(n) => out.push_str(n),
        Kind::String(s) => write_string(s, out),
        Kind::Array(items) => {
            out.push('[');
            for (i, item) in items.enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                write(item, out);
            }
            out.push(']');
        }
        Kind::Object(members) => {
            out.push('{');
            for (i, (name, value)) in members.sorted().into_iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                write_string(name, out);
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
    }
}

/// Writes a string in quotes, escaped as Jackson does.
pub fn write_string(s: &str, out: &mut String) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04X}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
