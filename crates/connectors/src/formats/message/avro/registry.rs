//! The schema registry of Confluent over HTTP: schemas by id, ids of schemas. Asks for each once and keeps the answer; never
//! waits longer than its timeouts.

use std::collections::BTreeMap;
use std::sync::Arc;

use flott_core::{Error, Result};
use serde::Deserialize;
use serde_json::json;
use ureq::Agent;

use crate::formats::excerpt;
use crate::http::{self, Address, Authorization, CallOptions, Request};
use crate::options::TableOptions;

const CONNECT_TIMEOUT_MS: u64 = 5_000;
const ANSWER_TIMEOUT_MS: u64 = 10_000;
const ANSWER_BYTES_MAX: u64 = 8 << 20;
/// All addresses are tried so often.
const ROUNDS: usize = 2;
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// Answers to GET that are kept.
const KEPT_MAX: usize = 1000;

/// Where the registry is and who we are.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    addresses: Vec<Address>,
    authorization: Option<Authorization>,
    subject: Option<String>,
    calls: CallOptions,
}

impl RegistryOptions {
    /// Reads the options of a table. The subject follows from Kafka's topic if there is one.
    pub fn read(o: &TableOptions<'_>, topic: Option<&str>, is_key: bool) -> Result<Self> {
        let url = o.text("avro-confluent.url").unwrap_or_default();
        let addresses: Option<Vec<_>> = url.split(',').map(Address::parse).collect();
        let Some(addresses) = addresses else {
            // The value is not shown: it may hold a password.
            let message =
                format!("table `{}`: 'avro-confluent.url' is not the address of a schema registry", o.table());
            return Err(Error::user("table.bad-option", message).hint("write http://host:port, several with commas"));
        };
        for refused in ["ssl.keystore.location", "ssl.keystore.password"] {
            let key = format!("avro-confluent.{refused}");
            if o.text(&key).is_some() {
                return Err(o.refused(&key, "the registry is called without a client certificate"));
            }
        }
        if let Some(key) = o.keys().find_map(|k| k.split_once("avro-confluent.properties.")) {
            let key = format!("avro-confluent.properties.{}", key.1);
            return Err(o.refused(&key, "there is no Java client that it could be handed to"));
        }
        if o.text("avro-confluent.ssl.truststore.password").is_some() {
            let why = "certificates are read from a PEM file, which has no password";
            return Err(o.refused("avro-confluent.ssl.truststore.password", why));
        }
        let trusted_pem = match o.text("avro-confluent.ssl.truststore.location") {
            None => None,
            Some(path) => Some(std::fs::read(path).map_err(|e| {
                o.bad("avro-confluent.ssl.truststore.location", format!("a PEM file that can be read ({e})"))
            })?),
        };
        let calls = CallOptions {
            connect_timeout_ms: Some(CONNECT_TIMEOUT_MS),
            answer_timeout_ms: Some(ANSWER_TIMEOUT_MS),
            trusted_pem,
            insecure: false,
        };
        http::agent(&calls).map_err(|e| {
            o.bad("avro-confluent.ssl.truststore.location", format!("a PEM file of certificates ({e})"))
        })?;
        let subject = o.text("avro-confluent.subject").map(str::to_owned).or_else(|| {
            let topic = topic.filter(|t| !t.contains(';'))?;
            Some(format!("{topic}-{}", if is_key { "key" } else { "value" }))
        });
        Ok(RegistryOptions { addresses, authorization: authorization(o)?, subject, calls })
    }
}

fn authorization(o: &TableOptions<'_>) -> Result<Option<Authorization>> {
    let missing = |key: &str| {
        let message = format!("table `{}`: the option '{key}' is missing", o.table());
        Err(Error::user("table.missing-option", message).hint("the source of credentials that is set needs it"))
    };
    let source = "avro-confluent.basic-auth.credentials-source";
    if o.text(source).is_some_and(|s| s.eq_ignore_ascii_case("SASL_INHERIT")) {
        return Err(o.refused(source, "SASL_INHERIT needs Kafka's Java client; use USER_INFO"));
    }
    let by_user_info = o.one_of(source, &["URL", "USER_INFO"], 0)? == 1;
    let user_info = o.text("avro-confluent.basic-auth.user-info");
    if by_user_info {
        let Some((user, password)) = user_info.and_then(|u| u.split_once(':')) else {
            return missing("avro-confluent.basic-auth.user-info");
        };
        return Ok(Some(Authorization::basic(user, password)));
    }
    let source = "avro-confluent.bearer-auth.credentials-source";
    let Some(bearer) = o.text(source) else { return Ok(None) };
    if !bearer.eq_ignore_ascii_case("STATIC_TOKEN") {
        return Err(o.refused(source, "tokens are not fetched from elsewhere; use STATIC_TOKEN"));
    }
    match o.text("avro-confluent.bearer-auth.token") {
        Some(token) => Ok(Some(Authorization::bearer(token))),
        None => missing("avro-confluent.bearer-auth.token"),
    }
}

