//! Reports the end of backpressure, and the end of connections.

use log::info;

use super::Reactor;
use crate::handler::Handler;
use crate::net::Warning;
use crate::socket::Shown;

impl Reactor {
    pub(super) fn announce_drained<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        for _ in 0..self.net.drained() {
            if let Some(id) = self.net.next_drained() {
                self.net
                    .call("on_drain", id, |net| handler.on_drain(net, id));
            }
        }
    }

    pub(super) fn announce_ended<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        for _ in 0..self.net.ended() {
            let Some((id, peer, reason)) = self.net.next_ended() else {
                continue;
            };
            if reason.is_failed_attempt() {
                let peer = Shown(peer);
                self.net.warn(
                    Warning::ConnectFailed,
                    format_args!("{id} connecting to {peer} failed: {reason}"),
                );
            } else {
                info!("{id} closed: {reason}");
            }
            self.net.call("on_disconnect", id, |net| {
                handler.on_disconnect(net, id, reason)
            });
        }
    }
}
