//! How to reach a broker: plain or TLS, with or without a login; read from the properties librdkafka is given. Never shown.

use std::sync::Arc;

use flott_core::{Error, Result};

use super::tls::{self, Tls};
use crate::kafka::properties::ClientProperties;

/// A login.
#[derive(Clone)]
pub(super) enum Sasl {
    /// User and password as they are.
    Plain { user: String, password: String },
    /// A proof of the password.
    Scram { hash: ScramHash, user: String, password: String },
}

/// The hash of SCRAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScramHash {
    Sha256,
    Sha512,
}

/// How connections are secured. Has no `Debug`, since it holds passwords.
#[derive(Clone, Default)]
pub struct Security {
    tls: Option<Arc<Tls>>,
    sasl: Option<Sasl>,
}

const WHY: &str =
    "exactly-once needs requests that librdkafka has no call for; they go over connections of Flott's own";

impl Security {
    /// From the properties of a producer; what these connections cannot do is refused.
    pub fn read(properties: &ClientProperties) -> Result<Self> {
        let protocol = properties.native("security.protocol").unwrap_or("plaintext").to_ascii_lowercase();
        let (tls, sasl) = match protocol.as_str() {
            "plaintext" => (false, false),
            "ssl" => (true, false),
            "sasl_plaintext" => (false, true),
            "sasl_ssl" => (true, true),
            other => {
                return Err(Error::user("kafka.security", format!("Kafka has no security protocol '{other}'"))
                    .hint("'properties.security.protocol' is PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"));
            }
        };
        Ok(Security {
            tls: if tls { Some(Arc::new(tls::Tls::read(properties)?)) } else { None },
            sasl: if sasl { Some(Self::read_sasl(properties)?) } else { None },
        })
    }

    fn read_sasl(properties: &ClientProperties) -> Result<Sasl> {
        let mechanism = properties.native("sasl.mechanism").or_else(|| properties.native("sasl.mechanisms"));
        let mechanism = mechanism.unwrap_or("GSSAPI").to_ascii_uppercase();
        let needed = |key: &str| {
            properties.native(key).map(str::to_owned).ok_or_else(|| {
                Error::user("kafka.security", format!("the login {mechanism} needs '{key}', and it is not given"))
                    .hint("set 'properties.sasl.jaas.config' with username and password")
            })
        };
        let hash = match mechanism.as_str() {
            "PLAIN" => {
                return Ok(Sasl::Plain { user: needed("sasl.username")?, password: needed("sasl.password")? });
            }
            "SCRAM-SHA-256" => ScramHash::Sha256,
            "SCRAM-SHA-512" => ScramHash::Sha512,
            other => {
                return Err(Error::user(
                    "kafka.security",
                    format!("'sink.delivery-guarantee' = 'exactly-once' cannot log in to Kafka with {other}"),
                )
                .detail(format!(
                    "{WHY}, and these log in with PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or a TLS certificate"
                ))
                .hint("use one of these for this table, or 'at-least-once'"));
            }
        };
        Ok(Sasl::Scram { hash, user: needed("sasl.username")?, password: needed("sasl.password")? })
    }

    pub(super) fn tls(&self) -> Option<&Tls> {
        self.tls.as_deref()
    }

    pub(super) fn sasl(&self) -> Option<&Sasl> {
        self.sasl.as_ref()
    }
}
