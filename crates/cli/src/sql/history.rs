//! The shell's history: a file of the user's alone, one statement a line, in which no password ever is.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use flott_core::config::is_secret;

/// Statements that the file keeps.
pub const ENTRIES_MAX: usize = 1_000;
/// Bytes of a file that is read; a larger one is somebody else's.
const BYTES_MAX: u64 = 16 << 20;
/// What stands for a secret.
const MASK: &str = "'******'";

/// The file, when there is a place for it.
pub struct History(Option<PathBuf>);

impl History {
    /// The file given, else `flott/history` in the directory for the user's state: `XDG_STATE_HOME`, else `~/.local/state`.
    pub fn open(given: Option<PathBuf>) -> Self {
        let state = |v: OsString| Some(PathBuf::from(v)).filter(|p| p.is_absolute());
        let home = || std::env::home_dir().map(|h| h.join(".local/state"));
        let place =
            || std::env::var_os("XDG_STATE_HOME").and_then(state).or_else(home).map(|d| d.join("flott/history"));
        History(given.or_else(place))
    }

    /// The statements of earlier shells, oldest first. The file is cut to the newest of them.
    pub fn load(&self) -> io::Result<Vec<String>> {
        let Some(path) = &self.0 else { return Ok(Vec::new()) };
        let text = match fs::metadata(path) {
            Ok(m) if m.len() <= BYTES_MAX => fs::read_to_string(path)?,
            Ok(_) => return Err(io::Error::other("it is too large")),
            // The first time there is none.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let lines: Vec<&str> = text.lines().collect();
        let newest = &lines[lines.len().saturating_sub(ENTRIES_MAX)..];
        if lines.len() > 2 * ENTRIES_MAX {
            let kept = path.with_extension("new");
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&kept)?;
            file.write_all((newest.join("\n") + "\n").as_bytes())?;
            fs::rename(kept, path)?;
        }
        Ok(newest.iter().map(|l| unescaped(l)).collect())
    }

    /// Adds a statement without its secrets; one that might hold a secret in another way is left out.
    pub fn add(&self, statement: &str) -> io::Result<()> {
        let (Some(path), Some(text)) = (&self.0, masked(statement)) else { return Ok(()) };
        if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        // One write a statement: shells side by side do not mix theirs.
        let line = text.trim().replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "") + "\n";
        OpenOptions::new().append(true).create(true).mode(0o600).open(path)?.write_all(line.as_bytes())
    }
}

fn unescaped(line: &str) -> String {
    let (mut out, mut chars) = (String::with_capacity(line.len()), line.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some(c) => out.push(c),
                None => {}
            },
            c => out.push(c),
        }
    }
    out
}

