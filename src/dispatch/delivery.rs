//! From the bytes of one read to the calls of the handler, frame by frame.

use crate::connection_id::ConnectionId;
use crate::frame::{Chunk, Cut, Frame, WholeFrames};
use crate::handler::Handler;
use crate::net::Net;

/// One read's worth of bytes on its way to the handler. The read buffer is out of the loop meanwhile, so that a frame
/// in it and `&mut Net` live side by side.
///
/// Invariant: `at <= end <= buffer.len()`; what lies before `at` is delivered.
pub(super) struct Delivery<'n> {
    net: &'n mut Net,
    id: ConnectionId,
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    /// So many bytes are new.
    read: usize,
    /// How many frames may be delivered, of how many.
    left: u64,
    most: u64,
    /// No whole frame is left between `at` and `end`.
    exhausted: bool,
}

impl<'n> Delivery<'n> {
    pub(super) fn new(
        net: &'n mut Net,
        id: ConnectionId,
        end: usize,
        read: usize,
        most: u64,
    ) -> Self {
        let buffer = std::mem::take(&mut net.read_buffer);
        Self {
            net,
            id,
            buffer,
            at: 0,
            end,
            read,
            left: most,
            most,
            exhausted: false,
        }
    }

    /// Delivers as many frames as there are, or as may be. Returns how many.
    pub(super) fn deliver<H: Handler + ?Sized>(mut self, handler: &mut H) -> u64 {
        while !self.exhausted
            && self.left > 0
            && let Some(connection) = self.net.connections.get(self.id)
            // A callback may have ended or paused it.
            && connection.may_deliver()
        {
            match connection.whole_frames() {
                Some(_) if self.at == self.end => self.exhausted = true,
                Some(whole) if !self.net.times_callbacks() && !connection.has_begun_frame() => {
                    self.deliver_whole(whole, handler);
                }
                _ => self.deliver_next(handler),
            }
        }
        self.most - self.left
    }

    /// Delivers frames that lie whole in the buffer, without looking at the connection for each, until a callback upsets
    /// a connection; then the one frame more that does not lie whole in it.
    fn deliver_whole<H: Handler + ?Sized>(&mut self, whole: WholeFrames, handler: &mut H) {
        self.net.upset = false;
        let mut input = &self.buffer[self.at..self.end];
        while let Some(payload) = whole.cut(&mut input) {
            self.at = self.end - input.len();
            self.left -= 1;
            handler.on_data(self.net, self.id, Frame::from(payload));
            if self.left == 0 || self.net.upset {
                self.exhausted = self.at == self.end;
                return;
            }
        }
        if self.at < self.end {
            self.deliver_next(handler);
        } else {
            self.exhausted = true;
        }
    }

    /// Delivers one frame, or finds that there is none. An error ends the connection.
    #[inline(never)]
    fn deliver_next<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        let id = self.id;
        let Some(connection) = self.net.connections.get_mut(id) else {
            return;
        };
        let mut input = &self.buffer[self.at..self.end];
        let cut = connection.cut(&mut input, &mut self.net.common.memory);
        self.at = self.end - input.len();
        match cut {
            Ok(Some(Cut::Borrowed(payload))) => {
                connection.note_finished();
                self.left -= 1;
                let frame = Frame::from(payload);
                self.net
                    .call("on_data", id, |net| handler.on_data(net, id, frame));
            }
            Ok(Some(Cut::Assembled(mut payload))) => {
                connection.note_finished();
                self.left -= 1;
                let frame = Frame::assembled(&mut payload);
                self.net
                    .call("on_data", id, |net| handler.on_data(net, id, frame));
                self.net.common.buffers.put_input(payload);
            }
            Ok(Some(Cut::Chunk(extent, bytes))) => {
                self.left -= u64::from(extent.is_last);
                self.net.note_chunk(id, extent.is_last);
                let chunk = Chunk::new(extent, bytes.into());
                self.net
                    .call("on_chunk", id, |net| handler.on_chunk(net, id, chunk));
            }
            Ok(Some(Cut::HeldChunk(extent, mut bytes))) => {
                self.left -= u64::from(extent.is_last);
                self.net.note_chunk(id, extent.is_last);
                let chunk = Chunk::new(extent, Frame::assembled(&mut bytes));
                self.net
                    .call("on_chunk", id, |net| handler.on_chunk(net, id, chunk));
                self.net.common.buffers.put_input(bytes);
            }
            Ok(None) => {
                self.exhausted = true;
                // A part of a header or of a line is left in front of the end.
                if self.at < self.end || connection.is_inside_frame() {
                    let look = connection.note_unfinished(self.read, self.net.common.now);
                    self.net.watch(self.id, look);
                }
            }
            Err(error) => {
                // Replies to what came before the error are still written.
                self.net.flush(self.id);
                self.net.end(self.id, Some(error.into()));
            }
        }
    }
}

impl Drop for Delivery<'_> {
    /// Keeps what was not delivered, also when a callback panics.
    #[inline]
    fn drop(&mut self) {
        let net = &mut *self.net;
        net.stats.frames_received += self.most - self.left;
        if self.exhausted && self.at == self.end {
            // Nothing to keep: the usual case.
        } else if let Some(connection) = net.connections.get_mut(self.id)
            && connection.wants_input()
        {
            let rest = &self.buffer[self.at..self.end];
            let is_empty = rest.is_empty() && !connection.holds_input();
            connection.undelivered = !self.exhausted && !is_empty;
            if let Err(error) = connection.hold(rest, &mut net.common) {
                net.end(self.id, Some(error.into()));
            }
        }
        net.read_buffer = std::mem::take(&mut self.buffer);
    }
}
