//! From the queue to the socket.

use std::io::{self, IoSlice};

use super::common::recycle;
use super::{Common, Connection, Io, Pressure, WriteHalf};
use crate::reason::DisconnectCause;
use crate::socket::Readiness;
use crate::write_queue::{Next, SourceError, WriteQueue};

/// The number of slices per vectored write. Linux allows 1024; beyond a few dozen it makes no difference.
const MAX_SLICES: usize = 64;

/// The minimum that a write takes from the budget, in bytes.
const MIN_SPENT: usize = 1024;

/// How a flush ended.
#[derive(Debug)]
pub(crate) enum Flush {
    /// The queue is empty.
    Done,
    /// The stream takes no more bytes until it is writable again.
    Blocked,
    /// The next bytes do not exist yet: a chunk of the open frame, or data from a reader.
    Waiting,
    /// The budget is used up.
    Budget,
    Failed(Box<Failure>),
}

/// Why a flush failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The write failed: the socket takes no more bytes.
    Write(io::Error),
    /// The queue cannot be completed, or the selector failed: the connection has to end.
    Connection(DisconnectCause),
}

impl Flush {
    #[cold]
    pub(crate) fn failed(cause: DisconnectCause) -> Self {
        Self::Failed(Box::new(Failure::Connection(cause)))
    }

    #[cold]
    fn not_written(error: io::Error) -> Self {
        Self::Failed(Box::new(Failure::Write(error)))
    }
}

impl Connection {
    /// Writes the queue, up to a budget in bytes. The interest may have changed afterwards.
    #[inline]
    pub(crate) fn flush(
        &mut self,
        stream: &mut impl Io,
        budget: usize,
        common: &mut Common,
    ) -> Flush {
        if !self.may_write() {
            return Flush::Blocked;
        }
        if !self.fanout.is_empty() {
            return match self.write_fanout(stream, common) {
                None => Flush::Done,
                Some(result) => self.replies_left(stream.short_is_drained(), result, common),
            };
        }
        let outcome = self.write_out(stream, budget, common);
        if matches!(outcome, Flush::Done) {
            self.release_queue(common);
            if self.write_half == WriteHalf::Ready && self.pressure == Pressure::NONE {
                // The usual case: there was room, and there still is.
                return outcome;
            }
        }
        self.settle(&outcome, common);
        outcome
    }

    /// Writes replies of a connection that has no queue. `None` if all were written; otherwise they have to be
    /// [queued](Self::set_queue), and [`replies_left`](Self::replies_left) continues with the result.
    #[inline(always)]
    pub(crate) fn write_replies(
        &mut self,
        stream: &mut impl Io,
        wire: &[u8],
        common: &mut Common,
    ) -> Option<io::Result<usize>> {
        if wire.is_empty() {
            return None;
        }
        self.note_replies(wire.len(), stream.write(wire), common)
    }

