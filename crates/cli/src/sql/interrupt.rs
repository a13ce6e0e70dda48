//! Ctrl-C, and SIGTERM and SIGHUP like it: remembered until whoever runs a statement asks, who then ends the job. Pressed once too often it
//! ends the process.

use std::sync::atomic::{AtomicU32, Ordering};

use flott_core::error::{Error, Result};

use crate::terminal;

/// The exit code of what Ctrl-C ended, as shells count it: 128 and the number of the signal.
pub const EXIT_CODE: u8 = 130;
/// The code of the error of what Ctrl-C ended.
pub const CODE: &str = "cli.interrupted";
/// How often Ctrl-C was pressed during this statement.
static PRESSED: AtomicU32 = AtomicU32::new(0);
/// How often it must be pressed to end the process.
static PATIENCE: AtomicU32 = AtomicU32::new(2);

/// From now on Ctrl-C is remembered; pressed `patience` times during one statement it ends the process.
pub fn install(patience: u32) -> Result<()> {
    PATIENCE.store(patience, Ordering::SeqCst);
    match ctrlc::try_set_handler(press) {
        // Whoever started this process wants it to ignore Ctrl-C.
        Ok(()) | Err(ctrlc::Error::MultipleHandlers) => Ok(()),
        Err(e) => Err(Error::user("cli.signal", format!("Ctrl-C cannot be caught: {e}"))),
    }
}

fn press() {
    let presses = PRESSED.fetch_add(1, Ordering::SeqCst) + 1;
    let patience = PATIENCE.load(Ordering::SeqCst);
    if presses + 1 == patience {
        eprintln!("\ncancelling; Ctrl-C once more ends the process at once");
    }
    if presses < patience {
        return;
    }
    terminal::restore();
    #[allow(clippy::disallowed_methods, reason = "the user does not want to wait for the job, on which main waits")]
    std::process::exit(i32::from(EXIT_CODE))
}

/// Whether Ctrl-C was pressed during this statement.
pub fn pressed() -> bool {
    PRESSED.load(Ordering::SeqCst) > 0
}

/// A statement begins.
pub fn forget() {
    PRESSED.store(0, Ordering::SeqCst);
}

/// What becomes of a script whose statement Ctrl-C ended.
pub fn error() -> Error {
    Error::user("cli.interrupted", "Ctrl-C or SIGTERM ended the statement, and the script with it")
}
