//! The stream that a connection reads and writes: that of a socket, or one made by a test.

use std::io::{self, IoSlice, IoSliceMut};

/// A non-blocking byte stream. Each method makes one attempt, like a system call.
pub(crate) trait Io {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    fn read_vectored(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize>;

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Returns whether a short read or write proves that one more would return `WouldBlock`.
    fn short_is_drained(&self) -> bool;
}
