//! Connections that send a frame, get it back, and are replaced by others.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use throng::{ConnectionId, DisconnectReason, Frame, Handler, Net};

use super::spec::Spec;
use super::tally::Tally;
use super::traffic::{Traffic, payload, write_stamp};

pub(super) struct Churn {
    tally: Tally,
    payload: Vec<u8>,
    addr: Option<SocketAddr>,
    /// By the index of their ids.
    clients: Vec<Client>,
}

#[derive(Clone, Copy)]
struct Client {
    /// When it began to connect.
    since: Instant,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Waiting,
    Answered,
}

impl Churn {
    pub(super) fn new(spec: &Spec) -> Self {
        Self {
            tally: Tally::new(spec),
            payload: payload(spec),
            addr: None,
            clients: Vec::new(),
        }
    }

    fn client(&mut self, id: ConnectionId) -> &mut Client {
        if self.clients.len() <= id.index() {
            let new = Client {
                since: Instant::now(),
                state: State::Idle,
            };
            self.clients.resize(id.index() + 1, new);
        }
        &mut self.clients[id.index()]
    }

    fn send(&mut self, net: &mut Net, id: ConnectionId) {
        write_stamp(&mut self.payload, id, 0);
        match net.send(id, &self.payload) {
            Ok(()) => {
                self.client(id).state = State::Waiting;
                self.tally.in_flight += 1;
            }
            Err(error) => self.fail(error.to_string()),
        }
    }

    /// Replaces a connection that is closed.
    fn connect(&mut self, net: &mut Net) {
        let Some(addr) = self.addr else {
            return;
        };
        match net.connect(addr) {
            Ok(id) => {
                *self.client(id) = Client {
                    since: Instant::now(),
                    state: State::Idle,
                }
            }
            Err(error) => self.fail(error.to_string()),
        }
    }

    fn fail(&mut self, problem: String) {
        self.tally.problem.get_or_insert(problem);
    }
}

impl Traffic for Churn {
    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    fn start(&mut self, net: &mut Net, now: Instant, _: Duration) {
        self.tally.is_sending = true;
        for id in net.connections() {
            let client = self.client(id);
            if client.state == State::Idle {
                client.since = now;
                self.send(net, id);
            }
        }
    }
}

impl Handler for Churn {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        self.tally.connected += 1;
        self.client(id);
        let connection = net.connection(id);
        self.addr = connection.and_then(|it| it.peer_addr()).or(self.addr);
        if self.tally.is_sending {
            self.send(net, id);
        }
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        write_stamp(&mut self.payload, id, 0);
        let client = self.client(id);
        let since = client.since;
        let is_waiting = client.state == State::Waiting;
        client.state = State::Answered;
        let is_expected = is_waiting && *frame == self.payload[..];
        let what = || format!("connection {id} got {frame:?}");
        if self.tally.count(is_expected, what) {
            if let Some(latency) = &mut self.tally.latency {
                latency.saturating_record(since.elapsed().as_nanos() as u64);
            }
            net.disconnect(id);
        }
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        if self.client(id).state == State::Answered {
            self.tally.connected -= 1;
            self.connect(net);
        } else {
            self.fail(format!("connection {id} ended: {reason}"));
        }
    }
}
