//! The option table and everything that comes from it.

use super::*;
use crate::error::ErrorKind;

/// Section A of the users' files: a standalone cluster of Flink 1.x.
const STANDALONE: &str = "\
jobmanager.memory.process.size: 1600Mb
jobmanager.rpc.address: 192.168.1.127
jobmanager.web.tmpdir: /tmp/jar
jobmanager.web.upload.dir: /tmp/jar
blob.server.port: 6124
query.server.port: 6125
taskmanager.memory.process.size: 1728Mb
taskmanager.numberOfTaskSlots: 4
state.backend: filesystem
state.checkpoints.dir: file:///tmp/flink-checkpoints-directory
state.savepoints.dir: file:///tmp/flink-savepoints-directory
heartbeat.interval: 1000
heartbeat.timeout: 5000
rest.flamegraph.enabled: true
web.backpressure.refresh-interval: 10000
taskmanager.host: 192.168.1.127
security.ssl.internal.enabled: true
security.ssl.internal.keystore: /opt/flink/conf/internal.keystore
security.ssl.internal.truststore: /opt/flink/conf/internal.keystore
security.ssl.internal.keystore-password: changeit
security.ssl.internal.truststore-password: changeit
security.ssl.internal.key-password: changeit
";

fn set(key: &str, value: &str) -> Result<(Configuration, Vec<Notice>)> {
    let mut c = Configuration::new();
    let notices = c.set(key, value)?;
    Ok((c, notices))
}

#[test]
fn every_declared_default_and_rule_fits_its_kind() {
    for option in OPTIONS {
        if let Some(default) = option.default {
            assert!(option.kind.check(option.key, default).is_ok(), "{} = {default}", option.key);
            assert!(option.default.is_some() && check_range(option.key, default).is_ok(), "{}", option.key);
        }
        for rule in option.values {
            if let ValueRule::Former(_, now) = rule {
                assert!(option.kind.check(option.key, now).is_ok(), "{} = {now}", option.key);
            }
        }
        assert!(!option.doc.is_empty() || option.status != Status::Works, "{} has no text", option.key);
        for former in option.deprecated {
            assert_eq!(Configuration::option(former).map(|o| o.key), Some(option.key));
        }
    }
    let keys: std::collections::HashSet<_> = OPTIONS.iter().map(|o| o.key).collect();
    assert_eq!(keys.len(), OPTIONS.len(), "a key is declared twice");
}

#[test]
fn the_embedded_list_is_whole_and_its_defaults_fit() {
    let known = Table::get().without_meaning();
    assert!(known.len() > 600, "{}", known.len());
    for option in known {
        if let Some(default) = option.default {
            assert!(option.kind.check(option.key, default).is_ok(), "{} = {default}", option.key);
        }
    }
    assert_eq!(Configuration::option("akka.ask.timeout").map(|o| o.key), Some("pekko.ask.timeout"));
}

#[test]
fn durations_and_sizes_are_flinks() {
    for (text, ms) in [("10 s", 10_000), ("1min", 60_000), ("500 ms", 500), ("1 h", 3_600_000), ("2 d", 172_800_000)] {
        assert_eq!(parse_duration_ms(text), Some(ms), "{text}");
    }
    assert_eq!(parse_duration_ms(" 1000 "), Some(1000));
    assert_eq!(parse_duration_ms("1500 us"), Some(1));
    for bad in ["", "s", "-1 s", "1.5 s", "10 parsecs", "9223372036854775807 d"] {
        assert_eq!(parse_duration_ms(bad), None, "{bad}");
    }
    for (text, bytes) in
        [("1728m", 1728 << 20), ("1600Mb", 1600 << 20), ("20 kb", 20 << 10), ("64 mb", 64 << 20), ("7", 7)]
    {
        assert_eq!(parse_memory_bytes(text), Some(bytes), "{text}");
    }
    for bad in ["", "mb", "1 pb", "-1", "99999999999999999999", "9000000000000 gb"] {
        assert_eq!(parse_memory_bytes(bad), None, "{bad}");
    }
}

