//! A connection of a server written by hand: it writes the replies to what it has read before it reads on.
//!
//! Reads go into a buffer that all connections share. If a large frame comes in pieces, its rest is read into a buffer of
//! its connection, and written from there. The connection keeps that buffer.

use std::io::{self, ErrorKind, IoSlice};
use std::mem;

use crate::batch::{BUFFER, Batch, HEADER, unwritten};

/// A frame of more bytes than this, header included, is large.
const SMALL: usize = 16 * 1024;
/// So much is read behind a frame that is larger than the shared buffer. The next one is probably as large, and what is
/// read of it into the shared buffer has to be copied.
const BEHIND_HUGE: usize = 4 * 1024;
/// The most buffers that one call writes.
const MOST_PIECES: usize = 32;

/// A socket that does not block.
pub(super) trait Socket {
    /// Reads into the first buffer, and perhaps what follows into the second.
    fn read(&mut self, first: &mut [u8], second: &mut [u8]) -> io::Result<usize>;
    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Readable,
    Writable,
}

#[derive(Default)]
pub(super) struct Connection {
    /// The beginning of a small frame or of a header.
    held: Vec<u8>,
    large: Large,
    /// Replies that the socket did not take, and how much of them it took since.
    unsent: Vec<u8>,
    sent: usize,
}

/// A large frame, header included.
#[derive(Default)]
pub(super) struct Large {
    /// Has room for the longest so far.
    bytes: Vec<u8>,
    /// How long it will be; 0 if there is none.
    len: usize,
    filled: usize,
    sent: usize,
    /// Whether the frame before was larger than the shared buffer.
    is_huge: bool,
}

impl Large {
    fn begin(&mut self, len: usize, bytes: &[u8]) {
        if self.bytes.len() < len {
            self.bytes.resize(len, 0);
        }
        self.bytes[..bytes.len()].copy_from_slice(bytes);
        (self.len, self.filled) = (len, bytes.len());
    }

    fn is_whole(&self) -> bool {
        self.len > 0 && self.filled == self.len
    }

    /// What is to be written of it: nothing until it is whole.
    pub(super) fn unsent(&self) -> Option<&[u8]> {
        self.is_whole().then(|| &self.bytes[self.sent..self.len])
    }

    /// Counts what was written. Returns how much of that was not of this frame.
    fn count(&mut self, n: usize) -> usize {
        let own = self.unsent().map_or(0, |unsent| n.min(unsent.len()));
        self.sent += own;
        if self.is_whole() && self.sent == self.len {
            self.clear();
        }
        n - own
    }

    fn clear(&mut self) {
        (self.len, self.filled, self.sent) = (0, 0, 0);
    }
}

impl Connection {
    /// Echoes as long as something can be done. The end of the stream is an error. A read that returns less than it asked
    /// for is the last one, unless there is to be one that blocks.
    pub(super) fn echo(
        &mut self,
        batch: &mut Batch,
        socket: &mut impl Socket,
        until_it_blocks: bool,
    ) -> io::Result<Wait> {
        loop {
            if !self.flush(socket)? {
                return Ok(Wait::Writable);
            }
            let Some(is_drained) = self.read(batch, socket)? else {
                return Ok(Wait::Readable);
            };
            let pieces = self.large.unsent().into_iter().chain(batch.pieces());
            let n = write(socket, pieces)?;
            let n = self.large.count(n);
            self.keep(batch.pieces(), n);
            let is_sent = self.unsent.is_empty() && !self.large.is_whole();
            if is_sent && is_drained && !until_it_blocks {
                return Ok(Wait::Readable);
            }
        }
    }

