//! `Peer`: a scripted peer, controlled by a test.

mod listener;
mod state;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use mio::Token;

use super::World;
use crate::frame::{FrameDecoder, FrameEncoder, Framing};
use crate::socket::sim::{Party, Stream};
use state::Close;

pub use listener::Listener;
pub(super) use state::State;

/// How long [`Peer::expect`] and similar methods wait, in simulated time.
const PATIENCE: Duration = Duration::from_secs(600);

/// How a connection has ended, as seen by a [`Peer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// EOF, between two frames.
    Closed,
    /// EOF, inside a frame.
    ClosedInsideFrame,
    /// A reset.
    Reset,
    /// The connection was not established.
    Refused,
    /// The peer itself has closed the connection.
    Left,
}

/// A scripted peer of a [`World`]: one TCP connection to a loop, without a loop of its own.
///
/// It sends on request, and reads everything that arrives unless it is [stalled](Self::stall). Its frames have the
/// default framing unless [`framing`](Self::framing) sets another. When it reads EOF, it closes its side as well, as
/// most programs do.
///
/// A `Peer` is a reference: clones are the same peer. Dropping it does not close the connection.
#[derive(Clone)]
pub struct Peer {
    world: World,
    number: usize,
}

impl Peer {
    pub(super) fn new(world: World, number: usize) -> Self {
        Self { world, number }
    }

    fn with<R>(&self, closure: impl FnOnce(&mut State) -> R) -> R {
        let mut peers = self.world.peers();
        let state = &mut peers[self.number];
        let result = closure(state);
        state.advance();
        result
    }

    /// Returns the number of the peer, counted from 0 in the order in which they were created.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Returns the address from which it has connected, which is what [`peer_addr`](crate::ConnectionRef::peer_addr)
    /// returns in the loop.
    pub fn addr(&self) -> SocketAddr {
        self.with(|state| state.addr)
    }

    /// Returns whether the network has reset the connection, as opposed to the loop or the peer.
    pub fn was_disturbed(&self) -> bool {
        let id = self.with(|state| state.id);
        self.world.was_disturbed(id)
    }

    pub(super) fn party(&self) -> Party {
        Party::Peer(self.number)
    }

    /// Sets the framing of both directions, before anything is sent or received.
    pub fn framing(&self, framing: impl Into<Framing>) -> &Self {
        let framing = framing.into();
        self.with(|state| {
            state.encoder = FrameEncoder::new(framing.clone());
            state.decoder = FrameDecoder::new(framing);
        });
        self
    }

    /// Sends a frame. Bytes that the connection does not take at once are sent later.
    ///
    /// # Panics
    /// If the framing cannot encode it.
    pub fn send(&self, payload: impl AsRef<[u8]>) -> &Self {
        self.with(|state| {
            let mut frame = Vec::new();
            let encoded = state.encoder.encode(payload.as_ref(), &mut frame);
            encoded.expect("a payload for this framing");
            state.outbox.extend(frame);
        });
        self
    }

    /// Sends bytes without framing, such as a part of a frame.
    pub fn send_raw(&self, bytes: impl AsRef<[u8]>) -> &Self {
        self.with(|state| state.outbox.extend(bytes.as_ref()));
        self
    }

    /// Lets time pass until a frame arrives that was not taken yet, and returns it.
    ///
    /// # Panics
    /// If the connection ends first, or no frame arrives within ten minutes of simulated time.
    #[track_caller]
    pub fn receive(&self) -> Vec<u8> {
        self.world.run_until(PATIENCE, || self.is_settled());
        match (self.take(), self.end()) {
            (Some(frame), _) => frame,
            (None, Some(end)) => {
                panic!("expected a frame, but the connection has ended: {end:?}")
            }
            (None, None) => panic!("expected a frame, but none has arrived within {PATIENCE:?}"),
        }
    }

