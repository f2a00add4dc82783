//! Rate limits of connections: reading a metered connection, and holding it back.

use super::{Input, Net, Received};
use crate::connection::{Charge, Fill, HeldBack};
use crate::connection_id::ConnectionId;

impl Net {
    /// Reads once from a connection that is metered; see [`receive`](Self::receive). If it is held back or has ended, it
    /// is not read.
    #[cold]
    #[inline(never)]
    pub(super) fn receive_with_care(
        &mut self,
        id: ConnectionId,
        buffer: &mut [u8],
        most: usize,
    ) -> Received {
        let Some(connection) = self.connections.receiving(id) else {
            return Received::Nothing;
        };
        if !connection.wants_delivery() || connection.read_ended() {
            return Received::Nothing;
        }
        connection.dirty = true;
        let allowed = connection.allowance(self.common.now);
        match connection.fill(buffer, most.min(allowed.bytes), &mut self.common) {
            Fill::Bytes { len, read } => {
                self.stats.bytes_received += read as u64;
                let whole = None;
                // A connection that is read may also deliver.
                Received::Metered(Input { len, read, whole }, allowed.frames.max(1))
            }
            fill => Received::Fill(fill),
        }
    }

    /// Charges what was read from a metered connection and delivered. If it exceeds its limits, it is held back, or
    /// ends after the replies to what was delivered.
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

    /// Resumes reading from a throttled connection, if its excess is paid for.
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
