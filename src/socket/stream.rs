//! The stream of a connection: TCP, or a Unix domain socket. The only place that makes system calls on it.
//!
//! An enum instead of a generic parameter, so that all connections have one type.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
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

/// Whether a short read or write means that the socket is drained or full, so that the next byte, or the next room,
/// causes a new event. On these systems this holds for TCP, except for urgent data, at which reads stop short, and
/// which is reported by an event. Elsewhere one more call has to return `WouldBlock`.
const SHORT_IS_DRAINED: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// The stream of a connection, to be [adopted](crate::Net::adopt) or after it was [released](crate::Net::release).
///
/// Created from a stream of the standard library or of mio, or on Unix from an `OwnedFd`. It can be converted back:
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

/// Evaluates the same expression for either stream.
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
    /// Starts to connect; [`is_connected`](Self::is_connected) returns the result.
    pub(crate) fn connect(addr: SocketAddr, options: &ConnectionOptions) -> io::Result<Self> {
        if options.receive_buffer.is_none() {
            return TcpStream::connect(addr).map(Self::Tcp);
        }
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        size_buffers(&socket, options)?;
        match socket.connect_timeout(&addr.into(), Duration::ZERO) {
            // Connecting continues: this error does not come from the system.
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

    /// Sets the socket options that the loop and the options require. `has_nodelay`: TCP_NODELAY is already set.
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

    /// Resets options that another owner may have set.
    pub(crate) fn take_over(&self) -> io::Result<()> {
        with_stream!(self, stream => take_over(&SockRef::from(stream)))
    }

    /// Makes close return immediately.
    pub(crate) fn do_not_linger(&self) -> io::Result<()> {
        with_stream!(self, stream => SockRef::from(stream).set_linger(None))
    }

    /// Returns `true` if TCP_NODELAY is set or not needed.
    pub(crate) fn has_nodelay(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.nodelay().unwrap_or(false),
            #[cfg(unix)]
            Self::Unix(_) => true,
        }
    }

    /// Returns the address of the peer, if it has one.
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

    /// Returns `true` if one more call after a short one would only return `WouldBlock`.
    #[inline]
    pub(crate) fn short_is_drained(&self) -> bool {
        match self {
            Self::Tcp(_) => SHORT_IS_DRAINED,
            // Ancillary data, such as descriptors, makes reads stop short.
            #[cfg(unix)]
            Self::Unix(_) => false,
        }
    }

    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        with_stream!(self, stream => retry(|| stream.read(buffer)))
    }

    pub(crate) fn read_vectored(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        with_stream!(self, stream => retry(|| stream.read_vectored(slices)))
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

    /// Returns `true` if an attempt to connect has succeeded, `false` while it is in progress.
    ///
    /// The error of the socket is checked first: without it, a refused attempt could look like one in progress. After
    /// that, only a peer address proves that the socket is connected, unless it equals the socket's own address: if no
    /// socket listens on a port of this host, the system may choose that port for the connecting socket, which then
    /// connects to itself.
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        if let Some(error) = self.take_error()? {
            return Err(error);
        }
        match self.peer_addr() {
            Ok(peer) if peer.is_some() && peer == self.local_addr()? => {
                // Frees the port for a server that wants to listen on it.
                self.reset_on_close();
                let message = "no socket listens on the port, and the socket connected to itself";
                Err(io::Error::new(io::ErrorKind::ConnectionRefused, message))
            }
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the error that an event reported, if it is still present.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        with_stream!(self, stream => stream.take_error())
    }

    pub(super) fn as_socket(&self) -> SockRef<'_> {
        with_stream!(self, stream => SockRef::from(stream))
    }

    /// Returns the same socket under another descriptor.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        let copy = self.as_socket().try_clone()?;
        Ok(match self {
            Self::Tcp(_) => std::net::TcpStream::from(copy).into(),
            #[cfg(unix)]
            Self::Unix(_) => std::os::unix::net::UnixStream::from(copy).into(),
        })
    }

    /// Half-closes the connection.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        with_stream!(self, stream => stream.shutdown(Shutdown::Write))
    }

    /// Makes the following close a reset: unsent data is discarded, and the peer is notified. Unix domain sockets have
    /// no such option.
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

/// Returns the canonical form of a peer address: an IPv4 peer of a dual-stack socket has its IPv4 address. Other
/// addresses are unchanged, including the scope, without which a link-local address cannot be connected to.
pub(super) fn canonical(peer: SocketAddr) -> SocketAddr {
    match peer.ip().to_canonical() {
        IpAddr::V4(addr) => SocketAddr::new(addr.into(), peer.port()),
        IpAddr::V6(_) => peer,
    }
}

/// Retries a call that was interrupted by a signal.
#[inline]
pub(super) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
