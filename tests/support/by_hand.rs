//! A loop driven by its public layer, on a clock that a test moves: nobody waits for a deadline.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use throng::{Config, ConnectionId, Handler, Net};

use super::{PATIENCE, Peer, Recorder};

/// A loop whose clock is moved by hand.
pub struct Loop {
    poll: Poll,
    events: Events,
    pub net: Net,
    pub now: Instant,
}

impl Loop {
    pub fn new(config: Config) -> Self {
        let poll = Poll::new().expect("a selector");
        let now = Instant::now();
        let net = Net::attach(poll.registry(), config, now).expect("a loop");
        Self {
            poll,
            events: Events::with_capacity(64),
            net,
            now,
        }
    }

    /// Lets time pass, and turns once.
    pub fn pass(&mut self, time: Duration, handler: &mut impl Handler) {
        self.now += time;
        self.turn(Duration::ZERO, handler);
    }

    pub fn turn(&mut self, wait: Duration, handler: &mut impl Handler) {
        let wait = self
            .net
            .next_timeout(self.now)
            .map_or(wait, |own| own.min(wait));
        self.poll
            .poll(&mut self.events, Some(wait))
            .expect("a poll");
        self.net.begin_turn(self.now);
        for event in &self.events {
            self.net.handle_event(event);
        }
        self.net.finish_turn(handler);
    }

    /// Turns while no time passes.
    pub fn settle<H: Handler>(
        &mut self,
        handler: &mut H,
        mut done: impl FnMut(&mut H, &mut Net) -> bool,
    ) {
        let deadline = Instant::now() + PATIENCE;
        while !done(handler, &mut self.net) {
            assert!(Instant::now() < deadline, "it did not happen in time");
            self.turn(Duration::from_millis(5), handler);
        }
    }

    pub fn listen(&mut self) -> SocketAddr {
        let listener = self.net.listen("127.0.0.1:0").expect("a listener");
        self.net.local_addr(listener).expect("its address")
    }

    pub fn join(&mut self, seen: &mut Recorder) -> (Peer, ConnectionId) {
        let addr = self.listen();
        let peer = Peer::connect(addr);
        let before = seen.connected().len();
        self.settle(seen, |seen, _| seen.connected().len() > before);
        (peer, seen.connected()[before])
    }
}
