//! The socket of a listener.

use std::net::SocketAddr;
use std::{fmt, io};

use mio::event::Source;
use mio::net::TcpListener;
#[cfg(unix)]
use mio::net::UnixListener;
use mio::{Interest, Token};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::Selector;
use super::stream::{Stream, canonical};
use super::tuning::{size_buffers, take_over, tune};
#[cfg(unix)]
use super::unix::{self, SocketFile};
use crate::config::{ConnectionOptions, ListenOptions};

/// A listening socket to be [adopted](crate::Net::adopt_listener). Created from a listener of the standard library or
/// of mio, or on Unix from an `OwnedFd`.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListenSocket {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix domain socket.
    #[cfg(unix)]
    Unix(UnixListener),
    /// A listening socket of a [simulated](crate::sim) network.
    #[cfg(feature = "sim")]
    Sim(super::sim::ListenSocket),
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

/// The local address of a listening socket: a network address, or the name of a Unix domain socket, which may have
/// none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Local {
    pub(crate) addr: Option<SocketAddr>,
    #[cfg(unix)]
    pub(crate) path: Option<std::path::PathBuf>,
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(addr) = self.addr {
            return addr.fmt(f);
        }
        // An abstract name begins with a NUL, which `{:?}` escapes.
        #[cfg(unix)]
        if let Some(path) = &self.path {
            return write!(f, "{path:?}");
        }
        f.write_str("a Unix domain socket")
    }
}

/// Whether several sockets listen on one address (`SO_REUSEPORT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// The socket does not share the address.
    Not,
    /// The socket binds an unused address, and lets others join. Same as `Join` if the system cannot distinguish the
    /// two.
    Begin,
    /// The socket shares the address with all others that share it, including those of other processes.
    Join,
}

impl Sharing {
    /// Returns what the options specify.
    pub(crate) fn of(options: &ListenOptions) -> Self {
        if options.reuse_port {
            Self::Join
        } else {
            Self::Not
        }
    }
}

/// When another socket binds the address, Linux checks the current option of the existing sockets, not its value when
/// they were bound.
const BEGINS_ALONE: bool = cfg!(any(target_os = "android", target_os = "linux"));

impl ListenSocket {
    /// Listens on an address.
    pub(crate) fn bind(
        addr: SocketAddr,
        options: &ListenOptions,
        connection: &ConnectionOptions,
        sharing: Sharing,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        // On Windows the option of this name would let a second server take over the address.
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
        size_buffers(&socket, connection)?;
        socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
        Ok(Self::Tcp(TcpListener::from_std(socket.into())))
    }

    /// Listens on a path. Also returns the socket file that this creates.
    #[cfg(unix)]
    pub(crate) fn bind_unix(
        path: &std::path::Path,
        options: &ListenOptions,
    ) -> io::Result<(Self, Option<SocketFile>)> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let file = unix::bind(&socket, path, options)?;
        socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
        Ok((Self::Unix(UnixListener::from_std(socket.into())), file))
    }

    /// Configures the socket as a listener of a loop. Options that the platform does not support for its connections
    /// fail here, not with the first peer.
    pub(crate) fn set_up(&self, options: &ConnectionOptions) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => {
                let socket = SockRef::from(listener);
                check_listening(&socket)?;
                take_over(&socket)?;
                // On most systems accepted sockets inherit it, which saves a call per connection.
                socket.set_tcp_nodelay(true)?;
                tune(&socket, options)
            }
            #[cfg(unix)]
            Self::Unix(listener) => {
                let socket = SockRef::from(listener);
                check_listening(&socket)?;
                take_over(&socket)?;
                size_buffers(&socket, options)
            }
            #[cfg(feature = "sim")]
            Self::Sim(_) => Ok(()),
        }
    }

    /// Returns `true` if `SO_LINGER` is set, which its peers inherit; peers that already wait to be accepted keep it.
    pub(crate) fn lingers(&self) -> bool {
        match self {
            Self::Tcp(listener) => matches!(SockRef::from(listener).linger(), Ok(Some(_))),
            #[cfg(unix)]
            Self::Unix(_) => false,
            #[cfg(feature = "sim")]
            Self::Sim(_) => false,
        }
    }

    /// Returns the local address.
    pub(crate) fn local(&self) -> io::Result<Local> {
        let mut local = Local::default();
        match self {
            Self::Tcp(listener) => local.addr = Some(listener.local_addr()?),
            #[cfg(unix)]
            Self::Unix(listener) => {
                local.path = unix::path(&SockRef::from(listener).local_addr()?);
            }
            #[cfg(feature = "sim")]
            Self::Sim(listener) => local.addr = listener.local_addr(),
        }
        Ok(local)
    }

    /// Accepts a peer. The peer of a Unix domain socket has no address.
    pub(crate) fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((stream.into(), Some(canonical(peer))))
            }
            #[cfg(unix)]
            Self::Unix(listener) => Ok((listener.accept()?.0.into(), None)),
            #[cfg(feature = "sim")]
            Self::Sim(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((Stream::Sim(stream), Some(peer)))
            }
        }
    }

    pub(crate) fn register(&mut self, selector: &Selector, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE;
        match self {
            Self::Tcp(listener) => listener.register(selector.of_system()?, token, interest),
            #[cfg(unix)]
            Self::Unix(listener) => listener.register(selector.of_system()?, token, interest),
            #[cfg(feature = "sim")]
            Self::Sim(listener) => {
                listener.register(token);
                Ok(())
            }
        }
    }

    pub(crate) fn deregister(&mut self, selector: &Selector) {
        let _ = match self {
            Self::Tcp(listener) => listener.deregister(selector),
            #[cfg(unix)]
            Self::Unix(listener) => listener.deregister(selector),
            #[cfg(feature = "sim")]
            Self::Sim(listener) => {
                listener.deregister();
                Ok(())
            }
        };
    }
}

/// Checks that the socket listens: accepting on a socket that is only bound would fail again and again.
#[cfg(any(target_os = "android", target_os = "freebsd", target_os = "linux"))]
pub(super) fn check_listening(socket: &Socket) -> io::Result<()> {
    if socket.is_listener()? {
        return Ok(());
    }
    let message = "expected a listening socket, got one that does not listen";
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
