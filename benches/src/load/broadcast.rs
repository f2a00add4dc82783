//! One connection sends a few frames, and all get each of them. When all have them it sends the next.

use std::time::{Duration, Instant};

use throng::{ConnectionId, DisconnectReason, Frame, Handler, Net};

use super::spec::{Pace, Spec};
use super::tally::Tally;
use super::traffic::{Traffic, payload, write_stamp};

pub(super) struct Broadcast {
    tally: Tally,
    /// How many frames are sent at a time.
    at_once: u32,
    payload: Vec<u8>,
    sender: Option<ConnectionId>,
    sent: u32,
    since: Instant,
    /// How many frames each connection has got, by the index of its id.
    received: Vec<u32>,
    time_every: u32,
}

impl Broadcast {
    pub(super) fn new(spec: &Spec) -> Self {
        let at_once = match spec.shape.pace {
            Pace::InFlight(frames) => frames,
            Pace::PerSecond(_) => 1,
        };
        Self {
            tally: Tally::new(spec),
            at_once,
            payload: payload(spec),
            sender: None,
            sent: 0,
            since: Instant::now(),
            received: Vec::new(),
            time_every: spec.time_every.unwrap_or(1),
        }
    }

    fn send(&mut self, net: &mut Net) {
        let Some(sender) = self.sender else {
            return;
        };
        self.since = Instant::now();
        for _ in 0..self.at_once {
            write_stamp(&mut self.payload, sender, self.sent);
            if let Err(error) = net.send(sender, &self.payload) {
                self.tally.problem.get_or_insert_with(|| error.to_string());
                return;
            }
            self.sent = self.sent.wrapping_add(1);
            self.tally.in_flight += self.tally.connected as u64;
        }
    }
}

impl Traffic for Broadcast {
    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    fn start(&mut self, net: &mut Net, _: Instant, _: Duration) {
        self.tally.is_sending = true;
        // The one that was opened last: a server that reads from it has accepted all the others before.
        self.sender = net.connections().last().copied();
        self.send(net);
    }
}

impl Handler for Broadcast {
    fn on_connect(&mut self, _: &mut Net, id: ConnectionId) {
        self.tally.connected += 1;
        if self.received.len() <= id.index() {
            self.received.resize(id.index() + 1, 0);
        }
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        let Some(sender) = self.sender else {
            return;
        };
        let received = &mut self.received[id.index()];
        write_stamp(&mut self.payload, sender, *received);
        let is_expected = *received != self.sent && *frame == self.payload[..];
        let what = || format!("connection {id} got {frame:?}");
        if !self.tally.count(is_expected, what) {
            return;
        }
        *received = received.wrapping_add(1);
        if let Some(latency) = &mut self.tally.latency
            && self.tally.frames.is_multiple_of(self.time_every.into())
        {
            latency.saturating_record(self.since.elapsed().as_nanos() as u64);
        }
        if self.tally.in_flight == 0 && self.tally.is_sending {
            self.send(net);
        }
    }

    fn on_disconnect(&mut self, _: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        let problem = &mut self.tally.problem;
        problem.get_or_insert_with(|| format!("connection {id} ended: {reason}"));
    }
}
