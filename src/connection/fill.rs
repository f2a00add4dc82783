//! One read from the socket, and where its bytes go.

use std::io::{self, IoSliceMut};

use super::{Common, Connection, Io, Phase, Reading};
use crate::error::OutOfMemory;
use crate::frame::Need;
use crate::socket::Readiness;
use crate::tick::Tick;

/// From this size on a frame is read into its own buffer and only the beginning of the next one behind it, even by the
/// first read of a frame that is probably as large: what is read of it into the read buffer has to be copied. For smaller
/// frames, system calls cost more than the copy of one of several frames.
const HUGE: usize = 256 * 1024;
const BEHIND_HUGE: usize = 4 * 1024;

/// From this size on, frames are probably part of a transfer.
const LARGE: usize = 32 * 1024;

/// How large the next frame probably is: like the one that was held last, until what follows it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expects {
    Small,
    Large,
    Huge,
}

impl Expects {
    /// Returns what follows a frame of `len` bytes, if that is known.
    pub(super) fn after(len: Option<usize>) -> Self {
        match len {
            Some(HUGE..) => Self::Huge,
            Some(LARGE..) => Self::Large,
            _ => Self::Small,
        }
    }
}

/// The outcome of a fill.
#[derive(Debug)]
pub(crate) enum Fill {
    /// The first `len` bytes of the read buffer are to be cut into frames; `read` bytes are new. Both are zero if bytes
    /// went directly into a large frame, which is then cut if it is complete. `read` is zero after an interrupted read,
    /// and for bytes that are [ahead](super::ahead).
    Bytes {
        len: usize,
        read: usize,
    },
    /// No bytes for now.
    Blocked,
    /// EOF.
    Ended,
    Failed(io::Error),
    /// The memory for a large frame could not be allocated.
    NoMemory(OutOfMemory),
}

impl Connection {
    /// Returns whether the next frame is probably large: then the connection stays heavy, even if the end of the last frame
    /// was short.
    #[inline(always)]
    pub(crate) fn expects_large(&self) -> bool {
        self.expects != Expects::Small
    }

    /// Returns how much of `most` the next read should ask for.
    pub(crate) fn asks_for(&self, most: usize) -> usize {
        if self.expects == Expects::Huge && self.decoder.holds_nothing() {
            most.min(BEHIND_HUGE)
        } else {
            most
        }
    }

    /// Notes that bytes were read: if no frame was incomplete, they are the beginning of the next one.
    pub(crate) fn note_begun(&mut self) {
        if self.decoder.holds_nothing() {
            self.expects = Expects::Small;
        }
    }

    /// Reads once, at most `most` bytes. READABLE readiness stays set while another read may return bytes.
    #[inline(always)]
    pub(crate) fn fill(
        &mut self,
        stream: &mut impl Io,
        buffer: &mut [u8],
        most: usize,
        common: &mut Common,
    ) -> Fill {
        if self.readiness.has(Readiness::AHEAD) || !self.decoder.holds_nothing() {
            return self.fill_further(stream, buffer, most, common);
        }
        self.fill_behind(0, stream, buffer, most, common)
    }

    /// Reads behind the first `start` bytes of the buffer, which are for the held bytes.
    #[inline(always)]
    fn fill_behind(
        &mut self,
        start: usize,
        stream: &mut impl Io,
        buffer: &mut [u8],
        most: usize,
        common: &mut Common,
    ) -> Fill {
        let asked = (buffer.len() - start).min(most);
        match stream.read(&mut buffer[start..start + asked]) {
            Ok(0) => self.ended_in_line(start, buffer, common),
            Ok(read) => {
                self.note_read(read, asked, stream.short_is_drained());
                self.active_at = common.now;
                common.reads += 1;
                if start > 0 {
                    self.bring_back(buffer, common);
                }
                let len = start + read;
                Fill::Bytes { len, read }
            }
            Err(error) => self.not_read(error),
        }
    }

    /// Reads if bytes of the stream were read before and are not delivered.
    #[inline(never)]
    fn fill_further(
        &mut self,
        stream: &mut impl Io,
        buffer: &mut [u8],
        most: usize,
        common: &mut Common,
    ) -> Fill {
        if mutated!("EOF before buffered data") && self.readiness.has(Readiness::READ_CLOSED) {
            return self.ended();
        }
        if self.readiness.has(Readiness::AHEAD) {
            return self.fill_from_ahead(buffer, most, common);
        }
        let start = match self.decoder.need(buffer.len()) {
            Need::Fresh | Need::Append => 0,
            Need::Prepend => self.decoder.held_bytes(),
            Need::Own => return self.fill_own(stream, buffer, most, common),
        };
        self.fill_behind(start, stream, buffer, most, common)
    }

