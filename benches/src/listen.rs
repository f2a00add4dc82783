//! The listening socket of the servers that are not this crate's, so that all of them start from the same.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;

use crate::problem::Problem;
use crate::{report, values};

const BACKLOG: i32 = 4096;

/// Listens, and says where. The listener is non-blocking.
pub(crate) fn at(addr: &str) -> Result<TcpListener, Problem> {
    let listener = TcpListener::bind(&values::resolve(addr)?[..])
        .and_then(|listener| prepare(&listener).map(|()| listener))
        .map_err(|error| Problem::usage(format!("cannot listen on {addr}: {error}")))?;
    report::say(format_args!("listening on {}", listener.local_addr()?));
    Ok(listener)
}

/// A longer backlog, and TCP_NODELAY, which accepted sockets inherit on Linux.
fn prepare(listener: &TcpListener) -> io::Result<()> {
    let fd = listener.as_raw_fd();
    let on = 1_i32;
    // SAFETY: the pointer is to a variable that lives through the call, and the size is its own.
    let set = unsafe {
        libc::setsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            (&raw const on).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    // SAFETY: no pointers are passed.
    if set < 0 || unsafe { libc::listen(fd, BACKLOG) } < 0 {
        return Err(io::Error::last_os_error());
    }
    listener.set_nonblocking(true)
}
