//! SASL over Kafka's own requests: the handshake, then PLAIN or SCRAM. Never repeats what the user typed in an error.

use bytes::Bytes;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;

use super::connection::Connection;
use super::failure::CallError;
use super::scram::Scram;
use super::security::{Sasl, ScramHash};

/// Logs in.
pub(super) fn login(connection: &mut Connection, sasl: &Sasl) -> Result<(), CallError> {
    let mechanism = match sasl {
        Sasl::Plain { .. } => "PLAIN",
        Sasl::Scram { hash: ScramHash::Sha256, .. } => "SCRAM-SHA-256",
        Sasl::Scram { hash: ScramHash::Sha512, .. } => "SCRAM-SHA-512",
    };
    let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
    let answer = connection.call(&request)?;
    if answer.error_code != 0 {
        let offered: Vec<&str> = answer.mechanisms.iter().map(|m| &**m).collect();
        return Err(refused(connection, format!("it offers {}, not {mechanism}", offered.join(", "))));
    }
    match sasl {
        Sasl::Plain { user, password } => {
            authenticate(connection, format!("\0{user}\0{password}").into_bytes()).map(|_| ())
        }
        Sasl::Scram { hash, user, password } => {
            let mut scram = Scram::new(*hash, user, password);
            let first = authenticate(connection, scram.first())?;
            let proof = scram.last(&first).map_err(|e| refused(connection, e))?;
            let last = authenticate(connection, proof)?;
            scram.verify(&last).map_err(|e| refused(connection, e))
        }
    }
}

fn refused(connection: &Connection, reason: String) -> CallError {
    CallError::Login { address: connection.address().to_owned(), reason }
}

fn authenticate(connection: &mut Connection, bytes: Vec<u8>) -> Result<Bytes, CallError> {
    let answer = connection.call(&SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(bytes)))?;
    if answer.error_code != 0 {
        let said = answer.error_message.map_or_else(|| "authentication failed".to_owned(), |m| m.to_string());
        return Err(refused(connection, said));
    }
    Ok(answer.auth_bytes)
}