/// Why a schema could not be had.
pub enum RegistryError {
    /// The registry says that there is none: the message is to blame.
    NotThere(String),
    /// The registry is to blame, or the way to it.
    Failed(Error),
}

/// A client of the registry.
pub struct Registry {
    options: Arc<RegistryOptions>,
    agent: Agent,
    known: BTreeMap<u32, Result<String, String>>,
}

#[derive(Deserialize)]
struct SchemaAnswer {
    schema: String,
    #[serde(default, rename = "schemaType")]
    kind: Option<String>,
    #[serde(default)]
    references: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct IdAnswer {
    id: u32,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

impl Registry {
    /// A client; nothing is asked yet.
    pub fn new(options: Arc<RegistryOptions>) -> Result<Self> {
        let agent = http::agent(&options.calls).map_err(Error::bug)?;
        Ok(Registry { options, agent, known: BTreeMap::new() })
    }

    /// The subject, if there is one.
    pub fn subject(&self) -> Option<&str> {
        self.options.subject.as_deref()
    }

    /// The schema with this id, as JSON.
    pub fn schema(&mut self, id: u32) -> Result<String, RegistryError> {
        if let Some(known) = self.known.get(&id) {
            return known.clone().map_err(RegistryError::NotThere);
        }
        let (address, status, body) = self.ask(&format!("/schemas/ids/{id}"), None).map_err(RegistryError::Failed)?;
        let answer = match status {
            200 => match serde_json::from_slice::<SchemaAnswer>(&body) {
                Ok(answer) if answer.kind.as_deref().is_some_and(|k| k != "AVRO") => {
                    Err(format!("its schema (id {id}) is not one of Avro but of {}", answer.kind.unwrap_or_default()))
                }
                Ok(answer) if !answer.references.is_empty() => {
                    Err(format!("its schema (id {id}) refers to other subjects, which is not supported"))
                }
                Ok(answer) => Ok(answer.schema),
                Err(_) => return Err(RegistryError::Failed(self.odd(&address, status, &body))),
            },
            404 => Err(format!("the registry {address} knows no schema with the id {id}")),
            _ => return Err(RegistryError::Failed(self.odd(&address, status, &body))),
        };
        if self.known.len() >= KEPT_MAX {
            self.known.clear();
        }
        self.known.insert(id, answer.clone());
        answer.map_err(RegistryError::NotThere)
    }

    /// Registers a schema under the subject, or finds that it is; its id.
    pub fn register(&mut self, schema: &str) -> Result<u32> {
        let subject = self.subject().unwrap_or_default().to_owned();
        let mut path = String::from("/subjects/");
        http::escape(&subject, &mut path);
        path.push_str("/versions");
        let body = json!({ "schema": schema }).to_string();
        let (address, status, body) = self.ask(&path, Some(body.as_bytes()))?;
        match (status, serde_json::from_slice::<IdAnswer>(&body)) {
            (200, Ok(answer)) => Ok(answer.id),
            (409, _) => Err(Error::user(
                "format.avro.incompatible",
                format!("the registry {address} refuses the schema for subject '{subject}': {}", said(&body)),
            )
            .detail(format!("the schema is {}", excerpt(schema.as_bytes())))
            .hint("write to another subject, change the columns, or the subject's compatibility")),
            _ => Err(self.odd(&address, status, &body)),
        }
    }

    /// Asks all addresses in turn.
    fn ask(&self, path: &str, body: Option<&[u8]>) -> Result<(String, u16, Vec<u8>)> {
        let mut problems = Vec::new();
        for _ in 0..ROUNDS {
            problems.clear();
            for address in &self.options.addresses {
                let request = Request {
                    url: &format!("{}{path}", address.url),
                    authorization: self.options.authorization.as_ref().or(address.authorization.as_ref()),
                    body: body.map(|b| (CONTENT_TYPE, b)),
                    answer_bytes_max: ANSWER_BYTES_MAX,
                };
                match http::call(&self.agent, request) {
                    Ok((status, body)) if status < 500 => return Ok((address.url.clone(), status, body)),
                    Ok((status, body)) => problems.push(format!("{} answers {status}: {}", address.url, said(&body))),
                    Err(e) => problems.push(format!("{}: {e}", address.url)),
                }
            }
        }
        Err(Error::retry(
            "format.avro.registry",
            format!("the schema registry does not answer: {}", problems.join("; ")),
        )
        .hint("start the registry, or correct 'avro-confluent.url'"))
    }

    fn odd(&self, address: &str, status: u16, body: &[u8]) -> Error {
        let message = format!("the schema registry {address} answers {status}: {}", said(body));
        match status {
            401 | 403 => Error::user("format.avro.registry", message)
                .hint("set 'avro-confluent.basic-auth.user-info' and its credentials-source, or a bearer token"),
            429 => Error::retry("format.avro.registry", message).hint("the registry is busy; the job starts again"),
            _ => Error::user("format.avro.registry", message).hint("is 'avro-confluent.url' a schema registry?"),
        }
    }
}

/// What a registry says in an error.
fn said(body: &[u8]) -> String {
    serde_json::from_slice::<Refusal>(body).map_or_else(|_| excerpt(body), |r| r.message)
}
