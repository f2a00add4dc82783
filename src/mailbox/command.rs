//! The commands of a handle.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use log::debug;

use crate::config::ConnectOptions;
use crate::connection::Backlog;
use crate::connection_id::{ConnectionId, ListenerId};
use crate::error::OpenError;
use crate::net::{Encoded, Net, Peer, SendReport};

type Closure<H> = Box<dyn FnOnce(&mut H, &mut Net) + Send>;

/// A closure that did not fit into a mailbox, as returned by [`Handle::try_post`](crate::Handle::try_post).
pub struct Post<H: ?Sized> {
    closure: Closure<H>,
    /// The number of bytes it counts against the limit.
    pub(super) bytes: u64,
}

impl<H: ?Sized> Post<H> {
    pub(super) fn new(closure: impl FnOnce(&mut H, &mut Net) + Send + 'static) -> Self {
        Self {
            bytes: size_of_val(&closure) as u64,
            closure: Box::new(closure),
        }
    }

    /// Runs the closure now, on this thread.
    pub fn run(self, handler: &mut H, net: &mut Net) {
        (self.closure)(handler, net);
    }
}

impl<H: ?Sized> fmt::Debug for Post<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post").finish_non_exhaustive()
    }
}

/// Selects the connections to send to.
pub(super) type Filter = Box<dyn FnMut(ConnectionId) -> bool + Send>;

/// Called with the result of an attempt to connect.
pub(super) type Connected<H> =
    Box<dyn FnOnce(&mut H, &mut Net, Result<ConnectionId, OpenError>) + Send>;

pub(super) enum Command<H: ?Sized> {
    Send(ConnectionId, Bytes),
    SendMany(Vec<ConnectionId>, Bytes),
    Broadcast(Filter, Bytes),
    BroadcastEncoded(Arc<Encoded>),
    HandIn(ListenerId, Peer),
    Disconnect(ConnectionId),
    DisconnectWith(ConnectionId, Bytes, Backlog),
    Abort(ConnectionId),
    Connect(Box<(SocketAddr, ConnectOptions)>, Connected<H>),
    Post(Post<H>),
    Stop,
    Shutdown(Duration),
}

impl<H: ?Sized> Command<H> {
    /// Returns the number of bytes that the command counts against the limit.
    pub(super) fn bytes(&self) -> u64 {
        let (ids, payload) = match self {
            Self::Send(_, payload)
            | Self::Broadcast(_, payload)
            | Self::DisconnectWith(_, payload, _) => (0, payload.len()),
            Self::SendMany(ids, payload) => (size_of_val(&ids[..]), payload.len()),
            Self::BroadcastEncoded(frame) => (0, frame.payload().len()),
            Self::Post(post) => return post.bytes,
            _ => (0, 0),
        };
        (ids + payload) as u64
    }

    /// Returns the payload of a command that has one.
    pub(super) fn into_payload(self) -> Bytes {
        match self {
            Self::Send(_, payload)
            | Self::SendMany(_, payload)
            | Self::Broadcast(_, payload)
            | Self::DisconnectWith(_, payload, _) => payload,
            _ => Bytes::new(),
        }
    }

    /// Runs the command. Ids of closed connections are ignored.
    pub(super) fn run(self, handler: &mut H, net: &mut Net) {
        match self {
            Self::Send(id, payload) => {
                let result = net.send_bytes(id, payload);
                net.count_failed_command(result.is_err());
            }
            Self::SendMany(ids, payload) => {
                let report = net.send_many(ids, payload);
                note(net, &report);
            }
            Self::Broadcast(filter, payload) => {
                let report = net.broadcast(filter, payload);
                note(net, &report);
            }
            Self::BroadcastEncoded(frame) => {
                let report = net.broadcast_encoded(&frame);
                note(net, &report);
            }
            Self::HandIn(listener, peer) => net.hand_in(listener, peer),
            Self::Disconnect(id) => {
                let was_there = net.disconnect(id);
                net.count_failed_command(!was_there);
            }
            Self::DisconnectWith(id, payload, backlog) => {
                let result = net.disconnect_with(id, &payload, backlog);
                net.count_failed_command(result.is_err());
            }
            Self::Abort(id) => {
                let was_there = net.abort(id);
                net.count_failed_command(!was_there);
            }
            Self::Connect(asked, then) => {
                let (addr, options) = *asked;
                let result = net.connect_with(addr, options);
                net.count_failed_command(result.is_err());
                net.call("connect", "a handle", |net| then(handler, net, result));
            }
            Self::Post(post) => net.call("post", "a handle", |net| post.run(handler, net)),
            Self::Stop => net.stop(),
            Self::Shutdown(timeout) => net.shutdown(timeout),
        }
    }
}

/// Counts a frame that was not queued for all of its connections.
fn note(net: &mut Net, report: &SendReport) {
    let missed = report.gone + report.refused.len() + report.unfit.len();
    if missed > 0 {
        debug!("a frame sent by a handle was not queued for {missed} connections: {report:?}");
        net.count_failed_command(true);
    }
}
