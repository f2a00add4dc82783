//! How connections end: gracefully, at once, or by a failure.

use std::io;

use log::debug;

use super::{Deadline, Net};
use crate::connection::{Backlog, Fill, Origin, Phase};
use crate::connection_id::ConnectionId;
use crate::error::SendError;
use crate::frame::{Chunk, Framing};
use crate::reason::DisconnectCause;
use crate::socket::Readiness;
use crate::timers::later;

/// The longest time in which a connection may close while its peer keeps taking bytes, as a multiple of its
/// [`disconnect_timeout`](crate::Config::disconnect_timeout).
const MAX_EXTENSION: u32 = 12;

impl Net {
    /// Closes a connection gracefully: writes the queue, half-closes, and waits for the peer's EOF. Data that the peer
    /// still sends is read and discarded. From now on sends return an error, and
    /// [`on_disconnect`](crate::Handler::on_disconnect) is the only callback that follows.
    ///
    /// If this takes longer than [`disconnect_timeout`](crate::ListenOptions::disconnect_timeout), the connection is
    /// dropped. A connection that is not established yet is dropped immediately. To close with a last frame that is
    /// accepted even if the queue is full, use [`disconnect_with`](Self::disconnect_with).
    ///
    /// ```
    /// use throng::{ConnectionId, Net};
    ///
    /// fn remove(net: &mut Net, id: ConnectionId, is_flooding: bool) {
    ///     if is_flooding {
    ///         net.abort(id); // drops the queue; the peer sees a reset
    ///     } else {
    ///         net.disconnect(id); // the peer receives everything that is queued, then EOF
    ///     }
    /// }
    /// ```
    ///
    /// Returns `false` if the connection is closed or closing.
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

    /// Closes a connection gracefully with a last frame, which is accepted even if the queue is full:
    /// [`max_queued_bytes`](crate::Config::max_queued_bytes) does not apply. Otherwise as
    /// [`disconnect`](Self::disconnect).
    ///
    /// With [`Backlog::Flush`] the frame is written after everything that is queued. With [`Backlog::Drop`] the queue
    /// is dropped, except for a partly written frame, so that a slow peer receives the last frame next. In either case
    /// the peer first receives what is in the kernel's send buffer.
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
    /// As [`send`](Self::send), except for `QueueFull`; and [`FrameOpen`](SendError::FrameOpen) if an
    /// [open](Self::begin_frame) frame would have to be finished first. On error nothing changes: the connection stays
    /// open.
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

    /// Closes the sending direction of a connection, and keeps receiving. Sends return [`SendError::HalfClosed`] from now
    /// on. When the queue is written, a FIN is sent: the peer reads EOF, and can still reply. When the peer has closed its
    /// side as well, the connection ends with the cause [`PeerClosed`](DisconnectCause::PeerClosed). If the peer had closed
    /// its side before, [`on_disconnect`](crate::Handler::on_disconnect) is the only callback that follows.
    ///
    /// If the peer uses throng too, it needs [`allow_half_open`](crate::ListenOptions::allow_half_open) to reply, and
    /// [`on_half_close`](crate::Handler::on_half_close) is called there. A peer that never closes keeps the connection open:
    /// set an [`idle_timeout`](crate::ListenOptions::idle_timeout), or call [`disconnect`](Self::disconnect).
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

    /// Closes a connection immediately: drops the queue and resets the connection (RST).
    ///
    /// [`on_disconnect`](crate::Handler::on_disconnect) is the only callback that follows. See
    /// [`disconnect`](Self::disconnect) for a graceful close.
    ///
    /// Returns `false` if the connection is closed.
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

