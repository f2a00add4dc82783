//! `ConnectionRef`: what is known of one connection.

use std::fmt;
use std::net::SocketAddr;

use super::Net;
use crate::connection::Origin;
use crate::connection_id::ConnectionId;
use crate::link::Link;

/// What is known of a connection, as [`Net::connection`] returns it. It changes nothing.
///
/// ```
/// use throng::{ConnectionId, Net};
///
/// /// How far a peer is behind, for an operator to read.
/// fn describe(net: &Net, id: ConnectionId) -> Option<String> {
///     let connection = net.connection(id)?;
///     let peer = connection.peer_addr()?;
///     Some(format!("{id} from {peer}: {} bytes queued", connection.queued_bytes()))
/// }
/// ```
#[derive(Clone, Copy)]
pub struct ConnectionRef<'n> {
    id: ConnectionId,
    link: &'n Link,
}

impl Net {
    /// What is known of a connection. `None` if it is closed; in [`on_disconnect`](crate::Handler::on_disconnect) it is
    /// still known.
    pub fn connection(&self, id: ConnectionId) -> Option<ConnectionRef<'_>> {
        let link = self.connections.get(id)?;
        Some(ConnectionRef { id, link })
    }
}

impl ConnectionRef<'_> {
    /// Its id.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Whether it is established: from [`on_connect`](crate::Handler::on_connect) until it is disconnected by either side.
    /// As long as it is, sends are accepted, unless a [write has failed](crate::SendError::WriteFailed) or this side was
    /// [half-closed](Net::half_close).
    pub fn is_connected(&self) -> bool {
        self.link.is_open()
    }

    /// The address of the peer. `None` for Unix domain sockets, whose peers have none.
    ///
    /// An IPv4 peer of a dual-stack listener has its IPv4 address.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.link.peer
    }

    /// The local address. `None` for Unix domain sockets, and when the connection has ended. Asks the operating system.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.link.local_addr()
    }

    /// Which listener it came through, or that it is outbound or adopted.
    pub fn origin(&self) -> Origin {
        self.link.origin()
    }

    /// Bytes that were accepted for it and are not written to its socket yet, headers included.
    pub fn queued_bytes(&self) -> u64 {
        self.link.queued_bytes()
    }

    /// Whether it is [paused](Net::pause).
    pub fn is_paused(&self) -> bool {
        self.link.is_paused()
    }

    /// Whether it is under backpressure: more than the [`high_watermark`](crate::Config::high_watermark) was queued, and
    /// [`on_drain`](crate::Handler::on_drain) has not been called since.
    pub fn is_congested(&self) -> bool {
        self.link.is_congested()
    }

    /// Whether the peer has closed its sending side or reset the connection, even if unread bytes come before that.
    ///
    /// Finds a peer that left while its connection was [paused](Net::pause): no callback reports that before the
    /// connection is resumed.
    ///
    /// Asks the operating system, which costs a few system calls and, for the moment, two file descriptors. If there are
    /// none, an end behind unread bytes is not seen. A peer whose machine or network failed has not closed; nor has one whose
    /// end could not be sent yet, because unread bytes fill the receive buffer.
    ///
    /// Returns `false` if the connection is not established or has ended.
    ///
    /// ```
    /// use throng::{ConnectionId, Net};
    ///
    /// /// Players that wait for an opponent, paused.
    /// struct Lobby(Vec<ConnectionId>);
    ///
    /// impl Lobby {
    ///     /// The first that is still there. Those that left are disconnected.
    ///     fn opponent(&mut self, net: &mut Net) -> Option<ConnectionId> {
    ///         while !self.0.is_empty() {
    ///             let player = self.0.remove(0);
    ///             let has_left = net.connection(player).is_none_or(|it| it.peer_has_closed());
    ///             if !has_left && net.resume(player) {
    ///                 return Some(player);
    ///             }
    ///             net.disconnect(player);
    ///         }
    ///         None
    ///     }
    /// }
    /// ```
    pub fn peer_has_closed(&self) -> bool {
        self.link.peer_has_closed()
    }
}

impl fmt::Debug for ConnectionRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionRef")
            .field("id", &self.id)
            .field("origin", &self.origin())
            .field("peer_addr", &self.peer_addr())
            .field("is_connected", &self.is_connected())
            .field("queued_bytes", &self.queued_bytes())
            .finish_non_exhaustive()
    }
}
