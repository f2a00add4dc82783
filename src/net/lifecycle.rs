//! How connections end: gracefully, at once, or by a failure.

use std::io;
use std::time::{Duration, Instant};

use log::debug;

use super::{Deadline, Net};
use crate::connection::{Backlog, Fill, Origin, Phase};
use crate::connection_id::ConnectionId;
use crate::error::SendError;
use crate::frame::{Chunk, Framing};
use crate::reason::DisconnectCause;
use crate::socket::Readiness;
use crate::timers::later;

/// How many times its [`disconnect_timeout`](crate::Config::disconnect_timeout) a connection may take to close while its
/// peer takes what is queued.
const MAX_EXTENSION: u32 = 12;

impl Net {
    /// Closes a connection gracefully. No callback but [`on_disconnect`](crate::Handler::on_disconnect) follows, and sends
    /// are refused from now on. What is queued is written, then the sending side is closed, then the peer's close is
    /// awaited. What the peer still sends is read and discarded.
    ///
    /// [`disconnect_timeout`](crate::ListenOptions::disconnect_timeout) limits how long this takes, after which the
    /// connection is dropped. To end with a message that also reaches a peer whose queue is full, use
    /// [`disconnect_with`](Self::disconnect_with).
    ///
    /// A connection that is not established yet is dropped at once.
    ///
    /// Returns `false` if the connection is closed or closing already.
    pub fn disconnect(&mut self, id: ConnectionId) -> bool {
        match self.connections.get(id).map(|connection| connection.phase) {
            Some(Phase::Connecting) => self.end(id, Some(DisconnectCause::ClosedLocally)),
            Some(Phase::Open) => {
                self.close(id, DisconnectCause::ClosedLocally);
                self.mark_dirty(id);
            }
            _ => {
                debug!("{id}: disconnect: not connected");
                return false;
            }
        }
        true
    }

