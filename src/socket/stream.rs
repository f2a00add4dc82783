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
use mio::{Interest, Token};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::Selector;
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
    /// A stream of a [simulated](crate::sim) network.
    #[cfg(feature = "sim")]
    Sim(super::sim::Stream),
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

/// Evaluates the same expression for either stream, and another one for a simulated stream.
macro_rules! with_stream {
    ($self:expr, $stream:ident => $do:expr, sim => $sim:expr) => {
        match $self {
            Self::Tcp($stream) => $do,
            #[cfg(unix)]
            Self::Unix($stream) => $do,
            #[cfg(feature = "sim")]
            Self::Sim($stream) => $sim,
        }
    };
}

impl Stream {
    /// Starts to connect, from the local address if there is one; [`is_connected`](Self::is_connected) returns the
    /// result.
    pub(crate) fn connect(
        addr: SocketAddr,
        local: Option<SocketAddr>,
        options: &ConnectionOptions,
    ) -> io::Result<Self> {
        if options.receive_buffer.is_none() && local.is_none() {
            return TcpStream::connect(addr).map(Self::Tcp);
        }
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        size_buffers(&socket, options)?;
        if let Some(local) = local {
            bind(&socket, local, addr)?;
        }
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
            #[cfg(feature = "sim")]
            Self::Sim(_) => Ok(()),
        }
    }

    /// Resets options that another owner may have set.
    pub(crate) fn take_over(&self) -> io::Result<()> {
        with_stream!(self, stream => take_over(&SockRef::from(stream)), sim => {
            let _ = stream;
            Ok(())
        })
    }

    /// Makes close return immediately.
    pub(crate) fn do_not_linger(&self) -> io::Result<()> {
        with_stream!(self, stream => SockRef::from(stream).set_linger(None), sim => {
            let _ = stream;
            Ok(())
        })
    }

    /// Returns `true` if TCP_NODELAY is set or not needed.
    pub(crate) fn has_nodelay(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.nodelay().unwrap_or(false),
            #[cfg(unix)]
            Self::Unix(_) => true,
            #[cfg(feature = "sim")]
            Self::Sim(_) => true,
        }
    }

    /// Returns the address of the peer, if it has one.
    pub(crate) fn peer_addr(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().map(|peer| Some(canonical(peer))),
            #[cfg(unix)]
            Self::Unix(stream) => stream.peer_addr().map(|_| None),
            #[cfg(feature = "sim")]
            Self::Sim(stream) => stream.peer_addr().map(Some),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(stream) => stream.local_addr().map(|local| Some(canonical(local))),
            #[cfg(unix)]
            Self::Unix(_) => Ok(None),
            #[cfg(feature = "sim")]
            Self::Sim(stream) => stream.local_addr().map(Some),
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
            #[cfg(feature = "sim")]
            Self::Sim(stream) => stream.short_is_drained(),
        }
    }

    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        with_stream!(self, stream => retry(|| stream.read(buffer)), sim => stream.read(buffer))
    }

    pub(crate) fn read_vectored(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        with_stream!(self, stream => retry(|| stream.read_vectored(slices)), sim => {
            stream.read_vectored(slices)
        })
    }

    #[inline(always)]
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            // The standard library passes the flag here.
            Self::Tcp(stream) => retry(|| stream.write(bytes)),
            #[cfg(unix)]
            Self::Unix(stream) => retry(|| {
                stream.try_io(|| SockRef::from(&*stream).send_with_flags(bytes, NO_SIGNAL))
            }),
            #[cfg(feature = "sim")]
            Self::Sim(stream) => stream.write(bytes),
        }
    }

    pub(crate) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        with_stream!(self, stream => retry(|| {
            stream.try_io(|| SockRef::from(&*stream).send_vectored_with_flags(slices, NO_SIGNAL))
        }), sim => stream.write_vectored(slices))
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
        with_stream!(self, stream => stream.take_error(), sim => stream.take_error())
    }

    /// Returns the socket of the system; a simulated stream has none.
    pub(super) fn as_socket(&self) -> io::Result<SockRef<'_>> {
        with_stream!(self, stream => Ok(SockRef::from(stream)), sim => Err(no_socket(stream)))
    }

    /// Returns the same socket under another descriptor.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        let copy = self.as_socket()?.try_clone()?;
        Ok(match self {
            Self::Tcp(_) => std::net::TcpStream::from(copy).into(),
            #[cfg(unix)]
            Self::Unix(_) => std::os::unix::net::UnixStream::from(copy).into(),
            #[cfg(feature = "sim")]
            Self::Sim(stream) => return Err(no_socket(stream)),
        })
    }

    /// Half-closes the connection.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        with_stream!(self, stream => stream.shutdown(Shutdown::Write), sim => stream.shutdown_write())
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
            #[cfg(feature = "sim")]
            Self::Sim(stream) => stream.reset_on_close(),
        }
    }

    pub(crate) fn register(
        &mut self,
        selector: &Selector,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        with_stream!(self, stream => stream.register(selector.of_system()?, token, interest), sim => {
            stream.register(selector, token, interest)
        })
    }

    pub(crate) fn reregister(
        &mut self,
        selector: &Selector,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        with_stream!(self, stream => stream.reregister(selector, token, interest), sim => {
            stream.register(selector, token, interest)
        })
    }

    pub(crate) fn deregister(&mut self, selector: &Selector) {
        with_stream!(self, stream => {
            let _ = stream.deregister(selector);
        }, sim => stream.deregister())
    }
}

#[cfg(feature = "sim")]
fn no_socket(_: &super::sim::Stream) -> io::Error {
    io::ErrorKind::Unsupported.into()
}

/// Binds a socket to the address from which it connects to `peer`.
fn bind(socket: &Socket, local: SocketAddr, peer: SocketAddr) -> io::Result<()> {
    if local.is_ipv4() != peer.is_ipv4() {
        let message = format!("the source address {local} is of another family");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    // A port that was chosen may have been used a moment ago. On Windows the option would let two sockets share it.
    if cfg!(unix) && local.port() != 0 {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&local.into())
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
