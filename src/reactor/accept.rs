//! Serves a listener: accepts peers and calls `on_accept` and `on_connect`.

use super::Reactor;
use crate::connection_id::ListenerId;
use crate::handler::{Admission, Handler};
use crate::net::{Accepted, Newcomer, Refusal};
use crate::socket::Shown;

impl Reactor {
    /// Serves a listener that has an event.
    pub(super) fn wake_listener<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        listener: ListenerId,
    ) {
        if self.net.wake_listener(listener) {
            self.serve_listener(handler, listener);
            self.net.finish_listener(listener);
        }
    }

    /// Accepts peers, within the budget.
    pub(super) fn serve_listener<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        listener: ListenerId,
    ) {
        for _ in 0..self.net.config().accepts_per_turn {
            match self.net.accept(listener) {
                Accepted::Peer(newcomer) => self.admit(handler, newcomer),
                Accepted::NoPeer => {}
                Accepted::Blocked => return,
            }
        }
    }

    /// Asks the handler whether to admit a peer, and reports the connection.
    pub(super) fn admit<H: Handler + ?Sized>(&mut self, handler: &mut H, newcomer: Newcomer) {
        let (listener, peer) = (newcomer.listener, newcomer.peer);
        let admission = self.net.call("on_accept", Shown(peer), |net| {
            handler.on_accept(net, listener, peer)
        });
        if admission == Admission::Refuse {
            self.net.refuse(peer, &Refusal::NotAdmitted);
        } else if let Some(id) = self.net.admit(newcomer)
            // With TLS, the handshake comes first.
            && self.net.is_connected(id)
        {
            self.net
                .call("on_connect", id, |net| handler.on_connect(net, id));
        }
    }
}
