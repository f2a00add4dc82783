//! From the queue to the socket.

use std::io::{self, IoSlice};

use mio::Token;

use super::{Common, Connection, Pressure, WriteHalf};
use crate::reason::DisconnectCause;
use crate::socket::{Readiness, Stream};
use crate::write_queue::{Next, SourceError, WriteQueue};

/// How many pieces one vectored write takes. Linux allows 1024; beyond a few dozen it makes no difference.
const MAX_SLICES: usize = 64;

/// What a write costs of the budget at least, in bytes.
const MIN_SPENT: usize = 1024;

/// How a flush ended.
#[derive(Debug)]
pub(crate) enum Flush {
    /// The queue is empty.
    Done,
    /// The socket takes no more; WRITABLE interest is registered.
    Blocked,
    /// What comes next is not there yet: the piece of a frame, or what a source reads.
    Waiting,
    /// The budget is used up.
    Budget,
    Failed(Box<Failure>),
}

/// Why a flush failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The socket takes nothing any more.
    Write(io::Error),
    /// What is queued cannot be completed, or the selector failed: the connection cannot go on.
    Connection(DisconnectCause),
}

impl Connection {
    /// Writes what is queued, up to a budget in bytes.
    #[inline]
    pub(crate) fn flush(&mut self, budget: usize, token: Token, common: &mut Common) -> Flush {
        if !self.may_write() {
            return Flush::Blocked;
        }
        let outcome = self.write_out(budget, common);
        if matches!(outcome, Flush::Done) {
            self.release_queue(common);
            if self.write_half == WriteHalf::Ready && self.pressure == Pressure::NONE {
                // The usual case: there was room, and there still is.
                return outcome;
            }
        }
        self.settle(outcome, common, token)
    }

    /// Draws the conclusions of a write that did not take all, or of one that ends a time of backpressure.
    #[inline(never)]
    fn settle(&mut self, outcome: Flush, common: &mut Common, token: Token) -> Flush {
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
                self.note_written(WriteHalf::Blocked);
            }
            // It tells nothing of the socket.
            Flush::Budget => {}
            Flush::Failed(_) => return outcome,
        }
        // Also if backpressure has ended in the middle of a queue: the next flush may find nothing to settle.
        match self.update_interest(&common.registry, token) {
            Ok(()) => outcome,
            Err(error) => failed(DisconnectCause::Network(error)),
        }
    }

    fn note_written(&mut self, write_half: WriteHalf) {
        self.write_half = write_half;
        self.readiness.remove(Readiness::WRITABLE);
    }

    #[inline]
    fn write_out(&mut self, budget: usize, common: &mut Common) -> Flush {
        let Common {
            buffers,
            memory,
            written,
            now,
            ..
        } = common;
        let (Some(socket), Some(queue)) = (&mut self.socket, &mut self.queue) else {
            return Flush::Done;
        };
        let frames = queue.frames_in_front();
        let (mut bytes, mut spent) = (0, 0);
        let outcome = loop {
            let (asked, result) = match queue.next() {
                Next::Write(slice) => {
                    let slice = &slice[..slice.len().min(budget - spent)];
                    (slice.len(), socket.write(slice))
                }
                Next::WriteVectored => write_vectored(queue, socket, budget - spent),
                Next::Pull => match queue.pull() {
                    Ok(n) => {
                        memory.add(n);
                        continue;
                    }
                    Err(error) => break failed(error.into()),
                },
                Next::Wait => break Flush::Waiting,
                Next::Nothing => break Flush::Done,
            };
            written.calls += 1;
            match result {
                Ok(0) => break not_written(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    let copied = queue.advance(n, |payload| {
                        memory.unshare(&payload);
                        buffers.put_shared(payload);
                    });
                    memory.sub(copied);
                    bytes += n;
                    if queue.is_empty() {
                        break Flush::Done;
                    }
                    queue.progress_at = *now;
                    if n < asked && socket.short_is_drained() {
                        break Flush::Blocked;
                    }
                    // A source that gives a byte at a time must not keep the loop busy either.
                    spent += n.max(MIN_SPENT);
                    if spent >= budget {
                        break Flush::Budget;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Flush::Blocked,
                Err(error) => break not_written(error),
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

#[cold]
fn failed(cause: DisconnectCause) -> Flush {
    Flush::Failed(Box::new(Failure::Connection(cause)))
}

#[cold]
fn not_written(error: io::Error) -> Flush {
    Flush::Failed(Box::new(Failure::Write(error)))
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

/// Writes what comes next, not more than `most` bytes.
fn write_vectored(
    queue: &WriteQueue,
    socket: &mut Stream,
    most: usize,
) -> (usize, io::Result<usize>) {
    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
    let (count, asked) = queue.slices(&mut slices, most);
    (asked, socket.write_vectored(&slices[..count]))
}
