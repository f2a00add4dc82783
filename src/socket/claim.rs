//! Ensures at most one `Reactor` per registry: two would receive each other's events, because they use the same tokens.
//!
//! A registry cannot be asked who uses it, and it can be cloned. But epoll refuses a descriptor that is already
//! registered. So the process has one socket that is never read from or written to, and a `Reactor` keeps it registered
//! as long as it lives. Other selectors do not refuse a second registration, so there the mistake is not detected.

use std::io;

use mio::Registry;

/// Registers the presence of a `Reactor`. Fails only if another one is registered.
pub(crate) fn claim(registry: &Registry) -> io::Result<()> {
    match selector::register(registry) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let message =
                "expected a registry without a Reactor, got one that has a Reactor attached";
            Err(io::Error::new(io::ErrorKind::AlreadyExists, message))
        }
        _ => Ok(()),
    }
}

/// Allows another `Reactor` to be attached.
pub(crate) fn give_up(registry: &Registry) {
    let _ = selector::deregister(registry);
}

#[cfg(any(target_os = "android", target_os = "illumos", target_os = "linux"))]
mod selector {
    use std::io;
    use std::os::fd::AsRawFd;
    use std::sync::OnceLock;

    use mio::event::Source;
    use mio::unix::SourceFd;
    use mio::{Interest, Registry};
    use socket2::{Domain, Socket, Type};

    use crate::connection_id::WAKER;

    /// Returns a socket that has no name and no peer, so that it never has an event.
    fn presence() -> io::Result<&'static Socket> {
        static PRESENCE: OnceLock<Socket> = OnceLock::new();
        if let Some(socket) = PRESENCE.get() {
            return Ok(socket);
        }
        let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
        Ok(PRESENCE.get_or_init(|| socket))
    }

    pub(super) fn register(registry: &Registry) -> io::Result<()> {
        let fd = presence()?.as_raw_fd();
        SourceFd(&fd).register(registry, WAKER, Interest::READABLE)
    }

    pub(super) fn deregister(registry: &Registry) -> io::Result<()> {
        let fd = presence()?.as_raw_fd();
        SourceFd(&fd).deregister(registry)
    }
}

#[cfg(not(any(target_os = "android", target_os = "illumos", target_os = "linux")))]
mod selector {
    use std::io;

    use mio::Registry;

    pub(super) fn register(_: &Registry) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn deregister(_: &Registry) -> io::Result<()> {
        Ok(())
    }
}
