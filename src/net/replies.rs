//! Replies: frames for the connection that is being served, sent by its own callbacks. Pure.
//!
//! They are encoded into one buffer of the loop, without a lookup of the connection and without its queue. When the
//! connection was served, they are written from there.

use crate::connection_id::ConnectionId;
use crate::frame::{LengthPrefix, WholeFrames};

/// The id of no connection: no slot has this index.
const NO_CONNECTION: ConnectionId = ConnectionId::new(u32::MAX, u32::MAX);

/// The size of the buffer at first, and its largest size: that of the replies to a whole read.
const FIRST: usize = 4 * 1024;
const MOST: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Replies {
    to: ConnectionId,
    prefix: LengthPrefix,
    /// The longest payload.
    longest: usize,
    /// The most bytes that may be collected; the buffer is no longer while they are.
    most: usize,
    /// The frames, up to `len`; the rest is unused.
    wire: Vec<u8>,
    len: usize,
    frames: u64,
    /// Whether any were collected since the last trim.
    were_used: bool,
}

impl Replies {
    pub(super) fn new() -> Self {
        Self {
            to: NO_CONNECTION,
            prefix: LengthPrefix::default(),
            longest: 0,
            most: 0,
            wire: Vec::new(),
            len: 0,
            frames: 0,
            were_used: false,
        }
    }

    /// Begins to collect the replies to a connection: payloads of up to `longest` bytes, `most` bytes in all. Does
    /// nothing if the buffer is larger than `most`.
    #[inline(always)]
    pub(super) fn begin(
        &mut self,
        to: ConnectionId,
        whole: &WholeFrames,
        longest: usize,
        most: usize,
    ) {
        if most < self.wire.len() {
            return;
        }
        self.to = to;
        self.prefix = whole.prefix();
        self.longest = longest;
        self.most = most;
        self.were_used = true;
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

    /// Collects a frame, if it is for the connection that is being served and there is room. Returns its length.
    #[inline(always)]
    pub(super) fn push(&mut self, to: ConnectionId, payload: &[u8]) -> Option<usize> {
        if self.to != to || payload.len() > self.longest {
            return None;
        }
        let room = self.wire.get_mut(self.len..)?;
        let len = self.prefix.write(payload, room)?;
        self.len += len;
        self.frames += 1;
        Some(len)
    }

    /// Enlarges the buffer for one more frame. Returns whether there is room for it now.
    pub(super) fn grow(&mut self, to: ConnectionId, payload: &[u8]) -> bool {
        let needed = self.len + LengthPrefix::MAX_WIDTH + payload.len();
        let most = self.most.min(MOST);
        if self.to != to || needed > most || needed <= self.wire.len() {
            return false;
        }
        let size = needed.next_power_of_two().max(FIRST).min(most);
        if self.wire.try_reserve_exact(size - self.wire.len()).is_err() {
            return false;
        }
        self.wire.resize(size, 0);
        true
    }

    /// Returns the frames that were collected.
    #[inline(always)]
    pub(super) fn wire(&self) -> &[u8] {
        &self.wire[..self.len]
    }

    /// Returns the number of bytes collected.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[cfg(feature = "sim")]
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    pub(super) fn prefix(&self) -> LengthPrefix {
        self.prefix
    }

    /// Stops collecting. The frames stay until they are [cleared](Self::clear).
    #[inline(always)]
    pub(super) fn end(&mut self) {
        self.to = NO_CONNECTION;
    }

    /// Removes the frames. Returns how many there were.
    #[inline(always)]
    pub(super) fn clear(&mut self) -> u64 {
        self.len = 0;
        std::mem::take(&mut self.frames)
    }

    /// Frees the buffer, if it was not used since the last call.
    pub(super) fn trim(&mut self) {
        if !std::mem::take(&mut self.were_used) && self.len == 0 {
            self.wire = Vec::new();
        }
    }

    pub(super) fn is_retaining(&self) -> bool {
        !self.wire.is_empty()
    }
}
