//! Accepting, and pausing if the system has no file descriptors left.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use log::info;

use super::listen::{Listener, Peer};
use super::{Deadline, Net, Refusal, Warning};
use crate::connection::Terms;
use crate::connection_id::{ConnectionId, ListenerId, Source};
use crate::socket::{Selector, Shown, Stream};
use crate::timers::later;

/// The outcome of one accept.
#[derive(Debug)]
pub(crate) enum Accepted {
    Peer(Newcomer),
    /// No peer, but the next accept may return one.
    NoPeer,
    /// No more peers for now.
    Blocked,
}

/// A peer that asks for admission.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) listener: ListenerId,
    pub(crate) stream: Stream,
    pub(crate) peer: Option<SocketAddr>,
    terms: Arc<Terms>,
    has_nodelay: bool,
    /// It has waited for its PROXY header. Its listener may have been released meanwhile.
    pub(super) is_proxied: bool,
}

impl Net {
    /// Accepts one peer. A peer above a limit is refused here.
    pub(crate) fn accept(&mut self, id: ListenerId) -> Accepted {
        let listener = self.listeners.get_mut(id);
        let Some(listener) = listener.filter(|listener| !listener.held) else {
            return Accepted::Blocked;
        };
        let registered = listener.register(&self.common.registry, id);
        match registered.and_then(|()| listener.next_peer()) {
            Ok(None) => Accepted::NoPeer,
            Ok(Some(peer)) => {
                let newcomer = listener.newcomer(id, peer);
                self.screen(newcomer)
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
                Accepted::NoPeer
            }
            Err(error) => {
                self.pause_accepting(id, &error);
                Accepted::Blocked
            }
        }
    }

    /// Checks the limits for a new peer. From a proxy, a header is awaited first.
    fn screen(&mut self, newcomer: Newcomer) -> Accepted {
        let peer = newcomer.peer;
        #[cfg(feature = "proxy")]
        if let Some(protocol) = newcomer.terms.proxying.expected_from(peer) {
            let timeout = protocol.timeout();
            // The limit per address is meant for its clients.
            if self.has_room_for(&newcomer, None) {
                self.await_header(newcomer, timeout);
            }
            return Accepted::NoPeer;
        }
        match self.has_room_for(&newcomer, peer) && self.comes_in_time(peer) {
            true => Accepted::Peer(newcomer),
            false => Accepted::NoPeer,
        }
    }

    /// Returns whether the limits allow one more connection, from this address if there is one. If not, the peer is
    /// refused. A peer that has waited for its header had a place: it is not refused because others were meanwhile.
    pub(super) fn has_room_for(&mut self, newcomer: &Newcomer, addr: Option<SocketAddr>) -> bool {
        let occupied = self.occupied();
        let total = match newcomer.is_proxied {
            true => self.admissions.check_max(&self.config, occupied),
            false => self.admissions.check_total(&self.config, occupied),
        };
        let checked = total.and_then(|()| self.admissions.check_address(&self.config, addr));
        checked
            .map_err(|why| self.refuse(newcomer.peer, &why))
            .is_ok()
    }

    /// Returns whether a peer does not come too soon after others of its address. If it does, it is refused.
    pub(super) fn comes_in_time(&mut self, peer: Option<SocketAddr>) -> bool {
        let checked = self
            .admissions
            .check_rate(&self.config, peer, self.common.now);
        checked.map_err(|why| self.refuse(peer, &why)).is_ok()
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
    pub(crate) fn admit(&mut self, newcomer: Newcomer) -> Option<ConnectionId> {
        let peer = newcomer.peer;
        if !self.has_room_for(&newcomer, peer) {
            return None;
        }
        if !newcomer.is_proxied && self.listeners.get(newcomer.listener).is_none() {
            self.refuse(peer, &Refusal::ListenerClosed);
            return None;
        }
        let (stream, terms) = (newcomer.stream, newcomer.terms);
        let result = stream
            .set_up(&terms.options, newcomer.has_nodelay)
            .and_then(|()| Ok(self.add(stream, peer, terms.first_phase(), terms)?));
        match result {
            Ok(id) => {
                self.stats.accepted += 1;
                self.admissions.joined(&self.config, peer);
                self.watch_new(id);
                info!("{id} connected from {}", Shown(peer));
                Some(id)
            }
            Err(error) => {
                self.fail_to_accept(peer, &error);
                None
            }
        }
    }

    /// Counts and logs a peer whose socket cannot be used.
    pub(super) fn fail_to_accept(&mut self, peer: Option<SocketAddr>, error: &io::Error) {
        self.stats.accept_failures += 1;
        let peer = Shown(peer);
        self.warn(
            Warning::AcceptFailed,
            format_args!("accepting {peer} failed: {error}"),
        );
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
        if self.admissions.retry.is_none() && !mutated!("accept not retried") {
            let timer = self
                .timers
                .insert(later(self.now, retry), Deadline::AcceptRetry);
            self.admissions.retry = Some(timer);
        }
    }

    /// Lets paused listeners try again.
    pub(crate) fn resume_accepting(&mut self) {
        let Some(timer) = self.admissions.retry.take() else {
            return;
        };
        self.timers.cancel(timer);
        for (id, listener) in self.listeners.iter_mut() {
            listener.paused = false;
            if listener.is_runnable() && !listener.listed {
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
        self.readable && !self.paused && !self.held
    }

    /// Registers the socket with the selector, unless it is.
    fn register(&mut self, registry: &Selector, id: ListenerId) -> io::Result<()> {
        if !self.registered
            && let Some(socket) = &mut self.socket
        {
            socket.register(registry, Source::Listener(id).token())?;
        }
        self.registered = true;
        Ok(())
    }

    /// Most systems let an accepted socket inherit `TCP_NODELAY`; the first shows whether.
    fn newcomer(&mut self, id: ListenerId, (stream, peer): Peer) -> Newcomer {
        let has_nodelay = *self
            .inherits_nodelay
            .get_or_insert_with(|| stream.has_nodelay());
        Newcomer {
            listener: id,
            stream,
            peer,
            terms: Arc::clone(&self.terms),
            has_nodelay,
            is_proxied: false,
        }
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
