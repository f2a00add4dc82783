//! The connections of a load: what each has sent, and whether it comes back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use throng::{ConnectionId, DisconnectReason, Frame, Handler, Net, SendError};

use super::schedule::{Outcome, Schedule};
use super::spec::{Pace, Spec};

/// How much of an open loop may be on its way: bytes that wait in this process,
const MOST_WAITING: u64 = 256 << 20;
/// and frames that were sent and have not come back.
const MOST_IN_FLIGHT: u64 = 1 << 20;
/// How many frames of an open loop are sent before it is looked what has come back.
const AT_ONCE: u64 = 16 * 1024;

/// All connections of a load.
pub(super) struct Clients {
    pub(super) pace: Pace,
    /// By the index of their ids.
    clients: Vec<Client>,
    pub(super) connected: usize,
    /// How many frames have come back.
    pub(super) frames: u64,
    pub(super) in_flight: u64,
    pub(super) is_sending: bool,
    /// All connections, and when which of them sends, if the time sets the pace.
    ids: Vec<ConnectionId>,
    schedule: Option<Schedule>,
    /// What is sent: a stamp, then a pattern.
    payload: Vec<u8>,
    pub(super) latency: Option<Histogram<u64>>,
    /// What went wrong first.
    pub(super) problem: Option<String>,
}

#[derive(Default)]
struct Client {
    sent: u32,
    received: u32,
    /// When the frames under way were sent, or due.
    since: VecDeque<Instant>,
}

impl Clients {
    pub(super) fn new(spec: &Spec) -> Self {
        // Up to an hour, to three digits. These bounds are valid, so there is an histogram.
        let histogram = || Histogram::new_with_bounds(1, 3_600_000_000_000, 3).ok();
        Self {
            pace: spec.pace,
            clients: Vec::new(),
            connected: 0,
            frames: 0,
            in_flight: 0,
            is_sending: false,
            ids: Vec::new(),
            schedule: None,
            payload: (0..spec.size).map(|i| (i % 251) as u8).collect(),
            latency: spec.latency.then(histogram).flatten(),
            problem: None,
        }
    }

    /// Begins to send. What is in flight at a time is put in flight; each frame that comes back is followed by another.
    pub(super) fn start(&mut self, net: &mut Net, now: Instant, length: Duration) {
        self.is_sending = true;
        self.ids = net.connections();
        match self.pace {
            Pace::PerSecond(rate) => self.schedule = Some(Schedule::new(rate, now, length)),
            Pace::InFlight(frames) => {
                for id in net.connections() {
                    for _ in 0..frames {
                        self.send(net, id, now);
                    }
                }
            }
        }
    }

    /// Sends what is due, if the time sets the pace. Returns when the next frame is.
    pub(super) fn send_due(&mut self, net: &mut Net, now: Instant) -> Option<Instant> {
        let mut schedule = self.schedule.take_if(|_| self.is_sending)?;
        for _ in 0..schedule.due(now).min(AT_ONCE) {
            let id = self.ids[(schedule.next() % self.ids.len() as u64) as usize];
            let has_room = self.in_flight < MOST_IN_FLIGHT && net.memory_in_use() < MOST_WAITING;
            let is_sent = has_room && self.send(net, id, schedule.next_at());
            schedule.count(is_sent);
        }
        self.is_sending = !schedule.is_over(now);
        let next = self.is_sending.then(|| schedule.next_at());
        self.schedule = Some(schedule);
        next
    }

    /// What became of the frames that were due, if the time set the pace.
    pub(super) fn outcome(&self, idle: f64) -> Option<Outcome> {
        let schedule = self.schedule.as_ref()?;
        Some(schedule.outcome(idle, self.in_flight))
    }

    /// Returns whether there was room for the frame. Without a schedule there always is.
    fn send(&mut self, net: &mut Net, id: ConnectionId, since: Instant) -> bool {
        let client = &mut self.clients[id.index()];
        write_stamp(&mut self.payload, id, client.sent);
        match net.send(id, &self.payload) {
            Ok(()) => {}
            Err(SendError::QueueFull { .. }) => return false,
            Err(error) => {
                self.problem.get_or_insert_with(|| error.to_string());
                return false;
            }
        }
        if self.latency.is_some() {
            client.since.push_back(since);
        }
        client.sent = client.sent.wrapping_add(1);
        self.in_flight += 1;
        true
    }

    /// Whether this is the frame that was sent first of those in flight.
    fn is_expected(&mut self, id: ConnectionId, frame: &[u8]) -> bool {
        let client = &mut self.clients[id.index()];
        write_stamp(&mut self.payload, id, client.received);
        client.received != client.sent && frame == self.payload
    }
}

/// The first eight bytes, or as many as there are, tell frames and connections apart.
fn write_stamp(payload: &mut [u8], id: ConnectionId, number: u32) {
    let stamp = u64::from(number) | (id.index() as u64) << 32;
    let len = payload.len().min(8);
    payload[..len].copy_from_slice(&stamp.to_le_bytes()[..len]);
}

impl Handler for Clients {
    fn on_connect(&mut self, _: &mut Net, id: ConnectionId) {
        self.connected += 1;
        if self.clients.len() <= id.index() {
            self.clients.resize_with(id.index() + 1, Client::default);
        }
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        if !self.is_expected(id, &frame) {
            self.problem.get_or_insert_with(|| {
                format!("connection {id} got {frame:?}, which is not the frame it had sent")
            });
            return;
        }
        let client = &mut self.clients[id.index()];
        client.received = client.received.wrapping_add(1);
        self.frames += 1;
        self.in_flight -= 1;
        let mut now = net.now();
        if let Some(latency) = &mut self.latency
            && let Some(since) = client.since.pop_front()
        {
            now = Instant::now();
            latency.saturating_record((now - since).as_nanos() as u64);
        }
        if self.is_sending && matches!(self.pace, Pace::InFlight(_)) {
            self.send(net, id, now);
        }
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        let addr = net
            .connection(id)
            .and_then(|it| it.peer_addr())
            .map(|addr| addr.to_string());
        let addr = addr.unwrap_or_default();
        let left = net.len();
        self.problem.get_or_insert_with(|| {
            format!("connection {id} to {addr} ended: {reason} ({left} others are open)")
        });
    }
}
