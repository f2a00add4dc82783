//! The socket under a listener.

use std::io;
use std::net::SocketAddr;

use mio::event::Source;
use mio::net::TcpListener;
#[cfg(unix)]
use mio::net::UnixListener;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::stream::{Stream, canonical};
use super::tuning::tune;
use crate::config::{ConnectionOptions, ListenOptions};

/// A socket that listens, as it is [adopted](crate::Net::adopt_listener): made of a listener of the standard library or of
/// mio, or on Unix of an `OwnedFd`.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListenSocket {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix domain socket.
    #[cfg(unix)]
    Unix(UnixListener),
}

impl From<TcpListener> for ListenSocket {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<std::net::TcpListener> for ListenSocket {
    fn from(listener: std::net::TcpListener) -> Self {
        Self::Tcp(TcpListener::from_std(listener))
    }
}

#[cfg(unix)]
impl From<UnixListener> for ListenSocket {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

#[cfg(unix)]
impl From<std::os::unix::net::UnixListener> for ListenSocket {
    fn from(listener: std::os::unix::net::UnixListener) -> Self {
        Self::Unix(UnixListener::from_std(listener))
    }
}

/// Whether several sockets listen on one address (`SO_REUSEPORT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// One alone.
    Not,
    /// It takes an address that nobody has, and lets others join. Where the system cannot tell them apart, as `Join`.
    Begin,
    /// With all who share it, also those of other processes.
    Join,
}

impl Sharing {
    /// As the options have it.
    pub(crate) fn of(options: &ListenOptions) -> Self {
        if options.reuse_port {
            Self::Join
        } else {
            Self::Not
        }
    }
}

/// Linux looks at the option of those who have an address when another one wants it, not at what it was when they took it.
const BEGINS_ALONE: bool = cfg!(any(target_os = "android", target_os = "linux"));

impl ListenSocket {
    /// Listens on an address.
    pub(crate) fn bind(
        addr: SocketAddr,
        options: &ListenOptions,
        sharing: Sharing,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        // On Windows the option of this name would let a second server steal the address.
        if cfg!(unix) {
            socket.set_reuse_address(true)?;
        }
        if addr.is_ipv6() {
            socket.set_only_v6(options.only_v6)?;
        }
        let begins_alone = sharing == Sharing::Begin && BEGINS_ALONE;
        if sharing != Sharing::Not && !begins_alone {
            set_reuse_port(&socket)?;
        }
        socket.bind(&addr.into())?;
        if begins_alone {
            set_reuse_port(&socket)?;
        }
        socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
        Ok(Self::Tcp(TcpListener::from_std(socket.into())))
    }

    /// Listens on a path.
    #[cfg(unix)]
    pub(crate) fn bind_unix(path: &std::path::Path, options: &ListenOptions) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&socket2::SockAddr::unix(path)?)?;
        socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
        Ok(Self::Unix(UnixListener::from_std(socket.into())))
    }

    /// Makes it as a listener of a loop has to be. What the platform cannot do for its connections is found here, not with
    /// the first peer.
    pub(crate) fn set_up(&self, options: &ConnectionOptions) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => {
                let socket = SockRef::from(listener);
                check_listening(&socket)?;
                socket.set_nonblocking(true)?;
                // Most systems let accepted sockets inherit it, which saves a call for each.
                socket.set_tcp_nodelay(true)?;
                tune(socket, options)
            }
            #[cfg(unix)]
            Self::Unix(listener) => {
                let socket = SockRef::from(listener);
                check_listening(&socket)?;
                socket.set_nonblocking(true)
            }
        }
    }

    /// The address, if it is one of the network.
    pub(crate) fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Some),
            #[cfg(unix)]
            Self::Unix(_) => Ok(None),
        }
    }

    /// Accepts a peer. One of a Unix domain socket has no address.
    pub(crate) fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((stream.into(), Some(canonical(peer))))
            }
            #[cfg(unix)]
            Self::Unix(listener) => Ok((listener.accept()?.0.into(), None)),
        }
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.register(registry, token, Interest::READABLE),
            #[cfg(unix)]
            Self::Unix(listener) => listener.register(registry, token, Interest::READABLE),
        }
    }

    pub(crate) fn deregister(&mut self, registry: &Registry) {
        let _ = match self {
            Self::Tcp(listener) => listener.deregister(registry),
            #[cfg(unix)]
            Self::Unix(listener) => listener.deregister(registry),
        };
    }
}

/// A socket that was bound only would be tried again and again.
#[cfg(any(target_os = "android", target_os = "freebsd", target_os = "linux"))]
pub(super) fn check_listening(socket: &Socket) -> io::Result<()> {
    if socket.is_listener()? {
        return Ok(());
    }
    let message = "expected a socket that listens, got one that does not";
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

#[cfg(not(any(target_os = "android", target_os = "freebsd", target_os = "linux")))]
pub(super) fn check_listening(_: &Socket) -> io::Result<()> {
    Ok(())
}

#[cfg(all(
    unix,
    not(any(target_os = "solaris", target_os = "illumos", target_os = "cygwin"))
))]
fn set_reuse_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(not(all(
    unix,
    not(any(target_os = "solaris", target_os = "illumos", target_os = "cygwin"))
)))]
fn set_reuse_port(_: &Socket) -> io::Result<()> {
    let message = "this platform has no SO_REUSEPORT";
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}
