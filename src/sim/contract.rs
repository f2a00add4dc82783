//! `Contract`: checks what the documentation promises, while a handler runs.

use std::net::SocketAddr;

use mio::Token;

use super::rules::Rules;
use crate::connection::Phase;
use crate::connection_id::{ConnectionId, ListenerId};
use crate::frame::{Chunk, Frame};
use crate::handler::{Admission, Handler};
use crate::net::{Expired, Net};
use crate::reason::DisconnectReason;
use crate::socket::Readiness;
use crate::socket::sim::Shared;

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
        let rules = Rules::in_network(network);
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
        let is_accounted = self.rules.is_accounted(id);
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