    /// Puts the held bytes before those that will be read.
    pub(super) fn bring_back(&mut self, buffer: &mut [u8], common: &mut Common) -> usize {
        let held = self.decoder.take_held();
        let len = held.len();
        let kept = len - usize::from(mutated!("split header off by one"));
        buffer[..kept].copy_from_slice(&held[..kept]);
        common.memory.sub_input(len);
        common.buffers.put_input(held);
        len
    }

    /// Reads the rest of a frame into its own buffer, and what follows into the read buffer.
    fn fill_own(
        &mut self,
        stream: &mut impl Io,
        buffer: &mut [u8],
        most: usize,
        common: &mut Common,
    ) -> Fill {
        if self.decoder.is_outgrown()
            && let Some(len) = self.decoder.expected_len()
            && let Some(larger) = common.buffers.take_large(len)
        {
            common.buffers.put_input(self.decoder.adopt(larger));
        }
        let behind = match self.decoder.expected_len() {
            Some(len) if len >= HUGE => BEHIND_HUGE,
            _ => usize::MAX,
        };
        let window = match self.decoder.window(most) {
            Ok(window) => window,
            Err(error) => return Fill::NoMemory(error),
        };
        let own = window.len();
        let more = buffer.len().min(most - own).min(behind);
        let asked = own + more;
        let result = if more == 0 {
            stream.read(window)
        } else {
            let (own, more) = (
                IoSliceMut::new(window),
                IoSliceMut::new(&mut buffer[..more]),
            );
            stream.read_vectored(&mut [own, more])
        };
        match result {
            Ok(0) => self.ended(),
            Ok(read) => {
                let own = own.min(read);
                self.decoder.advance(own);
                common.memory.add_input(own);
                self.note_read(read, asked, stream.short_is_drained());
                self.active_at = common.now;
                common.reads += 1;
                let len = read - own;
                Fill::Bytes { len, read }
            }
            Err(error) => self.not_read(error),
        }
    }

    /// Handles a short read. It has emptied the socket, unless EOF or urgent data follows: these cause no event of
    /// their own.
    #[inline]
    fn note_read(&mut self, read: usize, asked: usize, short_is_drained: bool) {
        let more = Readiness::READ_CLOSED | Readiness::PRIORITY;
        let is_short = read < asked || mutated!("edge dropped after a full read");
        if is_short && short_is_drained && !self.readiness.has(more) {
            self.readiness.remove(Readiness::READABLE);
        }
    }

    /// Handles EOF. If it ends a line, the line is delivered as if its delimiter had arrived; then EOF is read again.
    #[cold]
    fn ended_in_line(&mut self, start: usize, buffer: &mut [u8], common: &mut Common) -> Fill {
        let (Some(end), Some(place)) = (self.decoder.end_at_eof(), buffer.get_mut(start)) else {
            return self.ended();
        };
        *place = end;
        if start > 0 {
            self.bring_back(buffer, common);
        }
        let len = start + 1;
        Fill::Bytes { len, read: 0 }
    }

    #[cold]
    fn ended(&mut self) -> Fill {
        self.nothing_to_read();
        self.reading.0 |= Reading::ENDED.0;
        Fill::Ended
    }

    #[cold]
    fn not_read(&mut self, error: io::Error) -> Fill {
        self.nothing_to_read();
        if error.kind() == io::ErrorKind::WouldBlock {
            Fill::Blocked
        } else {
            Fill::Failed(error)
        }
    }

    fn nothing_to_read(&mut self) {
        self.readiness.remove(Readiness::READ);
    }

    /// Reads and discards bytes, while waiting for the peer's EOF.
    pub(crate) fn discard(&mut self, stream: &mut impl Io, buffer: &mut [u8], now: Tick) -> Fill {
        let asked = buffer.len();
        match stream.read(buffer) {
            Ok(0) => self.ended(),
            Ok(read) => {
                self.note_read(read, asked, stream.short_is_drained());
                if self.phase == Phase::Draining {
                    // The peer is alive and may still be reading what is in the kernel, which nothing reports.
                    self.active_at = now;
                }
                Fill::Bytes { len: 0, read }
            }
            Err(error) => self.not_read(error),
        }
    }
}
