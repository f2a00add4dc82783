//! Not reading for a while.

use log::debug;

use super::Net;
use crate::connection::{HeldBack, Phase};
use crate::connection_id::ConnectionId;

impl Net {
    /// Stops reading from a connection, until [`resume`](Self::resume). Nothing is lost: what has arrived is kept, the
    /// rest of a burst whose frames are just being delivered included, and the peer is slowed down by TCP. A paused
    /// connection causes no wake-ups; frames are sent to it as before.
    ///
    /// EOF is reported after the data that is kept, once the connection is resumed;
    /// [`peer_has_closed`](crate::ConnectionRef::peer_has_closed) returns whether the peer has closed its side meanwhile. A reset is reported
    /// immediately, and what was not delivered is [counted](crate::DisconnectReason::unshown_bytes).
    ///
    /// Returns `false` if the connection is gone or going.
    ///
    /// ```
    /// use throng::{ConnectionId, Frame, Handler, Net};
    ///
    /// /// Passes on what comes from `source`, no faster than `target` takes it.
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
                self.upset = true;
                self.update_interest(id);
                true
            }
            _ => {
                debug!("{id}: pause: not connected");
                false
            }
        }
    }

    /// Reads from a [paused](Self::pause) connection again, beginning with what was kept, in the next turn. One that is
    /// [congested](crate::ConnectionRef::is_congested) besides is read when that is over. On one that is not paused it does nothing.
    ///
    /// Returns `false` if the connection is gone or going.
    pub fn resume(&mut self, id: ConnectionId) -> bool {
        match self.connections.get_mut(id) {
            Some(connection) if matches!(connection.phase, Phase::Connecting | Phase::Open) => {
                connection.let_go(HeldBack::PAUSED, self.common.now);
                if connection.is_runnable() {
                    self.list(id);
                }
                self.watch_read(id);
                self.update_interest(id);
                true
            }
            _ => {
                debug!("{id}: resume: not connected");
                false
            }
        }
    }

    /// The backpressure of a connection is over.
    #[cold]
    pub(super) fn relieved(&mut self, id: ConnectionId) {
        self.work.add_drained(id);
        // No event tells of what was read and not shown.
        let link = self.connections.get(id);
        if link.is_some_and(|link| link.is_runnable()) {
            self.list(id);
        }
        self.watch_read(id);
    }
}
