//! Decides where the next bytes of a stream are read to, depending on the held part of a frame. Only needed when
//! reading from a socket; for bytes in memory use [`FrameDecoder::decode`].

use super::{FrameDecoder, State, reserve};
use crate::error::OutOfMemory;

/// The most bytes read at a time into a large frame. Small enough to be zeroed while in the cache.
const WINDOW: usize = 256 * 1024;

/// The least number of bytes to make room for, while fewer than that have arrived.
const FIRST_WINDOW: usize = 4 * 1024;

/// Frames that are larger than this are read into buffers of their own. Moving the first part of a smaller one costs less
/// than a vectored read.
pub(super) const OWN_FROM: usize = 4 * 1024;

/// Where the next bytes have to be read to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Anywhere: nothing is held.
    Fresh,
    /// After the held bytes, which are moved to the front of the read buffer: the frame will be complete there.
    Prepend,
    /// Anywhere: the bytes are appended to the held ones.
    Append,
    /// Into [`FrameDecoder::window`]; bytes beyond it anywhere.
    Own,
}

impl FrameDecoder {
    /// Returns whether no part of a frame is held.
    #[inline]
    pub(crate) fn holds_nothing(&self) -> bool {
        self.held.is_empty()
    }

    /// Returns where the next bytes should be read to, for a read buffer of `buffer_len` bytes.
    pub(crate) fn need(&self, buffer_len: usize) -> Need {
        if self.held.is_empty() {
            return Need::Fresh;
        }
        match self.state {
            State::Header { .. } if self.held.len() <= buffer_len / 2 => Need::Prepend,
            State::Header { .. } => Need::Append,
            State::Body {
                payload, trailer, ..
            } if payload.saturating_add(trailer as usize) <= buffer_len.min(OWN_FROM) => {
                Need::Prepend
            }
            State::Body { .. } => Need::Own,
            // The held bytes wait for the end of a trailer.
            State::Stream { .. } | State::Line { .. } => Need::Prepend,
        }
    }

    /// Takes the held bytes, which have to precede the next bytes read.
    pub(crate) fn take_held(&mut self) -> Vec<u8> {
        if let State::Body { filled, .. } = &mut self.state {
            self.held.truncate(*filled);
            *filled = 0;
        }
        std::mem::take(&mut self.held)
    }

    /// Returns room for the next bytes of a frame, in its own buffer. The buffer grows geometrically with the bytes that
    /// have arrived.
    pub(crate) fn window(&mut self, most: usize) -> Result<&mut [u8], OutOfMemory> {
        let State::Body {
            payload,
            trailer,
            filled,
        } = self.state
        else {
            return Ok(&mut []);
        };
        let need = payload.saturating_add(trailer as usize);
        // Room for as many bytes as have arrived: a declared length alone allocates nothing.
        let room = filled.clamp(FIRST_WINDOW, WINDOW);
        let room = room.max(self.held.len() - filled).min(most);
        let end = need.min(filled.saturating_add(room));
        if self.held.len() < end {
            let missing = end - self.held.len();
            reserve(&mut self.held, missing, need)?;
            self.held.resize(end, 0);
        }
        Ok(&mut self.held[filled..end])
    }

    /// Counts bytes that were read into the [`window`](Self::window).
    pub(crate) fn advance(&mut self, n: usize) {
        if let State::Body { filled, .. } = &mut self.state {
            *filled += n;
        }
    }

    /// Returns whether the buffer has to grow for the next [`window`](Self::window).
    pub(crate) fn is_outgrown(&self) -> bool {
        matches!(self.state, State::Body { filled, .. } if filled == self.held.len())
    }

    /// Moves the held bytes of a large frame into `buffer`, which is larger and has to grow less often. Returns the
    /// smaller buffer.
    pub(crate) fn adopt(&mut self, mut buffer: Vec<u8>) -> Vec<u8> {
        let State::Body { filled, .. } = self.state else {
            return buffer;
        };
        if buffer.len() < filled {
            return buffer;
        }
        buffer[..filled].copy_from_slice(&self.held[..filled]);
        std::mem::replace(&mut self.held, buffer)
    }
}
