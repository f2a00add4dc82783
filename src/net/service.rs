//! The operations of the reactor on a connection that it serves, with one lookup each.

use std::net::SocketAddr;
use std::time::Duration;

use log::trace;

use super::Net;
use crate::config::Config;
use crate::connection::{Connection, EndOfStream, Fill, Origin, Phase};
use crate::connection_id::{ConnectionId, ListenerId};
use crate::error::DecodeError;
use crate::frame::{Cut, WholeFrames};
use crate::reason::{DisconnectCause, DisconnectReason};
use crate::socket::Readiness;

/// The outcome of a read that is not simply input.
#[derive(Debug)]
pub(crate) enum Received {
    /// Input of a connection with a rate limit, and how many frames may be delivered.
    Metered(Input, u64),
    /// The connection is heavy, or left over: it is served after the light ones.
    Later,
    /// The connection is not to be read now.
    Nothing,
    /// No bytes were read.
    Fill(Fill),
    NotOpen(Phase),
}

/// Bytes in the read buffer.
#[derive(Debug)]
pub(crate) struct Input {
    /// How many there are, counted from the front of the buffer.
    pub(crate) len: usize,
    /// How many of them are new.
    pub(crate) read: usize,
    /// The fast path for whole frames, if it can be used.
    pub(crate) whole: Option<WholeFrames>,
}

impl Net {
    #[inline]
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn phase(&self, id: ConnectionId) -> Option<Phase> {
        Some(self.connections.get(id)?.phase)
    }

    /// Notes an event of a listener. Returns whether it is to be served.
    pub(crate) fn wake_listener(&mut self, id: ListenerId) -> bool {
        self.listeners.get_mut(id).is_some_and(|listener| {
            listener.readable = true;
            listener.is_runnable() && !listener.listed
        })
    }

    /// Lists a listener that was served, if there is more to do.
    pub(crate) fn finish_listener(&mut self, id: ListenerId) {
        if let Some(listener) = self.listeners.get_mut(id)
            && listener.is_runnable()
            && !mutated!("backlog forgotten after a budget")
        {
            self.list_listener(id);
        }
    }

    /// Sets all readiness of a connection, so that it is served as if events had reported everything.
    pub(crate) fn pretend_ready(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            // With this readiness a short read is not final: an EOF may follow that no event has reported.
            let all = Readiness::READABLE | Readiness::WRITABLE | Readiness::PRIORITY;
            connection.readiness |= all;
        }
    }

    /// Merges an event into its connection, and reads from it as [`receive`](Self::receive) does. A heavy connection is
    /// listed instead.
    #[inline(always)]
    pub(crate) fn receive_event(
        &mut self,
        id: ConnectionId,
        event: Readiness,
        buffer: &mut [u8],
        most: usize,
    ) -> Result<Input, Received> {
        self.receive_after(Some(event), id, buffer, most)
    }

    /// Reads once from a connection into the read buffer, at most `most` bytes.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        id: ConnectionId,
        buffer: &mut [u8],
        most: usize,
    ) -> Result<Input, Received> {
        self.receive_after(None, id, buffer, most)
    }

    #[inline(always)]
    fn receive_after(
        &mut self,
        event: Option<Readiness>,
        id: ConnectionId,
        buffer: &mut [u8],
        most: usize,
    ) -> Result<Input, Received> {
        let Self {
            connections,
            common,
            stats,
            work,
            ..
        } = self;
        let Some(connection) = connections.receiving(id) else {
            return Err(Received::Nothing);
        };
        if let Some(readiness) = event {
            connection.readiness |= readiness;
            if connection.listed {
                return Err(Received::Later);
            }
            if connection.is_heavy {
                connection.listed = true;
                work.add_left_over(id.into());
                return Err(Received::Later);
            }
        }
        if connection.phase != Phase::Open {
            return Err(Received::NotOpen(connection.phase));
        }
        if !connection.wants_delivery() || connection.reads_with_care() {
            return Err(self.receive_with_care(id, buffer, most));
        }
        let most = match event {
            Some(_) => most,
            None => connection.asks_for(most),
        };
        let (len, read) = match connection.fill(buffer, most, common) {
            Fill::Bytes { len, read } => {
                if event.is_none() {
                    connection.note_begun();
                }
                (len, read)
            }
            fill => {
                connection.dirty = true;
                return Err(Received::Fill(fill));
            }
        };
        stats.bytes_received += read as u64;
        let whole = if common.is_watched {
            log_read(id, read);
            None
        } else {
            connection.whole_frames()
        };
        // What its own callbacks send is written right after, not at the end of the turn.
        match (&whole, connection.room_for_replies()) {
            (Some(whole), Some((longest, most))) => {
                let spare = || common.buffers.take_queue();
                connections.begin_replies(id, whole.prefix(), longest, most, spare);
            }
            (None, Some(room)) if !common.is_watched => self.begin_replies(id, room),
            _ => connection.dirty = true,
        }
        Ok(Input { len, read, whole })
    }

    /// Checks for an error that no read will return: after the peer's EOF, or while the connection is held back.
    #[cold]
    pub(crate) fn look_at_error(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if connection.begin_error_check()
            && let Some(error) = connection.take_error()
        {
            self.fail_write(id, error);
        }
    }

    /// Advances a connection that is being released.
    pub(crate) fn serve_releasing(&mut self, id: ConnectionId) {
        self.look_at_error(id);
        self.flush(id);
    }

    /// Returns whether, as far as is known, nothing is left to deliver.
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
        let is_connected = connection.is_connected();
        #[cfg(feature = "proxy")]
        let is_connected = match is_connected {
            Ok(true) => connection.send_header(&mut self.common).map(|()| true),
            is_connected => is_connected,
        };
        let is_connected = is_connected.map_err(|error| match origin {
            Origin::Adopted => DisconnectCause::of_socket(error),
            _ => DisconnectCause::ConnectFailed(error),
        })?;
        #[cfg(feature = "tls")]
        if is_connected && self.begin_handshake(id) {
            return self.shake(id);
        }
        Ok(is_connected)
    }

    /// Returns the disconnect cause of a connection attempt that takes too long.
    pub(crate) fn attempt_timed_out(&self, id: ConnectionId, after: Duration) -> DisconnectCause {
        #[cfg(feature = "tls")]
        if self.is_handshaking(id) {
            return DisconnectCause::HandshakeTimedOut { after };
        }
        let _ = id;
        DisconnectCause::ConnectTimedOut { after }
    }

    pub(crate) fn end_of_stream(&self, id: ConnectionId) -> EndOfStream {
        match self.connections.get(id) {
            Some(connection) => connection.at_end_of_stream(),
            None => EndOfStream::Closes(DisconnectCause::PeerClosed),
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
        match self.connections.receiving(id) {
            Some(connection) => connection.cut(input, &mut self.common.memory),
            None => Ok(None),
        }
    }

    pub(crate) fn note_finished(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.receiving(id) {
            connection.note_finished();
        }
    }

    /// Notes that no whole frame is left. A part of a header or line may be left.
    pub(crate) fn note_unfinished(&mut self, id: ConnectionId, rest: &[u8], read: usize) {
        if let Some(connection) = self.connections.receiving(id)
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
        if let Some(connection) = self.connections.receiving(id)
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
        Some((id, connection.peer(), connection.take_reason()?))
    }
}

/// A function of its own because formatting would keep its arguments in memory on the path of every event.
#[cold]
#[inline(never)]
fn log_read(id: ConnectionId, bytes: usize) {
    trace!("{id} read {bytes} bytes");
}
