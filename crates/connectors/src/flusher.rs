//! Writes rows to a server on a thread of its own, behind a bounded queue; never on the task's thread.