/// A piece of a statement.
enum Piece<'a> {
    /// A text in quotes of either kind; doubled quotes are part of it.
    Quoted(&'a str),
    Comment(&'a str),
    Other(&'a str),
}

/// Texts in quotes, comments, and what is between them; nothing when one does not end.
fn pieces(statement: &str) -> Option<Vec<Piece<'_>>> {
    let (mut out, mut rest) = (Vec::new(), statement);
    while let Some(start) = rest.char_indices().map(|(i, _)| i).find(|i| begins(&rest[*i..])) {
        out.push(Piece::Other(&rest[..start]));
        let from = &rest[start..];
        let quoted = from.starts_with(['\'', '"']);
        let length = match () {
            () if quoted => quoted_length(from)?,
            () if from.starts_with("--") => from.find('\n').unwrap_or(from.len()),
            () => from.find("*/")? + 2,
        };
        out.push(if quoted { Piece::Quoted(&from[..length]) } else { Piece::Comment(&from[..length]) });
        rest = &from[length..];
    }
    out.push(Piece::Other(rest));
    Some(out)
}

fn begins(text: &str) -> bool {
    ["'", "\"", "--", "/*"].iter().any(|b| text.starts_with(b))
}

/// The bytes of the quoted text at the beginning of `text`.
fn quoted_length(text: &str) -> Option<usize> {
    let quote = &text[..1];
    let mut at = 1;
    loop {
        at += text[at..].find(quote)? + 1;
        if !text[at..].starts_with(quote) {
            return Some(at);
        }
        at += 1;
    }
}

/// The statement with stars for secrets: values of options and columns whose name says so, and texts with a password inside, such as
/// addresses. Nothing when it may hold a secret and cannot be read.
pub fn masked(statement: &str) -> Option<String> {
    let Some(pieces) = pieces(statement) else {
        return (!is_secret(statement) && !has_password(statement)).then(|| statement.to_owned());
    };
    let (mut out, mut quoted, mut between) = (String::new(), "", String::new());
    for piece in pieces {
        match piece {
            Piece::Quoted(text) => {
                let hidden = is_secret(name(quoted, &between)) || has_password(text);
                out.push_str(if hidden { MASK } else { text });
                quoted = text;
                between.clear();
            }
            Piece::Comment(text) if has_password(text) => return None,
            Piece::Comment(text) => {
                out.push_str(text);
                between.push(' ');
            }
            Piece::Other(text) => {
                out.push_str(text);
                between.push_str(text);
            }
        }
    }
    // SET without quotes.
    let bare = out.split_once('=').is_some_and(|(key, value)| {
        key.trim_start().get(..3).is_some_and(|w| w.eq_ignore_ascii_case("set"))
            && is_secret(key)
            && !value.trim_start().starts_with(MASK)
    });
    (!bare).then_some(out)
}

/// The name of the value that follows: what stands before `=`, which is the text in quotes before or a word in `between`.
fn name<'a>(quoted: &'a str, between: &'a str) -> &'a str {
    match between.trim_end().strip_suffix(['=', '>']).map(|t| t.trim_end_matches('=').trim_end()) {
        None => "",
        Some(t) if t.trim().is_empty() => quoted,
        Some(t) => t.rsplit(|c: char| !c.is_alphanumeric() && !"_.-".contains(c)).next().unwrap_or(""),
    }
}

/// Whether a text has a password inside: `user:password@host`, `password=…`.
fn has_password(text: &str) -> bool {
    let address = text.split("://").skip(1).any(|after| {
        let authority = after.split(['/', '?', '\'']).next().unwrap_or("");
        authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
    });
    let words = text.split(['&', '?', ';', ' ', ',', '\'', '"']);
    address || words.filter_map(|w| w.split_once('=')).any(|(key, value)| is_secret(key) && !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked() {
        let same = [
            "SELECT token FROM t WHERE a = 'password reset';",
            "CREATE TABLE t (a INT) WITH ('connector' = 'kafka', 'topic' = 'passwords');",
            "SET 'pipeline.name' = 'it''s';",
            "SELECT 'https://example.org/a@b:c';",
            "\\timing",
        ];
        for text in same {
            assert_eq!(masked(text).as_deref(), Some(text));
        }
        for (text, expected) in [
            ("… WITH ('username'='u', 'password'='s3cret')", "… WITH ('username'='u', 'password'='******')"),
            ("SET 'a.secret-key' = 's3cret';", "SET 'a.secret-key' = '******';"),
            ("SELECT * FROM t WHERE password = 's3cret'", "SELECT * FROM t WHERE password = '******'"),
            ("WITH (\"password\" = \"s3cret\")", "WITH (\"password\" = '******')"),
            ("'url' = 'jdbc:mysql://u:s3cret@h/db'", "'url' = '******'"),
            ("SET 'a.password' = 'a''s3cret';", "SET 'a.password' = '******';"),
            ("'password' = /* it's */ 's3cret'", "'password' = /* it's */ '******'"),
            ("'password' = -- don't\n's3cret', 'a' = 'b'", "'password' = -- don't\n'******', 'a' = 'b'"),
            ("'properties.ssl.keystore.key' = '-----BEGIN PRIVATE KEY'", "'properties.ssl.keystore.key' = '******'"),
            ("'url' = 'jdbc:mysql://h/db?user=u&password=s3cret'", "'url' = '******'"),
            (
                "'properties.sasl.jaas.config' = 'x required password=\"s3cret\";'",
                "'properties.sasl.jaas.config' = '******'",
            ),
        ] {
            assert_eq!(masked(text).as_deref(), Some(expected));
        }
        let unread =
            ["SET a.secret-key = s3cret;", "'password' = 's3cret", "SELECT 1 -- password=s3cret", "'password' = /* x"];
        for text in unread {
            assert_eq!(masked(text), None, "{text}");
        }
    }

    #[test]
    fn statements_come_back_as_they_were() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let history = History::open(Some(dir.path().join("state/h")));
        assert_eq!(history.load().expect("no file is no error"), Vec::<String>::new());
        for text in ["SELECT 'a\\nb',\n  1;", "\\timing", "SET 'x.password' = 'abc';"] {
            history.add(text).expect("a writable directory");
        }
        let loaded = history.load().expect("a file");
        assert_eq!(loaded, ["SELECT 'a\\nb',\n  1;", "\\timing", "SET 'x.password' = '******';"]);
        use std::os::unix::fs::PermissionsExt;
        let mode = |p: &str| fs::metadata(dir.path().join(p)).expect("it exists").permissions().mode() & 0o777;
        assert_eq!((mode("state"), mode("state/h")), (0o700, 0o600));
    }

    #[test]
    fn the_file_does_not_grow_without_end() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("h");
        let lines: String = (0..2 * ENTRIES_MAX + 1).map(|i| format!("SELECT {i};\n")).collect();
        fs::write(&path, lines).expect("a writable directory");
        let history = History::open(Some(path.clone()));
        let loaded = history.load().expect("a file");
        assert_eq!((loaded.len(), loaded[0].as_str()), (ENTRIES_MAX, "SELECT 1001;"));
        assert_eq!(fs::read_to_string(&path).expect("a file").lines().count(), ENTRIES_MAX);
    }
}
