//! A loop with a listener and peers, and a handler that looks closely at what it is shown.

use std::net::SocketAddr;
use std::time::Duration;

use throng::{
    Chunk, Config, ConnectionId, DisconnectReason, EventLoop, Frame, Handler, ListenOptions, Net,
};

use super::{Peer, listen, turn_until};

/// A frame as it arrived: whole or in chunks.
#[derive(Debug, PartialEq)]
pub enum Arrived {
    Whole(Vec<u8>),
    Streamed(Vec<u8>),
}

/// Puts chunks together again, and looks at what they say of themselves; does something after each if told so.
#[derive(Default)]
pub struct Notes {
    pub echo: bool,
    pub after_chunk: Option<fn(&mut Net, ConnectionId)>,
    pub connected: Vec<ConnectionId>,
    pub arrived: Vec<Arrived>,
    /// What has come of a frame that comes in chunks.
    pub coming: Vec<u8>,
    pub chunks: usize,
    pub most_held: u64,
    pub drains: usize,
    pub ends: Vec<DisconnectReason>,
}

impl Handler for Notes {
    fn on_connect(&mut self, _: &mut Net, id: ConnectionId) {
        self.connected.push(id);
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        assert!(self.coming.is_empty(), "a frame in the middle of another");
        if self.echo {
            net.send(id, &frame).expect("there is room");
        }
        self.arrived.push(Arrived::Whole(frame.to_vec()));
    }

    fn on_chunk(&mut self, net: &mut Net, id: ConnectionId, chunk: Chunk<'_>) {
        assert!(
            !net.connection(id).is_some_and(|it| it.is_paused()),
            "a paused connection is shown a chunk"
        );
        assert!(net.is_connected(id), "one that ends is shown a chunk");
        assert_eq!(chunk.offset(), self.coming.len() as u64, "a gap");
        assert_eq!(chunk.is_first(), self.coming.is_empty());
        self.chunks += 1;
        self.coming.extend_from_slice(&chunk);
        if let Some(total) = chunk.total() {
            assert_eq!(chunk.is_last(), total == self.coming.len() as u64);
        }
        if chunk.is_last() {
            assert!(chunk.total().is_some(), "the end tells the length");
            let frame = std::mem::take(&mut self.coming);
            self.arrived.push(Arrived::Streamed(frame));
        }
        self.most_held = self.most_held.max(net.memory_in_use());
        if let Some(act) = self.after_chunk {
            act(net, id);
        }
    }

    fn on_drain(&mut self, _: &mut Net, _: ConnectionId) {
        self.drains += 1;
    }

    fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, reason: DisconnectReason) {
        self.ends.push(reason);
    }
}

/// A loop with a listener, and what its handler has seen.
pub struct Scene {
    pub event_loop: EventLoop,
    pub addr: SocketAddr,
    pub notes: Notes,
}

impl Scene {
    pub fn new(options: ListenOptions) -> Self {
        Self::with(Config::default(), options)
    }

    pub fn with(config: Config, options: ListenOptions) -> Self {
        let mut event_loop = EventLoop::new(config).expect("a loop");
        let addr = listen(&mut event_loop, options);
        let notes = Notes::default();
        Self {
            event_loop,
            addr,
            notes,
        }
    }

    /// A loop with one peer.
    pub fn joined(options: ListenOptions) -> (Self, Peer, ConnectionId) {
        let mut scene = Self::new(options);
        let (peer, id) = scene.join();
        (scene, peer, id)
    }

    pub fn join(&mut self) -> (Peer, ConnectionId) {
        let before = self.notes.connected.len();
        let peer = Peer::connect(self.addr);
        self.until(|notes, _| notes.connected.len() > before);
        (peer, self.notes.connected[before])
    }

    pub fn net(&mut self) -> &mut Net {
        self.event_loop.net()
    }

    #[track_caller]
    pub fn until(&mut self, done: impl FnMut(&mut Notes, &mut Net) -> bool) {
        turn_until(&mut self.event_loop, &mut self.notes, done);
    }

    /// A few turns that do not wait.
    pub fn turns(&mut self) {
        for _ in 0..5 {
            let turn = self.event_loop.turn(&mut self.notes, Some(Duration::ZERO));
            turn.expect("a turn does not fail");
        }
    }

    /// Turns until the one connection has ended, and says why.
    #[track_caller]
    pub fn end(mut self) -> DisconnectReason {
        self.until(|notes, _| !notes.ends.is_empty());
        self.turns();
        assert_eq!(self.notes.ends.len(), 1);
        self.expect_nothing_held();
        self.notes.ends.remove(0)
    }

    #[track_caller]
    pub fn expect_nothing_held(&mut self) {
        assert_eq!(self.net().memory_in_use(), 0, "something is still held");
    }
}

/// Letters, so that no delimiter is among them.
pub fn letters(len: usize) -> Vec<u8> {
    (0..len).map(|i| b'a' + (i % 23) as u8).collect()
}
