//! Serves a listener: accepts peers and calls `on_accept` and `on_connect`.

use super::Reactor;
use crate::connection_id::ListenerId;
use crate::handler::{Admission, Handler};
use crate::net::{Accepted, Refusal};
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
            let (stream, peer) = match self.net.accept(listener) {
                Accepted::Peer(stream, peer) => (stream, peer),
                Accepted::Nobody => continue,
                Accepted::Blocked => return,
            };
            let admission = self.net.call("on_accept", Shown(peer), |net| {
                handler.on_accept(net, listener, peer)
            });
            if admission == Admission::Refuse {
                self.net.refuse(peer, &Refusal::NotAdmitted);
                continue;
            }
            if let Some(id) = self.net.admit(listener, stream, peer) {
                self.net
                    .call("on_connect", id, |net| handler.on_connect(net, id));
            }
        }
    }
}
