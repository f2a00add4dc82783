//! Writing queues, and updating the selector's interest.

use log::trace;

use super::Net;
use crate::connection::{Failure, Flush, Written};
use crate::connection_id::{ConnectionId, Source};
use crate::reason::DisconnectCause;
use crate::socket::Readiness;

/// A connection for which this much is queued when its socket is full is heavy: to write it takes as long as to read from
/// a heavy connection.
const HEAVY_QUEUE: u64 = 32 * 1024;

impl Net {
    /// Writes the queue of a connection, as far as its socket and budget allow, and advances a closing connection.
    pub(crate) fn flush(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.dirty = false;
        if connection.may_have_output() {
            let token = Source::Connection(id).token();
            let budget = self.config.write_budget.min(self.schedule.most_written);
            let before = self.common.written.bytes;
            let pressure = connection.pressure();
            let outcome = connection.flush(budget, token, &mut self.common);
            trace!("{id} wrote {} bytes", self.common.written.bytes - before);
            let is_settled =
                matches!(outcome, Flush::Done) && connection.when_written() == Written::Stays;
            if connection.pressure().has_eased(pressure) {
                self.relieved(id);
            } else if is_settled {
                // The usual case: nothing follows.
                return;
            }
            return self.follow_up(id, outcome);
        }
        self.continue_ending(id);
    }

    /// Handles the outcome of a flush.
    pub(super) fn follow_up(&mut self, id: ConnectionId, outcome: Flush) {
        match outcome {
            Flush::Done => self.continue_ending(id),
            Flush::Blocked => {
                self.watch_blocked(id);
                self.note_backlog(id);
                self.continue_closing(id);
                // It may be congested now, and then no read will return an error that was reported before.
                self.list_if_runnable(id);
            }
            // The missing part cannot come any more.
            Flush::Waiting if self.is_left_open(id) => self.continue_ending(id),
            Flush::Waiting => self.continue_closing(id),
            Flush::Budget => {
                self.continue_closing(id);
                if !mutated!("used-up budget not listed") {
                    self.list(id);
                }
            }
            Flush::Failed(failure) => self.fail(id, failure),
        }
    }

    /// Makes a connection heavy if much is queued for it, so that the event that reports room does not write it before
    /// light connections are served.
    fn note_backlog(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.is_heavy |= connection.queued_bytes() >= HEAVY_QUEUE;
        }
    }

    /// Ends or half-closes a connection that is to do so when its queue is empty, as it is now.
    fn continue_ending(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        match connection.when_written() {
            Written::Stays => {}
            Written::HalfCloses => {
                if let Err(error) = connection.send_fin() {
                    self.fail_write(id, error);
                }
            }
            Written::Drains => match connection.send_fin() {
                Ok(()) => {
                    connection.note_draining();
                    self.continue_closing(id);
                }
                Err(error) => self.end(id, Some(DisconnectCause::of_socket(error))),
            },
            Written::Ends => self.end(id, None),
        }
    }

    /// Writes the queue of a connection even if no event has reported that the socket has room: Linux does so only when
    /// a third of the send buffer is free.
    #[cold]
    #[inline(never)]
    pub(super) fn write_now(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.readiness |= Readiness::WRITABLE;
            self.flush(id);
        }
    }

    #[cold]
    #[inline(never)]
    #[expect(
        clippy::boxed_local,
        reason = "a large value would take its place on the stack of every flush"
    )]
    fn fail(&mut self, id: ConnectionId, failure: Box<Failure>) {
        match *failure {
            Failure::Write(error) => self.fail_write(id, error),
            Failure::Connection(cause) => self.end(id, Some(cause)),
        }
    }

    fn is_left_open(&self, id: ConnectionId) -> bool {
        let connection = self.connections.get(id);
        connection.is_some_and(|connection| connection.is_left_open())
    }

    /// Updates the selector's interest in a connection, if it has changed.
    pub(super) fn update_interest(&mut self, id: ConnectionId) {
        let token = Source::Connection(id).token();
        if let Some(connection) = self.connections.get_mut(id)
            && let Err(error) = connection.update_interest(token, &self.common)
        {
            self.end(id, Some(DisconnectCause::Network(error)));
        }
    }

    /// Lists a connection to be flushed in this turn.
    pub(super) fn mark_dirty(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.dirty
        {
            connection.dirty = true;
            self.work.add_dirty(id);
        }
    }

    /// Flushes the connections that were sent to outside of their own event.
    pub(crate) fn flush_dirty(&mut self) {
        let mut place = 0;
        while let Some(id) = self.work.dirty_at(place) {
            place += 1;
            self.flush(id);
        }
        self.work.clear_dirty();
        self.common.fanout.clear();
    }
}