    /// Starts closing an open connection; it half-closes once its queue is written. If the peer has closed its side and
    /// there is nothing to write, it ends.
    pub(crate) fn close(&mut self, id: ConnectionId, cause: DisconnectCause) {
        if let Some(connection) = self.connections.get_mut(id) {
            if connection.has_failed_write() {
                // There is nothing left to write, and the cause is decided.
                return self.end(id, None);
            }
            if connection.read_ended() && !connection.may_have_output() {
                return self.end(id, Some(cause));
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

    /// Ends a connection: closes the socket, frees its memory, and queues its `on_disconnect`. Without a cause, the one
    /// that was passed to [`close`](Self::close) applies.
    pub(crate) fn end(&mut self, id: ConnectionId, cause: Option<DisconnectCause>) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        match connection.phase {
            Phase::Closed => return,
            Phase::Open => self.open -= 1,
            Phase::Connecting => self.stats.connections.connecting -= 1,
            Phase::Closing | Phase::Releasing | Phase::Draining => {}
        }
        if let Some(timer) = connection.timer.take() {
            self.timers.cancel(timer);
        }
        if matches!(connection.origin(), Origin::Listener(_)) {
            self.admissions.left(connection.peer());
        }
        connection.finish(cause, &mut self.common);
        if let Some(cause) = connection.cause() {
            self.stats.disconnects.count(cause);
        }
        self.end_timers(id);
        self.upset = true;
        self.work.add_ended(id);
        self.stats.disconnected += 1;
        self.resume_accepting();
    }

    /// Handles a failed write: closes the write half. Data that has arrived is delivered, then the connection ends.
    #[cold]
    pub(crate) fn fail_write(&mut self, id: ConnectionId, error: io::Error) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        self.upset = true;
        if connection.outlives_failed_write() {
            debug!("{id}: write failed: {error}");
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

    /// Continues a closing connection after a flush: lists it if it can make progress, for example by input that was not
    /// read while it was held back, and sets its deadline, unless a shutdown has set one for all.
    ///
    /// When the deadline passes, it is extended if the peer has taken bytes meanwhile, up to a maximum.
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

    /// Changes the framing of a connection in both directions, for example after a handshake. It applies from the next
    /// frame sent, and from the byte after the frame that is being delivered.
    /// [`max_frame_len`](crate::ListenOptions::max_frame_len) stays.
    ///
    /// Undelivered bytes are cut again in the new framing, including the beginning of an incomplete frame. A frame that
    /// is being delivered in [chunks](crate::Handler::on_chunk) continues to its end. Call it in
    /// [`on_data`](crate::Handler::on_data): only there is it certain which frame was the last to be delivered.
    ///
    /// ```
    /// use throng::{ConnectionId, Frame, Framing, Handler, Net};
    ///
    /// struct Upgrade;
    ///
    /// impl Handler for Upgrade {
    ///     fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
    ///         if &*frame == b"binary" {
    ///             // The reply still ends with a newline; all later frames have a length prefix.
    ///             let _ = net.send(id, b"ok");
    ///             net.set_framing(id, Framing::length_prefix());
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// Returns `false` if the connection is closed or closing.
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

    /// Ends a connection whose handler does not implement `on_chunk`.
    #[cold]
    pub(crate) fn refuse_chunk(&mut self, id: ConnectionId, chunk: &Chunk<'_>) {
        let total = chunk.total();
        self.end(id, Some(DisconnectCause::ChunkNotHandled { total }));
    }

    /// Returns the number of connections that have not ended, in any phase, and of peers that may become connections.
    pub(super) fn occupied(&self) -> usize {
        self.connections.len() - self.work.ended_in_slots() + self.arriving()
    }

    /// Returns the number of peers that were accepted and whose PROXY header is awaited.
    pub(super) fn arriving(&self) -> usize {
        #[cfg(feature = "proxy")]
        let arriving = self.arrivals.len();
        #[cfg(not(feature = "proxy"))]
        let arriving = 0;
        arriving
    }

    /// Advances a closing connection: flushes it, and reads until the peer's EOF, within the budget of a turn.
    pub(crate) fn drain(&mut self, id: ConnectionId, buffer: &mut [u8]) {
        self.drain_up_to(id, buffer, self.config.read_budget);
    }

    /// The same at the last deadline of a connection: its EOF may come behind all that the kernel holds.
    pub(crate) fn drain_at_last(&mut self, id: ConnectionId, buffer: &mut [u8]) {
        /// More than a socket buffers by default. A peer that goes on sending gets no more.
        const MOST: usize = 4 * 1024 * 1024;
        self.pretend_ready(id);
        self.drain_up_to(id, buffer, MOST);
    }

    fn drain_up_to(&mut self, id: ConnectionId, buffer: &mut [u8], mut budget: usize) {
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
            match connection.discard(buffer, &mut self.common) {
                Fill::Bytes { read, .. } => budget = budget.saturating_sub(read),
                Fill::Blocked => return,
                Fill::Ended if waits_for_flush => return,
                Fill::Ended => return self.end(id, None),
                Fill::Failed(error) => {
                    return self.end(id, Some(DisconnectCause::of_socket(error)));
                }
                Fill::NoMemory(_) => return,
            }
        }
    }
}
