//! Pausing and resuming reads.

use log::debug;

use super::Net;
use crate::connection::{HeldBack, Phase};
use crate::connection_id::ConnectionId;

impl Net {
    /// Stops reading from a connection, until [`resume`](Self::resume). No data is lost: bytes that have arrived are
    /// held, including the undelivered rest of the current read, and TCP slows the peer down. A paused connection
    /// causes no wake-ups. Frames can still be sent to it.
    ///
    /// EOF is reported after the held data, once the connection is resumed;
    /// [`peer_has_closed`](crate::ConnectionRef::peer_has_closed) tells earlier. A reset is reported immediately, and
    /// the undelivered bytes are [counted](crate::DisconnectReason::unshown_bytes).
    ///
    /// Returns `false` if the connection is closed or closing.
    ///
    /// ```
    /// use throng::{ConnectionId, Frame, Handler, Net};
    ///
    /// /// Forwards frames from `source`, no faster than `target` takes them.
    /// struct Relay { source: ConnectionId, target: ConnectionId }
    ///
    /// impl Handler for Relay {
    ///     fn on_data(&mut self, net: &mut Net, _: ConnectionId, frame: Frame<'_>) {
    ///         if net.send_frame(self.target, frame).is_err() {
    ///             net.disconnect(self.source);
    ///         } else if net.connection(self.target).is_some_and(|it| it.is_congested()) {
    ///             net.pause(self.source);
    ///         }
    ///     }
    ///     fn on_drain(&mut self, net: &mut Net, _: ConnectionId) {
    ///         net.resume(self.source);
    ///     }
    /// }
    /// ```
    pub fn pause(&mut self, id: ConnectionId) -> bool {
        match self.connections.get_mut(id) {
            Some(connection) if matches!(connection.phase, Phase::Connecting | Phase::Open) => {
                connection.hold_back(HeldBack::PAUSED);
                self.upset |= !mutated!("delivery continues after a pause");
                self.update_interest(id);
                // An error that was reported before is looked at now: no read will return it.
                self.list_if_runnable(id);
                true
            }
            _ => {
                debug!("{id}: pause: not connected");
                false
            }
        }
    }

    /// Continues reading from a [paused](Self::pause) connection in the next turn, beginning with the held bytes. If
    /// the connection is also [congested](crate::ConnectionRef::is_congested), reading continues when it is no longer.
    /// Has no effect on a connection that is not paused.
    ///
    /// Returns `false` if the connection is closed or closing.
    pub fn resume(&mut self, id: ConnectionId) -> bool {
        match self.connections.get_mut(id) {
            Some(connection) if matches!(connection.phase, Phase::Connecting | Phase::Open) => {
                self.let_go(id, HeldBack::PAUSED);
                true
            }
            _ => {
                debug!("{id}: resume: not connected");
                false
            }
        }
    }

    /// Ends a reason to hold a connection back.
    pub(super) fn let_go(&mut self, id: ConnectionId, reason: HeldBack) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.let_go(reason, self.common.now);
            if connection.is_runnable() {
                self.list(id);
            }
            self.watch_read(id);
            self.update_interest(id);
        }
    }

    /// Handles the end of a connection's backpressure.
    #[cold]
    pub(super) fn relieved(&mut self, id: ConnectionId) {
        self.work.add_drained(id);
        if mutated!("on_drain doubled") {
            self.work.add_drained(id);
        }
        // No event reports bytes that were read but not delivered.
        let link = self.connections.get(id);
        if link.is_some_and(|link| link.is_runnable()) {
            self.list(id);
        }
        self.watch_read(id);
    }
}
