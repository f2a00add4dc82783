//! `ConnectionRef`: read-only access to one connection.

use std::fmt;
use std::net::SocketAddr;

use super::Net;
use crate::connection::Origin;
use crate::connection_id::ConnectionId;
use crate::link::Link;
use crate::socket::Stream;

/// Read-only access to a connection, returned by [`Net::connection`].
///
/// ```
/// use throng::{ConnectionId, Net};
///
/// /// Describes, for an operator, how far a peer is behind.
/// fn describe(net: &Net, id: ConnectionId) -> Option<String> {
///     let connection = net.connection(id)?;
///     let peer = connection.peer_addr()?;
///     Some(format!("{id} from {peer}: {} bytes queued", connection.queued_bytes()))
/// }
/// ```
#[derive(Clone, Copy)]
pub struct ConnectionRef<'n> {
    id: ConnectionId,
    pub(super) link: &'n Link,
    /// The bytes of replies that are not in its queue yet.
    replies: u64,
}

impl Net {
    /// Returns read-only access to a connection. `None` if it is closed; in
    /// [`on_disconnect`](crate::Handler::on_disconnect) it is still available. A connection that is connecting or closing
    /// can be accessed, too: only [`is_connected`](Self::is_connected) returns whether it is established.
    pub fn connection(&self, id: ConnectionId) -> Option<ConnectionRef<'_>> {
        let link = self.connections.get(id)?;
        let replies = self.connections.replies(id);
        Some(ConnectionRef { id, link, replies })
    }
}

impl<'n> ConnectionRef<'n> {
    /// Returns the id.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Returns whether the connection is established: from [`on_connect`](crate::Handler::on_connect) until either side
    /// disconnects it. While it is, sends are accepted, unless a [write has failed](crate::SendError::WriteFailed) or this
    /// side was [half-closed](Net::half_close).
    pub fn is_connected(&self) -> bool {
        self.link.is_open()
    }

    /// Returns the address of the peer. `None` for Unix domain sockets, whose peers have no address, and for clients
    /// whose proxy does not know their address.
    ///
    /// An IPv4 peer of a dual-stack listener has its IPv4 address.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.link.peer()
    }

    /// Returns the address of the proxy that has made the connection for a client, whose address
    /// [`peer_addr`](Self::peer_addr) returns. `None` if the client has connected directly or the proxy uses a Unix domain
    /// socket, and after the connection has ended. Makes a system call.
    #[cfg(feature = "proxy")]
    pub fn proxy_addr(&self) -> Option<SocketAddr> {
        self.link.proxy_addr()
    }

    /// Returns the local address. `None` for Unix domain sockets, and after the connection has ended. Makes a system
    /// call.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.link.local_addr()
    }

    /// Returns the stream, for example to set or query socket options. `None` after the connection has ended.
    ///
    /// On Unix the stream implements `AsFd`, on Windows `AsSocket`, so that crates such as `socket2` can use it. Do not
    /// read from it, write to it or shut it down: the connection would not notice. Do not keep a duplicate of its
    /// descriptor beyond the end of the connection: what its peer sends then would still wake the loop.
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// use throng::{ConnectionId, Net};
    ///
    /// /// Marks the packets of a connection as urgent for routers (DSCP "expedited forwarding").
    /// fn expedite(net: &Net, id: ConnectionId) -> std::io::Result<()> {
    ///     match net.connection(id).and_then(|connection| connection.stream()) {
    ///         Some(stream) => socket2::SockRef::from(stream).set_tos_v4(0xb8),
    ///         None => Ok(()),
    ///     }
    /// }
    /// # }
    /// ```
    pub fn stream(&self) -> Option<&'n Stream> {
        self.link.stream()
    }

    /// Returns the listener that accepted the connection, or that it is outbound or adopted.
    pub fn origin(&self) -> Origin {
        self.link.origin()
    }

    /// Returns the bytes that are queued and not written to the socket yet, headers included.
    pub fn queued_bytes(&self) -> u64 {
        self.link.queued_bytes() + self.replies
    }

    /// Returns whether the connection is [paused](Net::pause).
    pub fn is_paused(&self) -> bool {
        self.link.is_paused()
    }

    /// Returns whether the connection is under backpressure: more than the
    /// [`high_watermark`](crate::Config::high_watermark) was queued, and [`on_drain`](crate::Handler::on_drain) has not
    /// been called since.
    pub fn is_congested(&self) -> bool {
        self.link.is_congested()
    }

    /// Returns whether throng does not read from the connection at the moment because its peer has exceeded
    /// [`max_frames_per_second`](crate::Config::max_frames_per_second) or
    /// [`max_bytes_per_second`](crate::Config::max_bytes_per_second).
    pub fn is_throttled(&self) -> bool {
        self.link.is_throttled()
    }

    /// Returns whether the peer has half-closed or reset the connection, even if unread bytes come before that.
    ///
    /// Use it to detect that the peer of a [paused](Net::pause) connection has closed: no callback reports an EOF
    /// before the connection is resumed.
    ///
    /// Makes a few system calls, and temporarily uses two file descriptors. If none are left, an EOF behind unread
    /// bytes is not detected. A peer whose machine or network failed has not closed. Nor has a peer whose EOF could not
    /// be sent yet because unread bytes fill the receive buffer.
    ///
    /// Returns `false` if the connection is not established or has ended.
    ///
    /// ```
    /// use throng::{ConnectionId, Net};
    ///
    /// /// The paused connections of players who wait for an opponent.
    /// struct Lobby(Vec<ConnectionId>);
    ///
    /// impl Lobby {
    ///     /// Returns the first whose peer has not closed, and disconnects those before it.
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
