//! The handler: checks the order of the callbacks and every frame.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use super::peer::number_of;
use crate::{
    Backlog, Chunk, ConnectionId, DisconnectCause, DisconnectReason, Expired, Frame, Handler, Net,
    Timer,
};

/// What is known of a connection.
pub(super) struct Known {
    /// Frames from the peer that were delivered.
    pub(super) received: u32,
    /// The part of a frame that came in chunks so far.
    pub(super) coming: Vec<u8>,
    /// Frames that a send has accepted, as the peer should receive them.
    pub(super) accepted: Vec<Vec<u8>>,
    pub(super) is_connected: bool,
    pub(super) reason: Option<DisconnectReason>,
}

/// The handler: checks the order of the callbacks and every frame, and echoes some of them.
pub(super) struct Checker {
    pub(super) known: HashMap<ConnectionId, Known>,
    /// Bits that say what is done in the next callbacks.
    pub(super) habits: u64,
}

impl Known {
    /// Returns whether the end was reported. Closes the stream if it was released.
    pub(super) fn has_ended(&mut self) -> bool {
        let Some(reason) = &mut self.reason else {
            return false;
        };
        if let DisconnectCause::Released(_) = reason.cause {
            reason.cause = DisconnectCause::Aborted;
        }
        true
    }
}

impl Checker {
    fn of(&mut self, id: ConnectionId) -> &mut Known {
        let known = self.known.get_mut(&id).expect("a connection that exists");
        assert!(known.reason.is_none(), "a callback after the end");
        known
    }

    fn note(&mut self, id: ConnectionId, frame: &[u8]) {
        let known = self.of(id);
        assert!(known.is_connected, "a frame before on_connect");
        assert_eq!(
            number_of(frame),
            known.received,
            "a frame is lost or out of order"
        );
        known.received += 1;
    }

    pub(super) fn send(&mut self, net: &mut Net, id: ConnectionId, payload: &[u8], way: usize) {
        let sent = match way {
            0 => net.send(id, payload).is_ok(),
            1 => net.send_bytes(id, payload.to_vec().into()).is_ok(),
            2 => net.send_with(id, |out| out.write_all(payload)).is_ok(),
            3 => {
                let reader = std::io::Cursor::new(payload.to_vec());
                net.send_reader(id, payload.len() as u64, reader).is_ok()
            }
            4 => net.disconnect_with(id, payload, Backlog::Flush).is_ok(),
            _ => {
                let (first, second) = payload.split_at(payload.len() / 2);
                let begun = net.begin_frame(id, payload.len() as u64).is_ok();
                let pushed = begun
                    && net.push_chunk(id, first).is_ok()
                    && net.push_chunk(id, second).is_ok();
                if begun && !pushed {
                    // The queue is full, and the frame stays open.
                    net.abort(id);
                }
                pushed && net.finish_frame(id).is_ok()
            }
        };
        if sent && let Some(known) = self.known.get_mut(&id) {
            assert!(known.reason.is_none(), "a frame is accepted after the end");
            known.accepted.push(payload.to_vec());
        }
    }

    /// Does in a callback what the habits say.
    fn react(&mut self, net: &mut Net, id: ConnectionId) {
        self.habits = self.habits.rotate_left(5);
        match self.habits & 0x1F {
            0 => drop(net.pause(id)),
            1 => drop(net.disconnect(id)),
            2 if self.habits & 0x20 == 0 => drop(net.abort(id)),
            3 => drop(net.half_close(id)),
            4 => drop(net.set_timer(Timer::after(Duration::from_millis(5)).on(id), 1)),
            5 => {
                for other in net.connections() {
                    net.resume(other);
                }
            }
            6 => {
                let report = net.broadcast(|_| true, b"0:0:");
                let accepted = self.known.iter().filter(|(id, _)| net.is_connected(**id));
                assert!(report.queued <= accepted.count());
            }
            _ => {}
        }
    }
}

impl Handler for Checker {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        let known = self.of(id);
        assert!(
            !std::mem::replace(&mut known.is_connected, true),
            "it was connected"
        );
        self.react(net, id);
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        self.note(id, &frame);
        if self.habits & 0x40 != 0 {
            self.send(net, id, &frame, 0);
        }
        self.react(net, id);
    }

    fn on_chunk(&mut self, net: &mut Net, id: ConnectionId, chunk: Chunk<'_>) {
        let known = self.of(id);
        assert_eq!(
            chunk.offset(),
            known.coming.len() as u64,
            "a gap or an overlap"
        );
        known.coming.extend_from_slice(&chunk);
        if chunk.is_last() {
            let frame = std::mem::take(&mut known.coming);
            self.note(id, &frame);
        }
        self.react(net, id);
    }

    fn on_half_close(&mut self, net: &mut Net, id: ConnectionId) {
        self.of(id);
        self.react(net, id);
    }

    fn on_drain(&mut self, net: &mut Net, id: ConnectionId) {
        self.of(id);
        self.react(net, id);
    }

    fn on_timer(&mut self, net: &mut Net, expired: Expired) {
        if let Some(id) = expired.connection {
            self.of(id);
            self.react(net, id);
        }
    }

    fn on_disconnect(&mut self, _: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        self.of(id).reason = Some(reason);
    }
}
