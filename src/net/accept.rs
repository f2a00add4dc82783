//! Accepting, and pausing if the system has no file descriptors left.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use log::info;

use super::listen::{Listener, Peer};
use super::{Deadline, Net, Refusal, Warning};
use crate::connection::Phase;
use crate::connection_id::{ConnectionId, ListenerId, Source};
use crate::socket::{Shown, Stream};
use crate::timers::later;

/// The outcome of one accept.
#[derive(Debug)]
pub(crate) enum Accepted {
    Peer(Stream, Option<SocketAddr>),
    /// No peer, but the next accept may return one.
    Nobody,
    /// No more peers for now.
    Blocked,
}

impl Net {
    /// Accepts one peer. A peer above a limit is refused here.
    pub(crate) fn accept(&mut self, id: ListenerId) -> Accepted {
        let Some(listener) = self.listeners.get_mut(id) else {
            return Accepted::Blocked;
        };
        match listener.next_peer() {
            Ok(None) => Accepted::Nobody,
            Ok(Some((stream, peer))) => {
                if self.has_room_for(peer) && self.comes_in_time(peer) {
                    Accepted::Peer(stream, peer)
                } else {
                    Accepted::Nobody
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                listener.readable = false;
                listener.pause_reported = false;
                Accepted::Blocked
            }
            Err(error) if concerns_one_peer(&error) => {
                self.stats.accept_failures += 1;
                self.warn(
                    Warning::AcceptFailed,
                    format_args!("accepting a peer failed: {error}"),
                );
                Accepted::Nobody
            }
            Err(error) => {
                self.pause_accepting(id, &error);
                Accepted::Blocked
            }
        }
    }

    /// Returns whether the limits allow one more connection. If not, the peer is refused.
    fn has_room_for(&mut self, peer: Option<SocketAddr>) -> bool {
        let connections = self.occupied();
        let checked = self.admissions.check(&self.config, connections, peer);
        checked.map_err(|why| self.refuse(peer, &why)).is_ok()
    }

    /// Returns whether a peer does not come too soon after others of its address. If it does, it is refused.
    fn comes_in_time(&mut self, peer: Option<SocketAddr>) -> bool {
        let arrived = self.admissions.arrived(&self.config, peer, self.common.now);
        arrived.map_err(|why| self.refuse(peer, &why)).is_ok()
    }

    /// Counts and logs a refused peer.
    pub(crate) fn refuse(&mut self, peer: Option<SocketAddr>, why: &Refusal) {
        self.stats.refused += 1;
        *why.counter(&mut self.stats.refusals) += 1;
        let peer = Shown(peer);
        self.warn(why.warning(), format_args!("refused {peer}: {why}"));
    }

    /// Gives an accepted peer a slot. Checks the limits again: the callback that admitted it may have closed its
    /// listener or opened connections.
    pub(crate) fn admit(
        &mut self,
        listener_id: ListenerId,
        stream: Stream,
        peer: Option<SocketAddr>,
    ) -> Option<ConnectionId> {
        if !self.has_room_for(peer) {
            return None;
        }
        let Some(listener) = self.listeners.get_mut(listener_id) else {
            self.refuse(peer, &Refusal::ListenerClosed);
            return None;
        };
        let terms = Arc::clone(&listener.terms);
        let result = listener
            .set_up(&stream)
            .and_then(|()| Ok(self.add(stream, peer, Phase::Open, terms)?));
        match result {
            Ok(id) => {
                self.stats.accepted += 1;
                self.admissions.joined(&self.config, peer);
                self.watch_new(id);
                info!("{id} connected from {}", Shown(peer));
                Some(id)
            }
            Err(error) => {
                self.stats.accept_failures += 1;
                let peer = Shown(peer);
                self.warn(
                    Warning::AcceptFailed,
                    format_args!("accepting {peer} failed: {error}"),
                );
                None
            }
        }
    }

    /// Pauses a listener, because the system has no file descriptor or memory for another connection. Waiting peers
    /// cause no further event, so the listener retries when a connection closes, and after `accept_retry`.
    fn pause_accepting(&mut self, id: ListenerId, error: &io::Error) {
        self.stats.accept_failures += 1;
        let retry = self.config.accept_retry;
        if let Some(listener) = self.listeners.get_mut(id) {
            listener.paused = true;
            self.stats.accept_pauses += 1;
            if !listener.pause_reported {
                listener.pause_reported = true;
                let addr = listener.local.clone();
                self.warn(
                    Warning::AcceptPaused,
                    format_args!("accepting on {addr} paused until a connection closes, or for {retry:?}: {error}"),
                );
            }
        }
        if self.accept_retry.is_none() {
            let timer = self
                .timers
                .insert(later(self.now, retry), Deadline::AcceptRetry);
            self.accept_retry = Some(timer);
        }
    }

    /// Lets paused listeners try again.
    pub(crate) fn resume_accepting(&mut self) {
        let Some(timer) = self.accept_retry.take() else {
            return;
        };
        self.timers.cancel(timer);
        for (id, listener) in self.listeners.iter_mut() {
            listener.paused = false;
            if listener.readable && !listener.listed {
                listener.listed = true;
                self.work.add_to_next_turn(Source::Listener(id));
            }
        }
    }
}

impl Listener {
    /// Returns the next peer, from the socket or handed in. `None`: it was handed over to another loop.
    fn next_peer(&mut self) -> io::Result<Option<Peer>> {
        if let Some(peer) = self.handed.pop_front() {
            return Ok(Some(peer));
        }
        let Some(socket) = &self.socket else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let peer = socket.accept()?;
        if self.peers_linger {
            let _ = peer.0.do_not_linger();
        }
        Ok(match &mut self.hand_over {
            Some(hand_over) => hand_over(peer),
            None => Some(peer),
        })
    }

    /// Returns whether another accept may return a peer.
    pub(crate) fn is_runnable(&self) -> bool {
        self.readable && !self.paused
    }

    /// Sets the options of an accepted socket. Most systems let it inherit `TCP_NODELAY`; the first accepted socket
    /// shows whether.
    fn set_up(&mut self, stream: &Stream) -> io::Result<()> {
        let inherits = *self
            .inherits_nodelay
            .get_or_insert_with(|| stream.has_nodelay());
        stream.set_up(&self.terms.options, inherits)
    }
}

/// Returns whether an error concerns only one peer: it gave up while it waited, or a firewall rejected it. Every other
/// error counts as a lack of resources, so that an unknown error cannot make the loop spin.
fn concerns_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::TimedOut
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
    )
}
