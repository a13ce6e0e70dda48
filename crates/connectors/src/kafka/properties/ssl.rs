//! `ssl.truststore.*` and `ssl.keystore.*` onto librdkafka's keys: PEM and PKCS#12 are read, Java's own JKS is refused with the
//! command that converts it. Opens no file.

use std::collections::BTreeMap;

use flott_core::{Error, Result};

/// Kinds of key stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    Pem,
    Pkcs12,
    Jks,
}

/// The kind of a store: as said, else by the name of the file.
fn kind(given: &BTreeMap<String, String>, which: &str, path: &str) -> Result<Store> {
    let key = format!("ssl.{which}.type");
    let said = given.get(&key).map(|t| t.to_ascii_uppercase());
    let name = path.to_ascii_lowercase();
    let ends = |suffixes: &[&str]| suffixes.iter().any(|s| name.ends_with(s));
    match said.as_deref() {
        Some("PEM") => Ok(Store::Pem),
        Some("PKCS12") => Ok(Store::Pkcs12),
        Some("JKS") => Ok(Store::Jks),
        Some(other) => Err(super::bad(&key, other, "PEM, PKCS12 or JKS")),
        None if ends(&[".pem", ".crt", ".cer"]) => Ok(Store::Pem),
        None if ends(&[".p12", ".pfx"]) => Ok(Store::Pkcs12),
        // Java's default.
        None => Ok(Store::Jks),
    }
}

fn store(message: String) -> Error {
    Error::user("kafka.key-store", message)
}

/// Reads the stores that are given.
pub(super) fn apply(
    given: &BTreeMap<String, String>,
    native: &mut BTreeMap<String, String>,
    notices: &mut Vec<String>,
) -> Result<()> {
    let get = |key: &str| given.get(key).filter(|v| !v.is_empty());
    if let Some(path) = get("ssl.truststore.location") {
        if kind(given, "truststore", path)? != Store::Pem {
            return Err(store(format!("'properties.ssl.truststore.location' = '{path}' is not a PEM file"))
                .detail("trusted certificates are read from PEM files only, not from JKS or PKCS#12")
                .hint(format!(
                    "convert it: keytool -list -rfc -keystore {path} > ca.pem, and set the location to ca.pem \
                     and 'properties.ssl.truststore.type' = 'PEM'"
                )));
        }
        native.insert("ssl.ca.location".into(), path.clone());
        if get("ssl.truststore.password").is_some() {
            notices.push("'properties.ssl.truststore.password' has no effect: a PEM file has none".into());
        }
    }
    for (key, to) in [
        ("ssl.truststore.certificates", "ssl.ca.pem"),
        ("ssl.keystore.key", "ssl.key.pem"),
        ("ssl.keystore.certificate.chain", "ssl.certificate.pem"),
    ] {
        if let Some(pem) = get(key) {
            native.insert(to.into(), pem.clone());
        }
    }
    if let Some(path) = get("ssl.keystore.location") {
        match kind(given, "keystore", path)? {
            Store::Pem => {
                native.insert("ssl.certificate.location".into(), path.clone());
                native.insert("ssl.key.location".into(), path.clone());
            }
            Store::Pkcs12 => {
                native.insert("ssl.keystore.location".into(), path.clone());
                if let Some(password) = get("ssl.keystore.password") {
                    native.insert("ssl.keystore.password".into(), password.clone());
                }
            }
            Store::Jks => {
                return Err(store(format!("'properties.ssl.keystore.location' = '{path}' is a JKS key store"))
                    .detail("keys are read from PEM and PKCS#12 files; Java's JKS is not")
                    .hint(format!(
                        "convert it: keytool -importkeystore -srckeystore {path} -destkeystore client.p12 \
                         -deststoretype PKCS12, and set the location to client.p12; if it is PKCS#12 or PEM already, \
                         say so in 'properties.ssl.keystore.type'"
                    )));
            }
        }
    }
    if let Some(algorithm) = given.get("ssl.endpoint.identification.algorithm") {
        // Empty switches the check of the host's name off in Java.
        let value = if algorithm.is_empty() { "none" } else { algorithm.as_str() };
        native.insert("ssl.endpoint.identification.algorithm".into(), value.to_ascii_lowercase());
    }
    Ok(())
}
