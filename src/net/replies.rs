//! Replies: frames for the connection that is being served, sent by its own callbacks. Pure.
//!
//! They are collected without a lookup of the connection and without its queue, and written when it was served. Most are
//! encoded into one buffer of the loop; large ones are [not copied](super::uncopied).

use std::io::IoSlice;
use std::sync::Arc;

use super::uncopied::{Part, Uncopied};
use crate::connection_id::ConnectionId;
use crate::frame::LengthPrefix;

/// The id of no connection: no slot has this index.
const NO_CONNECTION: ConnectionId = ConnectionId::new(u32::MAX, u32::MAX);

/// The size of the buffer at first, and its largest size: that of the replies to a whole read.
const FIRST: usize = 4 * 1024;
const MOST: usize = 256 * 1024;

/// Payloads of up to this size are copied: that costs less than to find out whether they lie in the read buffer.
pub(crate) const COPIED_UP_TO: usize = 1024;

#[derive(Debug)]
pub(super) struct Replies {
    to: ConnectionId,
    prefix: LengthPrefix,
    /// Payloads shorter than this are copied without a closer look, and those with the default prefix before all others: 0
    /// for any other prefix.
    copied_below: usize,
    below: usize,
    /// The longest payload.
    longest: usize,
    /// The most bytes that may be collected; the buffer is no longer while they are.
    most: usize,
    /// The frames, up to `len`; the rest is unused.
    wire: Vec<u8>,
    len: usize,
    frames: u64,
    /// Whether all replies are in this buffer, and no others are possible.
    are_copied: bool,
    uncopied: Uncopied,
    /// Whether any were collected since the last trim.
    were_used: bool,
}

impl Replies {
    pub(super) fn new() -> Self {
        Self {
            to: NO_CONNECTION,
            prefix: LengthPrefix::default(),
            copied_below: 0,
            below: 0,
            longest: 0,
            most: 0,
            wire: Vec::new(),
            len: 0,
            frames: 0,
            are_copied: true,
            uncopied: Uncopied::default(),
            were_used: false,
        }
    }

    /// Begins to collect the replies to a connection: payloads of up to `longest` bytes, `most` bytes in all. Does
    /// nothing if the buffer is larger than `most`.
    #[inline(always)]
    pub(super) fn begin(
        &mut self,
        to: ConnectionId,
        prefix: LengthPrefix,
        longest: usize,
        most: usize,
    ) {
        if most < self.wire.len() {
            return;
        }
        self.to = to;
        self.prefix = prefix;
        self.copied_below = longest;
        self.below = match prefix.is_default() {
            true => longest,
            false => 0,
        };
        self.longest = longest;
        self.most = most;
        self.were_used = true;
    }

    /// Allows large replies to be written from the read buffer.
    pub(super) fn share(&mut self, input: Arc<Vec<u8>>) {
        if self.to != NO_CONNECTION {
            self.copied_below = self.copied_below.min(COPIED_UP_TO + 1);
            self.below = self.below.min(self.copied_below);
            self.limit_uncopied();
            self.uncopied.share(input);
            self.are_copied = false;
        }
    }

    /// Returns whether replies to this connection are being collected.
    #[inline(always)]
    pub(super) fn are_to(&self, id: ConnectionId) -> bool {
        self.to == id
    }

    /// Returns the connection whose replies are being collected.
    #[inline]
    pub(super) fn to(&self) -> Option<ConnectionId> {
        (self.to != NO_CONNECTION).then_some(self.to)
    }

    /// Collects a frame with a payload of `len` bytes, if it is for the connection that is being served and there is room.
    /// Returns the place for the payload.
    #[inline(always)]
    pub(super) fn push(&mut self, to: ConnectionId, len: usize) -> Option<&mut [u8]> {
        if self.to != to || len >= self.below {
            return None;
        }
        let place = LengthPrefix::begin(len, self.wire.get_mut(self.len..)?)?;
        self.len += LengthPrefix::DEFAULT_WIDTH + len;
        self.frames += 1;
        Some(place)
    }

    /// Notes which frame is being delivered from the shared read buffer.
    #[inline(always)]
    pub(super) fn offer(&mut self, payload: &[u8]) {
        self.uncopied.offer(payload);
    }

    /// Collects the frame that is being [delivered](Self::offer), if it follows another one that was collected so. Returns
    /// its length.
    #[inline(always)]
    pub(super) fn send_back(&mut self, payload: &[u8]) -> Option<usize> {
        let len = self.uncopied.continue_run(self.prefix, payload, self.len)?;
        self.frames += 1;
        Some(len)
    }

