//! A loop driven through the public API with a clock that the test sets, so no test waits for a deadline.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use throng::{Config, ConnectionId, Handler, ListenOptions, Net, Reactor};

use super::{Observer, PATIENCE, Peer, addr_of};

/// A loop whose clock is set by the test.
pub struct Loop {
    poll: Poll,
    events: Events,
    pub reactor: Reactor,
    pub now: Instant,
}

impl Loop {
    pub fn new(config: Config) -> Self {
        let poll = Poll::new().expect("a selector");
        let now = Instant::now();
        let reactor = Reactor::attach(poll.registry(), config, now).expect("a loop");
        Self {
            poll,
            events: Events::with_capacity(64),
            reactor,
            now,
        }
    }

    pub fn net(&mut self) -> &mut Net {
        self.reactor.net()
    }

    /// Returns the bytes queued on a connection; zero if it has ended.
    pub fn queued(&mut self, id: ConnectionId) -> u64 {
        super::bytes_queued(self.net(), id)
    }

    /// Advances the clock, and makes one turn.
    pub fn pass(&mut self, time: Duration, handler: &mut impl Handler) {
        self.now += time;
        self.turn(Duration::ZERO, handler);
    }

    /// Makes turns at the same time until there is nothing to do.
    pub fn rest(&mut self, handler: &mut impl Handler) {
        self.pass(Duration::ZERO, handler);
        while !self.is_at_rest() {
            self.pass(Duration::ZERO, handler);
        }
    }

    pub fn turn(&mut self, wait: Duration, handler: &mut impl Handler) {
        self.poll(wait);
        self.reactor.finish_turn(handler);
    }

    /// Waits for an event, then makes a turn that calls `act` after the events and before the callbacks.
    pub fn turn_with<H: Handler>(
        &mut self,
        handler: &mut H,
        act: impl FnOnce(&mut Reactor, &mut H),
    ) {
        self.poll(PATIENCE);
        act(&mut self.reactor, handler);
        self.reactor.finish_turn(handler);
    }

    /// Polls without waiting, and passes the events on. Returns how many there were. The turn is not finished.
    pub fn poll_once(&mut self) -> usize {
        self.poll(Duration::ZERO);
        self.events.iter().count()
    }

    fn poll(&mut self, wait: Duration) {
        let wait = self
            .reactor
            .next_timeout(self.now)
            .map_or(wait, |own| own.min(wait));
        match self.poll.poll(&mut self.events, Some(wait)) {
            // After a signal `events` still contains those of the last turn.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            result => result.expect("a poll"),
        }
        self.reactor.begin_turn(self.now);
        for event in &self.events {
            self.reactor.handle_event(event);
        }
    }

    /// Makes turns at the same time until `done` returns `true`.
    #[track_caller]
    pub fn settle<H: Handler>(
        &mut self,
        handler: &mut H,
        mut done: impl FnMut(&mut H, &mut Net) -> bool,
    ) {
        let deadline = Instant::now() + PATIENCE;
        while !done(handler, self.net()) {
            assert!(Instant::now() < deadline, "it did not happen in time");
            self.turn(Duration::from_millis(5), handler);
        }
    }

    pub fn listen(&mut self) -> SocketAddr {
        self.listen_with(ListenOptions::default())
    }

    pub fn listen_with(&mut self, options: ListenOptions) -> SocketAddr {
        let listener = self.net().listen_with("127.0.0.1:0", options);
        addr_of(self.net(), listener.expect("a listener"))
    }

    /// Connects `count` peers, at most as many at a time as fit into the backlog.
    pub fn connect(
        &mut self,
        handler: &mut impl Handler,
        addr: SocketAddr,
        count: usize,
    ) -> Vec<TcpStream> {
        let mut peers = Vec::with_capacity(count);
        let before = self.net().stats().accepted;
        for number in 1..=count {
            peers.push(Peer::connect(addr).0);
            if number % 50 == 0 || number == count {
                let all = before + number as u64;
                self.settle(handler, |_, net| net.stats().accepted == all);
            }
        }
        peers
    }

    /// Advances the clock until all unused memory is trimmed.
    pub fn trim(&mut self, handler: &mut impl Handler) {
        for _ in 0..5 {
            self.pass(Duration::from_millis(1100), handler);
        }
    }

    /// Connects a peer through a new listener.
    pub fn join(&mut self, seen: &mut impl Observer) -> (Peer, ConnectionId) {
        let addr = self.listen();
        self.join_at(addr, seen)
    }

    /// Connects a peer through the listener at `addr`.
    pub fn join_at(&mut self, addr: SocketAddr, seen: &mut impl Observer) -> (Peer, ConnectionId) {
        let peer = Peer::connect(addr);
        let before = seen.recorder().connected().len();
        self.settle(seen, |seen, _| seen.recorder().connected().len() > before);
        (peer, seen.recorder().connected()[before])
    }

    /// Returns whether there is nothing to do before an event arrives or time passes.
    pub fn is_at_rest(&self) -> bool {
        self.reactor.next_timeout(self.now) != Some(Duration::ZERO)
    }
}
