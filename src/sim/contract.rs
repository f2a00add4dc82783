//! `Contract`: checks what the documentation promises, while a handler runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use mio::Token;

use crate::connection::Phase;
use crate::connection_id::{ConnectionId, ListenerId};
use crate::frame::{Chunk, Frame};
use crate::handler::{Admission, Handler};
use crate::net::{Entry, Expired, Net};
use crate::reason::{DisconnectReason, Stage};
use crate::socket::Readiness;
use crate::socket::sim::{Id, Shared, Written};

/// The number of connections whose bytes are accounted for. A broadcast may change any of them, so each callback checks
/// all.
const ACCOUNTED: usize = 64;

/// Wraps a handler, and checks in each callback what the documentation of [`Handler`] promises:
///
/// - the callbacks of an id come in the documented order: `on_connect` at most once, `on_disconnect` exactly once and
///   last, no other callback after [`Net::disconnect`], [`Net::abort`] or [`Net::release`]
/// - no id is used twice, and each tenant of an index has a later generation
/// - nothing is delivered to a paused or congested connection, nor after `on_half_close`
/// - chunks are contiguous, without a frame in between
/// - no frame exceeds [`max_frame_len`](crate::Config::max_frame_len)
/// - `on_drain` is called once for each time of backpressure
/// - no timer fires early, nor for a connection that has ended
/// - the number of connections and their memory stay within the limits
///
/// A [`World`](crate::sim::World) wraps each handler automatically. There, it also keeps accounts of the first 64
/// connections: each byte and each frame that was accepted is written to the stream, replaced, or counted in the
/// [reason](DisconnectReason) of the end. With TLS this applies to bytes of plaintext when they are encrypted; and
/// ciphertext is written, pending, or counted as unsent. A violation panics, in the callback that reveals it.
///
/// ```
/// use throng::sim::Contract;
/// use throng::{Config, ConnectionId, EventLoop, Frame, Handler, Net};
///
/// struct Echo;
///
/// impl Handler for Echo {
///     fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
///         let _ = net.send_frame(id, frame);
///     }
/// }
///
/// // It works with any loop, for example one that serves real peers in a test environment.
/// let mut event_loop = EventLoop::new(Config::default())?;
/// event_loop.net().listen("127.0.0.1:0")?;
/// # event_loop.net().stop();
/// event_loop.run(&mut Contract::new(Echo))?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Contract<H> {
    handler: H,
    rules: Rules,
}

/// What is known about a connection.
#[derive(Debug, Default)]
struct Life {
    is_connected: bool,
    is_half_closed: bool,
    /// Only its end may be reported.
    is_ending: bool,
    pressures: [bool; 2],
    /// How often `on_drain` may be called for times of backpressure that have ended.
    drains: u32,
    /// ... and has to be called at least once more.
    owes_drain: bool,
    /// Offset and total length of the next chunk, inside a frame.
    chunk: Option<(u64, Option<u64>)>,
    /// Accepted bytes without those that were replaced; `None` if they are not accounted for.
    accepted: Option<u64>,
    socket: Option<Id>,
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
    /// Accepted frames without those that were replaced; `None` if there are too many connections.
    accepted: Option<u64>,
}

impl Life {
    fn expect_open(&self, id: ConnectionId, what: &str) {
        assert!(
            self.is_connected,
            "contract: {what} of {id} before on_connect"
        );
        assert!(
            !self.is_ending,
            "contract: {what} of {id}, which is closing or closed"
        );
    }
}

impl Rules {
    fn life(&mut self, id: ConnectionId, what: &str) -> &mut Life {
        match self.lives.get_mut(&id) {
            Some(life) => life,
            None => panic!("contract: {what} of {id}, which was never seen or has ended"),
        }
    }

    /// Notes a connection when it is first seen.
    fn meet(&mut self, id: ConnectionId) -> &mut Life {
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
        let owed = net.entries(ACCOUNTED).map(|entry| entry.ledger.frames);
        let sum = owed.fold(self.unsent + net.stats().frames_sent, u64::wrapping_add);
        (self.network.is_some() && slots <= ACCOUNTED).then_some(sum)
    }

