//! A connection and its stream: the content of a slot.
//!
//! The connection decides. The link makes the system calls: it reads and writes, updates the selector's interest, and
//! closes the stream.

#[cfg(feature = "tls")]
mod opening;
#[cfg(feature = "tls")]
mod secured;

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

use mio::Token;

use crate::connection::{Common, Connection, Fill, Flush, Io, Origin, Phase, Pressure};
use crate::fanout::Span;
#[cfg(feature = "proxy")]
use crate::proxy::Proxying;
use crate::reason::{DisconnectCause, Released};
use crate::socket::{READ_INTEREST, Stream, peer_has_closed};

/// Derefs to the connection. The stream comes first, in the first cache line of the slot.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Link {
    /// `None` if the connection is closed or its stream was released, or if it is in a TLS session.
    stream: Option<Stream>,
    connection: Connection,
}

impl Io for Stream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(buffer)
    }

    fn read_vectored(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.read_vectored(slices)
    }

    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }

    #[inline]
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_vectored(slices)
    }

    #[inline]
    fn short_is_drained(&self) -> bool {
        self.short_is_drained()
    }
}

impl Link {
    pub(crate) fn new(stream: Stream, connection: Connection) -> Self {
        let stream = Some(stream);
        Self { stream, connection }
    }

    /// Reads once, at most `most` bytes.
    #[inline(always)]
    pub(crate) fn fill(&mut self, buffer: &mut [u8], most: usize, common: &mut Common) -> Fill {
        match &mut self.stream {
            Some(stream) => self.connection.fill(stream, buffer, most, common),
            #[cfg(feature = "tls")]
            None => self.fill_secured(buffer, most, common),
            #[cfg(not(feature = "tls"))]
            None => Fill::Blocked,
        }
    }

    /// Reads and discards bytes, while waiting for the peer's EOF.
    pub(crate) fn discard(&mut self, buffer: &mut [u8], common: &mut Common) -> Fill {
        match &mut self.stream {
            Some(stream) => self.connection.discard(stream, buffer, common.now),
            #[cfg(feature = "tls")]
            None => self.discard_secured(buffer, common),
            #[cfg(not(feature = "tls"))]
            None => Fill::Blocked,
        }
    }

    /// Reads and discards the input of a connection that fails while it is held back. Returns the number of bytes.
    pub(crate) fn discard_unread(&mut self) -> u64 {
        /// More than a socket buffers by default.
        const MOST: u64 = 16 * 1024 * 1024;
        let Some(stream) = self.stream_mut() else {
            return 0;
        };
        let mut buffer = vec![0; 64 * 1024];
        let mut unread = 0;
        while unread < MOST
            && let Ok(read @ 1..) = stream.read(&mut buffer)
        {
            unread += read as u64;
        }
        unread
    }

    /// Adds a frame of the fan-out buffer by reference, if possible. A TLS session encrypts from the queue.
    #[inline(always)]
    pub(crate) fn push_fanout(&mut self, frame: Span, common: &mut Common) -> bool {
        self.stream.is_some() && self.connection.push_fanout(frame, common)
    }

    /// Writes the queue, up to a budget in bytes.
    #[inline]
    pub(crate) fn flush(&mut self, budget: usize, token: Token, common: &mut Common) -> Flush {
        let Some(stream) = &mut self.stream else {
            #[cfg(feature = "tls")]
            return self.flush_secured(budget, token, common);
            #[cfg(not(feature = "tls"))]
            return Flush::Done;
        };
        let outcome = self.connection.flush(stream, budget, common);
        if matches!(outcome, Flush::Done) && self.connection.interest() == READ_INTEREST {
            // The usual case: there was room, and there still is.
            return outcome;
        }
        self.follow_up(outcome, token, common)
    }

    /// Returns whether a flush may have something to do. A TLS session may have bytes of its own.
    #[inline]
    pub(crate) fn may_have_output(&self) -> bool {
        self.connection.has_queued()
            || self.connection.pressure() != Pressure::NONE
            || (cfg!(feature = "tls")
                && self.stream.is_none()
                && !mutated!("writes caused by TLS reads forgotten"))
    }

