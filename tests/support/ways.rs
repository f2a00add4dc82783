//! The ways to send a frame, and what tests of them share.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use throng::{
    ConnectionId, EventLoop, FrameEncoder, Framing, Handler, ListenOptions, Net, SendError,
};

use super::scene::Scene;
use super::{Peer, Recorder, turn_until};

/// The ways to send a frame to one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Copied,
    Encoded,
    Shared,
    Lent,
    Owned,
    Many,
    Broadcast,
}

impl Way {
    pub const ALL: [Self; 7] = [
        Self::Copied,
        Self::Encoded,
        Self::Shared,
        Self::Lent,
        Self::Owned,
        Self::Many,
        Self::Broadcast,
    ];

    pub fn send(self, net: &mut Net, id: ConnectionId, payload: &[u8]) -> Result<(), SendError> {
        let report = match self {
            Self::Copied => return net.send(id, payload),
            Self::Encoded => return net.send_with(id, |out| out.write_all(payload)),
            Self::Shared => return Ok(net.send_bytes(id, Bytes::copy_from_slice(payload))?),
            Self::Lent => return Ok(net.send_frame(id, payload.into())?),
            Self::Owned => return Ok(net.send_frame(id, payload.to_vec().into())?),
            Self::Many => net.send_many([id], payload),
            Self::Broadcast => net.broadcast(|other| other == id, payload),
        };
        match report.error {
            Some(error) => Err(error.into()),
            None if report.queued == 1 => Ok(()),
            None => Err(SendError::Disconnected),
        }
    }
}

impl Scene {
    pub fn with_framing(framing: impl Into<Framing>) -> Self {
        Self::listening(ListenOptions::default().framing(framing))
    }

    /// Closes the connection. Returns all bytes that were ever sent, which must be few: the peer reads none before.
    pub fn into_wire(mut self) -> Vec<u8> {
        self.close();
        let mut wire = Vec::new();
        self.peer.0.read_to_end(&mut wire).expect("a clean end");
        wire
    }
}

impl<P> Scene<Recorder, P> {
    pub fn send(&mut self, way: Way, payload: &[u8]) -> Result<(), SendError> {
        way.send(&mut self.looped.net, self.id, payload)
    }

    /// Turns until the queue is empty.
    pub fn flush(&mut self) {
        let id = self.id;
        self.until(|_, net| net.queued_bytes(id) == 0);
    }

    /// Disconnects, and turns until the queue and the FIN are written.
    pub fn close(&mut self) {
        assert!(self.looped.net.disconnect(self.id), "it was open");
        // With an empty queue there is still the FIN to send.
        self.pass(Duration::ZERO);
        self.flush();
    }
}

/// Connects a peer and turns until the loop has it.
pub fn join(
    event_loop: &mut EventLoop,
    handler: &mut (impl Handler + 'static),
    addr: SocketAddr,
) -> Peer {
    let before = event_loop.net().stats().accepted;
    let peer = Peer::connect(addr);
    turn_until(event_loop, handler, |_, net| {
        net.stats().accepted == before + 1
    });
    peer
}

/// A framing of each kind.
pub fn framings() -> Vec<Framing> {
    let prefix = Framing::length_prefix();
    vec![
        prefix.u8().into(),
        prefix.u16().big_endian().into(),
        prefix.into(),
        prefix.u64().into(),
        Framing::varint(),
        Framing::delimiter(b'\n'),
        Framing::raw(),
    ]
}

/// Frames in a framing, as on the wire.
pub fn encoded<'a>(framing: &Framing, payloads: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let encoder = FrameEncoder::new(framing.clone());
    let mut wire = Vec::new();
    for payload in payloads {
        encoder.encode(payload, &mut wire).expect("it can be sent");
    }
    wire
}

pub fn read(peer: &mut Peer, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    peer.0.read_exact(&mut bytes).expect("it comes");
    bytes
}
