//! Rate limits of connections: reading a metered connection, and holding it back.

use super::Net;
use crate::connection::{Charge, Fill, HeldBack};
use crate::connection_id::ConnectionId;

impl Net {
    /// Reads once from a connection that is metered or cannot be read; see [`fill`](Self::fill).
    #[cold]
    #[inline(never)]
    pub(super) fn fill_with_care(
        &mut self,
        id: ConnectionId,
        buffer: &mut [u8],
        most: usize,
    ) -> Option<Fill> {
        let connection = self.connections.get_mut(id)?;
        if !connection.wants_delivery() || connection.read_ended() {
            self.look_at_error(id);
            return None;
        }
        let allowed = connection.allowance(self.common.now).bytes;
        let fill = connection.fill(buffer, most.min(allowed), &mut self.common);
        self.count_fill(&fill);
        Some(match fill {
            Fill::Bytes { len, read } => Fill::Metered { len, read },
            other => other,
        })
    }

    /// Returns how many frames of a metered connection may be delivered now.
    pub(crate) fn frames_allowed(&mut self, id: ConnectionId) -> u64 {
        let now = self.common.now;
        let connection = self.connections.get_mut(id);
        connection.map_or(0, |connection| connection.allowance(now).frames)
    }

    /// Charges what was read from a metered connection and delivered. In excess of its limits it is held back, or ends
    /// after the replies to what was delivered.
    pub(crate) fn charge(&mut self, id: ConnectionId, bytes: usize, frames: u64) {
        let now = self.common.now;
        let Some(connection) = self.connections.get_mut(id).filter(|it| it.is_open()) else {
            return;
        };
        match connection.charge(bytes, frames, now) {
            Charge::Paid => {}
            Charge::Pause(left) => {
                self.stats.throttled += 1;
                self.update_interest(id);
                self.watch(id, Some(left));
            }
            Charge::Over(cause) => {
                self.flush(id);
                self.end(id, Some(cause));
            }
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
