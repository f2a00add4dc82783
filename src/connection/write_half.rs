//! The write half of a connection: whether it takes bytes, and what happens after a failed write.

use std::io;

use super::{Common, Connection, HeldBack, Phase};
use crate::reason::DisconnectCause;
use crate::socket::Readiness;

/// The state of the write half.
///
/// ```text
///             a write takes less than it was asked to
///   [Ready] ------------------------------------------> [Blocked]
///      |    <------------------------------------------     |
///      |                 a write takes all                  |
///      +--- a write fails --> [Failed] <--- a write fails --+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteHalf {
    /// No write has blocked since the last one that took everything.
    Ready,
    /// The last write did not take everything; WRITABLE readiness has to come first.
    Blocked,
    /// A write failed. The queue was dropped and sends return an error; bytes that have arrived are still delivered.
    Failed,
}

impl Connection {
    pub(super) fn may_write(&self) -> bool {
        match self.write_half {
            WriteHalf::Ready => true,
            WriteHalf::Blocked => self.readiness.has(Readiness::WRITABLE),
            WriteHalf::Failed => false,
        }
    }

    /// Returns whether a write has failed: the connection ends when everything that has arrived is delivered.
    #[inline]
    pub(crate) fn has_failed_write(&self) -> bool {
        self.write_half == WriteHalf::Failed
    }

    /// Returns whether the connection continues to read after a failed write. Input may be left: the kernel keeps what
    /// arrived before a reset, and a peer that closed its read half may still write. The input of a paused connection
    /// would wait for the user, but a reset is reported immediately.
    pub(crate) fn outlives_failed_write(&self) -> bool {
        self.phase == Phase::Open && !self.read_ended && !self.held_back.has(HeldBack::PAUSED)
    }

    /// Closes the write half after a failed write: drops the queue and decides why the connection will end, which is
    /// when reading ends as well.
    pub(crate) fn fail_write(&mut self, error: io::Error, common: &mut Common) {
        let mut reason = self.reason(DisconnectCause::of_socket(error));
        self.drop_queue(&mut reason, common);
        self.aside.get_or_insert_default().ending = Some(reason);
        self.write_half = WriteHalf::Failed;
        self.at_once_up_to = 0;
        self.relieve(common.now);
        // Reading will return an EOF or an error, whatever events have reported so far.
        self.readiness |= Readiness::READABLE;
        self.active_at = common.now;
    }
}