    /// The same for replies in several parts, of `len` bytes in all.
    pub(crate) fn write_parts(
        &mut self,
        stream: &mut impl Io,
        parts: &[IoSlice<'_>],
        len: usize,
        common: &mut Common,
    ) -> Option<io::Result<usize>> {
        let result = match parts {
            [] => return None,
            [whole] => stream.write(whole),
            parts => stream.write_vectored(parts),
        };
        self.note_replies(len, result, common)
    }

    #[inline(always)]
    fn note_replies(
        &mut self,
        asked: usize,
        result: io::Result<usize>,
        common: &mut Common,
    ) -> Option<io::Result<usize>> {
        common.written.calls += 1;
        match result {
            Ok(written) if written == asked => {
                common.written.bytes += written as u64;
                common.memory.sub(written);
                self.active_at = common.now;
                None
            }
            result => Some(result),
        }
    }

    /// Continues after a write that has not taken all replies, which are queued now.
    #[cold]
    #[inline(never)]
    pub(crate) fn replies_left(
        &mut self,
        short_is_drained: bool,
        result: io::Result<usize>,
        common: &mut Common,
    ) -> Flush {
        let written = match result {
            Ok(0) => return Flush::not_written(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Flush::not_written(error),
        };
        if let Some(queue) = &mut self.queue {
            let Common {
                memory, buffers, ..
            } = common;
            let frames = queue.frames_in_front();
            queue.advance(written, |payload| recycle(payload, memory, buffers));
            queue.progress_at = common.now;
            common.written.frames += frames - queue.frames_in_front();
            common.written.bytes += written as u64;
            common.memory.sub(written);
        }
        if written > 0 {
            self.active_at = common.now;
        }
        let outcome = if written > 0 && !short_is_drained {
            // One more write will tell.
            Flush::Budget
        } else {
            Flush::Blocked
        };
        self.settle(&outcome, common);
        outcome
    }

    /// Updates the state after a write that did not take everything, or that ended backpressure.
    #[inline(never)]
    fn settle(&mut self, outcome: &Flush, common: &mut Common) {
        if self.pressure != Pressure::NONE {
            self.relieve(common.now);
        }
        match outcome {
            Flush::Done | Flush::Waiting => self.note_written(WriteHalf::Ready),
            Flush::Blocked => {
                if let Some(queue) = &mut self.queue
                    && self.write_half == WriteHalf::Ready
                {
                    queue.progress_at = common.now;
                }
                self.note_written(match mutated!("room not waited for") {
                    true => WriteHalf::Ready,
                    false => WriteHalf::Blocked,
                });
            }
            // These say nothing about the stream, or the stream is no longer usable.
            Flush::Budget | Flush::Failed(_) => {}
        }
    }

    fn note_written(&mut self, write_half: WriteHalf) {
        self.write_half = write_half;
        self.readiness.remove(Readiness::WRITABLE);
    }

    #[inline]
    fn write_out(&mut self, stream: &mut impl Io, budget: usize, common: &mut Common) -> Flush {
        let Common {
            buffers,
            memory,
            written,
            now,
            ..
        } = common;
        let Some(queue) = &mut self.queue else {
            return Flush::Done;
        };
        let frames = queue.frames_in_front();
        let (mut bytes, mut spent) = (0, 0);
        let outcome = loop {
            let (asked, result) = match queue.next() {
                Next::Write(slice) => {
                    let slice = &slice[..slice.len().min(budget - spent)];
                    (slice.len(), stream.write(slice))
                }
                Next::WriteVectored => write_vectored(queue, stream, budget - spent),
                Next::Pull => match queue.pull() {
                    Ok(n) => {
                        memory.add(n);
                        continue;
                    }
                    Err(error) => break Flush::failed(error.into()),
                },
                Next::Wait => break Flush::Waiting,
                Next::Nothing => break Flush::Done,
            };
            written.calls += 1;
            match result {
                Ok(0) => break Flush::not_written(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    let copied = queue.advance(n, |payload| recycle(payload, memory, buffers));
                    memory.sub(copied);
                    bytes += n;
                    if queue.is_empty() {
                        break Flush::Done;
                    }
                    queue.progress_at = *now;
                    if n < asked && stream.short_is_drained() {
                        break Flush::Blocked;
                    }
                    // A reader that returns one byte at a time must not keep the loop busy.
                    spent += n.max(MIN_SPENT);
                    if spent >= budget {
                        break Flush::Budget;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Flush::Blocked,
                Err(error) => break Flush::not_written(error),
            }
        };
        if bytes > 0 {
            self.active_at = *now;
        }
        written.bytes += bytes as u64;
        written.frames += frames - queue.frames_in_front();
        outcome
    }
}

impl From<SourceError> for DisconnectCause {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Ended { missing } => Self::ReaderEnded { missing },
            SourceError::TooLong => Self::ReaderTooLong,
            SourceError::Unfit(error) => {
                Self::ReaderFailed(io::Error::new(io::ErrorKind::InvalidData, error))
            }
            SourceError::Failed(error) => Self::ReaderFailed(error),
        }
    }
}

/// Writes the next bytes, at most `most`.
fn write_vectored(
    queue: &WriteQueue,
    stream: &mut impl Io,
    most: usize,
) -> (usize, io::Result<usize>) {
    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
    let (count, asked) = queue.slices(&mut slices, most);
    (asked, stream.write_vectored(&slices[..count]))
}
