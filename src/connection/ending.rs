//! How a connection ends, or is given away: what is decided when, and what is told in the end.

use super::ahead::Ahead;
use super::{Common, Connection, HeldBack, Phase};
use crate::error::{DecodeError, ReleaseError};
use crate::reason::{DisconnectCause, DisconnectReason, Stage};
use crate::write_queue::Dropped;

/// What few connections have.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// Bytes that come before those of the socket.
    pub(super) ahead: Option<Ahead>,
    /// Why it will end, once that is decided.
    pub(super) ending: Option<DisconnectReason>,
    /// The sending side is closed when the queue is flushed, or was closed already.
    pub(super) half_closed: bool,
}

impl Aside {
    pub(super) fn is_empty(&self) -> bool {
        self.ahead.is_none() && self.ending.is_none() && !self.half_closed
    }
}

impl Connection {
    /// The cause that an end of stream here stands for.
    pub(crate) fn end_of_stream(&self) -> DisconnectCause {
        if self.decoder.is_inside_frame() {
            DisconnectCause::PeerClosedInsideFrame {
                received: self.decoder.received(),
            }
        } else {
            DisconnectCause::PeerClosed
        }
    }

    /// Decides why the connection will end when its queue is flushed. What is held will not be delivered.
    pub(crate) fn close(&mut self, cause: DisconnectCause, common: &mut Common) {
        let mut reason = self.reason(cause);
        reason.unshown_bytes = self.unshown();
        self.drop_input(common);
        self.aside.get_or_insert_default().ending = Some(reason);
        self.phase = Phase::Closing;
        self.at_once_up_to = 0;
        // The peer's close has to be seen.
        self.held_back = HeldBack::NOT;
    }

    /// Decides that the connection will be given away when its queue is flushed. What is held goes with it.
    pub(crate) fn begin_release(&mut self) -> Result<(), ReleaseError> {
        match self.phase {
            Phase::Open if !self.has_failed_write() && !self.is_half_closed() => {}
            Phase::Connecting => return Err(ReleaseError::Connecting),
            Phase::Open | Phase::Closing | Phase::Releasing | Phase::Draining | Phase::Closed => {
                return Err(ReleaseError::Disconnected);
            }
        }
        if let Some(missing) = self.queue.as_ref().and_then(|queue| queue.missing()) {
            return Err(ReleaseError::FrameOpen { missing });
        }
        self.phase = Phase::Releasing;
        self.at_once_up_to = 0;
        self.hold_back(HeldBack::RELEASED);
        Ok(())
    }

    /// Our side was closed, after the last byte was written.
    pub(crate) fn note_draining(&mut self) {
        self.phase = Phase::Draining;
    }

    /// Bytes that were accepted and are not written.
    pub(crate) fn unsent_bytes(&self) -> u64 {
        self.queue.as_ref().map_or(0, |queue| queue.unsent_bytes())
    }

    /// Ends: gives all memory back. The cause decided by [`close`](Self::close) stands, unless another one overrules it; that
    /// of a [failed write](Self::fail_write) always does. Returns whether the stream has to be reset: one that is cut off must
    /// not look like one that ends.
    pub(crate) fn finish(
        &mut self,
        overruling: Option<DisconnectCause>,
        common: &mut Common,
    ) -> bool {
        let decided = self.take_reason();
        let overruling = overruling.filter(|_| !self.has_failed_write());
        // What was dropped for a last frame is no part of the stream: without it, it is whole.
        let is_cut_off =
            self.has_failed_write() || (overruling.is_some() && self.unsent_bytes() > 0);
        let unshown = self.unshown();
        let mut reason = match (decided, overruling) {
            (Some(reason), None) => reason,
            (Some(decided), Some(cause)) => DisconnectReason {
                unsent_frames: decided.unsent_frames,
                unsent_bytes: decided.unsent_bytes,
                unshown_bytes: decided.unshown_bytes,
                ..self.reason(cause)
            },
            (None, cause) => self.reason(cause.unwrap_or(DisconnectCause::PeerClosed)),
        };
        if !matches!(reason.cause, DisconnectCause::Released(_)) {
            reason.unshown_bytes += unshown;
        }
        self.drop_queue(&mut reason, common);
        self.drop_input(common);
        let is_aborted = matches!(reason.cause, DisconnectCause::Aborted);
        let is_reset = is_aborted || (is_cut_off && reason.unsent_bytes > 0);
        self.aside.get_or_insert_default().ending = Some(reason);
        self.phase = Phase::Closed;
        self.at_once_up_to = 0;
        is_reset
    }

    /// Drops what is queued, and counts it in the reason.
    pub(super) fn drop_queue(&mut self, reason: &mut DisconnectReason, common: &mut Common) {
        if let Some(queue) = &mut self.queue {
            reason.unsent_frames += queue.frames();
            reason.unsent_bytes = reason.unsent_bytes.saturating_add(queue.unsent_bytes());
            let Common {
                memory, buffers, ..
            } = common;
            let copied = queue.clear(|payload| {
                memory.unshare(&payload);
                buffers.put_shared(payload);
            });
            memory.sub(copied);
            self.release_queue(common);
        }
    }

    /// Counts frames in the reason of the end that were queued and then dropped.
    pub(crate) fn note_dropped(&mut self, dropped: &Dropped) {
        let aside = self.aside.as_mut();
        if let Some(reason) = aside.and_then(|aside| aside.ending.as_mut()) {
            reason.unsent_frames += dropped.frames;
            reason.unsent_bytes = reason.unsent_bytes.saturating_add(dropped.bytes);
        }
    }

    /// Counts bytes in the reason of the end that arrived, and that nobody will be shown.
    pub(crate) fn note_unread(&mut self, bytes: u64) {
        let aside = self.aside.as_mut();
        if let Some(reason) = aside.and_then(|aside| aside.ending.as_mut()) {
            reason.unshown_bytes += bytes;
        }
    }

    /// Takes what was read and not shown, as it came over the wire.
    pub(crate) fn take_unread(&mut self, common: &mut Common) -> Result<Vec<u8>, DecodeError> {
        let held = self.decoder.held_bytes();
        let unread = self.decoder.take_wire();
        common.memory.sub(held);
        let mut unread = unread?;
        let ahead = self.take_ahead(common);
        if unread.is_empty() {
            return Ok(ahead);
        }
        let requested = ahead.len();
        unread
            .try_reserve_exact(requested)
            .map_err(|_| DecodeError::OutOfMemory { requested })?;
        unread.extend_from_slice(&ahead);
        Ok(unread)
    }

    /// The reason of a finished connection.
    pub(crate) fn take_reason(&mut self) -> Option<DisconnectReason> {
        let reason = self.aside.as_mut()?.ending.take();
        self.aside.take_if(|aside| aside.is_empty());
        reason
    }

    pub(super) fn reason(&self, cause: DisconnectCause) -> DisconnectReason {
        DisconnectReason {
            stage: match (self.phase, &cause) {
                (Phase::Connecting, _) => Stage::Connecting,
                (Phase::Open, _) | (Phase::Releasing, DisconnectCause::Released(_)) => Stage::Open,
                (Phase::Releasing | Phase::Closing | Phase::Draining | Phase::Closed, _) => {
                    Stage::Closing
                }
            },
            cause,
            unsent_frames: 0,
            unsent_bytes: 0,
            unshown_bytes: 0,
        }
    }
}
