//! How a connection ends or is released: what is decided when, and what is reported.

use super::ahead::Ahead;
use super::common::recycle;
use super::meter::Meter;
use super::{Common, Connection, HeldBack, Phase};
use crate::error::{DecodeError, OutOfMemory, SendError};
use crate::reason::{DisconnectCause, DisconnectReason, Stage};
use crate::socket::Readiness;
use crate::write_queue::Dropped;

/// State that few connections have.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// Bytes that come before those of the socket.
    pub(super) ahead: Option<Ahead>,
    /// The reason of the end, once it is decided.
    pub(super) ending: Option<DisconnectReason>,
    /// The sending side is closed when the queue is flushed, or was closed already.
    pub(super) half_closed: bool,
    /// What is left of its rate limits, unless that is everything.
    pub(super) meter: Option<Meter>,
    /// The TLS session, with the stream in it.
    #[cfg(feature = "tls")]
    pub(super) session: Option<Box<crate::tls::Session>>,
    /// An estimate: unsent frames that were encrypted, and counted as written then.
    #[cfg(all(feature = "sim", feature = "tls"))]
    pub(super) encrypted_frames: u64,
}

impl Aside {
    pub(super) fn is_empty(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.session.is_some() {
            return false;
        }
        self.ahead.is_none() && self.ending.is_none() && !self.half_closed && self.meter.is_none()
    }
}

/// What the peer's EOF means for a connection.
#[derive(Debug)]
pub(crate) enum EndOfStream {
    /// The connection stays open for replies.
    HalfOpen,
    /// The connection closes.
    Closes(DisconnectCause),
}

/// What follows when everything that can be written is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// Nothing: it stays open.
    Stays,
    /// This side was half-closed: a FIN is sent, and reading continues.
    HalfCloses,
    /// It is closing: a FIN is sent, and input is discarded until the peer's EOF.
    Drains,
    /// It ends: the peer's EOF was read, its stream is released, or a FIN would be misleading.
    Ends,
}

impl Connection {
    /// Decides what follows when everything that can be written is written.
    #[inline]
    pub(crate) fn when_written(&self) -> Written {
        match self.phase {
            Phase::Open if self.owes_fin() => Written::HalfCloses,
            Phase::Closing if self.misleads() => Written::Ends,
            Phase::Closing
                if !self.read_ended() && !mutated!("closed without waiting for the peer") =>
            {
                Written::Drains
            }
            Phase::Closing | Phase::Releasing => Written::Ends,
            _ => Written::Stays,
        }
    }

    /// Returns whether the peer would take an EOF for the end of a frame that is incomplete: of an open frame whose length
    /// it cannot know, such as a line.
    pub(crate) fn misleads(&self) -> bool {
        let queue = self.queue.as_ref();
        queue.is_some_and(|queue| queue.is_open_without_header())
    }

    /// Decides what an EOF at this point of the stream means.
    pub(crate) fn at_end_of_stream(&self) -> EndOfStream {
        match self.end_of_stream() {
            DisconnectCause::PeerClosed
                if self.options().allow_half_open && self.check_open().is_ok() =>
            {
                EndOfStream::HalfOpen
            }
            cause => EndOfStream::Closes(cause),
        }
    }

    /// Returns the cause for an EOF at this point of the stream.
    pub(crate) fn end_of_stream(&self) -> DisconnectCause {
        if self.decoder.is_inside_frame() {
            DisconnectCause::PeerClosedInsideFrame {
                received: self.decoder.received(),
            }
        } else {
            DisconnectCause::PeerClosed
        }
    }

    /// Decides the cause of the end and begins to close: the connection half-closes when its queue is written. Held
    /// bytes will not be delivered.
    pub(crate) fn close(&mut self, cause: DisconnectCause, common: &mut Common) {
        let mut reason = self.reason(cause);
        reason.unshown_bytes = self.unshown();
        self.drop_input(common);
        self.aside.get_or_insert_default().ending = Some(reason);
        self.phase = Phase::Closing;
        self.at_once_up_to = 0;
        // The peer's EOF has to be seen.
        self.held_back = HeldBack::NOT;
    }

    /// Returns whether the stream has to be asked for its error, because no read will return it: after the peer's EOF, or
    /// if an event has reported it while the connection is held back. The caller has to ask.
    pub(crate) fn begin_error_check(&mut self) -> bool {
        let is_unread = self.held_back != HeldBack::NOT && self.readiness.has(Readiness::ERROR);
        if !self.read_ended() && !is_unread {
            return false;
        }
        // WRITABLE is kept, because a blocked write waits for it.
        self.readiness.remove(Readiness::ERROR);
        if self.read_ended() {
            self.readiness.remove(Readiness::READ);
        }
        true
    }

