//! When to look at the clock of an open connection, and what to do then. What the clock says is the connection's business.

use std::time::Duration;

use super::{Deadline, Net};
use crate::connection::Clock;
use crate::connection_id::ConnectionId;

impl Net {
    /// Sees to it that the clock of an open connection is looked at within `after`, if there is such a time.
    pub(crate) fn watch(&mut self, id: ConnectionId, after: Option<Duration>) {
        let Some(at) = after.and_then(|after| self.now.checked_add(after)) else {
            return;
        };
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if !connection.is_open() {
            return;
        }
        if let Some(timer) = connection.timer {
            if self.timers.deadline(timer).is_some_and(|set| set <= at) {
                return;
            }
            self.timers.cancel(timer);
        }
        connection.timer = Some(self.timers.insert(at, Deadline::Check(id)));
    }

    /// A chunk is going to be shown: its frame goes on, or is complete.
    pub(crate) fn note_chunk(&mut self, id: ConnectionId, is_last: bool) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if is_last {
            connection.note_finished();
        } else {
            let look = connection.note_unfinished(0, self.common.now);
            self.watch(id, look);
        }
    }

    /// A connection was established.
    pub(super) fn watch_new(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(id) {
            self.watch(id, connection.first_look());
        }
    }

    /// The socket of a connection takes no more.
    #[cold]
    pub(super) fn watch_blocked(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(id) {
            self.watch(id, connection.look_when_blocked());
        }
    }

    /// A connection that was not read is read again.
    pub(super) fn watch_read(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(id) {
            self.watch(id, connection.look_when_read());
        }
    }

    /// What the clock says of an open connection.
    pub(crate) fn look_at_clock(&mut self, id: ConnectionId) -> Clock {
        let now = self.common.now;
        let connection = self.connections.get_mut(id);
        connection.map_or(Clock::Nothing, |connection| connection.look_at_clock(now))
    }

    /// Has the clock of a connection looked at in `after`, and not at any other time.
    pub(crate) fn watch_anew(&mut self, id: ConnectionId, after: Option<Duration>) {
        self.forget_deadline(id);
        self.watch(id, after);
    }
}
