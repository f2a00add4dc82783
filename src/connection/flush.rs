//! From the queue to the socket.

use std::io::{self, IoSlice};

use mio::{Registry, Token};

use super::Connection;
use crate::buffers::Buffers;
use crate::socket::{Readiness, Socket};
use crate::write_queue::WriteQueue;

/// How many pieces one vectored write takes. Linux allows 1024; beyond a few dozen it makes no difference.
const MAX_SLICES: usize = 64;

/// How a flush ended.
#[derive(Debug)]
pub(crate) enum Flush {
    /// The queue is empty.
    Done,
    /// The socket takes no more; WRITABLE interest is registered.
    Blocked,
    /// The budget is used up.
    Budget,
    Failed(io::Error),
}

/// What flushes have done.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) frames: u64,
    pub(crate) calls: u64,
}

impl Connection {
    /// Writes what is queued, up to a budget in bytes.
    #[inline]
    pub(crate) fn flush(
        &mut self,
        budget: usize,
        registry: &Registry,
        token: Token,
        buffers: &mut Buffers,
        written: &mut Written,
    ) -> Flush {
        if !self.may_write() {
            return Flush::Blocked;
        }
        let outcome = self.write_out(budget, buffers, written);
        if self.congested {
            self.relieve();
        }
        match outcome {
            Flush::Done => self.awaits_writable = false,
            Flush::Blocked => self.awaits_writable = true,
            Flush::Budget | Flush::Failed(_) => return outcome,
        }
        self.readiness.remove(Readiness::WRITABLE);
        match self.update_interest(registry, token) {
            Ok(()) => outcome,
            Err(error) => Flush::Failed(error),
        }
    }

    #[inline]
    fn write_out(&mut self, budget: usize, buffers: &mut Buffers, written: &mut Written) -> Flush {
        let (Some(socket), Some(queue)) = (&mut self.socket, &mut self.queue) else {
            return Flush::Done;
        };
        let frames = queue.frames();
        let mut bytes = 0;
        let outcome = loop {
            // A closure that panicked while it wrote its frame leaves an empty queue.
            if queue.is_empty() {
                break Flush::Done;
            }
            let (asked, result) = match queue.single_slice() {
                Some(slice) => (slice.len(), socket.write(slice)),
                None => write_vectored(queue, socket),
            };
            written.calls += 1;
            match result {
                Ok(0) => break Flush::Failed(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    queue.advance(n, |payload| buffers.put_shared(payload));
                    bytes += n;
                    if n < asked && socket.short_is_drained() {
                        break Flush::Blocked;
                    }
                    if bytes >= budget {
                        break Flush::Budget;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Flush::Blocked,
                Err(error) => break Flush::Failed(error),
            }
        };
        written.bytes += bytes as u64;
        written.frames += frames - queue.frames();
        if let Flush::Done = outcome {
            self.release_queue(buffers);
        }
        outcome
    }
}

fn write_vectored(queue: &WriteQueue, socket: &mut Socket) -> (usize, io::Result<usize>) {
    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
    let count = queue.slices(&mut slices);
    let slices = &slices[..count];
    let asked = slices.iter().map(|slice| slice.len()).sum();
    (asked, socket.write_vectored(slices))
}
