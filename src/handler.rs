//! The `Handler` trait: what the user writes.

use std::net::SocketAddr;

use mio::Token;

use crate::connection_id::{ConnectionId, ListenerId};
use crate::frame::{Chunk, Frame};
use crate::net::{Expired, Net};
use crate::reason::DisconnectReason;
use crate::socket::Readiness;

/// What a server or client does when something happens. Only [`on_data`](Self::on_data) is required.
///
/// The loop calls it on its own thread, one call at a time: a handler has its state in plain fields, without locks. Each
/// call gets the [`Net`], and may do anything to any connection with it; no call of `Net` makes a callback, so callbacks
/// never nest.
///
/// For every id the calls come in this order:
///
/// ```text
/// on_connect  (on_data | on_chunk | on_drain)*  [on_half_close]  on_disconnect          established
///                                                                on_disconnect          outbound, could not be established
/// ```
///
/// Timers that were [set for a connection](crate::Timer::on) fire at any time before its end, also before
/// `on_connect` if they were set before.
///
/// After [`Net::disconnect`], [`Net::abort`] or [`Net::release`] the next and last call for that id is `on_disconnect`. It
/// comes exactly
/// once for each id, as long as the loop runs; dropping the loop closes all sockets without a call.
///
/// The trait has no type parameters: `&mut dyn Handler` works.
///
/// A call should not block, since all connections wait for it. If one panics the panic passes through
/// [`run`](crate::EventLoop::run); the loop can be used again afterwards, and the frame or event that was being handled
/// counts as handled.
pub trait Handler {
    /// A frame arrived. Called once for each frame, in the order of the stream; an empty frame is a frame.
    ///
    /// The frame borrows from the loop: [`Frame::into_bytes`] keeps it, [`Net::send_frame`] passes it on.
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>);

    /// A piece of a frame arrived that is longer than
    /// [`stream_frames_over`](crate::ListenOptions::stream_frames_over). Called for each piece in order, from
    /// [`offset`](Chunk::offset) 0 to the one that [`is_last`](Chunk::is_last); nothing else of the connection comes
    /// between. A connection that ends meanwhile leaves the frame unfinished.
    ///
    /// The default ends the connection, as [`ChunkNotHandled`](crate::DisconnectCause::ChunkNotHandled): whoever sets
    /// `stream_frames_over` has to say what becomes of the pieces.
    fn on_chunk(&mut self, net: &mut Net, id: ConnectionId, chunk: Chunk<'_>) {
        net.refuse_chunk(id, &chunk);
    }

    /// A peer wants in. Called once for each accepted socket, before it has an id or costs memory, unless a limit such as
    /// [`max_connections`](crate::Config::max_connections) refuses it first. The peer of a Unix domain socket has no
    /// address. The default admits everyone.
    ///
    /// The limits hold for what this call does, too: if it takes the last place itself, with [`Net::connect`] or
    /// [`Net::adopt`], or closes the listener, the peer is refused even if it is admitted here.
    fn on_accept(
        &mut self,
        net: &mut Net,
        listener: ListenerId,
        peer: Option<SocketAddr>,
    ) -> Admission {
        let _ = (net, listener, peer);
        Admission::Admit
    }

    /// A connection is established, inbound or outbound: [`origin`](crate::ConnectionRef::origin) returns which. Called
    /// once, before any data. An outbound connection is established as soon as the peer's operating system has accepted
    /// it: a server that then refuses the client closes it, which is reported by `on_disconnect`.
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        let _ = (net, id);
    }

    /// The queue of a connection that was under backpressure has fallen to its
    /// [`low_watermark`](crate::Config::low_watermark): there is room again. Called once for each time that more than the
    /// [`high_watermark`](crate::Config::high_watermark) was queued or a frame was refused for want of room, unless the
    /// connection ends first.
    fn on_drain(&mut self, net: &mut Net, id: ConnectionId) {
        let _ = (net, id);
    }

    /// The peer has closed its sending side and all it sent has been delivered; late replies can still be sent. Called
    /// once, and only where [`allow_half_open`](crate::ListenOptions::allow_half_open) is set. It is then up to the
    /// handler to [`disconnect`](Net::disconnect) when it has replied.
    fn on_half_close(&mut self, net: &mut Net, id: ConnectionId) {
        let _ = (net, id);
    }

    /// A timer fired that was set with [`Net::set_timer`] or one of its kin. Called once, or for each time of an interval;
    /// not after [`Net::cancel_timer`], nor for a connection that is ended. Never before the instant it was set for, which
    /// [`Net::set_timer`] counts from the start of the turn in which it was called.
    fn on_timer(&mut self, net: &mut Net, expired: Expired) {
        let _ = (net, expired);
    }

    /// Something happened at a source of your own that was [registered](Net::register) under `token`. Called once for
    /// each event, not after [`Net::deregister`].
    fn on_event(&mut self, net: &mut Net, token: Token, readiness: Readiness) {
        let _ = (net, token, readiness);
    }

    /// The connection is gone, or could not be established. Called exactly once, and last.
    ///
    /// During this call [`peer_addr`](crate::ConnectionRef::peer_addr) and [`origin`](crate::ConnectionRef::origin) still answer; sends fail. Afterwards the index of the id
    /// may be given to another connection, with another generation.
    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        let _ = (net, id, reason);
    }
}

/// Whether a peer may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Admission {
    /// It becomes a connection.
    Admit,
    /// Its socket is closed, logged and counted as [`refused`](crate::Stats::refused).
    Refuse,
}
