//! What takes time in a network: segments, FINs, resets and connection attempts in transit.

use std::cmp::Ordering;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::network::Network;
use super::socket::{Id, Mask, Party};

/// The most bytes of a segment.
const SEGMENT: usize = 16 * 1024;

/// The time after which a connection attempt is repeated if the backlog was full or the attempt was lost.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    /// A connection attempt arrives at its listener.
    Syn(Id, SocketAddr),
    /// ... is answered.
    Established(Id),
    /// ... is refused.
    Refused(Id),
    /// ... is lost, without an answer.
    Lost(Id),
    /// A segment arrives.
    Arrive(Id, usize),
    /// The FIN of this socket arrives at the other end.
    Fin(Id),
    /// The reset that this socket has sent arrives at the other end.
    ResetFrom(Id),
    /// A reset arrives at this socket.
    Reset(Id),
    /// An interruption ends.
    Resume(Id),
}

#[derive(Debug)]
pub(super) struct Due {
    at: Duration,
    serial: u64,
    event: Event,
}

impl Ord for Due {
    /// The greatest is the first one due.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.serial).cmp(&(self.at, self.serial))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl Network {
    pub(super) fn schedule(&mut self, at: Duration, event: Event) {
        let serial = self.next_serial();
        self.agenda.push(Due { at, serial, event });
    }

