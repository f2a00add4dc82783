//! `Rules`: what a [`Contract`](super::Contract) knows of the connections of a loop, and expects of them.

use std::collections::BTreeMap;

use crate::connection::Phase;
use crate::connection_id::ConnectionId;
use crate::net::{Entry, Net};
use crate::reason::{DisconnectReason, Stage};
use crate::socket::sim::{Id, Shared, Written};

/// The number of connections whose bytes are accounted for. A broadcast may change any of them, so each callback checks
/// all.
const ACCOUNTED: usize = 64;

/// The number of connections up to which all are checked whenever the loop is at rest.
const CHECKED_EACH_TIME: usize = 256;

/// What is known about a connection.
#[derive(Debug, Default)]
pub(super) struct Life {
    pub(super) is_connected: bool,
    pub(super) is_half_closed: bool,
    /// Only its end may be reported.
    pub(super) is_ending: bool,
    pressures: [bool; 2],
    /// How often `on_drain` may be called for times of backpressure that have ended.
    pub(super) drains: u32,
    /// ... and has to be called at least once more.
    pub(super) owes_drain: bool,
    /// Offset and total length of the next chunk, inside a frame.
    pub(super) chunk: Option<(u64, Option<u64>)>,
    /// Accepted bytes without those that were replaced; `None` if they are not accounted for.
    accepted: Option<u64>,
    socket: Option<Id>,
    /// It had a socket when the current callback began.
    had_socket: bool,
}

#[derive(Debug, Default)]
pub(super) struct Rules {
    lives: BTreeMap<ConnectionId, Life>,
    /// The generation of the last tenant of each index whose end was reported.
    ended: BTreeMap<usize, u32>,
    /// The network of a simulated loop.
    network: Option<Shared>,
    /// Unsent frames of connections whose end was reported.
    unsent: u64,
    /// How often the loop was at rest.
    rests: usize,
    /// Accepted frames without those that were replaced; `None` if there are too many connections.
    accepted: Option<u64>,
}

impl Life {
    pub(super) fn expect_open(&self, id: ConnectionId, what: &str) {
        assert!(
            self.is_connected,
            "contract: {what} of {id} before on_connect"
        );
        assert!(
            !self.is_ending,
            "contract: {what} of {id}, which is closing or closed"
        );
    }

    fn note(&mut self, entry: &Entry) {
        self.is_ending |= !matches!(entry.phase, Phase::Connecting | Phase::Open);
        for (before, now) in self.pressures.iter_mut().zip(entry.pressures) {
            if std::mem::replace(before, now) && !now {
                self.drains += 1;
                self.owes_drain = true;
            }
        }
    }
}

impl Rules {
    pub(super) fn life(&mut self, id: ConnectionId, what: &str) -> &mut Life {
        match self.lives.get_mut(&id) {
            Some(life) => life,
            None => panic!("contract: {what} of {id}, which was never seen or has ended"),
        }
    }

    /// Notes a connection when it is first seen.
    pub(super) fn meet(&mut self, id: ConnectionId) -> &mut Life {
        if let Some(last) = self.ended.get(&id.index()) {
            let is_later = id.generation() > *last;
            assert!(
                is_later,
                "contract: {id} has the generation of an earlier one"
            );
        }
        self.lives.entry(id).or_default()
    }

    /// Returns all accepted frames that were neither replaced nor forgotten, if each connection can be inspected.
    fn frames(&self, net: &Net) -> Option<u64> {
        let (slots, _) = net.slots();
        if self.network.is_none() || slots > ACCOUNTED {
            return None;
        }
        let owed = net.entries(ACCOUNTED).map(|entry| entry.ledger.frames);
        Some(owed.fold(self.unsent + net.stats().frames_sent, u64::wrapping_add))
    }

    /// The rules of a simulated loop.
    pub(super) fn in_network(network: Shared) -> Self {
        Self {
            network: Some(network),
            ..Self::default()
        }
    }

    /// Returns whether the bytes of a connection are accounted for.
    pub(super) fn is_accounted(&self, id: ConnectionId) -> bool {
        id.index() < ACCOUNTED && self.network.is_some()
    }

    /// Checks that since the last callback bytes were only written, not lost.
    pub(super) fn enter(&mut self, net: &Net) {
        if self.network.is_none() {
            return;
        }
        for entry in net.entries(ACCOUNTED) {
            let id = entry.id;
            if let Some(life) = self.lives.get_mut(&id) {
                life.had_socket = entry.socket.is_some();
                life.note(&entry);
            }
            if let Some(session) = entry.session {
                assert!(
                    session.has_failed || session.ciphertext == session.written + session.pending,
                    "contract: {id}: ciphertext is written or pending: {session:?}"
                );
            }
            if let (Some(now), Some(life)) = (accepted(&entry), self.lives.get(&id))
                && let Some(before) = life.accepted
            {
                assert_eq!(
                    now, before,
                    "contract: {id}: bytes written and owed are those that were accepted"
                );
            }
        }
        if let (Some(now), Some(before)) = (self.frames(net), self.accepted) {
            assert_eq!(
                now, before,
                "contract: frames written and owed are those that were accepted"
            );
        }
    }

    /// Returns what was written to the stream of a connection that was closed in this callback.
    fn written_until_closed(&self, entry: &Entry) -> Option<u64> {
        let life = self.lives.get(&entry.id)?;
        let was_closed = life.had_socket && entry.socket.is_none();
        let network = self.network.as_ref().filter(|_| was_closed)?;
        Some(network.lock().written(life.socket?)?.bytes)
    }

