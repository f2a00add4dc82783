//! Where the next bytes of a stream are read to, given what is held of a frame. Only those who read from a socket need to
//! know; whoever has bytes already uses [`FrameDecoder::decode`].

use super::{FrameDecoder, State, reserve};

/// How much of a large frame is read at a time at most, in bytes. Small enough to be zeroed while it is in the cache.
const WINDOW: usize = 256 * 1024;

/// How much is read at least, while less than that has arrived.
const FIRST_WINDOW: usize = 4 * 1024;

/// Where the bytes read next should go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Anywhere: nothing is held.
    Fresh,
    /// Behind what is held, after that was moved to the front of the read buffer: the frame will lie whole there.
    Prepend,
    /// Anywhere: they will be appended to what is held.
    Append,
    /// Straight into [`FrameDecoder::window`]: the frame is larger than the read buffer.
    Direct,
}

impl FrameDecoder {
    /// Where the next bytes should be read to, given a read buffer of `buffer_len` bytes.
    pub(crate) fn need(&self, buffer_len: usize) -> Need {
        if self.held.is_empty() {
            return Need::Fresh;
        }
        match self.state {
            State::Header { .. } if self.held.len() <= buffer_len / 2 => Need::Prepend,
            State::Header { .. } => Need::Append,
            State::Body {
                payload, trailer, ..
            } if payload.saturating_add(trailer as usize) <= buffer_len => Need::Prepend,
            State::Body { filled, .. } if filled < buffer_len / 2 => Need::Append,
            State::Body { .. } => Need::Direct,
            // Only what was interrupted is held, or waits for the end of a trailer.
            State::Stream { .. } | State::Line { .. } => Need::Prepend,
        }
    }

    /// Takes back what is held, to go in front of the bytes read next.
    pub(crate) fn take_held(&mut self) -> Vec<u8> {
        if let State::Body { filled, .. } = &mut self.state {
            self.held.truncate(*filled);
            *filled = 0;
        }
        std::mem::take(&mut self.held)
    }

    /// Room for the next bytes of a frame that is larger than the read buffer. It grows geometrically with what has
    /// arrived; if it cannot, the error is how many more bytes were asked for.
    pub(crate) fn window(&mut self, most: usize) -> Result<&mut [u8], usize> {
        let State::Body {
            payload,
            trailer,
            filled,
        } = self.state
        else {
            return Ok(&mut []);
        };
        let need = payload.saturating_add(trailer as usize);
        // Room for as much as has arrived: a promise alone gets none.
        let room = filled.clamp(FIRST_WINDOW, WINDOW).min(most);
        let end = need.min(filled.saturating_add(room));
        if self.held.len() < end {
            let missing = end - self.held.len();
            reserve(&mut self.held, missing, need).map_err(|_| missing)?;
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

    /// The size of the buffer, if it has to grow for the next [`window`](Self::window).
    pub(crate) fn outgrown(&self) -> Option<usize> {
        match self.state {
            State::Body { filled, .. } if filled == self.held.len() => Some(filled),
            _ => None,
        }
    }

    /// Moves what is held of a large frame into `buffer`, which is larger and will not have to grow as often. Gives the
    /// smaller one back.
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
