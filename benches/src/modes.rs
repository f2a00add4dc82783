//! What a server does with frames. Its only timer ends a `run`, so that it can be looked whether it is to go on.

use std::collections::HashMap;

use throng::{Chunk, ConnectionId, DisconnectReason, Expired, Frame, Handler, Net, SendError};

/// Sends each frame back.
pub(crate) struct Echo;

impl Handler for Echo {
    fn on_timer(&mut self, net: &mut Net, _: Expired) {
        net.stop();
    }

    // It is so short that calling it costs as much as what it does.
    #[inline(always)]
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        if let Err(rejected) = net.send_frame(id, frame) {
            note_rejected(id, &rejected.error);
        }
    }

    fn on_chunk(&mut self, net: &mut Net, id: ConnectionId, chunk: Chunk<'_>) {
        pass_on(net, id, id, &chunk);
    }
}

#[cold]
fn note_rejected(id: ConnectionId, error: &SendError) {
    log::warn!("{id}: {error}");
}

/// Sends each frame to all connections, its sender included.
pub(crate) struct Broadcast;

impl Handler for Broadcast {
    fn on_timer(&mut self, net: &mut Net, _: Expired) {
        net.stop();
    }

    fn on_data(&mut self, net: &mut Net, _: ConnectionId, frame: Frame<'_>) {
        net.broadcast(|_| true, frame);
    }
}

/// Forgets each frame.
pub(crate) struct Sink;

impl Handler for Sink {
    fn on_timer(&mut self, net: &mut Net, _: Expired) {
        net.stop();
    }

    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}

    fn on_chunk(&mut self, _: &mut Net, _: ConnectionId, _: Chunk<'_>) {}
}

/// Sends each frame to one other connection: the second is paired with the first, and so on. It takes from the one no
/// faster than the other reads.
#[derive(Default)]
pub(crate) struct Relay {
    /// The connection without a partner.
    single: Option<ConnectionId>,
    partners: HashMap<ConnectionId, ConnectionId>,
}

impl Relay {
    fn slow_down(&self, net: &mut Net, from: ConnectionId, to: ConnectionId) {
        if net.connection(to).is_some_and(|it| it.is_congested()) {
            net.pause(from);
        }
    }
}

impl Handler for Relay {
    fn on_timer(&mut self, net: &mut Net, _: Expired) {
        net.stop();
    }

    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        if let Some(other) = self.single.take() {
            // That a paused peer has left is not reported.
            if !net.connection(other).is_some_and(|it| it.peer_has_closed()) {
                self.partners.extend([(id, other), (other, id)]);
                net.resume(other);
                return;
            }
            net.disconnect(other);
        }
        self.single = Some(id);
        net.pause(id);
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        if let Some(&other) = self.partners.get(&id) {
            match net.send_frame(other, frame) {
                Ok(()) => self.slow_down(net, id, other),
                Err(rejected) => {
                    log::warn!("{id} to {other}: {rejected}");
                    net.disconnect(id);
                }
            }
        }
    }

    fn on_chunk(&mut self, net: &mut Net, id: ConnectionId, chunk: Chunk<'_>) {
        if let Some(&other) = self.partners.get(&id) {
            pass_on(net, id, other, &chunk);
            self.slow_down(net, id, other);
        }
    }

    /// Passes on that a peer has ended its stream.
    fn on_half_close(&mut self, net: &mut Net, id: ConnectionId) {
        match self.partners.get(&id) {
            Some(&other) => {
                if let Err(error) = net.half_close(other) {
                    log::warn!("{other}: {error}");
                }
            }
            None => {
                net.disconnect(id);
            }
        }
    }

    fn on_drain(&mut self, net: &mut Net, id: ConnectionId) {
        if let Some(&other) = self.partners.get(&id) {
            net.resume(other);
        }
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, _: DisconnectReason) {
        self.single.take_if(|single| *single == id);
        if let Some(other) = self.partners.remove(&id) {
            self.partners.remove(&other);
            net.disconnect(other);
        }
    }
}

/// Passes on a piece of a frame. Without it the frame cannot go on, so its sender has to go if it is refused.
fn pass_on(net: &mut Net, from: ConnectionId, to: ConnectionId, chunk: &Chunk<'_>) {
    if let Err(error) = try_pass_on(net, to, chunk) {
        log::warn!("{from} to {to}: {error}");
        net.disconnect(from);
    }
}

fn try_pass_on(net: &mut Net, to: ConnectionId, chunk: &Chunk<'_>) -> Result<(), SendError> {
    if chunk.is_first() {
        // All framings of this server tell it.
        net.begin_frame(to, chunk.total().unwrap_or_default())?;
    }
    net.push_chunk(to, chunk)?;
    if chunk.is_last() {
        net.finish_frame(to)?;
    }
    Ok(())
}
