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
    /// The simulated socket, and the number of bytes written to it: with TLS, of the plaintext.
    pub(crate) socket: Option<(Id, u64)>,
    pub(crate) session: Option<SessionEntry>,
}

/// The state of a TLS session between two callbacks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionEntry {
    /// Plaintext that was encrypted.
    pub(crate) plaintext: u64,
    /// Ciphertext that was created, and what has become of it: it was written, or it is pending.
    pub(crate) ciphertext: u64,
    pub(crate) written: u64,
    pub(crate) pending: u64,
    /// No more is written.
    pub(crate) has_failed: bool,
    /// Bytes that were read from the socket, and can be delivered without an event.
    pub(crate) unread: usize,
    /// The socket need not be read: the peer's close_notify was, or the handshake has to write first.
    pub(crate) ignores_input: bool,
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
        let session = session_entry(link);
        let socket = link.simulated().map(|stream| {
            let plaintext = session.map(|session| session.plaintext);
            (stream.id(), plaintext.unwrap_or(stream.written()))
        });
        let mut ledger = link.ledger(&self.common.fanout);
        ledger.frames += self.connections.reply_frames(id);
        ledger.bytes = ledger.bytes.saturating_add(self.connections.replies(id));
        Entry {
            id,
            phase: link.phase,
            may_deliver: link.may_deliver(),
            may_send: link.check_open().is_ok(),
            has_work: link.has_bytes_to_write() || session.is_some_and(|it| it.pending > 0),
            pressures: link.pressures(),
            ends_when_full: link.ends_when_full(),
            max_frame_len: link.limit(),
            ledger,
            socket,
            session,
        }
    }
}

#[cfg(feature = "tls")]
fn session_entry(link: &Link) -> Option<SessionEntry> {
    let session = link.session()?;
    let passed = session.passed();
    Some(SessionEntry {
        plaintext: passed.plaintext,
        ciphertext: passed.ciphertext,
        written: link.simulated()?.written(),
        pending: session.unsent() as u64,
        has_failed: link.has_failed_write(),
        unread: session.unread() + session.unfed(),
        ignores_input: session.has_ended()
            || (link.phase == Phase::Connecting && session.unsent() > 0),
    })
}

#[cfg(not(feature = "tls"))]
fn session_entry(_: &Link) -> Option<SessionEntry> {
    None
}
