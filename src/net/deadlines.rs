//! When to check the clock of a connection, and how long it may take to close. An open connection itself judges its clock.

use std::time::{Duration, Instant};

use super::{Deadline, Net};
use crate::connection::{Clock, Phase};
use crate::connection_id::ConnectionId;

impl Net {
    /// Ensures that the clock of an open connection is checked within `after`, if there is a deadline.
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

    /// Sets the deadline of a connection, replacing the previous one.
    pub(crate) fn set_deadline(&mut self, id: ConnectionId, after: Duration, deadline: Deadline) {
        self.forget_deadline(id);
        let Some(at) = self.now.checked_add(after) else {
            return;
        };
        if let Some(connection) = self.connections.get_mut(id) {
            connection.timer = Some(self.timers.insert(at, deadline));
        }
    }

    pub(super) fn forget_deadline(&mut self, id: ConnectionId) {
        let connection = self.connections.get_mut(id);
        if let Some(timer) = connection.and_then(|connection| connection.timer.take()) {
            self.timers.cancel(timer);
        }
    }

    pub(crate) fn disconnect_timeout(&self, id: ConnectionId) -> Option<Duration> {
        Some(self.connections.get(id)?.options().disconnect_timeout)
    }

    /// Returns how long a closing connection may still take: its timeout since the peer last took a byte, but not
    /// beyond `until`. `None` if it is closed.
    pub(crate) fn time_to_close(&self, id: ConnectionId, until: Instant) -> Option<Duration> {
        let connection = self.connections.get(id)?;
        let after = connection.options().disconnect_timeout;
        if mutated!("slow reader cut short on closing") && connection.phase != Phase::Closed {
            return Some(Duration::ZERO);
        }
        let left = after.saturating_sub(connection.inactive_for(self.common.now));
        let left = left.min(until.saturating_duration_since(self.now));
        (connection.phase != Phase::Closed).then_some(left)
    }

    /// Notes that a chunk is about to be delivered: its frame continues, or is complete.
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

    /// Watches a new connection.
    pub(super) fn watch_new(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(id) {
            self.watch(id, connection.first_look());
        }
    }

    /// Watches a connection whose socket takes no more bytes.
    #[cold]
    pub(super) fn watch_blocked(&mut self, id: ConnectionId) {
        if mutated!("write deadline skipped") {
            return;
        }
        if let Some(connection) = self.connections.get(id) {
            self.watch(id, connection.look_when_blocked());
        }
    }

    /// Watches a connection that is read again after it was held back.
    pub(super) fn watch_read(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(id) {
            self.watch(id, connection.look_when_read());
        }
    }

    /// Checks the clock of an open connection.
    pub(crate) fn look_at_clock(&mut self, id: ConnectionId) -> Clock {
        let now = self.common.now;
        let connection = self.connections.get_mut(id);
        connection.map_or(Clock::Nothing, |connection| connection.look_at_clock(now))
    }

    /// Checks the clock of a connection after `after`, and cancels the previous check.
    pub(crate) fn watch_anew(&mut self, id: ConnectionId, after: Option<Duration>) {
        self.forget_deadline(id);
        self.watch(id, after);
    }
}
