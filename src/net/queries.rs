//! Queries about the loop, its connections and its listeners.

use std::net::SocketAddr;
use std::time::Instant;

use super::Net;
use crate::connection_id::{ConnectionId, ListenerId};
use crate::socket::Local;
use crate::stats::{ConnectionsByStage, Stats};

impl Net {
    /// Returns whether the connection is established: from [`on_connect`](crate::Handler::on_connect) until either side
    /// disconnects it. While it is, sends are accepted, unless a [write has failed](crate::SendError::WriteFailed) or this
    /// side was [half-closed](Self::half_close).
    pub fn is_connected(&self, id: ConnectionId) -> bool {
        self.connections
            .get(id)
            .is_some_and(|connection| connection.is_open())
    }

    /// Returns the bytes that all connections hold, as counted for [`memory_budget`](crate::Config::memory_budget).
    pub fn memory_in_use(&self) -> u64 {
        self.common.memory.used()
    }

    /// Returns the address of a listener, with the actual port if port 0 was requested. `None` for Unix domain sockets.
    pub fn local_addr(&self, id: ListenerId) -> Option<SocketAddr> {
        self.listeners.get(id)?.local.addr
    }

    /// Returns the path of a listener on a Unix domain socket, as it was passed; an abstract name begins with a NUL
    /// byte. `None` for TCP, and for sockets without a name.
    #[cfg(unix)]
    pub fn local_path(&self, id: ListenerId) -> Option<&std::path::Path> {
        self.listeners.get(id)?.local.path.as_deref()
    }

    /// Returns where a listener listens.
    pub(crate) fn local(&self, id: ListenerId) -> Local {
        let listener = self.listeners.get(id);
        listener
            .map(|listener| listener.local.clone())
            .unwrap_or_default()
    }

    /// Returns the ids of all established connections, in order of their index.
    ///
    /// The snapshot is owned, so you can change any connection while iterating over it.
    pub fn connections(&self) -> Vec<ConnectionId> {
        let open = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.is_open());
        open.map(|(id, _)| id).collect()
    }

    /// Returns the number of established connections, which [`connections`](Self::connections) lists.
    pub fn len(&self) -> usize {
        self.open
    }

    /// Returns whether no connection is established.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the counters and gauges of the loop, in a time that does not depend on the number of connections.
    pub fn stats(&self) -> Stats {
        let arriving = self.arriving() as u64;
        let connecting = self.stats.connections.connecting;
        let open = self.open as u64;
        Stats {
            connections: ConnectionsByStage {
                arriving,
                connecting,
                open,
                closing: self.occupied() as u64 - arriving - open - connecting,
            },
            memory_bytes: self.common.memory.used(),
            queued_bytes: self.common.memory.queued(),
            timers: self.user_timers.len() as u64,
            frames_sent: self.common.written.frames,
            frames_replaced: self.common.written.replaced,
            bytes_sent: self.common.written.bytes,
            writes: self.common.written.calls,
            ..self.stats
        }
    }

    /// Returns the time of this turn: the clock is read once, after the poll.
    pub fn now(&self) -> Instant {
        self.now
    }
}
