//! The write half of a connection: whether it takes bytes, and what becomes of the connection when it no longer does.

use std::io;

use super::{Common, Connection, HeldBack, Phase};
use crate::error::SendError;
use crate::reason::DisconnectCause;
use crate::socket::Readiness;

/// Whether the socket accepts bytes.
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
    /// As far as is known.
    Ready,
    /// The last write did not take all: WRITABLE readiness has to come first.
    Blocked,
    /// A write has failed. The queue was dropped and sends are refused; what has arrived is still delivered.
    Failed,
    /// This side has sent its FIN. Sends are refused; the peer is still read.
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

    /// Whether a write has failed, so that the connection ends when all that has arrived is delivered.
    #[inline]
    pub(crate) fn has_failed_write(&self) -> bool {
        self.write_half == WriteHalf::Failed
    }

    /// Refuses sends from now on, and lets the sending side be closed when the queue is flushed.
    pub(crate) fn half_close(&mut self) -> Result<(), SendError> {
        self.check_open()?;
        if let Some(missing) = self.queue.as_ref().and_then(|queue| queue.missing()) {
            return Err(SendError::FrameOpen { missing });
        }
        self.aside.get_or_insert_default().half_closed = true;
        self.at_once_up_to = 0;
        Ok(())
    }

    /// Whether this side was half-closed, even if its queue is not flushed yet.
    #[inline]
    pub(crate) fn is_half_closed(&self) -> bool {
        self.at_once_up_to == 0 && self.aside.as_ref().is_some_and(|aside| aside.half_closed)
    }

    /// Whether the FIN of this side was sent, while the connection stays open.
    pub(crate) fn has_sent_fin(&self) -> bool {
        self.write_half == WriteHalf::Closed
    }

    pub(crate) fn note_fin_sent(&mut self) {
        self.write_half = WriteHalf::Closed;
    }

    /// Whether input may be left that a failed write must not take with it: the kernel keeps what arrived before the
    /// peer reset the connection, and a peer that closed its read half may go on writing. The input of a paused
    /// connection has to wait for its user, and a reset does not.
    pub(crate) fn outlives_failed_write(&self) -> bool {
        self.phase == Phase::Open && !self.read_ended && !self.held_back.has(HeldBack::PAUSED)
    }

    /// Ends the write half: drops the queue and decides why the connection will end, which is when reading comes to an
    /// end as well.
    pub(crate) fn fail_write(&mut self, error: io::Error, common: &mut Common) {
        let mut reason = self.reason(DisconnectCause::of_socket(error));
        self.drop_queue(&mut reason, common);
        self.aside.get_or_insert_default().ending = Some(reason);
        self.write_half = WriteHalf::Failed;
        self.at_once_up_to = 0;
        self.relieve(common.now);
        // There is an end to be read, whatever events have told so far.
        self.readiness |= Readiness::READABLE;
        self.active_at = common.now;
    }
}
