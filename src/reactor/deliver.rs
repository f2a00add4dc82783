//! Delivery: from the bytes of one read to callbacks, frame by frame.

use crate::connection_id::ConnectionId;
use crate::error::DecodeError;
use crate::frame::{Chunk, Cut, Frame, WholeFrames};
use crate::handler::Handler;
use crate::net::Net;

/// The bytes of one read, on their way to the handler.
pub(super) struct Delivery<'n> {
    net: &'n mut Net,
    id: ConnectionId,
    /// Undelivered bytes.
    input: &'n [u8],
    /// The number of bytes that are new.
    read: usize,
    /// How many of `most` frames may still be delivered.
    left: u64,
    most: u64,
    /// The input contains no further whole frame.
    exhausted: bool,
}

impl<'n> Delivery<'n> {
    #[inline]
    pub(super) fn new(
        net: &'n mut Net,
        id: ConnectionId,
        input: &'n [u8],
        read: usize,
        most: u64,
    ) -> Self {
        Self {
            net,
            id,
            input,
            read,
            left: most,
            most,
            exhausted: false,
        }
    }

    /// Delivers all frames, up to the budget. Returns how many.
    pub(super) fn deliver<H: Handler + ?Sized>(mut self, handler: &mut H) -> u64 {
        while !self.exhausted
            && self.left > 0
            // A callback may have ended or paused the connection.
            && let Some(connection) = self.net.deliverable(self.id)
        {
            match connection.whole_frames() {
                Some(_) if self.input.is_empty() => self.exhausted = true,
                Some(whole) if !connection.has_begun_frame() && !self.net.times_callbacks() => {
                    self.deliver_whole(whole, handler);
                }
                _ => self.deliver_next(handler),
            }
        }
        self.most - self.left
    }

    /// Delivers frames that lie whole in the input, without looking up the connection for each, until a callback
    /// changes the state of a connection. Then delivers the frame that only begins in the input, if it can be
    /// completed.
    fn deliver_whole<H: Handler + ?Sized>(&mut self, whole: WholeFrames, handler: &mut H) {
        self.net.expect_no_change();
        let mut input = self.input;
        while let Some(payload) = whole.cut(&mut input) {
            self.input = input;
            self.left -= 1;
            handler.on_data(self.net, self.id, Frame::from(payload));
            if self.left == 0 || self.net.has_changed() {
                self.exhausted = self.input.is_empty();
                return;
            }
        }
        if self.input.is_empty() {
            self.exhausted = true;
        } else {
            self.deliver_next(handler);
        }
    }

    /// Delivers one frame, or finds that there is none. An error ends the connection.
    #[inline(never)]
    fn deliver_next<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        let id = self.id;
        match self.net.cut(id, &mut self.input) {
            Ok(Some(Cut::Borrowed(payload))) => self.on_data(handler, Frame::from(payload)),
            Ok(Some(Cut::Assembled(mut payload))) => {
                self.on_data(handler, Frame::assembled(&mut payload));
                self.net.recycle(payload);
            }
            Ok(Some(Cut::Chunk(extent, bytes))) => {
                self.on_chunk(handler, Chunk::new(extent, bytes.into()));
            }
            Ok(Some(Cut::HeldChunk(extent, mut bytes))) => {
                self.on_chunk(handler, Chunk::new(extent, Frame::assembled(&mut bytes)));
                self.net.recycle(bytes);
            }
            Ok(None) => {
                self.exhausted = true;
                self.net.note_unfinished(id, self.input, self.read);
            }
            Err(error) => self.fail(error),
        }
    }

    fn on_data<H: Handler + ?Sized>(&mut self, handler: &mut H, frame: Frame<'_>) {
        let id = self.id;
        self.net.note_finished(id);
        self.left -= 1;
        self.net
            .call("on_data", id, |net| handler.on_data(net, id, frame));
    }

    fn on_chunk<H: Handler + ?Sized>(&mut self, handler: &mut H, chunk: Chunk<'_>) {
        let id = self.id;
        self.left -= u64::from(chunk.is_last());
        self.net.note_chunk(id, chunk.is_last());
        self.net
            .call("on_chunk", id, |net| handler.on_chunk(net, id, chunk));
    }

    /// Ends the connection because of a decode error. Replies to earlier frames are written first.
    #[cold]
    fn fail(&mut self, error: DecodeError) {
        self.net.flush(self.id);
        self.net.end(self.id, Some(error.into()));
    }
}

impl Drop for Delivery<'_> {
    /// Returns undelivered bytes to the connection, even if a callback panics.
    #[inline]
    fn drop(&mut self) {
        self.net.count_received(self.most - self.left);
        // Usually there is nothing to keep.
        if !self.input.is_empty() {
            self.net.keep(self.id, self.input, self.exhausted);
        }
    }
}