    /// Writes replies of a connection that has no queue. `None` if all were written.
    #[inline(always)]
    pub(crate) fn write_replies(
        &mut self,
        wire: &[u8],
        common: &mut Common,
    ) -> Option<io::Result<usize>> {
        let stream = self.stream.as_mut()?;
        self.connection.write_replies(stream, wire, common)
    }

    /// The same for replies in several parts, of `len` bytes in all.
    pub(crate) fn write_parts(
        &mut self,
        parts: &[IoSlice<'_>],
        len: usize,
        common: &mut Common,
    ) -> Option<io::Result<usize>> {
        let stream = self.stream.as_mut()?;
        self.connection.write_parts(stream, parts, len, common)
    }

    /// Continues after a write that has not taken all replies, which are queued now.
    pub(crate) fn replies_left(
        &mut self,
        result: io::Result<usize>,
        token: Token,
        common: &mut Common,
    ) -> Flush {
        let short_is_drained = self.stream.as_ref().is_some_and(Stream::short_is_drained);
        let connection = &mut self.connection;
        let outcome = connection.replies_left(short_is_drained, result, common);
        self.follow_up(outcome, token, common)
    }

    /// Updates the interest, also if backpressure has ended before the queue is empty: the next flush may have nothing
    /// to settle.
    #[inline(never)]
    fn follow_up(&mut self, outcome: Flush, token: Token, common: &mut Common) -> Flush {
        if matches!(outcome, Flush::Failed(_)) {
            return outcome;
        }
        match self.update_interest(token, common) {
            Ok(()) => outcome,
            Err(error) => Flush::failed(DisconnectCause::Network(error)),
        }
    }

    /// Updates the selector's interest, if it has changed. The selector then reports existing readiness, so no edge is
    /// lost while it was not registered.
    #[inline]
    pub(crate) fn update_interest(&mut self, token: Token, common: &Common) -> io::Result<()> {
        let Some(wanted) = self.connection.new_interest() else {
            return Ok(());
        };
        if let Some(stream) = self.stream_mut()
            && !mutated!("interest not registered again")
        {
            stream.reregister(&common.registry, token, wanted)?;
        }
        self.connection.note_interest(wanted);
        Ok(())
    }

    /// Returns the simulated stream, if it is one.
    #[cfg(feature = "sim")]
    pub(crate) fn simulated(&self) -> Option<&crate::socket::sim::Stream> {
        match self.stream() {
            Some(Stream::Sim(stream)) => Some(stream),
            _ => None,
        }
    }

    /// Marks the connection attempt as successful.
    pub(crate) fn establish(&mut self, token: Token, common: &Common) -> io::Result<()> {
        self.connection.establish(common.now);
        #[cfg(feature = "tls")]
        self.expect_plaintext();
        self.update_interest(token, common)
    }

    /// Checks the invariants of the link and of its connection.
    ///
    /// # Panics
    /// If an invariant is violated.
    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self) {
        assert_eq!(
            self.stream().is_none(),
            self.connection.phase == Phase::Closed,
            "a connection has a stream until it is closed"
        );
        self.connection.check_invariants();
    }

    pub(crate) fn stream(&self) -> Option<&Stream> {
        #[cfg(feature = "tls")]
        if let Some(session) = self.connection.session() {
            return Some(session.stream());
        }
        self.stream.as_ref()
    }

    fn stream_mut(&mut self) -> Option<&mut Stream> {
        #[cfg(feature = "tls")]
        if let Some(session) = self.connection.session_mut() {
            return Some(session.stream_mut());
        }
        self.stream.as_mut()
    }

