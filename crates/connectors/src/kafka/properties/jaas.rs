//! `sasl.jaas.config`: one login module with its options, onto librdkafka's keys. Never repeats what it read: there is a
//! password in it.

use std::collections::BTreeMap;

use flott_core::{Error, Result};

/// Reads `sasl.jaas.config`, if there is one, for the mechanism that is set.
pub(super) fn apply(given: &BTreeMap<String, String>, native: &mut BTreeMap<String, String>) -> Result<()> {
    let mechanism = native.get("sasl.mechanism").cloned();
    if mechanism.as_deref() == Some("OAUTHBEARER") {
        return Err(super::refused(
            "sasl.mechanism",
            "OAUTHBEARER is not implemented; use PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, GSSAPI or TLS",
        ));
    }
    let Some(text) = given.get("sasl.jaas.config").filter(|t| !t.trim().is_empty()) else { return Ok(()) };
    let login = parse(text)?;
    let class = login.module.rsplit('.').next().unwrap_or_default();
    let (fits, fallback): (fn(&str) -> bool, _) = match class {
        "PlainLoginModule" => (|m| m == "PLAIN", Some("PLAIN")),
        "ScramLoginModule" => (|m| m.starts_with("SCRAM-"), None),
        "Krb5LoginModule" => (|m| m == "GSSAPI", Some("GSSAPI")),
        _ => {
            return Err(bad(format!("the login module {} is not known here", login.module))
                .hint("known are PlainLoginModule, ScramLoginModule and Krb5LoginModule"));
        }
    };
    match (&mechanism, fallback) {
        (Some(m), _) if fits(m) => {}
        (Some(m), _) => {
            return Err(bad(format!("the login module {class} is not for 'properties.sasl.mechanism' = '{m}'")).hint(
                "PLAIN takes PlainLoginModule, SCRAM-SHA-256 and -512 ScramLoginModule, GSSAPI Krb5LoginModule",
            ));
        }
        // What Kafka itself takes when there is no mechanism; any other module needs it said.
        (None, Some("GSSAPI")) => {}
        (None, _) => {
            return Err(bad(format!("{class} needs 'properties.sasl.mechanism', which is missing")));
        }
    }
    if class == "Krb5LoginModule" { kerberos(&login, native) } else { password(&login, class, native) }
}

fn password(login: &Login, class: &str, native: &mut BTreeMap<String, String>) -> Result<()> {
    for (option, key) in [("username", "sasl.username"), ("password", "sasl.password")] {
        let Some(value) = login.options.get(option) else {
            return Err(bad(format!("{class} has no {option}"))
                .hint("write … required username=\"NAME\" password=\"WORD\"; with the semicolon at the end"));
        };
        native.insert(key.into(), value.clone());
    }
    Ok(())
}

fn kerberos(login: &Login, native: &mut BTreeMap<String, String>) -> Result<()> {
    let flag = |key: &str| login.options.get(key).is_some_and(|v| v.eq_ignore_ascii_case("true"));
    for (option, key) in [("principal", "sasl.kerberos.principal"), ("serviceName", "sasl.kerberos.service.name")] {
        if let Some(value) = login.options.get(option) {
            native.insert(key.into(), value.clone());
        }
    }
    match login.options.get("keyTab").or_else(|| login.options.get("keytab")) {
        Some(path) => {
            let path = path.strip_prefix("file:").unwrap_or(path);
            native.insert("sasl.kerberos.keytab".into(), path.into());
            if !login.options.contains_key("principal") {
                return Err(bad("Krb5LoginModule has a keyTab and no principal".into())
                    .hint("add principal=\"NAME@REALM\", which the keytab has the key of"));
            }
        }
        // The credentials cache is used as it is: nobody renews it here, so kinit is not called.
        None if flag("useTicketCache") => {
            native.insert("sasl.kerberos.kinit.cmd".into(), String::new());
        }
        None => {
            return Err(bad("Krb5LoginModule has neither keyTab nor useTicketCache=true".into())
                .hint("write useKeyTab=true storeKey=true keyTab=\"/path\" principal=\"NAME@REALM\";"));
        }
    }
    Ok(())
}

fn bad(problem: String) -> Error {
    Error::user("kafka.jaas", format!("'properties.sasl.jaas.config': {problem}"))
}

/// A login module with its options.
struct Login {
    module: String,
    options: BTreeMap<String, String>,
}

/// Reads `MODULE FLAG key=value … ;` with values plain or in quotes.
fn parse(text: &str) -> Result<Login> {
    let shape = "MODULE required key=\"value\" …;";
    let mut rest = text.trim();
    let mut word = |what: &str| {
        let end = rest.find(|c: char| c.is_whitespace() || c == ';').unwrap_or(rest.len());
        let (head, tail) = rest.split_at(end);
        rest = tail.trim_start();
        if head.is_empty() { Err(bad(format!("{what} is missing")).hint(format!("write {shape}"))) } else { Ok(head) }
    };
    let module = word("the login module")?.to_owned();
    let flag = word("the flag `required`")?;
    if !["required", "requisite", "sufficient", "optional"].contains(&flag.to_ascii_lowercase().as_str()) {
        return Err(bad("the second word is not `required`".into()).hint(format!("write {shape}")));
    }
    let mut options = BTreeMap::new();
    while let Some(first) = rest.chars().next() {
        if first == ';' {
            if rest[1..].trim().is_empty() {
                return Ok(Login { module, options });
            }
            return Err(bad("there is more than one login module".into()).hint("a Kafka client takes exactly one"));
        }
        let Some(at) = rest.find('=') else {
            return Err(
                bad("an option without a value, or no semicolon at the end".into()).hint(format!("write {shape}"))
            );
        };
        let key = rest[..at].trim().to_owned();
        let (value, tail) = value(rest[at + 1..].trim_start())?;
        rest = tail.trim_start();
        options.insert(key, value);
    }
    Err(bad("the semicolon at the end is missing".into()).hint(format!("write {shape}")))
}

/// A value and what follows it.
fn value(text: &str) -> Result<(String, &str)> {
    let Some(quote) = text.chars().next().filter(|c| *c == '"' || *c == '\'') else {
        let end = text.find(|c: char| c.is_whitespace() || c == ';').unwrap_or(text.len());
        return Ok((text[..end].to_owned(), &text[end..]));
    };
    let (mut out, mut escaped) = (String::new(), false);
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            out.push(c);
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return Ok((out, &text[at + c.len_utf8()..]));
        } else {
            out.push(c);
        }
    }
    Err(bad("a quote is not closed".into()))
}
