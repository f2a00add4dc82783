//! The operations of the reactor on a connection that it serves, with one lookup each.

use std::net::SocketAddr;
use std::time::Duration;

use super::Net;
use crate::config::Config;
use crate::connection::{Connection, Fill, Origin, Phase};
use crate::connection_id::{ConnectionId, ListenerId};
use crate::error::DecodeError;
use crate::frame::Cut;
use crate::reason::{DisconnectCause, DisconnectReason};
use crate::socket::Readiness;

/// What the peer's EOF means for a connection.
#[derive(Debug)]
pub(crate) enum EndOfStream {
    /// The connection stays open for replies.
    HalfOpen,
    /// The connection closes.
    Closes(DisconnectCause),
}

impl Net {
    #[inline]
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn phase(&self, id: ConnectionId) -> Option<Phase> {
        Some(self.connections.get(id)?.phase)
    }

    /// Returns the phase of a connection, and whether it is heavy.
    #[inline]
    pub(crate) fn phase_and_weight(&self, id: ConnectionId) -> Option<(Phase, bool)> {
        let connection = self.connections.get(id)?;
        Some((connection.phase, connection.is_heavy))
    }

    /// Notes that a connection was served. Returns whether it has more to do and stays listed.
    #[inline]
    pub(crate) fn connection_served(&mut self, id: ConnectionId, is_heavy: bool) -> bool {
        self.connections.get_mut(id).is_some_and(|connection| {
            connection.is_heavy = is_heavy;
            connection.listed = connection.is_runnable();
            connection.listed
        })
    }

    /// Notes that a listener was served. Returns whether it has more to do and stays listed.
    pub(crate) fn listener_served(&mut self, id: ListenerId) -> bool {
        self.listeners.get_mut(id).is_some_and(|listener| {
            listener.listed = listener.is_runnable();
            listener.listed
        })
    }

    /// Keeps a connection listed that was [listed](Self::list) and served, or removes it from the end of its list. One
    /// that had been listed before is not at the end, and stays.
    pub(crate) fn stay_listed(&mut self, id: ConnectionId, stay: bool) {
        let is_out = !stay && self.work.take_back(id.into());
        if let Some(connection) = self.connections.get_mut(id) {
            connection.listed = !is_out;
        }
    }

