//! The system calls on a stream that is open.

use std::io;
use std::net::SocketAddr;

use super::Network;
use crate::socket::sim::agenda::Event;
use crate::socket::sim::socket::Id;

impl Network {
    pub(crate) fn read(&mut self, id: Id, buffer: &mut [u8]) -> io::Result<usize> {
        let (is_linux, faults) = (self.is_linux, self.faults.short_reads);
        let cut = !is_linux && self.random.one_in(faults);
        let mut most = buffer.len();
        if cut {
            most = self.random.length(most);
        }
        let socket = self.of_stream(id)?;
        if socket.is_connecting {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = most.min(socket.input.len());
        if len > 0 {
            for (to, from) in buffer.iter_mut().zip(socket.input.drain(..len)) {
                *to = from;
            }
            let other = socket.other;
            self.trace.mix_bytes(buffer[..len].iter().copied());
            self.note_bytes(id, "read", len);
            if let Some(other) = other {
                self.pump(other);
            }
            return Ok(len);
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        if socket.fin_received {
            socket.end_was_read = true;
            self.note_bytes(id, "read the end", 0);
            return Ok(0);
        }
        if let Some(error) = socket.take_error() {
            socket.end_was_read = true;
            self.note_bytes(id, "read an error", 0);
            return Err(error);
        }
        if socket.is_reset {
            socket.end_was_read = true;
            return Ok(0);
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Returns whether bytes have arrived and were not read.
    pub(in crate::socket::sim) fn has_input(&mut self, id: Id) -> bool {
        self.socket(id)
            .is_some_and(|socket| !socket.input.is_empty())
    }

    pub(crate) fn write(&mut self, id: Id, pieces: &[&[u8]]) -> io::Result<usize> {
        let is_cut = self.random.one_in(self.faults.short_writes);
        let is_linux = self.is_linux;
        let asked = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let cut = if is_cut {
            self.random.length(asked.max(1))
        } else {
            asked
        };
        let socket = self.of_stream(id)?;
        if let Some(error) = socket.take_error() {
            self.note_bytes(id, "a write failed", 0);
            return Err(error);
        }
        if socket.is_reset || socket.write_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = socket.room();
        if socket.is_connecting || room == 0 {
            socket.lacks_room = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = cut.min(room);
        let mut left = len;
        for piece in pieces {
            let taken = left.min(piece.len());
            socket.output.extend(&piece[..taken]);
            left -= taken;
        }
        if len < asked {
            socket.lacks_room = true;
            // Room that is left after a cut write is only reported once something has arrived.
            socket.is_choked = len < room && is_linux;
        }
        let written = pieces.iter().flat_map(|piece| piece.iter().copied());
        self.trace.mix_bytes(written.take(len));
        self.note_bytes(id, "wrote", len);
        self.pump(id);
        if self.random.one_in(self.faults.sudden_resets) {
            self.disturbed_both(id);
            let other = self.socket(id).and_then(|socket| socket.other);
            for end in [Some(id), other].into_iter().flatten() {
                self.reset(end);
            }
        }
        Ok(len)
    }

    pub(crate) fn shutdown_write(&mut self, id: Id) -> io::Result<()> {
        let socket = self.of_stream(id)?;
        if socket.is_reset || socket.is_connecting {
            return Err(io::ErrorKind::NotConnected.into());
        }
        socket.write_closed = true;
        self.note_bytes(id, "closed its sending side", 0);
        self.pump(id);
        Ok(())
    }

    /// Closes the socket of a stream. Bytes that were written are still sent, unless unread bytes make the close a reset.
    pub(crate) fn close(&mut self, id: Id) {
        self.deregister(id);
        let Some(socket) = self.socket(id) else {
            return;
        };
        socket.is_closed = true;
        let is_reset = socket.resets_on_close || !socket.input.is_empty();
        let (is_over, other) = (socket.is_reset || socket.fin_arrived, socket.other);
        self.count_file(id, false);
        self.progress += 1;
        let socket = &mut self.sockets[id.index];
        if socket.is_connecting || (is_over && !is_reset) || (is_reset && socket.is_reset) {
            if other.is_some() && socket.is_connecting {
                self.doom_other(id);
            }
            self.note_socket(id, "closed");
            self.free(id);
        } else if is_reset {
            socket.output.truncate(socket.in_flight);
            let (last, latency) = (socket.last_arrival, socket.latency);
            self.note_socket(id, "closed with a reset");
            let at = last.max(self.now + latency);
            if other.is_some_and(|other| self.are_apart(id, other)) {
                // The reset is lost.
                self.free(id);
            } else {
                self.schedule(at, Event::ResetFrom(id));
            }
        } else {
            socket.write_closed = true;
            self.note_socket(id, "closed");
            self.pump(id);
        }
    }

    pub(crate) fn reset_on_close(&mut self, id: Id) {
        if let Some(socket) = self.socket(id) {
            socket.resets_on_close = true;
        }
    }

    pub(crate) fn take_error(&mut self, id: Id) -> io::Result<Option<io::Error>> {
        Ok(self.of_stream(id)?.take_error())
    }

    pub(crate) fn peer_addr(&mut self, id: Id) -> io::Result<SocketAddr> {
        let socket = self.of_stream(id)?;
        if socket.is_connecting || socket.is_reset {
            return Err(io::ErrorKind::NotConnected.into());
        }
        Ok(socket.peer)
    }

    pub(crate) fn local_addr(&mut self, id: Id) -> io::Result<SocketAddr> {
        Ok(self.of_stream(id)?.local)
    }

    pub(crate) fn peer_has_closed(&mut self, id: Id) -> bool {
        let socket = self.socket(id);
        socket.is_none_or(|socket| socket.fin_received || socket.is_reset)
    }
}
