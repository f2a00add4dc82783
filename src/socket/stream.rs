//! The stream under a connection: TCP, or a Unix domain socket. The one place that makes system calls on it.
//!
//! An enum, not a generic parameter: a connection is one type, whatever it runs on.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::event::Source;
use mio::net::TcpStream;
#[cfg(unix)]
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use super::tuning::tune;
use crate::config::ConnectionOptions;

/// Whether a read or write that does less than it was asked for has emptied or filled the socket, so that the next byte,
/// or the next room, makes a new event. So it is with TCP, but for urgent data, at which reads stop short: it can be
/// relied on where an event tells of that. Elsewhere one more call has to see WouldBlock.
const SHORT_IS_DRAINED: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// The stream under a connection, as it is [adopted](crate::Net::adopt) and [released](crate::Net::release).
///
/// It is made of a stream of the standard library or of mio, or on Unix of an `OwnedFd`, and can be taken apart again:
///
/// ```
/// # fn example(stream: throng::Stream) -> std::io::Result<()> {
/// match stream {
///     throng::Stream::Tcp(stream) => {
///         let stream = std::net::TcpStream::from(stream);
///         stream.set_nonblocking(false)?;
///     }
///     _ => println!("not TCP"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix domain socket.
    #[cfg(unix)]
    Unix(UnixStream),
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<std::net::TcpStream> for Stream {
    fn from(stream: std::net::TcpStream) -> Self {
        Self::Tcp(TcpStream::from_std(stream))
    }
}

#[cfg(unix)]
impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

#[cfg(unix)]
impl From<std::os::unix::net::UnixStream> for Stream {
    fn from(stream: std::os::unix::net::UnixStream) -> Self {
        Self::Unix(UnixStream::from_std(stream))
    }
}

/// Does the same with either stream.
macro_rules! with_stream {
    ($self:expr, $stream:ident => $do:expr) => {
        match $self {
            Self::Tcp($stream) => $do,
            #[cfg(unix)]
            Self::Unix($stream) => $do,
        }
    };
}

impl Stream {
    /// Starts to connect; [`is_connected`](Self::is_connected) tells how it went.
    pub(crate) fn connect(addr: SocketAddr) -> io::Result<Self> {
        TcpStream::connect(addr).map(Self::Tcp)
    }

    /// Connects to a Unix domain socket.
    #[cfg(unix)]
    pub(crate) fn connect_unix(path: &std::path::Path) -> io::Result<Self> {
        UnixStream::connect(path).map(Self::Unix)
    }

    /// Makes the kernel treat it as the loop and the options want it. `has_nodelay`: it has TCP_NODELAY already.
    pub(crate) fn set_up(&self, options: &ConnectionOptions, has_nodelay: bool) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                if !has_nodelay {
                    stream.set_nodelay(true)?;
                }
                tune(SockRef::from(stream), options)
            }
            #[cfg(unix)]
            Self::Unix(_) => Ok(()),
        }
    }

    /// Makes sure that it does not block: where it comes from is not known.
    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        with_stream!(self, stream => SockRef::from(stream).set_nonblocking(true))
    }

    /// Whether it has TCP_NODELAY, or needs none.
    pub(crate) fn has_nodelay(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.nodelay().unwrap_or(false),
            #[cfg(unix)]
            Self::Unix(_) => true,
        }
    }

    /// The address of the peer, if it has one.
    pub(crate) fn peer_addr(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().map(|peer| Some(canonical(peer))),
            #[cfg(unix)]
            Self::Unix(stream) => stream.peer_addr().map(|_| None),
        }
    }

    /// Whether one more call after a short one would only see WouldBlock.
    #[inline]
    pub(crate) fn short_is_drained(&self) -> bool {
        match self {
            Self::Tcp(_) => SHORT_IS_DRAINED,
            // What is passed along with bytes, descriptors say, makes reads stop short.
            #[cfg(unix)]
            Self::Unix(_) => false,
        }
    }

    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        with_stream!(self, stream => retry(|| stream.read(buffer)))
    }

    #[inline]
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        with_stream!(self, stream => retry(|| stream.write(bytes)))
    }

    pub(crate) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        with_stream!(self, stream => retry(|| stream.write_vectored(slices)))
    }

    /// Whether an attempt to connect has come to an end: `false` while it goes on.
    ///
    /// The error of the socket comes first: without it a refused attempt could pass for one that goes on. Then only the
    /// address of a peer proves that there is one.
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        if let Some(error) = self.take_error()? {
            return Err(error);
        }
        match self.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The error an event told of, if it is still there.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        with_stream!(self, stream => stream.take_error())
    }

    /// Tells the peer that nothing more will come.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        with_stream!(self, stream => stream.shutdown(Shutdown::Write))
    }

    /// Makes the close that follows a reset: what is unsent is thrown away, and the peer is told so. Unix domain sockets
    /// have no such thing.
    pub(crate) fn reset_on_close(&self) {
        match self {
            Self::Tcp(stream) => {
                let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            }
            #[cfg(unix)]
            Self::Unix(_) => {}
        }
    }

    pub(crate) fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        with_stream!(self, stream => stream.register(registry, token, interest))
    }

    pub(crate) fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        with_stream!(self, stream => stream.reregister(registry, token, interest))
    }

    pub(crate) fn deregister(&mut self, registry: &Registry) {
        with_stream!(self, stream => {
            let _ = stream.deregister(registry);
        })
    }
}

/// The address of a peer, in the one form that there is of it: an IPv4 peer of a dual-stack socket has its IPv4 address.
pub(super) fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
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