    /// Sets all readiness of a connection, so that it is served as if events had reported everything.
    pub(crate) fn pretend_ready(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.readiness |= Readiness::READABLE | Readiness::WRITABLE;
        }
    }

    /// Reads once from an open connection into the read buffer. `None`: it is not to be read now.
    #[inline]
    pub(crate) fn fill(
        &mut self,
        id: ConnectionId,
        buffer: &mut [u8],
        most: usize,
    ) -> Option<Fill> {
        let connection = self.connections.get_mut(id)?;
        // Its own callbacks' sends are flushed right after, not at the end of the turn.
        connection.dirty = true;
        if !connection.wants_delivery() || connection.read_ended() {
            self.look_at_error(id);
            return None;
        }
        let fill = connection.fill(buffer, most, &mut self.common);
        if let Fill::Bytes { read, .. } = fill {
            self.stats.reads += u64::from(read > 0);
            self.stats.bytes_received += read as u64;
        }
        Some(fill)
    }

    /// Checks for an error that no read will return: after the peer's EOF, or while the connection is held back.
    #[cold]
    pub(super) fn look_at_error(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if !connection.read_ended() && !connection.has_unread_error() {
            return;
        }
        // The error is known now. WRITABLE is kept, because a blocked write waits for it.
        connection.readiness.remove(Readiness::ERROR);
        if connection.read_ended() {
            connection.readiness.remove(Readiness::READ);
        }
        if let Some(error) = connection.take_error() {
            self.fail_write(id, error);
        }
    }

    /// Advances a connection that is being released.
    pub(crate) fn serve_releasing(&mut self, id: ConnectionId) {
        self.look_at_error(id);
        self.flush(id);
    }

    /// Returns whether nothing is known to be left to deliver.
    #[inline]
    pub(crate) fn has_nothing_to_deliver(&self, id: ConnectionId) -> bool {
        let connection = self.connections.get(id);
        connection.is_none_or(|connection| !connection.is_open() || !connection.wants_delivery())
    }

    /// Checks a connection attempt: returns `false` while it is in progress. With TLS, the handshake is a part of it.
    pub(crate) fn attempt(&mut self, id: ConnectionId) -> Result<bool, DisconnectCause> {
        #[cfg(feature = "tls")]
        if self.is_handshaking(id) {
            return self.shake(id);
        }
        let Some(connection) = self.connections.get_mut(id) else {
            return Ok(false);
        };
        // All readiness is consumed here.
        connection.readiness = Readiness::default();
        let origin = connection.origin();
        let is_connected = connection.is_connected().map_err(|error| match origin {
            Origin::Adopted => DisconnectCause::of_socket(error),
            _ => DisconnectCause::ConnectFailed(error),
        })?;
        #[cfg(feature = "tls")]
        if is_connected && self.begin_handshake(id) {
            return self.shake(id);
        }
        Ok(is_connected)
    }

    /// Returns the cause of an attempt that takes too long.
    pub(crate) fn attempt_timed_out(&self, id: ConnectionId, after: Duration) -> DisconnectCause {
        #[cfg(feature = "tls")]
        if self.is_handshaking(id) {
            return DisconnectCause::HandshakeTimedOut { after };
        }
        let _ = id;
        DisconnectCause::ConnectTimedOut { after }
    }

    pub(crate) fn end_of_stream(&self, id: ConnectionId) -> EndOfStream {
        let Some(connection) = self.connections.get(id) else {
            return EndOfStream::Closes(DisconnectCause::PeerClosed);
        };
        match connection.end_of_stream() {
            DisconnectCause::PeerClosed
                if connection.options().allow_half_open && connection.check_open().is_ok() =>
            {
                EndOfStream::HalfOpen
            }
            cause => EndOfStream::Closes(cause),
        }
    }

    /// Returns a connection if frames may be delivered to its handler.
    #[inline]
    pub(crate) fn deliverable(&self, id: ConnectionId) -> Option<&Connection> {
        let connection = self.connections.get(id)?;
        connection.may_deliver().then_some(connection)
    }

    /// Resets [`has_changed`](Self::has_changed), which then returns whether any connection was changed in a way that
    /// affects deliveries.
    #[inline]
    pub(crate) fn expect_no_change(&mut self) {
        self.upset = false;
    }

    #[inline]
    pub(crate) fn has_changed(&self) -> bool {
        self.upset
    }

    /// Cuts the next frame from the held bytes and `input`.
    pub(crate) fn cut<'i>(
        &mut self,
        id: ConnectionId,
        input: &mut &'i [u8],
    ) -> Result<Option<Cut<'i>>, DecodeError> {
        match self.connections.get_mut(id) {
            Some(connection) => connection.cut(input, &mut self.common.memory),
            None => Ok(None),
        }
    }

    pub(crate) fn note_finished(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.note_finished();
        }
    }

    /// Notes that no whole frame is left. A part of a header or line may be left.
    pub(crate) fn note_unfinished(&mut self, id: ConnectionId, rest: &[u8], read: usize) {
        if let Some(connection) = self.connections.get_mut(id)
            && (!rest.is_empty() || connection.is_inside_frame())
        {
            let look = connection.note_unfinished(read, self.common.now);
            self.watch(id, look);
        }
    }

    /// Recycles the buffer of a delivered frame.
    pub(crate) fn recycle(&mut self, buffer: Vec<u8>) {
        self.common.buffers.put_input(buffer);
    }

    #[inline]
    pub(crate) fn count_received(&mut self, frames: u64) {
        self.stats.frames_received += frames;
    }

    /// Keeps bytes that were read and not delivered. `exhausted`: they contain no whole frame.
    pub(crate) fn keep(&mut self, id: ConnectionId, rest: &[u8], exhausted: bool) {
        if let Some(connection) = self.connections.get_mut(id)
            && connection.wants_input()
            && let Err(error) = connection.keep(rest, exhausted, &mut self.common)
        {
            self.end(id, Some(error.into()));
        }
    }

    /// Returns the next connection to report as drained, if it still is.
    pub(crate) fn next_drained(&mut self) -> Option<ConnectionId> {
        let id = self.work.next_drained()?;
        let connection = self.connections.get(id)?;
        // If it is congested again, it will be listed again.
        let is_drained = connection.check_open().is_ok() && !connection.is_congested();
        is_drained.then_some(id)
    }

    /// Returns the next end to report.
    pub(crate) fn next_ended(
        &mut self,
    ) -> Option<(ConnectionId, Option<SocketAddr>, DisconnectReason)> {
        let id = self.work.next_ended()?;
        let connection = self.connections.get_mut(id)?;
        Some((id, connection.peer, connection.take_reason()?))
    }
}