#[test]
fn values_are_checked_when_set_and_the_error_says_everything() {
    let e = set("execution.checkpointing.interval", "ten seconds").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::User);
    let text = e.to_string();
    for part in ["execution.checkpointing.interval", "'ten seconds'", "10 s"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    for (key, value) in [
        ("parallelism.default", "0"),
        ("parallelism.default", "two"),
        ("pipeline.max-parallelism", "40000"),
        ("execution.checkpointing.interval", "1 ms"),
        ("execution.checkpointing.data-inline-threshold", "2 mb"),
        ("execution.checkpointing.mode", "maybe"),
        ("table.dml-sync", "yes"),
        ("pipeline.job-id", "7"),
        ("restart-strategy.exponential-delay.jitter-factor", "2"),
        ("taskmanager.memory.managed.fraction", "1.0"),
        ("taskmanager.memory.process.size", "much"),
    ] {
        assert_eq!(set(key, value).unwrap_err().code(), "config.value", "{key} = {value}");
    }
}

#[test]
fn getters_fall_back_to_defaults_and_spell_enums_as_declared() {
    let mut c = Configuration::new();
    assert_eq!(c.int(keys::PARALLELISM), Some(1));
    assert_eq!(c.duration_ms(keys::CHECKPOINT_INTERVAL), None);
    assert_eq!(c.duration_ms(keys::CHECKPOINT_TIMEOUT), Some(600_000));
    assert_eq!(c.memory_bytes(keys::CHECKPOINT_INLINE_THRESHOLD), Some(20 << 10));
    assert!(c.bool(keys::OPERATOR_CHAINING) && !c.bool(keys::DML_SYNC));
    assert_eq!(c.enum_value(keys::CHECKPOINT_MODE), Some("EXACTLY_ONCE"));
    assert!(c.set("execution.checkpointing.mode", "at-least-once").unwrap().is_empty());
    assert_eq!(c.enum_value(keys::CHECKPOINT_MODE), Some("AT_LEAST_ONCE"));
    c.set_property("table.dml-sync=TRUE").unwrap();
    assert!(c.bool(keys::DML_SYNC));
    c.reset("table.dml-sync").unwrap();
    assert!(!c.bool(keys::DML_SYNC));
    assert_eq!(c.double(keys::RESTART_EXP_MULTIPLIER), Some(1.5));
    assert_eq!(c.enum_value(keys::RESTART_TYPE), None);
}

#[test]
fn former_names_and_values_work_with_a_notice() {
    let (c, notices) = set("state.backend", "filesystem").unwrap();
    assert_eq!(c.raw(keys::STATE_BACKEND), Some("hashmap"));
    assert_eq!(notices.iter().map(|n| n.kind).collect::<Vec<_>>(), [NoticeKind::Deprecated, NoticeKind::Deprecated]);
    assert!(notices[0].to_string().contains("`state.backend.type`"), "{}", notices[0]);
    let (c, notices) = set("restart-strategy", "off").unwrap();
    assert_eq!(c.enum_value(keys::RESTART_TYPE), Some("none"));
    assert_eq!(notices.len(), 2);
    let (mut c, _) = set("state.checkpoints.dir", "file:///a").unwrap();
    assert_eq!(c.string(keys::CHECKPOINT_DIR).as_deref(), Some("file:///a"));
    c.reset("state.checkpoints.dir").unwrap();
    assert!(!c.is_set(keys::CHECKPOINT_DIR));
}

#[test]
fn what_flott_cannot_do_is_refused_with_a_sentence() {
    for (key, value, word) in [
        ("execution.runtime-mode", "batch", "stream"),
        ("state.backend.type", "RocksDB", "later release"),
        ("table.exec.legacy-cast-behaviour", "enabled", "TRY_CAST"),
        ("execution.buffer-timeout.enabled", "false", "execution.buffer-timeout.interval"),
        ("state.checkpoints.create-subdir", "false", "id"),
    ] {
        let e = set(key, value).unwrap_err();
        assert_eq!(e.code(), "config.refused");
        assert!(e.to_string().contains(word), "{e}");
    }
    assert!(set("execution.checkpointing.unaligned.enabled", "true").unwrap().1.is_empty());
    assert_eq!(set("execution.runtime-mode", "AUTOMATIC").unwrap().1.len(), 1);
    for (key, value) in [
        ("table.exec.mini-batch.enabled", "true"),
        ("execution.checkpointing.storage", "jobmanager"),
        ("pipeline.global-job-parameters", "a:1"),
        ("table.display.max-column-width", "40"),
        ("metrics.latency.interval", "1 s"),
    ] {
        assert_eq!(set(key, value).unwrap().1[0].kind, NoticeKind::NoEffect, "{key}");
    }
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let e = set("execution.checkpointing.intervall", "10 s").unwrap_err();
    assert_eq!(e.code(), "config.unknown");
    assert!(e.to_string().contains("`execution.checkpointing.interval`"), "{e}");
    assert!(set("zzz", "1").unwrap_err().hint_text().is_some());
    assert!(Configuration::new().reset("paralelism.default").is_err());
    assert!(Configuration::new().set_property("no-equals-sign").is_err());
}

