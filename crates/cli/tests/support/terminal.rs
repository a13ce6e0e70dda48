//! A pseudo-terminal with `flott` on it, and the screen as its user sees it. Waits for what is to appear, never for time to pass.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use flott_core::time::SystemClock;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::Winsize;

/// What takes longer does not come.
const PATIENCE_NS: u64 = 90_000_000_000;
const PROMPT: &str = "flott>";

/// A terminal, and the process on it.
pub struct Terminal {
    child: Child,
    keyboard: File,
    bytes: Receiver<Vec<u8>>,
    screen: vt100::Parser,
    columns: u16,
    /// All that was ever written to it.
    pub raw: Vec<u8>,
}

/// For `env`: signals end a process, whatever the one that started it does with them.
pub const LISTENING: &str = "--default-signal=INT,TERM,HUP";

impl Terminal {
    /// Starts `flott` with these arguments and variables on a terminal of this many rows and columns.
    pub fn start(dir: &Path, args: &[&str], variables: &[(&str, &str)], (rows, columns): (u16, u16)) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&master).expect("a pseudo-terminal of ours");
        unlockpt(&master).expect("a pseudo-terminal of ours");
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&master, size).expect("a terminal has a size");
        let name = ptsname(&master, Vec::new()).expect("a name").into_string().expect("a name in UTF-8");
        let open = || File::options().read(true).write(true).open(&name).expect("the terminal's other side");
        let side = open();
        // `setsid` makes it the terminal that Ctrl-C comes from, `env` hears it also where tests run in the background, where signals are
        // ignored, and becomes `flott`.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "env", LISTENING, env!("CARGO_BIN_EXE_flott")]).args(args).current_dir(dir);
        command
            .env_remove("FLINK_CONF_DIR")
            .env_remove("NO_COLOR")
            .env("TERM", "xterm")
            .envs(variables.iter().copied());
        let twin = || Stdio::from(side.try_clone().expect("a file can be shared"));
        command.stdin(twin()).stdout(twin()).stderr(twin());
        let child = command.spawn().expect("`setsid` of util-linux starts the binary");
        let keyboard = File::from(master);
        let mut output = keyboard.try_clone().expect("a file can be shared");
        let (sender, bytes) = sync_channel(1024);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { child, keyboard, bytes, screen: vt100::Parser::new(rows, columns, 0), columns, raw: Vec::new() }
    }

    /// A shell at its first prompt, on a screen that is never full.
    pub fn shell(dir: &Path) -> Self {
        let mut shell = Self::start(dir, &["sql", "--history", "history"], &[], (200, 120));
        shell.prompt_below(0);
        shell
    }

    /// What is on the screen.
    pub fn text(&self) -> String {
        self.screen.screen().contents()
    }

    /// The line of the cursor.
    pub fn row(&self) -> u16 {
        self.screen.screen().cursor_position().0
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Waits until the screen is as it should be.
    pub fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let clock = SystemClock::shared();
        let end_ns = clock.now_nanos() + PATIENCE_NS;
        while !done(self) {
            let left = Duration::from_nanos(end_ns.saturating_sub(clock.now_nanos()));
            match self.bytes.recv_timeout(left) {
                Ok(bytes) => {
                    self.screen.process(&bytes);
                    self.raw.extend(bytes);
                }
                Err(e) => panic!("{what} does not come ({e:?}); the screen:\n{}", self.text()),
            }
        }
    }

    /// Waits for a text on the screen.
    pub fn see(&mut self, text: &str) {
        self.until(&format!("`{text}`"), |t| t.text().contains(text));
    }

    /// Whether the cursor stands behind an empty prompt.
    fn at_prompt(&self) -> bool {
        let (row, column) = self.screen.screen().cursor_position();
        let line = self.screen.screen().rows(0, self.columns).nth(usize::from(row)).unwrap_or_default();
        usize::from(column) == PROMPT.len() + 1 && line.trim_end() == PROMPT
    }

    /// Waits for an empty prompt below a row.
    pub fn prompt_below(&mut self, row: u16) {
        self.until("the prompt", |t| t.row() > row && t.at_prompt());
    }

    /// Empties the screen; what the shell says meanwhile stands on it.
    pub fn clear(&mut self) {
        let before = self.raw.len();
        self.press("clear;\r");
        let cleared = |raw: &[u8]| String::from_utf8_lossy(raw).contains("\u{1b}[2J");
        self.until("an empty screen", |t| cleared(&t.raw[before..]) && t.at_prompt());
    }

    /// Types a statement or command, waits for the next prompt, and gives what came between.
    pub fn run(&mut self, text: &str) -> String {
        let first = self.row();
        self.press(&(text.replace('\n', "\r") + "\r"));
        self.prompt_below(first);
        let rows: Vec<String> = self.screen.screen().rows(0, self.columns).collect();
        rows[usize::from(first)..usize::from(self.row())].join("\n")
    }

    /// Waits for the process to end.
    pub fn end(mut self) -> (ExitStatus, String) {
        let clock = SystemClock::shared();
        let end_ns = clock.now_nanos() + PATIENCE_NS;
        // Its output ends when it does.
        while let Ok(bytes) = self.bytes.recv_timeout(Duration::from_nanos(end_ns.saturating_sub(clock.now_nanos()))) {
            self.screen.process(&bytes);
            self.raw.extend(bytes);
        }
        assert!(clock.now_nanos() < end_ns, "it does not end; the screen:\n{}", self.text());
        let status = self.child.wait().expect("it was started");
        (status, self.text())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
