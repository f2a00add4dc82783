//! The write half of a connection: whether it takes bytes, and what happens after a failed write.

use std::io;

use super::{Common, Connection, HeldBack, Phase};
use crate::error::SendError;
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
///      |
///      +--- half-closed, and the queue is flushed --> [Closed]
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteHalf {
    /// No write has blocked since the last one that took everything.
    Ready,
    /// The last write did not take everything; WRITABLE readiness has to come first.
    Blocked,
    /// A write failed. The queue was dropped and sends return an error; bytes that have arrived are still delivered.
    Failed,
    /// This side has sent its FIN. Sends return an error; the connection still reads.
    Closed,
}

impl Connection {
    pub(super) fn may_write(&self) -> bool {
        match self.write_half {
            WriteHalf::Ready => true,
            WriteHalf::Blocked => self.readiness.has(Readiness::WRITABLE),
            WriteHalf::Failed | WriteHalf::Closed => false,
        }
    }

    /// Returns whether a write has failed: the connection ends when everything that has arrived is delivered.
    #[inline]
    pub(crate) fn has_failed_write(&self) -> bool {
        self.write_half == WriteHalf::Failed
    }

    /// Begins to half-close: sends return an error from now on, and a FIN is sent when the queue is written.
    pub(crate) fn half_close(&mut self) -> Result<(), SendError> {
        self.check_between_frames()?;
        self.aside.get_or_insert_default().half_closed = true;
        self.at_once_up_to = 0;
        Ok(())
    }

    /// Returns whether this side was half-closed, even if its queue is not written yet.
    #[inline]
    pub(crate) fn is_half_closed(&self) -> bool {
        self.at_once_up_to == 0 && self.aside.as_ref().is_some_and(|aside| aside.half_closed)
    }

    /// Returns whether a FIN is to be sent when the queue is written, because this side was half-closed.
    #[inline]
    pub(crate) fn owes_fin(&self) -> bool {
        if mutated!("FIN of a half-close forgotten") {
            return false;
        }
        if mutated!("FIN after a failed write") {
            return self.is_half_closed() && self.write_half != WriteHalf::Closed;
        }
        self.is_half_closed() && matches!(self.write_half, WriteHalf::Ready | WriteHalf::Blocked)
    }

    /// Returns whether a half-closed connection has sent its FIN.
    pub(crate) fn has_sent_fin(&self) -> bool {
        self.write_half == WriteHalf::Closed
    }

    pub(crate) fn note_fin_sent(&mut self) {
        self.write_half = WriteHalf::Closed;
    }

    /// Returns whether the connection continues to read after a failed write. Input may be left: the kernel keeps what
    /// arrived before a reset, and a peer that closed its read half may still write. The input of a paused connection
    /// would wait for the user, but a reset is reported immediately.
    pub(crate) fn outlives_failed_write(&self) -> bool {
        let reads = self.phase == Phase::Open && !self.read_ended();
        let reads = reads && !mutated!("unread input dropped on a failed write");
        reads && !self.held_back.has(HeldBack::PAUSED)
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