    /// Closes a connection gracefully with a last frame, for which there is always room:
    /// [`max_queued_bytes`](crate::Config::max_queued_bytes) does not apply. Otherwise as [`disconnect`](Self::disconnect).
    ///
    /// With [`Backlog::Flush`] it follows everything that is queued. With [`Backlog::Drop`] the queue is dropped, but for
    /// a frame that is partly written, so that a peer which reads slowly gets the last frame next. (What is in the system's
    /// send buffer comes before it in either case.)
    ///
    /// ```
    /// use throng::{Backlog, ConnectionId, Frame, Handler, Net, SendError};
    ///
    /// struct Chat;
    ///
    /// impl Handler for Chat {
    ///     fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
    ///         if frame.len() > 1000 {
    ///             let _ = net.disconnect_with(id, b"kicked: too long", Backlog::Drop);
    ///         } else if let Err(SendError::QueueFull { .. }) = net.send(id, &frame) {
    ///             let _ = net.disconnect_with(id, b"kicked: too slow", Backlog::Drop);
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`send`](Self::send), but for `QueueFull`; and [`FrameOpen`](SendError::FrameOpen) if a frame is
    /// [open](Self::begin_frame) that would have to be finished first. Nothing has changed then: the connection goes on.
    pub fn disconnect_with(
        &mut self,
        id: ConnectionId,
        payload: &[u8],
        backlog: Backlog,
    ) -> Result<(), SendError> {
        let connection = self.connections.get_mut(id);
        let connection = connection.ok_or(SendError::Disconnected)?;
        let dropped = connection.push_last(&mut self.common, payload, backlog)?;
        self.close(id, DisconnectCause::ClosedLocally);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.note_dropped(&dropped);
        }
        self.mark_dirty(id);
        Ok(())
    }

    /// Closes the sending side of a connection, and keeps receiving. Sends are refused from now on with
    /// [`SendError::HalfClosed`]. When the queue is written, the peer is sent a FIN: it reads the end of the stream, and
    /// can reply for as long as it likes. The connection ends, with the cause
    /// [`PeerClosed`](DisconnectCause::PeerClosed), when the peer has closed its side as well.
    /// If it has done so before, no further callback but [`on_disconnect`](crate::Handler::on_disconnect) follows.
    ///
    /// If the peer is throng too, it needs [`allow_half_open`](crate::ListenOptions::allow_half_open) to reply, and is told
    /// by [`on_half_close`](crate::Handler::on_half_close). A peer that never closes keeps the connection:
    /// [`idle_timeout`](crate::ListenOptions::idle_timeout) limits its silence, and [`disconnect`](Self::disconnect) ends it.
    ///
    /// ```
    /// use throng::{ConnectionId, Frame, Handler, Net, SendError};
    ///
    /// /// Sends a question, and reads answers until the server has closed the connection.
    /// struct Asks;
    ///
    /// impl Handler for Asks {
    ///     fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
    ///         let asked = net.send(id, b"list all").and_then(|()| net.half_close(id));
    ///         assert!(asked.is_ok());
    ///         assert!(matches!(net.send(id, b"more"), Err(SendError::HalfClosed)));
    ///     }
    ///
    ///     fn on_data(&mut self, _: &mut Net, _: ConnectionId, frame: Frame<'_>) {
    ///         println!("{frame:?}");
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// - [`Disconnected`](SendError::Disconnected), [`Connecting`](SendError::Connecting) or
    ///   [`WriteFailed`](SendError::WriteFailed): the connection is not open, or its sending side has ended already.
    /// - [`HalfClosed`](SendError::HalfClosed): it was called before.
    /// - [`FrameOpen`](SendError::FrameOpen): a frame is [open](Self::begin_frame), and has to be finished first.
    pub fn half_close(&mut self, id: ConnectionId) -> Result<(), SendError> {
        let connection = self.connections.get_mut(id);
        let connection = connection.ok_or(SendError::Disconnected)?;
        connection.half_close()?;
        if connection.read_ended() {
            let cause = connection.end_of_stream();
            self.close(id, cause);
        }
        self.mark_dirty(id);
        Ok(())
    }

    /// Ends a connection at once: what is queued is dropped, and the peer sees a reset (RST).
    ///
    /// The only callback that follows is [`on_disconnect`](crate::Handler::on_disconnect).
    ///
    /// Returns `false` if the connection is closed already.
    pub fn abort(&mut self, id: ConnectionId) -> bool {
        match self.connections.get(id).map(|connection| connection.phase) {
            None | Some(Phase::Closed) => {
                debug!("{id}: abort: not connected");
                false
            }
            Some(_) => {
                self.end(id, Some(DisconnectCause::Aborted));
                true
            }
        }
    }

    /// Lets an open connection end when its queue is flushed.
    pub(crate) fn close(&mut self, id: ConnectionId, cause: DisconnectCause) {
        if let Some(connection) = self.connections.get_mut(id) {
            if connection.has_failed_write() {
                // There is nothing left to write, and why it ends is decided.
                return self.end(id, None);
            }
            if let Some(timer) = connection.timer.take() {
                self.timers.cancel(timer);
            }
            connection.close(cause, &mut self.common);
            self.open -= 1;
            self.end_timers(id);
            self.upset = true;
            self.update_interest(id);
        }
    }

    /// Ends a connection: the socket is closed, the memory given back, the announcement queued. Without a cause of its
    /// own the one given to [`close`](Self::close) stands.
    pub(crate) fn end(&mut self, id: ConnectionId, cause: Option<DisconnectCause>) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        match connection.phase {
            Phase::Closed => return,
            Phase::Open => self.open -= 1,
            Phase::Connecting | Phase::Closing | Phase::Releasing | Phase::Draining => {}
        }
        if let Some(timer) = connection.timer.take() {
            self.timers.cancel(timer);
        }
        if matches!(connection.origin(), Origin::Listener(_)) {
            self.admissions.left(connection.peer);
        }
        connection.finish(cause, &mut self.common);
        self.end_timers(id);
        self.upset = true;
        self.work.add_ended(id);
        self.stats.disconnected += 1;
        self.resume_accepting();
    }

    /// A write has failed: that is the end of the write half. What has arrived is delivered, and then the connection ends.
    #[cold]
    pub(crate) fn fail_write(&mut self, id: ConnectionId, error: io::Error) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        self.upset = true;
        if connection.outlives_failed_write() {
            debug!("{id} cannot be written to: {error}");
            connection.fail_write(error, &mut self.common);
            let patience = connection.options().disconnect_timeout;
            self.list(id);
            self.watch(id, Some(patience));
            return self.update_interest(id);
        }
        let unread = if connection.wants_input() {
            connection.discard_unread()
        } else {
            0
        };
        self.end(id, Some(DisconnectCause::of_socket(error)));
        if let Some(connection) = self.connections.get_mut(id) {
            connection.note_unread(unread);
        }
    }

    /// After a flush of a closing connection: lists it if it has more to do, such as input that was not read while it was
    /// held back, and sees to it that it has a deadline. In a shutdown, the loop has one.
    ///
    /// At the deadline the connection continues if its peer has taken bytes since, but not for ever.
    #[cold]
    #[inline(never)]
    pub(super) fn continue_closing(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        if connection.is_open() {
            return;
        }
        if connection.is_runnable() {
            self.list(id);
        }
        if let Some(connection) = self.connections.get(id)
            && connection.timer.is_none()
            && self.shutdown.is_none()
        {
            let after = connection.options().disconnect_timeout;
            let until = later(self.now, after.saturating_mul(MAX_EXTENSION));
            self.set_deadline(id, after, Deadline::Drain(id, until));
        }
    }

    /// Gives a connection a deadline, in place of the one that it had.
    pub(crate) fn set_deadline(&mut self, id: ConnectionId, after: Duration, deadline: Deadline) {
        self.forget_deadline(id);
        let Some(at) = self.now.checked_add(after) else {
            return;
        };
        if let Some(connection) = self.connections.get_mut(id) {
            connection.timer = Some(self.timers.insert(at, deadline));
        }
    }

    pub(super) fn forget_deadline(&mut self, id: ConnectionId) {
        let connection = self.connections.get_mut(id);
        if let Some(timer) = connection.and_then(|connection| connection.timer.take()) {
            self.timers.cancel(timer);
        }
    }

    pub(crate) fn disconnect_timeout(&self, id: ConnectionId) -> Option<Duration> {
        Some(self.connections.get(id)?.options().disconnect_timeout)
    }

    /// How long a closing connection may go on: its timeout since its peer last took a byte, but not beyond `until`. `None`
    /// if it is closed.
    pub(crate) fn time_to_close(&self, id: ConnectionId, until: Instant) -> Option<Duration> {
        let connection = self.connections.get(id)?;
        let after = connection.options().disconnect_timeout;
        let left = after.saturating_sub(connection.inactive_for(self.common.now));
        let left = left.min(until.saturating_duration_since(self.now));
        (connection.phase != Phase::Closed).then_some(left)
    }

    /// Changes the framing of a connection, both ways, as after a handshake: from the next frame sent, and from the byte
    /// after the frame that is being delivered. [`max_frame_len`](crate::ListenOptions::max_frame_len) stays.
    ///
    /// Whenever it is called, what was not shown yet is cut anew, be it the beginning of a frame, and a frame that is shown in
    /// [pieces](crate::Handler::on_chunk) goes on to its end. But only in [`on_data`](crate::Handler::on_data) it is certain
    /// which frame was the last to be shown.
    ///
    /// Returns `false` if the connection is gone or going.
    pub fn set_framing(&mut self, id: ConnectionId, framing: impl Into<Framing>) -> bool {
        match self.connections.get_mut(id) {
            Some(connection) if matches!(connection.phase, Phase::Connecting | Phase::Open) => {
                self.upset = true;
                match connection.set_framing(framing.into(), &mut self.common) {
                    Ok(()) if connection.is_runnable() => self.list(id),
                    Ok(()) => {}
                    Err(error) => self.end(id, Some(error.into())),
                }
                true
            }
            _ => {
                debug!("{id}: set_framing: not connected");
                false
            }
        }
    }

    /// Ends a connection whose handler has no place for a chunk.
    #[cold]
    pub(crate) fn refuse_chunk(&mut self, id: ConnectionId, chunk: &Chunk<'_>) {
        let total = chunk.total();
        self.end(id, Some(DisconnectCause::ChunkNotHandled { total }));
    }

    /// How many connections there are that have not ended, in any phase.
    pub(super) fn occupied(&self) -> usize {
        self.connections.len() - self.work.ended_in_slots()
    }

    /// Takes a closing connection further: flushes, and reads to see the peer's close.
    pub(crate) fn drain(&mut self, id: ConnectionId, buffer: &mut [u8]) {
        let mut budget = self.config.read_budget;
        loop {
            self.flush(id);
            let Some(connection) = self.connections.get_mut(id) else {
                return;
            };
            if connection.phase == Phase::Closed
                || !connection.readiness.has(Readiness::READABLE)
                || budget == 0
            {
                return;
            }
            let waits_for_flush = connection.phase == Phase::Closing;
            match connection.discard(buffer, self.common.now) {
                Fill::Bytes { read, .. } => budget = budget.saturating_sub(read),
                Fill::Blocked => return,
                Fill::Ended if waits_for_flush => return,
                Fill::Ended => return self.end(id, None),
                Fill::Failed(error) => {
                    return self.end(id, Some(DisconnectCause::of_socket(error)));
                }
                Fill::NoMemory { .. } => return,
            }
        }
    }
}
