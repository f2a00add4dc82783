//! The stream under a connection: TCP, or a Unix domain socket. The one place that makes system calls on it.
//!
//! An enum, not a generic parameter: a connection is one type, whatever it runs on.

use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::Duration;

use mio::event::Source;
use mio::net::TcpStream;
#[cfg(unix)]
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::no_signal::NO_SIGNAL;
use super::tuning::{size_buffers, take_over, tune};
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
    pub(crate) fn connect(addr: SocketAddr, options: &ConnectionOptions) -> io::Result<Self> {
        if options.receive_buffer.is_none() {
            return TcpStream::connect(addr).map(Self::Tcp);
        }
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        size_buffers(&socket, options)?;
        match socket.connect_timeout(&addr.into(), Duration::ZERO) {
            // It goes on: this error is not of the system.
            Err(error)
                if error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_none() => {}
            result => result?,
        }
        socket.set_nonblocking(true)?;
        Ok(Self::Tcp(TcpStream::from_std(socket.into())))
    }

    /// Connects to a Unix domain socket.
    #[cfg(unix)]
    pub(crate) fn connect_unix(path: &std::path::Path) -> io::Result<Self> {
        let addr = super::unix::address(path)?;
        if let Some(addr) = addr.as_unix() {
            return UnixStream::connect_addr(&addr).map(Self::Unix);
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&addr)?;
        Ok(Self::Unix(UnixStream::from_std(socket.into())))
    }

    /// Makes the kernel treat it as the loop and the options want it. `has_nodelay`: it has TCP_NODELAY already.
    pub(crate) fn set_up(&self, options: &ConnectionOptions, has_nodelay: bool) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                if !has_nodelay {
                    stream.set_nodelay(true)?;
                }
                tune(&SockRef::from(stream), options)
            }
            #[cfg(unix)]
            Self::Unix(stream) => size_buffers(&SockRef::from(stream), options),
        }
    }

    /// Makes it one of ours: where it comes from is not known.
    pub(crate) fn take_over(&self) -> io::Result<()> {
        with_stream!(self, stream => take_over(&SockRef::from(stream)))
    }

    /// Lets a close return at once.
    pub(crate) fn do_not_linger(&self) -> io::Result<()> {
        with_stream!(self, stream => SockRef::from(stream).set_linger(None))
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

    pub(crate) fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(stream) => stream.local_addr().map(|local| Some(canonical(local))),
            #[cfg(unix)]
            Self::Unix(_) => Ok(None),
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
        match self {
            // The standard library passes the flag here.
            Self::Tcp(stream) => retry(|| stream.write(bytes)),
            #[cfg(unix)]
            Self::Unix(stream) => retry(|| {
                stream.try_io(|| SockRef::from(&*stream).send_with_flags(bytes, NO_SIGNAL))
            }),
        }
    }

    pub(crate) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        with_stream!(self, stream => retry(|| {
            stream.try_io(|| SockRef::from(&*stream).send_vectored_with_flags(slices, NO_SIGNAL))
        }))
    }

    /// Whether an attempt to connect has come to an end: `false` while it goes on.
    ///
    /// The error of the socket comes first: without it a refused attempt could pass for one that goes on. Then only the
    /// address of a peer proves that there is one, unless it is the socket's own: where nobody listens on a port of this
    /// host, the system may choose that port for the socket itself, and lets it connect.
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        if let Some(error) = self.take_error()? {
            return Err(error);
        }
        match self.peer_addr() {
            Ok(peer) if peer.is_some() && peer == self.local_addr()? => {
                // So that the port is free for those who want to listen there.
                self.reset_on_close();
                let message = "nobody listens there, and the socket connected to itself";
                Err(io::Error::new(io::ErrorKind::ConnectionRefused, message))
            }
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The error an event told of, if it is still there.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        with_stream!(self, stream => stream.take_error())
    }

    pub(super) fn as_socket(&self) -> SockRef<'_> {
        with_stream!(self, stream => SockRef::from(stream))
    }

    /// The same socket under another descriptor.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        let copy = self.as_socket().try_clone()?;
        Ok(match self {
            Self::Tcp(_) => std::net::TcpStream::from(copy).into(),
            #[cfg(unix)]
            Self::Unix(_) => std::os::unix::net::UnixStream::from(copy).into(),
        })
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
/// All others stay as they are, with the scope without which a link-local one cannot be connected to.
pub(super) fn canonical(peer: SocketAddr) -> SocketAddr {
    match peer.ip().to_canonical() {
        IpAddr::V4(addr) => SocketAddr::new(addr.into(), peer.port()),
        IpAddr::V6(_) => peer,
    }
}

/// A signal is no reason to stop.
#[inline]
pub(super) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
