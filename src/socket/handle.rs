//! The system's handle of a socket: borrowed, for options that throng does not set; or owned, to pass it on.

#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
#[cfg(windows)]
use std::os::windows::io::{AsSocket, BorrowedSocket, OwnedSocket};

use super::listening::ListenSocket;
use super::stream::Stream;

/// A handler that asks for the handle of a simulated socket cannot be tested with one.
#[cfg(feature = "sim")]
#[cold]
fn no_handle() -> ! {
    panic!("a simulated socket has no handle of the system");
}

/// Implements the borrowed and the owned handle of an enum of sockets.
#[cfg(any(unix, windows))]
macro_rules! handles {
    ($socket:ident, $borrow:ident::$method:ident, $borrowed:ty, $owned:ty) => {
        impl $borrow for $socket {
            fn $method(&self) -> $borrowed {
                match self {
                    Self::Tcp(socket) => socket.$method(),
                    #[cfg(unix)]
                    Self::Unix(socket) => socket.$method(),
                    #[cfg(feature = "sim")]
                    Self::Sim(_) => no_handle(),
                }
            }
        }

        impl From<$socket> for $owned {
            fn from(socket: $socket) -> Self {
                match socket {
                    $socket::Tcp(socket) => socket.into(),
                    #[cfg(unix)]
                    $socket::Unix(socket) => socket.into(),
                    #[cfg(feature = "sim")]
                    $socket::Sim(_) => no_handle(),
                }
            }
        }
    };
}

#[cfg(unix)]
handles!(Stream, AsFd::as_fd, BorrowedFd<'_>, OwnedFd);
#[cfg(unix)]
handles!(ListenSocket, AsFd::as_fd, BorrowedFd<'_>, OwnedFd);
#[cfg(windows)]
handles!(Stream, AsSocket::as_socket, BorrowedSocket<'_>, OwnedSocket);
#[cfg(windows)]
handles!(
    ListenSocket,
    AsSocket::as_socket,
    BorrowedSocket<'_>,
    OwnedSocket
);
