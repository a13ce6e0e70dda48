//! The translation, key by key; what is refused, and that no message shows a secret.

use super::*;

fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let servers = [("bootstrap.servers", "127.0.0.1:9092")];
    servers.iter().chain(pairs).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn consumer(pairs: &[(&str, &str)]) -> Result<ClientProperties> {
    ClientProperties::translate(given(pairs), Side::Consumer)
}

fn refusal(pairs: &[(&str, &str)]) -> String {
    let error = consumer(pairs).expect_err("it is refused");
    assert!(!format!("{error}{error:?}").contains("s3cret"), "{error}");
    format!("{error}")
}

const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";
const KRB5: &str = "com.sun.security.auth.module.Krb5LoginModule";

#[test]
fn keys_become_those_of_librdkafka() {
    let p = consumer(&[
        ("fetch.max.wait.ms", "100"),
        ("security.protocol", "SASL_SSL"),
        ("isolation.level", "READ_COMMITTED"),
        ("receive.buffer.bytes", "-1"),
        ("request.timeout.ms", "5000"),
        ("max.poll.records", "5"),
        ("acks", "all"),
    ])
    .expect("all are known");
    for (key, value) in [
        ("fetch.wait.max.ms", "100"),
        ("security.protocol", "sasl_ssl"),
        ("isolation.level", "read_committed"),
        ("socket.receive.buffer.bytes", "0"),
        ("socket.timeout.ms", "5000"),
    ] {
        assert_eq!(p.native(key), Some(value), "{key}");
    }
    assert_eq!((p.native("acks"), p.native("max.poll.records")), (None, None));
    assert!(matches!(p.notices(), [one] if one.contains("max.poll.records")), "{:?}", p.notices());
    p.check().expect("librdkafka takes them");
}

#[test]
fn every_key_that_is_passed_on_is_one_of_librdkafka() {
    // These need a value of their own kind; the others take a number or any text.
    let value = |key: &str| match key {
        "client.dns.lookup" => "use_all_dns_ips",
        "metadata.recovery.strategy" => "none",
        "security.protocol" => "ssl",
        "isolation.level" => "read_committed",
        "compression.type" => "lz4",
        "debug" => "broker",
        "broker.address.family" => "v4",
        "sasl.mechanism" => "PLAIN",
        "acks" => "all",
        "compression.level" => "3",
        k if k.starts_with("enable.")
            || k.starts_with("check.")
            || k.starts_with("allow.")
            || k.contains("keepalive") =>
        {
            "true"
        }
        _ => "1000",
    };
    for property in KNOWN.iter().filter(|p| !matches!(p.rule, Rule::Refused(_) | Rule::Read | Rule::Notice(_))) {
        let p = ClientProperties::translate(given(&[(property.key, value(property.key))]), Side::Both);
        let p = p.unwrap_or_else(|e| panic!("{}: {e}", property.key));
        p.check().unwrap_or_else(|e| panic!("{}: {e}", property.key));
    }
    let mut keys: Vec<_> = KNOWN.iter().map(|p| p.key).collect();
    keys.sort_unstable();
    assert!(keys.windows(2).all(|w| w[0] != w[1]), "a key is listed twice");
}

#[test]
fn what_is_unknown_or_impossible_is_refused() {
    assert!(refusal(&[("gruop.id", "x")]).contains("'properties.group.id'"));
    assert!(refusal(&[("interceptor.classes", "a.B")]).contains("Java"));
    assert!(refusal(&[("transactional.id", "a")]).contains("sink.transactional-id-prefix"));
    assert!(ClientProperties::translate(BTreeMap::new(), Side::Both).is_err());
    let error = consumer(&[("fetch.min.bytes", "lots")]).expect("text").check().expect_err("no number");
    assert_eq!(error.code(), "kafka.property");
}

#[test]
fn logins_by_jaas() {
    let plain = format!("{PLAIN} required username=\"al ice\" password=\"s3cret;\\\"=\";");
    let p = consumer(&[("sasl.mechanism", "plain"), ("sasl.jaas.config", &plain)]).expect("a login");
    assert_eq!((p.native("sasl.username"), p.native("sasl.password")), (Some("al ice"), Some("s3cret;\"=")));
    assert!(!format!("{p:?}").contains("s3cret"), "{p:?}");
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required username=bob password='s3cret' ;";
    let p = consumer(&[("sasl.mechanism", "SCRAM-SHA-512"), ("sasl.jaas.config", scram)]).expect("a login");
    assert_eq!((p.native("sasl.username"), p.native("sasl.password")), (Some("bob"), Some("s3cret")));
    let krb5 = format!(
        "{KRB5} required useKeyTab=true storeKey=true keyTab=\"/etc/f.keytab\" principal=\"f/h@R\" serviceName=\"kafka\";"
    );
    let p = consumer(&[("security.protocol", "SASL_PLAINTEXT"), ("sasl.jaas.config", &krb5)]).expect("a login");
    assert_eq!(p.native("sasl.kerberos.keytab"), Some("/etc/f.keytab"));
    assert_eq!(p.native("sasl.kerberos.principal"), Some("f/h@R"));
    let cache = format!("{KRB5} required useTicketCache=true;");
    assert_eq!(consumer(&[("sasl.jaas.config", &cache)]).expect("a login").native("sasl.kerberos.kinit.cmd"), Some(""));
}

#[test]
fn bad_logins_say_why_and_hide_the_password() {
    let plain = |rest: &str| format!("{PLAIN} {rest}");
    for (mechanism, text, expected) in [
        ("PLAIN", plain("required username=\"a\" password=\"s3cret\""), "semicolon"),
        ("PLAIN", plain("required username=\"a\" password=\"s3cret;"), "quote"),
        ("PLAIN", plain("username=\"a\" password=\"s3cret\";"), "required"),
        ("PLAIN", plain("required password=\"s3cret\";"), "username"),
        ("PLAIN", format!("{0} {0}", plain("required username=a password=s3cret;")), "more than one"),
        ("GSSAPI", plain("required username=a password=s3cret;"), "PlainLoginModule"),
        ("PLAIN", "x.OtherModule required password=s3cret;".to_owned(), "OtherModule"),
        ("GSSAPI", format!("{KRB5} required;"), "keyTab"),
        ("GSSAPI", format!("{KRB5} required keyTab=\"/k\";"), "principal"),
        ("OAUTHBEARER", String::new(), "OAUTHBEARER"),
    ] {
        let message = refusal(&[("sasl.mechanism", mechanism), ("sasl.jaas.config", &text)]);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn key_stores() {
    let p = consumer(&[
        ("ssl.truststore.location", "/ca.pem"),
        ("ssl.keystore.location", "/client.p12"),
        ("ssl.keystore.password", "s3cret"),
        ("ssl.endpoint.identification.algorithm", ""),
    ])
    .expect("PEM and PKCS#12");
    assert_eq!(p.native("ssl.ca.location"), Some("/ca.pem"));
    assert_eq!(p.native("ssl.keystore.location"), Some("/client.p12"));
    assert_eq!(p.native("ssl.endpoint.identification.algorithm"), Some("none"));
    assert!(!format!("{p:?}").contains("s3cret"));
    assert!(refusal(&[("ssl.truststore.location", "/t.jks")]).contains("keytool -list -rfc -keystore /t.jks"));
    assert!(refusal(&[("ssl.keystore.location", "/k.jks")]).contains("PKCS12"));
    assert!(refusal(&[("ssl.keystore.location", "/k"), ("ssl.keystore.type", "BKS")]).contains("PEM, PKCS12 or JKS"));
}
