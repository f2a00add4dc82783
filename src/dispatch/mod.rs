//! From readiness to the handler: the one place where `Net` and `Handler` meet.
//!
//! A source counts as served when that is done, and a connection keeps its readiness until a read refutes it. So nothing
//! is lost when a handler panics: the next turn goes on where this one broke off.

mod deadlines;
mod delivery;

use log::{error, info, trace};

use crate::connection::{Fill, Origin, Phase};
use crate::connection_id::{ConnectionId, ListenerId, Source};
use crate::handler::{Admission, Handler};
use crate::mailbox::InLoop;
use crate::net::{Accepted, Net, Refusal, Warning};
use crate::reason::DisconnectCause;
use crate::socket::{Readiness, Shown};
use delivery::Delivery;

impl Net {
    /// Ends a turn: serves what is ready, expires timers, announces disconnects, flushes, frees slots. All callbacks are
    /// made here, and all work is bounded: what goes beyond a budget is left for the next turn, and
    /// [`next_timeout`](Self::next_timeout) says so.
    ///
    /// Callbacks do not nest: in a callback, a closure that a [`Handle`](crate::Handle) has posted included, it does nothing
    /// but log an error.
    pub fn finish_turn<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        let Some(turn) = Turn::begin(self) else {
            return error!("finish_turn was called in a callback");
        };
        let net = &mut *turn.net;
        net.stats.turns += 1;
        net.dispatch_foreign(handler);
        net.dispatch_ready(handler);
        net.expire_deadlines(handler);
        net.fire_timers(handler);
        net.announce_drained(handler);
        net.announce_ended(handler);
        net.flush_dirty();
        net.enforce_budget();
        net.free_slots();
    }

    /// Tells of the events of the user's own sources.
    fn dispatch_foreign<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        while let Some((token, readiness)) = self.foreign.pop_front() {
            self.call("on_event", format_args!("token {}", token.0), |net| {
                handler.on_event(net, token, readiness);
            });
        }
    }

    /// Lets the user's timers fire, as many as may. One that is set meanwhile, for now, has to wait.
    fn fire_timers<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        if !self.begin_round() {
            return;
        }
        for _ in 0..self.config.timers_per_turn {
            let Some(expired) = self.expire_timer() else {
                return;
            };
            self.call("on_timer", format_args!("timer {}", expired.key), |net| {
                handler.on_timer(net, expired);
            });
        }
    }

    fn dispatch_ready<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        if self.serving.is_empty() {
            std::mem::swap(&mut self.ready, &mut self.serving);
            self.serving.append(&mut self.left_over);
        }
        while let Some(&source) = self.serving.get(self.served) {
            let again = match source {
                Source::Connection(id) => self.dispatch_connection(handler, id),
                Source::Listener(id) => self.dispatch_listener(handler, id),
            };
            self.enforce_budget();
            self.served += 1;
            if again {
                self.left_over.push(source);
            }
        }
        self.serving.clear();
        self.served = 0;
    }

    /// Accepts, within the budget. Returns whether there is more to do.
    fn dispatch_listener<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        listener: ListenerId,
    ) -> bool {
        self.accept_peers(handler, listener);
        self.listeners.get_mut(listener).is_some_and(|listener| {
            listener.listed = listener.is_runnable();
            listener.listed
        })
    }

    fn accept_peers<H: Handler + ?Sized>(&mut self, handler: &mut H, listener: ListenerId) {
        for _ in 0..self.config.accepts_per_turn {
            let (stream, peer) = match self.accept(listener) {
                Accepted::Peer(stream, peer) => (stream, peer),
                Accepted::Nobody => continue,
                Accepted::Blocked => return,
            };
            let admission = self.call("on_accept", Shown(peer), |net| {
                handler.on_accept(net, listener, peer)
            });
            if admission == Admission::Refuse {
                self.refuse(peer, &Refusal::NotAdmitted);
                continue;
            }
            if let Some(id) = self.admit(listener, stream, peer) {
                self.call("on_connect", id, |net| handler.on_connect(net, id));
            }
        }
    }

    /// Does what the phase of a connection asks for. Returns whether there is more to do. It is in each of its callers, so
    /// that the one on the path of every event costs no call.
    #[inline(always)]
    fn dispatch_connection<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnectionId,
    ) -> bool {
        let Some(connection) = self.connections.get(id) else {
            return false;
        };
        let mut is_heavy = connection.is_heavy;
        match connection.phase {
            Phase::Open => is_heavy = self.serve(handler, id, is_heavy),
            Phase::Closing | Phase::Draining => self.drain(id),
            Phase::Releasing => {
                if connection.has_unread_error() {
                    self.look_at_error(id);
                }
                self.flush(id);
            }
            Phase::Connecting => self.finish_connect(handler, id),
            Phase::Closed => {}
        }
        self.connections.get_mut(id).is_some_and(|connection| {
            connection.is_heavy = is_heavy;
            connection.listed = connection.is_runnable();
            connection.listed
        })
    }

    fn finish_connect<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.readiness = Readiness::default();
        match connection.is_connected() {
            Ok(false) => {}
            Ok(true) => {
                self.establish(id);
                if self.is_connected(id) {
                    self.call("on_connect", id, |net| handler.on_connect(net, id));
                }
            }
            Err(error) if connection.origin() == Origin::Adopted => {
                self.end(id, Some(DisconnectCause::of_socket(error)));
            }
            Err(error) => self.end(id, Some(DisconnectCause::ConnectFailed(error))),
        }
    }

    /// Reads, decodes and delivers, and writes the replies while the connection is in the cache. Returns whether the
    /// connection is heavy.
    ///
    /// One that was light may come before others in this turn and has come after them in the last. So that it takes no more
    /// than its budget between two services of another, it has half of it each time.
    #[inline(always)]
    fn serve<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnectionId,
        is_heavy: bool,
    ) -> bool {
        let whole = Budget {
            bytes: self.config.read_budget,
            frames: self.config.frames_per_turn,
        };
        let half = whole.half();
        let all = if is_heavy { whole } else { half };
        let mut left = all;
        loop {
            let read = self.receive(handler, id, &mut left);
            self.flush(id);
            if read == 0 || left.is_spent() || self.is_drained(id) {
                return all.bytes - left.bytes >= half.bytes
                    || all.frames - left.frames >= half.frames;
            }
        }
    }

    /// Whether nothing is left to be delivered, as far as is known.
    #[inline]
    fn is_drained(&self, id: ConnectionId) -> bool {
        let connection = self.connections.get(id);
        connection.is_none_or(|connection| !connection.is_open() || !connection.wants_delivery())
    }

    /// Fills once and delivers what that brought, as far as the budget allows. Returns how many bytes were read.
    #[inline(always)]
    fn receive<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnectionId,
        budget: &mut Budget,
    ) -> usize {
        let Some(connection) = self.connections.get_mut(id) else {
            return 0;
        };
        // What its own callbacks send is flushed right after, not at the end of the turn.
        connection.dirty = true;
        if !connection.wants_delivery() {
            if connection.has_unread_error() {
                self.look_at_error(id);
            }
            return 0;
        }
        if connection.read_ended() {
            self.look_at_error(id);
            return 0;
        }
        match connection.fill(&mut self.read_buffer, budget.bytes, &mut self.common) {
            Fill::Bytes { len, read } => {
                trace!("{id} read {read} bytes");
                self.stats.reads += u64::from(read > 0);
                self.stats.bytes_received += read as u64;
                budget.bytes = budget.bytes.saturating_sub(read);
                budget.frames -= Delivery::new(self, id, len, read, budget.frames).deliver(handler);
                return read;
            }
            Fill::Blocked => {}
            Fill::Ended => self.end_of_stream(handler, id),
            Fill::Failed(error) => self.end(id, Some(DisconnectCause::of_socket(error))),
            Fill::NoMemory { requested } => {
                self.end(id, Some(DisconnectCause::OutOfMemory { requested }));
            }
        }
        0
    }

    /// An event that no read is going to explain: one after the peer's end of stream, or an error while nothing is read.
    #[cold]
    fn look_at_error(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        // What was looked at is known now. What a write waits for is not among it.
        connection.readiness.remove(Readiness::ERROR);
        if connection.read_ended() {
            connection.readiness.remove(Readiness::READ);
        }
        if let Some(error) = connection.take_error() {
            self.fail_write(id, error);
        }
    }

    fn end_of_stream<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        match connection.end_of_stream() {
            DisconnectCause::PeerClosed
                if connection.options().allow_half_open && !connection.has_failed_write() =>
            {
                self.call("on_half_close", id, |net| handler.on_half_close(net, id));
            }
            cause => self.close(id, cause),
        }
    }

    fn announce_drained<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        for _ in 0..self.drained.len() {
            if let Some(id) = self.drained.pop_front()
                && let Some(connection) = self.connections.get(id)
                && connection.is_open()
                && !connection.has_failed_write()
                // Congested again, it will be drained again.
                && !connection.is_congested()
            {
                self.call("on_drain", id, |net| handler.on_drain(net, id));
            }
        }
    }

    fn announce_ended<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        for _ in 0..self.ended.len() {
            let Some(id) = self.ended.pop_front() else {
                return;
            };
            self.announced.push(id);
            let Some(connection) = self.connections.get_mut(id) else {
                continue;
            };
            if let Some(reason) = connection.take_reason() {
                if let DisconnectCause::ConnectFailed(_) | DisconnectCause::ConnectTimedOut { .. } =
                    reason.cause
                {
                    let peer = Shown(connection.peer);
                    self.warn(
                        Warning::ConnectFailed,
                        format_args!("{id} connecting to {peer} failed: {reason}"),
                    );
                } else {
                    info!("{id} closed: {reason}");
                }
                self.call("on_disconnect", id, |net| {
                    handler.on_disconnect(net, id, reason)
                });
            }
        }
    }
}

/// A turn under way, in which there is no other. It ends also by a panic.
struct Turn<'n> {
    net: &'n mut Net,
    _callbacks: InLoop,
}

impl<'n> Turn<'n> {
    fn begin(net: &'n mut Net) -> Option<Self> {
        if net.in_turn {
            return None;
        }
        net.in_turn = true;
        let _callbacks = InLoop::enter();
        Some(Self { net, _callbacks })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.net.in_turn = false;
    }
}

/// What may be done for a connection in this turn.
#[derive(Clone, Copy)]
struct Budget {
    /// To be read.
    bytes: usize,
    /// To be delivered.
    frames: u64,
}

impl Budget {
    fn half(self) -> Self {
        Self {
            bytes: self.bytes.div_ceil(2),
            frames: self.frames.div_ceil(2),
        }
    }

    fn is_spent(self) -> bool {
        self.bytes == 0 || self.frames == 0
    }
}