    /// Collects a small frame with any prefix, if there is room. Returns its length.
    #[inline(always)]
    pub(super) fn push_small(&mut self, payload: &[u8]) -> Option<usize> {
        if payload.len() >= self.copied_below {
            return None;
        }
        let len = self.prefix.frame_len(payload.len());
        let frame = self.wire.get_mut(self.len..)?.get_mut(..len)?;
        self.prefix.write(payload, frame);
        self.len += len;
        self.frames += 1;
        Some(len)
    }

    /// Collects any other frame. Returns its length.
    pub(super) fn push_otherwise(&mut self, payload: &[u8]) -> Option<usize> {
        let prefix = self.prefix;
        let len = match self.uncopied.begin_run(prefix, payload, self.len) {
            Some(len) => len,
            None => self.push_copied(payload)?,
        };
        self.frames += 1;
        Some(len)
    }

    /// Copies a frame that `push` has not collected: it is large, its prefix is not the default, or the buffer has to grow.
    fn push_copied(&mut self, payload: &[u8]) -> Option<usize> {
        if payload.len() > self.longest {
            return None;
        }
        let prefix = self.prefix;
        let len = prefix.frame_len(payload.len());
        prefix.write(payload, self.grow(len)?);
        self.len += len;
        Some(len)
    }

    /// Collects a frame whose payload is the first `len` bytes of a buffer, and takes the buffer.
    pub(super) fn push_own(&mut self, buffer: &mut Vec<u8>, len: usize) -> Option<usize> {
        if len > self.longest || len <= COPIED_UP_TO {
            return None;
        }
        self.limit_uncopied();
        let len = self.uncopied.push_own(self.prefix, buffer, len, self.len)?;
        self.are_copied = false;
        self.frames += 1;
        Some(len)
    }

    /// Leaves as much for frames that are not copied as the buffer does not need.
    fn limit_uncopied(&mut self) {
        let most = self.most.saturating_sub(self.wire.len());
        self.uncopied.limit(most);
    }

    /// Returns the place for one more frame of `len` bytes in the buffer, which is enlarged if necessary.
    #[inline(never)]
    fn grow(&mut self, len: usize) -> Option<&mut [u8]> {
        let end = self.len + len;
        if end > self.wire.len() {
            let most = self.most.saturating_sub(self.uncopied.len()).min(MOST);
            let size = end.next_power_of_two().max(FIRST).min(most);
            if end > size {
                return None;
            }
            self.wire.try_reserve_exact(size - self.wire.len()).ok()?;
            self.wire.resize(size, 0);
            self.limit_uncopied();
        }
        self.wire.get_mut(self.len..end)
    }

    /// Returns whether all replies were copied.
    #[inline(always)]
    pub(super) fn are_copied(&self) -> bool {
        self.are_copied
    }

    /// Returns the frames that were copied.
    #[inline(always)]
    pub(super) fn wire(&self) -> &[u8] {
        &self.wire[..self.len]
    }

    /// Returns the number of bytes collected.
    pub(super) fn len(&self) -> usize {
        self.len + self.uncopied.len()
    }

    #[cfg(feature = "sim")]
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    pub(super) fn prefix(&self) -> LengthPrefix {
        self.prefix
    }

    /// Calls `write` with all frames.
    pub(super) fn gather<R>(&mut self, write: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        self.uncopied.gather(&self.wire[..self.len], write)
    }

    /// Removes the frames, in order.
    pub(super) fn take_apart(&mut self, part: impl FnMut(Part<'_>)) {
        self.uncopied.take_apart(&self.wire[..self.len], part);
        self.are_copied = true;
        self.clear();
    }

    /// Removes the frames, and passes the buffers of those that were not copied to `done`. Returns how many frames there
    /// were.
    pub(super) fn clear_all(&mut self, done: impl FnMut(Vec<u8>)) -> u64 {
        self.uncopied.clear(done);
        self.are_copied = true;
        self.clear()
    }

    /// Stops collecting. The frames stay until they are [cleared](Self::clear).
    #[inline(always)]
    pub(super) fn end(&mut self) {
        self.to = NO_CONNECTION;
    }

    /// Removes the frames, all of which were copied. Returns how many there were.
    #[inline(always)]
    pub(super) fn clear(&mut self) -> u64 {
        self.len = 0;
        std::mem::take(&mut self.frames)
    }

    /// Frees the buffer, if it was not used since the last call.
    pub(super) fn trim(&mut self) {
        if !std::mem::take(&mut self.were_used) && self.len() == 0 {
            self.wire = Vec::new();
        }
    }

    pub(super) fn is_retaining(&self) -> bool {
        !self.wire.is_empty()
    }
}