#[test]
fn the_users_files_load() {
    let mut c = Configuration::new();
    let notices = c.load_flink_conf("flink-conf.yaml", STANDALONE).unwrap();
    assert_eq!(c.raw(keys::CHECKPOINT_DIR), Some("file:///tmp/flink-checkpoints-directory"));
    assert_eq!(c.raw("heartbeat.interval"), Some("1000"));
    let told = |key: &str| notices.iter().any(|n| n.key == key);
    let silent: Vec<&str> = STANDALONE.lines().filter_map(|l| l.split(':').next()).filter(|k| !told(k)).collect();
    assert_eq!(silent, [keys::MEMORY_PROCESS], "no notice about what has no effect");
    assert!(!format!("{c:?}").contains("changeit"));

    let kubernetes = "state.backend: hashmap\nstate.checkpoint-storage: filesystem\nstate.backend.incremental: true\n\
        kubernetes.cluster-id: flink-cluster-001\nhigh-availability.storageDir: file:///nas/flink/recovery\n\
        high-availability: org.apache.flink.kubernetes.highavailability.KubernetesHaServicesFactory\n";
    let mut c = Configuration::new();
    c.load_flink_conf("flink-conf.yaml", kubernetes).unwrap();
    assert!(c.bool(keys::CHECKPOINT_INCREMENTAL) && c.is_set("high-availability.type"));
    let e = Configuration::new().load_flink_conf("flink-conf.yaml", "\nstate.backend: rocksdb").unwrap_err();
    assert!(e.to_string().starts_with("flink-conf.yaml:2: "), "{e}");
    for property in [
        "security.kerberos.login.use-ticket-cache=false",
        "security.kerberos.login.contexts=Client",
        "taskmanager.network.numberOfBuffers=2500",
        "taskmanager.network.memory.fraction=0.2",
    ] {
        assert_eq!(Configuration::new().set_property(property).unwrap().len(), 1, "{property}");
    }
}

#[test]
fn yaml_may_be_nested_or_flat_and_errors_name_the_line() {
    let text = "# cluster\nparallelism.default: 2\nexecution:\n  checkpointing:\n    interval: 10 s\n    dir: \"file:///x\"\n\
        pipeline:\n  global-job-parameters: 'a:1,b:2'\n  jars:\n  - a.jar\n  - b.jar\n  name:\n";
    let mut c = Configuration::new();
    c.load_yaml("config.yaml", text).unwrap();
    assert_eq!(c.int(keys::PARALLELISM), Some(2));
    assert_eq!(c.duration_ms(keys::CHECKPOINT_INTERVAL), Some(10_000));
    assert_eq!(c.map(keys::GLOBAL_JOB_PARAMETERS).len(), 2);
    assert_eq!(c.raw("pipeline.jars"), Some("a.jar;b.jar"));
    assert!(!c.is_set(keys::PIPELINE_NAME));
    let e = c.load_yaml("config.yaml", "execution:\n  checkpointing:\n    intervall: 10 s\n").unwrap_err();
    assert!(e.to_string().starts_with("config.yaml:3: "), "{e}");
    let e = c.load_yaml("config.yaml", "a: [1\nb: 2\n").unwrap_err();
    assert!(e.to_string().starts_with("config.yaml:"), "{e}");
    assert!(c.load_yaml("config.yaml", "just text").is_err());
    assert!(c.load_yaml("config.yaml", "").unwrap().is_empty());
    let e = c.load_flink_conf("flink-conf.yaml", "# x\nparallelism.default 2\n").unwrap_err();
    assert!(e.to_string().starts_with("flink-conf.yaml:2: "), "{e}");
}

