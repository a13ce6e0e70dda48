//! What a user may write as a checkpoint directory: a path or `file:///path`; never touches the file system but for the
//! working directory.

use std::path::PathBuf;

use flott_core::{Error, Result};

/// A parsed directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Absolute path.
    pub path: PathBuf,
}

impl Location {
    /// Parses `file:///path`, `file:/path` or a path (relative ones are taken from the working directory).
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: String| {
            Error::user("storage.location", format!("`{text}` is not a checkpoint directory: {why}"))
                .hint("write an absolute path, such as /data/checkpoints or file:///data/checkpoints")
        };
        if text.trim().is_empty() {
            return Err(bad("it is empty".to_owned()));
        }
        let path = match scheme(text) {
            None => text,
            Some("file") => match text["file:".len()..].strip_prefix("//") {
                None => &text["file:".len()..],
                Some(rest) => {
                    let rest = rest.strip_prefix("localhost").unwrap_or(rest);
                    if !rest.starts_with('/') {
                        return Err(bad("a file URI has no host: three slashes follow `file:`".to_owned()));
                    }
                    rest
                }
            },
            Some(other) => {
                return Err(Error::user(
                    "storage.scheme",
                    format!("checkpoints in {other}:// are not supported yet: `{text}`"),
                )
                .detail("this version of Flott keeps checkpoints in local files; HDFS and S3 come later")
                .hint("write a path on a disk that all processes of the job see, such as file:///data/checkpoints"));
            }
        };
        let absolute = std::path::absolute(path).map_err(|e| bad(e.to_string()))?;
        Ok(Location { path: absolute })
    }
}

/// `hdfs` of `hdfs://…`; a Windows-like single letter is none.
fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once(":/")?;
    let named = scheme.len() > 1 && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+.-".contains(&b));
    (named && scheme.as_bytes()[0].is_ascii_alphabetic()).then_some(scheme)
}
