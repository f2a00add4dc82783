//! Delivery: from the bytes of one read to callbacks, frame by frame.

use super::Reactor;
use crate::connection_id::ConnectionId;
use crate::error::DecodeError;
use crate::frame::{Chunk, Cut, Frame, WholeFrames};
use crate::handler::Handler;
use crate::net::{COPIED_UP_TO, Input};
use crate::read_buffer::ReadBuffer;

/// The bytes in the read buffer that are being delivered. If a callback panics, the next turn finds them here.
#[derive(Debug)]
pub(super) struct Delivery {
    /// Only significant while bytes are left.
    to: ConnectionId,
    /// Where the bytes of the read end in the buffer.
    end: usize,
    /// How many of them are not delivered yet.
    rest: usize,
}

impl Delivery {
    pub(super) fn none() -> Self {
        Self {
            to: ConnectionId::new(0, 0),
            end: 0,
            rest: 0,
        }
    }

    /// Returns the bytes that are not delivered yet.
    #[inline]
    fn rest<'b>(&self, buffer: &'b ReadBuffer) -> &'b [u8] {
        let bytes = buffer.bytes().get(self.end - self.rest..self.end);
        bytes.unwrap_or_default()
    }
}

impl Reactor {
    /// Delivers all frames of a read, but at most `most`. Returns how many.
    #[inline(always)]
    pub(super) fn deliver<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnectionId,
        input: &Input,
        most: u64,
    ) -> u64 {
        self.delivery = Delivery {
            to: id,
            end: input.len,
            rest: input.len,
        };
        let mut left = most;
        if let Some(whole) = input.whole {
            left -= self.deliver_first(handler, id, whole);
        }
        if self.delivery.rest > 0 || left == most {
            if let Some(whole) = input.whole
                && left > 0
                && !self.net.has_changed()
            {
                left = self.deliver_whole(handler, id, whole, left);
            }
            if self.delivery.rest > 0 || input.len == 0 {
                left = self.deliver_rest(handler, id, input.read, left);
            }
        }
        self.net.count_received(most - left);
        most - left
    }

    /// Delivers the first frame of a read, often the only one, if it is small and lies whole in the input. Returns how
    /// many frames that are.
    #[inline(always)]
    fn deliver_first<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnectionId,
        whole: WholeFrames,
    ) -> u64 {
        let Self {
            net,
            read_buffer,
            delivery,
            ..
        } = self;
        net.expect_no_change();
        let input = read_buffer.unshared().get(..delivery.end);
        let mut input = input.unwrap_or_default();
        let Some(payload) = whole.up_to(COPIED_UP_TO).cut(&mut input) else {
            return 0;
        };
        delivery.rest = input.len();
        handler.on_data(net, id, Frame::from(payload));
        1
    }

    /// Delivers frames that lie whole in the input, without looking up the connection for each, until a callback
    /// changes the state of a connection. Returns how many frames may still be delivered.
    #[inline(never)]
    fn deliver_whole<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnectionId,
        whole: WholeFrames,
        mut left: u64,
    ) -> u64 {
        let Self {
            net,
            read_buffer,
            delivery,
            ..
        } = self;
        net.expect_no_change();
        let mut next = match read_buffer.is_shared() {
            true => whole,
            false => whole.up_to(COPIED_UP_TO),
        };
        loop {
            let is_shared = read_buffer.is_shared();
            let mut input = delivery.rest(read_buffer);
            while let Some(payload) = next.cut(&mut input) {
                delivery.rest = input.len();
                left -= 1;
                if is_shared {
                    net.offer(payload);
                }
                handler.on_data(net, id, Frame::from(payload));
                if left == 0 || net.has_changed() {
                    return left;
                }
            }
            if is_shared || whole.cut(&mut input).is_none() {
                return left;
            }
            // A large frame, which may be sent back.
            net.share_input(read_buffer.share());
            next = whole;
        }
    }

    /// Delivers frames that do not lie whole in the input, or whose format has no fast path. Then returns undelivered
    /// bytes to the connection.
    #[inline(never)]
    fn deliver_rest<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnectionId,
        read: usize,
        mut left: u64,
    ) -> u64 {
        let mut exhausted = false;
        while left > 0
            // A callback may have ended or paused the connection.
            && let Some(connection) = self.net.deliverable(id)
        {
            match connection.whole_frames() {
                Some(_) if self.delivery.rest == 0 => return left,
                Some(whole) if !connection.has_begun_frame() && !self.net.times_callbacks() => {
                    let before = left;
                    left = self.deliver_whole(handler, id, whole, left);
                    if left < before {
                        continue;
                    }
                }
                _ => {}
            }
            match self.deliver_next(handler, id, read) {
                Some(frames) => left -= frames,
                None => {
                    exhausted = true;
                    break;
                }
            }
        }
        self.keep_rest(id, exhausted);
        left
    }

    /// Delivers one frame or chunk. Returns how many frames are complete with it, or `None` if the rest of the input
    /// contains no further frame or chunk. An error ends the connection.
    fn deliver_next<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnectionId,
        read: usize,
    ) -> Option<u64> {
        let Self {
            net,
            read_buffer,
            delivery,
            ..
        } = self;
        let mut input = delivery.rest(read_buffer);
        let cut = net.cut(id, &mut input);
        delivery.rest = input.len();
        match cut {
            Ok(Some(Cut::Borrowed(payload))) => {
                net.note_finished(id);
                net.call("on_data", id, |net| {
                    handler.on_data(net, id, Frame::from(payload));
                });
            }
            Ok(Some(Cut::Assembled(mut payload, len))) => {
                net.note_finished(id);
                net.call("on_data", id, |net| {
                    handler.on_data(net, id, Frame::assembled(&mut payload, len));
                });
                net.recycle(payload);
            }
            Ok(Some(Cut::Chunk(extent, bytes))) => {
                let chunk = Chunk::new(extent, bytes.into());
                let is_last = chunk.is_last();
                net.note_chunk(id, is_last);
                net.call("on_chunk", id, |net| handler.on_chunk(net, id, chunk));
                return Some(u64::from(is_last));
            }
            Ok(Some(Cut::HeldChunk(extent, mut bytes))) => {
                let len = bytes.len();
                let chunk = Chunk::new(extent, Frame::assembled(&mut bytes, len));
                let is_last = chunk.is_last();
                net.note_chunk(id, is_last);
                net.call("on_chunk", id, |net| handler.on_chunk(net, id, chunk));
                net.recycle(bytes);
                return Some(u64::from(is_last));
            }
            Ok(None) => {
                net.note_unfinished(id, input, read);
                return None;
            }
            Err(error) => self.fail(id, error),
        }
        Some(1)
    }

    /// Ends the connection because of a decode error. Replies to earlier frames are written first.
    #[cold]
    fn fail(&mut self, id: ConnectionId, error: DecodeError) {
        self.net.flush(id);
        self.net.end(id, Some(error.into()));
    }

    /// Returns undelivered bytes to the connection. `exhausted`: they contain no whole frame.
    fn keep_rest(&mut self, id: ConnectionId, exhausted: bool) {
        let rest = self.delivery.rest(&self.read_buffer);
        self.net.keep(id, rest, exhausted);
        self.delivery.rest = 0;
    }

    /// Returns the bytes to the connection whose delivery was interrupted by a panic.
    #[inline]
    pub(super) fn finish_interrupted(&mut self) {
        if self.delivery.rest > 0 {
            self.keep_rest(self.delivery.to, false);
        }
    }
}