    /// Returns when the next event is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.agenda.peek().map(|due| due.at)
    }

    /// Moves the clock forward, and handles the events that are due until then.
    pub(crate) fn advance(&mut self, to: Duration) {
        while let Some(due) = self.agenda.peek()
            && due.at <= to
        {
            self.now = self.now.max(due.at);
            if let Some(due) = self.agenda.pop() {
                self.happen(due.event);
            }
        }
        self.now = self.now.max(to);
    }

    /// Moves the clock and all due times forward together: the network stands still.
    pub(crate) fn jump(&mut self, by: Duration) {
        self.now += by;
        let agenda = std::mem::take(&mut self.agenda);
        self.agenda = agenda
            .into_iter()
            .map(|due| Due {
                at: due.at + by,
                ..due
            })
            .collect();
        for (_, socket) in &mut self.sockets {
            for time in [
                &mut socket.busy_until,
                &mut socket.last_arrival,
                &mut socket.stalled_until,
            ] {
                if *time > Duration::ZERO {
                    *time += by;
                }
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Syn(id, addr) => self.syn(id, addr),
            Event::Established(id) => {
                if let Some(socket) = self.socket(id) {
                    socket.is_connecting = false;
                    self.note_socket(id, "is connected");
                    self.wake(id, Mask::OUT);
                    self.pump(id);
                }
            }
            Event::Refused(id) => {
                if let Some(socket) = self.socket(id) {
                    socket.is_connecting = false;
                    socket.is_reset = true;
                    socket.error = Some(io::ErrorKind::ConnectionRefused);
                    self.note_socket(id, "is refused");
                    self.wake(id, Mask::ALL);
                }
            }
            Event::Lost(id) => self.note_socket(id, "has no answer"),
            Event::Arrive(id, len) => self.arrive(id, len),
            Event::Fin(id) => self.fin(id),
            Event::ResetFrom(id) => {
                if let Some(socket) = self.socket(id) {
                    let other = socket.other;
                    self.free(id);
                    if let Some(other) = other {
                        self.reset(other);
                    }
                }
            }
            Event::Reset(id) => self.reset(id),
            Event::Resume(id) => self.pump(id),
        }
    }

    fn syn(&mut self, id: Id, addr: SocketAddr) {
        let Some(socket) = self.socket(id) else {
            return;
        };
        let (owner, from, latency) = (socket.owner, socket.local, socket.latency);
        let Some(index) = self.by_addr.get(&addr).copied() else {
            return self.schedule(self.now + latency, Event::Refused(id));
        };
        let listener = &self.listeners[index];
        let (host, sizes) = (listener.host, listener.sizes);
        if listener.backlog.len() >= listener.most || self.is_partitioned(owner, Party::Host(host))
        {
            return self.schedule(self.now + RETRY, Event::Syn(id, addr));
        }
        let accepted = self.open(Party::Host(host), addr, from, sizes);
        let answer = self.now + latency;
        let socket = &mut self.sockets[accepted.index];
        socket.is_connecting = false;
        socket.other = Some(id);
        socket.last_arrival = answer;
        if let Some(socket) = self.socket(id) {
            socket.other = Some(accepted);
        }
        self.listeners[index].backlog.push_back(accepted);
        self.note_socket(accepted, "waits to be accepted");
        self.wake_listener(index);
        self.schedule(answer, Event::Established(id));
    }

    /// Sends what the window of the other end allows.
    pub(super) fn pump(&mut self, id: Id) {
        loop {
            let now = self.now;
            let Some(socket) = self.socket(id) else {
                return;
            };
            if socket.is_reset || socket.is_connecting || socket.stalled_until > now {
                return;
            }
            let pending = socket.output.len() - socket.in_flight;
            let (in_flight, other, latency) = (socket.in_flight, socket.other, socket.latency);
            if pending == 0 && (!socket.write_closed || socket.fin_left) {
                return;
            }
            if other.is_some_and(|other| self.are_apart(id, other)) {
                return;
            }
            let factor = if self.faults.jitter {
                1 + self.random.below(4) as u32
            } else {
                1
            };
            let latency = latency * factor;
            let Some(to) = other.and_then(|other| self.socket(other)) else {
                if pending > 0 {
                    self.doom(id);
                } else {
                    let socket = &mut self.sockets[id.index];
                    socket.fin_left = true;
                    self.schedule(now + latency, Event::Fin(id));
                }
                return;
            };
            let window = to.receive_buffer.saturating_sub(to.input.len() + in_flight);
            let socket = &mut self.sockets[id.index];
            if pending == 0 {
                socket.fin_left = true;
                let at = socket.last_arrival.max(now + latency);
                socket.last_arrival = at;
                return self.schedule(at, Event::Fin(id));
            }
            let mut len = pending.min(window).min(SEGMENT);
            if len == 0 {
                return;
            }
            if self.random.one_in(self.faults.short_segments) {
                len = self.random.length(len);
            }
            let socket = &mut self.sockets[id.index];
            if let Some(nanos) = (len as u64 * 1_000_000_000).checked_div(socket.bandwidth) {
                socket.busy_until = socket.busy_until.max(now) + Duration::from_nanos(nanos);
            }
            let at = socket.busy_until.max(now) + latency;
            let at = at.max(socket.last_arrival);
            socket.last_arrival = at;
            socket.in_flight += len;
            self.schedule(at, Event::Arrive(id, len));
            self.disturb(id, other, at);
        }
    }

    /// Applies a random fault to a connection of which a segment arrives at the time `at`.
    fn disturb(&mut self, id: Id, other: Option<Id>, at: Duration) {
        if self.random.one_in(self.faults.resets) {
            self.disturbed_both(id);
            self.note_socket(id, "will be reset by a host in between");
            let after = self.random.duration(4 * self.link.latency);
            self.schedule(at + after, Event::Reset(id));
            if let Some(other) = other {
                self.schedule(at + after, Event::Reset(other));
            }
        }
        if self.random.one_in(self.faults.stalls) {
            let most = self.faults.longest_stall;
            let after = self.random.duration(most);
            self.stall(id, self.now + after);
        }
    }

    fn arrive(&mut self, id: Id, len: usize) {
        let Some(socket) = self.socket(id) else {
            return;
        };
        if socket.is_reset {
            return;
        }
        let other = socket.other;
        let to = other.and_then(|other| self.socket(other));
        let Some(other) = other.filter(|_| to.is_some_and(|to| !to.is_closed)) else {
            // A closed socket answers with a reset, and sends nothing more.
            if let Some(other) = other {
                self.free(other);
            }
            return self.doom(id);
        };
        let socket = &mut self.sockets[id.index];
        socket.in_flight -= len;
        socket.is_choked = false;
        let bytes: Vec<u8> = socket.output.drain(..len).collect();
        if let Some(to) = self.socket(other).filter(|to| !to.is_reset) {
            to.input.extend(&bytes);
            self.wake(other, Mask::IN);
        }
        let socket = &mut self.sockets[id.index];
        if socket.lacks_room && socket.has_reportable_room() {
            socket.lacks_room = false;
            self.wake(id, Mask::OUT);
        }
        self.pump(id);
    }

    fn fin(&mut self, id: Id) {
        let Some(socket) = self.socket(id) else {
            return;
        };
        if socket.is_reset {
            return;
        }
        socket.fin_arrived = true;
        let (other, is_closed) = (socket.other, socket.is_closed);
        self.note_socket(id, "its FIN arrives");
        if let Some(other) = other
            && let Some(to) = self.socket(other)
            && !to.is_reset
        {
            to.fin_received = true;
            self.wake(other, Mask::IN | Mask::RDHUP);
        }
        if is_closed {
            self.free(id);
        }
    }

    /// A reset arrives at a socket: bytes that have arrived can still be read, unsent bytes are lost.
    pub(super) fn reset(&mut self, id: Id) {
        let Some(socket) = self.socket(id) else {
            return;
        };
        if socket.is_reset {
            return;
        }
        socket.is_reset = true;
        socket.is_connecting = false;
        socket.error = Some(if socket.fin_received {
            io::ErrorKind::BrokenPipe
        } else {
            io::ErrorKind::ConnectionReset
        });
        socket.output.clear();
        socket.in_flight = 0;
        let is_closed = socket.is_closed;
        self.note_socket(id, "is reset");
        if is_closed {
            self.free(id);
        } else {
            self.wake(id, Mask::ALL);
        }
    }

    /// Sends a reset to a socket whose segment has found no socket.
    pub(super) fn doom(&mut self, id: Id) {
        let now = self.now;
        if let Some(socket) = self.socket(id)
            && !socket.is_doomed
        {
            socket.is_doomed = true;
            let at = now + socket.latency;
            self.schedule(at, Event::Reset(id));
        }
    }

    /// Sends a reset to the other end of a socket.
    pub(super) fn doom_other(&mut self, id: Id) {
        if let Some(socket) = self.socket(id)
            && let Some(other) = socket.other
        {
            self.doom(other);
        }
    }

    /// Forgets a socket.
    pub(super) fn free(&mut self, id: Id) {
        let Some(socket) = self.socket(id) else {
            return;
        };
        let other = socket.other;
        self.count_file(id, false);
        self.sockets.remove(id.index);
        if let Some(other) = other.and_then(|other| self.socket(other)) {
            other.other = None;
        }
    }
}
