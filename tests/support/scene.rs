//! A loop with one connection, both ends of it, and a record of the callbacks.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use throng::{Config, ConnectionId, DisconnectCause, DisconnectReason, ListenOptions, Net};

use super::by_hand::Loop;
use super::notes::Notes;
use super::{Event, Observer, Peer, Recorder};

/// More bytes than two sockets buffer, one of which has a small buffer.
const LARGE: usize = 12 << 20;

/// A loop with one connection. `P` is `()` if the test owns the peer, to pass it to a thread or to close it.
pub struct Scene<H = Recorder, P = Peer> {
    pub looped: Loop,
    /// The address of the listener that accepted the connection.
    pub addr: SocketAddr,
    pub seen: H,
    pub peer: P,
    pub id: ConnectionId,
}

impl Scene {
    pub fn with(config: Config) -> Self {
        Self::new(config, ListenOptions::default())
    }

    pub fn listening(options: ListenOptions) -> Self {
        Self::new(Config::default(), options)
    }
}

impl Scene<Notes, ()> {
    /// Returns a scene whose handler accepts chunks, and its peer.
    pub fn joined(options: ListenOptions) -> (Self, Peer, ConnectionId) {
        let (scene, peer) = Scene::new(Config::default(), options).apart();
        let id = scene.id;
        (scene, peer, id)
    }
}

impl<H: Observer + Default> Scene<H> {
    pub fn new(config: Config, options: ListenOptions) -> Self {
        let mut looped = Loop::new(config);
        let mut seen = H::default();
        let addr = looped.listen_with(options);
        let (peer, id) = looped.join_at(addr, &mut seen);
        Self {
            looped,
            addr,
            seen,
            peer,
            id,
        }
    }
}

impl<H: Observer> Scene<H> {
    /// Returns the scene and its peer separately.
    pub fn apart(self) -> (Scene<H, ()>, Peer) {
        let scene = Scene {
            looped: self.looped,
            addr: self.addr,
            seen: self.seen,
            peer: (),
            id: self.id,
        };
        (scene, self.peer)
    }

    /// Sends bytes from the peer, and makes turns until the loop has read all of them.
    pub fn arrive(&mut self, bytes: &[u8]) {
        let all = self.looped.net().stats().bytes_received + bytes.len() as u64;
        self.peer.write(bytes);
        self.until(|_, net| net.stats().bytes_received == all);
    }

    /// Sets the size of the peer's receive buffer.
    pub fn narrow(&self, bytes: usize) {
        socket2::SockRef::from(&self.peer.0)
            .set_recv_buffer_size(bytes)
            .expect("a live socket");
    }

    /// Queues one frame that is longer than what the sockets buffer, and makes turns until they take no more.
    pub fn block(&mut self) {
        self.narrow(16 * 1024);
        let large = Bytes::from(vec![7; LARGE]);
        let sent = self.looped.net().send_bytes(self.id, large);
        sent.expect("there is room");
        self.until_blocked();
    }
}

impl<H: Observer, P> Scene<H, P> {
    pub fn net(&mut self) -> &mut Net {
        self.looped.net()
    }

    /// Connects another peer through the same listener.
    pub fn join(&mut self) -> (Peer, ConnectionId) {
        self.looped.join_at(self.addr, &mut self.seen)
    }

    pub fn pass(&mut self, time: Duration) {
        self.looped.pass(time, &mut self.seen);
    }

    /// Makes a few turns, without waiting.
    pub fn turns(&mut self) {
        for _ in 0..5 {
            self.pass(Duration::ZERO);
        }
    }

    #[track_caller]
    pub fn until(&mut self, done: impl FnMut(&mut H, &mut Net) -> bool) {
        self.looped.settle(&mut self.seen, done);
    }

    /// Makes turns until the sockets take no more of the queue.
    #[track_caller]
    pub fn until_blocked(&mut self) {
        let (mut before, mut unchanged) = (0, 0);
        self.until(|_, net| {
            let written = net.stats().bytes_sent;
            let is_same = written > 0 && written == std::mem::replace(&mut before, written);
            unchanged = if is_same { unchanged + 1 } else { 0 };
            unchanged > 2
        });
        assert!(self.queued() > 0, "the sockets hold all that was queued");
    }

    pub fn queued(&mut self) -> u64 {
        super::bytes_queued(self.looped.net(), self.id)
    }

    /// [`await_end`](Self::await_end) for a scene that is not needed afterwards.
    #[track_caller]
    pub fn end(mut self) -> DisconnectReason {
        self.await_end()
    }

    /// Makes turns until the connection has ended. Fails unless the end is reported exactly once and last, and no
    /// memory is in use then.
    #[track_caller]
    pub fn await_end(&mut self) -> DisconnectReason {
        self.until(|seen, _| !seen.recorder().ends().is_empty());
        for _ in 0..5 {
            self.pass(Duration::from_secs(3600));
        }
        assert_eq!(self.seen.recorder().ends().len(), 1, "reported once");
        assert!(!self.looped.net().is_connected(self.id));
        self.expect_nothing_held();
        match self.seen.recorder_mut().events.pop() {
            Some(Event::Disconnect(ended, reason)) if ended == self.id => {
                self.expect_counted(&reason);
                reason
            }
            other => panic!("the end is reported last, and not {other:?}"),
        }
    }

    /// Fails unless the end was counted under the name of its cause, or of its error if it could not be decoded.
    #[track_caller]
    fn expect_counted(&mut self, reason: &DisconnectReason) {
        let counts = self.looped.net().stats().disconnects;
        let cause = match &reason.cause {
            DisconnectCause::Decode(error) => format!("{error:?}"),
            cause => format!("{cause:?}"),
        };
        let cause = cause.to_lowercase();
        let name = cause.split(|c: char| !c.is_alphanumeric()).next();
        let count = counts
            .iter()
            .find(|(field, _)| Some(&*field.replace('_', "")) == name);
        assert!(count.is_some_and(|(_, count)| count > 0), "{counts:?}");
    }

    #[track_caller]
    pub fn expect_nothing_held(&mut self) {
        assert_eq!(
            self.looped.net().stats().memory_bytes,
            0,
            "memory is in use"
        );
    }
}
