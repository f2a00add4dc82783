//! Conversion of bare descriptors to sockets: from a parent process, from the system, or from a program in another
//! language.

use std::io;
use std::os::fd::OwnedFd;

use socket2::{SockRef, Type};

use super::listening::{ListenSocket, check_listening};
use super::stream::Stream;
use crate::error::Rejected;

/// The protocol family of a stream socket.
enum Family {
    Tcp,
    Unix,
}

fn family(socket: &SockRef<'_>) -> io::Result<Family> {
    let invalid = |message| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    let kind = socket.r#type().map_err(|error| {
        let message = format!("expected a socket, got another descriptor: {error}");
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })?;
    if kind != Type::STREAM {
        return invalid("expected a stream socket, got one of another type");
    }
    let addr = socket.local_addr()?;
    match addr.is_unix() {
        false if addr.is_ipv4() || addr.is_ipv6() => Ok(Family::Tcp),
        // Some systems return no address for an unnamed Unix domain socket.
        is_unix if is_unix || addr.len() == 0 => Ok(Family::Unix),
        _ => invalid("expected a TCP or Unix domain socket, got one of another family"),
    }
}

/// Determines whether the descriptor is a TCP or a Unix domain socket.
///
/// ```
/// use std::os::fd::OwnedFd;
/// use throng::{Config, EventLoop, ListenOptions, ListenSocket};
///
/// // For example, as passed by systemd.
/// let fd: OwnedFd = std::net::TcpListener::bind("127.0.0.1:0")?.into();
/// let mut event_loop: EventLoop = EventLoop::new(Config::default())?;
/// event_loop.net().adopt_listener(ListenSocket::try_from(fd)?, ListenOptions::default())?;
/// # Ok::<(), std::io::Error>(())
/// ```
impl TryFrom<OwnedFd> for ListenSocket {
    type Error = Rejected<OwnedFd, io::Error>;

    /// # Errors
    /// Returns `InvalidInput` if the descriptor is not a stream socket of TCP or the Unix domain, or is not listening
    /// (on platforms that can tell: Android, FreeBSD, Linux). The descriptor is given back.
    fn try_from(fd: OwnedFd) -> Result<Self, Self::Error> {
        let socket = SockRef::from(&fd);
        let checked = family(&socket).and_then(|family| check_listening(&socket).map(|()| family));
        match checked {
            Ok(Family::Tcp) => Ok(std::net::TcpListener::from(fd).into()),
            Ok(Family::Unix) => Ok(std::os::unix::net::UnixListener::from(fd).into()),
            Err(error) => Err(Rejected::new(error, fd)),
        }
    }
}

/// Determines whether the descriptor is a TCP or a Unix domain socket. [`adopt`](crate::Net::adopt) checks whether it
/// is connected.
impl TryFrom<OwnedFd> for Stream {
    type Error = Rejected<OwnedFd, io::Error>;

    /// # Errors
    /// Returns `InvalidInput` if the descriptor is not a stream socket of TCP or the Unix domain. The descriptor is
    /// given back.
    fn try_from(fd: OwnedFd) -> Result<Self, Self::Error> {
        match family(&SockRef::from(&fd)) {
            Ok(Family::Tcp) => Ok(std::net::TcpStream::from(fd).into()),
            Ok(Family::Unix) => Ok(std::os::unix::net::UnixStream::from(fd).into()),
            Err(error) => Err(Rejected::new(error, fd)),
        }
    }
}
