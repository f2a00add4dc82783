//! What [`Contract`](crate::sim::Contract) looks at.

use super::Net;
use crate::connection::{Ledger, Phase};
use crate::connection_id::ConnectionId;
use crate::link::Link;
use crate::socket::sim::Id;

/// The state of a connection between two callbacks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) id: ConnectionId,
    pub(crate) phase: Phase,
    pub(crate) may_deliver: bool,
    pub(crate) may_send: bool,
    /// The next queued bytes exist.
    pub(crate) has_work: bool,
    /// Whether it is congested, and whether a frame was refused.
    pub(crate) pressures: [bool; 2],
    /// A full queue ends the connection, after it was written as far as possible.
    pub(crate) ends_when_full: bool,
    pub(crate) max_frame_len: u64,
    pub(crate) ledger: Ledger,
    /// The simulated socket, and the number of bytes written to it.
    pub(crate) socket: Option<(Id, u64)>,
}

impl Net {
    /// Returns the entries of the first connections, by index.
    pub(crate) fn entries(&self, most: usize) -> impl Iterator<Item = Entry> {
        let connections = self.connections.iter().take(most);
        connections.map(|(id, link)| self.entry_of(id, link))
    }

    pub(crate) fn entry(&self, id: ConnectionId) -> Option<Entry> {
        Some(self.entry_of(id, self.connections.get(id)?))
    }

    /// Returns the number of slots in use, and how many of them have not ended.
    pub(crate) fn slots(&self) -> (usize, usize) {
        (self.connections.len(), self.occupied())
    }

    fn entry_of(&self, id: ConnectionId, link: &Link) -> Entry {
        let options = link.options();
        let stream = link.simulated();
        let mut ledger = link.ledger(&self.common.fanout);
        ledger.frames += self.connections.reply_frames(id);
        ledger.bytes = ledger.bytes.saturating_add(self.connections.replies(id));
        Entry {
            id,
            phase: link.phase,
            may_deliver: link.may_deliver(),
            may_send: link.check_open().is_ok(),
            has_work: link.has_bytes_to_write(),
            pressures: link.pressures(),
            ends_when_full: link.ends_when_full(),
            max_frame_len: options.max_frame_len,
            ledger,
            socket: stream.map(|stream| (stream.id(), stream.written())),
        }
    }
}