    /// Returns whether a connection attempt has succeeded; an error if it failed.
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        self.stream().map_or(Ok(false), Stream::is_connected)
    }

    /// Returns the error of the socket, if no read will return it.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        match self.stream()?.take_error() {
            Ok(error) => error,
            Err(error) => Some(error),
        }
    }

    /// Returns the address of the proxy from which an inbound connection comes.
    #[cfg(feature = "proxy")]
    pub(crate) fn proxy_addr(&self) -> Option<SocketAddr> {
        let addr = self.stream()?.peer_addr().ok()?;
        self.connection.proxying().expected_from(addr)?;
        addr
    }

    /// Writes the PROXY header with which an outbound connection begins, if it does: with TLS, before the handshake. A new
    /// socket has room for it.
    #[cfg(feature = "proxy")]
    pub(crate) fn send_header(&mut self, common: &mut Common) -> io::Result<()> {
        let Proxying::Sends(header) = self.connection.proxying().clone() else {
            return Ok(());
        };
        let Some(stream) = self.stream_mut() else {
            return Ok(());
        };
        let header = header.as_bytes();
        let written = stream.write(header)?;
        common.written.calls += 1;
        common.written.bytes += written as u64;
        match written == header.len() {
            true => Ok(()),
            false => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.stream()?.local_addr().ok()?
    }

    /// Returns whether the peer of an established connection has half-closed, whether or not the EOF was read.
    pub(crate) fn peer_has_closed(&self) -> bool {
        let has_peer = self.connection.phase != Phase::Connecting;
        let stream = self.stream().filter(|_| has_peer);
        stream.is_some_and(|stream| self.connection.end_is_known() || peer_has_closed(stream))
    }

    /// Sends a FIN after the last byte was written, unless it was sent before. For a stream that was reset meanwhile the
    /// system only returns `NotConnected`; the error of the socket is returned instead.
    pub(crate) fn send_fin(&mut self) -> io::Result<()> {
        let stream = self.stream();
        let stream = stream.filter(|_| !self.connection.has_sent_fin());
        let closed = stream.map_or(Ok(()), Stream::shutdown_write);
        self.connection.note_fin_sent();
        closed.map_err(|error| self.take_error().unwrap_or(error))
    }

    /// Closes or releases the stream, and frees all memory.
    pub(crate) fn finish(&mut self, overruling: Option<DisconnectCause>, common: &mut Common) {
        let is_released = overruling.is_none() && self.connection.phase == Phase::Releasing;
        let cause = if is_released {
            Some(self.give_away(common))
        } else {
            overruling
        };
        #[cfg(feature = "tls")]
        self.drop_hello(common);
        #[cfg(feature = "tls")]
        let is_cut_off = cause.is_some() || self.connection.has_failed_write();
        let is_reset = self.connection.finish(cause, common);
        #[cfg(feature = "tls")]
        let is_reset = (self.end_session(common) && is_cut_off) || is_reset;
        if let Some(mut stream) = self.stream.take() {
            // A descriptor of it that the user kept would keep it in the selector.
            if self.connection.origin() == Origin::Adopted {
                stream.deregister(&common.registry);
            }
            if is_reset {
                stream.reset_on_close();
            }
        }
    }

    /// Takes the stream out of a released connection, with the undelivered bytes.
    fn give_away(&mut self, common: &mut Common) -> DisconnectCause {
        let unread = match self.connection.take_unread(common) {
            Ok(unread) => unread,
            Err(error) => return error.into(),
        };
        match self.stream.take() {
            Some(mut stream) => {
                stream.deregister(&common.registry);
                DisconnectCause::Released(Box::new(Released { stream, unread }))
            }
            None => DisconnectCause::PeerClosed,
        }
    }
}

impl Deref for Link {
    type Target = Connection;

    #[inline]
    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Link {
    #[inline]
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl Drop for Link {
    /// Resets the stream if a part of it was dropped with the loop.
    fn drop(&mut self) {
        let has_unsent = self.connection.unsent_bytes() > 0 || self.connection.misleads();
        #[cfg(feature = "tls")]
        let has_unsent = has_unsent || self.unsent_ciphertext() > 0;
        if let Some(stream) = self.stream().filter(|_| has_unsent) {
            stream.reset_on_close();
        }
    }
}

#[cfg(all(test, target_os = "linux", target_pointer_width = "64"))]
mod tests {
    use super::*;
    use crate::connection::HOT;

    #[test]
    fn what_an_event_needs_fits_into_two_cache_lines_and_all_of_it_into_three() {
        // The generation of the slot precedes it. With debug assertions mio's sockets have 16 bytes more.
        let debug = if cfg!(debug_assertions) { 16 } else { 0 };
        // A simulated stream is a pointer.
        let debug = debug.max(if cfg!(feature = "sim") { 8 } else { 0 });
        let hot = 8 + std::mem::offset_of!(Link, connection) + HOT;
        assert!(hot <= 2 * 64 + debug, "{hot}");
        assert!(8 + size_of::<Link>() <= 3 * 64 + debug + debug % 8);
    }
}
