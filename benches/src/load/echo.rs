//! Connections that send frames, each of which has to come back to where it was sent.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use throng::{ConnectionId, DisconnectReason, Frame, Handler, Net, SendError};

use super::schedule::{Outcome, Schedule};
use super::spec::{Pace, Spec};
use super::tally::Tally;
use super::traffic::{Traffic, payload, write_stamp};

/// How much of an open loop may be on its way: bytes that wait in this process,
const MOST_WAITING: u64 = 256 << 20;
/// and frames that were sent and have not come back.
const MOST_IN_FLIGHT: u64 = 1 << 20;
/// How many frames of an open loop are sent before it is looked what has come back.
const AT_ONCE: u64 = 16 * 1024;

/// All connections of a load.
pub(super) struct Echo {
    tally: Tally,
    pace: Pace,
    /// By the index of their ids.
    clients: Vec<Client>,
    /// How many connections send, if not all.
    active: Option<u32>,
    /// Those that send, and when which of them does, if the time sets the pace.
    ids: Vec<ConnectionId>,
    schedule: Option<Schedule>,
    /// What is sent: a stamp, then a pattern.
    payload: Vec<u8>,
    /// One in so many frames of a connection is timed.
    time_every: Option<u32>,
}

#[derive(Default)]
struct Client {
    sent: u32,
    received: u32,
    /// When the frames under way that are timed were sent, or due.
    since: VecDeque<Instant>,
}

impl Echo {
    pub(super) fn new(spec: &Spec) -> Self {
        Self {
            tally: Tally::new(spec),
            pace: spec.shape.pace,
            clients: Vec::new(),
            active: spec.shape.active,
            ids: Vec::new(),
            schedule: None,
            payload: payload(spec),
            time_every: spec.time_every,
        }
    }

    /// Those that send, evenly spread over all.
    fn active(&self, net: &Net) -> Vec<ConnectionId> {
        let ids = net.connections();
        let active = self.active.map_or(ids.len(), |active| active as usize);
        let step = ids.len() / active.clamp(1, ids.len().max(1));
        ids.into_iter().step_by(step.max(1)).take(active).collect()
    }

    /// Returns whether there was room for the frame. Without a schedule there always is.
    fn send(&mut self, net: &mut Net, id: ConnectionId, since: Instant) -> bool {
        let client = &mut self.clients[id.index()];
        write_stamp(&mut self.payload, id, client.sent);
        match net.send(id, &self.payload) {
            Ok(()) => {}
            Err(SendError::QueueFull { .. }) => return false,
            Err(error) => {
                let problem = &mut self.tally.problem;
                problem.get_or_insert_with(|| error.to_string());
                return false;
            }
        }
        if is_timed(client.sent, self.time_every) {
            client.since.push_back(since);
        }
        client.sent = client.sent.wrapping_add(1);
        self.tally.in_flight += 1;
        true
    }

    /// Whether this is the frame that was sent first of those in flight.
    fn is_expected(&mut self, id: ConnectionId, frame: &[u8]) -> bool {
        let client = &mut self.clients[id.index()];
        write_stamp(&mut self.payload, id, client.received);
        client.received != client.sent && frame == self.payload
    }
}

fn is_timed(number: u32, every: Option<u32>) -> bool {
    every.is_some_and(|every| number.is_multiple_of(every))
}

impl Traffic for Echo {
    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// What is in flight at a time is put in flight; each frame that comes back is followed by another.
    fn start(&mut self, net: &mut Net, now: Instant, length: Duration) {
        self.tally.is_sending = true;
        self.ids = self.active(net);
        match self.pace {
            Pace::PerSecond(rate) => self.schedule = Some(Schedule::new(rate, now, length)),
            Pace::InFlight(frames) => {
                for id in self.ids.clone() {
                    for _ in 0..frames {
                        self.send(net, id, now);
                    }
                }
            }
        }
    }

    fn send_due(&mut self, net: &mut Net, now: Instant) -> Option<Instant> {
        let mut schedule = self.schedule.take_if(|_| self.tally.is_sending)?;
        for _ in 0..schedule.due(now).min(AT_ONCE) {
            let id = self.ids[(schedule.next() % self.ids.len() as u64) as usize];
            let has_room =
                self.tally.in_flight < MOST_IN_FLIGHT && net.stats().memory_bytes < MOST_WAITING;
            let is_sent = has_room && self.send(net, id, schedule.next_at());
            schedule.count(is_sent);
        }
        self.tally.is_sending = !schedule.is_over(now);
        let next = self.tally.is_sending.then(|| schedule.next_at());
        self.schedule = Some(schedule);
        next
    }

    fn outcome(&mut self, idle: f64) -> Option<Outcome> {
        let schedule = self.schedule.as_ref()?;
        Some(schedule.outcome(idle, self.tally.in_flight))
    }
}

impl Handler for Echo {
    fn on_connect(&mut self, _: &mut Net, id: ConnectionId) {
        self.tally.connected += 1;
        if self.clients.len() <= id.index() {
            self.clients.resize_with(id.index() + 1, Client::default);
        }
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        let is_expected = self.is_expected(id, &frame);
        let what = || format!("connection {id} got {frame:?}");
        if !self.tally.count(is_expected, what) {
            return;
        }
        let client = &mut self.clients[id.index()];
        let number = client.received;
        client.received = client.received.wrapping_add(1);
        let mut now = net.now();
        if is_timed(number, self.time_every)
            && let Some(latency) = &mut self.tally.latency
            && let Some(since) = client.since.pop_front()
        {
            now = Instant::now();
            latency.saturating_record((now - since).as_nanos() as u64);
        }
        if self.tally.is_sending && matches!(self.pace, Pace::InFlight(_)) {
            self.send(net, id, now);
        }
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        let addr = net
            .connection(id)
            .and_then(|it| it.peer_addr())
            .map(|addr| addr.to_string());
        let addr = addr.unwrap_or_default();
        let left = net.connection_count();
        self.tally.problem.get_or_insert_with(|| {
            format!("connection {id} to {addr} ended: {reason} ({left} others are open)")
        });
    }
}
