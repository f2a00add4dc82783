//! The stream under a connection. The one place below the listeners that makes system calls.
//!
//! An enum, not a generic parameter: a connection is one type, whatever it runs on.

mod readiness;
mod tuning;

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use crate::config::ConnectionOptions;

pub use readiness::Readiness;
pub(crate) use tuning::tune;

/// Whether a read or write that does less than it was asked for has emptied or filled the socket, so that the next byte,
/// or the next room, makes a new event. So it is with TCP, but for urgent data, at which reads stop short: it can be
/// relied on where an event tells of that. Elsewhere one more call has to see WouldBlock.
const SHORT_IS_DRAINED: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// What is asked of the selector while nothing waits to be written.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) const READ_INTEREST: Interest = Interest::READABLE.add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) const READ_INTEREST: Interest = Interest::READABLE;

/// What is asked of the selector while a connection is neither read nor waits to be written: something that hardly ever
/// happens, since nothing at all cannot be asked for. Errors are told of all the same.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) const NO_INTEREST: Interest = Interest::PRIORITY;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) const NO_INTEREST: Interest = Interest::WRITABLE;

#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
}

impl Socket {
    /// Whether one more call after a short one would only see WouldBlock.
    pub(crate) fn short_is_drained(&self) -> bool {
        match self {
            Self::Tcp(_) => SHORT_IS_DRAINED,
        }
    }

    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => retry(|| stream.read(buffer)),
        }
    }

    #[inline]
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => retry(|| stream.write(bytes)),
        }
    }

    pub(crate) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => retry(|| stream.write_vectored(slices)),
        }
    }

    /// Whether an attempt to connect has come to an end: `false` while it goes on.
    ///
    /// The error of the socket comes first: without it a refused attempt could pass for one that goes on. Then only the
    /// address of a peer proves that there is one.
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        match self {
            Self::Tcp(stream) => {
                if let Some(error) = stream.take_error()? {
                    return Err(error);
                }
                match stream.peer_addr() {
                    Ok(_) => Ok(true),
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// The error an event told of, if it is still there.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Self::Tcp(stream) => stream.take_error(),
        }
    }

    /// Tells the peer that nothing more will come.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    /// Makes the close that follows a reset: what is unsent is thrown away, and the peer is told so.
    pub(crate) fn reset_on_close(&self) {
        match self {
            Self::Tcp(stream) => {
                let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            }
        }
    }

    pub(crate) fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.register(registry, token, interest),
        }
    }

    pub(crate) fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.reregister(registry, token, interest),
        }
    }

    pub(crate) fn deregister(&mut self, registry: &Registry) {
        match self {
            Self::Tcp(stream) => {
                let _ = stream.deregister(registry);
            }
        }
    }
}

/// Starts to connect; [`Socket::is_connected`] tells how it went.
pub(crate) fn connect(addr: SocketAddr, options: &ConnectionOptions) -> io::Result<Socket> {
    let stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    tune(SockRef::from(&stream), options)?;
    Ok(Socket::Tcp(stream))
}

/// A signal is no reason to stop.
#[inline]
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
