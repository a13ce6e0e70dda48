//! Flink's `properties.*`: the keys of Kafka's Java client onto those of librdkafka. Drops nothing silently: a key works, is
//! accepted with a notice, or is refused. Never shows a password.

mod jaas;
mod known;
mod ssl;

use std::collections::BTreeMap;
use std::fmt;

use flott_core::config::is_secret;
use flott_core::registry::TableSpec;
use flott_core::{Error, Result};
use rdkafka::ClientConfig;

pub use known::{KNOWN, Property, Rule, Side};

/// What every key of the Java client begins with in the options of a table.
pub const PREFIX: &str = "properties.";

/// The properties of one client, translated. `Debug` shows no secret.
#[derive(Clone, Default)]
pub struct ClientProperties {
    servers: String,
    /// As the table has them, without the prefix.
    given: BTreeMap<String, String>,
    /// For librdkafka.
    native: BTreeMap<String, String>,
    notices: Vec<String>,
}

impl fmt::Debug for ClientProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.native.iter().map(|(k, v)| (k, if is_secret(k) { "(hidden)" } else { v.as_str() }));
        f.debug_map().entries(shown).finish()
    }
}

impl ClientProperties {
    /// The properties of a table for one side of it. Those of the other side are checked and left out.
    pub fn read(table: &TableSpec, side: Side) -> Result<Self> {
        let of_table = |e: Error| e.context(format_args!("table `{}`", table.name));
        let options = table.options.iter();
        let given = options.filter_map(|(k, v)| Some((k.strip_prefix(PREFIX)?.to_owned(), v.trim().to_owned())));
        Self::translate(given.collect(), side).map_err(of_table)
    }

    /// The same for keys without the prefix: what a program gives instead of a table.
    pub fn translate(given: BTreeMap<String, String>, side: Side) -> Result<Self> {
        let mut properties = ClientProperties { given, ..Self::default() };
        properties.servers = properties.given.get("bootstrap.servers").cloned().unwrap_or_default();
        if properties.servers.is_empty() {
            let missing = Error::user("table.missing-option", "the option 'properties.bootstrap.servers' is missing");
            return Err(missing.hint("name one or more brokers, as in 'broker-1:9092,broker-2:9092'"));
        }
        for (key, value) in properties.given.clone() {
            properties.take(&key, &value, side)?;
        }
        jaas::apply(&properties.given, &mut properties.native)?;
        ssl::apply(&properties.given, &mut properties.native, &mut properties.notices)?;
        Ok(properties)
    }

    fn take(&mut self, key: &str, value: &str, side: Side) -> Result<()> {
        let Some(property) = KNOWN.iter().find(|p| p.key == key) else { return Err(unknown(key)) };
        if let Rule::Refused(why) = property.rule {
            return Err(refused(key, why));
        }
        if property.side != Side::Both && side != Side::Both && property.side != side {
            return Ok(());
        }
        match property.rule {
            Rule::Same => self.set(key, value),
            Rule::As(native) => self.set(native, value),
            Rule::Lower => self.set(key, &value.to_ascii_lowercase()),
            Rule::Upper => self.set(key, &value.to_ascii_uppercase()),
            Rule::Buffer(native) => self.set(native, if value == "-1" { "0" } else { value }),
            Rule::Notice(why) => self.notices.push(format!("'{PREFIX}{key}' has no effect: {why}")),
            Rule::Read | Rule::Refused(_) => {}
        }
        Ok(())
    }

    /// Sets a key of librdkafka, over what the table says.
    pub fn set(&mut self, native: &str, value: &str) {
        self.native.insert(native.to_owned(), value.to_owned());
    }

    /// Sets a key of librdkafka unless the table says otherwise.
    pub fn set_default(&mut self, native: &str, value: &str) {
        self.native.entry(native.to_owned()).or_insert_with(|| value.to_owned());
    }

    /// `host:port,…` as given.
    pub fn servers(&self) -> &str {
        &self.servers
    }

    /// What the table says under a key of the Java client.
    pub fn given(&self, key: &str) -> Option<&str> {
        self.given.get(key).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// What librdkafka is told under one of its keys.
    pub fn native(&self, key: &str) -> Option<&str> {
        self.native.get(key).map(String::as_str)
    }

    /// A number given under a key of the Java client.
    pub fn number(&self, key: &str) -> Result<Option<u64>> {
        let parse = |v: &str| v.parse().map_err(|_| bad(key, v, "a whole number"));
        self.given(key).map(parse).transpose()
    }

    /// TRUE or FALSE given under a key of the Java client.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.given(key) {
            None => Ok(default),
            Some(v) if v.eq_ignore_ascii_case("true") => Ok(true),
            Some(v) if v.eq_ignore_ascii_case("false") => Ok(false),
            Some(v) => Err(bad(key, v, "true or false")),
        }
    }

    /// How long one call may take altogether: `default.api.timeout.ms`, a minute as in the Java client.
    pub fn call_timeout_ms(&self) -> Result<u64> {
        Ok(self.number("default.api.timeout.ms")?.unwrap_or(60_000))
    }

    /// What was accepted without effect, a sentence each; for the log.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The configuration of a librdkafka client. Not to be printed: it holds secrets.
    pub fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (key, value) in &self.native {
            config.set(key, value);
        }
        config
    }

    /// Checks the values with librdkafka, without connecting.
    pub fn check(&self) -> Result<()> {
        for (key, value) in &self.native {
            let mut one = ClientConfig::new();
            one.set(key, value);
            if let Err(e) = one.create_native_config() {
                let secret = is_secret(key);
                let shown = if secret { "(hidden)" } else { value.as_str() };
                let error = Error::user("kafka.property", format!("Kafka's property '{key}' = '{shown}' is refused"))
                    .hint("correct the value of the property in the table's options");
                // What librdkafka says repeats the value.
                return Err(if secret { error } else { error.detail(e.to_string()) });
            }
        }
        Ok(())
    }
}

/// An error about a value.
pub(super) fn bad(key: &str, value: &str, expected: &str) -> Error {
    let shown = if is_secret(key) { "(hidden)" } else { value };
    Error::user("kafka.property", format!("'{PREFIX}{key}' = '{shown}' is not {expected}"))
}

fn refused(key: &str, why: &str) -> Error {
    Error::user("table.unsupported-option", format!("the option '{PREFIX}{key}' is not supported: {why}"))
}

fn unknown(key: &str) -> Error {
    let distance = |p: &&Property| strsim::jaro_winkler(p.key, key);
    let near = KNOWN.iter().max_by(|a, b| distance(a).total_cmp(&distance(b))).map_or("group.id", |p| p.key);
    Error::user("table.unknown-option", format!("Kafka has no property '{key}', so '{PREFIX}{key}' is refused"))
        .detail(format!("the nearest is '{PREFIX}{near}'"))
        .hint("correct the key or leave it out")
}

#[cfg(test)]
mod tests;
