//! The `Handler` trait, which users implement.

use std::net::SocketAddr;

use mio::Token;

use crate::connection_id::{ConnectionId, ListenerId};
use crate::frame::{Chunk, Frame};
use crate::net::{Expired, Net};
use crate::reason::DisconnectReason;
use crate::socket::Readiness;

/// Callbacks for the events of a server or client. Only [`on_data`](Self::on_data) is required.
///
/// The loop makes all calls on its own thread, one at a time, so a handler keeps its state in plain fields, without
/// locks. Each call receives `&mut` [`Net`], which can operate on any connection. No method of `Net` invokes a
/// callback, so callbacks never nest.
///
/// For each id the calls come in this order:
///
/// ```text
/// on_connect  (on_data | on_chunk | on_drain)*  [on_half_close]  on_disconnect          established
///                                                                on_disconnect          outbound, could not be established
/// ```
///
/// A timer that is [bound to a connection](crate::Timer::on) fires at any time before the connection ends; before
/// `on_connect` too, if it was set before.
///
/// After [`Net::disconnect`], [`Net::abort`] or [`Net::release`], the next and last call for that id is
/// `on_disconnect`. It is called exactly once per id, as long as the loop runs. Dropping the loop closes all sockets
/// without calling it.
///
/// The trait is dyn-compatible: `&mut dyn Handler` works.
///
/// A callback should not block, because it delays all connections. If a callback panics, the panic propagates through
/// [`run`](crate::EventLoop::run). The loop can be used again afterwards; the frame or event that was being handled is
/// not delivered again.
pub trait Handler {
    /// Called once for each received frame, in stream order. Empty frames are delivered too.
    ///
    /// The frame borrows from the loop: use [`Frame::into_bytes`] to keep it, or [`Net::send_frame`] to forward it.
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>);

    /// Called for each chunk of a frame that is longer than
    /// [`stream_frames_over`](crate::ListenOptions::stream_frames_over). Chunks come in order, from
    /// [`offset`](Chunk::offset) 0 to the chunk for which [`is_last`](Chunk::is_last) is true, with no other frame of
    /// the connection in between. If the connection ends meanwhile, the frame remains incomplete.
    ///
    /// The default closes the connection with the cause [`ChunkNotHandled`](crate::DisconnectCause::ChunkNotHandled): a
    /// handler that uses `stream_frames_over` has to implement this method.
    fn on_chunk(&mut self, net: &mut Net, id: ConnectionId, chunk: Chunk<'_>) {
        net.refuse_chunk(id, &chunk);
    }

    /// Decides whether to admit an accepted socket. Called once per socket, before it has an id or costs memory, unless
    /// a limit such as [`max_connections`](crate::Config::max_connections) refuses it first. `peer` is `None` for a
    /// Unix domain socket, and for a client whose proxy does not know its address. The default admits all peers.
    ///
    /// The limits are checked again after this call: if it takes the last place itself, with [`Net::connect`] or
    /// [`Net::adopt`], or closes the listener, the peer is refused even if this call admits it.
    fn on_accept(
        &mut self,
        net: &mut Net,
        listener: ListenerId,
        peer: Option<SocketAddr>,
    ) -> Admission {
        let _ = (net, listener, peer);
        Admission::Admit
    }

    /// Called once when a connection is established, inbound or outbound, before any data;
    /// [`origin`](crate::ConnectionRef::origin) returns which. An outbound connection is established as soon as the
    /// peer's operating system has accepted it. If the server then refuses the client, it closes the connection, which
    /// is reported by `on_disconnect`.
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        let _ = (net, id);
    }

    /// Called when the queue of a connection under backpressure has fallen to its
    /// [`low_watermark`](crate::Config::low_watermark), so there is room again. Called once each time that more than
    /// the [`high_watermark`](crate::Config::high_watermark) was queued, or that a frame was refused because the queue
    /// was full, unless the connection ends first.
    fn on_drain(&mut self, net: &mut Net, id: ConnectionId) {
        let _ = (net, id);
    }

    /// Called when the peer has half-closed the connection and everything it sent has been delivered; late replies can
    /// still be sent. Called once, and only if [`allow_half_open`](crate::ListenOptions::allow_half_open) is set. The
    /// handler then has to call [`disconnect`](Net::disconnect) when it has replied.
    fn on_half_close(&mut self, net: &mut Net, id: ConnectionId) {
        let _ = (net, id);
    }

    /// Called when a timer expires that was set with [`Net::set_timer`] or a similar method: once, or once per tick of
    /// an interval. Not called after [`Net::cancel_timer`], nor for a connection that has ended. Never called before
    /// the instant the timer was set for; [`Net::set_timer`] counts from the start of the turn in which it is called.
    fn on_timer(&mut self, net: &mut Net, expired: Expired) {
        let _ = (net, expired);
    }

    /// Called for each event of a source that was [registered](Net::register) under `token`. Not called after
    /// [`Net::deregister`].
    fn on_event(&mut self, net: &mut Net, token: Token, readiness: Readiness) {
        let _ = (net, token, readiness);
    }

    /// Called when a connection has ended or could not be established: exactly once per id, as the last call.
    ///
    /// During this call [`peer_addr`](crate::ConnectionRef::peer_addr) and [`origin`](crate::ConnectionRef::origin) are
    /// still available; sends fail. Afterwards the index of the id may be reused by another connection, with a
    /// different generation.
    ///
    /// If the peer has closed its side while frames are queued, the connection is no longer
    /// [connected](crate::Net::is_connected), but this call comes only when they are written, or after up to 12 times
    /// [`disconnect_timeout`](crate::Config::disconnect_timeout) if the peer reads slowly. With
    /// [`allow_half_open`](crate::ListenOptions::allow_half_open), [`on_half_close`](Self::on_half_close) reports it earlier.
    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        let _ = (net, id, reason);
    }
}

/// Whether to admit a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Admission {
    /// The socket becomes a connection.
    Admit,
    /// The socket is closed, which is logged and counted as [`refused`](crate::Stats::refused).
    Refuse,
}
