//! TLS for the connections of exactly-once, by rustls; certificates come from where librdkafka takes them.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use flott_core::{Error, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned};

use super::connection::Stream;
use super::failure::CallError;
use crate::kafka::properties::ClientProperties;

/// Where systems keep the certificates they trust.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What TLS needs.
pub(super) struct Tls {
    config: Arc<ClientConfig>,
}

fn bad(message: impl Into<String>) -> Error {
    Error::user("kafka.tls", message).hint("certificates and keys are PEM: check the table's 'properties.ssl.*'")
}

impl Tls {
    /// From the properties of a producer.
    pub(super) fn read(properties: &ClientProperties) -> Result<Self> {
        let encrypted = ["ssl.key.password", "ssl.keystore.location"];
        if let Some(key) = encrypted.into_iter().find(|k| properties.native(k).is_some()) {
            return Err(Error::user("kafka.tls", format!("exactly-once does not work with 'properties.{key}'"))
                .detail("its own connections to Kafka read client keys from PEM files without a password only")
                .hint("convert the key: openssl pkcs12 -in client.p12 -nodes -out client.pem, and set 'properties.ssl.keystore.type' = 'PEM'"));
        }
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::bug(format!("TLS versions: {e}")))?;
        let builder = match Verification::read(properties) {
            Verification::Nothing => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Lenient { inner: None, provider }))
            }
            Verification::Chain => {
                let roots = Arc::new(roots(properties)?);
                let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
                let inner = Some(inner.map_err(|e| bad(format!("the trusted certificates cannot be used: {e}")))?);
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Lenient { inner, provider }))
            }
            Verification::Full => builder.with_root_certificates(roots(properties)?),
        };
        let config = match identity(properties)? {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| bad(format!("the client's certificate and key do not fit: {e}")))?,
        };
        Ok(Tls { config: Arc::new(config) })
    }
}

/// What is verified of a server.
enum Verification {
    Nothing,
    Chain,
    Full,
}

impl Verification {
    fn read(properties: &ClientProperties) -> Self {
        if properties.native("enable.ssl.certificate.verification") == Some("false") {
            return Verification::Nothing;
        }
        match properties.native("ssl.endpoint.identification.algorithm") {
            Some("none") => Verification::Chain,
            _ => Verification::Full,
        }
    }
}

fn certificates(
    properties: &ClientProperties,
    inline: &str,
    file: &str,
) -> Result<Option<Vec<CertificateDer<'static>>>> {
    if let Some(pem) = properties.native(inline) {
        let read: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        return read.map(Some).map_err(|e| bad(format!("the certificates of '{inline}' cannot be read: {e}")));
    }
    properties.native(file).map(from_file).transpose()
}

fn from_file(path: &str) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
    read.map_err(|e| bad(format!("the certificates in '{path}' cannot be read: {e}")))
}

fn roots(properties: &ClientProperties) -> Result<RootCertStore> {
    let given = certificates(properties, "ssl.ca.pem", "ssl.ca.location")?;
    let found = match given {
        Some(found) => found,
        None => match SYSTEM.into_iter().find(|path| Path::new(path).exists()) {
            Some(path) => from_file(path)?,
            None => return Err(bad("no trusted certificates: this system has none, and the table names none")),
        },
    };
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found);
    if added == 0 {
        return Err(bad("the trusted certificates of the table hold none that can be used"));
    }
    Ok(roots)
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(properties: &ClientProperties) -> Result<Option<Identity>> {
    let Some(chain) = certificates(properties, "ssl.certificate.pem", "ssl.certificate.location")? else {
        return Ok(None);
    };
    let key = match (properties.native("ssl.key.pem"), properties.native("ssl.key.location")) {
        (Some(pem), _) => PrivateKeyDer::from_pem_slice(pem.as_bytes()),
        (None, Some(path)) => PrivateKeyDer::from_pem_file(path),
        (None, None) => return Err(bad("there is a client certificate but no client key")),
    };
    // The error may quote the file: its kind is enough.
    let key = key.map_err(|_| bad("the client's private key cannot be read, or it has a password"))?;
    Ok(Some((chain, key)))
}

/// Verifies less than rustls would by itself, because the table says so.
#[derive(Debug)]
struct Lenient {
    /// Verifies the chain; `None`: nothing is verified.
    inner: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// TLS over a connection to `address`.
pub(super) fn wrap(tls: &Tls, address: &str, mut plain: TcpStream) -> Result<Box<dyn Stream>, CallError> {
    let failed = |reason: String| CallError::Tls { address: address.to_owned(), reason };
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(|e| failed(format!("its name is no name for TLS: {e}")))?;
    let mut session = ClientConnection::new(Arc::clone(&tls.config), name).map_err(|e| failed(e.to_string()))?;
    while session.is_handshaking() {
        session.complete_io(&mut plain).map_err(|e| failed(e.to_string()))?;
    }
    Ok(Box::new(StreamOwned::new(session, plain)))
}
