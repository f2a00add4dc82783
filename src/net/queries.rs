//! Questions about connections and listeners. Nothing here changes anything.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Net, Stats};
use crate::connection_id::{ConnectionId, ListenerId};
use crate::socket::Local;

impl Net {
    /// Whether the connection is established: from [`on_connect`](crate::Handler::on_connect) until it is disconnected by
    /// either side. As long as it is, sends are accepted, unless a [write has failed](crate::SendError::WriteFailed) or this side was
    /// [half-closed](Self::half_close).
    pub fn is_connected(&self, id: ConnectionId) -> bool {
        self.connections
            .get(id)
            .is_some_and(|connection| connection.is_open())
    }

    /// Bytes that all connections together hold, as [`memory_budget`](crate::Config::memory_budget) counts them.
    pub fn memory_in_use(&self) -> u64 {
        self.common.memory.used()
    }

    /// The address a listener has: tells the port where port 0 was asked for. `None` for Unix domain sockets.
    pub fn local_addr(&self, id: ListenerId) -> Option<SocketAddr> {
        self.listeners.get(id)?.local.addr
    }

    /// The path of a listener on a Unix domain socket, as it was given; an abstract name begins with a NUL byte. `None` for
    /// TCP, and for sockets without a name.
    #[cfg(unix)]
    pub fn local_path(&self, id: ListenerId) -> Option<&std::path::Path> {
        self.listeners.get(id)?.local.path.as_deref()
    }

    /// Where a listener listens.
    pub(crate) fn local(&self, id: ListenerId) -> Local {
        let listener = self.listeners.get(id);
        listener
            .map(|listener| listener.local.clone())
            .unwrap_or_default()
    }

    /// The ids of all established connections, as of now, in order of their index.
    ///
    /// The snapshot is owned, so that the loop over it may do anything to any of them.
    pub fn connections(&self) -> Vec<ConnectionId> {
        let open = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.is_open());
        open.map(|(id, _)| id).collect()
    }

    /// How many connections are established: those [`connections`](Self::connections) lists.
    pub fn len(&self) -> usize {
        self.open
    }

    /// Whether no connection is established.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the loop has done so far.
    pub fn stats(&self) -> Stats {
        Stats {
            frames_sent: self.common.written.frames,
            frames_replaced: self.common.written.replaced,
            bytes_sent: self.common.written.bytes,
            writes: self.common.written.calls,
            ..self.stats
        }
    }

    /// The time of this turn: the clock is read once, after the poll.
    pub fn now(&self) -> Instant {
        self.now
    }
}
