//! Deadlines that have come. Each tries the operation first and then judges by its progress.
//!
//! What events have reported is not all there is: a batch of events may have been full, a signal may have ended the wait, the
//! process may have been suspended; and Linux reports room in a send buffer only when a third of it is free. A connection
//! that has passed a deadline is therefore served once as if an event had reported everything, before it is ended. One of
//! which more waits than that reads or shows is no silent one: its silence is judged later.

use std::time::{Duration, Instant};

use crate::connection::{Clock, Phase};
use crate::connection_id::{ConnectionId, Source};
use crate::handler::Handler;
use crate::net::{Deadline, Net};
use crate::reason::DisconnectCause;

/// How many deadlines are looked at in one turn. The others are due in the next one, at once.
const DEADLINES_PER_TURN: usize = 1024;

impl Net {
    pub(super) fn expire_deadlines<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        for _ in 0..DEADLINES_PER_TURN {
            let Some(deadline) = self.next_expired() else {
                return;
            };
            match deadline {
                Deadline::Connect(id, after) => self.judge_attempt(handler, id, after),
                Deadline::Check(id) => self.judge_open(handler, id),
                Deadline::Drain(id, until) => self.judge_closing(handler, id, until),
                Deadline::Shutdown(after) => self.cut_short(after),
                Deadline::AcceptRetry => self.resume_accepting(),
                Deadline::Report(warning) => self.report_warnings(warning),
                Deadline::Trim => self.trim(),
            }
        }
    }

    /// An attempt to connect has had its time.
    fn judge_attempt<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnectionId,
        after: Duration,
    ) {
        self.serve_now(handler, id);
        if self.phase(id) == Some(Phase::Connecting) {
            self.end(id, Some(DisconnectCause::ConnectTimedOut { after }));
        }
    }

    /// An open connection may have been idle, or without progress, for too long.
    fn judge_open<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ConnectionId) {
        if let Clock::Over(_) = self.look_at_clock(id) {
            // Should a callback panic, it is judged again.
            self.watch(id, Some(Duration::from_secs(1)));
            self.serve_now(handler, id);
        }
        if self.phase(id) != Some(Phase::Open) {
            return;
        }
        match self.look_at_clock(id) {
            Clock::Over(cause) => self.end(id, Some(cause)),
            Clock::Ahead(left) => self.watch_anew(id, Some(left)),
            Clock::Nothing => self.watch_anew(id, None),
        }
    }

    /// A closing connection has had its time since its peer last took a byte, or all the time there is, `until` which it
    /// may go on.
    fn judge_closing<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnectionId,
        until: Instant,
    ) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let after = connection.options().disconnect_timeout;
        self.set_deadline(id, after, Deadline::Drain(id, until));
        self.serve_now(handler, id);
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        if connection.phase == Phase::Closed {
            return;
        }
        let left = after.saturating_sub(connection.inactive_for(self.common.now));
        match left.min(until.saturating_duration_since(self.now)) {
            Duration::ZERO => self.end(id, Some(DisconnectCause::DrainTimedOut { after })),
            left => self.set_deadline(id, left, Deadline::Drain(id, until)),
        }
    }

    fn phase(&self, id: ConnectionId) -> Option<Phase> {
        Some(self.connections.get(id)?.phase)
    }

    /// Serves a connection as if an event had reported all there can be.
    #[cold]
    #[inline(never)]
    fn serve_now<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ConnectionId) {
        let source = Source::Connection(id);
        // It stays in the list if a callback panics.
        self.list(id);
        self.pretend_ready(id);
        let again = self.dispatch_connection(handler, id);
        if !again && self.left_over.last() == Some(&source) {
            self.left_over.pop();
        } else if let Some(connection) = self.connections.get_mut(id) {
            connection.listed = true;
        }
    }
}