    /// Checks that since the last callback bytes were only written, not lost.
    pub(super) fn enter(&mut self, net: &Net) {
        if self.network.is_none() {
            return;
        }
        for entry in net.entries(ACCOUNTED) {
            let id = entry.id;
            if let Some(life) = self.lives.get_mut(&id) {
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

    /// Records the state after a callback.
    pub(super) fn leave(&mut self, net: &Net) {
        for entry in net.entries(ACCOUNTED) {
            if self.has_ended(entry.id) {
                continue;
            }
            let life = self.meet(entry.id);
            if let Some(accepted) = accepted(&entry) {
                life.accepted = Some(accepted);
                life.socket = entry.socket.map(|(socket, _)| socket);
            }
            life.note(&entry);
        }
        self.accepted = self.frames(net);
    }

    /// The same for a connection that may not be accounted for.
    fn note(&mut self, net: &Net, id: ConnectionId) {
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
        let (used, budget) = (net.memory_in_use(), net.config().memory_budget);
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
        for id in self.lives.keys() {
            assert!(
                net.entry(*id).is_some(),
                "contract: {id} is gone without on_disconnect"
            );
        }
    }

    fn data(&mut self, net: &Net, id: ConnectionId, len: usize, what: &str) -> &mut Life {
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

    fn end(&mut self, net: &Net, id: ConnectionId, reason: &DisconnectReason) {
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

impl Life {
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

/// Returns the bytes that a connection has accepted, without those that were replaced.
fn accepted(entry: &Entry) -> Option<u64> {
    let (_, written) = entry.socket?;
    let owed = entry.ledger.bytes;
    // Saturated sums cannot be compared.
    (owed < u64::MAX / 2).then(|| owed + written)
}

impl<H: Handler> Contract<H> {
    /// Wraps a handler.
    pub fn new(handler: H) -> Self {
        Self {
            handler,
            rules: Rules::default(),
        }
    }

    /// Wraps a handler of a simulated loop.
    pub(super) fn in_network(handler: H, network: Shared) -> Self {
        let rules = Rules {
            network: Some(network),
            ..Rules::default()
        };
        Self { handler, rules }
    }

    /// Returns the handler.
    pub fn handler(&self) -> &H {
        &self.handler
    }

    /// Returns the handler, to change it.
    pub fn handler_mut(&mut self) -> &mut H {
        &mut self.handler
    }

    /// Returns the handler, and ends the checks.
    pub fn into_handler(self) -> H {
        self.handler
    }

    pub(super) fn rules(&mut self) -> &mut Rules {
        &mut self.rules
    }

    /// Makes a callback of the handler for a connection.
    fn call<R>(
        &mut self,
        net: &mut Net,
        id: ConnectionId,
        callback: impl FnOnce(&mut H, &mut Net) -> R,
    ) -> R {
        let result = callback(&mut self.handler, net);
        self.rules.leave(net);
        self.rules.note(net, id);
        result
    }
}

impl<H: Handler> Handler for Contract<H> {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        self.rules.enter(net);
        let life = self.rules.data(net, id, frame.len(), "on_data");
        assert!(
            life.chunk.is_none(),
            "contract: on_data of {id} between two chunks"
        );
        self.call(net, id, |handler, net| handler.on_data(net, id, frame));
    }

    fn on_chunk(&mut self, net: &mut Net, id: ConnectionId, chunk: Chunk<'_>) {
        self.rules.enter(net);
        let (offset, total, is_last) = (chunk.offset(), chunk.total(), chunk.is_last());
        let end = offset + chunk.len() as u64;
        let life = self.rules.data(net, id, 0, "on_chunk");
        let expected = life.chunk.take().unwrap_or((0, total));
        // The total may only be known at the end.
        let is_total = total == expected.1 || (is_last && expected.1.is_none());
        assert!(
            offset == expected.0 && is_total,
            "contract: a chunk of {id} at {offset} of {total:?}, expected {expected:?}"
        );
        if let Some(total) = total {
            assert_eq!(
                end == total,
                is_last,
                "contract: the last chunk of {id} ends its frame"
            );
        }
        life.chunk = (!is_last).then_some((end, total));
        self.call(net, id, |handler, net| handler.on_chunk(net, id, chunk));
    }

    fn on_accept(
        &mut self,
        net: &mut Net,
        listener: ListenerId,
        peer: Option<SocketAddr>,
    ) -> Admission {
        self.rules.enter(net);
        let admission = self.handler.on_accept(net, listener, peer);
        self.rules.leave(net);
        admission
    }

    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        self.rules.enter(net);
        let life = self.rules.meet(id);
        assert!(!life.is_connected, "contract: on_connect of {id} twice");
        assert!(
            !life.is_ending,
            "contract: on_connect of {id}, which is closing or closed"
        );
        life.is_connected = true;
        self.call(net, id, |handler, net| handler.on_connect(net, id));
    }

    fn on_drain(&mut self, net: &mut Net, id: ConnectionId) {
        self.rules.enter(net);
        let ends_when_full = net.entry(id).is_some_and(|entry| entry.ends_when_full);
        let is_accounted = id.index() < ACCOUNTED && self.rules.network.is_some();
        let life = self.rules.life(id, "on_drain");
        life.expect_open(id, "on_drain");
        life.owes_drain = false;
        let drains = life.drains.checked_sub(1);
        life.drains = drains.unwrap_or(0);
        assert!(
            drains.is_some() || ends_when_full || !is_accounted,
            "contract: on_drain of {id} without backpressure before"
        );
        self.call(net, id, |handler, net| handler.on_drain(net, id));
    }

    fn on_half_close(&mut self, net: &mut Net, id: ConnectionId) {
        self.rules.enter(net);
        let life = self.rules.life(id, "on_half_close");
        life.expect_open(id, "on_half_close");
        let before = std::mem::replace(&mut life.is_half_closed, true);
        assert!(!before, "contract: on_half_close of {id} twice");
        self.call(net, id, |handler, net| handler.on_half_close(net, id));
    }

    fn on_timer(&mut self, net: &mut Net, expired: Expired) {
        self.rules.enter(net);
        let key = expired.key;
        assert!(
            expired.due <= net.now(),
            "contract: the timer {key} fires early"
        );
        if let Some(id) = expired.connection {
            let phase = net.entry(id).map(|entry| entry.phase);
            assert!(
                matches!(phase, Some(Phase::Connecting | Phase::Open)),
                "contract: the timer {key} of {id}, which has ended"
            );
        }
        self.handler.on_timer(net, expired);
        self.rules.leave(net);
    }

    fn on_event(&mut self, net: &mut Net, token: Token, readiness: Readiness) {
        self.rules.enter(net);
        self.handler.on_event(net, token, readiness);
        self.rules.leave(net);
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        // The reason was taken out of the connection.
        self.rules.end(net, id, &reason);
        self.rules.enter(net);
        self.handler.on_disconnect(net, id, reason);
        self.rules.leave(net);
    }
}
