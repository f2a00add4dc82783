//! The outbound queue of one connection. Pure: it holds frames and offers bytes; somebody else writes them.
//!
//! ```text
//!   sealed                                        tail
//!   +--------+------------------+---+-----------+ +----------------------
//!   | copied |  shared (Bytes)  | c |  shared   | | copied, still growing
//!   +--------+------------------+---+-----------+ +----------------------
//!      ^ offset: all before it is written
//! ```
//!
//! Small payloads are copied behind each other into the tail, so that many frames make one write. Large ones are kept by
//! reference; the tail is sealed before them. Invariants: no sealed segment is empty; `offset` is inside the first
//! segment (the tail, if none is sealed); `ends` is ascending, its last element is `pushed`, its first is above
//! `written`; an empty queue has all counters at zero.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

use crate::error::EncodeError;
use crate::frame::{self, FrameWriter, Framing};

/// From this many bytes on a payload that is owned is queued by reference. Copying is faster up to 2-4 KiB, measured on
/// an echo server: `writev` of two pieces costs more than the copy saves.
pub(crate) const SHARE_FROM: usize = 4 * 1024;

/// A tail that has grown to this many bytes is sealed, so that a long queue never has to be moved to grow.
const SEAL_AT: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(crate) struct WriteQueue {
    sealed: VecDeque<Segment>,
    tail: Vec<u8>,
    offset: usize,
    /// Where each unsent frame ends. These and the next two count bytes since the queue was last empty.
    ends: VecDeque<u64>,
    pushed: u64,
    written: u64,
}

#[derive(Debug)]
enum Segment {
    Copied(Vec<u8>),
    Shared(Bytes),
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl WriteQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes that wait to be written, headers included.
    pub(crate) fn bytes(&self) -> u64 {
        self.pushed - self.written
    }

    /// Frames that wait to be written; one that is partly written still counts.
    pub(crate) fn frames(&self) -> usize {
        self.ends.len()
    }

    /// Heap memory that an empty queue keeps.
    pub(crate) fn retained(&self) -> usize {
        self.tail.capacity()
            + self.ends.capacity() * size_of::<u64>()
            + self.sealed.capacity() * size_of::<Segment>()
    }

    /// Appends a frame, copying the payload.
    #[inline]
    pub(crate) fn push_copied(
        &mut self,
        framing: &Framing,
        limit: u64,
        payload: &[u8],
    ) -> Result<(), EncodeError> {
        if self.tail.len() >= SEAL_AT {
            self.seal();
        }
        let before = self.tail.len();
        frame::append(framing, limit, payload, &mut self.tail)?;
        self.count(self.tail.len() - before);
        Ok(())
    }

    /// Appends bytes that are a frame already.
    pub(crate) fn push_encoded(&mut self, frame: &[u8]) -> Result<(), EncodeError> {
        if self.tail.len() >= SEAL_AT {
            self.seal();
        }
        self.tail
            .try_reserve(frame.len())
            .map_err(|_| EncodeError::OutOfMemory {
                requested: frame.len(),
            })?;
        self.tail.extend_from_slice(frame);
        self.count(frame.len());
        Ok(())
    }

    /// Appends a frame, keeping the payload by reference if it is large.
    pub(crate) fn push_shared(
        &mut self,
        framing: &Framing,
        limit: u64,
        payload: &Bytes,
    ) -> Result<(), EncodeError> {
        if payload.len() < SHARE_FROM {
            return self.push_copied(framing, limit, payload);
        }
        let envelope = frame::envelope(framing, limit, payload)?;
        self.tail.extend_from_slice(envelope.header());
        self.seal();
        self.sealed.push_back(Segment::Shared(payload.clone()));
        self.tail.extend_from_slice(envelope.trailer());
        self.count(envelope.header().len() + payload.len() + envelope.trailer().len());
        Ok(())
    }

    /// Starts a frame that is written in place. It becomes part of the queue by [`count`](Self::count).
    pub(crate) fn writer(&mut self, framing: &Framing) -> Result<FrameWriter<'_>, EncodeError> {
        if self.tail.len() >= SEAL_AT {
            self.seal();
        }
        FrameWriter::begin(framing, &mut self.tail)
    }

    /// Counts a frame whose bytes have been appended.
    #[inline]
    pub(crate) fn count(&mut self, bytes: usize) {
        if bytes > 0 {
            self.pushed += bytes as u64;
            self.ends.push_back(self.pushed);
        }
    }

    /// The next bytes to write, if they lie in one piece.
    #[inline]
    pub(crate) fn single_slice(&self) -> Option<&[u8]> {
        self.sealed
            .is_empty()
            .then(|| &self.tail[self.offset.min(self.tail.len())..])
    }

    /// The next bytes to write, in up to `N` pieces, for one vectored write. Returns how many pieces there are.
    pub(crate) fn slices<'a, const N: usize>(&'a self, out: &mut [IoSlice<'a>; N]) -> usize {
        let tail = Some(&self.tail[..]).filter(|tail| !tail.is_empty());
        let pieces = self.sealed.iter().map(Segment::bytes).chain(tail);
        let mut count = 0;
        for (slot, piece) in out.iter_mut().zip(pieces) {
            let start = if count == 0 { self.offset } else { 0 };
            *slot = IoSlice::new(&piece[start..]);
            count += 1;
        }
        count
    }

    /// Forgets the next `n` bytes, which have been written. What was kept by reference and is done goes to `done`.
    #[inline]
    pub(crate) fn advance(&mut self, n: usize, done: impl FnMut(Bytes)) {
        self.written += n as u64;
        if !self.sealed.is_empty() {
            self.advance_sealed(n, done);
        } else if self.offset + n == self.tail.len() {
            self.tail.clear();
            self.offset = 0;
        } else {
            self.offset += n;
        }
        if self.written == self.pushed {
            self.ends.clear();
            self.pushed = 0;
            self.written = 0;
        } else {
            while self.ends.front().is_some_and(|&end| end <= self.written) {
                self.ends.pop_front();
            }
        }
    }

    fn advance_sealed(&mut self, mut n: usize, mut done: impl FnMut(Bytes)) {
        while let Some(front) = self.sealed.front() {
            let left = front.bytes().len() - self.offset;
            if n < left {
                self.offset += n;
                return;
            }
            n -= left;
            self.offset = 0;
            match self.sealed.pop_front() {
                // Its memory serves the next small frames.
                Some(Segment::Copied(mut bytes)) if self.tail.capacity() == 0 => {
                    bytes.clear();
                    self.tail = bytes;
                }
                Some(Segment::Shared(bytes)) => done(bytes),
                _ => {}
            }
        }
        self.offset = n;
        if self.offset == self.tail.len() {
            self.tail.clear();
            self.offset = 0;
        }
    }

    /// Forgets all frames.
    pub(crate) fn clear(&mut self) {
        self.sealed.clear();
        self.tail.clear();
        self.ends.clear();
        self.offset = 0;
        self.pushed = 0;
        self.written = 0;
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            self.sealed.push_back(Segment::Copied(tail));
        }
    }
}