    /// Lets time pass until the next frame arrives, which has to equal `payload`.
    ///
    /// # Panics
    /// As [`receive`](Self::receive), and if it is another frame.
    #[track_caller]
    pub fn expect(&self, payload: impl AsRef<[u8]>) -> &Self {
        let (received, expected) = (self.receive(), payload.as_ref());
        assert!(
            received == expected,
            "expected the frame {:?}, but received {:?}",
            String::from_utf8_lossy(expected),
            String::from_utf8_lossy(&received)
        );
        self
    }

    /// Lets time pass until the connection ends, without a further frame. Returns how it has ended.
    ///
    /// # Panics
    /// If a frame arrives, or if the connection does not end within ten minutes of simulated time.
    #[track_caller]
    pub fn expect_end(&self) -> End {
        self.world.run_until(PATIENCE, || self.is_settled());
        if let Some(frame) = self.take() {
            let frame = String::from_utf8_lossy(&frame).into_owned();
            panic!("expected the end of the connection, but received {frame:?}");
        }
        match self.end() {
            Some(end) => end,
            None => panic!("expected the end of the connection, but it is open after {PATIENCE:?}"),
        }
    }

    fn is_settled(&self) -> bool {
        let peers = self.world.peers();
        let state = &peers[self.number];
        state.has_ended() || state.received.len() > state.taken
    }

    /// Returns the next frame that has arrived and was not taken yet.
    pub fn take(&self) -> Option<Vec<u8>> {
        self.with(|state| {
            let frame = state.received.get(state.taken).cloned()?;
            state.taken += 1;
            Some(frame)
        })
    }

    /// Returns all frames that have arrived, whether taken or not.
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.with(|state| state.received.clone())
    }

    /// Returns the number of bytes that have arrived.
    pub fn bytes_received(&self) -> u64 {
        self.with(|state| state.bytes_received)
    }

    /// Returns how the connection has ended, if it has.
    pub fn end(&self) -> Option<End> {
        self.with(|state| state.end)
    }

    /// Returns whether everything was sent, or can no longer be sent.
    pub fn has_sent(&self) -> bool {
        self.with(|state| state.outbox.is_empty() || state.stream.is_none())
    }

    /// Stops reading, so that the buffers between the two sides fill.
    pub fn stall(&self) -> &Self {
        self.with(|state| state.allowance = Some(0));
        self
    }

    /// Reads at most this many further bytes; see [`stall`](Self::stall).
    pub fn read_only(&self, bytes: usize) -> &Self {
        self.with(|state| state.allowance = Some(state.allowance.unwrap_or(0) + bytes));
        self
    }

    /// Reads everything again.
    pub fn unstall(&self) -> &Self {
        self.with(|state| state.allowance = None);
        self
    }

    /// Keeps its own side open when it reads EOF.
    pub fn keep_open(&self) -> &Self {
        self.with(|state| state.keeps_open = true);
        self
    }

    /// Half-closes the connection when everything is sent: the loop reads EOF.
    pub fn half_close(&self) -> &Self {
        self.with(|state| state.close = Close::Half);
        self
    }

    /// Closes the connection when everything is sent. If bytes are unread then, this is a reset.
    pub fn close(&self) -> &Self {
        self.with(|state| state.close = Close::Whole);
        self
    }

    /// Resets the connection now. What was not sent is lost.
    pub fn reset(&self) -> &Self {
        self.with(|state| {
            if let Some(stream) = &state.stream {
                stream.reset_on_close();
            }
            state.end(End::Left);
        });
        self
    }

    /// Interrupts the link in both directions for this time.
    pub fn interrupt(&self, time: Duration) -> &Self {
        let id = self.with(|state| state.stream.as_ref().map(Stream::id));
        if let Some(id) = id {
            self.world.interrupt(id, time);
        }
        self
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Peer").field(&self.number).finish()
    }
}

pub(super) fn token(number: usize) -> Token {
    Token(number)
}

pub(super) fn number(token: Token) -> usize {
    token.0
}