    /// Records the state after a callback.
    pub(super) fn leave(&mut self, net: &Net) {
        for entry in net.entries(ACCOUNTED) {
            if self.has_ended(entry.id) {
                continue;
            }
            let written = self.written_until_closed(&entry);
            let life = self.meet(entry.id);
            if let Some(accepted) = accepted(&entry) {
                life.accepted = Some(accepted);
                life.socket = entry.socket.map(|(socket, _)| socket);
            } else if let Some(written) = written {
                // The callback has closed it, perhaps after it has sent something.
                life.accepted = Some(written.wrapping_add(entry.ledger.bytes));
            }
            life.note(&entry);
        }
        self.accepted = self.frames(net);
    }

    /// The same for a connection that may not be accounted for.
    pub(super) fn note(&mut self, net: &Net, id: ConnectionId) {
        if let Some(entry) = net.entry(id)
            && !self.has_ended(id)
        {
            self.meet(id).note(&entry);
        }
    }

    /// Returns whether the end of a connection was reported. It stays in its slot until the end of the turn.
    fn has_ended(&self, id: ConnectionId) -> bool {
        self.ended.get(&id.index()) == Some(&id.generation())
    }

    /// Checks the limits of a loop at the end of a turn.
    pub(super) fn end_of_turn(&self, net: &Net) {
        let (used, budget) = (net.stats().memory_bytes, net.config().memory_budget);
        assert!(
            used <= budget,
            "contract: {used} bytes are in use, of {budget}"
        );
        let (_, occupied) = net.slots();
        let most = net.config().max_connections;
        assert!(
            occupied <= most,
            "contract: {occupied} connections, of {most}"
        );
    }

    /// Checks a loop that has nothing to do before the next event.
    pub(super) fn at_rest(&mut self, net: &Net) {
        self.enter(net);
        for entry in net.entries(ACCOUNTED) {
            let id = entry.id;
            if let (Some(network), Some((socket, _))) = (&self.network, entry.socket) {
                let [input, room] = network.lock().reported(socket);
                let ignores_input = entry.session.is_some_and(|it| it.ignores_input);
                assert!(
                    !input || ignores_input,
                    "contract: {id} waits for input that is there"
                );
                assert!(
                    !room || !entry.has_work,
                    "contract: {id} waits for room that is there"
                );
            }
            let unread = entry.session.map_or(0, |session| session.unread);
            assert!(
                unread == 0 || !entry.may_deliver || entry.phase != Phase::Open,
                "contract: {id} waits for input that was read"
            );
            let Some(life) = self.lives.get(&id) else {
                continue;
            };
            let is_open = entry.phase == Phase::Open && !entry.ends_when_full;
            assert!(
                !is_open || !life.owes_drain || !entry.may_send || entry.pressures != [false; 2],
                "contract: {id}: on_drain is missing"
            );
            assert!(
                entry.phase != Phase::Closed,
                "contract: {id}: on_disconnect is missing"
            );
        }
        // The more connections there are, the more rarely all are checked.
        self.rests += 1;
        let seldom = 1 + self.lives.len() / CHECKED_EACH_TIME;
        if !self.rests.is_multiple_of(seldom) {
            return;
        }
        for id in self.lives.keys() {
            assert!(
                net.entry(*id).is_some(),
                "contract: {id} is gone without on_disconnect"
            );
        }
    }

    pub(super) fn data(
        &mut self,
        net: &Net,
        id: ConnectionId,
        len: usize,
        what: &str,
    ) -> &mut Life {
        let Some(entry) = net.entry(id) else {
            panic!("contract: {what} of {id}, which does not exist");
        };
        let life = self.life(id, what);
        life.expect_open(id, what);
        assert!(
            !life.is_half_closed,
            "contract: {what} of {id} after on_half_close"
        );
        assert!(
            entry.may_deliver,
            "contract: {what} of {id}, which is held back"
        );
        let max = entry.max_frame_len;
        assert!(
            len as u64 <= max,
            "contract: {what} of {id}: {len} bytes, of {max}"
        );
        life
    }

    pub(super) fn end(&mut self, net: &Net, id: ConnectionId, reason: &DisconnectReason) {
        let is_attempt = reason.stage == Stage::Connecting;
        if is_attempt && !self.has_ended(id) {
            // A handshake can fail in the turn in which its peer was accepted.
            self.meet(id);
        }
        let Some(life) = self.lives.remove(&id) else {
            panic!("contract: on_disconnect of {id}, which was never seen or has ended");
        };
        assert_ne!(
            life.is_connected, is_attempt,
            "contract: {id} has the stage {:?}",
            reason.stage
        );
        self.ended.insert(id.index(), id.generation());
        self.unsent += reason.unsent_frames;
        if let (Some(accepted), Some(socket), Some(network)) =
            (life.accepted, life.socket, &self.network)
            && !matches!(reason.cause, crate::DisconnectCause::Released(_))
        {
            let Written { bytes, twice } = network.lock().take_written(socket).unwrap_or_default();
            self.unsent = self.unsent.wrapping_sub(twice);
            let written = bytes;
            assert_eq!(
                written.wrapping_add(reason.unsent_bytes),
                accepted,
                "contract: {id}: {written} bytes were written and {} are unsent: {reason:?}",
                reason.unsent_bytes
            );
        }
        assert!(
            net.connection(id).is_some_and(|it| !it.is_connected()),
            "contract: {id} is in on_disconnect"
        );
    }
}

/// Returns the bytes that a connection has accepted, without those that were replaced.
fn accepted(entry: &Entry) -> Option<u64> {
    let (_, written) = entry.socket?;
    let owed = entry.ledger.bytes;
    // Saturated sums cannot be compared.
    (owed < u64::MAX / 2).then(|| owed + written)
}
