//! Errors of commands from other threads to a loop.

use std::{error, fmt, io};

use super::send::Rejected;

impl<T> From<Rejected<T, MailboxError>> for MailboxError {
    fn from(rejected: Rejected<T, MailboxError>) -> Self {
        rejected.error
    }
}

/// Why a [`Handle`](crate::Handle) refused a command.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MailboxError {
    /// The mailbox is full: it holds [`max_pending_commands`](crate::Config::max_pending_commands) or
    /// [`max_pending_bytes`](crate::Config::max_pending_bytes). While other threads are blocked, `try_` forms return
    /// this when they have used up their [additional room](crate::Handle#when-there-is-no-room).
    Full {
        /// The number of pending commands.
        commands: u64,
        /// The size of their payloads, in bytes.
        bytes: u64,
    },
    /// [`Handle::call`](crate::Handle::call) was called in a callback of a loop, where blocking is not allowed.
    InCallback,
    /// The loop, or the [`Mailbox`](crate::Mailbox), was dropped. A loop that was [stopped](crate::Net::stop) is not
    /// closed.
    Closed,
}

impl fmt::Display for MailboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { commands, bytes } => write!(
                f,
                "the mailbox is full: {commands} commands with {bytes} bytes are pending"
            ),
            Self::InCallback => f.write_str("cannot block on a loop in a callback"),
            Self::Closed => f.write_str("the loop is closed"),
        }
    }
}

impl error::Error for MailboxError {}

impl From<MailboxError> for io::Error {
    fn from(error: MailboxError) -> Self {
        let kind = match &error {
            MailboxError::Full { .. } => io::ErrorKind::WouldBlock,
            MailboxError::InCallback => io::ErrorKind::Deadlock,
            MailboxError::Closed => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, error)
    }
}
