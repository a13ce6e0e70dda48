//! PARSE_URL: the parts of a URL as Java's `java.net.URL` sees them; NULL for text that is none.

use std::sync::Arc;

use flott_core::Result;
use flott_core::types::DataType;
use flott_plan::expr::Expr;

use super::Compiled;
use super::lift::{rows_text, text};
use crate::compile::Value;

/// Protocols for which Java has a handler.
const PROTOCOLS: &[&str] = &["http", "https", "ftp", "file", "jar", "mailto"];

/// The kernel, if `function` is this one.
pub(super) fn kernel(function: &str, _args: &[Expr], _out: &DataType) -> Result<Option<Compiled>> {
    if function != "PARSE_URL" {
        return Ok(None);
    }
    Ok(Some(Compiled::total(|args, n, _| {
        let parts = args.iter().map(|a| Ok((text(a)?, a.row_mask()))).collect::<Result<Vec<_>>>()?;
        let at = |k: usize, i: usize| parts[k].0.value(i & parts[k].1);
        let refs: Vec<&Value> = args.iter().collect();
        let out = rows_text(&refs, n, |i, out| {
            let Some(url) = Url::parse(at(0, i)) else { return Ok(false) };
            let part = match parts.len() {
                2 => url.part(at(1, i), out),
                _ if at(1, i) == "QUERY" => url.parameter(at(2, i)).map(|v| out.push_str(v)),
                _ => None,
            };
            Ok(part.is_some())
        })?;
        Ok(Arc::new(out))
    })))
}

struct Url<'a> {
    protocol: &'a str,
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
    reference: Option<&'a str>,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (protocol, rest) = text.trim().split_once(':')?;
        if !PROTOCOLS.iter().any(|p| p.eq_ignore_ascii_case(protocol)) {
            return None;
        }
        let (rest, reference) = match rest.split_once('#') {
            Some((rest, reference)) => (rest, Some(reference)),
            None => (rest, None),
        };
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => {
                let end = rest.find('/').unwrap_or(rest.len());
                (Some(&rest[..end]), &rest[end..])
            }
            None => (None, rest),
        };
        Some(Url { protocol, authority, path, query, reference })
    }

    /// Appends the part of that name; `None` when there is none.
    fn part(&self, name: &str, out: &mut String) -> Option<()> {
        match name {
            "HOST" => {
                let host = self.authority?.rsplit_once('@').map_or(self.authority?, |(_, host)| host);
                let port = if host.ends_with(']') { None } else { host.rsplit_once(':') };
                out.push_str(port.map_or(host, |(host, _)| host));
            }
            "PATH" => out.push_str(self.path),
            "QUERY" => out.push_str(self.query?),
            "REF" => out.push_str(self.reference?),
            "PROTOCOL" => out.push_str(&self.protocol.to_ascii_lowercase()),
            "FILE" => {
                out.push_str(self.path);
                if let Some(query) = self.query {
                    out.extend(["?", query]);
                }
            }
            "AUTHORITY" => out.push_str(self.authority?),
            "USERINFO" => out.push_str(self.authority?.rsplit_once('@')?.0),
            _ => return None,
        }
        Some(())
    }

    fn parameter(&self, key: &str) -> Option<&'a str> {
        self.query?.split('&').find_map(|pair| match pair.split_once('=') {
            Some((k, value)) if k == key => Some(value),
            _ => None,
        })
    }
}
