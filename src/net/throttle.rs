//! Rate limits of connections: how much may be delivered, and holding back what has exceeded its limit.

use super::Net;
use crate::connection::{Charge, HeldBack};
use crate::connection_id::ConnectionId;
use crate::reason::DisconnectCause;

impl Net {
    /// Returns how many frames of a metered connection may be delivered now.
    pub(crate) fn frames_allowed(&mut self, id: ConnectionId) -> u64 {
        let now = self.common.now;
        let connection = self.connections.get_mut(id);
        let frames = connection.map_or(0, |connection| connection.allowance(now).frames);
        // One that is read may deliver.
        frames.max(1)
    }

    /// Charges what was read from a metered connection and delivered. In excess of its limits it is held back, or has to
    /// end with the cause that is returned.
    pub(crate) fn charge(
        &mut self,
        id: ConnectionId,
        bytes: usize,
        frames: u64,
    ) -> Option<DisconnectCause> {
        let now = self.common.now;
        let connection = self.connections.get_mut(id).filter(|it| it.is_open())?;
        match connection.charge(bytes, frames, now) {
            Charge::Paid => None,
            Charge::Pause(left) => {
                self.stats.throttled += 1;
                self.update_interest(id);
                self.watch(id, Some(left));
                None
            }
            Charge::Over(cause) => Some(cause),
        }
    }

    /// Reads a throttled connection again, if the excess is paid for.
    pub(crate) fn end_throttling(&mut self, id: ConnectionId) {
        let now = self.common.now;
        if let Some(connection) = self.connections.get_mut(id)
            && connection.is_throttled()
            && connection.throttled_for(now).is_none()
        {
            self.let_go(id, HeldBack::THROTTLED);
        }
    }
}
