//! A handler that accepts chunks, and checks all callbacks.

use throng::{
    Chunk, ConnectionId, DisconnectReason, EventLoop, Frame, Handler, ListenOptions, Net,
};

use super::{Event, Observer, Peer, Recorder, join, listening};

/// A frame as it arrived: whole or in chunks.
#[derive(Debug, PartialEq)]
pub enum Arrived {
    Whole(Vec<u8>),
    Streamed(Vec<u8>),
}

/// Records all callbacks, assembles chunks, and checks their offsets and lengths. Its settings control what it does.
#[derive(Default)]
pub struct Notes {
    /// Sends each frame back.
    pub echo: bool,
    /// Pauses the connection after this number of frames.
    pub pause_after: Option<usize>,
    /// Called after each chunk.
    pub after_chunk: Option<fn(&mut Net, ConnectionId)>,
    pub seen: Recorder,
    pub arrived: Vec<Arrived>,
    /// The chunks received so far of a frame.
    pub coming: Vec<u8>,
    pub chunks: usize,
    /// The highest memory use after a chunk.
    pub most_held: u64,
    /// The highest number of bytes queued after an echo.
    pub most_queued: u64,
    /// Each `on_drain`, with the bytes queued at that time.
    pub drains: Vec<(ConnectionId, u64)>,
}

impl Observer for Notes {
    fn recorder(&self) -> &Recorder {
        &self.seen
    }

    fn recorder_mut(&mut self) -> &mut Recorder {
        &mut self.seen
    }
}

impl Handler for Notes {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        self.seen.on_connect(net, id);
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        assert!(
            !net.connection(id).is_some_and(|it| it.is_paused()),
            "a frame of a paused connection"
        );
        assert!(self.coming.is_empty(), "a frame in the middle of another");
        self.seen.events.push(Event::Data(id, frame.to_vec()));
        self.arrived.push(Arrived::Whole(frame.to_vec()));
        if self.pause_after == Some(self.arrived.len()) {
            assert!(net.pause(id));
        }
        if self.echo {
            net.send_frame(id, frame).expect("there is room");
            self.most_queued = self.most_queued.max(super::bytes_queued(net, id));
        }
    }

    fn on_chunk(&mut self, net: &mut Net, id: ConnectionId, chunk: Chunk<'_>) {
        assert!(
            !net.connection(id).is_some_and(|it| it.is_paused()),
            "a chunk of a paused connection"
        );
        assert!(net.is_connected(id), "a chunk of a closing connection");
        assert_eq!(chunk.offset(), self.coming.len() as u64, "a gap");
        assert_eq!(chunk.is_first(), self.coming.is_empty());
        self.chunks += 1;
        self.coming.extend_from_slice(&chunk);
        if let Some(total) = chunk.total() {
            assert_eq!(chunk.is_last(), total == self.coming.len() as u64);
        }
        if chunk.is_last() {
            assert!(chunk.total().is_some(), "the last chunk has the length");
            let frame = std::mem::take(&mut self.coming);
            self.arrived.push(Arrived::Streamed(frame));
        }
        self.most_held = self.most_held.max(net.stats().memory_bytes);
        if let Some(act) = self.after_chunk {
            act(net, id);
        }
    }

    fn on_drain(&mut self, net: &mut Net, id: ConnectionId) {
        self.drains.push((id, super::bytes_queued(net, id)));
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        self.seen.on_disconnect(net, id, reason);
    }
}

/// Returns a loop with one connection and the real clock, its handler, its peer and its id.
pub fn joined(options: ListenOptions) -> (EventLoop, Notes, Peer, ConnectionId) {
    let (mut event_loop, addr) = listening(options);
    let mut notes = Notes::default();
    let (peer, id) = join(&mut event_loop, addr, &mut notes);
    (event_loop, notes, peer, id)
}
