//! Calls to servers that speak HTTP: addresses, credentials that are never shown, and bounded answers. Retries nothing and reads
//! no proxy from the environment.

#[cfg(test)]
pub(crate) mod double;

use std::fmt;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Credentials: the value of the header `Authorization`. Neither shown nor logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorization(String);

impl Authorization {
    /// User and password.
    pub fn basic(user: &str, password: &str) -> Self {
        let mut value = String::from("Basic ");
        crate::base64::encode(format!("{user}:{password}").as_bytes(), &mut value);
        Authorization(value)
    }
    /// A token.
    pub fn bearer(token: &str) -> Self {
        Authorization(format!("Bearer {token}"))
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `http://host:port/path`, without user, password and a slash at the end.
    pub url: String,
    /// From `http://user:password@host`.
    pub authorization: Option<Authorization>,
}

impl Address {
    /// Reads `http://host:port` or `https://…`; `None` when it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_end_matches('/');
        let (scheme, rest) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        if scheme != "http" && scheme != "https" {
            return None;
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        let host_is_good = !host.is_empty() && !host.contains([' ', '?', '#', '@']) && !path.contains([' ', '?', '#']);
        let port = host.rsplit_once(':').map(|(_, port)| port).filter(|p| !p.ends_with(']'));
        if !host_is_good || port.is_some_and(|p| p.parse::<u16>().is_err()) {
            return None;
        }
        let authorization = user.map(|u| {
            let (user, password) = u.split_once(':').unwrap_or((u, ""));
            Authorization::basic(&unescape(user), &unescape(password))
        });
        Some(Address { url: format!("{scheme}://{host}{path}"), authorization })
    }
}

/// `%41` to `A`.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&b) = bytes.get(at) {
        let hex = (b == b'%').then(|| text.get(at + 1..at + 3)).flatten().and_then(|h| u8::from_str_radix(h, 16).ok());
        out.push(hex.unwrap_or(b));
        at += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Writes `text` as a segment of a path.
pub fn escape(text: &str, out: &mut String) {
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
}

/// How long calls may take and whom they trust.
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    /// To connect.
    pub connect_timeout_ms: Option<u64>,
    /// For an answer to begin, and again to end.
    pub answer_timeout_ms: Option<u64>,
    /// Certificates in PEM to trust instead of the usual ones.
    pub trusted_pem: Option<Vec<u8>>,
    /// Certificates are not checked at all.
    pub insecure: bool,
}

/// A client with connections that are used again; `Err` says what is wrong with the certificates.
pub fn agent(options: &CallOptions) -> Result<Agent, String> {
    let ms = |ms: Option<u64>| ms.map(Duration::from_millis);
    let mut builder = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .user_agent("flott")
        .timeout_connect(ms(options.connect_timeout_ms))
        .timeout_recv_response(ms(options.answer_timeout_ms))
        .timeout_recv_body(ms(options.answer_timeout_ms));
    if let Some(pem) = &options.trusted_pem {
        let certificates: Vec<Certificate<'static>> = parse_pem(pem)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(c)) => Some(c),
                _ => None,
            })
            .collect();
        if certificates.is_empty() {
            return Err("the file holds no certificate in PEM".into());
        }
        builder = builder.tls_config(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&certificates)).build());
    }
    if options.insecure {
        builder = builder.tls_config(TlsConfig::builder().disable_verification(true).build());
    }
    Ok(builder.build().new_agent())
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The whole address.
    pub url: &'a str,
    /// Credentials.
    pub authorization: Option<&'a Authorization>,
    /// Content type and bytes; `None`: GET instead of POST.
    pub body: Option<(&'a str, &'a [u8])>,
    /// Longest answer that is read.
    pub answer_bytes_max: u64,
}

/// Status and body of an answer.
pub type Answer = (u16, Vec<u8>);

/// Makes one call; the error says why there is no answer.
pub fn call(agent: &Agent, request: Request<'_>) -> Result<Answer, String> {
    let authorization = request.authorization.map(|a| a.0.as_str());
    let response = match request.body {
        None => {
            let call = agent.get(request.url);
            let call = if let Some(a) = authorization { call.header("Authorization", a) } else { call };
            call.header("Accept", "application/json").call()
        }
        Some((content_type, body)) => {
            let call = agent.post(request.url).content_type(content_type);
            let call = if let Some(a) = authorization { call.header("Authorization", a) } else { call };
            call.header("Accept", "application/json").send(body)
        }
    };
    let mut response = response.map_err(|e| e.to_string())?;
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(request.answer_bytes_max).read_to_vec();
    Ok((status, body.map_err(|e| format!("the answer (status {status}) broke off: {e}"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_password_and_keep_their_path() {
        let address = Address::parse(" https://ann:p%40ss@search:9200/prod/ ").expect("an address");
        assert_eq!(address.url, "https://search:9200/prod");
        assert_eq!(address.authorization, Some(Authorization::basic("ann", "p@ss")));
        assert!(!format!("{address:?}").contains("ss@"), "passwords are not shown");
        for bad in ["", "search:9200", "ftp://x", "http://", "http://a:b", "http://a b", "http://h:9200?x"] {
            assert_eq!(Address::parse(bad), None, "{bad}");
        }
        assert_eq!(Address::parse("http://[::1]:9200").map(|a| a.url).as_deref(), Some("http://[::1]:9200"));
    }

    #[test]
    fn segments_are_escaped() {
        let mut out = String::new();
        escape("a/ü b", &mut out);
        assert_eq!(out, "a%2F%C3%BC%20b");
    }
}