    /// Begins to release the connection: its stream is returned when the queue is written, together with the held
    /// bytes.
    pub(crate) fn begin_release(&mut self) -> Result<(), SendError> {
        self.check_between_frames()?;
        #[cfg(feature = "tls")]
        if self.session().is_some() {
            return Err(SendError::Secured);
        }
        self.phase = Phase::Releasing;
        self.at_once_up_to = 0;
        self.hold_back(HeldBack::RELEASED);
        Ok(())
    }

    /// Notes that our side was half-closed, after the last byte was written.
    pub(crate) fn note_draining(&mut self) {
        self.phase = Phase::Draining;
    }

    /// Returns the bytes that were accepted and not written.
    pub(crate) fn unsent_bytes(&self) -> u64 {
        let queue = self.queue.as_ref();
        queue.map_or(0, |queue| queue.unsent_bytes()) + self.fanout_bytes()
    }

    /// Ends the connection and frees all its memory. The cause decided by [`close`](Self::close) applies, unless
    /// `overruling` is given; that of a [failed write](Self::fail_write) always applies. Returns whether the stream has
    /// to be reset: a truncated stream must not look like a complete one.
    pub(crate) fn finish(
        &mut self,
        overruling: Option<DisconnectCause>,
        common: &mut Common,
    ) -> bool {
        let decided = self.take_reason();
        let overruling = overruling.filter(|_| !self.has_failed_write());
        // Frames dropped for a last frame are no part of the stream: without them it is complete.
        let is_cut_off =
            self.has_failed_write() || (overruling.is_some() && self.unsent_bytes() > 0);
        let misleads = self.misleads();
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
        let is_reset = is_aborted || misleads || (is_cut_off && reason.unsent_bytes > 0);
        let is_reset = is_reset && !mutated!("cut-off stream ends with FIN");
        self.aside.get_or_insert_default().ending = Some(reason);
        self.phase = Phase::Closed;
        self.at_once_up_to = 0;
        is_reset
    }

    /// Drops the queue, and counts it in the reason.
    pub(super) fn drop_queue(&mut self, reason: &mut DisconnectReason, common: &mut Common) {
        self.settle_fanout(common);
        if let Some(queue) = &mut self.queue {
            let twice = u64::from(mutated!("frame counted twice"));
            reason.unsent_frames += queue.frames() * (1 + twice);
            reason.unsent_bytes = reason.unsent_bytes.saturating_add(queue.unsent_bytes());
            let Common {
                memory, buffers, ..
            } = common;
            let copied = queue.clear(|payload| recycle(payload, memory, buffers));
            memory.sub(copied);
            self.release_queue(common);
        }
    }

    /// Counts frames that were queued and then dropped in the reason of the end.
    pub(crate) fn note_dropped(&mut self, dropped: &Dropped) {
        let aside = self.aside.as_mut();
        if let Some(reason) = aside.and_then(|aside| aside.ending.as_mut()) {
            reason.unsent_frames += dropped.frames;
            reason.unsent_bytes = reason.unsent_bytes.saturating_add(dropped.bytes);
        }
    }

    /// Counts bytes that arrived and will not be delivered in the reason of the end.
    pub(crate) fn note_unread(&mut self, bytes: u64) {
        let aside = self.aside.as_mut();
        if let Some(reason) = aside.and_then(|aside| aside.ending.as_mut()) {
            reason.unshown_bytes += bytes;
        }
    }

    /// Takes the bytes that were read and not delivered, as they came over the wire.
    pub(crate) fn take_unread(&mut self, common: &mut Common) -> Result<Vec<u8>, DecodeError> {
        let held = self.decoder.held_bytes();
        let unread = self.decoder.take_wire();
        let unread = if mutated!("held bytes lost on release") {
            Ok(Vec::new())
        } else {
            unread
        };
        common.memory.sub_input(held);
        let mut unread = unread?;
        let ahead = self.take_ahead(common);
        if unread.is_empty() {
            return Ok(ahead);
        }
        let requested = ahead.len();
        unread
            .try_reserve_exact(requested)
            .map_err(|_| OutOfMemory { requested })?;
        unread.extend_from_slice(&ahead);
        Ok(unread)
    }

    /// Returns the cause of the end, once it is decided and until it is reported.
    pub(crate) fn cause(&self) -> Option<&DisconnectCause> {
        Some(&self.aside.as_ref()?.ending.as_ref()?.cause)
    }

    /// Takes the reason of a finished connection.
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