    /// Writes replies that do not wait for anything but the socket. Returns whether there was room for all.
    pub(super) fn send<'p>(
        &mut self,
        pieces: impl Iterator<Item = &'p [u8]> + Clone,
        socket: &mut impl Socket,
    ) -> io::Result<bool> {
        let n = if self.unsent.is_empty() {
            write(socket, pieces.clone())?
        } else {
            0
        };
        self.keep(pieces, n);
        Ok(self.unsent.is_empty())
    }

    /// The large frame, if it is whole, for others than this connection to read.
    pub(super) fn take_large(&mut self) -> Large {
        if self.large.is_whole() {
            mem::take(&mut self.large)
        } else {
            Large::default()
        }
    }

    /// Gives back the buffer of one that is written.
    pub(super) fn put_large(&mut self, mut large: Large) {
        if large.is_whole() && self.large.len == 0 {
            large.clear();
            self.large = large;
        }
    }

    /// Writes what is left of earlier replies. Returns whether there was room for all.
    pub(super) fn flush(&mut self, socket: &mut impl Socket) -> io::Result<bool> {
        loop {
            let unsent = Some(&self.unsent[self.sent..]).filter(|rest| !rest.is_empty());
            let mut pieces = self.large.unsent().into_iter().chain(unsent).peekable();
            if pieces.peek().is_none() {
                return Ok(true);
            }
            let n = write(socket, pieces)?;
            if n == 0 {
                return Ok(false);
            }
            self.sent += self.large.count(n);
            if self.sent == self.unsent.len() {
                self.unsent.clear();
                self.sent = 0;
            }
        }
    }

    /// Reads once, and puts the replies into the batch; that to a large frame comes before them. Returns whether the
    /// socket is empty now, or `None` if it was.
    pub(super) fn read(
        &mut self,
        batch: &mut Batch,
        socket: &mut impl Socket,
    ) -> io::Result<Option<bool>> {
        if !self.held.is_empty() && self.large.len == 0 {
            // It may have waited for the large frame before it.
            let held = mem::take(&mut self.held);
            self.hold(&held);
        }
        let large = &mut self.large;
        if large.len > 0 {
            large.is_huge = large.len > BUFFER;
        }
        let held = self.held.len();
        let end = if large.is_huge {
            held + BEHIND_HUGE
        } else {
            BUFFER
        };
        let rest = &mut large.bytes[large.filled..large.len];
        let room = rest.len() + end - held;
        let n = match socket.read(rest, &mut batch.read[held..end]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let own = n.min(rest.len());
        large.filled += own;
        batch.read[..held].copy_from_slice(&self.held);
        self.held.clear();
        let end = held + n - own;
        let start = batch.fill(end);
        large.is_huge &= start == 0;
        let rest = &batch.read[start..end];
        if !rest.is_empty() {
            self.hold(rest);
        }
        Ok(Some(n < room))
    }

    /// Keeps the beginning of a frame until the rest comes.
    fn hold(&mut self, bytes: &[u8]) {
        let len = bytes
            .first_chunk()
            .map_or(0, |len| u32::from_le_bytes(*len) as usize)
            + HEADER;
        if len > SMALL && self.large.len == 0 {
            self.large.begin(len, bytes);
        } else {
            self.held.extend_from_slice(bytes);
        }
    }

    /// Keeps replies, except for the bytes that were written.
    fn keep<'p>(&mut self, pieces: impl Iterator<Item = &'p [u8]>, written: usize) {
        for piece in unwritten(pieces, written) {
            self.unsent.extend_from_slice(piece);
        }
    }
}

/// Returns how many bytes were taken; none if there is no room.
fn write<'p>(
    socket: &mut impl Socket,
    mut pieces: impl Iterator<Item = &'p [u8]>,
) -> io::Result<usize> {
    let Some(first) = pieces.next() else {
        return Ok(0);
    };
    let written = match pieces.next() {
        None => socket.write(&[IoSlice::new(first)]),
        Some(second) => write_all(socket, [first, second].into_iter().chain(pieces)),
    };
    match written {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}

#[inline(never)]
fn write_all<'p>(
    socket: &mut impl Socket,
    pieces: impl Iterator<Item = &'p [u8]>,
) -> io::Result<usize> {
    let mut list = [IoSlice::new(&[]); MOST_PIECES];
    let pieces = list.iter_mut().zip(pieces);
    let count = pieces.map(|(slot, piece)| *slot = IoSlice::new(piece));
    let count = count.count();
    socket.write(&list[..count])
}
