//! Jars from Maven Central, kept outside the clone and shared by all clones of a user. Never changes a set that is complete.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// The directory of the jars of `name`, filled by Maven on first use: `group:artifact:version` of each, and what they depend on.
pub fn fetch(name: &str, coordinates: &[String]) -> Result<PathBuf, String> {
    // Two services of one start may want the same jars.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().map_err(|_| "another fetch panicked")?;
    let cache = cache()?;
    let done = cache.join(name);
    if done.is_dir() {
        return Ok(done);
    }
    let draft = cache.join(format!("{name}.{}", std::process::id()));
    fs::create_dir_all(&draft).map_err(|e| format!("{}: {e}", draft.display()))?;
    fs::write(draft.join("pom.xml"), pom(name, coordinates)).map_err(|e| format!("pom.xml: {e}"))?;
    println!("fetching {name} from Maven Central");
    let output = Command::new("mvn")
        .args(["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", draft.display()))
        .current_dir(&draft)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("mvn: {e}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout);
        let cause = text.lines().find(|l| l.contains("ERROR")).unwrap_or("no reason given").to_owned();
        let _ = fs::remove_dir_all(&draft);
        return Err(format!("mvn could not fetch {}: {cause}", coordinates.join(", ")));
    }
    keep(&draft, &done)
}

/// Moves a draft to its final name; another process may have been faster, and its set is as good.
pub fn keep(draft: &Path, done: &Path) -> Result<PathBuf, String> {
    if let Err(e) = fs::rename(draft, done) {
        let _ = fs::remove_dir_all(draft);
        if !done.is_dir() {
            return Err(format!("{}: {e}", done.display()));
        }
    }
    Ok(done.to_owned())
}

/// `${XDG_CACHE_HOME:-~/.cache}/flott/services`.
#[allow(clippy::disallowed_methods, reason = "a developer tool, not the product")]
pub fn cache() -> Result<PathBuf, String> {
    let base = match std::env::var("XDG_CACHE_HOME") {
        Ok(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => PathBuf::from(std::env::var("HOME").map_err(|_| "HOME is not set")?).join(".cache"),
    };
    let dir = base.join("flott/services");
    fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(dir)
}

fn pom(name: &str, coordinates: &[String]) -> String {
    let dependency = |c: &String| {
        let mut parts = c.split(':');
        let mut part = |tag: &str| format!("<{tag}>{}</{tag}>", parts.next().unwrap_or_default());
        format!("    <dependency>{}{}{}</dependency>\n", part("groupId"), part("artifactId"), part("version"))
    };
    let dependencies: String = coordinates.iter().map(dependency).collect();
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n  <modelVersion>4.0.0</modelVersion>\n  \
         <groupId>flott</groupId><artifactId>{name}</artifactId><version>1</version>\n  \
         <dependencies>\n{dependencies}  </dependencies>\n</project>\n"
    )
}
