//! Installs the Debian packages of services where they are missing. Never anything else, as root or with sudo.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Service;

/// A program, where it may lie, and the package that has it.
#[derive(Clone, Copy)]
pub struct Need {
    /// What must exist; a name without a slash is looked for in the usual directories.
    pub program: &'static str,
    /// The package to install.
    pub package: &'static str,
}

impl Need {
    /// The program's path, if it is there.
    pub fn path(&self) -> Option<String> {
        if self.program.starts_with('/') {
            return Path::new(self.program).exists().then(|| self.program.to_owned());
        }
        find(self.program)
    }
}

/// Looks a program up in the directories of Debian, root's included.
pub fn find(program: &str) -> Option<String> {
    let places = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"];
    places.iter().map(|p| format!("{p}/{program}")).find(|p| Path::new(p).exists())
}

/// The first missing program's sentence.
pub fn check(needs: &[Need]) -> Result<(), String> {
    match needs.iter().find(|n| n.path().is_none()) {
        Some(need) => Err(format!("{} is missing: apt-get install {}", need.program, need.package)),
        None => Ok(()),
    }
}

/// Installs what the services miss, in one go. Does nothing where everything is there.
pub fn install(services: &[Service]) -> Result<(), String> {
    let needs = services.iter().flat_map(|s| s.needs());
    let missing: BTreeSet<&str> = needs.filter(|n| n.path().is_none()).map(|n| n.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.iter().copied().collect::<Vec<_>>().join(" ");
    let root = super::instance::uid() == Some(0);
    if find("apt-get").is_none() || !(root || find("sudo").is_some()) {
        return Err(format!("please install: {list}"));
    }
    println!("installing {list}");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new(if root { "env" } else { "sudo" });
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]).args(arguments);
        quiet(command)
    };
    apt(&["update"])?;
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(missing);
    apt(&install)
}

fn quiet(mut command: Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{:?}: {e}", command.get_program()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("{:?} failed: {}", command.get_program(), text.lines().last().unwrap_or("")))
}
