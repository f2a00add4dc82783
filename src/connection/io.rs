//! What a connection reads from and writes to: a stream of the system, or that of a test.

use std::io::{self, IoSlice};

/// A byte stream that does not block. Each method is one attempt, as a system call is.
pub(crate) trait Io {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Whether a read or write that did less than it was asked for proves that one more would see WouldBlock.
    fn short_is_drained(&self) -> bool;
}
