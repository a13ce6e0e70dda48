//! One server's life: its directory, its port, its process. Driven by the verbs and by the end-to-end harness; it stops a process
//! only by a pid it wrote down itself, and only while the process behind the pid is the same.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{Service, debian, probe, recipe};

/// How long a server may take until it serves: a cold JVM on a busy machine.
const START_PATIENCE: Duration = Duration::from_secs(90);
/// How long it may take to end when asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// How many lines of a log an error shows.
const LOG_LINES: usize = 15;
/// How many ports are tried, in steps of ten.
const PORT_TRIES: u16 = 40;

/// A server in a directory.
pub struct Instance {
    service: Service,
    dir: PathBuf,
}

/// What is known about a server from outside.
pub struct State {
    /// Its process, while that lives.
    pub pid: Option<u32>,
    /// Whether it answers.
    pub ready: bool,
    /// Its resident memory.
    pub rss_mb: Option<u64>,
}

impl Instance {
    /// The server `service` whose data lies below `parent`.
    pub fn new(service: Service, parent: &Path) -> Self {
        Self { service, dir: parent.join(service.name()) }
    }

    /// Which server it is.
    pub fn service(&self) -> Service {
        self.service
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The port it was given, or would be tried first.
    pub fn port(&self) -> u16 {
        let stored = fs::read_to_string(self.file("port")).ok().and_then(|t| t.trim().parse().ok());
        stored.unwrap_or(self.service.first_port())
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// What its environment variable holds.
    pub fn url(&self) -> String {
        self.service.url(self.port())
    }

    /// Process, readiness, memory.
    pub fn state(&self) -> State {
        let pid = self.pid();
        let ready = pid.is_some() && self.service.probe().ready(self.port());
        State { pid, ready, rss_mb: pid.and_then(rss_mb) }
    }

    /// Starts it unless it runs, and waits until it serves.
    pub fn up(&self) -> Result<(), String> {
        if self.pid().is_none() {
            debian::check(self.service.needs())?;
            self.prepare_directory()?;
            self.choose_port()?;
            self.start()?;
        }
        self.wait_ready()
    }

    /// Stops it and deletes its data.
    pub fn down(&self) -> Result<(), String> {
        self.stop(false)?;
        if self.dir.exists() {
            fs::remove_dir_all(&self.dir).map_err(|e| format!("{}: {e}", self.dir.display()))?;
        }
        Ok(())
    }

    /// Stops it, keeping the data.
    pub fn stop(&self, kill: bool) -> Result<(), String> {
        let Some(pid) = self.pid() else { return Ok(()) };
        signal(pid, if kill { self.service.kill_signal() } else { self.service.stop_signal() })?;
        if !wait(STOP_PATIENCE, || self.pid().is_none()) {
            signal(pid, "KILL")?;
            if !wait(STOP_PATIENCE, || self.pid().is_none()) {
                return Err(format!("{}: process {pid} does not end", self.service.name()));
            }
        }
        let _ = fs::remove_file(self.file("pid"));
        Ok(())
    }

    /// Stops and starts it with the same data on the same port.
    pub fn restart(&self, kill: bool) -> Result<(), String> {
        self.stop(kill)?;
        self.up()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Servers that refuse to run as root run as a user of their own, who must get through.
    fn prepare_directory(&self) -> Result<(), String> {
        let error = |e: std::io::Error| format!("{}: {e}", self.dir.display());
        fs::create_dir_all(&self.dir).map_err(error)?;
        let parent = self.dir.parent().unwrap_or(&self.dir);
        for dir in [parent, &self.dir] {
            if fs::metadata(dir).map_err(error)?.uid() == uid().unwrap_or(u32::MAX) {
                fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).map_err(error)?;
            }
        }
        Ok(())
    }

    fn choose_port(&self) -> Result<(), String> {
        let file = self.file("port");
        if file.exists() {
            return Ok(());
        }
        let first = self.service.first_port();
        let claims = claims()?;
        for port in (0..PORT_TRIES).map(|i| first + 10 * i) {
            if probe::free(&self.service.ports(port)) && claim(&claims.join(port.to_string()), &self.dir) {
                return fs::write(&file, port.to_string()).map_err(|e| format!("{}: {e}", file.display()));
            }
        }
        Err(format!("no free port from {first} on"))
    }

    fn start(&self) -> Result<(), String> {
        let mut command = recipe::command(self.service, &self.dir, self.port())?;
        let log = fs::File::options().create(true).append(true).open(self.file("log"));
        let log = log.map_err(|e| format!("{}: {e}", self.file("log").display()))?;
        let twin = log.try_clone().map_err(|e| e.to_string())?;
        let child = command
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(twin)
            // A group of its own: Control-C in the terminal is not for the server.
            .process_group(0)
            .spawn()
            .map_err(|e| format!("{:?}: {e}", command.get_program()))?;
        let born = process_start(child.id()).unwrap_or_default();
        fs::write(self.file("pid"), format!("{} {born}", child.id())).map_err(|e| e.to_string())
    }

    fn wait_ready(&self) -> Result<(), String> {
        let mut died = false;
        let ready = wait(START_PATIENCE, || {
            let pid = self.pid();
            died = pid.is_none();
            // Somebody else's server on this port would answer as well.
            died || pid.is_some_and(|p| probe::listens(p, self.port())) && self.service.probe().ready(self.port())
        });
        if ready && !died {
            return Ok(());
        }
        let what = if died { "ended at once" } else { "does not answer" };
        Err(format!("it {what}; the end of {}:\n{}", self.file("log").display(), self.log_tail()))
    }

    /// The pid written down, while that process lives and began when we say it did.
    fn pid(&self) -> Option<u32> {
        let text = fs::read_to_string(self.file("pid")).ok()?;
        let (pid, born) = text.trim().split_once(' ')?;
        let pid = pid.parse().ok()?;
        (process_start(pid)? == born).then_some(pid)
    }

    fn log_tail(&self) -> String {
        let bytes = fs::read(self.file("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(16 * 1024)..]).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
        tail.iter().map(|l| format!("  | {l}\n")).collect()
    }
}

/// Where the ports lie that were given out and may not be listened on yet: two starts at once must not choose the same.
fn claims() -> Result<PathBuf, String> {
    let dir = std::env::temp_dir().join(format!("flott-ports-{}", uid().unwrap_or_default()));
    fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(dir)
}

/// Takes a port for the server in `dir`; false when another one has it, or is about to.
fn claim(file: &Path, dir: &Path) -> bool {
    let port = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if let Ok(owner) = fs::read_to_string(file) {
        let theirs = fs::read_to_string(Path::new(&owner).join("port"));
        let fresh = fs::metadata(file).and_then(|m| m.modified()).ok().and_then(|m| m.elapsed().ok());
        // A claim is stale when its server has gone, or never came.
        let taken =
            theirs.map_or(fresh.is_none_or(|f| f < START_PATIENCE) && Path::new(&owner).is_dir(), |t| t == port);
        if taken && Path::new(&owner) != dir {
            return false;
        }
        let _ = fs::remove_file(file);
    }
    let created = fs::File::options().write(true).create_new(true).open(file);
    created.is_ok_and(|mut f| f.write_all(dir.as_os_str().as_encoded_bytes()).is_ok())
}

/// When a process began, in clock ticks since boot; `None` when it is gone or a zombie.
fn process_start(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit(") ").next()?.split(' ');
    let alive = fields.next()? != "Z";
    // Field 22 of proc(5); the state above was field 3.
    alive.then(|| fields.nth(18).map(str::to_owned)).flatten()
}

fn rss_mb(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib: u64 =
        status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024 / 1_000_000)
}

/// Who we are.
pub fn uid() -> Option<u32> {
    fs::metadata("/proc/self").ok().map(|m| m.uid())
}

/// Sends a signal by pid.
pub fn signal(pid: u32, name: &str) -> Result<(), String> {
    let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).stderr(Stdio::null()).status();
    // A process that ended meanwhile is what was wanted.
    status.map(|_| ()).map_err(|e| format!("kill: {e}"))
}

/// Polls until `done`; false when it did not come true in time.
#[allow(clippy::disallowed_methods, reason = "a harness of real processes reads the clock")]
pub fn wait(patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_that_now_belongs_to_another_process_is_not_ours() {
        let parent = std::env::temp_dir().join(format!("flott-instance-{}", std::process::id()));
        let instance = Instance::new(Service::ZooKeeper, &parent);
        fs::create_dir_all(instance.dir()).unwrap();
        let me = std::process::id();
        let born = process_start(me).unwrap();
        fs::write(instance.file("pid"), format!("{me} {born}")).unwrap();
        assert_eq!(instance.pid(), Some(me));
        fs::write(instance.file("pid"), format!("{me} {born}1")).unwrap();
        assert_eq!(instance.pid(), None, "began at another time: must not be stopped");
        fs::remove_dir_all(parent).unwrap();
    }
}
