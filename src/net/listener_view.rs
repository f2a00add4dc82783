//! `ListenerRef`: read-only access to one listener.

use std::fmt;
use std::net::SocketAddr;

use super::Net;
use super::listen::Listener;
use crate::connection_id::ListenerId;

/// Read-only access to a listener, returned by [`Net::listener`].
///
/// ```
/// use throng::{Config, EventLoop};
///
/// let mut event_loop: EventLoop = EventLoop::new(Config::default())?;
/// let net = event_loop.net();
/// let id = net.listen("127.0.0.1:0")?;
/// let listener = net.listener(id).expect("it is open");
/// println!("listening on {}", listener.local_addr().expect("a TCP socket has one"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct ListenerRef<'n> {
    id: ListenerId,
    listener: &'n Listener,
}

impl Net {
    /// Returns read-only access to a listener. `None` if it is closed.
    pub fn listener(&self, id: ListenerId) -> Option<ListenerRef<'_>> {
        let listener = self.listeners.get(id)?;
        Some(ListenerRef { id, listener })
    }
}

impl<'n> ListenerRef<'n> {
    /// Returns the id.
    pub fn id(&self) -> ListenerId {
        self.id
    }

    /// Returns the address, with the actual port if port 0 was requested. `None` for Unix domain sockets.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.local.addr
    }

    /// Returns the path of a Unix domain socket, as it was passed; an abstract name begins with a NUL byte. `None` for
    /// TCP, and for sockets without a name.
    #[cfg(unix)]
    pub fn local_path(&self) -> Option<&'n std::path::Path> {
        self.listener.local.path.as_deref()
    }

    /// Returns whether the listener is [paused](Net::pause_listener). Without file descriptors a listener does not
    /// accept either, but is not paused.
    pub fn is_paused(&self) -> bool {
        self.listener.held
    }
}

impl fmt::Debug for ListenerRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerRef")
            .field("id", &self.id)
            .field("local", &self.listener.local)
            .field("is_paused", &self.is_paused())
            .finish_non_exhaustive()
    }
}
