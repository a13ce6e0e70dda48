//! What the terminal is like: its size, whether it takes colours, and single keys while a result is shown. Draws nothing.

use std::io::IsTerminal;
use std::sync::Mutex;

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios};

/// The terminal's settings before keys were read one by one; whoever ends the process puts them back.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Whether colours and other control sequences may go to a stream: it is a terminal that knows them, and `NO_COLOR` is not set.
pub fn colours(stream: &impl IsTerminal) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    !refused && draws(stream)
}

/// Whether a stream is a terminal on which the cursor can be moved.
pub fn draws(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("TERM").is_some_and(|t| t != "dumb")
}

/// Columns and rows of the terminal that standard output is.
pub fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (usize::from(size.ws_col), usize::from(size.ws_row)),
        _ => (80, 24),
    }
}

/// Keys of the terminal, one by one and unseen, until it is dropped. Ctrl-C stays what it is.
pub struct Keys(());

impl Keys {
    /// Nothing where standard input is no terminal, or is that of another process in front.
    pub fn listen() -> Option<Keys> {
        let input = std::io::stdin();
        if !input.is_terminal() || rustix::termios::tcgetpgrp(&input).ok()? != rustix::process::getpgrp() {
            return None;
        }
        let before = rustix::termios::tcgetattr(&input).ok()?;
        let mut raw = before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        // A read gives what is there, and does not wait.
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        if let Ok(mut saved) = BEFORE.lock() {
            saved.get_or_insert(before);
        }
        rustix::termios::tcsetattr(&input, OptionalActions::Now, &raw).ok()?;
        Some(Keys(()))
    }

    /// Whether one of `keys` was pressed since the last time.
    pub fn pressed(&self, keys: &[u8]) -> bool {
        let mut buffer = [0; 64];
        let n = rustix::io::read(std::io::stdin(), &mut buffer).unwrap_or(0);
        buffer[..n].iter().any(|b| keys.contains(b))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back as it was found.
pub fn restore() {
    let before = BEFORE.lock().ok().and_then(|mut saved| saved.take());
    if let Some(before) = before {
        // There is nobody to tell.
        let _ = rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &before);
    }
}
