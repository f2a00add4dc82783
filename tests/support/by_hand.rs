//! A loop driven by its public layer, on a clock that a test moves: nobody waits for a deadline.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::{Events, Poll};
use throng::{Config, ConnectionId, DisconnectReason, Handler, ListenOptions, Net};

use super::{Event, PATIENCE, Peer, Recorder};

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

    /// Turns, while no time passes, until there is nothing to do.
    pub fn rest(&mut self, handler: &mut impl Handler) {
        self.pass(Duration::ZERO, handler);
        while self.net.next_timeout(self.now) == Some(Duration::ZERO) {
            self.pass(Duration::ZERO, handler);
        }
    }

    pub fn turn(&mut self, wait: Duration, handler: &mut impl Handler) {
        self.poll(wait);
        self.net.finish_turn(handler);
    }

    /// Waits for an event, and turns with something done between the events and the callbacks.
    pub fn turn_with<H: Handler>(&mut self, handler: &mut H, act: impl FnOnce(&mut Net, &mut H)) {
        self.poll(PATIENCE);
        act(&mut self.net, handler);
        self.net.finish_turn(handler);
    }

    fn poll(&mut self, wait: Duration) {
        let wait = self
            .net
            .next_timeout(self.now)
            .map_or(wait, |own| own.min(wait));
        match self.poll.poll(&mut self.events, Some(wait)) {
            // After a signal the events are still those of the last turn.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            result => result.expect("a poll"),
        }
        self.net.begin_turn(self.now);
        for event in &self.events {
            self.net.handle_event(event);
        }
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
        self.listen_with(ListenOptions::default())
    }

    pub fn listen_with(&mut self, options: ListenOptions) -> SocketAddr {
        let listener = self.net.listen_with("127.0.0.1:0", options);
        let addr = self.net.local_addr(listener.expect("a listener"));
        addr.expect("its address")
    }

    /// Connects `count` peers, not more at a time than fit into the backlog.
    pub fn connect(
        &mut self,
        handler: &mut impl Handler,
        addr: SocketAddr,
        count: usize,
    ) -> Vec<TcpStream> {
        let mut peers = Vec::with_capacity(count);
        let before = self.net.stats().accepted;
        for number in 1..=count {
            peers.push(Peer::connect(addr).0);
            if number % 50 == 0 || number == count {
                let all = before + number as u64;
                self.settle(handler, |_, net| net.stats().accepted == all);
            }
        }
        peers
    }

    /// Lets time pass until all unused memory is trimmed.
    pub fn trim(&mut self, handler: &mut impl Handler) {
        for _ in 0..5 {
            self.pass(Duration::from_millis(1100), handler);
        }
    }

    pub fn join(&mut self, seen: &mut Recorder) -> (Peer, ConnectionId) {
        let addr = self.listen();
        let peer = Peer::connect(addr);
        let before = seen.connected().len();
        self.settle(seen, |seen, _| seen.connected().len() > before);
        (peer, seen.connected()[before])
    }
}

/// More than two sockets hold of which one has little room.
const LARGE: usize = 12 << 20;

/// A loop with one connection: both its ends, and what its handler was told.
pub struct Scene {
    pub looped: Loop,
    pub seen: Recorder,
    pub peer: Peer,
    pub id: ConnectionId,
}

impl Scene {
    pub fn with(config: Config) -> Self {
        let mut looped = Loop::new(config);
        let mut seen = Recorder::default();
        let (peer, id) = looped.join(&mut seen);
        Self {
            looped,
            seen,
            peer,
            id,
        }
    }

    pub fn pass(&mut self, time: Duration) {
        self.looped.pass(time, &mut self.seen);
    }

    /// Has the peer send something, and turns until all of it is read.
    pub fn arrive(&mut self, bytes: &[u8]) {
        let all = self.looped.net.stats().bytes_received + bytes.len() as u64;
        self.peer.write(bytes);
        self.looped
            .settle(&mut self.seen, |_, net| net.stats().bytes_received == all);
    }

    /// Leaves the peer little room for what it is sent.
    pub fn narrow(&self, bytes: usize) {
        socket2::SockRef::from(&self.peer.0)
            .set_recv_buffer_size(bytes)
            .expect("a live socket");
    }

    /// Queues one frame more than the sockets hold, and turns until they take no more.
    pub fn block(&mut self) {
        self.narrow(16 * 1024);
        let large = Bytes::from(vec![7; LARGE]);
        let sent = self.looped.net.send_bytes(self.id, large);
        sent.expect("there is room");
        self.until_blocked();
    }

    /// Turns until the sockets take no more of what is queued.
    pub fn until_blocked(&mut self) {
        let mut before = 0;
        self.looped.settle(&mut self.seen, |_, net| {
            let written = net.stats().bytes_sent;
            written > 0 && written == std::mem::replace(&mut before, written)
        });
        assert!(self.queued() > 0, "the sockets hold more than is queued");
    }

    pub fn queued(&self) -> u64 {
        self.looped.net.queued_bytes(self.id)
    }

    /// The end: it comes once, nothing comes after it, and nothing is left.
    pub fn end(self) -> DisconnectReason {
        the_end(self.looped, self.seen, self.id)
    }
}

/// The end of a connection, in a loop that has no other.
pub fn the_end(mut looped: Loop, mut seen: Recorder, id: ConnectionId) -> DisconnectReason {
    looped.settle(&mut seen, |seen, _| !seen.ends().is_empty());
    for _ in 0..5 {
        looped.pass(Duration::from_secs(3600), &mut seen);
    }
    assert_eq!(seen.ends().len(), 1, "it comes once");
    assert!(!looped.net.is_connected(id));
    assert_eq!(looped.net.memory_in_use(), 0);
    match seen.events.pop() {
        Some(Event::Disconnect(ended, reason)) if ended == id => reason,
        other => panic!("the end comes last, and not {other:?}"),
    }
}
