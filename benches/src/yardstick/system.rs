//! The system calls. A call that would block is no error: it moved nothing.

use std::io;
use std::os::fd::RawFd;
use std::ptr;

/// The most buffers that one call writes.
pub(super) const MOST_PIECES: usize = 32;

pub(super) const READ: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET) as u32;
pub(super) const WRITE: u32 = libc::EPOLLOUT as u32;
pub(super) const CLOSED: u32 = libc::EPOLLRDHUP as u32;
pub(super) const LISTEN: u32 = libc::EPOLLIN as u32;

pub(super) use libc::{EPOLL_CTL_ADD as ADD, EPOLL_CTL_MOD as CHANGE, epoll_event as Event};

pub(super) const NO_EVENT: Event = Event { events: 0, u64: 0 };

pub(super) fn selector() -> io::Result<RawFd> {
    // SAFETY: no pointers are passed.
    check(unsafe { libc::epoll_create1(0) })
}

pub(super) fn control(epoll: RawFd, operation: i32, fd: RawFd, events: u32) -> io::Result<()> {
    let mut event = Event {
        events,
        u64: fd as u64,
    };
    // SAFETY: the event lives through the call.
    check(unsafe { libc::epoll_ctl(epoll, operation, fd, &mut event) })?;
    Ok(())
}

/// Returns how many events came within so many milliseconds.
pub(super) fn wait(epoll: RawFd, events: &mut [Event], timeout: i32) -> io::Result<usize> {
    loop {
        let (first, most) = (events.as_mut_ptr(), events.len() as i32);
        // SAFETY: the buffer has room for the number of events that is passed.
        match check(unsafe { libc::epoll_wait(epoll, first, most, timeout) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            count => return count.map(|count| count as usize),
        }
    }
}

pub(super) fn accept(listener: RawFd) -> io::Result<RawFd> {
    let nowhere = ptr::null_mut();
    // SAFETY: null says that the address of the peer is not wanted.
    check(unsafe { libc::accept4(listener, nowhere, ptr::null_mut(), libc::SOCK_NONBLOCK) })
}

pub(super) fn close(fd: RawFd) {
    // SAFETY: the caller owns the descriptor and does not use it again.
    unsafe { libc::close(fd) };
}

/// Returns how many bytes were read, or `None` if there are none. The end of the stream is an error.
pub(super) fn receive(fd: RawFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: the pointer and the length are those of a slice.
    received(unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) })
}

/// Reads up to `rest` bytes behind those of the first buffer, which has as much to spare, and what follows them into the
/// second. Returns how many bytes were read in all, or `None` if there are none.
pub(super) fn receive_two(
    fd: RawFd,
    first: &mut Vec<u8>,
    rest: usize,
    second: &mut [u8],
) -> io::Result<Option<usize>> {
    let spare = first.spare_capacity_mut();
    let rest = rest.min(spare.len());
    let room = [
        libc::iovec {
            iov_base: spare.as_mut_ptr().cast(),
            iov_len: rest,
        },
        libc::iovec {
            iov_base: second.as_mut_ptr().cast(),
            iov_len: second.len(),
        },
    ];
    // SAFETY: the call writes into the capacity to spare, at most `rest` bytes, and into a slice.
    let result = received(unsafe { libc::readv(fd, room.as_ptr(), 2) })?;
    if let Some(n) = result {
        // SAFETY: the call has written so many bytes behind the others.
        unsafe { first.set_len(first.len() + n.min(rest)) };
    }
    Ok(result)
}

fn received(n: isize) -> io::Result<Option<usize>> {
    match usize::try_from(n) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(n) => Ok(Some(n)),
        Err(_) => would_block(None),
    }
}

/// Returns how many bytes were taken; none if there is no room.
pub(super) fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of a slice.
    sent(unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) })
}

/// The same, for several pieces. Of more than [`MOST_PIECES`] the rest is not tried.
pub(super) fn send_all<'p>(fd: RawFd, pieces: impl Iterator<Item = &'p [u8]>) -> io::Result<usize> {
    let mut list = [vector(&[]); MOST_PIECES];
    let pieces = list.iter_mut().zip(pieces);
    let count = pieces.map(|(slot, piece)| *slot = vector(piece)).count();
    // SAFETY: these are the pointers and lengths of slices that live through the call, which only reads them. SIGPIPE is
    // ignored: the standard library does that.
    sent(unsafe { libc::writev(fd, list.as_ptr(), count as i32) })
}

fn sent(n: isize) -> io::Result<usize> {
    match usize::try_from(n) {
        Ok(n) => Ok(n),
        Err(_) => would_block(0),
    }
}

fn vector(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

#[cold]
fn would_block<T>(instead: T) -> io::Result<T> {
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(instead),
        _ => Err(error),
    }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
