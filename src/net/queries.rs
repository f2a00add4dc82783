//! Queries about the loop and its connections.

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
    pub fn connection_count(&self) -> usize {
        self.open
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
            busy: self.busy(),
            longest_turn: self.longest_turn(),
            waited: self.waited(),
            memory_bytes: self.common.memory.used(),
            queued_bytes: self.common.memory.queued(),
            timers: self.user_timers.len() as u64,
            frames_sent: self.common.written.frames,
            frames_replaced: self.common.written.replaced,
            bytes_sent: self.common.written.bytes,
            reads: self.common.reads,
            writes: self.common.written.calls,
            ..self.stats
        }
    }

    /// Returns the time of this turn: the clock is read once, after the poll.
    pub fn now(&self) -> Instant {
        self.now
    }
}
