//! Apache Flink 2.3 for comparison: fetched once, driven by a small Java program. Never part of the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::services::jars;
use crate::tidy::root;

const VERSION: &str = "2.3.0";
const DRIVER: &str = include_str!("flink/FlinkRun.java");
/// What Flink's start scripts open of the JDK.
const OPENS: [&str; 4] = ["java.base/java.util", "java.base/java.lang", "java.base/java.time", "java.base/java.net"];

/// An installed Flink.
pub struct Flink {
    home: PathBuf,
}

/// What one statement gave.
#[derive(Debug, Default)]
pub struct Statement {
    /// Names of the columns; empty for a statement without rows.
    pub columns: Vec<String>,
    /// Their types, as Flink prints them.
    pub types: Vec<String>,
    /// Row kind and cells of each change.
    pub rows: Vec<Vec<String>>,
    /// Why it failed.
    pub error: Option<String>,
}

impl Flink {
    /// Finds it in the cache, or fetches it: the Python wheel ships the Java distribution.
    pub fn ready() -> Result<Self, String> {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| std::env::var_os("HOME").map(|h| Path::new(&h).join(".cache")));
        let home = cache.ok_or("neither XDG_CACHE_HOME nor HOME is set")?.join(format!("flott/flink-{VERSION}"));
        let flink = Flink { home };
        if !flink.lib().is_dir() {
            flink.fetch()?;
        }
        flink.compile()?;
        Ok(flink)
    }

    fn lib(&self) -> PathBuf {
        self.home.join("pyflink/lib")
    }

    fn fetch(&self) -> Result<(), String> {
        println!("fetching Flink {VERSION} (330 MB) into {}", self.home.display());
        fs::create_dir_all(&self.home).map_err(|e| format!("{}: {e}", self.home.display()))?;
        let package = format!("apache-flink-libraries=={VERSION}");
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "-d"]).arg(&self.home).arg(package);
        succeed(&mut pip)?;
        let wheels = fs::read_dir(&self.home).map_err(|e| e.to_string())?.filter_map(Result::ok).map(|e| e.path());
        let wheel = wheels.into_iter().find(|p| p.extension().is_some_and(|e| e == "whl"));
        let wheel = wheel.ok_or("pip fetched no wheel")?;
        let unzip = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); \
                     z.extractall(sys.argv[2], [n for n in z.namelist() if n.startswith('pyflink/lib/')])";
        succeed(Command::new("python3").args(["-c", unzip]).arg(&wheel).arg(&self.home))?;
        fs::remove_file(&wheel).map_err(|e| e.to_string())
    }

    fn compile(&self) -> Result<(), String> {
        let source = self.home.join("FlinkRun.java");
        let fresh = fs::read_to_string(&source).is_ok_and(|s| s == DRIVER) && self.home.join("FlinkRun.class").exists();
        if fresh {
            return Ok(());
        }
        fs::write(&source, DRIVER).map_err(|e| e.to_string())?;
        let mut javac = Command::new("javac");
        succeed(javac.arg("-cp").arg(self.lib().join("*")).arg("-d").arg(&self.home).arg(&source))
    }

    /// A jar of Maven Central (`group:artifact:version`) on the class path, fetched once.
    pub fn add_jar(&self, coordinates: &str) -> Result<(), String> {
        let mut parts = coordinates.split(':').skip(1);
        let (artifact, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let name = format!("{artifact}-{version}.jar");
        let jar = self.lib().join(&name);
        if jar.exists() {
            return Ok(());
        }
        let fetched = jars::fetch(&format!("{artifact}-{version}"), &[coordinates.to_owned()])?.join(name);
        let part = jar.with_extension("part");
        fs::copy(&fetched, &part).map_err(|e| format!("{}: {e}", fetched.display()))?;
        fs::rename(&part, &jar).map_err(|e| e.to_string())
    }

    /// The connector of a checkout of nexmark/nexmark, compiled against this Flink.
    pub fn nexmark(&self, checkout: &Path) -> Result<Nexmark, String> {
        let module = checkout.join("nexmark-flink/src/main");
        let classes = self.home.join("nexmark");
        let package = "com/github/nexmark/flink";
        let services = "META-INF/services/org.apache.flink.table.factories.Factory";
        let mut javac = Command::new("javac");
        javac.arg("-nowarn").arg("-cp").arg(self.lib().join("*")).arg("-sourcepath").arg(module.join("java"));
        javac.arg("-d").arg(&classes);
        javac.arg(module.join(format!("java/{package}/source/NexmarkTableSourceFactory.java")));
        succeed(javac.arg(module.join(format!("java/{package}/udf/CountChar.java"))))?;
        let (from, to) = (module.join("resources").join(services), classes.join(services));
        fs::create_dir_all(to.parent().unwrap_or(&classes)).map_err(|e| e.to_string())?;
        fs::copy(&from, &to).map_err(|e| format!("{}: {e}", from.display()))?;
        Ok(Nexmark { classes })
    }

    /// A process that runs `scripts` one after another, with Flink's options as `KEY=VALUE` and more classes than Flink's.
    pub fn command(&self, scripts: &[PathBuf], options: &[&str], heap: &str, more: &[&Path]) -> Command {
        let mut java = Command::new("java");
        java.arg(format!("-Xmx{heap}"));
        for package in OPENS {
            java.arg(format!("--add-opens={package}=ALL-UNNAMED"));
        }
        let more: String = more.iter().map(|p| format!(":{}", p.display())).collect();
        java.arg("-cp").arg(format!("{}:{}/*{more}", self.home.display(), self.lib().display()));
        java.arg("-Dlog4j2.level=OFF").arg("FlinkRun");
        for option in options {
            java.args(["-D", option]);
        }
        java.args(scripts).stdin(Stdio::null());
        java
    }

    /// Runs the scripts in one process; what their statements gave, script by script.
    pub fn run(&self, scripts: &[PathBuf]) -> Result<Vec<Vec<Statement>>, String> {
        succeed(&mut self.command(scripts, &["parallelism.default=1"], "2g", &[]))?;
        scripts.iter().map(|s| read(&s.with_file_name(format!("{}.jsonl", file_name(s))))).collect()
    }
}

/// Nexmark's generator for Flink.
pub struct Nexmark {
    classes: PathBuf,
}

impl Nexmark {
    /// Where its classes are.
    pub fn classes(&self) -> &Path {
        &self.classes
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let output = command.current_dir(root()).output().map_err(|e| format!("{:?}: {e}", command.get_program()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?} ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr))),
    }
}

fn read(path: &Path) -> Result<Vec<Statement>, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    text.lines().map(|line| statement(line).ok_or_else(|| format!("{}: `{line}`", path.display()))).collect()
}

fn statement(line: &str) -> Option<Statement> {
    let value: Value = serde_json::from_str(line).ok()?;
    let texts = |v: &Value| -> Vec<String> {
        v.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    Some(Statement {
        columns: texts(&value["columns"]),
        types: texts(&value["types"]),
        rows: value["rows"].as_array().into_iter().flatten().map(texts).collect(),
        error: value["error"].as_str().map(str::to_owned),
    })
}
