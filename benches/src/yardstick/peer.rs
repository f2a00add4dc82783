//! A connection: what has come of a frame, and what has not been written yet.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::RawFd;

use super::pool::Pool;
use super::system::{self, CHANGE, READ, WRITE};
use crate::batch::{BUFFER, Batch, HEADER, SMALL, unwritten};

/// So much is read behind a frame that is larger than the shared buffer. The next one is probably as large, and what is
/// read of it into the shared buffer has to be copied.
const BEHIND_HUGE: usize = 4 * 1024;

/// A connection. Its buffers are empty unless a frame came, or a reply went, in pieces.
pub(super) struct Peer {
    fd: RawFd,
    epoll: RawFd,
    /// The beginning of a small frame or of a header.
    held: Vec<u8>,
    /// The beginning of a large frame, header included, with room for the rest of it.
    large: Vec<u8>,
    /// How many bytes it will have; 0 if there is none.
    large_len: usize,
    /// Whether the frame before was larger than the shared buffer.
    is_huge: bool,
    queue: VecDeque<Queued>,
}

struct Queued {
    bytes: Vec<u8>,
    written: usize,
}

impl Peer {
    pub(super) fn new(fd: RawFd, epoll: RawFd) -> Self {
        Self {
            fd,
            epoll,
            held: Vec::new(),
            large: Vec::new(),
            large_len: 0,
            is_huge: false,
            queue: VecDeque::new(),
        }
    }

    /// Reads once, and puts the replies into the batch. Returns whether the socket is empty.
    pub(super) fn read(&mut self, batch: &mut Batch, pool: &mut Pool) -> io::Result<bool> {
        if self.large_len > 0 {
            return self.read_large(batch, pool);
        }
        let held = self.held.len();
        let room = if self.is_huge {
            BEHIND_HUGE
        } else {
            BUFFER - held
        };
        let buffer = &mut batch.read[held..held + room];
        let Some(n) = system::receive(self.fd, buffer)? else {
            batch.clear();
            return Ok(true);
        };
        if held > 0 {
            batch.read[..held].copy_from_slice(&self.held);
            self.held.clear();
        }
        self.cut(batch, held + n, pool);
        Ok(n < room)
    }

    /// Reads the rest of a large frame where it belongs, and what follows it.
    #[cold]
    fn read_large(&mut self, batch: &mut Batch, pool: &mut Pool) -> io::Result<bool> {
        batch.clear();
        let rest = self.large_len - self.large.len();
        self.is_huge = self.large_len > BUFFER;
        let behind = if self.is_huge { BEHIND_HUGE } else { BUFFER };
        let second = &mut batch.read[..behind];
        let n = system::receive_two(self.fd, &mut self.large, rest, second)?.unwrap_or(0);
        if n < rest {
            return Ok(true);
        }
        self.large_len = 0;
        let frame = mem::take(&mut self.large);
        self.cut(batch, n - rest, pool);
        batch.first = Some(frame);
        Ok(n < rest + behind)
    }

    /// Replies to the frames that are whole, and keeps the rest.
    fn cut(&mut self, batch: &mut Batch, end: usize, pool: &mut Pool) {
        let start = batch.fill(end);
        self.is_huge &= start == 0;
        if start < end {
            self.hold(&batch.read[start..end], pool);
        }
    }

    /// Keeps the beginning of a frame until the rest comes.
    #[cold]
    fn hold(&mut self, bytes: &[u8], pool: &mut Pool) {
        let len = bytes
            .first_chunk()
            .map_or(0, |len| HEADER + u32::from_le_bytes(*len) as usize);
        if len > SMALL {
            self.large_len = len;
            self.large = pool.take(len);
            self.large.extend_from_slice(bytes);
        } else {
            self.held.extend_from_slice(bytes);
        }
    }

    /// Writes the replies, and takes the large frame among them. What the socket does not take is queued.
    pub(super) fn reply(&mut self, batch: &mut Batch, pool: &mut Pool) -> io::Result<()> {
        match self.send(batch)? {
            Some(sent) => self.keep(batch, sent, pool),
            None => Ok(()),
        }
    }

    #[cold]
    fn keep(&mut self, batch: &mut Batch, mut sent: usize, pool: &mut Pool) -> io::Result<()> {
        let was_empty = self.queue.is_empty();
        if let Some(bytes) = batch.first.take() {
            let written = sent.min(bytes.len());
            sent -= written;
            if written == bytes.len() {
                pool.put(bytes);
            } else {
                self.queue.push_back(Queued { bytes, written });
            }
        }
        self.queue(batch.pieces(), sent, pool);
        self.watch(was_empty)
    }

    /// Writes the replies. What the socket does not take is copied and queued.
    pub(super) fn reply_copy(&mut self, batch: &Batch, pool: &mut Pool) -> io::Result<()> {
        if let Some(sent) = self.send(batch)? {
            let was_empty = self.queue.is_empty();
            self.queue(batch.replies(), sent, pool);
            self.watch(was_empty)?;
        }
        Ok(())
    }

    /// Returns how many bytes the socket took, or `None` if the replies are one piece and it took all of it.
    fn send(&self, batch: &Batch) -> io::Result<Option<usize>> {
        if !self.queue.is_empty() {
            return Ok(Some(0));
        }
        match batch.only() {
            Some(piece) => {
                let sent = system::send(self.fd, piece)?;
                Ok((sent < piece.len()).then_some(sent))
            }
            None => system::send_all(self.fd, batch.replies()).map(Some),
        }
    }

    fn queue<'p>(&mut self, pieces: impl Iterator<Item = &'p [u8]>, sent: usize, pool: &mut Pool) {
        for piece in unwritten(pieces, sent) {
            self.append(piece, pool);
        }
    }

    fn append(&mut self, bytes: &[u8], pool: &mut Pool) {
        if bytes.is_empty() {
            return;
        }
        match self.queue.back_mut() {
            Some(last) if last.bytes.capacity() - last.bytes.len() >= bytes.len() => {
                last.bytes.extend_from_slice(bytes);
            }
            _ => {
                let mut buffer = pool.take(bytes.len());
                buffer.extend_from_slice(bytes);
                self.queue.push_back(Queued {
                    bytes: buffer,
                    written: 0,
                });
            }
        }
    }

    /// Asks to be told of room, if the queue was empty and no longer is.
    fn watch(&self, was_empty: bool) -> io::Result<()> {
        if was_empty && !self.queue.is_empty() {
            system::control(self.epoll, CHANGE, self.fd, READ | WRITE)?;
        }
        Ok(())
    }

    /// Whether nothing is queued.
    pub(super) fn is_written(&self) -> bool {
        self.queue.is_empty()
    }

    /// Writes what is queued. Returns whether there was room for all.
    pub(super) fn write_on(&mut self, pool: &mut Pool) -> io::Result<bool> {
        if self.queue.is_empty() {
            return Ok(true);
        }
        while !self.queue.is_empty() {
            let pieces = self.queue.iter();
            let pieces = pieces.map(|queued| &queued.bytes[queued.written..]);
            let mut sent = system::send_all(self.fd, pieces)?;
            while let Some(next) = self.queue.front_mut() {
                let n = sent.min(next.bytes.len() - next.written);
                next.written += n;
                sent -= n;
                if next.written < next.bytes.len() {
                    // The socket is full; there will be an event.
                    return Ok(false);
                }
                if let Some(done) = self.queue.pop_front() {
                    pool.put(done.bytes);
                }
                if sent == 0 {
                    break;
                }
            }
        }
        system::control(self.epoll, CHANGE, self.fd, READ)?;
        Ok(true)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        system::close(self.fd);
    }
}