#[test]
fn secrets_are_never_shown() {
    let (c, _) = set("s3.secret-key", "hush").unwrap();
    assert_eq!(c.iter_redacted().collect::<Vec<_>>(), [("s3.secret-key", REDACTED)]);
    assert_eq!(c.iter().collect::<Vec<_>>(), [("s3.secret-key", "hush")]);
    for key in ["security.ssl.rest.keystore-password", "fs.s3a.access.key", "my.token", "kafka.sasl.jaas.config"] {
        assert!(is_secret(key), "{key}");
    }
    assert!(!is_secret("security.ssl.internal.keystore") && !is_secret("parallelism.default"));
}

#[test]
fn lint_spells_out_consequences() {
    let lint = |pairs: &[(&str, &str)]| {
        let mut c = Configuration::new();
        pairs.iter().for_each(|(k, v)| assert!(c.set(k, v).is_ok()));
        c.lint().into_iter().map(|n| n.key).collect::<Vec<_>>()
    };
    let (interval, dir) = ((keys::CHECKPOINT_INTERVAL, "20 s"), (keys::CHECKPOINT_DIR, "file:///x"));
    assert!(lint(&[]).is_empty() && lint(&[interval, dir]).is_empty());
    let both = lint(&[interval, dir, (keys::CHECKPOINT_MIN_PAUSE, "2 s"), (keys::CHECKPOINT_MAX_CONCURRENT, "4")]);
    assert_eq!(both, [keys::CHECKPOINT_MAX_CONCURRENT]);
    assert_eq!(lint(&[(keys::CHECKPOINT_INTERVAL, "50 ms"), dir]), [keys::CHECKPOINT_INTERVAL]);
    let unaligned = (keys::UNALIGNED_ENABLED, "true");
    let once = lint(&[interval, dir, (keys::CHECKPOINT_MODE, "AT_LEAST_ONCE"), unaligned]);
    assert_eq!(once, [keys::CHECKPOINT_MODE, keys::UNALIGNED_ENABLED]);
    assert_eq!(lint(&[interval, dir, (keys::CHECKPOINT_MAX_CONCURRENT, "2")]), [keys::CHECKPOINT_MAX_CONCURRENT]);
    assert!(lint(&[interval, dir, unaligned]).is_empty());
    assert_eq!(lint(&[interval, (keys::CHECKPOINT_RETENTION, "RETAIN_ON_CANCELLATION")]), [keys::CHECKPOINT_RETENTION]);
    assert_eq!(lint(&[interval]), [keys::CHECKPOINT_DIR]);
    assert_eq!(lint(&[interval, dir, (keys::CHECKPOINT_TIMEOUT, "10 s")]), [keys::CHECKPOINT_TIMEOUT]);
    let any = (keys::CHECKPOINT_TOLERABLE_FAILURES, "2147483647");
    assert_eq!(lint(&[interval, dir, any]), [keys::CHECKPOINT_TOLERABLE_FAILURES]);
    assert_eq!(lint(&[interval, dir, (keys::CHECKPOINT_SLOW, "11 min")]), [keys::CHECKPOINT_SLOW]);
    assert!(
        lint(&[interval, dir, (keys::CHECKPOINT_TIMEOUT, "20 s"), (keys::CHECKPOINT_TOLERABLE_FAILURES, "10")])
            .is_empty()
    );
    assert_eq!(lint(&[(keys::CHECKPOINT_TIMEOUT, "1 min")]), [keys::CHECKPOINT_TIMEOUT]);
    let other = lint(&[(keys::RESTART_TYPE, "failure-rate"), (keys::RESTART_FIXED_DELAY, "2 s")]);
    assert_eq!(other, [keys::RESTART_FIXED_DELAY]);
}

#[test]
fn the_docs_page_has_every_option() {
    let page = docs_markdown();
    assert!(OPTIONS.iter().all(|o| page.contains(&format!("`{}`", o.key))));
    assert!(page.contains("`kubernetes.cluster-id`") && page.contains("BATCH"));
}
