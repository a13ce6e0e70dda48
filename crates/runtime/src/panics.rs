//! Turns a panic inside user or connector code into an error: the job fails, the process lives.

use std::any::Any;
use std::panic::{UnwindSafe, catch_unwind};

use flott_core::error::{Error, ErrorKind, Result};

/// Calls `f`; a panic comes back as an error with its message.
pub(crate) fn guard<T>(f: impl FnOnce() -> Result<T> + UnwindSafe) -> Result<T> {
    match catch_unwind(f) {
        Ok(result) => result,
        Err(payload) => Err(Error::new(ErrorKind::Retry, "task.panic", format!("panicked: {}", message(&*payload)))
            .hint("the place is on standard error; set RUST_BACKTRACE=1 for the way there")),
    }
}

/// What a panic said.
pub(crate) fn message(payload: &(dyn Any + Send)) -> String {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(s), _) => (*s).to_owned(),
        (_, Some(s)) => s.clone(),
        _ => "without a message".to_owned(),
    }
}
