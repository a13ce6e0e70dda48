//! The mailbox of a task: bounded, in order, and the only way in from outside. Cancelling never waits for room.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use flott_core::ids::SubtaskId;
use flott_core::task::TaskCommand;

use crate::waker::TaskWaker;

struct Shared {
    capacity: usize,
    commands: Mutex<VecDeque<TaskCommand>>,
    has_mail: AtomicBool,
    cancelled: AtomicBool,
    closed: AtomicBool,
    waker: TaskWaker,
}

/// Why a command was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailboxError {
    /// The task has as many commands waiting as its mailbox holds.
    Full,
    /// The task has ended.
    Closed,
}

/// Talks to a task from any thread.
#[derive(Clone)]
pub struct TaskHandle {
    subtask: SubtaskId,
    shared: Arc<Shared>,
}

impl TaskHandle {
    /// Which subtask this is.
    pub fn subtask(&self) -> SubtaskId {
        self.subtask
    }
    /// Puts a command into the mailbox and wakes the task.
    pub fn send(&self, command: TaskCommand) -> Result<(), MailboxError> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(MailboxError::Closed);
        }
        if matches!(command, TaskCommand::Cancel) {
            self.shared.cancelled.store(true, Ordering::Release);
        } else {
            let mut commands = self.shared.commands.lock().unwrap_or_else(PoisonError::into_inner);
            if commands.len() >= self.shared.capacity {
                return Err(MailboxError::Full);
            }
            commands.push_back(command);
        }
        self.shared.has_mail.store(true, Ordering::Release);
        self.shared.waker.wake();
        Ok(())
    }
    /// Cancels the task: it stops at the next batch.
    pub fn cancel(&self) {
        // A task that has ended needs no cancelling, and cancelling is never refused for want of room.
        let _ = self.send(TaskCommand::Cancel);
    }
    /// Whether the task has ended.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }
    /// The task's waker.
    pub fn waker(&self) -> &TaskWaker {
        &self.shared.waker
    }
}

/// The task's end.
pub(crate) struct MailboxReceiver(Arc<Shared>);

impl MailboxReceiver {
    /// Whether there is anything to look at: one relaxed load per batch.
    pub(crate) fn has_mail(&self) -> bool {
        self.0.has_mail.load(Ordering::Acquire)
    }
    /// Takes all commands.
    pub(crate) fn take(&self) -> VecDeque<TaskCommand> {
        self.0.has_mail.store(false, Ordering::Release);
        std::mem::take(&mut *self.0.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }
    /// Whether the task was cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }
}

impl Drop for MailboxReceiver {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.commands.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

pub(crate) fn mailbox(subtask: SubtaskId, capacity: usize, waker: TaskWaker) -> (TaskHandle, MailboxReceiver) {
    let shared = Arc::new(Shared {
        capacity,
        commands: Mutex::new(VecDeque::new()),
        has_mail: AtomicBool::new(false),
        cancelled: AtomicBool::new(false),
        closed: AtomicBool::new(false),
        waker,
    });
    (TaskHandle { subtask, shared: Arc::clone(&shared) }, MailboxReceiver(shared))
}
